"""Neighbours of which few share a site: more are searched for, until enough are left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from covertreex.backends.telemetry import BlockRecord, Telemetry, merge_totals
from covertreex.base import parallel, tuning
from covertreex.base.types import FloatArray, IntArray
from covertreex.protocols import QueryBlock
from covertreex.search.context import SearchContext
from covertreex.search.driver import Answer


def few_per_site(sites: IntArray, most: int) -> NDArray[np.bool_]:
    """Which neighbours (q, k), nearest first, are among the first `most` of their site in their row; none of site -1.

    Examples
    --------
    >>> few_per_site(np.array([[7, 7, 2, 7, 2, -1]]), 1).astype(int).tolist()
    [[1, 0, 1, 0, 0, 0]]
    """
    order = np.argsort(sites, axis=1, kind="stable")
    along = np.take_along_axis(sites, order, axis=1)
    place = np.broadcast_to(np.arange(sites.shape[1]), sites.shape)
    first = np.ones(sites.shape, dtype=bool)
    first[:, 1:] = along[:, 1:] != along[:, :-1]
    start = np.maximum.accumulate(np.where(first, place, 0), axis=1)
    kept = np.empty(sites.shape, dtype=bool)
    np.put_along_axis(kept, order, (place - start < most) & (along >= 0), axis=1)
    return kept


@dataclass(frozen=True, eq=False)
class Spread:
    """The restriction that at most so many neighbours share a site.

    Attributes
    ----------
    sites : ndarray, shape (n,), int64
        The site of each index of the payload.
    most : int
    rows : int
        Rows that may be found at all: there are no more neighbours than that.
    """

    sites: IntArray
    most: int
    rows: int

    def nearest(
        self, context: SearchContext, queries: QueryBlock, search: Callable[[SearchContext, QueryBlock], Answer]
    ) -> Answer:
        """The `context.k` nearest of each query under this restriction: `search` looks for that many, and again for
        twice as many for those queries that came out short, until each has them or there are no more."""
        begin, (q, k) = time.perf_counter(), (len(queries), context.k)
        indices, distances = np.full((q, k), -1, dtype=np.int64), np.full((q, k), np.inf)
        first = search(context, queries)
        short, wanted = self._take(first, np.arange(q), indices, distances), k
        answers, again = [first], list[tuple[int, int]]()
        while len(short) and wanted < self.rows:
            wanted = min(2 * wanted, self.rows)
            again.append((len(short), wanted))
            left = []
            for start, stop in parallel.spans(len(short), max(1, tuning.SPREAD_CELLS // wanted)):
                places = short[start:stop]
                answers.append(search(replace(context, k=wanted), queries.take(places)))
                left.append(self._take(answers[-1], places, indices, distances))
                answers[-1] = replace(answers[-1], indices=indices[:0], distances=distances[:0])
            short = np.concatenate(left)
        telemetry = _together([answer.telemetry for answer in answers], time.perf_counter() - begin)
        return Answer(indices, distances, telemetry, replace(first.plan, again=tuple(again)))

    def _take(self, answer: Answer, places: IntArray, indices: IntArray, distances: FloatArray) -> IntArray:
        """Put what is left of an answer to the queries `places` where it belongs; those that may get more."""
        k = indices.shape[1]
        short = [np.zeros(0, dtype=np.int64)]
        for start, stop in parallel.spans(len(places), max(1, tuning.SPREAD_CELLS // answer.indices.shape[1])):
            found, far = answer.indices[start:stop], answer.distances[start:stop]
            kept = few_per_site(np.where(found >= 0, self.sites[found], -1), self.most)
            order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
            there = np.take_along_axis(kept, order, axis=1)
            part = places[start:stop]
            indices[part] = np.where(there, np.take_along_axis(found, order, axis=1), -1)
            distances[part] = np.where(there, np.take_along_axis(far, order, axis=1), np.inf)
            short.append(part[(found[:, -1] >= 0) & ~there[:, -1]])
        return np.concatenate(short)


def _together(parts: list[Telemetry], seconds: float) -> Telemetry:
    """Telemetry of one search, of whose queries some were searched for again: a query stops once."""
    counters, blocks, passes = [], list[BlockRecord](), 0
    for number, part in enumerate(parts):
        counters.append(part.counters if number == 0 else _without_stops(part.counters))
        blocks += [
            replace(
                record,
                block=len(blocks) + i,
                pass_number=record.pass_number + passes,
                counters=record.counters if number == 0 else _without_stops(record.counters),
            )
            for i, record in enumerate(part.blocks)
        ]
        passes = max((record.pass_number for record in blocks), default=passes + 1)
    return Telemetry(merge_totals(counters), seconds, parts[0].n_threads, tuple(blocks))


def _without_stops(counters: dict[str, int]) -> dict[str, int]:
    return {name: 0 if name.startswith("stop_") else value for name, value in counters.items()}
