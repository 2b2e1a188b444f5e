"""Whitening: the components of payload rows along pivots (docs/mathematics.md, C3)."""

import numpy as np

from covertreex._core.canonical cimport CovarianceView, cx_expression

cdef extern from "whiten.h" nogil:
    bint cx_narrow_only
    const int STEP "CX_STEP"
    const int LANES "CX_WHITEN_LANES"
    ctypedef struct cx_pivots:
        int kernel
        double variance, alpha
        const cx_expression *expression
        Py_ssize_t d, m, steps
        const double *coords
        const double *scale
        const double *factors
        const double *known
        const double *lower
        const double *inverse
        Py_ssize_t n
        const double *row_coords
        const double *row_scale
        const double *row_factors
    void cx_whiten(const cx_pivots *pivots, float *w, double *left, Py_ssize_t begin, Py_ssize_t end)

#: Pivots that are taken at once.
PIVOTS = STEP


def narrow_only(bint yes):
    """Whether registers of 64 bytes are left alone even where there are some: tests compare what both find."""
    global cx_narrow_only
    cx_narrow_only = yes


def packed(values):
    """Columns of `values` (64, length), as kernels read them: (length) numbers of 8 pivots, then of the next 8."""
    return np.ascontiguousarray(values.reshape(STEP // LANES, LANES, -1).transpose(0, 2, 1))


cdef class Pivots:
    """64 pivots. Read-only: many threads may use it at once."""

    cdef cx_pivots pivots
    cdef const double[:, ::1] row_coords, row_factors
    cdef const double[::1] row_scale
    cdef CovarianceView covariance
    cdef object held

    def __init__(self, screen, pivots, known, lower):
        """Rows `pivots` (64,) of a float64 `Screen`.

        `known` (steps, 64, 64) are their components of earlier steps, and `lower` (64, 64) is the Cholesky factor of
        what these leave of their correlations.
        """
        self.row_coords, self.row_factors, self.row_scale = screen.coords, screen.head, screen.scale
        cdef const double[:, ::1] coords = np.ascontiguousarray(screen.coords[pivots].T)
        cdef const double[::1] scale = np.ascontiguousarray(screen.scale[pivots])
        cdef const double[:, :, ::1] factors = packed(screen.head[pivots])
        past_of = np.zeros((max(1, len(known)), STEP // LANES, STEP, LANES))
        for step in range(len(known)):
            past_of[step] = packed(known[step])
        cdef const double[:, :, :, ::1] past = past_of
        cdef const double[:, ::1] upper = np.ascontiguousarray(lower.T)
        cdef const double[::1] inverse = 1.0 / np.diagonal(lower)
        self.held = coords, scale, factors, past, upper, inverse
        self.covariance = CovarianceView(screen.payload.kernel, coords.shape[0])
        self.pivots.kernel, self.pivots.variance, self.pivots.alpha = (
            self.covariance.c.kernel, self.covariance.c.variance, self.covariance.c.alpha)
        self.pivots.expression = &self.covariance.c.expression
        self.pivots.d, self.pivots.m, self.pivots.steps = coords.shape[0], self.row_factors.shape[1], len(known)
        self.pivots.coords, self.pivots.scale = &coords[0, 0], &scale[0]
        self.pivots.factors = &factors[0, 0, 0] if self.pivots.m else NULL
        self.pivots.known, self.pivots.lower = &past[0, 0, 0, 0], &upper[0, 0]
        self.pivots.inverse = &inverse[0]
        self.pivots.n, self.pivots.row_coords = self.row_coords.shape[0], &self.row_coords[0, 0]
        self.pivots.row_scale, self.pivots.row_factors = &self.row_scale[0], &self.row_factors[0, 0]

    def extend(self, float[:, :, ::1] w, double[::1] left, Py_ssize_t begin, Py_ssize_t end):
        """The next components of rows `begin` to `end`.

        Parameters
        ----------
        w : ndarray, shape (most, n, 64), float32
            Components by steps; the next step's are written.
        left : ndarray, shape (n,)
            What is left of each row's unit norm; the new components are taken off.
        """
        with nogil:
            cx_whiten(&self.pivots, &w[0, 0, 0], &left[0], begin, end)
