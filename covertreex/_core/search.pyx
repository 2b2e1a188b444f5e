"""The tree search of docs/architecture.md ("The search"), for one block of queries on one thread."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.string cimport memset

import numpy as np

from covertreex._core.scan import NEIGHBOR

from covertreex._core.canonical cimport (
    CX_ITSELF_VALUE,
    PayloadView,
    cx_bound,
    cx_dot16_ahead,
    cx_dot16_block,
    cx_dot16_many,
    cx_lower,
    cx_many,
    cx_nearness,
    cx_nearness_given_dot,
    cx_nearness_many,
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
    PANEL = 32  # children whose rows stay in cache while all lanes are compared with them
    VECTOR = 4  # distances come in so many at a time


cdef struct Lane:
    # One query on its way. The arrays are parts of those of a Walk.
    Py_ssize_t q              # place in the block; -1 when the lane is idle
    cx_query query
    int64_t *counters
    cx_frontier_node *frontier
    Py_ssize_t frontier_size
    int64_t *level_counts     # nodes evaluated per level
    double *distances         # distances of nodes, those of one node's children together ...
    double *dots              # ... and the dot products that they come from
    Py_ssize_t size           # how many there are
    KBest best
    Py_ssize_t width          # of the next tile
    int64_t rung, rung_evals, rung_yields
    bint grace


@cython.final
cdef class Walk:
    """The tree and settings that a block of queries walks by, and one thread's scratch for it.

    Loading a row from memory costs several dot products with it, and queries that are near each other expand much the
    same nodes. So several go on side by side, a node each in turn; and when one expands a node, its children are
    compared with the others as well that are about to expand it. They find the distances when they come to that node in
    their own order: answers and counters are those of each query alone.
    """

    # The tree
    cdef PayloadView payload
    cdef QueriesView queries
    cdef int64_t root
    cdef const int64_t[::1] level, child_ptr, children
    cdef const double[::1] parent_distance, si
    # Settings
    cdef bint stop_rule, ascending, dynamic_tile, level_cache
    cdef bint whole           # all children of a node are evaluated: nothing can end the search in between
    cdef int stream_tile
    cdef double radius_floor, budget_up, budget_down
    cdef int64_t level_cap, lowest_level
    cdef const int64_t[::1] budget
    # Scratch: a row per lane
    cdef Py_ssize_t lanes
    cdef Lane lane[LANES]
    cdef cx_frontier_node[:, ::1] frontiers
    cdef int64_t[:, ::1] level_counts
    cdef double[:, ::1] distances, dots
    cdef cx_neighbor[:, ::1] neighbors
    # A row per node
    cdef uint16_t[::1] visited      # a bit per lane
    cdef float[:, ::1] pending      # lower bound of a node on a lane's frontier; inf for the others
    cdef int32_t[:, ::1] place      # where the distances of its children are; -1 if they are not there yet
    # Of the children of a node, some at a time
    cdef double[:, ::1] coords
    cdef double p[PANEL]
    cdef double block[PANEL * LANES]
    cdef double rho[PANEL]
    cdef double r2[PANEL]
    # Rows that the next lane is likely to want
    cdef const double *after[2]
    cdef Py_ssize_t afters

    def __init__(self, tree, payload, queries, Py_ssize_t k, settings):
        n = len(payload)
        self.payload = PayloadView(payload)  # one of its own, for it is changed
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
        self.dynamic_tile = settings.dynamic_tile
        self.level_cache = settings.level_cache
        self.stream_tile = settings.stream_tile
        self.radius_floor = settings.radius_floor
        self.budget_up = settings.budget_up
        self.budget_down = settings.budget_down
        self.budget = np.asarray(settings.budget_schedule, dtype=np.int64)
        self.level_cap = settings.level_cap
        self.whole = not self.level_cap and not settings.budget_schedule
        self.lanes = 1
        if self.payload.c.m > 0:
            self.lanes = max(1, min(<int>LANES, <int>LANE_ROWS // n, len(queries)))
        entry = [("bound", "f8"), ("sequence", "i8"), ("node", "i8"), ("distance", "f8")]
        self.frontiers = np.empty((self.lanes, n), dtype=entry)
        self.neighbors = np.empty((self.lanes, k), dtype=NEIGHBOR)
        # A node is expanded once: of all children, and the root.
        evaluated = len(tree.children) + 1 + <int>VECTOR
        self.distances = np.empty((self.lanes, evaluated))
        self.dots = np.zeros((self.lanes, evaluated))
        self.coords = np.zeros((self.payload.c.d, <int>PANEL))
        self.visited = np.zeros(n, dtype=np.uint16)
        if self.level_cap:
            self.lowest_level = min(tree.level)
            self.level_counts = np.zeros((self.lanes, max(tree.level) - self.lowest_level + 1), dtype=np.int64)
        if self.lanes > 1:
            self.pending = np.empty((n, self.lanes), dtype=np.float32)
            self.place = np.empty((n, self.lanes), dtype=np.int32)
        for number in range(self.lanes):
            self.lane[number].q = -1
            self.lane[number].frontier = &self.frontiers[number, 0]
            self.lane[number].distances = &self.distances[number, 0]
            self.lane[number].dots = &self.dots[number, 0]
            self.lane[number].best.at = &self.neighbors[number, 0]
            self.lane[number].best.k = k
            if self.level_cap:
                self.lane[number].level_counts = &self.level_counts[number, 0]

    cdef inline void push(self, Lane *lane, double bound, int64_t sequence, int64_t node,
                          double distance) noexcept nogil:
        cdef cx_frontier_node item
        item.bound, item.sequence, item.node, item.distance = bound, sequence, node, distance
        cx_frontier_push(lane.frontier, lane.frontier_size, item)
        lane.frontier_size += 1
        if self.lanes > 1:
            self.pending[node, lane - self.lane] = <float>bound

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
        cdef uint16_t bit = <uint16_t>(1 << (lane - self.lane))
        if self.visited[node] & bit:
            return False
        self.visited[node] |= bit
        return True

    cdef void forget(self) noexcept nogil:
        """Make the rows of all nodes new, for lanes that begin together."""
        cdef Py_ssize_t i, n = self.payload.c.n
        memset(&self.visited[0], 0, n * sizeof(uint16_t))
        if self.lanes > 1:
            memset(&self.place[0, 0], 255, n * self.lanes * sizeof(int32_t))
            for i in range(n * self.lanes):
                (&self.pending[0, 0])[i] = INFINITY

    cdef void begin(self, Lane *lane, Py_ssize_t q, int64_t *counters) noexcept nogil:
        """Put query `q` of the block on a lane, and visit the root."""
        cdef Py_ssize_t i, one = 1
        lane.q = q
        lane.query = self.queries.query(q)
        lane.counters = counters
        lane.best.size = 0
        lane.frontier_size = 0
        lane.size = 0
        if self.level_cap:
            for i in range(self.level_counts.shape[1]):
                lane.level_counts[i] = 0
        lane.rung = lane.rung_evals = lane.rung_yields = 0
        lane.grace = True
        lane.width = self.stream_tile // 8 if self.dynamic_tile else self.stream_tile
        if not (self.queries.prefix and self.payload.c.index[self.root] >= self.queries.limit[q]):
            self.afters = 0
            self.compare(&lane, &one, 1, &self.root)
            self.take(lane, &self.root, 1, INFINITY, 0)

    cdef int step(self, Lane *lane) noexcept nogil:
        """Expand the nearest node of the frontier; the column of the reason to stop, or -1 to go on."""
        cdef int64_t *counters = lane.counters
        cdef int64_t yields
        cdef Py_ssize_t at, end, take, first
        cdef cx_frontier_node entry
        if lane.frontier_size == 0:
            return STOP_EXHAUSTED
        if self.stop_rule and lane.frontier[0].bound > kth_distance(&lane.best):
            return STOP_KTH_FRONTIER
        entry = self.pop(lane)
        at = self.child_ptr[entry.node]
        end = self.last_child(lane, entry.node)
        first = self.distances_at(lane, entry.node) if self.whole else -1
        while at < end:
            take = min(lane.width, end - at)
            yields = counters[<int>YIELDS]
            if not self.whole:
                first = lane.size = 0
                self.compare(&lane, &take, 1, &self.children[at])
            self.take(lane, &self.children[at], take, entry.distance, first)
            at += take
            first += take
            if self.dynamic_tile:
                if counters[<int>YIELDS] == yields:
                    lane.width = min(2 * lane.width, <Py_ssize_t>self.stream_tile)
                else:
                    lane.width = self.stream_tile // 8
            if self.over_budget(lane):
                return STOP_BUDGET
        return -1

    cdef Py_ssize_t last_child(self, Lane *lane, int64_t node) noexcept nogil:
        """The end of the children that a lane looks at."""
        cdef Py_ssize_t end = self.child_ptr[node + 1]
        if self.queries.prefix and self.ascending:
            end = self.cut(self.child_ptr[node], end, self.queries.limit[lane.q])
        return end

    cdef Py_ssize_t distances_at(self, Lane *lane, int64_t node) noexcept nogil:
        """Where the lane's distances from the children of `node` are; those that are not there yet are computed.

        So are those of other lanes that have the node on their frontier, near enough to be expanded as things stand.
        """
        cdef Lane *sharing[LANES]
        cdef Py_ssize_t counts[LANES]
        cdef Py_ssize_t number, own = lane - self.lane, at = self.child_ptr[node], sharers = 1
        cdef Lane *other
        sharing[0] = lane
        counts[0] = self.last_child(lane, node) - at
        if self.lanes > 1:
            self.pending[node, own] = INFINITY
            if self.place[node, own] >= 0:
                return self.place[node, own]
            for number in range(self.lanes):
                other = &self.lane[number]
                if (self.pending[node, number] < INFINITY and other.q != -1 and self.place[node, number] < 0
                        and self.pending[node, number] <= kth_distance(&other.best)):
                    sharing[sharers] = other
                    counts[sharers] = self.last_child(other, node) - at
                    sharers += 1
            for number in range(sharers):
                self.place[node, sharing[number] - self.lane] = <int32_t>sharing[number].size
        else:
            lane.size = 0
        number = lane.size
        self.compare(sharing, counts, sharers, &self.children[at])
        return number

    cdef void compare(self, Lane **lanes, const Py_ssize_t *counts, Py_ssize_t size,
                      const int64_t *nodes) noexcept nogil:
        """Compute distances of lanes from nodes, of each lane as many as `counts` says, behind those that it has."""
        cdef const cx_payload *payload = &self.payload.c
        cdef const double *rows[PANEL + 3]
        cdef const double *factors[LANES]
        cdef double *dots[LANES]
        cdef cx_many many
        cdef Lane *lane
        cdef Py_ssize_t start = 0, width, most = 0, known, i, j, live
        cdef const double *one
        for i in range(size):
            most = max(most, counts[i])
        while start < most:
            width = min(<Py_ssize_t>PANEL, most - start)
            live = 0
            for j in range(width):
                one = payload.coords + nodes[start + j] * payload.d
                rows[j] = payload.factors + nodes[start + j] * payload.m
                self.p[j] = payload.p[nodes[start + j]] if payload.p != NULL else 1.0
                for i in range(payload.d):
                    self.coords[i, j] = one[i]
            known = width
            if start + <Py_ssize_t>PANEL < most:
                for j in range(2):
                    if start + <int>PANEL + j < most:
                        rows[known] = payload.factors + nodes[start + <int>PANEL + j] * payload.m
                        known += 1
            else:
                for j in range(self.afters):
                    rows[known] = self.after[j]
                    known += 1
            for i in range(size):
                lane = lanes[i]
                if counts[i] > start:
                    factors[live] = lane.query.factors
                    dots[live] = lane.dots + lane.size
                    live += 1
            if payload.m > 0:
                self.multiply(rows, width, known, factors, live, dots)
            for i in range(size):
                lane = lanes[i]
                if counts[i] <= start:
                    continue
                many.distance, many.rho, many.r2 = lane.distances + lane.size, self.rho, self.r2
                live = min(width, counts[i] - start)
                cx_nearness_many(payload, lane.query.coords, lane.query.p, &self.coords[0, 0], <int>PANEL, self.p,
                                 lane.dots + lane.size, (live + <int>VECTOR - 1) // <int>VECTOR * <int>VECTOR, &many)
                lane.size += live
            start += PANEL

    cdef void multiply(self, const double **rows, Py_ssize_t width, Py_ssize_t known, const double **factors,
                       Py_ssize_t lanes, double **dots) noexcept nogil:
        """Dot products of lanes with rows that come from memory: the first lane brings them into cache."""
        cdef Py_ssize_t m = self.payload.c.m, i, j, tiled = (lanes - 1) // 3 * 3
        cx_dot16_ahead(factors[0], rows, width, known, m, dots[0])
        if tiled > 0:
            rows[width] = rows[0]
            cx_dot16_block(rows, width, factors + 1, tiled, m, self.block, tiled)
            for i in range(tiled):
                for j in range(width):
                    dots[1 + i][j] = self.block[j * tiled + i]
        for i in range(1 + tiled, lanes):
            cx_dot16_many(factors[i], rows, width, m, dots[i])

    cdef void foresee(self, Py_ssize_t number) noexcept nogil:
        """Find the rows that the lane after this one is likely to want first."""
        cdef Lane *lane
        cdef Py_ssize_t _, at, next = number
        cdef int64_t node
        self.afters = 0
        for _ in range(3):
            next = next + 1 if next + 1 < self.lanes else 0
            lane = &self.lane[next]
            if lane.q == -1 or lane.frontier_size == 0:
                continue
            node = lane.frontier[0].node
            if self.place[node, next] >= 0:
                continue
            for at in range(self.child_ptr[node], min(self.child_ptr[node + 1], self.child_ptr[node] + 2)):
                self.after[self.afters] = self.payload.c.factors + self.children[at] * self.payload.c.m
                self.afters += 1
                cx_prefetch(&self.payload.c, self.children[at])
            return

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
                   Py_ssize_t first) noexcept nogil:
        """Visit, offer and push a tile; `parent` is the distance to their parent, inf for the root.

        The distances of the tile are there, from the place `first` on.
        """
        cdef const cx_payload *payload = &self.payload.c
        cdef KBest *best = &lane.best
        cdef int64_t *counters = lane.counters
        cdef Py_ssize_t q = lane.q
        cdef Py_ssize_t fresh[WIDEST_TILE]
        cdef cx_nearness found
        cdef Py_ssize_t i, j, size = 0
        cdef int64_t c, row = self.queries.rows[q], limit = self.queries.limit[q], exclude = self.queries.exclude[q]
        cdef double far, other, lower = 0.0, upper = 0.0, bound, distance
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
            fresh[size] = i
            size += 1
        counters[<int>DISTANCE_EVALS] += size
        for j in range(size):
            i = fresh[j]
            c = nodes[i]
            distance = lane.distances[first + i] if c != row else 0.0
            # Most are too far, which their distance alone tells.
            if distance <= kth_distance(best) and self.queries.rank[c] < limit and c != exclude:
                found = CX_ITSELF_VALUE
                if c != row:
                    found = cx_nearness_given_dot(payload, &lane.query, c, lane.dots[first + i])
                counters[<int>YIELDS] += offer(best, found, payload.index[c])
            if self.leaf(c):
                continue
            bound = cx_bound(payload, cx_lower(payload, distance), self.radius(c))
            if bound > kth_distance(best):
                counters[<int>PRUNES_BOUND] += 1
                continue
            self.push(lane, bound, counters[<int>FRONTIER_PUSHES], c, distance)
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
            walk.forget()
            for number in range(busy):
                walk.begin(&walk.lane[number], start + number, &counters[start + number, 0])
            while busy > 0 and not cancel[0]:
                for number in range(walk.lanes):
                    lane = &walk.lane[number]
                    if lane.q == -1:
                        continue
                    if walk.lanes > 1:
                        walk.foresee(number)
                    reason = walk.step(lane)
                    if reason != -1:
                        lane.counters[reason] = 1
                        write_sorted(&lane.best, &indices[lane.q, 0], &distances[lane.q, 0])
                        lane.q = -1
                        busy -= 1
            if cancel[0]:
                break
            start += walk.lanes
