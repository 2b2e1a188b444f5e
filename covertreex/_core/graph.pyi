import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Screener

class Graph:
    def __init__(self, n: int, k: int) -> None: ...
    def take(
        self,
        rows: NDArray[np.int64],
        row_of: NDArray[np.int64],
        indices: NDArray[np.int64],
        distances: NDArray[np.float64],
    ) -> None: ...
    def count(self, begin: int, end: int) -> None: ...
    def make_room(self) -> None: ...
    def link(self, begin: int, end: int) -> None: ...

class Explorer:
    def __init__(self, graph: Graph, screener: Screener, together: int, neighbors: bool = False) -> None: ...
    def trial(
        self,
        first: int,
        last: int,
        seen: NDArray[np.int32],
        members: NDArray[np.int64],
        neighbors: NDArray[np.int64],
        leasts: NDArray[np.float32],
        missed: NDArray[np.int64],
        looked: NDArray[np.int64],
    ) -> int: ...
    def look(
        self,
        first: int,
        last: int,
        seen: NDArray[np.int32],
        least: float,
        start: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None: ...
    def look_alone(
        self,
        first: int,
        last: int,
        seen: NDArray[np.int32],
        least: float,
        start: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None: ...

def merge(
    indices: NDArray[np.int64],
    distances: NDArray[np.float64],
    more_indices: NDArray[np.int64],
    more_distances: NDArray[np.float64],
    tied: NDArray[np.uint8],
) -> None: ...
