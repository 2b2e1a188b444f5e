"""Rings (`fast`): a group of queries looks at the rows nearest to it in coordinates, until rings bring it little."""

import numpy as np
from numpy.typing import NDArray

from covertreex.results import Plan
from covertreex.search import scan_plans
from covertreex.search.calibration import Rule, places_of_share
from covertreex.search.near import Near
from covertreex.search.strategy import Found, LastPass


class Rings(LastPass):
    """Groups of `near` look at rings by a rule that was calibrated to a recall target."""

    def __init__(self, near: Near, rule: Rule, plan: Plan) -> None:
        self.context, self.near, self.rule, self.plan = near.context, near, rule, plan
        self.groups, self.queries = near.groups, near.queries
        assert rule.least is not None  # without a share all rows are looked at: that is a sweep
        self.least: float = rule.least

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        ptr, (start, stop) = self.groups.ptr, self.groups.span(first, last)
        thresholds, counts = np.empty(stop - start), np.zeros(stop - start, dtype=np.int64)
        for group in range(first, last):
            part = slice(ptr[group] - start, ptr[group + 1] - start)
            self._search(group, thresholds[part], counts[part])
        screener = self.near.screener
        rows = screener.take()
        out = self.context.scan(scan_plans.plan_of_lists(self.queries.slice(start, stop), counts, rows))
        return Found.of(out, self.near.view.screen.counters(screener, len(rows)))

    def _search(self, group: int, thresholds: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        rule, near = self.rule, self.near
        if rule.alone:
            gain = places_of_share(self.least, self.context.k)
            near.search_rings_alone(group, gain, rule.patience, thresholds, counts)
        else:
            near.search_rings(group, self.least, rule.patience, thresholds, counts)
