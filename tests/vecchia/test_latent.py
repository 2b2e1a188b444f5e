"""The form with noise outside the approximation, against dense processes and plain NumPy."""

import numpy as np
import pytest
from dense_process import KERNELS, dense_log_likelihood, factors_of, plain, points, tree_of

import covertreex as cx
from covertreex.vecchia import Vecchia


@pytest.mark.parametrize("inducing", [None, 25], ids=["plain", "inducing"])
@pytest.mark.parametrize("name", ["matern32", "product", "multiple"])
def test_all_predecessors_are_the_dense_model(name, inducing):
    kernel, X = KERNELS[name], points(200)
    noise = 0.15 if inducing is None else np.random.default_rng(5).uniform(0.05, 0.3, size=200)
    C = kernel(X, X) + noise * np.eye(200)
    y = np.random.default_rng(1).multivariate_normal(np.zeros(200), C)
    model = Vecchia(tree_of(X, kernel, inducing), k=199, noise=noise, latent=True)
    assert model.log_likelihood(y) == pytest.approx(dense_log_likelihood(C, y), rel=1e-8)
    new = points(40, seed=2)
    mean, variance = model.predict(new, y, k=200)
    c = kernel(new, X)
    np.testing.assert_allclose(mean, c @ np.linalg.solve(C, y), rtol=1e-7, atol=1e-7 * np.abs(y).max())
    expected = kernel.variance - np.sum(c * np.linalg.solve(C, c.T).T, axis=1)
    np.testing.assert_allclose(variance, expected, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 16])
@pytest.mark.parametrize("inducing", [None, 17], ids=["plain", "inducing"])
def test_few_neighbours_row_by_row(inducing, k):
    """Values of the process are regressed on each other; what is observed is their sum with the noise."""
    kernel, X, noise = KERNELS["matern32"], points(120, seed=3), 0.4
    tree = tree_of(X, kernel, None if inducing is None else X[:inducing])
    U = np.zeros((120, 0)) if inducing is None else factors_of(X, X[:inducing], kernel)
    C = kernel(X, X) - U @ U.T
    C[np.diag_indices(120)] += 1e-12
    model = Vecchia(tree, k=k, noise=noise, latent=True)
    # Inducing points are rows here: what they leave of themselves is their jitter, a millionth of the variance.
    B, D = plain(C, model.neighbors)
    Q = np.linalg.inv(B.T @ (B / D[:, None]))
    Sigma = U @ U.T + Q + noise * np.eye(120)
    y = np.random.default_rng(4).normal(size=120)
    assert model.log_likelihood(y) == pytest.approx(dense_log_likelihood(Sigma, y), rel=1e-5)

    new = points(11, seed=5)
    mean, variance = model.predict(new, y, k=k)
    V = np.zeros((11, 0)) if inducing is None else factors_of(new, X[:inducing], kernel)
    for i, N in enumerate(tree.knn(k, new)):
        c = kernel(new[i : i + 1], X[N])[0] - U[N] @ V[i]
        A = np.zeros(120)
        A[N] = np.linalg.solve(C[np.ix_(N, N)], c)
        cross = U @ V[i] + Q @ A  # with all observations
        prior = V[i] @ V[i] + A @ Q @ A + kernel.variance - V[i] @ V[i] - A[N] @ c
        assert mean[i] == pytest.approx(cross @ np.linalg.solve(Sigma, y), rel=1e-4, abs=1e-6)
        assert variance[i] == pytest.approx(prior - cross @ np.linalg.solve(Sigma, cross), rel=1e-4)


@pytest.mark.parametrize("inducing", [None, 15], ids=["plain", "inducing"])
def test_gradient_and_fit(inducing):
    kernel, X = cx.Matern32(0.3, variance=2.0), points(200)
    C = kernel(X, X) + 0.3 * np.eye(200)
    y = np.random.default_rng(1).multivariate_normal(np.zeros(200), C)
    latent, response = (Vecchia(tree_of(X, kernel, inducing), k=199, noise=0.3, latent=form) for form in (True, False))
    (one, left), (two, right) = (model.log_likelihood(y, grad=True) for model in (latent, response))
    assert one == pytest.approx(two, rel=1e-9)
    for name, value in right.items():
        assert left[name] == pytest.approx(value, rel=1e-4, abs=1e-4)
    fits = [Vecchia(tree_of(X, kernel, inducing), k=60, noise=0.1, latent=form).fit(y) for form in (True, False)]
    assert fits[0].converged
    assert fits[0].model.latent
    assert fits[0].log_likelihood == pytest.approx(fits[1].log_likelihood, abs=0.2)
    assert fits[0].kernel.lengthscale == pytest.approx(fits[1].kernel.lengthscale, rel=0.1)


@pytest.mark.parametrize("inducing", [None, 15], ids=["plain", "inducing"])
def test_a_linear_mean(inducing):
    kernel, X, noise = KERNELS["matern32"], points(150), 0.1
    A = np.column_stack([np.ones(150), X[:, 0]])
    C = kernel(X, X) + noise * np.eye(150)
    y = A @ [3.0, -2.0] + np.random.default_rng(6).multivariate_normal(np.zeros(150), C)
    new = points(20, seed=7)
    A_new = np.column_stack([np.ones(20), new[:, 0]])
    one, two = (Vecchia(tree_of(X, kernel, inducing), k=149, noise=noise, latent=form) for form in (True, False))
    for first, second in zip(one.coefficients(y, A), two.coefficients(y, A), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)
    left, right = (model.predict(new, y, k=150, X_mean=A, X_mean_new=A_new) for model in (one, two))
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_nearer_to_the_dense_model_where_there_is_much_noise():
    """Katzfuss and Guinness 2021, section 3: what noise hides is better left out of conditioning sets."""
    kernel, X, noise = cx.Matern32(0.5), points(300, seed=8), 2.0
    C = kernel(X, X) + noise * np.eye(300)
    y = np.random.default_rng(1).multivariate_normal(np.zeros(300), C)
    order = cx.ordering.maximin(X)
    off = [
        abs(Vecchia(tree_of(X, kernel, None), k=5, noise=noise, order=order, latent=form).log_likelihood(y)
            - dense_log_likelihood(C, y)) for form in (True, False)
    ]  # fmt: skip
    assert off[0] < 0.5 * off[1]


def test_draws_have_the_covariance_of_the_model():
    kernel, X = cx.Matern32(0.4, variance=3.0), points(25, seed=15)
    model = Vecchia(tree_of(X, kernel, X[:4]), k=3, noise=0.5, latent=True)
    U = factors_of(X, X[:4], kernel)
    B, D = (part.toarray() if part.ndim == 2 else part for part in model.factor())
    Sigma, size = U @ U.T + np.linalg.inv(B.T @ (B / D[:, None])) + 0.5 * np.eye(25), 40_000
    draws = model.sample(17, size=size)
    deviation = np.sqrt((Sigma**2 + np.outer(np.diag(Sigma), np.diag(Sigma))) / size)
    assert np.max(np.abs(draws.T @ draws / size - Sigma) / deviation) < 5.0


def test_threads_change_no_bit():
    X, y = points(3000), np.random.default_rng(1).normal(size=3000)
    trees = [cx.cover_tree(X, kernel=cx.Matern32(0.1), inducing=20, n_threads=threads) for threads in (1, 2)]
    one, two = (Vecchia(tree, k=5, noise=0.1, latent=True) for tree in trees)
    assert one.log_likelihood(y) == two.log_likelihood(y)
    np.testing.assert_array_equal(one.predict(points(100, seed=1), y, k=5), two.predict(points(100, seed=1), y, k=5))


def test_messages():
    tree = cx.cover_tree([[0.0], [1.0]], kernel=cx.RBF())
    for noise in (None, 0.0, [0.1, 0.0]):
        with pytest.raises(cx.InvalidInputError, match="so there must be some: give a noise above 0"):
            Vecchia(tree, k=1, noise=noise, latent=True)
    with pytest.raises(cx.InvalidInputError, match="latent must be"):
        Vecchia(tree, k=1, noise=0.1, latent=1)
    assert "latent=True" in repr(Vecchia(tree, k=1, noise=0.1, latent=True))
