"""Leaf order: splits near the median of the widest axis, deterministic under ties."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, qsort

from covertreex._core.memory cimport zeroed

cdef enum:
    SHORT = 64


cdef struct Key:
    double at  # coordinate along the axis
    int64_t index


cdef inline bint before(Key a, Key b) noexcept nogil:
    return (a.at < b.at) | ((a.at == b.at) & (a.index < b.index))


cdef inline Key middle_of(Key a, Key b, Key c) noexcept nogil:
    if before(b, a):
        a, b = b, a
    if before(c, a):
        return a
    return c if before(c, b) else b


cdef void select(Key *keys, Py_ssize_t size, Py_ssize_t kth) noexcept nogil:
    """Quickselect: afterwards ``keys[:kth]`` come before ``keys[kth:]``. Keys differ, for indices do."""
    cdef Py_ssize_t i, under
    cdef Key pivot, key
    while size > 1:
        pivot = middle_of(keys[0], keys[size // 2], keys[size - 1])
        under = 0
        for i in range(size):  # no branches: which side is a coin's toss
            key = keys[i]
            keys[i] = keys[under]
            keys[under] = key
            under += before(key, pivot)
        if kth < under:
            size = under
        elif under > 0:
            keys += under
            size -= under
            kth -= under
        elif kth == 0:
            return
        else:  # the pivot is the least of all: put it first and leave it there
            for i in range(size):
                if not before(pivot, keys[i]):
                    keys[0], keys[i] = keys[i], keys[0]
            keys += 1
            size -= 1
            kth -= 1


cdef Py_ssize_t widest_axis(const double[:, ::1] coords, const int64_t *part, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t axis, best = 0, i
    cdef double low, high, value, extent = -1.0
    for axis in range(coords.shape[1]):
        low = high = coords[part[0], axis]
        for i in range(1, size):
            value = coords[part[i], axis]
            low = min(low, value)
            high = max(high, value)
        if high - low > extent:
            extent = high - low
            best = axis
    return best


cdef inline Py_ssize_t half(Py_ssize_t size, Py_ssize_t leaf_size, bint full) noexcept nogil:
    """Where a part is split: in its middle, or near it so that all leaves but the last are `full`."""
    return leaf_size * (((size + leaf_size - 1) // leaf_size + 1) // 2) if full else size // 2


cdef void halve(const double[:, ::1] coords, int64_t *part, Py_ssize_t size, Py_ssize_t middle,
                Key *keys) noexcept nogil:
    cdef Py_ssize_t i, axis = widest_axis(coords, part, size)
    for i in range(size):
        keys[i].at = coords[part[i], axis]
        keys[i].index = part[i]
    select(keys, size, middle)
    for i in range(size):
        part[i] = keys[i].index


cdef int compare(const void *a, const void *b) noexcept nogil:
    cdef int64_t one = (<const int64_t *>a)[0], other = (<const int64_t *>b)[0]
    return (one > other) - (one < other)


cdef void sort(int64_t *part, Py_ssize_t size) noexcept nogil:
    """By insertion: a leaf is short."""
    cdef Py_ssize_t i, here
    cdef int64_t item
    if size > SHORT:
        qsort(part, size, sizeof(int64_t), compare)
        return
    for i in range(1, size):
        item = part[i]
        here = i
        while here > 0 and part[here - 1] > item:
            part[here] = part[here - 1]
            here -= 1
        part[here] = item


cdef void order_part(const double[:, ::1] coords, int64_t *part, Py_ssize_t size, Py_ssize_t leaf_size, bint full,
                     Py_ssize_t inner, Key *keys) noexcept nogil:
    if size <= leaf_size and size > inner:
        leaf_size = inner
    if size <= leaf_size:
        sort(part, size)
        return
    cdef Py_ssize_t middle = half(size, leaf_size, full)
    halve(coords, part, size, middle, keys)
    order_part(coords, part, middle, leaf_size, full, inner, keys)
    order_part(coords, part + middle, size - middle, leaf_size, full, inner, keys)


def cut(const double[:, ::1] coords, int64_t[::1] order, Py_ssize_t leaf_size, bint full):
    """The first step of `split`: permute `order` in place, and return where it is cut. Releases the GIL."""
    cdef Py_ssize_t middle = half(order.shape[0], leaf_size, full)
    cdef Key *keys = <Key *>zeroed(order.shape[0], sizeof(Key))
    with nogil:
        halve(coords, &order[0], order.shape[0], middle, keys)
    free(keys)
    return middle


def split(const double[:, ::1] coords, int64_t[::1] order, Py_ssize_t leaf_size, bint full, Py_ssize_t inner):
    """Permute `order` in place into leaf order. See `covertreex.ordering.leaf_order`. Releases the GIL."""
    cdef Key *keys
    if order.shape[0] == 0:
        return
    keys = <Key *>zeroed(order.shape[0], sizeof(Key))
    with nogil:
        order_part(coords, &order[0], order.shape[0], leaf_size, full, inner, keys)
    free(keys)
