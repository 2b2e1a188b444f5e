"""Conditioning sets: who is regressed on whom, checked, and in the numbers of payload rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.contract import CALLED, RESIDUAL
from covertreex.base.types import IntArray
from covertreex.base.validation import as_array, read_only
from covertreex.covertree import CoverTree
from covertreex.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Conditioning sets of all points of a tree.

    Attributes
    ----------
    neighbors : ndarray, shape (n, k), int64
        Rows of X, -1 past the last; row i has those of point i.
    order : ndarray, shape (n,), int64
        The points in the order of the approximation.
    rows : ndarray, shape (n, k), int64
        The same as payload rows, in the order of payload rows.
    row_order : ndarray, shape (n,), int64
        Payload rows in the order of the approximation.
    """

    neighbors: IntArray
    order: IntArray
    rows: IntArray
    row_order: IntArray


def check_tree(tree: Any) -> CoverTree:
    """A tree whose points can be those of a Gaussian process.

    Raises
    ------
    InvalidInputError
        If it has no kernel, one that compiled code does not know, or deleted points.
    """
    if not isinstance(tree, CoverTree):
        raise InvalidInputError(f"tree must be a CoverTree, made by cover_tree; got {type(tree).__name__}.")
    if tree.payload.metric != RESIDUAL:
        raise InvalidInputError(
            "a Gaussian process needs a kernel, and this tree is Euclidean; make it by cover_tree(X, kernel=...), and "
            "give neighbors=euclidean_tree.knn(k, predecessor_mode=True) if you want Euclidean neighbours."
        )
    if tree.payload.kernel_code == CALLED:
        raise InvalidInputError(
            "a Covariance of your own is not known to compiled code, which computes the likelihood; use a kernel of "
            "covertreex, or an Isotropic if it is a function of distance."
        )
    if len(tree) != len(tree.X):
        raise InvalidInputError(
            f"{len(tree.X) - len(tree)} points of this tree are deleted; make one of those that are left: "
            "cover_tree(tree.X[tree.ids], ...)."
        )
    return tree


def check_neighbors(neighbors: ArrayLike, order: IntArray) -> IntArray:
    """Conditioning sets of anyone's.

    Raises
    ------
    InvalidInputError
        If a set names a row that is not earlier, or one twice, or goes on after -1.
    """
    n, array = len(order), as_array(neighbors, "neighbors")
    if array.ndim != 2 or len(array) != n or array.shape[1] == 0 or array.dtype.kind not in "iu":
        raise InvalidInputError(
            f"neighbors must be integers of shape (n, k), a row for each of the {n} points; got {array.dtype} of shape "
            f"{array.shape}."
        )
    found = np.ascontiguousarray(array, dtype=np.int64)
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    missing = found < 0
    _refuse((found < -1) | (found >= n), found, f"names {{}}, but rows are 0 to {n - 1} (and -1 past the last)")
    _refuse(missing[:, :-1] & ~missing[:, 1:], found[:, 1:], "names {} after a -1; -1 may only stand at the end")
    late = ~missing & (rank[np.maximum(found, 0)] >= rank[:, None])
    _refuse(late, found, "names {}, which is not before it; search with predecessor_mode=True, and give order= if "
            "there was one")  # fmt: skip
    ordered = np.sort(found, axis=1)
    _refuse((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0), ordered[:, 1:], "names {} twice")
    return found


def _refuse(wrong: Any, found: IntArray, what: str) -> None:
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        raise InvalidInputError(f"row {row} of neighbors {what.format(found[row, place])}.")


def condition(tree: CoverTree, neighbors: IntArray, order: IntArray) -> Conditioning:
    """A `Conditioning` of what was checked."""
    payload = tree.payload
    rows = neighbors[payload.index]
    rows = np.where(rows < 0, -1, payload.row[rows])
    return Conditioning(
        read_only(neighbors), read_only(order), read_only(np.ascontiguousarray(rows)), read_only(payload.row[order])
    )
