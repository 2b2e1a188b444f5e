"""The query driver: runs a strategy, pass after pass, block after block on threads, and merges what is found.

There is one, for every backend, profile and question. Results do not depend on how it cuts or shares (R1, R2).
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from covertreex.backends.telemetry import BlockRecord, Telemetry, merge_counters, merge_totals
from covertreex.base.contract import COUNTERS
from covertreex.base.progress import Progress
from covertreex.errors import BackendError
from covertreex.results import Plan
from covertreex.search.context import SearchContext
from covertreex.search.strategy import Found, Strategy

_stops = [column for column, name in enumerate(COUNTERS) if name.startswith("stop_")]

#: Columns of the counters of which each query has one, equal to 1, when it was answered; they stand side by side.
STOPS = slice(min(_stops), max(_stops) + 1)


@dataclass(frozen=True, eq=False)
class Answer:
    """What the driver returns: results in query order, and what was counted.

    Attributes
    ----------
    indices, distances : ndarray, int64 and float64
        Of shape (q, k), or one query's after the other's where there is `indptr`.
    telemetry : Telemetry
    plan : Plan
    indptr : ndarray, shape (q + 1,), int64, or None
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    telemetry: Telemetry
    plan: Plan
    indptr: NDArray[np.int64] | None = None


#: `indptr` (None where each query has k), `indices` and `distances`, in the caller's order.
Arrays: TypeAlias = tuple[NDArray[np.int64] | None, NDArray[np.int64], NDArray[np.float64]]


class Results(Protocol):
    """Where blocks put what they have found; several threads do so at once, each for queries of its own."""

    def put(self, places: NDArray[np.int64], found: Found) -> None:
        """Take what the queries at some places of the caller's order have found."""
        ...

    def following(self, strategy: Strategy) -> Strategy | None:
        """The pass that follows a strategy, given all that was found."""
        ...

    def arrays(self) -> Arrays:
        """All that was found; to be asked for once."""
        ...


class NearestResults:
    """The k nearest of each query."""

    def __init__(self, queries: int, k: int) -> None:
        self.indices, self.distances = np.empty((queries, k), dtype=np.int64), np.empty((queries, k))

    def put(self, places: NDArray[np.int64], found: Found) -> None:
        """As `Results.put`; what a later pass finds takes the place of what was there."""
        if len(places) == len(self.indices) == 1:
            self.indices, self.distances = found.indices, found.distances
            return
        self.indices[places], self.distances[places] = found.indices, found.distances

    def following(self, strategy: Strategy) -> Strategy | None:
        """As `Results.following`."""
        return strategy.following(self.indices, self.distances)

    def arrays(self) -> Arrays:
        """As `Results.arrays`."""
        return None, self.indices, self.distances


class RadiusResults:
    """Any number of neighbours of each query."""

    def __init__(self, queries: int) -> None:
        self._queries, self._parts = queries, list[tuple[NDArray[np.int64], NDArray[np.int64], Found]]()

    def put(self, places: NDArray[np.int64], found: Found) -> None:
        """As `Results.put`."""
        assert found.counts is not None  # a search within a radius says how many each query has
        self._parts.append((places, found.counts, found))

    def following(self, strategy: Strategy) -> Strategy | None:
        """As `Results.following`: None, for one pass finds all that is within."""
        return None

    def arrays(self) -> Arrays:
        """As `Results.arrays`."""
        indptr = np.zeros(self._queries + 1, dtype=np.int64)
        for places, counts, _ in self._parts:
            indptr[1 + places] = counts
        np.cumsum(indptr, out=indptr)
        indices, distances = np.empty(indptr[-1], dtype=np.int64), np.empty(indptr[-1])
        while self._parts:  # a part is let go when it is in its place
            places, counts, found = self._parts.pop()
            to = np.arange(len(found.indices)) + np.repeat(indptr[places] - (np.cumsum(counts) - counts), counts)
            indices[to], distances[to] = found.indices, found.distances
        return indptr, indices, distances


def run(context: SearchContext, strategy: Strategy, results: Results, begin: float) -> Answer:
    """Answer all queries of a strategy and of those that follow it.

    Parameters
    ----------
    context : SearchContext
    strategy : Strategy
    results : Results
    begin : float
        When the search began, by ``time.perf_counter()``.

    Returns
    -------
    Answer

    Raises
    ------
    BackendError
        If the backend gave a query no stop reason, or more than one.
    """
    records: list[BlockRecord] = []
    unfit, passes, total = 0, 0, len(strategy.queries)
    following: Strategy | None = strategy
    while following is not None:
        strategy, passes = following, passes + 1
        bad, more = _run_pass(context, strategy, results, passes, len(records))
        unfit += bad
        records += more
        following = results.following(strategy)
    if unfit:
        raise BackendError(
            f"backend {context.backend.name!r} gave {unfit} of {total} queries no stop reason, or more than one; its "
            "answer cannot be trusted. Run the conformance checks on it."
        )
    indptr, indices, distances = results.arrays()
    telemetry = Telemetry(
        counters=merge_totals(record.counters for record in records),
        seconds=time.perf_counter() - begin,
        n_threads=context.n_threads,
        blocks=tuple(records) if context.settings.telemetry else (),
    )
    return Answer(indices, distances, telemetry, strategy.plan, indptr)


def _unfit(stops: NDArray[np.int64]) -> int:
    """How many queries have no stop reason, or more than one."""
    if len(stops) == 1:
        return int(sum(stops[0].tolist()) != 1)
    return int(np.count_nonzero(stops.sum(axis=1) != 1))


def _run_pass(
    context: SearchContext, strategy: Strategy, results: Results, number: int, before: int
) -> tuple[int, list[BlockRecord]]:
    """One pass, the `number`-th: how many queries the backend gave no stop reason or more than one, and the records of
    blocks, which are numbered from `before`.
    """
    groups, queries, plan = strategy.groups, strategy.queries, strategy.plan

    def answer(block: int, first: int, last: int) -> tuple[int, BlockRecord]:
        clock, (start, stop) = time.perf_counter(), groups.span(first, last)
        found = strategy.answer(first, last)
        results.put(groups.order[start:stop], found)
        unfit = _unfit(found.counters[:, STOPS])
        if number > 1:  # a query stops once
            found.counters[:, STOPS] = 0
        counters = merge_counters(found.counters)
        for name, value in found.screened.items():
            counters[name] += value
        return unfit, BlockRecord(
            backend=context.backend.name,
            profile=context.settings.profile,
            verb=plan.verb,
            block=block,
            queries=stop - start,
            k=context.k,
            seconds=time.perf_counter() - clock,
            counters=counters,
            pass_number=number,
            screened_by=plan.screened_by,
        )

    tasks = [partial(answer, before + i, *span) for i, span in enumerate(groups.blocks)]
    with Progress("second pass" if number > 1 else "queries", len(queries)) as progress:
        done: Iterable[tuple[int, BlockRecord]] = context.run(
            tasks, lambda one: progress.advance(one[1].queries), context.is_brief(len(queries))
        )
    return sum(bad for bad, _ in done), [record for _, record in done]
