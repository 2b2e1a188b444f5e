"""Neighbours without a cover tree: a tree of boxes finds each query's k nearest, and a scan decides them.

Nearest in coordinates: those under Euclidean distance, and under a correlation that falls with it. The boxes lose no
neighbour, ties included (docs/mathematics.md, E1 to E4), and reject in canonical arithmetic; so the plan that a backend
is given has one group per query, which holds hardly more than the answer.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from covertreex._core.euclid import BoxTree, leaf_starts, nearest, within
from covertreex.base import tuning
from covertreex.base.types import FloatArray
from covertreex.data.canonical import squared_distances
from covertreex.data.leaf_order import leaf_order
from covertreex.data.payload import EUCLIDEAN, PayloadStore
from covertreex.protocols import QueryBlock
from covertreex.search import expected, scan_plans
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups, permuted, query_coords
from covertreex.search.shortlists import OWN
from covertreex.search.strategy import Found, LastPass

#: Why data are searched by boxes.
WHY = "Euclidean: boxes around rows leave each query hardly more than its answer"
WHY_FALLING = "correlation falls with distance alone: boxes around rows leave each query hardly more than its answer"

#: INVARIANT E4: a row whose square is above ``t + (t + 1) * FUZZ`` has less correlation, as computed, than one at t.
FUZZ = 2.0**-36


def boxes_of(payload: PayloadStore) -> BoxTree:
    """Boxes around all rows of a payload, which keeps them; they hold half a copy of the coordinates."""
    return payload.kept.get("boxes", lambda: box_tree(payload))


def box_tree(payload: PayloadStore, rows: NDArray[np.int64] | None = None) -> BoxTree:
    """A tree of boxes around payload rows.

    Parameters
    ----------
    payload : PayloadStore
    rows : ndarray, optional
        Those that may be found; all by default.

    Returns
    -------
    covertreex._core.euclid.BoxTree
    """
    if rows is None:
        rows = np.arange(len(payload))
        # Payload rows are in leaf order, but for points that were inserted later.
        breaks = np.flatnonzero(np.diff(payload.index) < 0) + 1
        if not np.isin(breaks, leaf_starts(len(rows))).all():
            rows = leaf_order(payload.coords)[0]
    else:
        rows = rows[leaf_order(payload.coords[rows])[0]]
    return BoxTree(payload.coords, payload.index, rows, payload.slack_rel, payload.slack_abs)


def lists_within(
    context: SearchContext,
    boxes: BoxTree,
    least: NDArray[np.int64],
    queries: QueryBlock,
    coords: FloatArray,
    reach: FloatArray,
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """All rows whose square is at most a query's reach, as many at once as there is room for: from which query on, and
    `ptr` and `rows` as `within` returns them."""
    start = 0
    while start < len(queries):
        block = queries.slice(start, len(queries))
        ends, rows = within(
            boxes, coords[start:], block.limit, block.rank, least, reach[start:], tuning.RADIUS_ROOM, context.cancel
        )
        if context.cancel[0]:
            return
        yield start, ends, rows
        start += len(ends) - 1


class Boxes(LastPass):
    """Each query finds its own few rows by boxes; groups share a walk."""

    def __init__(self, context: SearchContext, queries: QueryBlock) -> None:
        self.context, payload, rank = context, context.payload, queries.rank
        self._falling = payload.metric != EUCLIDEAN
        self.plan = context.plan(
            "scan", WHY_FALLING if self._falling else WHY, screen="float32", screened_by=OWN, strategy="boxes",
            expected=expected.boxes(context),
        )  # fmt: skip
        prefixes, level = _levels(queries.limit, len(payload))
        trees = context.run([partial(box_tree, payload, np.flatnonzero(rank < prefix)) for prefix in prefixes])
        self._trees = [*trees, boxes_of(payload)]
        self._least = [tree.least(rank) for tree in self._trees]
        fair = max(tuning.BOX_LEAST, min(tuning.BOX_GROUP, len(queries) // tuning.BOX_SHARED))
        most = max(16, min(fair, tuning.BOX_FOUND // context.k))
        self.groups = _groups(payload, queries, prefixes, level, most)
        self.queries = permuted(queries, self.groups.order)

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        begin, end = self.groups.span(first, last)
        out, screened = self.context.output(end - begin, self.context.k), {"canonical_rechecks": 0, "gate_rejects": 0}
        for group in range(first, last):  # each is decided while its rows are in cache
            start, stop = self.groups.span(group, group + 1)
            level, queries = self.groups.level[group], self.queries.slice(start, stop)
            coords = query_coords(self.context.payload, queries)
            ptr, rows, compared = nearest(
                self._trees[level], coords, queries.limit, queries.exclude, queries.rank, self._least[level],
                self.context.k, self.context.cancel,
            )  # fmt: skip
            screened["canonical_rechecks"] += len(rows)
            screened["gate_rejects"] += compared - len(rows)
            lists = self._as_near(level, queries, coords, ptr, rows) if self._falling else [(0, ptr, rows)]
            for at, ends, near in lists:
                part = queries.slice(at, at + len(ends) - 1)
                plan = scan_plans.plan_of_lists(part, np.diff(ends), near)
                self.context.scan(plan, out=out.slice(start - begin + at, start - begin + at + len(part)))
        return Found.of(out, screened)

    def _as_near(
        self, level: int, queries: QueryBlock, coords: FloatArray, ptr: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Given the k nearest of queries, all rows that may compute as near as the k-th (E4); as `lists_within`."""
        full = np.diff(ptr) == self.context.k  # others have all that they may have
        reach = np.full(len(queries), np.inf)
        kth = squared_distances(coords[full], self.context.payload.coords[rows[ptr[:-1][full]]])
        reach[full] = kth + (kth + 1.0) * FUZZ
        return lists_within(self.context, self._trees[level], self._least[level], queries, coords, reach)


def _levels(limit: NDArray[np.int64], n: int) -> tuple[list[int], NDArray[np.int64]]:
    """Prefixes of the rows that have boxes of their own, ascending, and for each query the first that will do.

    Query i of n, restricted to predecessors, has a neighbourhood n / i times wider than the last: among all rows it
    would look at n / i times more of them.
    """
    prefixes: list[int] = []
    if len(limit) < tuning.BOX_SHARE * tuning.BOX_PREFIX:
        return prefixes, np.zeros(len(limit), dtype=np.int64)
    halves = [n // 2**i for i in range(1, n.bit_length()) if n // 2**i >= tuning.BOX_PREFIX]
    level = np.full(len(limit), -1)
    for prefix in reversed(halves):
        members = (level < 0) & (limit <= prefix)
        if np.count_nonzero(members) >= tuning.BOX_SHARE * prefix:
            level[members] = len(prefixes)
            prefixes.append(prefix)
    level[level < 0] = len(prefixes)
    return prefixes, level


def _by_place(order: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order that brings `rows` into that of `order`, a permutation."""
    place, at = np.empty((2, len(order)), dtype=np.int64)
    place[order] = np.arange(len(order))
    if len(rows) == len(order):
        at[:] = -1
        at[place[rows]] = np.arange(len(rows))
        if at.min() >= 0:  # every row once: no need to sort
            return at
    return np.argsort(place[rows], kind="stable")


def _groups(
    payload: PayloadStore, queries: QueryBlock, prefixes: list[int], level: NDArray[np.int64], most: int
) -> Groups:
    """Queries of a level that are near each other, `most` at most together."""
    if len(queries) == 1:
        return Groups.of_sizes(np.zeros(1, dtype=np.int64), [1], len(payload))
    if (queries.rows >= 0).all():
        near = _by_place(boxes_of(payload).rows, queries.rows)
    else:
        near = leaf_order(query_coords(payload, queries))[0]
    order = near[np.argsort(level[near], kind="stable")] if prefixes else near
    counts = np.bincount(level, minlength=len(prefixes) + 1)
    sizes = [np.diff([*range(0, count, most), count]) for count in counts]
    return Groups(
        order=order,
        ptr=np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64),
        level=np.repeat(np.arange(len(counts)), [len(size) for size in sizes]),
        prefix=np.array([*prefixes, len(payload)]),
    )
