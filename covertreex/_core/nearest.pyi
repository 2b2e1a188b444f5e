import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Screener

ROWS_OF_A_BLOCK: int
FARTHEST: float

def narrow_only(yes: bool) -> None: ...
def centred(coords: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float32]: ...

class Blocks:
    def __init__(self, coords: NDArray[np.float32], rows: NDArray[np.int64], rank: NDArray[np.int64]) -> None: ...
    def __len__(self) -> int: ...

class Finder:
    def __init__(self, blocks: Blocks, most: int) -> None: ...
    def search_rings(
        self,
        screener: Screener,
        first: int,
        queries: NDArray[np.float32],
        limits: NDArray[np.int64],
        unit: int,
        growth: float,
        least: float,
        patience: int,
        rings: int,
        thresholds: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> tuple[list[float], list[int], NDArray[np.int32]]: ...
    def search_rings_alone(
        self,
        screener: Screener,
        first: int,
        queries: NDArray[np.float32],
        limits: NDArray[np.int64],
        unit: int,
        growth: float,
        least: int,
        patience: int,
        thresholds: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None: ...
    def log_rings_alone(
        self,
        screener: Screener,
        first: int,
        queries: NDArray[np.float32],
        limits: NDArray[np.int64],
        unit: int,
        growth: float,
        patience: int,
        members: NDArray[np.int64],
    ) -> list[tuple[list[int], list[int], NDArray[np.int64], float]]: ...
