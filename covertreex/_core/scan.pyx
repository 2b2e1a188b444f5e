"""The scan of docs/architecture.md ("The scan"), for one plan on one thread.

Rows are taken in panels, and each panel is compared with all queries of the group at once (a tile of rows and queries
at a time), so that a row is loaded from memory once per group. A query still sees its rows in order, and a run with a
lower bound begins only when the rows before it have been offered: answers and counters are those of the plain loop.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free

import numpy as np

from covertreex._core.canonical import view_of

from covertreex._core.canonical cimport (
    CX_ITSELF_VALUE,
    PayloadView,
    cx_dot16_block,
    cx_dot16_many,
    cx_many,
    cx_nearness_many,
    cx_one_of,
    cx_nearness,
    cx_payload,
    cx_query,
    cx_row_query,
)
from covertreex._core.contract cimport (
    DISTANCE_EVALS,
    NODES_VISITED,
    STOP_EXHAUSTED,
    STOP_KTH_FRONTIER,
    YIELDS,
)
from covertreex._core.heaps cimport cx_neighbor
from covertreex._core.kbest cimport KBest, kth_distance, offer, write_sorted
from covertreex._core.memory cimport zeroed
from covertreex._core.queries cimport QueriesView

#: As `cx_neighbor` of heaps.h.
NEIGHBOR = np.dtype([("distance", "f8"), ("rho", "f8"), ("r2", "f8"), ("index", "i8")])

cdef enum:
    PANEL = 16  # rows compared at once: with their factors they stay in the second-level cache


cdef class Group:
    """The queries of one group as the kernels want them: one thread's scratch, used for group after group.

    `live` queries come first in all arrays; `number[i]` is the place in the block of the i-th.
    """

    cdef PayloadView view
    cdef QueriesView queries
    cdef Py_ssize_t stride, size, filled
    cdef int64_t top  # no live query may have a row of this rank or above
    cdef int64_t[::1] number
    cdef double[:, ::1] coords, panel_coords
    cdef double[::1] p, kth_upper
    cdef double[:, ::1] dots, found
    cdef cx_many many
    cdef cx_neighbor[:, ::1] neighbors
    cdef KBest *best
    cdef const double **factors
    cdef int64_t panel[PANEL]

    def __cinit__(self, PayloadView view, QueriesView queries, Py_ssize_t most, Py_ssize_t k):
        self.stride = most + 3  # tiles of three may reach past the last query
        self.best = <KBest *>zeroed(most, sizeof(KBest))
        self.factors = <const double **>zeroed(self.stride, sizeof(double *))

    def __init__(self, PayloadView view, QueriesView queries, Py_ssize_t most, Py_ssize_t k):
        self.view = view
        self.queries = queries
        self.number = np.empty(most, dtype=np.int64)
        self.coords = np.empty((view.c.d, self.stride))
        self.panel_coords = np.empty((view.c.d, PANEL))
        self.p = np.empty(self.stride)
        self.found = np.empty((3, self.stride))
        self.many.distance, self.many.rho, self.many.r2 = &self.found[0, 0], &self.found[1, 0], &self.found[2, 0]
        self.dots = np.zeros((PANEL, self.stride))
        self.neighbors = np.empty((most, k), dtype=NEIGHBOR)

    def __dealloc__(self):
        free(self.best)
        free(<void *>self.factors)

    cdef void load(self, Py_ssize_t place, int64_t q) noexcept nogil:
        """Put query `q` of the block into a place of the arrays."""
        cdef cx_query query = self.queries.query(q)
        cdef Py_ssize_t j
        self.number[place] = q
        self.factors[place] = query.factors
        self.p[place] = query.p
        for j in range(self.view.c.d):
            self.coords[j, place] = query.coords[j]

    cdef void pad(self) noexcept nogil:
        """Make the arrays whole after the live queries have changed."""
        cdef Py_ssize_t i
        self.top = 0
        for i in range(self.size):
            self.top = max(self.top, self.queries.limit[self.number[i]])
        for i in range(self.size, self.size + 3):
            if i < self.stride and self.size > 0:
                self.factors[i] = self.factors[0]

    cdef void begin(self, Py_ssize_t first, Py_ssize_t size, Py_ssize_t k) noexcept nogil:
        cdef Py_ssize_t i
        self.size = size
        self.filled = 0
        for i in range(size):
            self.best[i].at = &self.neighbors[i, 0]
            self.best[i].k = k
            self.best[i].size = 0
            self.load(i, first + i)
        self.pad()

    cdef void drop_stopped(self, double lower, const double[::1] kth_upper, int64_t[:, ::1] indices,
                           double[:, ::1] distances, int64_t[:, ::1] counters) noexcept nogil:
        """Finish the live queries whose kth best is already below `lower`."""
        cdef Py_ssize_t i, kept = 0
        cdef int64_t q
        for i in range(self.size):
            q = self.number[i]
            if lower > min(kth_distance(&self.best[i]), kth_upper[q]):
                counters[q, <int>STOP_KTH_FRONTIER] = 1
                write_sorted(&self.best[i], &indices[q, 0], &distances[q, 0])
                continue
            if kept < i:
                self.best[kept], self.best[i] = self.best[i], self.best[kept]
                self.load(kept, q)
            kept += 1
        if kept < self.size:
            self.size = kept
            self.pad()

    cdef void compare(self, const double[::1] kth_upper, int64_t[:, ::1] counters) noexcept nogil:
        """Compare the panel with the live queries, offer what they may have, and empty it."""
        if self.size == 1:
            self.compare_one(kth_upper, counters)
            return
        cdef const cx_payload *payload = &self.view.c
        cdef const double *rows[PANEL + 1]
        cdef Py_ssize_t i, j
        cdef int64_t row, rank, q
        cdef cx_nearness at
        cdef cx_query one
        if payload.m > 0:
            for j in range(self.filled):
                rows[j] = payload.factors + self.panel[j] * payload.m
            rows[self.filled] = rows[0]
            cx_dot16_block(rows, self.filled, self.factors, self.size, payload.m, &self.dots[0, 0], self.stride)
        for j in range(self.filled):
            row = self.panel[j]
            rank = self.queries.rank[row]
            one = cx_row_query(payload, row)
            cx_nearness_many(payload, one.coords, one.p, &self.coords[0, 0], self.stride, &self.p[0], &self.dots[j, 0],
                             self.size, &self.many)
            for i in range(self.size):
                q = self.number[i]
                if rank >= self.queries.limit[q] or row == self.queries.exclude[q]:
                    continue
                at = CX_ITSELF_VALUE if self.queries.rows[q] == row else cx_one_of(&self.many, i)
                counters[q, <int>DISTANCE_EVALS] += 1
                if at.distance <= kth_upper[q]:
                    counters[q, <int>YIELDS] += offer(&self.best[i], at, payload.index[row])
        self.filled = 0

    cdef void compare_one(self, const double[::1] kth_upper, int64_t[:, ::1] counters) noexcept nogil:
        """The same for one query, for which loops over queries cost more than its distances."""
        cdef const cx_payload *payload = &self.view.c
        cdef int64_t row, q = self.number[0], evaluated = 0, accepted = 0
        cdef int64_t limit = self.queries.limit[q], exclude = self.queries.exclude[q], own = self.queries.rows[q]
        cdef double upper = kth_upper[q]
        cdef cx_nearness at
        cdef cx_many many
        cdef cx_query query = self.queries.query(q), one
        cdef const double *rows[PANEL]
        cdef double dots[PANEL]
        cdef double p[PANEL]
        cdef double found[3][PANEL]
        cdef Py_ssize_t i, j
        for j in range(self.filled):
            one = cx_row_query(payload, self.panel[j])
            rows[j], p[j], dots[j] = one.factors, one.p, 0.0
            for i in range(payload.d):
                self.panel_coords[i, j] = one.coords[i]
        if payload.m > 0:
            cx_dot16_many(query.factors, rows, self.filled, payload.m, dots)
        many.distance, many.rho, many.r2 = found[0], found[1], found[2]
        cx_nearness_many(payload, query.coords, query.p, &self.panel_coords[0, 0], PANEL, p, dots, self.filled, &many)
        for j in range(self.filled):
            row = self.panel[j]
            if self.queries.rank[row] >= limit or row == exclude:
                continue
            at = CX_ITSELF_VALUE if own == row else cx_one_of(&many, j)
            evaluated += 1
            if at.distance <= upper:
                accepted += offer(&self.best[0], at, payload.index[row])
        counters[q, <int>DISTANCE_EVALS] += evaluated
        counters[q, <int>YIELDS] += accepted
        self.filled = 0


def scan(payload, plan, Py_ssize_t k, settings, out):
    """Fill `out`. One thread's work; parameters as `covertreex.protocols.Traversal.scan`. Releases the GIL."""
    cdef PayloadView view = view_of(payload)
    cdef QueriesView queries = QueriesView(plan.queries, view)
    cdef const int64_t[::1] group_ptr = plan.group_ptr, run_ptr = plan.run_ptr
    cdef const int64_t[::1] run_start = plan.run_start, run_stop = plan.run_stop
    cdef const double[::1] run_lower = plan.run_lower, kth_upper = plan.kth_upper
    cdef bint stop_rule = settings.kth_frontier_stop
    cdef int64_t[:, ::1] indices = out.indices
    cdef double[:, ::1] distances = out.distances
    cdef int64_t[:, ::1] counters = out.counters
    cdef const int32_t[::1] cancel = out.cancel
    cdef Py_ssize_t most = 0, g, r, q, i
    for g in range(group_ptr.shape[0] - 1):
        most = max(most, group_ptr[g + 1] - group_ptr[g])
    if most == 0:
        return
    cdef Group group = Group(view, queries, most, k)
    cdef int64_t row
    with nogil:
        for g in range(group_ptr.shape[0] - 1):
            group.begin(group_ptr[g], group_ptr[g + 1] - group_ptr[g], k)
            for r in range(run_ptr[g], run_ptr[g + 1]):
                if stop_rule and run_lower[r] > 0.0:
                    group.compare(kth_upper, counters)
                    group.drop_stopped(run_lower[r], kth_upper, indices, distances, counters)
                if group.size == 0 or cancel[0]:
                    break
                for row in range(run_start[r], run_stop[r]):
                    if queries.rank[row] >= group.top:
                        continue
                    group.panel[group.filled] = row
                    group.filled += 1
                    if group.filled == PANEL:
                        group.compare(kth_upper, counters)
                        if cancel[0]:
                            break
            if cancel[0]:
                break
            group.compare(kth_upper, counters)
            for i in range(group.size):
                q = group.number[i]
                counters[q, <int>STOP_EXHAUSTED] = 1
                write_sorted(&group.best[i], &indices[q, 0], &distances[q, 0])
            for q in range(group_ptr[g], group_ptr[g + 1]):
                counters[q, <int>NODES_VISITED] = counters[q, <int>DISTANCE_EVALS]
