import numpy as np
from numpy.typing import NDArray

from covertreex._core.canonical import CovarianceView

def place(memory: NDArray[np.uint8]) -> int: ...
def cholesky(K: NDArray[np.float64], L: NDArray[np.float64]) -> int: ...
def solve(
    L: NDArray[np.float64],
    inducing: NDArray[np.float64],
    coords: NDArray[np.float64],
    covariance: CovarianceView,
    out: NDArray[np.float64],
    p: NDArray[np.float64],
    known: NDArray[np.float64] | None = None,
) -> None: ...
def squares(rows: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
