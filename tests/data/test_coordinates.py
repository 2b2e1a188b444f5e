"""Which coordinates are compared: matrices of lengthscales, columns by name, places on the sphere."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covertreex as cx
from covertreex import oracle
from covertreex.kernels.columns import solved

TRIANGULAR = ((2.0, 0.0, 0.0), (0.5, 0.3, 0.0), (-0.7, 0.1, 1.5))
FULL = ((0.2, 1.0, -0.3), (0.5, 0.3, 0.4), (-0.7, 0.1, 1.5))


@pytest.fixture
def X(rng):
    return np.round(rng.normal(size=(300, 3)), 2)


def audited(tree, k=5, queries=None, **options):
    """The answer of a search that the dense oracle agrees with."""
    result = tree.search(k, queries, audit=10**6, **options)
    assert result.recall == 1.0
    return result


# -- matrices of lengthscales


@pytest.mark.parametrize("L", [TRIANGULAR, FULL, np.array(FULL), [list(row) for row in FULL]])
def test_a_matrix_of_lengthscales(X, L):
    kernel = cx.Matern32(L)
    assert kernel == pickle.loads(pickle.dumps(kernel))
    assert hash(kernel) == hash(cx.Matern32(tuple(map(tuple, np.array(L).tolist()))))
    inverse = np.linalg.inv(np.asarray(L) @ np.asarray(L).T)
    difference = X[:50, None] - X[None, :50]
    r = np.sqrt(np.einsum("abi,ij,abj->ab", difference, inverse, difference))
    a = np.sqrt(3.0) * r
    np.testing.assert_allclose(kernel(X[:50], X[:50]), (1.0 + a) * np.exp(-a), rtol=1e-9, atol=1e-14)


def test_a_diagonal_matrix_is_one_lengthscale_per_axis(X, backend):
    matrix, ard = cx.RBF(np.diag([0.3, 1.7, 2.9])), cx.RBF((0.3, 1.7, 2.9))
    np.testing.assert_array_equal(matrix.scale(X), ard.scale(X))
    one, other = (cx.cover_tree(X, kernel=kernel, inducing=20).search(k=4, backend=backend) for kernel in (matrix, ard))
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)


@pytest.mark.parametrize("L", [TRIANGULAR, FULL])
@pytest.mark.parametrize("inducing", [None, 30])
def test_searches_under_a_matrix(X, L, inducing, backend, tmp_path):
    tree = cx.cover_tree(X, kernel=cx.Matern52(L, variance=2.0), inducing=inducing)
    for profile in ("exact", "parity"):
        audited(tree, settings=profile, backend=backend)
    audited(tree, queries=X[:40] + 0.013, backend=backend)
    tree.save(tmp_path / "tree")
    for again in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(tree))):
        assert again.metric.kernel == tree.metric.kernel
        np.testing.assert_array_equal(again.knn(k=5), tree.knn(k=5))
    other = tree.with_metric(cx.Matern52(FULL))
    np.testing.assert_array_equal(
        other.knn(k=5), cx.cover_tree(X, kernel=cx.Matern52(FULL), inducing=inducing).knn(k=5)
    )


@given(st.data())
def test_elimination(data):
    d = data.draw(st.integers(1, 6))
    number = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))
    L = data.draw(st.lists(st.lists(number, min_size=d, max_size=d), min_size=d, max_size=d))
    A, X = np.array(L), np.array([data.draw(st.lists(number, min_size=d, max_size=d))])
    sound = abs(np.linalg.det(A)) > 1e-3 and np.linalg.cond(A) < 1e5
    if sound:
        assert cx.RBF(L).lengthscale == tuple(map(tuple, L))
        np.testing.assert_allclose(solved(tuple(map(tuple, L)), X), np.linalg.solve(A, X.T).T, rtol=1e-8, atol=1e-8)
    elif np.linalg.matrix_rank(A) < d:
        with pytest.raises(cx.InvalidInputError, match="matrix that is"):
            cx.RBF(L)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cx.RBF([[1.0, 2.0], [2.0, 4.0]]), "matrix that is singular"),
        (lambda: cx.RBF([[0.0]]), "matrix that is singular"),
        (lambda: cx.RBF([[1.0, 1.0], [1.0, 1.0 + 1e-13]]), "nearly singular.*at most 1e\\+10"),
        (lambda: cx.RBF([[1.0, np.nan], [0.0, 1.0]]), r"lengthscale\[0\]\[1\] must be positive and finite"),
        (lambda: cx.RBF([[1.0, 0.0], [0.0]]), "rows of one length"),
        (lambda: cx.RBF([[1.0, "a"], [0.0, 1.0]]), r"lengthscale\[0\]\[1\] must be a number"),
        (lambda: cx.RBF(np.ones((2, 2, 2))), r"a square matrix.*got shape \(2, 2, 2\)"),
        (lambda: cx.RBF(np.eye(2)).scale(np.zeros((4, 3))), "2 lengthscales, but the data has 3 columns"),
        (lambda: cx.RBF(1e-90 * np.eye(3)).scale(np.full((1, 3), 1e60)), "the data spans up to"),
    ],
)
def test_a_matrix_that_cannot_be(make, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        make()


def test_units_do_not_make_a_matrix_ill_conditioned():
    kernel = cx.RBF(np.diag([1e-9, 1e9]) @ np.array([[1.0, 0.2], [0.3, 1.0]]))
    assert np.isfinite(kernel.scale(np.array([[1e-9, 1e9]]))).all()


def test_the_oracle_knows_a_matrix(X):
    kernel = cx.RBF(TRIANGULAR)
    indices, _ = oracle.knn(X, 3, kernel=kernel)
    scaled = np.linalg.solve(np.array(TRIANGULAR), X.T).T
    np.testing.assert_array_equal(indices, oracle.knn(scaled, 3, kernel=cx.RBF())[0])
