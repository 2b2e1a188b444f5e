from libc.stdint cimport int64_t

from covertreex._core.canonical cimport cx_nearness

cdef extern from "heaps.h" nogil:
    ctypedef struct cx_neighbor:
        cx_nearness at
        int64_t index
    bint cx_farther(const cx_neighbor *a, const cx_neighbor *b)
    void cx_neighbors_push(cx_neighbor *heap, Py_ssize_t size, cx_neighbor item)
    void cx_neighbors_replace_top(cx_neighbor *heap, Py_ssize_t size, cx_neighbor item)

    ctypedef struct cx_frontier_node:
        double bound
        int64_t sequence
        int64_t node
        double distance
    void cx_frontier_push(cx_frontier_node *heap, Py_ssize_t size, cx_frontier_node item)
    void cx_frontier_replace_top(cx_frontier_node *heap, Py_ssize_t size, cx_frontier_node item)

    void cx_least_push(double *heap, Py_ssize_t size, double item)
    void cx_least_replace_top(double *heap, Py_ssize_t size, double item)
