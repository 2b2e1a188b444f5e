"""Orders of points: the leaf order that payload rows are kept in."""

import numpy as np

from covertreex.errors import InvalidInputError


def leaf_order(coords, leaf_size=32):
    """Order points so that neighbours in space are neighbours in memory, by splitting at medians of the widest axis.

    Parameters
    ----------
    coords : ndarray, shape (n, d), float64
        Coordinates in the units in which distances are meant (divided by the lengthscale).
    leaf_size : int
        Parts of at most this many points are not split further.

    Returns
    -------
    order : ndarray, shape (n,), int64
        Dataset index of each place; ascending within a leaf. Ties of coordinates are split by dataset index, so the
        order depends on nothing but the arguments.
    leaf_ptr : ndarray, shape (leaves + 1,), int64
        Leaf ``i`` is ``order[leaf_ptr[i]:leaf_ptr[i + 1]]``.

    Raises
    ------
    InvalidInputError
        If `leaf_size` is below 1.

    Examples
    --------
    >>> order, leaf_ptr = leaf_order(np.array([[3.0], [1.0], [2.0], [0.0]]), leaf_size=2)
    >>> order.tolist(), leaf_ptr.tolist()
    ([1, 3, 0, 2], [0, 2, 4])
    """
    from covertreex._core import order as core

    if leaf_size < 1:
        raise InvalidInputError(f"leaf_size must be at least 1, got {leaf_size}.")
    coords = np.ascontiguousarray(coords, dtype=np.float64)
    order = np.arange(len(coords), dtype=np.int64)
    sizes = core.split(coords, order, leaf_size)
    return order, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
