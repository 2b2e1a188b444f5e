"""Maximin order by farthest-point traversal of a cover tree; see `covertreex.ordering.maximin`."""

from libc.stdint cimport int64_t

import numpy as np

from covertreex._core.canonical cimport (
    PayloadView, cx_bound, cx_distance, cx_lower, cx_payload, cx_query, cx_row_query, cx_upper)


cdef class Traversal:
    """The points chosen so far, and how far all others are from them.

    `gap[x]` is the least distance from row x to a chosen row, -1 if x is chosen itself; `below[x]` is the row of the
    largest (gap, then least dataset index) among the descendants of x, -1 without any. A chosen point lowers the gaps
    of its surroundings alone: a subtree is passed over when no gap in it is above the bound on its distances (B2).
    """

    cdef PayloadView view
    cdef const int64_t[::1] parent, child_ptr, children
    cdef const double[::1] lower_pd, upper_pd, si  # of the distance from the parent; radius
    cdef int64_t root, chosen, next
    cdef double[::1] gap, distance, gaps
    cdef int64_t[::1] below, opened, on_path, order
    cdef readonly int64_t evaluations, looks

    def __init__(self, payload, tree, int64_t start):
        cdef Py_ssize_t n = len(payload)
        self.view = PayloadView(payload)
        self.parent, self.child_ptr, self.children = tree.parent, tree.child_ptr, tree.children
        self.lower_pd, self.upper_pd = payload.lower(tree.parent_distance), payload.upper(tree.parent_distance)
        self.si = tree.si
        self.root = tree.root
        self.gap = np.full(n, np.inf)
        self.distance = np.empty(n)
        self.gaps = np.empty(n)
        self.below = np.full(n, -1, dtype=np.int64)
        self.opened = np.empty(n, dtype=np.int64)
        self.on_path = np.full(n, -1, dtype=np.int64)
        self.order = np.empty(n, dtype=np.int64)
        self.chosen = 0
        self.next = start

    def result(self):
        """Dataset indices in the order in which they were chosen, and the gap that each had then."""
        return np.asarray(self.order), np.asarray(self.gaps)

    def advance(self, int64_t budget):
        """Choose points until `budget` more nodes were looked at, or all are chosen; return how many are chosen."""
        cdef int64_t stop = self.looks + budget, n = self.gap.shape[0]
        with nogil:
            while self.chosen < n and self.looks < stop and self.gap[self.next] > 0.0:
                self.choose(self.next)
                self.next = self.farther(self.root, self.below[self.root])
        if self.chosen < n and self.gap[self.next] == 0.0:
            rest = np.sort(np.asarray(self.view.index)[np.asarray(self.gap) == 0.0])
            np.asarray(self.order)[self.chosen:] = rest
            np.asarray(self.gaps)[self.chosen:] = 0.0
            self.chosen = n
        return self.chosen

    cdef inline int64_t farther(self, int64_t x, int64_t y) noexcept nogil:
        """Whichever of two rows comes first by (largest gap, least dataset index); y may be -1."""
        if y == -1 or self.gap[x] > self.gap[y]:
            return x
        if self.gap[x] == self.gap[y] and self.view.c.index[x] < self.view.c.index[y]:
            return x
        return y

    cdef void choose(self, int64_t s) noexcept nogil:
        cdef const cx_payload *payload = &self.view.c
        cdef cx_query query = cx_row_query(payload, s)
        cdef int64_t x, c, best, i
        cdef Py_ssize_t position, filled
        cdef double far, near, lower_dx, upper_dx, most

        self.order[self.chosen] = payload.index[s]
        self.gaps[self.chosen] = self.gap[s]
        self.gap[s] = -1.0
        x = s
        while x != -1:  # its ancestors have to look again for the largest gap below them
            self.on_path[x] = self.chosen
            x = self.parent[x]

        self.evaluate(&query, s, self.root)
        self.opened[0] = self.root
        filled = 1
        position = 0
        while position < filled:
            x = self.opened[position]
            position += 1
            self.looks += 1 + self.child_ptr[x + 1] - self.child_ptr[x]
            lower_dx = cx_lower(payload, self.distance[x])
            upper_dx = cx_upper(payload, self.distance[x])
            for i in range(self.child_ptr[x], self.child_ptr[x + 1]):
                c = self.children[i]
                most = self.gap[c]
                if self.below[c] != -1 and self.gap[self.below[c]] > most:
                    most = self.gap[self.below[c]]
                if self.on_path[c] != self.chosen:
                    far = lower_dx - self.upper_pd[c]
                    if self.lower_pd[c] - upper_dx > far:
                        far = self.lower_pd[c] - upper_dx
                    if cx_bound(payload, far, self.si[c]) >= most:
                        continue
                self.evaluate(&query, s, c)
                if self.child_ptr[c] == self.child_ptr[c + 1]:
                    continue
                if self.on_path[c] != self.chosen and self.below[c] != -1:
                    near = self.gap[self.below[c]]
                    if cx_bound(payload, cx_lower(payload, self.distance[c]), self.si[c]) >= near:
                        continue
                self.opened[filled] = c
                filled += 1

        for position in range(filled - 1, -1, -1):  # children were opened after their parents
            x = self.opened[position]
            best = -1
            for i in range(self.child_ptr[x], self.child_ptr[x + 1]):
                c = self.children[i]
                best = self.farther(c, best)
                if self.below[c] != -1:
                    best = self.farther(self.below[c], best)
            self.below[x] = best
        self.chosen += 1

    cdef inline void evaluate(self, const cx_query *query, int64_t s, int64_t c) noexcept nogil:
        cdef double d = 0.0 if c == s else cx_distance(&self.view.c, query, c)
        self.distance[c] = d
        self.evaluations += 1
        if d < self.gap[c]:
            self.gap[c] = d
