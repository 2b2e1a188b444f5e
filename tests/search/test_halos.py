"""Halos: few queries, the same answer to the bit, and nothing lost by the stop rule (H1)."""

import threading
import time
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
from ard import EVERY_KERNEL
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import covertreex as cx
from covertreex import oracle
from covertreex._core.halos import angles
from covertreex.base import tuning
from covertreex.data import questions as asking
from covertreex.search import GivenUp, Halos, SearchContext
from covertreex.search.halos import Walker


def smooth(rng, n=1600, d=2):
    """Points so dense that each has others near it, some duplicates, some nearly, and a line of equal steps."""
    X = rng.normal(size=(n, d))
    X[:20] = X[20:40]
    X[40:60] = X[60:80] + 1e-9 * rng.normal(size=(20, d))
    X[80:140] = np.arange(60)[:, None] * 0.02
    return X


@pytest.fixture(scope="module")
def pair():
    """The same tree twice, one prepared."""
    X = smooth(np.random.default_rng(3))
    one, two = (cx.cover_tree(X, kernel=cx.RBF(0.5), inducing=60, n_threads=2) for _ in range(2))
    assert two.prepare(8) is two
    assert isinstance(two._state.halos, Halos)
    return one, two


def same(found, expected):
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


def walk_all(payload, halos, block, n_threads):
    """What the walks of these rows find for 8 neighbours."""
    context = SearchContext(payload, 8, cx.EXACT, cx.get_backend("cython"), n_threads)
    return Walker(context, halos, block, halos.number[block.rows]).walk_all()


def by_halos(result):
    return result.plan.strategy == "halos"


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_answers_are_those_of_the_oracle(pair, backend, k, n_threads):
    plain, tree = pair
    queries = np.random.default_rng(k).permutation(len(tree))[:150]
    found = tree.search(k, queries, backend=backend, n_threads=n_threads)
    assert by_halos(found)
    same(found, plain.search(k, queries, backend=backend))
    assert tree.oracle().recall(found.indices, queries=queries) == 1.0


@pytest.mark.parametrize("include_self", [False, True])
def test_all_rows(pair, include_self):
    plain, tree = pair
    found = tree.search(8, include_self=include_self)
    assert by_halos(found)
    same(found, plain.search(8, include_self=include_self))
    assert found.telemetry.counters["stop_exhausted"] == len(tree)
    assert found.telemetry.counters["canonical_rechecks"] >= 8 * len(tree)


def test_most_queries_are_certified_and_look_at_few_rows(pair):
    plan = pair[1].search(8).plan
    assert plan.certified > 0.9 * len(pair[1])
    assert plan.looked < 0.2 * len(pair[1])


def test_external_queries(pair, rng):
    plain, tree = pair
    X = np.concatenate([rng.normal(size=(80, 2)), tree.X[:20], [[9.0, 9.0], [0.0, -40.0]]])
    found = tree.search(6, X)
    assert by_halos(found)
    same(found, plain.search(6, X))


def test_external_queries_with_factors(rng):
    X = smooth(rng, 1200)
    whole = cx.cover_tree(X, kernel=cx.RBF(0.5), inducing=X[::24])
    V = whole.payload.factors[whole.payload.row][:, :50]
    plain, tree = (cx.cover_tree(X[:1100], kernel=cx.RBF(0.5), v_matrix=V[:1100]) for _ in range(2))
    tree.prepare(5)
    found = tree.search(5, X[1100:], v_query=V[1100:])
    assert by_halos(found)
    same(found, plain.search(5, X[1100:], v_query=V[1100:]))


def test_fast_uses_halos_and_others_do_not(pair):
    plain, tree = pair
    queries = np.arange(0, 1600, 7)
    found = tree.search(8, queries, settings="fast")
    assert by_halos(found)
    same(found, plain.search(8, queries))
    for asked in ({"predecessor_mode": True}, {"limit": 900}, {"settings": "parity"}):
        other = tree.search(8, queries, **asked)
        assert not by_halos(other)
        same(other, plain.search(8, queries, **asked))
    more = tree.search(9, queries)
    assert not by_halos(more), "more neighbours than were prepared for"
    same(more, plain.search(9, queries))


def test_an_order_that_restricts_nothing(pair, rng):
    plain, tree = pair
    order = rng.permutation(len(tree))
    same(tree.search(4, [3, 4], order=order, limit=len(tree)), plain.search(4, [3, 4], order=order, limit=len(tree)))


def test_no_queries(pair):
    assert pair[1].knn(3, np.zeros((0, 2))).shape == (0, 3)


def test_changed_trees_have_none(pair, rng):
    plain, tree = pair
    new = rng.normal(size=(9, 2))
    for change in (
        lambda t: t.insert(new),
        lambda t: t.delete([5, 20, 1000]),
        lambda t: t.with_metric(cx.RBF(0.45)),
        lambda t: t.delete([5, 20]).insert(new),
    ):
        changed = change(tree)
        assert changed._state.halos is None
        ids = changed.ids[::11]
        expected = change(plain).search(7, ids)
        same(changed.search(7, ids), expected)
        again = changed.prepare(7).search(7, ids)
        assert by_halos(again)
        same(again, expected)


def test_deleted_rows_are_in_no_halo(pair):
    tree = pair[1].delete(np.arange(0, 300)).prepare(5)
    dead = tree.payload.row[:300]
    assert not np.isin(tree._state.halos.rows, dead).any()
    assert not np.isin(tree._state.halos.anchors, dead).any()


def test_rough_kernels_give_up_and_say_so(rng):
    X = rng.normal(size=(2000, 8))
    tree = cx.cover_tree(X, kernel=cx.Matern12(0.3), inducing=20).prepare(10)
    assert isinstance(tree._state.halos, GivenUp)
    result = tree.search(10, [1, 2])
    assert result.plan.no_halos in str(result.plan)
    assert result.plan.no_halos
    assert tree.oracle().recall(result.indices, queries=[1, 2]) == 1.0


def test_anchors_are_as_many_as_can_be_had(monkeypatch):
    """The densest net that takes no more than a share of the rows: rows are within its |rho| of their anchors."""
    X = smooth(np.random.default_rng(3))
    found = {}
    for nets in ((0.8,), (0.9, 0.8), (0.99999, 0.8), (0.99999,)):
        monkeypatch.setattr(tuning, "HALO_NEAR", nets)
        tree = cx.cover_tree(X, kernel=cx.RBF(0.5), inducing=60).prepare(8)
        found[nets] = tree._state.halos
        if isinstance(tree._state.halos, Halos):
            rho = tree.oracle().closeness(np.arange(len(X)))
            anchor = tree.payload.index[tree._state.halos.anchors[tree._state.halos.number]]
            assert rho[tree.payload.index, anchor].min() > min(nets) - 1e-6
    sizes = {nets: len(halos.anchors) for nets, halos in found.items() if isinstance(halos, Halos)}
    assert sizes[0.9, 0.8] > 1.2 * sizes[(0.8,)]
    assert sizes[0.99999, 0.8] == sizes[(0.8,)]
    assert isinstance(found[(0.99999,)], GivenUp)
    assert "more than 40% of a sample" in found[(0.99999,)].reason


def test_small_and_euclidean_trees():
    X = np.arange(12.0)[:, None]
    for metric in ({}, {"kernel": cx.RBF(2.0)}):
        tree = cx.cover_tree(X, **metric)
        expected = tree.knn(3)
        assert (tree.prepare(3).knn(3) == expected).all()


@pytest.mark.parametrize("k", [0, 1601, 2.5, True])
def test_bad_k(pair, k):
    with pytest.raises(cx.InvalidInputError, match="k must be"):
        pair[1].prepare(k)


KINDS = {
    "duplicates": lambda rng, X: X[rng.integers(0, 40, len(X))],
    "near-duplicates": lambda rng, X: X[rng.integers(0, 60, len(X))] + 1e-10 * rng.normal(size=X.shape),
    "grid": lambda rng, X: np.round(4.0 * X) / 4.0,
    "line": lambda rng, X: np.arange(len(X))[:, None] * np.full(X.shape[1], 0.01),
    "ordinary": lambda rng, X: X,
}
METRICS = {
    "tiny p": {"kernel": cx.RBF(1.5), "inducing": 60, "jitter": 1e-9},
    "ordinary p": {"kernel": cx.Matern52(0.8), "inducing": 12},
    "correlation": {"kernel": cx.RationalQuadratic(0.5, alpha=0.7)},
    "rough": {"kernel": cx.Matern12(0.2), "inducing": 10},
}


@hypothesis_settings(max_examples=40)
@given(data=st.data())
def test_adversarial_data(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    X = KINDS[data.draw(st.sampled_from(list(KINDS)))](rng, rng.normal(size=(500, 2)))
    metric = METRICS[data.draw(st.sampled_from(list(METRICS)))]
    k = data.draw(st.integers(1, 20))
    plain, tree = (cx.cover_tree(X, **metric, n_threads=2) for _ in range(2))
    tree.prepare(k)
    queries = rng.permutation(500)[:60] if data.draw(st.booleans()) else X[:30] + rng.normal(size=(30, 2))
    same(tree.search(k, queries), plain.search(k, queries))


def square_of(angle):
    """1 - cos of a float, in the digits of the context."""
    x, term, total = Decimal(float(angle)), Decimal(1), Decimal(0)
    for i in range(1, 40):
        term *= -x * x / ((2 * i - 1) * (2 * i))
        total -= term
    return total


def test_angles_bound_exact_ones():
    """H1: against 50 digits, where angles lose digits: near 0, and at 0."""
    rho = np.concatenate([1.0 - 10.0 ** -np.arange(0.0, 17.0), 1.0 - 2.0**-53 * np.arange(9), np.linspace(0, 1, 50)])
    rel = 2.0**-49
    for slack in (0.0, 1e-12, 1e-6):
        least, largest = angles(rho, rel, slack)
        with localcontext() as context:
            context.prec = 50
            for r, low, high in zip(rho, least, largest, strict=True):
                # A computed distance is sqrt(1 - rho), rounded; B1 says how far its square is from the true one.
                square, rounding = 1 - Decimal(float(r)), 4 * Decimal(2) ** -53
                above = square * (1 + rounding) * (1 + Decimal(rel)) + Decimal(slack)
                assert square_of(high) >= min(Decimal(1), above)
                assert square_of(low) <= max(Decimal(0), square * (1 - rounding) * (1 - Decimal(rel)) - Decimal(slack))


def test_halos_hold_all_that_is_nearer_than_their_radius(pair):
    """Angles are never too large, ascend, and leave out nothing."""
    tree = pair[1]
    halos, payload = tree._state.halos, tree.payload
    rows = np.arange(len(payload))
    for number in range(0, len(halos.anchors), 5):
        part = slice(halos.ptr[number], halos.ptr[number + 1])
        found, stored = halos.rows[part], halos.angles[part].astype(float)
        assert np.all(np.diff(stored) >= 0)
        assert len(np.unique(found)) == len(found)
        d = oracle.canonical_distances(payload, halos.anchors[number], rows)
        true = np.arccos(1.0 - payload.upper(d) ** 2)
        assert np.all(stored <= true[found])
        left = np.setdiff1d(rows, found)
        assert np.all(halos.radii[number] <= true[left])


def test_every_true_neighbour_is_among_the_candidates(pair):
    """The walk alone, before the scan: what is certified has its k nearest, ties included."""
    tree = pair[1]
    block, payload = asking.block_of(tree._state, asking.check(tree._state), 1), tree.payload
    halos = tree._state.halos
    walked = walk_all(payload, halos, block, 2)
    truth, _ = oracle.canonical(payload, block, 8)
    assert np.mean(walked.certified) > 0.5
    at = 0
    for q, count in enumerate(walked.counts):
        rows = walked.rows[at : at + count]
        at += count
        if walked.certified[q]:
            assert set(truth[q]) <= set(payload.index[rows])


@pytest.mark.parametrize("kernel", EVERY_KERNEL)
def test_kernels(kernel, rng):
    X = rng.normal(size=(700, 5)) * 0.2
    plain, tree = (cx.cover_tree(X, kernel=EVERY_KERNEL[kernel], inducing=30) for _ in range(2))
    same(tree.prepare(6).search(6, np.arange(90)), plain.search(6, np.arange(90)))


def test_more_slack_stops_later(pair):
    """External queries may need more slack than the halos were made with."""
    tree = pair[1]
    block, payload = asking.block_of(tree._state, asking.check(tree._state, np.arange(200)), 1), tree.payload
    halos, looked = tree._state.halos, []
    for more in (0.0, 1e-4, 1e-2, 2.0):
        walked = walk_all(payload, halos, replace(block, slack_abs=payload.slack_abs + more), 1)
        looked.append(walked.looked)
    assert looked == sorted(looked)
    assert not walked.certified[halos.anchors[halos.number[block.rows]] != block.rows].any()


def test_ctrl_c_while_preparing(rng, monkeypatch):
    """An interrupt in the waiting thread sets the flag that kernels look at."""
    tree = cx.cover_tree(smooth(rng, 4000), kernel=cx.RBF(0.4), inducing=100, n_threads=2)
    seen = []

    def interrupted(self, group):
        if threading.current_thread() is not threading.main_thread():
            seen.append(self._context.cancel)
            raise KeyboardInterrupt

    monkeypatch.setattr("covertreex.search.preparing._Builder._surround", interrupted)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tree.prepare(10)
    assert seen[0][0] == 1
    assert time.monotonic() - begin < 20.0
    assert tree._state.halos is None
    assert not by_halos(tree.search(10, [3]))
