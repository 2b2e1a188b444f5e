"""Cover tree construction (INVARIANTS T1 to T5 of covertreex/data/tree.py).

Points are inserted in order of their dataset index, in batches. For each batch, `CoverFinder.find` looks up the
*covers* of its points in the tree so far (nodes y with ``d(x, y) <= 2**level[y]``): many threads may do this at once,
each with a finder of its own, since the tree does not change meanwhile. Then `Builder.commit` inserts the points one by
one, adding the covers inside the batch. A point's covers decide its level and parent, so the tree does not depend on
batches or threads.
"""

cimport cython
from libc.math cimport frexp, ldexp, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free

import numpy as np

from covertreex.errors import InvalidInputError

from covertreex._core.canonical cimport (
    PayloadView,
    cx_distance,
    cx_distance_given_dot,
    cx_dot16_many,
    cx_lower,
    cx_payload,
    cx_query,
    cx_row_query,
    cx_upper,
)
from covertreex._core.memory cimport grown, zeroed

cdef enum:
    DUPLICATE_LEVEL = -1100


cdef inline int64_t level_of(double distance) noexcept nogil:
    """The smallest integer i with ``2**i >= distance``, for a positive distance."""
    cdef int exponent
    cdef double mantissa = frexp(distance, &exponent)
    return exponent - 1 if mantissa == 0.5 else exponent


cdef inline double reach(const cx_payload *payload, int64_t level) noexcept nogil:
    """A true distance above this computes above ``2**level`` (B1 turned round, with room for its own rounding)."""
    cdef double radius = ldexp(1.0, <int>level)
    return sqrt((radius * radius + payload.slack_abs) * (1.0 + 4.0 * payload.slack_rel))


cdef struct Active:
    int64_t slot     # which point of the batch
    double lower     # of its distance to the node whose children are being visited
    double upper


cdef struct Frame:
    int64_t child     # next child to visit
    Py_ssize_t start  # its active points are active[start:stop]
    Py_ssize_t stop


cdef struct Cover:
    int64_t slot
    int64_t node
    double distance


@cython.final
cdef class Builder:
    """The growing tree. Arrays have one entry per payload row; lists of children are linked in insertion order."""

    cdef PayloadView view
    cdef readonly int64_t root
    cdef int64_t lost  # a row that nothing covers, for its distances are no numbers; -1 as long as there is none
    cdef int64_t[::1] parent, level, first_child, last_child, next_sibling, top_child_level
    cdef double[::1] parent_distance, farthest
    cdef object arrays

    def __init__(self, payload, int64_t root, int64_t root_level):
        self.view = PayloadView(payload)
        n = len(payload)
        self.arrays = {name: np.full(n, -1, dtype=np.int64) for name in (
            "parent", "first_child", "last_child", "next_sibling")}
        self.arrays["level"] = np.full(n, DUPLICATE_LEVEL, dtype=np.int64)
        self.arrays["top_child_level"] = np.full(n, DUPLICATE_LEVEL, dtype=np.int64)
        self.arrays["parent_distance"] = np.zeros(n)
        self.arrays["farthest"] = np.full(n, -1.0)
        self.parent = self.arrays["parent"]
        self.level = self.arrays["level"]
        self.first_child = self.arrays["first_child"]
        self.last_child = self.arrays["last_child"]
        self.next_sibling = self.arrays["next_sibling"]
        self.top_child_level = self.arrays["top_child_level"]
        self.parent_distance = self.arrays["parent_distance"]
        self.farthest = self.arrays["farthest"]
        self.root, self.lost = root, -1
        self.level[root] = root_level

    def resume(self, rows, parent, level, parent_distance, farthest, above, children):
        """Take up a tree whose nodes are `rows`: its arrays, in their order, and for each of `children` the node above.

        `children` are in order of insertion under each node. The root's level stays the one given to the constructor.
        """
        arrays, root_level = self.arrays, self.level[self.root]
        arrays["parent"][rows] = parent
        arrays["level"][rows] = level
        arrays["parent_distance"][rows] = parent_distance
        arrays["farthest"][rows] = farthest
        self.level[self.root] = root_level
        if len(children) == 0:
            return
        starts = np.flatnonzero(np.diff(above, prepend=-1))
        stops = np.append(starts[1:], len(children)) - 1
        arrays["first_child"][above[starts]] = children[starts]
        arrays["last_child"][above[starts]] = children[stops]
        arrays["next_sibling"][children[: len(children) - 1]] = children[1:]
        arrays["next_sibling"][children[stops]] = -1
        arrays["top_child_level"][above[starts]] = np.maximum.reduceat(arrays["level"][children], starts)

    def result(self):
        """The arrays `parent`, `level`, `parent_distance` and `farthest` (-1 without descendants), by name."""
        return {name: self.arrays[name] for name in ("parent", "level", "parent_distance", "farthest")}

    def commit(self, const int64_t[::1] rows, finders):
        """Insert `rows` in this order. `finders` hold the covers of consecutive parts of them."""
        cdef Py_ssize_t total = rows.shape[0], begin = 0, i
        cdef CoverFinder finder
        cdef double[::1] dots = np.zeros(total)
        cdef Covers covers = Covers()
        cdef Pointers factors = Pointers(total)
        for finder in finders:
            with nogil:
                finder.sort_by_slot()
                for i in range(finder.size):
                    self.insert(rows, begin + i, factors.at, &dots[0], finder, i, covers)
            begin += finder.size
            if self.lost >= 0:
                raise InvalidInputError(
                    f"the point of row {self.lost} is at no finite distance from the root of the cover tree, so it has "
                    "no place there: the coordinates, factors or p are damaged or overflow. Load the file with "
                    "verify=True, or make the tree again from data that is finite.")

    cdef int insert(self, const int64_t[::1] rows, Py_ssize_t position, const double **earlier, double *dots,
                    CoverFinder finder, Py_ssize_t slot, Covers covers) except -1 nogil:
        cdef const cx_payload *payload = &self.view.c
        cdef int64_t x = rows[position], y, level, parent
        cdef Py_ssize_t i
        cdef double d
        cdef cx_query query = cx_row_query(payload, x)
        covers.size = 0
        for i in range(finder.start[slot], finder.start[slot + 1]):
            covers.push(slot, finder.found.at[i].node, finder.found.at[i].distance)
        if payload.m > 0:
            cx_dot16_many(query.factors, earlier, position, payload.m, dots)
            earlier[position] = query.factors
        for i in range(position):
            y = rows[i]
            d = cx_distance_given_dot(payload, &query, y, dots[i])
            if self.level[y] > DUPLICATE_LEVEL and d <= ldexp(1.0, <int>self.level[y]):
                covers.push(slot, y, d)

        level, parent, d = self.place(covers)
        if parent == -1:
            self.lost = x
            return 0
        self.level[x] = level
        self.parent[x] = parent
        self.parent_distance[x] = d
        if self.first_child[parent] == -1:
            self.first_child[parent] = x
        else:
            self.next_sibling[self.last_child[parent]] = x
        self.last_child[parent] = x
        if level > self.top_child_level[parent]:
            self.top_child_level[parent] = level
        while parent != -1:
            if d > self.farthest[parent]:
                self.farthest[parent] = d
            parent = self.parent[parent]
            if parent != -1:
                d = cx_distance(payload, &query, parent)
        return 0

    cdef (int64_t, int64_t, double) place(self, Covers covers) noexcept nogil:
        """Level, parent and distance to it: just below the smallest ball, of radius a power of 2, that any cover needs
        to reach the point, so that it is separated from all of them at every level that it shares with them."""
        cdef int64_t level = self.level[self.root] - 1, parent = -1, y, needed
        cdef double best = 0.0, d, radius
        cdef Py_ssize_t i
        for i in range(covers.size):
            d = covers.at[i].distance
            needed = level_of(d) if d > 0.0 else DUPLICATE_LEVEL + 1
            level = min(level, needed - 1)
        radius = ldexp(1.0, <int>level + 1) if level > DUPLICATE_LEVEL else 0.0
        for i in range(covers.size):
            y = covers.at[i].node
            d = covers.at[i].distance
            if self.level[y] > level and d <= radius:
                if parent == -1 or d < best or (d == best and self.view.c.index[y] < self.view.c.index[parent]):
                    parent = y
                    best = d
        return level, parent, best


@cython.final
cdef class Covers:
    """A growing list of covers."""

    cdef Cover *at
    cdef Py_ssize_t size, capacity

    def __dealloc__(self):
        free(self.at)

    cdef int push(self, int64_t slot, int64_t node, double distance) except -1 nogil:
        if self.size == self.capacity:
            self.at = <Cover *>grown(self.at, &self.capacity, self.size + 1, sizeof(Cover))
        self.at[self.size].slot = slot
        self.at[self.size].node = node
        self.at[self.size].distance = distance
        self.size += 1
        return 0


@cython.final
cdef class Pointers:
    """An array of borrowed pointers to factor rows."""

    cdef const double **at

    def __cinit__(self, Py_ssize_t size):
        self.at = <const double **>zeroed(size, sizeof(double *))

    def __dealloc__(self):
        free(<void *>self.at)


@cython.final
cdef class CoverFinder:
    """Finds the covers of one part of a batch: one thread's work, its scratch and its result."""

    cdef Builder builder
    cdef Py_ssize_t size
    cdef Covers found
    cdef Py_ssize_t[::1] start
    cdef int64_t[::1] survivors
    cdef double[::1] dots
    cdef Pointers factors
    cdef Active *active
    cdef Py_ssize_t active_capacity
    cdef Frame *frames
    cdef Py_ssize_t frame_capacity

    def __init__(self, Builder builder, Py_ssize_t most):
        self.builder = builder
        self.found = Covers()
        self.start = np.zeros(most + 1, dtype=np.intp)
        self.survivors = np.empty(most, dtype=np.int64)
        self.dots = np.zeros(most)  # and so they stay where there are no factors
        self.factors = Pointers(most)

    def __dealloc__(self):
        free(self.active)
        free(self.frames)

    cdef int reserve(self, Py_ssize_t active, Py_ssize_t frames) except -1 nogil:
        if active > self.active_capacity:
            self.active = <Active *>grown(self.active, &self.active_capacity, active, sizeof(Active))
        if frames > self.frame_capacity:
            self.frames = <Frame *>grown(self.frames, &self.frame_capacity, frames, sizeof(Frame))
        return 0

    def find(self, const int64_t[::1] rows):
        """Find the covers of `rows` in the tree as it is. Releases the GIL."""
        self.size = rows.shape[0]
        self.found.size = 0
        if self.size:
            with nogil:
                self.walk(&rows[0])

    cdef int walk(self, const int64_t *rows) except -1 nogil:
        # Depth first over the tree, all points at once: a node's row is loaded once for all points that still need it.
        cdef Py_ssize_t depth = 1, filled, top, count
        cdef int64_t c
        cdef double below
        self.begin(rows)
        while depth > 0:
            c = self.frames[depth - 1].child
            if c == -1:
                depth -= 1
                continue
            self.frames[depth - 1].child = self.builder.next_sibling[c]
            if self.builder.level[c] == DUPLICATE_LEVEL:
                continue
            below = self.child_reach(c)
            count = self.survive(rows, &self.frames[depth - 1], c, below)
            if count == 0:
                continue
            top = self.frames[depth - 1].stop
            self.reserve(top + count, depth + 1)
            filled = self.compare(rows, c, below, count, top)
            if filled > top:
                self.frames[depth].child = self.builder.first_child[c]
                self.frames[depth].start = top
                self.frames[depth].stop = filled
                depth += 1
        return 0

    cdef int begin(self, const int64_t *rows) except -1 nogil:
        """Compare all points with the root, which covers them, and put them on the first frame."""
        cdef const cx_payload *payload = &self.builder.view.c
        cdef cx_query query = cx_row_query(payload, self.builder.root)
        cdef Py_ssize_t i
        cdef double d
        self.reserve(2 * self.size, 2)
        for i in range(self.size):
            d = cx_distance(payload, &query, rows[i])
            self.found.push(i, self.builder.root, d)
            self.active[i] = Active(i, cx_lower(payload, d), cx_upper(payload, d))
        self.frames[0] = Frame(self.builder.first_child[self.builder.root], 0, self.size)
        return 0

    cdef inline double child_reach(self, int64_t c) noexcept nogil:
        """No descendant of c covers a point that is farther from c than this: below 0 if there is none."""
        cdef const cx_payload *payload = &self.builder.view.c
        if self.builder.top_child_level[c] == DUPLICATE_LEVEL:
            return -1.0
        return reach(payload, self.builder.top_child_level[c]) + cx_upper(payload, self.builder.farthest[c])

    cdef Py_ssize_t survive(self, const int64_t *rows, const Frame *frame, int64_t c,
                            double below) noexcept nogil:
        """List in `survivors` the points of a frame that c may cover, or a descendant of c (those have level <=
        top_child_level), by their distances from the parent of c; returns how many.
        """
        cdef const cx_payload *payload = &self.builder.view.c
        cdef double near = reach(payload, self.builder.level[c]), gap
        cdef double lower_pd = cx_lower(payload, self.builder.parent_distance[c])
        cdef double upper_pd = cx_upper(payload, self.builder.parent_distance[c])
        cdef Py_ssize_t i, count = 0
        cdef const Active *a
        near = max(near, below)
        for i in range(frame.start, frame.stop):
            a = &self.active[i]
            gap = a.lower - upper_pd
            if lower_pd - a.upper > gap:
                gap = lower_pd - a.upper
            if gap <= near:
                self.survivors[count] = a.slot
                if payload.m > 0:
                    self.factors.at[count] = payload.factors + rows[a.slot] * payload.m
                count += 1
        return count

    cdef Py_ssize_t compare(self, const int64_t *rows, int64_t c, double below, Py_ssize_t count,
                            Py_ssize_t top) except -1 nogil:
        """Compare `count` survivors with c; those whom its descendants may cover are made active, from place `top` on.
        Returns where these end.
        """
        cdef const cx_payload *payload = &self.builder.view.c
        cdef cx_query query = cx_row_query(payload, c)
        cdef double radius = ldexp(1.0, <int>self.builder.level[c]), d, low
        cdef Py_ssize_t i, filled = top
        cdef int64_t slot
        if payload.m > 0:
            cx_dot16_many(query.factors, self.factors.at, count, payload.m, &self.dots[0])
        for i in range(count):
            slot = self.survivors[i]
            d = cx_distance_given_dot(payload, &query, rows[slot], self.dots[i])
            if d <= radius:
                self.found.push(slot, c, d)
            if below >= 0.0:
                low = cx_lower(payload, d)
                if low <= below:
                    self.active[filled] = Active(slot, low, cx_upper(payload, d))
                    filled += 1
        return filled

    cdef int sort_by_slot(self) except -1 nogil:
        """Bring the covers of slot i together, as they are, to self.found.at[start[i]:start[i + 1]].

        By counting, as slots are few and known: no comparison is needed.
        """
        cdef Py_ssize_t i, total = self.found.size
        cdef Cover *scratch = <Cover *>zeroed(total, sizeof(Cover))
        for i in range(self.size + 1):
            self.start[i] = 0
        for i in range(total):
            self.start[self.found.at[i].slot + 1] += 1
        for i in range(self.size):
            self.start[i + 1] += self.start[i]
        for i in range(total):
            scratch[self.start[self.found.at[i].slot]] = self.found.at[i]
            self.start[self.found.at[i].slot] += 1
        for i in range(self.size, 0, -1):
            self.start[i] = self.start[i - 1]
        self.start[0] = 0
        free(self.found.at)
        self.found.at = scratch
        self.found.capacity = total
        return 0
