"""Neighbours under a covariance that only a function of the caller's knows: all rows, or candidates for `fast`."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from covertreex.base import tuning
from covertreex.base.contract import CALLED
from covertreex.data.payload import EUCLIDEAN, ROUNDOFF, PayloadStore
from covertreex.errors import SettingsError
from covertreex.kernels import Covariance
from covertreex.protocols import QueryBlock, ScanPlan, SearchOutput
from covertreex.results import Plan
from covertreex.search import driver
from covertreex.search.boxes import Boxes
from covertreex.search.context import SearchContext
from covertreex.search.groups import permuted
from covertreex.search.scan_plans import plan_of_lists, whole_range
from covertreex.search.strategy import Found, LastPass, Strategy
from covertreex.search.sweep import Sweep, sweep_groups

WHY = "the covariance is a function of the caller's, which no compiled code knows"


def is_called(payload: PayloadStore) -> bool:
    """Whether only the caller's function knows the covariance."""
    return payload.kernel_code == CALLED


def refuse_tree() -> None:
    """Raise a SettingsError: there is no cover tree."""
    raise SettingsError(
        "a Covariance of your own has no cover tree, which these settings ask for; take settings='exact' or 'fast'."
    )


class Candidates(LastPass):
    """Each query is compared with the rows that are nearest to it in other coordinates.

    Parameters
    ----------
    context : SearchContext
    queries : QueryBlock
    rows : ndarray, shape (q, c), int64
        Payload rows; -1 past the last.
    plan : Plan
    """

    def __init__(self, context: SearchContext, queries: QueryBlock, rows: NDArray[np.int64], plan: Plan) -> None:
        self.context, self.groups, self.plan = context, sweep_groups(context, queries), plan
        self.queries, self._rows = permuted(queries, self.groups.order), rows[self.groups.order]

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        start, stop = self.groups.span(first, last)
        return Found.of(self.context.scan(_plan(self.queries.slice(start, stop), self._rows[start:stop])))


def _plan(queries: QueryBlock, rows: NDArray[np.int64]) -> ScanPlan:
    rows = np.sort(rows, axis=1)
    return plan_of_lists(queries, np.sum(rows >= 0, axis=1), rows[rows >= 0])


def choose_called(context: SearchContext, queries: QueryBlock) -> Strategy:
    """The strategy of a block of queries: all rows, or as many candidates as meet the recall target in a sample."""
    target, n = context.settings.recall_target, len(context.payload)
    if target < 1.0 and n > tuning.CALLED_ALL and len(queries) > tuning.CALLED_SAMPLE:
        near = Near(context)
        sample = np.unique(np.linspace(0, len(queries) - 1, tuning.CALLED_SAMPLE).astype(np.int64))
        some = _at(queries, sample)
        truth = context.exact.scan(whole_range(context.payload, some))
        count = tuning.CALLED_FEWEST * context.k
        while 2 * count < n:
            found = context.scan(_plan(some, near.rows(some, count)))
            recall = _share(found, truth)
            if recall >= target:
                plan = context.plan("scan", WHY, strategy="candidates", candidates=count, sampled_recall=recall)
                return Candidates(context, queries, near.rows(queries, count), plan)
            count *= 2
    groups = sweep_groups(context, queries)
    return Sweep(context.exact, groups, permuted(queries, groups.order), None, None, context.plan("scan", WHY))


def _at(queries: QueryBlock, places: NDArray[np.int64]) -> QueryBlock:
    return replace(queries, rows=queries.rows[places], exclude=queries.exclude[places], limit=queries.limit[places])


def _share(found: SearchOutput, truth: SearchOutput) -> float:
    """The share of true distances that were found, so that ties do not matter."""
    there = np.isfinite(truth.distances)
    return float(np.mean(found.distances[there] <= truth.distances[there])) if there.any() else 1.0


class Near:
    """Where candidates are looked for: the payload's points in other coordinates, under Euclidean distance."""

    def __init__(self, context: SearchContext) -> None:
        payload = context.payload
        self._context, self._kernel = context, payload.covariance
        assert isinstance(self._kernel, Covariance)
        coords = self._kernel.near(payload.coords, payload.factors)
        d = coords.shape[1]
        self._payload = PayloadStore(
            EUCLIDEAN, None, coords, np.zeros((len(coords), 0)), np.zeros(0), payload.index, payload.row, 1e-300,
            (2 * d + 16) * ROUNDOFF,
        )  # fmt: skip

    def rows(self, queries: QueryBlock, count: int) -> NDArray[np.int64]:
        """The `count` nearest payload rows of each query, shape (q, count); -1 past the last."""
        assert isinstance(self._kernel, Covariance)
        coords = self._kernel.near(queries.coords, queries.factors)
        block = replace(queries, coords=coords, factors=np.zeros((len(coords), 0)), p=np.zeros(0))
        context = replace(self._context.exact, payload=self._payload, k=count)
        results = driver.NearestResults(len(queries), count)
        found = driver.run(context, Boxes(context, block), results, 0.0).indices
        return np.where(found >= 0, self._payload.row[found], -1)
