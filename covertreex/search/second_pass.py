"""The second pass of a scan with a recall target: neighbours of neighbours.

A first pass looks at the rows nearest in coordinates. What it misses is correlated but not near, and most of that has
neighbours in common with the query: it is found by a look at the neighbours of the neighbours found so far (source:
Dong, Charikar, Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW 2011), those
whose product of correlations promises enough. How much is enough is calibrated on a sample, solved exactly.
"""

import threading
from dataclasses import replace
from functools import partial

import numpy as np

from covertreex.backends.telemetry import COUNTERS
from covertreex.base import parallel
from covertreex.protocols import SearchOutput
from covertreex.search import plans
from covertreex.search.planner import meets, mixed_screen
from covertreex.search.screens.plain import least_rho

#: Queries that share candidates: as many as a float64 screen compares at once.
TOGETHER = plans.INNER

#: Lists that a graph takes in one task.
TAKEN = 8192

#: Products tried, in units of a query's own k-th; the last lets nearly all neighbours of neighbours through.
PROMISES = (np.inf, 1.1, 1.05, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3)


def second_pass(first, indices, distances):
    """What follows the first pass of a scan.

    Parameters
    ----------
    first : covertreex.search.planner.ScanPlanner
    indices, distances : ndarray, shape (q, k)
        What it found, in the caller's order.

    Returns
    -------
    GraphPlanner, ScanPlanner or None
        A `ScanPlanner` starts anew: neighbours of neighbours do not meet the target. None: there is nothing more to do.
    """
    if first.seen is None:
        return None
    planner = GraphPlanner(first, indices, distances)
    if planner.plan.promise is None:
        return first.in_one_pass()
    if planner.plan.promise < np.inf:
        return planner
    first.plan = replace(planner.plan, promise=None)
    return None


def make_graph(payload, queries, indices, distances, n_threads, cancel):
    """A `covertreex._core.graph.Graph` of what the queries found: all payload rows, each once."""
    from covertreex._core.graph import Graph

    n = len(payload)
    graph = Graph(n, indices.shape[1])

    def take(begin, end):
        graph.take(queries.rows[begin:end], payload.row, indices[begin:end], distances[begin:end])

    parallel.run([partial(take, *span) for span in parallel.spans(n, TAKEN)], n_threads, cancel)
    spans = parallel.spans(n, -(-n // n_threads))
    parallel.run([partial(graph.count, *span) for span in spans], n_threads, cancel)
    graph.make_room()
    parallel.run([partial(graph.link, *span) for span in spans], n_threads, cancel)
    return graph


class GraphPlanner:
    """Plans a second pass and answers its groups. Use as of `covertreex.search.planner.ScanPlanner`.

    Parameters
    ----------
    first : covertreex.search.planner.ScanPlanner
        That of the first pass.
    indices, distances : ndarray, shape (q, k)
        What it found, in the caller's order; replaced by what is found, group after group.
    """

    def __init__(self, first, indices, distances):
        self.payload, self.k, self.settings, self.backend = first.payload, first.k, first.settings, first.backend
        self.cancel, self.groups, self.queries, self.seen = first.cancel, first.groups, first.queries, first.seen
        self.indices, self.distances = indices, distances
        self.screen = mixed_screen(self.payload, self.settings, len(self.queries), first.n_threads)
        self._graph = make_graph(self.payload, first.asked, indices, distances, first.n_threads, self.cancel)
        self._scratch = threading.local()
        promise, tried = self._calibrate(first, first.n_threads)
        seen = float(np.mean([len(rows) for rows in self.seen]))
        self.plan = replace(
            first.plan, tried=((first.least, 1, tried[0][1], seen),), promise=promise, promises=tried[1:]
        )

    def _explorer(self):
        """This thread's `covertreex._core.graph.Explorer` and its `Screener`."""
        from covertreex._core.canonical import PayloadView
        from covertreex._core.graph import Explorer
        from covertreex._core.screen import Screener

        scratch = self._scratch.__dict__
        if not scratch:
            lens = self.screen.lens(self.queries, TOGETHER)
            view = PayloadView(self.payload)
            scratch["screener"] = Screener(lens, lens, None, self.queries, view, self.k, TOGETHER, self.cancel)
            scratch["explorer"] = Explorer(self._graph, scratch["screener"], TOGETHER)
        return scratch["explorer"], scratch["screener"]

    def _calibrate(self, first, n_threads):
        """The largest promise at which a sample has its neighbours, None if there is none; and what was tried."""
        sample, ptr, order = first.sample, self.groups.ptr, self.groups.order
        if sample is None:
            groups = first.near.sample()
            members = first.near.members(groups)
            sample = first.near.solve(groups, members, [least_rho(self.distances[order[own], -1]) for own in members])
        groups = sample.groups
        shape = len(groups), len(PROMISES)
        missed, looked = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)

        def trial(i):
            begin, end = ptr[groups[i]], ptr[groups[i] + 1]
            seen, members, rows = self.seen[groups[i]], sample.members[i], sample.rows[i]
            self._explorer()[0].trial(begin, end, seen, members, rows, promises, missed[i], looked[i])
            return -(-(end - begin) // TOGETHER)

        promises = np.array(PROMISES, dtype=np.float32)
        parts = sum(parallel.run([partial(trial, i) for i in range(len(groups))], n_threads, self.cancel))
        wanted, tried = np.array([np.sum(rows >= 0) for rows in sample.rows]), []
        for promise, tries, rows in zip(PROMISES, missed.T, looked.sum(axis=0), strict=True):
            tried.append((promise, float(1.0 - tries.sum() / max(1, wanted.sum())), rows / parts))
            if meets(self.settings.recall_target, missed.T[: len(tried)], wanted):
                return promise, tuple(tried)
        return None, tuple(tried)

    def answer(self, first, last, out):
        """Answer groups `first` to `last` (exclusive) into `out`; return what was counted."""
        from covertreex._core.graph import merge

        ptr = self.groups.ptr
        block = self.queries.slice(ptr[first], ptr[last])
        place = self.groups.order[ptr[first] : ptr[last]]
        indices, distances = self.indices[place], self.distances[place]
        kth, counts = distances[:, -1].copy(), np.zeros(len(block), dtype=np.int64)
        start = least_rho(kth)
        explorer, screener = self._explorer()
        for group in range(first, last):
            part = slice(ptr[group] - ptr[first], ptr[group + 1] - ptr[first])
            explorer.look(ptr[group], ptr[group + 1], self.seen[group], self.plan.promise, start[part], counts[part])
        rows = screener.take()
        plan = plans.plan_of_lists(block, counts, rows, kth)
        self.backend.scan(self.payload, plan, self.k, self.settings, out)
        tied = np.empty(len(block), dtype=np.uint8)
        found = out.indices.copy()
        merge(indices, distances, out.indices, out.distances, tied)
        tied = np.flatnonzero(tied)
        if len(tied):
            self._decide(plans.permuted(block, tied), (indices[tied], found[tied]), tied, out)
        return self.screen.counters(screener, len(rows))

    def _decide(self, block, lists, places, out):
        """Let the backend choose from both lists of some queries, where distances alone do not tell (A7)."""
        both = np.concatenate(lists, axis=1)
        rows = [self.payload.row[one[one >= 0]] for one in both]
        plan = plans.plan_of_lists(block, np.array([len(one) for one in rows]), np.concatenate(rows))
        decided = replace(SearchOutput.empty(len(block), self.k), cancel=self.cancel)
        self.backend.scan(self.payload, plan, self.k, self.settings, decided)
        out.indices[places], out.distances[places] = decided.indices, decided.distances
        for name in ("distance_evals", "nodes_visited", "yields"):
            out.counters[places, COUNTERS.index(name)] += decided.counters[:, COUNTERS.index(name)]
