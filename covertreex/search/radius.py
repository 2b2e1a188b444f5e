"""Radius search: every row within a distance of a query, by every backend's scan.

What may be within is found first: under Euclidean distance by the boxes of the k nearest, under correlation by a screen
whose threshold is the radius. A scan of that alone decides, in canonical arithmetic: a row belongs to the answer if its
computed distance is at most the radius, so backends and threads have no influence on it.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex.base import parallel, tuning
from covertreex.base.limits import available_memory
from covertreex.data.payload import EUCLIDEAN, PayloadStore
from covertreex.errors import InvalidInputError
from covertreex.protocols import QueryBlock, ScanPlan
from covertreex.search.boxes import boxes_of, lists_within
from covertreex.search.context import SearchContext
from covertreex.search.groups import group_queries, permuted, query_coords
from covertreex.search.scan_plans import plan_of_lists, whole_range
from covertreex.search.screens.cache import first_choice, for_sweep
from covertreex.search.screens.plain import least_rho
from covertreex.search.screens.view import View
from covertreex.search.shortlists import OWN, Shortlists
from covertreex.search.strategy import Found, LastPass

#: Bytes that each neighbour takes: index and distance, as they are found and in the order of the queries.
BYTES = 32

#: So many are had without asking how many there are.
FEW_BYTES = 2**20


def check_radius(payload: PayloadStore, radius: Any, min_correlation: Any) -> float:
    """The radius as a distance.

    Raises
    ------
    InvalidInputError
        Unless just one is given, in range, and the metric is a correlation if it is `min_correlation`.
    """
    if (radius is None) == (min_correlation is None):
        raise InvalidInputError("give a radius r, or min_correlation=..., and not both.")
    if radius is not None:
        good = isinstance(radius, Real) and not isinstance(radius, (bool, np.bool_))
        if not good or not radius >= 0.0:
            raise InvalidInputError(f"r must be a distance, a number of 0 or above, got {radius!r}.")
        return float(radius)
    if payload.metric == EUCLIDEAN:
        raise InvalidInputError("min_correlation needs a kernel; this metric is Euclidean. Give a radius r.")
    good = isinstance(min_correlation, Real) and not isinstance(min_correlation, (bool, np.bool_))
    if not good or not 0.0 <= min_correlation <= 1.0:
        raise InvalidInputError(f"min_correlation must be a number from 0 to 1, got {min_correlation!r}.")
    return float(np.sqrt(1.0 - min_correlation))


def check_max_bytes(max_bytes: Any) -> float | None:
    """`max_bytes`, or None for half of the memory that is available.

    Raises
    ------
    InvalidInputError
        If it is no positive number.
    """
    if max_bytes is None:
        return None
    good = isinstance(max_bytes, Real) and not isinstance(max_bytes, (bool, np.bool_))
    if not good or not max_bytes > 0:
        raise InvalidInputError(
            "max_bytes must be a positive number of bytes, or None for half of the memory available, got "
            f"{max_bytes!r}. Give math.inf for no limit."
        )
    return float(max_bytes)


def check_batch_size(batch_size: Any) -> int:
    """`batch_size`.

    Raises
    ------
    InvalidInputError
        If it is no positive integer.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise InvalidInputError(f"batch_size must be a number of queries, a positive integer, got {batch_size!r}.")
    return int(batch_size)


def batches(queries: QueryBlock, size: int) -> Iterator[QueryBlock]:
    """Blocks of `size` consecutive queries at most, each with its own external data alone."""
    for start, stop in parallel.spans(len(queries), size):
        block = queries.slice(start, stop)
        if block.rows[0] < 0:
            rows = -1 - np.arange(stop - start, dtype=np.int64)
            coords, factors, p = (array[start:stop] for array in (queries.coords, queries.factors, queries.p))
            block = replace(block, rows=rows, coords=coords, factors=factors, p=p)
        yield block


class Tally:
    """Neighbours found so far, and the refusal once they are more than `max_bytes`, or half of the memory there is.

    How much that is, is asked once they take `FEW_BYTES`: to ask takes longer than a query does.
    """

    def __init__(self, queries: int, radius: float, max_bytes: float | None) -> None:
        self.queries, self.radius, self.max_bytes = queries, radius, max_bytes
        self.answered = self.found = 0
        self._lock = threading.Lock()

    def add(self, queries: int, neighbours: int) -> None:
        """Count them.

        Raises
        ------
        InvalidInputError
            If there are too many by now.
        """
        with self._lock:
            self.answered += queries
            self.found += neighbours
            answered, found = self.answered, self.found
            if self.max_bytes is None and found * BYTES > FEW_BYTES:
                self.max_bytes = available_memory() / 2
        if self.max_bytes is None or found * BYTES <= self.max_bytes:
            return
        about = found * self.queries / answered
        fit = int(0.5 * self.max_bytes / BYTES * answered / found)
        block = f", or go through them block after block: radius_batches(..., batch_size={fit})" if fit else ""
        raise InvalidInputError(
            f"there are too many neighbours within {self.radius:.6g}: {found:,} of the first {answered:,} queries, "
            f"about {about:,.0f} of all {self.queries:,}. They take {BYTES} bytes each, {_size(about * BYTES)}, and "
            f"max_bytes allows {_size(self.max_bytes)}. Give a smaller radius or a larger max_bytes{block}."
        )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000.0:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:,.3g} TB"


class Radius(LastPass):
    """All rows within a radius of each query: candidates, which a scan decides.

    Parameters
    ----------
    context : SearchContext
        Its k is 0.
    queries : QueryBlock
    radius : float
    tally : Tally
    """

    def __init__(self, context: SearchContext, queries: QueryBlock, radius: float, tally: Tally) -> None:
        payload = context.payload
        self.context, self.radius, self._tally = context, radius, tally
        screen = first_choice(payload, context.settings, len(queries), context.n_threads)
        most = tuning.NEAR_MOST if screen is None else tuning.SWEEP_FEWER
        if payload.metric == EUCLIDEAN:
            most = tuning.BOX_LEAST
        self.groups = group_queries(payload, queries, most, n_threads=context.n_threads)
        self.queries = permuted(queries, self.groups.order)
        # Functions, not methods of this object: in a circle with them, all data would stay in memory.
        self._candidates: Callable[[Radius, NDArray[np.int64]], Iterator[ScanPlan]]
        if payload.metric == EUCLIDEAN:
            why, self._candidates = "boxes around blocks of rows leave few that may be within", Radius._by_boxes
            self._boxes = boxes_of(payload)
            self._least = self._boxes.least(queries.rank)
        elif screen is not None:
            why, self._candidates = "a screen whose threshold is the radius leaves few", Radius._by_screen
            start = least_rho(np.full(len(queries), radius))
            screen = for_sweep(payload, screen, queries, start, context.n_threads)
            self._lists = Shortlists(context, View(context, screen, queries), self.queries, self.groups.most, 0)
        else:
            why, self._candidates = "every pair is compared", Radius._all_rows
        boxed = OWN if payload.metric == EUCLIDEAN else ""
        self.plan = context.plan("scan", f"radius: {why}", strategy="radius", screened_by=boxed)
        if screen is not None:
            self.plan = replace(self.plan, **self._lists.told())

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`; how many neighbours each query has is in `Found.counts`."""
        parts = []
        for plan in self._candidates(self, self.groups.ptr[first : last + 1]):
            for part, most in _packed(plan):
                out = self.context.scan(part, most)
                found = out.indices >= 0
                parts.append((out.indices[found], out.distances[found], out.counters, found.sum(axis=1)))
                self._tally.add(len(found), len(parts[-1][0]))
        indices, distances, counters, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Found(indices, distances, counters, counts=counts)

    # Each of these yields plans with one group per query, for the places between bounds of groups: the rows that may be
    # within its radius.

    def _by_boxes(self, ptr: NDArray[np.int64]) -> Iterator[ScanPlan]:
        payload, queries, radius = self.context.payload, self.queries, self.radius
        # B1 twice, in squares: from the computed distance of a box to the true one, from there to a computed one of a
        # row. Beyond this no row of a box computes as within the radius.
        reach = (radius * radius + 2.0 * payload.slack_abs) * (1.0 + 4.0 * payload.slack_rel)
        asked = queries.slice(int(ptr[0]), int(ptr[-1]))
        reaches, coords = np.full(len(asked), reach), query_coords(payload, asked)
        for start, ends, rows in lists_within(self.context, self._boxes, self._least, asked, coords, reaches):
            block = asked.slice(start, start + len(ends) - 1)
            yield plan_of_lists(block, np.diff(ends), rows, np.full(len(block), radius))

    def _by_screen(self, ptr: NDArray[np.int64]) -> Iterator[ScanPlan]:
        for start, stop in pairwise(ptr):
            plan = whole_range(self.context.payload, self.queries.slice(start, stop))
            kth_upper = np.full(stop - start, self.radius)
            yield self._lists.of(plan, start, least_rho(kth_upper), kth_upper)[0]

    def _all_rows(self, ptr: NDArray[np.int64]) -> Iterator[ScanPlan]:
        step = max(1, tuning.RADIUS_ROOM // len(self.context.payload))
        for start in range(ptr[0], ptr[-1], step):
            stop = min(start + step, ptr[-1])
            plan = whole_range(self.context.payload, self.queries.slice(start, stop), np.arange(stop - start + 1))
            yield replace(plan, kth_upper=np.full(stop - start, self.radius))


def _packed(plan: ScanPlan) -> Iterator[tuple[ScanPlan, int]]:
    """A plan with one group per query in parts that there is room for."""
    ends = np.concatenate([[0], np.cumsum(plan.run_stop - plan.run_start)])[plan.run_ptr]
    counts = np.diff(ends)
    start, widest = 0, 1
    for i in range(len(counts) if max(1, counts.max(initial=0)) * len(counts) > tuning.RADIUS_ROOM else 0):
        if i > start and max(widest, counts[i]) * (i + 1 - start) > tuning.RADIUS_ROOM:
            yield _part(plan, start, i), widest
            start, widest = i, 1
        widest = max(widest, int(counts[i]))
    yield _part(plan, start, len(counts)), max(1, int(counts[start:].max(initial=0)))


def _part(plan: ScanPlan, start: int, stop: int) -> ScanPlan:
    if (start, stop) == (0, len(plan.queries)):
        return plan
    runs = slice(plan.run_ptr[start], plan.run_ptr[stop])
    return ScanPlan(
        queries=plan.queries.slice(start, stop),
        group_ptr=plan.group_ptr[start : stop + 1] - start,
        run_ptr=plan.run_ptr[start : stop + 1] - plan.run_ptr[start],
        run_start=plan.run_start[runs],
        run_stop=plan.run_stop[runs],
        run_lower=plan.run_lower[runs],
        kth_upper=plan.kth_upper[start:stop],
    )
