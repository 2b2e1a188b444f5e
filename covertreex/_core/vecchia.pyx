"""Regressions of points on their neighbours: rows of a Vecchia approximation (docs/vecchia.md).

Sums are those of canonical arithmetic, or go in a fixed order: no result depends on threads or blocks.
"""

from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

import numpy as np

from covertreex._core.canonical cimport CovarianceView, cx_covariance_many, cx_dot16_block, cx_dot16_many
from covertreex._core.contract cimport CX_LANES

# Of the kernel's variance. A pivot below the first is rounding, and not a variance; jitter goes from the second,
# tenfold each time, to the third.
cdef double _PIVOT = 1e-14, _FIRST = 1e-10, _LAST = 1e-4


cdef Py_ssize_t _padded(Py_ssize_t m) noexcept nogil:
    return (m + CX_LANES - 1) // CX_LANES * CX_LANES


cdef bint _cholesky(const double *K, Py_ssize_t count, Py_ssize_t width, double jitter, double least, bint latent,
                    double *L, const double **rows, double *dots) noexcept nogil:
    """The lower factor of ``K + jitter``, whose last pivot stays the square that it is; whether all pivots are above
    `least`. If `latent`, the last point has no jitter, and its pivot may be anything. A row of both has `width`."""
    cdef Py_ssize_t i, j
    cdef double pivot
    memset(L, 0, count * width * sizeof(double))
    for i in range(count):
        rows[i] = L + i * width
    for j in range(count):
        # What is not computed yet is zero, so whole lanes up to j are enough.
        cx_dot16_many(rows[j], rows + j, count - j, _padded(j), dots)
        if j == count - 1 and latent:
            L[j * width + j] = K[j * width + j] - dots[0]
            return True
        pivot = K[j * width + j] + jitter - dots[0]
        if not pivot > least:
            return False
        if j == count - 1:
            L[j * width + j] = pivot
            return True
        pivot = sqrt(pivot)
        L[j * width + j] = pivot
        for i in range(j + 1, count):
            L[i * width + j] = (K[i * width + j] - dots[i - j]) / pivot
    return True


def regress(CovarianceView covariance, const double[:, ::1] coords, const double[:, ::1] factors,
            const double[::1] noise, const int64_t[:, ::1] neighbors, const double[:, ::1] points,
            const double[:, ::1] point_factors, const double[::1] point_noise, bint latent, double[:, ::1] weights,
            double[::1] D, double[::1] jitter, const int32_t[::1] cancel):
    """Regress each of `points` on its neighbours, under residual covariance ``k(x, y) - v_x . v_y`` plus noise.

    `coords`, `factors` and `noise` are those of rows, `neighbors` (q, k) names rows and ends in -1; `points` (q, d) and
    what goes with them are regressed. Fills `weights` (q, k), residual variances `D` (q,), and `jitter` (q,), that was
    added to a diagonal which would not factorize. If `latent`, points get none, and `D` may be 0.

    Returns the first point that no jitter helps, or -1. One thread's work; the caller owns all arrays and may give
    disjoint points to other threads.
    """
    cdef Py_ssize_t q = neighbors.shape[0], k = neighbors.shape[1], d = coords.shape[1], m = factors.shape[1]
    cdef Py_ssize_t most = k + 1, width = _padded(most + 5), t, i, j, a, row, count, failed = -1
    cdef double variance = covariance.c.variance, extra, own, b
    cdef double[::1] K_array = np.zeros((most + 1) * width), L_array = np.zeros(most * width)
    cdef double[::1] columns_array = np.zeros(d * width), pair_array = np.zeros(2 * width), back_array = np.zeros(width)
    cdef int64_t[::1] pointers_array = np.zeros(width, dtype=np.int64)
    cdef double *K = &K_array[0]
    cdef double *L = &L_array[0]
    cdef double *columns = &columns_array[0]
    cdef double *pair = &pair_array[0]
    cdef double *back = &back_array[0]
    cdef const double **pointers = <const double **>&pointers_array[0]
    cdef const double *x
    with nogil:
        for t in range(q):
            if cancel[0]:
                break
            count = 0
            while count < k and neighbors[t, count] >= 0:
                row = neighbors[t, count]
                for a in range(d):
                    columns[a * width + count] = coords[row, a]
                if m > 0:
                    pointers[count] = &factors[row, 0]
                count += 1
            for a in range(d):
                columns[a * width + count] = points[t, a]
            if m > 0:
                for i in range(count, count + 6):  # itself, and as often as blocks of two by three want to be filled
                    pointers[i] = &point_factors[t, 0]
            # The lower triangle of all covariances, two rows at a time; the point comes last.
            for i in range(0, count + 1, 2):
                if m > 0:
                    cx_dot16_block(pointers + i, 2, pointers, (i + 2 + 2) // 3 * 3, m, pair, width)
                for j in range(i, min(i + 2, count + 1)):
                    x = &coords[neighbors[t, j], 0] if j < count else &points[t, 0]
                    own = noise[neighbors[t, j]] if j < count else point_noise[t]
                    cx_covariance_many(&covariance.c, x, columns, d, width, j + 1, K + j * width)
                    if m > 0:
                        for a in range(j + 1):
                            K[j * width + a] -= pair[(j - i) * width + a]
                    K[j * width + j] += own
            extra = 0.0
            while not _cholesky(K, count + 1, width, extra * variance, _PIVOT * variance, latent, L, pointers, back):
                if extra >= 0.99 * _LAST:
                    failed = t
                    break
                extra = _FIRST if extra == 0.0 else 10.0 * extra
            if failed >= 0:
                break
            jitter[t] = extra * variance
            D[t] = L[count * width + count]
            if latent and not D[t] > 0.0:
                D[t] = 0.0
            memcpy(back, L + count * width, count * sizeof(double))
            for j in range(count - 1, -1, -1):
                b = back[j] / L[j * width + j]
                weights[t, j] = b
                for i in range(j):
                    back[i] -= L[j * width + i] * b
            for j in range(count, k):
                weights[t, j] = 0.0
    return failed


def subtract(const double[:, ::1] values, const int64_t[:, ::1] neighbors, const double[:, ::1] weights,
             const double[::1] scale, double[:, ::1] out):
    """``out[t] = (out[t] - sum_j weights[t, j] values[neighbors[t, j]]) * scale[t]``, for each row of `out` (q, m).

    One thread's work, as `regress`.
    """
    cdef Py_ssize_t q = neighbors.shape[0], k = neighbors.shape[1], m = out.shape[1], t, j, a
    cdef const double *other
    cdef double *own
    cdef double b
    if m == 0:
        return
    with nogil:
        for t in range(q):
            own = &out[t, 0]
            for j in range(k):
                if neighbors[t, j] < 0:
                    break
                other, b = &values[neighbors[t, j], 0], weights[t, j]
                for a in range(m):
                    own[a] -= b * other[a]
            b = scale[t]
            for a in range(m):
                own[a] *= b


def unroll(const int64_t[::1] order, const int64_t[:, ::1] neighbors, const double[:, ::1] weights,
           double[:, ::1] values, const int32_t[::1] cancel):
    """``values[t] += sum_j weights[t, j] values[neighbors[t, j]]`` for rows t in `order`: what undoes `subtract`."""
    cdef Py_ssize_t k = neighbors.shape[1], m = values.shape[1], at, t, j, a
    cdef double b
    cdef const double *other
    cdef double *own
    if m == 0:
        return
    with nogil:
        for at in range(order.shape[0]):
            if cancel[0]:
                break
            t = order[at]
            own = &values[t, 0]
            for j in range(k):
                if neighbors[t, j] < 0:
                    break
                other, b = &values[neighbors[t, j], 0], weights[t, j]
                for a in range(m):
                    own[a] += b * other[a]
