"""Canonical arithmetic (docs/mathematics.md, A1 to A5), seen from Python; kernels use canonical.h directly."""

import functools
import json

import numpy as np

from covertreex.base.contract import check_codes, check_kernel

from covertreex._core.contract cimport CX_CONTRACT, CX_EXPRESSION, CX_NO_KERNEL

cdef extern from "fenv.h" nogil:
    ctypedef struct fenv_t:
        pass
    int fegetenv(fenv_t *env)
    int fesetenv(const fenv_t *env)
    const fenv_t *FE_DFL_ENV


cdef class StandardArithmetic:
    """Round to nearest and keep numbers near zero, whatever another library has set, while a ``with`` block runs.

    Libraries built with -ffast-math make the processor flush such numbers to zero for the whole thread. Threads that
    are started inside the block do as it does (A9).
    """

    cdef fenv_t before

    def __enter__(self):
        fegetenv(&self.before)
        fesetenv(FE_DFL_ENV)
        return self

    def __exit__(self, *error):
        fesetenv(&self.before)


def standard_arithmetic(function):
    """A decorator: `function` computes under `StandardArithmetic`."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with StandardArithmetic():
            return function(*args, **kwargs)

    return wrapper


cdef const void *address(array, list held) except NULL:
    """Where the numbers of an array that is not empty lie; `held` keeps it alive."""
    held.append(array)
    return <const void *><size_t>array.ctypes.data


cdef class CovarianceView:
    def __init__(self, kernel, Py_ssize_t columns):
        """Of a `covertreex.kernels.Kernel`, or None, and this many scaled coordinates."""
        self.held = []
        self.c.kernel, self.c.variance, self.c.alpha = CX_NO_KERNEL, 1.0, 1.0
        if kernel is None:
            return
        self.c.kernel, self.c.variance, self.c.alpha = check_kernel(kernel.code), kernel.variance, kernel.alpha
        expression = kernel.expression_for(columns)
        if expression is None:
            return
        cdef cx_expression *e = &self.c.expression
        e.groups, e.terms = len(expression.group_stop), len(expression.term_stop)
        e.group_stop = <const int64_t *>address(expression.group_stop, self.held)
        e.term_stop = <const int64_t *>address(expression.term_stop, self.held)
        e.weight = <const double *>address(expression.weight, self.held)
        e.factor_group = <const int64_t *>address(expression.factor_group, self.held)
        e.factor_table = <const int64_t *>address(expression.factor_table, self.held)
        e.rescale_group = <const int64_t *>address(expression.rescale_group, self.held)
        e.rescale_table = <const int64_t *>address(expression.rescale_table, self.held)
        e.table_first = <const int64_t *>address(expression.table_first, self.held)
        e.table_stop = <const int64_t *>address(expression.table_stop, self.held)
        e.pieces = <const double *>address(expression.pieces, self.held)
        e.pieces32 = <const float *>address(expression.single[0], self.held)


cdef class PayloadView:
    def __init__(self, payload):
        check_codes(payload.metric, payload.kernel_code)
        self.coords = payload.coords
        self.factors = payload.factors
        self.p = payload.p
        self.index = payload.index
        self.covariance = CovarianceView(payload.kernel, self.coords.shape[1])
        self.c.metric = payload.metric
        self.c.covariance = self.covariance.c
        self.c.slack_abs = payload.slack_abs
        self.c.slack_rel = payload.slack_rel
        self.c.n = self.coords.shape[0]
        self.c.d = self.coords.shape[1]
        self.c.m = self.factors.shape[1]
        self.c.coords = &self.coords[0, 0]
        self.c.factors = &self.factors[0, 0] if self.c.m > 0 else NULL
        self.c.p = &self.p[0] if self.p.shape[0] > 0 else NULL
        self.c.index = &self.index[0]


def view_of(payload):
    """The `PayloadView` of a payload, which keeps it, for all threads: whoever changes one has to make its own."""
    return payload.kept.get("view", lambda: PayloadView(payload))


def built_with():
    """What the compiled parts hold `covertreex.base.contract.CONTRACT` to be: what it was when they were built."""
    return json.loads(CX_CONTRACT)


def features():
    """Names of the instruction sets that the kernels were compiled for; the processor picks one at run time."""
    return CX_CLONES_NAME.decode()


def exp_neg(const double[::1] x):
    """A2 for each element of `x`, float64, all <= 0."""
    cdef Py_ssize_t i
    cdef double[::1] out = np.empty(x.shape[0])
    for i in range(x.shape[0]):
        out[i] = cx_exp_neg(x[i])
    return np.asarray(out)


def log(const double[::1] x):
    """A3 for each element of `x`, float64, all >= 1."""
    cdef Py_ssize_t i
    cdef double[::1] out = np.empty(x.shape[0])
    for i in range(x.shape[0]):
        out[i] = cx_log(x[i])
    return np.asarray(out)


def kernel_values(int code, double variance, double alpha, const double[::1] r2):
    """A4 for each element of `r2`, float64; a ValueError if no kernel has this code."""
    cdef Py_ssize_t i
    cdef double[::1] out = np.empty(r2.shape[0])
    if check_kernel(code) == CX_EXPRESSION:
        raise ValueError("a kernel by tables needs points, not distances; see `covariances`.")
    for i in range(r2.shape[0]):
        out[i] = cx_kernel(code, variance, alpha, r2[i])
    return np.asarray(out)


def covariances(CovarianceView covariance, const double[:, ::1] A, const double[:, ::1] B):
    """A4, A10 for scaled coordinates `A` (a, d) and `B` (b, d): float64, shape (a, b)."""
    cdef Py_ssize_t i, b = B.shape[0]
    cdef double[:, ::1] out = np.empty((A.shape[0], B.shape[0]))
    if B.shape[0] == 0 or A.shape[0] == 0:
        return np.asarray(out)
    # By columns, for many at once.
    cdef const double[:, ::1] columns = np.ascontiguousarray(np.asarray(B).T)
    with nogil:
        for i in range(A.shape[0]):
            cx_covariance_many(&covariance.c, &A[i, 0], &columns[0, 0], A.shape[1], b, b, &out[i, 0])
    return np.asarray(out)


def dots(const double[:, ::1] A, const double[:, ::1] B):
    """A1 for rows `A` (a, m) and `B` (b, m), m a multiple of 16: float64, shape (a, b)."""
    cdef Py_ssize_t i, j
    cdef double[:, ::1] out = np.empty((A.shape[0], B.shape[0]))
    with nogil:
        for i in range(A.shape[0]):
            for j in range(B.shape[0]):
                out[i, j] = cx_dot16(&A[i, 0], &B[j, 0], A.shape[1])
    return np.asarray(out)


def distances(payload, const int64_t[::1] a, const int64_t[::1] b):
    """A5: distances between rows ``a[i]`` and ``b[i]`` of a payload, float64."""
    cdef PayloadView view = PayloadView(payload)
    cdef double[::1] out = np.empty(a.shape[0])
    cdef Py_ssize_t i
    cdef cx_query q
    with nogil:
        for i in range(a.shape[0]):
            q = cx_row_query(&view.c, a[i])
            out[i] = 0.0 if a[i] == b[i] else cx_distance(&view.c, &q, b[i])
    return np.asarray(out)
