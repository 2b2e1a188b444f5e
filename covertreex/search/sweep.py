"""Sweeps (`exact`): every group looks at all rows, through a screen where that pays."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from covertreex.base import tuning
from covertreex.protocols import QueryBlock
from covertreex.results import Plan
from covertreex.search import scan_plans
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups, group_queries, permuted
from covertreex.search.screens.cache import surely_sharp
from covertreex.search.screens.view import View
from covertreex.search.shortlists import Shortlists, batched
from covertreex.search.strategy import Found, LastPass


def sweep_groups(context: SearchContext, queries: QueryBlock, apart: NDArray[np.bool_] | None = None) -> Groups:
    """The groups of a sweep; some queries may be kept apart, which are few."""
    most = tuning.SWEEP_MOST if len(queries) >= tuning.WORTH_MORE else tuning.SWEEP_FEWER

    def grouped(some: QueryBlock, share: float) -> Groups:
        return group_queries(context.payload, some, most, share, n_threads=context.n_threads)

    if apart is None or not apart.any():
        return grouped(queries, tuning.SWEEP_SHARE)
    few, others = np.flatnonzero(apart), np.flatnonzero(~apart)
    # Of few there are hardly two of like limits.
    return Groups.beside(
        grouped(permuted(queries, few), tuning.NEAR_SHARE),
        grouped(permuted(queries, others), tuning.SWEEP_SHARE),
        np.concatenate([few, others]),
    )


class Sweep(LastPass):
    """All groups are compared with all rows.

    Parameters
    ----------
    context : SearchContext
    groups : Groups
        See `sweep_groups`; those that are apart are looked at in float64, for the screen would tell nothing of them.
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
        self.start = start
        self.lists: Shortlists | None = None  # none where the backend compares every pair
        if view is not None:
            self.lists = self._apart = Shortlists(context, view, queries, groups.most)
            if groups.apart:
                float64 = View(context, surely_sharp(context.payload), queries)
                self._apart = Shortlists(context, float64, queries, groups.most)
            self.groups = batched(context, groups)
            self.plan = replace(plan, **self.lists.told())

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        start, stop = self.groups.span(first, last)
        block = self.queries.slice(start, stop)
        plan = scan_plans.whole_range(self.context.payload, block, self.groups.ptr[first : last + 1] - start)
        if self.lists is None:
            return Found.of(self.context.scan(plan))
        lists = self._apart if first < self.groups.apart else self.lists
        short, screened = lists.of(plan, start, None if self.start is None else self.start[start:stop])
        return Found.of(self.context.scan(short), screened)
