"""Which rows are near a group of queries in coordinates: the union of what each of its queries has nearest.

Rows come in blocks with bounding boxes. A first look at some blocks around the group tells for each query a distance
within which there are `width` rows for sure; a second takes every block within the farthest of these.
"""

from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t

import numpy as np

cdef extern from "nearest.h" nogil:
    void cx_nearest_distances(const float *query, const float *coords, Py_ssize_t d, Py_ssize_t stride,
                              Py_ssize_t count, const int32_t *rank, int32_t limit, float far, float *out)
    float cx_nearest_threshold(const float *values, Py_ssize_t count, Py_ssize_t K, float far)
    Py_ssize_t cx_nearest_within(const float *query, int32_t limit, float bound, Py_ssize_t d, const float *coords,
                                 Py_ssize_t stride, const int32_t *rank, const float *low, const float *high,
                                 Py_ssize_t blocks, float *box, float *kept, int32_t *places)
    const int BLOCK "CX_BLOCK"
    double cx_box_distance(const double *low, const double *high, const double *box_low, const double *box_high,
                           Py_ssize_t d)

cdef enum:
    FIRST_LOOK = 3  # rows of the first look, as a multiple of the width: some are past a limit, or across the group

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
    cdef float[::1] values, kept, bounds
    cdef int32_t[::1] kept_place
    cdef uint8_t[::1] marks
    cdef float[::1] box_distance, box_low, box_high, box

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
        self.kept = np.empty(stride + 1, dtype=np.float32)
        self.kept_place = np.empty(stride + 1, dtype=np.int32)
        self.marks = np.empty(stride, dtype=np.uint8)
        d, boxes = self.blocks.coords.shape[1], stride // BLOCK
        self.box_low, self.box_high = np.empty((2, d * boxes), dtype=np.float32)
        self.box = np.empty(boxes, dtype=np.float32)

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
        cdef Py_ssize_t look = FIRST_LOOK * width // BLOCK + 2, blocks = self.box_distance.shape[0], many, j
        cdef float threshold
        self.bounds = np.empty(points.shape[0], dtype=np.float32)
        while True:
            self.gather(cx_nearest_threshold(&self.box_distance[0], blocks, min(look, blocks), FAR))
            reach = self.bound(points, limits, width)
            if reach < FAR or look >= blocks:
                break
            look *= 4
        self.gather(reach)
        with nogil:
            self.marks[:self.size] = 0
            for i in range(points.shape[0]):
                many = cx_nearest_within(&points[i, 0], <int32_t>limits[i], self.bounds[i], d, &self.coords[0, 0],
                                         self.stride, &self.rank[0], &self.box_low[0], &self.box_high[0],
                                         self.size // BLOCK, &self.box[0], &self.kept[0], &self.kept_place[0])
                threshold = cx_nearest_threshold(&self.kept[0], many, width, FAR)
                for j in range(many):
                    if self.kept[j] <= threshold:
                        self.marks[self.kept_place[j]] = 1
        chosen = np.asarray(self.marks[:self.size]).view(bool)
        return np.asarray(self.blocks.rows)[np.asarray(self.place[:self.size])[chosen]]

    cdef void evaluate(self, const float *point, int64_t limit) noexcept nogil:
        cx_nearest_distances(point, &self.coords[0, 0], self.coords.shape[0], self.stride, self.size, &self.rank[0],
                             <int32_t>limit, FAR, &self.values[0])

    cdef float bound(self, const float[:, ::1] points, const int64_t[::1] limits, Py_ssize_t width):
        """For each query, how far it has to see at most for `width` of the rows gathered; returns the farthest.

        That is FAR if one of them finds too few.
        """
        cdef float reach = 0.0
        cdef Py_ssize_t i, j, found
        with nogil:
            for i in range(points.shape[0]):
                self.evaluate(&points[i, 0], limits[i])
                found = 0
                for j in range(self.size):
                    found += self.values[j] < FAR
                self.bounds[i] = 0.99 * FAR
                if found >= width:
                    self.bounds[i] = cx_nearest_threshold(&self.values[0], self.size, width, FAR)
                else:
                    reach = FAR
                reach = max(reach, self.bounds[i])
        return reach

    cdef gather(self, float reach):
        """Collect the rows and boxes of all blocks within `reach` (squared) of the group, whole blocks padded."""
        cdef Py_ssize_t b, i, j, start, count = 0, n = self.blocks.row.shape[0], at = 0, d = self.coords.shape[0]
        for b in range(self.box_distance.shape[0]):
            count += self.box_distance[b] <= reach
        if count * BLOCK > self.stride:
            self.grow(2 * count * BLOCK)
        with nogil:
            self.size = count * BLOCK
            for b in range(self.box_distance.shape[0]):
                if self.box_distance[b] > reach:
                    continue
                start = b * BLOCK
                for i in range(BLOCK):
                    if start + i < n:
                        self.place[at * BLOCK + i] = start + i
                        self.rank[at * BLOCK + i] = self.blocks.rank[start + i]
                        for j in range(d):
                            self.coords[j, at * BLOCK + i] = self.blocks.coords[start + i, j]
                    else:
                        self.rank[at * BLOCK + i] = INT32_MAX
                for j in range(d):
                    self.box_low[j * count + at] = <float>self.blocks.low[b, j]
                    self.box_high[j * count + at] = <float>self.blocks.high[b, j]
                at += 1
