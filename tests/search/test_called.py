"""Covariances that only a function of the caller's knows: against the textbook, pair by pair."""

import numpy as np
import pytest

import covertreex as cx
from covertreex.oracle import DenseOracle


def widening(A, B):
    """Paciorek and Schervish (2006), in two dimensions: the lengthscale grows with the first coordinate."""
    a, b = 0.05 + 0.3 * A[:, :1] ** 2, 0.05 + 0.3 * B[:, 0] ** 2
    mean = (a**2 + b**2) / 2
    apart = ((A[:, None, :] - B[None, :, :]) ** 2).sum(axis=-1)
    return 3.0 * (1.0 + A[:, :1]) * (1.0 + B[:, 0]) * (a * b / mean) * np.exp(-apart / mean)


def brute(X, v, p, scale, queries, k, before=None):
    """The k most correlated, from formulas with loops: no part of the engine."""
    answer = []
    for q in queries:
        found = []
        for i in range(len(X)):
            if i == q or (before is not None and i >= before[q]):
                continue
            c = widening(X[q : q + 1], X[i : i + 1])[0, 0] / (scale[q] * scale[i])
            found.append((1.0 - abs(c - v[q] @ v[i]) / np.sqrt(p[q] * p[i]), i))
        answer.append([i for _, i in sorted(found)[:k]])
    return answer


@pytest.fixture
def X(rng):
    return rng.uniform(size=(150, 2))


@pytest.mark.parametrize("inducing", [None, 12])
def test_by_the_formula(X, inducing):
    tree = cx.cover_tree(X, kernel=cx.Covariance(widening), inducing=inducing)
    scale = np.sqrt([widening(x[None], x[None])[0, 0] for x in X])
    v = np.zeros((len(X), 1))
    if inducing:
        Z = np.sort(np.random.default_rng(0).choice(len(X), inducing, replace=False))
        K = widening(X[Z], X) / (scale[Z][:, None] * scale)
        v = np.linalg.solve(np.linalg.cholesky(K[:, Z] + 1e-6 * np.eye(inducing)), K).T
    p = 1.0 - np.sum(v * v, axis=1)
    queries = np.arange(0, 150, 7)
    expected = brute(X, v, p, scale, queries, 5)
    found = tree.knn(k=5, queries=queries).tolist()
    agree = np.mean([set(a) == set(b) for a, b in zip(expected, found, strict=True)])
    assert agree == 1.0


@pytest.mark.parametrize("inducing", [None, 20])
@pytest.mark.parametrize("settings", ["exact", "fast"])
@pytest.mark.parametrize("predecessors", [False, True])
def test_recall(rng, inducing, settings, predecessors):
    X = rng.uniform(size=(5000, 2))
    kernel = cx.Covariance(widening, coordinates=lambda points: points)
    tree, truth = cx.cover_tree(X, kernel=kernel, inducing=inducing), DenseOracle(X, kernel=kernel, inducing=inducing)
    asked = np.arange(0, 5000, 13)
    result = tree.search(8, queries=asked, predecessor_mode=predecessors, settings=settings)
    recall = truth.recall(result.indices, queries=asked, predecessor_mode=predecessors)
    assert recall == 1.0 if settings == "exact" else recall >= 0.995
    if settings == "fast":
        assert result.plan.strategy == "candidates"
        assert result.plan.candidates < 2500
        assert result.plan.sampled_recall >= cx.FAST.recall_target
        assert "nearest in other coordinates" in str(result.plan)


def test_threads_and_blocks_change_no_bit(X, monkeypatch):
    kernel = cx.Covariance(widening)
    found = []
    for threads, pairs in ((1, 2**21), (2, 2**21), (2, 300)):
        monkeypatch.setattr("covertreex.base.tuning.CALLED_PAIRS", pairs)
        tree = cx.cover_tree(X, kernel=kernel, inducing=10, n_threads=threads)
        found.append(tree.knn(k=6, return_distances=True, predecessor_mode=True))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0][0], other[0])
        np.testing.assert_array_equal(found[0][1], other[1])


def test_other_questions(X, rng):
    kernel = cx.Covariance(widening)
    tree, truth = cx.cover_tree(X, kernel=kernel), DenseOracle(X, kernel=kernel)
    new = rng.uniform(size=(9, 2))
    assert truth.recall(tree.knn(k=4, queries=new), queries=new) == 1.0
    rho = np.abs(kernel(X[:3], X))
    within = tree.radius(min_correlation=0.5, queries=[0, 1, 2])
    for i in range(3):
        expected = set(np.flatnonzero(rho[i] >= 0.5)) - {i}
        assert set(within.indices[within.indptr[i] : within.indptr[i + 1]]) == expected
    more = tree.insert(new)
    assert DenseOracle(np.concatenate([X, new]), kernel=kernel).recall(more.knn(k=4)) == 1.0
    assert tree.delete([0, 1]).knn(k=1, queries=[2])[0, 0] > 1
    changed = cx.cover_tree(X, kernel=cx.RBF()).with_metric(cx.Correlation(kernel))
    np.testing.assert_array_equal(changed.knn(k=4), tree.knn(k=4))


def test_duplicates_have_distance_zero():
    X = np.array([[0.2, 0.3], [0.9, 0.9], [0.2, 0.3], [0.5, 0.1]])
    indices, distances = cx.cover_tree(X, kernel=cx.Covariance(widening)).knn(k=1, return_distances=True)
    assert indices[0, 0] == 2
    assert distances[0, 0] < 2e-8


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda A, B: np.zeros((len(A), len(B))), "variances must be positive"),
        (lambda A, B: np.zeros(len(A)), "must return shape"),
        (lambda A, B: np.full((len(A), len(B)), np.nan), "must be finite"),
    ],
)
def test_functions_that_are_none(X, function, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        cx.cover_tree(X, kernel=cx.Covariance(function)).knn(k=2)


def test_what_it_cannot_do(X, tmp_path):
    kernel = cx.Covariance(widening)
    tree = cx.cover_tree(X, kernel=kernel)
    with pytest.raises(cx.SettingsError, match="no cover tree"):
        tree.knn(k=2, settings="parity")
    with pytest.raises(cx.InvalidInputError, match="no cover tree"):
        _ = tree.tree
    with pytest.raises(cx.InvalidInputError, match="a file cannot hold"):
        tree.save(tmp_path / "tree")
    for combine in (
        lambda: kernel + cx.RBF(),
        lambda: cx.RBF() + kernel,
        lambda: 2.0 * kernel,
        lambda: kernel * kernel,
    ):
        with pytest.raises(cx.InvalidInputError, match="inside its function"):
            combine()
    with pytest.raises(cx.InvalidInputError, match="must be a function"):
        cx.Covariance("rbf")
    wrong = cx.Covariance(widening, coordinates=lambda x: x[:3])
    tree = cx.cover_tree(np.random.default_rng(0).uniform(size=(5000, 2)), kernel=wrong)
    with pytest.raises(cx.InvalidInputError, match="coordinates= must return"):
        tree.knn(k=2, settings="fast")
