"""Euclidean neighbours without a cover tree: a tree of boxes finds each query's k nearest, and a scan decides them.

The boxes lose no neighbour, ties included (docs/mathematics.md, E1 to E3), and reject in canonical arithmetic; so the
plan that a backend is given has one group per query, which holds hardly more than the answer.
"""

import numpy as np

from covertreex.base import parallel
from covertreex.data.leaf_order import leaf_order
from covertreex.search import plans
from covertreex.search.planner import Plan

#: Queries that are found at once, at most; rows found for them, about; and groups that there should be to share.
GROUP, FOUND, SHARED = 1024, 2**17, 64

#: Queries restricted to the first so many rows have boxes of these rows alone, if they are this share of the rows; the
#: smallest such prefix.
SHARE, SMALLEST_PREFIX = 1 / 16, 1024


class BoxPlan(Plan):
    """A `Plan` of boxes."""

    def __str__(self):
        return f"{self.verb}: {self.reason}"


def box_tree(payload, rows=None):
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
    from covertreex._core.euclid import BoxTree, leaf_starts

    if rows is None:
        rows = np.arange(len(payload))
        # Payload rows are in leaf order, but for points that were inserted later.
        breaks = np.flatnonzero(np.diff(payload.index) < 0) + 1
        if not np.isin(breaks, leaf_starts(len(rows))).all():
            rows = leaf_order(payload.coords)[0]
    else:
        rows = rows[leaf_order(payload.coords[rows])[0]]
    return BoxTree(payload.coords, payload.index, rows, payload.slack_rel, payload.slack_abs)


class BoxPlanner:
    """Plans a Euclidean scan and answers its groups. Parameters and use as of `planner.ScanPlanner`."""

    def __init__(self, payload, queries, k, settings, backend, n_threads, cancel):
        self.payload, self.k, self.settings, self.backend, self.cancel = payload, k, settings, backend, cancel
        prefixes, level = _levels(queries.limit, len(payload))
        rank = queries.rank
        trees = parallel.run(
            [lambda p=p: box_tree(payload, np.flatnonzero(rank < p)) for p in prefixes], n_threads, cancel
        )
        self.trees = [*trees, payload.boxes]
        self.least = [tree.least(rank) for tree in self.trees]
        most = max(16, min(GROUP, FOUND // k, len(queries) // SHARED))
        self.groups = _groups(payload, queries, prefixes, level, most)
        self.queries = plans.permuted(queries, self.groups.order)
        self.plan = BoxPlan(
            verb="scan",
            reason="Euclidean: boxes around rows leave each query hardly more than its answer",
            screen="float32",
        )

    def answer(self, first, last, out):
        """Answer groups `first` to `last` (exclusive) into `out`; return what was counted."""
        ptr, counters = self.groups.ptr, {"canonical_rechecks": 0, "gate_rejects": 0}
        for group in range(first, last):
            part = slice(ptr[group] - ptr[first], ptr[group + 1] - ptr[first])
            found, compared = self._answer(group, out.slice(part.start, part.stop))
            counters["canonical_rechecks"] += found
            counters["gate_rejects"] += compared - found
        return counters

    def _answer(self, group, out):
        from covertreex._core.euclid import nearest

        start, stop = self.groups.ptr[group], self.groups.ptr[group + 1]
        queries, level = self.queries.slice(start, stop), self.groups.level[group]
        ptr, rows, compared = nearest(
            self.trees[level], plans.query_coords(self.payload, queries), queries.limit, queries.exclude, queries.rank,
            self.least[level], self.k, self.cancel,
        )  # fmt: skip
        plan = plans.plan_of_lists(queries, np.diff(ptr), rows)
        self.backend.scan(self.payload, plan, self.k, self.settings, out)
        return len(rows), compared


def _levels(limit, n):
    """Prefixes of the rows that have boxes of their own, ascending, and for each query the first that will do.

    Query i of n, restricted to predecessors, has a neighbourhood n / i times wider than the last: among all rows it
    would look at n / i times more of them.
    """
    halves = [n // 2**i for i in range(1, n.bit_length()) if n // 2**i >= SMALLEST_PREFIX]
    prefixes, level = [], np.full(len(limit), -1)
    for prefix in reversed(halves):
        members = (level < 0) & (limit <= prefix)
        if np.count_nonzero(members) >= SHARE * prefix:
            level[members] = len(prefixes)
            prefixes.append(prefix)
    level[level < 0] = len(prefixes)
    return prefixes, level


def _by_place(order, rows):
    """The order that brings `rows` into that of `order`, a permutation."""
    place, at = np.empty((2, len(order)), dtype=np.int64)
    place[order] = np.arange(len(order))
    if len(rows) == len(order):
        at[:] = -1
        at[place[rows]] = np.arange(len(rows))
        if at.min() >= 0:  # every row once: no need to sort
            return at
    return np.argsort(place[rows], kind="stable")


def _groups(payload, queries, prefixes, level, most):
    """Queries of a level that are near each other, `most` at most together."""
    if (queries.rows >= 0).all():
        near = _by_place(payload.boxes.rows, queries.rows)
    else:
        near = leaf_order(plans.query_coords(payload, queries))[0]
    order = near[np.argsort(level[near], kind="stable")] if prefixes else near
    counts = np.bincount(level, minlength=len(prefixes) + 1)
    sizes = [np.diff([*range(0, count, most), count]) for count in counts]
    return plans.Groups(
        order=order,
        ptr=np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64),
        level=np.repeat(np.arange(len(counts)), [len(size) for size in sizes]),
        prefix=np.array([*prefixes, len(payload)]),
    )
