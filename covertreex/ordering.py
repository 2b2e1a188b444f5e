"""Orders of points that Vecchia approximations condition in, and the leaf order that payload rows are kept in.

Conventions, the same for every order here. `order` is an int64 permutation of the dataset indices: ``order[i]`` is the
point that comes i-th, so ``X[order]`` are the points in their order, and ``y[order]`` what goes with them. The place of
each point is ``rank = np.argsort(order)``. Neighbours found in ordered data are rows of ``X[order]``; as rows of X they
are ``np.where(idx >= 0, order[idx], -1)``, and row ``rank[j]`` of that is the answer for point j. Equal points and
other ties come by dataset index.

>>> X = np.array([[0.0], [10.0], [4.0]])
>>> order = maximin(X)
>>> X[order].ravel().tolist()
[4.0, 10.0, 0.0]
"""

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covertreex._core.maximin import Traversal
from covertreex.base import tuning
from covertreex.base.progress import Progress
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import check_points
from covertreex.covertree import CoverTree, cover_tree
from covertreex.data.changes import without_dead
from covertreex.data.leaf_order import leaf_order
from covertreex.data.questions import check_living, dataset_indices, places_of
from covertreex.errors import InvalidInputError

__all__ = ["coordinate", "hilbert", "leaf_order", "maximin", "random", "reverse_maximin"]


@overload
def maximin(
    X: ArrayLike | CoverTree, *, start: int | None = None, return_distances: Literal[False] = False
) -> IntArray: ...
@overload
def maximin(
    X: ArrayLike | CoverTree, *, start: int | None = None, return_distances: Literal[True]
) -> tuple[IntArray, FloatArray]: ...
@overload
def maximin(
    X: ArrayLike | CoverTree, *, start: int | None = None, return_distances: bool
) -> IntArray | tuple[IntArray, FloatArray]: ...
def maximin(
    X: ArrayLike | CoverTree, *, start: int | None = None, return_distances: bool = False
) -> IntArray | tuple[IntArray, FloatArray]:
    """Maximin order: each point is the one farthest from all before it.

    Exact, ties by dataset index: a farthest-point traversal in which a chosen point updates its surroundings alone,
    found by walking the cover tree. About ``c n log n`` distances, c growing with the dimension of the data; where most
    points are at nearly the same distance from each other (many dimensions; a correlation that is 0 for most pairs) no
    tree helps, and it takes ``n**2 / 2``.

    Sources: Guinness, *Permutation and grouping methods for sharpening Gaussian process approximations* (2018);
    Schäfer, Katzfuss and Owhadi, *Sparse Cholesky factorization by Kullback-Leibler minimization* (2021), for the order
    and its distances; Kang and Katzfuss, *Correlation-based sparse inverse Cholesky factorization for fast
    Gaussian-process inference* (2023), for the same under a correlation.

    Parameters
    ----------
    X : array_like, shape (n, d), or CoverTree
        Points, compared by Euclidean distance (divide by the lengthscales before); or a tree, whose own metric is used.
    start : int, optional
        The first point; by default the one nearest to the mean in Euclidean distance, as in GPvecchia (of a tree with a
        kernel: with coordinates divided by the lengthscale).
    return_distances : bool
        Whether to return the distances as well.

    Returns
    -------
    order : ndarray, shape (n,), int64
        See the conventions of `covertreex.ordering`.
    distances : ndarray, shape (n,), float64
        Only if `return_distances`. Distance of each point in the order from the nearest one before it: inf, then never
        increasing.

    Raises
    ------
    InvalidInputError
        If the points cannot be used, or `start` is not a row.

    Examples
    --------
    >>> order, distances = maximin([[0.0], [1.0], [2.0], [9.0]], start=1, return_distances=True)
    >>> order.tolist(), distances.tolist()
    ([1, 3, 0, 2], [inf, 8.0, 1.0, 1.0])
    """
    state = without_dead((X if isinstance(X, CoverTree) else cover_tree(X))._state)
    payload, n = state.payload, len(state)
    if start is None:
        start = _central(payload.coords[payload.row])
    elif isinstance(start, bool) or not isinstance(start, (int, np.integer)) or not 0 <= start < len(state.X):
        raise InvalidInputError(f"start must be a row from 0 to {len(state.X) - 1}, got {start!r}.")
    else:
        start = places_of(state, check_living(state, np.array([start]), "start"))[0]
    traversal = Traversal(payload, state.tree, payload.row[start])
    with Progress("maximin order", n) as progress:
        while progress.done < n:
            progress.advance(traversal.advance(tuning.MAXIMIN_BUDGET) - progress.done)
    order, distances = traversal.result()
    order = dataset_indices(state, order)
    return (order, distances) if return_distances else order


def _central(coords: FloatArray) -> int:
    """Index of the point nearest to the mean; the first of several."""
    return int(np.argmin(np.sum((coords - coords.mean(axis=0)) ** 2, axis=1)))


def reverse_maximin(X: ArrayLike | CoverTree, *, start: int | None = None) -> IntArray:
    """The maximin order backwards: crowded points first, the outline of the data last.

    Source: Schäfer, Sullivan and Owhadi, *Compression, inversion, and approximate PCA of dense kernel matrices at
    near-linear computational complexity* (2021).

    Parameters
    ----------
    X, start
        As for `maximin`; `start` comes last.

    Returns
    -------
    ndarray, shape (n,), int64
        See the conventions of `covertreex.ordering`.

    Raises
    ------
    InvalidInputError
        As for `maximin`.

    Examples
    --------
    >>> reverse_maximin([[0.0], [1.0], [2.0], [9.0]], start=1).tolist()
    [2, 0, 3, 1]
    """
    return np.ascontiguousarray(maximin(X, start=start)[::-1])


def coordinate(X: ArrayLike, axis: int | None = 0) -> IntArray:
    """Order by one coordinate, or by the sum of all.

    Sources: Datta, Banerjee, Finley and Gelfand, *Hierarchical nearest-neighbor Gaussian process models for large
    geostatistical datasets* (2016), for one coordinate (spNNGP); GpGp's ``order_coordinate`` for the sum.

    Parameters
    ----------
    X : array_like, shape (n, d)
    axis : int or None
        Which coordinate; None for the sum.

    Returns
    -------
    ndarray, shape (n,), int64
        See the conventions of `covertreex.ordering`.

    Raises
    ------
    InvalidInputError
        If the points cannot be used, or there is no such axis.

    Examples
    --------
    >>> coordinate([[0.0, 5.0], [1.0, 3.0], [0.0, 4.0]]).tolist()
    [0, 2, 1]
    >>> coordinate([[0.0, 5.0], [1.0, 3.0], [0.0, 4.0]], axis=None).tolist()
    [1, 2, 0]
    """
    X = check_points(X, "X")
    if axis is None:
        return np.argsort(X.sum(axis=1), kind="stable")
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not 0 <= axis < X.shape[1]:
        raise InvalidInputError(f"axis must be from 0 to {X.shape[1] - 1}, or None for the sum of all, got {axis!r}.")
    return np.argsort(X[:, axis], kind="stable")


def random(X: ArrayLike, seed: int = 0) -> IntArray:
    """A random order: ``default_rng(seed).permutation(n)``.

    Source: Guinness, *Permutation and grouping methods for sharpening Gaussian process approximations* (2018), which
    finds it nearly as good as maximin.

    Parameters
    ----------
    X : array_like, shape (n, d)
    seed : int

    Returns
    -------
    ndarray, shape (n,), int64
        See the conventions of `covertreex.ordering`.

    Raises
    ------
    InvalidInputError
        If the points cannot be used, or `seed` is negative or no integer.

    Examples
    --------
    >>> random([[0.0], [1.0], [2.0], [9.0]], seed=0).tolist()
    [2, 0, 1, 3]
    """
    X = check_points(X, "X")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInputError(f"seed must be an integer, 0 or above, got {seed!r}.")
    return np.random.default_rng(seed).permutation(len(X))


def hilbert(X: ArrayLike, bits: int = 16) -> IntArray:
    """Order along the Hilbert curve, in any dimension: neighbours in the order are neighbours in space.

    Points are put on a grid of ``2**bits`` cells along the widest axis, the same for all axes; those of one cell come
    by dataset index. Source: Skilling, *Programming the Hilbert curve* (2004).

    Parameters
    ----------
    X : array_like, shape (n, d)
        In the units in which distances are meant (divided by the lengthscale).
    bits : int
        From 1 to 32.

    Returns
    -------
    ndarray, shape (n,), int64
        See the conventions of `covertreex.ordering`.

    Raises
    ------
    InvalidInputError
        If the points cannot be used, or `bits` is out of range.

    Examples
    --------
    >>> hilbert([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], bits=1).tolist()
    [0, 2, 3, 1]
    """
    X = check_points(X, "X")
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 1 <= bits <= 32:
        raise InvalidInputError(f"bits must be an integer from 1 to 32, got {bits!r}.")
    low = X.min(axis=0)
    extent = float((X.max(axis=0) - low).max())
    share = (X - low) / extent if extent > 0.0 else np.zeros_like(X)
    axes = np.minimum(share * 2.0**bits, 2.0**bits - 1.0).astype(np.uint64)
    return np.lexsort(_hilbert_words(np.ascontiguousarray(axes.T), int(bits))[::-1])


def _hilbert_words(axes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Position of each cell (d, n) along the Hilbert curve, as uint64 words (w, n), the most significant first."""
    d, one = len(axes), np.uint64(1)
    for bit in range(bits - 1, 0, -1):  # undo excess work: Skilling's AxestoTranspose
        flag = one << np.uint64(bit)
        low = flag - one
        for i in range(d):
            inverted = (axes[i] & flag) != 0
            swapped = np.where(inverted, 0, (axes[0] ^ axes[i]) & low).astype(np.uint64)
            axes[0] ^= np.where(inverted, low, swapped).astype(np.uint64)
            axes[i] ^= swapped
    for i in range(1, d):  # Gray encode
        axes[i] ^= axes[i - 1]
    flip = np.zeros_like(axes[0])
    for bit in range(bits - 1, 0, -1):
        flag = one << np.uint64(bit)
        flip ^= np.where((axes[-1] & flag) != 0, flag - one, 0).astype(np.uint64)
    axes ^= flip

    words, word, filled = [], np.zeros_like(axes[0]), 0
    for bit in range(bits - 1, -1, -1):
        for i in range(d):
            word = (word << one) | ((axes[i] >> np.uint64(bit)) & one)
            filled += 1
            if filled == 64:
                words.append(word)
                word, filled = np.zeros_like(word), 0
    return np.array([*words, word])
