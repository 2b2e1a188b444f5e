"""The leaf order: points that are neighbours in space become neighbours in memory."""

from functools import partial

import numpy as np

import covertreex._core.order as core
from covertreex.base import parallel, tuning
from covertreex.base.types import FloatArray, IntArray
from covertreex.errors import InvalidInputError


def leaf_order(
    coords: FloatArray, leaf_size: int = 32, full: bool = False, n_threads: int = 1, inner: int | None = None
) -> tuple[IntArray, IntArray]:
    """Order points so that neighbours in space are neighbours in memory, by splitting at medians of the widest axis.

    Parameters
    ----------
    coords : ndarray, shape (n, d), float64
        Coordinates in the units in which distances are meant (divided by the lengthscale).
    leaf_size : int
        Parts of at most this many points are not split further.
    full : bool
        Split near the median, so that all leaves but the last have `leaf_size` points.
    n_threads : int
        The order does not depend on it.
    inner : int, optional
        Leaves are in leaf order themselves, down to parts of at most so many points.

    Returns
    -------
    order : ndarray, shape (n,), int64
        Dataset index of each place; ascending within a leaf, or a part of one. Ties of coordinates are split by dataset
        index, so the order depends on nothing but the arguments.
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
    if leaf_size < 1:
        raise InvalidInputError(f"leaf_size must be at least 1, got {leaf_size}.")
    coords = np.ascontiguousarray(coords, dtype=np.float64)
    order = np.arange(len(coords), dtype=np.int64)
    parts = [order]
    while len(parts) < n_threads and min(map(len, parts)) > max(leaf_size, tuning.LEAF_THREAD):
        cuts = parallel.run([partial(core.cut, coords, part, leaf_size, full) for part in parts], n_threads)
        parts = [half for part, cut in zip(parts, cuts, strict=True) for half in (part[:cut], part[cut:])]
    splits = [partial(core.split, coords, part, leaf_size, full, inner or leaf_size) for part in parts]
    parallel.run(splits, n_threads, brief=len(order) <= tuning.LEAF_BRIEF)
    return order, _leaf_ptr(len(coords), leaf_size, full)


def _leaf_ptr(n: int, leaf_size: int, full: bool) -> IntArray:
    """Where leaves begin: halves of halves, until none is larger than a leaf."""
    if full:
        return np.append(np.arange(0, n, leaf_size), n)
    edges = np.unique([0, n])
    while np.diff(edges).max(initial=0) > leaf_size:
        sizes = np.diff(edges)
        large = sizes > leaf_size
        edges = np.sort(np.concatenate([edges, edges[:-1][large] + sizes[large] // 2]))
    return edges
