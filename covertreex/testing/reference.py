"""The contract in plain Python: the text of docs/architecture.md ("The search", "The scan"), slowly and obviously.

`ReferenceBackend` is what the conformance kit compares counters with. Distances come from `covertreex.oracle`, all rows
at once; everything else is lists, tuples and `heapq`. `make_payload` and `make_queries` build what the engine would,
without the engine.
"""

import bisect
import heapq
import math
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from covertreex import oracle
from covertreex.base.contract import COUNTERS
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import read_only
from covertreex.data.payload import EUCLIDEAN, RESIDUAL, ROUNDOFF, PayloadStore
from covertreex.data.tree import Tree
from covertreex.kernels import Kernel
from covertreex.protocols import MECHANISMS, PROTOCOL_VERSION, Capabilities, QueryBlock, ScanPlan, SearchOutput
from covertreex.settings import TraversalSettings

#: A `QueryBlock` or a `ScanPlan`.
Sealed = TypeVar("Sealed", QueryBlock, ScanPlan)

# ---------------------------------------------------------------------------------------------------------------------
# Data


def make_payload(
    X: ArrayLike,
    kernel: Kernel | None = None,
    inducing_rows: Sequence[int] | IntArray | None = None,
    jitter: float = 1e-6,
    *,
    order: ArrayLike | None = None,
    p: ArrayLike | None = None,
    slack_abs: float | None = None,
    slack_rel: float | None = None,
) -> PayloadStore:
    """A payload store, from canonical arithmetic in NumPy.

    Parameters
    ----------
    X : array_like, shape (n, d)
    kernel : Kernel, optional
        Without one the metric is Euclidean.
    inducing_rows : sequence of int, optional
        Dataset indices of the inducing points; none by default.
    jitter : float
    order : sequence of int, shape (n,), optional
        Dataset index of each row; the identity by default.
    p : array_like, shape (n,), optional
        Residual variances by dataset index, instead of those that follow from the factors.
    slack_abs, slack_rel : float, optional
        Generous for small, well-conditioned data by default.

    Returns
    -------
    PayloadStore
    """
    X = np.asarray(X, dtype=np.float64)
    n, d = X.shape
    index = np.arange(n) if order is None else np.array(order, dtype=np.int64)
    row = np.argsort(index)
    if kernel is None:
        return PayloadStore(
            EUCLIDEAN, None, np.ascontiguousarray(X[index]), np.zeros((n, 0)), np.zeros(0), index, row,
            1e-300 if slack_abs is None else slack_abs,
            (2 * d + 16) * ROUNDOFF if slack_rel is None else slack_rel,
        )  # fmt: skip

    coords = kernel.scale(X)[index]
    factors, floored = np.zeros((n, 0)), 0
    if inducing_rows is not None and len(inducing_rows):
        Z = coords[row[np.asarray(inducing_rows)]]
        L = oracle.canonical_cholesky(_covariance(kernel, Z, Z) + jitter * np.eye(len(Z)))
        factors = oracle.canonical_solve(L, _covariance(kernel, coords, Z))
    if p is None:
        p = kernel.variance - oracle.dot16(factors, factors)
        floored = int(np.sum(p < 1e-9 * kernel.variance))
    else:
        p = np.asarray(p, dtype=np.float64)[index]
    return PayloadStore(
        RESIDUAL, kernel, coords, factors, np.maximum(p, 1e-9 * kernel.variance), index, row,
        1e-6 if slack_abs is None else slack_abs,
        16 * ROUNDOFF if slack_rel is None else slack_rel,
        floored,
    )  # fmt: skip


def _covariance(kernel: Kernel, A: FloatArray, B: FloatArray) -> FloatArray:
    return oracle.covariances(kernel, A[:, None], B[None])


def split_payload(payload: PayloadStore, n: int) -> tuple[PayloadStore, QueryBlock]:
    """The first `n` rows of a payload in dataset order, and the others as its external queries.

    Parameters
    ----------
    payload : PayloadStore
        With the identity as row order.
    n : int

    Returns
    -------
    payload : PayloadStore
    queries : QueryBlock
    """
    first = PayloadStore(
        payload.metric, payload.kernel, payload.coords[:n].copy(), payload.factors[:n].copy(), payload.p[:n].copy(),
        np.arange(n), np.arange(n), payload.slack_abs, payload.slack_rel,
    )  # fmt: skip
    q = len(payload) - n
    queries = QueryBlock(
        -1 - np.arange(q), payload.coords[n:].copy(), payload.factors[n:].copy(), payload.p[n:].copy(),
        np.full(q, -1), np.full(q, n), np.arange(n), False, payload.slack_abs,
    )  # fmt: skip
    return first, queries


def make_queries(
    payload: PayloadStore,
    dataset_indices: ArrayLike,
    predecessor_mode: bool = False,
    include_self: bool = False,
    rank: ArrayLike | None = None,
    slack_abs: float | None = None,
) -> QueryBlock:
    """A query block for points of the dataset.

    Parameters
    ----------
    payload : PayloadStore
    dataset_indices : sequence of int, shape (q,)
    predecessor_mode : bool
        Only points of lower rank than the query (with `include_self`: or of its own) are returned.
    include_self : bool
    rank : sequence of int, shape (n,), optional
        Rank of each dataset index in an order of the caller's; by default the dataset index itself.
    slack_abs : float, optional
        The payload's by default.

    Returns
    -------
    QueryBlock
    """
    rows = payload.row[np.asarray(dataset_indices, dtype=np.int64)]
    n, q = len(payload), len(rows)
    row_rank = payload.index.copy() if rank is None else np.asarray(rank, dtype=np.int64)[payload.index]
    limit = row_rank[rows] + include_self if predecessor_mode else np.full(q, n)
    return QueryBlock(
        rows, np.zeros((0, payload.coords.shape[1])), np.zeros((0, payload.factors.shape[1])), np.zeros(0),
        np.full(q, -1) if include_self else rows.copy(), limit, row_rank, rank is None,
        payload.slack_abs if slack_abs is None else slack_abs,
    )  # fmt: skip


def sealed(data: Sealed) -> Sealed:
    """`data`, a `QueryBlock` or `ScanPlan`, its arrays made read-only, as those that the driver hands out are.

    Returns
    -------
    QueryBlock or ScanPlan
        The same object.
    """
    for value in vars(data).values():
        if isinstance(value, np.ndarray):
            read_only(value)
        elif isinstance(value, QueryBlock):
            sealed(value)
    return data


# ---------------------------------------------------------------------------------------------------------------------
# The two verbs, one query at a time


class Best:
    """K: the k best offers so far, by INVARIANT A7."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.offers: list[tuple[float, float, float, int]] = []

    @property
    def kth(self) -> float:
        """float: the k-th best distance, inf until there are k."""
        return self.offers[-1][0] if len(self.offers) == self.k else math.inf

    def offer(self, d: float, ties: tuple[float, float], index: int) -> bool:
        """Whether the offer is accepted; `ties` is (``-|rho|``, squared scaled distance)."""
        if len(self.offers) == self.k and (d, *ties, index) >= self.offers[-1]:
            return False
        bisect.insort(self.offers, (d, *ties, index))
        del self.offers[self.k :]
        return True

    def write(self, distances: FloatArray, indices: IntArray) -> None:
        """Write the offers, sorted, and (inf, -1) past the last."""
        distances[:], indices[:] = math.inf, -1
        for place, (d, _, _, index) in enumerate(self.offers):
            distances[place], indices[place] = d, index


def query_nearness(payload: PayloadStore, queries: QueryBlock, q: int) -> tuple[list[float], list[tuple[float, float]]]:
    """Of query `q` and each row, what A7 sorts by.

    Returns
    -------
    distances : list of float
    ties : list of (float, float)
        ``-|rho|`` and the squared scaled distance.
    """
    distances, *ties = oracle.canonical_nearness(payload, queries, q, np.arange(len(payload)))
    return distances.tolist(), list(zip(*(column.tolist() for column in ties), strict=True))


class Walk:
    """The tree search of one query."""

    def __init__(
        self, tree: Tree, payload: PayloadStore, queries: QueryBlock, q: int, k: int, settings: TraversalSettings
    ) -> None:
        self.tree, self.payload, self.settings = tree, payload, settings
        self.prefix, self.slack_abs = queries.prefix, queries.slack_abs
        self.limit, self.exclude, self.rank = queries.limit[q], queries.exclude[q], queries.rank
        self.distance, self.ties = query_nearness(payload, queries, q)
        self.best = Best(k)
        self.frontier: list[tuple[float, int, int, float]] = []  # bound, number of the push, node, its distance
        self.visited: set[int] = set()
        self.evaluated: dict[int, int] = {}  # nodes per level
        self.count = dict.fromkeys(COUNTERS, 0)

    def run(self) -> str:
        """The reason for stopping; the answer is in `best`, the counters in `count`."""
        tree, settings = self.tree, self.settings
        if self.prefix and self.payload.index[tree.root] >= self.limit:
            return "exhausted"
        self.take([tree.root], None)
        narrowest = settings.stream_tile // 8 if settings.dynamic_tile else settings.stream_tile
        width = narrowest
        self._start_rung(0, 0, 0)
        self.grace = True
        while self.frontier:
            if settings.kth_frontier_stop and self.frontier[0][0] > self.best.kth:
                return "kth_frontier"
            _, _, node, dq = heapq.heappop(self.frontier)
            children = self.children(node)
            while children:
                tile, children = children[:width], children[width:]
                yields = self.count["yields"]
                self.take(tile, dq)
                if self._budget_stops():
                    return "budget"
                if settings.dynamic_tile:
                    fruitless = self.count["yields"] == yields
                    width = min(2 * width, settings.stream_tile) if fruitless else narrowest
        return "exhausted"

    def children(self, node: int) -> list[int]:
        """Children of `node` in the order asked for; that of insertion is cut at the limit (INVARIANT Q1)."""
        tree, index = self.tree, self.payload.index
        children: list[int] = tree.children[tree.child_ptr[node] : tree.child_ptr[node + 1]].tolist()
        if self.settings.child_order == "nearest":
            return sorted(children, key=lambda c: (tree.parent_distance[c], index[c]))
        if self.prefix:
            past = [place for place, c in enumerate(children) if index[c] >= self.limit]
            children = children[: past[0]] if past else children
        return children

    def is_fresh(self, c: int) -> bool:
        """Whether `c` was not visited before; marks it visited."""
        if c in self.visited:
            return False
        self.visited.add(c)
        return True

    def take(self, tile: list[int], dq: float | None) -> None:
        """Visit, evaluate, offer and push a tile, whose parent is at computed distance `dq`."""
        tree, settings, count, best = self.tree, self.settings, self.count, self.best
        fresh = []
        for c in tile:
            if self.prefix and self.payload.index[c] >= self.limit:
                continue
            if not self.is_fresh(c):
                count["prunes_visited"] += 1
                continue
            count["nodes_visited"] += 1
            level = tree.level[c]
            if settings.level_cap and self.evaluated.get(level, 0) >= settings.level_cap:
                count["caps_applied"] += 1
                continue
            if settings.level_cache and dq is not None and self._bound_by_parent(dq, c) > best.kth:
                count["level_cache_hits"] += 1
                continue
            self.evaluated[level] = self.evaluated.get(level, 0) + 1
            fresh.append(c)
        count["distance_evals"] += len(fresh)
        for c in fresh:
            d = self.distance[c]
            if self.is_allowed(c):
                count["yields"] += best.offer(d, self.ties[c], int(self.payload.index[c]))
            if not self._is_inner(c):
                continue
            bound = self.bound(d, c)
            if bound > best.kth:
                count["prunes_bound"] += 1
            else:
                heapq.heappush(self.frontier, (bound, count["frontier_pushes"], c, d))
                count["frontier_pushes"] += 1
                count["frontier_peak"] = max(count["frontier_peak"], len(self.frontier))

    def is_allowed(self, c: int) -> bool:
        """Whether row `c` may be returned."""
        return bool(self.rank[c] < self.limit and c != self.exclude)

    def bound(self, d: float, c: int) -> float:
        """No descendant of `c`, itself at computed distance `d`, computes nearer than this (B2)."""
        return self._bound(self._lower(d), self._radius(c))

    def _is_inner(self, c: int) -> bool:
        return bool(self.tree.child_ptr[c] < self.tree.child_ptr[c + 1])

    def _radius(self, c: int) -> float:
        return max(float(self.tree.si[c]), self.settings.radius_floor) if self._is_inner(c) else 0.0

    def _bound(self, far: float, radius: float) -> float:
        t = far - radius
        return self._lower(t) if t > 0.0 else 0.0

    def _bound_by_parent(self, dq: float, c: int) -> float:
        lower, upper, pd = self._lower, self._upper, self.tree.parent_distance[c]
        return self._bound(max(lower(dq) - upper(pd), lower(pd) - upper(dq)), self._radius(c))

    def _lower(self, d: float) -> float:
        return float(self.payload.lower(d, self.slack_abs))

    def _upper(self, d: float) -> float:
        return float(self.payload.upper(d, self.slack_abs))

    def _start_rung(self, rung: int, yields: int, evals: int) -> None:
        self.rung, self.rung_yields, self.rung_evals = rung, yields, evals

    def _budget_stops(self) -> bool:
        settings, evals, yields = self.settings, self.count["distance_evals"], self.count["yields"]
        if not settings.budget_schedule or evals < settings.budget_schedule[self.rung]:
            return False
        if self.rung == len(settings.budget_schedule) - 1:
            return True
        if evals > self.rung_evals:  # else the last tile ended two rungs at once: nothing to judge this one by
            y = (yields - self.rung_yields) / (evals - self.rung_evals)
            if y < settings.budget_down:
                return True
            if y < settings.budget_up:
                if not self.grace:
                    return True
                self.grace = False
        self.count["budget_escalations"] += 1
        self._start_rung(self.rung + 1, yields, evals)
        return False


class Sweep:
    """The scan of one query, which is in group `group` of the plan."""

    def __init__(
        self, payload: PayloadStore, plan: ScanPlan, group: int, q: int, k: int, settings: TraversalSettings
    ) -> None:
        queries = plan.queries
        self.payload, self.plan, self.group, self.settings = payload, plan, group, settings
        self.limit, self.exclude, self.rank = queries.limit[q], queries.exclude[q], queries.rank
        self.kth_upper = float(plan.kth_upper[q])
        self.distance, self.ties = query_nearness(payload, queries, q)
        self.best = Best(k)
        self.count = dict.fromkeys(COUNTERS, 0)

    def run(self) -> str:
        """The reason for stopping; the answer is in `best`, the counters in `count`."""
        plan, count = self.plan, self.count
        for run in range(plan.run_ptr[self.group], plan.run_ptr[self.group + 1]):
            if self.settings.kth_frontier_stop and plan.run_lower[run] > min(self.best.kth, self.kth_upper):
                return "kth_frontier"
            for row in range(plan.run_start[run], plan.run_stop[run]):
                if not self.is_allowed(row):
                    continue
                count["distance_evals"] += 1
                count["nodes_visited"] += 1
                d = self.distance[row]
                if d <= self.kth_upper:
                    count["yields"] += self.best.offer(d, self.ties[row], int(self.payload.index[row]))
        return "exhausted"

    def is_allowed(self, row: int) -> bool:
        """Whether `row` may be returned."""
        return bool(self.rank[row] < self.limit and row != self.exclude)


class ReferenceBackend:
    """`covertreex.protocols.Traversal`, slowly: what other backends' counters are compared with.

    Examples
    --------
    >>> import covertreex as cx
    >>> isinstance(ReferenceBackend(), cx.protocols.Traversal)
    True
    """

    name = "reference"
    protocol_version = PROTOCOL_VERSION
    capabilities = Capabilities(
        mechanisms=frozenset(MECHANISMS) - {"gate", "gemm"},
        summary="the contract in plain Python, for tests",
    )
    walk_type: ClassVar[type[Walk]] = Walk
    sweep_type: ClassVar[type[Sweep]] = Sweep

    def search(
        self,
        tree: Tree,
        payload: PayloadStore,
        queries: QueryBlock,
        k: int,
        settings: TraversalSettings,
        out: SearchOutput,
    ) -> None:
        """See `covertreex.protocols.Traversal.search`."""
        for q in range(len(queries)):
            if self.is_cancelled(out):
                return
            self.finish(self.walk_type(tree, payload, queries, q, k, settings), out, q)

    def scan(
        self, payload: PayloadStore, plan: ScanPlan, k: int, settings: TraversalSettings, out: SearchOutput
    ) -> None:
        """See `covertreex.protocols.Traversal.scan`."""
        for group in range(len(plan.group_ptr) - 1):
            for q in range(plan.group_ptr[group], plan.group_ptr[group + 1]):
                if self.is_cancelled(out):
                    return
                self.finish(self.sweep_type(payload, plan, group, q, k, settings), out, q)

    def is_cancelled(self, out: SearchOutput) -> bool:
        """Whether the driver wants no more."""
        return bool(out.cancel[0] != 0)

    def finish(self, task: Walk | Sweep, out: SearchOutput, q: int) -> None:
        """Run a `Walk` or `Sweep` and write its answer and counters as those of query `q`."""
        task.count[f"stop_{task.run()}"] = 1
        task.best.write(out.distances[q], out.indices[q])
        out.counters[q] = [task.count[name] for name in COUNTERS]
