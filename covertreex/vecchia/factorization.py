"""The covariance of all observations, factorized: ``Sigma = V V' + R``, in the units and order of a payload."""

from functools import cached_property, partial
from typing import Any

import numpy as np

from covertreex._core import vecchia as core
from covertreex._core.canonical import CovarianceView
from covertreex.base import parallel, tuning
from covertreex.base.progress import Progress
from covertreex.base.types import FloatArray, IntArray
from covertreex.data.payload import PayloadStore
from covertreex.errors import FactorizationError
from covertreex.vecchia.conditioning import Conditioning

#: Sums over all rows go in so many parts, whatever the threads: their number is in the bits of the sums.
PARTS = 16


def refuse(what: str) -> FactorizationError:
    """What is raised where no jitter helps."""
    return FactorizationError(
        f"{what}: the covariance of its conditioning set is not positive definite, even with 1e-4 of the variance "
        "added to its diagonal. Give a noise, or check that the kernel is positive definite and factors belong to it."
    )


def covariance_of(payload: PayloadStore) -> CovarianceView:
    """The payload's kernel, for compiled code."""
    return CovarianceView(payload.kernel, payload.coords.shape[1])


class Factorization:
    """Regressions of all points of a payload, and the m x m matrix ``M = I + V' R^-1 V`` of Woodbury's formula.

    Observations are regressed on each other, and the noise is among what is approximated: ``R = (B' D^-1 B)^-1``.

    Everything is in payload rows and units: variances divided by `payload.unit`.

    Parameters
    ----------
    payload : PayloadStore
    conditioning : Conditioning
    noise : ndarray, shape (n,)
        Variances of the noise of payload rows.
    explaining : int
        Inducing points, or columns of factors that are no padding.
    n_threads : int

    Raises
    ------
    FactorizationError
        If a conditioning set is singular beyond the largest jitter; it names the row.
    """

    def __init__(
        self, payload: PayloadStore, conditioning: Conditioning, noise: FloatArray, explaining: int, n_threads: int
    ) -> None:
        n, m, k = len(payload), payload.factors.shape[1], conditioning.rows.shape[1]
        self.payload, self.conditioning, self.noise, self.n_threads = payload, conditioning, noise, n_threads
        self.explaining = explaining
        self.weights, self.D, self.jitter = np.empty((n, k)), np.empty(n), np.empty(n)
        cancel = np.zeros(1, dtype=np.int32)

        def part(start: int, stop: int) -> FloatArray:
            total = np.zeros((m, m))
            left = np.empty((tuning.FACTOR_BLOCK, m))
            for at in range(start, stop, tuning.FACTOR_BLOCK):
                block = slice(at, min(at + tuning.FACTOR_BLOCK, stop))
                W = left[: block.stop - at]
                failed = core.regress(
                    self.sets(block), covariance_of(payload), False, self.weights[block], self.D[block],
                    self.jitter[block], W, cancel,
                )  # fmt: skip
                if failed >= 0:
                    raise refuse(f"row {payload.index[at + failed]}")
                if cancel[0]:
                    break
                W /= np.sqrt(self.D[block])[:, None]
                total += W.T @ W
                progress.advance(len(W))
            return total

        with Progress("regressions", n) as progress, parallel.one_blas_thread():
            tasks = [partial(part, *span) for span in self.spans()]
            parts = parallel.run(tasks, n_threads, cancel, brief=self.is_brief(n))
            M = np.eye(m)
            for one in parts:
                M += one
            #: The lower factor of M.
            self.L = np.linalg.cholesky(M)

    def spans(self) -> list[tuple[int, int]]:
        """Rows, in the parts whose sums are added up in order."""
        n = len(self.payload)
        return parallel.spans(n, -(-n // PARTS))

    def is_brief(self, points: int) -> bool:
        """Whether the calling thread does itself what takes a regression of so many points, or a few times as much."""
        columns = self.payload.coords.shape[1] + self.payload.factors.shape[1]
        k = self.weights.shape[1]
        products: int = points * (k + 1) ** 2 * (columns + k)
        return products <= tuning.BRIEF

    def sets(self, rows: slice) -> core.Sets:
        """Conditioning sets of some payload rows, for compiled code on one thread."""
        payload = self.payload
        return core.Sets(
            payload.kernel.variance, payload.coords, payload.factors, self.noise, self.conditioning.rows[rows],  # type: ignore[union-attr]
            payload.coords[rows], payload.factors[rows], self.noise[rows],
        )  # fmt: skip

    @cached_property
    def B(self) -> Any:
        """csr_matrix, shape (n, n): in payload rows, so not triangular."""
        return sparse_factor(self.weights, self.conditioning.rows)

    @property
    def log_det(self) -> float:
        """float: of the covariance, by the matrix determinant lemma."""
        return float(np.sum(np.log(self.D)) + 2.0 * np.sum(np.log(np.diag(self.L))))

    def transposed(self, outer: FloatArray) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """In which sets each row is: the first of its places and the first behind them, the sets, and there the numbers
        of B and of `outer`, which has a row for each set, as B has: neighbours in order, and the point itself last."""
        from scipy.sparse import csr_matrix

        B = self.B
        places = csr_matrix((np.arange(B.nnz), B.indices, B.indptr), shape=B.shape).tocsc()
        q = outer[held(self.conditioning.rows)]
        start, sets = (array.astype(np.int64) for array in (places.indptr, places.indices))
        return start, sets, B.data[places.data], q[places.data]

    def precision(self, values: FloatArray) -> FloatArray:
        """``R^-1 values``, of values (n, c)."""
        E = np.asarray(self.B @ values) / self.D[:, None]
        solved: FloatArray = self.B.T @ E
        return solved

    def inner(self, values: FloatArray) -> FloatArray:
        """``values' R^-1 values``."""
        E = np.asarray(self.B @ values) / np.sqrt(self.D)[:, None]
        inner: FloatArray = E.T @ E
        return inner

    def gram(self, values: FloatArray) -> FloatArray:
        """``values' Sigma^-1 values`` by Woodbury's formula."""
        from scipy.linalg import solve_triangular

        with parallel.one_blas_thread():
            gram = self.inner(values)
            if len(self.L):
                G = solve_triangular(self.L, self.payload.factors.T @ self.precision(values), lower=True)
                gram -= G.T @ G
        return gram

    def explained(self, values: FloatArray) -> FloatArray:
        """``E[w | values]``, shape (m, c), of the weights of V."""
        from scipy.linalg import cho_solve

        with parallel.one_blas_thread():
            G = self.payload.factors.T @ self.precision(values)
            explained: FloatArray = cho_solve((self.L, True), G) if len(G) else G
        return explained

    def rest(self, values: FloatArray, explained: FloatArray) -> FloatArray:
        """Of what predictions at other points are weighed sums, beside ``v . explained``: their neighbours' part of
        this (n, c)."""
        with parallel.one_blas_thread():
            rest: FloatArray = values - self.payload.factors @ explained
        return rest

    @property
    def carried(self) -> FloatArray:
        """ndarray, shape (n, m): how `rest` falls as the weights of V grow."""
        return self.payload.factors

    def spread(self, weights: FloatArray, neighbors: IntArray) -> FloatArray | float:
        """Variances of what is weighed, if the weights of V are known."""
        return 0.0

    def colour(self, draw: np.random.Generator, size: int) -> FloatArray:
        """``V w + B^-1 D^1/2 z``, shape (n, size), where w and z are independent normal numbers."""
        weights = np.zeros((self.payload.factors.shape[1], size))
        weights[: self.explaining] = draw.standard_normal((size, self.explaining)).T
        values = np.sqrt(self.D)[:, None] * draw.standard_normal((size, len(self.D))).T[self.payload.index]
        cancel = np.zeros(1, dtype=np.int32)

        def task() -> None:
            core.unroll(self.conditioning.row_order, self.conditioning.rows, self.weights, values, cancel)

        parallel.run([task], 1, cancel)
        with parallel.one_blas_thread():
            drawn: FloatArray = values + self.payload.factors @ weights
        return drawn


class LatentFactorization(Factorization):
    """The same where values of the process are regressed on each other, and noise is added to the approximation:
    ``R = (B' D^-1 B)^-1 + N``.

    By the sparse matrix ``P = B' D^-1 B + N^-1``: its inverse is the covariance of what V leaves, given the
    observations and the weights of V. (SuperLU factorizes it; its fill-in is what limits n.)
    """

    def __init__(
        self, payload: PayloadStore, conditioning: Conditioning, noise: FloatArray, explaining: int, n_threads: int
    ) -> None:
        from scipy.sparse import diags
        from scipy.sparse.linalg import splu

        super().__init__(payload, conditioning, np.zeros(len(payload)), explaining, n_threads)
        self.observed = noise
        P = (self.B.T @ diags(1.0 / self.D) @ self.B + diags(1.0 / noise)).tocsc()
        self.P = splu(P, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        V = payload.factors
        self._carried = np.ascontiguousarray(self.P.solve(V / noise[:, None])) if V.shape[1] else V
        with parallel.one_blas_thread():
            M = np.eye(V.shape[1]) + V.T @ ((V - self._carried) / noise[:, None])
            lower: FloatArray = np.linalg.cholesky(0.5 * (M + M.T))
        self.L = lower

    @property
    def log_det(self) -> float:
        log_P = float(np.sum(np.log(np.abs(self.P.U.diagonal()))))
        return super().log_det + log_P + float(np.sum(np.log(self.observed)))

    def precision(self, values: FloatArray) -> FloatArray:
        scaled = values / self.observed[:, None]
        solved: FloatArray = scaled - self.P.solve(scaled) / self.observed[:, None]
        return solved

    def inner(self, values: FloatArray) -> FloatArray:
        inner: FloatArray = values.T @ self.precision(values)
        inner += inner.T.copy()
        return inner / 2.0

    def rest(self, values: FloatArray, explained: FloatArray) -> FloatArray:
        return np.ascontiguousarray(self.P.solve(super().rest(values, explained) / self.observed[:, None]))

    @property
    def carried(self) -> FloatArray:
        return self._carried

    def spread(self, weights: FloatArray, neighbors: IntArray) -> FloatArray:
        from scipy.sparse import csr_matrix

        there = neighbors >= 0
        indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        rows = csr_matrix((weights[there], neighbors[there], indptr), shape=(len(neighbors), len(self.D)))
        found = np.empty(len(neighbors))
        for start, stop in parallel.spans(len(neighbors), 64):
            some = rows[start:stop]
            found[start:stop] = np.sum(some.toarray() * self.P.solve(some.toarray().T).T, axis=1)
        return found

    def colour(self, draw: np.random.Generator, size: int) -> FloatArray:
        values = super().colour(draw, size)
        noise = draw.standard_normal((size, len(self.D))).T[self.payload.index]
        values += np.sqrt(self.observed)[:, None] * noise
        return values


def held(neighbors: IntArray) -> Any:
    """Which numbers of a row a sparse matrix holds: of each neighbour, and of the point itself, last."""
    return np.column_stack([neighbors >= 0, np.ones(len(neighbors), dtype=bool)])


def sparse_factor(weights: FloatArray, neighbors: IntArray) -> Any:
    """``I - weights`` as a SciPy CSR matrix: row i has minus its weights at its neighbours, and 1 at i."""
    from scipy.sparse import csr_matrix

    n, there = len(neighbors), held(neighbors)
    columns = np.column_stack([neighbors, np.arange(n)])[there]
    values = np.column_stack([-weights, np.ones(n)])[there]
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return csr_matrix((values, columns, indptr), shape=(n, n))
