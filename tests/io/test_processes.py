"""Trees in many processes: by fork and by spawn, by pool and by joblib; shared memory; caches that start cold."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

import covertreex as cx
from covertreex.io.transport import Origin

N, M, K = 6000, 64, 5
PARTS = [np.arange(start, N, 400) for start in (0, 1, 2, 3)]

# Python 3.12 warns of a fork while the process has threads; ours have ended by then.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(path, answers to `PARTS`) of a tree with 3 MB of factors and its cover tree."""
    X = np.random.default_rng(0).normal(size=(N, 2))
    tree = cx.cover_tree(X, kernel=cx.Matern32((0.3, 0.5)), inducing=M, n_threads=2)
    _ = tree.tree
    path = tmp_path_factory.mktemp("processes") / "tree.safetensors"
    tree.save(path)
    return path, [ask(tree, part)[0] for part in PARTS]


def ask(tree, rows):
    """An answer as bytes, the process that gave it, and whether its factors are mapped from a file."""
    indices, distances = tree.knn(K, queries=rows, return_distances=True, settings="parity", n_threads=1)
    return indices.tobytes() + distances.tobytes(), os.getpid(), is_mapped(tree.payload.factors)


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


_TREE = None


def load_here(path):
    global _TREE
    _TREE = cx.load(path, n_threads=1)


def keep_here(tree):
    global _TREE
    _TREE = tree


def ask_here(rows):
    return ask(_TREE, rows)


def memory_of(path):
    """Kilobytes of this process's mappings of `path`, by the kernel's names."""
    totals = {}
    with open("/proc/self/smaps") as file:
        inside = False
        for line in file:
            first = line.split()[0]
            if not first.endswith(":"):
                inside = line.rstrip().endswith(os.path.basename(path)) and os.path.dirname(path) in line
            elif inside and line.rstrip().endswith("kB"):
                totals[first[:-1]] = totals.get(first[:-1], 0) + int(line.split()[1])
    return totals


def touch_and_measure(path, barrier):
    tree = cx.load(path, n_threads=1)
    barrier.wait()
    total = float(tree.payload.factors.sum())
    ask(tree, PARTS[0])
    barrier.wait()
    memory = memory_of(path)
    barrier.wait()
    return total, memory


def check(results, expected, mapped=True):
    assert [answer for answer, _, _ in results] == expected
    assert all(process != os.getpid() for _, process, _ in results)
    assert {is_map for _, _, is_map in results} == {mapped}


METHODS = ("fork", "spawn")


@pytest.mark.parametrize("method", METHODS)
def test_pool_whose_workers_load(saved, method):
    path, expected = saved
    with multiprocessing.get_context(method).Pool(2, load_here, (str(path),)) as pool:
        check(pool.map(ask_here, PARTS, chunksize=1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_pool_that_is_sent_a_mapped_tree(saved, method):
    path, expected = saved
    tree = cx.load(path)
    tree.knn(K, settings="parity", n_threads=2)  # threads before a fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        check(pool.starmap(ask, [(tree, part) for part in PARTS], chunksize=1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_pool_that_is_sent_a_tree_from_memory(saved, method):
    path, expected = saved
    tree = cx.load(path, mmap=False)
    with multiprocessing.get_context(method).Pool(2, keep_here, (tree,)) as pool:
        check(pool.map(ask_here, PARTS, chunksize=1), expected, mapped=False)


@pytest.mark.parametrize("method", METHODS)
def test_process_pool_executor(saved, method):
    path, expected = saved
    tree = cx.load(path)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        check(list(pool.map(ask, [tree] * len(PARTS), PARTS)), expected)


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "memory"])
@pytest.mark.parametrize("way", ["loky", "multiprocessing", "threading"])
def test_joblib(saved, way, mapped):
    joblib = pytest.importorskip("joblib")
    path, expected = saved
    tree = cx.load(path, mmap=mapped)
    results = joblib.Parallel(2, backend=way)(joblib.delayed(ask)(tree, part) for part in PARTS)
    if way == "threading":
        assert [answer for answer, _, _ in results] == expected
    else:
        check(results, expected)  # joblib makes maps of what was none


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="needs /proc/self/smaps")
def test_processes_share_the_pages_of_a_map(saved):
    path, _ = saved
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        barrier = manager.Barrier(2, timeout=60)
        results = pool.starmap(touch_and_measure, [(str(path), barrier)] * 2, chunksize=1)
    size = N * M * 8 / 1024
    assert results[0][0] == results[1][0]
    for _, memory in results:
        assert memory["Rss"] >= size  # all factors were touched,
        assert memory["Private_Dirty"] + memory["Shared_Dirty"] == 0  # none was copied,
        assert memory["Shared_Clean"] >= 0.9 * size  # and other processes have the same pages,
        assert memory["Pss"] <= 0.6 * memory["Rss"]  # of which this one is charged its share.


# ---------------------------------------------------------------------------------------------------------------------
# How a mapped tree travels


def send(tree):
    return bytes(ForkingPickler.dumps(tree))


def test_a_mapped_tree_is_sent_by_name_and_pickled_whole(saved):
    path, expected = saved
    tree = cx.load(path)
    assert len(send(tree)) < 1000 < os.path.getsize(path) - 5000 < len(pickle.dumps(tree))
    received = pickle.loads(send(tree))
    assert is_mapped(received.payload.factors)
    assert received.n_threads == tree.n_threads
    assert ask(received, PARTS[0])[0] == expected[0]
    assert ask(pickle.loads(pickle.dumps(tree)), PARTS[0])[0] == expected[0]
    assert len(send(cx.load(path, mmap=False))) > os.path.getsize(path) - 5000


def test_a_cover_tree_that_was_built_later_is_sent_along(tmp_path):
    cx.cover_tree(np.random.default_rng(0).normal(size=(500, 2)), kernel=cx.RBF(), inducing=50).save(tmp_path / "tree")
    tree = cx.load(tmp_path / "tree")
    assert pickle.loads(send(tree))._state.built is None
    built = tree.tree
    received = pickle.loads(send(tree))._state.built
    assert received.root == built.root
    np.testing.assert_array_equal(received.children, built.children)


def test_a_mapped_tree_whose_file_was_replaced_is_sent_whole(saved, tmp_path):
    path, expected = saved
    (tmp_path / "tree").write_bytes(path.read_bytes())
    tree = cx.load(tmp_path / "tree")
    sent = send(tree)
    cx.cover_tree([[0.0], [1.0]]).save(tmp_path / "tree")
    received = pickle.loads(send(tree))
    assert ask(received, PARTS[1])[0] == expected[1]

    lost = pickle.loads(sent)  # which was on its way when the file was replaced
    for use in (lambda: lost.knn(K), lambda: lost.payload, lambda: lost.X):
        with pytest.raises(cx.FileFormatError, match="was replaced or removed while a tree mapped from it"):
            use()
    os.unlink(tmp_path / "tree")
    with pytest.raises(cx.FileFormatError, match="was replaced or removed"):
        pickle.loads(sent).search(K)


def test_a_pool_that_receives_a_lost_tree_says_so(saved, tmp_path, monkeypatch):
    """An exception while a task is unpickled would make `multiprocessing.Pool` wait for ever."""
    (tmp_path / "tree").write_bytes(saved[0].read_bytes())
    tree = cx.load(tmp_path / "tree")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        cx.cover_tree([[0.0], [1.0]]).save(tmp_path / "tree")
        monkeypatch.setattr(Origin, "is_there", lambda origin: True)  # here, not in the pool: as if it came later
        with pytest.raises(cx.FileFormatError, match="was replaced or removed"):
            pool.apply_async(ask, (tree, PARTS[0])).get(timeout=60)


# ---------------------------------------------------------------------------------------------------------------------
# Caches of compiled code

PROGRAM = """
import hashlib, sys
import covertreex as cx
tree = cx.load(sys.argv[1], n_threads=1)
sys.stdin.readline()
found = tree.knn(5, queries=range(0, 6000, 400), return_distances=True, settings="exact", backend="numba")
print(hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest())
"""


@pytest.mark.slow
def test_numba_compiles_in_two_processes_at_once(saved, tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(saved[0])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    found = set()
    for _ in ("cold", "warm"):
        both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
        for process in both:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in both:
            out, err = process.communicate(timeout=300)
            assert (process.returncode, err) == (0, "")
            found.add(out)
        assert any(tmp_path.rglob("*.nbi"))
    assert len(found) == 1
