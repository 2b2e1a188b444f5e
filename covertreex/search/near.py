"""Rows near queries: groups of queries that are near each other, and rings of rows around them in coordinates.

A query's unit of distance is the radius within which it has k rows; a row's distance from a group is the least that any
of its queries has, in that query's units; each ring reaches so far that it would hold `tuning.GROWTH` times more rows,
were they spread evenly.
"""

from dataclasses import replace
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

#: Groups whose first rings one task looks at.
GROUPS_A_TASK = 32

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

    def __init__(self, context: SearchContext, queries: QueryBlock, view: View) -> None:
        payload = context.payload
        self.context = context
        self.groups = group_queries(payload, queries, tuning.NEAR_MOST, inner=tuning.INNER, n_threads=context.n_threads)
        self.queries = permuted(queries, self.groups.order)
        self._unit = min(context.k, len(payload))
        self._growth: float = tuning.GROWTH ** (2.0 / payload.coords.shape[1])
        rank, middle = queries.rank, view.screen.centre
        every = centred(payload.coords, middle)

        def block(level: int) -> Blocks:
            return Blocks(every, np.flatnonzero(rank < self.groups.prefix[level]), rank)

        levels = np.unique(self.groups.level).tolist()
        blocks = context.run([partial(block, level) for level in levels])
        self._blocks = dict(zip(levels, blocks, strict=True))
        self._coords = centred(query_coords(payload, self.queries), middle)
        self._look_through(view)

    def _look_through(self, view: View) -> None:
        self.view = view
        self._scratch = parallel.PerThread(lambda: _Scratch(view.screener(self.queries, self.groups.most)))

    def through(self, view: View, context: SearchContext | None = None) -> "Near":
        """The same groups and rows through another screen, and under other settings if a context is given."""
        other = object.__new__(Near)
        other.__dict__.update(self.__dict__)
        if context is not None:
            other.context = context
        other._look_through(view)
        return other

    @property
    def screener(self) -> Screener:
        """Screener: this thread's; what it has found is to be taken from it after each group or some."""
        return self._scratch.get().screener

    def _finder(self, group: int) -> tuple[Finder, Told]:
        """This thread's finder, and what its methods are told of a group."""
        scratch, level = self._scratch.get(), int(self.groups.level[group])
        finder = scratch.finders.get(level)
        if finder is None:
            finder = scratch.finders[level] = Finder(self._blocks[level], self.groups.most)
        part = slice(self.groups.ptr[group], self.groups.ptr[group + 1])
        told = scratch.screener, int(part.start), self._coords[part], self.queries.limit[part], self._unit, self._growth
        return finder, told

    def look(
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
        looked: Looked = finder.narrow(*told, least, patience, rings, thresholds, counts)
        return looked

    def look_alone(
        self,
        group: int,
        gain: int,
        patience: int,
        thresholds: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None:
        """As `look`, but each query looks at rings of its own, until `patience` in a row take at most `gain` places."""
        finder, told = self._finder(group)
        finder.alone(*told, gain, patience, thresholds, counts)

    def log_alone(
        self, group: int, places: NDArray[np.int64], patience: int
    ) -> list[tuple[list[int], list[int], NDArray[np.int64], float]]:
        """What happens when the queries at some places of a group look alone: as `look` returns, and the threshold.

        Of places, the number that each ring took is told, not the share.
        """
        finder, told = self._finder(group)
        logs: list[tuple[list[int], list[int], NDArray[np.int64], float]] = finder.log(
            *told, patience, places - self.groups.ptr[group]
        )
        return logs

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
                self.look(group, 0.0, 1, found[part], counts[part], rings=1)
            self.screener.take()

        self.context.run([partial(look, *span) for span in parallel.spans(len(self.groups), GROUPS_A_TASK)])
        start = np.empty_like(found)
        start[self.groups.order] = found
        return start, float(np.mean(counts)) if len(counts) else 0.0


def exactly(context: SearchContext) -> SearchContext:
    """The same search without a recall target."""
    return replace(context, settings=context.settings.replace(recall_target=1.0))
