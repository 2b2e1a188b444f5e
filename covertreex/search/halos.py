"""Halos: few queries answered exactly, once rows around a net of anchors are sorted by angle.

``arccos |rho|`` is a metric on lines. Every row has an anchor near it, and a query that walks through the rows around
its anchor, nearest first, may stop where the triangle inequality leaves all others behind (docs/mathematics.md, H1). A
query whose walk reaches the end of the halo is swept as ever. In either case a scan decides, so bits are the same.
`covertreex.search.preparing` makes them.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from covertreex._core.euclid import nearest
from covertreex._core.halos import walk
from covertreex._core.screen import Screener
from covertreex.base import parallel, tuning
from covertreex.protocols import QueryBlock
from covertreex.results import Plan
from covertreex.search import scan_plans
from covertreex.search.boxes import boxes_of
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups, permuted, query_coords
from covertreex.search.screens.cache import surely_sharp
from covertreex.search.screens.view import View
from covertreex.search.shortlists import OWN, Shortlists
from covertreex.search.strategy import Found, LastPass
from covertreex.settings import TraversalSettings


@dataclass(frozen=True, eq=False)
class Halos:
    """Rows around anchors.

    Attributes
    ----------
    k : int
        Neighbours that they were made for; a query wants no more.
    anchors : ndarray, shape (a,), int64
        Payload rows.
    ptr : ndarray, shape (a + 1,), int64
        The halo of anchor i is ``ptr[i]`` to ``ptr[i + 1]`` of the next two.
    rows, angles : ndarray, int32 and float32
        Payload rows, and lower bounds of their angles from the anchor, ascending.
    radii : ndarray, shape (a,)
        No other row is nearer to the anchor than this.
    number : ndarray, shape (n,), int64
        The anchor that a row walks from; -1 for none.
    slack_abs : float
        That of the payload (B1).
    """

    k: int
    anchors: NDArray[np.int64]
    ptr: NDArray[np.int64]
    rows: NDArray[np.int32]
    angles: NDArray[np.float32]
    radii: NDArray[np.float64]
    number: NDArray[np.int64]
    slack_abs: float

    @property
    def nbytes(self) -> int:
        """int: bytes held by the arrays."""
        return sum(a.nbytes for a in (self.anchors, self.ptr, self.rows, self.angles, self.radii, self.number))

    def serve(self, queries: QueryBlock, k: int, settings: TraversalSettings) -> bool:
        """Whether a `HaloWalk` can answer these queries."""
        return (
            k <= self.k
            and settings.gemm
            and settings.kth_frontier_stop
            and len(queries) > 0
            and int(queries.limit.min()) == len(self.number)
        )


@dataclass(frozen=True)
class GivenUp:
    """Why there are no halos."""

    reason: str


@dataclass(frozen=True, eq=False)
class Walked:
    """What walks found; arrays are by query, `rows` of one query after the other.

    `counts` are the rows that survive, `thresholds` what the k-th best ``|rho|`` is sure to reach, `certified` whether
    all others are left behind, and `looked` how many rows were looked at in all.
    """

    counts: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    certified: NDArray[np.bool_]
    rows: NDArray[np.int64]
    looked: int


class Walker:
    """Queries that walk, each from the anchor that `number` names for it."""

    def __init__(self, context: SearchContext, halos: Halos, queries: QueryBlock, number: NDArray[np.int64]) -> None:
        self._context, self.halos, self._queries, self._number = context, halos, queries, number
        view = View(context, surely_sharp(context.payload), queries)
        self._screener = parallel.PerThread(lambda: context.screener(view.lens(queries, 1), queries, 1))

    def walk(self, first: int, stop: int) -> Walked:
        """Queries `first` to `stop` (exclusive) walk, on the thread that calls."""
        screener: Screener = self._screener.get()
        counts, thresholds, certified = walk(
            screener, self.halos, self._number, self._queries.slack_abs, self._context.payload.slack_rel, first, stop
        )
        rows = screener.take()
        return Walked(counts, thresholds, certified, rows, screener.counted()[0])

    def walk_all(self) -> Walked:
        """All queries walk, on all threads."""
        spans = parallel.spans(len(self._queries), tuning.WALKED_TOGETHER)
        parts = self._context.run([partial(self.walk, *span) for span in spans])
        return Walked(
            counts=np.concatenate([part.counts for part in parts]),
            thresholds=np.concatenate([part.thresholds for part in parts]),
            certified=np.concatenate([part.certified for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            looked=sum(part.looked for part in parts),
        )


class HaloWalk(LastPass):
    """Queries walk through `halos`, which serve them, and those without a certificate are swept."""

    def __init__(self, context: SearchContext, queries: QueryBlock, halos: Halos) -> None:
        self.context = context
        number, at = _starts(context, halos, queries)
        order = np.argsort(at, kind="stable")
        most = -(-len(queries) // (tuning.WALKS_SHARED * context.n_threads))
        sizes = [stop - start for start, stop in parallel.spans(len(queries), min(tuning.WALKED_TOGETHER, most))]
        self.groups = Groups.of_sizes(order, sizes, len(context.payload))
        self.queries = permuted(queries, order)
        self._walker = Walker(context, halos, self.queries, number[order])
        self._done: list[tuple[int, int]] = []  # of each part, how many were certified, and the rows looked at

    @property
    def plan(self) -> Plan:
        """Plan: with what was certified so far."""
        certified, looked = (sum(numbers) for numbers in zip(*self._done, strict=True)) if self._done else (0, 0)
        count, anchors = len(self.queries), len(self._walker.halos.anchors)
        return self.context.plan(
            verb="scan",
            reason=f"halos: {anchors:,} anchors, certified {certified:,} of {count:,} "
            f"queries, which looked at {looked / count:,.0f} rows each; the others sweep all rows",
            screen=surely_sharp(self.context.payload).name,
            screened_by=OWN,
            strategy="halos",
            anchors=anchors,
            certified=certified,
            looked=looked / count,
        )

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        start, stop = self.groups.span(first, last)
        block, walked = self.queries.slice(start, stop), self._walker.walk(start, stop)
        counts, rows, screened = walked.counts, walked.rows, {"canonical_rechecks": len(walked.rows), "gemm_tiles": 0}
        self._done.append((int(np.sum(walked.certified)), walked.looked))
        left = np.flatnonzero(~walked.certified)
        if len(left):
            swept_counts, swept, more = self._sweep(permuted(block, left), walked.thresholds[left])
            counts[left] = swept_counts
            merged, own = np.empty(len(rows) + len(swept), dtype=np.int64), np.repeat(walked.certified, counts)
            merged[own], merged[~own] = rows, swept
            rows, screened = merged, {name: screened[name] + more[name] for name in screened}
        return Found.of(self.context.scan(scan_plans.plan_of_lists(block, counts, rows)), screened)

    def _sweep(
        self, block: QueryBlock, start: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, int]]:
        """Short lists of queries without a certificate, of all rows, and what the screen counted."""
        view = View(self.context, surely_sharp(self.context.payload), block)
        ptr = np.append(np.arange(0, len(block), tuning.SWEPT_TOGETHER), len(block))
        lists = Shortlists(self.context, view, block, tuning.SWEPT_TOGETHER)
        short, screened = lists.of(scan_plans.whole_range(self.context.payload, block, ptr), 0, start)
        return np.diff(short.run_ptr), short.run_start, screened


def _starts(context: SearchContext, halos: Halos, queries: QueryBlock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The anchor of each query, -1 for none, and a row that it is near to."""
    at = queries.rows.copy()
    outside = np.flatnonzero(at < 0)
    if len(outside):
        tree, block = boxes_of(context.payload), permuted(queries, outside)
        ptr, rows, _ = nearest(
            tree, query_coords(context.payload, block), block.limit, block.exclude, block.rank, tree.least(block.rank),
            1, context.cancel,
        )  # fmt: skip
        at[outside] = rows[ptr[:-1]]
    return halos.number[at], at
