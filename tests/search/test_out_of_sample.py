"""Queries that are no rows of X: by coordinates, or with the caller's own factors; by every backend."""

from functools import cache

import numpy as np
import pytest
from ard import ARD, EVERY_KERNEL

import covertreex as cx
from covertreex import oracle
from covertreex.search.boxes import boxes_of

N, D, Q, K = 250, 5, 60, 8


@cache
def data():
    return np.random.default_rng(5).normal(size=(N, D))


@cache
def points():
    """Some near the data, some far from it, some rows of it, some duplicates of each other."""
    rng = np.random.default_rng(6)
    near = data()[rng.integers(0, N, 10)] + 1e-7 * rng.normal(size=(10, D))
    X = np.concatenate([rng.normal(size=(20, D)), near, 6.0 * rng.normal(size=(10, D)), data()[:10]])
    return np.concatenate([X, X[:10]])


KERNELS = {**EVERY_KERNEL, "flat": cx.RBF(8.0)}


@cache
def dense(kernel):
    return oracle.DenseOracle(data(), kernel=KERNELS[kernel], inducing=25)


@cache
def factors_of_points(kernel):
    """By the oracle's SciPy, as a user's own model would have them."""
    V = dense(kernel)._solve(points())
    return V, KERNELS[kernel].variance - np.einsum("ij,ij->i", V, V)


@cache
def computed(kernel):
    return cx.cover_tree(data(), kernel=KERNELS[kernel], inducing=25, n_threads=2)


@cache
def supplied(kernel, extra=0.0):
    truth = dense(kernel)
    return cx.cover_tree(data(), kernel=KERNELS[kernel], v_matrix=truth.V, p_diag=truth.p + extra, n_threads=2)


def profiles_of(backend):
    return ["exact", "parity", "fast", *(["gold"] if backend == "numba" else [])]


@pytest.mark.parametrize("kernel", KERNELS)
def test_coordinates_against_the_dense_oracle(kernel, backend):
    tree = computed(kernel)
    first = tree.knn(K, points(), backend="cython", return_distances=True)
    assert dense(kernel).recall(first[0], points()) == 1.0
    for profile in profiles_of(backend):
        result = tree.search(K, points(), settings=profile, backend=backend, n_threads=1, audit=20)
        np.testing.assert_array_equal(result.indices, first[0], err_msg=profile)
        np.testing.assert_array_equal(result.distances, first[1], err_msg=profile)
        assert result.recall == 1.0


@pytest.mark.parametrize("extra", [0.0, 0.3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_own_factors_against_the_dense_oracle(kernel, extra, backend):
    tree, (V, p) = supplied(kernel, extra), factors_of_points(kernel)
    p = np.maximum(p, 1e-9 * KERNELS[kernel].variance) + extra
    truth = oracle.DenseOracle(data(), kernel=KERNELS[kernel], v_matrix=dense(kernel).V, p_diag=dense(kernel).p + extra)
    first = tree.knn(K, points(), v_query=V, p_query=p, backend="cython", return_distances=True)
    assert truth.recall(first[0], points(), v_query=V, p_query=p) == 1.0
    for profile in profiles_of(backend):
        result = tree.search(
            K, points(), v_query=V, p_query=p, settings=profile, backend=backend, n_threads=1, audit=20
        )
        np.testing.assert_array_equal(result.indices, first[0], err_msg=profile)
        np.testing.assert_array_equal(result.distances, first[1], err_msg=profile)
        assert result.recall == 1.0


@pytest.mark.parametrize("kernel", ["matern32", "rq"])
def test_own_factors_are_those_of_rows(kernel):
    """Coordinates and factors of a row are as far from all others as the row itself."""
    tree, truth = supplied(kernel), dense(kernel)
    rows = np.arange(0, N, 5)
    indices, distances = tree.knn(N, rows, include_self=True, return_distances=True)
    found, far = tree.knn(N, data()[rows], v_query=truth.V[rows], p_query=truth.p[rows], return_distances=True)
    np.testing.assert_array_equal(found, indices)
    np.testing.assert_array_equal(far[:, 1:], distances[:, 1:])
    assert far[:, 0].max() < 1e-4  # not 0: to the engine it is another point, and p comes from another arithmetic
    without_p = cx.cover_tree(data(), kernel=KERNELS[kernel], v_matrix=truth.V)
    np.testing.assert_array_equal(
        without_p.knn(N, data()[rows], v_query=truth.V[rows]), without_p.knn(N, rows, include_self=True)
    )


def test_own_factors_beside_inducing_points():
    """A tree that can compute factors takes the caller's as well."""
    V, p = factors_of_points("matern52")
    tree = computed("matern52")
    np.testing.assert_array_equal(tree.knn(K, points(), v_query=V, p_query=p), tree.knn(K, points()))


@pytest.mark.parametrize("limit", [40, "each"])
def test_limits(limit, backend):
    limit = np.arange(Q) * 4 if limit == "each" else limit
    V, p = factors_of_points("matern32")
    for tree, options in ((computed("matern32"), {}), (supplied("matern32"), {"v_query": V, "p_query": p})):
        for profile in profiles_of(backend):
            found = tree.knn(K, points(), limit=limit, **options, settings=profile, backend=backend)
            expected, _ = tree.oracle().knn(K, points(), limit=limit, **options)
            assert np.all((found >= 0) == (expected >= 0))
            assert np.all(found < np.broadcast_to(limit, Q)[:, None])
            assert tree.oracle().recall(found, points(), limit=limit, **options) == 1.0


def test_prediction_sets_of_vecchia(backend):
    """More test points than training points, as a prediction asks for; the fast profile is as good as it says."""
    rng = np.random.default_rng(1)
    train, test = rng.uniform(size=(3000, 2)), rng.uniform(-0.05, 1.05, size=(4500, 2))
    tree = cx.cover_tree(train, kernel=cx.Matern32(0.2), inducing=30)
    exact = tree.search(15, test, backend=backend, audit=400)
    assert exact.recall == 1.0
    fast = tree.search(15, test, settings=cx.FAST.replace(recall_target=0.99), backend=backend)
    assert fast.plan.least is not None
    assert tree.oracle().recall(fast.indices, test) > 0.99
    same = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact.indices, fast.indices, strict=True)]) / 15
    assert same > 0.99


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_queries_far_from_the_data_and_at_inducing_points(dtype, backend):
    """Their factors are longer, and their coordinates larger, than any of the data's: the margin must know."""
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(30, 2))
    X = (Z[rng.integers(0, 30, 400)] + 0.8 * rng.normal(size=(400, 2))).astype(dtype)
    tree = cx.cover_tree(X, kernel=cx.Matern12(3.0), inducing=Z)
    queries = np.concatenate([Z, Z + 1e-6, 1e3 * rng.normal(size=(20, 2)), 1e6 + rng.normal(size=(20, 2))])
    for profile in profiles_of(backend):
        found = tree.knn(5, queries, settings=profile, backend=backend, return_distances=True)
        expected = tree.knn(5, queries, settings="parity", backend="cython", return_distances=True)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    assert tree.oracle().recall(found[0], queries) == 1.0


@pytest.mark.parametrize("metric", [{}, {"kernel": cx.Matern32(ARD)}], ids=["euclidean", "correlation"])
def test_metrics_without_factors(metric, backend):
    tree = cx.cover_tree(data(), **metric)
    for profile in profiles_of(backend):
        found = tree.knn(K, points(), settings=profile, backend=backend)
        assert tree.oracle().recall(found, points()) == 1.0


V, P = np.zeros((Q, 25)), np.ones(Q)

BAD = {
    "no factors": (supplied, {"queries": points()}, "queries given as coordinates need inducing points.*v_query"),
    "p alone": (supplied, {"queries": points(), "p_query": P}, "p_query goes with v_query"),
    "rows": (supplied, {"queries": [1, 2], "v_query": V[:2]}, "v_query goes with queries that are coordinates"),
    "all rows": (supplied, {"v_query": V}, "v_query goes with queries that are coordinates"),
    "too few": (
        supplied,
        {"queries": points(), "v_query": V[1:]},
        r"v_query must have .* shape \(60, 25\), got \(59, 25",
    ),
    "columns": (supplied, {"queries": points(), "v_query": V[:, 1:]}, r"shape \(60, 25\), got \(60, 24\)\.$"),
    "transposed": (supplied, {"queries": points(), "v_query": V.T}, r"got \(25, 60\)\. It looks transposed"),
    "nan": (supplied, {"queries": points(), "v_query": V * np.nan}, "v_query must be finite"),
    "too long": (supplied, {"queries": points(), "v_query": V + 1}, r"v_query contradicts the kernel: \|v\|\^2 = 25"),
    "p length": (
        supplied,
        {"queries": points(), "v_query": V, "p_query": P[1:]},
        r"p_query must have shape \(60,\), one entry per point, got \(59,\)",
    ),
    "p zero": (supplied, {"queries": points(), "v_query": V, "p_query": 0 * P}, "p_query must be positive .*got 0.0"),
    "p small": (
        supplied,
        {"queries": points(), "v_query": V, "p_query": 0.5 * P},
        "p_query is below .* at least 1 is needed. Check that v_query, p_query and kernel belong together",
    ),
    "of another model": (
        supplied,
        {"queries": data()[:Q], "v_query": np.roll(dense("matern32").V[:Q], 1, axis=0)},
        "v_query contradicts the kernel: the residual correlations of a sample of 282 rows",
    ),
    "euclidean": (lambda _: cx.cover_tree(data()), {"queries": points(), "v_query": V}, "this metric has no factors"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    make, options, message = BAD[name]
    with pytest.raises(cx.InvalidInputError, match=message):
        make("matern32").knn(K, **options)


def test_the_sample_of_the_data_is_factorized_once(monkeypatch):
    """And the eigenvalues of it and the queries are computed only where its factorization does not show enough."""
    calls = []
    real = np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda R: calls.append(len(R)) or real(R))
    tree = supplied("matern32")
    tree._state.kept.forget("factor sample")
    factors = dense("matern32")._solve(points())
    tree.knn(K, points(), v_query=factors)
    sample = tree._state.kept.held("factor sample")
    tree.knn(K, points()[:1], v_query=factors[:1])
    assert sample is tree._state.kept.held("factor sample")
    assert calls == []
    tree.knn(K, data()[:1], v_query=dense("matern32").V[:1])  # a point of the data itself: nearly singular, but sound
    sample.cholesky = None
    tree.knn(K, points()[:1], v_query=factors[:1])
    assert calls[-1] == min(N, 256) + 1


def test_few_queries_do_not_look_at_all_coordinates_again(rng):
    tree = cx.cover_tree(rng.normal(size=(300, 3)), kernel=cx.Matern32(1.0), inducing=20)
    low, high = tree.payload.corners
    np.testing.assert_array_equal(low, tree.payload.coords.min(axis=0))
    np.testing.assert_array_equal(high, tree.payload.coords.max(axis=0))
    assert tree.payload.corners[0] is low
    assert tree.payload.smallest_p == tree.payload.p.min()
    boxes = boxes_of(tree.payload)
    assert boxes.least(tree.payload.index) is boxes.least(tree.payload.index)
    other = tree.payload.index[::-1].copy()
    assert boxes.least(other)[0] == boxes.least(tree.payload.index)[0] == 0
    assert (boxes.least(other) != boxes.least(tree.payload.index)).any()
