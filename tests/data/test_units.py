"""Correlation has no units: those of variance and coordinates change no answer. How ties are told apart."""

import numpy as np
import pytest

import covertreex as cx
from covertreex.data import questions as asking
from covertreex.oracle import canonical, kernel_values, squared_distances

KERNELS = [cx.RBF, cx.Matern12, cx.Matern32, cx.Matern52, cx.RationalQuadratic]
PROFILES = ["exact", "fast", "parity"]
N = 400


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(3).normal(size=(N, 3))


def supplied(kernel, X, m=20):
    """Factors and residual variances as a caller's own model makes them."""
    Z = X[:m]
    L = np.linalg.cholesky(kernel(Z, Z) + 1e-6 * kernel.variance * np.eye(m))
    V = np.linalg.solve(L, kernel(Z, X)).T
    return V, np.maximum(kernel.variance - np.sum(V * V, axis=1), 1e-9 * kernel.variance)


@pytest.mark.parametrize("variance", [1e-100, 1e-60, 1e-45, 1e-8, 0.3, 7.0, 1e39, 1e60, 1e100])
@pytest.mark.parametrize("profile", PROFILES)
def test_the_variance_has_no_say(X, variance, profile, backend):
    one, other = (cx.cover_tree(X, kernel=cx.RBF(0.5, variance=v), inducing=20) for v in (1.0, variance))
    jittered = cx.cover_tree(X, kernel=cx.RBF(0.5, variance=variance), inducing=20, jitter=1e-6 * variance)
    for asked in ({}, {"predecessor_mode": True}, {"queries": X[:100] + 0.1}):
        found = [tree.search(9, settings=profile, backend=backend, **asked) for tree in (one, other, jittered)]
        np.testing.assert_array_equal(found[0].indices, found[1].indices)
        np.testing.assert_array_equal(found[0].distances, found[1].distances)
        np.testing.assert_array_equal(found[0].indices, found[2].indices)
        np.testing.assert_allclose(found[0].distances, found[2].distances, rtol=1e-9)
    within = [tree.radius(0.7, backend=backend) for tree in (one, other)]
    assert len(within[0].indices) > N
    np.testing.assert_array_equal(within[0].indices, within[1].indices)
    np.testing.assert_array_equal(within[0].indptr, within[1].indptr)


@pytest.mark.parametrize("variance", [1e-100, 1e-45, 0.3, 1e39, 1e100])
def test_supplied_factors_have_no_units(X, variance):
    trees = []
    for v in (1.0, variance):
        kernel = cx.Matern32(0.5, variance=v)
        V, p = supplied(kernel, X)
        trees.append((cx.cover_tree(X, kernel=kernel, v_matrix=V, p_diag=p), V[:50], p[:50]))
    found = [tree.knn(9) for tree, _, _ in trees]
    np.testing.assert_array_equal(*found)
    outside = [tree.knn(9, queries=X[:50], v_query=V, p_query=p) for tree, V, p in trees]
    np.testing.assert_array_equal(*outside)
    assert trees[1][0].search(9, audit=100).recall == 1.0


def test_supplied_factors_are_saved_as_they_were(X, tmp_path):
    kernel = cx.Matern32(0.5, variance=1e-7)
    V, p = supplied(kernel, X)
    tree = cx.cover_tree(X, kernel=kernel, v_matrix=V, p_diag=p)
    tree.save(tmp_path / "tree.safetensors")
    loaded = cx.load(tmp_path / "tree.safetensors")
    np.testing.assert_array_equal(np.asarray(loaded.metric.v_matrix), V)
    np.testing.assert_array_equal(np.asarray(loaded.metric.p_diag), p)
    more = [t.insert(X[30:35], v_matrix=V[30:35], p_diag=p[30:35] * 1.5).knn(9) for t in (tree, loaded)]
    np.testing.assert_array_equal(*more)


def test_jitter_by_default_follows_the_variance(X):
    tree = cx.cover_tree(X, kernel=cx.RBF(0.5, variance=1e-8), inducing=20)
    assert tree.metric.jitter is None
    same = tree.with_metric(cx.RBF(0.5, variance=3e5))
    np.testing.assert_array_equal(tree.knn(9), same.knn(9))
    absolute = cx.cover_tree(X, kernel=cx.RBF(0.5, variance=1e-8), inducing=20, jitter=1e-6)
    assert np.any(tree.knn(9) != absolute.knn(9))  # a hundred times the variance
    with pytest.raises(cx.InvalidInputError, match="None for 1e-06 of the variance"):
        cx.cover_tree(X, kernel=cx.RBF(), inducing=20, jitter="small")


def brute(kernel, X, k):
    """Neighbours by (|rho| as float64 holds it, scaled distance, index), without inducing points."""
    r2 = squared_distances(*((X / kernel.lengthscale)[axis] for axis in (np.s_[:, None], np.s_[None])))
    # To the bit, since at 1e9 lengthscales rounding alone tells one rho from another.
    rho = np.minimum(kernel_values(kernel.code, 1.0, kernel.alpha, r2), 1.0)
    answer = []
    for i in range(len(X)):
        order = np.lexsort((np.arange(len(X)), r2[i], -rho[i]))
        answer.append(order[order != i][:k])
    return np.array(answer)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("lengthscale", [0.01, 1e9])
def test_ties_of_underflow_go_by_scaled_distance(kernel, profile, lengthscale, backend):
    X = np.random.default_rng(0).uniform(size=(300, 10))
    kernel = kernel(lengthscale)
    result = cx.cover_tree(X, kernel=kernel).search(10, settings=profile, backend=backend)
    np.testing.assert_array_equal(result.indices, brute(kernel, X, 10))
    assert np.bincount(result.indices.ravel()).max() < 60
    assert result.tied_rows == sum(len(set(row)) < 10 for row in result.distances.tolist())


@pytest.mark.parametrize("profile", PROFILES)
def test_ties_with_inducing_points(profile, backend):
    X = np.random.default_rng(0).uniform(size=(1500, 10))
    tree = cx.cover_tree(X, kernel=cx.RBF(0.02), inducing=30)
    result = tree.search(10, predecessor_mode=True, settings=profile, backend=backend)
    block, payload = asking.block_of(tree._state, asking.check(tree._state, predecessor_mode=True), 1), tree.payload
    np.testing.assert_array_equal(result.indices, canonical(payload, block, 10)[0])
    assert result.tied_rows > 1000


def test_exact_ties_go_by_index(backend):
    X = np.repeat(np.arange(5.0), 4)[:, None]
    for tree in (cx.cover_tree(X), cx.cover_tree(X, kernel=cx.Matern32(1.0))):
        indices = tree.knn(4, backend=backend)
        assert indices[0].tolist() == [1, 2, 3, 4]
        assert indices[6].tolist() == [4, 5, 7, 0]


# ---------------------------------------------------------------------------------------------------------------------
# Coordinates near zero


@pytest.mark.parametrize("metric", [{}, {"kernel": cx.RBF(1.0)}, {"kernel": cx.Matern12(1.0), "inducing": 2}])
def test_points_that_no_square_tells_apart_are_refused(metric):
    with pytest.raises(cx.InvalidInputError, match=r"differ only in coordinates as small as 1e-170.*Multiply the data"):
        cx.cover_tree([[0.0], [3e-170], [1e-170]], **metric)


def test_queries_that_no_square_tells_apart_are_refused():
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    with pytest.raises(cx.InvalidInputError, match="queries has points that differ only"):
        tree.knn(1, queries=[[1e-170]])
    assert tree.knn(1, queries=[[0.0]]).tolist() == [[0]]


def test_tiny_coordinates_beside_others_do_not_matter():
    X = np.array([[0.0, 0.0], [1e-200, 1.0], [1e-170, 2.5], [-1e-300, 4.5]])
    assert cx.cover_tree(X).knn(1).ravel().tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("scale", [1e-115, 1e-60, 1e60, 1e139])
def test_the_scale_of_coordinates_has_no_say(X, scale, backend):
    power = 2.0 ** np.round(np.log2(scale))
    for profile in PROFILES:
        found = [cx.cover_tree(X * s / 8).knn(5, settings=profile, backend=backend) for s in (1.0, power)]
        np.testing.assert_array_equal(*found)


def test_coordinates_that_vanish_beside_the_lengthscale_are_refused():
    with pytest.raises(cx.InvalidInputError, match="vanish beside the lengthscale"):
        cx.cover_tree([[0.0], [1e-290], [3e-290]], kernel=cx.RBF(1e90))
