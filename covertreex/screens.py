"""Screens: make a scan plan smaller by a cheap, rigorous look at every pair (docs/mathematics.md, C1 and C2)."""

from dataclasses import dataclass

import numpy as np

from covertreex.kernels import RationalQuadratic
from covertreex.payload import EUCLIDEAN, PayloadStore
from covertreex.protocols import ScanPlan

#: A query farther than this from all data, in lengthscales, is moved nearer: no kernel is above 1e-43 out there.
FAR = 100.0

#: float32 is precise enough where it blurs the |rho| of a typical pair by less than this.
BLUR = 1e-2


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
    factors, coords, inverse : ndarray
        Factors (n, m), centred coordinates (n, d) and ``1 / sqrt(p)`` (n,) in `dtype`.
    length : float
        The largest ``|v|**2``.
    margin, floor : float
        C1: ``|rho|`` is off by at most ``margin * inverse_i * inverse_j + floor``.
    """

    payload: PayloadStore
    dtype: type
    centre: np.ndarray
    factors: np.ndarray
    coords: np.ndarray
    inverse: np.ndarray
    length: float
    margin: float
    floor: float

    def of_queries(self, queries):
        """Factors, coordinates and inverse of a block's external queries, in the screen's precision; their margin.

        The margin (C1) is larger than that of the data where their factors are longer or they lie outside.
        """
        if len(queries.p) == 0:
            return queries.factors.astype(self.dtype), queries.coords.astype(self.dtype), np.zeros(0, self.dtype), 0.0
        low, high = self.payload.coords.min(axis=0), self.payload.coords.max(axis=0)
        coords = np.clip(queries.coords, low - FAR, high + FAR)
        extent = np.maximum(high, coords.max(axis=0)) - np.minimum(low, coords.min(axis=0))
        margin = _margin(self.payload, self.dtype, max(self.length, _longest(queries.factors)), float(extent.max()))
        return (
            np.ascontiguousarray(queries.factors, dtype=self.dtype),
            np.ascontiguousarray(coords - self.centre, dtype=self.dtype),
            np.ascontiguousarray(1.0 / np.sqrt(queries.p), dtype=self.dtype),
            margin,
        )

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
        from covertreex._core.screen import screen

        payload, queries = self.payload, plan.queries
        *data, margin = self.of_queries(queries) if external is None else external
        ptr, rows, compared, panels = screen(
            self.factors, self.coords, self.inverse, payload.kernel_code, payload.variance, max(self.margin, margin),
            self.floor, data, plan, PayloadView(payload), k, cancel,
        )  # fmt: skip
        q = len(queries)
        counters = {"canonical_rechecks": len(rows)}
        if self.dtype is np.float32:
            counters["gate_rejects"] = compared - len(rows)
        else:
            counters["gemm_tiles"] = panels
        short = ScanPlan(
            queries=queries,
            group_ptr=np.arange(q + 1, dtype=np.int64),
            run_ptr=ptr,
            run_start=rows,
            run_stop=rows + 1,
            run_lower=np.zeros(len(rows)),
            kth_upper=plan.kth_upper,
        )
        return short, counters


def make_screen(payload, dtype):
    """A screen of a payload; `PayloadStore.screen32` and `screen64` keep theirs.

    Returns
    -------
    Screen or None
        None for Euclidean, which needs none, for rational quadratic, which has none, and where `dtype` is too coarse.
    """
    if payload.metric == EUCLIDEAN or isinstance(payload.kernel, RationalQuadratic):
        return None
    length = _longest(payload.factors)
    margin = _margin(payload, dtype, length, float(np.max(np.ptp(payload.coords, axis=0), initial=0.0)))
    if not margin / float(np.median(payload.p)) <= BLUR:  # NaN where factors from a file are no numbers
        return None
    centre = 0.5 * (payload.coords.min(axis=0) + payload.coords.max(axis=0))
    return Screen(
        payload=payload,
        dtype=dtype,
        centre=centre,
        factors=payload.factors if dtype is np.float64 else payload.factors.astype(dtype),
        coords=np.ascontiguousarray(payload.coords - centre, dtype=dtype),
        inverse=np.ascontiguousarray(1.0 / np.sqrt(payload.p), dtype=dtype),
        length=length,
        margin=margin,
        floor=16.0 * float(np.finfo(dtype).eps),
    )


def _longest(factors):
    return float(np.max(np.einsum("ij,ij->i", factors, factors), initial=0.0))


def _margin(payload, dtype, length, extent):
    """C1: error of the numerator ``k - v.v`` in `dtype` and in canonical arithmetic together."""
    u = np.finfo(dtype).eps / 2
    m, d = payload.factors.shape[1], payload.coords.shape[1]
    dot = (m * dtype().itemsize / 32 + 16) * length
    kernel = payload.variance * (2.0 * extent * np.sqrt(d) + d + 40.0)
    return 2.0 * u * (dot + kernel)
