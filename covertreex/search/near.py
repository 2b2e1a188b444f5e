"""Rows near queries: groups of queries that are near each other, and rings of rows around them in coordinates.

A query's unit of distance is the radius within which it has k rows; a row's distance from a group is the least that any
of its queries has, in that query's units; each ring reaches so far that it would hold `tuning.GROWTH` times more rows,
were they spread evenly.
"""

from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from covertreex._core.nearest import Blocks, Finder, centred
from covertreex._core.screen import Screener
from covertreex.base import parallel, tuning
from covertreex.protocols import QueryBlock
from covertreex.search.context import SearchContext
from covertreex.search.groups import group_queries, permuted, query_coords
from covertreex.search.screens.view import View

#: What a finder's methods are told of a group: the screener, its first query and their coordinates and limits, how many
#: rows a unit of distance holds, and how much farther each ring reaches.
Told: TypeAlias = tuple[Screener, int, NDArray[np.float32], NDArray[np.int64], int, float]

#: What happened when a group, or a query alone, looked at ring after ring: the share of the places that each ring took,
#: how many rows were looked at until its end, and these rows.
Looked: TypeAlias = tuple[list[float], list[int], NDArray[np.int32]]


class _Scratch:
    """What one thread looks at rows with: a screener, and a finder for each prefix level."""

    def __init__(self, screener: Screener) -> None:
        self.screener, self.finders = screener, dict[int, Finder]()


class Surroundings:
    """Groups of queries, and the blocks of rows around them: the same whatever they are looked at through."""

    def __init__(self, context: SearchContext, queries: QueryBlock, middle: NDArray[np.float64]) -> None:
        payload = context.payload
        self.groups = group_queries(payload, queries, tuning.NEAR_MOST, inner=tuning.INNER, n_threads=context.n_threads)
        self.queries = permuted(queries, self.groups.order)
        self.unit = min(context.k, len(payload))
        self.growth: float = tuning.GROWTH ** (2.0 / payload.coords.shape[1])
        middle = payload.spread(middle[None])[0]
        rank, every = queries.rank, centred(payload.spread(payload.coords), middle)

        def block(level: int) -> Blocks:
            return Blocks(every, np.flatnonzero(rank < self.groups.prefix[level]), rank)

        levels = np.unique(self.groups.level).tolist()
        blocks = context.run([partial(block, level) for level in levels], brief=context.is_brief(len(queries)))
        self.blocks: dict[int, Blocks] = dict(zip(levels, blocks, strict=True))
        self.coords = centred(payload.spread(query_coords(payload, self.queries)), middle)


class Near:
    """Groups of queries, and the rows around them, as a screen sees them.

    Attributes
    ----------
    groups : Groups
    queries : QueryBlock
        In the order of the groups.
    view : View
        What rows are looked at through.
    """

    def __init__(self, context: SearchContext, around: Surroundings, view: View) -> None:
        self.context, self._around, self.view = context, around, view
        self.groups, self.queries = around.groups, around.queries
        self._scratch = parallel.PerThread(lambda: _Scratch(view.screener(around.queries, around.groups.most)))

    @classmethod
    def of(cls, context: SearchContext, queries: QueryBlock, view: View) -> "Near":
        """Queries in the caller's order, and what is around them."""
        return cls(context, Surroundings(context, queries, view.screen.centre), view)

    def through(self, view: View, context: SearchContext | None = None) -> "Near":
        """The same groups and rows through another screen, and under other settings if a context is given."""
        return Near(self.context if context is None else context, self._around, view)

    @property
    def screener(self) -> Screener:
        """Screener: this thread's; what it has found is to be taken from it after each group or some."""
        return self._scratch.get().screener

    def _finder(self, group: int) -> tuple[Finder, Told]:
        """This thread's finder, and what its methods are told of a group."""
        scratch, around, level = self._scratch.get(), self._around, int(self.groups.level[group])
        finder = scratch.finders.get(level)
        if finder is None:
            finder = scratch.finders[level] = Finder(around.blocks[level], self.groups.most)
        part = slice(self.groups.ptr[group], self.groups.ptr[group + 1])
        told = (
            scratch.screener,
            int(part.start),
            around.coords[part],
            self.queries.limit[part],
            around.unit,
            around.growth,
        )
        return finder, told

    def search_rings(
        self,
        group: int,
        least: float,
        patience: int,
        thresholds: NDArray[np.float64],
        counts: NDArray[np.int64],
        rings: int = 0,
    ) -> Looked:
        """Look at ring after ring of rows around a group.

        It stops after `patience` rings in a row that each took at most the share `least` of its places, or after so
        many `rings` if that is not 0. Fills `thresholds` and `counts`, of shape (queries of the group,): what the k-th
        best ``|rho|`` of each is sure to reach, and how many rows stand, which the screener then has.

        Returns
        -------
        gained, looked : list
            The share of the places that each ring took; how many rows were looked at until its end.
        rows : ndarray, int32
            These rows, in the order of the rings.
        """
        finder, told = self._finder(group)
        return finder.search_rings(*told, least, patience, rings, thresholds, counts)

    def search_rings_alone(
        self,
        group: int,
        gain: int,
        patience: int,
        thresholds: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None:
        """As `search_rings`, but each query has its own rings, until `patience` in a row take `gain` places at most."""
        finder, told = self._finder(group)
        finder.search_rings_alone(*told, gain, patience, thresholds, counts)

    def log_rings_alone(
        self, group: int, places: NDArray[np.int64], patience: int
    ) -> list[tuple[list[int], list[int], NDArray[np.int64], float]]:
        """What `search_rings_alone` does for queries at some places: as `search_rings` returns, and the threshold.

        Of places, the number that each ring took is told, not the share.
        """
        finder, told = self._finder(group)
        return finder.log_rings_alone(*told, patience, places - self.groups.ptr[group])

    def first_thresholds(self) -> tuple[NDArray[np.float64], float]:
        """What the first ring tells.

        Returns
        -------
        start : ndarray, shape (q,), float64
            For each query, in the caller's order, what the k-th best ``|rho|`` is sure to reach.
        left : float
            Rows of the ring that stand, in the mean.
        """
        ptr = self.groups.ptr
        found, counts = np.empty(len(self.queries)), np.empty(len(self.queries), dtype=np.int64)

        def look(first: int, last: int) -> None:
            for group in range(first, last):
                part = slice(ptr[group], ptr[group + 1])
                self.search_rings(group, 0.0, 1, found[part], counts[part], rings=1)
            self.screener.take()

        tasks = [partial(look, *span) for span in parallel.spans(len(self.groups), tuning.FIRST_RINGS)]
        self.context.run(tasks, brief=self.context.is_brief(len(self.queries)))
        start = np.empty_like(found)
        start[self.groups.order] = found
        return start, float(np.mean(counts)) if len(counts) else 0.0
