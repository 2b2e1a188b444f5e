"""What tables of correlations are made of where NumPy would be too slow or too coarse."""

import numpy as np

cdef extern from "matern.h" nogil:
    ctypedef struct cx_matern:
        pass
    void cx_matern_prepare(cx_matern *m, double nu)
    double cx_matern_value(const cx_matern *m, double t)


def matern(double nu, const double[::1] t):
    """The Matern correlation of smoothness `nu`, from 0.01 to 1000, at squared scaled distances `t` > 0."""
    cdef Py_ssize_t i
    cdef double[::1] out = np.empty(t.shape[0])
    cdef cx_matern m
    with nogil:
        cx_matern_prepare(&m, nu)
        for i in range(t.shape[0]):
            out[i] = cx_matern_value(&m, t[i])
    return np.asarray(out)
