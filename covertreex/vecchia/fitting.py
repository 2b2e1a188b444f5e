"""Climbing to a maximum of a likelihood whose neighbours follow the kernel."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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

#: Nor is more to be had when steps between two searches raise the log-likelihood by less: a standard error of a
#: parameter is worth a half. Where a few neighbours change, estimates would go to and fro by such steps for ever.
WORTH = 0.02

#: Steps end where the mean log-likelihood of an observation rises by less, or is as flat: a hundred thousandth of a
#: parameter's logarithm.
RISE, FLAT = 1e-10, 1e-6


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
    value: Callable[[T, FloatArray], tuple[float, FloatArray]],
    searches: int,
    observations: int,
) -> Summit[T]:
    """L-BFGS on logarithms of parameters, between searches.

    What it learned of curvature before a search holds behind it: parameters are then turned, so that all directions are
    about equally steep.

    Parameters
    ----------
    start : ndarray
        Logarithms to begin with.
    ends : tuple of ndarray
        The smallest and the largest that may be.
    search : callable
        A model with neighbours found at these logarithms, and how many rows have others than before.
    value : callable
        What is to become large, under the neighbours of such a model and these logarithms, and its gradient: the mean
        log-likelihood of an observation.
    searches : int
        At most.
    observations : int

    Returns
    -------
    Summit
    """
    theta, converged, count = start, False, 0
    low, high = np.maximum(start - REACH, ends[0]), np.minimum(start + REACH, ends[1])
    changed: list[int] = []
    turn = np.eye(len(start))

    for i in range(searches):
        model, others = search(theta)
        changed.append(others)
        if converged:  # at the estimates; and these are the neighbours that go with them
            break
        found = _climb_on(theta, (low, high), turn, partial(value, model), min(4 * 2**i, 100))
        still = float(np.max(np.abs(found.theta - theta))) < STILL
        settled = found.rested and (others == 0 or observations * found.rise < WORTH)
        converged = not found.held and (still or settled)
        theta, turn, count = found.theta, found.turn, count + found.evaluations
    return Summit(theta, model, tuple(changed), converged, count)


@dataclass(frozen=True, eq=False)
class _Climbed:
    """Where steps under the same neighbours led: logarithms, and how much higher; whether no more steps were wanted,
    and whether the leash held some back; and a `turn` for those that follow.
    """

    theta: FloatArray
    rise: float
    rested: bool
    held: bool
    turn: FloatArray
    evaluations: int


def _climb_on(
    theta: FloatArray,
    ends: tuple[FloatArray, FloatArray],
    turn: FloatArray,
    value: Callable[[FloatArray], tuple[float, FloatArray]],
    steps: int,
) -> _Climbed:
    """Take up to so many steps from `theta`, on the leash and between `ends`; in directions that `turn` makes equally
    steep, if these have room there.
    """
    from scipy.optimize import minimize

    heights: list[float] = []
    if np.min(np.minimum(ends[1] - theta, theta - ends[0])) <= LEASH * len(theta):  # an end may be reached
        turn = np.eye(len(theta))
    most = LEASH / np.abs(turn).max(axis=0)  # along each direction alone
    near = np.maximum(-most, ends[0] - theta), np.minimum(most, ends[1] - theta)

    def falling(turned: FloatArray) -> tuple[float, FloatArray]:
        height, slopes = value(theta + turn @ turned)
        heights.append(height)
        return -height, -slopes @ turn

    found = minimize(
        falling, np.zeros(len(theta)), jac=True, method="L-BFGS-B", bounds=list(zip(*near, strict=True)),
        options={"maxiter": steps, "ftol": RISE, "gtol": FLAT},
    )  # fmt: skip
    return _Climbed(
        theta=theta + turn @ found.x,
        rise=-float(found.fun) - heights[0],
        rested=bool(found.success),
        held=bool(np.any(np.abs(found.x) >= most * (1.0 - 1e-9))),
        turn=turn @ np.linalg.cholesky(found.hess_inv.todense()),
        evaluations=len(heights),
    )
