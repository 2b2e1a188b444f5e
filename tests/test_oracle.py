"""The dense oracle and its recall against plain loops; the canonical oracle against sorting."""

import math

import numpy as np
import pytest
from naive import make_payload, make_queries

import covertreex as cx
from covertreex import oracle
from covertreex.oracle import DenseOracle
from covertreex.results import recall_interval, wilson_interval


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(3).normal(size=(40, 2))


@pytest.fixture(scope="module")
def truth(X):
    return DenseOracle(X, kernel=cx.Matern32(), inducing=6)


def plain_knn(D, k, allowed):
    """k nearest per row of `D` among the columns that are allowed, by sorting tuples."""
    indices, distances = [], []
    for q, row in enumerate(D):
        best = sorted((float(d), j) for j, d in enumerate(row) if allowed(q, j))[:k]
        best += [(math.inf, -1)] * (k - len(best))
        indices.append([j for _, j in best])
        distances.append([d for d, _ in best])
    return np.array(indices), np.array(distances)


MODES = {
    "plain": ({}, lambda q, j: j != q),
    "include_self": ({"include_self": True}, lambda q, j: True),
    "predecessors": ({"predecessor_mode": True}, lambda q, j: j < q),
    "predecessors, include_self": ({"predecessor_mode": True, "include_self": True}, lambda q, j: j <= q),
    "limit": ({"limit": np.arange(40) // 2 + 1}, lambda q, j: j != q and j < q // 2 + 1),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 7, 40])
def test_euclidean_knn(X, mode, k):
    options, allowed = MODES[mode]
    D = np.array([[math.dist(a, b) for b in X] for a in X])
    indices, distances = oracle.knn(X, k, **options)
    expected = plain_knn(D, k, allowed)
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(distances, expected[1], rtol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_residual_knn(X, mode):
    """By Schur complement of the joint covariance."""
    options, allowed = MODES[mode]
    kernel, Z = cx.Matern32(variance=2.0), X[[3, 5, 8, 13]]
    C = kernel(X, X) - kernel(X, Z) @ np.linalg.solve(kernel(Z, Z) + 1e-3 * np.eye(4), kernel(Z, X))
    rho = np.abs(C) / np.sqrt(np.outer(np.diag(C), np.diag(C)))
    D = np.sqrt(1.0 - np.minimum(rho, 1.0))
    indices, distances = oracle.knn(X, 5, kernel=kernel, inducing=[3, 5, 8, 13], jitter=1e-3, **options)
    expected = plain_knn(D - 2 * np.eye(40), 5, allowed)  # itself first: d(i, i) = 0 by definition
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(distances, np.maximum(expected[1], 0.0), rtol=0, atol=1e-7)


def test_three_ways_to_the_same_factors(X):
    rows = np.sort(np.random.default_rng(0).choice(40, 6, replace=False))
    by_count = DenseOracle(X, kernel=cx.RBF(), inducing=6)
    for other in (
        DenseOracle(X, kernel=cx.RBF(), inducing=rows),
        DenseOracle(X, kernel=cx.RBF(), inducing=X[rows]),
        DenseOracle(X, kernel=cx.RBF(), v_matrix=by_count.V),
        DenseOracle(X, kernel=cx.RBF(), v_matrix=by_count.V, p_diag=by_count.p),
    ):
        np.testing.assert_array_equal(other.knn(5)[0], by_count.knn(5)[0])


def test_coordinates_of_rows_find_the_rows_first(X, truth):
    indices, distances = truth.knn(3, queries=X[:10])
    assert indices[:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(distances[:, 0], 0.0, atol=1e-6)
    np.testing.assert_array_equal(indices[:, 1:], truth.knn(2, queries=np.arange(10))[0])


def test_coordinates_need_inducing_points(X, truth):
    with pytest.raises(cx.InvalidInputError, match="v_matrix covers rows of X alone"):
        DenseOracle(X, kernel=cx.RBF(), v_matrix=truth.V).knn(1, queries=X[:1])


def test_cholesky_that_fails_names_the_jitter():
    with pytest.raises(cx.FactorizationError, match="jitter 0; raise jitter"):
        DenseOracle(np.zeros((3, 1)), kernel=cx.RBF(), inducing=3, jitter=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Recall


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 5, 39, 40])
def test_recall_of_the_truth_is_one(truth, mode, k):
    options, _ = MODES[mode]
    assert truth.recall(truth.knn(k, **options)[0], **options) == 1.0


def answer_of(truth, k=5):
    """A right answer for all rows, to spoil."""
    return truth.knn(k)[0]


def test_recall_counts_what_is_missing(truth):
    answer = answer_of(truth)
    answer[7, 3:] = -1
    answer[9] = -1
    assert truth.recall(answer) == pytest.approx(1.0 - 7 / 200)


def test_recall_of_no_answer_is_zero(truth):
    assert truth.recall(np.full((40, 5), -1)) == 0.0


def test_recall_counts_a_duplicate_once(truth):
    answer = answer_of(truth)
    answer[7] = answer[7, 0]
    assert truth.recall(answer) == pytest.approx(1.0 - 4 / 200)


def test_recall_counts_a_wrong_neighbour(truth):
    answer = answer_of(truth)
    answer[7, 0] = truth.knn(39)[0][7, -1]
    assert truth.recall(answer) == pytest.approx(1.0 - 1 / 200)


def test_recall_does_not_count_what_is_not_allowed(truth):
    answer = answer_of(truth)
    answer[:, -1] = np.arange(40)  # each row itself, instead of the farthest
    assert truth.recall(answer) == pytest.approx(0.8)
    assert truth.recall(answer, include_self=True) == 1.0

    answer = truth.knn(5, predecessor_mode=True)[0]
    answer[10, 0] = 30
    expected = sum(min(5, i) for i in range(40))
    assert truth.recall(answer, predecessor_mode=True) == pytest.approx(1.0 - 1 / expected)


def test_euclidean_recall_of_short_rows(X):
    """Where everything that exists is asked for, what is not allowed is still wrong."""
    truth = DenseOracle(X)
    answer = truth.knn(5, predecessor_mode=True)[0]
    assert truth.recall(answer, predecessor_mode=True) == 1.0
    answer[3] = [0, 1, 30, 31, -1]
    expected = sum(min(5, i) for i in range(40))
    assert truth.recall(answer, predecessor_mode=True) == pytest.approx(1.0 - 1 / expected)


def test_recall_of_short_rows(truth):
    """Row i has i predecessors: what does not exist cannot be missed, but what exists can."""
    answer = truth.knn(5, predecessor_mode=True)[0]
    assert (answer[:5] == -1).sum() == 5 + 4 + 3 + 2 + 1
    answer[3, :] = [0, 1, -1, -1, -1]
    expected = sum(min(5, i) for i in range(40))
    assert truth.recall(answer, predecessor_mode=True) == pytest.approx(1.0 - 1 / expected)


def test_recall_where_nothing_exists(truth):
    assert truth.recall(np.full((1, 5), -1), queries=np.array([0]), predecessor_mode=True) == 1.0


def test_recall_ignores_order(truth):
    assert truth.recall(answer_of(truth)[:, ::-1]) == 1.0


def test_recall_of_coordinates(X, truth):
    queries = X[:10] + 0.01
    assert truth.recall(truth.knn(4, queries)[0], queries) == 1.0
    assert truth.recall(truth.knn(4, queries + 1.0)[0], queries) < 1.0


@pytest.mark.parametrize(("behind", "right"), [(0.5e-7, True), (2e-7, False)])
def test_recall_has_a_tolerance(behind, right):
    """Two points of |rho| 0.9 and a little less: which of them is returned does not matter."""
    kernel = cx.Matern12()
    X = np.array([[0.0], [-math.log(0.9)], [math.log(0.9 - behind)]])
    recall = DenseOracle(X, kernel=kernel).recall(np.array([[2]]), queries=np.array([0]))
    assert recall == (1.0 if right else 0.0)


@pytest.mark.parametrize(("behind", "right"), [(0.5e-9, True), (2e-9, False)])
def test_euclidean_recall_has_a_relative_tolerance(behind, right):
    X = 1e6 * np.array([[0.0], [1.0], [-1.0 - behind]])
    assert DenseOracle(X).recall(np.array([[2]]), queries=np.array([0])) == (1.0 if right else 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# The canonical oracle


@pytest.mark.parametrize("predecessors", [False, True])
@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("kernel", [None, cx.RBF()])
def test_canonical_sorts_by_distance_and_index(kernel, predecessors, include_self, rng):
    X = rng.integers(0, 3, size=(40, 2)).astype(float)  # many ties
    payload = make_payload(X, kernel, [] if kernel is None else [0, 1, 2], jitter=1e-3, order=rng.permutation(40))
    D = oracle.canonical_distances(payload, payload.row[:, None], payload.row[None])
    queries = make_queries(payload, np.arange(40), predecessors, include_self)
    indices, distances = oracle.canonical(payload, queries, 6)
    expected = plain_knn(D, 6, lambda q, j: (j < q or not predecessors or j == q) and (j != q or include_self))
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


def test_canonical_agrees_with_dense(X, truth):
    tree = cx.cover_tree(X, kernel=cx.Matern32(), inducing=6)
    indices, distances = oracle.canonical(tree.payload, make_queries(tree.payload, np.arange(40)), 5)
    assert truth.recall(indices) == 1.0
    np.testing.assert_allclose(distances, truth.knn(5)[1], rtol=0, atol=1e-7)


def test_hits_are_those_of_each_query(rng):
    X = rng.normal(size=(60, 2))
    truth = oracle.DenseOracle(X)
    found, _ = truth.knn(5, predecessor_mode=True)
    found[10, 0], found[20, 2:] = -1, -1
    right, expected = truth.hits(found, predecessor_mode=True)
    np.testing.assert_array_equal(expected, np.minimum(np.arange(60), 5))
    missed = np.zeros(60, dtype=int)
    missed[10], missed[20] = 1, 3
    np.testing.assert_array_equal(expected - right, missed)
    assert truth.recall(found, predecessor_mode=True) == right.sum() / expected.sum()


def test_an_interval_is_wider_where_misses_cluster():
    expected = np.full(500, 20)
    spread, together = expected.copy(), expected.copy()
    spread[:20] -= 1
    together[0] = 0
    (one, (low, high)), (same, (lower, higher)) = (recall_interval(right, expected) for right in (spread, together))
    assert one == same == 1.0 - 20 / 10_000
    assert (low, high) == wilson_interval(one, 10_000)
    assert lower < low
    assert higher > high
    assert recall_interval(expected, expected) == (1.0, wilson_interval(1.0, 10_000))
    assert recall_interval(np.zeros(3), np.zeros(3)) == (1.0, (0.0, 1.0))
