"""Neighbours by boxes: the cover tree's answer, bit for bit, whatever the points (E1 to E4)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from naive import make_queries

import covertreex as cx
from covertreex import oracle
from covertreex._core.euclid import leaf_starts, nearest
from covertreex.search import boxes as euclid
from covertreex.search.boxes import boxes_of

CANCEL = np.zeros(1, dtype=np.int32)


def ordinary(rng, n, d):
    return rng.normal(size=(n, d))


def grid(rng, n, d):
    """Ties everywhere, and duplicates."""
    return rng.integers(0, 4, size=(n, d)).astype(float)


def one_place(rng, n, d):
    return np.ones((n, d))


def near_ties(rng, n, d):
    """A line of equal steps, each off by a few last places: what rounding might swap."""
    X = np.zeros((n, d))
    X[:, 0] = np.arange(n) * 0.125
    return X * (1.0 + rng.integers(-3, 4, size=(n, d)) * 2.0**-52)


def blurred(rng, n, d):
    """Clusters far smaller than float32 can tell apart, and one point far away."""
    X = rng.normal(size=(5, d))[rng.integers(0, 5, n)] + 1e-11 * rng.normal(size=(n, d))
    X[-1] = 1e9
    return X


def constant_columns(rng, n, d):
    X = rng.normal(size=(n, d))
    X[:, ::2] = 3.0
    return X


def huge(rng, n, d):
    """As large as points may be, and smaller ones among them."""
    return rng.normal(size=(n, d)) * 10.0 ** rng.choice([100.0, 130.0, 139.0], size=(n, 1))


def tiny(rng, n, d):
    """As small as may be, and beside that what vanishes in a square."""
    X = rng.normal(size=(n, d)) * 10.0 ** rng.choice([-100.0, -120.0, -123.0], size=(n, 1))
    return np.where((rng.random((n, d)) < 0.2) & (np.arange(d) > 0), X * 1e-180, X)


def mixed(rng, n, d):
    return rng.normal(size=(n, d)) * 10.0 ** rng.integers(-12, 12, size=(n, 1))


KINDS = (ordinary, grid, one_place, near_ties, blurred, constant_columns, huge, tiny, mixed)


def check(tree, k, backend=None, **asked):
    """The answer is that of brute force in canonical arithmetic."""
    found = tree.search(k, backend=backend, **asked)
    assert found.plan.verb == "scan"
    expected = tree.search(k, settings="parity", **asked)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 3, 8, 20])
def test_answers_are_those_of_brute_force(kind, d, rng):
    n = 300
    tree = cx.cover_tree(kind(rng, n, d), n_threads=1)
    for k in (1, 10, n - 1):
        for predecessors in (False, True):
            queries = make_queries(tree.payload, np.arange(n), predecessors)
            indices, distances = oracle.canonical(tree.payload, queries, k)
            for settings in ("exact", "fast"):
                found = tree.search(k, predecessor_mode=predecessors, settings=settings)
                assert found.plan.verb == "scan"
                np.testing.assert_array_equal(found.indices, indices)
                np.testing.assert_array_equal(found.distances, distances)


FALLING = {
    "rbf": cx.RBF(0.7),
    "matern12": cx.Matern12(0.5, variance=3.0),
    "matern32": cx.Matern32(1.0),
    "matern52": cx.Matern52(30.0),
    "rational quadratic": cx.RationalQuadratic(0.5, alpha=0.5),
    "alpha 3": cx.RationalQuadratic(2.0, alpha=3.0),
}


def by_brute_force(tree, k, **asked):
    """Answers are those of all rows in canonical arithmetic; returns how they were found."""
    queries = make_queries(tree.payload, np.arange(len(tree)), asked.get("predecessor_mode", False))
    indices, distances = oracle.canonical(tree.payload, queries, k)
    for settings in ("exact", "fast"):
        found = tree.search(k, settings=settings, **asked)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_array_equal(found.distances, distances)
    return found.plan.strategy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", FALLING.values(), ids=FALLING)
def test_correlation_that_falls_with_distance(kernel, kind, rng):
    """Also where correlations underflow, cannot be told from 1, or are those of near-ties (E4)."""
    tree = cx.cover_tree(kind(rng, 200, 2), kernel=kernel, n_threads=1)
    for k in (1, 7, 199):
        by_brute_force(tree, k)
        by_brute_force(tree, k, predecessor_mode=True)


@pytest.mark.parametrize("spacing", [1e-9, 3e-7, 1e-5, 1e-2])
@pytest.mark.parametrize("kernel", FALLING.values(), ids=FALLING)
def test_correlations_that_differ_by_their_last_places(kernel, spacing, rng):
    """Points so close, and some far: one correlation rounds up, the next down, and the k nearest are not the answer."""
    close = rng.normal(size=(150, 3)) * spacing * kernel.lengthscale
    tree = cx.cover_tree(np.concatenate([close, rng.normal(size=(50, 3)) * 99.0]), kernel=kernel)
    assert by_brute_force(tree, 9) == "boxes"


def test_whether_the_most_correlated_are_found_by_boxes(rng):
    def strategy(n=300, d=3, **metric):
        return by_brute_force(cx.cover_tree(rng.normal(size=(n, d)), **({"kernel": cx.Matern32()} | metric)), 5)

    tree = cx.cover_tree(rng.normal(size=(300, 3)), kernel=cx.Matern32())
    assert tree.search(5, settings=cx.EXACT.replace(gate=False)).plan.strategy != "boxes"

    for metric in ({}, {"noise": 0.1}, {"d": 8}, {"kernel": cx.RBF((0.1, 1.0, 9.0))}):
        assert strategy(**metric) == "boxes"
    for metric in (
        {"inducing": 10},
        {"d": 9},
        {"noise": rng.uniform(0.1, 0.2, 300)},
        {"kernel": cx.RationalQuadratic(alpha=0.4)},
        {"kernel": cx.DampedCosine(1.0)},
        {"kernel": cx.Matern32(1e4)},
    ):
        assert strategy(**metric) != "boxes"


@pytest.mark.parametrize("metric", [{}, {"kernel": cx.Matern32(0.9)}], ids=["euclidean", "correlation"])
@pytest.mark.parametrize("kind", [ordinary, grid, mixed])
def test_every_backend_and_restriction(kind, backend, metric, rng):
    n, d = 1500, 3
    tree = cx.cover_tree(kind(rng, n, d), **metric)
    order = rng.permutation(n)
    for asked in (
        {"queries": kind(rng, 70, d)},
        {"queries": rng.integers(0, n, 90), "include_self": True},
        {"predecessor_mode": True},
        {"predecessor_mode": True, "order": order, "include_self": True},
        {"limit": 40},
        {"limit": rng.integers(0, n, n), "order": order},
        {"queries": kind(rng, 30, d), "limit": 7},
        {"queries": np.zeros(0, dtype=int)},
    ):
        check(tree, 9, backend, **asked)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 65, 257, 520, 4100])
def test_any_number_of_points(n, rng):
    tree = cx.cover_tree(rng.normal(size=(n, 2)))
    check(tree, min(n, 5), include_self=True)
    edges = leaf_starts(n)
    assert (edges[0], edges[-1]) == (0, n)
    assert 1 <= np.diff(edges).min() <= np.diff(edges).max() <= 32


def test_queries_far_from_all_points(rng):
    tree = cx.cover_tree(rng.normal(size=(500, 3)))
    check(tree, 5, queries=rng.normal(size=(20, 3)) * 10.0 ** rng.integers(0, 139, size=(20, 1)))


def test_points_that_come_and_go(rng):
    tree = cx.cover_tree(rng.normal(size=(900, 3)))
    more = tree.insert(rng.normal(size=(60, 3)))
    assert not np.array_equal(boxes_of(more.payload).rows, np.arange(960))
    for changed in (more, more.delete(rng.choice(960, 50, replace=False)), tree.delete([0, 7, 899])):
        check(changed, 6)
        check(changed, 6, predecessor_mode=True)


def test_rows_in_leaf_order_are_taken_as_they_are(rng):
    for X in (rng.normal(size=(5000, 3)), grid(rng, 3000, 2), one_place(rng, 100, 2)):
        np.testing.assert_array_equal(boxes_of(cx.cover_tree(X).payload).rows, np.arange(len(X)))


@hypothesis_settings(max_examples=150)
@given(data=st.data())
def test_shortlists_hold_the_answer_and_nothing_else(data):
    """Lists are the k nearest themselves, ties cut by dataset index, the farthest first."""
    n, d = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 20))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kind, k = data.draw(st.sampled_from(KINDS)), data.draw(st.integers(1, n))
    X = kind(rng, n, d)
    if data.draw(st.booleans()):  # near-ties of the kth: a row again, off by a last place
        near = X[: n - n // 2]
        X[n // 2 :] = np.where(np.abs(near) < 1e-100, near, np.nextafter(near, np.inf))
    payload = cx.cover_tree(X, n_threads=1).payload
    queries = make_queries(payload, np.arange(n), data.draw(st.booleans()), data.draw(st.booleans()))
    rank = rng.permutation(n) if data.draw(st.booleans()) else queries.rank
    limit = rng.integers(0, n + 1, n) if data.draw(st.booleans()) else queries.limit
    boxes = boxes_of(payload)
    ptr, rows, compared = nearest(
        boxes, payload.coords[queries.rows], limit, queries.exclude, rank, boxes.least(rank), k, CANCEL
    )
    assert compared >= len(rows)
    for q in range(n):
        allowed = np.flatnonzero((rank < limit[q]) & (np.arange(n) != queries.exclude[q]))
        distances = oracle.canonical_distances(payload, queries.rows[q], allowed)
        nearest_first = allowed[np.lexsort((payload.index[allowed], distances))[:k]]
        found = rows[ptr[q] : ptr[q + 1]]
        assert sorted(found) == sorted(nearest_first)
        if len(found):
            assert np.all(np.diff(oracle.canonical_distances(payload, queries.rows[q], found)) <= 0.0)


@pytest.mark.parametrize("k", [1, 6, 31, 32, 33, 80])
def test_the_query_before_may_mislead(k, rng):
    """It says how far to look: too near, too far, at ties, or at nothing; each finds what it would find alone (E3)."""
    X = np.concatenate([rng.normal(size=(300, 3)), 1e-6 * rng.normal(size=(300, 3)), rng.integers(0, 3, (300, 3))])
    payload = cx.cover_tree(X, n_threads=1).payload
    asked = rng.permutation(np.repeat(np.arange(len(X)), 2))
    queries = make_queries(payload, asked, False)
    boxes, limit = boxes_of(payload), np.where(rng.random(len(asked)) < 0.1, 3, len(X))
    least = boxes.least(queries.rank)
    some = payload.coords[queries.rows], limit, queries.exclude

    def ask(part):
        return nearest(boxes, *(a[part] for a in some), queries.rank, least, k, CANCEL)

    ptr, rows, together = ask(slice(None))
    alone = [ask(slice(q, q + 1)) for q in range(len(asked))]
    for q, (_, found, _) in enumerate(alone):
        assert sorted(rows[ptr[q] : ptr[q + 1]]) == sorted(found)
    assert together != sum(compared for _, _, compared in alone), "no query made use of the one before"


def test_what_is_counted_does_not_depend_on_threads(rng):
    tree = cx.cover_tree(rng.normal(size=(3000, 3)))
    one, two = (tree.search(8, predecessor_mode=True, n_threads=n).telemetry.counters for n in (1, 2))
    assert one == two
    assert one["canonical_rechecks"] == one["distance_evals"] == np.minimum(np.arange(3000), 8).sum()
    assert 0 < one["gate_rejects"] < 3000 * 600


def test_prefixes_have_boxes_of_their_own_where_it_pays(rng):
    limit = np.arange(10_000)
    prefixes, level = euclid._levels(limit, 10_000)
    assert prefixes == [1250, 2500, 5000]
    assert all((limit[level == i] <= prefix).all() for i, prefix in enumerate(prefixes))
    assert euclid._levels(np.full(50, 10_000), 10_000)[0] == []
    assert euclid._levels(np.array([3]), 10_000)[0] == []


def test_budgets_caps_and_the_tree_walk_the_tree(rng):
    tree = cx.cover_tree(rng.normal(size=(200, 3)))
    for changes in ({"budget_schedule": (50,)}, {"level_cap": 5}, {"gate": False}):
        assert tree.search(3, settings=cx.EXACT.replace(**changes)).plan.verb == "search"
    assert tree.search(3, settings="parity").plan.verb == "search"
    assert tree.search(3).plan.strategy == "boxes"


def test_a_cancelled_search_returns_at_once(rng):
    payload = cx.cover_tree(rng.normal(size=(500, 3))).payload
    boxes, n = boxes_of(payload), 500
    ptr, rows, compared = nearest(
        boxes, payload.coords, np.full(n, n), np.full(n, -1), payload.index, boxes.least(payload.index), 5,
        np.ones(1, dtype=np.int32),
    )  # fmt: skip
    assert len(ptr) == n + 1
    assert len(rows) == compared == 0
