"""Radius search: every row within a distance of a query, by every backend's scan.

What may be within is found first: under Euclidean distance by the boxes of the k nearest, under correlation by a screen
whose threshold is the radius. A scan of that alone decides, in canonical arithmetic: a row belongs to the answer if its
computed distance is at most the radius, so backends and threads have no influence on it.
"""

import threading
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real

import numpy as np

from covertreex.base import parallel
from covertreex.base.limits import available_memory
from covertreex.base.progress import Progress
from covertreex.data.payload import EUCLIDEAN
from covertreex.errors import InvalidInputError
from covertreex.protocols import ScanPlan, SearchOutput
from covertreex.search import plans
from covertreex.search.planner import choose_screen

#: Groups of queries that one task answers.
GROUPS = 16

#: Neighbours that one scan has room for: queries of a scan times candidates of the query that has most.
ROOM = 2**20

#: Bytes that each neighbour takes: index and distance, as they are found and in the order of the queries.
BYTES = 32


def check_radius(payload, radius, min_correlation):
    """The radius as a distance.

    Raises
    ------
    InvalidInputError
        Unless just one is given, in range, and the metric is a correlation if it is `min_correlation`.
    """
    if (radius is None) == (min_correlation is None):
        raise InvalidInputError("give a radius r, or min_correlation=..., and not both.")
    if radius is not None:
        if isinstance(radius, (bool, np.bool_)) or not isinstance(radius, Real) or not radius >= 0.0:
            raise InvalidInputError(f"r must be a distance, a number of 0 or above, got {radius!r}.")
        return float(radius)
    if payload.metric == EUCLIDEAN:
        raise InvalidInputError("min_correlation needs a kernel; this metric is Euclidean. Give a radius r.")
    good = isinstance(min_correlation, Real) and not isinstance(min_correlation, (bool, np.bool_))
    if not good or not 0.0 <= min_correlation <= 1.0:
        raise InvalidInputError(f"min_correlation must be a number from 0 to 1, got {min_correlation!r}.")
    return float(np.sqrt(1.0 - min_correlation))


def check_max_bytes(max_bytes):
    """`max_bytes`, or half of the memory that is available for None.

    Raises
    ------
    InvalidInputError
        If it is no positive number.
    """
    if max_bytes is None:
        return available_memory() / 2
    good = isinstance(max_bytes, Real) and not isinstance(max_bytes, (bool, np.bool_))
    if not good or not max_bytes > 0:
        raise InvalidInputError(
            "max_bytes must be a positive number of bytes, or None for half of the memory available, got "
            f"{max_bytes!r}. Give math.inf for no limit."
        )
    return float(max_bytes)


def check_batch_size(batch_size):
    """`batch_size`.

    Raises
    ------
    InvalidInputError
        If it is no positive integer.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise InvalidInputError(f"batch_size must be a number of queries, a positive integer, got {batch_size!r}.")
    return int(batch_size)


def batches(queries, size):
    """Blocks of `size` consecutive queries at most, each with its own external data alone."""
    for start, stop in parallel.spans(len(queries), size):
        block = queries.slice(start, stop)
        if block.rows[0] < 0:
            rows = -1 - np.arange(stop - start, dtype=np.int64)
            data = (array[start:stop] for array in (queries.coords, queries.factors, queries.p))
            block = replace(block, rows=rows, **dict(zip(("coords", "factors", "p"), data, strict=True)))
        yield block


class _Tally:
    """Neighbours found so far, and the refusal once they are more than there is memory for."""

    def __init__(self, queries, radius, max_bytes):
        self.queries, self.radius, self.max_bytes = queries, radius, max_bytes
        self.answered = self.found = 0
        self._lock = threading.Lock()

    def add(self, queries, neighbours):
        with self._lock:
            self.answered += queries
            self.found += neighbours
            answered, found = self.answered, self.found
        if found * BYTES <= self.max_bytes:
            return
        about = found * self.queries / answered
        fit = int(0.5 * self.max_bytes / BYTES * answered / found)
        block = f", or go through them block after block: radius_batches(..., batch_size={fit})" if fit else ""
        raise InvalidInputError(
            f"there are too many neighbours within {self.radius:.6g}: {found:,} of the first {answered:,} queries, "
            f"about {about:,.0f} of all {self.queries:,}. They take {BYTES} bytes each, {_size(about * BYTES)}, and "
            f"max_bytes allows {_size(self.max_bytes)}. Give a smaller radius or a larger max_bytes{block}."
        )


def _size(count):
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000.0:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:,.3g} TB"


def search(payload, queries, radius, settings, backend, n_threads, max_bytes=np.inf):
    """All rows within `radius` of each query of a block.

    Parameters
    ----------
    payload : PayloadStore
    queries : QueryBlock
    radius : float
    settings : TraversalSettings
        Which screens may be used.
    backend : Traversal
    n_threads : int
    max_bytes : float
        Memory that the neighbours may take, `BYTES` each.

    Returns
    -------
    indptr : ndarray, shape (q + 1,), int64
    indices : ndarray, shape (total,), int64
        Payload indices; those of query i, the nearest first (A7), are ``indices[indptr[i]:indptr[i + 1]]``.
    distances : ndarray, shape (total,), float64

    Raises
    ------
    InvalidInputError
        If there are more neighbours than `max_bytes` has room for: they are counted as they are found.
    """
    tally = _Tally(len(queries), radius, max_bytes)
    cancel = np.zeros(1, dtype=np.int32)
    screen = choose_screen(payload, settings, len(queries))
    groups = plans.group_queries(payload, queries, plans.SWEEP_MOST if screen is not None else plans.NEAR_MOST)
    queries = plans.permuted(queries, groups.order)
    if payload.metric == EUCLIDEAN:
        shortlists = _near(payload, queries, radius, cancel)
    elif screen is not None:
        shortlists = _screened(screen, queries, radius, cancel)
    else:
        shortlists = _all_rows(payload, queries, radius)

    def answer(first, last):
        parts = []
        for plan in shortlists(groups.ptr[first : last + 1]):
            for part in _packed(plan):
                parts.append(_scan(payload, part, settings, backend, cancel))
                tally.add(len(parts[-1][0]), len(parts[-1][1]))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    tasks = [lambda span=span: answer(*span) for span in parallel.spans(len(groups), GROUPS)]
    with Progress("queries", len(queries)) as progress:
        found = parallel.run(tasks, n_threads, cancel, on_done=lambda part: progress.advance(len(part[0])))
    if not found:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)

    # From the order of groups to that of the queries; a part is let go when it is in its place.
    indptr = np.zeros(len(queries) + 1, dtype=np.int64)
    indptr[1 + groups.order] = np.concatenate([counts for counts, _, _ in found])
    np.cumsum(indptr, out=indptr)
    answers = np.empty(indptr[-1], dtype=np.int64), np.empty(indptr[-1])
    begin = 0
    for number, (counts, indices, distances) in enumerate(found):
        found[number] = None
        starts = indptr[groups.order[begin : begin + len(counts)]]
        to = np.arange(len(indices)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        answers[0][to], answers[1][to] = indices, distances
        begin += len(counts)
    return indptr, *answers


# Each of these makes a function of the bounds of some groups, which yields plans with one group per query: the rows
# that may be within its radius.


def _near(payload, queries, radius, cancel):
    from covertreex._core.euclid import within

    boxes, coords = payload.boxes, plans.query_coords(payload, queries)
    least = boxes.least(queries.rank)
    # B1 twice, in squares: from the computed distance of a box to the true one, from there to a computed one of a row.
    # Beyond this no row of a box computes as within the radius.
    reach = (radius * radius + 2.0 * payload.slack_abs) * (1.0 + 4.0 * payload.slack_rel)

    def shortlists(ptr):
        start, stop = ptr[0], ptr[-1]
        while start < stop:
            ptr, rows = within(
                boxes, coords[start:stop], queries.limit[start:stop], queries.rank, least, reach, ROOM, cancel
            )
            if cancel[0]:
                return
            block = queries.slice(start, start + len(ptr) - 1)
            yield plans.plan_of_lists(block, np.diff(ptr), rows, np.full(len(block), radius))
            start += len(ptr) - 1

    return shortlists


def _screened(screen, queries, radius, cancel):
    external = screen.of_queries(queries)

    def shortlists(ptr):
        for start, stop in pairwise(ptr):
            plan = plans.whole_range(screen.payload, queries.slice(start, stop))
            yield screen.shortlist(replace(plan, kth_upper=np.full(stop - start, radius)), 0, cancel, external)[0]

    return shortlists


def _all_rows(payload, queries, radius):
    step = max(1, ROOM // len(payload))

    def shortlists(ptr):
        for start in range(ptr[0], ptr[-1], step):
            stop = min(start + step, ptr[-1])
            plan = plans.whole_range(payload, queries.slice(start, stop), np.arange(stop - start + 1))
            yield replace(plan, kth_upper=np.full(stop - start, radius))

    return shortlists


def _packed(plan):
    """A plan with one group per query in parts that there is room for."""
    ends = np.concatenate([[0], np.cumsum(plan.run_stop - plan.run_start)])[plan.run_ptr]
    counts = np.diff(ends)
    start, widest = 0, 1
    for i in range(len(counts) if max(1, counts.max(initial=0)) * len(counts) > ROOM else 0):
        if i > start and max(widest, counts[i]) * (i + 1 - start) > ROOM:
            yield _part(plan, start, i), widest
            start, widest = i, 1
        widest = max(widest, int(counts[i]))
    yield _part(plan, start, len(counts)), max(1, int(counts[start:].max(initial=0)))


def _part(plan, start, stop):
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


def _scan(payload, part, settings, backend, cancel):
    """How many rows each query has within the radius, and which, one query after the other."""
    plan, most = part
    out = replace(SearchOutput.empty(len(plan.queries), most), cancel=cancel)
    backend.scan(payload, plan, most, settings, out)
    found = out.indices >= 0
    return found.sum(axis=1), out.indices[found], out.distances[found]
