"""The same likelihoods and predictions from GPBoost, where it is installed."""

import numpy as np
import pytest

import covertreex as cx
from covertreex.vecchia import Vecchia

gpboost = pytest.importorskip("gpboost")

VARIANCE, LENGTHSCALE, NOISE = 1.7, 0.2, 0.3


def data(n):
    X = np.random.default_rng(0).uniform(size=(n, 2))
    kernel = cx.Matern32(LENGTHSCALE, variance=VARIANCE)
    L = np.linalg.cholesky(kernel(X, X) + NOISE * np.eye(n))
    return X, kernel, L @ np.random.default_rng(1).normal(size=n)


def theirs(X, approximation, k, **more):
    return gpboost.GPModel(
        gp_coords=X, cov_function="matern", cov_fct_shape=1.5, gp_approx=approximation, num_neighbors=k,
        vecchia_ordering="none", likelihood="gaussian", **more,
    )  # fmt: skip


@pytest.mark.parametrize("k", [5, 15])
def test_vecchia(k):
    """Its neighbours are the nearest in space."""
    X, kernel, y = data(500)
    near = cx.cover_tree(X).knn(k, predecessor_mode=True)
    model = Vecchia(cx.cover_tree(X, kernel=kernel), neighbors=near, noise=NOISE)
    expected = -theirs(X, "vecchia", k).neg_log_likelihood(cov_pars=np.array([NOISE, VARIANCE, LENGTHSCALE]), y=y)
    assert model.log_likelihood(y) == pytest.approx(expected, rel=1e-8)


def test_vif_with_all_predecessors():
    """Its inducing points are others, which then makes no difference."""
    X, kernel, y = data(250)
    model = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=20), k=249, noise=NOISE)
    gpb = theirs(X, "vif_correlation", 249, num_ind_points=20)
    expected = -gpb.neg_log_likelihood(cov_pars=np.array([NOISE, VARIANCE, LENGTHSCALE]), y=y)
    assert model.log_likelihood(y) == pytest.approx(expected, rel=1e-6)


def test_vif_with_few_neighbours_is_as_near_to_the_dense_model():
    """Other inducing points, so other numbers; both miss the dense likelihood by little."""
    X, kernel, y = data(500)
    dense = Vecchia(cx.cover_tree(X, kernel=kernel), k=499, noise=NOISE).log_likelihood(y)
    model = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=50), k=15, noise=NOISE)
    gpb = theirs(X, "vif_correlation", 15, num_ind_points=50)
    expected = -gpb.neg_log_likelihood(cov_pars=np.array([NOISE, VARIANCE, LENGTHSCALE]), y=y)
    assert abs(model.log_likelihood(y) - dense) < 1.0
    assert abs(expected - dense) < 1.0


def test_predictions():
    X, kernel, y = data(300)
    new = np.random.default_rng(2).uniform(size=(25, 2))
    gpb = theirs(X, "vecchia", 299)
    gpb.set_prediction_data(vecchia_pred_type="order_obs_first_cond_obs_only", num_neighbors_pred=300)
    parameters = np.array([NOISE, VARIANCE, LENGTHSCALE])
    found = gpb.predict(y=y, gp_coords_pred=new, cov_pars=parameters, predict_var=True, predict_response=True)
    mean, variance = Vecchia(cx.cover_tree(X, kernel=kernel), k=299, noise=NOISE).predict(new, y, k=300, observed=True)
    np.testing.assert_allclose(mean, found["mu"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(variance, found["var"], rtol=1e-6)
