"""Memory of the core. What cannot be had is a MemoryError, and what there was before is still there and still owned.

The size of an item comes from the caller, and the pointer is returned instead of set: a pointer to a pointer would have
to be cast, which C does not allow.
"""

from libc.stdlib cimport calloc, realloc


cdef inline void *zeroed(Py_ssize_t count, size_t item) except NULL nogil:
    """Room for `count` items, all zero: pointers in it may be freed at once."""
    cdef void *at = calloc(max(count, <Py_ssize_t>1), item)
    if at == NULL:
        with gil:
            raise MemoryError()
    return at


cdef inline void *grown(void *at, Py_ssize_t *capacity, Py_ssize_t needed, size_t item) except NULL nogil:
    """`at` with room for twice the items `needed`, and at least 64, where `capacity` is too little."""
    cdef void *larger = NULL
    cdef size_t count = max(2 * <size_t>needed, <size_t>64)
    if needed <= capacity[0] and at != NULL:
        return at
    if count <= (<size_t>-1) // 2 // item:
        larger = realloc(at, count * item)
    if larger == NULL:
        with gil:
            raise MemoryError()
    capacity[0] = <Py_ssize_t>count
    return larger
