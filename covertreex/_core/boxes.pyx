"""Rows within a distance of points, found by boxes around blocks of rows, which are near each other in space."""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free

import numpy as np

from covertreex._core.memory cimport grown

cdef enum:
    BLOCK = 32  # rows of a box
    FAN = 16    # boxes of a box of boxes


cdef class Boxes:
    """Boxes around `BLOCK` consecutive rows each, and around `FAN` of these each."""

    cdef const double[:, ::1] coords
    cdef const double[:, ::1] low, high, low_far, high_far

    def __init__(self, const double[:, ::1] coords):
        self.coords = coords
        low, high = boxes_of(coords, coords, BLOCK)
        self.low, self.high = low, high
        self.low_far, self.high_far = boxes_of(low, high, FAN)

    def within(self, const double[:, ::1] points, const int64_t[::1] limit, const int64_t[::1] rank, double reach,
               Py_ssize_t room, const int32_t[::1] cancel):
        """For each point the rows, of rank below its limit, whose squared distance from it is at most `reach`.

        Those of point i, ascending, are ``rows[ptr[i]:ptr[i + 1]]``. Once there are `room` rows or more in all, no
        further point is looked at, and `ptr` is so much shorter. Releases the GIL.
        """
        cdef Rows found = Rows()
        cdef Py_ssize_t i = 0, q = points.shape[0]
        cdef int64_t[::1] ptr = np.zeros(q + 1, dtype=np.int64)
        with nogil:
            while i < q and found.size < room and not cancel[0]:
                self.near(&points[i, 0], limit[i], rank, reach, found)
                i += 1
                ptr[i] = found.size
        rows = np.empty(found.size, dtype=np.int64)
        found.write(rows)
        return np.asarray(ptr)[:i + 1], rows

    cdef int near(self, const double *point, int64_t limit, const int64_t[::1] rank, double reach,
                  Rows found) except -1 nogil:
        cdef Py_ssize_t d = self.coords.shape[1], n = self.coords.shape[0], far, box, row
        for far in range(self.low_far.shape[0]):
            if gap(point, &self.low_far[far, 0], &self.high_far[far, 0], d) > reach:
                continue
            for box in range(far * FAN, min((far + 1) * FAN, self.low.shape[0])):
                if gap(point, &self.low[box, 0], &self.high[box, 0], d) > reach:
                    continue
                found.reserve(BLOCK)
                for row in range(box * BLOCK, min((box + 1) * BLOCK, n)):
                    # Without a branch: which rows are near is hard to predict.
                    found.at[found.size] = row
                    found.size += (squared_distance(point, &self.coords[row, 0], d) <= reach) & (rank[row] < limit)
        return 0


def boxes_of(low, high, Py_ssize_t size):
    """Lowest and highest coordinates of each `size` consecutive boxes."""
    starts = np.arange(0, len(low), size)
    return np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


cdef inline double gap(const double *point, const double *low, const double *high, Py_ssize_t d) noexcept nogil:
    """Squared distance from a point to a box."""
    cdef double total = 0.0, t
    cdef Py_ssize_t j
    for j in range(d):
        t = max(low[j] - point[j], point[j] - high[j])
        if t > 0.0:
            total += t * t
    return total


cdef inline double squared_distance(const double *a, const double *b, Py_ssize_t d) noexcept nogil:
    cdef double total = 0.0, t
    cdef Py_ssize_t j
    for j in range(d):
        t = a[j] - b[j]
        total += t * t
    return total


cdef class Rows:
    """A growing list of rows."""

    cdef int64_t *at
    cdef Py_ssize_t size, capacity

    def __dealloc__(self):
        free(self.at)

    cdef int reserve(self, Py_ssize_t more) except -1 nogil:
        if self.size + more > self.capacity:
            self.at = <int64_t *>grown(self.at, &self.capacity, self.size + more, sizeof(int64_t))
        return 0

    cdef void write(self, int64_t[::1] out) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.size):
            out[i] = self.at[i]
