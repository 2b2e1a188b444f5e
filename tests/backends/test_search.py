"""`search` against the naive one: equal bits and equal counters, whatever the settings."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from naive import make_payload, make_queries, naive_search, naive_tree, split_payload

import covertreex as cx
from covertreex import oracle
from covertreex.backends.telemetry import COUNTERS
from covertreex.data.build import build_tree
from covertreex.protocols import SearchOutput

#: Points of a case.
N = 130

SETTINGS = {
    "parity": cx.PARITY,
    "gold": cx.GOLD,
    "exact": cx.EXACT.replace(strategy="tree", gate=False, gemm=False),
    "nearest-child": cx.PARITY.replace(child_order="nearest"),
    "nearest-child-tile": cx.PARITY.replace(child_order="nearest", stream_tile=16, level_cache=True),
    "no-stop": cx.PARITY.replace(kth_frontier_stop=False),
    "bitset": cx.PARITY.replace(visited="bitset"),
    "tile-7": cx.PARITY.replace(stream_tile=7),
    "tile-64": cx.PARITY.replace(stream_tile=64),
    "dynamic-tile": cx.PARITY.replace(stream_tile=24, dynamic_tile=True),
    "level-cache": cx.PARITY.replace(level_cache=True),
    "level-cache-tile": cx.PARITY.replace(level_cache=True, stream_tile=16, visited="bitset"),
    "radius-floor": cx.PARITY.replace(radius_floor=0.4),
    "radius-floor-cache": cx.PARITY.replace(radius_floor=0.4, level_cache=True),
    "level-cap": cx.PARITY.replace(level_cap=5),
    "level-cap-tile": cx.PARITY.replace(level_cap=3, stream_tile=8, level_cache=True),
    "budget": cx.PARITY.replace(budget_schedule=(16, 48, 96), budget_up=0.2, budget_down=0.05),
    "budget-generous": cx.PARITY.replace(budget_schedule=(8, 16, 64), budget_up=0.5, budget_down=0.0),
    "budget-one-rung": cx.PARITY.replace(budget_schedule=(20,)),
    "budget-many-rungs": cx.PARITY.replace(budget_schedule=tuple(range(1, 50)), stream_tile=64, budget_up=0.05),
    "everything": cx.GOLD.replace(level_cap=20, budget_schedule=(32, 64, 96), budget_up=0.3, budget_down=0.01),
}  # fmt: skip


def points(rng, n, d):
    """Half of them crowded: duplicates, near-duplicates, ties."""
    X = rng.normal(size=(n, d))
    X[: n // 2] = np.round(X[: n // 2])
    X[n // 4 : n // 3] = X[: n // 3 - n // 4] + 1e-8
    return rng.permutation(X)


def make_case(metric):
    rng = np.random.default_rng(11)
    X = points(rng, N, 3)
    kernel = {"euclidean": None, "correlation": cx.Matern32(0.8)}.get(metric, cx.RBF(1.2))
    inducing = range(0, N, 11) if metric == "residual" else None
    payload = make_payload(X, kernel, inducing, jitter=1e-5, order=rng.permutation(N))
    return payload, naive_tree(payload)


@pytest.fixture(scope="module", params=["euclidean", "correlation", "residual"])
def case(request):
    """A payload and its tree."""
    return make_case(request.param)


def counter(out, name):
    return out.counters[:, COUNTERS.index(name)]


def assert_equal_output(found, expected):
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    for column, name in enumerate(COUNTERS):
        np.testing.assert_array_equal(found.counters[:, column], expected.counters[:, column], err_msg=name)


def run_both(backend, tree, payload, queries, k, settings):
    """Search with the backend and with the naive engine, compare, and return what was found."""
    traversal = cx.get_backend(backend)
    if traversal.capabilities.missing(settings):
        pytest.skip(f"{backend} lacks {traversal.capabilities.missing(settings)}")
    found, expected = SearchOutput.empty(len(queries), k), SearchOutput.empty(len(queries), k)
    traversal.search(tree, payload, queries, k, settings, found)
    naive_search(tree, payload, queries, k, settings, expected)
    assert_equal_output(found, expected)
    assert np.all(sum(counter(found, name) for name in COUNTERS if name.startswith("stop_")) == 1)
    if not settings.approximate:
        indices, distances = oracle.canonical(payload, queries, k)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_array_equal(found.distances, distances)
    return found


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_bits_and_counters(case, backend, settings):
    payload, tree = case
    run_both(backend, tree, payload, make_queries(payload, np.arange(0, N, 9)), 6, settings)


@pytest.mark.parametrize("profile", ["parity", "gold", "everything"])
@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("order", ["dataset", "other"])
def test_predecessors(case, backend, profile, include_self, order, rng):
    payload, tree = case
    rank = None if order == "dataset" else rng.permutation(N)
    queries = make_queries(payload, np.arange(0, N, 9), True, include_self, rank)
    assert queries.prefix == (order == "dataset")
    run_both(backend, tree, payload, queries, 8, SETTINGS[profile])


@pytest.mark.parametrize("profile", ["parity", "gold", "everything"])
@pytest.mark.parametrize("metric", ["euclidean", "correlation", "residual"])
def test_external_queries(metric, backend, profile, rng):
    X = points(rng, 110, 3)
    kernel = {"euclidean": None, "correlation": cx.Matern32(0.8)}.get(metric, cx.RBF(1.2))
    whole = make_payload(X, kernel, range(0, 90, 11) if metric == "residual" else None, jitter=1e-5)
    payload, queries = split_payload(whole, 90)
    run_both(backend, naive_tree(payload), payload, queries, 5, SETTINGS[profile])


@pytest.mark.parametrize("k", [1, 2, N - 1, N])
def test_few_and_all_neighbours(case, backend, k):
    payload, tree = case
    run_both(backend, tree, payload, make_queries(payload, [0, 7, N - 1, 7]), k, cx.PARITY)


def test_limits_that_allow_little(case, backend):
    payload, tree = case
    queries = make_queries(payload, np.arange(6), predecessor_mode=True)
    out = run_both(backend, tree, payload, queries, 3, cx.PARITY)
    assert (out.indices >= 0).sum(axis=1).tolist() == [0, 1, 2, 3, 3, 3]
    assert counter(out, "distance_evals")[0] == 0


def test_no_queries(case, backend):
    payload, tree = case
    run_both(backend, tree, payload, make_queries(payload, []), 3, cx.PARITY)


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_trees(backend, n):
    payload = make_payload(np.arange(n, dtype=float).reshape(-1, 1), cx.RBF())
    for include_self in (False, True):
        queries = make_queries(payload, np.arange(n), include_self=include_self)
        run_both(backend, naive_tree(payload), payload, queries, n, cx.PARITY)


def test_all_points_equal(backend):
    payload = make_payload(np.ones((70, 2)), order=np.random.default_rng(0).permutation(70))
    out = run_both(backend, naive_tree(payload), payload, make_queries(payload, [0, 30, 69]), 4, cx.PARITY)
    assert out.indices.tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert not out.distances.any()


def test_mechanisms_show_in_counters(case, backend):
    """Each switch moves the counter that is there for it."""
    payload, tree = case
    queries = make_queries(payload, np.arange(0, N, 9))

    def total(name, settings):
        return counter(run_both(backend, tree, payload, queries, 6, SETTINGS[settings]), name).sum()

    assert total("level_cache_hits", "level-cache") > 0 == total("level_cache_hits", "parity")
    assert total("caps_applied", "level-cap") > 0 == total("caps_applied", "parity")
    assert total("stop_budget", "budget-one-rung") > 0 == total("stop_budget", "parity")
    assert total("budget_escalations", "budget-generous") > 0
    assert total("stop_kth_frontier", "no-stop") == 0
    assert total("frontier_pushes", "radius-floor") >= total("frontier_pushes", "parity")


def test_a_cancelled_search_returns_at_once(case, backend):
    payload, tree = case
    queries, out = make_queries(payload, np.arange(N)), SearchOutput.empty(N, 3)
    out.cancel[0] = 1
    traversal = cx.get_backend(backend)
    if traversal.capabilities.missing(cx.PARITY):
        pytest.skip(f"{backend} lacks {traversal.capabilities.missing(cx.PARITY)}")
    traversal.search(tree, payload, queries, 3, cx.PARITY, out)
    assert counter(out, "distance_evals").sum() <= 5 * len(payload)


@hypothesis_settings(max_examples=30)
@given(
    places=st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=50),
    kernel=st.sampled_from([None, cx.RBF(), cx.Matern12(2.0)]),
    k=st.integers(1, 8),
    predecessors=st.booleans(),
    settings=st.sampled_from(sorted(SETTINGS)),
    seed=st.integers(0, 5),
)
def test_anything(backend, places, kernel, k, predecessors, settings, seed):
    n = len(places)
    order = np.random.default_rng(seed).permutation(n)
    inducing = None if kernel is None else range(min(n, 3))
    payload = make_payload(0.7 * np.array(places), kernel, inducing, jitter=1e-3, order=order)
    queries = make_queries(payload, np.arange(n), predecessors)
    run_both(backend, build_tree(payload), payload, queries, min(k, n), SETTINGS[settings])


def test_slack_changes_the_walk_and_not_the_answer(case, backend):
    payload, tree = case
    queries = make_queries(payload, np.arange(0, N, 10))
    needing_more = dataclasses.replace(queries, slack_abs=0.3)
    narrow_out = run_both(backend, tree, payload, queries, 6, cx.PARITY)
    wide_out = run_both(backend, tree, payload, needing_more, 6, cx.PARITY)
    assert counter(wide_out, "distance_evals").sum() > counter(narrow_out, "distance_evals").sum()
