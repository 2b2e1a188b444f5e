from libc.stdint cimport int64_t

from covertreex._core.canonical cimport PayloadView, cx_query, cx_row_query


cdef class QueriesView:
    """A QueryBlock as kernels see it. Holds the arrays alive."""
    cdef PayloadView payload
    cdef const int64_t[::1] rows, exclude, limit, rank
    cdef const double[:, ::1] coords
    cdef const double[:, ::1] factors
    cdef const double[::1] p
    cdef bint prefix

    cdef inline cx_query query(self, Py_ssize_t q) noexcept nogil:
        cdef cx_query external
        cdef Py_ssize_t e = -1 - self.rows[q]
        if e < 0:
            return cx_row_query(&self.payload.c, self.rows[q])
        external.coords = &self.coords[e, 0]
        external.factors = &self.factors[e, 0] if self.payload.c.m > 0 else NULL
        external.p = self.p[e] if self.p.shape[0] > 0 else 1.0
        return external
