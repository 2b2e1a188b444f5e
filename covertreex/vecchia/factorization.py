"""The covariance of all observations, factorized: ``V V' + (B' D^-1 B)^-1``, in the units and order of a payload."""

from functools import cached_property, partial
from typing import Any

import numpy as np

from covertreex._core import vecchia as core
from covertreex._core.canonical import CovarianceView
from covertreex.base import parallel, tuning
from covertreex.base.progress import Progress
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.data.payload import PayloadStore
from covertreex.errors import FactorizationError
from covertreex.vecchia.conditioning import Conditioning


def regressions(
    payload: PayloadStore,
    noise: FloatArray,
    neighbors: IntArray,
    points: tuple[FloatArray, FloatArray, FloatArray],
    span: tuple[int, int],
    latent: bool,
    out: tuple[FloatArray, FloatArray, FloatArray],
    cancel: AnyArray,
) -> int:
    """Fill weights, D and jitter of points ``span[0]`` to ``span[1]``, given by coordinates, factors and noise; the
    first of them that cannot be regressed, or -1. In payload rows and units."""
    start, stop = span
    coords, factors, own_noise = points
    weights, D, jitter = out
    failed = core.regress(
        CovarianceView(payload.kernel, payload.coords.shape[1]), payload.coords, payload.factors, noise,
        neighbors[start:stop], coords[start:stop], factors[start:stop], own_noise[start:stop], latent,
        weights[start:stop], D[start:stop], jitter[start:stop], cancel,
    )  # fmt: skip
    return failed if failed < 0 else start + failed


def refuse(what: str) -> FactorizationError:
    """What is raised where no jitter helps."""
    return FactorizationError(
        f"{what}: the covariance of its conditioning set is not positive definite, even with 1e-4 of the variance "
        "added to its diagonal. Give a noise, or check that the kernel is positive definite and factors belong to it."
    )


class Factorization:
    """Regressions of all points of a payload, and the m x m matrix ``M = I + V' R^-1 V`` of Woodbury's formula.

    Everything is in payload rows and units: variances divided by `payload.unit`.

    Parameters
    ----------
    payload : PayloadStore
    sets : Conditioning
    noise : ndarray, shape (n,)
        Variances of the noise of payload rows.
    n_threads : int

    Raises
    ------
    FactorizationError
        If a conditioning set is singular beyond the largest jitter; it names the row.
    """

    #: Sums over all rows go in so many parts, whatever the threads: their number is in the bits of M.
    PARTS = 16

    def __init__(self, payload: PayloadStore, sets: Conditioning, noise: FloatArray, n_threads: int) -> None:
        n, m = len(payload), payload.factors.shape[1]
        self.payload, self.sets, self.noise, self.n_threads = payload, sets, noise, n_threads
        self.weights, self.D, self.jitter = np.empty(sets.rows.shape), np.empty(n), np.empty(n)
        cancel = np.zeros(1, dtype=np.int32)
        points = payload.coords, payload.factors, noise

        def part(start: int, stop: int) -> FloatArray:
            total = np.zeros((m, m))
            for block in ((start + a, start + b) for a, b in parallel.spans(stop - start, tuning.FACTOR_BLOCK)):
                out = self.weights, self.D, self.jitter
                failed = regressions(payload, noise, sets.rows, points, block, False, out, cancel)
                if failed >= 0:
                    raise refuse(f"row {payload.index[failed]}")
                if cancel[0]:
                    break
                if m:
                    W = self._whitened(*block)
                    total += W.T @ W
                progress.advance(block[1] - block[0])
            return total

        with Progress("regressions", n) as progress, parallel.one_blas_thread():
            spans = parallel.spans(n, -(-n // self.PARTS))
            parts = parallel.run([partial(part, *span) for span in spans], n_threads, cancel)
        M = np.eye(m)
        for one in parts:
            M += one
        #: The lower factor of M.
        self.L = np.linalg.cholesky(M)

    def _whitened(self, start: int, stop: int) -> FloatArray:
        """Rows of ``D^-1/2 B V``."""
        W: FloatArray = self.payload.factors[start:stop].copy()
        core.subtract(
            self.payload.factors, self.sets.rows[start:stop], self.weights[start:stop],
            1.0 / np.sqrt(self.D[start:stop]), W,
        )  # fmt: skip
        return W

    @cached_property
    def B(self) -> Any:
        """csr_matrix, shape (n, n): in payload rows, so not triangular."""
        return sparse_factor(self.weights, self.sets.rows)

    @property
    def log_det(self) -> float:
        """float: of the covariance, by the matrix determinant lemma."""
        return float(np.sum(np.log(self.D)) + 2.0 * np.sum(np.log(np.diag(self.L))))

    def whiten(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``R^-1/2 values`` and ``L^-1 V' R^-1 values``, of values (n, c): the inner products of values under the
        inverse covariance are those of the first, less those of the second (Woodbury)."""
        from scipy.linalg import solve_triangular

        root = np.sqrt(self.D)[:, None]
        E = np.asarray(self.B @ values) / root
        if not len(self.L):
            return E, np.zeros((0, E.shape[1]))
        with parallel.one_blas_thread():
            G = self.payload.factors.T @ np.asarray(self.B.T @ (E / root))
            return E, solve_triangular(self.L, G, lower=True)

    def gram(self, values: FloatArray) -> FloatArray:
        """``values' Sigma^-1 values``."""
        E, G = self.whiten(values)
        gram: FloatArray = E.T @ E - G.T @ G
        return gram

    def explained(self, values: FloatArray) -> FloatArray:
        """``E[w | values]``, shape (m, c), of the weights of V."""
        from scipy.linalg import solve_triangular

        G = self.whiten(values)[1]
        explained: FloatArray = solve_triangular(self.L, G, lower=True, trans="T") if len(G) else G
        return explained

    def colour(self, white: FloatArray, weights: FloatArray) -> FloatArray:
        """``V weights + B^-1 D^1/2 white``, of (n, c) and (m, c): draws, where both are independent normal numbers."""
        values = np.sqrt(self.D)[:, None] * white
        cancel = np.zeros(1, dtype=np.int32)

        def task() -> None:
            core.unroll(self.sets.row_order, self.sets.rows, self.weights, values, cancel)

        parallel.run([task], 1, cancel)
        with parallel.one_blas_thread():
            values += self.payload.factors @ weights
        return values


def sparse_factor(weights: FloatArray, neighbors: IntArray) -> Any:
    """``I - weights`` as a SciPy CSR matrix: row i has 1 at i, and minus its weights at its neighbours."""
    from scipy.sparse import csr_matrix

    n, there = len(neighbors), neighbors >= 0
    held = np.column_stack([there, np.ones(n, dtype=bool)])
    columns = np.column_stack([neighbors, np.arange(n)])[held]
    values = np.column_stack([-weights, np.ones(n)])[held]
    indptr = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    return csr_matrix((values, columns, indptr), shape=(n, n))
