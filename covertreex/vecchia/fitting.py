"""Climbing to a maximum of a likelihood whose neighbours follow the kernel."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from covertreex.base.types import FloatArray

T = TypeVar("T")

#: Logarithms of parameters stay within so much of where they began.
REACH = math.log(1e5)

#: Between two searches they move by no more: farther away the neighbours are others, and what L-BFGS extrapolates from
#: a poor start may be a kernel of no reach, which is noise by another name, and a maximum too.
LEASH = 1.0

#: When no logarithm has moved by more between two searches, neighbours are those of the answer.
STILL = 1e-3


@dataclass(frozen=True, eq=False)
class Summit(Generic[T]):
    """Where `climb` came to.

    Attributes
    ----------
    theta : ndarray
    model : T
        What the last search made.
    changed : tuple of int
        Rows with other neighbours than before, at each search.
    converged : bool
        Whether `theta` came to rest, and the neighbours with it.
    evaluations : int
    """

    theta: FloatArray
    model: T
    changed: tuple[int, ...]
    converged: bool
    evaluations: int


def climb(
    start: FloatArray,
    ends: tuple[FloatArray, FloatArray],
    search: Callable[[FloatArray], tuple[T, int]],
    value: Callable[[FloatArray, T], tuple[float, FloatArray]],
    searches: int,
) -> Summit[T]:
    """L-BFGS on logarithms of parameters, between searches.

    Parameters
    ----------
    start : ndarray
        Logarithms to begin with.
    ends : tuple of ndarray
        The smallest and the largest that may be.
    search : callable
        A model with neighbours found at these logarithms, and how many rows have others than before.
    value : callable
        What is to become large, under these logarithms and the neighbours of such a model, and its gradient.
    searches : int
        At most.

    Returns
    -------
    Summit
    """
    from scipy.optimize import minimize

    theta, converged, count = start, False, 0
    low, high = np.maximum(start - REACH, ends[0]), np.minimum(start + REACH, ends[1])
    changed: list[int] = []

    def falling(theta: FloatArray, model: T) -> tuple[float, FloatArray]:
        nonlocal count
        count += 1
        height, slopes = value(theta, model)
        return -height, -slopes

    for i in range(searches):
        model, others = search(theta)
        changed.append(others)
        if converged:  # at the estimates; and these are the neighbours that go with them
            break
        bounds = list(zip(np.maximum(theta - LEASH, low), np.minimum(theta + LEASH, high), strict=True))
        found = minimize(
            falling, theta, args=(model,), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": min(4 * 2**i, 100), "ftol": 1e-11, "gtol": 1e-7},
        )  # fmt: skip
        moved = float(np.max(np.abs(found.x - theta)))
        converged = moved < STILL or (others == 0 and moved < LEASH and bool(found.success))
        theta = found.x
    return Summit(theta, model, tuple(changed), converged, count)
