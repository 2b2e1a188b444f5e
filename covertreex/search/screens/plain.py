"""Screens: make a scan plan smaller by a cheap, rigorous look at every pair (docs/mathematics.md, C1 to C5)."""

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from covertreex.base import parallel
from covertreex.data.payload import EUCLIDEAN, PayloadStore, longest_square
from covertreex.kernels import RationalQuadratic
from covertreex.search import plans

#: A query farther than this from all data, in lengthscales, is moved nearer: no kernel is above 1e-43 out there, except
#: the rational quadratic.
FAR = 100.0

#: Rows that are copied in one task.
PART = 8192

#: float32 is precise enough where it blurs the |rho| of a typical pair by less than this.
BLUR = 1e-2


#: Factors are turned where there are so many times more rows than components; what the leading components may leave of
#: a typical pair's |rho|; and the largest share of all that is few.
WORTH_TURNING, DOUBT, LEADING = 16, 0.08, 0.75

#: Leading components stay float64 until the others blur the |rho| of a typical pair by less than this; and the fewest
#: rows for which that is tried.
MIXED_DOUBT, MIXED_ROWS = 4e-3, 1024

#: Bounds are made larger by this factor, for their own rounding.
WIDER = 1.0 + 1e-5

#: Nanoseconds of one core (AVX2, 3 GHz) that a pair takes: per component in float32 and in float64, for its kernel in
#: float32 and in float64, and for a look. Only their ratios matter, and only for what is faster.
PRODUCT32, PRODUCT64, KERNEL32, KERNEL64, LOOK = 0.0235, 0.047, 1.7, 4.0, 0.8


@dataclass(frozen=True, eq=False)
class Outside:
    """What a `Screen` needs of queries that are no rows of the payload: as its own, see there."""

    head: np.ndarray
    tail: np.ndarray
    coords: np.ndarray
    scale: np.ndarray
    spread: np.ndarray
    blunt: np.ndarray
    margin: float


@dataclass(frozen=True, eq=False)
class Screen:
    """A payload in the precision of a screen, and how far the screen may be off.

    Attributes
    ----------
    payload : PayloadStore
    dtype : type
        float32 or float64.
    centre : ndarray, shape (d,)
        Subtracted from coordinates, so that float32 keeps their differences.
    kernel_code : int
        The kernel, as canonical arithmetic numbers it; `NO_KERNEL` where factors are whitened.
    head, tail : ndarray, shapes (n, h) and (n, t)
        Factors, in `dtype`: the components that all pairs are multiplied in, and those for pairs left in doubt.
    coords, scale, spread : ndarray
        Centred coordinates (n, d), and what a pair's value is multiplied by and may be off by, in `dtype`: ``|rho|`` is
        within ``margin * spread_i * spread_j + floor`` of ``scale_i * scale_j * |k(x_i, x_j) - v_i . v_j|`` (C1).
    blunt : ndarray, shape (n,)
        Without the tail it may be off by ``blunt_i * blunt_j + floor`` (C4).
    basis : ndarray, shape (m, m), or None
        What factors were multiplied by, so that the first components hold most of them (`turn`); None for nothing.
    turned : bool
        Whether that was tried.
    length : float
        The largest ``|v|**2``.
    margin, floor : float
    """

    payload: PayloadStore
    dtype: type
    centre: np.ndarray
    kernel_code: int
    head: np.ndarray
    tail: np.ndarray
    coords: np.ndarray
    scale: np.ndarray
    spread: np.ndarray
    blunt: np.ndarray
    basis: np.ndarray | None
    turned: bool
    length: float
    margin: float
    floor: float

    #: Numbers of pivots that a `covertreex.search.screens.whitened.WhitenedScreen` tried; others have none.
    tried = ()

    @property
    def pair_cost(self):
        """float: nanoseconds of one core that a pair is expected to take."""
        m = self.head.shape[1]
        if self.dtype is np.float32:
            return m * PRODUCT32 + KERNEL32 + LOOK
        return m * PRODUCT64 + KERNEL64 + LOOK

    @property
    def name(self):
        """str: how people call it."""
        return np.dtype(self.dtype).name

    def of_queries(self, queries):
        """What the screen needs of external queries.

        Returns
        -------
        Outside
            Its margin (C1) is larger than that of the data where their factors are longer or they lie outside.
        """
        if len(queries.p) == 0:
            return self._outside(queries.factors, queries.coords, queries.p, 0.0)
        low, high = self.payload.coords.min(axis=0), self.payload.coords.max(axis=0)
        far = np.inf if isinstance(self.payload.kernel, RationalQuadratic) else FAR
        coords = np.clip(queries.coords, low - far, high + far)
        extent = np.maximum(high, coords.max(axis=0)) - np.minimum(low, coords.min(axis=0))
        length = max(self.length, longest_square(queries.factors))
        margin = _margin(self.payload, self.dtype, length, float(extent.max()))
        inverse = np.ascontiguousarray(1.0 / np.sqrt(queries.p), dtype=self.dtype)
        return self._outside(queries.factors, coords - self.centre, inverse, margin)

    def _outside(self, factors, coords, scale, margin, spread=None):
        spread = scale if spread is None else spread
        head, tail, blunt = split(factors, self.basis, self.head.shape[1], scale, spread, margin, self.dtype)
        return Outside(
            head=head,
            tail=tail,
            coords=np.ascontiguousarray(coords, dtype=self.dtype),
            scale=np.ascontiguousarray(scale, dtype=self.dtype),
            spread=np.ascontiguousarray(spread, dtype=self.dtype),
            blunt=blunt,
            margin=margin,
        )

    def lens(self, queries, most, external=None):
        """A `covertreex._core.screen.Lens`, one thread's, for groups of at most `most` of `queries`; `external` is what
        `of_queries` makes of these, if it is at hand.
        """
        from covertreex._core.screen import Lens

        return Lens(self, self.of_queries(queries) if external is None else external, most)

    def shortlist(self, plan, k, cancel, external=None):
        """A plan with one group per query, which holds the rows of `plan` that may be among its k nearest.

        Parameters
        ----------
        plan : ScanPlan
        k : int
            0 for all rows that may be within ``plan.kth_upper``.
        cancel : ndarray, shape (1,), int32
        external : tuple, optional
            What `of_queries` makes of the queries, if it is at hand: it is the same for all parts of a block.

        Returns
        -------
        plan : ScanPlan
        counters : dict of str to int
            What the screen did: `gate_rejects` in float32, `gemm_tiles` in float64, `canonical_rechecks`.
        """
        from covertreex._core.canonical import PayloadView
        from covertreex._core.screen import Screener

        queries, most = plan.queries, int(np.max(np.diff(plan.group_ptr), initial=0))
        lens = self.lens(queries, most, external)
        screener = Screener(lens, lens, None, queries, PayloadView(self.payload), k, most, cancel)
        _, counts = screener.sweep(plan, 0, least_rho(plan.kth_upper))
        short = plans.plan_of_lists(queries, counts, screener.take(), plan.kth_upper)
        return short, self.counters(screener, len(short.run_start))

    def counters(self, screener, survivors):
        """What a screener has done since it was last asked, by name."""
        pairs, panels = screener.counted()
        counters = {"canonical_rechecks": survivors}
        if self.dtype is np.float32:
            counters["gate_rejects"] = pairs - survivors
        else:
            counters["gemm_tiles"] = panels
        return counters


@dataclass(frozen=True, eq=False)
class MixedScreen(Screen):
    """See `make_mixed`. `head` is in float64, `tail` in float32, and all pairs are multiplied in both."""

    @property
    def pair_cost(self):
        """float: nanoseconds of one core that a pair is expected to take."""
        return self.head.shape[1] * PRODUCT64 + self.tail.shape[1] * PRODUCT32 + KERNEL64 + LOOK

    @property
    def name(self):
        """str: how people call it."""
        return f"float64, {self.tail.shape[1]} components float32"

    def of_queries(self, queries):
        """As `Screen.of_queries`."""
        whole = super().of_queries(queries)
        sharp = self.payload.screen64
        raised = max(1.0, whole.margin / sharp.margin)
        tail = whole.tail.astype(np.float32)
        spread = _tail_spread(tail, whole.scale, sharp.margin)
        return replace(whole, tail=tail, spread=spread, blunt=np.sqrt(raised) * spread, margin=raised)


def make_mixed(payload, n_threads=1):
    """A screen in float64 but for the last components: they are small, and so is what they lose in float32 (C5).

    Returns
    -------
    MixedScreen or None
        None where too many components are large.
    """
    sharp, (n, m) = payload.screen64, payload.factors.shape
    if sharp is None or n < MIXED_ROWS or m < 64:
        return None
    some = slice(0, n, max(1, n // MIXED_ROWS))
    sixteens = payload.factors[some].reshape(-1, m // 16, 16)
    left = np.cumsum(np.einsum("ijk,ijk->ij", sixteens, sixteens)[:, :0:-1], axis=1)[:, ::-1] / payload.p[some, None]
    starts = np.arange(16, m, 16)
    enough = starts[np.median(left, axis=0) * _rounded(m - starts) < MIXED_DOUBT]
    if len(enough) == 0 or enough[0] > LEADING * m:
        return None
    leading = int(enough[0])
    tail, spread = np.empty((n, m - leading), dtype=np.float32), np.empty(n)

    def part(begin, end):
        rows = slice(begin, end)
        tail[rows] = payload.factors[rows, leading:]
        spread[rows] = _tail_spread(tail[rows], sharp.scale[rows], sharp.margin)

    parallel.run([partial(part, *rows) for rows in parallel.spans(n, MIXED_ROWS)], n_threads)
    same = {field.name: getattr(sharp, field.name) for field in fields(Screen)}
    changed = {"head": payload.factors[:, :leading], "tail": tail, "spread": spread, "blunt": spread, "margin": 1.0}
    return MixedScreen(**{**same, **changed})


def _tail_spread(tail, scale, margin):
    """The spread that components in float32 and a margin of the others make (C5)."""
    left = np.einsum("ij,ij->i", tail, tail) * (1.0 + 1e-4) * _rounded(tail.shape[1])
    return np.sqrt(margin + left) * scale * WIDER


def _rounded(count):
    """C5: what the product of `count` float32 components may be off by, as a multiple of both norms."""
    return (count + 16.0) * float(np.finfo(np.float32).eps)


def make_screen(payload, dtype, n_threads=1, turned=False):
    """A screen of a payload; a payload keeps those that were made (`PayloadStore.kept`).

    Parameters
    ----------
    payload : PayloadStore
    dtype : type
    n_threads : int
    turned : bool
        Whether factors may be turned, in float32. What a screen finds does not depend on that, but the last digits of
        its ``|rho|`` do, and these come from LAPACK: with a recall target they would tell where to stop.

    Returns
    -------
    Screen or None
        None for Euclidean, which has its own, and where `dtype` is too coarse.
    """
    if payload.metric == EUCLIDEAN:
        return None
    length = longest_square(payload.factors) if payload.longest is None else payload.longest
    margin = _margin(payload, dtype, length, float(np.max(np.ptp(payload.coords, axis=0), initial=0.0)))
    if not margin / float(np.median(payload.p)) <= BLUR:  # NaN where factors from a file are no numbers
        return None
    inverse = np.ascontiguousarray(1.0 / np.sqrt(payload.p), dtype=dtype)
    if dtype is np.float64:
        basis, head, tail, blunt = None, payload.factors, payload.factors[:, :0], np.sqrt(margin) * inverse * WIDER
    else:
        basis, head, tail, blunt = split_all(
            len(payload), payload.factors.__getitem__, inverse, inverse, margin, dtype, n_threads, turned
        )
    centre = 0.5 * (payload.coords.min(axis=0) + payload.coords.max(axis=0))
    return Screen(
        payload=payload,
        dtype=dtype,
        centre=centre,
        kernel_code=payload.kernel_code,
        head=head,
        tail=tail,
        coords=np.ascontiguousarray(payload.coords - centre, dtype=dtype),
        scale=inverse,
        spread=inverse,
        blunt=blunt,
        basis=basis,
        turned=turned,
        length=length,
        margin=margin,
        floor=16.0 * float(np.finfo(dtype).eps),
    )


def turn(n, factors, scale):
    """An orthonormal basis of which a few leading components hold most of `n` factors, each times its `scale`.

    Parameters
    ----------
    n : int
    factors : callable
        Takes a slice of ``range(n)`` and returns these factors.
    scale : ndarray, shape (n,)

    Returns
    -------
    basis : ndarray, shape (m, m), or None
        None where turning does not pay.
    leading : int
        How many components leave less than `DOUBT` of a typical ``scale**2 |v|**2``; a multiple of 16.
    """
    m = factors(slice(0, 0)).shape[1]
    if n < WORTH_TURNING * m or m < 64:
        return None, m
    rows = slice(0, n, max(1, n // (4 * m)))
    some = factors(rows) * scale[rows, None].astype(np.float64)
    _, basis = np.linalg.eigh(some.T @ some)
    basis = basis[:, ::-1]
    left = np.cumsum(np.square(some[::4] @ basis)[:, ::-1], axis=1)[:, ::-1]
    enough = np.flatnonzero(np.median(left[:, ::16], axis=0) < DOUBT)
    leading = 16 * int(enough[0]) if len(enough) else m
    if leading > LEADING * m:
        return None, m
    return np.ascontiguousarray(basis), leading


def split_all(n, factors, scale, spread, margin, dtype, n_threads, turned=True):
    """`turn`, if wanted, and `split` of all rows.

    Returns
    -------
    basis, head, tail, blunt
    """
    with parallel.one_blas_thread():
        m = factors(slice(0, 0)).shape[1]
        basis, leading = turn(n, factors, scale) if turned else (None, m)
        head, tail = np.empty((n, leading), dtype=dtype), np.empty((n, m - leading), dtype=dtype)
        blunt = np.empty(n, dtype=dtype)

        def part(begin, end):
            rows = slice(begin, end)
            if basis is None:
                head[rows], blunt[rows] = factors(rows), np.sqrt(margin) * spread[rows] * WIDER
            else:
                head[rows], tail[rows], blunt[rows] = split(
                    factors(rows), basis, leading, scale[rows], spread[rows], margin, dtype
                )

        parallel.run([partial(part, *rows) for rows in parallel.spans(n, PART)], n_threads)
    return basis, head, tail, blunt


def split(factors, basis, leading, scale, spread, margin, dtype):
    """Factors in a basis, their first components and the others, and how far off the first alone may be (C4).

    Returns
    -------
    head, tail : ndarray, shapes (n, leading) and (n, m - leading)
    blunt : ndarray, shape (n,)
    """
    turned = factors if basis is None else factors @ basis.astype(factors.dtype)
    head, tail = turned[:, :leading], turned[:, leading:]
    left = np.einsum("ij,ij->i", tail, tail, dtype=np.float64) * np.square(scale, dtype=np.float64)
    blunt = np.sqrt(margin * np.square(spread, dtype=np.float64) + left) * WIDER
    return (np.ascontiguousarray(part, dtype=dtype) for part in (head, tail, blunt))


def least_rho(kth_upper):
    """C2: a k-th distance of at most `kth_upper` is a k-th ``|rho|`` of at least this (elementwise)."""
    return 1.0 - kth_upper * kth_upper * (1.0 + 1e-15) - 1e-14


def _margin(payload, dtype, length, extent):
    """C1: error of the numerator ``k - v.v`` in `dtype` and in canonical arithmetic together."""
    u = np.finfo(dtype).eps / 2
    m, d = payload.factors.shape[1], payload.coords.shape[1]
    dot = (m + 16) * length
    kernel = payload.variance * (2.0 * extent * np.sqrt(d) + d + 40.0)
    return 2.0 * u * (dot + kernel)
