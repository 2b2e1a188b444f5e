"""Two passes (`fast`): rings first, and then neighbours of neighbours.

The first pass looks at the rows nearest in coordinates; what it misses is correlated but not near.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from covertreex._core.graph import merge
from covertreex._core.screen import Screener
from covertreex.base import tuning
from covertreex.base.contract import COUNTERS
from covertreex.protocols import QueryBlock, SearchOutput
from covertreex.results import Plan
from covertreex.search import expected, scan_plans
from covertreex.search.calibration import Rule, Sample
from covertreex.search.exploring import TOGETHER, Exploring, make_graph
from covertreex.search.groups import permuted
from covertreex.search.near import Near
from covertreex.search.rings import Rings
from covertreex.search.screens.cache import mixed_or_sharp
from covertreex.search.screens.plain import least_rho
from covertreex.search.screens.view import View
from covertreex.search.strategy import Found, LastPass, Strategy


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
        self.context, self.groups, self.queries = first.context, first.groups, first.queries
        self._indices, self._distances = indices, distances
        context, sample = self.context, first.sample
        screen = mixed_or_sharp(context.payload, context.settings, len(self.queries), context.n_threads)
        self._view = View(context, screen, self.queries)
        view, queries, graph = self._view, self.queries, make_graph(context, first.asked, indices, distances)

        def screener() -> Screener:
            return context.screener(view.lens(queries, TOGETHER), queries, TOGETHER)

        self._exploring = Exploring(context, self.groups, screener, graph, first.seen)
        order = self.groups.order
        solved = sample.solve(first.near, [least_rho(distances[order[own], -1]) for own in sample.members])
        self.promise, tried = self._exploring.calibrate(sample, solved)
        seen = float(np.mean([len(rows) for rows in first.seen]))
        self.plan: Plan = replace(
            first.plan,
            strategy="second pass",
            tried=((first.least, 1, tried[0][1], seen),),
            promise=self.promise,
            promises=tried[1:],
            expected=expected.second_pass(context, first.plan.expected, screen, tried[-1][2]),
        )

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        begin, end = self.groups.span(first, last)
        block, place = self.queries.slice(begin, end), self.groups.order[begin:end]
        indices, distances = self._indices[place], self._distances[place]
        kth = distances[:, -1].copy()
        assert self.promise is not None  # without one something else is done instead of this pass
        counts, screener = self._exploring.look(first, last, self.promise, least_rho(kth)), self._exploring.screener
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
