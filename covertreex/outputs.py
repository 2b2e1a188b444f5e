"""Neighbours in the shapes that other programs take.

Every function takes a `covertreex.SearchResult`, or the pair ``(indices, distances)``, or, where distances are not
needed, the indices alone. Those for Vecchia models want one row per point, in order, neighbours from earlier rows:
``tree.search(k, predecessor_mode=True)`` of points that were put in their order before (`covertreex.ordering`), or
``tree.search(k, predecessor_mode=True, order=order)`` with the same `order` here. Then row i is about the point
``order[i]``, and neighbours are named by their places in the order, as rows of ``X[order]``. Of a tree that points were
deleted from, `order` is ``tree.ids``, or a permutation of them.

>>> import covertreex as cx
>>> from covertreex import outputs
>>> result = cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=2, predecessor_mode=True)
>>> outputs.to_gpgp(result, na=0).tolist()
[[1, 0, 0], [2, 1, 0], [3, 2, 1]]
"""

from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.base.validation import check_points
from covertreex.covertree import CoverTree
from covertreex.errors import InvalidInputError
from covertreex.results import RadiusResult, SearchResult

#: What was found: a result, indices and distances, or indices alone.
Answer: TypeAlias = SearchResult | RadiusResult | tuple[ArrayLike, ArrayLike] | ArrayLike

MODES = ("distance", "correlation", "connectivity")


def to_gpgp(result: Answer, *, na: float = np.nan, order: ArrayLike | None = None) -> AnyArray:
    """The neighbour array of the R packages GpGp and GPvecchia (`NNarray`): counted from 1, each point before its own.

    Source: Guinness, *Gaussian process learning via Fisher scoring of Vecchia's approximation* (2021), GpGp's
    ``find_ordered_nn``.

    Parameters
    ----------
    result : SearchResult, tuple (indices, distances), or ndarray of indices, shape (n, k)
        Predecessors of every point.
    na : float or int
        What stands where there is no neighbour. NaN, which R's ``is.na`` knows, makes the array float64 (exact for
        row numbers up to 2**53); an integer makes it int64: 0 or below, so that it is no row, such as R's own integer
        NA, ``-2**31``.
    order : array_like of int, shape (n,), optional
        The order that was searched: row i is the point ``order[i]``, and what goes with the array is ``X[order]``. By
        default rows stay in the order of the data.

    Returns
    -------
    ndarray, shape (n, k + 1), float64 or int64

    Raises
    ------
    InvalidInputError
        If there is a neighbour that is not an earlier row, `na` could be a row, or `order` is not that of the result.

    Examples
    --------
    >>> to_gpgp(np.array([[-1, -1], [0, -1], [1, 0]])).tolist()
    [[1.0, nan, nan], [2.0, 1.0, nan], [3.0, 2.0, 1.0]]
    """
    indices, _ = _predecessors(result, "to_gpgp", order)
    integer = isinstance(na, (int, np.integer)) and not isinstance(na, bool)
    if not (integer and na <= 0) and not (isinstance(na, float) and np.isnan(na)):
        raise InvalidInputError(f"na must be NaN, or an integer of 0 or below, which is no row; got {na!r}.")
    out = np.empty((len(indices), indices.shape[1] + 1), dtype=np.int64 if integer else np.float64)
    out[:, 0] = np.arange(1, len(indices) + 1)
    out[:, 1:] = np.where(indices >= 0, indices + 1, na)
    return out


def to_stan(result: Answer, X: Any, *, order: ArrayLike | None = None) -> dict[str, Any]:
    """Data of a nearest-neighbour Gaussian process in Stan: `NN_ind`, `NN_dist` and `NN_distM`.

    Source: Lu Zhang, *Nearest neighbor Gaussian processes (NNGP) based models in Stan*, Stan case studies (2018), whose
    programs take these names and shapes.

    Parameters
    ----------
    result : SearchResult, tuple (indices, distances), or ndarray of indices, shape (n, k)
        Predecessors of every point.
    X : array_like, shape (n, d), or CoverTree
        The points. The distances are Euclidean whatever metric found the neighbours, since the Stan program applies its
        kernel to them; divide by the lengthscales before if they are given per axis.
    order : array_like of int, shape (n,), optional
        As for `to_gpgp`. `X` is in the order of the data all the same.

    Returns
    -------
    dict
        `N` and `M`, int: n and k. `NN_ind`, shape (n - 1, k), int64: row i holds the neighbours of point i + 2, counted
        from 1. `NN_dist`, shape (n - 1, k), float64: how far they are. `NN_distM`, shape (n - 1, k (k - 1) / 2),
        float64: distances between neighbours 1 and 2, 1 and 3, ..., 1 and l, 2 and 3, ..., where point i + 2 has l of
        them (the lower triangle of their distance matrix by columns). All padded with 0.

    Raises
    ------
    InvalidInputError
        If there is a neighbour that is not an earlier row, `X` has not one row for each of the result, or `order` is
        not that of the result.

    Examples
    --------
    >>> data = to_stan(np.array([[-1, -1], [0, -1], [1, 0]]), [[0.0], [1.0], [3.0]])
    >>> data["NN_ind"].tolist(), data["NN_dist"].tolist(), data["NN_distM"].tolist()
    ([[1, 0], [2, 1]], [[1.0, 0.0], [2.0, 3.0]], [[0.0], [1.0]])
    """
    indices, order = _predecessors(result, "to_stan", order)
    X = check_points(X.X if isinstance(X, CoverTree) else X, "X")
    n, k = indices.shape
    if order is not None and len(X) > order.max():
        X = X[order]
    if len(X) != n:
        raise InvalidInputError(f"X must have one row for each of the {n} rows of the result, got {len(X)}.")
    found = indices[1:]
    count = np.sum(found >= 0, axis=1)
    distances = np.zeros((n - 1, k))
    between = np.zeros((n - 1, k * (k - 1) // 2))
    for j in range(k):
        rows = np.flatnonzero(count > j)
        distances[rows, j] = _euclidean(X[rows + 1], X[found[rows, j]])
        # Pairs (a, j), a < j, of a point with l neighbours stand after a full columns and j - a - 1 rows.
        for a in range(j):
            place = a * (count[rows] - 1) - a * (a - 1) // 2 + (j - a - 1)
            between[rows, place] = _euclidean(X[found[rows, a]], X[found[rows, j]])
    return {"N": n, "M": k, "NN_ind": np.where(found >= 0, found + 1, 0), "NN_dist": distances, "NN_distM": between}


def to_gpytorch(result: Answer, *, order: ArrayLike | None = None) -> IntArray:
    """Neighbours of the inducing points of GPyTorch's `NNVariationalStrategy` (VNNGP), its ``nn_xinduce_idx``.

    A NumPy array, so that torch is not needed here: after the strategy is made, with the data in the same order as
    inducing points and the same k, set ``strategy.nn_xinduce_idx = torch.from_numpy(array)``. The first k points have
    no row: the strategy treats them together. Source: Wu, Pleiss and Cunningham, *Variational nearest neighbor Gaussian
    process* (2022).

    Parameters
    ----------
    result : SearchResult, tuple (indices, distances), or ndarray of indices, shape (n, k)
        Predecessors of every point.
    order : array_like of int, shape (n,), optional
        As for `to_gpgp`.

    Returns
    -------
    ndarray, shape (n - k, k), int64

    Raises
    ------
    InvalidInputError
        If there is a neighbour that is not an earlier row, a row from the k-th on has fewer than k, or `order` is not
        that of the result.

    Examples
    --------
    >>> to_gpytorch(np.array([[-1, -1], [0, -1], [1, 0], [2, 0]])).tolist()
    [[1, 0], [2, 0]]
    """
    indices, _ = _predecessors(result, "to_gpytorch", order)
    rest = np.ascontiguousarray(indices[indices.shape[1] :])
    short = np.any(rest < 0, axis=1)
    if short.any():
        row = int(np.argmax(short)) + indices.shape[1]
        raise InvalidInputError(
            f"to_gpytorch needs {indices.shape[1]} neighbours from row {indices.shape[1]} on, but row {row} has "
            f"{int(np.sum(indices[row] >= 0))}. Search with settings='exact'."
        )
    return rest


def to_csr(result: Answer, mode: str = "distance", *, n: int | None = None, include_self: bool = False) -> Any:
    """The graph of neighbours as a SciPy CSR matrix, as scikit-learn takes and makes precomputed neighbours.

    Row i holds query i's neighbours in the order of the result, nearest first, so column numbers are not sorted within
    a row; distances of 0 are stored; absent neighbours are not.

    Parameters
    ----------
    result : SearchResult, RadiusResult or tuple (indices, distances)
        Indices alone will do for ``mode='connectivity'``.
    mode : {'distance', 'correlation', 'connectivity'}
        Entries: distances; ``|rho| = 1 - distance**2`` of a correlation metric; or 1.
    n : int, optional
        Number of columns, the points searched, ``len(tree.X)``; by default the number of queries, as when every point
        is asked for.
    include_self : bool
        Put each query first in its own row, at distance 0; for results of points, themselves excluded. Estimators
        that are fitted on a graph of precomputed distances expect it.

    Returns
    -------
    scipy.sparse.csr_matrix, shape (q, n), float64

    Raises
    ------
    InvalidInputError
        If `mode` is unknown, a neighbour lies beyond column `n`, a distance is no correlation's, or a point is its own
        neighbour already and `include_self` is asked for.

    Examples
    --------
    >>> result = (np.array([[1], [0], [1]]), np.array([[1.0], [1.0], [2.0]]))
    >>> to_csr(result, include_self=True).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    >>> to_csr(result, include_self=True).nnz
    6
    """
    from scipy.sparse import csr_matrix

    if mode not in MODES:
        raise InvalidInputError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}.")
    distances: FloatArray | None
    if isinstance(result, RadiusResult):
        indptr, indices, distances = result.indptr, result.indices, result.distances
    else:
        neighbors, given = _unpack(result, "to_csr", distances=mode != "connectivity")
        found = neighbors >= 0
        indptr = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
        indices, distances = neighbors[found], None if given is None else given[found]
    q = len(indptr) - 1
    rows = _rows_asked(result)
    if n is None and rows is not None and not _as_they_come(rows):
        raise InvalidInputError(
            f"the result is about {q} rows of X that are not 0 to {q - 1}, such as {rows[_first_other(rows)]}. Give "
            "n=len(tree.X); row i of the graph is then about the i-th row that was asked for (tree.ids, if none was)."
        )
    n = q if n is None else n
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise InvalidInputError(f"n must be the number of points searched, a positive integer, got {n!r}.")
    if indices.size and indices.max() >= n:
        raise InvalidInputError(
            f"the result names row {indices.max()}, but there are n = {n} columns. Give n=len(tree.X)."
        )
    if mode == "connectivity" or distances is None:
        values = np.ones(len(indices))
    else:
        values = distances if mode == "distance" else _correlations(distances)
    if include_self:
        rows = np.arange(q) if rows is None and q == n else rows
        twice = np.zeros(0, dtype=bool) if rows is None else indices == np.repeat(rows, np.diff(indptr))
        if rows is None or twice.any():
            row = None if rows is None else np.repeat(rows, np.diff(indptr))[np.argmax(twice)]
            why = f"there are {q} queries of {n} points" if row is None else f"row {row} holds itself"
            raise InvalidInputError(
                f"include_self is for results of every point in order, itself excluded; {why}. "
                "Search without include_self and without queries, or leave it out here."
            )
        indices = np.insert(indices, indptr[:-1], rows)
        values = np.insert(values, indptr[:-1], float(mode != "distance"))
        indptr = indptr + np.arange(q + 1)
    dtype = _index_dtype(n, len(indices))
    indices, indptr = indices.astype(dtype, copy=False), indptr.astype(dtype, copy=False)
    return csr_matrix((values, indices, indptr), shape=(q, n))


def _index_dtype(columns: int, stored: int) -> type[np.int32] | type[np.int64]:
    """Of the indices of a sparse matrix: int32, which scikit-learn wants, where it can count columns and entries."""
    return np.int32 if max(columns, stored) <= np.iinfo(np.int32).max else np.int64


def to_frame(result: Answer, *, queries: ArrayLike | None = None) -> Any:
    """Neighbours as a pandas data frame, one row per pair. Needs the extra ``pandas``.

    Parameters
    ----------
    result : SearchResult, RadiusResult or tuple (indices, distances)
    queries : array_like, shape (q,), optional
        What to call the queries; by default the rows that were asked for, where the result knows them, else 0 to q - 1.

    Returns
    -------
    pandas.DataFrame
        Columns `query`; `rank`, int64, 0 for the nearest; `neighbor`, int64, the row of X; `distance`, float64. Sorted
        by query and rank; absent neighbours have no row.

    Raises
    ------
    InvalidInputError
        If there is not one name per query.
    ImportError
        If pandas is not installed.

    Examples
    --------
    >>> to_frame((np.array([[1], [0]]), np.array([[0.5], [0.5]])))
       query  rank  neighbor  distance
    0      0     0         1       0.5
    1      1     0         0       0.5
    """
    pandas = _extra("pandas", "to_frame", "pandas")
    return pandas.DataFrame(_columns(result, queries, "to_frame"))


def to_arrow(result: Answer, *, queries: ArrayLike | None = None) -> Any:
    """Neighbours as an Arrow table, one row per pair. Needs the extra ``arrow``.

    ``polars.from_arrow`` makes a polars frame of it, ``pyarrow.feather.write_feather`` a file that R's ``arrow`` reads.

    Parameters
    ----------
    result, queries
        As for `to_frame`.

    Returns
    -------
    pyarrow.Table
        Columns as those of `to_frame`.

    Raises
    ------
    InvalidInputError
        If there is not one name per query.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> to_arrow((np.array([[1], [0]]), np.array([[0.5], [0.5]]))).column_names
    ['query', 'rank', 'neighbor', 'distance']
    """
    pyarrow = _extra("pyarrow", "to_arrow", "arrow")
    return pyarrow.table(_columns(result, queries, "to_arrow"))


def _extra(module: str, caller: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{caller} needs {module}, which cannot be imported ({error}): "
                          f"python -m pip install '.[{extra}]' in the source folder.") from error  # fmt: skip


def _columns(result: Any, queries: ArrayLike | None, caller: str) -> dict[str, AnyArray]:
    if hasattr(result, "indptr"):
        neighbor, distance, count = result.indices, result.distances, np.diff(result.indptr)
        query = np.repeat(np.arange(len(count)), count)
        rank = np.arange(len(neighbor)) - np.repeat(result.indptr[:-1], count)
    else:
        indices, distances = _unpack(result, caller)
        count = np.sum(indices >= 0, axis=1)
        query, rank = np.nonzero(indices >= 0)
        neighbor, distance = indices[query, rank], distances[query, rank]
    rows = _rows_asked(result)
    names = (np.arange(len(count)) if rows is None else rows) if queries is None else np.asarray(queries)
    if names.shape != (len(count),):
        raise InvalidInputError(
            f"queries must name each of the {len(count)} rows of the result, got shape {names.shape}."
        )
    return {"query": names[query], "rank": rank.astype(np.int64), "neighbor": neighbor, "distance": distance}


def _unpack(result: Any, caller: str, distances: bool = True) -> tuple[IntArray, Any]:
    """Indices (q, k), int64, and distances (q, k), float64, or None if they are neither there nor needed."""
    if hasattr(result, "indptr"):
        raise InvalidInputError(
            f"{caller} needs as many neighbours for each row, as search and knn find them; a radius search finds more "
            "or fewer. to_csr, to_frame and to_arrow take its result."
        )
    if hasattr(result, "indices") and hasattr(result, "distances"):
        indices, found = result.indices, result.distances
    elif isinstance(result, (tuple, list)) and len(result) == 2 and np.ndim(result[0]) == 2:
        indices, found = result
    elif distances:
        raise InvalidInputError(
            f"{caller} needs a SearchResult, or the pair (indices, distances), got {type(result).__name__}."
        )
    else:
        indices, found = result, None
    indices = np.asarray(indices)
    if indices.ndim != 2 or not np.issubdtype(indices.dtype, np.integer):
        raise InvalidInputError(
            f"{caller}: indices must be integers of shape (q, k), as knn returns them; got {indices.dtype} of shape "
            f"{indices.shape}."
        )
    if indices.size and indices.min() < -1:
        raise InvalidInputError(f"{caller}: indices must be rows, or -1 for none, got {indices.min()}.")
    if found is not None:
        found = np.asarray(found, dtype=np.float64)
        if found.shape != indices.shape:
            raise InvalidInputError(
                f"{caller}: distances must have the shape of the indices, {indices.shape}, got {found.shape}."
            )
    return indices.astype(np.int64, copy=False), found


def _rows_asked(result: Any) -> IntArray | None:
    """Rows of X that the rows of a result are about, or None if it does not know."""
    return getattr(result, "rows", None)


def _as_they_come(rows: IntArray) -> bool:
    return np.array_equal(rows, np.arange(len(rows)))


def _first_other(rows: IntArray) -> int:
    """Where `rows` begins to differ from 0, 1, 2, ..."""
    return int(np.argmax(rows != np.arange(len(rows))))


def _in_order(indices: IntArray, rows: IntArray | None, order: ArrayLike, caller: str) -> tuple[IntArray, IntArray]:
    """Indices (n, k), rows of X in rows that are about `rows`, as places in `order` in rows in that order."""
    n = len(indices)
    array = np.asarray(order)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(
            f"order must be the rows of all {n} points, integers of shape ({n},), got {array.dtype} of shape "
            f"{array.shape}."
        )
    rows = np.sort(array) if rows is None else rows
    if array.min() < 0 or np.any(np.diff(np.sort(array)) == 0) or not np.array_equal(np.sort(array), np.sort(rows)):
        raise InvalidInputError(
            f"order must hold each row that {caller}'s result is about once; give the order that was searched, or "
            "tree.ids where there was none."
        )
    size = int(max(array.max(), indices.max())) + 2  # the last entry stands for -1, which indexes it
    rank, place = np.full(size, -1), np.zeros(size, dtype=np.int64)
    rank[array], place[rows] = np.arange(n), np.arange(n)
    found = rank[indices]
    lost = (indices >= 0) & (found < 0)
    if lost.any():
        raise InvalidInputError(f"{caller}: the result names row {indices[lost][0]}, which is not in order.")
    return found[place[array]], array.astype(np.int64)


def _predecessors(result: Any, caller: str, order: ArrayLike | None = None) -> tuple[IntArray, IntArray | None]:
    """Indices (n, k) that name earlier rows alone, absent ones last; rows and names are places in `order`, if given."""
    indices, _ = _unpack(result, caller, distances=False)
    if indices.shape[0] == 0 or indices.shape[1] == 0:
        raise InvalidInputError(f"{caller} needs at least one row and one neighbour, got shape {indices.shape}.")
    rows, searched = _rows_asked(result), getattr(result, "order", None)
    if order is None and searched is not None and not _as_they_come(searched):
        raise InvalidInputError(
            f"the result is of a search with an order; give it to {caller} as well, order=order. Row i of its output "
            "is then about the point order[i]: what goes with it are X[order] and y[order]."
        )
    if order is None and rows is not None and not _as_they_come(rows):
        raise InvalidInputError(
            f"{caller} needs a search of all rows of X: row {_first_other(rows)} of the result is about row "
            f"{rows[_first_other(rows)]}. If others were deleted, give order=tree.ids: row i of the output is then "
            "about the point tree.ids[i]."
        )
    if order is not None:
        if searched is not None and not np.array_equal(searched, order):
            raise InvalidInputError(f"the order that {caller} was given is not the one that was searched; give that.")
        indices, order = _in_order(indices, rows, order, caller)
    late = indices >= np.arange(len(indices))[:, None]
    if late.any():
        row, column = np.argwhere(late)[0]
        raise InvalidInputError(
            f"{caller} needs predecessors of every point: row {row} has neighbour {indices[row, column]}, which is not "
            "before it. Put the points in order, X[order], and search all of them with predecessor_mode=True; or give "
            "order=order both to the search and here."
        )
    gap = (indices[:, :-1] < 0) & (indices[:, 1:] >= 0)
    if gap.any():
        row = int(np.argmax(gap.any(axis=1)))
        raise InvalidInputError(f"{caller}: row {row} has a neighbour after an absent one; -1 may come last only.")
    return indices, order


def _euclidean(A: FloatArray, B: FloatArray) -> FloatArray:
    distances: FloatArray = np.sqrt(np.sum((A - B) ** 2, axis=1))
    return distances


def _correlations(distances: FloatArray) -> FloatArray:
    if distances.size and distances.max() > 1.0:
        raise InvalidInputError(
            "mode='correlation' needs distances sqrt(1 - |rho|), which are at most 1; got "
            f"{distances.max():.6g}. Build the tree with a kernel, or take mode='distance'."
        )
    return 1.0 - distances**2
