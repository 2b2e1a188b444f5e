"""The numba backend against the naive one: the same bits and the same counters, whatever the settings."""

import logging
import math
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from covertreex_numba import NumbaBackend, backend, kernels
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from naive import make_payload, make_queries, naive_scan, naive_search, naive_tree, split_payload

from covertreex import oracle
from covertreex.backends.telemetry import COUNTERS
from covertreex.data.tree import Tree
from covertreex.kernels import RBF, Matern12, Matern32, Matern52, RationalQuadratic
from covertreex.protocols import PROTOCOL_VERSION, ScanPlan, SearchOutput, Traversal
from covertreex.settings import EXACT, GOLD, PARITY

CUSTOM = PARITY.replace()
SETTINGS = {
    "parity": PARITY,
    "gold": GOLD,
    "exact": EXACT,
    "no stop rule": CUSTOM.replace(kth_frontier_stop=False),
    "bitset": CUSTOM.replace(visited="bitset"),
    "tile": CUSTOM.replace(stream_tile=5),
    "dynamic tile": CUSTOM.replace(stream_tile=17, dynamic_tile=True),
    "level cache": CUSTOM.replace(level_cache=True),
    "radius floor": CUSTOM.replace(radius_floor=0.3),
    "level cap": CUSTOM.replace(level_cap=7),
    "budget, one rung": CUSTOM.replace(budget_schedule=(20,)),
    "budget, three rungs": CUSTOM.replace(budget_schedule=(20, 60, 120), budget_up=0.2, budget_down=0.1),
    "budget, rungs in one tile": CUSTOM.replace(budget_schedule=tuple(range(1, 60)), stream_tile=64, budget_up=0.05),
    "all": GOLD.replace(level_cap=30, budget_schedule=(32, 64, 96, 128), budget_up=0.3, budget_down=0.01),
}
KERNELS = {
    "rbf": RBF(lengthscale=0.7),
    "matern12": Matern12(lengthscale=0.9, variance=2.5),
    "matern32": Matern32(lengthscale=(0.5, 1.0, 2.0, 0.9, 1.1)),
    "matern52": Matern52(lengthscale=1.3),
    "rational quadratic": RationalQuadratic(lengthscale=0.8, alpha=1.7),
    "sum": RBF(lengthscale=1.1, variance=0.7) + Matern12(lengthscale=0.4),
    "product": RBF(lengthscale=0.9, active_dims=[0, 1, 3]) * Matern32(lengthscale=1.2, active_dims=[2, 4]),
}


def points(n, d, seed=0, duplicates=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X[rng.permutation(n)[:duplicates]] = X[rng.integers(0, n, duplicates)]
    return X


def shuffled(n, seed=1):
    return np.random.default_rng(seed).permutation(n)


def assert_same_search(payload, tree, queries, k, settings):
    expected, got = SearchOutput.empty(len(queries), k), SearchOutput.empty(len(queries), k)
    naive_search(tree, payload, queries, k, settings, expected)
    backend.search(tree, payload, queries, k, settings, got)
    assert_same_output(got, expected)
    if not settings.approximate:
        indices, distances = oracle.canonical(payload, queries, k)
        np.testing.assert_array_equal(got.indices, indices)
        np.testing.assert_array_equal(got.distances, distances)
    return got


def assert_same_scan(payload, plan, k, settings=EXACT):
    q = len(plan.queries)
    expected, got = SearchOutput.empty(q, k), SearchOutput.empty(q, k)
    naive_scan(payload, plan, k, settings, expected)
    backend.scan(payload, plan, k, settings, got)
    assert_same_output(got, expected)
    return got


def assert_same_output(got, expected):
    np.testing.assert_array_equal(got.indices, expected.indices)
    np.testing.assert_array_equal(got.distances, expected.distances)
    for column, name in enumerate(COUNTERS):
        np.testing.assert_array_equal(got.counters[:, column], expected.counters[:, column], err_msg=name)


def total(output, name):
    return int(output.counters[:, COUNTERS.index(name)].sum())


@pytest.fixture(scope="module")
def residual():
    payload = make_payload(points(240, 3, duplicates=20), RBF(), range(0, 240, 6), order=shuffled(240))
    return payload, naive_tree(payload)


@pytest.fixture(scope="module")
def euclidean():
    payload = make_payload(points(240, 2, duplicates=20), order=shuffled(240))
    return payload, naive_tree(payload)


# ---------------------------------------------------------------------------------------------------------------------
# The tree and the arithmetic


def test_naive_trees_keep_the_invariants(residual, euclidean):
    for payload, tree in (residual, euclidean):
        tree.check_invariants(payload)


@pytest.mark.parametrize("m", [0, 16, 32, 48, 512])
def test_both_dots_agree_with_the_oracle(m):
    from covertreex_numba.kernels import dot16, dot16_plain
    from numba import njit

    @njit
    def compare(a, b, fast, plain):
        for i in range(len(a)):
            fast[i], plain[i] = dot16(a, i, b, len(b) - 1 - i), dot16_plain(a, i, b, len(b) - 1 - i)

    a, b = np.random.default_rng(m).normal(size=(2, 40, m))
    fast, plain = np.zeros((2, 40))
    compare(a, b, fast, plain)
    np.testing.assert_array_equal(fast, plain)
    np.testing.assert_array_equal(fast, oracle.dot16(a, b[::-1]))


@pytest.mark.parametrize("code", range(5))
def test_kernel_values_agree_with_the_oracle(code):
    from covertreex_numba.kernels import kernel_value
    from numba import njit

    @njit
    def evaluate(code, variance, alpha, r2, out):
        for i in range(len(r2)):
            out[i] = kernel_value(code, variance, alpha, r2[i])

    rng = np.random.default_rng(code)
    edges = [0.0, 5e-324, 1e-160, 1.0, 707.9, 708.0, 708.1, 1416.0, 1416.1, 501264.0, 501265.0, 1e10, 1e300]
    r2 = np.concatenate([edges, rng.uniform(0, 3, 2000), 10 ** rng.uniform(-12, 6, 2000)])
    for alpha in (0.3, 1.0, 50.0):
        out = np.empty(len(r2))
        evaluate(code, 1.7, alpha, r2, out)
        np.testing.assert_array_equal(out, oracle.kernel_values(code, 1.7, alpha, r2))


# ---------------------------------------------------------------------------------------------------------------------
# The search


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("predecessor_mode", [False, True])
def test_settings(residual, euclidean, name, predecessor_mode):
    for payload, tree in (residual, euclidean):
        queries = make_queries(payload, range(0, 240, 11), predecessor_mode)
        assert_same_search(payload, tree, queries, 6, SETTINGS[name])


def test_settings_are_felt(residual):
    payload, tree = residual
    queries = make_queries(payload, range(0, 240, 7))
    reached = {name: assert_same_search(payload, tree, queries, 6, SETTINGS[name]) for name in SETTINGS}
    parity = reached["parity"]
    assert total(parity, "stop_kth_frontier") > 0
    assert total(reached["no stop rule"], "stop_exhausted") == len(queries)
    assert total(reached["level cache"], "level_cache_hits") > 0
    assert total(reached["level cache"], "distance_evals") < total(parity, "distance_evals")
    assert total(reached["radius floor"], "prunes_bound") < total(parity, "prunes_bound")
    assert total(reached["level cap"], "caps_applied") > 0
    assert total(reached["budget, one rung"], "stop_budget") > 0
    assert total(reached["budget, three rungs"], "budget_escalations") > 0
    assert total(reached["budget, rungs in one tile"], "budget_escalations") > 0


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("m", [0, 30])
def test_kernels(name, m):
    payload = make_payload(points(150, 5, duplicates=10), KERNELS[name], range(m), order=shuffled(150))
    tree = naive_tree(payload)
    for settings in (PARITY, GOLD):
        assert_same_search(payload, tree, make_queries(payload, range(0, 150, 9)), 8, settings)


@pytest.mark.parametrize("settings", [PARITY, GOLD], ids=["parity", "gold"])
@pytest.mark.parametrize("include_self", [False, True])
def test_ranks_of_the_caller(residual, settings, include_self):
    payload, tree = residual
    rank = shuffled(240, seed=5)
    queries = make_queries(payload, range(0, 240, 11), True, include_self, rank=rank)
    assert not queries.prefix
    got = assert_same_search(payload, tree, queries, 6, settings)
    for q, answer in zip(range(0, 240, 11), got.indices, strict=True):
        assert np.all(rank[answer[answer >= 0]] <= rank[q])


@pytest.mark.parametrize("kernel", [None, RBF()], ids=["euclidean", "residual"])
def test_external_queries(kernel):
    everything = make_payload(points(170, 3), kernel, range(0, 150, 5))
    payload, queries = split_payload(everything, 150)
    tree = naive_tree(payload)
    for settings in (PARITY, GOLD):
        assert_same_search(payload, tree, queries, 7, settings)


def test_excluded_rows_need_not_be_the_query(residual):
    payload, tree = residual
    queries = make_queries(payload, range(30))
    queries.exclude[:] = queries.exclude[::-1].copy()
    assert_same_search(payload, tree, queries, 240, GOLD)


def test_many_duplicates():
    X = np.repeat(points(12, 2), 10, axis=0)[shuffled(120, seed=3)]
    for kernel, rows in ((None, None), (Matern32(), [0, 5, 9])):
        payload = make_payload(X, kernel, rows, order=shuffled(120))
        tree = naive_tree(payload)
        tree.check_invariants(payload)
        for settings in (PARITY, GOLD):
            for predecessor_mode in (False, True):
                assert_same_search(payload, tree, make_queries(payload, range(120), predecessor_mode), 14, settings)


def test_residual_variances_of_the_caller():
    X = points(150, 3)
    nugget = make_payload(X, RBF(), range(30), p=np.random.default_rng(0).uniform(1.0, 3.0, 150))
    X[100:] = X[:50]  # inducing points and copies of them: nothing is left of their variance
    floored = make_payload(X, RBF(lengthscale=3.0), range(40), jitter=1e-10, slack_abs=1.0)
    assert floored.floored > 0
    for payload in (nugget, floored):
        tree = naive_tree(payload)
        for settings in (PARITY, GOLD):
            assert_same_search(payload, tree, make_queries(payload, range(150)), 5, settings)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kernel", [None, Matern12()], ids=["euclidean", "residual"])
def test_few_points(n, kernel):
    for X in (points(n, 1), np.zeros((n, 1))):
        payload = make_payload(X, kernel)
        tree = naive_tree(payload)
        for settings in SETTINGS.values():
            for k in (1, n, n + 2):
                assert_same_search(payload, tree, make_queries(payload, range(n)), k, settings)


def test_as_many_neighbours_as_there_are(euclidean):
    payload, tree = euclidean
    got = assert_same_search(payload, tree, make_queries(payload, range(0, 240, 40)), 239, GOLD)
    assert np.all(got.indices >= 0)
    short = assert_same_search(payload, tree, make_queries(payload, [0, 3, 100], True), 239, GOLD)
    assert np.sum(short.indices >= 0) == 103
    assert np.all(np.isinf(short.distances[short.indices < 0]))


def test_no_queries(euclidean):
    payload, tree = euclidean
    assert_same_search(payload, tree, make_queries(payload, []), 3, PARITY)


@pytest.mark.parametrize("settings", [PARITY, GOLD], ids=["plain", "bitset"])
def test_a_node_under_two_parents_is_visited_once(euclidean, settings):
    payload, tree = euclidean
    children = tree.children.copy()
    borrowed = int(children[-1])
    children[0] = borrowed  # a broken tree: the visited set is what guards against it
    broken = Tree(tree.root, tree.parent, tree.level, tree.child_ptr, children, tree.parent_distance, tree.si)
    queries = make_queries(payload, range(20))
    exhaustive = settings.replace(kth_frontier_stop=False, level_cap=2**31)
    expected, got = SearchOutput.empty(20, 239), SearchOutput.empty(20, 239)
    naive_search(broken, payload, queries, 239, exhaustive, expected)
    backend.search(broken, payload, queries, 239, exhaustive, got)
    assert_same_output(got, expected)
    assert total(got, "prunes_visited") == 20


coordinates = st.integers(-3, 3).map(float) | st.floats(-1.0, 1.0, width=16)


@hypothesis_settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_search(data):
    d = data.draw(st.integers(1, 3), "d")
    X = np.array(data.draw(st.lists(st.lists(coordinates, min_size=d, max_size=d), min_size=1, max_size=40), "X"))
    n = len(X)
    kernel = data.draw(st.sampled_from([None, Matern12(), Matern52(), RationalQuadratic(alpha=0.4)]), "kernel")
    settings = data.draw(st.sampled_from(list(SETTINGS.values())), "settings")
    k = data.draw(st.integers(1, n + 1), "k")
    rank = shuffled(n) if data.draw(st.booleans(), "custom rank") else None
    payload = make_payload(X, kernel, range(min(3, n)), order=shuffled(n), slack_abs=1e-6 if kernel else None)
    queries = make_queries(payload, range(n), data.draw(st.booleans(), "predecessors"), rank=rank)
    tree = naive_tree(payload)
    tree.check_invariants(payload)
    assert_same_search(payload, tree, queries, k, settings)


# ---------------------------------------------------------------------------------------------------------------------
# The scan


def make_plan(queries, groups, kth_upper=math.inf):
    """A plan of groups ``(number of queries, [(start, stop, lower), ...])``."""
    runs = [run for _, group_runs in groups for run in group_runs]
    start, stop, lower = zip(*runs, strict=True) if runs else ((), (), ())
    return ScanPlan(
        queries,
        np.cumsum([0] + [size for size, _ in groups]),
        np.cumsum([0] + [len(group_runs) for _, group_runs in groups]),
        np.array(start, dtype=np.int64),
        np.array(stop, dtype=np.int64),
        np.array(lower, dtype=np.float64),
        np.full(len(queries), kth_upper),
    )


GROUPS = [
    (9, [(0, 240, 0.0)]),
    (1, []),
    (0, [(3, 5, 0.0)]),
    (11, [(100, 140, 0.0), (0, 7, 0.1), (7, 7, 0.2), (200, 240, 0.35)]),
    (3, [(5, 6, 0.0), (20, 60, 0.6), (60, 61, 1.0), (70, 200, 30.0)]),
]


@pytest.mark.parametrize("kth_upper", [math.inf, 0.4, 0.0])
@pytest.mark.parametrize("stop_rule", [False, True])
def test_scan(residual, euclidean, kth_upper, stop_rule):
    settings = EXACT.replace(kth_frontier_stop=stop_rule)
    for payload, _ in (residual, euclidean):
        for predecessor_mode in (False, True):
            queries = make_queries(payload, range(0, 240, 10), predecessor_mode)
            plan = make_plan(queries, GROUPS, kth_upper)
            for k in (1, 5, 240):
                got = assert_same_scan(payload, plan, k, settings)
            assert (total(got, "stop_kth_frontier") > 0) == (stop_rule and (k < 240 or kth_upper < math.inf))


def test_scan_of_everything_is_the_oracle(residual):
    payload, tree = residual
    for rank in (None, shuffled(240, seed=2)):
        queries = make_queries(payload, range(240), True, rank=rank)
        got = assert_same_scan(payload, make_plan(queries, [(120, [(0, 240, 0.0)])] * 2), 9)
        indices, distances = oracle.canonical(payload, queries, 9)
        np.testing.assert_array_equal(got.indices, indices)
        np.testing.assert_array_equal(got.distances, distances)
        walked = SearchOutput.empty(240, 9)
        backend.search(tree, payload, queries, 9, GOLD, walked)
        np.testing.assert_array_equal(walked.indices, got.indices)


def test_scan_of_external_queries():
    for kernel in (None, Matern32()):
        payload, queries = split_payload(make_payload(points(170, 3), kernel, range(20)), 150)
        assert_same_scan(payload, make_plan(queries, [(15, [(0, 150, 0.0)]), (5, [(10, 20, 0.0), (30, 90, 0.5)])]), 4)


# ---------------------------------------------------------------------------------------------------------------------
# The backend as a plugin


def test_protocol():
    assert isinstance(backend, NumbaBackend)
    assert isinstance(backend, Traversal)
    assert backend.protocol_version == PROTOCOL_VERSION
    assert backend.capabilities.missing(GOLD) == []
    assert backend.capabilities.missing(SETTINGS["all"].replace(gate=True, gemm=True)) == ["gate", "gemm"]


def test_importing_the_backend_imports_no_numba():
    code = "import sys, covertreex_numba; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_compilation_serves_all(residual):
    from covertreex_numba.scan import scan_block
    from covertreex_numba.search import search_block

    payload, tree = residual
    external = split_payload(make_payload(points(20, 3), RBF(), range(3)), 15)
    frozen = make_queries(payload, range(5))
    for array in (frozen.rows, frozen.exclude, frozen.limit, frozen.rank):
        array.flags.writeable = False
    for settings in SETTINGS.values():
        for queries in (frozen, make_queries(payload, range(5))):
            assert_same_search(payload, tree, queries.slice(1, 4), 2, settings.replace(radius_floor=0))
            assert_same_scan(payload, make_plan(queries, [(5, [(0, 30, 0.0)])]), 2)
    assert_same_search(external[0], naive_tree(external[0]), external[1], 2, GOLD)
    by_tables = make_payload(points(60, 3), RBF() + Matern12(), range(3))
    assert_same_search(by_tables, naive_tree(by_tables), make_queries(by_tables, range(5)), 2, PARITY)
    assert_same_scan(by_tables, make_plan(make_queries(by_tables, range(5)), [(5, [(0, 60, 0.0)])]), 2)
    assert len(search_block.signatures) == len(scan_block.signatures) == 1


def test_cancelled_before_it_began(residual):
    payload, tree = residual
    queries = make_queries(payload, range(100))
    out = SearchOutput.empty(100, 3)
    out.cancel[0] = 1
    backend.search(tree, payload, queries, 3, PARITY, out)
    backend.scan(payload, make_plan(queries, [(100, [(0, 240, 0.0)])]), 3, EXACT, out)
    assert not out.counters.any()


def test_cancelled_from_another_thread(residual):
    payload, tree = residual
    queries = make_queries(payload, np.arange(2_000_000) % 240)
    for work in (
        lambda out: backend.search(tree, payload, queries, 3, PARITY, out),
        lambda out: backend.scan(payload, make_plan(queries, [(100, [(0, 240, 0.0)])] * 20_000), 3, EXACT, out),
    ):
        out = SearchOutput.empty(len(queries), 3)
        worker = threading.Thread(target=work, args=(out,))
        worker.start()
        while not out.counters[0].any():
            assert worker.is_alive()
        out.cancel[0] = 1
        worker.join(timeout=1.0)
        assert not worker.is_alive()
        assert not out.counters[-1].any()


# ---------------------------------------------------------------------------------------------------------------------
# Where compiled kernels are kept


def test_without_a_place_for_the_cache(monkeypatch):
    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels.jit_entry(len) is len


def test_each_state_of_the_sources_has_a_folder_of_its_own(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    found = [kernels.sources_digest(tmp_path)]
    for name, text in (("b.py", "3"), ("a.py", "12"), ("c.py", "")):
        (tmp_path / name).write_text(text)
        found.append(kernels.sources_digest(tmp_path))
    assert len(set(found)) == 4
    assert kernels.sources_digest(tmp_path / "nowhere") is None
    assert found[-1] == kernels.sources_digest(tmp_path)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.config, "CACHE_DIR", "")
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "package" / "kernels.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    name = f"covertreex-numba-{kernels.sources_digest()}"
    assert kernels.cache_folder() == str(tmp_path / "package" / "__pycache__" / name)
    monkeypatch.setattr(kernels, "__file__", "/dev/null/kernels.py")  # a place that cannot be written
    assert kernels.cache_folder() == str(tmp_path / "home" / name)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert kernels.cache_folder() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(kernels.os.path, "expanduser", lambda path: path)  # nobody's home is known
    monkeypatch.chdir(tmp_path)
    assert kernels.cache_folder() is None
    assert not (tmp_path / "~").exists()
    monkeypatch.setattr(kernels.config, "CACHE_DIR", str(tmp_path / "named"))
    assert kernels.cache_folder() == str(tmp_path / "named" / name)
    monkeypatch.setattr(kernels.config, "CACHE_DIR", "/dev/null")  # nowhere else, if the user named a place
    assert kernels.cache_folder() is None
    monkeypatch.setattr(kernels, "sources_digest", lambda: None)
    monkeypatch.setattr(kernels.config, "CACHE_DIR", str(tmp_path))
    assert kernels.cache_folder() is None


def test_the_log_tells_of_compiling(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="covertreex"):
        kernels.tell_of_compiling(str(tmp_path))
        (tmp_path / "kernel.nbi").touch()
        kernels.tell_of_compiling(str(tmp_path))
        kernels.tell_of_compiling(None)
    once, always = (record.getMessage() for record in caplog.records)
    assert once.endswith("for half a minute, once")
    assert always.endswith("each time: there is no folder to keep them")


ALONE = """
import sys
import numpy as np
import covertreex as cx
tree = cx.cover_tree(np.random.default_rng(0).normal(size=(40, 2)), kernel=cx.RBF(), n_threads=1)
try:
    print(tree.knn(1, return_distances=True, settings="exact", backend="numba")[1].sum())
except cx.BackendError as error:
    print(f"BackendError: {error}")
"""


def alone(package, **environment):
    """What a process says that answers with the numba backend in the folder `package`."""
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-W", "error", "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def copy(folder):
    """Copy the sources of the backend, and nothing that was compiled from them, into a folder."""
    source = Path(kernels.__file__).parent
    shutil.copytree(source, folder / "covertreex_numba", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def package(tmp_path):
    """A copy of the backend that may be changed."""
    copy(tmp_path)
    return tmp_path


def test_without_its_compiler_the_backend_says_why(package):
    said = alone(package, NUMBA_DISABLE_JIT="1")
    assert said.startswith(
        "BackendError: the numba backend needs Numba's compiler, which NUMBA_DISABLE_JIT=1 turns off;"
    )


def test_kernels_that_cannot_be_loaded_are_said_to_be(package):
    (package / "covertreex_numba" / "scan.py").write_text("raise ImportError('Numba needs NumPy 2.2 or less')\n")
    said = alone(package)
    assert said.startswith(
        "BackendError: the numba backend cannot load its kernels: ImportError: Numba needs NumPy 2.2"
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with a copy of the backend that has compiled what it answers with, and that answer."""
    folder = tmp_path_factory.mktemp("compiled")
    copy(folder)
    return folder, alone(folder)


@pytest.mark.slow
def test_what_was_compiled_from_other_sources_never_answers(compiled):
    """The entry's own file stays as it is, date and all: Numba would take what it compiled before."""
    package, before = compiled
    assert list(package.rglob("*.nbi"))
    assert alone(package) == before
    changed = package / "covertreex_numba" / "kernels.py"
    text = changed.read_text()
    assert "exp_neg(-0.5 * r2)" in text
    changed.write_text(text.replace("exp_neg(-0.5 * r2)", "exp_neg(-0.7 * r2)"))
    assert alone(package) != before


@pytest.mark.slow
def test_without_a_home_or_a_place_to_write_the_backend_answers(compiled, package):
    (package / "covertreex_numba" / "__pycache__").write_text("in the way of a folder")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "NUMBA_CACHE_DIR": ""}
    assert alone(package, **nowhere) == compiled[1]
    assert not list(package.rglob("*.nbi"))
