from libc.stdint cimport int16_t, int32_t, int64_t

from covertreex._core.canonical cimport CovarianceView, cx_expression
from covertreex._core.queries cimport QueriesView

cdef extern from "lens.h" nogil:
    ctypedef struct cx_screen32_lens:
        int kernel, coarse
        float variance, alpha
        const cx_expression *expression
        Py_ssize_t d, m, t
        const float *coords
        const float *scale
        const float *factors
        const int16_t *whole
        const float *steps
        const float *tails
        Py_ssize_t wide, count, stride
        const float *group_coords
        const float *group_scale
        const float *group_blunt
        const float *threshold
    ctypedef struct cx_screen64_lens:
        int kernel, coarse
        double variance, alpha
        const cx_expression *expression
        Py_ssize_t d, m, t
        const double *coords
        const double *scale
        const double *factors
        const int16_t *whole
        const float *steps
        const float *tails
        Py_ssize_t wide, count, stride
        const double *group_coords
        const double *group_scale
        const double *group_blunt
        const double *threshold
    ctypedef struct cx_screen32_query:
        const float *coords
        const float *factors
        const int16_t *whole
        const float *tail
        float scale, step
    ctypedef struct cx_screen64_query:
        const double *coords
        const double *factors
        const int16_t *whole
        const float *tail
        double scale, step

cdef enum:
    PANEL = 48  # rows compared at once: a multiple of the 6 of a tile
    DOUBTS = 256  # pairs to be looked at again
    MANY = 8    # of them, looked at together


cdef struct Survivor:
    int64_t row
    double low   # |rho| is at least this
    double high  # and at most this


cdef struct Shortlist:
    # A query's bound and what may still be above it. Owns `at` and `lows`.
    Survivor *at
    Py_ssize_t size
    Py_ssize_t capacity
    Py_ssize_t old     # entries that were there when `gained` was last asked
    double *lows       # min-heap of the k largest lower bounds of |rho|
    Py_ssize_t filled
    double threshold   # the k-th best |rho| is at least this


cdef struct Doubt:
    # A row and the i-th query of the group.
    int64_t row
    Py_ssize_t i


cdef struct Side:
    # Where a screen has its arrays: of the data, or of external queries.
    const char *head
    const char *tail
    const char *coords
    const char *scale
    const char *spread
    const char *blunt
    const float *steps      # of whole numbers
    const int32_t *sums     # of eight bits
    Py_ssize_t wide  # bytes from one head to the next


cdef class Lens:
    cdef bint single, eight, sixteen
    cdef int way, offset  # of eight bits
    cdef CovarianceView covariance
    cdef int kernel
    cdef double variance, alpha, margin, raised, floor, doubt
    cdef Py_ssize_t d, m, t, lanes, stride, width, packs
    cdef Side data, external
    cdef char *pack
    cdef char *group_coords
    cdef char *group_scale
    cdef char *group_spread
    cdef char *group_blunt
    cdef char *threshold
    cdef char *rho
    cdef float *tail_pack
    cdef float *tail_dots
    cdef float *group_steps
    cdef char *some
    cdef int32_t *hit
    cdef list held
    # What kernels are told of all this: the one of its precision is filled.
    cdef cx_screen32_lens c32
    cdef cx_screen64_lens c64

    cdef void focus32(self) noexcept nogil
    cdef void focus64(self) noexcept nogil
    cdef double number(self, const char *array, Py_ssize_t i) noexcept nogil
    cdef void set_number(self, char *array, Py_ssize_t i, double value) noexcept nogil
    cdef void load(self, QueriesView queries, Py_ssize_t first, Py_ssize_t size) noexcept nogil
    cdef void set_threshold(self, Py_ssize_t i, double threshold) noexcept nogil
    cdef void multiply(self, const int64_t *panel, Py_ssize_t count, Py_ssize_t ahead) noexcept nogil
    cdef bint bound_row(self, int64_t row, Py_ssize_t j) noexcept nogil
    cdef Py_ssize_t survivors(self, int64_t row, Py_ssize_t j) noexcept nogil
    cdef void prefetch(self, int64_t row) noexcept nogil
    cdef cx_screen32_query query32(self, int64_t query) noexcept nogil
    cdef cx_screen64_query query64(self, int64_t query) noexcept nogil
    cdef void correlate_pairs(self, const int64_t *rows, const int64_t *queries, Py_ssize_t count,
                              double *rho) noexcept nogil
    cdef void correlate(self, const int64_t *rows, Py_ssize_t count, Py_ssize_t ahead, int64_t query,
                        double *rho) noexcept nogil
    cdef double slack(self, int64_t row, int64_t query) noexcept nogil


cdef class Screener:
    cdef Lens near, broad, sharp
    cdef Lens alone  # what a single query looks through
    cdef QueriesView queries
    cdef Shortlist *lists
    cdef Py_ssize_t most, k, first, size, filled
    cdef int64_t top, low, high
    cdef int64_t panel[2 * PANEL]
    cdef Doubt doubts[DOUBTS]
    cdef Py_ssize_t doubted
    cdef int64_t pairs, panels
    cdef int64_t *taken
    cdef Py_ssize_t taken_size, taken_capacity
    cdef const int32_t[::1] cancel

    cdef void begin(self, Py_ssize_t first, Py_ssize_t size, const double *start) noexcept nogil
    cdef int add(self, Lens lens, int64_t row) except -1 nogil
    cdef int flush(self, Lens lens) except -1 nogil
    cdef int screen_panel(self, Lens lens, Py_ssize_t count) except -1 nogil
    cdef int decide_doubts(self, Lens lens) except -1 nogil
    cdef int decide_through(self, Lens look, Lens lens) except -1 nogil
    cdef int keep_itself(self, Lens lens, int64_t row) except -1 nogil
    cdef Py_ssize_t gained(self) noexcept nogil
    cdef int screen_rows(self, Lens lens, Py_ssize_t i, const int64_t *rows, Py_ssize_t count,
                         Py_ssize_t ahead) except -1 nogil
    cdef int sweep_few(self, int64_t begin, int64_t end) except -1 nogil
    cdef Py_ssize_t gained_by(self, Py_ssize_t i) noexcept nogil
    cdef void look_through(self, Lens lens) noexcept nogil
    cdef int finish(self, double *threshold, int64_t *counts) except -1 nogil


cdef int keep(Shortlist *one, Py_ssize_t k, int64_t row, double low, double high) except -1 nogil
