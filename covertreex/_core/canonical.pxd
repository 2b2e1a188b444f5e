from libc.stdint cimport int64_t

cdef extern from "canonical.h" nogil:
    const char *CX_CLONES_NAME
    ctypedef struct cx_expression:
        Py_ssize_t groups, terms
        const int64_t *group_stop
        const int64_t *term_stop
        const double *weight
        const int64_t *factor_group
        const int64_t *factor_table
        const int64_t *rescale_group
        const int64_t *rescale_table
        const int64_t *table_first
        const int64_t *table_stop
        const double *pieces
        const float *pieces32
    ctypedef struct cx_covariance:
        int kernel
        double variance
        double alpha
        cx_expression expression
    ctypedef struct cx_payload:
        int metric
        cx_covariance covariance
        double slack_abs
        double slack_rel
        Py_ssize_t n
        Py_ssize_t d
        Py_ssize_t m
        const double *coords
        const double *factors
        const double *p
        const int64_t *index
    ctypedef struct cx_query:
        const double *coords
        const double *factors
        double p
    double cx_exp_neg(double x)
    double cx_log(double x)
    double cx_kernel(int kernel, double variance, double alpha, double r2)
    double cx_covariance_of(const cx_covariance *c, const double *a, const double *b, double r2)
    void cx_covariance_many(const cx_covariance *c, const double *x, const double *coords, Py_ssize_t d,
                            Py_ssize_t stride, Py_ssize_t count, double *out)
    double cx_sqdist(const double *a, const double *b, Py_ssize_t d)
    double cx_dot16(const double *a, const double *b, Py_ssize_t m)
    void cx_dot16_many(const double *row, const double *const *q, Py_ssize_t nq, Py_ssize_t m, double *out)
    void cx_dot16_block(const double *const *rows, Py_ssize_t nrows, const double *const *queries, Py_ssize_t nqueries,
                        Py_ssize_t m, double *out, Py_ssize_t stride)
    ctypedef struct cx_nearness:
        double distance
        double rho
        double r2
    cx_nearness CX_ITSELF_VALUE "((cx_nearness)CX_ITSELF)"
    ctypedef struct cx_many:
        double *distance
        double *rho
        double *r2
    cx_nearness cx_one_of(const cx_many *many, Py_ssize_t i)
    void cx_nearness_many(const cx_payload *payload, const double *x, double p_x, const double *coords,
                          Py_ssize_t stride, const double *p, const double *dots, Py_ssize_t count, const cx_many *out)
    cx_nearness cx_nearness_given_dot(const cx_payload *payload, const cx_query *q, Py_ssize_t row, double dot)
    double cx_distance(const cx_payload *payload, const cx_query *q, Py_ssize_t row)
    double cx_distance_given_dot(const cx_payload *payload, const cx_query *q, Py_ssize_t row, double dot)
    cx_query cx_row_query(const cx_payload *payload, Py_ssize_t row)
    double cx_lower(const cx_payload *payload, double d)
    double cx_upper(const cx_payload *payload, double d)
    double cx_bound(const cx_payload *payload, double far, double near)
    void cx_dot16_ahead(const double *row, const double *const *q, Py_ssize_t nq, Py_ssize_t known, Py_ssize_t m,
                        double *out)
    void cx_prefetch(const cx_payload *payload, Py_ssize_t next)


cdef class CovarianceView:
    """A kernel as compiled code sees it. Holds the arrays alive; `c` borrows them. Read-only: threads may share it."""
    cdef cx_covariance c
    cdef list held


cdef class PayloadView:
    """A PayloadStore as kernels see it. Holds the arrays alive; `c` borrows them."""
    cdef cx_payload c
    cdef CovarianceView covariance
    cdef const double[:, ::1] coords
    cdef const double[:, ::1] factors
    cdef const double[::1] p
    cdef const int64_t[::1] index
