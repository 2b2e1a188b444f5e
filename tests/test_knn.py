"""End to end: every backend, profile, metric and mode gives the bits of the canonical oracle and recall 1.0."""

from functools import cache

import numpy as np
import pytest
from ard import ARD, EVERY_KERNEL

import covertreex as cx
from covertreex import oracle
from covertreex.data import questions as asking

N, D, K = 260, 5, 9


@cache
def data():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(N, D))
    X[40:60] = X[20:40]  # duplicates
    X[60:70] = X[:10] + 1e-9 * rng.normal(size=(10, D))
    return rng.permutation(X)


def supplied(kernel, extra):
    """Factors and residual variances by SciPy's oracle, the latter raised by `extra`."""
    truth = oracle.DenseOracle(data(), kernel=kernel, inducing=20)
    return {"kernel": kernel, "v_matrix": truth.V, "p_diag": truth.p + extra}


METRICS = {
    "euclidean": lambda: {},
    "correlation": lambda: {"kernel": cx.Matern32(ARD)},
    **{name: (lambda kernel=kernel: {"kernel": kernel, "inducing": 20}) for name, kernel in EVERY_KERNEL.items()},
    "p-at-floor": lambda: {"kernel": cx.RBF(8.0), "inducing": 60, "jitter": 1e-9},
    "supplied": lambda: supplied(cx.Matern52(ARD), 0.0),
    "supplied-larger-p": lambda: supplied(cx.Matern52(ARD), np.linspace(0.0, 2.0, N)),
}  # fmt: skip

MODES = {
    "all": {},
    "include_self": {"include_self": True},
    "predecessors": {"predecessor_mode": True},
    "predecessors+self": {"predecessor_mode": True, "include_self": True},
    "rows": {"queries": np.array([0, 17, 259, 17, 3])},
    "coordinates": {"queries": np.random.default_rng(1).normal(size=(40, D))},
}


@cache
def tree_of(metric):
    return cx.cover_tree(data(), **METRICS[metric](), n_threads=2)


@cache
def dense_of(metric):
    return tree_of(metric).oracle()


@cache
def expected(metric, mode):
    """The canonical answer."""
    tree, options = tree_of(metric), MODES[mode]
    block = asking.block_of(tree._state, asking.check(tree._state, **options), 1)
    return oracle.canonical(tree.payload, block, K)


def profiles_of(backend):
    return ["exact", "parity", "gold"] if backend == "numba" else ["exact", "parity"]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("metric", METRICS)
def test_bits_and_recall(metric, mode, backend, n_threads):
    if mode == "coordinates" and metric.startswith("supplied"):
        pytest.skip("coordinates need inducing points (tests/test_errors.py)")
    tree, options = tree_of(metric), MODES[mode]
    for profile in profiles_of(backend):
        indices, distances = tree.knn(
            K, **options, settings=profile, backend=backend, n_threads=n_threads, return_distances=True
        )
        np.testing.assert_array_equal(indices, expected(metric, mode)[0], err_msg=profile)
        np.testing.assert_array_equal(distances, expected(metric, mode)[1], err_msg=profile)
        assert dense_of(metric).recall(indices, **options) == 1.0


def test_p_is_at_its_floor_where_the_test_says_so():
    assert tree_of("p-at-floor").payload.floored > 20


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "rbf"])
@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("predecessor_mode", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (3, 2), (30, 29), (30, 30)])
def test_few_points_and_large_k(n, k, metric, include_self, predecessor_mode, backend):
    arguments = METRICS[metric]()
    if "inducing" in arguments:
        arguments["inducing"] = 1
    tree = cx.cover_tree(data()[:n], **arguments)
    for profile in profiles_of(backend):
        indices = tree.knn(
            k, include_self=include_self, predecessor_mode=predecessor_mode, settings=profile, backend=backend
        )
        for i, row in enumerate(indices):
            allowed = set(range(i if predecessor_mode else n)) - {i} | ({i} if include_self else set())
            assert set(row[row >= 0]) <= allowed
            assert (row >= 0).sum() == min(k, len(allowed))
            assert np.all(row[(row >= 0).sum() :] == -1)


@pytest.mark.parametrize("kernel", [None, cx.RBF(), cx.Matern12()])
def test_many_duplicates(kernel, backend, rng):
    """Four places, fifty points on each: ties by index."""
    X = rng.normal(size=(4, 2))[np.arange(200) % 4]
    tree = cx.cover_tree(X, kernel=kernel, inducing=None if kernel is None else rng.normal(size=(3, 2)))
    for profile in profiles_of(backend):
        indices, distances = tree.knn(10, settings=profile, backend=backend, return_distances=True)
        for i in range(200):
            same = [j for j in range(i % 4, 200, 4) if j != i]
            assert indices[i].tolist() == same[:10]
        assert not distances.any()


def test_all_points_equal(backend):
    tree = cx.cover_tree(np.ones((50, 2)), kernel=cx.RBF(), inducing=[0], jitter=1e-12)
    for profile in profiles_of(backend):
        assert tree.knn(3, settings=profile, backend=backend)[:2].tolist() == [[1, 2, 3], [0, 2, 3]]


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_data_at_any_scale(scale, backend, rng):
    X = rng.normal(size=(120, 2))
    expected_indices = cx.oracle.knn(X, 5)[0]
    for profile in profiles_of(backend):
        found = cx.cover_tree(scale * X).knn(5, settings=profile, backend=backend)
        np.testing.assert_array_equal(found, expected_indices)


def test_result_tells_everything():
    result = tree_of("rbf").search(K, predecessor_mode=True, settings="parity", backend="cython", audit=50)
    assert (result.backend, result.plan.verb, result.settings) == ("cython", "search", cx.PARITY)
    assert result.recall == 1.0
    assert result.recall_interval[0] > 0.98
    assert result.recall_interval[1] == 1.0
    assert result.telemetry.counters["stop_exhausted"] + result.telemetry.counters["stop_kth_frontier"] == N
    assert (result.indices.dtype, result.distances.dtype) == (np.int64, np.float64)
    assert np.all(np.isinf(result.distances) == (result.indices == -1))
    assert tree_of("rbf").search(K, settings="parity", backend="cython").recall is None


def test_audit_of_a_poor_search_tells():
    poor = cx.PARITY.replace(budget_schedule=(10,))
    result = tree_of("rbf").search(K, settings=poor, backend="cython", audit=N)
    truth = dense_of("rbf").recall(result.indices)
    assert result.recall == pytest.approx(truth)
    assert result.recall < 0.9
    assert result.recall_interval[0] < truth < result.recall_interval[1]


def test_integer_queries_of_any_kind():
    tree = tree_of("euclidean")
    expected_indices = tree.knn(3)[[5, 2]]
    for queries in ([5, 2], (5, 2), np.array([5, 2], dtype=np.uint8), np.array([5, 2], dtype=np.int32)):
        np.testing.assert_array_equal(tree.knn(3, queries=queries), expected_indices)


def test_integer_coordinates_are_coordinates():
    tree = cx.cover_tree(np.arange(12).reshape(6, 2))
    assert tree.knn(1, queries=np.array([[4, 5], [0, 0]])).tolist() == [[2], [0]]


def test_coordinates_exclude_nothing():
    tree = tree_of("matern32")
    indices, distances = tree.knn(1, queries=data()[100:105], return_distances=True)
    np.testing.assert_array_equal(distances, 0.0)
    np.testing.assert_array_equal(data()[indices[:, 0]], data()[100:105])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_data_of_other_types(dtype, rng):
    X = (10 * rng.normal(size=(50, 3))).astype(dtype)
    np.testing.assert_array_equal(cx.cover_tree(X).knn(4), cx.cover_tree(X.astype(float)).knn(4))


@pytest.mark.parametrize("order", ["C", "F"])
def test_data_in_other_memory_orders(order, rng):
    X = rng.normal(size=(50, 6))
    strided = np.asarray(X, order=order)[:, ::2]
    expected_indices = cx.cover_tree(X[:, ::2].copy()).knn(4)
    np.testing.assert_array_equal(cx.cover_tree(strided).knn(4), expected_indices)


@pytest.mark.slow
def test_backends_agree_on_a_larger_workload(backend):
    """The gold workload, an eighth of it."""
    X = np.random.default_rng(42).normal(size=(4096, 3))
    tree = cx.cover_tree(X, kernel=cx.RBF(), inducing=256)
    queries = np.random.default_rng(43).integers(0, 4096, 256)
    first = tree.search(50, queries=queries, settings="parity", backend="cython")
    assert tree.oracle().recall(first.indices, queries) == 1.0
    for profile in profiles_of(backend):
        result = tree.search(50, queries=queries, settings=profile, backend=backend)
        np.testing.assert_array_equal(result.indices, first.indices)
        np.testing.assert_array_equal(result.distances, first.distances)
        if profile == "parity":
            assert result.telemetry.counters == first.telemetry.counters


def test_no_coordinates_at_all(backend):
    X, none = np.random.default_rng(0).normal(size=(50, 3)), np.zeros((0, 3))
    for options in ({}, {"kernel": cx.RBF()}, {"kernel": cx.Matern32(), "inducing": 10}):
        tree = cx.cover_tree(X, **options)
        for settings in ("exact", "fast", "parity"):
            result = tree.search(4, none, settings=settings, backend=backend, audit=3)
            assert result.indices.shape == result.distances.shape == (0, 4)
        assert tree.radius(1.0, none, backend=backend).indptr.tolist() == [0]
