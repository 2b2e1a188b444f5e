"""The scikit-learn estimator."""

import numpy as np
import pytest

import covertreex as cx

pytest.importorskip("sklearn")

from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_fit_idempotent, parametrize_with_checks

from covertreex.sklearn import VecchiaGPRegressor


# One of the two does not optimise: a fit with inducing points takes seconds, and most checks make several.
@parametrize_with_checks(
    [VecchiaGPRegressor(), VecchiaGPRegressor(cx.RBF(2.0), inducing=5, optimize=False, random_state=0)]
)
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("it asks for SCIPY_ARRAY_API=1, and other array types become NumPy's here")
    check(estimator)


def test_a_fit_with_inducing_points_is_the_same_again():
    check_fit_idempotent("VecchiaGPRegressor", VecchiaGPRegressor(cx.RBF(2.0), inducing=5, random_state=0))


def data(n):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(n, 2))
    return X, np.sin(6 * X[:, 0]) * np.cos(4 * X[:, 1]) + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize("inducing", [None, 20])
def test_predictions_are_those_of_scikit_learn(inducing):
    """Of a dense process with the same kernel, without a mean: the constant of ours is subtracted from y for theirs."""
    X, y = data(150)
    new = np.random.default_rng(1).uniform(size=(40, 2))
    ours = VecchiaGPRegressor(
        cx.Matern32(0.5), inducing=inducing, n_neighbors=150, noise=0.01, optimize=False, random_state=0
    ).fit(X, y)
    theirs = GaussianProcessRegressor(Matern(0.5, nu=1.5), alpha=0.01, optimizer=None).fit(X, y - ours.mean_)
    mean, std = ours.predict(new, return_std=True)
    expected, known = theirs.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected + ours.mean_, rtol=1e-6, atol=1e-8)
    assert np.all(std >= known * (1.0 - 1e-6))  # ours knows that the mean was estimated
    np.testing.assert_allclose(std, known, rtol=0.1)
    assert ours.log_marginal_likelihood_value_ == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-7)


def test_a_fit_and_a_grid():
    X, y = data(400)
    model = VecchiaGPRegressor(n_neighbors=15).fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.95
    assert 0.005 < model.noise_ < 0.02
    grid = GridSearchCV(
        VecchiaGPRegressor(cx.Matern32(0.5), noise=0.01, optimize=False, n_neighbors=10),
        {"kernel": [cx.Matern32(0.5), cx.Matern32(1e-3)]},
        cv=3,
    ).fit(X, y)
    assert grid.best_params_["kernel"].lengthscale == 0.5
