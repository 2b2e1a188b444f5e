"""Factors: what a point's correlation with inducing points comes to, and how far it may be off (INVARIANT B1)."""

import contextlib
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from covertreex._core import factors as core
from covertreex._core.canonical import CovarianceView
from covertreex.base import parallel, tuning
from covertreex.base.contract import CALLED
from covertreex.base.progress import Progress
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.base.validation import as_array, as_float64
from covertreex.data.canonical import covariance_matrix, dot16
from covertreex.data.payload import ROUNDOFF, empty_factors
from covertreex.errors import InvalidInputError
from covertreex.kernels import Columns, Kernel

#: Residual variances are raised to at least this share of k(x, x).
P_FLOOR = 1e-9

#: Rows whose residual correlations are checked when the caller supplies factors.
SAMPLE = 512

#: What sampled residual correlations may lack to be positive semi-definite without a closer look.
NEARLY = 1e-10


@dataclass(frozen=True, eq=False)
class Projection:
    """What it takes to compare points that are no rows of the data: how to get their coordinates, factors and p.

    Its kernel is the payload's, of variance 1. There is no noise in what it makes: points from outside are latent
    values.
    """

    kernel: Kernel | None
    inducing: FloatArray | None = None
    cholesky: FloatArray | None = None
    #: Where coordinates come from without a kernel, if they are not the points themselves.
    columns: Columns | None = None

    @property
    def factorized(self) -> tuple[FloatArray, FloatArray]:
        """ndarray, ndarray: `cholesky` and `inducing`, of a projection that has inducing points."""
        assert self.cholesky is not None
        assert self.inducing is not None
        return self.cholesky, self.inducing

    def __call__(self, points: FloatArray, n_threads: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Scaled coordinates (q, d), padded factors (q, m) and residual variances (q,) of `points` (q, d)."""
        if self.kernel is None:
            coords = points if self.columns is None else self.columns(points)
            return coords, np.zeros((len(points), 0)), np.zeros(0)
        coords = self.kernel.scale(points)
        if self.inducing is None:
            return coords, np.zeros((len(points), 0)), np.ones(len(points))
        factors, p = solve(self.kernel, *self.factorized, coords, n_threads)
        return coords, factors, np.maximum(p, P_FLOOR * self.kernel.variance)


def supplied_unit(kernel: Kernel) -> float:
    """The power of four that leaves the kernel's variance from 1 to 4."""
    return 4.0 ** ((math.frexp(kernel.variance)[1] - 1) // 2)


def unitless(kernel: Kernel, unit: float | None = None) -> Kernel:
    """The kernel with its variance divided by `unit`; by default by itself."""
    return kernel.unitless(unit)


def solve(
    kernel: Kernel, L: FloatArray, inducing: FloatArray, coords: FloatArray, n_threads: int
) -> tuple[FloatArray, FloatArray]:
    """Padded factors and residual variances of scaled `coords`, a block of rows per task (A6)."""
    out = empty_factors(len(coords), L.shape[1])
    p = np.empty(len(coords))
    covariance = CovarianceView(None if kernel.code == CALLED else kernel, coords.shape[1])

    def task(start: int, stop: int) -> int:
        out[start:stop] = 0.0
        asked = kernel.of_scaled(coords[start:stop], inducing) if kernel.code == CALLED else None
        core.solve(L, inducing, coords[start:stop], covariance, out[start:stop], p[start:stop], asked)
        return stop - start

    blocks = parallel.spans(len(coords), tuning.FACTOR_BLOCK)
    with Progress("factors", len(coords)) as progress:
        tasks = [partial(task, *block) for block in blocks]
        brief = len(coords) * L.shape[1] ** 2 <= tuning.BRIEF and kernel.code != CALLED
        parallel.run(tasks, n_threads, on_done=progress.advance, brief=brief)
    return out, p


def check_factors(
    kernel: Kernel,
    factors: FloatArray,
    m: int,
    p: ArrayLike | None,
    where: IntArray,
    unit: float,
    names: tuple[str, str] = ("v_matrix", "p_diag"),
) -> tuple[FloatArray, float]:
    """Residual variances to go with factors of the caller's, and how far they fall short of what the kernel leaves.

    Parameters
    ----------
    kernel : Kernel
        The payload's.
    factors : ndarray, shape (n, padded(m)), float64
        In the payload's units.
    m : int
    p : array_like, shape (n,), or None
        In the caller's order and units; computed if None.
    where : ndarray, shape (n,)
        The caller's row of each row of `factors`.
    unit : float
        The caller's units in the payload's.
    names : tuple of str
        What the caller calls both.

    Returns
    -------
    p : ndarray, shape (n,), float64
        In the order and units of `factors`.
    deficit : float
        Relative.

    Raises
    ------
    InvalidInputError
        If they contradict the kernel.
    """
    n, variance, (v_name, p_name) = len(factors), kernel.variance, names
    explained = dot16(factors, factors)
    rounding = (m + 64) * ROUNDOFF * variance
    worst = int(np.argmax(explained))
    if explained[worst] > variance * (1.0 + 1e-6) + rounding:
        raise InvalidInputError(
            f"{v_name} contradicts the kernel: |v|^2 = {unit * explained[worst]:.6g} at row {where[worst]} is more "
            f"than the kernel's variance {unit * variance:.6g}. Give the kernel and variance that made the factors."
        )
    residual = variance - explained
    if p is None:
        return residual, 0.0
    p = _check_p(as_array(p, p_name), n, variance, where, unit, p_name)
    short = (residual - rounding - p) / p
    if short.max() > 1e-6:
        at = np.argmax(short)
        raise InvalidInputError(
            f"{p_name} is below k(x, x) - |v|^2 at row {where[at]}, which is no correlation: got "
            f"{unit * p[at]}, at least {unit * residual[at]:.6g} is needed. Check that {v_name}, {p_name} and "
            "kernel belong together."
        )
    return p, max(0.0, float(short.max()))


def _check_p(p: AnyArray, n: int, variance: float, where: IntArray, unit: float, name: str) -> FloatArray:
    """Residual variances of the caller's in the order of `where`, divided by `unit`."""
    p = as_float64(p, name)
    if p.shape != (n,):
        raise InvalidInputError(f"{name} must have shape ({n},), one entry per point, got {p.shape}.")
    p = p[where]
    if not np.all(np.isfinite(p)) or np.any(p <= 0.0):
        at = np.argmax(~(np.isfinite(p) & (p > 0.0)))
        raise InvalidInputError(f"{name} must be positive and finite, got {p[at]} at row {where[at]}.")
    p = p / unit
    if np.any(p == 0.0):
        at = np.argmax(p == 0.0)
        raise InvalidInputError(
            f"{name} at row {where[at]} is too small beside the kernel's variance {unit * variance:g}."
        )
    return p


def sampled_deficit(
    kernel: Kernel, coords: FloatArray, factors: FloatArray, p: FloatArray, name: str = "v_matrix"
) -> float:
    """Four times how far a sample of residual correlations is from positive semi-definite.

    Raises
    ------
    InvalidInputError
        If that is too far for factors of this kernel.
    """
    rows = np.unique(np.linspace(0, len(coords) - 1, SAMPLE).astype(np.int64))
    R = _residual_correlations(kernel, *((coords[rows], factors[rows], p[rows]),) * 2)
    R[np.diag_indices(len(rows))] = 1.0
    smallest = float(np.linalg.eigvalsh(R)[0])
    if smallest < -1e-3:
        raise InvalidInputError(
            f"{name} contradicts the kernel: the residual correlations of a sample of {len(rows)} rows have the "
            f"eigenvalue {smallest:.3g}, which must not be negative. Give the kernel that made the factors."
        )
    return 4.0 * max(0.0, -smallest)


class FactorSample:
    """Some points with factors, for comparing the factors of others with: one factorization for many comparisons.

    Parameters
    ----------
    kernel : Kernel
    coords, factors, p : ndarray
        Of the sample: scaled coordinates, padded factors and residual variances.
    """

    def __init__(self, kernel: Kernel, coords: FloatArray, factors: FloatArray, p: FloatArray) -> None:
        self.kernel, self.points = kernel, (coords, factors, p)
        R = _residual_correlations(kernel, self.points, self.points)
        R[np.diag_indices(len(R))] = 1.0 + NEARLY
        self.cholesky: AnyArray | None = None
        with contextlib.suppress(np.linalg.LinAlgError):
            self.cholesky = np.linalg.cholesky(R)

    def deficit(self, coords: FloatArray, factors: FloatArray, p: FloatArray, name: str) -> float:
        """As `sampled_deficit`, of the sample and these points together.

        They are positive semi-definite, but for `NEARLY`, if the sample is and its Schur complement; the eigenvalues of
        all are only computed if that does not show.
        """
        from scipy.linalg import solve_triangular

        others = coords, factors, p
        if self.cholesky is not None:
            W = solve_triangular(self.cholesky, _residual_correlations(self.kernel, self.points, others), lower=True)
            S = _residual_correlations(self.kernel, others, others) - W.T @ W
            S[np.diag_indices(len(S))] = 1.0 + NEARLY - np.sum(W * W, axis=0)
            with contextlib.suppress(np.linalg.LinAlgError):
                np.linalg.cholesky(S)
                return 4.0 * NEARLY
        coords, factors, p = (np.concatenate(pair) for pair in zip(self.points, others, strict=True))
        return sampled_deficit(self.kernel, coords, factors, p, name)


def _residual_correlations(
    kernel: Kernel, A: tuple[FloatArray, FloatArray, FloatArray], B: tuple[FloatArray, FloatArray, FloatArray]
) -> FloatArray:
    """Of points A and points B, each given by scaled coordinates, factors and p."""
    K = covariance_matrix(kernel, A[0], B[0])
    scale_a, scale_b = (np.sqrt(np.maximum(p, P_FLOOR * kernel.variance)) for *_, p in (A, B))
    correlations: FloatArray = (K - A[1] @ B[1].T) / (scale_a[:, None] * scale_b[None, :])
    return correlations


def _kernel_error(kernel: Kernel) -> float:
    return float(kernel.value_error * kernel.variance)


def evaluation_slack(kernel: Kernel, m: int, length: float, smallest_p: float) -> float:
    """B1: terms 1 and 2 of the slack in docs/mathematics.md: what computing a correlation from factors rounds away.

    Parameters
    ----------
    kernel : Kernel
        The payload's.
    m : int
        Factors per point.
    length : float
        The length of the longest factors.
    smallest_p : float
        The smallest residual variance.

    Returns
    -------
    float
    """
    dot = (m / 16 + 8) * ROUNDOFF * length**2
    return float((_kernel_error(kernel) + ROUNDOFF * kernel.variance + 2.0 * dot) / smallest_p + 16 * ROUNDOFF)


def factor_slack(kernel: Kernel, m: int, length: float, smallest_p: float, jitter: float) -> float:
    """B1: term 3 of the slack in docs/mathematics.md: what computing the factors rounded away.

    As `evaluation_slack`; `jitter` is in the units of the kernel's variance.
    """
    rounding = (m / 16 + 8) * ROUNDOFF
    scale = kernel.variance + jitter
    cholesky = m * (rounding + 32 * ROUNDOFF) * scale
    if jitter < 2.0 * cholesky:
        return 1.0
    solve = _kernel_error(kernel) + rounding * np.sqrt(scale) * length
    slack: float = 2.0 * np.sqrt(2.0 * m / (jitter * smallest_p)) * solve
    return min(1.0, slack)
