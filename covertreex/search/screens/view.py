"""A screen and the queries that look through it."""

import numpy as np

from covertreex._core.screen import Lens, Screener
from covertreex.protocols import QueryBlock, ScanPlan
from covertreex.search.context import SearchContext
from covertreex.search.scan_plans import plan_of_lists
from covertreex.search.screens.cache import surely_sharp
from covertreex.search.screens.plain import Screen, least_rho


class View:
    """The data of a search as a screen sees it, for the queries of one block, in whatever order these come.

    Attributes
    ----------
    screen : Screen
    outside : Outside
        What the screen needs of queries that are no rows of the payload.
    """

    def __init__(self, context: SearchContext, screen: Screen, queries: QueryBlock) -> None:
        self._context, self.screen, self.outside = context, screen, screen.of_queries(queries)

    def lens(self, queries: QueryBlock, most: int) -> Lens:
        """One thread's lens for groups of at most `most` queries."""
        return self.screen.lens(queries, most, self.outside)

    def screener(self, queries: QueryBlock, most: int) -> Screener:
        """One thread's screener of such groups. What it leaves in doubt it looks at again in float64."""
        lens, float64 = self.lens(queries, most), surely_sharp(self._context.payload)
        again = None if self.screen is float64 else float64.lens(queries, most)
        first = again if self.screen.needs_thresholds else None
        return self._context.screener(lens, queries, most, first=first, again=again)

    def shortlist(self, plan: ScanPlan, k: int) -> tuple[ScanPlan, dict[str, int]]:
        """A plan with one group per query, which holds the rows of `plan` that may be among its k nearest.

        Parameters
        ----------
        plan : ScanPlan
        k : int
            0 for all rows that may be within ``plan.kth_upper``.

        Returns
        -------
        plan : ScanPlan
        counters : dict of str to int
            What the screen did: `gate_rejects` in float32, `gemm_tiles` in float64, `canonical_rechecks`.
        """
        queries, most = plan.queries, int(np.max(np.diff(plan.group_ptr), initial=0))
        screener = self._context.screener(self.lens(queries, most), queries, most, k=k)
        _, counts = screener.sweep(plan, 0, least_rho(plan.kth_upper))
        rows = screener.take()
        return plan_of_lists(queries, counts, rows, plan.kth_upper), self.screen.counters(screener, len(rows))
