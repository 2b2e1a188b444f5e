"""A start from an earlier answer (`fast`): neighbours under other parameters are neighbours of the old neighbours.

An optimiser that moves a kernel's parameters asks the same question again and again, and most neighbours stay. So
nothing is looked for in coordinates: a graph of the old neighbours, by their old distances, says which rows are worth a
look (`covertreex.search.exploring`), the old neighbours among them. All of these are compared anew; how many there must
be is calibrated on a sample, solved exactly, as in every search with a recall target.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray
from covertreex.protocols import QueryBlock
from covertreex.results import Plan
from covertreex.search import expected, scan_plans
from covertreex.search.calibration import Sample, asks_every_row, most_alone, most_near
from covertreex.search.exploring import TOGETHER, Exploring, make_graph
from covertreex.search.groups import permuted
from covertreex.search.near import Near
from covertreex.search.screens.cache import mixed_or_sharp
from covertreex.search.screens.plain import least_rho
from covertreex.search.screens.view import View
from covertreex.search.shortlists import OWN
from covertreex.search.strategy import Found, LastPass


@dataclass(frozen=True, eq=False)
class Earlier:
    """An earlier answer to the queries of a search.

    Attributes
    ----------
    indices : ndarray, shape (q, j), int64
        Of the payload, the nearest first; -1 past the last.
    distances : ndarray, shape (q, j), float64
    """

    indices: IntArray
    distances: FloatArray


class FromAnswer(LastPass):
    """Groups of eight queries look at their old neighbours, and at these ones' neighbours.

    Attributes
    ----------
    promise : float or None
        None where the target is not met: something else is to be done then.
    looked, most : float
        Rows that a query alone, or eight together, look at in the sample; and beyond how many something else is better.
    """

    def __init__(self, near: Near, queries: QueryBlock, earlier: Earlier, sample: Sample, plan: Plan) -> None:
        context, self.groups, self.queries = near.context, near.groups, near.queries
        screen = near.view.screen
        if screen.dtype is np.float64:
            screen = mixed_or_sharp(context.payload, context.settings, len(queries), context.n_threads)
        self.context, self._view = context, View(context, screen, queries)
        view, asked = self._view, self.queries
        # Where rows are long, to load one for a single query takes longer than to compare it with eight.
        alone, graph = screen.dtype is np.float32, make_graph(context, queries, earlier.indices, earlier.distances)
        most = self.groups.most if alone else TOGETHER
        self._exploring = Exploring(context, self.groups, lambda: view.screener(asked, most), graph, alone=alone)
        self.promise, tried = self._exploring.calibrate(sample, sample.solve(near, _thresholds(near, earlier, sample)))
        self.looked, self.most = tried[-1][2], most_alone(near) if alone else most_near(near)
        self.plan = replace(
            plan,
            strategy="from answer",
            screen=screen.name,
            screened_by=OWN,
            alone=alone,
            promise=self.promise,
            promises=tried,
            expected=expected.from_answer(near, sample, screen, self.looked, alone),
        )

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        begin, end = self.groups.span(first, last)
        assert self.promise is not None  # without one something else is done
        counts = self._exploring.look(first, last, self.promise, np.full(end - begin, -np.inf))
        screener = self._exploring.screener
        rows = screener.take()
        out = self.context.scan(scan_plans.plan_of_lists(self.queries.slice(begin, end), counts, rows))
        return Found.of(out, self._view.screen.counters(screener, len(rows)))


def _thresholds(near: Near, earlier: Earlier, sample: Sample) -> list[NDArray[np.float64]]:
    """What the k-th best ``|rho|`` of each of a sample's queries is sure to reach: their old neighbours reach it."""
    context, places = near.context, np.concatenate(sample.members)
    lists = earlier.indices[near.groups.order[places]]
    counts = np.sum(lists >= 0, axis=1)
    rows = context.payload.row[lists[lists >= 0]]
    found = context.scan(scan_plans.plan_of_lists(permuted(near.queries, places), counts, rows))
    return np.split(least_rho(found.distances[:, -1]), np.cumsum([len(own) for own in sample.members])[:-1])


def from_answer(near: Near, queries: QueryBlock, earlier: Earlier, plan: Plan) -> FromAnswer | None:
    """A search that begins with an earlier answer; None where that misses the recall target, or may not be tried."""
    if not asks_every_row(near):
        return None
    sample = Sample.draw(near)
    if sample is None:
        return None
    found = FromAnswer(near, queries, earlier, sample, plan)
    return found if found.promise is not None and found.looked < found.most else None
