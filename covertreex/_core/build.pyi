from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex.data.payload import PayloadStore

class Builder:
    @property
    def root(self) -> int: ...
    def __init__(self, payload: PayloadStore, root: int, root_level: int) -> None: ...
    def resume(
        self,
        rows: NDArray[np.int64],
        parent: NDArray[np.int64],
        level: NDArray[np.int64],
        parent_distance: NDArray[np.float64],
        farthest: NDArray[np.float64],
        above: NDArray[np.int64],
        children: NDArray[np.int64],
    ) -> None: ...
    def result(self) -> dict[str, NDArray[Any]]: ...
    def commit(self, rows: NDArray[np.int64], finders: Sequence[CoverFinder]) -> None: ...

class CoverFinder:
    def __init__(self, builder: Builder, most: int) -> None: ...
    def find(self, rows: NDArray[np.int64]) -> None: ...
