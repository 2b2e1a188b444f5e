"""The screen: turns candidate rows into short lists, losing no neighbour among them (docs/mathematics.md, C1 and C2).

For each query it keeps a bound that the k-th best |rho| is sure to reach, and drops every row whose |rho| is sure to
stay below it. What survives is decided by canonical arithmetic, in a scan.
"""

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

import numpy as np

from covertreex.base.contract import check_kernel

from covertreex._core.contract cimport CX_NO_KERNEL
from covertreex._core.heaps cimport cx_least_push, cx_least_replace_top
from covertreex._core.memory cimport grown, zeroed
from covertreex._core.queries cimport QueriesView

cdef extern from "screen.h" nogil:
    bint cx_narrow_only
    void cx_screen32_put(const float *factors, Py_ssize_t m, float *pack, Py_ssize_t lane)
    void cx_screen64_put(const double *factors, Py_ssize_t m, double *pack, Py_ssize_t lane)
    void cx_screen32_dots(const float *const *rows, Py_ssize_t nrows, const float *const *next, Py_ssize_t ahead,
                          const float *pack, Py_ssize_t packs, Py_ssize_t m, float *out, Py_ssize_t stride)
    void cx_screen64_dots(const double *const *rows, Py_ssize_t nrows, const double *const *next, Py_ssize_t ahead,
                          const double *pack, Py_ssize_t packs, Py_ssize_t m, double *out, Py_ssize_t stride)
    bint cx_screen32_bounds(const cx_screen32_lens *lens, int64_t row, float row_blunt, float *dots, char *packs)
    bint cx_screen64_bounds(const cx_screen64_lens *lens, int64_t row, double row_blunt, double *dots, char *packs)
    Py_ssize_t cx_screen32_hits(const cx_screen32_lens *lens, float row_blunt, const float *rho, const char *packs,
                                int32_t *out)
    Py_ssize_t cx_screen64_hits(const cx_screen64_lens *lens, double row_blunt, const double *rho, const char *packs,
                                int32_t *out)
    void cx_screen_fetch(const char *row, Py_ssize_t bytes)
    void cx_screen64_add(const float *more, Py_ssize_t rows, Py_ssize_t more_stride, Py_ssize_t count, double *dots,
                         Py_ssize_t stride)
    void cx_screen32_many(const cx_screen32_lens *lens, const cx_screen32_query *query, const int64_t *rows,
                          Py_ssize_t count, Py_ssize_t ahead, double *rho)
    void cx_screen64_many(const cx_screen64_lens *lens, const cx_screen64_query *query, const int64_t *rows,
                          Py_ssize_t count, Py_ssize_t ahead, double *rho)
    void cx_screen32_pairs(const cx_screen32_lens *lens, const cx_screen32_query *queries, const int64_t *rows,
                           Py_ssize_t count, double *rho)
    void cx_screen64_pairs(const cx_screen64_lens *lens, const cx_screen64_query *queries, const int64_t *rows,
                           Py_ssize_t count, double *rho)
    void cx_screen32_values(int kernel, float alpha, float *values, Py_ssize_t count, bint coarse)
    void cx_screen64_values(int kernel, double alpha, double *values, Py_ssize_t count, bint coarse)
    ctypedef struct cx_whole_row:
        const char *at
        float step
        int32_t raised
    int CX_EIGHT_PLAIN
    int cx_eight_way(int largest)
    int cx_eight_largest()
    void cx_eight_put(const int8_t *components, Py_ssize_t m, int offset, uint8_t *pack, Py_ssize_t lane)
    void cx_eight_dots(int way, const cx_whole_row *rows, Py_ssize_t nrows, Py_ssize_t ahead, const uint8_t *pack,
                       Py_ssize_t packs, Py_ssize_t m, const float *steps, float *out, Py_ssize_t stride)
    void cx_sixteen_put(const int16_t *components, Py_ssize_t m, int16_t *pack, Py_ssize_t lane)
    void cx_sixteen_dots(bint plain, const cx_whole_row *rows, Py_ssize_t nrows, Py_ssize_t ahead, const uint8_t *pack,
                         Py_ssize_t packs, Py_ssize_t m, const float *steps, float *out, Py_ssize_t stride)


# A pair whose |rho| is known no better, by float32 or by a mixed screen, is looked at again, and any in eight bits.
cdef double BLUNT16 = 2e-3, BLUNT32 = 1e-3, BLUNT64 = 3e-2

cdef enum:
    FEW = 4  # queries that are swept for each alone, at most


ctypedef fused real:
    float
    double


def narrow_only(bint yes):
    """Whether registers of 64 bytes are left alone even where there are some: tests compare what both find."""
    global cx_narrow_only
    cx_narrow_only = yes


def kernel_values(int code, double alpha, real[::1] values, bint coarse=False):
    """Put in place of squared scaled distances the values that screens have of a kernel whose variance is 1; coarse
    ones are those of screens of eight bits.
    """
    check_kernel(code)
    if real is float:
        cx_screen32_values(code, <float>alpha, &values[0], values.shape[0], coarse)
    else:
        cx_screen64_values(code, alpha, &values[0], values.shape[0], False)


def dots(const real[:, ::1] rows, const real[:, ::1] queries):
    """Products of rows with queries as a screen forms them.

    Rows and queries have a multiple of 16 components, and queries come in whole packs: 64 bytes of one component.
    """
    cdef Py_ssize_t i, m = rows.shape[1], lanes = 64 // sizeof(real), packs = queries.shape[0] // lanes
    cdef Py_ssize_t padded = 6 * ((rows.shape[0] + 5) // 6)
    cdef size_t[::1] at = np.empty(padded, dtype=np.uintp)
    dtype = np.asarray(rows).dtype
    cdef real[::1] pack = np.empty(packs * lanes * m, dtype=dtype)
    cdef real[:, ::1] out = np.empty((padded, packs * lanes), dtype=dtype)
    for i in range(padded):
        at[i] = <size_t>&rows[i if i < rows.shape[0] else 0, 0]
    for i in range(packs * lanes):
        if real is float:
            cx_screen32_put(&queries[i, 0], m, &pack[i // lanes * m * lanes], i % lanes)
        else:
            cx_screen64_put(&queries[i, 0], m, &pack[i // lanes * m * lanes], i % lanes)
    if real is float:
        cx_screen32_dots(<const float *const *>&at[0], padded, NULL, 0, &pack[0], packs, m, &out[0, 0], packs * lanes)
    else:
        cx_screen64_dots(<const double *const *>&at[0], padded, NULL, 0, &pack[0], packs, m, &out[0, 0], packs * lanes)
    return np.asarray(out)[:rows.shape[0]]


def largest_whole():
    """The largest components of screens of eight bits for which this processor is faster than for any others.

    127, or 63 where it multiplies bytes in 16 bits; 0 where it is not known to be faster.
    """
    return cx_eight_largest()


ctypedef fused whole:
    int8_t
    int16_t


def dots_of_whole(const whole[:, ::1] rows, const whole[:, ::1] queries, int largest=0, plain=False):
    """Products of rows with queries in whole numbers as a screen forms them, by the processor's means or by any's.

    Rows and queries have a multiple of 16 components, those of eight bits of at most `largest`, and queries come in
    whole packs of 16. The squared length of those of sixteen is below ``2**31``.
    """
    cdef Py_ssize_t i, m = rows.shape[1], packs = queries.shape[0] // 16, padded = 6 * ((rows.shape[0] + 5) // 6)
    cdef Py_ssize_t pack_bytes = 16 * m * sizeof(whole)
    cdef int64_t[::1] raised = (largest + 1) * np.sum(rows, axis=1, dtype=np.int64)
    cdef float[::1] steps = np.ones(packs * 16, dtype=np.float32)
    cdef uint8_t[::1] pack = np.empty(packs * pack_bytes, dtype=np.uint8)
    cdef float[:, ::1] out = np.empty((padded, packs * 16), dtype=np.float32)
    cdef uint8_t[::1] held = np.empty(padded * sizeof(cx_whole_row), dtype=np.uint8)
    cdef cx_whole_row *at = <cx_whole_row *>&held[0]
    for i in range(padded):
        at[i].at, at[i].step = <const char *>&rows[min(i, rows.shape[0] - 1), 0], 1.0
        at[i].raised = <int32_t>raised[min(i, rows.shape[0] - 1)] if whole is int8_t else 0
    for i in range(packs * 16):
        if whole is int8_t:
            cx_eight_put(&queries[i, 0], m, largest + 1, &pack[i // 16 * pack_bytes], i % 16)
        else:
            cx_sixteen_put(&queries[i, 0], m, <int16_t *>&pack[i // 16 * pack_bytes], i % 16)
    if whole is int8_t:
        cx_eight_dots(CX_EIGHT_PLAIN if plain else cx_eight_way(largest), at, padded, 0, &pack[0], packs, m, &steps[0],
                      &out[0, 0], packs * 16)
    else:
        cx_sixteen_dots(plain, at, padded, 0, &pack[0], packs, m, &steps[0], &out[0, 0], packs * 16)
    return np.asarray(out)[:rows.shape[0]]


def round_to_sixteen(const double[:, ::1] factors, float step, int16_t[:, ::1] whole, float[::1] steps):
    """Put into `whole` what factors are nearest to, as multiples of `steps` (C7): of `step`, or of more where a
    component is so large that it would not fit.

    Factors have a multiple of 16 components. Returns the greatest length of what is left of a row, over that by which
    its step is larger.
    """
    cdef Py_ssize_t i, j, lane
    cdef double inverse, value, left, most, worst = 0.0
    cdef double sums[16]
    cdef int32_t number
    with nogil:
        for i in range(factors.shape[0]):
            most, left = 0.0, 0.0
            for j in range(factors.shape[1]):
                most = max(most, fabs(factors[i, j]))
            steps[i] = max(step, <float>(most / 32760.0))
            inverse = 1.0 / steps[i]
            memset(sums, 0, sizeof(sums))
            for j in range(0, factors.shape[1], 16):
                for lane in range(16):
                    value = factors[i, j + lane] * inverse
                    number = <int32_t>(value + (0.5 if value >= 0.0 else -0.5))
                    whole[i, j + lane] = <int16_t>number
                    sums[lane] += (value - number) * (value - number)
            for lane in range(16):
                left += sums[lane]
            worst = max(worst, left)
    return step * sqrt(worst)


cdef void compact(Shortlist *one) noexcept nogil:
    cdef Py_ssize_t i, kept = 0, old = 0
    for i in range(one.size):
        if one.at[i].high >= one.threshold:
            one.at[kept] = one.at[i]
            kept += 1
            old += i < one.old
    one.size = kept
    one.old = old


cdef void in_order(Shortlist *one) noexcept nogil:
    """Sort the rows of a short list, most of which are in order."""
    cdef Py_ssize_t i, j
    cdef Survivor moved
    for i in range(1, one.size):
        moved, j = one.at[i], i
        while j > 0 and one.at[j - 1].row > moved.row:
            one.at[j] = one.at[j - 1]
            j -= 1
        one.at[j] = moved


cdef int keep(Shortlist *one, Py_ssize_t k, int64_t row, double low, double high) except -1 nogil:
    cdef double item = min(low, 1.0)
    if one.size == one.capacity:
        compact(one)
        if 2 * one.size > one.capacity:
            one.at = <Survivor *>grown(one.at, &one.capacity, one.capacity + 1, sizeof(Survivor))
    one.at[one.size].row = row
    one.at[one.size].low = item
    one.at[one.size].high = high
    one.size += 1
    if k == 0:
        return 0
    if one.filled < k:
        cx_least_push(one.lows, one.filled, item)
        one.filled += 1
    elif item > one.lows[0]:
        cx_least_replace_top(one.lows, k, item)
    if one.filled == k and one.lows[0] > one.threshold:
        one.threshold = one.lows[0]
    return 0


cdef char *address(array, list held) except? NULL:
    """Where an array is, which is held from now on."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    held.append(array)
    PyBuffer_Release(&view)
    return <char *>view.buf


cdef char *room(Py_ssize_t size, dtype, list held) except? NULL:
    return address(np.zeros(size, dtype=dtype), held)


cdef int point(Side *side, source, list held) except -1:
    """Point to the arrays of a screen, or of external queries."""
    side.head, side.wide = address(source.head, held), source.head.strides[0]
    side.tail = address(source.tail, held)
    side.coords = address(source.coords, held)
    side.scale = address(source.scale, held)
    side.spread = address(source.spread, held)
    side.blunt = address(source.blunt, held)
    side.steps, side.sums = <const float *>address(source.steps, held), <const int32_t *>address(source.sums, held)
    return 0


cdef class Lens:
    """One screen's view of the data, and its scratch for one group of queries: a thread's own.

    Arrays are float32 if `single`, else float64, and factors may be of `eight` bits; queries lie in packs of `lanes`
    (16 or 8), component by component, or four by four where they are bytes.
    """

    def __init__(self, screen, external, Py_ssize_t most):
        """Of a `covertreex.search.screens.plain.Screen` and what its `of_queries` returns, for groups of at most `most`
        queries.
        """
        self.held = []
        point(&self.data, screen, self.held)
        point(&self.external, external, self.held)
        self.single = screen.dtype is np.float32
        self.eight, self.sixteen = screen.head.dtype == np.int8, screen.head.dtype == np.int16
        if self.eight:
            self.offset, self.way = screen.largest + 1, cx_eight_way(screen.largest)
        # A whitened screen compares no coordinates.
        kernel = None if screen.kernel_code == CX_NO_KERNEL else screen.payload.kernel
        self.covariance = CovarianceView(kernel, screen.coords.shape[1])
        self.kernel, self.variance, self.alpha = (
            self.covariance.c.kernel, self.covariance.c.variance, self.covariance.c.alpha)
        # The margin is used in the screen's own precision: rounding must not make it smaller.
        self.margin = max(screen.margin, external.margin) * (1.0 + 1e-5)
        self.floor, self.raised = screen.floor, sqrt(max(1.0, external.margin / screen.margin))
        self.d, self.m, self.t = screen.coords.shape[1], screen.head.shape[1], screen.tail.shape[1]
        self.width = 4 if self.single else 8
        self.doubt = BLUNT16 if self.sixteen else BLUNT32 if self.single else BLUNT64
        self.lanes = 64 // self.width
        self.stride = self.lanes * ((most + self.lanes - 1) // self.lanes)
        dtype = screen.dtype
        self.pack = room(self.stride * max(self.m, 1), screen.head.dtype, self.held)
        self.group_coords = room(self.stride * max(self.d, 1), dtype, self.held)
        self.group_scale = room(self.stride, dtype, self.held)
        self.group_spread = room(self.stride, dtype, self.held)
        self.group_blunt = room(self.stride, dtype, self.held)
        self.threshold = room(self.stride, dtype, self.held)
        self.rho = room(PANEL * self.stride, dtype, self.held)
        self.hit = <int32_t *>room(self.stride + 1, np.int32, self.held)
        self.some = room(PANEL * self.stride // self.lanes, np.int8, self.held)
        self.tail_pack = <float *>room(2 * self.stride * self.t, np.float32, self.held)
        self.tail_dots = <float *>room(2 * PANEL * self.stride, np.float32, self.held)
        self.group_steps = <float *>room(self.stride, np.float32, self.held)
        if self.single:
            self.focus32()
        else:
            self.focus64()

    cdef void focus32(self) noexcept nogil:
        """Tell kernels where all this is, if it is in float32."""
        cdef cx_screen32_lens *c = &self.c32
        c.kernel, c.variance, c.alpha, c.coarse = self.kernel, <float>self.variance, <float>self.alpha, self.eight
        c.expression = &self.covariance.c.expression
        c.d, c.m, c.t, c.stride, c.wide = self.d, self.m, self.t, self.stride, self.data.wide // 4
        c.coords, c.scale = <const float *>self.data.coords, <const float *>self.data.scale
        c.factors, c.whole, c.tails = <const float *>self.data.head, NULL, <const float *>self.data.tail
        c.steps = self.data.steps
        if self.sixteen:
            c.factors, c.whole, c.wide = NULL, <const int16_t *>self.data.head, self.data.wide // 2
        c.group_coords, c.group_scale = <const float *>self.group_coords, <const float *>self.group_scale
        c.group_blunt, c.threshold = <const float *>self.group_blunt, <const float *>self.threshold

    cdef void focus64(self) noexcept nogil:
        """The same in float64."""
        cdef cx_screen64_lens *c = &self.c64
        c.kernel, c.variance, c.alpha, c.coarse = self.kernel, self.variance, self.alpha, False
        c.expression = &self.covariance.c.expression
        c.d, c.m, c.t, c.stride, c.wide = self.d, self.m, self.t, self.stride, self.data.wide // 8
        c.coords, c.scale = <const double *>self.data.coords, <const double *>self.data.scale
        c.factors, c.whole, c.tails = <const double *>self.data.head, NULL, <const float *>self.data.tail
        c.steps = NULL
        c.group_coords, c.group_scale = <const double *>self.group_coords, <const double *>self.group_scale
        c.group_blunt, c.threshold = <const double *>self.group_blunt, <const double *>self.threshold

    cdef double number(self, const char *array, Py_ssize_t i) noexcept nogil:
        return (<const float *>array)[i] if self.single else (<const double *>array)[i]

    cdef void set_number(self, char *array, Py_ssize_t i, double value) noexcept nogil:
        if self.single:
            (<float *>array)[i] = <float>value
        else:
            (<double *>array)[i] = value

    cdef void load(self, QueriesView queries, Py_ssize_t first, Py_ssize_t size) noexcept nogil:
        """Take in queries `first` to ``first + size``; lanes past the last never reach their threshold."""
        cdef Py_ssize_t i, j, e, lane
        cdef double raised
        cdef const Side *side
        cdef const float *tail
        cdef char *pack
        self.packs = (size + self.lanes - 1) // self.lanes
        self.c32.count = self.c64.count = self.packs * self.lanes
        for i in range(self.packs * self.lanes):
            self.set_number(self.threshold, i, INFINITY)
            if i >= size:
                self.set_number(self.group_scale, i, 0.0)
                self.set_number(self.group_spread, i, 0.0)
                self.set_number(self.group_blunt, i, 0.0)
                self.group_steps[i] = 0.0
                continue
            e = queries.rows[first + i]
            side, raised = &self.data, self.raised
            if e < 0:
                side, raised, e = &self.external, 1.0, -1 - e
            self.set_number(self.group_scale, i, self.number(side.scale, e))
            self.set_number(self.group_spread, i, self.number(side.spread, e))
            self.set_number(self.group_blunt, i, raised * self.number(side.blunt, e))
            for j in range(self.d):
                self.set_number(self.group_coords, j * self.stride + i, self.number(side.coords, e * self.d + j))
            lane = i % self.lanes
            if self.eight or self.sixteen:
                self.group_steps[i] = side.steps[e]
            if self.sixteen:
                cx_sixteen_put(<const int16_t *>(side.head + e * side.wide), self.m,
                               <int16_t *>self.pack + (i // 16) * self.m * 16, lane)
                continue
            if self.eight:
                cx_eight_put(<const int8_t *>(side.head + e * side.wide), self.m, self.offset,
                             <uint8_t *>self.pack + (i // 16) * self.m * 16, lane)
                continue
            pack = self.pack + (i // self.lanes) * self.m * 64
            if self.single:
                cx_screen32_put(<const float *>(side.head + e * side.wide), self.m, <float *>pack, lane)
            else:
                cx_screen64_put(<const double *>(side.head + e * side.wide), self.m, <double *>pack, lane)
            if self.t > 0:
                tail = <const float *>side.tail + e * self.t
                cx_screen32_put(tail, self.t, self.tail_pack + (i // 16) * self.t * 16, i % 16)

    cdef void set_threshold(self, Py_ssize_t i, double threshold) noexcept nogil:
        """Query `i` is interested in nothing that is sure to stay below `threshold`."""
        # Never above the true one when rounded.
        self.set_number(self.threshold, i, threshold - self.floor - (2e-7 if self.single else 1e-15))

    cdef void multiply(self, const int64_t *panel, Py_ssize_t count, Py_ssize_t ahead) noexcept nogil:
        """Dots of the rows of a panel with all queries; `ahead` rows behind them will be next."""
        cdef const char *rows[2 * PANEL]
        cdef const char *tails[2 * PANEL]
        cdef cx_whole_row whole[2 * PANEL]
        cdef Py_ssize_t i, padded = 6 * ((count + 5) // 6), packs = (self.packs + 1) // 2
        cdef int64_t row
        ahead = ahead // 6 * 6
        if self.m == 0:
            memset(self.rho, 0, padded * self.stride * self.width)
            return
        for i in range(padded + ahead):
            row = panel[i] if i < count else panel[count + i - padded] if i >= padded else panel[0]
            rows[i], tails[i] = self.data.head + row * self.data.wide, self.data.tail + row * self.t * 4
            if self.eight or self.sixteen:
                whole[i].at, whole[i].step = rows[i], self.data.steps[row]
                whole[i].raised = self.offset * self.data.sums[row] if self.eight else 0
        if self.sixteen:
            cx_sixteen_dots(False, whole, padded, ahead, <const uint8_t *>self.pack, self.packs, self.m,
                            self.group_steps, <float *>self.rho, self.stride)
            return
        if self.eight:
            cx_eight_dots(self.way, whole, padded, ahead, <const uint8_t *>self.pack, self.packs, self.m,
                          self.group_steps, <float *>self.rho, self.stride)
            return
        if self.single:
            cx_screen32_dots(<const float *const *>rows, padded, <const float *const *>rows + padded, ahead,
                             <const float *>self.pack, self.packs, self.m, <float *>self.rho, self.stride)
            return
        cx_screen64_dots(<const double *const *>rows, padded, <const double *const *>rows + padded, ahead,
                         <const double *>self.pack, self.packs, self.m, <double *>self.rho, self.stride)
        if self.t > 0:
            cx_screen32_dots(<const float *const *>tails, padded, <const float *const *>tails + padded, ahead,
                             self.tail_pack, packs, self.t, self.tail_dots, 16 * packs)
            cx_screen64_add(self.tail_dots, padded, 16 * packs, self.packs * self.lanes, <double *>self.rho,
                            self.stride)

    cdef bint bound_row(self, int64_t row, Py_ssize_t j) noexcept nogil:
        """rho of row `row`, the j-th of the panel, with all queries; whether it may concern any."""
        cdef double blunt = self.raised * self.number(self.data.blunt, row)
        cdef char *some = self.some + j * self.packs
        if self.single:
            return cx_screen32_bounds(&self.c32, row, <float>blunt, <float *>self.rho + j * self.stride, some)
        return cx_screen64_bounds(&self.c64, row, blunt, <double *>self.rho + j * self.stride, some)

    cdef Py_ssize_t survivors(self, int64_t row, Py_ssize_t j) noexcept nogil:
        """List in `hit` the queries that row `row`, the j-th of the panel, may concern; returns how many."""
        cdef double blunt = self.raised * self.number(self.data.blunt, row)
        cdef const char *some = self.some + j * self.packs
        if self.single:
            return cx_screen32_hits(&self.c32, <float>blunt, <const float *>self.rho + j * self.stride, some, self.hit)
        return cx_screen64_hits(&self.c64, blunt, <const double *>self.rho + j * self.stride, some, self.hit)

    cdef void prefetch(self, int64_t row) noexcept nogil:
        """Have the factors of a row that is looked at again on their way: rows lie far apart in memory."""
        cx_screen_fetch(self.data.head + row * self.data.wide, self.m * (2 if self.sixteen else self.width))

    cdef cx_screen32_query query32(self, int64_t query) noexcept nogil:
        """What kernels are told of a query: its place among the rows, or -1 - its place among the external."""
        cdef Py_ssize_t e = query if query >= 0 else -1 - query
        cdef const Side *side = &self.data if query >= 0 else &self.external
        cdef cx_screen32_query one
        one.coords, one.scale = <const float *>side.coords + e * self.d, (<const float *>side.scale)[e]
        one.factors = <const float *>(side.head + e * side.wide)
        one.whole = <const int16_t *>(side.head + e * side.wide)
        one.step = side.steps[e] if self.sixteen else 0.0
        one.tail = <const float *>side.tail + e * self.t
        return one

    cdef cx_screen64_query query64(self, int64_t query) noexcept nogil:
        """The same in float64."""
        cdef Py_ssize_t e = query if query >= 0 else -1 - query
        cdef const Side *side = &self.data if query >= 0 else &self.external
        cdef cx_screen64_query one
        one.coords, one.scale = <const double *>side.coords + e * self.d, (<const double *>side.scale)[e]
        one.factors, one.whole, one.step = <const double *>(side.head + e * side.wide), NULL, 0.0
        one.tail = <const float *>side.tail + e * self.t
        return one

    cdef void correlate(self, const int64_t *rows, Py_ssize_t count, Py_ssize_t ahead, int64_t query,
                        double *rho) noexcept nogil:
        """|rho| of rows and a query, all components; `ahead` rows behind them will be next."""
        cdef cx_screen32_query one32
        cdef cx_screen64_query one64
        if self.single:
            one32 = self.query32(query)
            cx_screen32_many(&self.c32, &one32, rows, count, ahead, rho)
        else:
            one64 = self.query64(query)
            cx_screen64_many(&self.c64, &one64, rows, count, ahead, rho)

    cdef void correlate_pairs(self, const int64_t *rows, const int64_t *queries, Py_ssize_t count,
                              double *rho) noexcept nogil:
        """|rho| of at most MANY rows and a query each, all components."""
        cdef cx_screen32_query each32[MANY]
        cdef cx_screen64_query each64[MANY]
        cdef Py_ssize_t i
        if self.single:
            for i in range(count):
                each32[i] = self.query32(queries[i])
            cx_screen32_pairs(&self.c32, each32, rows, count, rho)
        else:
            for i in range(count):
                each64[i] = self.query64(queries[i])
            cx_screen64_pairs(&self.c64, each64, rows, count, rho)

    cdef double slack(self, int64_t row, int64_t query) noexcept nogil:
        """C1: how far `correlate` may be off."""
        cdef double spread = (self.number(self.data.spread, query) if query >= 0
                              else self.number(self.external.spread, -1 - query))
        return self.margin * self.number(self.data.spread, row) * spread + self.floor


cdef class Screener:
    """Short lists of one group of queries after another: a thread's own.

    `near` looks at the rows nearest to a group and `broad` at the rest; `sharp`, if there is one, is float64 and looks
    again at pairs which these leave in doubt. Where `broad` has eight bits, `near` looks again before that.
    """

    def __cinit__(self, near, broad, sharp, queries, view, Py_ssize_t k, Py_ssize_t most, cancel):
        cdef Py_ssize_t i
        self.lists = <Shortlist *>zeroed(most, sizeof(Shortlist))
        self.most, self.k = most, k
        for i in range(most):
            self.lists[i].at = <Survivor *>grown(NULL, &self.lists[i].capacity, 2 * k + 32, sizeof(Survivor))
            self.lists[i].lows = <double *>zeroed(k, sizeof(double))
        self.taken = <int64_t *>grown(NULL, &self.taken_capacity, 2048, sizeof(int64_t))

    def __init__(self, near, broad, sharp, queries, view, Py_ssize_t k, Py_ssize_t most, cancel):
        """Lenses for groups of at most `most` of `queries`, the `PayloadView`, and the driver's cancel flag."""
        self.near, self.broad, self.sharp, self.cancel = near, broad, sharp, cancel
        self.alone = near if self.broad.eight else broad
        self.queries = QueriesView(queries, view)

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.most):
            free(self.lists[i].at)
            free(self.lists[i].lows)
        free(self.lists)
        free(self.taken)

    cdef void begin(self, Py_ssize_t first, Py_ssize_t size, const double *start) noexcept nogil:
        """Take the next group; the k-th best |rho| of query i is at least ``start[i]``, if start is given."""
        cdef Py_ssize_t i
        cdef int64_t row
        self.first, self.size, self.filled, self.top, self.doubted = first, size, 0, 0, 0
        self.low, self.high = INT64_MAX, -1
        for i in range(size):
            self.lists[i].size = self.lists[i].old = self.lists[i].filled = 0
            self.lists[i].threshold = start[i] if start != NULL else -INFINITY
            self.top = max(self.top, self.queries.limit[first + i])
            row = self.queries.rows[first + i]
            if row >= 0 and row != self.queries.exclude[first + i] and (
                    self.queries.rank[row] < self.queries.limit[first + i]):  # it may have itself
                self.low = min(self.low, row)
                self.high = max(self.high, row)

    cdef void look_through(self, Lens lens) noexcept nogil:
        """Begin to look through `lens`."""
        cdef Py_ssize_t i
        lens.load(self.queries, self.first, self.size)
        for i in range(self.size):
            lens.set_threshold(i, self.lists[i].threshold)

    cdef int add(self, Lens lens, int64_t row) except -1 nogil:
        """Look at a row, sooner or later: `flush` makes sure of that."""
        if self.queries.rank[row] >= self.top:
            return 0
        self.panel[self.filled] = row
        self.filled += 1
        if self.filled == 2 * PANEL:
            self.screen_panel(lens, PANEL)
        return 0

    cdef int flush(self, Lens lens) except -1 nogil:
        """Look at all rows that wait."""
        while self.filled > 0:
            self.screen_panel(lens, min(self.filled, <Py_ssize_t>PANEL))
        return 0

    cdef int screen_panel(self, Lens lens, Py_ssize_t count) except -1 nogil:
        """Look at the first `count` rows of the panel."""
        cdef Py_ssize_t i, j, q, number
        cdef int64_t row, rank
        cdef double spread, slack, rho
        cdef bint some[PANEL]
        cdef bint again = self.sharp is not None and self.sharp is not lens
        lens.multiply(self.panel, count, self.filled - count)
        for j in range(count):
            some[j] = lens.bound_row(self.panel[j], j)
            if some[j] and lens.eight:
                self.near.prefetch(self.panel[j])
        for j in range(count):
            row = self.panel[j]
            if self.low <= row <= self.high:  # perhaps a query that may have itself: d(i, i) = 0, whatever rho computes
                self.keep_itself(lens, row)
            if not some[j]:
                continue
            rank = self.queries.rank[row]
            spread = lens.margin * lens.number(lens.data.spread, row)
            for number in range(lens.survivors(row, j)):
                i = lens.hit[number]
                q = self.first + i
                if rank >= self.queries.limit[q] or row == self.queries.exclude[q] or row == self.queries.rows[q]:
                    continue
                if not lens.eight:
                    rho = fabs(lens.number(lens.rho, j * lens.stride + i))
                    slack = spread * lens.number(lens.group_spread, i) + lens.floor
                    if rho + slack < self.lists[i].threshold:
                        continue
                    if not again or slack <= lens.doubt:
                        keep(&self.lists[i], self.k, row, rho - slack, rho + slack)
                        lens.set_threshold(i, self.lists[i].threshold)
                        continue
                    if self.doubted == 0 or self.doubts[self.doubted - 1].row != row:
                        self.sharp.prefetch(row)
                self.doubts[self.doubted].row, self.doubts[self.doubted].i = row, i
                self.doubted += 1
                if self.doubted == DOUBTS:
                    self.decide_doubts(lens)
        self.decide_doubts(lens)
        self.pairs += count * self.size
        self.panels += 1
        self.filled -= count
        for j in range(self.filled):
            self.panel[j] = self.panel[count + j]
        return 0

    cdef int decide_doubts(self, Lens lens) except -1 nogil:
        """Look at pairs again that `lens` left in doubt."""
        if lens.eight:
            self.decide_through(self.near, lens)
        if self.doubted > 0:
            self.decide_through(self.sharp, lens)
        return 0

    cdef int decide_through(self, Lens look, Lens lens) except -1 nogil:
        """Look at them through `look`; what that leaves in doubt, too, is what is left."""
        cdef Py_ssize_t i, count, number = 0, left = 0
        cdef int64_t rows[MANY]
        cdef int64_t asked[MANY]
        cdef double rho[MANY]
        cdef double slacks[MANY]
        cdef Doubt looked[MANY]
        cdef bint again = self.sharp is not None and self.sharp is not look
        cdef Doubt doubt
        cdef Shortlist *one
        while number < self.doubted:
            count = 0
            while count < MANY and number < self.doubted:
                doubt = self.doubts[number]
                number += 1
                rows[count], asked[count] = doubt.row, self.queries.rows[self.first + doubt.i]
                slacks[count] = look.slack(rows[count], asked[count])
                if again and slacks[count] > max(look.doubt, self.lists[doubt.i].threshold):  # it would see nothing
                    self.doubts[left] = doubt
                    left += 1
                    continue
                looked[count] = doubt
                count += 1
            look.correlate_pairs(rows, asked, count, rho)
            for i in range(count):
                one = &self.lists[looked[i].i]
                if rho[i] + slacks[i] < one.threshold:
                    continue
                if again and slacks[i] > look.doubt:
                    self.doubts[left] = looked[i]
                    left += 1
                    continue
                keep(one, self.k, rows[i], rho[i] - slacks[i], rho[i] + slacks[i])
                lens.set_threshold(looked[i].i, one.threshold)
        self.doubted = left
        return 0

    cdef int screen_rows(self, Lens lens, Py_ssize_t i, const int64_t *rows, Py_ssize_t count,
                         Py_ssize_t ahead) except -1 nogil:
        """Look at rows, all ranking before its limit, for the i-th query alone, without `look_through`; `ahead` behind
        them will be next.
        """
        cdef Shortlist *one = &self.lists[i]
        cdef int64_t query = self.queries.rows[self.first + i], exclude = self.queries.exclude[self.first + i], row
        cdef double own = lens.number(lens.data.spread, query) if query >= 0 else (
            lens.number(lens.external.spread, -1 - query))
        cdef double rho[PANEL]
        cdef int64_t doubts[PANEL]
        cdef double slack
        cdef bint again = self.sharp is not None and self.sharp is not lens
        cdef Py_ssize_t begin = 0, size, j, doubted
        while begin < count:
            size, doubted = min(count - begin, <Py_ssize_t>PANEL), 0
            lens.correlate(rows + begin, size, count - begin - size + ahead, query, rho)
            for j in range(size):
                row = rows[begin + j]
                if row == exclude:
                    continue
                if row == query:  # d(i, i) = 0, whatever rho computes
                    keep(one, self.k, row, 1.0, INFINITY)
                    continue
                slack = lens.margin * lens.number(lens.data.spread, row) * own + lens.floor
                if rho[j] + slack < one.threshold:
                    continue
                if again and slack > lens.doubt:
                    doubts[doubted] = row
                    doubted += 1
                else:
                    keep(one, self.k, row, rho[j] - slack, rho[j] + slack)
            if doubted > 0:
                self.sharp.correlate(doubts, doubted, 0, query, rho)
            for j in range(doubted):
                slack = self.sharp.slack(doubts[j], query)
                if rho[j] + slack >= one.threshold:
                    keep(one, self.k, doubts[j], rho[j] - slack, rho[j] + slack)
            begin += size
        self.pairs += count
        return 0

    cdef int sweep_few(self, int64_t begin, int64_t end) except -1 nogil:
        """Look at rows `begin` to `end` for each query of the group alone, a panel at a time."""
        cdef int64_t rows[PANEL]
        cdef int64_t row, limit
        cdef Py_ssize_t i, count
        while begin < end and not self.cancel[0]:
            for i in range(self.size):
                limit, count = self.queries.limit[self.first + i], 0
                for row in range(begin, min(begin + PANEL, end)):
                    rows[count] = row
                    count += self.queries.rank[row] < limit
                self.screen_rows(self.alone, i, rows, count, 0)
            self.panels += 1
            begin += PANEL
        return 0

    cdef Py_ssize_t gained_by(self, Py_ssize_t i) noexcept nogil:
        """How many of the rows looked at since the last call are sure to reach the threshold of the i-th query.

        Whatever screen looked at them: none drops these, and all have looked at them in the same precision.
        """
        cdef Shortlist *one = &self.lists[i]
        cdef Py_ssize_t j, total = 0
        compact(one)
        for j in range(one.old, one.size):
            total += one.at[j].low >= one.threshold
        one.old = one.size
        return total

    cdef int keep_itself(self, Lens lens, int64_t row) except -1 nogil:
        cdef Py_ssize_t i, q
        for i in range(self.size):
            q = self.first + i
            if self.queries.rows[q] == row and self.queries.rank[row] < self.queries.limit[q] and (
                    row != self.queries.exclude[q]):
                self.decide_doubts(lens)  # rows before it
                keep(&self.lists[i], self.k, row, 1.0, INFINITY)
                lens.set_threshold(i, self.lists[i].threshold)
        return 0

    cdef Py_ssize_t gained(self) noexcept nogil:
        """As `gained_by`, over all queries."""
        cdef Py_ssize_t i, total = 0
        for i in range(self.size):
            total += self.gained_by(i)
        return total

    cdef int finish(self, double *threshold, int64_t *counts) except -1 nogil:
        """End the group: its thresholds, and how many rows of each query stand; the rows wait for `take`."""
        cdef Py_ssize_t i, j
        for i in range(self.size):
            compact(&self.lists[i])
            threshold[i] = self.lists[i].threshold
            counts[i] = self.lists[i].size
            self.taken = <int64_t *>grown(self.taken, &self.taken_capacity, self.taken_size + self.lists[i].size,
                                          sizeof(int64_t))
            for j in range(self.lists[i].size):
                self.taken[self.taken_size] = self.lists[i].at[j].row
                self.taken_size += 1
        return 0

    def counted(self):
        """Pairs and panels of rows looked at since the last call."""
        pairs, panels, self.pairs, self.panels = self.pairs, self.panels, 0, 0
        return pairs, panels

    def take(self):
        """Rows of the queries of all groups finished since the last call, one query after another."""
        rows = np.empty(self.taken_size, dtype=np.int64)
        cdef int64_t[::1] out = rows
        cdef Py_ssize_t i
        for i in range(self.taken_size):
            out[i] = self.taken[i]
        self.taken_size = 0
        return rows

    def sweep(self, plan, Py_ssize_t before, const double[::1] start=None):
        """Look at all rows of a `ScanPlan`, whose queries are those from place `before` on.

        Returns
        -------
        thresholds, counts : ndarray, shape (q,)
            What the k-th best |rho| of each query is sure to reach, and how many rows stand.
        """
        cdef const int64_t[::1] group_ptr = plan.group_ptr, run_ptr = plan.run_ptr
        cdef const int64_t[::1] run_start = plan.run_start, run_stop = plan.run_stop
        cdef Py_ssize_t g, r, total = group_ptr[group_ptr.shape[0] - 1]
        cdef int64_t row
        cdef Py_ssize_t i
        cdef bint few
        thresholds, counts = np.empty(total), np.zeros(total, dtype=np.int64)
        cdef double[::1] threshold = thresholds
        cdef int64_t[::1] count = counts
        if total == 0:
            return thresholds, counts
        with nogil:
            for g in range(group_ptr.shape[0] - 1):
                if group_ptr[g] == group_ptr[g + 1]:
                    continue
                self.begin(before + group_ptr[g], group_ptr[g + 1] - group_ptr[g],
                           &start[group_ptr[g]] if start is not None else NULL)
                # Tiles are as wide as a pack, which few queries do not fill; a whitened screen has no other way.
                few = self.size <= FEW and self.broad.kernel != CX_NO_KERNEL
                if not few:
                    self.look_through(self.broad)
                for r in range(run_ptr[g], run_ptr[g + 1]):
                    if few:
                        self.sweep_few(run_start[r], run_stop[r])
                    else:
                        for row in range(run_start[r], run_stop[r]):
                            self.add(self.broad, row)
                            if self.filled == PANEL and self.cancel[0]:
                                break
                    if self.cancel[0]:
                        break
                self.flush(self.broad)
                # Rows that only float64 could tell of came later, and how much later depends on the processor.
                if self.broad.eight:
                    for i in range(self.size):
                        in_order(&self.lists[i])
                self.finish(&threshold[group_ptr[g]], &count[group_ptr[g]])
                if self.cancel[0]:
                    break
        return thresholds, counts
