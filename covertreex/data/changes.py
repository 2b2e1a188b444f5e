"""Trees made from trees: another metric, more points, fewer points. The old tree is left as it is.

New points take the rows behind all others, so that nothing moves that is there, until they are `UNSORTED` of all rows:
then all rows are sorted in space again. Deleted points stay where they are, in the payload and the cover tree, to lead
a search to others, and rank behind every limit, so that no query may have them; once they are `DEAD` of all rows they
are left out. So the cost of both is in proportion to the batch, but for flat copies of a few numbers per point.
"""

from dataclasses import replace

import numpy as np

from covertreex.base.validation import as_array, as_float64, check_names, check_points, check_rows, read_only
from covertreex.data import questions as asking
from covertreex.data.build import extend_tree
from covertreex.data.leaf_order import leaf_order
from covertreex.data.metrics import Correlation, Euclidean, ResidualCorrelation
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel

#: Share of the rows that may stand behind the leaf order of the others, and share that may be those of deleted points.
UNSORTED, DEAD = 1 / 8, 1 / 4


def with_metric(tree, metric):
    """See `CoverTree.with_metric`."""
    metric = _another(tree, metric.of_arrays(tree.feature_names_in_) if hasattr(metric, "of_arrays") else metric)
    if _supplied(metric):
        tree = without_dead(tree)  # nobody has factors for the others
    prepared = metric.prepare(_held(tree), tree.n_threads, order=tree.payload.index)
    other = type(tree)(tree.X, metric, tree._n_threads, prepared=prepared)
    other._ids, other._dead, other._unsorted = tree._ids, tree._dead, tree._unsorted
    other._shape = tree._shape if tree._tree is None else tree._tree
    other.feature_names_in_ = tree.feature_names_in_
    return other


def insert(tree, X_new, v_matrix, p_diag):
    """See `CoverTree.insert`."""
    check_names(tree.feature_names_in_, X_new, "X_new")
    X_new = check_points(X_new, "X_new", columns=tree.X.shape[1])
    payload, metric, count = tree.payload, _settled(tree), len(X_new)
    if not _supplied(metric) and (v_matrix is not None or p_diag is not None):
        raise InvalidInputError("v_matrix and p_diag are for trees that were made with them; this one was not.")
    X = read_only(np.concatenate([tree.X, X_new]))
    ids = tree._ids
    if ids is not None:
        ids = read_only(np.concatenate([ids, np.arange(len(tree.X), len(X))]))
    place = np.concatenate([np.arange(len(payload)), np.full(count, -1)])
    unsorted = tree._unsorted + count
    scale = getattr(getattr(metric, "kernel", None), "scale", np.asarray)
    if unsorted <= UNSORTED * len(place):
        order = np.concatenate([payload.index, len(payload) + leaf_order(scale(X_new))[0]])
    else:
        order, unsorted = leaf_order(scale(X if ids is None else X[ids]))[0], 0
    if _supplied(metric):
        metric = replace(metric, **_joined(metric, count, v_matrix, p_diag))
    grown = _remade(tree, X, ids, metric, place, order)
    grown._dead, grown._unsorted = tree._dead, unsorted
    if tree._tree is not None and tree._tree.cover_metric:
        grown._tree = extend_tree(tree._tree, payload, grown.payload, tree.n_threads)
    return grown


def delete(tree, rows):
    """See `CoverTree.delete`."""
    rows = asking.check_living(tree, check_rows(rows, len(tree.X), "rows"), "rows")
    dead = asking.places_of(tree, rows)
    dead = np.unique(dead if tree._dead is None else np.concatenate([tree._dead, dead]))
    if len(dead) == len(tree.payload):
        raise InvalidInputError(f"rows names all {len(tree)} points; at least one must be left.")
    other = type(tree)(tree.X, _settled(tree), tree._n_threads, prepared=(tree.payload, tree._projection))
    other._ids, other._unsorted = tree._ids, tree._unsorted
    other._tree, other._shape = tree._tree, tree._shape
    other.feature_names_in_ = tree.feature_names_in_
    if len(dead):
        other._dead = read_only(dead)
    return other if len(dead) <= DEAD * len(tree.payload) else without_dead(other)


def without_dead(tree):
    """`tree`, or one without the rows of deleted points: its cover tree, if it is needed, is built anew."""
    if tree._dead is None:
        return tree
    payload = tree.payload
    place = np.delete(np.arange(len(payload)), tree._dead)
    number = np.full(len(payload), -1)
    number[place] = np.arange(len(place))
    order = number[payload.index]
    unsorted = int(np.sum(order[len(payload) - tree._unsorted :] >= 0))
    metric = tree.metric
    if _supplied(metric):
        p = None if metric.p_diag is None else np.asarray(metric.p_diag)[place]
        metric = replace(metric, v_matrix=np.asarray(metric.v_matrix)[place], p_diag=p)
    other = _remade(tree, tree.X, read_only(tree.ids), metric, place, order[order >= 0])
    other._unsorted = unsorted
    return other


def _held(tree):
    """The points of the payload, in the order of its indices: those of the tree, and some deleted ones."""
    return tree.X if tree._ids is None else tree.X[tree._ids]


def _living(tree):
    return _held(tree) if tree._dead is None else tree.X[tree.ids]


def _supplied(metric):
    return isinstance(metric, ResidualCorrelation) and metric.v_matrix is not None


def _settled(tree):
    """The metric of `tree`, with inducing points that do not depend on which rows there are."""
    metric = tree.metric
    if not isinstance(metric, ResidualCorrelation) or metric.inducing is None or np.ndim(metric.inducing) == 2:
        return metric
    return replace(metric, inducing=read_only(metric._inducing_points(_living(tree)).copy()))


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
    if (tree._ids is None and tree._dead is None) or not isinstance(metric, ResidualCorrelation):
        return metric
    if np.ndim(metric.inducing) == 1:
        rows = check_rows(as_array(metric.inducing, "inducing"), len(tree.X), "inducing")
        return replace(metric, inducing=tree.X[rows])
    if metric.inducing is not None and np.ndim(metric.inducing) == 0:
        return replace(metric, inducing=metric._inducing_points(_living(tree)))
    return metric


def _remade(tree, X, ids, metric, place, order):
    """A tree of the points `ids` of `X` in the row order `order`, of which the i-th was index ``place[i]`` of `tree`'s
    payload; -1 for a new one."""
    points = X if ids is None else X[ids]
    room = None
    if isinstance(metric, ResidualCorrelation) and not _supplied(metric):
        payload, room = metric.extend(
            points, tree.n_threads, tree.payload, tree._projection, place, order, room=tree._room
        )
        prepared = payload, tree._projection
    else:
        prepared = metric.prepare(points, tree.n_threads, order=order)
    other = type(tree)(X, metric, tree._n_threads, prepared=prepared)
    other._ids, other._room = ids, room
    other.feature_names_in_ = tree.feature_names_in_
    return other


def _joined(metric, count, v_new, p_new):
    """`v_matrix` and `p_diag` with those of `count` new points."""
    V, p = np.asarray(metric.v_matrix), None if metric.p_diag is None else np.asarray(metric.p_diag)
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
        p_new = as_float64(as_array(p_new, "p_diag"), "p_diag")
        if p_new.shape != (count,):
            raise InvalidInputError(f"p_diag must have shape ({count},), got {p_new.shape}.")
        p = np.concatenate([p, p_new])
    return {"v_matrix": V, "p_diag": p}
