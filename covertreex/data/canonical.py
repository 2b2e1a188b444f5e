"""Canonical arithmetic in NumPy (docs/mathematics.md, A1 to A7): what every kernel must compute, to the last bit.

Compiled kernels do the same, faster; they are compared with this, and it serves where speed is no matter. A `payload`
is a `covertreex.data.payload.PayloadStore`, whose module stands on this one.
"""

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex._core import canonical as core
from covertreex.base.arithmetic import CanonicalArithmetic
from covertreex.base.contract import CALLED, EUCLIDEAN, EXPRESSION, LANES, check_codes, check_kernel
from covertreex.base.types import FloatArray, IntArray
from covertreex.kernels import CLOSED, Kernel
from covertreex.protocols import QueryBlock


def kernel_values(code: int, variance: float, alpha: float, r2: FloatArray) -> FloatArray:
    """A4: kernel values at squared scaled distances `r2`, elementwise; a ValueError if no kernel has this code.

    Examples
    --------
    >>> float(kernel_values(0, 2.0, 1.0, np.float64(0.0)))
    2.0
    """
    if check_kernel(code) == EXPRESSION:
        raise ValueError("a kernel by tables needs points, not distances; see `covariances`.")
    cls: Any = _CLOSED_BY_CODE[code]
    kernel = cls(alpha=alpha) if "alpha" in {field.name for field in fields(cls)} else cls()
    values: FloatArray = variance * kernel.correlation(r2, CanonicalArithmetic)
    return values


_CLOSED_BY_CODE = {cls.code: cls for cls in CLOSED.values()}


def covariances(kernel: Kernel, A: FloatArray, B: FloatArray, r2: FloatArray | None = None) -> FloatArray:
    """A4, A10: covariances of scaled coordinates `A` and `B`, of shapes (..., d) that broadcast.

    `r2` are their `squared_distances`, if these are at hand.

    Examples
    --------
    >>> from covertreex import Matern12
    >>> float(covariances(Matern12(), np.zeros(1), np.zeros(1)))
    1.0
    """
    if kernel.code == CALLED:
        return _called(kernel, A, B)
    expression = kernel.expression_for(A.shape[-1])
    if expression is not None:
        values: FloatArray = kernel.variance * expression(A, B)
        return values
    return kernel_values(kernel.code, kernel.variance, kernel.alpha, squared_distances(A, B) if r2 is None else r2)


def _called(kernel: Kernel, A: FloatArray, B: FloatArray) -> FloatArray:
    """`covariances` by a function of matrices."""
    d = A.shape[-1]
    shape = np.broadcast_shapes(A.shape[:-1], B.shape[:-1])
    if A.ndim == 1 or A.shape[:-1] == (len(A), 1):  # all pairs
        return kernel.of_scaled(A.reshape(-1, d), B.reshape(-1, d)).reshape(shape)
    pairs = zip(*(np.broadcast_to(side, (*shape, d)).reshape(-1, 1, d) for side in (A, B)), strict=True)
    return np.array([kernel.of_scaled(a, b)[0, 0] for a, b in pairs]).reshape(shape)


def covariance_matrix(kernel: Kernel, A: FloatArray, B: FloatArray) -> FloatArray:
    """A4, A10: covariances (a, b) of scaled coordinates (a, d) and (b, d), compiled.

    Examples
    --------
    >>> from covertreex import Matern12
    >>> covariance_matrix(Matern12(), np.zeros((1, 1)), np.zeros((2, 1))).tolist()
    [[1.0, 1.0]]
    """
    if kernel.code == CALLED:
        return kernel.of_scaled(A, B)
    return core.covariances(core.CovarianceView(kernel, A.shape[1]), A, B)


def canonical_covariance(kernel: Kernel, coords: FloatArray) -> FloatArray:
    """A4: covariance matrix (n, n) of scaled coordinates (n, d) under a `covertreex.Kernel`.

    Examples
    --------
    >>> from covertreex import Matern12
    >>> canonical_covariance(Matern12(), np.zeros((2, 1))).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    return covariances(kernel, coords[:, None, :], coords[None, :, :])


def squared_distances(A: FloatArray, B: FloatArray) -> FloatArray:
    """Squared coordinate differences summed in order of the axes; `A` and `B` broadcast to shape (..., d).

    Examples
    --------
    >>> float(squared_distances(np.array([0.0, 3.0]), np.array([4.0, 0.0])))
    25.0
    """
    total: Any = 0.0
    for axis in range(A.shape[-1]):
        t = A[..., axis] - B[..., axis]
        total = total + t * t
    squares: FloatArray = total
    return squares


def dot16(A: FloatArray, B: FloatArray) -> FloatArray:
    """A1: dot products over the last axis, whose length is a multiple of 16; `A` and `B` broadcast.

    Examples
    --------
    >>> float(dot16(np.ones(32), np.ones(32)))
    32.0
    """
    lanes = np.zeros((*np.broadcast_shapes(A.shape[:-1], B.shape[:-1]), LANES))
    for start in range(0, A.shape[-1], LANES):
        lanes = lanes + A[..., start : start + LANES] * B[..., start : start + LANES]
    e = lanes[..., :8] + lanes[..., 8:]
    f = e[..., :4] + e[..., 4:]
    products: FloatArray = (f[..., 0] + f[..., 2]) + (f[..., 1] + f[..., 3])
    return products


def _nearness(
    payload: Any, coords_a: FloatArray, factors_a: FloatArray, p_a: float, rows: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A5: distances, and by what rows at one distance are told apart, each ascending (A7)."""
    check_codes(payload.metric, payload.kernel_code)
    r2 = squared_distances(coords_a, payload.coords[rows])
    if payload.metric == EUCLIDEAN:
        return np.sqrt(r2), np.full_like(r2, -1.0), np.zeros_like(r2)
    k = covariances(payload.covariance, coords_a, payload.coords[rows], r2)
    rho = np.abs((k - dot16(factors_a, payload.factors[rows])) / np.sqrt(p_a * payload.p[rows]))
    rho = np.minimum(rho, 1.0)
    return np.sqrt(1.0 - rho), -rho, r2


def canonical_nearness(
    payload: Any, queries: QueryBlock, q: int, rows: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A5, A7: how near payload `rows` are to query `q`: what they are sorted by, before their dataset index.

    Parameters
    ----------
    payload : covertreex.data.payload.PayloadStore
    queries : covertreex.protocols.QueryBlock
    q : int
    rows : ndarray of int, shape (r,)

    Returns
    -------
    distances : ndarray, shape (r,), float64
    minus_rho : ndarray, shape (r,), float64
        ``-|rho|``, which tells rows apart whose distances are equal; -1 under Euclidean distance.
    r2 : ndarray, shape (r,), float64
        Squared scaled distances, which tell apart what is left; 0 under Euclidean distance.

    Examples
    --------
    >>> import covertreex as cx
    >>> from covertreex.testing.reference import make_queries
    >>> payload = cx.cover_tree([[0.0], [30.0], [40.0]], kernel=cx.RBF()).payload
    >>> rows = payload.row[[1, 2]]
    >>> [column.tolist() for column in canonical_nearness(payload, make_queries(payload, [0]), 0, rows)]
    [[1.0, 1.0], [-3.693883068487256e-196, -0.0], [900.0, 1600.0]]
    """
    row = queries.rows[q]
    if row < 0:
        e = -1 - row
        p = 1.0 if payload.metric == EUCLIDEAN else queries.p[e]
        return _nearness(payload, queries.coords[e], queries.factors[e], p, rows)
    p = 1.0 if payload.metric == EUCLIDEAN else payload.p[row]
    found = _nearness(payload, payload.coords[row], payload.factors[row], p, rows)
    own = rows == row
    return np.where(own, 0.0, found[0]), np.where(own, -1.0, found[1]), np.where(own, 0.0, found[2])


def canonical_distances(payload: Any, a: ArrayLike, b: ArrayLike) -> FloatArray:
    """A5: canonical distances between payload rows `a` and `b`, which broadcast.

    Parameters
    ----------
    payload : covertreex.data.payload.PayloadStore
    a, b : array_like of int

    Returns
    -------
    ndarray, float64

    Examples
    --------
    >>> import covertreex as cx
    >>> payload = cx.cover_tree([[0.0], [3.0]]).payload
    >>> canonical_distances(payload, 0, [0, 1]).tolist()
    [0.0, 3.0]
    """
    a, b = np.broadcast_arrays(np.asarray(a), np.asarray(b))
    p_a = 1.0 if payload.metric == EUCLIDEAN else payload.p[a]
    return np.where(a == b, 0.0, _nearness(payload, payload.coords[a], payload.factors[a], p_a, b)[0])


def canonical(payload: Any, queries: QueryBlock, k: int) -> tuple[IntArray, FloatArray]:
    """k nearest neighbours in canonical arithmetic, all candidates compared.

    Parameters
    ----------
    payload : covertreex.data.payload.PayloadStore
    queries : covertreex.protocols.QueryBlock
    k : int

    Returns
    -------
    indices : ndarray, shape (q, k), int64
        Dataset indices, the nearest first (A7); -1 past the last.
    distances : ndarray, shape (q, k), float64
        inf past the last.

    Examples
    --------
    >>> import covertreex as cx
    >>> from covertreex.testing.reference import make_queries
    >>> payload = cx.cover_tree([[0.0], [1.0], [3.0]]).payload
    >>> canonical(payload, make_queries(payload, [0, 2]), 1)[0].ravel().tolist()
    [1, 1]
    """
    n = len(payload)
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), np.inf)
    for q in range(len(queries)):
        allowed = queries.rank < queries.limit[q]
        if queries.exclude[q] >= 0:
            allowed[queries.exclude[q]] = False
        rows = np.arange(n)[allowed]
        found, minus_rho, r2 = canonical_nearness(payload, queries, q, rows)
        best = np.lexsort((payload.index[rows], r2, minus_rho, found))[:k]
        indices[q, : len(best)] = payload.index[rows[best]]
        distances[q, : len(best)] = found[best]
    return indices, distances


def canonical_cholesky(K: FloatArray) -> FloatArray:
    """A6: lower Cholesky factor, each entry by one 16-lane dot; columns padded with zeros to a multiple of 16.

    Examples
    --------
    >>> canonical_cholesky(np.array([[4.0]]))[0, 0].item()
    2.0
    """
    m = len(K)
    L = np.zeros((m, -(-m // LANES) * LANES))
    for j in range(m):
        rest = K[j:, j] - dot16(L[j:], L[j])
        pivot = np.sqrt(rest[0]) if rest[0] > 0.0 else np.nan
        L[j, j] = pivot
        L[j + 1 :, j] = rest[1:] / pivot
    return L


def canonical_solve(L: FloatArray, K: FloatArray) -> FloatArray:
    """A6: rows ``v`` with ``L v = k`` for the rows k of `K` (n, m), by forward substitution; padded as `L`.

    Examples
    --------
    >>> canonical_solve(canonical_cholesky(np.array([[4.0]])), np.array([[6.0]]))[0, 0].item()
    3.0
    """
    V = np.zeros((len(K), L.shape[1]))
    for j in range(len(L)):
        V[:, j] = (K[:, j] - dot16(V, L[j])) / L[j, j]
    return V
