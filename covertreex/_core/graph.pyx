"""Neighbours of neighbours: the second pass of a scan with a recall target.

After a first pass every row has a list of neighbours. A row is worth a look for a group of queries if it is a
neighbour of a neighbour, either way round: its score is the largest product of the two |rho|, the first in units of
the query's own k-th. Scores choose candidates and decide nothing, but are the same everywhere, for they come from
canonical distances by single multiplications and divisions.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t

import numpy as np

from covertreex._core.screen cimport Lens, Screener
from covertreex._core.sort cimport cx_sort

cdef extern from "canonical.h" nogil:
    void CX_PREFETCH(const void *address)

cdef enum:
    LINE = 8  # links in 64 bytes

cdef float LEAST = 1e-3   # a k-th |rho| below this counts as this
cdef float TINY = 1e-30   # no score is 0: that is for rows not found


cdef struct Link:
    int32_t row
    float rho


cdef void sort(Link *at, Py_ssize_t size, double[:, ::1] keys, int64_t[:, ::1] rows) noexcept nogil:
    """The most correlated first, those of one |rho| as they are; `keys` and `rows`, (2, size) or more, are scratch."""
    cdef Py_ssize_t i
    for i in range(size):
        keys[0, i], rows[0, i] = at[i].rho, at[i].row
    cx_sort(&keys[0, 0], &rows[0, 0], size, &keys[1, 0], &rows[1, 0])
    for i in range(size):
        at[i] = Link(<int32_t>rows[0, i], <float>keys[0, i])


cdef inline void fetch(const Link *links) noexcept nogil:
    """Have the beginning of a list on its way."""
    CX_PREFETCH(links)
    CX_PREFETCH(links + LINE)
    CX_PREFETCH(links + 2 * LINE)
    CX_PREFETCH(links + 3 * LINE)


cdef class Graph:
    """For each payload row, its neighbours and the rows whose neighbour it is, the most correlated first.

    Filled by `take`, `count`, `make_room` and `link`, in this order, each for all rows; spans of rows may be filled by
    several threads. Read-only afterwards.
    """

    cdef Py_ssize_t n, k
    cdef object held
    cdef Link *near          # k for each row, of which `found` are filled
    cdef int32_t[::1] found
    cdef int64_t[::1] ptr    # the rows that have row j: back[ptr[j]] to back[ptr[j + 1]]
    cdef Link *back

    def __init__(self, Py_ssize_t n, Py_ssize_t k):
        self.n, self.k = n, k
        self.found = np.zeros(n, dtype=np.int32)
        self.ptr = np.zeros(n + 1, dtype=np.int64)
        self.held = [np.empty(n * k, dtype=np.int64)]
        self.near = <Link *><size_t>self.held[0].ctypes.data

    def take(self, const int64_t[::1] rows, const int64_t[::1] row_of, const int64_t[:, ::1] indices,
             const double[:, ::1] distances):
        """Take the lists (r, k) of `rows` (r,), -1 for nothing; ``row_of[i]`` is the payload row of index i."""
        cdef Py_ssize_t q, t, found
        cdef Link *to
        with nogil:
            for q in range(rows.shape[0]):
                to = self.near + rows[q] * self.k
                found = 0
                for t in range(self.k):
                    if indices[q, t] >= 0:
                        to[found].row = <int32_t>row_of[indices[q, t]]
                        to[found].rho = <float>(1.0 - distances[q, t] * distances[q, t])
                        found += 1
                self.found[rows[q]] = <int32_t>found

    def count(self, Py_ssize_t begin, Py_ssize_t end):
        """Count the rows that have row ``begin <= j < end``."""
        cdef Py_ssize_t i, t
        cdef int64_t j
        with nogil:
            for i in range(self.n):
                for t in range(self.found[i]):
                    j = self.near[i * self.k + t].row
                    if begin <= j < end:
                        self.ptr[j + 1] += 1

    def make_room(self):
        starts = np.asarray(self.ptr)
        np.cumsum(starts, out=starts)
        self.held.append(np.empty(starts[self.n], dtype=np.int64))
        self.back = <Link *><size_t>self.held[1].ctypes.data

    def link(self, Py_ssize_t begin, Py_ssize_t end):
        """List the rows that have row ``begin <= j < end``."""
        cdef int64_t[::1] next = np.asarray(self.ptr)[begin:end].copy()
        cdef Py_ssize_t longest = max(1, np.max(np.diff(self.ptr), initial=0))
        cdef double[:, ::1] keys = np.empty((2, longest))
        cdef int64_t[:, ::1] rows = np.empty((2, longest), dtype=np.int64)
        cdef Py_ssize_t i, t
        cdef int64_t j
        with nogil:
            for i in range(self.n):
                for t in range(self.found[i]):
                    j = self.near[i * self.k + t].row
                    if begin <= j < end:
                        self.back[next[j - begin]] = Link(<int32_t>i, self.near[i * self.k + t].rho)
                        next[j - begin] += 1
            for i in range(begin, end):
                sort(self.back + self.ptr[i], self.ptr[i + 1] - self.ptr[i], keys, rows)


cdef class Explorer:
    """One thread's scratch for walking a `Graph`, for groups of a `Screener`'s queries."""

    cdef Graph graph
    cdef Screener screener
    cdef Lens lens
    cdef Py_ssize_t together, touched, based
    cdef bint neighbors
    cdef double[::1] threshold
    cdef float[::1] score, weight
    cdef int32_t[::1] found, bases
    cdef int64_t[::1] rows

    def __init__(self, Graph graph, Screener screener, Py_ssize_t together, bint neighbors=False):
        """`together` queries share candidates, those of consecutive places; with `neighbors`, what they have in the
        graph is looked at too, and first, and nothing is `seen`.
        """
        self.graph, self.screener, self.together, self.neighbors = graph, screener, together, neighbors
        self.lens = screener.near
        self.threshold = np.empty(screener.most)
        self.score, self.weight = np.zeros((2, graph.n), dtype=np.float32)
        self.found, self.bases = np.zeros((2, graph.n + 1), dtype=np.int32)
        self.rows = np.empty(graph.n + 1, dtype=np.int64)

    cdef void mark(self, const int32_t[::1] rows, float value) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            self.score[rows[i]] = value

    cdef void visit(self, const Link *links, Py_ssize_t count, float weight, float least) noexcept nogil:
        """Score the rows of links, the best first, that are worth at least `least`."""
        cdef Py_ssize_t e, touched = self.touched
        cdef float value, old
        cdef float *score = &self.score[0]
        cdef int32_t *found = &self.found[0]
        cdef int32_t row
        for e in range(count):
            value = weight * links[e].rho
            if value < least:
                break
            row = links[e].row
            old = score[row]
            found[touched] = row  # no branches: a row is new as often as not
            touched += old == 0.0
            score[row] = max(old, value)
        self.touched = touched

    cdef void explore(self, Py_ssize_t first, Py_ssize_t size, float least) noexcept nogil:
        """Score the neighbours of neighbours of the queries from place `first` on: rows `found[:touched]`."""
        cdef Py_ssize_t i, t, b
        cdef int64_t row, j
        cdef float kth, weight
        cdef const Link *own
        self.touched = self.based = 0
        for i in range(first, first + size):
            row = self.screener.queries.rows[i]
            if self.graph.found[row] == 0:
                continue
            own = self.graph.near + row * self.graph.k
            kth = max(own[self.graph.found[row] - 1].rho, LEAST)
            for t in range(self.graph.found[row]):
                j = own[t].row
                weight = max(own[t].rho / kth, TINY)
                if self.weight[j] == 0.0:
                    self.bases[self.based] = <int32_t>j
                    self.based += 1
                self.weight[j] = max(self.weight[j], weight)
        if self.neighbors:
            for b in range(self.based):
                self.found[b] = self.bases[b]
                self.score[self.bases[b]] = INFINITY
            self.touched = self.based
        for b in range(self.based):
            if b + 2 < self.based:
                fetch(self.graph.near + self.bases[b + 2] * self.graph.k)
                fetch(self.graph.back + self.graph.ptr[self.bases[b + 2]])
            j = self.bases[b]
            self.visit(self.graph.near + j * self.graph.k, self.graph.found[j], self.weight[j], least)
            self.visit(self.graph.back + self.graph.ptr[j], self.graph.ptr[j + 1] - self.graph.ptr[j], self.weight[j],
                       least)
            self.weight[j] = 0.0

    cdef void count_missed(self, const int64_t[:, ::1] neighbors, Py_ssize_t i, const float[::1] leasts,
                           int64_t[::1] missed) noexcept nogil:
        """For each of `leasts`, count the neighbours of the i-th member whose score is below it."""
        cdef Py_ssize_t t, e
        for t in range(neighbors.shape[1]):
            if neighbors[i, t] >= 0:
                for e in range(leasts.shape[0]):
                    missed[e] += self.score[neighbors[i, t]] < leasts[e]

    def trial(self, Py_ssize_t first, Py_ssize_t last, const int32_t[::1] seen, const int64_t[::1] members,
              const int64_t[:, ::1] neighbors, const float[::1] leasts, int64_t[::1] missed, int64_t[::1] looked):
        """What `look` would miss of the `neighbors` (members, k), rows or -1, of some of the queries from place `first`
        to `last`, and the rows that it would look at, with each of `leasts`, the last being the least: filled in.
        Returns how many times it would look: queries that share candidates look once.
        """
        cdef Py_ssize_t begin = first, size, wanted, parts = 0, i, e
        cdef int64_t top
        cdef float score
        missed[:] = 0
        looked[:] = 0
        with nogil:
            self.mark(seen, INFINITY)
            while begin < last and not self.screener.cancel[0]:
                size, wanted = min(self.together, last - begin), 0
                for i in range(members.shape[0]):
                    wanted += begin <= members[i] < begin + size
                if wanted == 0:
                    begin += size
                    continue
                parts += 1
                self.explore(begin, size, leasts[leasts.shape[0] - 1])
                for i in range(members.shape[0]):
                    if begin <= members[i] < begin + size:
                        self.count_missed(neighbors, i, leasts, missed)
                top = 0
                for i in range(begin, begin + size):
                    top = max(top, self.screener.queries.limit[i])
                for i in range(self.touched):
                    score = self.score[self.found[i]]
                    self.score[self.found[i]] = 0.0
                    if self.screener.queries.rank[self.found[i]] < top:
                        for e in range(leasts.shape[0]):
                            looked[e] += score >= leasts[e]
                begin += size
            self.mark(seen, 0.0)
        return parts

    def look(self, Py_ssize_t first, Py_ssize_t last, const int32_t[::1] seen, float least, const double[::1] start,
             int64_t[::1] counts):
        """Look at rows not `seen` whose score is at least `least`, for the queries from place `first` to `last`.

        `start` has what the k-th best ``|rho|`` of each is sure to reach; `counts` is filled as by `Screener.sweep`.
        """
        cdef Screener screener = self.screener
        cdef Py_ssize_t begin, size, i
        with nogil:
            self.mark(seen, INFINITY)
            begin = first
            while begin < last and not screener.cancel[0]:
                size = min(self.together, last - begin)
                self.explore(begin, size, least)
                screener.begin(begin, size, &start[begin - first])
                screener.look_through(self.lens)
                for i in range(self.touched):
                    screener.add(self.lens, self.found[i])
                    self.score[self.found[i]] = 0.0
                screener.flush(self.lens)
                screener.finish(&self.threshold[0], &counts[begin - first])
                begin += size
            self.mark(seen, 0.0)

    def look_alone(self, Py_ssize_t first, Py_ssize_t last, const int32_t[::1] seen, float least,
                   const double[::1] start, int64_t[::1] counts):
        """As `look`, but each query looks at candidates of its own."""
        cdef Screener screener = self.screener
        cdef Py_ssize_t i, e, count
        cdef int64_t limit
        with nogil:
            self.mark(seen, INFINITY)
            screener.begin(first, last - first, &start[0])
            for i in range(last - first):
                if screener.cancel[0]:
                    break
                self.explore(first + i, 1, least)
                limit, count = screener.queries.limit[first + i], 0
                for e in range(self.touched):
                    self.score[self.found[e]] = 0.0
                    self.rows[count] = self.found[e]
                    count += screener.queries.rank[self.found[e]] < limit
                screener.screen_rows(self.lens, i, &self.rows[0], count, 0)
            screener.finish(&self.threshold[0], &counts[0])
            self.mark(seen, 0.0)


def merge(const int64_t[:, ::1] indices, const double[:, ::1] distances, int64_t[:, ::1] more_indices,
          double[:, ::1] more_distances, uint8_t[::1] tied):
    """Merge lists (q, k), ascending by distance, -1 at the end, into `more_*`, their like; none has an entry of the
    other. `tied` is set where an entry of one is at the distance of an entry of the other, so that distances alone do
    not tell which comes first (A7): such a query's list is void. Releases the GIL.
    """
    cdef Py_ssize_t q, k = indices.shape[1], a, b, t
    with nogil:
        for q in range(indices.shape[0]):
            a = b = 0
            while a < k and b < k and indices[q, a] >= 0 and more_indices[q, b] >= 0:
                if distances[q, a] == more_distances[q, b]:
                    break
                if distances[q, a] < more_distances[q, b]:
                    a += 1
                else:
                    b += 1
            else:
                tied[q] = 0
                while b < k and more_indices[q, b] >= 0:
                    b += 1
                while a < k and indices[q, a] >= 0:
                    a += 1
                # From the back, so that nothing is overwritten before it is read: the largest a + b - k are dropped.
                while a + b > k:
                    if distances[q, a - 1] > more_distances[q, b - 1]:
                        a -= 1
                    else:
                        b -= 1
                for t in range(a + b - 1, -1, -1):
                    if a > 0 and (b == 0 or distances[q, a - 1] > more_distances[q, b - 1]):
                        a -= 1
                        more_indices[q, t], more_distances[q, t] = indices[q, a], distances[q, a]
                    else:
                        b -= 1
                        more_indices[q, t], more_distances[q, t] = more_indices[q, b], more_distances[q, b]
                continue
            tied[q] = 1
