"""Sweeps (`exact`): every group looks at all rows, through a screen where that pays."""

import numpy as np
from numpy.typing import NDArray

from covertreex.base import parallel, tuning
from covertreex.protocols import QueryBlock
from covertreex.results import Plan
from covertreex.search import scan_plans
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups, group_queries
from covertreex.search.screens.view import View
from covertreex.search.strategy import Found, LastPass


def sweep_groups(context: SearchContext, queries: QueryBlock) -> Groups:
    """The groups of a sweep."""
    return group_queries(context.payload, queries, tuning.SWEEP_MOST, tuning.SWEEP_SHARE, n_threads=context.n_threads)


class Sweep(LastPass):
    """All groups are compared with all rows.

    Parameters
    ----------
    context : SearchContext
    groups : Groups
        See `sweep_groups`.
    queries : QueryBlock
        In their order.
    view : View or None
        The screen; without one the backend compares every pair.
    start : ndarray, shape (q,), float64, or None
        In the same order, what the k-th best ``|rho|`` of each query is sure to reach.
    plan : Plan
    """

    def __init__(
        self,
        context: SearchContext,
        groups: Groups,
        queries: QueryBlock,
        view: View | None,
        start: NDArray[np.float64] | None,
        plan: Plan,
    ) -> None:
        self.context, self.groups, self.queries, self.plan = context, groups, queries, plan
        self.view, self.start = view, start
        if view is not None:
            self._screener = parallel.PerThread(lambda: view.screener(queries, groups.most))

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        start, stop = self.groups.span(first, last)
        block = self.queries.slice(start, stop)
        plan = scan_plans.whole_range(self.context.payload, block, self.groups.ptr[first : last + 1] - start)
        if self.view is None:
            return Found.of(self.context.scan(plan))
        screener = self._screener.get()
        _, counts = screener.sweep(plan, start, None if self.start is None else self.start[start:stop])
        rows = screener.take()
        out = self.context.scan(scan_plans.plan_of_lists(block, counts, rows))
        return Found.of(out, self.view.screen.counters(screener, len(rows)))
