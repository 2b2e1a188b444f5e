"""Scan plans as plain arrays: how queries are grouped, and which rows each group is compared with."""

from dataclasses import dataclass

import numpy as np

from covertreex.base.validation import read_only
from covertreex.data.leaf_order import leaf_order
from covertreex.protocols import QueryBlock, ScanPlan

#: Bytes of query factors that a group may hold, so that they stay in a core's second-level cache.
GROUP_BYTES = 2**18 + 2**17

#: Most queries in a group that sweeps all rows, and in one that looks at near rows: these should be near each other.
#: Multiples of 16, the lanes of a screen.
SWEEP_MOST, NEAR_MOST = 96, 32

#: In a group that looks at near rows, so many consecutive queries are nearer to each other still.
INNER = 8

#: A prefix level serves the queries whose limit is above this share of it: many levels waste little of a sweep, few
#: leave groups that look at near rows dense. Below the smallest size there is one level for the rest.
SWEEP_SHARE, NEAR_SHARE = 0.92, 0.5
SMALLEST_LEVEL = 1024


@dataclass(frozen=True, eq=False)
class Groups:
    """Queries in an order that puts those of a group together.

    Attributes
    ----------
    order : ndarray, shape (q,), int64
        Position in the caller's block of each place.
    ptr : ndarray, shape (g + 1,), int64
        Group i is ``order[ptr[i]:ptr[i + 1]]``.
    level : ndarray, shape (g,), int64
        Number of its prefix level.
    prefix : ndarray, shape (levels,), int64
        A query of level l may only have rows whose rank is below ``prefix[l]``.
    """

    order: np.ndarray
    ptr: np.ndarray
    level: np.ndarray
    prefix: np.ndarray

    def __len__(self):
        return len(self.level)

    @property
    def most(self):
        """int: queries of the largest group."""
        return int(np.max(np.diff(self.ptr), initial=0))


def permuted(queries, order):
    """The queries of a block in another order."""
    return QueryBlock(
        read_only(queries.rows[order]),
        queries.coords,
        queries.factors,
        queries.p,
        read_only(queries.exclude[order]),
        read_only(queries.limit[order]),
        queries.rank,
        queries.prefix,
        queries.slack_abs,
    )


def query_coords(payload, queries):
    """Scaled coordinates (q, d) of all queries of a block."""
    internal = queries.rows >= 0
    coords = np.empty((len(queries), payload.coords.shape[1]))
    coords[internal] = payload.coords[queries.rows[internal]]
    coords[~internal] = queries.coords[-1 - queries.rows[~internal]]
    return coords


def group_queries(payload, queries, most, share=NEAR_SHARE, inner=None, n_threads=1):
    """Group queries of like limits that are near each other, at most `most` together; in leaves of `inner`, if given.

    Query i of n, restricted to predecessors, has a neighbourhood n / i times wider than the last; so queries are
    grouped by levels, each `share` as long as the one before.

    Returns
    -------
    Groups
    """
    n = len(payload)
    width = 8 * (payload.factors.shape[1] + payload.coords.shape[1])
    most = max(16, min(most, GROUP_BYTES // width // 16 * 16))
    prefix = [n]
    while int(prefix[-1] * share) >= SMALLEST_LEVEL:
        prefix.append(int(prefix[-1] * share))
    # Level l has limits in (prefix[l + 1], prefix[l]].
    level_of = len(prefix) - 1 - np.searchsorted(np.array(prefix[:0:-1]), queries.limit, side="left")
    coords = query_coords(payload, queries)
    order, sizes, levels = [], [], []
    for level in range(len(prefix)):
        members = np.flatnonzero(level_of == level)
        if len(members) == 0:
            continue
        own, ptr = leaf_order(coords[members], most, full=True, n_threads=n_threads, inner=inner)
        order.append(members[own])
        sizes.append(np.diff(ptr))
        levels.append(np.full(len(ptr) - 1, level))
    if not order:
        empty = np.zeros(0, dtype=np.int64)
        return Groups(empty, np.zeros(1, dtype=np.int64), empty, np.array(prefix))
    return Groups(
        np.concatenate(order),
        np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64),
        np.concatenate(levels),
        np.array(prefix),
    )


def plan_of_runs(queries, group_ptr, runs):
    """A plan without lower bounds: group g is compared with the rows of ``runs[g]``, (starts, stops) each ascending."""
    counts = [len(starts) for starts, _ in runs]
    return ScanPlan(
        queries=queries,
        group_ptr=group_ptr,
        run_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        run_start=np.concatenate([np.zeros(0), *(starts for starts, _ in runs)]).astype(np.int64),
        run_stop=np.concatenate([np.zeros(0), *(stops for _, stops in runs)]).astype(np.int64),
        run_lower=np.zeros(sum(counts)),
        kth_upper=np.full(len(queries), np.inf),
    )


def plan_of_lists(queries, counts, rows, kth_upper=None):
    """A plan with a group for each query: query q is compared with the next ``counts[q]`` of `rows`."""
    q = len(queries)
    return ScanPlan(
        queries=queries,
        group_ptr=np.arange(q + 1, dtype=np.int64),
        run_ptr=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        run_start=rows,
        run_stop=rows + 1,
        run_lower=np.zeros(len(rows)),
        kth_upper=np.full(q, np.inf) if kth_upper is None else kth_upper,
    )


def whole_range(payload, queries, group_ptr=None):
    """Every group is compared with every row (that ranks before its limits): brute force. One group by default."""
    group_ptr = np.array([0, len(queries)], dtype=np.int64) if group_ptr is None else group_ptr
    return plan_of_runs(queries, group_ptr, [every_row(payload)] * (len(group_ptr) - 1))


def every_row(payload):
    """All rows of a payload, as (starts, stops) of runs: one."""
    return np.zeros(1, dtype=np.int64), np.array([len(payload)], dtype=np.int64)


def as_runs(rows):
    """Ascending rows as (starts, stops) of runs of consecutive ones."""
    if len(rows) == 0:
        return rows, rows
    breaks = np.flatnonzero(np.diff(rows) != 1)
    return rows[np.concatenate([[0], breaks + 1])], rows[np.concatenate([breaks, [len(rows) - 1]])] + 1
