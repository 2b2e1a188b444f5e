"""What is asked: which queries, and what restricts their neighbours; checked, and made into a `QueryBlock`.

The caller speaks dataset indices, which stay what they are when points are deleted; a payload numbers its points from
0. Here, and in `dataset_indices` on the way back, one becomes the other. A payload may hold points that were deleted:
they rank behind every limit, so no query may have them.
"""

from dataclasses import dataclass, replace

import numpy as np

from covertreex.base.validation import (
    as_array,
    blaming_float32,
    check_flag,
    check_names,
    check_points,
    check_rows,
    check_told_apart,
    has_tiny,
    read_only,
)
from covertreex.data.metrics import P_FLOOR, FactorSample, ResidualCorrelation, check_factors
from covertreex.data.payload import EUCLIDEAN, PayloadStore, empty_factors
from covertreex.errors import InvalidInputError
from covertreex.protocols import QueryBlock

#: Rows of the data, and queries, whose residual correlations are checked when the caller supplies factors.
SAMPLE, SAMPLE_QUERIES = 256, 32


@dataclass(frozen=True, eq=False)
class Queries:
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

    asked: np.ndarray
    predecessor_mode: bool
    include_self: bool
    order: np.ndarray | None
    limit: np.ndarray | None
    v_query: np.ndarray | None
    p_query: np.ndarray | None

    def __len__(self):
        return len(self.asked)

    @property
    def external(self):
        """bool: whether they are coordinates."""
        return self.asked.ndim == 2

    def draw(self, places):
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
    tree,
    queries=None,
    *,
    predecessor_mode=False,
    include_self=False,
    order=None,
    limit=None,
    v_query=None,
    p_query=None,
):
    """Check the arguments of `CoverTree.search` that say which neighbours are wanted, before any work.

    Returns
    -------
    Queries

    Raises
    ------
    InvalidInputError
        If one is out of range or of the wrong shape, or two contradict each other.
    """
    predecessor_mode = check_flag(predecessor_mode, "predecessor_mode")
    include_self = check_flag(include_self, "include_self")
    asked = _check_queries(tree, queries)
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
        order = _check_order(tree, order)
    if limit is not None:
        most = len(tree) if order is not None else len(tree.X)
        limit = _check_limit(limit, len(asked), most)
    if v_query is None and p_query is not None:
        raise InvalidInputError("p_query goes with v_query; give both, or v_query alone and p_query is computed.")
    if v_query is not None:
        v_query = _check_v_query(tree, asked, v_query)
        p_query = None if p_query is None else as_array(p_query, "p_query")
    elif asked.ndim == 2 and tree._projection is None:
        raise InvalidInputError(
            "queries given as coordinates need inducing points (inducing=...) or factors of their own (v_query=...): "
            "v_matrix has factors for the rows of X alone."
        )
    return Queries(asked, predecessor_mode, include_self, order, limit, v_query, p_query)


def block_of(tree, queries, n_threads):
    """The `QueryBlock` of checked queries, and the payload with the slack that they need.

    Returns
    -------
    block : QueryBlock
    payload : PayloadStore
        That of `tree`, its slack raised if external queries need more (B1).
    """
    payload, q = tree.payload, len(queries)
    if queries.external:
        rows = -1 - np.arange(q, dtype=np.int64)
        coords, factors, p, payload = _external(tree, queries, n_threads)
        exclude = np.full(q, -1, dtype=np.int64)
    else:
        places = places_of(tree, queries.asked)
        rows = payload.row[places]
        coords, factors, p = np.zeros((0, payload.coords.shape[1])), payload.factors[:0], np.zeros(0)
        exclude = np.full(q, -1, dtype=np.int64) if queries.include_self else rows

    rank = payload.index
    if queries.order is not None or tree._dead is not None:
        rank_of = np.arange(len(payload))
        if queries.order is not None:
            rank_of[places_of(tree, queries.order)] = np.arange(len(tree))
        if tree._dead is not None:
            rank_of[tree._dead] = len(payload) + np.arange(len(tree._dead))
        rank = rank_of[payload.index]
    if queries.predecessor_mode:
        limit = rank[rows] + queries.include_self
    elif queries.limit is None:
        limit = np.full(q, len(payload), dtype=np.int64)
    elif queries.order is None and tree._ids is not None:
        limit = np.searchsorted(tree._ids, queries.limit)
    else:
        limit = queries.limit
    arrays = (rows, coords, factors, p, exclude, limit.astype(np.int64), rank)
    return QueryBlock(*map(read_only, arrays), prefix=queries.order is None, slack_abs=payload.slack_abs), payload


def places_of(tree, indices):
    """What the payload calls these dataset indices: their places among the points that it holds."""
    return indices if tree._ids is None else np.searchsorted(tree._ids, indices)


def dataset_indices(tree, places):
    """Dataset indices of what a payload calls indices; -1 stays -1."""
    return places if tree._ids is None else np.where(places >= 0, tree._ids[places], -1)


def _check_queries(tree, queries):
    """Dataset indices (q,), or coordinates (q, d)."""
    if queries is None:
        return tree.ids
    array = as_array(queries, "queries")
    check_names(tree.feature_names_in_, queries, "queries")
    if array.shape == (0, tree.X.shape[1]):
        return np.zeros(array.shape)  # nothing is asked
    if array.ndim == 2:
        return check_points(queries, "queries", columns=tree.X.shape[1])
    if array.ndim == 0:
        raise InvalidInputError(
            f"queries must be integer rows, shape (q,), or coordinates, shape (q, d); got {queries!r}. "
            "Put one row, or what a generator or a set has, into a list."
        )
    rows = check_rows(array, len(tree.X), "queries")
    return check_living(tree, rows, "queries")


def check_living(tree, rows, name):
    """`rows`, none of which was deleted.

    Raises
    ------
    InvalidInputError
        Naming the first that was.
    """
    if tree._ids is not None or tree._dead is not None:
        dead = ~np.isin(rows, tree.ids)
        if dead.any():
            at = int(np.argmax(dead))
            raise InvalidInputError(
                f"{name} must be rows that were not deleted, got {rows[at]} at position {at}; tree.ids lists those "
                "that are left."
            )
    return rows


def _check_order(tree, order):
    n = len(tree)
    array = as_array(order, "order")
    if array.ndim != 1 or len(array) != n:
        raise InvalidInputError(f"order must be a permutation of all rows, shape ({n},), got shape {array.shape}.")
    array = check_living(tree, check_rows(array, len(tree.X), "order"), "order")
    times = np.bincount(array)
    if times.max() > 1:
        raise InvalidInputError(
            f"order must be a permutation of all rows, each once; it names row {np.argmax(times > 1)} "
            f"{times.max()} times. If these are ranks, give np.argsort(ranks)."
        )
    return array


def _check_limit(limit, q, most):
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


def _check_v_query(tree, asked, v_query):
    if not isinstance(tree.metric, ResidualCorrelation):
        raise InvalidInputError("v_query goes with the residual correlation; this metric has no factors.")
    if asked.ndim != 2:
        raise InvalidInputError(
            "v_query goes with queries that are coordinates; rows of X have factors already. Give coordinates, shape "
            "(q, d), or leave v_query out."
        )
    V = check_points(v_query, "v_query")
    m = columns_of(tree)
    if V.shape != (len(asked), m):
        hint = " It looks transposed: one row per query is wanted." if V.shape == (m, len(asked)) else ""
        raise InvalidInputError(
            f"v_query must have one row per query and as many columns as the data's factors, shape ({len(asked)}, "
            f"{m}), got {V.shape}.{hint}"
        )
    return V


def columns_of(tree):
    """Factors per point, without padding."""
    return np.shape(tree.metric.v_matrix)[1] if tree._projection is None else len(tree._projection.inducing)


def _external(tree, queries, n_threads):
    """Scaled coordinates, padded factors and p of coordinates, and the payload with the slack that they need."""
    payload, metric = tree.payload, tree.metric
    deficit = 0.0
    if queries.v_query is None:
        coords, factors, p = tree._projection(queries.asked, n_threads)
    else:
        coords, factors, p, deficit = _supplied(tree, queries)
    tiny = payload.kept.get("tiny", lambda: has_tiny(payload.coords))  # few queries need not look at all rows again
    check_told_apart(payload.coords, coords, "queries", tiny)
    if payload.metric == EUCLIDEAN or not isinstance(metric, ResidualCorrelation):
        return coords, factors, p, payload
    slack = payload.slack_abs
    if p.min(initial=np.inf) < payload.p.min():
        slack = max(slack, metric.slack(payload.factors.shape[1], p.min()))
    return coords, factors, p, with_slack(payload, slack + deficit)


def with_slack(payload: PayloadStore, slack_abs):
    """The payload with another absolute slack."""
    return payload if slack_abs == payload.slack_abs else replace(payload, slack_abs=float(slack_abs))


def _supplied(tree, queries):
    """As `_external`, of the caller's own factors; and how far they are from those of one covariance (B1)."""
    payload = tree.payload
    kernel, unit = payload.kernel, payload.unit
    coords = kernel.scale(queries.asked)
    m = queries.v_query.shape[1]
    factors = empty_factors(len(coords), payload.factors.shape[1])
    factors[:, :m], factors[:, m:] = queries.v_query / np.sqrt(unit), 0.0
    names = ("v_query", "p_query")
    with blaming_float32(names, queries.v_query, queries.p_query):
        p, deficit = check_factors(kernel, factors, m, queries.p_query, np.arange(len(coords)), unit, names)
    p = np.maximum(p, P_FLOOR * kernel.variance)
    if tree._sample is None:
        rows = np.unique(np.linspace(0, len(payload) - 1, SAMPLE).astype(np.int64))
        tree._sample = FactorSample(kernel, payload.coords[rows], payload.factors[rows], payload.p[rows])
    some = np.unique(np.linspace(0, len(coords) - 1, SAMPLE_QUERIES).astype(np.int64))
    with blaming_float32(names, queries.v_query, queries.p_query):
        return coords, factors, p, deficit + tree._sample.deficit(coords[some], factors[some], p[some], names[0])
