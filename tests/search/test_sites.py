"""Neighbours of which few share a site."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covertreex as cx
from covertreex.backends.telemetry import check_line
from covertreex.data.sites import Sites
from covertreex.search.spread import few_per_site


@pytest.fixture
def X(rng):
    """Villages that were visited up to sixty times, in any order."""
    villages = np.round(rng.normal(size=(40, 2)), 2)
    X = np.repeat(villages, rng.integers(1, 12, 40), axis=0)
    X = np.concatenate([X, np.repeat(villages[:1], 60, axis=0)])
    return X[rng.permutation(len(X))]


KINDS = {
    "euclidean": {},
    "correlation": {"kernel": cx.Matern32(0.7)},
    "residual": {"kernel": cx.Matern32(0.7, variance=2.0), "inducing": 12},
    "noise": {"kernel": cx.Matern12(1.0), "inducing": 12, "noise": 0.3},
    "some columns": {"kernel": cx.RBF(active_dims=[1])},
    "sphere": {"lonlat": True},
}


def filtered(tree, k, most, sites, queries=None, **options):
    """By asking for all, and leaving out what is too much."""
    indices, distances = tree.knn(len(tree), queries, return_distances=True, **options)
    out = np.full((len(indices), k), -1), np.full((len(indices), k), np.inf)
    for i, row in enumerate(indices):
        seen, count = {}, 0
        for j, found in enumerate(row):
            if found < 0 or count == k:
                break
            seen[sites[found]] = seen.get(sites[found], 0) + 1
            if seen[sites[found]] <= most:
                out[0][i, count], out[1][i, count] = found, distances[i, j]
                count += 1
    return out


def sites_of(X):
    return np.unique(X, axis=0, return_inverse=True)[1].ravel()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 3])
def test_few_neighbours_share_a_site(X, kind, most, backend, rng):
    tree = cx.cover_tree(X, **KINDS[kind])
    sites = sites_of(X[:, 1:] if kind == "some columns" else X)
    asks = {
        "all": {},
        "before": {"predecessor_mode": True},
        "order": {"predecessor_mode": True, "order": rng.permutation(len(X))},
        "self": {"include_self": True},
        "outside": {"queries": np.concatenate([X[:9], X[:9] + 0.1])},
        "limit": {"queries": X[:9] + 0.1, "limit": 50},
        "rows": {"queries": [5, 3, 90]},
    }
    for name, ask in asks.items():
        expected = filtered(tree, 6, most, sites, **ask)
        for profile in ("exact", "parity"):
            for threads in (1, 2):
                found = tree.search(
                    6,
                    **ask,
                    max_per_site=most,
                    settings=profile,
                    backend=backend,
                    n_threads=threads,
                    audit=40 if threads == 1 else 0,
                )
                np.testing.assert_array_equal(found.indices, expected[0], err_msg=f"{name} {profile}")
                np.testing.assert_array_equal(found.distances, expected[1])
                assert found.recall == (1.0 if threads == 1 else None)  # with two it has the same bits
        np.testing.assert_array_equal(
            tree.knn(6, **ask, max_per_site=most, settings="fast", backend=backend), expected[0]
        )


def test_after_changes_and_when_prepared(X, backend):
    tree = cx.cover_tree(X, **KINDS["residual"]).prepare(6)
    expected = filtered(tree, 6, 2, sites_of(X))
    np.testing.assert_array_equal(tree.knn(6, max_per_site=2, backend=backend), expected[0])
    np.testing.assert_array_equal(tree.knn(6, [4], max_per_site=2, backend=backend), expected[0][[4]])
    fewer = tree.delete(np.arange(0, 100, 2)).insert(X[:10])
    result = fewer.search(6, max_per_site=2, backend=backend, audit=1000)
    np.testing.assert_array_equal(result.indices, filtered(fewer, 6, 2, sites_of(fewer.X))[0])
    assert result.recall == 1.0
    assert result.single_site_rows == 0


def test_the_audit_sees_too_many_of_a_site(X):
    tree = cx.cover_tree(X)
    right, expected = tree.oracle().hits(tree.knn(6), max_per_site=1)
    assert right.sum() < expected.sum()
    assert tree.oracle().hits(tree.knn(6, max_per_site=1), max_per_site=1)[0].sum() == expected.sum()
    np.testing.assert_array_equal(tree.oracle().knn(6, max_per_site=2)[0], tree.knn(6, max_per_site=2))


def test_fewer_sites_than_neighbours(backend):
    X = np.repeat([[0.0], [1.0], [5.0]], 20, axis=0)
    found = cx.cover_tree(X).search(5, max_per_site=1, backend=backend)
    assert found.indices[:2].tolist() == [[1, 20, 40, -1, -1], [0, 20, 40, -1, -1]]
    assert np.all(np.isinf(found.distances[:, 3:]))


def test_counters_and_plan(X, backend):
    tree = cx.cover_tree(X, **KINDS["residual"])
    free, few = tree.search(6, backend=backend), tree.search(6, max_per_site=1, backend=backend)
    assert free.plan.again == ()
    assert few.plan.again[0][1] == 12
    assert "again: " in str(few.plan)
    for result in (free, few):
        stops = sum(v for name, v in result.telemetry.counters.items() if name.startswith("stop_"))
        assert stops == len(X) == sum(result.telemetry.block_sizes)
        for line in result.telemetry.to_jsonl().splitlines():
            check_line(line)
    assert few.telemetry.counters["distance_evals"] > free.telemetry.counters["distance_evals"]
    assert tree.search(6, max_per_site=10**6).plan.again == ()


def test_rows_with_all_neighbours_at_one_site(X, rng):
    tree = cx.cover_tree(X)
    result, sites = tree.search(4), sites_of(X)
    expected = sum(len(set(row.tolist())) == 1 for row in sites[result.indices])
    assert 60 <= result.single_site_rows == expected
    assert pickle.loads(pickle.dumps(result)).single_site_rows == expected
    assert tree.search(1).single_site_rows == 0
    left = tree.delete([0, 7]).search(4)
    assert left.single_site_rows == sum(len(set(row.tolist())) == 1 for row in sites[left.indices])
    early = tree.search(4, predecessor_mode=True)
    count = 0
    for row in early.indices:
        row = row[row >= 0]
        count += len(row) > 1 and len(set(sites[row].tolist())) == 1
    assert early.single_site_rows == count


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), min_size=1, max_size=40))
def test_numbers_of_sites(points):
    X = np.array(points, dtype=float)
    X[X == 0.0] *= np.where(np.arange(np.sum(X == 0.0)) % 2, -1.0, 1.0)  # -0.0 and 0.0 are one place
    payload = cx.cover_tree(X).payload
    numbers = Sites.of(payload).numbers
    assert Sites.of(payload) is Sites.of(payload)
    for i in range(len(X)):
        np.testing.assert_array_equal(numbers == numbers[i], np.all(X == X[i], axis=1))
    assert Sites.of(payload).largest == max(np.sum(numbers == one) for one in numbers)


@given(st.lists(st.lists(st.integers(-1, 3), min_size=5, max_size=5), min_size=1, max_size=5), st.integers(1, 3))
def test_few_per_site(rows, most):
    found = few_per_site(np.array(rows), most)
    for row, kept in zip(rows, found, strict=True):
        for j, site in enumerate(row):
            assert kept[j] == (site >= 0 and row[:j].count(site) < most)


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "2"])
def test_a_number_that_cannot_be(X, most):
    with pytest.raises(cx.InvalidInputError, match="max_per_site must be an integer, 1 or above"):
        cx.cover_tree(X).knn(2, max_per_site=most)
