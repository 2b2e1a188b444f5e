"""Radius search against the naive engine and the dense oracle: every backend, metric and restriction, exactly."""

from functools import cache

import numpy as np
import pytest
from ard import ARD
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

import covertreex as cx
from covertreex import search
from covertreex.backends.telemetry import check_line
from covertreex.base import tuning
from covertreex.search import boxes
from covertreex.search import radius as module

N, D = 230, 5

METRICS = {
    "euclidean": {},
    "correlation": {"kernel": cx.Matern12(ARD)},
    "rbf": {"kernel": cx.RBF(ARD), "inducing": 20},
    "matern52": {"kernel": cx.Matern52(ARD), "inducing": 20},
    "no-screen": {"kernel": cx.RationalQuadratic(ARD), "inducing": 20},
    "p-at-floor": {"kernel": cx.RBF(8.0), "inducing": 60, "jitter": 1e-9},
}


@cache
def data():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(N, D))
    X[60:80] = X[:20]
    X[80:90] = X[:10] + 1e-9 * rng.normal(size=(10, D))
    return rng.permutation(X)


@cache
def tree_of(metric):
    return cx.cover_tree(data(), **METRICS[metric], n_threads=2)


def rows_of(result):
    spans = zip(result.indptr[:-1], result.indptr[1:], strict=True)
    return [(result.indices[a:b].tolist(), result.distances[a:b].tolist()) for a, b in spans]


def cut(indices, distances, r):
    """What of all neighbours, sorted, is within r."""
    return [(i[d <= r].tolist(), d[d <= r].tolist()) for i, d in zip(indices, distances, strict=True)]


QUESTIONS = {
    "all": {},
    "self": {"include_self": True},
    "predecessors": {"predecessor_mode": True},
    "order": {"predecessor_mode": True, "order": np.random.default_rng(1).permutation(N)},
    "rows": {"queries": [7, 7, 200, 0], "limit": [100, 3, 0, 230]},
    "coordinates": {"queries": np.random.default_rng(2).normal(size=(70, D)), "limit": 150},
}


def radii(metric):
    """Distances that occur, so that equality matters; nothing, and everything."""
    _, distances = tree_of(metric).knn(N - 1, return_distances=True)
    return [0.0, distances[5, 3], distances[100, 40], distances.max(), np.inf]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_exactly_what_is_within(metric, question, backend):
    tree, options = tree_of(metric), QUESTIONS[question]
    everything = tree.knn(N, **options, return_distances=True, settings="parity", backend="cython")
    for r in radii(metric):
        expected = cut(*everything, r)
        for profile, n_threads in (("exact", 1), ("exact", 2), ("parity", 2), ("fast", 1)):
            result = tree.radius(r, **options, settings=profile, backend=backend, n_threads=n_threads)
            if r == np.inf:
                expected = [(i[i >= 0].tolist(), d[i >= 0].tolist()) for i, d in zip(*everything, strict=True)]
            assert rows_of(result) == expected
            assert (result.radius, result.backend, len(result)) == (r, backend, len(expected))
            assert (result.indptr.dtype, result.indices.dtype, result.distances.dtype) == (int, int, float)


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "p-at-floor"])
def test_against_the_dense_oracle(metric, backend):
    tree = tree_of(metric)
    score = tree.oracle().closeness(np.arange(N))
    distance = -score if metric == "euclidean" else np.sqrt(1.0 - score)
    np.fill_diagonal(distance, np.inf)
    r = 1.5 if metric == "euclidean" else 0.8
    assert np.abs(distance - r).min() > 1e-6
    result = tree.radius(r, backend=backend)
    assert [sorted(row) for row, _ in rows_of(result)] == [np.flatnonzero(row <= r).tolist() for row in distance]


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "euclidean"])
def test_by_correlation(metric, backend):
    tree = tree_of(metric)
    _, distances = tree.knn(N - 1, return_distances=True)
    for c in (0.0, 0.25, 0.9, 1.0):
        result = tree.radius(min_correlation=c, backend=backend)
        assert result.radius == np.sqrt(1.0 - c)
        assert len(result.indices) == np.sum(distances <= np.sqrt(1.0 - c))


def test_own_factors(backend):
    truth = tree_of("matern52").oracle()
    tree = cx.cover_tree(data(), kernel=truth.kernel, v_matrix=truth.V, p_diag=truth.p)
    points = np.random.default_rng(2).normal(size=(70, D))
    V = truth._solve(points)
    found = tree.knn(N, points, v_query=V, return_distances=True)
    assert rows_of(tree.radius(0.9, points, v_query=V, backend=backend)) == cut(*found, 0.9)


@pytest.mark.parametrize("room", [1, 50, 1000])
@pytest.mark.parametrize("metric", ["euclidean", "rbf", "no-screen"])
def test_room_does_not_matter(metric, room, monkeypatch):
    tree = tree_of(metric)
    r = radii(metric)[2]
    expected = rows_of(tree.radius(r))
    monkeypatch.setattr(tuning, "RADIUS_ROOM", room)
    for n_threads in (1, 2):
        assert rows_of(tree.radius(r, n_threads=n_threads)) == expected


@given(st.data())
@given_settings(max_examples=40)
def test_on_a_grid_every_distance_is_a_tie(data):
    n = data.draw(st.integers(1, 60))
    X = np.array(data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=n, max_size=n)), float)
    r = data.draw(st.sampled_from([0.0, 1.0, np.sqrt(2.0), 2.0, 3.5, 100.0]))
    scale = data.draw(st.sampled_from([1.0, 1e-120, 1e100]))
    result = cx.cover_tree(X * scale).radius(r * scale)
    exact = np.linalg.norm(X[:, None] - X[None], axis=2)
    np.fill_diagonal(exact, np.inf)
    if scale == 1.0:
        assert rows_of(result) == [
            ([int(j) for j in np.argsort(row, kind="stable") if row[j] <= r], sorted(row[row <= r].tolist()))
            for row in exact
        ]
    else:
        near = np.sum(exact < r - 1e-9, axis=1)
        assert np.all(np.diff(result.indptr) >= (near if scale > 1 else 0))


def test_more_points(backend):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(5000, 2))
    result = cx.cover_tree(X).radius(0.03, backend=backend)
    from scipy.spatial import cKDTree

    pairs = cKDTree(X).query_ball_point(X, 0.03, return_sorted=True)
    assert [sorted(row) for row, _ in rows_of(result)] == [[j for j in row if j != i] for i, row in enumerate(pairs)]
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.1), inducing=30)
    result = tree.radius(min_correlation=0.5, backend=backend, predecessor_mode=True)
    score = tree.oracle().closeness(np.arange(5000))
    expected = np.tril(score >= 0.5, -1)
    assert np.abs(score - 0.5).min() > 1e-10
    np.testing.assert_array_equal(np.diff(result.indptr), expected.sum(axis=1))
    assert all(expected[i, row].all() for i, (row, _) in enumerate(rows_of(result)))


def test_one_point_and_no_query(backend):
    for options in ({}, {"kernel": cx.RBF()}):
        tree = cx.cover_tree([[1.0, 2.0]], **options)
        assert rows_of(tree.radius(5.0, backend=backend)) == [([], [])]
        assert rows_of(tree.radius(0.0, include_self=True, backend=backend)) == [([0], [0.0])]
        empty = tree.radius(1.0, [], backend=backend)
        assert (empty.indptr.tolist(), len(empty.indices), len(empty.distances)) == ([0], 0, 0)


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        ("rbf", {}, "give a radius r, or min_correlation"),
        ("rbf", {"r": 1.0, "min_correlation": 0.5}, "give a radius r, or min_correlation=..., and not both"),
        ("rbf", {"r": -1.0}, "r must be a distance, a number of 0 or above, got -1.0"),
        ("rbf", {"r": np.nan}, "r must be a distance, .*got nan"),
        ("rbf", {"r": "near"}, "r must be a distance, .*got 'near'"),
        ("rbf", {"r": True}, "r must be a distance, .*got True"),
        ("rbf", {"min_correlation": 1.5}, "min_correlation must be a number from 0 to 1, got 1.5"),
        ("rbf", {"min_correlation": np.nan}, "min_correlation must be .*got nan"),
        ("euclidean", {"min_correlation": 0.5}, "min_correlation needs a kernel; this metric is Euclidean"),
        ("rbf", {"r": 1.0, "queries": [N]}, "queries must be rows from 0 to 229, got 230"),
        ("rbf", {"r": 1.0, "predecessor_mode": True, "limit": 3}, "give one of them"),
    ],
)
def test_bad_arguments(metric, arguments, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        tree_of(metric).radius(**arguments)


# ---------------------------------------------------------------------------------------------------------------------
# More neighbours than there is memory for


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("metric", METRICS)
def test_too_many_neighbours_are_counted_and_refused(metric, n_threads, backend):
    tree = tree_of(metric)
    total = len(tree.radius(np.inf, backend=backend).indices)
    assert total == N * (N - 1)
    message = (
        r"there are too many neighbours within inf: [\d,]+ of the first \d+ queries, about 52,670 of all 230. They "
        r"take 32 bytes each, 1\.69 MB, and max_bytes allows 1\.69 MB. Give a smaller radius or a larger max_bytes, or "
        r"go through them block after block: radius_batches\(\.\.\., batch_size=11[45]\)\."
    )
    with pytest.raises(cx.InvalidInputError, match=message):
        tree.radius(np.inf, max_bytes=32 * total - 1, n_threads=n_threads, backend=backend)
    assert len(tree.radius(np.inf, max_bytes=32 * total, n_threads=n_threads, backend=backend).indices) == total


def test_many_neighbours_of_the_first_few_queries_are_enough_to_refuse(monkeypatch):
    """Nothing near the memory of all of them is ever taken."""
    monkeypatch.setattr(tuning, "RADIUS_ROOM", 1000)
    looked = []
    scan = search.SearchContext.scan
    monkeypatch.setattr(search.SearchContext, "scan", lambda *arguments: looked.append(1) or scan(*arguments))
    with pytest.raises(cx.InvalidInputError, match=r"about 52,670 of all 230\. .*, and max_bytes allows 64 kB"):
        tree_of("rbf").radius(np.inf, max_bytes=64_000, n_threads=1)
    assert len(looked) < 6


def test_where_one_query_has_too_many_blocks_are_not_offered():
    with pytest.raises(cx.InvalidInputError, match=r"allows 5\.5 kB\. Give a smaller radius or a larger max_bytes\.$"):
        list(tree_of("euclidean").radius_batches(np.inf, batch_size=1, max_bytes=5500))


def test_by_default_half_of_the_memory_is_used(monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 20_000.0)
    with pytest.raises(cx.InvalidInputError, match="max_bytes allows 10 kB"):
        tree_of("euclidean").radius(np.inf)
    assert len(tree_of("euclidean").radius(np.inf, max_bytes=np.inf).indices) == N * (N - 1)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_batches_hold_what_one_search_returns(metric, question, backend):
    tree, options = tree_of(metric), QUESTIONS[question]
    r = radii(metric)[2]
    whole = tree.radius(r, **options, backend=backend)
    for size in (1 if len(whole) < 10 else 33, 10**6):
        parts = list(tree.radius_batches(r, **options, batch_size=size, backend=backend))
        assert [len(part) for part in parts] == [min(size, len(whole) - i) for i in range(0, len(whole), size)]
        assert [row for part in parts for row in rows_of(part)] == rows_of(whole)
        assert {(part.radius, part.backend) for part in parts} == {(r, backend)}


def test_batches_of_own_factors_and_of_a_tree_with_deleted_points():
    truth = tree_of("matern52").oracle()
    tree = cx.cover_tree(data(), kernel=truth.kernel, v_matrix=truth.V, p_diag=truth.p).delete([0, 5, 9])
    points = np.random.default_rng(2).normal(size=(70, D))
    options = {"queries": points, "v_query": truth._solve(points)}
    parts = list(tree.radius_batches(0.9, **options, batch_size=32))
    assert [row for part in parts for row in rows_of(part)] == rows_of(tree.radius(0.9, **options))


def test_batches_search_when_they_are_asked_for(monkeypatch):
    calls = []
    within = search.within
    monkeypatch.setattr(search, "within", lambda *arguments: calls.append(1) or within(*arguments))
    parts = tree_of("rbf").radius_batches(0.5, batch_size=50)
    assert calls == []
    next(parts)
    assert calls == [1]
    assert list(tree_of("rbf").radius_batches(0.5, [])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_bytes": 0}, "max_bytes must be a positive number of bytes, or None for half of .* got 0. Give math.inf"),
        ({"max_bytes": np.nan}, "max_bytes must be .* got nan"),
        ({"max_bytes": "1GB"}, "max_bytes must be .* got '1GB'"),
        ({"max_bytes": True}, "max_bytes must be .* got True"),
        ({"batch_size": 0}, "batch_size must be a number of queries, a positive integer, got 0"),
        ({"batch_size": 2.0}, "batch_size must be .* got 2.0"),
        ({"batch_size": True}, "batch_size must be .* got True"),
        ({"queries": [N]}, "queries must be rows from 0 to 229, got 230"),
    ],
)
def test_bad_arguments_of_batches_are_told_at_once(arguments, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        tree_of("rbf").radius_batches(1.0, **arguments)
    if "batch_size" not in arguments:
        with pytest.raises(cx.InvalidInputError, match=message):
            tree_of("rbf").radius(1.0, **arguments)


def test_boxes_are_made_once_for_a_payload(monkeypatch):
    made = []
    box_tree = boxes.box_tree
    monkeypatch.setattr(boxes, "box_tree", lambda payload: made.append(1) or box_tree(payload))
    tree = cx.cover_tree(data())
    results = [tree.radius(1.0), tree.radius(1.0), *tree.radius_batches(1.0, batch_size=N)]
    assert made == [1]
    assert rows_of(results[0]) == rows_of(results[1]) == rows_of(results[2])
    assert rows_of(tree.insert(data()[:1]).radius(1.0, range(N))) != rows_of(results[0])
    assert made == [1, 1]


@pytest.mark.parametrize("name", ["euclidean", "rbf", "no-screen"])
def test_plans_and_counters_are_told_as_of_any_search(name):
    found = tree_of(name).radius(0.5)
    assert (found.plan.verb, found.plan.strategy) == ("scan", "radius")
    assert (found.plan.screen == "none") == (name == "euclidean")
    lines = [check_line(line) for line in found.telemetry.to_jsonl().splitlines()]
    assert sum(line["queries"] for line in lines) == N
    assert {line["k"] for line in lines} == {0}
    assert found.telemetry.counters["stop_exhausted"] == N
    assert found.telemetry.counters["yields"] == found.indptr[-1]
    alone = tree_of(name).radius(0.5, n_threads=1)
    assert alone.telemetry.counters == found.telemetry.counters
