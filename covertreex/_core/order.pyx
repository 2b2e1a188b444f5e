"""Leaf order: median splits of the widest axis, deterministic under ties."""

from libc.stdint cimport int64_t


cdef inline bint before(const double[:, ::1] coords, Py_ssize_t axis, int64_t a, int64_t b) noexcept nogil:
    if coords[a, axis] != coords[b, axis]:
        return coords[a, axis] < coords[b, axis]
    return a < b


cdef void select(const double[:, ::1] coords, Py_ssize_t axis, int64_t *part, Py_ssize_t size,
                 Py_ssize_t kth) noexcept nogil:
    """Hoare's quickselect: afterwards ``part[:kth]`` come before ``part[kth:]`` in (coordinate, index)."""
    cdef Py_ssize_t low = 0, high = size - 1, i, j
    cdef int64_t pivot, swap
    while low < high:
        pivot = part[low + (high - low) // 2]
        i = low
        j = high
        while i <= j:
            while before(coords, axis, part[i], pivot):
                i += 1
            while before(coords, axis, pivot, part[j]):
                j -= 1
            if i <= j:
                swap = part[i]
                part[i] = part[j]
                part[j] = swap
                i += 1
                j -= 1
        if kth <= j:
            high = j
        elif kth >= i:
            low = i
        else:
            return


cdef Py_ssize_t widest_axis(const double[:, ::1] coords, const int64_t *part, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t axis, best = 0, i
    cdef double low, high, value, extent = -1.0
    for axis in range(coords.shape[1]):
        low = high = coords[part[0], axis]
        for i in range(1, size):
            value = coords[part[i], axis]
            if value < low:
                low = value
            elif value > high:
                high = value
        if high - low > extent:
            extent = high - low
            best = axis
    return best


def split(const double[:, ::1] coords, int64_t[::1] order, Py_ssize_t leaf_size):
    """Permute `order` in place into leaf order; return the list of leaf sizes. See `covertreex.ordering.leaf_order`."""
    sizes = []
    stack = [(0, order.shape[0])]
    cdef Py_ssize_t start, stop, middle, axis
    while stack:
        start, stop = stack.pop()
        if stop - start <= leaf_size:
            order[start:stop] = sorted_copy(order[start:stop])
            sizes.append(stop - start)
            continue
        middle = start + (stop - start) // 2
        with nogil:
            axis = widest_axis(coords, &order[start], stop - start)
            select(coords, axis, &order[start], stop - start, middle - start)
        stack.append((middle, stop))
        stack.append((start, middle))
    return sizes


cdef int64_t[::1] sorted_copy(int64_t[::1] part):
    import numpy as np

    return np.sort(part)
