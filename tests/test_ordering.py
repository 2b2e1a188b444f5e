"""Orders: maximin bit for bit as a naive one, the Hilbert curve by what defines it, and clear refusals."""

import itertools

import numpy as np
import pytest

import covertreex as cx
from covertreex import ordering
from covertreex.base import tuning
from covertreex.oracle import canonical_distances

DATA = {
    "one": lambda rng: np.array([[3.0, 4.0]]),
    "two": lambda rng: np.array([[1.0], [2.0]]),
    "identical": lambda rng: np.full((40, 2), 0.3),
    "line": lambda rng: rng.normal(size=(150, 1)),
    "plane": lambda rng: rng.uniform(size=(300, 2)),
    "five": lambda rng: rng.normal(size=(200, 5)),
    "grid": lambda rng: np.stack(np.meshgrid(np.arange(14.0), np.arange(14.0)), axis=-1).reshape(-1, 2),
    "duplicates": lambda rng: rng.integers(0, 4, size=(200, 3)).astype(float),
    "crowded": lambda rng: np.concatenate(
        [np.zeros((80, 2)), 1e-6 * rng.normal(size=(80, 2)), rng.normal(size=(80, 2))]
    ),
    "scales": lambda rng: rng.normal(size=(100, 2)) * 10.0 ** rng.uniform(-100, 100, size=(100, 1)),
}

METRICS = {
    "euclidean": lambda n: cx.Euclidean(),
    "correlation": lambda n: cx.Correlation(cx.Matern32(0.7)),
    "saturated": lambda n: cx.Correlation(cx.RBF(0.01)),
    "residual": lambda n: cx.ResidualCorrelation(cx.Matern52(0.8), inducing=min(n, 12), jitter=1e-4),
}

ORDERS = {
    "maximin": ordering.maximin,
    "reverse_maximin": ordering.reverse_maximin,
    "coordinate": ordering.coordinate,
    "random": ordering.random,
    "hilbert": ordering.hilbert,
}


def naive_maximin(tree, start):
    """All n distances from every point chosen."""
    payload = tree.payload
    gap = np.full(len(tree), np.inf)
    order, gaps = [], []
    for _ in range(len(tree)):
        order.append(start)
        gaps.append(gap[start])
        gap = np.minimum(gap, canonical_distances(payload, payload.row[start], payload.row))
        gap[order] = -1.0
        start = int(np.argmax(gap))
    return np.array(order), np.array(gaps)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", DATA)
def test_maximin_is_the_naive_one(data, metric, rng):
    X = DATA[data](rng)
    if data == "scales" and metric == "residual":
        pytest.skip("kernels see one point, and the inducing points are many times the same")
    tree = cx.cover_tree(X, metric=METRICS[metric](len(X)))
    for start in (0, len(X) // 2, len(X) - 1):
        order, gaps = ordering.maximin(tree, start=start, return_distances=True)
        expected, expected_gaps = naive_maximin(tree, start)
        np.testing.assert_array_equal(order, expected)
        np.testing.assert_array_equal(gaps, expected_gaps)


def test_maximin_does_not_depend_on_how_often_it_looks_up(rng, monkeypatch):
    X = rng.normal(size=(300, 2))
    order = ordering.maximin(X)
    monkeypatch.setattr(tuning, "MAXIMIN_BUDGET", 1)
    np.testing.assert_array_equal(ordering.maximin(X), order)


def test_maximin_starts_next_to_the_mean(rng):
    X = rng.normal(size=(200, 2)) * (1.0, 100.0)
    assert ordering.maximin(X)[0] == np.argmin(np.linalg.norm(X - X.mean(axis=0), axis=1))
    tree = cx.cover_tree(X, kernel=cx.RBF((1.0, 100.0)))
    scaled = X / (1.0, 100.0)
    assert ordering.maximin(tree)[0] == np.argmin(np.linalg.norm(scaled - scaled.mean(axis=0), axis=1))


def test_maximin_spends_little(rng):
    from covertreex._core.maximin import Traversal

    X = rng.uniform(size=(4000, 2))
    tree = cx.cover_tree(X)
    traversal = Traversal(tree.payload, tree.tree, 0)
    while traversal.advance(10**6) < len(X):
        pass
    assert traversal.evaluations < 150 * len(X)  # n**2 / 2 would be 2000 n


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("data", DATA)
def test_every_order_is_a_permutation(name, data, rng):
    X = DATA[data](rng)
    order = ORDERS[name](X)
    assert order.dtype == np.int64
    assert order.flags.c_contiguous
    np.testing.assert_array_equal(np.sort(order), np.arange(len(X)))


def test_conventions(rng):
    X = rng.normal(size=(60, 2))
    order = ordering.maximin(X)
    rank = np.argsort(order)
    idx = cx.cover_tree(X[order]).knn(k=4, predecessor_mode=True)
    rows = np.where(idx >= 0, order[idx], -1)
    for j in range(60):
        before = order[: rank[j]]
        nearest = before[np.argsort(np.linalg.norm(X[before] - X[j], axis=1))][:4]
        np.testing.assert_array_equal(rows[rank[j]][: len(nearest)], nearest)


def test_reverse_maximin(rng):
    X = rng.normal(size=(50, 2))
    np.testing.assert_array_equal(ordering.reverse_maximin(X, start=7), ordering.maximin(X, start=7)[::-1])


def test_coordinate(rng):
    X = rng.integers(0, 5, size=(80, 3)).astype(float)
    for axis, keys in ((0, X[:, 0]), (2, X[:, 2]), (None, X[:, 0] + X[:, 1] + X[:, 2])):
        expected = sorted(range(80), key=lambda i, keys=keys: (keys[i], i))
        np.testing.assert_array_equal(ordering.coordinate(X, axis), expected)


def test_random(rng):
    X = rng.normal(size=(30, 2))
    np.testing.assert_array_equal(ordering.random(X, 5), np.random.default_rng(5).permutation(30))


@pytest.mark.parametrize(("d", "side"), [(1, 5), (2, 1), (2, 4), (3, 3), (4, 2), (5, 1)])
@pytest.mark.parametrize("fine", [False, True])
def test_hilbert_steps_from_cell_to_adjacent_cell(d, side, fine, rng):
    cells = np.array(list(itertools.product(range(2**side), repeat=d)), dtype=float)
    cells = cells[rng.permutation(len(cells))]
    order = ordering.hilbert(cells, bits=32 if fine else side)
    steps = np.abs(np.diff(cells[order], axis=0)).sum(axis=1)
    np.testing.assert_array_equal(steps, 1.0)


def test_hilbert_in_many_dimensions_and_with_one_cell(rng):
    X = rng.normal(size=(50, 70))
    np.testing.assert_array_equal(np.sort(ordering.hilbert(X, bits=32)), np.arange(50))
    np.testing.assert_array_equal(ordering.hilbert(np.full((9, 3), 2.0)), np.arange(9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: ordering.maximin(X, start=10), "start must be a row from 0 to 9, got 10"),
        (lambda X: ordering.maximin(X, start=True), "start must be a row"),
        (lambda X: ordering.maximin(X, start=1.0), "start must be a row"),
        (lambda X: ordering.reverse_maximin(X * np.nan), "finite"),
        (lambda X: ordering.coordinate(X, axis=2), "axis must be from 0 to 1, or None"),
        (lambda X: ordering.coordinate(X, axis=-1), "axis must be from 0 to 1, or None"),
        (lambda X: ordering.coordinate(X[:, 0]), "reshape"),
        (lambda X: ordering.random(X, seed=-1), "seed must be an integer, 0 or above"),
        (lambda X: ordering.random(X[:0]), "empty"),
        (lambda X: ordering.hilbert(X, bits=0), "bits must be an integer from 1 to 32"),
        (lambda X: ordering.hilbert(X, bits=33), "bits must be an integer from 1 to 32"),
    ],
)
def test_refusals(call, message, rng):
    with pytest.raises(cx.InvalidInputError, match=message):
        call(rng.normal(size=(10, 2)))


@pytest.mark.parametrize("full", [False, True])
def test_leaf_order_does_not_depend_on_threads(full):
    X = np.random.default_rng(3).integers(0, 50, size=(70_000, 3)).astype(float)  # many ties
    alone, ptr = ordering.leaf_order(X, 24, full=full)
    for n_threads in (2, 3, 8):
        order, leaf_ptr = ordering.leaf_order(X, 24, full=full, n_threads=n_threads)
        np.testing.assert_array_equal(order, alone)
        np.testing.assert_array_equal(leaf_ptr, ptr)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 1000])
def test_full_leaves(n, rng):
    X = rng.normal(size=(n, 2))
    order, leaf_ptr = ordering.leaf_order(X, 8, full=True)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(np.diff(leaf_ptr)[:-1], 8) if n else None
    assert leaf_ptr[0] == 0
    assert leaf_ptr[-1] == n
