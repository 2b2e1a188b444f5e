"""Radius search: every row within a distance of a query, by every backend's scan.

What may be within is found first: under Euclidean distance by boxes around blocks of rows, under correlation by a
screen whose threshold is the radius. A scan of that alone decides, in canonical arithmetic: a row belongs to the answer
if its computed distance is at most the radius, so backends and threads have no influence on it.
"""

from dataclasses import replace
from itertools import pairwise
from numbers import Real

import numpy as np

from covertreex import parallel, plans
from covertreex._core.boxes import Boxes
from covertreex.errors import InvalidInputError
from covertreex.payload import EUCLIDEAN
from covertreex.planner import choose_screen
from covertreex.progress import Progress
from covertreex.protocols import ScanPlan, SearchOutput

#: Groups of queries that one task answers.
GROUPS = 16

#: Neighbours that one scan has room for: queries of a scan times candidates of the query that has most.
ROOM = 2**20


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


def search(payload, queries, radius, settings, backend, n_threads):
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

    Returns
    -------
    indptr : ndarray, shape (q + 1,), int64
    indices : ndarray, shape (total,), int64
        Payload indices; those of query i, the nearest first (A7), are ``indices[indptr[i]:indptr[i + 1]]``.
    distances : ndarray, shape (total,), float64
    """
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
        parts = [
            _scan(payload, part, settings, backend, cancel)
            for plan in shortlists(groups.ptr[first : last + 1])
            for part in _packed(plan)
        ]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    tasks = [lambda span=span: answer(*span) for span in parallel.spans(len(groups), GROUPS)]
    with Progress("queries", len(queries)) as progress:
        found = parallel.run(tasks, n_threads, cancel, on_done=lambda part: progress.advance(len(part[0])))
    if not found:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    counts, indices, distances = (np.concatenate(arrays) for arrays in zip(*found, strict=True))

    # From the order of groups to that of the queries.
    indptr = np.zeros(len(queries) + 1, dtype=np.int64)
    indptr[1 + groups.order] = counts
    np.cumsum(indptr, out=indptr)
    begin = np.cumsum(counts) - counts
    to = np.arange(len(indices)) + np.repeat(indptr[groups.order] - begin, counts)
    answers = np.empty_like(indices), np.empty_like(distances)
    answers[0][to], answers[1][to] = indices, distances
    return indptr, *answers


# Each of these makes a function of the bounds of some groups, which yields plans with one group per query: the rows
# that may be within its radius.


def _near(payload, queries, radius, cancel):
    boxes, coords = Boxes(payload.coords), plans.query_coords(payload, queries)
    # B1 twice, in squares: from the computed distance of a box to the true one, from there to a computed one of a row.
    # Beyond this no row of a box computes as within the radius.
    reach = (radius * radius + 2.0 * payload.slack_abs) * (1.0 + 4.0 * payload.slack_rel)

    def shortlists(ptr):
        start, stop = ptr[0], ptr[-1]
        while start < stop:
            ptr, rows = boxes.within(coords[start:stop], queries.limit[start:stop], queries.rank, reach, ROOM, cancel)
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
