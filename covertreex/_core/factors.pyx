"""Factors in canonical arithmetic (docs/mathematics.md, A6): the same bits on any processor, in blocks of any size."""

from libc.math cimport sqrt
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

import numpy as np

from covertreex._core.canonical cimport CovarianceView, cx_covariance_many, cx_dot16, cx_dot16_ahead
from covertreex._core.contract cimport CX_LANES

cdef enum:
    PANEL = 8  # rows that share each load of a row of L


def place(const uint8_t[::1] memory):
    """The address of memory."""
    return <size_t>&memory[0]


def cholesky(double[:, ::1] K, double[:, ::1] L):
    """Fill the lower factor `L` (m, padded m; zero on entry) of `K` (m, m).

    Returns the number of the first pivot that is not positive, or -1.
    """
    cdef Py_ssize_t m = K.shape[0], width = L.shape[1], i, j
    cdef double rest
    with nogil:
        for j in range(m):
            rest = K[j, j] - cx_dot16(&L[j, 0], &L[j, 0], width)
            if not rest > 0.0:
                with gil:
                    return j
            L[j, j] = sqrt(rest)
            for i in range(j + 1, m):
                L[i, j] = (K[i, j] - cx_dot16(&L[i, 0], &L[j, 0], width)) / L[j, j]
    return -1


def solve(const double[:, ::1] L, const double[:, ::1] inducing, const double[:, ::1] coords,
          CovarianceView covariance, double[:, ::1] out, double[::1] p, const double[:, ::1] known=None):
    """For each row x of `coords`: ``out = L^-1 k(inducing, x)`` and ``p = variance - |out|^2``.

    `known` (q, m) are these covariances, where the kernel is not one that compiled code knows.

    `out` is (q, padded m) and zero on entry. One thread's work; the caller owns all arrays and may give disjoint rows
    of `out` and `p` to other threads.
    """
    cdef Py_ssize_t m = inducing.shape[0], d = inducing.shape[1], q = coords.shape[0], start, i, j, size, used
    cdef double variance = covariance.c.variance
    cdef double dots[PANEL]
    cdef const double *panel[PANEL]
    cdef double[:, ::1] k = np.empty((PANEL, m))
    cdef const double[:, ::1] columns = np.ascontiguousarray(np.asarray(inducing).T)
    cdef bint ask = known is None
    with nogil:
        start = 0
        while start < q:
            size = min(<Py_ssize_t>PANEL, q - start)
            for i in range(size):
                panel[i] = &out[start + i, 0]
                if ask:
                    cx_covariance_many(&covariance.c, &coords[start + i, 0], &columns[0, 0], d, m, m, &k[i, 0])
                else:
                    memcpy(&k[i, 0], &known[start + i, 0], m * sizeof(double))
            for j in range(m):
                # Entries not yet computed are zero, so whole lanes up to j are enough.
                used = (j + CX_LANES - 1) // CX_LANES * CX_LANES
                cx_dot16_ahead(&L[j, 0], panel, size, 0, used, dots)
                for i in range(size):
                    out[start + i, j] = (k[i, j] - dots[i]) / L[j, j]
            for i in range(size):
                p[start + i] = variance - cx_dot16(panel[i], panel[i], out.shape[1])
            start += size


def squares(const double[:, ::1] rows, double[::1] out):
    """``out[i] = |rows[i]|^2``, as `solve` computes it. One thread's work; the caller owns both arrays."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(rows.shape[0]):
            out[i] = cx_dot16(&rows[i, 0], &rows[i, 0], rows.shape[1])
