from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from covertreex._core.canonical cimport cx_nearness


cdef struct Neighbor:
    cx_nearness at
    int64_t index


cdef inline bint farther(const Neighbor *a, const Neighbor *b) noexcept nogil:
    """INVARIANT A7: which of two comes later."""
    if a.at.distance != b.at.distance:
        return a.at.distance > b.at.distance
    if a.at.rho != b.at.rho:
        return a.at.rho < b.at.rho
    if a.at.r2 != b.at.r2:
        return a.at.r2 > b.at.r2
    return a.index > b.index


cdef struct KBest:
    # Max-heap, the farthest on top (A7); borrows `at`, which has room for k.
    Neighbor *at
    Py_ssize_t k
    Py_ssize_t size


cdef inline double kth_distance(const KBest *best) noexcept nogil:
    return best.at[0].at.distance if best.size == best.k else INFINITY


cdef inline void sift_down(Neighbor *at, Py_ssize_t size, Neighbor item) noexcept nogil:
    """Put `item` in the place of the top of the heap ``at[:size]``."""
    cdef Py_ssize_t here = 0, child
    while True:
        child = 2 * here + 1
        if child >= size:
            break
        if child + 1 < size and farther(&at[child + 1], &at[child]):
            child += 1
        if not farther(&at[child], &item):
            break
        at[here] = at[child]
        here = child
    at[here] = item


cdef inline bint offer(KBest *best, cx_nearness at, int64_t index) noexcept nogil:
    """Keep the row of this index if it is among the k best so far; say whether it was kept."""
    cdef Neighbor item
    cdef Py_ssize_t here, above
    item.at = at
    item.index = index
    if best.size < best.k:
        here = best.size
        best.size += 1
        while here > 0:
            above = (here - 1) // 2
            if not farther(&item, &best.at[above]):
                break
            best.at[here] = best.at[above]
            here = above
        best.at[here] = item
        return True
    if not farther(&best.at[0], &item):
        return False
    sift_down(best.at, best.size, item)
    return True


cdef inline void write_sorted(KBest *best, int64_t *indices, double *distances) noexcept nogil:
    """Empty the heap into the first `size` places of a row of the output, nearest first."""
    cdef Neighbor last
    cdef Py_ssize_t i
    for i in range(1, best.size):
        if farther(&best.at[i], &best.at[i - 1]):
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
            sift_down(best.at, best.size, last)
