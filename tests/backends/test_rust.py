"""The rust backend against the naive engine, bit for bit and counter for counter."""

import importlib.metadata
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from naive import make_payload, make_queries, naive_scan, naive_search, naive_tree, split_payload

from covertreex import kernels, oracle
from covertreex.backends.telemetry import merge_counters
from covertreex.protocols import MECHANISMS, PROTOCOL_VERSION, QueryBlock, ScanPlan, SearchOutput, Traversal
from covertreex.settings import EXACT, GOLD, PARITY
from covertreex.testing.reference import query_nearness

covertreex_rust = pytest.importorskip("covertreex_rust")
backend = covertreex_rust.backend

KERNELS = {
    "rbf": kernels.RBF(variance=1.3, lengthscale=0.8),
    "matern12": kernels.Matern12(lengthscale=1.1),
    "matern32": kernels.Matern32(variance=0.4, lengthscale=(0.5, 1.0, 2.0)),
    "matern52": kernels.Matern52(lengthscale=0.9),
    "rational_quadratic": kernels.RationalQuadratic(lengthscale=0.7, alpha=0.6),
    "sum": kernels.RBF(lengthscale=0.8, variance=0.7) + kernels.Matern12(lengthscale=0.4),
    "product": kernels.RBF(active_dims=[0, 2]) * kernels.Matern32(lengthscale=1.2, active_dims=[1]),
}
METRICS = ("euclidean", "correlation", *KERNELS)

SETTINGS = {
    "parity": PARITY,
    "gold": GOLD,
    "exact": EXACT,
    "bitset": PARITY.replace(visited="bitset"),
    "tile": PARITY.replace(stream_tile=5),
    "dynamic_tile": PARITY.replace(stream_tile=16, dynamic_tile=True),
    "level_cache": PARITY.replace(level_cache=True),
    "radius_floor": PARITY.replace(radius_floor=0.3),
    "no_stop": PARITY.replace(kth_frontier_stop=False),
    "budget_generous": PARITY.replace(budget_schedule=(8, 16, 64), budget_up=0.5, budget_down=0.0),
    "budget_strict": PARITY.replace(budget_schedule=(8, 9, 10, 48), budget_up=0.9, budget_down=0.1),
    "budget_skips": PARITY.replace(
        budget_schedule=(2, 3, 4, 90), budget_up=1.0, budget_down=0.0, stream_tile=8, level_cache=True
    ),
    "level_cap": PARITY.replace(level_cap=3, stream_tile=4),
    "everything": GOLD.replace(
        stream_tile=8, level_cap=9, budget_schedule=(30, 60), budget_down=0.0, radius_floor=0.05
    ),
}


def points(n, seed=0):
    """Clusters on a grid in one half, so that duplicates and ties are many; anywhere in the other."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 3))
    X[: n // 2] = np.round(X[: n // 2])
    X[n // 4 : n // 3] = X[: n // 3 - n // 4] + 1e-7
    return random.permutation(X)


@cache
def build(metric, n=64):
    """Payload and tree, rows in random order."""
    order = np.random.default_rng(1).permutation(n)
    inducing = None if metric == "correlation" else np.arange(0, n, 5)
    kernel = KERNELS.get(metric, KERNELS["rbf"] if metric == "correlation" else None)
    payload = make_payload(points(n), kernel, None if kernel is None else inducing, order=order)
    return payload, naive_tree(payload)


def blocks(payload):
    """Query blocks that restrict answers in every way there is."""
    n = len(payload)
    some = np.random.default_rng(2).permutation(n)[:20]
    rank = np.random.default_rng(3).permutation(n)
    yield "all", make_queries(payload, some)
    yield "with themselves", make_queries(payload, some, include_self=True)
    yield "predecessors", make_queries(payload, some, predecessor_mode=True)
    yield "predecessors and themselves", make_queries(payload, some, predecessor_mode=True, include_self=True)
    yield "predecessors in another order", make_queries(payload, some, predecessor_mode=True, rank=rank)
    everywhere = make_queries(payload, some)
    limits = np.random.default_rng(4).integers(0, n + 2, size=len(some))
    yield "any limit", replace(everywhere, limit=limits, exclude=np.roll(everywhere.exclude, 1))


def assert_same(call, naive, q, k):
    """Both fill alike: indices, bits of distances, counters."""
    got, expected = SearchOutput.empty(q, k), SearchOutput.empty(q, k)
    call(got)
    naive(expected)
    np.testing.assert_array_equal(got.indices, expected.indices)
    np.testing.assert_array_equal(got.distances.view(np.int64), expected.distances.view(np.int64))
    np.testing.assert_array_equal(got.counters, expected.counters)
    return got


def assert_same_search(tree, payload, queries, k, settings):
    return assert_same(
        lambda out: backend.search(tree, payload, queries, k, settings, out),
        lambda out: naive_search(tree, payload, queries, k, settings, out),
        len(queries), k,
    )  # fmt: skip


def assert_same_scan(payload, plan, k, settings):
    return assert_same(
        lambda out: backend.scan(payload, plan, k, settings, out),
        lambda out: naive_scan(payload, plan, k, settings, out),
        len(plan.queries), k,
    )  # fmt: skip


def make_plan(payload, queries, *, seed=0, lower=True, upper="some", longest=40):
    """Random groups of queries, and random runs for each; bounds, where asked for, hold exactly."""
    random = np.random.default_rng(seed)
    n, q = len(payload), len(queries)
    distances = np.array([query_nearness(payload, queries, i)[0] for i in range(q)])
    group_ptr, run_ptr, runs = [0], [0], []
    while group_ptr[-1] < q:
        group = slice(group_ptr[-1], min(q, group_ptr[-1] + int(random.integers(0, 9))))
        row, mine = 0, []
        while row < n:
            stop = min(n, row + 1 + int(random.integers(longest)))
            nearest = distances[group, row:stop].min(initial=9.0) if lower else 0.0
            mine.append((nearest, row, stop))
            row = stop + int(random.integers(3))
        runs += sorted(mine)
        group_ptr.append(group.stop)
        run_ptr.append(len(runs))
    lowers, starts, stops = zip(*runs, strict=True)
    kth_upper = np.full(q, np.inf)
    if upper == "some":
        kth_upper[::2] = np.sort(distances, axis=1)[::2, min(7, n - 1)]
    return ScanPlan(
        queries, np.array(group_ptr), np.array(run_ptr), np.array(starts), np.array(stops), np.array(lowers), kth_upper
    )


# ---------------------------------------------------------------------------------------------------------------------
# What it is


def test_it_is_a_backend_of_this_protocol():
    assert isinstance(backend, Traversal)
    assert backend.name == "rust"
    assert backend.protocol_version[0] == PROTOCOL_VERSION[0]
    assert backend.protocol_version <= PROTOCOL_VERSION
    assert backend.capabilities.mechanisms == set(MECHANISMS) - {"child_order", "gate", "gemm"}


def test_its_entry_point_is_found():
    (entry,) = (e for e in importlib.metadata.entry_points(group="covertreex.backends") if e.name == "rust")
    assert entry.load() is backend


# ---------------------------------------------------------------------------------------------------------------------
# The search


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_search(metric, settings):
    payload, tree = build(metric)
    for _, queries in blocks(payload):
        assert_same_search(tree, payload, queries, 6, SETTINGS[settings])


def test_settings_do_what_they_are_tested_for():
    """Each mechanism's counter moves in the tests above."""
    payload, tree = build("rbf")
    queries = make_queries(payload, np.arange(len(payload)))
    moved = {
        "level_cache": "level_cache_hits",
        "budget_strict": "stop_budget",
        "budget_skips": "budget_escalations",
        "level_cap": "caps_applied",
        "parity": "stop_kth_frontier",
        "no_stop": "stop_exhausted",
    }
    for name, counter in moved.items():
        out = SearchOutput.empty(len(queries), 6)
        backend.search(tree, payload, queries, 6, SETTINGS[name], out)
        assert merge_counters(out.counters)[counter] > 0, name


@pytest.mark.parametrize("k", [1, 2, 50, 64, 70])
@pytest.mark.parametrize("metric", ["euclidean", "matern32"])
def test_search_for_any_k(metric, k):
    payload, tree = build(metric)
    for _, queries in blocks(payload):
        assert_same_search(tree, payload, queries, k, PARITY)


@pytest.mark.parametrize("metric", METRICS)
def test_external_queries(metric):
    kernel = KERNELS.get(metric, KERNELS["rbf"] if metric == "correlation" else None)
    inducing = None if metric in ("euclidean", "correlation") else np.arange(20)
    payload, queries = split_payload(make_payload(points(80), kernel, inducing), 64)
    tree = naive_tree(payload)
    for settings in (PARITY, GOLD, EXACT):
        assert_same_search(tree, payload, queries, 6, settings)
    mixed = make_queries(payload, np.arange(5))
    mixed = QueryBlock(
        np.concatenate([queries.rows[3:6], mixed.rows]), queries.coords, queries.factors, queries.p,
        np.concatenate([queries.exclude[3:6], mixed.exclude]), np.concatenate([queries.limit[3:6], mixed.limit]),
        queries.rank, False, payload.slack_abs,
    )  # fmt: skip
    assert_same_search(tree, payload, mixed, 6, PARITY)
    assert_same_scan(payload, make_plan(payload, mixed), 6, EXACT)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("metric", ["euclidean", "correlation", "rbf"])
def test_few_points(metric, n):
    kernel = None if metric == "euclidean" else KERNELS["rbf"]
    payload = make_payload(points(n), kernel, [0] if metric == "rbf" else None)
    tree = naive_tree(payload)
    for _, queries in blocks(payload):
        for settings in (PARITY, GOLD, EXACT):
            assert_same_search(tree, payload, queries, n, settings)
        assert_same_scan(payload, make_plan(payload, queries), n, EXACT)


@pytest.mark.parametrize("kernel", [None, KERNELS["rbf"]], ids=["euclidean", "rbf"])
def test_all_points_in_one_place(kernel):
    payload = make_payload(np.ones((30, 2)), kernel, None if kernel is None else [0, 1])
    tree = naive_tree(payload)
    for _, queries in blocks(payload):
        assert_same_search(tree, payload, queries, 4, PARITY)
        assert_same_scan(payload, make_plan(payload, queries), 4, EXACT)


def test_residual_variances_at_their_floor():
    X = points(64)
    payload = make_payload(X, kernels.RBF(lengthscale=4.0), np.arange(0, 64, 2), jitter=1e-10, slack_abs=1e-3)
    assert payload.floored > 0
    tree = naive_tree(payload)
    for _, queries in blocks(payload):
        for settings in (PARITY, GOLD, EXACT):
            assert_same_search(tree, payload, queries, 6, settings)
        assert_same_scan(payload, make_plan(payload, queries), 6, EXACT)


@pytest.mark.parametrize("metric", METRICS)
def test_exact_search_is_the_oracle(metric):
    payload, tree = build(metric)
    queries = make_queries(payload, np.arange(len(payload)), predecessor_mode=True)
    indices, distances = oracle.canonical(payload, queries, 7)
    out = SearchOutput.empty(len(queries), 7)
    backend.search(tree, payload, queries, 7, EXACT, out)
    np.testing.assert_array_equal(out.indices, indices)
    np.testing.assert_array_equal(out.distances.view(np.int64), distances.view(np.int64))


# ---------------------------------------------------------------------------------------------------------------------
# The scan


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_scan(metric, stop):
    payload, _ = build(metric)
    settings = EXACT.replace(kth_frontier_stop=stop)
    for seed, (_, queries) in enumerate(blocks(payload)):
        for lower in (True, False):
            for upper in ("some", "none"):
                plan = make_plan(payload, queries, seed=seed, lower=lower, upper=upper)
                assert_same_scan(payload, plan, 6, settings)


@pytest.mark.parametrize("longest", [1, 3, 64])
@pytest.mark.parametrize("k", [1, 30, 64])
def test_scan_of_long_and_short_runs(k, longest):
    payload, _ = build("matern52")
    for _, queries in blocks(payload):
        assert_same_scan(payload, make_plan(payload, queries, longest=longest), k, EXACT)
        assert_same_scan(payload, make_plan(payload, queries, longest=longest, lower=False), k, EXACT)


def test_scan_without_groups():
    payload, _ = build("euclidean")
    none = make_queries(payload, np.arange(0))
    empty = np.zeros(0, dtype=np.int64)
    plan = ScanPlan(none, np.zeros(1, np.int64), np.zeros(1, np.int64), empty, empty, np.zeros(0), np.zeros(0))
    assert_same_scan(payload, plan, 3, EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# How it behaves


def test_threads_share_one_output():
    payload, tree = build("rbf")
    queries = make_queries(payload, np.arange(len(payload)))
    whole, shared = SearchOutput.empty(len(queries), 5), SearchOutput.empty(len(queries), 5)
    backend.search(tree, payload, queries, 5, PARITY, whole)
    errors = []

    def work(start):
        try:
            for at in range(start, len(queries), 20):
                backend.search(tree, payload, queries.slice(at, at + 5), 5, PARITY, shared.slice(at, at + 5))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 5, 10, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    np.testing.assert_array_equal(shared.indices, whole.indices)
    np.testing.assert_array_equal(shared.counters, whole.counters)


def test_cancel_ends_a_block():
    payload, tree = build("rbf")
    queries = make_queries(payload, np.arange(10))
    out = SearchOutput.empty(10, 3)
    out.cancel[0] = 1
    backend.search(tree, payload, queries, 3, PARITY, out)
    assert not out.counters.any()


def test_cancel_from_another_thread_ends_a_long_scan():
    n = 20_000
    payload = make_payload(np.random.default_rng(0).normal(size=(n, 3)))
    queries = make_queries(payload, np.arange(n))
    ends = np.array([0, n])
    plan = ScanPlan(queries, ends, np.array([0, 1]), ends[:1], ends[1:], np.zeros(1), np.full(n, np.inf))
    out = SearchOutput.empty(n, 50)
    thread = threading.Thread(target=backend.scan, args=(payload, plan, 50, EXACT, out))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()  # and this thread runs: the GIL is not held
    out.cancel[0] = 1
    thread.join(1.0)
    assert not thread.is_alive()


def test_a_row_that_does_not_exist_is_an_exception():
    payload, tree = build("euclidean")
    children = np.full_like(tree.children, 10**6)
    with pytest.raises(RuntimeError, match="points outside"):
        backend.search(
            replace(tree, children=children), payload, make_queries(payload, [3]), 2, PARITY, SearchOutput.empty(1, 2)
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pieces": np.zeros((4, 7))}, r"pieces must have 8 columns"),
        ({"pieces": np.zeros((4, 8))}, r"table_stop must ascend to the number of pieces"),
        ({"factor_table": np.array([0, 7])}, r"factor_table must be numbers of tables"),
        ({"factor_group": np.array([0, -1])}, r"factor_group must be numbers of groups"),
        ({"group_stop": np.array([1, 2])}, r"group_stop must end at the columns of coords"),
        ({"weight": np.ones(4)[::2]}, r"weight must be a C-contiguous"),
    ],
)
def test_tables_that_do_not_fit_are_named(changes, said):
    payload, tree = build("sum")

    class Altered:
        expression = replace(payload.expression, **changes)

        def __getattr__(self, name):
            return getattr(payload, name)

    with pytest.raises(ValueError, match=r"payload\.expression\." + said):
        backend.search(tree, Altered(), make_queries(payload, [3]), 2, PARITY, SearchOutput.empty(1, 2))


def test_arrays_that_do_not_fit_are_named():
    payload, tree = build("rbf")
    queries = make_queries(payload, [3, 4])
    with pytest.raises(ValueError, match=r"out\.indices must have shape"):
        backend.search(tree, payload, queries, 3, PARITY, SearchOutput.empty(2, 2))
    with pytest.raises(ValueError, match=r"queries\.limit must be a C-contiguous"):
        backend.search(tree, payload, replace(queries, limit=np.arange(4)[::2]), 2, PARITY, SearchOutput.empty(2, 2))
    with pytest.raises(ValueError, match=r"queries\.exclude must have one entry per query"):
        backend.search(
            tree, payload, replace(queries, exclude=queries.exclude[:1]), 2, PARITY, SearchOutput.empty(2, 2)
        )
