"""Two slow answers to compare fast ones with.

`DenseOracle` (and `knn`, its short form) is independent of everything else: SciPy's Cholesky and triangular solve, one
matrix product, `numpy.exp`. It is compared with a tolerance: its rounding differs.

`canonical` repeats the canonical arithmetic (docs/mathematics.md, A1 to A5) in NumPy, for all candidates at once, on
the payload that backends use. Its distances match every backend's to the last bit.
"""

import numpy as np

from covertreex.errors import FactorizationError, InvalidInputError
from covertreex.payload import EUCLIDEAN, LANES

#: A returned neighbour is right if its ``|rho|`` reaches the k-th best less this.
RHO_TOLERANCE = 1e-7

#: Relative counterpart for Euclidean distances.
EUCLIDEAN_TOLERANCE = 1e-9

# ---------------------------------------------------------------------------------------------------------------------
# Canonical arithmetic in NumPy


def exp_neg(x):
    """A2: ``exp(x)`` for ``x <= 0``, elementwise.

    Examples
    --------
    >>> float(exp_neg(0.0))
    1.0
    """
    x = np.asarray(x, dtype=np.float64)
    magic = 6755399441055744.0
    clamped = np.where(x < -708.0, -708.0, x)
    shifted = clamped * 1.4426950408889634 + magic
    n = shifted - magic
    r = (clamped - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    r2 = r * r
    e = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    for even, odd in ((3628800.0, 39916800.0), (40320.0, 362880.0), (720.0, 5040.0), (24.0, 120.0), (2.0, 6.0)):
        e = (1.0 / even + r * (1.0 / odd)) + r2 * e
    e = (1.0 + r) + r2 * e
    return np.where(x < -708.0, 0.0, e * np.ldexp(1.0, n.astype(np.int64)))


def log(x):
    """A3: ``log(x)`` for ``x >= 1``, elementwise.

    Examples
    --------
    >>> float(log(1.0))
    0.0
    """
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    m, n = mantissa * 2.0, exponent - 1
    high = m > 1.4142135623730951
    m = np.where(high, m * 0.5, m)
    n = np.where(high, n + 1, n).astype(np.float64)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    t = 1.0 / 21.0
    for odd in (19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        t = 1.0 / odd + z * t
    t = z * t
    low = n * 1.90821492927058770002e-10 + 2.0 * (s * t)
    return n * 0.693147180369123816490 + (2.0 * s + low)


def kernel_values(code, variance, alpha, r2):
    """A4: kernel values at squared scaled distances `r2`, elementwise.

    Examples
    --------
    >>> float(kernel_values(0, 2.0, 1.0, np.float64(0.0)))
    2.0
    """
    if code == 0:
        return variance * exp_neg(-0.5 * r2)
    if code == 1:
        return variance * exp_neg(-np.sqrt(r2))
    if code == 2:
        a = 1.7320508075688772 * np.sqrt(r2)
        return variance * ((1.0 + a) * exp_neg(-a))
    if code == 3:
        a = 2.23606797749979 * np.sqrt(r2)
        return variance * (((1.0 + a) + (a * a) / 3.0) * exp_neg(-a))
    return variance * exp_neg(-alpha * log(1.0 + r2 / (2.0 * alpha)))


def canonical_covariance(kernel, coords):
    """A4: covariance matrix (n, n) of scaled coordinates (n, d) under a `covertreex.Kernel`.

    Examples
    --------
    >>> from covertreex import Matern12
    >>> canonical_covariance(Matern12(), np.zeros((2, 1))).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    r2 = squared_distances(coords[:, None, :], coords[None, :, :])
    return kernel_values(kernel.code, kernel.variance, getattr(kernel, "alpha", 1.0), r2)


def squared_distances(A, B):
    """Squared coordinate differences summed in order of the axes; `A` and `B` broadcast to shape (..., d).

    Examples
    --------
    >>> float(squared_distances(np.array([0.0, 3.0]), np.array([4.0, 0.0])))
    25.0
    """
    total = 0.0
    for axis in range(A.shape[-1]):
        t = A[..., axis] - B[..., axis]
        total = total + t * t
    return total


def dot16(A, B):
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
    return (f[..., 0] + f[..., 2]) + (f[..., 1] + f[..., 3])


def _nearness(payload, coords_a, factors_a, p_a, rows):
    """A5: distances, and by what rows at one distance are told apart, each ascending (A7)."""
    r2 = squared_distances(coords_a, payload.coords[rows])
    if payload.metric == EUCLIDEAN:
        return np.sqrt(r2), np.full_like(r2, -1.0), np.zeros_like(r2)
    k = kernel_values(payload.kernel_code, payload.variance, payload.alpha, r2)
    rho = np.abs((k - dot16(factors_a, payload.factors[rows])) / np.sqrt(p_a * payload.p[rows]))
    rho = np.minimum(rho, 1.0)
    return np.sqrt(1.0 - rho), -rho, r2


def canonical_nearness(payload, queries, q, rows):
    """A5, A7: how near payload `rows` are to query `q`: what they are sorted by, before their dataset index.

    Parameters
    ----------
    payload : PayloadStore
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
    return tuple(np.where(rows == row, own, column) for own, column in zip((0.0, -1.0, 0.0), found, strict=True))


def canonical_distances(payload, a, b):
    """A5: canonical distances between payload rows `a` and `b`, which broadcast.

    Parameters
    ----------
    payload : PayloadStore
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


def canonical(payload, queries, k):
    """k nearest neighbours in canonical arithmetic, all candidates compared.

    Parameters
    ----------
    payload : PayloadStore
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


def canonical_cholesky(K):
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


def canonical_solve(L, K):
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


# ---------------------------------------------------------------------------------------------------------------------
# The dense oracle


class DenseOracle:
    """The truth, by the textbook: dense float64 linear algebra, nothing shared with the engine.

    Parameters
    ----------
    X : array_like, shape (n, d)
    kernel : covertreex.Kernel, optional
        Without a kernel the metric is Euclidean.
    inducing : int, array of int, or ndarray of shape (m, d), optional
        As `covertreex.cover_tree` takes it.
    seed, jitter
        As `covertreex.cover_tree` takes them.
    v_matrix : array_like, shape (n, m), optional
    p_diag : array_like, shape (n,), optional
    ids : ndarray of int, optional
        Rows of `X` that are there; the others were deleted and are nobody's neighbours. All by default.

    Raises
    ------
    FactorizationError
        If the covariance of the inducing points is not positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> truth = DenseOracle(np.array([[0.0], [1.0], [3.0]]))
    >>> truth.knn(k=1)[0].ravel().tolist()
    [1, 0, 1]
    """

    def __init__(self, X, *, kernel=None, inducing=None, seed=0, jitter=None, v_matrix=None, p_diag=None, ids=None):
        self.X = np.asarray(X, dtype=np.float64)
        self.ids = np.arange(len(self.X)) if ids is None else np.asarray(ids)
        self.kernel = kernel
        self.L = self.Z = None
        n = len(self.X)
        if kernel is None:
            return
        if v_matrix is not None:
            self.V = np.asarray(v_matrix, dtype=np.float64)
        elif inducing is None:
            self.V = np.zeros((n, 0))
        else:
            self.V = self._factorize(inducing, seed, jitter)
        if p_diag is None:
            self.p = kernel.variance - np.einsum("ij,ij->i", self.V, self.V)
        else:
            self.p = np.asarray(p_diag, dtype=np.float64)
        self.p = np.maximum(self.p, 1e-9 * kernel.variance)

    def _factorize(self, inducing, seed, jitter):
        from scipy.linalg import cholesky

        inducing = np.asarray(inducing)
        if inducing.ndim == 0:
            rows = np.sort(np.random.default_rng(seed).choice(len(self.X), int(inducing), replace=False))
            self.Z = self.X[rows]
        elif inducing.ndim == 1:
            self.Z = self.X[inducing]
        else:
            self.Z = np.asarray(inducing, dtype=np.float64)
        K = self.kernel(self.Z, self.Z)
        jitter = 1e-6 * self.kernel.variance if jitter is None else jitter
        try:
            self.L = cholesky(K + jitter * np.eye(len(K)), lower=True)
        except np.linalg.LinAlgError as error:
            raise FactorizationError(f"dense oracle: {error} at jitter {jitter:g}; raise jitter.") from None
        return self._solve(self.X)

    def _solve(self, X):
        from scipy.linalg import solve_triangular

        out = np.empty((len(X), len(self.Z)))
        for start in range(0, len(X), 8192):
            block = self.kernel(self.Z, X[start : start + 8192])
            out[start : start + 8192] = solve_triangular(self.L, block, lower=True).T
        return out

    def closeness(self, queries, v_query=None, p_query=None):
        """``|rho|`` (or minus the Euclidean distance) between queries and all points: larger is nearer.

        Parameters
        ----------
        queries : ndarray
            Integer rows of X, shape (q,), or coordinates, shape (q, d).
        v_query : ndarray, shape (q, m), optional
            Factors that go with coordinates; computed by default, which takes inducing points.
        p_query : ndarray, shape (q,), optional

        Returns
        -------
        ndarray, shape (q, n), float64
        """
        rows = queries if np.issubdtype(queries.dtype, np.integer) else None
        points = self.X[rows] if rows is not None else queries
        if self.kernel is None:
            from scipy.spatial.distance import cdist

            return -cdist(points, self.X)
        if rows is not None:
            V, p = self.V[rows], self.p[rows]
        else:
            if v_query is not None:
                V = np.asarray(v_query, dtype=np.float64)
            elif self.Z is not None:
                V = self._solve(points)
            elif self.V.shape[1] == 0:
                V = np.zeros((len(points), 0))
            else:
                raise InvalidInputError("coordinates need inducing points or v_query; v_matrix covers rows of X alone.")
            p = self.kernel.variance - np.einsum("ij,ij->i", V, V) if p_query is None else np.asarray(p_query)
            p = np.maximum(p, 1e-9 * self.kernel.variance)
        rho = np.abs((self.kernel(points, self.X) - V @ self.V.T) / np.sqrt(p[:, None] * self.p[None, :]))
        rho = np.minimum(rho, 1.0)
        if rows is not None:
            rho[np.arange(len(rows)), rows] = 1.0
        return rho

    def _allowed(self, queries, predecessor_mode, include_self, order, limit, v_query, p_query):
        """Blocks of queries: their places, and their closeness to all rows, -inf for those not allowed."""
        n = len(self.X)
        queries = self.ids if queries is None else np.asarray(queries)
        rank = np.full(n, n)
        rank[self.ids] = self.ids
        if order is not None:
            rank[np.asarray(order)] = np.arange(len(order))
        if predecessor_mode:
            limit = rank[queries] + include_self
        elif limit is not None:
            limit = np.broadcast_to(limit, len(queries))
        size = max(1, 2**24 // n)
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            of_part = [None if array is None else np.asarray(array)[part] for array in (v_query, p_query)]
            score = self.closeness(queries[part], *of_part)
            if np.issubdtype(queries.dtype, np.integer) and not include_self:
                score[np.arange(len(score)), queries[part]] = -np.inf
            if limit is not None:
                score[rank[None, :] >= limit[part, None]] = -np.inf
            score[:, rank == n] = -np.inf
            yield part, score

    def knn(
        self,
        k,
        queries=None,
        *,
        predecessor_mode=False,
        include_self=False,
        order=None,
        limit=None,
        v_query=None,
        p_query=None,
    ):
        """The k nearest; of rows at the same ``|rho|`` the nearest in scaled coordinates, then by dataset index.

        Parameters
        ----------
        k : int
        queries : ndarray, optional
            Integer rows of X or coordinates (q, d); all rows by default.
        predecessor_mode : bool
            Only rows before the query.
        include_self : bool
            Whether a row may be its own neighbour.
        order : array_like of int, shape (n,), optional
            A permutation of the rows: "before" means earlier in it.
        limit : int or array_like of int, shape (q,), optional
            Only the first ``limit[i]`` rows (of `order`).
        v_query, p_query : ndarray, optional
            As for `closeness`.

        Returns
        -------
        indices : ndarray, shape (q, k), int64
            -1 past the last.
        distances : ndarray, shape (q, k), float64
            ``sqrt(1 - |rho|)`` or Euclidean; inf past the last.
        """
        indices, distances = [], []
        asked = self.ids if queries is None else np.asarray(queries)
        for part, score in self._allowed(asked, predecessor_mode, include_self, order, limit, v_query, p_query):
            rows = self._nearest_first(score, asked[part])[:, :k]
            best = np.take_along_axis(score, rows, axis=1)
            found = np.isfinite(best)
            distance = -best if self.kernel is None else np.sqrt(1.0 - np.where(found, best, 0.0))
            indices.append(np.where(found, rows, -1))
            distances.append(np.where(found, distance, np.inf))
        return np.concatenate(indices), np.concatenate(distances)

    def _nearest_first(self, score, queries):
        """All rows, sorted for each query by closeness; those equally close by scaled distance, then by index."""
        if self.kernel is None:
            return np.argsort(-score, axis=1, kind="stable")
        points = self.X[queries] if np.issubdtype(queries.dtype, np.integer) else queries
        apart = squared_distances(self.kernel.scale(points)[:, None, :], self.kernel.scale(self.X)[None, :, :])
        return np.lexsort((apart, -score), axis=1)

    def recall(self, indices, queries=None, **restrictions):
        """Share of the true neighbours that were returned.

        Parameters
        ----------
        indices, queries, **restrictions
            As for `hits`.

        Returns
        -------
        float
            1.0 where no neighbour exists.
        """
        right, expected = self.hits(indices, queries, **restrictions)
        return float(right.sum() / expected.sum()) if expected.sum() else 1.0

    def hits(
        self,
        indices,
        queries=None,
        *,
        predecessor_mode=False,
        include_self=False,
        order=None,
        limit=None,
        v_query=None,
        p_query=None,
    ):
        """How many of each query's true neighbours were returned, and how many there are.

        A returned neighbour is right if it is allowed, returned once, and its ``|rho|`` reaches the k-th best less 1e-7
        (Euclidean: its distance is at most the k-th best plus 1e-9 of it).

        Parameters
        ----------
        indices : ndarray, shape (q, k), int
            Answers; -1 is no neighbour.
        queries, predecessor_mode, include_self, order, limit, v_query, p_query
            As for `knn`.

        Returns
        -------
        right, expected : ndarray, shape (q,), int64
        """
        k = indices.shape[1]
        right, expected = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for where, score in self._allowed(queries, predecessor_mode, include_self, order, limit, v_query, p_query):
            kth = min(k, score.shape[1])
            worst = np.partition(score, score.shape[1] - kth, axis=1)[:, score.shape[1] - kth, None]
            available = np.isfinite(score).sum(axis=1)
            slack = RHO_TOLERANCE if self.kernel is not None else EUCLIDEAN_TOLERANCE * np.abs(worst)
            enough = np.where((available < k)[:, None], -np.finfo(float).max, worst - slack)
            answer = np.sort(indices[where], axis=1)
            fresh = np.ones(answer.shape, dtype=bool)
            fresh[:, 1:] = answer[:, 1:] != answer[:, :-1]
            reached = np.take_along_axis(score, np.maximum(answer, 0), axis=1) >= enough
            right.append(np.sum(reached & fresh & (answer >= 0), axis=1))
            expected.append(np.minimum(available, k))
        return np.concatenate(right), np.concatenate(expected)


def knn(X, k, queries=None, *, predecessor_mode=False, include_self=False, order=None, limit=None, **metric):
    """The dense float64 truth, for anyone's tests.

    Parameters
    ----------
    X : array_like, shape (n, d)
    k : int
    queries, predecessor_mode, include_self, order, limit
        As for `DenseOracle.knn`.
    **metric
        `kernel`, `inducing`, `seed`, `jitter`, `v_matrix`, `p_diag`, as for `DenseOracle`.

    Returns
    -------
    indices : ndarray, shape (q, k), int64
    distances : ndarray, shape (q, k), float64

    Examples
    --------
    >>> import numpy as np
    >>> knn(np.array([[0.0], [1.0], [3.0]]), 1)[0].ravel().tolist()
    [1, 0, 1]
    """
    return DenseOracle(X, **metric).knn(
        k, queries, predecessor_mode=predecessor_mode, include_self=include_self, order=order, limit=limit
    )
