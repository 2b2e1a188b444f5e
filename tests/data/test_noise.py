"""Noise in observations: what is added to residual variances, and what that does to neighbours."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covertreex as cx
from covertreex import oracle
from covertreex.io.description import assemble, describe

N = 240


@pytest.fixture
def X(rng):
    X = np.round(rng.normal(size=(N, 2)), 2)
    X[200:220] = X[:20]
    return X


def noises(rng):
    return {"scalar": 0.3, "rows": rng.uniform(0.0, 1.0, N) * (rng.random(N) < 0.7)}


def metrics(X, noise):
    kernel = cx.Matern32(0.8, variance=2.5)
    V = np.linalg.solve(np.linalg.cholesky(kernel(X[:15], X[:15]) + 1e-5 * np.eye(15)), kernel(X[:15], X)).T
    return {
        "correlation": cx.Correlation(kernel, noise=noise),
        "residual": cx.ResidualCorrelation(kernel, inducing=20, noise=noise),
        "supplied": cx.ResidualCorrelation(kernel, v_matrix=V, noise=noise),
    }


def distances(metric, X):
    """By the textbook: the correlation of observations, given the inducing points."""
    kernel, noise = metric.kernel, np.broadcast_to(metric.noise, len(X))
    C = kernel(X, X)
    if isinstance(metric, cx.ResidualCorrelation):
        if metric.v_matrix is None:
            Z = metric.inducing_points(X)
            K = kernel(Z, Z) + 1e-6 * kernel.variance * np.eye(len(Z))
            C = C - kernel(X, Z) @ np.linalg.solve(K, kernel(Z, X))
        else:
            C = C - metric.v_matrix @ metric.v_matrix.T
    p = np.maximum(np.diag(C) + noise, 1e-9 * kernel.variance)
    rho = np.minimum(np.abs(C) / np.sqrt(np.outer(p, p)), 1.0)
    np.fill_diagonal(rho, 1.0)
    return np.sqrt(1.0 - rho)


def audited(tree, k=5, queries=None, **options):
    result = tree.search(k, queries, audit=10**6, **options)
    assert result.recall == 1.0
    return result


CASES = [(kind, name) for kind in ("scalar", "rows") for name in ("correlation", "residual", "supplied")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_metric_is_the_correlation_of_observations(X, kind, name, rng, backend):
    metric = metrics(X, noises(rng)[kind])[name]
    tree = cx.cover_tree(X, metric=metric)
    rows = tree.payload.row
    found = oracle.canonical_distances(tree.payload, rows[:, None], rows[None])
    truth = distances(metric, X)
    np.testing.assert_allclose(found**2, truth**2, atol=1e-6)
    tree.check_invariants()
    for profile in ("exact", "parity", "fast"):
        for threads in (1, 2):
            result = tree.search(6, settings=profile, backend=backend, n_threads=threads)
            np.fill_diagonal(truth, np.inf)
            np.testing.assert_allclose(result.distances, np.sort(truth, axis=1)[:, :6], atol=1e-5)
    audited(tree, predecessor_mode=True, backend=backend)
    within = tree.radius(0.7)
    assert abs(len(within.indices) - np.sum(truth <= 0.7)) <= 2


@pytest.mark.parametrize(("kind", "name"), CASES[:2] + CASES[3:5])
def test_points_from_outside_have_no_noise(X, kind, name, rng, backend):
    noise = noises(rng)[kind]
    metric = metrics(X, noise)[name]
    tree = cx.cover_tree(X, metric=metric)
    queries = np.concatenate([X[:20], rng.normal(size=(20, 2))])
    result = audited(tree, queries=queries, backend=backend)
    C = np.concatenate([X, queries])
    full = metric if kind == "scalar" else type(metric)(metric.kernel, **({} if name == "correlation" else {
        "inducing": metric.inducing_points(X)}), noise=np.concatenate([noise, np.zeros(40)]))  # fmt: skip
    if kind == "rows":
        truth = distances(full, C)[N:, :N]
        np.testing.assert_allclose(result.distances, np.sort(truth, axis=1)[:, :5], atol=1e-5)
    audited(tree, queries=queries, settings="parity", backend=backend)


def test_a_nugget_of_all_points_keeps_the_neighbours_under_correlation(X):
    plain, noisy = (cx.cover_tree(X, kernel=cx.RBF(0.7), noise=noise).search(4, X[:30] + 0.01) for noise in (None, 0.5))
    np.testing.assert_array_equal(plain.indices, noisy.indices)
    np.testing.assert_allclose((1 - noisy.distances**2) ** 2 * 1.5, (1 - plain.distances**2) ** 2, atol=1e-12)


def test_no_noise_keeps_every_bit(X):
    for name in ("correlation", "residual", "supplied"):
        plain, zero = (cx.cover_tree(X, metric=metrics(X, noise)[name]) for noise in (0.0, np.zeros(N)))
        for array in ("coords", "factors", "p", "index"):
            np.testing.assert_array_equal(getattr(plain.payload, array), getattr(zero.payload, array))
        assert plain.payload.slack_abs == zero.payload.slack_abs
    assert cx.Correlation(cx.RBF()) == cx.Correlation(cx.RBF(), 0.0)
    assert cx.Correlation(cx.RBF(), [0.0, 1.0]) == cx.Correlation(cx.RBF(), [0, 1])
    assert cx.Correlation(cx.RBF(), 1.0) != cx.Correlation(cx.RBF())


def test_noise_lifts_the_floor_and_lessens_the_slack(X):
    X = np.concatenate([X, X[:50] + 1e-9])
    plain, noisy = (
        cx.cover_tree(X, kernel=cx.RBF(2.0), inducing=X[:50], jitter=1e-11, noise=noise).payload for noise in (0.0, 0.1)
    )
    assert plain.floored > 0 == noisy.floored
    assert noisy.slack_abs < plain.slack_abs / 1e3
    floor = cx.cover_tree(X, kernel=cx.RBF(2.0), inducing=X[:50], jitter=1e-11, noise=1e-12).payload
    assert floor.floored == np.sum(floor.p == 1e-9)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_noise_through_changes_and_files(X, kind, name, rng, backend, tmp_path):
    noise = noises(rng)[kind]
    metric = metrics(X, noise)[name]
    tree = cx.cover_tree(X, metric=metric)
    start = cx.cover_tree(X[:200], metric=metrics(X[:200], noise if kind == "scalar" else noise[:200])[name])
    if name == "residual":
        fixed = metric.inducing_points(X)
        metric = cx.ResidualCorrelation(metric.kernel, fixed, noise=noise)
        tree = cx.cover_tree(X, metric=metric)
        start = cx.cover_tree(
            X[:200],
            metric=cx.ResidualCorrelation(
                metric.kernel, fixed, noise=metric.noise if kind == "scalar" else noise[:200]
            ),
        )
    options = {"v_matrix": metric.v_matrix[200:]} if name == "supplied" else {}
    if kind == "rows":
        options["noise"] = noise[200:]
        with pytest.raises(cx.InvalidInputError, match="new points need theirs"):
            start.insert(X[200:], **{k: v for k, v in options.items() if k != "noise"})
        with pytest.raises(cx.InvalidInputError, match=r"noise must be a number, or have shape \(40,\)"):
            start.insert(X[200:], **{**options, "noise": noise[:7]})
    if name == "supplied":  # those of the first 200 points
        start = cx.cover_tree(
            X[:200],
            metric=cx.ResidualCorrelation(metric.kernel, v_matrix=metric.v_matrix[:200], noise=start.metric.noise),
        )
    grown = start.insert(X[200:], **options)
    np.testing.assert_array_equal(grown.knn(5, backend=backend), tree.knn(5, backend=backend))
    np.testing.assert_array_equal(grown.payload.p[grown.payload.row], tree.payload.p[tree.payload.row])
    audited(grown, backend=backend)
    for fewer in (grown.delete([3, 5, 217]), grown.delete(np.arange(0, N, 2))):
        audited(fewer, backend=backend)
        left = np.setdiff1d(np.arange(N), np.setdiff1d(np.arange(N), fewer.ids))
        fewer.save(tmp_path / "tree")
        for again in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(fewer))):
            np.testing.assert_array_equal(again.knn(5), fewer.knn(5))
            np.testing.assert_array_equal(again.ids, left)
            audited(again, backend=backend)
            if name != "supplied":
                audited(again.with_metric(cx.RBF(0.5)), backend=backend)
                audited(again.with_metric(cx.RBF(0.5), noise=np.linspace(0, 1, len(left))), backend=backend)
                audited(again.with_metric(cx.Correlation(cx.RBF(0.5), noise=0.2)), backend=backend)


def test_with_metric_keeps_noise_unless_it_is_given(X, rng):
    noise = noises(rng)["rows"]
    tree = cx.cover_tree(X, kernel=cx.RBF(0.4), noise=noise)
    kernel = cx.RBF(0.6)
    for changed, expected in (
        (tree.with_metric(kernel), noise),
        (tree.with_metric(kernel, noise=0.2), 0.2),
        (tree.with_metric(cx.Correlation(kernel)), 0.0),
    ):
        np.testing.assert_array_equal(changed.knn(5), cx.cover_tree(X, kernel=kernel, noise=expected).knn(5))
    later = cx.cover_tree(X, kernel=cx.RBF(0.4), noise=0.5).insert(X[:3], noise=[0.0, 1.0, 2.0])
    np.testing.assert_array_equal(later.metric.noise, [0.5] * N + [0.0, 1.0, 2.0])


@given(st.lists(st.floats(0, 1e3), min_size=12, max_size=12), st.booleans())
def test_any_noise(noise, inducing):
    X = np.random.default_rng(3).normal(size=(12, 2))
    tree = cx.cover_tree(X, kernel=cx.Matern12(1.0, variance=3.0), inducing=X[:3] if inducing else None, noise=noise)
    tree.check_invariants()
    audited(tree, k=4)
    audited(tree, k=4, settings="parity")
    audited(tree, k=4, queries=X + 0.1)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda X: cx.cover_tree(X, noise=0.1), "noise needs a kernel"),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(), noise=-0.1), "0 or above and finite .* got -0.1"),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(), noise=np.nan), "got nan"),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(), noise="a"), "noise must be"),
        (
            lambda X: cx.cover_tree(X, kernel=cx.RBF(), noise=[0.1, 0.2]),
            r"one entry per point, shape \(240,\), got \(2,\)",
        ),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(), noise=np.r_[np.zeros(239), np.inf]), "got inf at row 239"),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(), noise=np.zeros((240, 1))), r"got shape \(240, 1\)"),
        (
            lambda X: cx.ResidualCorrelation(cx.RBF(), v_matrix=X, p_diag=X[:, 0], noise=0.1),
            "p_diag has what noise would add",
        ),
        (lambda X: cx.cover_tree(X).insert(X[:2], noise=0.1), "the Euclidean metric has none"),
        (lambda X: cx.cover_tree(X).with_metric(cx.Euclidean(), noise=0.1), "a metric has its own"),
    ],
)
def test_noise_that_cannot_be(X, ask, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        ask(X)


@pytest.mark.parametrize("name", ["correlation", "residual", "supplied"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, a: a.update(noise=a["noise"] + 0.1), "'p' is not the variance"),
        (lambda d, a: d["metric"].update(noise=0.1), "do not belong here: noise"),
        (lambda d, a: a.update(noise=a["noise"][:-1]), "'noise' must be"),
        (lambda d, a: a.update(noise=-a["noise"]), "'noise' has values"),
        (lambda d, a: (d["metric"].pop("noise"), a.pop("noise")), "'p' is not the variance"),
        (lambda d, a: (d["metric"].update(noise="all"), a.pop("noise")), "noise must be a number"),
    ],
)
def test_files_with_another_noise(X, rng, name, change, message):
    document, arrays = describe(cx.cover_tree(X, metric=metrics(X, noises(rng)["rows"])[name])._state)
    assert len(assemble(document, dict(arrays), 1, verify=True).X) == N
    change(document, arrays)
    with pytest.raises(cx.FileFormatError, match=message):
        assemble(document, arrays, 1, verify=True)
