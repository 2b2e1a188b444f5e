"""States made from states: another metric, more points, fewer points. The old one is left as it is.

New points take the rows behind all others, so that nothing moves that is there, until they are `UNSORTED` of all rows:
then all rows are sorted in space again. Deleted points stay where they are, in the payload and the cover tree, to lead
a search to others, and rank behind every limit, so that no query may have them; once they are `DEAD` of all rows they
are left out. So the cost of both is in proportion to the batch, but for flat copies of a few numbers per point.
"""

from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base import tuning
from covertreex.base.kept import Kept
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import as_array, as_float64, check_names, check_points, check_rows, read_only
from covertreex.data.build import extend_tree
from covertreex.data.leaf_order import leaf_order
from covertreex.data.metrics import Correlation, Euclidean, Metric, ResidualCorrelation
from covertreex.data.questions import check_living, places_of
from covertreex.data.state import TreeState
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel
from covertreex.kernels.columns import check_lonlat


def with_metric(state: TreeState, metric: Kernel | Metric, noise: ArrayLike | None = None) -> TreeState:
    """See `CoverTree.with_metric`.

    Parameters
    ----------
    state : TreeState
    metric : Kernel, Euclidean, Correlation or ResidualCorrelation
    noise : float or array_like, optional

    Returns
    -------
    TreeState
    """
    metric = _another(state, metric.of_arrays(state.feature_names) if hasattr(metric, "of_arrays") else metric, noise)
    metric = metric.on_columns(state.feature_names, state.lonlat)
    if _supplied(metric) or np.shape(getattr(metric, "noise", 0.0)) == (len(state),):
        state = without_dead(state)  # nobody has factors or noise for the others
    payload, projection = metric.prepare(state.held_points, state.threads, order=state.payload.index)
    return replace(
        state,
        metric=metric,
        payload=payload,
        projection=projection,
        room=None,
        shape=state.shape if state.built is None else state.built,
        origin=None,
        kept=Kept(),
    )


def insert(
    state: TreeState,
    X_new: ArrayLike,
    v_matrix: ArrayLike | None,
    p_diag: ArrayLike | None,
    noise: ArrayLike | None = None,
) -> TreeState:
    """See `CoverTree.insert`.

    Parameters
    ----------
    state : TreeState
    X_new, v_matrix, p_diag, noise : array_like

    Returns
    -------
    TreeState
    """
    check_names(state.feature_names, X_new, "X_new")
    X_new = check_points(X_new, "X_new", columns=state.X.shape[1])
    check_lonlat(X_new, "X_new", state.lonlat)
    payload, metric, count = state.payload, _settled(state), len(X_new)
    if not _supplied(metric) and (v_matrix is not None or p_diag is not None):
        raise InvalidInputError("v_matrix and p_diag are for trees that were made with them; this one was not.")
    X = read_only(np.concatenate([state.X, X_new]))
    held = state.held
    if held is not None:
        held = read_only(np.concatenate([held, np.arange(len(state.X), len(X))]))
    place = np.concatenate([np.arange(len(payload)), np.full(count, -1)])
    unsorted = state.unsorted + count
    scale = metric.coordinates
    if unsorted <= tuning.UNSORTED * len(place):
        order = np.concatenate([payload.index, len(payload) + leaf_order(scale(X_new))[0]])
    else:
        order, unsorted = leaf_order(scale(X if held is None else X[held]))[0], 0
    if _supplied(metric):
        metric = replace(metric, **_joined(metric, count, v_matrix, p_diag))
    metric = _with_noise(metric, len(payload), count, noise)
    grown = _remade(state, X, held, metric, place, order)
    tree = state.built
    if tree is not None:
        tree = extend_tree(tree, payload, grown.payload, state.threads) if tree.cover_metric else None
    return replace(grown, dead=state.dead, unsorted=unsorted, kept=Kept(tree=tree))


def delete(state: TreeState, rows: ArrayLike) -> TreeState:
    """See `CoverTree.delete`.

    Parameters
    ----------
    state : TreeState
    rows : array_like of int

    Returns
    -------
    TreeState
    """
    rows = check_living(state, check_rows(rows, len(state.X), "rows"), "rows")
    dead = places_of(state, rows)
    dead = np.unique(dead if state.dead is None else np.concatenate([state.dead, dead]))
    if len(dead) == len(state.payload):
        raise InvalidInputError(f"rows names all {len(state)} points; at least one must be left.")
    # Halos stay behind: the rows in them may be those that are deleted.
    left = replace(
        state,
        metric=_settled(state),
        dead=read_only(dead) if len(dead) else None,
        room=None,
        origin=None,
        kept=Kept(tree=state.built),
    )
    return left if len(dead) <= tuning.DEAD * len(state.payload) else without_dead(left)


def without_dead(state: TreeState) -> TreeState:
    """`state`, or one without the rows of deleted points: its cover tree, if it is needed, is built anew."""
    if state.dead is None:
        return state
    payload = state.payload
    place = np.delete(np.arange(len(payload)), state.dead)
    number = np.full(len(payload), -1)
    number[place] = np.arange(len(place))
    order = number[payload.index]
    unsorted = int(np.sum(order[len(payload) - state.unsorted :] >= 0))
    metric = state.metric
    if _supplied(metric):
        p = None if metric.p_diag is None else np.asarray(metric.p_diag)[place]
        metric = replace(metric, v_matrix=np.asarray(metric.v_matrix)[place], p_diag=p, **_noise_at(metric, place))
    elif not isinstance(metric, Euclidean):
        metric = replace(metric, **_noise_at(metric, place))
    left = _remade(state, state.X, read_only(state.ids), metric, place, order[order >= 0])
    return replace(left, unsorted=unsorted)


def _noise_at(metric: Correlation | ResidualCorrelation, place: IntArray) -> dict[str, Any]:
    """The noise of some of the points."""
    return {"noise": metric.noise[place] if np.ndim(metric.noise) else metric.noise}


def _with_noise(metric: Metric, n: int, count: int, noise: ArrayLike | None) -> Metric:
    """The metric of `n` points and `count` new ones, whose noise may be given."""
    if isinstance(metric, Euclidean):
        if noise is not None:
            raise InvalidInputError("noise needs a kernel; the Euclidean metric has none.")
        return metric
    if noise is None:
        if np.ndim(metric.noise) == 0:
            return metric
        raise InvalidInputError(
            f"the tree has a noise for each point, so new points need theirs: noise=..., a number or shape ({count},)."
        )
    new = replace(metric, noise=noise).noise  # checked
    if np.shape(new) not in ((), (count,)):
        raise InvalidInputError(f"noise must be a number, or have shape ({count},), got shape {np.shape(new)}.")
    if np.ndim(new) == 0 and np.ndim(metric.noise) == 0 and new == metric.noise:
        return metric
    return replace(metric, noise=np.concatenate([np.broadcast_to(metric.noise, n), np.broadcast_to(new, count)]))


def _supplied(metric: Metric) -> TypeGuard[ResidualCorrelation]:
    return isinstance(metric, ResidualCorrelation) and metric.v_matrix is not None


def _settled(state: TreeState) -> Metric:
    """The metric of `state`, with inducing points that do not depend on which rows there are."""
    metric = state.metric
    if not isinstance(metric, ResidualCorrelation) or metric.inducing is None or np.ndim(metric.inducing) == 2:
        return metric
    return replace(metric, inducing=read_only(metric.inducing_points(state.living_points).copy()))


def _another(state: TreeState, metric: Kernel | Metric, noise: ArrayLike | None) -> Metric:
    """The metric that `with_metric` was asked for, about the living points of `state`."""
    old = state.metric
    if isinstance(metric, Kernel):
        kept = getattr(old, "noise", 0.0) if noise is None else noise
        if not isinstance(old, ResidualCorrelation):
            return Correlation(metric, kept)
        if old.v_matrix is not None:
            raise InvalidInputError(
                "the factors given as v_matrix belong to their kernel; with_metric needs new ones beside a new kernel: "
                "ResidualCorrelation(kernel, v_matrix=..., p_diag=...)."
            )
        return replace(old, kernel=metric, noise=kept)
    if noise is not None:
        raise InvalidInputError("noise goes with a kernel; a metric has its own: Correlation(kernel, noise=...).")
    if not isinstance(metric, (Euclidean, Correlation, ResidualCorrelation)):
        raise InvalidInputError(
            f"with_metric takes a kernel, or a Euclidean, Correlation or ResidualCorrelation; got {metric!r}."
        )
    if (state.held is None and state.dead is None) or not isinstance(metric, ResidualCorrelation):
        return metric
    if np.ndim(metric.inducing) == 1:
        rows = check_rows(as_array(metric.inducing, "inducing"), len(state.X), "inducing")
        return replace(metric, inducing=state.X[rows])
    if metric.inducing is not None and np.ndim(metric.inducing) == 0:
        return replace(metric, inducing=metric.inducing_points(state.living_points))
    return metric


def _remade(
    state: TreeState, X: FloatArray, held: IntArray | None, metric: Metric, place: IntArray, order: IntArray
) -> TreeState:
    """A state of the points `held` of `X` in the row order `order`, of which the i-th was index ``place[i]`` of the
    payload of `state`; -1 for a new one. No point of it is deleted."""
    points = X if held is None else X[held]
    projection, room = state.projection, None
    if isinstance(metric, ResidualCorrelation) and not _supplied(metric):
        assert projection is not None  # computed factors have one
        payload, room = metric.extend(points, state.threads, state.payload, projection, place, order, room=state.room)
    else:
        payload, projection = metric.prepare(points, state.threads, order=order)
    return TreeState(
        X, metric, payload, projection, state.n_threads, state.feature_names, state.lonlat, held=held, room=room
    )


def _joined(
    metric: ResidualCorrelation, count: int, v_new: ArrayLike | None, p_new: ArrayLike | None
) -> dict[str, Any]:
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
