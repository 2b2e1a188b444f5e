import numpy as np
from numpy.typing import NDArray

def leaf_starts(n: int) -> NDArray[np.int64]: ...

class BoxTree:
    @property
    def rows(self) -> NDArray[np.int64]: ...
    @property
    def inner(self) -> int: ...
    @property
    def fan(self) -> int: ...
    def __init__(
        self,
        coords: NDArray[np.float64],
        index: NDArray[np.int64],
        rows: NDArray[np.int64],
        slack_rel: float,
        slack_abs: float,
    ) -> None: ...
    def least(self, rank: NDArray[np.int64]) -> NDArray[np.int64]: ...

def nearest(
    boxes: BoxTree,
    coords: NDArray[np.float64],
    limit: NDArray[np.int64],
    exclude: NDArray[np.int64],
    rank: NDArray[np.int64],
    least: NDArray[np.int64],
    k: int,
    cancel: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]: ...
def within(
    boxes: BoxTree,
    coords: NDArray[np.float64],
    limit: NDArray[np.int64],
    rank: NDArray[np.int64],
    least: NDArray[np.int64],
    reach: NDArray[np.float64],
    room: int,
    cancel: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
