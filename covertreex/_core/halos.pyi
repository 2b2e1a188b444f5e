# Halos stand above this module (covertreex.search.halos), and are any here.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Screener

def angles(rho: NDArray[np.float64], slack_rel: float, slack_abs: float) -> NDArray[np.float64]: ...
def surround(
    screener: Screener,
    first: int,
    size: int,
    start: NDArray[np.float64],
    n: int,
    slack_rel: float,
    slack_abs: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.float32]]: ...
def walk(
    screener: Screener,
    halos: Any,
    number: NDArray[np.int64],
    slack_abs: float,
    slack_rel: float,
    first: int,
    stop: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]: ...
