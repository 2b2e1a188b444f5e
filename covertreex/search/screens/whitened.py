"""A screen for residual variances so small that float32 cannot hold ``k - v.v``: correlations without cancellation.

The Cholesky factorization goes on where the inducing points left it, on the residual *correlation*: with pivots S and
``w_i = L^-1 rho(S, i)``, the product ``w_i . w_j`` is of the size of ``rho_ij`` itself, needs no kernel, and misses it
by at most ``sqrt(q_i q_j)``, q being what is left of the unit norm (docs/mathematics.md, C3).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import largest_whole
from covertreex._core.whiten import PIVOTS, Pivots
from covertreex.base import parallel, tuning
from covertreex.base.contract import NO_KERNEL
from covertreex.data.payload import PayloadStore
from covertreex.protocols import QueryBlock
from covertreex.search.screens.cache import sharp as sharp_screen
from covertreex.search.screens.eight import EightBitScreen, lost, rounded_all
from covertreex.search.screens.pairs import PairSample, correlations
from covertreex.search.screens.plain import Outside, Screen


@dataclass(frozen=True, eq=False, kw_only=True)
class WhitenedScreen(EightBitScreen):
    """See `make_whitened`. Its factors are the w, (n, r); no coordinates, no kernel; `fine` is in float64.

    Attributes
    ----------
    pivots : ndarray, shape (r,), int64
        Payload rows S.
    lower : ndarray, shape (r, r), float64
        L.
    shift : float
        C3: what the rounding of all parts may add to q.
    trials : tuple of (int, float)
        Numbers of pivots, and the nanoseconds that a pair was expected to take with each.
    """

    pivots: NDArray[np.int64]
    lower: NDArray[np.float64]
    shift: float
    trials: tuple[tuple[int, float], ...]

    @property
    def tried(self) -> tuple[tuple[int, float], ...]:
        """tuple of (int, float): as `trials`."""
        return self.trials

    @property
    def pair_cost(self) -> float:
        """float: nanoseconds of one core that a pair is expected to take."""
        return dict(self.trials)[len(self.pivots)]

    @property
    def blur(self) -> float:
        """float: 0, for scales are 1."""
        return 0.0

    @property
    def name(self) -> str:
        """str: how people call it."""
        return f"whitened 8 bits, {len(self.pivots)} components"

    def of_queries(self, queries: QueryBlock) -> Outside:
        """As `Screen.of_queries`."""
        none, ones = np.zeros((len(queries.p), 0)), np.ones(len(queries.p))
        if len(ones) == 0:
            return self._outside(np.zeros((0, len(self.pivots))), none, ones, 0.0)
        from scipy.linalg import solve_triangular

        sharp = self.fine
        assert sharp is not None
        margin = sharp.of_queries(queries).margin
        rho = correlations(self.payload, self.pivots, queries.coords, queries.factors, queries.p)
        w = solve_triangular(self.lower, rho, lower=True).T
        shift = self.shift + (len(self.pivots) + 2) * max(margin, sharp.margin) / float(
            min(queries.p.min(), self.payload.p.min())
        )
        spread = _spread(1.0 - np.einsum("ij,ij->i", w, w), shift)
        return self._outside(w, none, ones, 1.0, spread)


def whitened(payload: PayloadStore, samples: list[PairSample], pairs: float, n_threads: int) -> WhitenedScreen | None:
    """What `make_whitened` makes of a payload, which keeps the latest: the same question asked again finds it there.

    Another question does not: how many pivots pay, and whether any do, depends on its pairs.
    """
    question = (pairs, *(sample.digest for sample in samples))
    held: tuple[Any, WhitenedScreen | None] | None = payload.kept.held("whitened")
    if held is not None and held[0] == question:
        return held[1]
    with parallel.one_blas_thread():
        made = make_whitened(payload, samples, pairs, n_threads)
    payload.kept.put("whitened", (question, made))
    return made


def make_whitened(
    payload: PayloadStore, samples: list[PairSample], pairs: float, n_threads: int
) -> WhitenedScreen | None:
    """A `WhitenedScreen` of a payload, or None where it would not be faster than float64.

    Pivots are drawn by randomly pivoted Cholesky, that is at random in proportion to q (source: Chen, Epperly, Tropp,
    Webber, arXiv 2207.06503), until more of them would cost more than they save.

    Parameters
    ----------
    payload : PayloadStore
    samples : list of PairSample
        A sample of the pairs that it is for.
    pairs : float
        How many these are.
    n_threads : int
    """
    sharp, n, m = sharp_screen(payload), len(payload), payload.factors.shape[1]
    most = int(tuning.WHITE_MOST * m) // PIVOTS * PIVOTS
    largest = largest_whole()
    if sharp is None or not largest or not samples or most < 2 * PIVOTS or n < 4 * most:
        return None
    shift = _shift(payload, sharp, most)
    if shift > 0.05 or _cost(n, 2 * PIVOTS, m) > 0.3 * pairs * sharp.pair_cost:
        return None
    factorization = _Factorization(payload, sharp, most, shift, n_threads)
    judge = _Judge(samples, pairs, n, m, shift + 2.0 * lost(largest), sharp.pair_cost)
    best, best_q = 0, factorization.q
    while factorization.grow():
        judge.assess(factorization)
        if judge.improved:
            best, best_q = factorization.size, factorization.q.copy()
        if judge.enough:
            break
    if not best:
        return None
    scale, spread = np.ones(n, dtype=np.float32), _spread(best_q, shift)
    w = factorization.w[: best // PIVOTS]
    basis, parts = rounded_all(n, lambda rows: _flat(w[:, rows]), largest, scale, spread, 1.0, n_threads)
    return WhitenedScreen(
        payload=sharp.payload,
        dtype=np.float32,
        centre=sharp.centre,
        kernel_code=NO_KERNEL,
        **parts._asdict(),
        tail=np.zeros((n, 0), dtype=np.float32),
        coords=np.zeros((n, 0), dtype=np.float32),
        scale=scale,
        spread=spread,
        basis=basis,
        largest=largest,
        length=1.0,
        margin=1.0,
        floor=(best + 8.0 + 1.5 * best**1.5) * float(np.finfo(np.float32).eps),
        kernel_error=0.0,
        fine=sharp,
        pivots=factorization.pivots[:best],
        lower=factorization.lower[:best, :best].copy(),
        shift=shift,
        trials=tuple(judge.tried),
    )


class _Factorization:
    """The Cholesky factorization of the residual correlation, some pivots at a time.

    Attributes
    ----------
    w : ndarray, shape (steps, n, PIVOTS), float32
        Components of all rows, by steps.
    q : ndarray, shape (n,), float64
        What is left of unit norms.
    lower : ndarray, shape (most, most), float64
        L.
    pivots : ndarray, shape (size,), int64
    """

    def __init__(self, payload: PayloadStore, sharp: Screen, most: int, shift: float, n_threads: int) -> None:
        n = len(payload)
        self.payload, self.sharp, self.most, self.shift, self.n_threads = payload, sharp, most, shift, n_threads
        self.w = np.empty((most // PIVOTS, n, PIVOTS), dtype=np.float32)  # what is not written costs nothing
        self.q = np.ones(n)
        self.lower, self.pivots = np.zeros((most, most)), np.zeros(0, dtype=np.int64)
        self._random = np.random.default_rng(0)

    @property
    def size(self) -> int:
        """int: pivots so far."""
        return len(self.pivots)

    def grow(self) -> bool:
        """Draw more pivots; False where there are enough, or rounding leaves none."""
        payload, n, old = self.payload, len(self.payload), self.size
        size, step = old + PIVOTS, old // PIVOTS
        if size > self.most:
            return False
        weight = np.maximum(self.q, 1e-12)
        weight[self.pivots] = 0.0
        new = np.sort(self._random.choice(n, PIVOTS, replace=False, p=weight / weight.sum()))
        block = correlations(payload, new, payload.coords[new], payload.factors[new], payload.p[new])
        block[np.diag_indices(PIVOTS)] = 1.0 + self.shift
        known = self.w[:step, new]
        flat = _flat(known).astype(np.float64)
        try:
            corner = np.linalg.cholesky(block - flat @ flat.T)
        except np.linalg.LinAlgError:
            return False
        self.lower[old:size, :old], self.lower[old:size, old:size] = flat, corner
        kernel = Pivots(self.sharp, new, known, corner)
        tasks = [partial(kernel.extend, self.w, self.q, *part) for part in parallel.spans(n, tuning.WHITE_PART)]
        parallel.run(tasks, self.n_threads)
        self.pivots = np.concatenate([self.pivots, new])
        return True


class _Judge:
    """Tells from a sample of pairs what a pair would cost with the pivots so far.

    `off` is what C3 and C4 (of rows that are as long as they may be) add to q.

    Attributes
    ----------
    tried : list of (int, float)
        Numbers of pivots, and nanoseconds of one core that a pair is expected to take, what they took to draw counted.
    improved, enough : bool
        Whether the last pivots made the least cost so far; whether more are not worth a try.
    """

    def __init__(self, samples: list[PairSample], pairs: float, n: int, m: int, off: float, plain: float) -> None:
        self.samples, self.pairs, self.n, self.m, self.off = samples, pairs, n, m, off
        self.tried: list[tuple[int, float]] = []
        self.improved = self.enough = False
        self._plain = self._best = plain
        self._products = [np.zeros(sample.allowed.shape) for sample in samples]

    def assess(self, factorization: _Factorization) -> None:
        """Judge pivots to which some were added."""
        size, w = factorization.size, factorization.w[factorization.size // PIVOTS - 1]
        spread = np.sqrt(np.maximum(factorization.q, 0.0) + self.off)
        left = looked = 0
        for sample, product in zip(self.samples, self._products, strict=True):
            product += w[sample.queries] @ w[sample.rows].T
            bound = np.abs(product) + spread[sample.queries, None] * spread[sample.rows]
            left += int(np.sum((bound >= sample.thresholds[:, None]) & sample.allowed))
            looked += int(np.sum(sample.allowed))
        screened = size * tuning.PRODUCT8 + tuning.LOOK
        again = left / max(1, looked) * self.m * tuning.WHITE_PAIR64
        cost = screened + again + _cost(self.n, size, self.m) / self.pairs
        before = self.tried[-1][1] if self.tried else np.inf
        self.tried.append((size, float(cost)))
        self.improved = bool(cost < self._best)
        self._best = min(self._best, cost)
        poor = cost > (1.0 - tuning.WHITE_WORTH) * before or cost > tuning.WHITE_HOPELESS * self._plain
        self.enough = size >= 2 * PIVOTS and bool(poor)


def _flat(w: NDArray[np.float32]) -> NDArray[np.float32]:
    """Components by steps, (steps, n, 64), as rows (n, r)."""
    flat: NDArray[np.float32] = w.transpose(1, 0, 2).reshape(w.shape[1], len(w) * w.shape[2])
    return flat


def _cost(n: int, size: int, m: int) -> float:
    """Nanoseconds of one core that `size` pivots take."""
    return n * size * ((m + 0.5 * size) * tuning.PRODUCT64 + tuning.WHITE_STEP)


def _shift(payload: PayloadStore, sharp: Screen, most: int) -> float:
    """C3: entries of the correlation matrix are off by at most e; (r + 2) e on the diagonal keeps it positive."""
    entry = payload.slack_abs + sharp.margin / float(payload.p.min()) + sharp.floor + float(np.finfo(np.float32).eps)
    shift: float = (most + 2) * (entry + 4.0 * (most + 16) * np.finfo(np.float64).eps)
    return shift


def _spread(q: NDArray[np.float64], shift: float) -> NDArray[np.float32]:
    """C3: the square root of what is left of unit norms, never less, in float32."""
    left = np.maximum(q + shift, 0.0) + shift
    spread: NDArray[np.float32] = np.nextafter(np.sqrt(left).astype(np.float32), np.float32(2.0))
    return spread
