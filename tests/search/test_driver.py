"""The query driver: what it cuts, shares and merges changes nothing; failures and Ctrl-C get through."""

import gc
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import numpy as np
import pytest

import covertreex as cx
from covertreex import search
from covertreex.backends.telemetry import COUNTERS
from covertreex.base import tuning
from covertreex.data import questions as asking
from covertreex.protocols import PROTOCOL_VERSION, Capabilities
from covertreex.search.tree_walk import dynamic_blocks
from covertreex_bench import workloads

N = 400


@pytest.fixture(scope="module")
def tree():
    X = np.random.default_rng(4).normal(size=(N, 3))
    X[::10] = X[1::10]
    return cx.cover_tree(X, kernel=cx.Matern32(), inducing=20)


def block_of(tree, rows=None, predecessor_mode=False):
    rows = np.arange(N) if rows is None else np.asarray(rows, dtype=np.int64)
    return asking.block_of(tree._state, asking.check(tree._state, rows, predecessor_mode=predecessor_mode), 1)


def run(tree, backend, settings, queries=None, k=5, n_threads=2):
    queries = block_of(tree) if queries is None else queries
    context = search.SearchContext(tree.payload, k, settings, backend, n_threads)
    return search.nearest(context, queries, lambda: tree.tree)


def assert_equal_answers(found, expected):
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.telemetry.counters == expected.telemetry.counters


PROFILES = pytest.mark.parametrize("settings", [cx.PARITY, cx.EXACT], ids=["search", "scan"])


# ---------------------------------------------------------------------------------------------------------------------
# R1, R2: blocks, threads and order have no influence


@PROFILES
@pytest.mark.parametrize("predecessors", [False, True])
def test_threads(tree, backend, settings, predecessors):
    queries = block_of(tree, predecessor_mode=predecessors)
    one, two, many = (run(tree, cx.get_backend(backend), settings, queries, n_threads=t) for t in (1, 2, 5))
    assert_equal_answers(two, one)
    assert_equal_answers(many, one)
    assert (one.telemetry.n_threads, two.telemetry.n_threads) == (1, 2)


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_block_sizes_of_a_search(tree, backend, size, monkeypatch):
    expected = run(tree, cx.get_backend(backend), cx.PARITY)
    monkeypatch.setattr(tuning, "BLOCK", size)
    found = run(tree, cx.get_backend(backend), cx.PARITY)
    assert_equal_answers(found, expected)
    full, rest = divmod(N, size)
    assert found.telemetry.block_sizes == (size,) * full + ((rest,) if rest else ())


@pytest.mark.parametrize("size", [1, 2**12, 2**14, 2**30])
@pytest.mark.parametrize("predecessors", [False, True])
def test_group_sizes_of_a_scan(tree, backend, size, predecessors, monkeypatch):
    queries = block_of(tree, predecessor_mode=predecessors)
    expected = run(tree, cx.get_backend(backend), cx.EXACT, queries)
    monkeypatch.setattr(tuning, "GROUP_BYTES", size)
    found = run(tree, cx.get_backend(backend), cx.EXACT, queries)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@PROFILES
def test_order_of_queries(tree, backend, settings, rng):
    expected = run(tree, cx.get_backend(backend), settings)
    order = rng.permutation(N)
    found = run(tree, cx.get_backend(backend), settings, block_of(tree, order))
    np.testing.assert_array_equal(found.indices, expected.indices[order])
    np.testing.assert_array_equal(found.distances, expected.distances[order])
    if settings is cx.PARITY:
        assert found.telemetry.counters == expected.telemetry.counters


@pytest.mark.parametrize("settings", [cx.EXACT, cx.FAST], ids=["exact", "fast"])
def test_few_queries_of_few_rows_are_answered_without_a_screen(tree, settings):
    together = run(tree, cx.get_backend("cython"), settings)
    for count, screened in ((1, False), (4, False), (5, True)):
        rows = np.arange(count) * 37
        found = run(tree, cx.get_backend("cython"), settings, block_of(tree, rows))
        assert (found.plan.screen != "none") == screened
        np.testing.assert_array_equal(found.indices, together.indices[rows])
        np.testing.assert_array_equal(found.distances, together.distances[rows])


@PROFILES
@pytest.mark.parametrize("predecessors", [False, True])
def test_the_same_query_many_times(tree, backend, settings, predecessors):
    rows = [7, 7, 350, 7, 0, 350, 7] * 20
    expected = run(tree, cx.get_backend(backend), settings, block_of(tree, None, predecessors))
    found = run(tree, cx.get_backend(backend), settings, block_of(tree, rows, predecessors))
    np.testing.assert_array_equal(found.indices, expected.indices[rows])
    np.testing.assert_array_equal(found.distances, expected.distances[rows])


@PROFILES
def test_no_queries(tree, backend, settings):
    answer = run(tree, cx.get_backend(backend), settings, block_of(tree, []))
    assert answer.indices.shape == answer.distances.shape == (0, 5)
    assert set(answer.telemetry.counters.values()) == {0}
    assert answer.telemetry.block_sizes == ()


def test_no_queries_of_a_tree(tree):
    indices, distances = tree.knn(3, queries=[], return_distances=True)
    assert indices.shape == distances.shape == (0, 3)
    assert (indices.dtype, distances.dtype) == (np.int64, np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Dynamic query blocks


@pytest.mark.parametrize("active", [0, 1, 7, 8, 9, 100, 1024, 5000])
def test_dynamic_blocks(active):
    sizes = dynamic_blocks(active)
    assert sum(sizes) == active
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= tuning.DYNAMIC_LARGEST for size in sizes)
    assert all(size >= tuning.DYNAMIC_SMALLEST for size in sizes[:-1])


def test_gold_sizes_its_blocks_by_the_queries_still_active(tree):
    result = tree.search(3, settings="gold", n_threads=1)
    sizes = result.telemetry.block_sizes
    assert sizes == tuple(dynamic_blocks(N))
    assert len(set(sizes)) > 3
    assert sizes[0] == N // 8
    parity = tree.search(3, settings="parity", backend="numba", n_threads=1)
    assert len(set(parity.telemetry.block_sizes[:-1])) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Which verb


def test_verbs(tree):
    assert tree.search(1, queries=[0], settings="parity").plan.verb == "search"
    assert tree.search(1, queries=[0], settings="gold").plan.verb == "search"
    assert tree.search(1, settings="exact").plan.verb == "scan"
    assert cx.cover_tree(tree.X).search(1, settings="exact").plan.verb == "scan"
    assert cx.cover_tree(tree.X).search(1, settings="parity").plan.verb == "search"


# ---------------------------------------------------------------------------------------------------------------------
# Backends that misbehave


class Stub:
    """A backend that answers nothing; tests give it something to do."""

    name = "stub"
    protocol_version = PROTOCOL_VERSION
    capabilities = Capabilities()

    def __init__(self, action):
        self.action = action

    def search(self, tree, payload, queries, k, settings, out):
        self.action(queries, out)

    def scan(self, payload, plan, k, settings, out):
        self.action(plan.queries, out)


def stop(out):
    out.counters[:, COUNTERS.index("stop_exhausted")] = 1


@PROFILES
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("error", [ZeroDivisionError("within"), MemoryError(), cx.BackendError("no")], ids=repr)
def test_exceptions_get_through(tree, settings, n_threads, error):
    cancelled = []

    def action(queries, out):
        cancelled.append(out.cancel)
        stop(out)
        if N // 2 in queries.rows:
            raise error

    with pytest.raises(type(error)) as caught:
        run(tree, Stub(action), settings, n_threads=n_threads)
    assert caught.value is error
    assert all(cancel[0] == 1 for cancel in cancelled), "the blocks that still run are to stop"


def test_no_block_starts_after_a_failure(tree, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK", 1)
    begun = []

    def action(queries, out):
        begun.append(len(queries))
        time.sleep(0.01)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run(tree, Stub(action), cx.PARITY, n_threads=2)
    assert len(begun) < 20


@PROFILES
def test_no_stop_reason_is_an_error(tree, settings):
    def forgetful(queries, out):
        stop(out)
        out.counters[-1] = 0

    with pytest.raises(cx.BackendError, match=r"backend 'stub' gave \d+ of 400 queries no stop reason"):
        run(tree, Stub(forgetful), settings)


@PROFILES
def test_two_stop_reasons_are_an_error(tree, settings):
    def undecided(queries, out):
        stop(out)
        out.counters[:, COUNTERS.index("stop_budget")] = 1

    with pytest.raises(cx.BackendError, match="gave 400 of 400 queries no stop reason, or more than one"):
        run(tree, Stub(undecided), settings)


@PROFILES
def test_one_query_with_two_stops_and_one_with_none_are_an_error(tree, settings):
    def unfair(queries, out):
        stop(out)
        if len(queries) > 1:
            out.counters[0] *= 2
            out.counters[1] = 0

    with pytest.raises(cx.BackendError, match="stop reason"):
        run(tree, Stub(unfair), settings)


@PROFILES
def test_backends_see_arrays_they_cannot_write(tree, settings):
    def action(queries, out):
        stop(out)
        for name in ("rows", "coords", "factors", "p", "exclude", "limit", "rank"):
            assert not getattr(queries, name).flags.writeable, name

    run(tree, Stub(action), settings)


# ---------------------------------------------------------------------------------------------------------------------
# Ctrl-C


@PROFILES
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.usefixtures("interruptible")
def test_interrupt_sets_cancel(tree, settings, n_threads):
    """The kernels run on other threads, and are told."""
    main, told = threading.main_thread().ident, []

    def action(queries, out):
        assert threading.get_ident() != main
        signal.pthread_kill(main, signal.SIGINT)
        deadline = time.monotonic() + 10.0
        while not out.cancel[0] and time.monotonic() < deadline:
            time.sleep(0.001)
        told.append(int(out.cancel[0]))

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tree, Stub(action), settings, n_threads=n_threads)
    while not told and time.monotonic() - begin < 1.0:
        time.sleep(0.001)
    assert told
    assert all(told)
    assert time.monotonic() - begin < 1.0


LONG = """
import signal, sys
import numpy as np
import covertreex as cx

signal.signal(signal.SIGINT, signal.default_int_handler)
what, backend, n_threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
settings = {"scan": "exact", "search": "parity", "build": "parity", "factors": "exact"}[what]
rng = np.random.default_rng(0)
small = cx.cover_tree(rng.normal(size=(50, 3)), kernel=cx.Matern12(), inducing=5)
small.knn(3, settings=settings, backend=backend)  # compiles

# Rough and far apart: nothing is pruned, so a query costs n evaluations.
X = rng.normal(size=({"scan": 150_000, "search": 12_000, "build": 60_000, "factors": 60_000}[what], 8))
kernel = cx.Matern12(0.1)
if what != "factors":
    tree = cx.cover_tree(X, kernel=kernel, n_threads=n_threads)
if what == "search":
    # Of another metric: nonsense, but quick to build, and as slow to search.
    tree._state.kept.put("tree", cx.cover_tree(X).tree)
print("ready", flush=True)
try:
    if what == "factors":
        cx.cover_tree(X, kernel=kernel, inducing=1000, n_threads=n_threads)
    else:
        tree.knn(10, settings=settings, backend=backend, n_threads=n_threads)
except KeyboardInterrupt:
    print("interrupted", flush=True)
else:
    print("too soon", flush=True)
"""


def seconds_to_interrupt(arguments, cwd):
    """How long a process that works on something long takes to hear Ctrl-C."""
    command = [sys.executable, "-c", LONG, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(0.7)
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n", process.stderr.read()
            return time.monotonic() - begin
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("what", ["scan", "search", "build", "factors"])
def test_interrupt_returns_within_a_second(what, backend, n_threads, tmp_path):
    """Best of three: a busy machine can only make it slower."""
    if what in ("build", "factors") and backend != "cython":
        pytest.skip("no backend has a part in it")
    arguments = (what, backend, str(n_threads))
    assert any(seconds_to_interrupt(arguments, tmp_path) < 1.0 for _ in range(3))


@pytest.mark.parametrize("predecessor_mode", [False, True])
@pytest.mark.parametrize("profile", ["exact", "fast"])
@pytest.mark.parametrize("workload", [workloads.gold(8192, k=30, inducing=128), workloads.vif100k(8192)])
def test_memory_beside_the_payload_is_what_is_documented(workload, profile, predecessor_mode):
    """docs/architecture.md, "Memory beside the payload"; what C allocates, short lists alone, is not seen here."""
    tree = workload.tree()
    (n, d), payload = tree.X.shape, tree.payload.nbytes
    bound = 0.5 * payload + 32 * n * workload.k + 8 * (d + 1) * n + 8e6
    if profile == "exact":
        bound += payload  # whitened factors, while they are made
    workload.tree().search(workload.k, settings=profile)  # what is imported and kept at first is no part of it
    tracemalloc.start()
    tree.search(workload.k, predecessor_mode=predecessor_mode, settings=profile, n_threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * payload < peak < bound


EASY = cx.FAST.replace(recall_target=0.99)
ASKED = {
    "rings": lambda tree: tree.search(10, settings=EASY),
    "from answer": lambda tree: tree.search(10, settings=EASY, start=tree.search(10, settings=EASY)),
    "sweep": lambda tree: tree.search(10, settings="exact"),
    "halos": lambda tree: (tree.prepare(5), tree.search(5, np.arange(200)))[1],
    "tree": lambda tree: tree.search(5, [0, 1], settings="parity"),
    "radius": lambda tree: tree.radius(0.5, [0, 1]),
}


METRICS = {
    "euclidean": {},
    "correlation": {"kernel": cx.Matern32(lengthscale=0.5)},
    "residual": {"kernel": cx.Matern32(lengthscale=0.5), "inducing": 64},
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_few_queries_are_answered_without_threads_and_the_same(metric, rng, monkeypatch):
    """And so are regressions of few points, their gradient, and predictions."""
    X, y = rng.uniform(size=(150, 2)), rng.normal(size=150)

    def answers(n_threads):
        tree = cx.cover_tree(X, **metric, n_threads=n_threads)
        for found in (tree.search(5, predecessor_mode=True), tree.search(5, X[:70] + 0.01), tree.radius(0.3)):
            yield from (found.indices, found.distances, list(found.telemetry.counters.values()))
        if metric:
            model = cx.vecchia.Vecchia(tree, k=5, noise=0.1)
            yield from model.log_likelihood(y, grad=True)[1].items()
            yield from model.predict(X[:20] + 0.01, y)

    threaded = list(answers(2))
    monkeypatch.setattr(tuning, "BRIEF", 2**24)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread was started"))
    for one, other in zip(answers(2), threaded, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_data_are_freed_when_nobody_has_them(ask, metric, monkeypatch):
    """At once, not when somebody looks for circles of objects: factors and screens are most of a process's memory."""
    monkeypatch.setattr(tuning, "AGAIN_EIGHT", 0.0)  # screens of eight bits too
    tree = cx.cover_tree(np.random.default_rng(0).uniform(size=(7000, 2)), **metric)
    payload, arrays = weakref.ref(tree.payload), [weakref.ref(tree.payload.coords), weakref.ref(tree.payload.factors)]
    gc.collect()
    gc.disable()
    try:
        ask(tree)
        del tree
        assert payload() is None
        assert [array() for array in arrays] == [None, None]
    finally:
        gc.enable()
