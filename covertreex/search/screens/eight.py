"""Screens of eight bits: whole numbers, of which a processor multiplies four times as many as in float32 (C4).

What they leave in doubt another screen looks at again.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import largest_whole
from covertreex.base import parallel, tuning
from covertreex.data.payload import PayloadStore
from covertreex.search.screens.pairs import PairSample, correlations
from covertreex.search.screens.plain import (
    FAINT,
    WIDER,
    Numbers,
    Outside,
    Screen,
    blind,
    cost_in_single,
    margin_of_rows,
)

#: What components are multiples of, at least: queries far from all data have none to speak of, and products of two such
#: would be subnormal numbers (`FAINT`).
LEAST_STEP = FAINT

#: What screens of eight bits may have wrong of a kernel, as a share of its variance.
COARSE = 1.2e-4


class Bytes(NamedTuple):
    """Factors in eight bits: as those of a `Screen`, see there."""

    head: NDArray[np.int8]
    steps: NDArray[np.float32]
    sums: NDArray[np.int32]
    blunt: NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class EightBitScreen(Screen):
    """See `make_eight`. What is no product is in float32.

    Attributes
    ----------
    basis : ndarray, shape (m, m)
        What factors were multiplied by before they were rounded (`turn`).
    largest : int
        The largest component there may be.
    kernel_error : float
        What it has wrong of a kernel's values, at most.
    """

    basis: NDArray[np.float64]
    largest: int
    kernel_error: float

    @property
    def pair_cost(self) -> float:
        """float: nanoseconds of one core that a pair is expected to take."""
        return cost_in_single(int(self.head.shape[1]), tuning.PRODUCT8)

    @property
    def blur(self) -> float:
        """float: as `Screen.blur`, the same on all processors."""
        return _blur(self.payload)

    @property
    def name(self) -> str:
        """str: how people call it."""
        return f"8 bits, {self.head.shape[1]} components"

    def _outside(
        self,
        factors: NDArray[np.float64],
        coords: NDArray[np.float64],
        scale: Numbers,
        margin: float,
        spread: Numbers | None = None,
    ) -> Outside:
        spread = scale if spread is None else spread
        leading, margin_of_all = self.head.shape[1], margin + self.kernel_error
        parts = rounded(factors, self.basis, leading, self.largest, scale, spread, margin_of_all)
        return Outside(
            **parts._asdict(),
            tail=np.zeros((len(factors), 0), dtype=np.float32),
            coords=np.ascontiguousarray(coords, dtype=np.float32),
            scale=np.ascontiguousarray(scale, dtype=np.float32),
            spread=np.ascontiguousarray(spread, dtype=np.float32),
            margin=margin,
        )


def make_eight(fine: Screen, n_threads: int = 1) -> EightBitScreen | None:
    """A screen of eight bits.

    Parameters
    ----------
    fine : Screen
        In float32; its factors may be in sixteen bits.
    n_threads : int

    Returns
    -------
    EightBitScreen or None
        None where it would not be faster.
    """
    if not may_be_eight(fine.payload):
        return None
    n, factors, largest = len(fine.payload), fine.payload.factors, largest_whole()
    margin, error = margin_of_rows(fine.payload, fine.dtype), COARSE * fine.payload.variance
    basis, parts = rounded_all(n, factors.__getitem__, largest, fine.scale, fine.scale, margin + error, n_threads)
    same = {field.name: getattr(fine, field.name) for field in fields(Screen)} | {"spread": fine.scale, "fine": fine}
    made = {"basis": basis, "largest": largest, "kernel_error": error, "margin": margin}
    return EightBitScreen(**{**same, **parts._asdict(), **made})


def may_be_eight(payload: PayloadStore) -> bool:
    """Whether there may be a screen of eight bits: the processor is fast at them, and there are enough rows."""
    n, m = payload.factors.shape
    return largest_whole() > 0 and n >= tuning.WORTH_EIGHT * m and m >= tuning.LEAST_EIGHT


def eight_pay(fine: Screen, samples: list[PairSample]) -> bool:
    """Whether pairs as those of a sample cost less in eight bits, and in `fine` where these leave them in doubt.

    The same on all processors. Without a sample, yes.
    """
    payload, scale, left, looked = fine.payload, fine.scale, 0, 0
    blur, columns = _blur(payload), (payload.coords, payload.factors, payload.p)
    for sample in samples:
        asked, rows = scale[sample.queries], scale[sample.rows]
        with parallel.one_blas_thread():
            rho = correlations(payload, sample.queries, *(column[sample.rows] for column in columns))
        doubt = np.abs(rho) + blur * np.outer(asked, rows) >= sample.thresholds[:, None]
        allowed = sample.allowed & ~blind(asked, scale, blur)[:, None]  # the others are not looked at in eight bits
        left += int(np.sum(doubt & allowed))
        looked += int(np.sum(allowed))
    again = left / max(1, looked) * tuning.AGAIN_EIGHT
    return bool(cost_in_single(payload.factors.shape[1], tuning.PRODUCT8) + again < fine.pair_cost)


def _blur(payload: PayloadStore) -> float:
    return 2.0 * lost(127) * payload.variance


def lost(largest: int) -> float:
    """What rounding to whole numbers up to `largest` leaves of a row, as a share of its length, about.

    C4 holds for any number here.
    """
    return 0.85 / largest


def turn(n: int, factors: Callable[[slice], Numbers], scale: Numbers) -> tuple[NDArray[np.float64], int]:
    """An orthonormal basis of which the leading components hold most of `n` factors, each times its `scale`.

    Each holds about as much as any other of them, so that one step suits all.

    Parameters
    ----------
    n : int
    factors : callable
        Takes a slice of ``range(n)`` and returns these factors.
    scale : ndarray, shape (n,)

    Returns
    -------
    basis : ndarray, shape (m, m)
    leading : int
        How many components leave less than `tuning.DOUBT` of a typical ``scale**2 |v|**2``; a multiple of 16.
    """
    m = factors(slice(0, 0)).shape[1]
    rows = slice(0, n, max(1, n // (4 * m)))
    some = factors(rows) * scale[rows, None].astype(np.float64)
    _, basis = np.linalg.eigh(some.T @ some)
    basis = basis[:, ::-1]
    left = np.cumsum(np.square(some[::4] @ basis)[:, ::-1], axis=1)[:, ::-1]
    enough = np.flatnonzero(np.median(left[:, ::16], axis=0) < tuning.DOUBT)
    leading = 16 * int(enough[0]) if len(enough) else m
    mixing, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(leading, leading)))
    return np.hstack([basis[:, :leading] @ mixing, basis[:, leading:]]), leading


def rounded_all(
    n: int,
    factors: Callable[[slice], Numbers],
    largest: int,
    scale: Numbers,
    spread: Numbers,
    margin: float,
    n_threads: int,
) -> tuple[NDArray[np.float64], Bytes]:
    """`turn`, and `rounded` of all rows."""
    with parallel.one_blas_thread():
        basis, leading = turn(n, factors, scale)
        head, steps = np.empty((n, leading), dtype=np.int8), np.empty(n, dtype=np.float32)
        sums, blunt = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.float32)

        def part(begin: int, end: int) -> None:
            rows = slice(begin, end)
            head[rows], steps[rows], sums[rows], blunt[rows] = rounded(
                factors(rows), basis, leading, largest, scale[rows], spread[rows], margin
            )

        parallel.run([partial(part, *rows) for rows in parallel.spans(n, tuning.EIGHT_PART)], n_threads)
    return basis, Bytes(head, steps, sums, blunt)


def rounded(
    factors: Numbers,
    basis: NDArray[np.float64],
    leading: int,
    largest: int,
    scale: Numbers,
    spread: Numbers,
    margin: float,
) -> Bytes:
    """The first components of factors in a basis, rounded to whole numbers up to `largest`, and how far off that may be
    (C4).
    """
    turned: NDArray[Any] = factors @ basis.astype(factors.dtype, copy=False)
    head, tail = turned[:, :leading], turned[:, leading:]
    steps = np.maximum(np.max(np.abs(head), axis=1, initial=0.0) / largest, LEAST_STEP).astype(np.float32)
    share = lost(largest)
    left = _square(tail) + share * _square(head)
    whole = np.rint(head / steps[:, None])
    np.clip(whole, -largest, largest, out=whole)
    head -= whole * steps[:, None]
    left += (1.0 / share + 1.0) * _square(head)
    blunt = np.sqrt(margin * np.square(spread, dtype=np.float64) + left * np.square(scale, dtype=np.float64)) * WIDER
    return Bytes(
        whole.astype(np.int8),
        steps,
        whole.sum(axis=1).astype(np.int32),
        np.ascontiguousarray(blunt, dtype=np.float32),
    )


def _square(rows: NDArray[Any]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares
