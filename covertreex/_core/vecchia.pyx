"""Regressions of points on their neighbours: rows of a Vecchia approximation (docs/vecchia.md).

Sums are those of canonical arithmetic, or go in a fixed order: no result depends on threads or blocks.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

import numpy as np

from covertreex._core.canonical cimport CovarianceView, cx_covariance, cx_dot16


cdef extern from "vecchia.h" nogil:
    ctypedef struct cx_set:
        Py_ssize_t count, d, m, width
        double variance
        double *columns
        const double **coords
        const double **factors
        double *noise
        double *K
        double *L
        double *column
    void cx_set_covariances(cx_set *s, const cx_covariance *c)
    double cx_set_factorize(cx_set *s, bint latent)
    void cx_set_solve_transposed(const cx_set *s, double *x)
    void cx_set_solve(const cx_set *s, double *x)
    void cx_weigh_rows(const double *weight, const double *const *rows, Py_ssize_t count, Py_ssize_t m, double *out)
    void cx_slopes(const cx_covariance *c, const double *x, const double *y, Py_ssize_t stride, Py_ssize_t count,
                   const double *g, double *out)


cdef class Sets:
    """Conditioning sets of points among rows, one at a time: who is regressed on whom, and the buffers of one thread.

    `coords`, `factors` and `noise` are those of rows, `neighbors` (q, k) names rows and ends in -1; `points` (q, d) and
    what goes with them are regressed.
    """

    cdef cx_set s
    cdef const double[:, ::1] coords, factors, points, point_factors
    cdef const double[::1] noise, point_noise
    cdef const int64_t[:, ::1] neighbors
    cdef double[::1] numbers
    cdef int64_t[::1] pointers

    def __init__(self, double variance, const double[:, ::1] coords, const double[:, ::1] factors,
                 const double[::1] noise, const int64_t[:, ::1] neighbors, const double[:, ::1] points,
                 const double[:, ::1] point_factors, const double[::1] point_noise):
        cdef Py_ssize_t most = neighbors.shape[1] + 1, d = coords.shape[1], width = (most + 7) // 4 * 4
        self.coords, self.factors, self.noise, self.neighbors = coords, factors, noise, neighbors
        self.points, self.point_factors, self.point_noise = points, point_factors, point_noise
        self.numbers = np.zeros((d + 2 * most + 2) * width)
        self.pointers = np.zeros(2 * width, dtype=np.int64)
        self.s.d, self.s.m, self.s.width, self.s.variance = d, factors.shape[1], width, variance
        self.s.columns = &self.numbers[0]
        self.s.K = self.s.columns + d * width
        self.s.L = self.s.K + most * width
        self.s.column = self.s.L + most * width
        self.s.noise = self.s.column + width
        self.s.coords = <const double **>&self.pointers[0]
        self.s.factors = self.s.coords + width

    cdef Py_ssize_t take(self, Py_ssize_t t) noexcept nogil:
        """The set of point t, and how many neighbours it has."""
        cdef Py_ssize_t i, a, row, count = 0
        while count < self.neighbors.shape[1] and self.neighbors[t, count] >= 0:
            row = self.neighbors[t, count]
            self.s.coords[count] = &self.coords[row, 0]
            self.s.noise[count] = self.noise[row]
            if self.s.m > 0:
                self.s.factors[count] = &self.factors[row, 0]
            count += 1
        self.s.coords[count] = &self.points[t, 0]
        self.s.noise[count] = self.point_noise[t]
        if self.s.m > 0:
            for i in range(count, count + 5):
                self.s.factors[i] = &self.point_factors[t, 0]
        self.s.count = count + 1
        for i in range(count + 1):
            for a in range(self.s.d):
                self.s.columns[a * self.s.width + i] = self.s.coords[i][a]
        return count

    cdef void leave(self, const double *weights, double *left) noexcept nogil:
        """The factors of the point that was taken, less those of its neighbours as often as `weights` says."""
        cdef Py_ssize_t j, count = self.s.count - 1
        for j in range(count):
            self.s.column[j] = -weights[j]
        memcpy(left, self.s.factors[count], self.s.m * sizeof(double))
        cx_weigh_rows(self.s.column, self.s.factors, count, self.s.m, left)


def regress(Sets sets, CovarianceView covariance, bint latent, double[:, ::1] weights, double[::1] D,
            double[::1] jitter, double[:, ::1] left, const int32_t[::1] cancel):
    """Regress each point on its neighbours, under residual covariance ``k(x, y) - v_x . v_y`` plus noise.

    Fills `weights` (q, k), residual variances `D` (q,), `jitter` (q,), that was added to a diagonal which would not
    factorize, and `left` (q, m), what is left of a point's factors when its neighbours' are regressed away. If
    `latent`, points get no jitter, and `D` may be 0.

    Returns the first point that no jitter helps, or -1. One thread's work; the caller owns all arrays and may give
    disjoint points to other threads.
    """
    cdef Py_ssize_t k = weights.shape[1], t, j, count, failed = -1
    cdef cx_set *s = &sets.s
    with nogil:
        for t in range(weights.shape[0]):
            if cancel[0]:
                break
            count = sets.take(t)
            cx_set_covariances(s, &covariance.c)
            jitter[t] = cx_set_factorize(s, latent)
            if jitter[t] < 0.0:
                failed = t
                break
            D[t] = s.L[count * s.width + count]
            if latent and not D[t] > 0.0:
                D[t] = 0.0
            if k > 0:
                memcpy(&weights[t, 0], s.L + count * s.width, count * sizeof(double))
                cx_set_solve_transposed(s, &weights[t, 0])
            for j in range(count, k):
                weights[t, j] = 0.0
            if s.m > 0:
                sets.leave(&weights[t, 0], &left[t, 0])
    return failed


def leave(Sets sets, const double[:, ::1] weights, double[:, ::1] left):
    """`left` of `regress`, (q, m), from the weights that it found. One thread's work, as `regress`."""
    cdef Py_ssize_t t
    if sets.s.m == 0:
        return
    with nogil:
        for t in range(left.shape[0]):
            sets.take(t)
            sets.leave(&weights[t, 0], &left[t, 0])


def adjoint(Sets sets, CovarianceView covariance, CovarianceView tables, const double[:, ::1] weights,
            const double[::1] values, const double[::1] by_variance, const double[::1] by_value,
            double[:, ::1] by_left, double[:, ::1] outer, double[::1] by_noise, double[:, ::1] slopes,
            const int32_t[::1] cancel):
    """How a function of all regressions changes with what they were made from: the way back through `regress`.

    Given is how the function changes with each residual variance, `by_variance` (q,), with what is left of each of the
    rows' `values`, `by_value` (q,), and of their factors, `by_left` (q, m). With w the weights of a set, 1 at the point
    itself and minus `weights` at its neighbours, it changes by ``q' dC w`` with the set's covariances C; q goes to
    `outer` (q, k + 1), in the order of the neighbours, the point itself last. `by_noise` (q,) gets ``q . w``: how it
    changes with a noise that all have. `by_left` is replaced by what is to be multiplied by w, when `left` is by -q,
    for how it changes with factors. To `slopes` (numbers, 4) what `cx_slopes` says of `tables` is added.

    One thread's work, as `regress`.
    """
    cdef Py_ssize_t k = weights.shape[1], m = sets.s.m, t, j, a, count
    cdef cx_set *s = &sets.s
    cdef double[::1] buffer = np.zeros(2 * s.width)
    cdef double *w = &buffer[0]
    cdef double *g = w + s.width
    cdef double *q
    with nogil:
        for t in range(weights.shape[0]):
            if cancel[0]:
                break
            count = sets.take(t)
            cx_set_covariances(s, &covariance.c)
            cx_set_factorize(s, False)
            q = &outer[t, 0]
            for j in range(count):
                w[j] = -weights[t, j]
                q[j] = -by_value[t] * values[sets.neighbors[t, j]]
                if m > 0:
                    q[j] -= cx_dot16(&by_left[t, 0], s.factors[j], m)
            w[count] = 1.0
            cx_set_solve(s, q)
            cx_set_solve_transposed(s, q)
            q[count] = by_variance[t]
            by_noise[t] = q[count]
            for j in range(count):
                q[j] += by_variance[t] * w[j]
                by_noise[t] += q[j] * w[j]
            if m > 0:
                for j in range(count + 1):
                    g[j] = -q[j]
                cx_weigh_rows(g, s.factors, count + 1, m, &by_left[t, 0])
            # Each pair twice, and each point with itself once.
            for j in range(count + 1):
                for a in range(j):
                    g[a] = q[j] * w[a] + w[j] * q[a]
                g[j] = q[j] * w[j]
                cx_slopes(&tables.c, s.coords[j], s.columns, s.width, j + 1, g, &slopes[0, 0])
            if count < k:
                q[k] = q[count]
                for j in range(count, k):
                    q[j] = 0.0


def slopes(CovarianceView tables, const double[:, ::1] points, const double[:, ::1] others,
           const double[:, ::1] G, double[:, ::1] out):
    """How ``sum G[i, j] k(points[i], others[:, j])`` changes, added to `out` as `cx_slopes` says. One thread's work."""
    cdef Py_ssize_t i
    if points.shape[0] == 0 or others.shape[1] == 0:
        return
    with nogil:
        for i in range(points.shape[0]):
            cx_slopes(&tables.c, &points[i, 0], &others[0, 0], others.shape[1], others.shape[1], &G[i, 0], &out[0, 0])


def gather(const int64_t[::1] start, const int64_t[::1] sets, const double[::1] w, const double[::1] q,
           const double[:, ::1] P, const double[:, ::1] W, double[:, ::1] out):
    """``out[r] = sum_i w[i] P[sets[i]] - q[i] W[sets[i]]``, i from ``start[r]`` to ``start[r + 1]``.

    `start` has one more than `out` (rows, m); m is a multiple of 16. One thread's work, as `regress`.
    """
    cdef Py_ssize_t r, i, m = P.shape[1], most = 0
    for r in range(out.shape[0]):
        most = max(most, start[r + 1] - start[r])
    if m == 0 or most == 0:
        return
    cdef double[::1] weight_array = np.empty(2 * most)
    cdef int64_t[::1] rows_array = np.empty(2 * most, dtype=np.int64)
    cdef double *weight = &weight_array[0]
    cdef const double **rows = <const double **>&rows_array[0]
    with nogil:
        memset(&out[0, 0], 0, out.shape[0] * m * sizeof(double))
        for r in range(out.shape[0]):
            for i in range(start[r], start[r + 1]):
                weight[2 * (i - start[r])], weight[2 * (i - start[r]) + 1] = w[i], -q[i]
                rows[2 * (i - start[r])], rows[2 * (i - start[r]) + 1] = &P[sets[i], 0], &W[sets[i], 0]
            cx_weigh_rows(weight, rows, 2 * (start[r + 1] - start[r]), m, &out[r, 0])


def subtract(const double[:, ::1] values, const int64_t[:, ::1] neighbors, const double[:, ::1] weights,
             double[:, ::1] out):
    """``out[t] -= sum_j weights[t, j] values[neighbors[t, j]]``, for each row of `out` (q, c).

    One thread's work, as `regress`.
    """
    cdef Py_ssize_t q = neighbors.shape[0], k = neighbors.shape[1], c = out.shape[1], t, j, a
    with nogil:
        for t in range(q):
            for j in range(k):
                if neighbors[t, j] < 0:
                    break
                for a in range(c):
                    out[t, a] -= weights[t, j] * values[neighbors[t, j], a]


def unroll(const int64_t[::1] order, const int64_t[:, ::1] neighbors, const double[:, ::1] weights,
           double[:, ::1] values, const int32_t[::1] cancel):
    """``values[t] += sum_j weights[t, j] values[neighbors[t, j]]`` for rows t in `order`: what undoes `subtract`."""
    cdef Py_ssize_t k = neighbors.shape[1], c = values.shape[1], at, t, j, a
    with nogil:
        for at in range(order.shape[0]):
            if cancel[0]:
                break
            t = order[at]
            for j in range(k):
                if neighbors[t, j] < 0:
                    break
                for a in range(c):
                    values[t, a] += weights[t, j] * values[neighbors[t, j], a]
