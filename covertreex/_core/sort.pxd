from libc.stdint cimport int64_t

cdef extern from "sort.h" nogil:
    const int RUN "CX_RUN"
    void cx_sort(double *keys, int64_t *rows, Py_ssize_t count, double *spare_keys, int64_t *spare_rows)
    double cx_select(double *values, Py_ssize_t count, Py_ssize_t kth)
