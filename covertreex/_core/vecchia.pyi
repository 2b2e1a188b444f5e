import numpy as np
from numpy.typing import NDArray

from covertreex._core.canonical import CovarianceView

def regress(
    covariance: CovarianceView,
    coords: NDArray[np.float64],
    factors: NDArray[np.float64],
    noise: NDArray[np.float64],
    neighbors: NDArray[np.int64],
    points: NDArray[np.float64],
    point_factors: NDArray[np.float64],
    point_noise: NDArray[np.float64],
    latent: bool,
    weights: NDArray[np.float64],
    D: NDArray[np.float64],
    jitter: NDArray[np.float64],
    cancel: NDArray[np.int32],
) -> int: ...
def subtract(
    values: NDArray[np.float64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float64],
    scale: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
def unroll(
    order: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float64],
    values: NDArray[np.float64],
    cancel: NDArray[np.int32],
) -> None: ...
