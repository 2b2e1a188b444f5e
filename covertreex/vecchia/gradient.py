"""How a log-likelihood changes with its kernel's parameters and the noise: the way back through the factorization.

``F = log |Sigma| + r' Sigma^-1 r`` is a function of regressions, these are functions of covariances within conditioning
sets, and covariances are sums of products of tables (docs/mathematics.md, A10). `slopes` is how F changes with what
each column of each table is multiplied by, and with the weight of each product; `powers` is how these depend on
parameters.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from covertreex._core import vecchia as core
from covertreex._core.canonical import CovarianceView
from covertreex.base import parallel, tuning
from covertreex.base.contract import EXPRESSION
from covertreex.base.progress import Progress
from covertreex.base.types import FloatArray
from covertreex.data.metrics import JITTER
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel
from covertreex.kernels.expression import Expression, Factor, make_expression
from covertreex.vecchia.factorization import Factorization, covariance_of

#: Step by which weights of terms are differentiated, relatively.
STEP = 1e-4


@dataclass(frozen=True)
class Tabled:
    """A kernel seen through its tables, also where it has a closed form: their slopes are at hand."""

    kernel: Kernel
    columns: int

    code: ClassVar[int] = EXPRESSION
    alpha: ClassVar[float] = 1.0

    @property
    def variance(self) -> float:
        """float: that of the kernel."""
        return float(self.kernel.variance)

    def expression_for(self, columns: int) -> Expression:
        """Its expression, of so many scaled coordinates."""
        found = self.kernel.expression_for(columns)
        if found is None:  # a closed form has one group of columns
            found = make_expression(self.kernel.terms())
            object.__setattr__(found, "group_stop", np.array([columns], dtype=np.int64))
        return found

    def numbers(self) -> int:
        """How many slopes there are: of each column of each factor, and of each term."""
        found = self.expression_for(self.columns)
        width = np.diff(found.group_stop, prepend=0)
        rescaled = found.rescale_group[found.rescale_table >= 0]
        return int(width[found.factor_group].sum() + width[rescaled].sum()) + len(found.term_stop)


def slopes(found: Factorization, values: FloatArray, projection: Any, share: bool) -> tuple[FloatArray, float]:
    """How ``log |Sigma| + values' Sigma^-1 values`` changes.

    Parameters
    ----------
    found : Factorization
    values : ndarray, shape (n,)
        In payload rows.
    projection : Projection
        That of the tree.
    share : bool
        Whether the jitter of the inducing points is a share of the kernel's variance.

    Returns
    -------
    slopes : ndarray
        With the logarithms of what each column of each factor is multiplied by, and those of the terms' weights: in the
        order of `Kernel.terms`.
    noise : float
        With the variance of the noise of all points, in the payload's units.
    """
    from scipy.linalg import cho_solve, solve_triangular

    payload, n, m = found.payload, len(found.payload), found.payload.factors.shape[1]
    tabled = Tabled(payload.kernel, payload.coords.shape[1])  # type: ignore[arg-type]
    tables, numbers = CovarianceView(tabled, tabled.columns), tabled.numbers()
    e, c = np.asarray(found.B @ values), found.explained(values[:, None])[:, 0]
    W, P = np.empty((n, m)), np.empty((n, m))
    outer, by_noise = np.empty((n, found.weights.shape[1] + 1)), np.empty(n)
    cancel = np.zeros(1, dtype=np.int32)

    def back(start: int, stop: int) -> FloatArray:
        total = np.zeros((numbers, 4))
        for at in range(start, stop, tuning.FACTOR_BLOCK):
            block = slice(at, min(at + tuning.FACTOR_BLOCK, stop))
            sets, D = found.sets(block), found.D[block]
            core.leave(sets, found.weights[block], W[block])
            rest, own = e[block] - W[block] @ c, 0.0
            if m:
                solved = cho_solve((found.L, True), W[block].T).T
                own = np.einsum("ij,ij->i", W[block], solved)
                P[block] = (solved - rest[:, None] * c) * (2.0 / D)[:, None]
            core.adjoint(
                sets, covariance_of(payload), tables, found.weights[block], values, (1.0 - (own + rest**2) / D) / D,
                2.0 * rest / D, P[block], outer[block], by_noise[block], total, cancel,
            )  # fmt: skip
            if cancel[0]:
                break
            progress.advance(block.stop - at)
        return total

    with Progress("gradient", n) as progress, parallel.one_blas_thread():
        tasks = [partial(back, *span) for span in found.spans()]
        parts = parallel.run(tasks, found.n_threads, cancel, brief=found.is_brief(n))
    total = _sum(parts)
    extra = float(np.sum(by_noise * found.jitter))
    if m:
        L, inducing = projection.factorized
        L = L[:, : len(L)]  # of padded rows
        start, sets, w, q = found.transposed(outer)
        columns = np.ascontiguousarray(inducing.T)

        def factors(first: int, last: int) -> tuple[FloatArray, FloatArray]:
            mine, S = np.zeros_like(total), np.zeros(L.shape)
            for at in range(first, last, tuning.FACTOR_BLOCK):
                block = slice(at, min(at + tuning.FACTOR_BLOCK, last))
                U = np.empty((block.stop - at, m))
                core.gather(start[at : block.stop + 1], sets, w, q, P, W, U)
                U = U[:, : len(L)]
                S += payload.factors[block, : len(L)].T @ U
                T = np.ascontiguousarray(solve_triangular(L, U.T, lower=True, trans="T").T)
                core.slopes(tables, payload.coords[block], columns, T, mine)
            return mine, S

        with parallel.one_blas_thread():
            spans = parallel.run(
                [partial(factors, *span) for span in found.spans()], found.n_threads, cancel, brief=found.is_brief(n)
            )
            total += _sum([mine for mine, _ in spans])
            # The covariance of inducing points: the adjoint of a Cholesky factor (Murray, arXiv 1602.07527, section 3).
            H = np.tril(_sum([S for _, S in spans]).T)
            H[np.diag_indices(len(H))] *= 0.5
            K = solve_triangular(L, 0.5 * (H + H.T), lower=True, trans="T")
            K = -solve_triangular(L, K.T, lower=True, trans="T")
        core.slopes(tables, inducing, columns, np.ascontiguousarray(K), total)
        if share:
            extra += JITTER * tabled.variance * float(np.trace(K))
    weight = tabled.expression_for(tabled.columns).weight
    whole = total.sum(axis=1)
    whole[: -len(weight)] *= 2.0  # of the squares, so far
    whole[-len(weight) :] += extra * weight
    return whole, float(np.sum(by_noise))


def _sum(parts: list[FloatArray]) -> FloatArray:
    total: FloatArray = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def powers(kernel: Kernel, name: str, place: int | None, X: FloatArray) -> FloatArray | None:
    """Of which power of a parameter each number of `slopes` is that of: 1 for a variance, -1 for the columns of a
    lengthscale, 0 for what does not depend on it. None if the kernel depends on it in another way.

    Parameters
    ----------
    kernel : Kernel
    name : str
        As in `Kernel.get_params`.
    place : int, optional
        Of a parameter that is a tuple: which of its numbers.
    X : ndarray, shape (rows, d)
        Points; in each column that is not zero everywhere one of them is not.
    """
    found: list[FloatArray] = []
    try:
        before, after = kernel.terms(), changed(kernel, name, place, 2.0).terms()
    except InvalidInputError:  # a range ends: no lengthscale and no variance
        return None
    if [len(factors) for _, factors in before] != [len(factors) for _, factors in after]:
        return None
    for (_, factors), (_, others) in zip(before, after, strict=True):
        for factor, other in zip(factors, others, strict=True):
            for one, two in ((factor, other), (factor.rescale, other.rescale)):
                if one is None or two is None:
                    continue
                power = _of_columns(one, two, X)
                if power is None:
                    return None
                found.append(power)
    first, second = (np.array([weight for weight, _ in terms]) for terms in (before, after))
    power = np.log2(second / first)
    if not np.allclose(power, np.round(power), rtol=0.0, atol=1e-12):  # a share of a variance that stays
        lower, upper = (
            np.log([weight for weight, _ in changed(kernel, name, place, factor).terms()])
            for factor in (1.0 - STEP, 1.0 + STEP)
        )
        power = (upper - lower) / (2.0 * STEP)
    return np.concatenate([*found, power])


def changed(kernel: Kernel, name: str, place: int | None, factor: float) -> Kernel:
    """The kernel with one number of a parameter multiplied by `factor`."""
    value = kernel.get_params()[name]
    if place is None:
        return kernel.set_params(**{name: factor * value})
    return kernel.set_params(**{name: (*value[:place], factor * value[place], *value[place + 1 :])})


def _of_columns(one: Factor, two: Factor, X: FloatArray) -> FloatArray | None:
    """The power by which scaled columns of a factor depend on what was doubled; None if there is more to it."""
    if one.table is not two.table and not (
        one.table.first == two.table.first and np.array_equal(one.table.pieces, two.table.pieces)
    ):
        return None
    before, after = one.columns(X), two.columns(X)
    if before.shape != after.shape:
        return None
    seen = before != 0.0
    power = np.log2(np.where(seen, np.abs(after), 1.0) / np.where(seen, np.abs(before), 1.0))
    whole: FloatArray = np.round(np.max(np.where(seen, power, -np.inf), axis=0))
    whole = np.where(seen.any(axis=0), whole, 0.0)
    return whole if np.all(np.isclose(power, whole, rtol=0.0, atol=1e-9) | ~seen) else None


def telling_rows(X: FloatArray) -> FloatArray:
    """A few points that have a number other than zero in each column that has any, and are not all alike."""
    rows = np.unique(np.concatenate([np.argmax(np.abs(X), axis=0), [0, len(X) - 1, len(X) // 2]]))
    return np.ascontiguousarray(X[rows])
