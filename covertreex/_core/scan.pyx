"""The scan of docs/architecture.md ("The scan"), for one plan on one thread.

Rows of a run are taken in panels; each row of a panel is compared with all queries of the group that may have it, two
at a time, so that a row is loaded from memory once per group. Queries still see rows in ascending order, so answers and
counters are those of the plain loop.
"""

from libc.stdint cimport int32_t, int64_t

import numpy as np

from covertreex._core.canonical cimport PayloadView, cx_distance_given_dot, cx_dot16_many, cx_payload, cx_query
from covertreex._core.kbest cimport KBest, Neighbor, kth_distance, offer, write_sorted
from covertreex._core.queries cimport QueriesView

# Columns of the counters, in the order of covertreex.telemetry.COUNTERS.
cdef enum:
    DISTANCE_EVALS = 0
    NODES_VISITED = 1
    YIELDS = 6
    STOP_EXHAUSTED = 7
    STOP_KTH_FRONTIER = 8

cdef enum:
    PANEL = 1024  # rows between two looks at the cancel flag


def scan(payload, plan, Py_ssize_t k, settings, out):
    """Fill `out`. One thread's work; parameters as `covertreex.protocols.Traversal.scan`. Releases the GIL."""
    cdef PayloadView view = PayloadView(payload)
    cdef const cx_payload *pl = &view.c
    cdef QueriesView queries = QueriesView(plan.queries, view)
    cdef const int64_t[::1] group_ptr = plan.group_ptr, run_ptr = plan.run_ptr
    cdef const int64_t[::1] run_start = plan.run_start, run_stop = plan.run_stop
    cdef const double[::1] run_lower = plan.run_lower, kth_upper = plan.kth_upper
    cdef bint stop_rule = settings.kth_frontier_stop
    cdef int64_t[:, ::1] indices = out.indices
    cdef double[:, ::1] distances = out.distances
    cdef int64_t[:, ::1] counters = out.counters
    cdef const int32_t[::1] cancel = out.cancel

    cdef Py_ssize_t most = max(np.diff(plan.group_ptr), default=0)
    if most == 0:
        return
    cdef Neighbor[:, ::1] neighbors = np.empty((most, k), dtype=[("distance", "f8"), ("index", "i8")])
    best_memory = np.empty(most * sizeof(KBest), dtype=np.uint8)
    query_memory = np.empty(most * sizeof(cx_query), dtype=np.uint8)
    pointer_memory = np.empty(most * sizeof(void *), dtype=np.uint8)
    cdef unsigned char[::1] best_bytes = best_memory, query_bytes = query_memory, pointer_bytes = pointer_memory
    cdef KBest *best = <KBest *>&best_bytes[0]
    cdef cx_query *query = <cx_query *>&query_bytes[0]
    cdef const double **factors = <const double **>&pointer_bytes[0]
    cdef double[::1] dots = np.zeros(most)
    cdef int64_t[::1] live = np.empty(most, dtype=np.int64), chosen = np.empty(most, dtype=np.int64)

    cdef Py_ssize_t g, r, q, i, size, count, begin
    cdef int64_t row, top
    cdef double d, bound
    with nogil:
        for g in range(group_ptr.shape[0] - 1):
            begin = group_ptr[g]
            size = group_ptr[g + 1] - begin
            for i in range(size):
                best[i].at = &neighbors[i, 0]
                best[i].k = k
                best[i].size = 0
                query[i] = queries.query(begin + i)
                live[i] = i
            for r in range(run_ptr[g], run_ptr[g + 1]):
                if stop_rule:
                    count = 0
                    for i in range(size):
                        q = begin + live[i]
                        bound = min(kth_distance(&best[live[i]]), kth_upper[q])
                        if run_lower[r] > bound:
                            counters[q, <int>STOP_KTH_FRONTIER] = 1
                        else:
                            live[count] = live[i]
                            count += 1
                    size = count
                top = 0
                for i in range(size):
                    top = max(top, queries.limit[begin + live[i]])
                for row in range(run_start[r], run_stop[r]):
                    if (row - run_start[r]) % PANEL == 0 and cancel[0]:
                        break
                    if queries.rank[row] >= top:
                        continue
                    count = 0
                    for i in range(size):
                        q = begin + live[i]
                        if queries.rank[row] < queries.limit[q] and row != queries.exclude[q]:
                            chosen[count] = live[i]
                            factors[count] = query[live[i]].factors
                            count += 1
                    if pl.m > 0:
                        cx_dot16_many(pl.factors + row * pl.m, factors, count, pl.m, &dots[0])
                    for i in range(count):
                        q = begin + chosen[i]
                        d = 0.0
                        if queries.rows[q] != row:
                            d = cx_distance_given_dot(pl, &query[chosen[i]], row, dots[i])
                        counters[q, <int>DISTANCE_EVALS] += 1
                        if d <= kth_upper[q]:
                            counters[q, <int>YIELDS] += offer(&best[chosen[i]], d, pl.index[row])
                if cancel[0]:
                    break
            for i in range(group_ptr[g + 1] - begin):
                q = begin + i
                counters[q, <int>NODES_VISITED] = counters[q, <int>DISTANCE_EVALS]
                if not counters[q, <int>STOP_KTH_FRONTIER]:
                    counters[q, <int>STOP_EXHAUSTED] = 1
                write_sorted(&best[i], &indices[q, 0], &distances[q, 0])
            if cancel[0]:
                break
