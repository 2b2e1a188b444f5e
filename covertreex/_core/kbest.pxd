from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from covertreex._core.canonical cimport cx_nearness
from covertreex._core.heaps cimport cx_farther, cx_neighbor, cx_neighbors_push, cx_neighbors_replace_top


cdef struct KBest:
    # Max-heap, the farthest on top (A7); borrows `at`, which has room for k.
    cx_neighbor *at
    Py_ssize_t k
    Py_ssize_t size


cdef inline double kth_distance(const KBest *best) noexcept nogil:
    return best.at[0].at.distance if best.size == best.k else INFINITY


cdef inline bint offer(KBest *best, cx_nearness at, int64_t index) noexcept nogil:
    """Keep the row of this index if it is among the k best so far; say whether it was kept."""
    cdef cx_neighbor item
    item.at = at
    item.index = index
    if best.size < best.k:
        cx_neighbors_push(best.at, best.size, item)
        best.size += 1
        return True
    if not cx_farther(&best.at[0], &item):
        return False
    cx_neighbors_replace_top(best.at, best.size, item)
    return True


cdef inline void write_sorted(KBest *best, int64_t *indices, double *distances) noexcept nogil:
    """Empty the heap into the first `size` places of a row of the output, nearest first."""
    cdef cx_neighbor last
    cdef Py_ssize_t i
    for i in range(1, best.size):
        if cx_farther(&best.at[i], &best.at[i - 1]):
            break
    else:  # offered farthest first, as a good screen does: it is sorted
        for i in range(best.size):
            indices[best.size - 1 - i] = best.at[i].index
            distances[best.size - 1 - i] = best.at[i].at.distance
        best.size = 0
    while best.size > 0:
        best.size -= 1
        indices[best.size] = best.at[0].index
        distances[best.size] = best.at[0].at.distance
        last = best.at[best.size]
        if best.size > 0:
            cx_neighbors_replace_top(best.at, best.size, last)
