"""Two passes (`fast`): rings first, and then neighbours of neighbours.

The first pass looks at the rows nearest in coordinates. What it misses is correlated but not near, and most of that has
neighbours in common with the query: it is found by a look at the neighbours of the neighbours found so far (source:
Dong, Charikar, Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW 2011), those
whose product of correlations promises enough. How much is enough is calibrated on a sample, solved exactly.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from covertreex._core.graph import Explorer, Graph, merge
from covertreex._core.screen import Screener
from covertreex.base import parallel, tuning
from covertreex.base.contract import COUNTERS
from covertreex.protocols import QueryBlock, SearchOutput
from covertreex.results import Plan
from covertreex.search import expected, scan_plans
from covertreex.search.calibration import Rule, Sample, meets
from covertreex.search.context import SearchContext
from covertreex.search.groups import permuted
from covertreex.search.near import Near
from covertreex.search.rings import Rings
from covertreex.search.screens.cache import mixed_or_sharp
from covertreex.search.screens.plain import least_rho
from covertreex.search.screens.view import View
from covertreex.search.strategy import Found, LastPass, Strategy

#: Queries that share candidates: as many as a float64 screen compares at once.
TOGETHER = tuning.INNER


class FirstPass(Rings):
    """Rings that remember which rows each group has looked at.

    Parameters
    ----------
    near : Near
    asked : QueryBlock
        The queries in the caller's order.
    sample : Sample
        Of the queries.
    plan : Plan
    otherwise : callable
        Takes nothing and returns what is to be done instead, where neighbours of neighbours do not meet the target.
    """

    def __init__(
        self, near: Near, asked: QueryBlock, sample: Sample, plan: Plan, otherwise: Callable[[], Strategy]
    ) -> None:
        super().__init__(near, Rule(tuning.FIRST_PASS), plan)
        self.asked, self.sample, self._otherwise = asked, sample, otherwise
        self.seen: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)] * len(near.groups)

    def _search(self, group: int, thresholds: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        *_, rows = self.near.search_rings(group, self.least, self.rule.patience, thresholds, counts)
        self.seen[group] = rows

    def following(self, indices: NDArray[np.int64], distances: NDArray[np.float64]) -> Strategy | None:
        """A `SecondPass`; None if the first has met the target; something else where no second one would."""
        second = SecondPass(self, indices, distances)
        if second.promise is None:
            return self._otherwise()
        if second.promise < np.inf:
            return second
        self.plan = replace(second.plan, promise=None)
        return None


class SecondPass(LastPass):
    """Groups of eight queries look at the neighbours of their neighbours.

    Parameters
    ----------
    first : FirstPass
    indices, distances : ndarray, shape (q, k)
        What it found, in the caller's order; replaced by what is found, group after group.
    """

    def __init__(self, first: FirstPass, indices: NDArray[np.int64], distances: NDArray[np.float64]) -> None:
        self.context, self.groups, self.queries, self.seen = first.context, first.groups, first.queries, first.seen
        self._indices, self._distances = indices, distances
        context = self.context
        screen = mixed_or_sharp(context.payload, context.settings, len(self.queries), context.n_threads)
        self._view = View(context, screen, self.queries)
        self._graph = make_graph(context, first.asked, indices, distances)
        self._tools = parallel.PerThread(self._make_tools)
        self.promise, tried = self._calibrate(first)
        seen = float(np.mean([len(rows) for rows in self.seen]))
        self.plan: Plan = replace(
            first.plan,
            strategy="second pass",
            tried=((first.least, 1, tried[0][1], seen),),
            promise=self.promise,
            promises=tried[1:],
            expected=expected.second_pass(context, first.plan.expected, screen, tried[-1][2]),
        )

    def _make_tools(self) -> tuple[Explorer, Screener]:
        lens = self._view.lens(self.queries, TOGETHER)
        screener = self.context.screener(lens, self.queries, TOGETHER)
        return Explorer(self._graph, screener, TOGETHER), screener

    def _calibrate(self, first: FirstPass) -> tuple[float | None, tuple[tuple[float, float, float], ...]]:
        """The largest promise at which a sample has its neighbours, None if there is none; and what was tried."""
        sample, order = first.sample, self.groups.order
        solved = sample.solve(first.near, [least_rho(self._distances[order[own], -1]) for own in sample.members])
        groups = sample.groups
        shape = len(groups), len(tuning.PROMISES)
        missed, looked = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        promises = np.array(tuning.PROMISES, dtype=np.float32)

        def trial(i: int) -> int:
            begin, end = self.groups.span(groups[i], groups[i] + 1)
            explorer, _ = self._tools.get()
            explorer.trial(
                begin, end, self.seen[groups[i]], sample.members[i], solved[i], promises, missed[i], looked[i]
            )
            return -(-(end - begin) // TOGETHER)

        parts = sum(self.context.run([partial(trial, i) for i in range(len(groups))]))
        wanted = np.array([np.sum(rows >= 0) for rows in solved])
        tried: list[tuple[float, float, float]] = []
        for promise, tries, rows in zip(tuning.PROMISES, missed.T, looked.sum(axis=0), strict=True):
            tried.append((promise, float(1.0 - tries.sum() / max(1, wanted.sum())), rows / parts))
            if meets(self.context.settings.recall_target, missed.T[: len(tried)], wanted):
                return promise, tuple(tried)
        return None, tuple(tried)

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        ptr, (begin, end) = self.groups.ptr, self.groups.span(first, last)
        block, place = self.queries.slice(begin, end), self.groups.order[begin:end]
        indices, distances = self._indices[place], self._distances[place]
        kth, counts = distances[:, -1].copy(), np.zeros(len(block), dtype=np.int64)
        start = least_rho(kth)
        explorer, screener = self._tools.get()
        assert self.promise is not None  # without one something else is done instead of this pass
        for group in range(first, last):
            part = slice(ptr[group] - begin, ptr[group + 1] - begin)
            explorer.look(ptr[group], ptr[group + 1], self.seen[group], self.promise, start[part], counts[part])
        rows = screener.take()
        out = self.context.scan(scan_plans.plan_of_lists(block, counts, rows, kth))
        marks = np.empty(len(block), dtype=np.uint8)
        found = out.indices.copy()
        merge(indices, distances, out.indices, out.distances, marks)
        tied = np.flatnonzero(marks)
        if len(tied):
            self._decide(permuted(block, tied), (indices[tied], found[tied]), tied, out)
        return Found.of(out, self._view.screen.counters(screener, len(rows)))

    def _decide(
        self,
        block: QueryBlock,
        lists: tuple[NDArray[np.int64], NDArray[np.int64]],
        places: NDArray[np.int64],
        out: SearchOutput,
    ) -> None:
        """Let the backend choose from both lists of some queries, where distances alone do not tell (A7)."""
        both = np.concatenate(lists, axis=1)
        rows = [self.context.payload.row[one[one >= 0]] for one in both]
        counts = np.array([len(one) for one in rows])
        decided = self.context.scan(scan_plans.plan_of_lists(block, counts, np.concatenate(rows)))
        out.indices[places], out.distances[places] = decided.indices, decided.distances
        for name in ("distance_evals", "nodes_visited", "yields"):
            out.counters[places, COUNTERS.index(name)] += decided.counters[:, COUNTERS.index(name)]


def make_graph(
    context: SearchContext, queries: QueryBlock, indices: NDArray[np.int64], distances: NDArray[np.float64]
) -> Graph:
    """A graph of what the queries found: all payload rows, each once."""
    n, n_threads = len(context.payload), context.n_threads
    graph = Graph(n, indices.shape[1])

    def take(begin: int, end: int) -> None:
        graph.take(queries.rows[begin:end], context.payload.row, indices[begin:end], distances[begin:end])

    context.run([partial(take, *span) for span in parallel.spans(n, tuning.LISTS_TAKEN)])
    spans = parallel.spans(n, -(-n // n_threads))
    context.run([partial(graph.count, *span) for span in spans])
    graph.make_room()
    context.run([partial(graph.link, *span) for span in spans])
    return graph
