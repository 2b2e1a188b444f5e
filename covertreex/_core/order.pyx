"""Leaf order: splits near the median of the widest axis, deterministic under ties."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from covertreex._core.memory cimport zeroed
from covertreex._core.sort cimport cx_select


cdef class Scratch:
    """Room to halve a part of at most `size` rows."""

    cdef double *keys    # coordinate of each row along the axis
    cdef double *values  # the same, to select from
    cdef int64_t *later  # rows of the second half

    def __cinit__(self, Py_ssize_t size):
        self.keys = <double *>zeroed(size, sizeof(double))
        self.values = <double *>zeroed(size, sizeof(double))
        self.later = <int64_t *>zeroed(size, sizeof(int64_t))

    def __dealloc__(self):
        free(self.keys)
        free(self.values)
        free(self.later)


cdef Py_ssize_t widest_axis(const double[:, ::1] coords, const int64_t *part, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t axis, best = 0, i
    cdef double low, high, value, extent = -1.0
    for axis in range(coords.shape[1]):
        low = high = coords[part[0], axis]
        for i in range(1, size):
            value = coords[part[i], axis]
            low = min(low, value)
            high = max(high, value)
        if high - low > extent:
            extent = high - low
            best = axis
    return best


cdef inline Py_ssize_t half(Py_ssize_t size, Py_ssize_t leaf_size, bint full) noexcept nogil:
    """Where a part is split: in its middle, or near it so that all leaves but the last are `full`."""
    return leaf_size * (((size + leaf_size - 1) // leaf_size + 1) // 2) if full else size // 2


cdef void halve(const double[:, ::1] coords, int64_t *part, Py_ssize_t size, Py_ssize_t middle,
                Scratch scratch) noexcept nogil:
    """Bring the `middle` rows that come first by (coordinate, row) to the front. Both halves ascend, as `part` does."""
    cdef Py_ssize_t i, axis = widest_axis(coords, part, size), kept = 0, moved = 0, wanted = middle
    cdef double last
    cdef int64_t row
    cdef bint tie, first
    for i in range(size):
        scratch.keys[i] = scratch.values[i] = coords[part[i], axis]
    last = cx_select(scratch.values, size, middle - 1)
    for i in range(size):
        wanted -= scratch.keys[i] < last
    for i in range(size):  # no branches: which side is a coin's toss
        row = part[i]
        tie = scratch.keys[i] == last
        first = (scratch.keys[i] < last) | (tie & (wanted > 0))
        wanted -= tie
        part[kept] = scratch.later[moved] = row
        kept += first
        moved += 1 - first
    memcpy(part + kept, scratch.later, moved * sizeof(int64_t))


cdef void order_part(const double[:, ::1] coords, int64_t *part, Py_ssize_t size, Py_ssize_t leaf_size, bint full,
                     Py_ssize_t inner, Scratch scratch) noexcept nogil:
    if size <= leaf_size and size > inner:
        leaf_size = inner
    if size <= leaf_size:
        return
    cdef Py_ssize_t middle = half(size, leaf_size, full)
    halve(coords, part, size, middle, scratch)
    order_part(coords, part, middle, leaf_size, full, inner, scratch)
    order_part(coords, part + middle, size - middle, leaf_size, full, inner, scratch)


def cut(const double[:, ::1] coords, int64_t[::1] order, Py_ssize_t leaf_size, bint full):
    """The first step of `split`: permute `order` in place, and return where it is cut. Releases the GIL."""
    cdef Py_ssize_t middle = half(order.shape[0], leaf_size, full)
    cdef Scratch scratch = Scratch(order.shape[0])
    with nogil:
        halve(coords, &order[0], order.shape[0], middle, scratch)
    return middle


def split(const double[:, ::1] coords, int64_t[::1] order, Py_ssize_t leaf_size, bint full, Py_ssize_t inner):
    """Permute `order`, which ascends, in place into leaf order. See `covertreex.ordering.leaf_order`. Releases the GIL.
    """
    cdef Scratch scratch
    if order.shape[0] == 0:
        return
    scratch = Scratch(order.shape[0])
    with nogil:
        order_part(coords, &order[0], order.shape[0], leaf_size, full, inner, scratch)
