"""Screens in one precision: all pairs are looked at in float32 or in float64 (docs/mathematics.md, C1 and C2)."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Lens, Screener
from covertreex.base import parallel, tuning
from covertreex.base.contract import CALLED
from covertreex.data.payload import EUCLIDEAN, PayloadStore, longest_square
from covertreex.protocols import QueryBlock, margin

#: Numbers in the precision of a screen: float32 or float64.
Numbers = NDArray[np.floating[Any]]

#: Components of factors: in the same, or whole numbers of eight bits or sixteen.
Components = NDArray[np.floating[Any]] | NDArray[np.int8] | NDArray[np.int16]

#: A query farther than this from all data, in lengthscales, is moved nearer, if correlations are at most so much out
#: there: no more than float32 can hold (docs/mathematics.md, C1). They fall with distance.
FAR, GONE = 100.0, 1e-43

#: Components in float32 that are smaller are taken for 0 (C1): products of two such would be subnormal numbers, each of
#: which takes a processor a hundred times as long as another. Factors of points far from inducing points have many.
FAINT = 2.0**-62

#: Bounds are made larger by this factor, for their own rounding.
WIDER = 1.0 + 1e-5


def _no_steps() -> NDArray[np.float32]:
    return np.zeros(0, dtype=np.float32)


def _no_sums() -> NDArray[np.int32]:
    return np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, eq=False, kw_only=True)
class Outside:
    """What a `Screen` needs of queries that are no rows of the payload: as its own, see there."""

    head: Components
    tail: Numbers
    coords: Numbers
    scale: Numbers
    spread: Numbers
    blunt: Numbers
    steps: NDArray[np.float32] = field(default_factory=_no_steps)
    sums: NDArray[np.int32] = field(default_factory=_no_sums)
    margin: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Screen:
    """A payload in the precision of a screen, and how far the screen may be off.

    Attributes
    ----------
    payload : PayloadStore
        With the arrays of the one that keeps this screen. Not that one itself: in a circle, it would stay in memory
        when nobody has it any more, until somebody looks for circles.
    dtype : type
        float32 or float64.
    centre : ndarray, shape (d,)
        Subtracted from coordinates, so that float32 keeps their differences.
    kernel_code : int
        The kernel, as canonical arithmetic numbers it; `NO_KERNEL` where factors are whitened.
    head : ndarray, shape (n, h)
        Factors, in `dtype` or whole numbers: the components that all pairs are multiplied in.
    tail : ndarray, shape (n, t), float32
        Such as follow them, and are multiplied too (C5).
    coords, scale, spread : ndarray
        Centred coordinates (n, d), and what a pair's value is multiplied by and may be off by, in `dtype`: ``|rho|`` is
        within ``margin * spread_i * spread_j + floor`` of ``scale_i * scale_j * |k(x_i, x_j) - v_i . v_j|`` (C1).
    blunt : ndarray, shape (n,)
        What all pairs are looked at with may be off by ``blunt_i * blunt_j + floor`` (C4, C5).
    steps, sums : ndarray, shape (n,), float32 and int32
        Of whole numbers: what the components of a row are multiples of, and, of eight bits, their sum. Else empty.
    length : float
        The largest ``|v|**2``.
    margin, floor : float
    fine : Screen or None
        What looks again at pairs that it leaves in doubt, before float64 does, and first for queries that have no
        threshold yet; None where it needs no other.
    """

    payload: PayloadStore
    dtype: type
    centre: NDArray[np.float64]
    kernel_code: int
    head: Components
    tail: Numbers
    coords: Numbers
    scale: Numbers
    spread: Numbers
    blunt: Numbers
    steps: NDArray[np.float32] = field(default_factory=_no_steps)
    sums: NDArray[np.int32] = field(default_factory=_no_sums)
    length: float
    margin: float
    floor: float
    fine: "Screen | None" = None

    @property
    def pair_cost(self) -> float:
        """float: nanoseconds of one core that a pair is expected to take."""
        m = int(self.head.shape[1])
        if self.dtype is np.float32:
            return cost_in_single(m, tuning.PRODUCT32)
        return m * tuning.PRODUCT64 + tuning.KERNEL64 + tuning.LOOK

    @property
    def blur(self) -> float:
        """float: what it may have wrong of ``|rho|``, about, times the scales of a pair; 0 where that is never much."""
        return 0.0

    @property
    def name(self) -> str:
        """str: how people call it."""
        return "float32" if self.dtype is np.float32 else "float64"

    @property
    def tried(self) -> tuple[tuple[int, float], ...]:
        """tuple of (int, float): numbers of pivots that a whitened screen tried, and what a pair costs with each."""
        return ()

    def of_queries(self, queries: QueryBlock) -> Outside:
        """What the screen needs of external queries.

        Returns
        -------
        Outside
            Its margin (C1) is larger than that of the data where their factors are longer or they lie outside.
        """
        if len(queries.p) == 0:
            return self._outside(queries.factors, queries.coords, queries.p, 0.0)
        low, high = self.payload.corners
        far = FAR if _is_gone(self.payload) else np.inf
        coords = np.clip(queries.coords, low - far, high + far)
        extent = np.maximum(high, coords.max(axis=0)) - np.minimum(low, coords.min(axis=0))
        length = max(self.length, longest_square(queries.factors))
        margin = _margin(self.payload, self.dtype, length, float(extent.max()))
        inverse: Numbers = np.ascontiguousarray(1.0 / np.sqrt(queries.p), dtype=self.dtype)
        return self._outside(queries.factors, coords - self.centre, inverse, margin)

    def _outside(
        self, factors: NDArray[np.float64], coords: NDArray[np.float64], scale: Numbers, margin: float
    ) -> Outside:
        return Outside(
            head=in_single(factors) if self.dtype is np.float32 else np.ascontiguousarray(factors, dtype=self.dtype),
            tail=np.zeros((len(factors), 0), dtype=np.float32),
            coords=np.ascontiguousarray(coords, dtype=self.dtype),
            scale=np.ascontiguousarray(scale, dtype=self.dtype),
            spread=np.ascontiguousarray(scale, dtype=self.dtype),
            blunt=np.ascontiguousarray(np.sqrt(margin) * scale * WIDER, dtype=self.dtype),
            margin=margin,
        )

    def lens(self, queries: QueryBlock, most: int, outside: Outside | None = None) -> Lens:
        """One thread's lens for groups of at most `most` of `queries`; `outside` is what `of_queries` makes of these,
        if it is at hand.
        """
        return Lens(self, self.of_queries(queries) if outside is None else outside, most)

    def counters(self, screener: Screener, survivors: int) -> dict[str, int]:
        """What a screener has done since it was last asked, by name."""
        pairs, panels = screener.counted()
        counters = {"canonical_rechecks": survivors}
        if self.dtype is np.float32:
            counters["gate_rejects"] = pairs - survivors
        else:
            counters["gemm_tiles"] = panels
        return counters


def make_screen(payload: PayloadStore, dtype: type, n_threads: int = 1) -> Screen | None:
    """A screen of a payload; a payload keeps those that were made (`PayloadStore.kept`).

    Parameters
    ----------
    payload : PayloadStore
    dtype : type
    n_threads : int

    Returns
    -------
    Screen or None
        None for Euclidean, which has its own, where `dtype` is too coarse, and where only a function of the caller's
        knows the covariance.
    """
    margin = margin_of_rows(payload, dtype)
    if not sees(payload, margin):
        return None
    head = payload.factors if dtype is np.float64 else _copied(payload.factors, n_threads)
    return Screen(head=head, **besides_factors(payload, dtype, margin))


def margin_of_rows(payload: PayloadStore, dtype: type) -> float:
    """C1, of the data; NaN for Euclidean and where only a function of the caller's knows the covariance."""
    if payload.metric == EUCLIDEAN or payload.kernel_code == CALLED:
        return np.nan
    low, high = payload.corners
    return _margin(payload, dtype, length_of(payload), float(np.max(high - low, initial=0.0)))


def length_of(payload: PayloadStore) -> float:
    """The largest ``|v|**2`` of the data."""
    return longest_square(payload.factors) if payload.longest is None else payload.longest


def sees(payload: PayloadStore, margin: float) -> bool:
    """Whether a screen of this margin tells enough of a typical pair."""
    # Factors from a file may be no numbers either.
    return not np.isnan(margin) and bool(margin / float(np.median(payload.p)) <= tuning.BLUR)


def besides_factors(payload: PayloadStore, dtype: type, margin: float) -> dict[str, Any]:
    """What a `Screen` of this margin has that is neither factors nor of whole numbers."""
    inverse: Numbers = np.ascontiguousarray(1.0 / np.sqrt(payload.p), dtype=dtype)
    centre = 0.5 * (payload.corners[0] + payload.corners[1])
    return {
        "payload": replace(payload),
        "dtype": dtype,
        "centre": centre,
        "kernel_code": payload.kernel_code,
        "tail": np.zeros((len(payload), 0), dtype=np.float32),
        "coords": np.ascontiguousarray(payload.coords - centre, dtype=dtype),
        "scale": inverse,
        "spread": inverse,
        "blunt": np.ascontiguousarray(np.sqrt(margin) * inverse * WIDER, dtype=dtype),
        "length": length_of(payload),
        "margin": margin,
        "floor": 16.0 * float(np.finfo(dtype).eps),
    }


def cost_in_single(components: int, product: float) -> float:
    """Nanoseconds of one core that a pair is expected to take, where all but the products is in float32."""
    return components * product + tuning.KERNEL32 + tuning.LOOK


def blind(asked: Numbers, scale: Numbers, blur: float) -> NDArray[np.bool_]:
    """Which queries, of scales `asked`, a screen of rows of `scale` tells nothing of: so little is left of their
    variance that it can drop no row, as ``|rho|`` may be off by `blur` times the scales of a pair.
    """
    found: NDArray[np.bool_] = asked * float(np.median(scale)) * blur > tuning.BLIND
    return found


def in_single(factors: Components) -> NDArray[np.float32]:
    """Factors in float32, without what is `FAINT`."""
    single = factors.astype(np.float32, order="C")
    single *= np.abs(single) >= FAINT
    return single


def _copied(factors: NDArray[np.float64], n_threads: int) -> NDArray[np.float32]:
    copy = np.empty(factors.shape, dtype=np.float32)

    def part(begin: int, end: int) -> None:
        copy[begin:end] = in_single(factors[begin:end])

    spans = parallel.spans(len(copy), tuning.COPY_PART)
    parallel.run([partial(part, *rows) for rows in spans], n_threads, brief=len(spans) == 1)
    return copy


def _is_gone(payload: PayloadStore) -> bool:
    """Whether the kernel has no tail that reaches beyond `FAR`."""
    return payload.covariance.beyond(FAR) <= GONE


def least_rho(kth_upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """C2: a k-th distance of at most `kth_upper` is a k-th ``|rho|`` of at least this (elementwise)."""
    return 1.0 - kth_upper * kth_upper * (1.0 + 1e-15) - 1e-14


def _margin(payload: PayloadStore, dtype: type, length: float, extent: float) -> float:
    """C1, of a screen in `dtype`."""
    m, d = payload.factors.shape[1], payload.coords.shape[1]
    return margin(payload.covariance, m, d, length, extent, float(np.finfo(dtype).eps) / 2)
