"""What the checks share: spaces to search in, hand-made trees and plans, and comparisons that say what differs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from covertreex import kernels, oracle
from covertreex.base.contract import COUNTERS
from covertreex.data import metrics
from covertreex.data.build import build_tree
from covertreex.data.payload import PayloadStore
from covertreex.data.tree import Tree
from covertreex.kernels.expression import Factor
from covertreex.kernels.table import make_table
from covertreex.protocols import QueryBlock, ScanPlan, SearchOutput, ShortlistOutput
from covertreex.settings import PARITY
from covertreex.testing.reference import ReferenceBackend, make_queries, sealed


def levels_of(backend):
    """The levels that a backend claims; none of something that is no backend."""
    return getattr(getattr(backend, "capabilities", None), "claimed", ())


def verbs_of(backend):
    """The verbs by which a backend answers."""
    return ("search", "scan") if "L1" in levels_of(backend) else ("scan",)


class CheckFailure(AssertionError):
    """A backend breaks the contract; the message says where, and shows both sides.

    Examples
    --------
    >>> issubclass(CheckFailure, AssertionError)
    True
    """


# ---------------------------------------------------------------------------------------------------------------------
# Spaces


@dataclass(frozen=True, eq=False)
class Space:
    """Points under a metric, as the engine prepares them.

    Attributes
    ----------
    label : str
        What messages call it.
    X : ndarray, shape (n, d)
    metric : Euclidean, Correlation or ResidualCorrelation
    payload : PayloadStore
    projection : covertreex.data.factors.Projection
    """

    label: str
    X: np.ndarray
    metric: Any
    payload: PayloadStore
    projection: Any

    @classmethod
    def of(cls, label, X, metric):
        """Prepare `X` under `metric`."""
        X = np.ascontiguousarray(X, dtype=np.float64)
        return cls(label, X, metric, *metric.prepare(X))

    def __len__(self):
        return len(self.X)

    @cached_property
    def tree(self):
        """Tree: the engine's cover tree."""
        return build_tree(self.payload)

    def queries(self, indices=None, **options):
        """Queries for points of the dataset (by default all); `options` as for `make_queries`."""
        return sealed(make_queries(self.payload, range(len(self)) if indices is None else indices, **options))

    def external(self, points, exclude=-1, limit=None):
        """Queries for coordinates; `exclude` is a row, `limit` a rank."""
        coords, factors, p = self.projection(np.ascontiguousarray(points), 1)
        q, n = len(points), len(self)
        arrays = (
            -1 - np.arange(q), coords.copy(), factors, p,
            np.full(q, exclude), np.full(q, n if limit is None else limit), self.payload.index.copy(),
        )  # fmt: skip
        return sealed(QueryBlock(*arrays, prefix=True, slack_abs=self.payload.slack_abs))

    def oracle(self):
        """The dense oracle of the same points and metric."""
        kernel = getattr(self.metric, "kernel", None)
        inducing = getattr(self.metric, "inducing", None)
        return oracle.DenseOracle(self.X, kernel=kernel, inducing=inducing)


def spaces(n=120, seed=0):
    """One space per metric: Euclidean, correlation, residual correlation."""
    X = np.random.default_rng(seed).normal(size=(n, 3))
    return [
        Space.of("Euclidean", X, metrics.Euclidean()),
        Space.of("correlation", X, metrics.Correlation(kernels.Matern32(lengthscale=1.5, variance=1.7))),
        Space.of("residual", X, metrics.ResidualCorrelation(kernels.RBF(lengthscale=1.0), inducing=min(n, 24))),
    ]


def hard_spaces():
    """Spaces on which an error bound of a screen that is too small shows (docs/mathematics.md, V2)."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=(12, 2))
    near = rng.permutation(np.concatenate([base, base + 1e-9 * rng.normal(size=base.shape), base + 1e-5]))
    angle = rng.permutation(np.linspace(0.0, 2.0 * np.pi, 28))
    circle = (1.0 + 1e-8 * rng.normal(size=28))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    places = rng.permutation(np.repeat(rng.normal(size=(10, 2)), 4, axis=0))
    wide = rng.normal(size=(40, 2)) * np.logspace(-5, 5, 40)[:, None]
    rbf, rough = kernels.RBF(1.0), kernels.Matern12(1.0, variance=1.7)
    return [
        Space.of("tiny p", near, metrics.ResidualCorrelation(rbf, inducing=base[:10], jitter=1e-10)),
        Space.of("near ties", np.concatenate([circle, 1e-3 * base]), metrics.ResidualCorrelation(rbf, np.eye(2))),
        Space.of("duplicates", places, metrics.ResidualCorrelation(rough, inducing=places[:4] + 0.1)),
        Space.of("lattice", lattice()[:40], metrics.Correlation(kernels.Matern12(3.0))),
        Space.of("far apart", wide, metrics.Correlation(kernels.RationalQuadratic(1.0, alpha=0.5))),
        Space.of("long sums", rng.normal(size=(40, 3)), _of_long_factors(rng, 40)),
    ]


def _of_long_factors(rng, n):
    """A metric of supplied factors, nearly the same in 240 components: rounding adds up in one direction."""
    v = np.full((n, 240), np.sqrt(0.5 / 240.0)) * (1.0 + 1e-3 * rng.normal(size=(n, 240)))
    return metrics.ResidualCorrelation(kernels.RBF(1e3), v_matrix=v, p_diag=1.0 - np.einsum("ij,ij->i", v, v))


def true_rho(payload, queries, q, rows):
    """Canonical ``|rho|`` of a query and rows (A5).

    Returns
    -------
    ndarray, shape (r,), float64
    """
    return -oracle.canonical_nearness(payload, queries, q, rows)[1]


@dataclass(frozen=True)
class RoughExample(kernels.Stationary):
    """``variance * exp(-r**power)``: without a slope at 0 where the power is small."""

    power: float = 0.4

    def correlation(self, r2, by=kernels.Plain):
        """See `covertreex.kernels.Stationary.correlation`."""
        return np.exp(-np.power(r2, 0.5 * self.power))


@dataclass(frozen=True)
class CompactExample(kernels.Stationary):
    """``variance * (1 - r)**4 (1 + 4 r)``, and 0 where r is above 1."""

    def correlation(self, r2, by=kernels.Plain):
        """See `covertreex.kernels.Stationary.correlation`."""
        r = np.minimum(np.sqrt(r2), 1.0)
        return (1.0 - r) ** 4 * (1.0 + 4.0 * r)


@dataclass(frozen=True)
class WaveExample(kernels.Stationary):
    """``variance * exp(-r / 4) cos(r)``, of one column: above 0 and below, in turns."""

    def correlation(self, r2, by=kernels.Plain):
        """See `covertreex.kernels.Stationary.correlation`."""
        r = np.sqrt(r2)
        return np.exp(-0.25 * r) * np.cos(r)


@dataclass(frozen=True)
class SpaceTimeExample(kernels.Kernel):
    """``psi(u) exp(-psi(u) h**2 / 2)``, ``psi(u) = 1 / (1 + u**2)``, of distances h in two columns and u in another.

    Source: Gneiting, *Nonseparable, Stationary Covariance Functions for Space-Time Data* (2002).
    """

    variance: float = 1.0

    _smooth: ClassVar[Any] = make_table(lambda t: np.exp(-0.5 * t))
    _slow: ClassVar[Any] = make_table(lambda t: 1.0 / (1.0 + t), above=None)

    def terms(self):
        """See `covertreex.kernels.Kernel`."""
        space, time = kernels.Columns(0.6, (0, 1)), kernels.Columns(0.4, (2,))
        slow = Factor(time, self._slow)
        return [(self.variance, [slow, Factor(space, self._smooth, rescale=slow)])]


def kernels_by_tables():
    """Kernels of three columns that have no closed form (A10): functions of several shapes, their sums and products.

    Returns
    -------
    dict of str to Kernel
    """
    rough, compact, wave = RoughExample(0.8, variance=1.7), CompactExample(1.5), WaveExample(0.5, active_dims=[0])
    return {
        "smooth": RoughExample(0.9, power=2.0),
        "rough": rough,
        "compact support": compact,
        "oscillating": WaveExample(0.3, active_dims=[1]),
        "a lengthscale per axis": RoughExample((0.7, 1.9, 0.4), power=1.3),
        "sum": kernels.RBF(1.0) + kernels.Matern12(0.2, variance=0.5),
        "product over two groups": kernels.RBF(0.5, active_dims=[0, 1]) * kernels.Matern12(0.3, active_dims=[2]),
        "rescaled": SpaceTimeExample(2.0),
        "sums of products": 2.5 * ((compact + wave) * rough + SpaceTimeExample(0.3)),
    }


def lattice(side=4, seed=0):
    """Points of a cubic lattice in random order: nearly every distance is tied."""
    axes = np.meshgrid(*[np.arange(side, dtype=np.float64)] * 3)
    X = np.stack(axes, axis=-1).reshape(-1, 3)
    return np.random.default_rng(seed).permutation(X)


def hand_made_tree(payload, parent, extra=()):
    """A tree of any shape; a search needs neither cover nor separation.

    Parameters
    ----------
    payload : PayloadStore
    parent : sequence of int, shape (n,)
        Parent of each row, -1 for the root; a parent has a lower dataset index than its children.
    extra : sequence of (int, int)
        (node, child) pairs: `node` lists `child` once more, which a tree never does and a visited set must notice.

    Returns
    -------
    Tree
    """
    n = len(payload)
    parent = np.asarray(parent, dtype=np.int64)
    below = [[] for _ in range(n)]
    for node, child in [*((int(up), x) for x, up in enumerate(parent) if up >= 0), *extra]:
        below[node].append(child)
    below = [sorted(nodes, key=lambda x: payload.index[x]) for nodes in below]
    depth, farthest = np.zeros(n, dtype=np.int64), np.full(n, -1.0)
    for x in payload.row[::-1]:
        for child in below[x]:
            farthest[x] = max(farthest[x], _reach(payload, x, child, below))
    for x in payload.row[1:]:
        depth[x] = depth[parent[x]] + 1
    distance = oracle.canonical_distances(payload, np.arange(n), np.maximum(parent, 0))
    return Tree(
        root=int(payload.row[0]),
        parent=parent,
        level=-depth,
        child_ptr=np.cumsum([0] + [len(nodes) for nodes in below]),
        children=np.array([x for nodes in below for x in nodes], dtype=np.int64),
        parent_distance=np.where(parent < 0, 0.0, distance),
        si=np.where(farthest < 0.0, 0.0, payload.upper(farthest)),
    )


def _reach(payload, x, child, below):
    """The largest distance from `x` to `child` or a descendant of it."""
    rows, at = [child], 0
    while at < len(rows):
        rows.extend(below[rows[at]])
        at += 1
    return float(oracle.canonical_distances(payload, x, np.array(rows)).max())


# ---------------------------------------------------------------------------------------------------------------------
# Plans


def make_plan(queries, groups, lower=None, kth_upper=None):
    """A scan plan from lists.

    Parameters
    ----------
    queries : QueryBlock
    groups : list of (int, list of (int, int))
        For each group, how many queries and which runs of rows.
    lower : list of float, optional
        Of each run of each group in order; 0 by default.
    kth_upper : sequence of float, shape (q,), optional

    Returns
    -------
    ScanPlan
    """
    runs = [run for _, group in groups for run in group]
    return sealed(
        ScanPlan(
            queries=queries,
            group_ptr=np.cumsum([0] + [count for count, _ in groups]),
            run_ptr=np.cumsum([0] + [len(group) for _, group in groups]),
            run_start=np.array([start for start, _ in runs], dtype=np.int64),
            run_stop=np.array([stop for _, stop in runs], dtype=np.int64),
            run_lower=np.zeros(len(runs)) if lower is None else np.array(lower, dtype=np.float64),
            kth_upper=np.full(len(queries), np.inf) if kth_upper is None else np.array(kth_upper, dtype=np.float64),
        )
    )


def whole_range(queries):
    """One group of all queries, compared with every row."""
    return make_plan(sealed(queries), [(len(queries), [(0, len(queries.rank))])])


def nearest_runs_first(payload, queries, sizes, width):
    """A plan whose groups take `sizes` queries and meet runs of `width` rows, nearest first, with true lower bounds."""
    groups, lower, begin = [], [], 0
    runs = [(start, min(start + width, len(payload))) for start in range(0, len(payload), width)]
    everything = np.arange(len(payload))
    for size in sizes:
        rows = queries.rows[begin : begin + size]
        D = oracle.canonical_distances(payload, rows[:, None], everything[None, :])
        nearest = [float(D[:, start:stop].min()) if size else 0.0 for start, stop in runs]
        order = np.argsort(nearest, kind="stable")
        groups.append((size, [runs[i] for i in order]))
        lower.extend(nearest[i] for i in order)
        begin += size
    return make_plan(queries, groups, lower)


# ---------------------------------------------------------------------------------------------------------------------
# Calls


def search(backend, space, queries, k, settings=PARITY, tree=None):
    """What `backend` answers by walking the tree of `space`, or `tree`.

    Returns
    -------
    SearchOutput
    """
    out = SearchOutput.empty(len(queries), k)
    backend.search(space.tree if tree is None else tree, space.payload, sealed(queries), k, settings, out)
    return out


def scan(backend, space, plan, k, settings=PARITY):
    """What `backend` answers by a scan.

    Returns
    -------
    SearchOutput
    """
    out = SearchOutput.empty(len(plan.queries), k)
    backend.scan(space.payload, plan, k, settings, out)
    return out


def answer(backend, verb, space, queries, k, settings=PARITY):
    """What `backend` answers by `verb`; a scan compares with every row.

    Returns
    -------
    SearchOutput
    """
    if verb == "search":
        return search(backend, space, queries, k, settings)
    return scan(backend, space, whole_range(queries), k, settings)


def shortlists(backend, what, space, plan, k, thresholds, handle=None):
    """What `backend` returns of a plan by its screens: an array of rows for each query.

    Parameters
    ----------
    handle : optional
        What it prepared of the payload; by default prepared, and released, here.

    Returns
    -------
    list of ndarray
    """
    out = ShortlistOutput.empty(len(plan.queries))
    own = backend.prepare(space.payload) if handle is None else handle
    rows = backend.shortlist(own, plan, thresholds, k, out)
    if handle is None:
        backend.release(own)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.int64 or rows.shape != (out.counts.sum(),):
        shown = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        fail(f"{what}: it returned {shown}, where an int64 array of shape ({out.counts.sum()},), its counts, is due.")
    lists = np.split(rows, np.cumsum(out.counts)[:-1]) if len(out.counts) else []
    for q, one in enumerate(lists):
        if len(np.unique(one)) != len(one):
            fail(f"{what}: query {q} is given a row twice (V4).")
    return lists


# ---------------------------------------------------------------------------------------------------------------------
# Comparisons


def fail(message):
    """Raise `CheckFailure`."""
    raise CheckFailure(message)


def expect_answer(what, out, indices, distances):
    """The answer in `out` is this one, to the bit."""
    wrong = (out.indices != indices) | (out.distances != distances)
    if wrong.any():
        q, place = (int(i) for i in np.argwhere(wrong)[0])
        fail(
            f"{what}: {int(wrong.any(axis=1).sum())} of {len(wrong)} queries are answered wrongly. Query {q}, place "
            f"{place}: got index {out.indices[q, place]} at distance {out.distances[q, place]!r}, expected index "
            f"{indices[q, place]} at {distances[q, place]!r}."
        )


def expect_counters(what, out, counters):
    """The counters in `out` are these."""
    wrong = out.counters != counters
    if wrong.any():
        q, column = (int(i) for i in np.argwhere(wrong)[0])
        names = ", ".join(COUNTERS[i] for i in np.flatnonzero(wrong.any(axis=0)))
        fail(
            f"{what}: counters differ from the reference's ({names}). Query {q}: {COUNTERS[column]} is "
            f"{out.counters[q, column]}, expected {counters[q, column]}."
        )


def expect_same(backend, what, out, expected):
    """The answer in `out` is that in `expected`, and so are the counters, if `backend` claims them (L1)."""
    expect_answer(what, out, expected.indices, expected.distances)
    if "L1" in levels_of(backend):
        expect_counters(what, out, expected.counters)


def expect_right(backend, what, space, queries, k, verbs=None):
    """By each verb (by default all of its), `backend` gives the answer of `covertreex.oracle.canonical`, to the bit."""
    indices, distances = oracle.canonical(space.payload, queries, k)
    for verb in verbs_of(backend) if verbs is None else verbs:
        out = answer(backend, verb, space, queries, k)
        expect_answer(f"{what} ({space.label}, k={k}, {verb})", out, indices, distances)


def expect_reference_search(backend, what, space, queries, k, settings=PARITY, tree=None):
    """`backend` searches like the reference, if it searches trees: same bits, same counters."""
    if "L1" not in levels_of(backend):
        return
    expected = search(ReferenceBackend(), space, queries, k, settings, tree)
    out = search(backend, space, queries, k, settings, tree)
    expect_same(backend, f"{what} ({space.label}, k={k}, search)", out, expected)


def expect_reference_scan(backend, what, space, plan, k, settings=PARITY):
    """`backend` scans like the reference: same bits, and the same counters if it claims them."""
    expected = scan(ReferenceBackend(), space, plan, k, settings)
    expect_same(backend, f"{what} ({space.label}, k={k}, scan)", scan(backend, space, plan, k, settings), expected)
