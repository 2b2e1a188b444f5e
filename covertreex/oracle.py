"""Two slow answers to compare fast ones with.

`DenseOracle` (and `knn`, its short form) is independent of everything else: SciPy's Cholesky and triangular solve, one
matrix product, `numpy.exp`. It is compared with a tolerance: its rounding differs.

`canonical` repeats the canonical arithmetic (docs/mathematics.md, A1 to A5) in NumPy, for all candidates at once, on
the payload that backends use. Its distances match every backend's to the last bit.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.arithmetic import exp_neg, log
from covertreex.base.progress import Progress
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.data.canonical import (
    canonical,
    canonical_cholesky,
    canonical_covariance,
    canonical_distances,
    canonical_nearness,
    canonical_solve,
    covariances,
    dot16,
    kernel_values,
    squared_distances,
)
from covertreex.errors import FactorizationError, InvalidInputError
from covertreex.kernels import Columns, Kernel

__all__ = [
    "DenseOracle",
    "canonical",
    "canonical_cholesky",
    "canonical_covariance",
    "canonical_distances",
    "canonical_nearness",
    "canonical_solve",
    "covariances",
    "dot16",
    "exp_neg",
    "kernel_values",
    "knn",
    "log",
    "squared_distances",
]

#: A returned neighbour is right if its ``|rho|`` reaches the k-th best less this.
RHO_TOLERANCE = 1e-7

#: Relative counterpart for Euclidean distances.
EUCLIDEAN_TOLERANCE = 1e-9


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
    noise : float, or array_like of shape (n,)
        As `covertreex.cover_tree` takes it.
    lonlat : float, optional
        Without a kernel: radius of the sphere on which columns 0 and 1 are longitude and latitude. (A kernel has it.)
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

    def __init__(
        self,
        X: ArrayLike,
        *,
        kernel: Kernel | None = None,
        inducing: ArrayLike | None = None,
        seed: int = 0,
        jitter: float | None = None,
        v_matrix: ArrayLike | None = None,
        p_diag: ArrayLike | None = None,
        noise: ArrayLike = 0.0,
        lonlat: float | None = None,
        ids: ArrayLike | None = None,
    ) -> None:
        self.X = np.asarray(X, dtype=np.float64)
        self.ids = np.arange(len(self.X)) if ids is None else np.asarray(ids)
        self.kernel, self.lonlat = kernel, lonlat
        self.L: Any = None
        self.Z: Any = None
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
        self.p = np.maximum(self.p + np.asarray(noise), 1e-9 * kernel.variance)

    def _factorize(self, inducing: ArrayLike, seed: int, jitter: float | None) -> FloatArray:
        from scipy.linalg import cholesky

        inducing = np.asarray(inducing)
        if inducing.ndim == 0:
            rows = np.sort(np.random.default_rng(seed).choice(len(self.X), int(inducing), replace=False))
            self.Z = self.X[rows]
        elif inducing.ndim == 1:
            self.Z = self.X[inducing]
        else:
            self.Z = np.asarray(inducing, dtype=np.float64)
        assert self.kernel is not None  # without one there are no inducing points
        K = self.kernel(self.Z, self.Z)
        jitter = 1e-6 * self.kernel.variance if jitter is None else jitter
        try:
            self.L = cholesky(K + jitter * np.eye(len(K)), lower=True)
        except np.linalg.LinAlgError as error:
            raise FactorizationError(f"dense oracle: {error} at jitter {jitter:g}; raise jitter.") from None
        return self._solve(self.X)

    def _solve(self, X: FloatArray) -> FloatArray:
        from scipy.linalg import solve_triangular

        assert self.kernel is not None
        out = np.empty((len(X), len(self.Z)))
        for start in range(0, len(X), 8192):
            block = self.kernel(self.Z, X[start : start + 8192])
            out[start : start + 8192] = solve_triangular(self.L, block, lower=True).T
        return out

    def closeness(
        self, queries: AnyArray, v_query: ArrayLike | None = None, p_query: ArrayLike | None = None
    ) -> FloatArray:
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

            euclidean: FloatArray = -cdist(_placed(points, self.lonlat), _placed(self.X, self.lonlat))
            return euclidean
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
        rho: FloatArray = np.abs((self.kernel(points, self.X) - V @ self.V.T) / np.sqrt(p[:, None] * self.p[None, :]))
        rho = np.minimum(rho, 1.0)
        if rows is not None:
            rho[np.arange(len(rows)), rows] = 1.0
        return rho

    def _allowed(
        self,
        queries: ArrayLike | None,
        predecessor_mode: bool,
        include_self: bool,
        order: ArrayLike | None,
        limit: ArrayLike | None,
        v_query: ArrayLike | None,
        p_query: ArrayLike | None,
    ) -> Iterator[tuple[slice, FloatArray]]:
        """Blocks of queries: their places, and their closeness to all rows, -inf for those not allowed."""
        n = len(self.X)
        queries = self.ids if queries is None else np.asarray(queries)
        rank = np.full(n, n)
        rank[self.ids] = self.ids
        if order is not None:
            order = np.asarray(order)
            rank[order] = np.arange(len(order))
        if predecessor_mode:
            limit = rank[queries] + include_self
        elif limit is not None:
            limit = np.broadcast_to(limit, len(queries))
        size = max(1, 2**24 // n)
        with Progress("dense oracle", len(queries)) as progress:
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
                progress.advance(len(score))

    def knn(
        self,
        k: int,
        queries: ArrayLike | None = None,
        *,
        predecessor_mode: bool = False,
        include_self: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        max_per_site: int | None = None,
    ) -> tuple[IntArray, FloatArray]:
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
        max_per_site : int, optional
            At most so many neighbours of a query have equal scaled coordinates.

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
            score = self._spread(score, asked[part], max_per_site)
            rows = self._nearest_first(score, asked[part])[:, :k]
            best = np.take_along_axis(score, rows, axis=1)
            found = np.isfinite(best)
            distance = -best if self.kernel is None else np.sqrt(1.0 - np.where(found, best, 0.0))
            indices.append(np.where(found, rows, -1))
            distances.append(np.where(found, distance, np.inf))
        return np.concatenate(indices), np.concatenate(distances)

    def _spread(self, score: FloatArray, queries: AnyArray, most: int | None) -> FloatArray:
        """Closeness, with -inf for all but the `most` nearest of each site."""
        if most is None:
            return score
        order = self._nearest_first(score, queries)
        out = np.full_like(score, -np.inf)
        for i, rows in enumerate(order):
            by_site = rows[np.argsort(self.sites[rows], kind="stable")]
            starts = np.flatnonzero(np.diff(self.sites[by_site], prepend=-1))
            place = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
            kept = by_site[place < most]
            out[i, kept] = score[i, kept]
        return out

    @cached_property
    def sites(self) -> IntArray:
        """ndarray, shape (n,), int64: which rows have equal scaled coordinates."""
        sphere = None if self.lonlat is None else Columns(lonlat=self.lonlat)
        scaled = (self.X if sphere is None else sphere(self.X)) if self.kernel is None else self.kernel.scale(self.X)
        return np.unique(scaled + 0.0, axis=0, return_inverse=True)[1].ravel()

    def _nearest_first(self, score: FloatArray, queries: AnyArray) -> IntArray:
        """All rows, sorted for each query by closeness; those equally close by scaled distance, then by index."""
        if self.kernel is None:
            return np.argsort(-score, axis=1, kind="stable")
        points = self.X[queries] if np.issubdtype(queries.dtype, np.integer) else queries
        apart = squared_distances(self.kernel.scale(points)[:, None, :], self.kernel.scale(self.X)[None, :, :])
        return np.lexsort((apart, -score), axis=1)

    def recall(self, indices: ArrayLike, queries: ArrayLike | None = None, **restrictions: Any) -> float:
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
        indices: ArrayLike,
        queries: ArrayLike | None = None,
        *,
        predecessor_mode: bool = False,
        include_self: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        max_per_site: int | None = None,
    ) -> tuple[IntArray, IntArray]:
        """How many of each query's true neighbours were returned, and how many there are.

        A returned neighbour is right if it is allowed (of a site, `max_per_site` are), returned once, and its ``|rho|``
        reaches the k-th best less 1e-7
        (Euclidean: its distance is at most the k-th best plus 1e-9 of it).

        Parameters
        ----------
        indices : ndarray, shape (q, k), int
            Answers; -1 is no neighbour.
        queries, predecessor_mode, include_self, order, limit, v_query, p_query, max_per_site
            As for `knn`.

        Returns
        -------
        right, expected : ndarray, shape (q,), int64
        """
        indices = np.asarray(indices)
        k = indices.shape[1]
        right, expected = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        asked = self.ids if queries is None else np.asarray(queries)
        for where, score in self._allowed(queries, predecessor_mode, include_self, order, limit, v_query, p_query):
            kth = min(k, score.shape[1])
            spread = self._spread(score, asked[where], max_per_site)
            worst = np.partition(spread, score.shape[1] - kth, axis=1)[:, score.shape[1] - kth, None]
            available = np.isfinite(spread).sum(axis=1)
            slack = RHO_TOLERANCE if self.kernel is not None else EUCLIDEAN_TOLERANCE * np.abs(worst)
            slack = slack if self.lonlat is None else slack + 16.0 * np.finfo(float).eps * self.lonlat
            enough = np.where((available < k)[:, None], -np.finfo(float).max, worst - slack)
            answer = np.sort(indices[where], axis=1)
            fresh = np.ones(answer.shape, dtype=bool)
            fresh[:, 1:] = answer[:, 1:] != answer[:, :-1]
            reached = np.take_along_axis(score, np.maximum(answer, 0), axis=1) >= enough
            good = reached & fresh & (answer >= 0)
            if max_per_site is not None:  # of those at one site, no more count
                sites = np.where(good, self.sites[answer], -1)
                before = np.tril(sites[:, :, None] == sites[:, None, :], -1).sum(axis=2)
                good &= before < max_per_site
            right.append(np.sum(good, axis=1))
            expected.append(np.minimum(available, k))
        return np.concatenate(right), np.concatenate(expected)


def _placed(points: FloatArray, lonlat: float | None) -> FloatArray:
    """Points whose Euclidean distances are wanted, of those that have longitude and latitude in degrees."""
    if lonlat is None:
        return points
    longitude, latitude = np.radians(points[:, 0]), np.radians(points[:, 1])
    across = np.cos(latitude)
    places = np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=1)
    return np.concatenate([lonlat * places, points[:, 2:]], axis=1)


def knn(
    X: ArrayLike,
    k: int,
    queries: ArrayLike | None = None,
    *,
    predecessor_mode: bool = False,
    include_self: bool = False,
    order: ArrayLike | None = None,
    limit: ArrayLike | None = None,
    **metric: Any,
) -> tuple[IntArray, FloatArray]:
    """The dense float64 truth, for anyone's tests.

    Parameters
    ----------
    X : array_like, shape (n, d)
    k : int
    queries, predecessor_mode, include_self, order, limit
        As for `DenseOracle.knn`.
    **metric
        `kernel`, `inducing`, `seed`, `jitter`, `v_matrix`, `p_diag`, `noise`, `lonlat`, as for `DenseOracle`.

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
