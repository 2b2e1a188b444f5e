"""Predecessors: every row, by every backend and profile, in the data's order or the caller's; limits per query."""

from functools import cache

import numpy as np
import pytest
from ard import ARD
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

import covertreex as cx

N, D, K = 240, 5, 7

METRICS = {
    "euclidean": {},
    "correlation": {"kernel": cx.Matern32(ARD)},
    "residual": {"kernel": cx.RBF(ARD), "inducing": 20},
    "no-screen": {"kernel": cx.RationalQuadratic(ARD), "inducing": 20},
}


@cache
def data():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, D))
    X[50:70] = X[:20]  # duplicates: ties are decided by index, in any order
    return X


@cache
def tree_of(metric):
    return cx.cover_tree(data(), **METRICS[metric], n_threads=2)


def permutation():
    return np.random.default_rng(8).permutation(N)


def limits():
    return np.random.default_rng(9).integers(0, N + 1, size=N)


def points():
    return np.random.default_rng(10).normal(size=(30, D))


QUESTIONS = {
    "predecessors": lambda: {"predecessor_mode": True},
    "predecessors and self": lambda: {"predecessor_mode": True, "include_self": True},
    "order": lambda: {"predecessor_mode": True, "order": permutation()},
    "order and self": lambda: {"predecessor_mode": True, "order": permutation(), "include_self": True},
    "order of some rows": lambda: {"predecessor_mode": True, "order": permutation(), "queries": [3, 200, 3, 77]},
    "limit": lambda: {"limit": limits()},
    "limit and self": lambda: {"limit": limits(), "include_self": True},
    "one limit": lambda: {"limit": 33},
    "no row": lambda: {"limit": 0},
    "limit and order": lambda: {"limit": limits(), "order": permutation()},
    "coordinates": lambda: {"queries": points(), "limit": np.arange(30) * 8},
    "coordinates, one limit": lambda: {"queries": points(), "limit": 50, "order": permutation()},
}


def profiles_of(backend):
    return ["exact", "parity", "fast", *(["gold"] if backend == "numba" else [])]


def obvious(tree, k, queries=None, predecessor_mode=False, include_self=False, order=None, limit=None):
    """What `knn` should say, from the distances of all pairs that the engine itself gives without restriction."""
    asked = np.arange(len(tree)) if queries is None else np.asarray(queries)
    everything, distances = tree.knn(len(tree), asked, include_self=True, return_distances=True, backend="cython")
    rank = np.arange(len(tree)) if order is None else np.argsort(order)
    indices, found = np.full((len(asked), k), -1), np.full((len(asked), k), np.inf)
    for i, (row, near) in enumerate(zip(everything, distances, strict=True)):
        most = len(tree) if limit is None else np.broadcast_to(limit, len(asked))[i]
        if predecessor_mode:
            most = rank[asked[i]] + include_self
        allowed = rank[row] < most
        if asked.ndim == 1 and not include_self:
            allowed &= row != asked[i]
        indices[i, : allowed.sum()] = row[allowed][:k]
        found[i, : allowed.sum()] = near[allowed][:k]
    return indices, found


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_row(metric, question, backend):
    tree, options = tree_of(metric), QUESTIONS[question]()
    expected, expected_distances = obvious(tree, K, **options)
    for profile in profiles_of(backend):
        result = tree.search(K, **options, settings=profile, backend=backend, n_threads=1, audit=10)
        np.testing.assert_array_equal(result.indices, expected, err_msg=profile)
        np.testing.assert_array_equal(result.distances, expected_distances, err_msg=profile)
        assert result.recall == 1.0
    if "queries" in options:
        options["queries"] = np.asarray(options["queries"])
    assert tree.oracle().recall(expected, **options) == 1.0


@given(st.data())
@given_settings(max_examples=40)
def test_any_order_and_limit(data):
    n = data.draw(st.integers(1, 25))
    X = np.array(data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=n, max_size=n)), float)
    tree = cx.cover_tree(X, kernel=data.draw(st.sampled_from([None, cx.Matern12()])))
    k = data.draw(st.integers(1, n))
    options = {"include_self": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        options["predecessor_mode"] = True
    else:
        options["limit"] = np.array(data.draw(st.lists(st.integers(0, n), min_size=n, max_size=n)))
    if data.draw(st.booleans()):
        options["order"] = np.array(data.draw(st.permutations(range(n))))
    expected, distances = obvious(tree, k, **options)
    for settings in ("exact", "parity"):
        found = tree.knn(k, **options, settings=settings, backend="cython", return_distances=True)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], distances)


def test_order_is_that_of_the_ordered_data():
    """``order=`` answers as the data in that order would, but in rows of X."""
    order = cx.ordering.maximin(data())
    found = tree_of("euclidean").knn(K, predecessor_mode=True, order=order)
    ordered = cx.cover_tree(data()[order]).knn(K, predecessor_mode=True)
    back = np.where(ordered >= 0, order[ordered], -1)
    distances = np.where(back >= 0, np.linalg.norm(data()[order][:, None] - data()[back], axis=2), np.inf)
    expected = np.where(
        found[order] >= 0, np.linalg.norm(data()[order][:, None] - data()[found[order]], axis=2), np.inf
    )
    np.testing.assert_allclose(distances, expected, rtol=1e-12)


def test_own_position_as_limit_is_predecessor_mode(backend):
    tree = tree_of("residual")
    for options in ({}, {"order": permutation()}):
        rank = np.argsort(options.get("order", np.arange(N)))
        np.testing.assert_array_equal(
            tree.knn(K, limit=rank, **options, backend=backend),
            tree.knn(K, predecessor_mode=True, **options, backend=backend),
        )


@pytest.mark.parametrize("ordered", [False, True])
def test_fast_on_more_points(ordered, backend):
    """Enough points for the fast profile to take its short cuts: nobody gets a later row, and early rows are whole."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(4000, 3))
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=40)
    order = rng.permutation(4000) if ordered else None
    fast = cx.FAST.replace(recall_target=0.99)
    result = tree.search(20, predecessor_mode=True, order=order, settings=fast, backend=backend, audit=4000)
    assert result.plan.least is not None
    rank = np.arange(4000) if order is None else np.argsort(order)
    place = np.where(result.indices >= 0, rank[result.indices], -1)
    assert np.all(place < rank[:, None])
    np.testing.assert_array_equal((result.indices >= 0).sum(axis=1), np.minimum(rank, 20))
    assert result.recall >= 0.99
    exact = tree.search(20, predecessor_mode=True, order=order, backend=backend)
    early = rank < 20
    np.testing.assert_array_equal(result.indices[early], exact.indices[early])
    again = tree.search(20, predecessor_mode=True, order=order, settings=fast, backend=backend, n_threads=1)
    np.testing.assert_array_equal(result.indices, again.indices)


@pytest.mark.parametrize("metric", METRICS)
def test_one_point(metric, backend):
    options = dict(METRICS[metric], **({"inducing": 1} if "inducing" in METRICS[metric] else {}))
    tree = cx.cover_tree(data()[:1], **options)
    for profile in profiles_of(backend):
        assert tree.knn(1, predecessor_mode=True, settings=profile, backend=backend).tolist() == [[-1]]
        assert tree.knn(1, limit=[1], settings=profile, backend=backend).tolist() == [[-1]]
        own = tree.knn(1, predecessor_mode=True, order=[0], include_self=True, settings=profile, backend=backend)
        assert own.tolist() == [[0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": permutation()}, "order .* restricts nothing by itself; give predecessor_mode=True or limit"),
        ({"predecessor_mode": True, "limit": 3}, "predecessor_mode and limit both say .* give one of them"),
        (
            {"predecessor_mode": True, "order": [0, 1]},
            r"order must be a permutation .* shape \(240,\), got shape \(2,\)",
        ),
        ({"predecessor_mode": True, "order": np.zeros(N, dtype=int)}, "each once; it names row 0 240 times"),
        (
            {"predecessor_mode": True, "order": np.arange(N) + 1},
            "order must be rows from 0 to 239, got 240 at position",
        ),
        ({"predecessor_mode": True, "order": np.arange(N) / 1.0}, "order must be integer rows, got dtype float64"),
        ({"predecessor_mode": True, "order": "maximin"}, r"order must be a permutation .* got shape \(\)"),
        ({"limit": -1}, "limit must be from 0 to 240, the number of rows; got -1 at position 0"),
        ({"limit": np.full(N, N + 1)}, "limit must be from 0 to 240, .*got 241 at position 0"),
        ({"limit": [1, 2]}, r"limit must be an integer, or integers of shape \(240,\), .*got int64 of shape \(2,\)"),
        ({"limit": 2.5}, "limit must be an integer, .*got float64"),
        ({"limit": True}, "limit must be an integer, .*got bool"),
        ({"limit": None, "queries": points(), "predecessor_mode": True}, "coordinates have no place in it.*give limit"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        tree_of("euclidean").knn(K, **options)
