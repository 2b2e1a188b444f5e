"""Which rows to look at first, for a group of queries: those near in coordinates, in widening rings.

The unit of distance is each query's own radius, within which it has about `unit` rows. Queries of a group look at rows
together (`Finder.search_rings`): a row's distance from the group is its least distance from any query, so that a ring
is the union of what all queries have there. Or each looks at rows of its own (`Finder.search_rings_alone`).

These blocks are not the leaves of `covertreex._core.euclid.BoxTree`. A ring is asked of all blocks at once, whose
distances from the group are found once and kept from ring to ring: a tree above them would be walked again for nothing.
Every lane of a block holds a row, where a leaf has 17 to 32. And coordinates of blocks are in float32 about a middle,
with no bound on their error, for they decide nothing: those of leaves are scaled, for E2.
"""

from libc.stdint cimport INT32_MAX, int32_t, int64_t

import numpy as np

from covertreex._core.screen cimport Lens, Screener

cdef extern from "nearest.h" nogil:
    bint cx_narrow_only
    ctypedef struct cx_blocks:
        Py_ssize_t count, d
        const float *coords
        const int32_t *rank
        const float *low
        const float *high
        Py_ssize_t shelves
        const float *shelf_low
        const float *shelf_high
    ctypedef struct cx_near_known:
        Py_ssize_t count
        int32_t *blocks
        float *far
        float *shelf
    ctypedef struct cx_near_group:
        Py_ssize_t size, stride
        const float *coords
        const int32_t *limit
        const float *inverse
        float widest
        float *best
        float *due
        float *gap
    ctypedef struct cx_near_listed:
        Py_ssize_t count, width
        const int32_t *blocks
        const float *low
        const float *high
        int32_t *met
    ctypedef struct cx_near_found:
        float *values
        int32_t *places
    void cx_near_shelves(const cx_blocks *all, const float *low, const float *high, cx_near_known *known)
    void cx_near_open(const cx_blocks *all, const float *low, const float *high, float above, float reach,
                      cx_near_known *known)
    Py_ssize_t cx_near_rows(const cx_blocks *all, const cx_near_group *group, Py_ssize_t i, const int32_t *blocks,
                            Py_ssize_t count, float *out)
    float cx_near_threshold(float *values, Py_ssize_t count, Py_ssize_t wanted)
    Py_ssize_t cx_near_find(const float *values, Py_ssize_t count, float above, float reach, int32_t *places)
    Py_ssize_t cx_near_gather(const cx_blocks *all, const cx_near_group *group, const cx_near_known *known, float above,
                              float reach, const cx_near_found *found)
    Py_ssize_t cx_near_around(const cx_blocks *all, const cx_near_group *group, Py_ssize_t i,
                              const cx_near_listed *listed, float above, float reach, const cx_near_found *found)
    void cx_screen_fetch(const char *row, Py_ssize_t bytes)
    const int BLOCK "CX_BLOCK"
    const int SHELF "CX_SHELF"
    const float FAR "CX_FAR"

#: Rows of a block.
ROWS_OF_A_BLOCK = BLOCK

#: Farthest coordinate from the middle, so that squares stay finite in float32.
FARTHEST = 1e15

cdef enum:
    LANES = 16       # numbers are padded to a multiple of this: those of the widest register
    FIRST_LOOK = 8   # rows looked at for the radii, as a multiple of the unit
    STAGE = 4        # rings whose rows are collected at once
    MOST_RINGS = 64  # the last of so many is all that is left

    FEW = 8          # queries that look at rows alone, but look for them in the same blocks
    SOON = 8         # rows of a ring that are on their way when it is looked at
    AHEAD = 2        # rings around one query whose rows are collected with those that the query before it needed

cdef float FIRST = 0.3   # this share of the first ring, squared, is looked at before the rest of it
cdef double THIN = 0.15  # a ring has at least this share of the rows looked at before it


def narrow_only(bint yes):
    """Whether registers of 64 bytes are left alone even where there are some: tests compare what both find."""
    global cx_narrow_only
    cx_narrow_only = yes


def centred(coords, middle):
    """Coordinates as they are compared: about the middle of the data, in float32."""
    return np.clip(coords - middle, -FARTHEST, FARTHEST).astype(np.float32)


cdef class Blocks:
    """Payload rows in leaf order, in blocks of 32, with their boxes, and those of shelves of 16 blocks.

    Read-only: many threads may search it at once.
    """

    cdef const int64_t[::1] row
    cdef float[:, :, ::1] coords
    cdef int32_t[:, ::1] rank
    cdef float[:, ::1] low, high, shelf_low, shelf_high
    cdef cx_blocks c  # borrows all of these

    def __init__(self, coords, rows, rank):
        """`coords` (n, d), `centred`, and `rank` (n,) of all payload rows; `rows` (r,), ascending: those that may be
        found.
        """
        blocks, d = (len(rows) + BLOCK - 1) // BLOCK, coords.shape[1]
        taken = rows[np.minimum(np.arange(blocks * BLOCK), len(rows) - 1)]
        ranks = rank[taken].astype(np.int32)
        ranks[len(rows):] = INT32_MAX
        corners = np.ascontiguousarray(coords[taken].reshape(blocks, BLOCK, d).transpose(0, 2, 1))
        self.row = rows
        self.coords = corners
        self.rank = ranks.reshape(blocks, BLOCK)
        self.low = np.ascontiguousarray(corners.min(axis=2).T)
        self.high = np.ascontiguousarray(corners.max(axis=2).T)
        self.c.count, self.c.d = blocks, d
        self.c.coords, self.c.rank = &self.coords[0, 0, 0], &self.rank[0, 0]
        self.c.low, self.c.high = &self.low[0, 0], &self.high[0, 0]
        shelves = np.arange(0, blocks, SHELF)
        self.shelf_low = np.minimum.reduceat(self.low, shelves, axis=1)
        self.shelf_high = np.maximum.reduceat(self.high, shelves, axis=1)
        self.c.shelves = len(shelves)
        self.c.shelf_low, self.c.shelf_high = &self.shelf_low[0, 0], &self.shelf_high[0, 0]

    def __len__(self):
        return self.row.shape[0]


cdef class Finder:
    """One thread's scratch for searching `Blocks`, for groups of at most `most` queries."""

    cdef Blocks blocks
    cdef cx_near_group group
    cdef float[:, ::1] queries
    cdef int32_t[::1] limit, list, places, screened, opened
    cdef float[::1] inverse, gap, far, shelf, best, due, values, box
    cdef cx_near_known known  # blocks of all shelves that are within `horizon` (squared) of the group
    cdef float horizon
    # Blocks that `rings_of_query` looks through, their corners, and how far these blocks reach; and what it found.
    cdef cx_near_listed listed
    cdef float[:, ::1] low, high
    cdef int32_t[::1] met
    cdef float picked
    cdef cx_near_found found
    cdef int64_t[::1] rows
    cdef Py_ssize_t hint, ring
    cdef float edge[MOST_RINGS]
    cdef int64_t gained[MOST_RINGS]
    cdef int64_t looked[MOST_RINGS]

    def __init__(self, Blocks blocks, Py_ssize_t most):
        cdef Py_ssize_t rows = blocks.c.count * BLOCK, d = blocks.c.d, stride = LANES * ((most + LANES - 1) // LANES)
        self.blocks = blocks
        self.queries = np.zeros((d, stride), dtype=np.float32)
        self.limit = np.zeros(stride, dtype=np.int32)
        self.inverse, self.gap = np.zeros((2, stride), dtype=np.float32)
        self.best = np.empty(rows, dtype=np.float32)
        self.values = np.zeros(rows + LANES, dtype=np.float32)
        self.places, self.screened = np.zeros((2, rows + LANES), dtype=np.int32)
        self.box = np.zeros(2 * d, dtype=np.float32)
        width = (blocks.c.count + LANES - 1) // LANES * LANES
        self.low, self.high = np.zeros((2, d, width), dtype=np.float32)
        self.far, self.due = np.zeros((2, width), dtype=np.float32)
        self.shelf = np.zeros(blocks.c.shelves + LANES, dtype=np.float32)
        self.list, self.opened = np.zeros((2, width), dtype=np.int32)
        self.met = np.zeros(rows + LANES, dtype=np.int32)
        self.rows = np.empty(rows + 1, dtype=np.int64)
        self.hint = 1
        self.group.stride = stride
        self.group.coords, self.group.limit, self.group.inverse = (
            &self.queries[0, 0], &self.limit[0], &self.inverse[0])
        self.group.best, self.group.due, self.group.gap = &self.best[0], &self.due[0], &self.gap[0]
        self.known.blocks, self.known.far, self.known.shelf = &self.opened[0], &self.far[0], &self.shelf[0]
        self.listed.width, self.listed.blocks, self.listed.met = width, &self.list[0], &self.met[0]
        self.listed.low, self.listed.high = &self.low[0, 0], &self.high[0, 0]
        self.found.values, self.found.places = &self.values[0], &self.places[0]

    cdef void begin(self, const float[:, ::1] queries, const int64_t[::1] limits, Py_ssize_t unit,
                    double growth) noexcept nogil:
        """Take the next group, measure for each query the radius within which it has about `unit` rows, and set the
        rings' edges.
        """
        cdef Py_ssize_t i, j, d = self.queries.shape[0]
        for i in range(MOST_RINGS):
            self.edge[i] = <float>min(growth ** i, 0.9 * FAR) if i < MOST_RINGS - 1 else <float>0.9 * FAR
        self.group.size = queries.shape[0]
        for j in range(d):
            for i in range(self.group.size):
                self.queries[j, i] = queries[i, j]
                self.box[j] = min(self.box[j], queries[i, j]) if i else queries[i, j]
                self.box[d + j] = max(self.box[d + j], queries[i, j]) if i else queries[i, j]
        for i in range(self.group.size):
            self.limit[i] = <int32_t>min(limits[i], <int64_t>INT32_MAX)
        cx_near_shelves(&self.blocks.c, &self.box[0], &self.box[d], &self.known)
        self.horizon = -1.0
        self.measure(unit)

    cdef void open_within(self, float reach) noexcept nogil:
        """Make all blocks known that are within `reach` (squared) of the group."""
        if reach > self.horizon:
            cx_near_open(&self.blocks.c, &self.box[0], &self.box[self.blocks.c.d], self.horizon, reach, &self.known)
            self.horizon = reach

    cdef float nearest_blocks(self, Py_ssize_t wanted) noexcept nogil:
        """How far (squared) the group reaches into about so many blocks, all of which are known then."""
        cdef Py_ssize_t shelves = wanted // SHELF + 4, i
        cdef float reach = -1.0
        while True:
            shelves = min(shelves, self.blocks.c.shelves)
            for i in range(self.blocks.c.shelves):
                self.values[i] = self.known.shelf[i]
            self.open_within(cx_near_threshold(&self.values[0], self.blocks.c.shelves, shelves))
            if shelves == self.blocks.c.shelves:
                self.open_within(FAR)
            if shelves == self.blocks.c.shelves or (
                    cx_near_find(self.known.far, self.known.count, -1.0, self.horizon, &self.list[0]) >= wanted):
                break
            shelves = 2 * shelves
        for i in range(self.known.count):
            self.values[i] = self.known.far[i]
        reach = cx_near_threshold(&self.values[0], self.known.count, min(wanted, self.blocks.c.count))
        return min(reach, self.horizon)

    cdef Py_ssize_t list_within(self, float reach) noexcept nogil:
        """List the known blocks within `reach` (squared) of the group; returns how many."""
        cdef Py_ssize_t i, count = cx_near_find(self.known.far, self.known.count, -1.0, reach, &self.list[0])
        for i in range(count):
            self.list[i] = self.opened[self.list[i]]
        return count

    cdef void measure(self, Py_ssize_t unit) noexcept nogil:
        """Set the radius of each query, by ever more of the blocks that are nearest to the group."""
        cdef Py_ssize_t i = 0, blocks = self.blocks.c.count, look = FIRST_LOOK * unit // BLOCK + 8, within, count
        cdef float reach, radius
        self.group.widest = 0.0
        while i < self.group.size:
            reach = self.nearest_blocks(look)
            count = self.list_within(reach)
            while i < self.group.size:
                within = cx_near_rows(&self.blocks.c, &self.group, i, &self.list[0], count, &self.values[0])
                if within < unit and count < blocks:
                    break
                # Not 0 among duplicates: a row there would be no unit away.
                radius = max(cx_near_threshold(&self.values[0], count * BLOCK, unit), <float>1e-30)
                self.inverse[i] = <float>1.0 / radius
                self.group.widest = max(self.group.widest, radius)
                i += 1
            look = 4 * look

    cdef Py_ssize_t gather(self, float above, float reach) noexcept nogil:
        """Collect in `places` and `values` the rows farther than `above`, at most `reach` (squared) from the group."""
        self.open_within(reach * self.group.widest)
        return cx_near_gather(&self.blocks.c, &self.group, &self.known, above, reach, &self.found)

    cdef Py_ssize_t screen_ring(self, Screener screener, Lens lens, Py_ssize_t count, float above, float reach,
                                Py_ssize_t seen) except -1 nogil:
        """Give the screener those of the collected rows that are in (above, reach]; returns how many."""
        cdef Py_ssize_t i, taken = 0
        for i in range(count):
            if above < self.values[i] <= reach:
                screener.add(lens, self.blocks.row[self.places[i]])
                self.screened[seen + taken] = <int32_t>self.blocks.row[self.places[i]]
                taken += 1
        return taken

    def search_rings(self, Screener screener, Py_ssize_t first, const float[:, ::1] queries,
                     const int64_t[::1] limits, Py_ssize_t unit, double growth, double least, Py_ssize_t patience,
                     Py_ssize_t rings, double[::1] thresholds, int64_t[::1] counts):
        """Look at the rows of ring after ring, until one brings little.

        Parameters
        ----------
        screener : Screener
            Keeps what stands; holds the queries.
        first : int
            Place of the group's first query.
        queries : ndarray, shape (g, d), float32
            Coordinates of the group's queries, `centred`.
        limits : ndarray, shape (g,), int64
        unit : int
            A query's radius holds about so many rows.
        growth : float
            Each ring reaches so much farther than the last, squared.
        least, patience : float, int
            Stop after so many rings in a row whose rows each took at most this share of all places (k per query).
        rings : int
            Stop after so many steps of `growth` in any case; with 0, the last is all that is left. A step with few rows
            is part of the next ring.
        thresholds, counts : ndarray, shape (g,)
            Filled as by `Screener.sweep`.

        Returns
        -------
        gained, looked : list
            For each ring, the share of all places that its rows took, and how many rows had been looked at.
        rows : ndarray, int32
            The rows, ring after ring.
        """
        cdef Lens near = screener.near, broad = screener.broad
        cdef bint switch = near is not broad
        cdef Py_ssize_t i, count, stage, step = 0, ring = 0, seen = 0, poor = 0
        cdef Py_ssize_t last = MOST_RINGS if rings == 0 else rings
        cdef int64_t all_rows
        cdef double share[MOST_RINGS]
        cdef int64_t looked[MOST_RINGS]
        cdef float below
        cdef bint more = True
        # One loop for all: a stage collects rows for several steps, a ring has one step or more, and both end anywhere.
        with nogil:
            self.begin(queries, limits, unit, growth)
            screener.begin(first, self.group.size, NULL)
            screener.look_through(near)
            all_rows = min(screener.top, self.blocks.row.shape[0])
            while more:
                stage = min(<Py_ssize_t>STAGE if step else 1, last - step)
                count = self.gather(self.edge[step - 1] if step else -1.0, self.edge[step + stage - 1])
                while more and stage > 0:
                    below = self.edge[step - 1] if step else -1.0
                    if step == 0:  # the nearest first, so that thresholds rise at once
                        seen += self.screen_ring(screener, near, count, below, FIRST * self.edge[0], seen)
                        below = FIRST * self.edge[0]
                    if ring == 0:
                        seen += self.screen_ring(screener, near, count, below, self.edge[step], seen)
                    else:
                        seen += self.screen_ring(screener, broad, count, below, self.edge[step], seen)
                    step += 1
                    stage -= 1
                    more = seen < all_rows and step < last and not screener.cancel[0]
                    # Where rows are far between, few of them say nothing: the ring goes on.
                    if more and ring > 0 and seen - looked[ring - 1] < THIN * looked[ring - 1]:
                        continue
                    if ring > 0:
                        screener.flush(broad)
                    else:
                        screener.flush(near)
                        if switch and more:
                            screener.look_through(broad)
                    share[ring] = <double>screener.gained() / (self.group.size * screener.k)
                    looked[ring] = seen
                    poor = poor + 1 if ring > 0 and share[ring] <= least else 0
                    more = more and poor < patience
                    ring += 1
            screener.finish(&thresholds[0], &counts[0])
        rows = np.asarray(self.screened)[:seen].copy()
        return [share[i] for i in range(ring)], [looked[i] for i in range(ring)], rows

    cdef void pick(self, float reach) noexcept nogil:
        """List the blocks within `reach` (squared) of the group, with their corners."""
        cdef Py_ssize_t b, j
        self.open_within(reach)
        self.listed.count = self.list_within(reach)
        self.picked = reach
        for j in range(self.low.shape[0]):
            for b in range(self.listed.count):
                self.low[j, b] = self.blocks.low[j, self.list[b]]
                self.high[j, b] = self.blocks.high[j, self.list[b]]

    cdef int rings_of_query(self, Screener screener, Lens lens, Py_ssize_t i, int64_t least,
                            Py_ssize_t patience) except -1 nogil:
        """Let the i-th query look at ring after ring alone, until so many in a row each gained `least` rows at most.

        Fills in `gained` and `looked` of each `ring`, and `rows`.
        """
        cdef Py_ssize_t count = 0, stage = 0, step = 0, ring = 0, seen = 0, poor = 0, c, size
        cdef int64_t all_rows = min(<int64_t>self.limit[i], self.blocks.row.shape[0])
        cdef float above = -1.0
        cdef bint more = True
        while more:
            if step == stage:
                stage = min(stage + AHEAD if stage else self.hint, <Py_ssize_t>MOST_RINGS)
                if self.edge[stage - 1] * self.group.widest > self.picked:
                    self.pick(self.edge[stage - 1] * self.group.widest)
                count = cx_near_around(&self.blocks.c, &self.group, i, &self.listed, above, self.edge[stage - 1],
                                       &self.found)
            size = cx_near_find(&self.values[0], count, above, self.edge[step], &self.met[0])
            for c in range(size):
                self.rows[seen + c] = self.blocks.row[self.places[self.met[c]]]
                if c < SOON:
                    cx_screen_fetch(lens.data.head + self.rows[seen + c] * lens.data.wide, lens.m * lens.width)
            screener.screen_rows(lens, i, &self.rows[seen], size, 0)
            above = self.edge[step]
            seen += size
            step += 1
            more = seen < all_rows and step < MOST_RINGS and not screener.cancel[0]
            # Where rows are far between, few of them say nothing: the ring goes on.
            if more and ring > 0 and seen - self.looked[ring - 1] < THIN * self.looked[ring - 1]:
                continue
            self.gained[ring], self.looked[ring] = screener.gained_by(i), seen
            poor = poor + 1 if ring > 0 and self.gained[ring] <= least else 0
            more = more and poor < patience
            ring += 1
        # Not as far as a lonely query before: the next would collect all there is.
        self.ring, self.hint = ring, min(step, self.hint + AHEAD)
        return 0

    cdef void open(self, Screener screener, Py_ssize_t first, const float[:, ::1] queries, const int64_t[::1] limits,
                   Py_ssize_t begin, Py_ssize_t unit, double growth) noexcept nogil:
        """Take queries `begin` to ``begin + FEW`` of a group, for `rings_of_query`."""
        cdef Py_ssize_t end = min(begin + FEW, queries.shape[0])
        self.begin(queries[begin:end], limits[begin:end], unit, growth)
        self.picked = -1.0
        screener.begin(first + begin, self.group.size, NULL)

    def search_rings_alone(self, Screener screener, Py_ssize_t first, const float[:, ::1] queries,
                           const int64_t[::1] limits, Py_ssize_t unit, double growth, int64_t least,
                           Py_ssize_t patience, double[::1] thresholds, int64_t[::1] counts):
        """Let each query of a group look at the rows of ring after ring alone, until these bring little.

        Parameters
        ----------
        screener, first, queries, limits, unit, growth
            As of `search_rings`.
        least, patience : int
            Stop after so many rings in a row that each had at most so many rows that are among the k best.
        thresholds, counts : ndarray, shape (g,)
            Filled as by `Screener.sweep`.
        """
        cdef Lens lens = screener.broad
        cdef Py_ssize_t i, begin = 0
        with nogil:
            while begin < queries.shape[0]:
                self.open(screener, first, queries, limits, begin, unit, growth)
                for i in range(self.group.size):
                    self.rings_of_query(screener, lens, i, least, patience)
                screener.finish(&thresholds[begin], &counts[begin])
                begin += FEW

    def log_rings_alone(self, Screener screener, Py_ssize_t first, const float[:, ::1] queries,
                        const int64_t[::1] limits, Py_ssize_t unit, double growth, Py_ssize_t patience,
                        const int64_t[::1] members):
        """What happens when some queries of a group search alone, each until `patience` rings in a row bring nothing.

        Returns
        -------
        list of tuple
            For each of `members`: how many rows of each ring are among the k best, how many had been looked at after
            it, these rows (int64), and what the k-th best ``|rho|`` is sure to reach.
        """
        cdef Lens lens = screener.broad
        cdef Py_ssize_t i, r
        found = []
        for i in members:
            with nogil:
                self.open(screener, first, queries, limits, i // FEW * FEW, unit, growth)
                i %= FEW
                self.rings_of_query(screener, lens, i, 0, patience)
            found.append(([self.gained[r] for r in range(self.ring)], [self.looked[r] for r in range(self.ring)],
                          np.asarray(self.rows)[:self.looked[self.ring - 1]].copy(), screener.lists[i].threshold))
        return found
