"""Growing and shrinking: the answers of a tree made afresh, stable indices, sound trees, old ones untouched."""

from functools import cache

import numpy as np
import pytest
from conftest import ARD
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from naive import naive_tree

import covertreex as cx
from covertreex.build import build_tree

N, D, K = 260, 5, 7
ARRAYS = ("parent", "level", "child_ptr", "children", "parent_distance", "si")


@cache
def data():
    rng = np.random.default_rng(12)
    X = rng.normal(size=(N, D))
    X[200:220] = X[:20]
    X[220:230] = X[215:225] + 1e-9
    return X


METRICS = {
    "euclidean": lambda Z: cx.Euclidean(),
    "correlation": lambda Z: cx.Correlation(cx.Matern32(ARD)),
    "residual": lambda Z: cx.ResidualCorrelation(cx.RBF(ARD), inducing=Z),
    "no-screen": lambda Z: cx.ResidualCorrelation(cx.RationalQuadratic(ARD), inducing=Z),
    "p-at-floor": lambda Z: cx.ResidualCorrelation(cx.RBF(8.0), inducing=Z, jitter=1e-9),
}


def made(metric, X):
    """A tree of `X`; inducing points are among the first rows of the data, whatever X is."""
    return cx.cover_tree(X, metric=METRICS[metric](data()[:60:2]), n_threads=2)


def profiles_of(backend):
    return ["exact", "parity", "fast", *(["gold"] if backend == "numba" else [])]


def assert_equal_trees(found, expected):
    assert found.root == expected.root
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def as_rows(ids, places):
    return np.where(places >= 0, ids[places], -1)


def assert_answers(tree, fresh, ids, backend, profiles):
    """`tree` answers as `fresh`, whose point i is row ``ids[i]`` of the other."""
    n, points = len(ids), data()[:5] + 0.2
    order = np.random.default_rng(0).permutation(n)
    limit = np.random.default_rng(1).integers(0, n + 1, size=n)
    below = np.append(ids, len(tree.X))[limit]  # the first `limit` points are those whose row is below this
    questions = [
        ({}, {}),
        ({"predecessor_mode": True}, {"predecessor_mode": True}),
        ({"predecessor_mode": True, "order": order}, {"predecessor_mode": True, "order": ids[order]}),
        ({"limit": limit}, {"limit": below}),
        ({"queries": [0, n - 1], "include_self": True}, {"queries": ids[[0, n - 1]], "include_self": True}),
        ({"queries": points}, {"queries": points}),
    ]
    for theirs, ours in questions:
        expected = fresh.knn(K, **theirs, backend="cython", return_distances=True)
        for profile in profiles:
            found = tree.search(K, **ours, settings=profile, backend=backend, n_threads=1, audit=5)
            np.testing.assert_array_equal(found.indices, as_rows(ids, expected[0]))
            np.testing.assert_array_equal(found.distances, expected[1])
            assert found.recall == 1.0
    within, ours = fresh.radius(0.9, predecessor_mode=True), tree.radius(0.9, predecessor_mode=True, backend=backend)
    np.testing.assert_array_equal(ours.indptr, within.indptr)
    np.testing.assert_array_equal(ours.indices, ids[within.indices])
    np.testing.assert_array_equal(ours.distances, within.distances)


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_insert(metric, built, backend):
    tree = made(metric, data()[:180])
    if built:
        tree.tree.depth()
    before = tree.knn(K, backend="cython", settings="parity")
    grown = tree.insert(data()[180:181]).insert(data()[181:])
    fresh = made(metric, data())
    for name in ("coords", "factors", "p", "index", "row"):
        np.testing.assert_array_equal(getattr(grown.payload, name), getattr(fresh.payload, name), err_msg=name)
    assert grown.payload.floored == fresh.payload.floored
    assert (grown._tree is not None) == (tree._tree is not None)
    assert_equal_trees(grown.tree, fresh.tree)
    grown.check_invariants()
    assert_answers(grown, fresh, np.arange(N), backend, profiles_of(backend))
    assert len(tree) == 180
    np.testing.assert_array_equal(tree.knn(K, backend="cython", settings="parity"), before)


@pytest.mark.parametrize("metric", METRICS)
def test_delete(metric, backend):
    tree = made(metric, data())
    tree.tree.depth()
    before = tree.knn(K, backend="cython")
    gone = np.random.default_rng(3).choice(N, 90, replace=False)
    gone = np.union1d(gone, [0, N - 1])  # the root, and the last
    left = np.setdiff1d(np.arange(N), gone)
    smaller = tree.delete(gone[:50]).delete(gone[50:])
    assert len(smaller) == len(left)
    np.testing.assert_array_equal(smaller.ids, left)
    np.testing.assert_array_equal(smaller.X, data())
    smaller.check_invariants()
    fresh = made(metric, data()[left])
    assert_equal_trees(smaller.tree, fresh.tree)
    assert_answers(smaller, fresh, left, backend, profiles_of(backend))
    np.testing.assert_array_equal(tree.knn(K, backend="cython"), before)
    np.testing.assert_array_equal(tree.ids, np.arange(N))


@pytest.mark.parametrize("metric", METRICS)
def test_all_together(metric, backend, tmp_path):
    """Insert after delete, another metric, a file, a pickle."""
    import pickle

    tree = made(metric, data()[:200])
    tree = tree.delete(np.arange(0, 40, 3)).insert(data()[200:]).delete([199, 201])
    tree.tree.depth()
    tree = tree.insert(data()[:3])
    ids = tree.ids
    assert ids[-3:].tolist() == [N, N + 1, N + 2]
    everything = np.concatenate([data(), data()[:3]])
    np.testing.assert_array_equal(tree.X, everything)
    fresh = made(metric, everything[ids])
    assert_equal_trees(tree.tree, fresh.tree)
    assert_answers(tree, fresh, ids, backend, ["exact", "parity"])
    tree.save(tmp_path / "tree")
    for other in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(tree))):
        np.testing.assert_array_equal(other.ids, ids)
        assert_answers(other, fresh, ids, backend, ["exact"])
    kernel = cx.Matern12(0.8)
    other, again = tree.with_metric(kernel), fresh.with_metric(kernel)
    other.check_invariants()
    assert_answers(other, again, ids, backend, ["exact", "parity"])


def test_inducing_rows_stay_what_they_were():
    rows = np.arange(0, 60, 2)
    tree = cx.cover_tree(data(), kernel=cx.RBF(ARD), inducing=rows)
    smaller = tree.delete(rows)
    np.testing.assert_array_equal(smaller.metric.inducing, data()[rows])
    count = cx.cover_tree(data(), kernel=cx.RBF(ARD), inducing=20, seed=5)
    grown = count.insert(data()[:9] + 1.0)
    drawn = np.sort(np.random.default_rng(5).choice(N, 20, replace=False))
    np.testing.assert_array_equal(grown.metric.inducing, data()[drawn])
    with_rows = smaller.with_metric(cx.ResidualCorrelation(cx.RBF(), inducing=[200, 201]))
    np.testing.assert_array_equal(with_rows.metric.inducing, data()[[200, 201]])


def test_supplied_factors(backend):
    truth = cx.cover_tree(data(), kernel=cx.Matern32(ARD), inducing=25).oracle()
    V, p, first = truth.V, truth.p, 150
    whole = cx.cover_tree(data(), kernel=truth.kernel, v_matrix=V, p_diag=p)
    grown = cx.cover_tree(data()[:first], kernel=truth.kernel, v_matrix=V[:first], p_diag=p[:first])
    grown = grown.insert(data()[first:], v_matrix=V[first:], p_diag=p[first:])
    np.testing.assert_array_equal(grown.knn(K, backend=backend), whole.knn(K, backend=backend))
    left = np.arange(10, N, 2)
    smaller = grown.delete(np.setdiff1d(np.arange(N), left))
    fresh = cx.cover_tree(data()[left], kernel=truth.kernel, v_matrix=V[left], p_diag=p[left])
    result = smaller.search(K, backend=backend, audit=50)
    np.testing.assert_array_equal(result.indices, as_rows(left, fresh.knn(K, backend=backend)))
    assert result.recall == 1.0
    points = data()[:20] + 0.1
    found = smaller.search(K, points, v_query=truth._solve(points), backend=backend, audit=20)
    assert found.recall == 1.0
    for arguments, message in (
        ({}, "new points need factors as the others have: v_matrix=... and p_diag=..."),
        ({"v_matrix": V[:3]}, "v_matrix=... and p_diag=..."),
        ({"v_matrix": V[:2], "p_diag": p[:3]}, r"v_matrix must have shape \(3, 25\), got \(2, 25\)"),
        ({"v_matrix": V[:3], "p_diag": p[:2]}, r"p_diag must have shape \(3,\), got \(2,\)"),
    ):
        with pytest.raises(cx.InvalidInputError, match=message):
            grown.insert(data()[:3], **arguments)


POINTS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=12)


@given(POINTS, st.lists(POINTS, max_size=4), st.sampled_from(["euclidean", "correlation", "residual"]))
@given_settings(max_examples=60)
def test_batches_make_the_tree_of_the_definition(first, batches, metric):
    X = np.array(first, dtype=float)
    kernels = {
        "euclidean": cx.Euclidean(),
        "correlation": cx.Correlation(cx.Matern32(0.7)),
        "residual": cx.ResidualCorrelation(cx.RBF(1.5), inducing=np.eye(2), jitter=1e-4),
    }
    tree = cx.cover_tree(X, metric=kernels[metric])
    tree.tree.depth()
    for batch in batches:
        X = np.concatenate([X, batch])
        tree = tree.insert(np.array(batch, dtype=float))
        assert tree._tree is not None
        assert_equal_trees(tree.tree, naive_tree(tree.payload))
    tree.check_invariants()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_larger_batch_on_threads(n_threads):
    X = np.random.default_rng(4).normal(size=(3000, 3))
    for metric in (cx.Euclidean(), cx.ResidualCorrelation(cx.Matern32(), inducing=X[:20])):
        tree = cx.cover_tree(X[:2000], metric=metric, n_threads=n_threads)
        tree.tree.depth()
        grown = tree.insert(X[2000:])
        assert_equal_trees(grown.tree, build_tree(cx.cover_tree(X, metric=metric).payload))


def test_a_tree_in_another_metric_is_built_anew_after_an_insert():
    tree = cx.cover_tree(data()[:200])
    tree.tree.depth()
    other = tree.with_metric(cx.Matern12(ARD))
    assert not other.tree.cover_metric
    grown = other.insert(data()[200:])
    assert grown.tree.cover_metric
    grown.check_invariants()


def test_orders_are_of_what_is_left():
    tree, left = cx.cover_tree(data()).delete(np.arange(0, N, 3)), np.setdiff1d(np.arange(N), np.arange(0, N, 3))
    order = cx.ordering.maximin(tree, start=7)
    expected = cx.ordering.maximin(data()[left], start=int(np.searchsorted(left, 7)))
    np.testing.assert_array_equal(order, left[expected])
    assert tree.knn(K, predecessor_mode=True, order=order).shape == (len(left), K)
    with pytest.raises(cx.InvalidInputError, match="start must be rows that were not deleted, got 3"):
        cx.ordering.maximin(tree, start=3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: a.update(ids=a["ids"][::-1].copy()), "the array 'ids' does not ascend"),
        (lambda a: a.update(ids=a["ids"] + 1), "the array 'ids' has values that are not from 0 to 259"),
        (lambda a: a.pop("ids"), "the array 'x' must be"),
        (lambda a: a.pop("x"), "the array 'x' is missing"),
    ],
)
def test_damaged_ids_are_named(damage, message):
    from covertreex.persistence import assemble, describe

    document, arrays = describe(cx.cover_tree(data()).delete([3, 4]))
    damage(arrays)
    with pytest.raises(cx.FileFormatError, match=message):
        assemble(document, arrays, 1)


def test_one_point(backend):
    tree = cx.cover_tree([[1.0]])
    tree.tree.depth()
    two = tree.insert([[1.25]])
    two.check_invariants()
    assert two.knn(1, backend=backend).tolist() == [[1], [0]]
    one = two.delete([0])
    assert one.knn(1, backend=backend).tolist() == [[-1]]
    assert one.knn(1, [[0.0]], backend=backend).tolist() == [[1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.delete([N]), "rows must be rows from 0 to 259, got 260"),
        (lambda t: t.delete([5]), "rows must be rows that were not deleted, got 5 at position 0; tree.ids lists"),
        (lambda t: t.delete([1.5]), "rows must be integer rows, got dtype float64"),
        (lambda t: t.delete(t.ids), "rows names all 259 points; at least one must be left"),
        (lambda t: t.knn(1, [4, 5]), "queries must be rows that were not deleted, got 5 at position 1"),
        (lambda t: t.knn(1, predecessor_mode=True, order=np.arange(259)), "order must be rows that were not deleted"),
        (lambda t: t.knn(260), "k must be from 1 to 259"),
        (lambda t: t.insert(np.ones((2, 3))), "X_new must have 5 columns as the data has, got 3"),
        (lambda t: t.insert(np.zeros((0, 5))), "X_new is empty"),
        (lambda t: t.insert(np.ones((1, 5)), v_matrix=np.ones((1, 2))), "v_matrix and p_diag are for trees that were"),
    ],
)
def test_bad_arguments(call, message):
    tree = cx.cover_tree(data()).delete([5])
    with pytest.raises(cx.InvalidInputError, match=message):
        call(tree)
