"""Screens: make a scan plan smaller by a cheap, rigorous look at every pair (docs/mathematics.md, C1 and C2)."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from covertreex import parallel, plans
from covertreex.kernels import RationalQuadratic
from covertreex.payload import EUCLIDEAN, PayloadStore

#: A query farther than this from all data, in lengthscales, is moved nearer: no kernel is above 1e-43 out there, except
#: the rational quadratic.
FAR = 100.0

#: Rows that are copied in one task.
PART = 8192

#: float32 is precise enough where it blurs the |rho| of a typical pair by less than this.
BLUR = 1e-2


#: Nanoseconds of one core (AVX2, 3 GHz) that a pair takes: per component in float32 and in float64, for its kernel in
#: float32 and in float64, and for a look. Only their ratios matter, and only for what is faster.
PRODUCT32, PRODUCT64, KERNEL32, KERNEL64, LOOK = 0.0235, 0.047, 1.7, 4.0, 0.8


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
        The kernel, as canonical arithmetic numbers it; -1 for none, where factors are whitened.
    factors, coords, scale, spread : ndarray
        Factors (n, m), centred coordinates (n, d), and what a pair's value is multiplied by and may be off by, in
        `dtype`: ``|rho|`` is within ``margin * spread_i * spread_j + floor`` of
        ``scale_i * scale_j * |k(x_i, x_j) - v_i . v_j|`` (C1).
    length : float
        The largest ``|v|**2``.
    margin, floor : float
    """

    payload: PayloadStore
    dtype: type
    centre: np.ndarray
    kernel_code: int
    factors: np.ndarray
    coords: np.ndarray
    scale: np.ndarray
    spread: np.ndarray
    length: float
    margin: float
    floor: float

    #: Numbers of pivots that a `covertreex.whitening.WhitenedScreen` tried; others have none.
    tried = ()

    @property
    def pair_cost(self):
        """float: nanoseconds of one core that a pair is expected to take."""
        m = self.factors.shape[1]
        if self.dtype is np.float32:
            return m * PRODUCT32 + KERNEL32 + LOOK
        return m * PRODUCT64 + KERNEL64 + LOOK

    @property
    def name(self):
        """str: how people call it."""
        return np.dtype(self.dtype).name

    def of_queries(self, queries):
        """Factors, coordinates, scale and spread of external queries, in the screen's precision; their margin.

        The margin (C1) is larger than that of the data where their factors are longer or they lie outside.
        """
        if len(queries.p) == 0:
            none = np.zeros(0, self.dtype)
            return queries.factors.astype(self.dtype), queries.coords.astype(self.dtype), none, none, 0.0
        low, high = self.payload.coords.min(axis=0), self.payload.coords.max(axis=0)
        far = np.inf if isinstance(self.payload.kernel, RationalQuadratic) else FAR
        coords = np.clip(queries.coords, low - far, high + far)
        extent = np.maximum(high, coords.max(axis=0)) - np.minimum(low, coords.min(axis=0))
        margin = _margin(self.payload, self.dtype, max(self.length, _longest(queries.factors)), float(extent.max()))
        inverse = np.ascontiguousarray(1.0 / np.sqrt(queries.p), dtype=self.dtype)
        return (
            np.ascontiguousarray(queries.factors, dtype=self.dtype),
            np.ascontiguousarray(coords - self.centre, dtype=self.dtype),
            inverse,
            inverse,
            margin,
        )

    def lens(self, queries, most, external=None):
        """A `covertreex._core.screen.Lens`, one thread's, for groups of at most `most` of `queries`."""
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


def make_screen(payload, dtype, n_threads=1):
    """A screen of a payload; `PayloadStore.screen32` and `screen64` keep theirs.

    Returns
    -------
    Screen or None
        None for Euclidean, which has its own, and where `dtype` is too coarse.
    """
    if payload.metric == EUCLIDEAN:
        return None
    length = _longest(payload.factors)
    margin = _margin(payload, dtype, length, float(np.max(np.ptp(payload.coords, axis=0), initial=0.0)))
    if not margin / float(np.median(payload.p)) <= BLUR:  # NaN where factors from a file are no numbers
        return None
    factors = payload.factors
    if dtype is not np.float64:
        factors = np.empty(payload.factors.shape, dtype=dtype)

        def copy(begin, end):
            factors[begin:end] = payload.factors[begin:end]

        parallel.run([partial(copy, *part) for part in parallel.spans(len(factors), PART)], n_threads)
    centre = 0.5 * (payload.coords.min(axis=0) + payload.coords.max(axis=0))
    inverse = np.ascontiguousarray(1.0 / np.sqrt(payload.p), dtype=dtype)
    return Screen(
        payload=payload,
        dtype=dtype,
        centre=centre,
        kernel_code=payload.kernel_code,
        factors=factors,
        coords=np.ascontiguousarray(payload.coords - centre, dtype=dtype),
        scale=inverse,
        spread=inverse,
        length=length,
        margin=margin,
        floor=16.0 * float(np.finfo(dtype).eps),
    )


def least_rho(kth_upper):
    """C2: a k-th distance of at most `kth_upper` is a k-th ``|rho|`` of at least this (elementwise)."""
    return 1.0 - kth_upper * kth_upper * (1.0 + 1e-15) - 1e-14


def _longest(factors):
    return float(np.max(np.einsum("ij,ij->i", factors, factors), initial=0.0))


def _margin(payload, dtype, length, extent):
    """C1: error of the numerator ``k - v.v`` in `dtype` and in canonical arithmetic together."""
    u = np.finfo(dtype).eps / 2
    m, d = payload.factors.shape[1], payload.coords.shape[1]
    dot = (m + 16) * length
    kernel = payload.variance * (2.0 * extent * np.sqrt(d) + d + 40.0)
    return 2.0 * u * (dot + kernel)
