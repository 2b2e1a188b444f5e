"""A dense oracle of its own: plain NumPy and SciPy, nothing of covertreex.

It says of every pair what the order of neighbours goes by, and between which bounds a float64 computation of it may
lie. Units are taken away first: the variance is 1, and coordinates are scaled by a power of two (Euclid) or divided by
the lengthscale, so it is as good at 1e-150 as at 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

U = 2.0**-53
P_FLOOR = 1e-9

#: exp(-x) is 0 in canonical arithmetic beyond 708; subnormal, or 0, in others.
UNDERFLOW = 708.0


def minus_log(name, r2, alpha=1.0):
    """``-log k(r)`` of a kernel of variance 1 at the squared scaled distance `r2`: no underflow, no cancellation."""
    r = np.sqrt(r2)
    if name == "RBF":
        return 0.5 * r2
    if name == "Matern12":
        return r
    if name == "Matern32":
        a = np.sqrt(3.0) * r
        # a - log(1 + a) cancels for small a; there it is a^2/2 - a^3/3 + ...
        return np.where(a < 1e-4, a * a * (0.5 - a / 3.0), a - np.log1p(a))
    if name == "Matern52":
        a = np.sqrt(5.0) * r
        return np.where(a < 1e-3, a * a / 6.0 * (1.0 - a * a / 6.0), a - np.log1p(a + a * a / 3.0))
    if name == "RationalQuadratic":
        return alpha * np.log1p(r2 / (2.0 * alpha))
    raise ValueError(name)


def squared(A, B):
    """Squared distances of all pairs, axis by axis: no cancellation, relative error of ``d`` roundings."""
    out = np.zeros((len(A), len(B)))
    for axis in range(A.shape[1]):
        out += (A[:, axis, None] - B[None, :, axis]) ** 2
    return out


@dataclass
class Pairs:
    """All pairs of some queries (q) and all points (n).

    Attributes
    ----------
    low, high : ndarray, shape (q, n)
        Bounds of ``d ** 2`` as float64 arithmetic may have it; under Euclid in units of ``4 ** exponent``.
    first, last : ndarray, shape (q, n)
        Bounds of what the order goes by, the least first: a pair is clearly before another if its `last` is below the
        other's `first`.
    tie : ndarray, shape (q, n), or None
        Pairs of one and the same exact value (>= 0), among which `then` decides; -1 for pairs of no such class.
    then : ndarray, shape (q, n), or None
        The scaled squared distance.
    exponent : int
    nearest : float
        The least that the order goes by.
    """

    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    last: np.ndarray
    tie: np.ndarray
    then: np.ndarray
    exponent: int = 0
    nearest: float = 0.0

    def same_point(self, query, row):
        """Row `row` is the query itself, whose distance is 0 by definition."""
        self.low[query, row] = self.high[query, row] = 0.0
        self.first[query, row] = self.last[query, row] = self.nearest


def euclid(X, Q):
    """`Pairs` of `Q` (q, d) and `X` (n, d) by Euclidean distance."""
    largest = max(np.abs(X).max(), np.abs(Q).max())
    exponent = int(np.frexp(largest)[1]) if largest > 0.0 else 0
    d2 = squared(np.ldexp(Q, -exponent), np.ldexp(X, -exponent))
    slack = (4 * X.shape[1] + 32) * U
    tie = np.where(d2 == 0.0, 0, -1)
    return Pairs(d2 * (1 - slack), d2 * (1 + slack), d2 * (1 - slack), d2 * (1 + slack), tie, d2, exponent)


@dataclass
class Factors:
    """What inducing points leave of a covariance of variance 1: of each point its factors, p and how sure they are."""

    V: np.ndarray
    p: np.ndarray
    weights: np.ndarray | None  # kriging weights L^-T v, in size; None where factors are given, hence exact
    K: np.ndarray | None


class Model:
    """Kernel and inducing points with the units taken away.

    Parameters
    ----------
    name : str
        Of the kernel.
    lengthscale : float or sequence of float
    variance : float
    alpha : float
    Z : ndarray, shape (m, d), or None
        Inducing points.
    jitter : float or None
        In the units of the variance; None is 1e-6 of it.
    """

    def __init__(self, name, lengthscale, variance=1.0, alpha=1.0, Z=None, jitter=None):
        self.name, self.variance, self.alpha = name, variance, alpha
        self.lengthscale = np.asarray(lengthscale, dtype=np.float64)
        self.jitter = 1e-6 if jitter is None else jitter / variance
        self.Z = None
        self.vague = False  # so ill-conditioned that float64 says nothing of rho
        if Z is not None:
            self.Z = self.scale(Z)
            K = self.covariance(self.Z, self.Z)
            m = len(K)
            K[np.diag_indices(m)] += self.jitter
            try:
                self.L = cholesky(K, lower=True)
            except LinAlgError:
                self.L, self.vague = np.eye(m), True
            smallest = float(np.linalg.eigvalsh(K)[0])
            self.vague |= not smallest > 20.0 * m * self._unit(m)

    def _unit(self, m):
        """Error of an entry of a covariance matrix, and of a step of its factorization."""
        return (m + 64 + 16 * self.alpha) * U

    def scale(self, X):
        # The quotient is the definition: how far apart two points are is a matter of these float64 numbers.
        return np.asarray(X, dtype=np.float64) / self.lengthscale

    def covariance(self, A, B):
        return np.exp(-minus_log(self.name, squared(A, B), self.alpha))

    def factors(self, X):
        """`Factors` of `X` (n, d), computed."""
        K = self.covariance(self.Z, self.scale(X))
        V = solve_triangular(self.L, K, lower=True)
        weights = solve_triangular(self.L, V, lower=True, trans="T")
        return Factors(V.T, 1.0 - np.sum(V * V, axis=0), np.abs(weights.T), K.T)

    def given(self, V, p=None):
        """`Factors` that the caller supplies, in the units of the variance."""
        V = np.asarray(V) / np.sqrt(self.variance)
        p = 1.0 - np.sum(V * V, axis=1) if p is None else np.asarray(p) / self.variance
        return Factors(V, p, None, None)

    def pairs(self, X, Q, of_X=None, of_Q=None):
        """`Pairs` of `Q` (q, d) and `X` (n, d), with `Factors` of both where there are some."""
        r2 = squared(self.scale(Q), self.scale(X))
        nl = minus_log(self.name, r2, self.alpha)
        relative = (X.shape[1] + 16) * U * nl + (32 + 16 * self.alpha * (self.name == "RationalQuadratic")) * U
        if of_X is None:
            return self._plain(r2, nl, relative)
        return self._residual(r2, nl, relative, of_X, of_Q)

    def _plain(self, r2, nl, relative):
        low = np.maximum(0.0, -np.expm1(-nl) - np.exp(-nl) * relative - 4 * U)
        high = -np.expm1(-nl) + np.exp(-nl) * relative + 4 * U
        # Where the kernel is exactly 1, or exactly 0, and nothing is rounded, the scaled distance decides.
        tie = np.where(nl > UNDERFLOW + 40.0, 1, np.where((r2 < 1e-34) | (r2 == 0.0), 0, -1))
        return Pairs(low, high, nl - relative, nl + relative, tie, r2)

    def _residual(self, r2, nl, relative, of_X, of_Q):
        m = of_X.V.shape[1]
        unit = self._unit(m)
        k = np.exp(-nl)
        c = k - of_Q.V @ of_X.V.T
        error = k * relative + unit * (np.abs(of_Q.V) @ np.abs(of_X.V).T) + 1e-300
        p_q, e_q = self._variance(of_Q, unit)
        p_x, e_x = self._variance(of_X, unit)
        if of_X.weights is not None:
            # K a = k to first order: perturbations of K by `unit` of its scale, of each k by `unit` of itself.
            error += unit * np.sum(of_Q.weights, axis=1)[:, None] * np.sum(of_X.weights, axis=1)[None, :]
            error += unit * (of_Q.weights @ of_X.K.T + of_Q.K @ of_X.weights.T)
        root = np.sqrt(p_q[:, None] * p_x[None, :])
        rho = np.abs(c) / root
        error = 2.0 * (error / root + rho * 0.5 * ((e_q / p_q)[:, None] + (e_x / p_x)[None, :])) + 8 * U * rho
        if self.vague:
            error = np.full_like(error, 2.0)
        below, above = np.clip(rho - error, 0.0, 1.0), np.clip(rho + error, 0.0, 1.0)
        none = np.full(r2.shape, -1)
        return Pairs(np.maximum(0.0, 1.0 - above - 4 * U), 1.0 - below + 4 * U, -above, -below, none, r2, nearest=-1.0)

    def _variance(self, of, unit):
        """p, and its error."""
        error = unit * (1.0 + np.sum(of.V * of.V, axis=1))
        if of.weights is not None:
            error += unit * np.sum(of.weights, axis=1) ** 2 + 2 * unit * np.sum(of.weights * of.K, axis=1)
        return np.maximum(of.p, P_FLOOR), error


def clearly_before(pairs, query, a, b):
    """Whether row `a` comes before row `b` (arrays that broadcast) whatever the rounding."""
    sure = pairs.last[query, a] < pairs.first[query, b]
    tied = (pairs.tie[query, a] >= 0) & (pairs.tie[query, a] == pairs.tie[query, b])
    x, y = pairs.then[query, a], pairs.then[query, b]
    near = x < y * (1.0 - 1e-9)
    same = (x == y) & (x == 0.0) & (a < b)
    return sure | (tied & (near | same))


def check_knn(pairs, query, allowed, indices, distances, k, exact=True):
    """What is wrong with one row of an answer, or an empty string; and how many of its neighbours are right.

    Parameters
    ----------
    pairs : Pairs
    query : int
    allowed : ndarray of bool, shape (n,)
        Rows that may be neighbours.
    indices, distances : ndarray, shape (k,)
    k : int
    exact : bool
        Whether none may be missing.

    Returns
    -------
    wrong : str
    hits, total : int
    """
    count = min(k, int(allowed.sum()))
    if np.isnan(distances).any():
        return "NaN", 0, count
    found = indices >= 0
    if not np.all(np.isinf(distances[~found])):
        return "a distance without a neighbour", 0, count
    size = int(found.sum())
    if not np.all(found[:size]):
        return "-1 between neighbours", 0, count
    if size > count or (exact and size != count):
        return f"{size} neighbours instead of {count}", 0, count
    rows, d = indices[:size], distances[:size]
    wrong = check_rows(pairs, query, allowed, rows, d)
    if wrong:
        return wrong, 0, count
    candidates = np.flatnonzero(allowed)
    high = np.sort(pairs.high[query, candidates])
    hits = int(np.sum(pairs.low[query, rows] <= high[count - 1])) if size else 0
    if exact and size:
        low = np.sort(pairs.low[query, candidates])
        square = np.ldexp(d, -pairs.exponent) ** 2
        off = (square < low[:size] * (1 - 8 * U)) | (square > high[:size] * (1 + 8 * U))
        if off.any():
            return f"the distance at place {int(np.argmax(off))} is not that of the dense oracle", hits, count
        missing = np.setdiff1d(candidates, rows)
        if len(missing):
            before = clearly_before(pairs, query, missing, rows[-1])
            if before.any():
                return f"row {missing[np.argmax(before)]} is missing", hits, count
    return "", hits, count


def check_rows(pairs, query, allowed, rows, d):
    """What is wrong with neighbours and their distances in themselves, whichever are missing."""
    n = len(allowed)
    if np.any(rows < 0) or np.any(rows >= n):
        return "a row that does not exist"
    if len(np.unique(rows)) != len(rows):
        return "a neighbour twice"
    if not np.all(allowed[rows]):
        return f"row {rows[np.argmin(allowed[rows])]} is excluded"
    if np.isnan(d).any():
        return "NaN"
    if np.any(np.diff(d) < 0.0):
        return "distances do not ascend"
    square = np.ldexp(d, -pairs.exponent) ** 2
    off = (square < pairs.low[query, rows] * (1 - 8 * U)) | (square > pairs.high[query, rows] * (1 + 8 * U))
    if off.any():
        at = int(np.argmax(off))
        low, high = pairs.low[query, rows[at]], pairs.high[query, rows[at]]
        return f"d^2 = {square[at]:.17g} of row {rows[at]} is not from {low:.17g} to {high:.17g}"
    if len(rows) > 1:
        swapped = clearly_before(pairs, query, rows[1:], rows[:-1])
        if swapped.any():
            at = int(np.argmax(swapped))
            return f"row {rows[at]} is before row {rows[at + 1]}"
    return ""


def check_radius(pairs, query, allowed, rows, d, radius):
    """What is wrong with all neighbours within `radius` of one query, or an empty string."""
    wrong = check_rows(pairs, query, allowed, rows, d)
    if wrong:
        return wrong
    if np.any(d > radius):
        return "a neighbour beyond the radius"
    candidates = np.flatnonzero(allowed)
    square = np.ldexp(radius, -pairs.exponent) ** 2 * (1 - 8 * U)
    sure = candidates[pairs.high[query, candidates] < square]
    missing = np.setdiff1d(sure, rows)
    return f"row {missing[0]} is missing within the radius" if len(missing) else ""
