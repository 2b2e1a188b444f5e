# Screens stand above this module (covertreex.search.screens), and are any here.
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIVOTS: int

def narrow_only(yes: bool) -> None: ...
def packed(values: NDArray[np.float64]) -> NDArray[np.float64]: ...

class Pivots:
    def __init__(
        self,
        screen: Any,
        pivots: NDArray[np.int64],
        known: NDArray[np.float32],
        lower: NDArray[np.float64],
    ) -> None: ...
    def extend(self, w: NDArray[np.float32], left: NDArray[np.float64], begin: int, end: int) -> None: ...
