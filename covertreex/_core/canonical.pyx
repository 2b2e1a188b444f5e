"""Canonical arithmetic (docs/mathematics.md, A1 to A5), seen from Python; kernels use canonical.h directly."""

import functools
import json

import numpy as np

from covertreex.base.contract import check_codes, check_kernel

from covertreex._core.contract cimport CX_CONTRACT

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


cdef class PayloadView:
    def __init__(self, payload):
        check_codes(payload.metric, payload.kernel_code)
        self.coords = payload.coords
        self.factors = payload.factors
        self.p = payload.p
        self.index = payload.index
        self.c.metric = payload.metric
        self.c.kernel = payload.kernel_code
        self.c.variance = payload.variance
        self.c.alpha = payload.alpha
        self.c.slack_abs = payload.slack_abs
        self.c.slack_rel = payload.slack_rel
        self.c.n = self.coords.shape[0]
        self.c.d = self.coords.shape[1]
        self.c.m = self.factors.shape[1]
        self.c.coords = &self.coords[0, 0]
        self.c.factors = &self.factors[0, 0] if self.c.m > 0 else NULL
        self.c.p = &self.p[0] if self.p.shape[0] > 0 else NULL
        self.c.index = &self.index[0]


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
    check_kernel(code)
    for i in range(r2.shape[0]):
        out[i] = cx_kernel(code, variance, alpha, r2[i])
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
