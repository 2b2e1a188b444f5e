"""Screens in float64 but for the components that are small enough for float32 (docs/mathematics.md, C5)."""

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from covertreex.base import parallel, tuning
from covertreex.protocols import QueryBlock
from covertreex.search.screens.plain import WIDER, Numbers, Outside, Screen, in_single


@dataclass(frozen=True, eq=False, kw_only=True)
class MixedScreen(Screen):
    """See `make_mixed`. `head` is in float64, `tail` in float32, and all pairs are multiplied in both.

    Attributes
    ----------
    sharp : Screen
        In float64 throughout.
    """

    sharp: Screen

    @property
    def pair_cost(self) -> float:
        """float: nanoseconds of one core that a pair is expected to take."""
        head, tail = int(self.head.shape[1]), int(self.tail.shape[1])
        return head * tuning.PRODUCT64 + tail * tuning.PRODUCT32 + tuning.KERNEL64 + tuning.LOOK

    @property
    def name(self) -> str:
        """str: how people call it."""
        return f"float64, {self.tail.shape[1]} components float32"

    def of_queries(self, queries: QueryBlock) -> Outside:
        """As `Screen.of_queries`."""
        whole = self.sharp.of_queries(queries)
        sharp, leading = self.sharp, int(self.head.shape[1])
        raised = max(1.0, whole.margin / sharp.margin)
        head = whole.head[:, :leading].copy()
        tail = in_single(whole.head[:, leading:])
        spread = _tail_spread(tail, whole.scale, sharp.margin)
        return replace(whole, head=head, tail=tail, spread=spread, blunt=np.sqrt(raised) * spread, margin=raised)


def make_mixed(sharp: Screen, n_threads: int = 1) -> MixedScreen | None:
    """A screen in float64 but for the last components: they are small, and so is what they lose in float32 (C5).

    Parameters
    ----------
    sharp : Screen
        In float64.
    n_threads : int

    Returns
    -------
    MixedScreen or None
        None where too many components are large.
    """
    payload, (n, m) = sharp.payload, sharp.payload.factors.shape
    if n < tuning.MIXED_ROWS or m < 64:
        return None
    some = slice(0, n, max(1, n // tuning.MIXED_ROWS))
    sixteens = payload.factors[some].reshape(-1, m // 16, 16)
    left = np.cumsum(np.einsum("ijk,ijk->ij", sixteens, sixteens)[:, :0:-1], axis=1)[:, ::-1] / payload.p[some, None]
    starts = np.arange(16, m, 16)
    enough = starts[np.median(left, axis=0) * _rounded(m - starts) < tuning.MIXED_DOUBT]
    if len(enough) == 0 or enough[0] > tuning.LEADING * m:
        return None
    leading = int(enough[0])
    tail, spread = np.empty((n, m - leading), dtype=np.float32), np.empty(n)

    def part(begin: int, end: int) -> None:
        rows = slice(begin, end)
        tail[rows] = in_single(payload.factors[rows, leading:])
        spread[rows] = _tail_spread(tail[rows], sharp.scale[rows], sharp.margin)

    parallel.run([partial(part, *rows) for rows in parallel.spans(n, tuning.MIXED_ROWS)], n_threads)
    same = {field.name: getattr(sharp, field.name) for field in fields(Screen)}
    parts = {"head": payload.factors[:, :leading], "tail": tail, "spread": spread, "blunt": spread}
    return MixedScreen(**{**same, **parts, "margin": 1.0, "sharp": sharp})


def _tail_spread(tail: NDArray[np.float32], scale: Numbers, margin: float) -> NDArray[np.float64]:
    """The spread that components in float32 and a margin of the others make (C5)."""
    left = np.einsum("ij,ij->i", tail, tail) * (1.0 + 1e-4) * _rounded(tail.shape[1])
    spread: NDArray[np.float64] = np.sqrt(margin + left) * scale * WIDER
    return spread


def _rounded(count: int) -> float:
    """C5: what the product of `count` float32 components may be off by, as a multiple of both norms."""
    return (count + 16.0) * float(np.finfo(np.float32).eps)
