"""Neighbours in the shapes that other programs take.

Every function takes a `covertreex.SearchResult`, or the pair ``(indices, distances)``, or, where distances are not
needed, the indices alone. Those for Vecchia models want one row per point, in order, neighbours from earlier rows:
``tree.search(k, predecessor_mode=True)`` of points that were put in their order before (`covertreex.ordering`).

>>> import covertreex as cx
>>> from covertreex import outputs
>>> result = cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=2, predecessor_mode=True)
>>> outputs.to_gpgp(result, na=0).tolist()
[[1, 0, 0], [2, 1, 0], [3, 2, 1]]
"""

import numpy as np

from covertreex.covertree import CoverTree
from covertreex.errors import InvalidInputError
from covertreex.validation import check_points

MODES = ("distance", "correlation", "connectivity")


def to_gpgp(result, *, na=np.nan):
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

    Returns
    -------
    ndarray, shape (n, k + 1), float64 or int64

    Raises
    ------
    InvalidInputError
        If there is a neighbour that is not an earlier row, or `na` could be a row.

    Examples
    --------
    >>> to_gpgp(np.array([[-1, -1], [0, -1], [1, 0]])).tolist()
    [[1.0, nan, nan], [2.0, 1.0, nan], [3.0, 2.0, 1.0]]
    """
    indices = _predecessors(result, "to_gpgp")
    integer = isinstance(na, (int, np.integer)) and not isinstance(na, bool)
    if not (integer and na <= 0) and not (isinstance(na, float) and np.isnan(na)):
        raise InvalidInputError(f"na must be NaN, or an integer of 0 or below, which is no row; got {na!r}.")
    out = np.empty((len(indices), indices.shape[1] + 1), dtype=np.int64 if integer else np.float64)
    out[:, 0] = np.arange(1, len(indices) + 1)
    out[:, 1:] = np.where(indices >= 0, indices + 1, na)
    return out


def to_stan(result, X):
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
        If there is a neighbour that is not an earlier row, or `X` has not one row for each of the result.

    Examples
    --------
    >>> data = to_stan(np.array([[-1, -1], [0, -1], [1, 0]]), [[0.0], [1.0], [3.0]])
    >>> data["NN_ind"].tolist(), data["NN_dist"].tolist(), data["NN_distM"].tolist()
    ([[1, 0], [2, 1]], [[1.0, 0.0], [2.0, 3.0]], [[0.0], [1.0]])
    """
    indices = _predecessors(result, "to_stan")
    X = check_points(X.X if isinstance(X, CoverTree) else X, "X")
    n, k = indices.shape
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


def to_gpytorch(result):
    """Neighbours of the inducing points of GPyTorch's `NNVariationalStrategy` (VNNGP), its ``nn_xinduce_idx``.

    A NumPy array, so that torch is not needed here: after the strategy is made, with the data in the same order as
    inducing points and the same k, set ``strategy.nn_xinduce_idx = torch.from_numpy(array)``. The first k points have
    no row: the strategy treats them together. Source: Wu, Pleiss and Cunningham, *Variational nearest neighbor Gaussian
    process* (2022).

    Parameters
    ----------
    result : SearchResult, tuple (indices, distances), or ndarray of indices, shape (n, k)
        Predecessors of every point.

    Returns
    -------
    ndarray, shape (n - k, k), int64

    Raises
    ------
    InvalidInputError
        If there is a neighbour that is not an earlier row, or a row from the k-th on has fewer than k.

    Examples
    --------
    >>> to_gpytorch(np.array([[-1, -1], [0, -1], [1, 0], [2, 0]])).tolist()
    [[1, 0], [2, 0]]
    """
    indices = _predecessors(result, "to_gpytorch")
    rest = np.ascontiguousarray(indices[indices.shape[1] :])
    short = np.any(rest < 0, axis=1)
    if short.any():
        row = int(np.argmax(short)) + indices.shape[1]
        raise InvalidInputError(
            f"to_gpytorch needs {indices.shape[1]} neighbours from row {indices.shape[1]} on, but row {row} has "
            f"{int(np.sum(indices[row] >= 0))}. Search with settings='exact'."
        )
    return rest


def to_csr(result, mode="distance", *, n=None, include_self=False):
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
        Put point i first in row i, at distance 0; for results of every point in order, itself excluded. Estimators
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
    if hasattr(result, "indptr"):
        indptr, indices, distances = result.indptr, result.indices, result.distances
    else:
        neighbors, distances = _unpack(result, "to_csr", distances=mode != "connectivity")
        found = neighbors >= 0
        indptr = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
        indices, distances = neighbors[found], None if distances is None else distances[found]
    q = len(indptr) - 1
    n = q if n is None else n
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise InvalidInputError(f"n must be the number of points searched, a positive integer, got {n!r}.")
    if indices.size and indices.max() >= n:
        raise InvalidInputError(
            f"the result names row {indices.max()}, but there are n = {n} columns. Give n=len(tree.X)."
        )
    if mode == "connectivity":
        values = np.ones(len(indices))
    elif mode == "distance":
        values = distances
    else:
        values = _correlations(distances)
    if include_self:
        own = np.repeat(np.arange(q), np.diff(indptr))
        twice = indices == own
        if q != n or twice.any():
            why = f"row {own[np.argmax(twice)]} holds itself" if q == n else f"there are {q} queries of {n} points"
            raise InvalidInputError(
                f"include_self is for results of every point in order, itself excluded; {why}. "
                "Search without include_self and without queries, or leave it out here."
            )
        indices = np.insert(indices, indptr[:-1], np.arange(q))
        values = np.insert(values, indptr[:-1], float(mode != "distance"))
        indptr = indptr + np.arange(q + 1)
    dtype = _index_dtype(n, len(indices))
    indices, indptr = indices.astype(dtype, copy=False), indptr.astype(dtype, copy=False)
    return csr_matrix((values, indices, indptr), shape=(q, n))


def _index_dtype(columns, stored):
    """Of the indices of a sparse matrix: int32, which scikit-learn wants, where it can count columns and entries."""
    return np.int32 if max(columns, stored) <= np.iinfo(np.int32).max else np.int64


def to_frame(result, *, queries=None):
    """Neighbours as a pandas data frame, one row per pair. Needs the extra ``covertreex[pandas]``.

    Parameters
    ----------
    result : SearchResult, RadiusResult or tuple (indices, distances)
    queries : array_like, shape (q,), optional
        What to call the queries, such as the rows that were asked for; by default 0 to q - 1.

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


def to_arrow(result, *, queries=None):
    """Neighbours as an Arrow table, one row per pair. Needs the extra ``covertreex[arrow]``.

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


def _extra(module, caller, extra):
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{caller} needs {module}, which cannot be imported ({error}): "
                          f"pip install 'covertreex[{extra}]'.") from error  # fmt: skip


def _columns(result, queries, caller):
    if hasattr(result, "indptr"):
        neighbor, distance, count = result.indices, result.distances, np.diff(result.indptr)
        query = np.repeat(np.arange(len(count)), count)
        rank = np.arange(len(neighbor)) - np.repeat(result.indptr[:-1], count)
    else:
        indices, distances = _unpack(result, caller)
        count = np.sum(indices >= 0, axis=1)
        query, rank = np.nonzero(indices >= 0)
        neighbor, distance = indices[query, rank], distances[query, rank]
    names = np.arange(len(count)) if queries is None else np.asarray(queries)
    if names.shape != (len(count),):
        raise InvalidInputError(
            f"queries must name each of the {len(count)} rows of the result, got shape {names.shape}."
        )
    return {"query": names[query], "rank": rank.astype(np.int64), "neighbor": neighbor, "distance": distance}


def _unpack(result, caller, distances=True):
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


def _predecessors(result, caller):
    """Indices (n, k) that name earlier rows alone, absent ones last."""
    indices, _ = _unpack(result, caller, distances=False)
    if indices.shape[0] == 0 or indices.shape[1] == 0:
        raise InvalidInputError(f"{caller} needs at least one row and one neighbour, got shape {indices.shape}.")
    late = indices >= np.arange(len(indices))[:, None]
    if late.any():
        row, column = np.argwhere(late)[0]
        raise InvalidInputError(
            f"{caller} needs predecessors of every point: row {row} has neighbour {indices[row, column]}, which is not "
            "before it. Put the points in order, X[order], and search all of them with predecessor_mode=True."
        )
    gap = (indices[:, :-1] < 0) & (indices[:, 1:] >= 0)
    if gap.any():
        row = int(np.argmax(gap.any(axis=1)))
        raise InvalidInputError(f"{caller}: row {row} has a neighbour after an absent one; -1 may come last only.")
    return indices


def _euclidean(A, B):
    return np.sqrt(np.sum((A - B) ** 2, axis=1))


def _correlations(distances):
    if distances.size and distances.max() > 1.0:
        raise InvalidInputError(
            "mode='correlation' needs distances sqrt(1 - |rho|), which are at most 1; got "
            f"{distances.max():.6g}. Build the tree with a kernel, or take mode='distance'."
        )
    return 1.0 - distances**2
