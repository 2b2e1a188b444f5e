"""Numbers that GPBoost's own tests have, of data that anyone can make again.

From R-package/tests/testthat/test_GPModel_gaussian_process_Vecchia.R of GPBoost: 100 places, an exponential covariance,
and uniform numbers of a congruential generator, which needs no R.
"""

import numpy as np
import pytest
from scipy.stats import norm

import covertreex as cx
from covertreex.vecchia import Vecchia


def uniform(n, start):
    found = np.empty(n)
    found[0] = np.floor(start * 2.0**32)
    for i in range(1, n):
        found[i] = (22695477.0 * found[i - 1] + 1.0) % 2.0**32
    return found / 2.0**32


@pytest.fixture(scope="module")
def data():
    X = np.ascontiguousarray(uniform(200, 0.1).reshape(2, 100).T)
    f = np.linalg.cholesky(cx.Matern12(0.1)(X, X)) @ norm.ppf(uniform(100, 0.8))
    return X, f + norm.ppf(uniform(100, 0.1)) / 5.0


@pytest.mark.parametrize(("k", "expected"), [(99, 124.2549533), (30, 124.2252524)])
def test_likelihood(data, k, expected):
    """The kernel is isotropic, so that the most correlated points are the nearest."""
    X, y = data
    model = Vecchia(cx.cover_tree(X, kernel=cx.Matern12(0.2, variance=1.6)), k=k, noise=0.1)
    assert -model.log_likelihood(y) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("latent", [False, True])
def test_fit(data, latent):
    X, y = data
    start = Vecchia(cx.cover_tree(X, kernel=cx.Matern12(0.2)), k=99, noise=0.2, latent=latent)
    fitted = start.fit(y)
    assert -fitted.log_likelihood == pytest.approx(122.7752664, abs=1e-5)
    found = [fitted.noise, fitted.kernel.variance, fitted.kernel.lengthscale]
    assert found == pytest.approx([0.03276547, 1.07617676, 0.11352557], rel=2e-3)


def test_predictions(data):
    X, y = data
    model = Vecchia(cx.cover_tree(X, kernel=cx.Matern12(0.9, variance=1.2)), k=99, noise=0.02)
    mean, variance = model.predict([[0.1, 0.9], [0.2, 0.4], [0.7, 0.55]], y, k=100, observed=True)
    assert mean == pytest.approx([0.08704577, 1.63875604, 0.48513581], abs=1e-6)
    assert variance == pytest.approx([0.1189093, 0.07427727, 0.08107455], abs=1e-6)
