"""From data to payloads: inducing points, factors, residual variances, floors."""

import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular

import covertreex as cx
from covertreex import oracle
from covertreex.data.payload import EUCLIDEAN, RESIDUAL


@pytest.fixture
def X(rng):
    return rng.normal(size=(150, 3))


def scipy_factors(kernel, X, Z, jitter=1e-6):
    """Factors and residual variances by SciPy."""
    L = cholesky(kernel(Z, Z) + jitter * np.eye(len(Z)), lower=True)
    V = solve_triangular(L, kernel(Z, X), lower=True).T
    return V, kernel.variance - np.einsum("ij,ij->i", V, V)


def dense_distances(payload):
    """All distances in canonical arithmetic, by dataset index."""
    rows = payload.row
    return oracle.canonical_distances(payload, rows[:, None], rows[None])


def test_euclidean(X):
    payload, _ = cx.Euclidean().prepare(X)
    assert payload.metric == EUCLIDEAN
    assert payload.kernel is None
    assert payload.factors.shape == (150, 0)
    assert payload.p.shape == (0,)
    np.testing.assert_allclose(dense_distances(payload), np.linalg.norm(X[:, None] - X[None], axis=2), rtol=1e-13)


def test_correlation(X):
    kernel = cx.Matern32((1.0, 2.0, 0.5), variance=3.0)
    payload, _ = cx.Correlation(kernel).prepare(X)
    assert payload.metric == RESIDUAL
    assert payload.factors.shape == (150, 0)
    np.testing.assert_array_equal(payload.p, 1.0)
    assert (payload.variance, payload.unit) == (1.0, 3.0)
    np.testing.assert_allclose(dense_distances(payload), np.sqrt(1.0 - kernel(X, X) / 3.0), rtol=0, atol=1e-7)


def test_residual_correlation_is_conditional_correlation(X):
    """By Schur complement of the joint covariance, without any factor."""
    kernel, Z, jitter = cx.Matern32(1.0, variance=2.0), np.random.default_rng(0).normal(size=(10, 3)), 1e-4
    payload, _ = cx.ResidualCorrelation(kernel, inducing=Z, jitter=jitter).prepare(X)
    C = kernel(X, X) - kernel(X, Z) @ np.linalg.solve(kernel(Z, Z) + jitter * np.eye(10), kernel(Z, X))
    rho = np.abs(C / np.sqrt(np.outer(np.diag(C), np.diag(C))))
    np.testing.assert_allclose(dense_distances(payload) ** 2, 1.0 - np.minimum(rho, 1.0), rtol=0, atol=1e-11)


def test_inducing_as_count_rows_or_coordinates(X):
    rows = np.sort(np.random.default_rng(5).choice(150, 20, replace=False))
    payloads = [
        cx.ResidualCorrelation(cx.RBF(), inducing=inducing, seed=5).prepare(X)[0] for inducing in (20, rows, X[rows])
    ]
    for payload in payloads[1:]:
        np.testing.assert_array_equal(payload.factors, payloads[0].factors)
        np.testing.assert_array_equal(payload.p, payloads[0].p)


def test_seed_draws_other_points(X):
    one, two = (cx.ResidualCorrelation(cx.RBF(), inducing=20, seed=seed).prepare(X)[0] for seed in (0, 1))
    assert np.any(one.p != two.p)


def test_all_points_may_be_inducing(X):
    payload, _ = cx.ResidualCorrelation(cx.Matern12(), inducing=150).prepare(X)
    assert payload.p.min() > 0.0


@pytest.mark.parametrize("supply_p", [False, True])
def test_supplied_factors_give_what_inducing_points_give(X, supply_p):
    kernel = cx.Matern52((1.0, 0.5, 2.0), variance=2.0)
    V, p = scipy_factors(kernel, X, X[:21])
    metric = cx.ResidualCorrelation(kernel, v_matrix=V, p_diag=p if supply_p else None)
    payload, projection = metric.prepare(X)
    expected, _ = cx.ResidualCorrelation(kernel, inducing=np.arange(21), jitter=1e-6).prepare(X)
    assert projection is None
    assert payload.factors.shape == expected.factors.shape == (150, 32)
    assert (payload.unit, expected.unit) == (1.0, 2.0)
    np.testing.assert_allclose(payload.factors, np.sqrt(2.0) * expected.factors, rtol=0, atol=1e-9)
    np.testing.assert_allclose(payload.p, 2.0 * expected.p, rtol=1e-6, atol=1e-12)


def test_larger_p_makes_points_farther(X):
    kernel = cx.RBF()
    V, p = scipy_factors(kernel, X, X[:10])
    near, _ = cx.ResidualCorrelation(kernel, v_matrix=V, p_diag=p).prepare(X)
    far, _ = cx.ResidualCorrelation(kernel, v_matrix=V, p_diag=p + 0.3).prepare(X)
    apart = ~np.eye(150, dtype=bool)
    assert np.all(dense_distances(far)[apart] >= dense_distances(near)[apart])
    assert far.slack_abs < near.slack_abs


def test_lists_will_do():
    X = [[0.0], [1.0], [2.0]]
    payload, _ = cx.ResidualCorrelation(cx.RBF(), v_matrix=[[0.5], [0.5], [0.1]], p_diag=[1, 1, 1]).prepare(np.array(X))
    np.testing.assert_array_equal(payload.p, 1.0)
    assert cx.cover_tree(X, kernel=cx.RBF(), inducing=[0]).payload.factors.shape == (3, 16)


@pytest.mark.parametrize("jitter", [1e-12, 1e-10])
def test_p_at_its_floor_is_counted(X, jitter):
    """At inducing points little but jitter is left."""
    kernel = cx.RBF(variance=2.0)
    payload, _ = cx.ResidualCorrelation(kernel, inducing=np.arange(8), jitter=jitter).prepare(X)
    assert payload.floored == 8
    np.testing.assert_array_equal(payload.p[payload.row[:8]], 1e-9)
    assert payload.p.min() == 1e-9


def test_duplicate_inducing_points_need_jitter(X):
    Z = np.repeat(X[:5], 2, axis=0)
    with pytest.raises(cx.FactorizationError, match=r"10 inducing points.*jitter=0 \(pivot 1 failed\)\. Raise jitter"):
        cx.ResidualCorrelation(cx.RBF(), inducing=Z, jitter=0.0).prepare(X)
    payload, _ = cx.ResidualCorrelation(cx.RBF(), inducing=Z, jitter=1e-8).prepare(X)
    assert np.isfinite(payload.factors).all()


def test_factors_that_contradict_the_kernel(X):
    V, _ = scipy_factors(cx.RBF(2.0), X, X[:20])
    with pytest.raises(cx.InvalidInputError, match=r"v_matrix contradicts the kernel.*eigenvalue -"):
        cx.ResidualCorrelation(cx.RBF(0.2), v_matrix=V).prepare(X)
    with pytest.raises(
        cx.InvalidInputError, match=r"v_matrix contradicts the kernel: \|v\|\^2 = .* at row \d+ is more"
    ):
        cx.ResidualCorrelation(cx.RBF(2.0, variance=0.5), v_matrix=V).prepare(X)


def test_p_below_the_residual_variance_is_no_correlation(X):
    V, p = scipy_factors(cx.RBF(), X, X[:10])
    p[77] *= 0.9
    with pytest.raises(cx.InvalidInputError, match=r"p_diag is below k\(x, x\) - \|v\|\^2 at row 77"):
        cx.ResidualCorrelation(cx.RBF(), v_matrix=V, p_diag=p).prepare(X)


def test_rounding_in_supplied_p_is_forgiven_and_paid_for(X):
    V, p = scipy_factors(cx.RBF(), X, X[:10])
    exact, _ = cx.ResidualCorrelation(cx.RBF(), v_matrix=V, p_diag=p).prepare(X)
    short, _ = cx.ResidualCorrelation(cx.RBF(), v_matrix=V, p_diag=p * (1 - 1e-7)).prepare(X)
    assert short.slack_abs >= exact.slack_abs + 0.5e-7


def test_slack_grows_as_p_shrinks(X):
    slacks = [
        cx.ResidualCorrelation(cx.RBF(), inducing=8, jitter=jitter).prepare(X)[0].slack_abs
        for jitter in (1e-2, 1e-4, 1e-6, 1e-8)
    ]
    assert slacks == sorted(slacks)
    assert 0.0 < slacks[0] < 1e-8


def test_without_enough_jitter_the_slack_admits_it(X):
    payload, _ = cx.ResidualCorrelation(cx.Matern12(), inducing=8, jitter=0.0).prepare(X)
    assert payload.slack_abs >= 1.0


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "residual"])
def test_one_point(metric):
    X = np.array([[1.0, 2.0]])
    tree = {
        "euclidean": lambda: cx.cover_tree(X),
        "correlation": lambda: cx.cover_tree(X, kernel=cx.RBF()),
        "residual": lambda: cx.cover_tree(X, kernel=cx.RBF(), inducing=1),
    }[metric]()
    assert len(tree.payload) == 1
    tree.check_invariants()


def test_constant_columns_are_valid(rng):
    X = np.column_stack([rng.normal(size=50), np.full(50, 3.0)])
    tree = cx.cover_tree(X, kernel=cx.RBF((1.0, 0.1)), inducing=5)
    tree.check_invariants()
    flat = cx.cover_tree(X[:, :1], kernel=cx.RBF(), inducing=5)
    np.testing.assert_array_equal(tree.payload.p, flat.payload.p)
