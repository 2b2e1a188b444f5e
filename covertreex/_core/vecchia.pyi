import numpy as np
from numpy.typing import NDArray

from covertreex._core.canonical import CovarianceView

class Sets:
    def __init__(
        self,
        variance: float,
        coords: NDArray[np.float64],
        factors: NDArray[np.float64],
        noise: NDArray[np.float64],
        neighbors: NDArray[np.int64],
        points: NDArray[np.float64],
        point_factors: NDArray[np.float64],
        point_noise: NDArray[np.float64],
    ) -> None: ...

def regress(
    sets: Sets,
    covariance: CovarianceView,
    latent: bool,
    weights: NDArray[np.float64],
    D: NDArray[np.float64],
    jitter: NDArray[np.float64],
    left: NDArray[np.float64],
    cancel: NDArray[np.int32],
) -> int: ...
def leave(sets: Sets, weights: NDArray[np.float64], left: NDArray[np.float64]) -> None: ...
def adjoint(
    sets: Sets,
    covariance: CovarianceView,
    tables: CovarianceView,
    weights: NDArray[np.float64],
    values: NDArray[np.float64],
    by_variance: NDArray[np.float64],
    by_value: NDArray[np.float64],
    by_left: NDArray[np.float64],
    outer: NDArray[np.float64],
    by_noise: NDArray[np.float64],
    slopes: NDArray[np.float64],
    cancel: NDArray[np.int32],
) -> None: ...
def slopes(
    tables: CovarianceView,
    points: NDArray[np.float64],
    others: NDArray[np.float64],
    G: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
def gather(
    start: NDArray[np.int64],
    sets: NDArray[np.int64],
    w: NDArray[np.float64],
    q: NDArray[np.float64],
    P: NDArray[np.float64],
    W: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
def subtract(
    values: NDArray[np.float64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
def unroll(
    order: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float64],
    values: NDArray[np.float64],
    cancel: NDArray[np.int32],
) -> None: ...
