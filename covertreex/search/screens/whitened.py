"""A screen for residual variances so small that float32 cannot hold ``k - v.v``: correlations without cancellation.

The Cholesky factorization goes on where the inducing points left it, on the residual *correlation*: with pivots S and
``w_i = L^-1 rho(S, i)``, the product ``w_i . w_j`` is of the size of ``rho_ij`` itself, needs no kernel, and misses it
by at most ``sqrt(q_i q_j)``, q being what is left of the unit norm (docs/mathematics.md, C3).
"""

import dataclasses
from functools import partial

import numpy as np

from covertreex.backends.contract import NO_KERNEL
from covertreex.base import parallel
from covertreex.search.screens.plain import LOOK, PRODUCT32, PRODUCT64, Screen, split_all

#: The most pivots there may be, as a multiple of the factors' own length.
MOST = 1.5

#: Rows handled at once.
PART = 1024

#: More pivots are drawn while the last ones have made a pair cheaper by this share, and it does not cost so many times
#: what it would in float64.
WORTH, HOPELESS = 0.12, 4.0

#: What a component costs once all are turned, and only the leading ones are of all pairs.
TURNED = 0.6

#: Nanoseconds of one core that a float64 pair on its own takes, per component.
PAIR64 = 0.25

#: Nanoseconds of one core that a component of a row takes besides the products.
STEP = 10.0


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
        return dict(self.tried)[len(self.pivots)]

    @property
    def name(self):
        """str: how people call it."""
        return f"whitened float32, {len(self.pivots)} components"

    def of_queries(self, queries):
        """As `Screen.of_queries`."""
        none, ones = np.zeros((len(queries.p), 0)), np.ones(len(queries.p))
        if len(ones) == 0:
            return self._outside(np.zeros((0, len(self.pivots))), none, ones, 0.0)
        from scipy.linalg import solve_triangular

        margin = self.sharp.of_queries(queries).margin
        rho = _correlations(self.payload, self.pivots, queries.coords, queries.factors, queries.p)
        w = solve_triangular(self.lower, rho, lower=True).T
        shift = self.shift + (len(self.pivots) + 2) * max(margin, self.sharp.margin) / float(
            min(queries.p.min(), self.payload.p.min())
        )
        spread = _spread(1.0 - np.einsum("ij,ij->i", w, w), shift)
        return self._outside(w, none, ones, 1.0, spread)


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """Pairs of a sample, each of some queries with each of some rows, that tells what a screen would leave.

    Attributes
    ----------
    queries, rows : ndarray of int64
        Payload rows.
    thresholds : ndarray
        What the k-th best ``|rho|`` of each query is sure to reach.
    allowed : ndarray of bool, shape (queries, rows)
        Pairs that are looked at.
    """

    queries: np.ndarray
    rows: np.ndarray
    thresholds: np.ndarray
    allowed: np.ndarray


def whitened(payload, looks, pairs, n_threads):
    """The screen that `make_whitened` made of a payload before, or makes now; a payload keeps the first it has."""
    made = payload.kept.held("whitened")
    if made is None:  # where it did not pay for some, it may for more
        with parallel.one_blas_thread():
            made = make_whitened(payload, looks, pairs, n_threads)
        if made is not None:
            made = payload.kept.get("whitened", lambda: made)
    return made


def make_whitened(payload, looks, pairs, n_threads):
    """A `WhitenedScreen` of a payload, or None where it would not be faster than float64.

    Pivots are drawn at random in proportion to q (source: Chen, Epperly, Tropp, Webber, arXiv 2207.06503), until
    more of them would cost more than they save.

    Parameters
    ----------
    payload : PayloadStore
    looks : list of Look
        A sample of the pairs that it is for.
    pairs : float
        How many these are.
    n_threads : int
    """
    from covertreex._core.whiten import PIVOTS, Pivots

    sharp, n, m = payload.screen64, len(payload), payload.factors.shape[1]
    most = int(MOST * m) // PIVOTS * PIVOTS
    if sharp is None or not looks or most < 2 * PIVOTS or n < 4 * most:
        return None
    shift = _shift(payload, sharp, most)
    plain = sharp.pair_cost
    if shift > 0.05 or _cost(n, 2 * PIVOTS, m) > 0.3 * pairs * plain:
        return None
    random = np.random.default_rng(0)
    w, q = np.empty((most // PIVOTS, n, PIVOTS), dtype=np.float32), np.ones(n)  # what is not written costs nothing
    lower, pivots = np.zeros((most, most)), np.zeros(0, dtype=np.int64)
    products = [np.zeros(look.allowed.shape) for look in looks]
    best, best_cost, best_q, tried = 0, plain, q, []
    for step in range(most // PIVOTS):
        old, size = step * PIVOTS, (step + 1) * PIVOTS
        weight = np.maximum(q, 1e-12)
        weight[pivots] = 0.0
        new = np.sort(random.choice(n, PIVOTS, replace=False, p=weight / weight.sum()))
        block = _correlations(payload, new, payload.coords[new], payload.factors[new], payload.p[new])
        block[np.diag_indices(PIVOTS)] = 1.0 + shift
        known = w[:step, new]
        flat = _flat(known).astype(np.float64)
        try:
            corner = np.linalg.cholesky(block - flat @ flat.T)
        except np.linalg.LinAlgError:
            break
        lower[old:size, :old], lower[old:size, old:size] = flat, corner
        kernel = Pivots(sharp, new, known, corner)
        parallel.run([partial(kernel.extend, w, q, *part) for part in parallel.spans(n, PART)], n_threads)
        pivots = np.concatenate([pivots, new])
        spread = np.sqrt(np.maximum(q, 0.0) + shift)
        left = looked = 0
        for look, product in zip(looks, products, strict=True):
            product += w[step, look.queries] @ w[step, look.rows].T
            bound = np.abs(product) + spread[look.queries, None] * spread[look.rows]
            left += np.sum((bound >= look.thresholds[:, None]) & look.allowed)
            looked += np.sum(look.allowed)
        cost = TURNED * size * PRODUCT32 + LOOK + left / max(1, looked) * m * PAIR64 + _cost(n, size, m) / pairs
        before = tried[-1][1] if tried else np.inf
        tried.append((size, float(cost)))
        if cost < best_cost:
            best, best_cost, best_q = size, cost, q.copy()
        if size >= 2 * PIVOTS and (cost > (1.0 - WORTH) * before or cost > HOPELESS * plain):
            break
    if not best:
        return None
    scale, spread = np.ones(n, dtype=np.float32), _spread(best_q, shift)
    basis, head, tail, blunt = split_all(
        n, lambda rows: _flat(w[: best // PIVOTS, rows]), scale, spread, 1.0, np.float32, n_threads
    )
    return WhitenedScreen(
        payload=payload,
        dtype=np.float32,
        centre=sharp.centre,
        kernel_code=NO_KERNEL,
        head=head,
        tail=tail,
        coords=np.zeros((n, 0), dtype=np.float32),
        scale=scale,
        spread=spread,
        blunt=blunt,
        basis=basis,
        turned=True,
        length=1.0,
        margin=1.0,
        floor=(best + 8.0 + 1.5 * best**1.5) * float(np.finfo(np.float32).eps),
        sharp=sharp,
        pivots=pivots[:best],
        lower=lower[:best, :best].copy(),
        shift=shift,
        tried=tuple(tried),
    )


def _flat(w):
    """Components by steps, (steps, n, 64), as rows (n, r)."""
    return w.transpose(1, 0, 2).reshape(w.shape[1], len(w) * w.shape[2])


def _cost(n, size, m):
    """Nanoseconds of one core that `size` pivots take."""
    return n * size * ((m + 0.5 * size) * PRODUCT64 + STEP)


def _shift(payload, sharp, most):
    """C3: entries of the correlation matrix are off by at most e; (r + 2) e on the diagonal keeps it positive."""
    entry = payload.slack_abs + sharp.margin / float(payload.p.min()) + sharp.floor + float(np.finfo(np.float32).eps)
    return (most + 2) * (entry + 4.0 * (most + 16) * np.finfo(np.float64).eps)


def _spread(q, shift):
    """C3: the square root of what is left of unit norms, never less, in float32."""
    left = np.maximum(q + shift, 0.0) + shift
    return np.nextafter(np.sqrt(left).astype(np.float32), np.float32(2.0))


def _correlations(payload, pivots, coords, factors, p):
    """Residual correlations of some payload rows with other points, (pivots, points), in float64."""
    values = payload.kernel._of_scaled(payload.coords[pivots], coords) - payload.factors[pivots] @ factors.T
    values /= np.sqrt(payload.p[pivots])[:, None]
    values /= np.sqrt(p)
    return values
