"""Growing and shrinking: the answers of a tree made afresh, stable indices, sound trees, old ones untouched."""

from functools import cache

import numpy as np
import pytest
from ard import ARD
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from naive import naive_tree

import covertreex as cx
from covertreex.io.description import assemble, describe

N, D, K = 260, 5, 7
ARRAYS = ("level", "parent_distance", "si", "farthest")


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


def assert_equal_payloads(found, expected):
    """To the bit, whatever the order of their rows."""
    assert (found.slack_abs, found.slack_rel, found.floored) == (
        expected.slack_abs,
        expected.slack_rel,
        expected.floored,
    )
    np.testing.assert_array_equal(found.row[found.index], np.arange(len(expected)))
    for name in ("coords", "factors", "p")[: 3 if len(expected.p) else 2]:
        ours, theirs = getattr(found, name)[found.row], getattr(expected, name)[expected.row]
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def assert_equal_trees(found, expected):
    """The cover trees of two trees are the same, whatever the order of rows."""
    (a, to_a), (b, to_b) = ((tree.tree, tree.payload) for tree in (found, expected))
    assert to_a.index[a.root] == to_b.index[b.root]
    parents = (np.where(t.parent[p.row] < 0, -1, p.index[t.parent[p.row]]) for t, p in ((a, to_a), (b, to_b)))
    np.testing.assert_array_equal(*parents)
    for name in ARRAYS:
        if name != "farthest" or (a.farthest is not None and b.farthest is not None):
            np.testing.assert_array_equal(getattr(a, name)[to_a.row], getattr(b, name)[to_b.row], err_msg=name)


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
    assert_equal_payloads(grown.payload, fresh.payload)
    assert (grown._state.built is not None) == (tree._state.built is not None)
    assert_equal_trees(grown, fresh)
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
    assert_equal_payloads(smaller.payload, fresh.payload)  # so many are gone that they were left out
    assert_equal_trees(smaller, fresh)
    assert_answers(smaller, fresh, left, backend, profiles_of(backend))
    np.testing.assert_array_equal(tree.knn(K, backend="cython"), before)
    np.testing.assert_array_equal(tree.ids, np.arange(N))


@pytest.mark.parametrize("metric", METRICS)
def test_a_few_deleted_points_stay_as_signposts(metric, backend, tmp_path):
    """They are in the payload and the cover tree, which is sound, and in no answer."""
    import pickle

    tree = made(metric, data())
    tree.tree.depth()
    gone = np.array([0, 3, 7, 60, 61, 205, 216, 230, N - 1])  # the root, some of equal points, the last
    left = np.setdiff1d(np.arange(N), gone)
    smaller = tree.delete(gone[3:]).delete(gone[:3])
    assert smaller.payload is tree.payload
    assert smaller.tree is tree.tree
    assert len(smaller) == len(left)
    np.testing.assert_array_equal(smaller.ids, left)
    smaller.check_invariants()
    assert_answers(smaller, made(metric, data()[left]), left, backend, profiles_of(backend))
    for settings in (
        cx.PARITY.replace(child_order="nearest", visited="bitset"),
        cx.PARITY.replace(kth_frontier_stop=False, level_cache=True, stream_tile=8),
    ):
        found = smaller.knn(K, predecessor_mode=True, settings=settings, backend="cython")
        np.testing.assert_array_equal(found, smaller.knn(K, predecessor_mode=True, backend=backend))

    everything = np.concatenate([data(), data()[:3] + 0.1])
    ids = np.append(left, [N, N + 1, N + 2])
    grown = smaller.insert(everything[N:])
    grown.check_invariants()
    assert_answers(grown, made(metric, everything[ids]), ids, backend, ["exact", "parity"])
    grown.save(tmp_path / "tree")
    for other in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(grown))):
        np.testing.assert_array_equal(other.ids, ids)
        assert_answers(other, made(metric, everything[ids]), ids, backend, ["exact"])

    other = grown.with_metric(cx.Matern12(0.8))
    fresh = made(metric, everything[ids]).with_metric(cx.Matern12(0.8))
    other.check_invariants()
    assert_answers(other, fresh, ids, backend, ["exact", "parity"])
    drawn = cx.ResidualCorrelation(cx.Matern12(0.8), inducing=20, seed=3)
    fresh = cx.cover_tree(everything[ids], metric=drawn)
    np.testing.assert_array_equal(grown.with_metric(drawn).knn(K), as_rows(ids, fresh.knn(K)))
    np.testing.assert_array_equal(cx.ordering.maximin(smaller), left[cx.ordering.maximin(made(metric, data()[left]))])


def test_when_deleted_points_are_left_out():
    tree = cx.cover_tree(data())
    most = N // 4
    assert len(tree.delete(np.arange(most)).payload) == N
    smaller = tree.delete(np.arange(most)).delete([most])
    assert len(smaller.payload) == len(smaller) == N - most - 1
    with pytest.raises(cx.InvalidInputError, match="rows must be rows that were not deleted, got 3"):
        tree.delete([3]).delete([3])
    with pytest.raises(cx.InvalidInputError, match="rows names all 1 points"):
        cx.cover_tree([[1.0]]).delete([0])


def test_inserted_factors_share_memory_and_no_tree_sees_those_of_another():
    metric = cx.ResidualCorrelation(cx.Matern32(ARD), inducing=data()[:40])
    points = np.random.default_rng(6).normal(size=(100, D))
    first = cx.cover_tree(data(), metric=metric).insert(points[:1])
    second, third = first.insert(points[1:2]), first.insert(points[2:4])  # both follow `first`: one must copy
    longer = second.insert(points[4:20])
    assert np.shares_memory(first.payload.factors, longer.payload.factors)
    assert not np.shares_memory(first.payload.factors, third.payload.factors)
    for tree, rows in ((first, [0]), (second, [0, 1]), (third, [0, 2, 3]), (longer, [0, 1, *range(4, 20)])):
        fresh = cx.cover_tree(np.concatenate([data(), points[rows]]), metric=metric)
        assert_equal_payloads(tree.payload, fresh.payload)
        np.testing.assert_array_equal(tree.knn(K), fresh.knn(K))


def test_one_at_a_time():
    """Rows are sorted anew now and then, and so is all that follows from the slack."""
    X = np.random.default_rng(8).normal(size=(160, D)) * np.linspace(0.2, 2.0, 160)[:, None]
    for metric in (cx.Euclidean(), cx.ResidualCorrelation(cx.RBF(ARD), inducing=X[70::9])):
        tree = cx.cover_tree(X[:60], metric=metric)
        tree.tree.depth()
        slacks = set()
        for i in range(60, 160):
            tree = tree.insert(X[i : i + 1])
            slacks.add(tree.payload.slack_abs)
            if i % 3 == 0:
                tree = tree.delete([i])
        assert len(slacks) > 2 or isinstance(metric, cx.Euclidean)
        tree.check_invariants()
        fresh = cx.cover_tree(X[tree.ids], metric=metric)
        for settings in ("exact", "parity"):
            found = tree.knn(K, settings=settings)
            np.testing.assert_array_equal(found, as_rows(tree.ids, fresh.knn(K, settings=settings)))


def test_a_loaded_tree_grows_as_any_other(tmp_path):
    """Its largest distances are not in the file; the slack changes, so they are needed."""
    metric = cx.ResidualCorrelation(cx.RBF(ARD), inducing=3.0 * data()[200:230])
    tree = cx.cover_tree(data()[:200], metric=metric)
    tree.tree.depth()
    tree.save(tmp_path / "tree")
    grown = cx.load(tmp_path / "tree").insert(3.0 * data()[200:])
    assert grown.payload.slack_abs != tree.payload.slack_abs
    assert_equal_trees(grown, cx.cover_tree(np.concatenate([data()[:200], 3.0 * data()[200:]]), metric=metric))
    grown.check_invariants()


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
    few = grown.delete([3, 0, N - 1])  # these stay in the payload
    held = np.setdiff1d(np.arange(N), [0, 3, N - 1])
    fresh = cx.cover_tree(data()[held], kernel=truth.kernel, v_matrix=V[held], p_diag=p[held])
    result = few.search(K, backend=backend, audit=50)
    np.testing.assert_array_equal(result.indices, as_rows(held, fresh.knn(K, backend=backend)))
    assert result.recall == 1.0
    again = few.with_metric(cx.ResidualCorrelation(truth.kernel, v_matrix=V[held], p_diag=p[held]))
    np.testing.assert_array_equal(again.knn(K, backend=backend), result.indices)
    V_new = truth._solve(data()[:2] + 0.1)
    p_new = truth.kernel.variance - np.sum(V_new**2, axis=1)
    more = few.insert(data()[:2] + 0.1, v_matrix=V_new, p_diag=p_new)
    assert more.search(K, backend=backend, audit=50).recall == 1.0
    smaller = few.delete(np.setdiff1d(held, left))
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
        assert tree._state.built is not None
        naive = cx.cover_tree(X, metric=kernels[metric])
        naive._state.kept.put("tree", naive_tree(naive.payload))
        assert_equal_trees(tree, naive)
    tree.check_invariants()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_larger_batch_on_threads(n_threads):
    X = np.random.default_rng(4).normal(size=(3000, 3))
    for metric in (cx.Euclidean(), cx.ResidualCorrelation(cx.Matern32(), inducing=X[:20])):
        tree = cx.cover_tree(X[:2000], metric=metric, n_threads=n_threads)
        tree.tree.depth()
        for grown in (tree.insert(X[2000:]), tree.insert(X[2000:2100]).insert(X[2100:2101]).insert(X[2101:])):
            assert_equal_trees(grown, cx.cover_tree(X, metric=metric))


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
    document, arrays = describe(cx.cover_tree(data()).delete([3, 4])._state)
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
