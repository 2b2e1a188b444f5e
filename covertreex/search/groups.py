"""Which queries are answered together: those of like limits that are near each other share the rows they look at."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from covertreex.base import parallel, tuning
from covertreex.base.validation import read_only
from covertreex.data.leaf_order import leaf_order
from covertreex.data.payload import PayloadStore
from covertreex.protocols import QueryBlock


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
    per_block : int or None
        How many groups one task answers; None for as many as leave each thread enough tasks.
    apart : int
        So many groups come first, of queries that are answered in another way (`Groups.beside`), each in its own task.
    """

    order: NDArray[np.int64]
    ptr: NDArray[np.int64]
    level: NDArray[np.int64]
    prefix: NDArray[np.int64]
    per_block: int | None = None
    apart: int = 0

    def __len__(self) -> int:
        return len(self.level)

    @classmethod
    def of_sizes(cls, order: NDArray[np.int64], sizes: list[int], n: int, per_block: int | None = None) -> "Groups":
        """Groups of these sizes, all of one level, of queries that may have any of `n` rows."""
        ptr = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        return cls(order, ptr, np.zeros(len(sizes), dtype=np.int64), np.array([n]), per_block)

    @classmethod
    def beside(cls, apart: "Groups", others: "Groups", places: NDArray[np.int64]) -> "Groups":
        """Both of these, whose queries are those at some places of a block: first those of `apart`, then the others."""
        return cls(
            places[np.concatenate([apart.order, len(apart.order) + others.order])],
            np.concatenate([apart.ptr[:-1], apart.ptr[-1] + others.ptr]),
            np.concatenate([apart.level, others.level]),
            others.prefix,
            apart=len(apart),
        )

    def in_blocks(self, per_block: int) -> "Groups":
        """The same groups, so many answered by one task."""
        return replace(self, per_block=per_block)

    @property
    def most(self) -> int:
        """int: queries of the largest group."""
        return int(np.max(np.diff(self.ptr), initial=0))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """list of (int, int): first and last (exclusive) of the groups that one task answers."""
        most = max(1, min(tuning.GROUPS_MOST, len(self) // tuning.GROUPS_SHARE))
        others = parallel.spans(len(self) - self.apart, most if self.per_block is None else self.per_block)
        return [(i, i + 1) for i in range(self.apart)] + [(self.apart + i, self.apart + j) for i, j in others]

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The places of groups `first` to `last` (exclusive): the first, and the one behind the last."""
        return int(self.ptr[first]), int(self.ptr[last])


def permuted(queries: QueryBlock, order: NDArray[np.int64]) -> QueryBlock:
    """The queries of a block in another order."""
    if len(queries) == len(order) == 1:
        return queries
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


def query_coords(payload: PayloadStore, queries: QueryBlock) -> NDArray[np.float64]:
    """Scaled coordinates (q, d) of all queries of a block."""
    internal = queries.rows >= 0
    coords = np.empty((len(queries), payload.coords.shape[1]))
    coords[internal] = payload.coords[queries.rows[internal]]
    coords[~internal] = queries.coords[-1 - queries.rows[~internal]]
    return coords


@lru_cache
def _levels(n: int, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prefixes of `n` rows, each `share` as long as the one before; and all but the first of them, ascending."""
    prefix = [n]
    while int(prefix[-1] * share) >= tuning.SMALLEST_LEVEL:
        prefix.append(int(prefix[-1] * share))
    return read_only(np.array(prefix)), read_only(np.array(prefix[:0:-1], dtype=np.int64))


def group_queries(
    payload: PayloadStore,
    queries: QueryBlock,
    most: int,
    share: float = tuning.NEAR_SHARE,
    inner: int | None = None,
    n_threads: int = 1,
) -> Groups:
    """Group queries of like limits that are near each other, at most `most` together; in leaves of `inner`, if given.

    Query i of n, restricted to predecessors, has a neighbourhood n / i times wider than the last; so queries are
    grouped by levels, each `share` as long as the one before.

    Returns
    -------
    Groups
    """
    prefix, ascending = _levels(len(payload), share)
    # Level l has limits in (prefix[l + 1], prefix[l]].
    level_of = len(prefix) - 1 - ascending.searchsorted(queries.limit, side="left")
    if len(queries) == 1:
        return Groups(np.zeros(1, dtype=np.int64), np.array([0, 1]), level_of, prefix)
    width = 8 * (payload.factors.shape[1] + payload.coords.shape[1])
    most = max(16, min(most, tuning.GROUP_BYTES // width // 16 * 16))
    coords = payload.spread(query_coords(payload, queries))
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
        return Groups(empty, np.zeros(1, dtype=np.int64), empty, prefix)
    return Groups(
        np.concatenate(order),
        np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64),
        np.concatenate(levels),
        prefix,
    )
