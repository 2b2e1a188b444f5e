"""The tree search of docs/architecture.md ("The search"), for one block of queries on one thread."""

cimport cython
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int32_t, int64_t, uint64_t

import numpy as np

from covertreex._core.scan import NEIGHBOR

from covertreex._core.canonical cimport (
    CX_ITSELF_VALUE,
    PayloadView,
    cx_bound,
    cx_dot16_ahead,
    cx_dot16_many,
    cx_lower,
    cx_nearness,
    cx_nearness_given_dot,
    cx_payload,
    cx_prefetch,
    cx_query,
    cx_upper,
)
from covertreex._core.contract cimport (
    BUDGET_ESCALATIONS,
    CAPS_APPLIED,
    DISTANCE_EVALS,
    FRONTIER_PEAK,
    FRONTIER_PUSHES,
    LEVEL_CACHE_HITS,
    NODES_VISITED,
    PRUNES_BOUND,
    PRUNES_VISITED,
    STOP_BUDGET,
    STOP_EXHAUSTED,
    STOP_KTH_FRONTIER,
    YIELDS,
)
from covertreex._core.heaps cimport cx_frontier_node, cx_frontier_push, cx_frontier_replace_top, cx_neighbor
from covertreex._core.kbest cimport KBest, kth_distance, offer, write_sorted
from covertreex._core.queries cimport QueriesView

cdef enum:
    WIDEST_TILE = 64
    LANES = 16  # most queries that go on side by side
    LANE_ROWS = 1 << 22  # most rows of scratch for all of them together


cdef struct Lane:
    # One query on its way. The arrays are parts of those of a Walk.
    Py_ssize_t q              # place in the block; -1 when the lane is idle
    cx_query query
    int64_t *counters
    cx_frontier_node *frontier
    Py_ssize_t frontier_size
    int32_t *stamps           # visited set: a stamp per node ...
    int32_t stamp
    uint64_t *bits            # ... or a bit
    int64_t *level_counts     # nodes evaluated per level
    double *pending           # lower bound of each node on the frontier; inf for the others
    double *ahead             # dot product with each node that another lane computed ahead; nan for the others
    KBest best
    Py_ssize_t width          # of the next tile
    int64_t rung, rung_evals, rung_yields
    bint grace


@cython.final
cdef class Walk:
    """The tree and settings that a block of queries walks by, and one thread's scratch for it.

    Loading a row from memory costs several dot products with it, and queries that are near each other expand much the
    same nodes. So several go on side by side, a node each in turn; and when one compares itself with a row, the dot
    products of the others that are about to expand the same node are computed with it. They use them when they come to
    that node in their own order: answers and counters are those of each query alone.
    """

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
    # Scratch: a row per lane
    cdef Py_ssize_t lanes
    cdef Lane lane[LANES]
    cdef cx_frontier_node[:, ::1] frontiers
    cdef int32_t[:, ::1] stamps
    cdef uint64_t[:, ::1] bits
    cdef int64_t[:, ::1] level_counts
    cdef double[:, ::1] pending, ahead
    cdef cx_neighbor[:, ::1] neighbors
    # The lanes that are about to expand the node that is being expanded
    cdef Lane *sharing[LANES]
    cdef Py_ssize_t sharers

    def __init__(self, tree, payload, queries, Py_ssize_t k, settings):
        n = len(payload)
        self.payload = PayloadView(payload)
        self.payload.c.slack_abs = queries.slack_abs  # of bounds (B2): at least the payload's own
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
        self.lanes = 1
        if self.payload.c.m > 0:
            self.lanes = max(1, min(<int>LANES, <int>LANE_ROWS // n, len(queries)))
        entry = [("bound", "f8"), ("sequence", "i8"), ("node", "i8"), ("distance", "f8")]
        self.frontiers = np.empty((self.lanes, n), dtype=entry)
        self.neighbors = np.empty((self.lanes, k), dtype=NEIGHBOR)
        if self.bitset:
            self.bits = np.zeros((self.lanes, (n + 63) // 64), dtype=np.uint64)
        else:
            self.stamps = np.zeros((self.lanes, n), dtype=np.int32)
        if self.level_cap:
            self.lowest_level = min(tree.level)
            self.level_counts = np.zeros((self.lanes, max(tree.level) - self.lowest_level + 1), dtype=np.int64)
        if self.lanes > 1:
            self.pending = np.empty((self.lanes, n))
            self.ahead = np.empty((self.lanes, n))
        for number in range(self.lanes):
            self.lane[number].q = -1
            if self.lanes > 1:
                self.lane[number].pending = &self.pending[number, 0]
                self.lane[number].ahead = &self.ahead[number, 0]
            self.lane[number].frontier = &self.frontiers[number, 0]
            self.lane[number].stamp = 0
            self.lane[number].best.at = &self.neighbors[number, 0]
            self.lane[number].best.k = k
            if self.bitset:
                self.lane[number].bits = &self.bits[number, 0]
            else:
                self.lane[number].stamps = &self.stamps[number, 0]
            if self.level_cap:
                self.lane[number].level_counts = &self.level_counts[number, 0]

    cdef inline void push(self, Lane *lane, double bound, int64_t sequence, int64_t node,
                          double distance) noexcept nogil:
        cdef cx_frontier_node item
        item.bound, item.sequence, item.node, item.distance = bound, sequence, node, distance
        cx_frontier_push(lane.frontier, lane.frontier_size, item)
        lane.frontier_size += 1
        if self.lanes > 1:
            lane.pending[node] = bound

    cdef inline cx_frontier_node pop(self, Lane *lane) noexcept nogil:
        cdef cx_frontier_node first = lane.frontier[0]
        lane.frontier_size -= 1
        cx_frontier_replace_top(lane.frontier, lane.frontier_size, lane.frontier[lane.frontier_size])
        return first

    cdef inline double radius(self, int64_t node) noexcept nogil:
        return self.si[node] if self.si[node] > self.radius_floor else self.radius_floor

    cdef inline bint leaf(self, int64_t node) noexcept nogil:
        return self.child_ptr[node] == self.child_ptr[node + 1]

    cdef inline bint visit(self, Lane *lane, int64_t node) noexcept nogil:
        """Mark a node visited; say whether it was not before."""
        cdef uint64_t bit
        if self.bitset:
            bit = (<uint64_t>1) << (node & 63)
            if lane.bits[node >> 6] & bit:
                return False
            lane.bits[node >> 6] |= bit
            return True
        if lane.stamps[node] == lane.stamp:
            return False
        lane.stamps[node] = lane.stamp
        return True

    cdef void begin(self, Lane *lane, Py_ssize_t q, int64_t *counters) noexcept nogil:
        """Put query `q` of the block on a lane, and visit the root."""
        cdef Py_ssize_t i
        lane.q = q
        lane.query = self.queries.query(q)
        lane.counters = counters
        lane.best.size = 0
        lane.frontier_size = 0
        lane.stamp += 1
        if self.bitset:
            for i in range(self.bits.shape[1]):
                lane.bits[i] = 0
        if self.level_cap:
            for i in range(self.level_counts.shape[1]):
                lane.level_counts[i] = 0
        if self.lanes > 1:
            for i in range(self.payload.c.n):
                lane.pending[i] = INFINITY
                lane.ahead[i] = NAN
        lane.rung = lane.rung_evals = lane.rung_yields = 0
        lane.grace = True
        lane.width = self.stream_tile // 8 if self.dynamic_tile else self.stream_tile
        if not (self.queries.prefix and self.payload.c.index[self.root] >= self.queries.limit[q]):
            self.sharers = 0
            self.take(lane, &self.root, 1, INFINITY, self.root)

    cdef int step(self, Lane *lane) noexcept nogil:
        """Expand the nearest node of the frontier; the column of the reason to stop, or -1 to go on."""
        cdef int64_t *counters = lane.counters
        cdef int64_t after, yields
        cdef Py_ssize_t at, end, take
        cdef cx_frontier_node entry
        if lane.frontier_size == 0:
            return STOP_EXHAUSTED
        if self.stop_rule and lane.frontier[0].bound > kth_distance(&lane.best):
            return STOP_KTH_FRONTIER
        entry = self.pop(lane)
        self.find_sharers(lane, entry.node)
        at = self.child_ptr[entry.node]
        end = self.child_ptr[entry.node + 1]
        if self.queries.prefix and self.ascending:
            end = self.cut(at, end, self.queries.limit[lane.q])
        while at < end:
            take = min(lane.width, end - at)
            yields = counters[<int>YIELDS]
            if at + take < end:
                after = self.children[at + take]
            elif lane.frontier_size > 0:
                after = self.children[self.child_ptr[lane.frontier[0].node]]
            else:
                after = self.root
            self.take(lane, &self.children[at], take, entry.distance, after)
            at += take
            if self.dynamic_tile:
                if counters[<int>YIELDS] == yields:
                    lane.width = min(2 * lane.width, <Py_ssize_t>self.stream_tile)
                else:
                    lane.width = self.stream_tile // 8
            if self.over_budget(lane):
                return STOP_BUDGET
        return -1

    cdef void find_sharers(self, Lane *lane, int64_t node) noexcept nogil:
        """Collect the other lanes that have `node` on their frontier, near enough to be expanded as things stand."""
        cdef Py_ssize_t number
        cdef Lane *other
        self.sharers = 0
        if self.lanes == 1:
            return
        lane.pending[node] = INFINITY
        for number in range(self.lanes):
            other = &self.lane[number]
            if other.q != -1 and other.pending[node] < INFINITY and other.pending[node] <= kth_distance(&other.best):
                self.sharing[self.sharers] = other
                self.sharers += 1

    cdef double dot(self, Lane *lane, int64_t c, int64_t next) noexcept nogil:
        """The lane's dot product with node c; `next` is the node likely to be wanted after it."""
        cdef const cx_payload *payload = &self.payload.c
        cdef const double *factors[LANES]
        cdef double dots[LANES]
        cdef Lane *who[LANES]
        cdef Py_ssize_t i, count = 1
        cdef Lane *other
        cx_prefetch(payload, next)
        if payload.m == 0:
            return 0.0
        if self.lanes > 1 and not isnan(lane.ahead[c]):
            return lane.ahead[c]
        factors[0] = lane.query.factors
        for i in range(self.sharers):
            other = self.sharing[i]
            if isnan(other.ahead[c]) and not (
                    self.queries.prefix and payload.index[c] >= self.queries.limit[other.q]):
                factors[count] = other.query.factors
                who[count] = other
                count += 1
        dots[0] = cx_dot16_ahead(factors[0], payload.factors + c * payload.m, payload.m,
                                 payload.factors + next * payload.m)
        cx_dot16_many(payload.factors + c * payload.m, &factors[1], count - 1, payload.m, &dots[1])
        for i in range(1, count):
            who[i].ahead[c] = dots[i]
        return dots[0]

    cdef bint over_budget(self, Lane *lane) noexcept nogil:
        """The budget ladder, asked after each tile."""
        cdef int64_t *counters = lane.counters
        cdef double share
        if lane.rung >= self.budget.shape[0] or counters[<int>DISTANCE_EVALS] < self.budget[lane.rung]:
            return False
        share = (<double>(counters[<int>YIELDS] - lane.rung_yields)
                 / <double>(counters[<int>DISTANCE_EVALS] - lane.rung_evals))
        if lane.rung + 1 == self.budget.shape[0] or share < self.budget_down:
            return True
        if share < self.budget_up:
            if not lane.grace:
                return True
            lane.grace = False
        counters[<int>BUDGET_ESCALATIONS] += 1
        lane.rung_evals = counters[<int>DISTANCE_EVALS]
        lane.rung_yields = counters[<int>YIELDS]
        lane.rung += 1
        return False

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

    cdef void take(self, Lane *lane, const int64_t *nodes, Py_ssize_t count, double parent,
                   int64_t after) noexcept nogil:
        """Visit, evaluate, offer and push a tile; `parent` is the distance to their parent, inf for the root.

        `after` is the node likely to be wanted next.
        """
        cdef const cx_payload *payload = &self.payload.c
        cdef KBest *best = &lane.best
        cdef int64_t *counters = lane.counters
        cdef Py_ssize_t q = lane.q
        cdef int64_t fresh[WIDEST_TILE]
        cdef cx_nearness found[WIDEST_TILE]
        cdef Py_ssize_t i, size = 0
        cdef int64_t c, row = self.queries.rows[q], limit = self.queries.limit[q], exclude = self.queries.exclude[q]
        cdef double far, other, lower = 0.0, upper = 0.0, bound, dot
        cdef bint cached = self.level_cache and parent < INFINITY
        if cached:
            lower = cx_lower(payload, parent)
            upper = cx_upper(payload, parent)
        for i in range(count):
            c = nodes[i]
            if not self.ascending and self.queries.prefix and payload.index[c] >= limit:
                continue
            if not self.visit(lane, c):
                counters[<int>PRUNES_VISITED] += 1
                continue
            counters[<int>NODES_VISITED] += 1
            if self.level_cap and lane.level_counts[self.level[c] - self.lowest_level] >= self.level_cap:
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
                lane.level_counts[self.level[c] - self.lowest_level] += 1
            fresh[size] = c
            size += 1
        counters[<int>DISTANCE_EVALS] += size
        for i in range(size):
            c = fresh[i]
            found[i] = CX_ITSELF_VALUE
            if c != row:
                dot = self.dot(lane, c, fresh[i + 1] if i + 1 < size else after)
                found[i] = cx_nearness_given_dot(payload, &lane.query, c, dot)
        for i in range(size):
            c = fresh[i]
            if self.queries.rank[c] < limit and c != exclude:
                counters[<int>YIELDS] += offer(best, found[i], payload.index[c])
            if self.leaf(c):
                continue
            bound = cx_bound(payload, cx_lower(payload, found[i].distance), self.radius(c))
            if bound > kth_distance(best):
                counters[<int>PRUNES_BOUND] += 1
                continue
            self.push(lane, bound, counters[<int>FRONTIER_PUSHES], c, found[i].distance)
            counters[<int>FRONTIER_PUSHES] += 1
            if lane.frontier_size > counters[<int>FRONTIER_PEAK]:
                counters[<int>FRONTIER_PEAK] = lane.frontier_size


def search(tree, payload, queries, Py_ssize_t k, settings, out):
    """Fill `out`. One thread's work; parameters as `covertreex.protocols.Traversal.search`. Releases the GIL."""
    cdef Walk walk = Walk(tree, payload, queries, k, settings)
    cdef int64_t[:, ::1] indices = out.indices
    cdef double[:, ::1] distances = out.distances
    cdef int64_t[:, ::1] counters = out.counters
    cdef const int32_t[::1] cancel = out.cancel
    cdef Py_ssize_t start = 0, total = walk.queries.rows.shape[0], busy, number
    cdef Lane *lane
    cdef int reason
    with nogil:
        while start < total:
            busy = min(walk.lanes, total - start)
            for number in range(busy):
                walk.begin(&walk.lane[number], start + number, &counters[start + number, 0])
            while busy > 0 and not cancel[0]:
                for number in range(walk.lanes):
                    lane = &walk.lane[number]
                    if lane.q == -1:
                        continue
                    reason = walk.step(lane)
                    if reason != -1:
                        lane.counters[reason] = 1
                        write_sorted(&lane.best, &indices[lane.q, 0], &distances[lane.q, 0])
                        lane.q = -1
                        busy -= 1
            if cancel[0]:
                break
            start += walk.lanes
