"""Radius search: every row within a distance of a query, by every backend's scan.

What may be within is found first: under Euclidean distance by boxes around blocks of rows, under correlation by a
screen whose threshold is the radius. A scan of that alone decides, in canonical arithmetic: a row belongs to the answer
if its computed distance is at most the radius, so backends and threads have no influence on it.
"""

from dataclasses import replace
from itertools import chain, pairwise
from numbers import Real

import numpy as np

from covertreex import parallel, plans
from covertreex.errors import InvalidInputError
from covertreex.payload import EUCLIDEAN
from covertreex.planner import choose_screen
from covertreex.progress import Progress
from covertreex.protocols import SearchOutput

#: Rows per box, and boxes per box of boxes.
BLOCK, FAN = 32, 16

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
        Payload indices; those of query i, by (distance, index), are ``indices[indptr[i]:indptr[i + 1]]``.
    distances : ndarray, shape (total,), float64
    """
    cancel = np.zeros(1, dtype=np.int32)
    screen = choose_screen(payload, settings, len(queries))
    groups = plans.group_queries(payload, queries, plans.SWEEP_MOST if screen is not None else plans.NEAR_MOST)
    queries = plans.permuted(queries, groups.order)
    if payload.metric == EUCLIDEAN:
        candidates = _Boxes(payload, plans.query_coords(payload, queries), radius).candidates
    elif screen is not None:
        external = screen.of_queries(queries)
        candidates = _screened(screen, queries, radius, external, cancel)
    else:
        candidates = _all_rows(payload)

    def answer(first, last):
        some_groups = pairwise(groups.ptr[first : last + 1])
        wanted = chain.from_iterable(candidates(start, stop) for start, stop in some_groups)
        parts = [_scan(payload, queries, radius, settings, backend, some, cancel)
                 for some in _packed(wanted)]  # fmt: skip
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


# A candidate is (start, stop, runs, most): queries `start` to `stop` may find what is in `runs`, `most` rows in all.


class _Boxes:
    """Boxes around blocks of consecutive rows, which are near each other in space, and around `FAN` blocks each."""

    def __init__(self, payload, coords, radius):
        self.payload, self.coords = payload, coords
        self.fine, self.coarse = (
            [bound.reduceat(payload.coords, np.arange(0, len(payload), size)) for bound in (np.minimum, np.maximum)]
            for size in (BLOCK, BLOCK * FAN)
        )
        # B1 twice, in squares: from the computed distance of a box to the true one, from there to a computed one of a
        # row. Beyond this no row of a box computes as within the radius.
        self.reach = (radius * radius + 2.0 * payload.slack_abs) * (1.0 + 4.0 * payload.slack_rel)

    def candidates(self, start, stop):
        points = self.coords[start:stop]
        low, high = points.min(axis=0), points.max(axis=0)
        near = np.flatnonzero(self._may_reach(low, high, self.coarse, slice(None)))
        near = (FAN * near[:, None] + np.arange(FAN)).ravel()
        near = near[near < len(self.fine[0])]
        near = near[self._may_reach(low, high, self.fine, near)]
        if len(points) > 1:
            near = near[self._may_reach(points[:, None], points[:, None], self.fine, near).any(axis=0)]
        first, last = plans.as_runs(near)
        runs = first * BLOCK, np.minimum(last * BLOCK, len(self.payload))
        most = int(np.sum(runs[1] - runs[0]))
        step = max(1, ROOM // max(most, 1))
        return [(a, min(a + step, stop), runs, most) for a in range(start, stop, step)]

    def _may_reach(self, low, high, boxes, which):
        """Whether a row in a box may be within the radius of some point between `low` and `high`."""
        gap = np.maximum(np.maximum(boxes[0][which] - high, low - boxes[1][which]), 0.0)
        return np.einsum("...i,...i->...", gap, gap) <= self.reach


def _screened(screen, queries, radius, external, cancel):
    def candidates(start, stop):
        block = queries.slice(start, stop)
        plan = plans.whole_range(screen.payload, block)
        plan, _ = screen.shortlist(replace(plan, kth_upper=np.full(len(block), radius)), 0, cancel, external)
        each = [(plan.run_start[a:b], plan.run_stop[a:b]) for a, b in pairwise(plan.run_ptr)]
        return [(start + i, start + i + 1, runs, len(runs[0])) for i, runs in enumerate(each)]

    return candidates


def _all_rows(payload):
    n = len(payload)
    runs = plans.every_row(payload)
    step = max(1, ROOM // n)
    return lambda start, stop: [(a, min(a + step, stop), runs, n) for a in range(start, stop, step)]


def _packed(candidates):
    """Consecutive candidates, as many together as there is room for."""
    some, most = [], 1
    for candidate in candidates:
        widest = max(most, candidate[3])
        if some and widest * (candidate[1] - some[0][0]) > ROOM:
            yield some
            some, widest = [], max(1, candidate[3])
        some.append(candidate)
        most = widest
    if some:
        yield some


def _scan(payload, queries, radius, settings, backend, candidates, cancel):
    """How many rows each query has within the radius, and which, one query after the other."""
    start, stop = candidates[0][0], candidates[-1][1]
    block = queries.slice(start, stop)
    ptr = np.array([start, *(candidate[1] for candidate in candidates)], dtype=np.int64) - start
    plan = plans.plan_of_runs(block, ptr, [runs for _, _, runs, _ in candidates])
    out = SearchOutput.empty(len(block), max(1, *(most for *_, most in candidates), 1))
    out = replace(out, cancel=cancel)
    backend.scan(payload, replace(plan, kth_upper=np.full(len(block), radius)), out.indices.shape[1], settings, out)
    found = out.indices >= 0
    return found.sum(axis=1), out.indices[found], out.distances[found]
