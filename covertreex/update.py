"""Trees made from trees: another metric, more points, fewer points. The old tree is left as it is."""

from dataclasses import replace

import numpy as np

from covertreex import asking
from covertreex.build import extend_tree
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel
from covertreex.metrics import Correlation, Euclidean, ResidualCorrelation
from covertreex.validation import as_array, check_points, check_rows, read_only


def with_metric(tree, metric):
    """See `CoverTree.with_metric`."""
    metric = _another(tree, metric)
    prepared = metric.prepare(_living(tree), tree.n_threads, order=tree.payload.index)
    other = type(tree)(tree.X, metric, tree.n_threads, prepared=prepared)
    other._ids = tree._ids
    other._shape = tree._shape if tree._tree is None else tree._tree
    return other


def insert(tree, X_new, v_matrix, p_diag):
    """See `CoverTree.insert`."""
    X_new = check_points(X_new, "X_new", columns=tree.X.shape[1])
    X = read_only(np.concatenate([tree.X, X_new]))
    ids = tree._ids
    if ids is not None:
        ids = read_only(np.concatenate([ids, np.arange(len(tree.X), len(X))]))
    place = np.concatenate([np.arange(len(tree)), np.full(len(X_new), -1)])
    grown = _remade(tree, X, ids, place, (v_matrix, p_diag))
    if tree._tree is not None and tree._tree.cover_metric:
        grown._tree = extend_tree(tree._tree, tree.payload, grown.payload, tree.n_threads)
    return grown


def delete(tree, rows):
    """See `CoverTree.delete`."""
    rows = asking.check_living(tree, check_rows(rows, len(tree.X), "rows"), "rows")
    ids = np.setdiff1d(tree.ids, rows)
    if len(ids) == 0:
        raise InvalidInputError(f"rows names all {len(tree)} points; at least one must be left.")
    return _remade(tree, tree.X, read_only(ids), asking.places_of(tree, ids), (None, None))


def _living(tree):
    return tree.X if tree._ids is None else tree.X[tree._ids]


def _another(tree, metric):
    """The metric that `with_metric` was asked for, about the living points of `tree`."""
    old = tree.metric
    if isinstance(metric, Kernel):
        if not isinstance(old, ResidualCorrelation):
            return Correlation(metric)
        if old.v_matrix is not None:
            raise InvalidInputError(
                "the factors given as v_matrix belong to their kernel; with_metric needs new ones beside a new kernel: "
                "ResidualCorrelation(kernel, v_matrix=..., p_diag=...)."
            )
        return replace(old, kernel=metric)
    if not isinstance(metric, (Euclidean, Correlation, ResidualCorrelation)):
        raise InvalidInputError(
            f"with_metric takes a kernel, or a Euclidean, Correlation or ResidualCorrelation; got {metric!r}."
        )
    if tree._ids is not None and isinstance(metric, ResidualCorrelation) and np.ndim(metric.inducing) == 1:
        rows = check_rows(as_array(metric.inducing, "inducing"), len(tree.X), "inducing")
        return replace(metric, inducing=tree.X[rows])
    return metric


def _remade(tree, X, ids, place, new):
    """A tree of the points `ids` of `X`, of which the i-th was index ``place[i]`` of `tree`; -1 for a new one."""
    metric, living = tree.metric, X if ids is None else X[ids]
    supplied = isinstance(metric, ResidualCorrelation) and metric.v_matrix is not None
    if not supplied and any(array is not None for array in new):
        raise InvalidInputError("v_matrix and p_diag are for trees that were made with them; this one was not.")
    if supplied:
        metric = replace(metric, **_joined(metric, place, *new))
        prepared = metric.prepare(living, tree.n_threads)
    elif isinstance(metric, ResidualCorrelation):
        metric = replace(metric, inducing=read_only(metric._inducing_points(_living(tree)).copy()))
        payload = metric.extend(living, tree.n_threads, tree.payload, tree._projection, place)
        prepared = payload, tree._projection
    else:
        prepared = metric.prepare(living, tree.n_threads)
    other = type(tree)(X, metric, tree.n_threads, prepared=prepared)
    other._ids = ids
    return other


def _joined(metric, place, v_new, p_new):
    """`v_matrix` and `p_diag` of the points that stay and of new ones."""
    V, p = np.asarray(metric.v_matrix), None if metric.p_diag is None else np.asarray(metric.p_diag)
    known, count = place[place >= 0], int(np.sum(place < 0))
    V, p = V[known], None if p is None else p[known]
    if count:
        if v_new is None or (p_new is None) != (p is None):
            raise InvalidInputError(
                "new points need factors as the others have: "
                + ("v_matrix=..., and no p_diag." if p is None else "v_matrix=... and p_diag=...")
            )
        v_new = check_points(v_new, "v_matrix")
        if v_new.shape != (count, V.shape[1]):
            raise InvalidInputError(f"v_matrix must have shape ({count}, {V.shape[1]}), got {v_new.shape}.")
        V = np.concatenate([V, v_new])
        if p is not None:
            p_new = as_array(p_new, "p_diag")
            if p_new.shape != (count,):
                raise InvalidInputError(f"p_diag must have shape ({count},), got {p_new.shape}.")
            p = np.concatenate([p, p_new])
    return {"v_matrix": V, "p_diag": p}
