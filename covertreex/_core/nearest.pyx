"""Which rows are near a group of queries in coordinates: the union of what each of its queries has nearest.

Rows come in blocks with bounding boxes. A first look takes blocks around the group until there are enough rows, and
finds how far each query has to see for `width` rows; a second takes every block within the farthest of these.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

import numpy as np

cdef extern from "nearest.h" nogil:
    void cx_nearest_distances(const float *query, const float *coords, Py_ssize_t d, Py_ssize_t stride,
                              Py_ssize_t count, const int32_t *rank, int32_t limit, float far, float *out)
    float cx_nearest_threshold(const float *values, Py_ssize_t count, Py_ssize_t K, float far)
    void cx_nearest_mark(const float *values, Py_ssize_t count, float threshold, uint8_t *marks)
    double cx_box_distance(const double *low, const double *high, const double *box_low, const double *box_high,
                           Py_ssize_t d)

cdef enum:
    BLOCK = 32  # rows per box

cdef double FAR = 3.0e38


cdef class Blocks:
    """Payload rows in leaf order, in blocks of 32, with their boxes. Read-only: many threads may search it at once."""

    cdef readonly object rows
    cdef const int64_t[::1] row
    cdef float[:, ::1] coords
    cdef int32_t[::1] rank
    cdef double[:, ::1] low, high

    def __init__(self, const double[:, ::1] coords, rows, rank):
        """`coords` (n, d) and `rank` (n,) of all payload rows; `rows` (r,), ascending: those that may be found."""
        taken = np.asarray(coords)[rows]
        starts = np.arange(0, len(rows), BLOCK)
        self.rows = rows
        self.row = rows
        self.coords = np.ascontiguousarray(taken, dtype=np.float32)
        self.rank = np.ascontiguousarray(rank[rows], dtype=np.int32)
        self.low = np.minimum.reduceat(taken, starts, axis=0)
        self.high = np.maximum.reduceat(taken, starts, axis=0)

    def __len__(self):
        return self.row.shape[0]


cdef class Finder:
    """One thread's scratch for searching `Blocks`."""

    cdef Blocks blocks
    cdef Py_ssize_t size, stride
    cdef int64_t[::1] place
    cdef float[:, ::1] coords
    cdef int32_t[::1] rank
    cdef float[::1] values
    cdef uint8_t[::1] marks
    cdef float[::1] box_distance

    def __init__(self, Blocks blocks):
        self.blocks = blocks
        self.box_distance = np.empty(blocks.low.shape[0], dtype=np.float32)
        self.grow(4096)

    cdef grow(self, Py_ssize_t stride):
        self.stride = stride
        self.place = np.empty(stride, dtype=np.int64)
        self.coords = np.empty((self.blocks.coords.shape[1], stride), dtype=np.float32)
        self.rank = np.empty(stride, dtype=np.int32)
        self.values = np.empty(stride, dtype=np.float32)
        self.marks = np.empty(stride, dtype=np.uint8)

    def rows_near(self, const double[:, ::1] queries, const int64_t[::1] limits, Py_ssize_t width):
        """Rows that are among about the `width` nearest of some query with rank below its limit.

        Returns an ascending array of payload rows.
        """
        cdef Py_ssize_t d = queries.shape[1], i
        low, high = np.min(queries, axis=0), np.max(queries, axis=0)
        cdef double[::1] box_low = low, box_high = high
        cdef const float[:, ::1] points = np.asarray(queries).astype(np.float32)
        cdef float reach
        for i in range(self.blocks.low.shape[0]):
            self.box_distance[i] = cx_box_distance(&box_low[0], &box_high[0], &self.blocks.low[i, 0],
                                                   &self.blocks.high[i, 0], d)
        # Twice the width: rows may lie at or past a query's limit, or nearer to the other side of the group.
        reach = cx_nearest_threshold(&self.box_distance[0], self.box_distance.shape[0],
                                     min(2 * width // BLOCK + 2, self.box_distance.shape[0]), FAR)
        self.gather(reach)
        reach = self.farthest(points, limits, width)
        self.gather(reach)
        with nogil:
            self.marks[:self.size] = 0
            for i in range(points.shape[0]):
                self.evaluate(&points[i, 0], limits[i])
                cx_nearest_mark(&self.values[0], self.size,
                                cx_nearest_threshold(&self.values[0], self.size, width, FAR), &self.marks[0])
        chosen = np.asarray(self.marks[:self.size]).view(bool)
        return np.asarray(self.blocks.rows)[np.asarray(self.place[:self.size])[chosen]]

    cdef void evaluate(self, const float *point, int64_t limit) noexcept nogil:
        cx_nearest_distances(point, &self.coords[0, 0], self.coords.shape[0], self.stride, self.size, &self.rank[0],
                             <int32_t>limit, FAR, &self.values[0])

    cdef float farthest(self, const float[:, ::1] points, const int64_t[::1] limits, Py_ssize_t width):
        """How far the query sees that has to see farthest; everything if one finds too few."""
        cdef float reach = 0.0, threshold
        cdef Py_ssize_t i, j, found
        with nogil:
            for i in range(points.shape[0]):
                self.evaluate(&points[i, 0], limits[i])
                found = 0
                for j in range(self.size):
                    found += self.values[j] < FAR
                if found < width:
                    reach = FAR
                    break
                threshold = cx_nearest_threshold(&self.values[0], self.size, width, FAR)
                reach = max(reach, threshold)
        return reach

    cdef gather(self, float reach):
        """Collect the rows of all blocks within `reach` (squared) of the group."""
        cdef Py_ssize_t b, i, j, start, stop, total = 0, n = self.blocks.row.shape[0]
        for b in range(self.box_distance.shape[0]):
            if self.box_distance[b] <= reach:
                total += BLOCK
        if total > self.stride:
            self.grow(2 * total)
        with nogil:
            self.size = 0
            for b in range(self.box_distance.shape[0]):
                if self.box_distance[b] > reach:
                    continue
                start = b * BLOCK
                stop = min(start + BLOCK, n)
                for i in range(start, stop):
                    self.place[self.size] = i
                    self.rank[self.size] = self.blocks.rank[i]
                    for j in range(self.coords.shape[0]):
                        self.coords[j, self.size] = self.blocks.coords[i, j]
                    self.size += 1
