"""What is asked: which queries, and what restricts their neighbours; checked, and made into a `QueryBlock`.

The caller speaks dataset indices, which stay what they are when points are deleted; a payload numbers its points from
0. Here, and in `dataset_indices` on the way back, one becomes the other. A payload may hold points that were deleted:
they rank behind every limit, so no query may have them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.base.validation import (
    as_array,
    blaming_float32,
    check_flag,
    check_names,
    check_order,
    check_points,
    check_rows,
    check_told_apart,
    has_tiny,
    read_only,
)
from covertreex.data.factors import P_FLOOR, FactorSample, check_factors
from covertreex.data.metrics import ResidualCorrelation
from covertreex.data.payload import EUCLIDEAN, PayloadStore, empty_factors
from covertreex.data.state import TreeState
from covertreex.errors import InvalidInputError
from covertreex.kernels.columns import check_lonlat
from covertreex.protocols import QueryBlock

#: Rows of the data, and queries, whose residual correlations are checked when the caller supplies factors.
SAMPLE, SAMPLE_QUERIES = 256, 32


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, checked: the arguments of `CoverTree.search` that say which neighbours are wanted.

    Attributes
    ----------
    asked : ndarray
        Dataset indices, shape (q,), or coordinates, shape (q, d).
    predecessor_mode, include_self : bool
    order : ndarray, shape (n,), int64, or None
    limit : ndarray, shape (q,), int64, or None
    v_query, p_query : array_like or None
    """

    asked: AnyArray
    predecessor_mode: bool
    include_self: bool
    order: IntArray | None
    limit: IntArray | None
    v_query: FloatArray | None
    p_query: AnyArray | None

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def external(self) -> bool:
        """bool: whether they are coordinates."""
        return self.asked.ndim == 2

    def draw(self, places: IntArray) -> dict[str, Any]:
        """The same question about some of the queries, as arguments of `DenseOracle.knn` and `DenseOracle.recall`."""
        return {
            "queries": self.asked[places],
            "predecessor_mode": self.predecessor_mode,
            "include_self": self.include_self,
            "order": self.order,
            "limit": None if self.limit is None else self.limit[places],
            "v_query": None if self.v_query is None else self.v_query[places],
            "p_query": None if self.p_query is None else np.asarray(self.p_query)[places],
        }


def check(
    state: TreeState,
    queries: ArrayLike | None = None,
    *,
    predecessor_mode: bool = False,
    include_self: bool = False,
    order: ArrayLike | None = None,
    limit: ArrayLike | None = None,
    v_query: ArrayLike | None = None,
    p_query: ArrayLike | None = None,
) -> Question:
    """Check the arguments of `CoverTree.search` that say which neighbours are wanted, before any work.

    Parameters
    ----------
    state : TreeState
        That of the tree that is asked.
    queries, predecessor_mode, include_self, order, limit, v_query, p_query
        As for `CoverTree.knn`.

    Returns
    -------
    Question

    Raises
    ------
    InvalidInputError
        If one is out of range or of the wrong shape, or two contradict each other.
    """
    predecessor_mode = check_flag(predecessor_mode, "predecessor_mode")
    include_self = check_flag(include_self, "include_self")
    asked = _check_queries(state, queries)
    if asked.ndim == 2 and predecessor_mode:
        raise InvalidInputError(
            "predecessor_mode needs queries that are rows of X; coordinates have no place in it. For neighbours of "
            "coordinates among the first rows give limit=..."
        )
    if predecessor_mode and limit is not None:
        raise InvalidInputError(
            "predecessor_mode and limit both say which rows come before a query; give one of them. limit[i] = i is "
            "what predecessor_mode=True means."
        )
    if order is not None:
        if not predecessor_mode and limit is None:
            raise InvalidInputError(
                "order says which rows come before others, and restricts nothing by itself; give predecessor_mode=True "
                "or limit=... as well."
            )
        order = check_living(state, check_order(order, len(state), len(state.X)), "order")
    if limit is not None:
        most = len(state) if order is not None else len(state.X)
        limit = _check_limit(limit, len(asked), most)
    if v_query is None and p_query is not None:
        raise InvalidInputError("p_query goes with v_query; give both, or v_query alone and p_query is computed.")
    if v_query is not None:
        v_query = _check_v_query(state, asked, v_query)
    elif asked.ndim == 2 and state.projection is None:
        raise InvalidInputError(
            "queries given as coordinates need inducing points (inducing=...) or factors of their own (v_query=...): "
            "v_matrix has factors for the rows of X alone."
        )
    p_given = None if p_query is None else as_array(p_query, "p_query")
    return Question(asked, predecessor_mode, include_self, order, limit, v_query, p_given)


def block_of(state: TreeState, question: Question, n_threads: int) -> QueryBlock:
    """What is asked, as a search needs it; external queries may need more slack than the payload has (B1)."""
    payload, q = state.payload, len(question)
    slack_abs = payload.slack_abs
    if question.external:
        rows = np.arange(-1, -1 - q, -1, dtype=np.int64)
        coords, factors, p, slack_abs = _external(state, question, n_threads)
        exclude = np.full(q, -1, dtype=np.int64)
    else:
        places = places_of(state, question.asked)
        rows = payload.row[places]
        coords, factors, p = payload.coords[:0], payload.factors[:0], payload.p[:0]
        exclude = np.full(q, -1, dtype=np.int64) if question.include_self else rows

    rank = payload.index
    if question.order is not None or state.dead is not None:
        rank_of = np.arange(len(payload))
        if question.order is not None:
            rank_of[places_of(state, question.order)] = np.arange(len(state))
        if state.dead is not None:
            rank_of[state.dead] = len(payload) + np.arange(len(state.dead))
        rank = rank_of[payload.index]
    if question.predecessor_mode:
        limit = rank[rows] + question.include_self
    elif question.limit is None:
        limit = np.full(q, len(payload), dtype=np.int64)
    elif question.order is None and state.held is not None:
        limit = np.searchsorted(state.held, question.limit)
    else:
        limit = question.limit
    limit = limit.astype(np.int64, copy=False)
    for array in (rows, coords, factors, p, exclude, limit, rank):
        read_only(array)
    prefix = question.order is None
    return QueryBlock(rows, coords, factors, p, exclude, limit, rank, prefix, float(slack_abs))


def places_of(state: TreeState, indices: IntArray) -> IntArray:
    """What the payload calls these dataset indices: their places among the points that it holds."""
    return indices if state.held is None else np.searchsorted(state.held, indices)


def dataset_indices(state: TreeState, places: IntArray) -> IntArray:
    """Dataset indices of what a payload calls indices; -1 stays -1."""
    return places if state.held is None else np.where(places >= 0, state.held[places], -1)


def earlier(
    state: TreeState, question: Question, rows: IntArray | None, indices: IntArray, distances: FloatArray
) -> tuple[IntArray, FloatArray]:
    """What an earlier answer has for the queries of a question.

    Parameters
    ----------
    state : TreeState
    question : Question
    rows : ndarray, int64, or None
        Which were asked for; None if they were coordinates.
    indices, distances : ndarray, int64 and float64
        The answer.

    Returns
    -------
    indices : ndarray, shape (q, j), int64
        As the payload numbers them; -1 for those that it does not hold, and of queries that were not asked then.
    distances : ndarray, shape (q, j), float64

    Raises
    ------
    InvalidInputError
        If one of both is about coordinates.
    """
    if rows is None or question.external:
        which = "start answers" if rows is None else "queries are"
        raise InvalidInputError(
            f"start helps queries that are rows of X, and {which} coordinates; leave start out, or ask for rows."
        )
    if not np.array_equal(rows, question.asked):
        place, known = np.full(len(state.X), -1), np.flatnonzero(rows < len(state.X))
        place[rows[known]] = known
        at = place[question.asked]
        asked, known = np.flatnonzero(at >= 0), at[at >= 0]
        shape = len(at), indices.shape[1]
        lists, far = np.full(shape, -1), np.full(shape, np.inf)
        lists[asked], far[asked] = indices[known], distances[known]
        indices, distances = lists, far
    most = int(np.max(indices, initial=-1))
    if state.held is None and most < len(state.X):
        return indices, distances
    number = np.full(max(len(state.X), most + 1), -1)
    number[np.arange(len(state.X)) if state.held is None else state.held] = np.arange(len(state.payload))
    return np.where(indices >= 0, number[indices], -1), distances


def _check_queries(state: TreeState, queries: ArrayLike | None) -> AnyArray:
    """Dataset indices (q,), or coordinates (q, d)."""
    if queries is None:
        return state.ids
    array = as_array(queries, "queries")
    check_names(state.feature_names, queries, "queries")
    if array.shape == (0, state.X.shape[1]):
        return np.zeros(array.shape)  # nothing is asked
    if array.ndim == 2:
        points = check_points(queries, "queries", columns=state.X.shape[1])
        check_lonlat(points, "queries", state.lonlat)
        return points
    if array.ndim == 0:
        raise InvalidInputError(
            f"queries must be integer rows, shape (q,), or coordinates, shape (q, d); got {queries!r}. "
            "Put one row, or what a generator or a set has, into a list."
        )
    rows = check_rows(array, len(state.X), "queries")
    return check_living(state, rows, "queries")


def check_living(state: TreeState, rows: IntArray, name: str) -> IntArray:
    """`rows`, none of which was deleted.

    Raises
    ------
    InvalidInputError
        Naming the first that was.
    """
    if state.held is not None or state.dead is not None:
        dead = ~np.isin(rows, state.ids)
        if dead.any():
            at = int(np.argmax(dead))
            raise InvalidInputError(
                f"{name} must be rows that were not deleted, got {rows[at]} at position {at}; tree.ids lists those "
                "that are left."
            )
    return rows


def _check_limit(limit: ArrayLike, q: int, most: int) -> IntArray:
    array = as_array(limit, "limit")
    if not np.issubdtype(array.dtype, np.integer) or array.shape not in ((), (q,)):
        raise InvalidInputError(
            f"limit must be an integer, or integers of shape ({q},), one per query; got {array.dtype} of shape "
            f"{array.shape}."
        )
    array = np.broadcast_to(array, q)
    bad = (array < 0) | (array > most)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInputError(
            f"limit must be from 0 to {most}, the number of rows; got {array[at]} at position {at}."
        )
    return array.astype(np.int64)


def _check_v_query(state: TreeState, asked: AnyArray, v_query: ArrayLike) -> FloatArray:
    if not isinstance(state.metric, ResidualCorrelation):
        raise InvalidInputError("v_query goes with the residual correlation; this metric has no factors.")
    if asked.ndim != 2:
        raise InvalidInputError(
            "v_query goes with queries that are coordinates; rows of X have factors already. Give coordinates, shape "
            "(q, d), or leave v_query out."
        )
    V = check_points(v_query, "v_query")
    m = columns_of(state)
    if V.shape != (len(asked), m):
        hint = " It looks transposed: one row per query is wanted." if V.shape == (m, len(asked)) else ""
        raise InvalidInputError(
            f"v_query must have one row per query and as many columns as the data's factors, shape ({len(asked)}, "
            f"{m}), got {V.shape}.{hint}"
        )
    return V


def columns_of(state: TreeState) -> int:
    """Factors per point, without padding."""
    if state.projection is not None:
        return len(state.projection.factorized[1])
    assert isinstance(state.metric, ResidualCorrelation)  # no other has factors from the caller
    return int(np.shape(state.metric.v_matrix)[1])


def _external(state: TreeState, question: Question, n_threads: int) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Scaled coordinates, padded factors and p of coordinates, and the slack that they need."""
    payload, metric = state.payload, state.metric
    deficit = 0.0
    if question.v_query is None:
        assert state.projection is not None  # else `check` has asked for v_query
        coords, factors, p = state.projection(question.asked, n_threads)
    else:
        coords, factors, p, deficit = _supplied(state, question)
    tiny = payload.kept.get("tiny", lambda: has_tiny(payload.coords))  # few queries need not look at all rows again
    check_told_apart(payload.coords, coords, "queries", tiny)
    if payload.metric == EUCLIDEAN or not isinstance(metric, ResidualCorrelation):
        return coords, factors, p, payload.slack_abs
    slack = payload.slack_abs
    if p.min(initial=np.inf) < payload.smallest_p:
        slack = max(slack, metric.slack(payload.factors.shape[1], p.min()))
    return coords, factors, p, slack + deficit


def _supplied(state: TreeState, question: Question) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """As `_external`, of the caller's own factors; and how far they are from those of one covariance (B1)."""
    payload = state.payload
    kernel, unit, v_query = payload.covariance, payload.unit, question.v_query
    assert v_query is not None
    coords = kernel.scale(question.asked)
    m = v_query.shape[1]
    factors = empty_factors(len(coords), payload.factors.shape[1])
    factors[:, :m], factors[:, m:] = v_query / np.sqrt(unit), 0.0
    names = ("v_query", "p_query")
    with blaming_float32(names, v_query, question.p_query):
        p, deficit = check_factors(kernel, factors, m, question.p_query, np.arange(len(coords)), unit, names)
    p = np.maximum(p, P_FLOOR * kernel.variance)
    sample = state.kept.get("factor sample", lambda: _sample(payload))
    some = np.unique(np.linspace(0, len(coords) - 1, SAMPLE_QUERIES).astype(np.int64))
    with blaming_float32(names, v_query, question.p_query):
        return coords, factors, p, deficit + sample.deficit(coords[some], factors[some], p[some], names[0])


def _sample(payload: PayloadStore) -> FactorSample:
    """Some of the data, to compare the factors of queries with."""
    rows = np.unique(np.linspace(0, len(payload) - 1, SAMPLE).astype(np.int64))
    return FactorSample(payload.covariance, payload.coords[rows], payload.factors[rows], payload.p[rows])
