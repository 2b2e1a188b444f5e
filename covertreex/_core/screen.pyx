"""The screen: turns a plan into a smaller one, losing no neighbour (docs/mathematics.md, C1 and C2).

For each query it keeps a bound that the k-th best |rho| is sure to reach, and drops every row whose |rho| is sure to
stay below it. What survives is decided by canonical arithmetic, in a scan.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc

import numpy as np

from covertreex._core.queries cimport QueriesView

cdef extern from "screen.h" nogil:
    void cx_screen32_panel(int kernel, float variance, const float *const *rows, const float *const *row_coords,
                           const float *row_inverse, Py_ssize_t nrows, const float *const *queries,
                           const float *coords, const float *inverse, Py_ssize_t nqueries, Py_ssize_t d,
                           Py_ssize_t m, float *dots, float *out, Py_ssize_t stride)
    void cx_screen64_panel(int kernel, double variance, const double *const *rows, const double *const *row_coords,
                           const double *row_inverse, Py_ssize_t nrows, const double *const *queries,
                           const double *coords, const double *inverse, Py_ssize_t nqueries, Py_ssize_t d,
                           Py_ssize_t m, double *dots, double *out, Py_ssize_t stride)

ctypedef fused real:
    float
    double

cdef enum:
    PANEL = 32  # rows compared at once


cdef struct Survivor:
    int64_t row
    double high  # |rho| is at most this


cdef struct Shortlist:
    # A query's bound and what may still be above it. Owns `at` and `lows`.
    Survivor *at
    Py_ssize_t size
    Py_ssize_t capacity
    double *lows       # min-heap of the k largest lower bounds of |rho|
    Py_ssize_t filled
    double threshold   # the k-th best |rho| is at least this


cdef void compact(Shortlist *one) noexcept nogil:
    cdef Py_ssize_t i, kept = 0
    for i in range(one.size):
        if one.at[i].high >= one.threshold:
            one.at[kept] = one.at[i]
            kept += 1
    one.size = kept


cdef void keep(Shortlist *one, Py_ssize_t k, int64_t row, double low, double high) noexcept nogil:
    cdef Py_ssize_t here, child
    cdef double item = min(low, 1.0)
    if one.size == one.capacity:
        compact(one)
        if 2 * one.size > one.capacity:
            one.capacity = 2 * one.capacity
            one.at = <Survivor *>realloc(one.at, one.capacity * sizeof(Survivor))
    one.at[one.size].row = row
    one.at[one.size].high = high
    one.size += 1
    if k == 0:
        return
    if one.filled < k:
        here = one.filled
        one.filled += 1
        while here > 0 and one.lows[(here - 1) // 2] > item:
            one.lows[here] = one.lows[(here - 1) // 2]
            here = (here - 1) // 2
        one.lows[here] = item
    elif item > one.lows[0]:
        here = 0
        while True:
            child = 2 * here + 1
            if child >= k:
                break
            if child + 1 < k and one.lows[child + 1] < one.lows[child]:
                child += 1
            if one.lows[child] >= item:
                break
            one.lows[here] = one.lows[child]
            here = child
        one.lows[here] = item
    if one.filled == k and one.lows[0] > one.threshold:
        one.threshold = one.lows[0]


def screen(const real[:, ::1] factors, const real[:, ::1] coords, const real[::1] inverse, int kernel, double variance,
           double margin, double floor, query_data, plan, view, Py_ssize_t k, const int32_t[::1] cancel):
    """Shortlists of the queries of `plan`: query q has ``rows[ptr[q]:ptr[q + 1]]``, ascending.

    Returns ``(ptr, rows, pairs compared, panels of rows)``.

    Parameters
    ----------
    factors, coords, inverse : of the payload's rows; inverse is ``1 / sqrt(p)``
    margin, floor : float
        C1: the screen's |rho| is off by at most ``margin * inverse_i * inverse_j + floor``.
    query_data : tuple
        The same three arrays of the external queries.
    plan : ScanPlan
    view : PayloadView
    k : int
        0 keeps all rows that may be within ``plan.kth_upper``.
    cancel : ndarray, shape (1,)
    """
    cdef QueriesView queries = QueriesView(plan.queries, view)
    cdef const real[:, ::1] external_factors = query_data[0], external_coords = query_data[1]
    cdef const real[::1] external_inverse = query_data[2]
    cdef const int64_t[::1] group_ptr = plan.group_ptr, run_ptr = plan.run_ptr
    cdef const int64_t[::1] run_start = plan.run_start, run_stop = plan.run_stop
    cdef const double[::1] kth_upper = plan.kth_upper
    cdef Py_ssize_t total = len(plan.queries), most = max(np.diff(plan.group_ptr), default=0)
    cdef Py_ssize_t stride = most + 8, d = coords.shape[1], m = factors.shape[1]
    kind = np.float32 if real is float else np.float64
    cdef real[:, ::1] group_coords = np.zeros((d, stride), dtype=kind), dots = np.zeros((PANEL + 4, stride), dtype=kind)
    cdef real[:, ::1] rho = np.zeros((PANEL + 4, stride), dtype=kind)
    cdef real[::1] group_inverse = np.zeros(stride, dtype=kind), row_inverse = np.zeros(PANEL + 4, dtype=kind)
    cdef const real **pointers = <const real **>malloc((stride + 2 * (PANEL + 4)) * sizeof(void *))
    cdef Shortlist *lists = <Shortlist *>malloc(max(total, <Py_ssize_t>1) * sizeof(Shortlist))
    cdef const real **rows = pointers + stride
    cdef const real **row_coords = rows + PANEL + 4
    cdef int64_t panel[PANEL]
    cdef Py_ssize_t g, r, q, i, j, size, filled, e
    cdef int64_t row, top, rank, compared = 0, panels = 0
    cdef double slack
    cdef int64_t low = 0, high = 0  # all queries of a group that are rows lie between
    cdef bint last, own
    ptr = np.zeros(total + 1, dtype=np.int64)
    cdef int64_t[::1] ends = ptr, out
    try:
        for q in range(total):
            lists[q].size = lists[q].filled = 0
            lists[q].capacity = 4 * k + 64
            lists[q].at = <Survivor *>malloc(lists[q].capacity * sizeof(Survivor))
            lists[q].lows = <double *>malloc(k * sizeof(double))
            # C2: a k-th distance of at most kth_upper is a k-th |rho| of at least this.
            lists[q].threshold = 1.0 - kth_upper[q] * kth_upper[q] * (1.0 + 1e-15) - 1e-14
        with nogil:
            for g in range(group_ptr.shape[0] - 1):
                size = group_ptr[g + 1] - group_ptr[g]
                top = 0
                for i in range(size):
                    q = group_ptr[g] + i
                    top = max(top, queries.limit[q])
                    row = queries.rows[q]
                    low = row if i == 0 else min(low, row)
                    high = row if i == 0 else max(high, row)
                    if row >= 0:
                        pointers[i] = &factors[row, 0] if m > 0 else NULL
                        group_inverse[i] = inverse[row]
                        for j in range(d):
                            group_coords[j, i] = coords[row, j]
                    else:
                        e = -1 - row
                        pointers[i] = &external_factors[e, 0] if m > 0 else NULL
                        group_inverse[i] = external_inverse[e]
                        for j in range(d):
                            group_coords[j, i] = external_coords[e, j]
                for i in range(size, size + 2):
                    pointers[i] = pointers[0]
                filled = 0
                for r in range(run_ptr[g], run_ptr[g + 1]):
                    last = r + 1 == run_ptr[g + 1]
                    for row in range(run_start[r], run_stop[r]):
                        if queries.rank[row] < top:
                            panel[filled] = row
                            rows[filled] = &factors[row, 0] if m > 0 else NULL
                            row_coords[filled] = &coords[row, 0]
                            row_inverse[filled] = inverse[row]
                            filled += 1
                        if filled < PANEL and not (last and row + 1 == run_stop[r]):
                            continue
                        if filled == 0:
                            continue
                        for i in range(filled, filled + 3):
                            rows[i] = rows[0]
                        if real is float:
                            cx_screen32_panel(kernel, <float>variance, rows, row_coords, &row_inverse[0], filled,
                                              pointers, &group_coords[0, 0], &group_inverse[0], size, d, m,
                                              &dots[0, 0], &rho[0, 0], stride)
                        else:
                            cx_screen64_panel(kernel, variance, rows, row_coords, &row_inverse[0], filled,
                                              pointers, &group_coords[0, 0], &group_inverse[0], size, d, m,
                                              &dots[0, 0], &rho[0, 0], stride)
                        for j in range(filled):
                            rank = queries.rank[panel[j]]
                            own = low <= panel[j] <= high
                            for i in range(size):
                                slack = margin * group_inverse[i] * row_inverse[j] + floor
                                q = group_ptr[g] + i
                                if rho[j, i] + slack < lists[q].threshold and not (
                                        own and panel[j] == queries.rows[q]):  # d(i, i) = 0, whatever rho computes
                                    continue
                                if rank >= queries.limit[q] or panel[j] == queries.exclude[q]:
                                    continue
                                if panel[j] == queries.rows[q]:
                                    keep(&lists[q], k, panel[j], 1.0, 1.0 + slack)
                                else:
                                    keep(&lists[q], k, panel[j], rho[j, i] - slack, rho[j, i] + slack)
                        compared += filled * size
                        panels += 1
                        filled = 0
                        if cancel[0]:
                            break
                    if cancel[0]:
                        break
                if cancel[0]:
                    break
            for q in range(total):
                compact(&lists[q])
                ends[q + 1] = ends[q] + lists[q].size
        found = np.empty(ends[total], dtype=np.int64)
        out = found
        for q in range(total):
            for i in range(lists[q].size):
                out[ends[q] + i] = lists[q].at[i].row
    finally:
        for q in range(total):
            free(lists[q].at)
            free(lists[q].lows)
        free(lists)
        free(<void *>pointers)
    return ptr, found, compared, panels
