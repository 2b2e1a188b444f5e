"""Screens in one precision: all pairs are looked at in float32 or in float64 (docs/mathematics.md, C1, C2 and C4)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Lens, Screener
from covertreex.base import parallel, tuning
from covertreex.base.contract import CALLED
from covertreex.data.payload import EUCLIDEAN, PayloadStore, longest_square
from covertreex.protocols import QueryBlock, margin

#: Numbers in the precision of a screen: float32 or float64.
Numbers = NDArray[np.floating[Any]]

#: A query farther than this from all data, in lengthscales, is moved nearer, if correlations are at most so much out
#: there: no more than float32 can hold (docs/mathematics.md, C1). They fall with distance.
FAR, GONE = 100.0, 1e-43

#: Bounds are made larger by this factor, for their own rounding.
WIDER = 1.0 + 1e-5


@dataclass(frozen=True, eq=False)
class Outside:
    """What a `Screen` needs of queries that are no rows of the payload: as its own, see there."""

    head: Numbers
    tail: Numbers
    coords: Numbers
    scale: Numbers
    spread: Numbers
    blunt: Numbers
    margin: float


@dataclass(frozen=True, eq=False)
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
    head, tail : ndarray, shapes (n, h) and (n, t)
        Factors, in `dtype`: the components that all pairs are multiplied in, and those for pairs left in doubt.
    coords, scale, spread : ndarray
        Centred coordinates (n, d), and what a pair's value is multiplied by and may be off by, in `dtype`: ``|rho|`` is
        within ``margin * spread_i * spread_j + floor`` of ``scale_i * scale_j * |k(x_i, x_j) - v_i . v_j|`` (C1).
    blunt : ndarray, shape (n,)
        Without the tail it may be off by ``blunt_i * blunt_j + floor`` (C4).
    basis : ndarray, shape (m, m), or None
        What factors were multiplied by, so that the first components hold most of them (`turn`); None for nothing.
    length : float
        The largest ``|v|**2``.
    margin, floor : float
    """

    payload: PayloadStore
    dtype: type
    centre: NDArray[np.float64]
    kernel_code: int
    head: Numbers
    tail: Numbers
    coords: Numbers
    scale: Numbers
    spread: Numbers
    blunt: Numbers
    basis: NDArray[np.float64] | None
    length: float
    margin: float
    floor: float

    #: Whether it is too blunt for queries that have no threshold yet.
    needs_thresholds: ClassVar[bool] = False

    @property
    def pair_cost(self) -> float:
        """float: nanoseconds of one core that a pair is expected to take."""
        m = int(self.head.shape[1])
        if self.dtype is np.float32:
            return m * tuning.PRODUCT32 + tuning.KERNEL32 + tuning.LOOK
        return m * tuning.PRODUCT64 + tuning.KERNEL64 + tuning.LOOK

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
        self,
        factors: NDArray[np.float64],
        coords: NDArray[np.float64],
        scale: Numbers,
        margin: float,
        spread: Numbers | None = None,
    ) -> Outside:
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


def make_screen(payload: PayloadStore, dtype: type, n_threads: int = 1, turned: bool = False) -> Screen | None:
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
        None for Euclidean, which has its own, where `dtype` is too coarse, and where only a function of the caller's
        knows the covariance.
    """
    if payload.metric == EUCLIDEAN or payload.kernel_code == CALLED:
        return None
    length = longest_square(payload.factors) if payload.longest is None else payload.longest
    low, high = payload.corners
    margin = _margin(payload, dtype, length, float(np.max(high - low, initial=0.0)))
    if not margin / float(np.median(payload.p)) <= tuning.BLUR:  # NaN where factors from a file are no numbers
        return None
    inverse: Numbers = np.ascontiguousarray(1.0 / np.sqrt(payload.p), dtype=dtype)
    basis: NDArray[np.float64] | None
    head: Numbers
    tail: Numbers
    blunt: Numbers
    if dtype is np.float64:
        basis, head, tail, blunt = None, payload.factors, payload.factors[:, :0], np.sqrt(margin) * inverse * WIDER
    else:
        basis, head, tail, blunt = split_all(
            len(payload), payload.factors.__getitem__, inverse, inverse, margin, dtype, n_threads, turned
        )
    centre = 0.5 * (low + high)
    return Screen(
        payload=replace(payload),
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
        length=length,
        margin=margin,
        floor=16.0 * float(np.finfo(dtype).eps),
    )


def turn(n: int, factors: Callable[[slice], Numbers], scale: Numbers) -> tuple[NDArray[np.float64] | None, int]:
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
        How many components leave less than `tuning.DOUBT` of a typical ``scale**2 |v|**2``; a multiple of 16.
    """
    m = factors(slice(0, 0)).shape[1]
    if n < tuning.WORTH_TURNING * m or m < 64:
        return None, m
    rows = slice(0, n, max(1, n // (4 * m)))
    some = factors(rows) * scale[rows, None].astype(np.float64)
    _, basis = np.linalg.eigh(some.T @ some)
    basis = basis[:, ::-1]
    left = np.cumsum(np.square(some[::4] @ basis)[:, ::-1], axis=1)[:, ::-1]
    enough = np.flatnonzero(np.median(left[:, ::16], axis=0) < tuning.DOUBT)
    leading = 16 * int(enough[0]) if len(enough) else m
    if leading > tuning.LEADING * m:
        return None, m
    return np.ascontiguousarray(basis), leading


def split_all(
    n: int,
    factors: Callable[[slice], Numbers],
    scale: Numbers,
    spread: Numbers,
    margin: float,
    dtype: type,
    n_threads: int,
    turned: bool = True,
) -> tuple[NDArray[np.float64] | None, Numbers, Numbers, Numbers]:
    """`turn`, if wanted, and `split` of all rows.

    Returns
    -------
    basis, head, tail, blunt
    """
    with parallel.one_blas_thread():
        m = factors(slice(0, 0)).shape[1]
        basis, leading = turn(n, factors, scale) if turned else (None, m)
        head: Numbers = np.empty((n, leading), dtype=dtype)
        tail: Numbers = np.empty((n, m - leading), dtype=dtype)
        blunt: Numbers = np.empty(n, dtype=dtype)

        def part(begin: int, end: int) -> None:
            rows = slice(begin, end)
            if basis is None:
                head[rows], blunt[rows] = factors(rows), np.sqrt(margin) * spread[rows] * WIDER
            else:
                head[rows], tail[rows], blunt[rows] = split(
                    factors(rows), basis, leading, scale[rows], spread[rows], margin, dtype
                )

        parallel.run([partial(part, *rows) for rows in parallel.spans(n, tuning.COPY_PART)], n_threads)
    return basis, head, tail, blunt


def split(
    factors: Numbers,
    basis: NDArray[np.float64] | None,
    leading: int,
    scale: Numbers,
    spread: Numbers,
    margin: float,
    dtype: type,
) -> tuple[Numbers, Numbers, Numbers]:
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
    head, tail, blunt = (np.ascontiguousarray(part, dtype=dtype) for part in (head, tail, blunt))
    return head, tail, blunt


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
