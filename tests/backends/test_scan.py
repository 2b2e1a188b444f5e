"""`scan` against the naive one: any plan, equal bits and equal counters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from naive import make_payload, make_queries, naive_scan, split_payload

import covertreex as cx
from covertreex import oracle
from covertreex.backends.telemetry import COUNTERS
from covertreex.protocols import ScanPlan, SearchOutput

#: Rows of a case.
N = 150

NO_STOP = cx.EXACT.replace(kth_frontier_stop=False)


def make_case(metric, n=N, seed=5):
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(n, 3)), 1)
    kernel = {"euclidean": None, "correlation": cx.Matern32(0.8), "matern12": cx.Matern12(0.8)}.get(metric, cx.RBF(1.2))
    inducing = None if metric in ("euclidean", "correlation") else range(0, n, 9)
    return make_payload(X, kernel, inducing, jitter=1e-5, order=rng.permutation(n))


@pytest.fixture(scope="module", params=["euclidean", "correlation", "residual", "matern12"])
def payload(request):
    return make_case(request.param)


def plan_of(queries, groups, runs, run_lower=None, kth_upper=None):
    """`groups`: sizes; `runs`: per group a list of (start, stop)."""
    flat = [run for group in runs for run in group]
    return ScanPlan(
        queries,
        np.cumsum([0, *groups]),
        np.cumsum([0, *map(len, runs)]),
        np.array([start for start, _ in flat], dtype=np.int64),
        np.array([stop for _, stop in flat], dtype=np.int64),
        np.zeros(len(flat)) if run_lower is None else np.concatenate(run_lower).astype(float),
        np.full(len(queries), np.inf) if kth_upper is None else kth_upper,
    )


def whole_range(payload, queries):
    """One group of all queries, compared with every row."""
    return plan_of(queries, [len(queries)], [[(0, len(payload))]])


def run_both(backend, payload, plan, k, settings=cx.EXACT):
    """Scan with the backend and with the naive engine, compare, and return what was found."""
    found, expected = (SearchOutput.empty(len(plan.queries), k) for _ in range(2))
    cx.get_backend(backend).scan(payload, plan, k, settings, found)
    naive_scan(payload, plan, k, settings, expected)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    for column, name in enumerate(COUNTERS):
        np.testing.assert_array_equal(found.counters[:, column], expected.counters[:, column], err_msg=name)
    return found


def counter(out, name):
    return out.counters[:, COUNTERS.index(name)]


@pytest.mark.parametrize("k", [1, 9, N])
@pytest.mark.parametrize("predecessors", [False, True])
@pytest.mark.parametrize("include_self", [False, True])
def test_whole_range_is_exact(payload, backend, k, predecessors, include_self):
    queries = make_queries(payload, np.arange(0, N, 6), predecessors, include_self)
    out = run_both(backend, payload, whole_range(payload, queries), k)
    indices, distances = oracle.canonical(payload, queries, k)
    np.testing.assert_array_equal(out.indices, indices)
    np.testing.assert_array_equal(out.distances, distances)
    assert counter(out, "stop_exhausted").all()


@pytest.mark.parametrize("q", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 129])
def test_any_number_of_queries(payload, backend, q, rng):
    queries = make_queries(payload, rng.integers(0, N, q))
    run_both(backend, payload, whole_range(payload, queries), 4)


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "residual"])
def test_external_queries(metric, backend):
    rng = np.random.default_rng(2)
    kernel = {"euclidean": None, "correlation": cx.Matern32(0.8)}.get(metric, cx.RBF(1.2))
    inducing = range(0, 120, 11) if metric == "residual" else None
    payload, queries = split_payload(make_payload(rng.normal(size=(150, 3)), kernel, inducing), 120)
    out = run_both(backend, payload, whole_range(payload, queries), 5)
    np.testing.assert_array_equal(out.distances, oracle.canonical(payload, queries, 5)[1])


def test_order_of_the_callers(payload, backend, rng):
    queries = make_queries(payload, np.arange(0, N, 6), True, rank=rng.permutation(N))
    assert not queries.prefix
    run_both(backend, payload, whole_range(payload, queries), 5)


@pytest.mark.parametrize("stop", [True, False])
def test_stop_by_lower_bounds(payload, backend, stop):
    """Bounds that are true: for each query its rows sorted by distance, one run each."""
    rows = [payload.row[i] for i in (3, 50, 140)]
    runs, lowers = [], []
    for row in rows:
        D = oracle.canonical_distances(payload, row, np.arange(N))
        order = np.argsort(D, kind="stable")
        runs.append([(r, r + 1) for r in order])
        lowers.append(D[order])
    queries = make_queries(payload, [3, 50, 140])
    plan = plan_of(queries, [1, 1, 1], runs, lowers)
    out = run_both(backend, payload, plan, 4, cx.EXACT if stop else NO_STOP)
    np.testing.assert_array_equal(out.indices, oracle.canonical(payload, queries, 4)[0])
    assert counter(out, "stop_kth_frontier" if stop else "stop_exhausted").sum() >= (1 if stop else 3)
    assert (counter(out, "distance_evals").sum() < 3 * (N - 1)) == stop


def test_kth_upper_bounds_what_is_returned(payload, backend):
    queries = make_queries(payload, np.arange(0, N, 6))
    _, distances = oracle.canonical(payload, queries, 8)
    at_the_fifth = run_both(
        backend, payload, plan_of(queries, [len(queries)], [[(0, N)]], kth_upper=distances[:, 4].copy()), 8
    )
    assert np.all(at_the_fifth.distances[:, :5] == distances[:, :5]), "a row at the bound itself is to be returned"
    returned = at_the_fifth.indices >= 0
    assert np.all(at_the_fifth.distances[returned] <= np.repeat(distances[:, 4], 8).reshape(-1, 8)[returned])


def test_groups_without_queries_runs_or_rows(payload, backend):
    queries = make_queries(payload, np.arange(10))
    plan = plan_of(queries, [0, 3, 0, 7], [[(0, 9)], [], [], [(5, 5), (40, 80), (100, 100)]])
    out = run_both(backend, payload, plan, 3)
    assert (out.indices[:3] == -1).all()
    assert (out.indices[3:] >= 0).all()


def test_no_queries(payload, backend):
    run_both(backend, payload, whole_range(payload, make_queries(payload, [])), 3)


def test_long_runs(backend):
    """More rows than any panel or tile."""
    payload = make_case("residual", n=1300)
    queries = make_queries(payload, [0, 700, 1299], True)
    out = run_both(backend, payload, whole_range(payload, queries), 7)
    assert counter(out, "distance_evals").tolist() == [0, 700, 1299]


@hypothesis_settings(max_examples=60)
@given(data=st.data())
def test_any_plan(backend, data):
    n = 60
    payload = make_case(data.draw(st.sampled_from(["euclidean", "residual"])), n=n)
    asked = data.draw(st.lists(st.integers(0, n - 1), max_size=30))
    queries = make_queries(payload, asked, data.draw(st.booleans()), data.draw(st.booleans()))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(asked)), max_size=3)))
    groups = np.diff([0, *cuts, len(asked)])
    runs, lowers = [], []
    for _ in groups:
        edges = sorted(data.draw(st.lists(st.integers(0, n), max_size=8)))
        runs.append(list(zip(edges[::2], edges[1::2], strict=False)))
        some = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 2.0]), min_size=len(runs[-1]), max_size=len(runs[-1]))
        lowers.append(np.array(sorted(data.draw(some))))
    upper = data.draw(st.lists(st.sampled_from([np.inf, 1.0, 0.5, 0.0]), min_size=len(asked), max_size=len(asked)))
    plan = plan_of(queries, groups, runs, lowers, np.array(upper, dtype=float))
    settings = data.draw(st.sampled_from([cx.EXACT, NO_STOP]))
    run_both(backend, payload, plan, data.draw(st.integers(1, 9)), settings)


def test_a_cancelled_scan_returns_at_once(payload, backend):
    queries, out = make_queries(payload, np.arange(N)), SearchOutput.empty(N, 3)
    out.cancel[0] = 1
    cx.get_backend(backend).scan(payload, whole_range(payload, queries), 3, cx.EXACT, out)
    assert counter(out, "distance_evals").sum() <= N * N / 2
