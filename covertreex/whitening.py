"""A screen for residual variances so small that float32 cannot hold ``k - v.v``: correlations without cancellation.

The Cholesky factorization goes on where the inducing points left it, on the residual *correlation*: with pivots S and
``w_i = L^-1 rho(S, i)``, the product ``w_i . w_j`` is of the size of ``rho_ij`` itself, needs no kernel, and misses it
by at most ``sqrt(q_i q_j)``, q being what is left of the unit norm (docs/mathematics.md, C3).
"""

import dataclasses
from functools import partial

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from covertreex import parallel
from covertreex.screens import LOOK, PRODUCT32, PRODUCT64, Screen

#: Pivots drawn at once, and the most there may be, as a multiple of the factors' own length.
PIVOTS, MOST = 64, 1.5

#: Rows handled at once.
PART = 4096

#: More pivots are drawn while the last ones have made a pair cheaper by this share, and it does not cost so many times
#: what it would in float64.
WORTH, HOPELESS = 0.1, 4.0

#: Nanoseconds of one core that a float64 pair on its own takes, per component.
PAIR64 = 0.25

#: Pairs of the sample that tells how many the screen would leave: queries and rows.
SAMPLE_QUERIES, SAMPLE_ROWS = 96, 2048


@dataclasses.dataclass(frozen=True, eq=False)
class WhitenedScreen(Screen):
    """See `make_whitened`. `factors` are the w, (n, r); no coordinates, no kernel.

    Attributes
    ----------
    sharp : Screen
        In float64.
    pivots : ndarray, shape (r,), int64
        Payload rows S.
    lower : ndarray, shape (r, r), float64
        L.
    shift : float
        C3: what the rounding of all parts may add to q.
    tried : tuple of (int, float)
        Numbers of pivots, and the nanoseconds that a pair was expected to take with each.
    """

    sharp: Screen
    pivots: np.ndarray
    lower: np.ndarray
    shift: float
    tried: tuple

    @property
    def pair_cost(self):
        """float: nanoseconds of one core that a pair is expected to take."""
        return dict(self.tried)[self.factors.shape[1]]

    @property
    def name(self):
        """str: how people call it."""
        return f"whitened float32, {self.factors.shape[1]} components"

    def of_queries(self, queries):
        """As `Screen.of_queries`."""
        none = np.zeros((len(queries.p), 0), dtype=np.float32)
        if len(queries.p) == 0:
            zero = np.zeros(0, dtype=np.float32)
            return np.zeros((0, self.factors.shape[1]), dtype=np.float32), none, zero, zero, 0.0
        *_, margin = self.sharp.of_queries(queries)
        rho = _correlations(self.payload, self.pivots, queries.coords, queries.factors, queries.p)
        w = solve_triangular(self.lower, rho, lower=True).T
        shift = self.shift + (len(self.pivots) + 2) * max(margin, self.sharp.margin) / float(
            min(queries.p.min(), self.payload.p.min())
        )
        w, spread = _rounded(w, shift)
        return w, none, np.ones(len(w), dtype=np.float32), spread, 1.0


def whitened(payload, *arguments):
    """The screen that `make_whitened` made of a payload before, or makes now; a payload keeps the first it has."""
    made = payload.__dict__.get("_whitened")
    if made is None:
        with threadpool_limits(1, user_api="blas"):
            made = make_whitened(payload, *arguments)
        object.__setattr__(payload, "_whitened", made)
    return made


def make_whitened(payload, thresholds, limits, rank, rows, n_threads):
    """A `WhitenedScreen` for sweeps of a payload, or None where it would not be faster than float64.

    Pivots are drawn at random in proportion to q (source: Chen, Epperly, Tropp, Webber, arXiv 2207.06503), until
    more of them would cost more than they save.

    Parameters
    ----------
    payload : PayloadStore
    thresholds : ndarray, shape (q,)
        What the k-th best ``|rho|`` of each query is sure to reach.
    limits : ndarray, shape (q,)
    rank : ndarray, shape (n,)
    rows : ndarray, shape (q,)
        Payload row of each query; negative for others, which the sample leaves out.
    n_threads : int
    """
    sharp, n, m = payload.screen64, len(payload), payload.factors.shape[1]
    inside = np.flatnonzero((rows >= 0) & np.isfinite(thresholds))
    most = int(MOST * m) // PIVOTS * PIVOTS
    if sharp is None or len(inside) < SAMPLE_QUERIES or most < 2 * PIVOTS or n < 4 * most:
        return None
    shift = _shift(payload, sharp, most)
    if shift > 0.05:
        return None
    sample = inside[np.linspace(0, len(inside) - 1, SAMPLE_QUERIES).astype(np.int64)]
    others = np.linspace(0, n - 1, SAMPLE_ROWS).astype(np.int64)
    allowed = rank[others] < limits[sample][:, None]
    pairs, plain = float(np.sum(limits)), sharp.pair_cost
    if _cost(n, 2 * PIVOTS, m) > 0.3 * pairs * plain:
        return None
    random = np.random.default_rng(0)
    w, q = np.empty((most, n)), np.ones(n)  # w by components: memory that is not written costs nothing
    lower, pivots = np.zeros((most, most)), np.zeros(0, dtype=np.int64)
    best, best_cost, tried = 0, plain, []
    for r in range(0, most, PIVOTS):
        size = r + PIVOTS
        weight = np.maximum(q, 1e-12)
        weight[pivots] = 0.0
        new = np.sort(random.choice(n, PIVOTS, replace=False, p=weight / weight.sum()))
        block = _correlations(payload, new, payload.coords[new], payload.factors[new], payload.p[new])
        block[np.diag_indices(PIVOTS)] = 1.0 + shift
        known = w[:r, new].copy()
        try:
            corner = np.linalg.cholesky(block - known.T @ known)
        except np.linalg.LinAlgError:
            break
        lower[r:size, :r], lower[r:size, r:size] = known.T, corner
        parallel.run(
            [partial(_extend, payload, new, corner, known, w, q, r, part) for part in parallel.spans(n, PART)],
            n_threads,
        )
        pivots = np.concatenate([pivots, new])
        spread = np.sqrt(np.maximum(q, 0.0) + shift)
        bound = np.abs(w[:size, rows[sample]].T @ w[:size, others]) + spread[rows[sample], None] * spread[others]
        left = np.sum((bound >= thresholds[sample, None]) & allowed) / max(1, np.sum(allowed))
        cost = size * PRODUCT32 + LOOK + left * m * PAIR64 + _cost(n, size, m) / pairs
        before = tried[-1][1] if tried else np.inf
        tried.append((size, float(cost)))
        if cost < best_cost:
            best, best_cost = size, cost
        if size >= 2 * PIVOTS and (cost > (1.0 - WORTH) * before or cost > HOPELESS * plain):
            break
    if not best:
        return None
    factors, spread = _rounded(w[:best].T, shift)
    return WhitenedScreen(
        payload=payload,
        dtype=np.float32,
        centre=sharp.centre,
        kernel_code=-1,
        factors=factors,
        coords=np.zeros((n, 0), dtype=np.float32),
        scale=np.ones(n, dtype=np.float32),
        spread=spread,
        length=1.0,
        margin=1.0,
        floor=(best + 8.0) * float(np.finfo(np.float32).eps),
        sharp=sharp,
        pivots=pivots[:best],
        lower=lower[:best, :best].copy(),
        shift=shift,
        tried=tuple(tried),
    )


def _cost(n, size, m):
    """Nanoseconds of one core that `size` pivots take."""
    return n * size * (m + size) * PRODUCT64


def _extend(payload, new, corner, known, w, q, r, part):
    """The next components of some rows."""
    begin, end = part
    rows = slice(begin, end)
    rho = _correlations(payload, new, payload.coords[rows], payload.factors[rows], payload.p[rows])
    rho -= known.T @ w[:r, rows]
    w[r : r + len(new), rows] = solve_triangular(corner, rho, lower=True, check_finite=False)
    q[rows] -= np.einsum("ij,ij->j", w[r : r + len(new), rows], w[r : r + len(new), rows])


def _shift(payload, sharp, most):
    """C3: entries of the correlation matrix are off by at most e; (r + 2) e on the diagonal keeps it positive."""
    entry = payload.slack_abs + sharp.margin / float(payload.p.min()) + sharp.floor
    return (most + 2) * (entry + 4.0 * (most + 16) * np.finfo(np.float64).eps)


def _rounded(w, shift):
    """w (n, r) in float32, and C3: the square root of what is left of its norm, never less."""
    factors = np.ascontiguousarray(w, dtype=np.float32)
    norm = np.einsum("ij,ij->i", w, w)
    left = np.maximum(1.0 + shift - norm, 0.0) + shift
    return factors, np.nextafter(np.sqrt(left).astype(np.float32), np.float32(2.0))


def _correlations(payload, pivots, coords, factors, p):
    """Residual correlations of some payload rows with other points, (pivots, points), in float64."""
    values = payload.kernel._of_scaled(payload.coords[pivots], coords) - payload.factors[pivots] @ factors.T
    values /= np.sqrt(payload.p[pivots])[:, None]
    values /= np.sqrt(p)
    return values
