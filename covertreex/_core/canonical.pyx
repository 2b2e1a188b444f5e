"""Canonical arithmetic (docs/mathematics.md, A1 to A5), seen from Python; kernels use canonical.h directly."""

import numpy as np


cdef class PayloadView:
    def __init__(self, payload):
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
