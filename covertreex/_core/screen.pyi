# Screens stand above this module (covertreex.search.screens), and are any here.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex._core.canonical import PayloadView
from covertreex.protocols import QueryBlock, ScanPlan

def narrow_only(yes: bool) -> None: ...
def dots(rows: NDArray[np.floating], queries: NDArray[np.floating]) -> NDArray[np.floating]: ...
def kernel_values(code: int, alpha: float, values: NDArray[np.floating], coarse: bool = False) -> None: ...
def largest_whole() -> int: ...
def dots_of_whole(
    rows: NDArray[np.signedinteger], queries: NDArray[np.signedinteger], largest: int = 0, plain: bool = False
) -> NDArray[np.float32]: ...
def round_to_sixteen(
    factors: NDArray[np.float64], step: float, whole: NDArray[np.int16], steps: NDArray[np.float32]
) -> float: ...

class Lens:
    def __init__(self, screen: Any, external: Any, most: int) -> None: ...

class Screener:
    def __init__(
        self,
        near: Lens,
        broad: Lens,
        sharp: Lens | None,
        queries: QueryBlock,
        view: PayloadView,
        k: int,
        most: int,
        cancel: NDArray[np.int32],
    ) -> None: ...
    def counted(self) -> tuple[int, int]: ...
    def take(self) -> NDArray[np.int64]: ...
    def sweep(
        self,
        plan: ScanPlan,
        before: int,
        start: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
