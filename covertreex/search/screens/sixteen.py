"""Screens in float32 whose factors are whole numbers of sixteen bits: half the memory, two products at once (C7)."""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import round_to_sixteen
from covertreex.base import parallel, tuning
from covertreex.data.payload import PayloadStore, longest_square
from covertreex.search.screens.plain import (
    FAINT,
    WIDER,
    Numbers,
    Outside,
    Screen,
    besides_factors,
    cost_in_single,
    length_of,
    margin_of_rows,
    sees,
)

#: The length of the longest factors, in steps. With what rounding adds, 1/2 in each of less than 400,000 components, it
#: is below 46,341: then no sum of products leaves 32 bits, by Cauchy-Schwarz.
LONGEST = 46_000.0


class Sixteen(NamedTuple):
    """Factors in sixteen bits, as those of a `Screen`, see there; what each of them may be off by more than the least,
    as a multiple; and `left`, R of C7.
    """

    head: NDArray[np.int16]
    steps: NDArray[np.float32]
    coarser: NDArray[np.float32]
    left: float


@dataclass(frozen=True, eq=False, kw_only=True)
class SixteenBitScreen(Screen):
    """See `make_sixteen`. What is no product is in float32.

    Attributes
    ----------
    left : float
        What rounding leaves of factors, at most.
    """

    left: float

    @property
    def pair_cost(self) -> float:
        """float: nanoseconds of one core that a pair is expected to take."""
        return cost_in_single(int(self.head.shape[1]), tuning.PRODUCT16)

    @property
    def name(self) -> str:
        """str: how people call it."""
        return "16 bits"

    def _outside(
        self, factors: NDArray[np.float64], coords: NDArray[np.float64], scale: Numbers, margin: float
    ) -> Outside:
        length = max(self.length, longest_square(factors))
        parts = _rounded(factors, length, 1)
        margin += _lost(length, max(self.left, parts.left))
        plain = super()._outside(factors[:, :0], coords, scale, margin)
        spread, blunt = plain.spread * parts.coarser, plain.blunt * parts.coarser
        return replace(plain, head=parts.head, steps=parts.steps, spread=spread, blunt=blunt)


def make_sixteen(payload: PayloadStore, n_threads: int = 1) -> SixteenBitScreen | None:
    """A screen of sixteen bits.

    Parameters
    ----------
    payload : PayloadStore
    n_threads : int

    Returns
    -------
    SixteenBitScreen or None
        None where it is too coarse, and for what `make_screen` makes none; and where there are no factors.
    """
    margin = margin_of_rows(payload, np.float32)
    if payload.factors.shape[1] == 0 or not sees(payload, margin):
        return None
    length = length_of(payload)
    parts = _rounded(payload.factors, length, n_threads)
    margin += _lost(length, parts.left)
    if not sees(payload, margin):
        return None
    besides = besides_factors(payload, np.float32, margin)
    coarser = {name: besides[name] * parts.coarser for name in ("spread", "blunt")}
    return SixteenBitScreen(**{**besides, **coarser}, head=parts.head, steps=parts.steps, left=parts.left)


def _rounded(factors: NDArray[np.float64], length: float, n_threads: int) -> Sixteen:
    """Factors of which the largest ``|v|**2`` is `length`, or less, rounded."""
    # Last digits of a length may differ from machine to machine; a step has no more than float32.
    step = np.float32(max(np.sqrt(length) / LONGEST, FAINT))
    head, steps = np.empty(factors.shape, dtype=np.int16), np.empty(len(factors), dtype=np.float32)

    def part(begin: int, end: int) -> float:
        return round_to_sixteen(factors[begin:end], step, head[begin:end], steps[begin:end])

    spans = parallel.spans(len(factors), tuning.COPY_PART)
    left = parallel.run([partial(part, *rows) for rows in spans], n_threads, brief=len(spans) == 1)
    return Sixteen(head, steps, steps / step, max(left, default=0.0))


def _lost(length: float, left: float) -> float:
    """C7: what products may be off by, if ``|v|**2`` is at most `length` and rounding leaves `left`."""
    return (2.0 * float(np.sqrt(length)) + left) * left * WIDER
