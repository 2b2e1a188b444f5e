"""B1 to B3 of docs/mathematics.md on data made to hurt: p at its floor, near-duplicates, ties, private variance.

`extended_distances` computes the true metric from the same coordinates in extended precision (np.longdouble), by the
textbook. Where a platform has none better than float64, it is still an independent computation.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from naive import make_queries

import covertreex as cx
from covertreex import oracle
from covertreex.backends import registry
from covertreex.backends.telemetry import COUNTERS
from covertreex.data.build import build_tree
from covertreex.protocols import SearchOutput

LONG = np.longdouble


# ---------------------------------------------------------------------------------------------------------------------
# Data


def near_duplicates(rng, n, d, spacings=(1e-9, 1e-8, 1e-6, 1e-3)):
    """Clusters in which the distance between points is one of `spacings`."""
    centres = rng.normal(size=(max(1, n // 6), d))
    X = np.repeat(centres, 6, axis=0)[:n]
    return X + rng.choice(spacings, size=(len(X), 1)) * rng.integers(-2, 3, size=X.shape)


def grid(side):
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) / 4.0


def around(Z, rng, n):
    """The points Z themselves, and others close to them, at all scales from 1e-6 to 1e-3."""
    steps = 10.0 ** rng.uniform(-6, -3, size=(n, 1)) * rng.normal(size=(n, Z.shape[1]))
    return np.concatenate([Z, Z[rng.integers(0, len(Z), n)] + steps])


def with_private_variance(rng):
    X = near_duplicates(rng, 90, 2)
    payload, _ = cx.ResidualCorrelation(cx.RBF(), inducing=np.arange(0, 90, 9)).prepare(X)
    V = payload.factors[payload.row]
    p = payload.p[payload.row] * (1.0 + rng.choice([0.0, 1e-12, 1e-3, 10.0], size=90))
    return X, cx.ResidualCorrelation(cx.RBF(), v_matrix=V, p_diag=p)


HARD = {
    "p-at-its-floor": lambda rng: (
        around(rng.normal(size=(8, 2)), rng, 80),
        cx.ResidualCorrelation(cx.RBF(variance=2.0), inducing=np.arange(8), jitter=1e-10),
    ),
    "p-tiny": lambda rng: (
        rng.uniform(size=(90, 2)),
        cx.ResidualCorrelation(cx.RBF(), inducing=np.arange(40), jitter=1e-6),
    ),
    "near-duplicates-rbf": lambda rng: (
        near_duplicates(rng, 90, 3),
        cx.ResidualCorrelation(cx.RBF(), inducing=np.arange(0, 90, 7), jitter=1e-8),
    ),
    "near-duplicates-matern12": lambda rng: (
        near_duplicates(rng, 90, 2),
        cx.ResidualCorrelation(cx.Matern12(0.5), inducing=np.arange(0, 90, 7)),
    ),
    "near-duplicates-rq": lambda rng: (
        near_duplicates(rng, 90, 2),
        cx.ResidualCorrelation(cx.RationalQuadratic(0.5, alpha=40.0), inducing=np.arange(0, 90, 7), jitter=1e-5),
    ),
    "grid-residual": lambda rng: (grid(10), cx.ResidualCorrelation(cx.Matern52(), inducing=grid(10)[::11])),
    "grid-correlation": lambda rng: (grid(10), cx.Correlation(cx.Matern32())),
    "grid-euclidean": lambda rng: (grid(10), cx.Euclidean()),
    "near-duplicates-euclidean": lambda rng: (near_duplicates(rng, 90, 3), cx.Euclidean()),
    "nearly-correlated": lambda rng: (1e-7 * rng.normal(size=(90, 2)), cx.Correlation(cx.RBF())),
    "without-jitter": lambda rng: (
        rng.normal(size=(60, 2)),
        cx.ResidualCorrelation(cx.Matern12(), inducing=np.arange(10), jitter=0.0),
    ),
    "private-variance": with_private_variance,
}


@pytest.fixture(params=HARD)
def hard(request, rng):
    """Points and a metric."""
    return HARD[request.param](rng)


# ---------------------------------------------------------------------------------------------------------------------
# B1: the slack is honest


def extended_kernel(kernel, A, B):
    r2 = ((A[:, None] - B[None]) ** 2).sum(axis=2)
    alpha = LONG(getattr(kernel, "alpha", 1.0))
    correlation = {
        cx.RBF: lambda: np.exp(-r2 / 2),
        cx.Matern12: lambda: np.exp(-np.sqrt(r2)),
        cx.Matern32: lambda: (1 + np.sqrt(3 * r2)) * np.exp(-np.sqrt(3 * r2)),
        cx.Matern52: lambda: (1 + np.sqrt(5 * r2) + 5 * r2 / 3) * np.exp(-np.sqrt(5 * r2)),
        cx.RationalQuadratic: lambda: np.exp(-alpha * np.log1p(r2 / (2 * alpha))),
    }
    return LONG(kernel.variance) * correlation[type(kernel)]()


def extended_factors(kernel, coords, Z, jitter):
    """Residual factors of scaled `coords`, shape (n, m)."""
    m = len(Z)
    K = extended_kernel(kernel, Z, Z)
    K[np.diag_indices(m)] += LONG(jitter)
    L = np.zeros((m, m), dtype=LONG)
    for j in range(m):
        rest = K[j:, j] - L[j:, :j] @ L[j, :j]
        L[j:, j] = rest / np.sqrt(rest[0])
    V = np.zeros((len(coords), m), dtype=LONG)
    k = extended_kernel(kernel, coords, Z)
    for j in range(m):
        V[:, j] = (k[:, j] - V[:, :j] @ L[j, :j]) / L[j, j]
    return V


def extended_residuals(kernel, coords, stored_p, inducing, jitter):
    """Factors and residual variances; a variance that was raised to the floor stays raised."""
    if inducing is None:
        V = np.zeros((len(coords), 0), dtype=LONG)
    else:
        V = extended_factors(kernel, coords, inducing.astype(LONG), jitter)
    p, floor = LONG(kernel.variance) - (V * V).sum(axis=1), 1e-9 * kernel.variance
    return V, np.where(stored_p == floor, np.maximum(p, LONG(floor)), p)


def extended_distances(payload, coords, p, inducing, jitter):
    """Squared true distances between points at scaled `coords`, with stored residual variances `p`, and all rows."""
    A, B, kernel = coords.astype(LONG), payload.coords.astype(LONG), payload.kernel
    if kernel is None:
        return ((A[:, None] - B[None]) ** 2).sum(axis=2)
    VA, pA = extended_residuals(kernel, A, p, inducing, jitter)
    VB, pB = extended_residuals(kernel, B, payload.p, inducing, jitter)
    rho = np.abs(extended_kernel(kernel, A, B) - VA @ VB.T) / np.sqrt(pA[:, None] * pB[None])
    return 1 - np.minimum(rho, 1)


def assert_slack_covers(payload, computed, true_squared):
    """B1, for computed distances and the squares of true ones."""
    squared = computed.astype(LONG) ** 2
    excess = np.max(np.abs(squared - true_squared) - squared * LONG(payload.slack_rel))
    assert excess <= payload.slack_abs, f"off by {excess}, where {payload.slack_abs} is allowed"


def all_distances(payload):
    rows = np.arange(len(payload))
    return oracle.canonical_distances(payload, rows[:, None], rows[None])


@pytest.fixture(params=[name for name in HARD if name != "private-variance"])
def hard_and_known(request, rng):
    """Points and a metric whose truth is known, which that of supplied factors is not."""
    return HARD[request.param](rng)


def test_slack_covers_rounding(hard_and_known):
    X, metric = hard_and_known
    payload, projection = metric.prepare(X)
    jitter = getattr(metric, "jitter_share", 0.0)
    truth = extended_distances(payload, payload.coords, payload.p, projection.inducing, jitter)
    truth[np.diag_indices(len(X))] = 0
    assert_slack_covers(payload, all_distances(payload), truth)


class Spy:
    """A backend that remembers what it was asked."""

    name = "spy"

    def search(self, tree, payload, queries, k, settings, out):
        self.payload, self.queries = payload, queries
        out.counters[:, COUNTERS.index("stop_exhausted")] = 1


@pytest.mark.parametrize("seed", [19, 32, 281])
def test_slack_covers_coordinates_with_less_variance_than_any_row(seed, monkeypatch):
    """Queries near inducing points that lie far from all rows: their p is below the smallest in the payload."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(60, 2))
    X = 4.0 * directions / np.linalg.norm(directions, axis=1)[:, None]
    Z = 0.15 * rng.normal(size=(30, 2))
    tree = cx.cover_tree(X, kernel=cx.RBF(), inducing=Z, jitter=3e-10)
    spy = Spy()
    monkeypatch.setattr(registry, "choose_backend", lambda *_: spy)
    tree.knn(3, queries=Z + 1e-6 * rng.normal(size=Z.shape), settings="parity")

    payload, queries = spy.payload, spy.queries
    assert queries.p.min() < 1e-3 * payload.p.min()
    computed = np.stack([query_distances(payload, queries, q) for q in range(len(queries))])
    external = -1 - queries.rows
    inducing = tree._state.projection.inducing
    truth = extended_distances(payload, queries.coords[external], queries.p[external], inducing, 3e-10)
    assert queries.slack_abs > payload.slack_abs
    assert_slack_covers(dataclasses.replace(payload, slack_abs=queries.slack_abs), computed, truth)


def query_distances(payload, queries, q):
    """Canonical distances of external query `q` to all rows."""
    return oracle.canonical_nearness(payload, queries, q, np.arange(len(payload)))[0]


# ---------------------------------------------------------------------------------------------------------------------
# B2, B3: no subtree that a bound rejects contains a point that computes closer


def lower_of(payload, t):
    return np.where(t > 0.0, payload.lower(np.maximum(t, 0.0)), 0.0)


def nearest_below(tree, D):
    """For each query (a row of D) and node, the least computed distance to a descendant; inf without any."""
    nearest = np.full(D.shape, np.inf)
    for node in tree.topological()[:0:-1]:
        above = tree.parent[node]
        nearest[:, above] = np.minimum(nearest[:, above], np.minimum(nearest[:, node], D[:, node]))
    return nearest


def assert_bounds_hold(payload, tree, D):
    """D: computed distances from queries (rows) to nodes (columns)."""
    nearest = nearest_below(tree, D)

    bound = lower_of(payload, payload.lower(D) - tree.si)
    assert np.all(bound <= nearest), "B2: a node's bound exceeds the distance to a descendant"

    node = tree.topological()[1:]
    parent_lower, parent_upper = payload.lower(D[:, tree.parent[node]]), payload.upper(D[:, tree.parent[node]])
    pd_lower, pd_upper = payload.lower(tree.parent_distance[node]), payload.upper(tree.parent_distance[node])
    far = np.maximum(parent_lower - pd_upper, pd_lower - parent_upper)
    bound = lower_of(payload, far - tree.si[node])
    assert np.all(bound <= np.minimum(nearest[:, node], D[:, node])), "B2: a bound by the parent exceeds a distance"


def test_bounds_hold(hard):
    X, metric = hard
    payload, _ = metric.prepare(X)
    assert_bounds_hold(payload, build_tree(payload), all_distances(payload))


@pytest.mark.parametrize("name", ["near-duplicates-rbf", "near-duplicates-rq", "nearly-correlated", "private-variance"])
def test_bounds_without_slack_would_not_hold(name, rng):
    """The slack is needed, and the test above would notice if it were not there."""
    X, metric = HARD[name](rng)
    payload, _ = metric.prepare(X)
    payload = dataclasses.replace(payload, slack_abs=0.0, slack_rel=0.0)
    with pytest.raises(AssertionError, match="B2"):
        assert_bounds_hold(payload, build_tree(payload), all_distances(payload))


def test_radius_covers_true_distances(hard_and_known):
    """B3, in extended precision."""
    X, metric = hard_and_known
    payload, projection = metric.prepare(X)
    jitter = getattr(metric, "jitter_share", 0.0)
    tree = build_tree(payload)
    truth = np.sqrt(extended_distances(payload, payload.coords, payload.p, projection.inducing, jitter))
    truth[np.diag_indices(len(X))] = 0
    for node in tree.topological()[1:]:
        above = tree.parent[node]
        while above != -1:
            assert truth[above, node] <= tree.si[above]
            above = tree.parent[above]


# ---------------------------------------------------------------------------------------------------------------------
# And so a search finds what comparing everything finds


def assert_search_is_exact(payload, queries, k, backend, profiles):
    """Bits of `oracle.canonical`, from tree searches by `backend`."""
    tree, indices, distances = build_tree(payload), *oracle.canonical(payload, queries, k)
    for profile in profiles:
        if cx.get_backend(backend).capabilities.missing(profile):
            continue
        out = SearchOutput.empty(len(queries), k)
        cx.get_backend(backend).search(tree, payload, queries, k, profile, out)
        np.testing.assert_array_equal(out.indices, indices)
        np.testing.assert_array_equal(out.distances, distances)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_search_of_hard_data_is_exact(hard, backend, k):
    X, metric = hard
    payload, _ = metric.prepare(X)
    queries = make_queries(payload, np.arange(len(X)))
    assert_search_is_exact(payload, queries, k, backend, (cx.PARITY, cx.GOLD))


@st.composite
def hurtful(draw):
    """Points on a coarse grid, displaced by tiny steps, and a metric with little variance left."""
    steps = st.sampled_from([0.0, 1e-12, 1e-9, 3e-9, 1e-7, 1e-4, -1e-9, -1e-5])
    places = st.tuples(st.integers(-3, 3), st.integers(-3, 3), steps, steps)
    points = np.array(draw(st.lists(places, min_size=2, max_size=40)))
    X = 0.5 * points[:, :2] + points[:, 2:]
    kernel = draw(
        st.sampled_from([cx.RBF(), cx.Matern12(), cx.Matern32(0.3), cx.Matern52(3.0), cx.RationalQuadratic()])
    )
    m = draw(st.integers(0, min(len(X), 10)))
    if m == 0:
        return X, draw(st.sampled_from([cx.Euclidean(), cx.Correlation(kernel)]))
    jitter = draw(st.sampled_from([1e-10, 1e-8, 1e-6, 1e-3]))
    return X, cx.ResidualCorrelation(kernel, inducing=m, jitter=jitter)


@given(hurtful())
def test_bounds_hold_on_anything(case):
    X, metric = case
    payload, _ = metric.prepare(X)
    tree = build_tree(payload)
    tree.check_invariants(payload)
    assert_bounds_hold(payload, tree, all_distances(payload))


@hypothesis_settings(max_examples=60)
@given(case=hurtful(), k=st.integers(1, 6), predecessors=st.booleans(), include_self=st.booleans())
def test_search_of_anything_is_exact(backend, case, k, predecessors, include_self):
    X, metric = case
    payload, _ = metric.prepare(X)
    queries = make_queries(payload, np.arange(len(X)), predecessors, include_self)
    assert_search_is_exact(payload, queries, min(k, len(X)), backend, (cx.PARITY, cx.GOLD))
