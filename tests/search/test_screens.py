"""Screens and planned scans: nothing that belongs to the answer is ever dropped (C1, C2), and `fast` keeps its word."""

import dataclasses
import itertools

import numpy as np
import pytest
from ard import ARD, EVERY_KERNEL
from hypothesis import given
from hypothesis import strategies as st
from naive import make_queries, share_found

import covertreex as cx
from covertreex import oracle
from covertreex._core.nearest import Blocks, Finder, centred
from covertreex._core.screen import kernel_values as screen_values
from covertreex._core.screen import largest_whole
from covertreex.base import tuning
from covertreex.data import questions as asking
from covertreex.oracle import kernel_values
from covertreex.search import SearchContext
from covertreex.search import scan_plans as plans
from covertreex.search.groups import group_queries
from covertreex.search.screens.cache import sharp, single
from covertreex.search.screens.eight import COARSE, make_eight
from covertreex.search.screens.mixed import make_mixed
from covertreex.search.screens.plain import least_rho, make_screen
from covertreex.search.screens.sixteen import make_sixteen
from covertreex.search.screens.view import View
from covertreex.search.shortlists import Shortlists

#: What it is: a fixture below sets it to 0.
AGAIN_EIGHT = tuning.AGAIN_EIGHT


def hard_points(rng, n, d):
    """Near-duplicates, duplicates, a line of equal steps (ties), and ordinary points."""
    X = rng.normal(size=(n, d))
    X[n // 4 : n // 2] = X[: n // 4 + n % 2][: n // 2 - n // 4] + 1e-9 * rng.normal(size=(n // 2 - n // 4, d))
    X[n // 2 : 5 * n // 8] = X[: 5 * n // 8 - n // 2]
    X[5 * n // 8 : 3 * n // 4] = np.arange(3 * n // 4 - 5 * n // 8)[:, None] * 0.125
    return X


HARD = {
    "ordinary p": {"kernel": cx.Matern32(0.7), "inducing": 12},
    "tiny p": {"kernel": cx.RBF(3.0), "inducing": 40, "jitter": 1e-9},
    "correlation": {"kernel": cx.Matern52(0.5)},
    "small variance": {"kernel": cx.Matern12(1.0, variance=1e-6), "inducing": 20, "jitter": 1e-12},
}


#: Screens in one precision, of a payload; None where that is too coarse.
KINDS = {
    "16 bits": make_sixteen,
    "float32": lambda payload: make_screen(payload, np.float32),
    "float64": lambda payload: make_screen(payload, np.float64),
}

#: Which of them a tree has not: those that are too coarse for the smallest p, and of what has no factors.
TOO_COARSE = {"tiny p": {"16 bits", "float32"}, "correlation": {"16 bits"}}


def view_of(payload, screen, queries, k=1, cancel=None):
    """`screen` as these queries look through it."""
    cancel = np.zeros(1, np.int32) if cancel is None else cancel
    return View(SearchContext(payload, k, cx.EXACT, cx.get_backend("cython"), 1, cancel), screen, queries)


def shorten(payload, screen, queries, k, kth_upper=np.inf, cancel=None):
    """Short lists of all rows that queries see through `screen`, and what was counted."""
    cancel = np.zeros(1, np.int32) if cancel is None else cancel
    context = SearchContext(payload, k, cx.EXACT, cx.get_backend("cython"), 1, cancel)
    lists = Shortlists(context, View(context, screen, queries), queries, len(queries))
    start = least_rho(np.broadcast_to(kth_upper, len(queries)))
    return lists.of(plans.whole_range(payload, queries), 0, start)


def kept_whitened(tree):
    """The whitened screen that a search has just used."""
    return tree.payload.kept.held("whitened")[1]


def block_of(tree, predecessor_mode=False):
    return make_queries(tree.payload, np.arange(len(tree)), predecessor_mode)


@pytest.fixture(params=HARD)
def tree(request, rng):
    return cx.cover_tree(hard_points(rng, 240, 3), n_threads=1, **HARD[request.param])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("predecessors", [False, True])
@pytest.mark.parametrize("k", [1, 7, 239])
def test_shortlist_keeps_every_neighbour(tree, kind, predecessors, k):
    screen = KINDS[kind](tree.payload)
    if screen is None:
        pytest.skip("there is no such screen of this tree; test_which_screens_there_are says where that is so")
    queries = block_of(tree, predecessors)
    truth, _ = oracle.canonical(tree.payload, queries, k)
    short, counters = shorten(tree.payload, screen, queries, k)
    assert counters["canonical_rechecks"] == len(short.run_start)
    for q, wanted in enumerate(truth):
        rows = short.run_start[short.run_ptr[q] : short.run_ptr[q + 1]]
        assert len(np.unique(rows)) == len(rows)
        assert set(wanted[wanted >= 0]) <= set(tree.payload.index[rows])


@pytest.mark.parametrize("number", [1, 4, 5])  # up to four are swept for each alone
@pytest.mark.parametrize("kind", KINDS)
def test_few_queries_keep_every_neighbour(tree, kind, number):
    screen = KINDS[kind](tree.payload)
    if screen is None:
        pytest.skip("there is no such screen of this tree; test_which_screens_there_are says where that is so")
    for predecessors, first in itertools.product((False, True), (0, 2, 100, 235)):
        queries = block_of(tree, predecessors).slice(first, first + number)
        truth, _ = oracle.canonical(tree.payload, queries, 7)
        short, counters = shorten(tree.payload, screen, queries, 7)
        looked = counters.get("gate_rejects", 0) + counters["canonical_rechecks"]
        assert "gemm_tiles" in counters or looked <= number * len(tree)
        for q, wanted in enumerate(truth):
            rows = short.run_start[short.run_ptr[q] : short.run_ptr[q + 1]]
            assert len(np.unique(rows)) == len(rows)
            assert set(wanted[wanted >= 0]) <= set(tree.payload.index[rows])


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("which", ["long", "smooth"])
def test_few_queries_have_the_bits_of_many(which, external, request, monkeypatch, backend):
    monkeypatch.setattr("covertreex.search.screens.whitened.make_whitened", lambda *_: None)
    tree = request.getfixturevalue(which)
    tree.payload.kept.forget("whitened", "mixed")
    points = tree.X[:600] + 0.01 if external else np.arange(600)
    many = tree.search(9, settings="exact", backend=backend, queries=points)
    for number in (1, 3, 4, 5):
        few = tree.search(9, settings="exact", backend=backend, queries=points[:number])
        np.testing.assert_array_equal(few.indices, many.indices[:number])
        np.testing.assert_array_equal(few.distances, many.distances[:number])


def test_which_screens_there_are(tree, request):
    """Float64 always; the others unless they are too coarse for the smallest p, and then nothing uses them."""
    found = {kind for kind, make in KINDS.items() if make(tree.payload) is None}
    assert found == TOO_COARSE.get(request.node.callspec.params["tree"], set())


def test_a_known_kth_distance_shortens_the_list_and_loses_nothing(tree):
    queries, k = block_of(tree), 9
    truth, distances = oracle.canonical(tree.payload, queries, k)
    short, counters = shorten(tree.payload, sharp(tree.payload), queries, k, distances[:, -1])
    _, without = shorten(tree.payload, sharp(tree.payload), queries, k)
    assert counters["canonical_rechecks"] <= without["canonical_rechecks"]
    for q, wanted in enumerate(truth):
        rows = short.run_start[short.run_ptr[q] : short.run_ptr[q + 1]]
        assert set(wanted) <= set(tree.payload.index[rows])


def test_float32_is_left_alone_where_it_would_be_noise(rng):
    X = rng.normal(size=(300, 2))
    noisy = cx.cover_tree(X, kernel=cx.RBF(3.0), inducing=60, jitter=1e-9)
    assert single(noisy.payload) is None
    assert sharp(noisy.payload) is not None
    assert sharp(cx.cover_tree(X).payload) is None


@pytest.mark.parametrize("kernel", EVERY_KERNEL)
@pytest.mark.parametrize("switches", [{}, {"gate": False}, {"gate": False, "gemm": False}])
def test_screens_do_not_change_an_exact_answer(kernel, switches, rng, backend):
    tree = cx.cover_tree(rng.normal(size=(300, 5)), kernel=EVERY_KERNEL[kernel], inducing=20)
    result = tree.search(8, predecessor_mode=True, settings=cx.EXACT.replace(**switches), backend=backend)
    indices, distances = oracle.canonical(tree.payload, block_of(tree, True), 8)
    np.testing.assert_array_equal(result.indices, indices)
    np.testing.assert_array_equal(result.distances, distances)


def test_counters_tell_which_screen_worked(rng):
    X = rng.uniform(size=(400, 2))
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=10)
    gated = tree.search(5).telemetry.counters
    assert gated["gate_rejects"] > 0
    assert gated["gemm_tiles"] == 0
    blocked = tree.search(5, settings=cx.EXACT.replace(gate=False)).telemetry.counters
    assert blocked["gate_rejects"] == 0
    assert blocked["gemm_tiles"] > 0
    plain = tree.search(5, settings=cx.EXACT.replace(gate=False, gemm=False)).telemetry.counters
    assert plain["gate_rejects"] == plain["gemm_tiles"] == plain["canonical_rechecks"] == 0
    assert plain["distance_evals"] == 400 * 399


@pytest.fixture(scope="module")
def smooth():
    """Residual variances too small for float32, with duplicates, near-duplicates and inducing points among the rows."""
    X = hard_points(np.random.default_rng(8), 1300, 2)
    return cx.cover_tree(X, kernel=cx.RBF(0.7), inducing=128, jitter=1e-7)


def test_products_of_float32_are_no_subnormal_numbers(rng):
    """Factors of points that are far from inducing points, in lengthscales, are so small that these would be."""
    X = rng.uniform(size=(900, 2))
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.02), inducing=64)
    assert np.any((tree.payload.factors != 0.0) & (np.abs(tree.payload.factors) < 1e-25))
    asked = asking.block_of(tree._state, asking.check(tree._state, X[:50] + 1e-3), 1)
    screen = make_screen(tree.payload, np.float32)
    for head in (screen.head, screen.of_queries(asked).head):
        least = np.abs(head[head != 0.0]).min()
        assert least * least >= np.finfo(np.float32).tiny
        assert np.any(head == 0.0)
    for queries in (None, X[:300] + 1e-3):
        found = tree.search(6, queries=queries, settings="exact")
        plain = tree.search(6, queries=queries, settings=cx.EXACT.replace(gate=False))
        np.testing.assert_array_equal(found.indices, plain.indices)
        np.testing.assert_array_equal(found.distances, plain.distances)


# ---------------------------------------------------------------------------------------------------------------------
# Sixteen bits (C7)


@pytest.mark.parametrize("inducing", [16, 60])
def test_sixteen_bits_bound_every_pair(inducing, rng):
    X = hard_points(rng, 500, 3)
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.7, variance=3.0), inducing=inducing)
    payload, screen = tree.payload, make_sixteen(tree.payload)
    asked = np.concatenate([X[:50], rng.normal(size=(100, 3)) * 3, [[1e3, 0.0, 0.0]]])
    queries = asking.block_of(tree._state, asking.check(tree._state, asked), 1)
    longer = dataclasses.replace(queries, factors=1.5 * queries.factors)
    assert screen.of_queries(longer).steps[0] > screen.steps[0]
    assert screen.of_queries(longer).margin > screen.of_queries(queries).margin >= screen.margin
    truth = correlations(payload, queries)
    outside = screen.of_queries(queries)
    dots = outside.head.astype(float) @ screen.head.T.astype(float) * np.outer(outside.steps, screen.steps)
    rho = np.abs(payload.kernel.of_scaled(queries.coords, payload.coords) - dots)
    rho *= np.outer(outside.scale.astype(float), screen.scale)
    off = outside.margin * np.outer(outside.spread.astype(float), screen.spread) + screen.floor
    assert np.all(np.abs(rho - truth) <= off)
    assert np.median(off) < 2e-3


def test_sums_of_sixteen_bits_stay_within_32(rng):
    """An inducing point has all of its length in one component, and a query from outside may be longer."""
    X = rng.uniform(size=(700, 2))
    tree = cx.cover_tree(X, kernel=cx.RBF(0.02, variance=1e-3), inducing=32)
    screen = make_sixteen(tree.payload)
    assert np.abs(screen.head.astype(int)).max() > 32_000
    asked = asking.block_of(tree._state, asking.check(tree._state, X[:50]), 1)
    for head in (screen.head, screen.of_queries(dataclasses.replace(asked, factors=3.0 * asked.factors)).head):
        assert np.square(head.astype(np.int64)).sum(axis=1).max() < 2**31
        assert np.all(head > np.iinfo(np.int16).min)


def test_float32_serves_where_sixteen_bits_are_too_coarse(rng, monkeypatch):
    tree = cx.cover_tree(rng.normal(size=(900, 3)), kernel=cx.Matern52(1.5), inducing=48)
    finer = np.sqrt(KINDS["float32"](tree.payload).margin * make_sixteen(tree.payload).margin)
    monkeypatch.setattr(tuning, "BLUR", finer / np.median(tree.payload.p))
    result = tree.search(7, settings="exact")
    assert result.plan.screen == "float32"
    indices, distances = oracle.canonical(tree.payload, block_of(tree), 7)
    np.testing.assert_array_equal(result.indices, indices)
    np.testing.assert_array_equal(result.distances, distances)


# ---------------------------------------------------------------------------------------------------------------------
# Eight bits (C4)


@pytest.fixture(scope="module")
def long():
    """More rows than 16 times their 64 components, with duplicates, near-duplicates and inducing points among them."""
    X = hard_points(np.random.default_rng(5), 1400, 3)
    return cx.cover_tree(X, kernel=cx.Matern32(1.3), inducing=64, jitter=1e-4)


@pytest.fixture(autouse=True)
def any_processor(monkeypatch):
    """Screens of eight bits are made on processors that have no instruction for them, or where they do not pay, too."""
    monkeypatch.setattr(tuning, "AGAIN_EIGHT", 0.0)
    if not largest_whole():
        for module in ("eight", "whitened"):
            monkeypatch.setattr(f"covertreex.search.screens.{module}.largest_whole", lambda: 127)


@pytest.fixture(params=[63, 127])
def largest(request, long, any_processor, monkeypatch):
    """They are made as on processors of either kind."""
    long.payload.kept.forget("eight bits")
    monkeypatch.setattr("covertreex.search.screens.eight.largest_whole", lambda: request.param)
    yield request.param
    long.payload.kept.forget("eight bits")


def eight_bits(payload):
    screen = make_eight(make_screen(payload, np.float32))
    assert screen is not None
    return screen


@pytest.mark.parametrize("doubt", [0.0, 0.1, 0.5, 2.0])
def test_eight_bits_bound_every_pair(long, doubt, largest, rng, monkeypatch):
    monkeypatch.setattr(tuning, "DOUBT", doubt)
    screen, payload = eight_bits(long.payload), long.payload
    assert (screen.head.shape[1] == 64) == (doubt == 0.0)
    np.testing.assert_allclose(screen.basis.T @ screen.basis, np.eye(64), atol=1e-13)
    np.testing.assert_array_equal(screen.sums, screen.head.sum(axis=1, dtype=np.int64))
    assert np.abs(screen.head.astype(int)).max() == largest
    asked = np.concatenate([long.X[:50], rng.normal(size=(100, 3)) * 3])
    queries = asking.block_of(long._state, asking.check(long._state, asked), 1)
    outside = screen.of_queries(queries)
    raised = np.sqrt(max(1.0, outside.margin / screen.margin))
    values = payload.kernel.of_scaled(queries.coords, payload.coords)
    dots = outside.head.astype(float) @ screen.head.T.astype(float) * np.outer(outside.steps, screen.steps)
    near = np.abs(values - dots) * np.outer(outside.scale.astype(float), screen.scale)
    off = raised * np.outer(outside.blunt.astype(float), screen.blunt) + screen.floor
    assert np.all(np.abs(near - correlations(payload, queries)) <= off)
    assert np.median(off) < doubt + 12.0 / largest


@pytest.mark.parametrize("kernel", [cx.RBF(), cx.Matern12(), cx.Matern32(), cx.Matern52(), cx.RationalQuadratic()])
def test_coarse_kernels_are_as_good_as_is_said(kernel, rng):
    r2 = np.concatenate([[0.0, 1e-30, 1e9], np.geomspace(1e-8, 1e4, 20000), rng.exponential(5.0, 20000)])
    coarse = r2.astype(np.float32)
    exact = kernel_values(kernel.code, 1.0, kernel.alpha, coarse.astype(float))
    screen_values(kernel.code, kernel.alpha, coarse, coarse=True)
    assert np.abs(coarse - exact).max() < 0.9 * COARSE


@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize("predecessors", [False, True])
def test_a_sweep_in_eight_bits_is_exact(long, k, predecessors, largest, monkeypatch):
    indices, distances = oracle.canonical(long.payload, block_of(long, predecessors), k)
    for doubt in (0.01, 2.0, 1e9):  # with the last no component leads
        monkeypatch.setattr(tuning, "DOUBT", doubt)
        long.payload.kept.forget("eight bits")
        result = long.search(k, predecessor_mode=predecessors, settings="exact")
        assert result.plan.screen.startswith("8 bits, ")
        np.testing.assert_array_equal(result.indices, indices)
        np.testing.assert_array_equal(result.distances, distances)


@pytest.mark.parametrize("others", ["rows", "from outside", "none"])
def test_queries_of_which_eight_bits_tell_nothing_are_swept_in_float64(long, others, rng, monkeypatch):
    inducing = long.X[long.payload.index[np.argsort(long.payload.p)[:64]]]
    beside = rng.normal(size=(1200, 3)) if others == "from outside" else np.tile(inducing, (20, 1))
    asked = {} if others == "rows" else {"queries": np.concatenate([inducing, beside])}
    apart = long.search(7, settings="exact", **asked)
    monkeypatch.setattr(tuning, "BLIND", np.inf)
    together = long.search(7, settings="exact", **asked)
    assert apart.plan.screen == together.plan.screen
    assert apart.plan.screen.startswith("8 bits, ")
    assert (apart.telemetry.counters["gemm_tiles"] > 0, together.telemetry.counters["gemm_tiles"]) == (True, 0)
    np.testing.assert_array_equal(apart.indices, together.indices)
    np.testing.assert_array_equal(apart.distances, together.distances)


def test_queries_from_outside_are_looked_at_in_eight_bits(long, largest, rng):
    asked = np.concatenate([long.X[:1000], rng.normal(size=(200, 3)) * 3, [[1e3, 0.0, 0.0], [0.0, -1e7, 1.0]]])
    result = long.search(7, queries=asked)
    plain = long.search(7, queries=asked, settings=cx.EXACT.replace(gate=False))
    assert (result.plan.screen[:6], plain.plan.screen) == ("8 bits", "float64")
    np.testing.assert_array_equal(result.indices, plain.indices)
    np.testing.assert_array_equal(result.distances, plain.distances)


def test_a_radius_is_looked_for_in_eight_bits(long):
    radius = 0.6
    found = long.radius(radius)
    assert found.plan.screen.startswith("8 bits, ")
    plain = long.radius(radius, settings=cx.EXACT.replace(gate=False))
    assert plain.plan.screen == "float64"
    np.testing.assert_array_equal(found.indptr, plain.indptr)
    np.testing.assert_array_equal(found.indices, plain.indices)
    np.testing.assert_array_equal(found.distances, plain.distances)


def test_without_instructions_for_bytes_there_are_none(long, smooth, monkeypatch):
    for module in ("eight", "whitened"):
        monkeypatch.setattr(f"covertreex.search.screens.{module}.largest_whole", lambda: 0)
    for tree in (long, smooth):
        tree.payload.kept.forget("eight bits", "whitened")
    try:
        assert long.search(5).plan.screen == "16 bits"
        monkeypatch.setattr(tuning, "KERNEL64", 1000.0)
        assert smooth.search(5).plan.screen.startswith("float64, ")
    finally:
        for tree in (long, smooth):
            tree.payload.kept.forget("eight bits", "whitened")


def test_fast_is_the_same_after_an_exact_search():
    X = np.random.default_rng(3).uniform(size=(6000, 2))
    settings = cx.FAST.replace(recall_target=0.95)
    found = []
    for exact_first in (False, True):
        tree = cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=64, jitter=1e-4)
        if exact_first:
            assert tree.search(8, settings="exact").plan.screen.startswith("8 bits, ")
        found.append(tree.search(8, settings=settings))
    assert found[0].plan.least is not None
    assert found[0].plan.screen == "16 bits"
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    assert found[0].telemetry.counters == found[1].telemetry.counters


@pytest.mark.parametrize("external", [False, True])
def test_eight_bits_are_left_alone_where_they_leave_too_much_in_doubt(long, external, rng, monkeypatch):
    """As where little is left of most rows once inducing points have explained what they can, or these are many."""
    monkeypatch.setattr(tuning, "AGAIN_EIGHT", AGAIN_EIGHT)
    spread = cx.cover_tree(rng.uniform(size=(20_000, 4)), kernel=cx.Matern12(0.2), inducing=200)
    for tree, wanted in ((long, "16 bits"), (spread, "8 bits, ")):
        asked = {"queries": tree.X[:4000] + 0.01 if external else None}
        assert tree.search(3, settings="exact", **asked).plan.screen.startswith(wanted)
        assert tree.radius(0.6, queries=tree.X[:4000]).plan.screen.startswith(wanted)
    long.payload.kept.forget("eight bits")
    found = long.search(3, settings="exact")
    indices, distances = oracle.canonical(long.payload, block_of(long), 3)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.distances, distances)


def test_few_rows_or_few_components_stay_as_they_are(rng):
    X = rng.normal(size=(900, 2))
    for inducing in (20, 100):
        tree = cx.cover_tree(X, kernel=cx.Matern32(0.7), inducing=inducing)
        assert make_eight(make_screen(tree.payload, np.float32)) is None


# ---------------------------------------------------------------------------------------------------------------------
# Mixed precision (C5)


def correlations(payload, queries):
    """True ``|rho|`` of queries and payload rows."""
    rows, distances = oracle.canonical(payload, queries, len(payload))
    rho = np.empty_like(distances)
    np.put_along_axis(rho, rows, 1.0 - distances**2, axis=1)
    return rho[:, payload.index]


def test_mixed_precision_bounds_every_pair(smooth, rng):
    screen = make_mixed(sharp(smooth.payload))
    assert 0 < screen.tail.shape[1] < 128
    asked = np.concatenate([smooth.X[:50], rng.normal(size=(100, 2)) * 3])
    queries, payload = asking.block_of(smooth._state, asking.check(smooth._state, asked), 1), smooth.payload
    outside = screen.of_queries(queries)
    dots = outside.head @ screen.head.T + outside.tail.astype(float) @ screen.tail.T.astype(float)
    rho = np.abs(payload.kernel.of_scaled(queries.coords, payload.coords) - dots)
    rho *= np.outer(outside.scale, screen.scale)
    off = outside.margin * np.outer(outside.spread, screen.spread) + screen.floor
    gap = np.abs(rho - correlations(payload, queries))
    assert np.all(gap <= off)
    assert np.all(gap <= np.outer(outside.blunt, np.sqrt(outside.margin) * screen.blunt) + screen.floor)
    assert np.median(off) < 0.02


@pytest.mark.parametrize("predecessors", [False, True])
@pytest.mark.parametrize("k", [1, 7, 1299])
def test_a_mixed_shortlist_keeps_every_neighbour(smooth, k, predecessors):
    queries = block_of(smooth, predecessors)
    truth, _ = oracle.canonical(smooth.payload, queries, k)
    short, counters = shorten(smooth.payload, make_mixed(sharp(smooth.payload)), queries, k)
    assert counters["canonical_rechecks"] == len(short.run_start)
    for q, wanted in enumerate(truth):
        rows = short.run_start[short.run_ptr[q] : short.run_ptr[q + 1]]
        assert set(wanted[wanted >= 0]) <= set(smooth.payload.index[rows])


@pytest.mark.parametrize("external", [False, True])
def test_a_mixed_sweep_is_exact(smooth, external, monkeypatch, backend):
    monkeypatch.setattr("covertreex.search.screens.whitened.make_whitened", lambda *_: None)  # as where it does not pay
    smooth.payload.kept.forget("whitened", "mixed")
    asked = {"queries": smooth.X[:600] + 0.01 if external else None}
    result = smooth.search(9, settings="exact", backend=backend, **asked)
    assert result.plan.screen.startswith("float64, ")
    assert result.plan.screen.endswith(" components float32")
    plain = smooth.search(9, settings=cx.EXACT.replace(gate=False), **asked)
    assert plain.plan.screen == "float64"
    np.testing.assert_array_equal(result.indices, plain.indices)
    np.testing.assert_array_equal(result.distances, plain.distances)


def test_nothing_is_mixed_where_that_does_not_pay(smooth, tree):
    large_last = np.ascontiguousarray(smooth.payload.factors[:, ::-1])
    assert make_mixed(sharp(dataclasses.replace(smooth.payload, factors=large_last))) is None
    assert make_mixed(sharp(tree.payload)) is None  # few rows, few components


# ---------------------------------------------------------------------------------------------------------------------
# Whitening


def whitened_search(tree, k, **arguments):
    tree.payload.kept.forget("whitened")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "KERNEL64", 1000.0)  # it would not pay for so few points
        result = tree.search(k, settings="exact", **arguments)
    assert result.plan.screen.startswith("whitened 8 bits, ")
    return result


@pytest.mark.parametrize(("k", "predecessors"), [(1, False), (12, False), (12, True), (100, True)])
def test_a_whitened_sweep_is_exact(smooth, k, predecessors):
    assert single(smooth.payload) is None
    result = whitened_search(smooth, k, predecessor_mode=predecessors)
    indices, distances = oracle.canonical(smooth.payload, block_of(smooth, predecessors), k)
    np.testing.assert_array_equal(result.indices, indices)
    np.testing.assert_array_equal(result.distances, distances)
    assert result.telemetry.counters["gate_rejects"] > 0


def test_a_whitened_screen_bounds_every_pair(smooth, rng):
    whitened_search(smooth, 5)
    screen = kept_whitened(smooth)
    asked = np.concatenate([smooth.X[:50], rng.normal(size=(100, 2)) * 3])
    queries, payload = asking.block_of(smooth._state, asking.check(smooth._state, asked), 1), smooth.payload
    rows, distances = oracle.canonical(payload, queries, len(payload))
    rho = np.empty_like(distances)
    np.put_along_axis(rho, rows, 1.0 - distances**2, axis=1)
    outside = screen.of_queries(queries)
    near = np.abs(outside.head.astype(float) @ screen.head.T.astype(float)) * np.outer(outside.steps, screen.steps)
    off = np.outer(outside.blunt.astype(float), screen.blunt) + screen.floor
    assert outside.margin == screen.margin
    gap = np.abs(near[:, payload.row] - rho)
    assert np.all(gap <= off[:, payload.row])
    assert np.median(off) < 0.5


def test_external_queries_may_be_whitened(smooth, rng):
    asked = np.concatenate([smooth.X[:200], 2.0 * rng.normal(size=(100, 2))])
    result = whitened_search(smooth, 7, queries=asked)
    plain = smooth.search(7, queries=asked, settings=cx.EXACT.replace(gate=False))
    assert plain.plan.screen == "float64"
    np.testing.assert_array_equal(result.indices, plain.indices)
    np.testing.assert_array_equal(result.distances, plain.distances)


def test_what_a_search_does_does_not_depend_on_what_was_asked_before(rng):
    """The same question has the same plan and the same counters on a new tree and on one that was asked much else."""
    X = hard_points(np.random.default_rng(9), 3000, 2)
    used = cx.cover_tree(X, kernel=cx.RBF(0.5), inducing=64, jitter=1e-7)
    outside = rng.normal(size=(300, 2))
    others = [
        {"k": 30},
        {"k": 5, "predecessor_mode": True},
        {"k": 5, "queries": outside},
        {"k": 5, "settings": cx.FAST.replace(recall_target=0.9)},
        {"k": 5, "queries": [3, 4]},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "KERNEL64", 1000.0)  # it would not pay to whiten for so few points
        for asked in others:
            used.search(**asked)
        used.radius(0.3, queries=np.arange(100))
        for asked in others:
            again = used.search(**asked)
            once = cx.cover_tree(X, kernel=cx.RBF(0.5), inducing=64, jitter=1e-7).search(**asked)
            assert again.plan == once.plan
            assert again.telemetry.counters == once.telemetry.counters
            np.testing.assert_array_equal(again.indices, once.indices)


def test_fast_finds_the_same_with_and_without_whitening(monkeypatch):
    # Without duplicates: where residual variances are at rounding level, last digits tell which of them takes a place.
    X = np.random.default_rng(9).normal(size=(4500, 2))
    X[2250:2812] = np.arange(562)[:, None] * 0.0078125
    tree = cx.cover_tree(X, kernel=cx.RBF(0.5), inducing=128, jitter=1e-7)
    found = {}
    for cost in (1000.0, 0.0):  # of a pair's kernel in float64: whitening pays, or does not
        tree.payload.kept.forget("whitened")
        monkeypatch.setattr(tuning, "KERNEL64", cost)
        settings = cx.FAST.replace(recall_target=0.97)
        found[cost] = tree.search(10, predecessor_mode=True, settings=settings, n_threads=1 + (cost > 0.0))
    white, plain = found[1000.0], found[0.0]
    assert white.plan.screen.startswith("whitened 8 bits, ")
    assert plain.plan.screen == "float64"
    assert white.plan.least is not None
    assert (white.plan.least, white.plan.patience) == (plain.plan.least, plain.plan.patience)
    assert white.plan.tried == plain.plan.tried
    np.testing.assert_array_equal(white.indices, plain.indices)
    np.testing.assert_array_equal(white.distances, plain.distances)


def test_whitening_is_given_up_where_it_does_not_pay(rng):
    rough = cx.cover_tree(rng.normal(size=(2400, 3)), kernel=cx.RBF(0.02), inducing=128, jitter=1e-9)
    for screen in ("16 bits", "float32"):
        rough.payload.kept.get(screen, lambda: None)  # as if these were too coarse
    assert rough.search(5).plan.screen == "float64, 112 components float32"
    few = cx.cover_tree(rng.normal(size=(2400, 2)), kernel=cx.RBF(), inducing=128, jitter=1e-7)
    assert few.search(5, queries=np.arange(70)).plan.screen == "float64"


# ---------------------------------------------------------------------------------------------------------------------
# Groups and near rows


@given(st.integers(1, 3000), st.integers(0, 2**32), st.booleans())
def test_groups_hold_each_query_once_and_levels_fit(n, seed, predecessors):
    rng = np.random.default_rng(seed)
    tree = cx.cover_tree(rng.normal(size=(n, 2)), n_threads=1)
    queries = block_of(tree, predecessors)
    groups = group_queries(tree.payload, queries, 36)
    np.testing.assert_array_equal(np.sort(groups.order), np.arange(n))
    for group, level in enumerate(groups.level):
        members = groups.order[groups.ptr[group] : groups.ptr[group + 1]]
        assert 1 <= len(members) <= 36
        limits = queries.limit[members]
        assert limits.max() <= groups.prefix[level]
        if level + 1 < len(groups.prefix):
            assert limits.min() > groups.prefix[level + 1]


def limited_queries(d, count, rng):
    """A view of queries of their own limits, these, all rows as a `Finder` wants them, and which may be found."""
    tree = cx.cover_tree(rng.normal(size=(1000, d)) ** 3, kernel=cx.Matern32())
    queries = make_queries(tree.payload, np.arange(100, 100 + count))
    queries = dataclasses.replace(queries, rank=rng.permutation(1000), limit=rng.integers(400, 900, size=count))
    view = view_of(tree.payload, sharp(tree.payload), queries, k=5)
    coords = tree.payload.coords
    return tree.payload, view, queries, centred(coords, coords.mean(axis=0)), np.flatnonzero(queries.rank < 900)


@pytest.mark.parametrize("d", [1, 3, 6])
@pytest.mark.parametrize("unit", [1, 20, 300, 850])
def test_the_first_ring_holds_the_nearest_of_every_query(d, unit, rng):
    payload, view, queries, near, rows = limited_queries(d, 16, rng)
    coords, rank = payload.coords, queries.rank
    finder = Finder(Blocks(near, rows, rank), 32)
    asked = coords[queries.rows]
    for rings in (1, 0):
        gained, looked, found = finder.search_rings(
            view.screener(queries, 32), 0, near[queries.rows], queries.limit, unit, 1.5, 0.01, 1, rings,
            np.empty(16), np.empty(16, dtype=np.int64),
        )  # fmt: skip
        assert looked == sorted(looked)
        assert looked[-1] == len(found) == len(set(found.tolist()))
        assert len(gained) == len(looked) == (rings or len(looked))
        for query, limit in zip(asked, queries.limit, strict=True):
            allowed = rows[rank[rows] < limit]
            distance = np.sqrt(((coords[allowed] - query) ** 2).sum(axis=1))
            nearest = allowed[np.argsort(distance)[:unit]]
            missed = np.setdiff1d(nearest, found)
            # float32 may swap rows that are all but equally far.
            farthest = np.sort(distance)[: min(unit, len(allowed))][-1]
            assert all(np.linalg.norm(coords[row] - query) >= farthest - 1e-5 for row in missed)


@pytest.mark.parametrize("d", [1, 3, 6])
@pytest.mark.parametrize("unit", [1, 20, 300])
def test_a_query_alone_looks_at_the_nearest_rows_first(d, unit, rng):
    payload, view, queries, near, rows = limited_queries(d, 30, rng)
    coords, rank = payload.coords, queries.rank
    finder, screener = Finder(Blocks(near, rows, rank), 32), view.screener(queries, 32)
    told = screener, 0, near[queries.rows], queries.limit, unit, 1.5
    members = rng.permutation(30)[:20]
    logs = finder.log_rings_alone(*told, 2, members)
    screener.take()
    for member, (gained, looked, found, threshold) in zip(members, logs, strict=True):
        query, limit = coords[queries.rows[member]], queries.limit[member]
        allowed = rows[rank[rows] < limit]
        assert np.isin(found, allowed).all()
        assert len(np.unique(found)) == len(found) == looked[-1] >= min(unit, len(allowed))
        assert len(gained) == len(looked)
        assert gained[-2:] == [0, 0] or looked[-1] == len(allowed)
        distance = np.linalg.norm(coords - query, axis=1)
        # float32 may swap rows that are all but equally far.
        if len(found) < len(allowed):
            assert distance[found].max() <= distance[np.setdiff1d(allowed, found)].min() + 1e-5
        for start, stop in itertools.pairwise(looked):
            assert distance[found[:start]].max() <= distance[found[start:stop]].min(initial=np.inf) + 1e-5
        scaled = np.sqrt(3.0) * np.sort(distance[found[found != queries.exclude[member]]])
        assert threshold == pytest.approx(
            ((1.0 + scaled) * np.exp(-scaled))[4] if len(scaled) >= 5 else -np.inf, abs=1e-6
        )


def test_queries_look_alone_where_few_rows_each_will_do(rng):
    X = rng.uniform(size=(10_000, 4))
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.5), inducing=40)
    for settings in ("fast", cx.FAST.replace(recall_target=0.9)):
        result = tree.search(20, settings=settings, audit=1000)
        assert result.plan.alone
        assert "each query's nearest" in str(result.plan)
        assert "near rows alone, 16 bits" in str(result.plan)
        least = 0.999 if settings == "fast" else 0.9
        assert result.recall >= least
        assert share_found(result.indices, tree.knn(20)) >= least
        # Far fewer than a group would look at together, and those that are left are compared canonically.
        assert result.telemetry.counters["gate_rejects"] < 12 * 20 * len(X)
        again = tree.search(20, settings=settings, n_threads=1)
        np.testing.assert_array_equal(again.indices, result.indices)
        np.testing.assert_array_equal(again.distances, result.distances)
        assert again.plan == result.plan
    rough = cx.cover_tree(rng.normal(size=(10_000, 3)), kernel=cx.RBF(), inducing=100)
    assert not rough.search(20, settings="fast").plan.alone


# ---------------------------------------------------------------------------------------------------------------------
# The fast profile

WORKLOADS = {
    "normal": lambda rng: (rng.normal(size=(10_000, 3)), {"kernel": cx.RBF(), "inducing": 100}),
    "uniform": lambda rng: (rng.uniform(size=(10_000, 5)), {"kernel": cx.Matern32(ARD), "inducing": 60}),
    "clusters": lambda rng: (
        rng.normal(size=(40, 2))[rng.integers(0, 40, 10_000)] + 0.01 * rng.normal(size=(10_000, 2)),
        {"kernel": cx.Matern52(0.2), "inducing": 60},
    ),
    "rough": lambda rng: (rng.uniform(size=(10_000, 10)), {"kernel": cx.Matern12(0.3), "inducing": 50}),
}


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("predecessors", [False, True])
def test_fast_meets_its_target(workload, predecessors):
    X, arguments = WORKLOADS[workload](np.random.default_rng(5))
    tree = cx.cover_tree(X, **arguments)
    result = tree.search(20, predecessor_mode=predecessors, settings="fast", audit=1500)
    assert result.plan.least is not None
    assert result.recall >= 0.999
    assert share_found(result.indices, tree.knn(20, predecessor_mode=predecessors)) >= 0.999
    assert result.recall_interval[0] <= result.recall <= result.recall_interval[1]
    again = tree.search(20, predecessor_mode=predecessors, settings="fast", n_threads=1)
    np.testing.assert_array_equal(again.indices, result.indices)
    np.testing.assert_array_equal(again.distances, result.distances)
    assert again.plan == result.plan


def test_fast_answers_few_queries_exactly(rng):
    tree = cx.cover_tree(rng.normal(size=(2000, 3)), kernel=cx.RBF(), inducing=50)
    result = tree.search(10, queries=np.arange(100), settings="fast")
    np.testing.assert_array_equal(result.indices, tree.knn(10, queries=np.arange(100)))
    assert result.plan.least is None


def test_a_lower_target_looks_at_less(rng):
    tree = cx.cover_tree(rng.normal(size=(10_000, 3)), kernel=cx.Matern32(), inducing=100)
    high = tree.search(20, settings="fast")
    low = tree.search(20, settings=cx.FAST.replace(recall_target=0.9))
    assert low.telemetry.counters["gate_rejects"] < high.telemetry.counters["gate_rejects"]
    assert share_found(low.indices, tree.knn(20)) >= 0.9


def test_plan_tells_what_was_decided(rng):
    tree = cx.cover_tree(rng.normal(size=(4000, 3)), kernel=cx.Matern32(), inducing=30)
    text = str(tree.search(10, settings=cx.FAST.replace(recall_target=0.95)).plan)
    assert text.startswith("scan: ")
    assert "screen: 16 bits" in text
    assert "in widening rings, until " in text
    assert "  sample: when a ring takes 10.00%, recall is " in text
    assert "rows looked at: all" in str(tree.search(10).plan)
    assert str(tree.search(10, settings="parity", queries=[0]).plan) == (
        "search: the settings ask for the tree\nby: search cython"
    )


def test_a_cancelled_scan_ends_soon(rng):
    tree = cx.cover_tree(rng.normal(size=(2000, 3)), kernel=cx.RBF(), inducing=30)
    queries, cancel = block_of(tree), np.ones(1, np.int32)
    short, counters = shorten(tree.payload, single(tree.payload), queries, 5, cancel=cancel)
    assert counters["canonical_rechecks"] < 2000 * 2000 / 10
    assert len(short.run_ptr) == 2001
