"""The tree search of docs/architecture.md ("The search"), for one block of queries on one thread."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t

import numpy as np

from covertreex._core.canonical cimport (
    PayloadView,
    cx_bound,
    cx_distance_ahead,
    cx_distance_given_dot,
    cx_dot16_many,
    cx_lower,
    cx_payload,
    cx_query,
    cx_upper,
)
from covertreex._core.kbest cimport KBest, Neighbor, kth_distance, offer, write_sorted
from covertreex._core.queries cimport QueriesView

# Columns of the counters, in the order of covertreex.telemetry.COUNTERS.
cdef enum:
    DISTANCE_EVALS, NODES_VISITED, FRONTIER_PUSHES, FRONTIER_PEAK, PRUNES_BOUND, PRUNES_VISITED, YIELDS
    STOP_EXHAUSTED, STOP_KTH_FRONTIER, STOP_BUDGET, LEVEL_CACHE_HITS, BUDGET_ESCALATIONS, CAPS_APPLIED

cdef enum:
    WIDEST_TILE = 64
    SHARED_MOST = 1 << 22  # dot products that a block may hold for the root's children


cdef struct Entry:
    double bound
    int64_t sequence
    int64_t node
    double distance


cdef inline bint comes_before(Entry a, Entry b) noexcept nogil:
    return a.bound < b.bound or (a.bound == b.bound and a.sequence < b.sequence)


cdef class Walk:
    """One thread's scratch for a block of queries, and the tree and settings that it walks by."""

    # The tree
    cdef PayloadView payload
    cdef QueriesView queries
    cdef int64_t root
    cdef const int64_t[::1] level, child_ptr, children
    cdef const double[::1] parent_distance, si
    # Settings
    cdef bint stop_rule, ascending, bitset, dynamic_tile, level_cache
    cdef int stream_tile
    cdef double radius_floor, budget_up, budget_down
    cdef int64_t level_cap, lowest_level
    cdef const int64_t[::1] budget
    # Dot products of the queries of the block with the root's children, if `shared_root`
    cdef bint shared_root
    cdef double[:, ::1] root_dots
    # Scratch: the frontier, the visited set (a stamp or a bit per node), nodes evaluated per level
    cdef Entry[::1] frontier
    cdef Py_ssize_t frontier_size
    cdef int32_t[::1] stamps
    cdef int32_t stamp
    cdef uint64_t[::1] bits
    cdef int64_t[::1] level_counts
    cdef Neighbor[::1] neighbors

    def __init__(self, tree, payload, queries, Py_ssize_t k, settings):
        n = len(payload)
        self.payload = PayloadView(payload)
        self.queries = QueriesView(queries, self.payload)
        self.root = tree.root
        self.level = tree.level
        self.child_ptr = tree.child_ptr
        self.ascending = settings.child_order == "insertion"
        self.children = tree.children if self.ascending else tree.nearest_children
        self.parent_distance = tree.parent_distance
        self.si = tree.si
        self.stop_rule = settings.kth_frontier_stop
        self.bitset = settings.visited == "bitset"
        self.dynamic_tile = settings.dynamic_tile
        self.level_cache = settings.level_cache
        self.stream_tile = settings.stream_tile
        self.radius_floor = settings.radius_floor
        self.budget_up = settings.budget_up
        self.budget_down = settings.budget_down
        self.budget = np.asarray(settings.budget_schedule, dtype=np.int64)
        self.level_cap = settings.level_cap
        self.frontier = np.empty(n, dtype=[("bound", "f8"), ("sequence", "i8"), ("node", "i8"), ("distance", "f8")])
        self.neighbors = np.empty(k, dtype=[("distance", "f8"), ("index", "i8")])
        if self.bitset:
            self.bits = np.zeros((n + 63) // 64, dtype=np.uint64)
        else:
            self.stamps = np.zeros(n, dtype=np.int32)
        if self.level_cap:
            self.lowest_level = min(tree.level)
            self.level_counts = np.zeros(max(tree.level) - self.lowest_level + 1, dtype=np.int64)

    def share_root(self):
        """Compare the root's children with all queries of the block at once, each row loaded once for all of them.

        Every query evaluates these children anyway, unless a setting lets it skip some.
        """
        cdef Py_ssize_t first = self.child_ptr[self.root], total = self.child_ptr[self.root + 1] - first
        cdef Py_ssize_t many = self.queries.rows.shape[0], i, q, count
        cdef const cx_payload *payload = &self.payload.c
        cdef int64_t c
        cdef cx_query query
        if payload.m == 0 or self.level_cache or self.level_cap or self.budget.shape[0]:
            return
        if many * total > SHARED_MOST:
            return
        self.shared_root = True
        self.root_dots = np.empty((many, total))
        cdef const double **factors
        pointers = np.empty(many * sizeof(void *), dtype=np.uint8)
        cdef unsigned char[::1] memory = pointers
        cdef int64_t[::1] who = np.empty(many, dtype=np.int64)
        cdef double[::1] dots = np.empty(many)
        factors = <const double **>&memory[0]
        with nogil:
            for i in range(total):
                c = self.children[first + i]
                count = 0
                for q in range(many):
                    if not self.queries.prefix or payload.index[c] < self.queries.limit[q]:
                        query = self.queries.query(q)
                        factors[count] = query.factors
                        who[count] = q
                        count += 1
                cx_dot16_many(payload.factors + c * payload.m, factors, count, payload.m, &dots[0])
                for q in range(count):
                    self.root_dots[who[q], i] = dots[q]

    cdef void push(self, double bound, int64_t sequence, int64_t node, double distance) noexcept nogil:
        cdef Py_ssize_t here = self.frontier_size, above
        cdef Entry item
        item.bound = bound
        item.sequence = sequence
        item.node = node
        item.distance = distance
        self.frontier_size += 1
        while here > 0:
            above = (here - 1) // 2
            if not comes_before(item, self.frontier[above]):
                break
            self.frontier[here] = self.frontier[above]
            here = above
        self.frontier[here] = item

    cdef Entry pop(self) noexcept nogil:
        cdef Entry first = self.frontier[0], item
        cdef Py_ssize_t here = 0, child
        self.frontier_size -= 1
        item = self.frontier[self.frontier_size]
        while True:
            child = 2 * here + 1
            if child >= self.frontier_size:
                break
            if child + 1 < self.frontier_size and comes_before(self.frontier[child + 1], self.frontier[child]):
                child += 1
            if not comes_before(self.frontier[child], item):
                break
            self.frontier[here] = self.frontier[child]
            here = child
        self.frontier[here] = item
        return first

    cdef inline double radius(self, int64_t node) noexcept nogil:
        return self.si[node] if self.si[node] > self.radius_floor else self.radius_floor

    cdef inline bint leaf(self, int64_t node) noexcept nogil:
        return self.child_ptr[node] == self.child_ptr[node + 1]

    cdef inline bint visit(self, int64_t node) noexcept nogil:
        """Mark a node visited; say whether it was not before."""
        cdef uint64_t bit
        if self.bitset:
            bit = (<uint64_t>1) << (node & 63)
            if self.bits[node >> 6] & bit:
                return False
            self.bits[node >> 6] |= bit
            return True
        if self.stamps[node] == self.stamp:
            return False
        self.stamps[node] = self.stamp
        return True

    cdef void search(self, Py_ssize_t q, int64_t[:, ::1] indices, double[:, ::1] distances,
                     int64_t *counters) noexcept nogil:
        cdef const cx_payload *payload = &self.payload.c
        cdef cx_query query = self.queries.query(q)
        cdef int64_t limit = self.queries.limit[q]
        cdef int64_t rung = 0, rung_evals = 0, rung_yields = 0, yields, after
        cdef Py_ssize_t at, end, width, take
        cdef const double *dots
        cdef bint grace = True
        cdef double share
        cdef Entry entry
        cdef KBest best
        best.at = &self.neighbors[0]
        best.k = self.neighbors.shape[0]
        best.size = 0
        self.frontier_size = 0
        self.stamp += 1
        if self.bitset:
            self.bits[:] = 0
        if self.level_cap:
            self.level_counts[:] = 0

        width = self.stream_tile // 8 if self.dynamic_tile else self.stream_tile
        if not (self.queries.prefix and payload.index[self.root] >= limit):
            self.take(q, &query, &self.root, 1, INFINITY, NULL, self.root, &best, counters)
        while self.frontier_size > 0:
            if self.stop_rule and self.frontier[0].bound > kth_distance(&best):
                counters[<int>STOP_KTH_FRONTIER] = 1
                write_sorted(&best, &indices[q, 0], &distances[q, 0])
                return
            entry = self.pop()
            at = self.child_ptr[entry.node]
            end = self.child_ptr[entry.node + 1]
            if self.queries.prefix and self.ascending:
                end = self.cut(at, end, limit)
            while at < end:
                take = min(width, end - at)
                yields = counters[<int>YIELDS]
                if at + take < end:
                    after = self.children[at + take]
                elif self.frontier_size > 0:
                    after = self.children[self.child_ptr[self.frontier[0].node]]
                else:
                    after = self.root
                dots = NULL
                if self.shared_root and entry.node == self.root:
                    dots = &self.root_dots[q, at - self.child_ptr[self.root]]
                self.take(q, &query, &self.children[at], take, entry.distance, dots, after, &best, counters)
                at += take
                if self.dynamic_tile:
                    if counters[<int>YIELDS] == yields:
                        width = min(2 * width, <Py_ssize_t>self.stream_tile)
                    else:
                        width = self.stream_tile // 8
                if rung < self.budget.shape[0] and counters[<int>DISTANCE_EVALS] >= self.budget[rung]:
                    share = (<double>(counters[<int>YIELDS] - rung_yields)
                             / <double>(counters[<int>DISTANCE_EVALS] - rung_evals))
                    if (rung + 1 == self.budget.shape[0] or share < self.budget_down
                            or (share < self.budget_up and not grace)):
                        counters[<int>STOP_BUDGET] = 1
                        write_sorted(&best, &indices[q, 0], &distances[q, 0])
                        return
                    if share < self.budget_up:
                        grace = False
                    counters[<int>BUDGET_ESCALATIONS] += 1
                    rung_evals = counters[<int>DISTANCE_EVALS]
                    rung_yields = counters[<int>YIELDS]
                    rung += 1
        counters[<int>STOP_EXHAUSTED] = 1
        write_sorted(&best, &indices[q, 0], &distances[q, 0])

    cdef Py_ssize_t cut(self, Py_ssize_t at, Py_ssize_t end, int64_t limit) noexcept nogil:
        """Q1: the end of the children whose dataset index is below `limit` (they ascend)."""
        cdef Py_ssize_t middle
        while at < end:
            middle = at + (end - at) // 2
            if self.payload.c.index[self.children[middle]] < limit:
                at = middle + 1
            else:
                end = middle
        return end

    cdef void take(self, Py_ssize_t q, const cx_query *query, const int64_t *nodes, Py_ssize_t count,
                   double parent, const double *dots, int64_t after, KBest *best, int64_t *counters) noexcept nogil:
        """Visit, evaluate, offer and push a tile; `parent` is the distance to their parent, inf for the root.

        `dots` has their dot products with the query, or is NULL; `after` is the node likely to be wanted next.
        """
        cdef const cx_payload *payload = &self.payload.c
        cdef int64_t fresh[WIDEST_TILE]
        cdef Py_ssize_t place[WIDEST_TILE]
        cdef double found[WIDEST_TILE]
        cdef Py_ssize_t i, size = 0
        cdef int64_t c, row = self.queries.rows[q], limit = self.queries.limit[q], exclude = self.queries.exclude[q]
        cdef double far, other, lower = 0.0, upper = 0.0, bound
        cdef bint cached = self.level_cache and parent < INFINITY
        if cached:
            lower = cx_lower(payload, parent)
            upper = cx_upper(payload, parent)
        for i in range(count):
            c = nodes[i]
            if not self.ascending and self.queries.prefix and payload.index[c] >= limit:
                continue
            if not self.visit(c):
                counters[<int>PRUNES_VISITED] += 1
                continue
            counters[<int>NODES_VISITED] += 1
            if self.level_cap and self.level_counts[self.level[c] - self.lowest_level] >= self.level_cap:
                counters[<int>CAPS_APPLIED] += 1
                continue
            if cached:
                far = lower - cx_upper(payload, self.parent_distance[c])
                other = cx_lower(payload, self.parent_distance[c]) - upper
                bound = cx_bound(payload, far if far > other else other, 0.0 if self.leaf(c) else self.radius(c))
                if bound > kth_distance(best):
                    counters[<int>LEVEL_CACHE_HITS] += 1
                    continue
            if self.level_cap:
                self.level_counts[self.level[c] - self.lowest_level] += 1
            fresh[size] = c
            place[size] = i
            size += 1
        counters[<int>DISTANCE_EVALS] += size
        for i in range(size):
            if fresh[i] == row:
                found[i] = 0.0
            elif dots != NULL:
                found[i] = cx_distance_given_dot(payload, query, fresh[i], dots[place[i]])
            else:
                found[i] = cx_distance_ahead(payload, query, fresh[i], fresh[i + 1] if i + 1 < size else after)
        for i in range(size):
            c = fresh[i]
            if self.queries.rank[c] < limit and c != exclude:
                counters[<int>YIELDS] += offer(best, found[i], payload.index[c])
            if self.leaf(c):
                continue
            bound = cx_bound(payload, cx_lower(payload, found[i]), self.radius(c))
            if bound > kth_distance(best):
                counters[<int>PRUNES_BOUND] += 1
                continue
            self.push(bound, counters[<int>FRONTIER_PUSHES], c, found[i])
            counters[<int>FRONTIER_PUSHES] += 1
            if self.frontier_size > counters[<int>FRONTIER_PEAK]:
                counters[<int>FRONTIER_PEAK] = self.frontier_size


def search(tree, payload, queries, Py_ssize_t k, settings, out):
    """Fill `out`. One thread's work; parameters as `covertreex.protocols.Traversal.search`. Releases the GIL."""
    cdef Walk walk = Walk(tree, payload, queries, k, settings)
    cdef int64_t[:, ::1] indices = out.indices
    cdef double[:, ::1] distances = out.distances
    cdef int64_t[:, ::1] counters = out.counters
    cdef const int32_t[::1] cancel = out.cancel
    cdef Py_ssize_t q
    walk.share_root()
    with nogil:
        for q in range(walk.queries.rows.shape[0]):
            if cancel[0]:
                break
            walk.search(q, indices, distances, &counters[q, 0])
