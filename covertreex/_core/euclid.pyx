"""The k nearest rows by squared distance, or all within a radius, by boxes (docs/mathematics.md, E1 to E4).

Rows lie in leaves; a leaf has a box around it, and so have `FAN` boxes that are next to each other, up to the root. Of
the boxes in a box that it opens a query takes the nearest first. In a leaf a look in float32 rejects what is too far,
and what is left is decided by canonical squares.
"""

cimport cython
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy

import numpy as np

from covertreex._core.memory cimport grown, zeroed
from covertreex._core.sort cimport RUN, cx_select, cx_sort

cdef extern from "euclid.h" nogil:
    uint32_t cx_euclid_rows(const float *leaf, Py_ssize_t count, const float *point, Py_ssize_t d, float reach)
    void cx_euclid_boxes(const double *low, const double *high, const double *point, Py_ssize_t d, double *out)
    double cx_sqdist(const double *a, const double *b, Py_ssize_t d)
    int __builtin_ctz(unsigned int bits)
    const int CX_LEAF
    const int CX_FAN

cdef enum:
    LEAF = 32
    FAN = 8

assert LEAF == CX_LEAF and FAN == CX_FAN

# E3: squares that differ by more than this, relatively, are those of different distances.
cdef double SAME = 2.0 ** -50

# E3: a query first looks as far as this, times the k-th square of the query before.
cdef double HINT = 1.5

# Roundoff of float32.
cdef double ROUNDOFF = 2.0 ** -24


def leaf_starts(Py_ssize_t n):
    """Where the leaves of `n` rows begin, and `n`: halves of halves, as `covertreex.ordering.leaf_order` makes them."""
    edges = np.array([0, n])
    while np.max(np.diff(edges)) > LEAF:
        begin, end = edges[:len(edges) - 1], edges[1:]
        edges = np.append(np.column_stack([begin, begin + (end - begin) // 2]).ravel(), n)
    return edges


cdef class BoxTree:
    """Leaves of payload rows, and boxes around them. Read-only: many threads may search it at once.

    Node 0 is the root, with children 1 to `fan`; another inner node v has children ``1 + fan + FAN * (v - 1)`` and on.
    Nodes from `inner` are the leaves, in order.

    Parameters
    ----------
    coords : ndarray, shape (n, d)
        Of all payload rows.
    index : ndarray, shape (n,), int64
        Their dataset indices.
    rows : ndarray, shape (r,), int64
        At least one: those that may be found, near each other in space where they are near each other here.
    slack_rel, slack_abs : float
        B1.
    """

    cdef readonly object rows
    cdef readonly Py_ssize_t inner, fan
    cdef Py_ssize_t d
    cdef const double[:, ::1] coords
    cdef const int64_t[::1] index, row, start
    cdef const double[:, :, ::1] low, high  # of the children of each inner node, (d, FAN)
    cdef const float[:, :, ::1] leaves      # (d, LEAF), about the centre and in units of ...
    cdef const double[::1] centre
    cdef double scale                       # ... one over this, a power of two
    cdef double slack_rel, slack_abs
    cdef object ranked  # the ranks that `least` was last asked for, and what it said

    def __init__(self, const double[:, ::1] coords, const int64_t[::1] index, rows, double slack_rel, double slack_abs):
        self.coords, self.index, self.row, self.rows = coords, index, rows, rows
        self.slack_rel, self.slack_abs, self.d = slack_rel, slack_abs, coords.shape[1]
        points, edges = np.asarray(coords)[rows], leaf_starts(len(rows))
        self.start, begin = edges, edges[:len(edges) - 1]
        bounds = np.stack([np.minimum.reduceat(points, begin), np.maximum.reduceat(points, begin)])
        levels = []
        while bounds.shape[1] > 1:
            # FAN to a box, and the rest of the halvings to the root.
            self.fan = FAN if bounds.shape[1] % FAN == 0 else bounds.shape[1]
            bounds = bounds.reshape(2, -1, self.fan, self.d)
            padded = np.zeros((2, bounds.shape[1], self.d, FAN))
            padded[:, :, :, :self.fan] = bounds.swapaxes(2, 3)
            levels.insert(0, padded)
            bounds = np.stack([bounds[0].min(axis=1), bounds[1].max(axis=1)])
        levels.insert(0, np.zeros((2, 0, self.d, FAN)))
        self.low, self.high = np.concatenate(levels, axis=1)
        self.inner = self.low.shape[0]
        centre = 0.5 * bounds[0, 0] + 0.5 * bounds[1, 0]
        extent = np.max(np.abs(bounds[:, 0] - centre))
        self.centre, self.scale = centre, 2.0 ** min(-np.frexp(extent)[1], 1000)
        self.leaves = leaves_of(points, self.start, self.centre, self.scale)

    def least(self, rank):
        """The least rank of a row of each node; `rank` is read-only, and asked for again and again.

        Returns
        -------
        ndarray, int64
        """
        ranked = self.ranked
        if ranked is not None and ranked[0] is rank:
            return ranked[1]
        levels = [np.minimum.reduceat(rank[self.rows], self.start[:self.start.shape[0] - 1])]
        while len(levels[0]) > 1:
            fan = FAN if len(levels[0]) % FAN == 0 else len(levels[0])
            levels.insert(0, levels[0].reshape(-1, fan).min(axis=1))
        least = np.concatenate(levels)
        self.ranked = rank, least
        return least


cdef leaves_of(const double[:, ::1] points, const int64_t[::1] start, const double[::1] centre, double scale):
    """Points of each leaf in float32, an axis after the other."""
    cdef Py_ssize_t leaf, i, j
    out = np.zeros((start.shape[0] - 1, points.shape[1], LEAF), dtype=np.float32)
    cdef float[:, :, ::1] leaves = out
    with nogil:
        for leaf in range(leaves.shape[0]):
            for i in range(start[leaf + 1] - start[leaf]):
                for j in range(points.shape[1]):
                    leaves[leaf, j, i] = <float>((points[start[leaf] + i, j] - centre[j]) * scale)
    return out


cdef struct Box:
    double square  # of its distance from the query
    int64_t node


cdef class Reach:
    """One thread's scratch: a query, and how far it looks. Nothing farther than `reach` (squared) is looked for."""

    cdef BoxTree boxes
    cdef const int64_t[::1] rank, least
    cdef Box *stack
    cdef double reach, blur
    cdef float reach32
    cdef float[::1] point32
    cdef int64_t compared

    def __cinit__(self, BoxTree boxes, rank, least, *more):
        self.stack = <Box *>zeroed(boxes.inner + boxes.start.shape[0], sizeof(Box))

    def __init__(self, BoxTree boxes, rank, least):
        self.boxes, self.rank, self.least = boxes, rank, least
        self.point32 = np.zeros(boxes.d, dtype=np.float32)

    def __dealloc__(self):
        free(self.stack)

    @cython.final
    cdef void begin(self, const double *point) noexcept nogil:
        """Take another query, which looks as far as there are rows."""
        cdef Py_ssize_t j
        cdef double x, farthest = 0.0
        for j in range(self.boxes.d):
            x = (point[j] - self.boxes.centre[j]) * self.boxes.scale
            farthest = max(farthest, fabs(x))
            self.point32[j] = <float>x
        self.reach = INFINITY
        self.reach32 = INFINITY
        # E2: no row is farther than 1 from the centre. A query that is very far is not looked at in float32.
        self.blur = 1.01 * ROUNDOFF * (1.0 + farthest) * sqrt(<double>self.boxes.d) if farthest < 1e6 else INFINITY

    @cython.final
    cdef void set_reach(self, double reach) noexcept nogil:
        """From now on nothing farther than `reach` (squared) is looked for."""
        cdef double far
        self.reach = reach
        # E2
        far = self.boxes.scale * sqrt(self.reach * (1.0 + self.boxes.slack_rel) + self.boxes.slack_abs)
        far = (far + self.blur) * (1.0 + (self.boxes.d + 8) * ROUNDOFF)
        self.reach32 = <float>(far * far * (1.0 + 4.0 * ROUNDOFF) + 1e-36)

    @cython.final
    cdef inline int64_t children(self, int64_t node, const double *point, double *squares,
                                 Py_ssize_t *count) noexcept nogil:
        """The first child of a node, how many it has, and how far these boxes are from a point."""
        cx_euclid_boxes(&self.boxes.low[node, 0, 0], &self.boxes.high[node, 0, 0], point, self.boxes.d, squares)
        count[0] = self.boxes.fan if node == 0 else FAN
        return 1 if node == 0 else 1 + self.boxes.fan + FAN * (node - 1)

    @cython.final
    cdef inline uint32_t near(self, Py_ssize_t leaf) noexcept nogil:
        """Which rows of a leaf are near enough in float32: bits."""
        cdef Py_ssize_t count = self.boxes.start[leaf + 1] - self.boxes.start[leaf]
        self.compared += count
        return cx_euclid_rows(&self.boxes.leaves[leaf, 0, 0], count, &self.point32[0], self.boxes.d, self.reach32)


@cython.final
cdef class Search(Reach):
    """What a query has found so far.

    `size` rows are at `rows`, with canonical `squares`: the k nearest so far, and what was found since they were last
    sorted out, which costs something. A row whose square is above `reach` is not among the k nearest.
    """

    cdef Py_ssize_t k, size, room
    cdef double *squares
    cdef double *scratch
    cdef int64_t *rows
    cdef int64_t *spare
    cdef double hint

    def __cinit__(self, BoxTree boxes, rank, least, Py_ssize_t k):
        self.k = k
        self.room = 3 * k + 16
        self.squares = <double *>zeroed(self.room + LEAF, sizeof(double))
        self.scratch = <double *>zeroed(self.room + LEAF, sizeof(double))
        self.rows = <int64_t *>zeroed(self.room + LEAF, sizeof(int64_t))
        self.spare = <int64_t *>zeroed(self.room + LEAF, sizeof(int64_t))
        self.hint = INFINITY

    def __init__(self, BoxTree boxes, rank, least, Py_ssize_t k):
        super().__init__(boxes, rank, least)

    def __dealloc__(self):
        free(self.squares)
        free(self.scratch)
        free(self.rows)
        free(self.spare)

    cdef void search(self, const double *point, int64_t limit, int64_t exclude) noexcept nogil:
        """Find the k nearest of `point`: they are left in `rows`, the farthest first."""
        cdef double hint = self.hint
        self.begin(point)
        self.size = 0
        if hint < INFINITY:
            self.set_reach(hint)
        self.walk(point, limit, exclude)
        # E3
        if hint < INFINITY and not (self.size == self.k and self.squares[0] + self.squares[0] * SAME <= hint):
            self.begin(point)
            self.size = 0
            self.walk(point, limit, exclude)
        self.hint = HINT * self.squares[0] if self.size == self.k else INFINITY

    cdef void walk(self, const double *point, int64_t limit, int64_t exclude) noexcept nogil:
        """Find the k nearest of those within `reach`, the farthest first."""
        cdef Py_ssize_t many = 1
        cdef Box box
        self.stack[0].square = 0.0
        self.stack[0].node = 0
        while many > 0:
            many -= 1
            box = self.stack[many]
            if box.square > self.reach:
                continue
            if box.node < self.boxes.inner:
                many = self.expand(box.node, point, limit, many)
            else:
                self.scan_leaf(box.node - self.boxes.inner, point, limit, exclude)
        self.finish()

    cdef void finish(self) noexcept nogil:
        """Leave the k nearest of what was found, the farthest first."""
        cdef Py_ssize_t i, more = self.size - self.k
        if more > 0 and self.size > RUN:
            self.sort_out()
        cx_sort(self.squares, self.rows, self.size, self.scratch, self.spare)
        if self.size <= self.k:
            return
        if self.squares[more - 1] <= self.squares[more] + self.squares[more] * SAME:
            self.sort_out()  # perhaps ties
            cx_sort(self.squares, self.rows, self.size, self.scratch, self.spare)
            return
        for i in range(self.k):
            self.squares[i] = self.squares[more + i]
            self.rows[i] = self.rows[more + i]
        self.size = self.k

    cdef Py_ssize_t expand(self, int64_t node, const double *point, int64_t limit, Py_ssize_t many) noexcept nogil:
        """Put the children of a node on the stack, the nearest on top; return how many boxes it has then."""
        cdef double squares[FAN]
        cdef Py_ssize_t i, here, count, below = many
        cdef int64_t child = self.children(node, point, squares, &count)
        for i in range(count):
            if squares[i] > self.reach or self.least[child + i] >= limit:
                continue
            here = many
            while here > below and self.stack[here - 1].square < squares[i]:
                self.stack[here] = self.stack[here - 1]
                here -= 1
            self.stack[here].square = squares[i]
            self.stack[here].node = child + i
            many += 1
        return many

    cdef void scan_leaf(self, Py_ssize_t leaf, const double *point, int64_t limit, int64_t exclude) noexcept nogil:
        """Find what is near enough in a leaf."""
        cdef int64_t row, start = self.boxes.start[leaf]
        cdef uint32_t near = self.near(leaf)
        cdef double square
        while near:
            row = self.boxes.row[start + __builtin_ctz(near)]
            near &= near - 1
            if self.rank[row] >= limit or row == exclude:
                continue
            square = cx_sqdist(point, &self.boxes.coords[row, 0], self.boxes.d)
            self.squares[self.size] = square
            self.rows[self.size] = row
            self.size += square <= self.reach
        if self.size >= self.room or (self.size >= self.k and self.reach == INFINITY):
            self.sort_out()

    cdef void sort_out(self) noexcept nogil:
        """Keep the k nearest, by (distance, dataset index), of at least k."""
        cdef Py_ssize_t i, kept = 0
        cdef double kth
        memcpy(self.scratch, self.squares, self.size * sizeof(double))
        kth = cx_select(self.scratch, self.size, self.k - 1)
        self.set_reach(kth + kth * SAME)
        for i in range(self.size):
            self.squares[kept] = self.squares[i]
            self.rows[kept] = self.rows[i]
            kept += self.squares[i] <= self.reach
        self.size = kept
        if kept > self.k:
            self.cut_ties(sqrt(kth))

    cdef void cut_ties(self, double kth) noexcept nogil:
        """Of the rows at the k-th distance keep those of the least dataset indices."""
        cdef Py_ssize_t i, kept = 0, nearer = 0, ties = 0
        cdef double distance, last
        for i in range(self.size):
            distance = sqrt(self.squares[i])
            nearer += distance < kth
            self.scratch[ties] = <double>self.boxes.index[self.rows[i]]
            ties += distance == kth
        last = cx_select(self.scratch, ties, self.k - nearer - 1)
        for i in range(self.size):
            distance = sqrt(self.squares[i])
            self.squares[kept] = self.squares[i]
            self.rows[kept] = self.rows[i]
            kept += distance < kth or (distance == kth and <double>self.boxes.index[self.rows[i]] <= last)
        self.size = kept


def nearest(BoxTree boxes, const double[:, ::1] coords, const int64_t[::1] limit, const int64_t[::1] exclude, rank,
            least, Py_ssize_t k, const int32_t[::1] cancel):
    """The rows that are among the k nearest: those of query q are ``rows[ptr[q]:ptr[q + 1]]``, the farthest first.

    That is the order in which a heap of the k best takes them with least work. One thread's work. Releases the GIL.

    Parameters
    ----------
    boxes : BoxTree
    coords, limit, exclude, rank : of the queries, as in `covertreex.protocols.QueryBlock`
    least : ndarray
        ``boxes.least(rank)``.
    k : int
    cancel : ndarray, shape (1,), int32

    Returns
    -------
    ptr : ndarray, shape (q + 1,), int64
    rows : ndarray, int64
    compared : int
        How many rows of leaves were looked at.
    """
    cdef Py_ssize_t q, i, queries = coords.shape[0], total = 0
    cdef Search search = Search(boxes, rank, least, k)
    ptr, rows = np.zeros(queries + 1, dtype=np.int64), np.empty(queries * k, dtype=np.int64)
    cdef int64_t[::1] ends = ptr, out = rows
    with nogil:
        for q in range(queries):
            if not cancel[0]:
                search.search(&coords[q, 0], limit[q], exclude[q])
                for i in range(search.size):
                    out[total] = search.rows[i]
                    total += 1
            ends[q + 1] = total
    return ptr, rows[:total], search.compared


@cython.final
cdef class Range(Reach):
    """The rows within reach of one query after another: `size` of them are at `rows`."""

    cdef int64_t *rows
    cdef Py_ssize_t size, capacity

    def __dealloc__(self):
        free(self.rows)

    cdef int find(self, const double *point, int64_t limit) except -1 nogil:
        """Add the rows within `reach` of `point` and of rank below `limit`, leaf after leaf."""
        cdef double squares[FAN]
        cdef Py_ssize_t many = 1, count, i
        cdef int64_t node, child
        self.stack[0].node = 0
        while many > 0:
            many -= 1
            node = self.stack[many].node
            if node >= self.boxes.inner:
                self.scan_leaf(node - self.boxes.inner, point, limit)
                continue
            child = self.children(node, point, squares, &count)
            for i in range(count - 1, -1, -1):
                self.stack[many].node = child + i
                many += (squares[i] <= self.reach) & (self.least[child + i] < limit)
        return 0

    cdef int scan_leaf(self, Py_ssize_t leaf, const double *point, int64_t limit) except -1 nogil:
        cdef uint32_t near = self.near(leaf)
        cdef int64_t row, start = self.boxes.start[leaf]
        if near:
            self.rows = <int64_t *>grown(self.rows, &self.capacity, self.size + LEAF, sizeof(int64_t))
        while near:
            row = self.boxes.row[start + __builtin_ctz(near)]
            near &= near - 1
            self.rows[self.size] = row
            self.size += (cx_sqdist(point, &self.boxes.coords[row, 0], self.boxes.d) <= self.reach) & (
                self.rank[row] < limit)
        return 0


def within(BoxTree boxes, const double[:, ::1] coords, const int64_t[::1] limit, rank, least, const double[::1] reach,
           Py_ssize_t room, const int32_t[::1] cancel):
    """The rows whose square is at most a query's `reach`: those of query q are ``rows[ptr[q]:ptr[q + 1]]``, by leaves.

    One thread's work. Releases the GIL.

    Parameters
    ----------
    boxes : BoxTree
    coords, limit, rank : of the queries, as in `covertreex.protocols.QueryBlock`
    least : ndarray
        ``boxes.least(rank)``.
    reach : ndarray, shape (q,)
        Squared.
    room : int
        Once there are so many rows or more in all, no further query is looked at, and `ptr` is so much shorter.
    cancel : ndarray, shape (1,), int32

    Returns
    -------
    ptr, rows : ndarray, int64
    """
    cdef Range found = Range(boxes, rank, least)
    cdef Py_ssize_t q = 0, queries = coords.shape[0]
    ptr = np.zeros(queries + 1, dtype=np.int64)
    cdef int64_t[::1] ends = ptr
    with nogil:
        while q < queries and found.size < room and not cancel[0]:
            found.begin(&coords[q, 0])
            found.set_reach(reach[q])
            found.find(&coords[q, 0], limit[q])
            q += 1
            ends[q] = found.size
    rows = np.empty(found.size, dtype=np.int64)
    cdef int64_t[::1] out = rows
    if found.size:
        memcpy(&out[0], found.rows, found.size * sizeof(int64_t))
    return ptr[:q + 1], rows
