"""Threads: answers while Python ends, Ctrl-C, how many by default, and BLAS held to one."""

import _thread
import contextlib
import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

import covertreex as cx
from covertreex.base import parallel

# ---------------------------------------------------------------------------------------------------------------------
# run


@pytest.mark.parametrize("n_threads", [1, 2, 9])
@pytest.mark.parametrize("somewhere_else", [False, True])
def test_results_come_in_order(n_threads, somewhere_else):
    seen = []

    def ask():
        return parallel.run([lambda i=i: i * i for i in range(50)], n_threads, on_done=seen.append)

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(ask).result() if somewhere_else else ask()
    assert found == seen == [i * i for i in range(50)]
    assert parallel.run([], n_threads) == []


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_heard_that_wakes_nobody():
    """A signal that comes between a look for signals and waiting is noted, and wakes no thread: so does this one."""
    cancel = np.zeros(1, dtype=np.int32)

    def task():
        _thread.interrupt_main()
        deadline = time.monotonic() + 10.0
        while not cancel[0] and time.monotonic() < deadline:
            time.sleep(0.001)

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        parallel.run([task], 1, cancel)
    assert time.monotonic() - begin < 5.0


def test_one_thread_of_a_thread_is_itself():
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: (parallel.run([threading.get_ident] * 3, 1), threading.get_ident())).result()
    assert found[0] == [found[1]] * 3


def test_the_main_thread_only_waits():
    """So that it hears Ctrl-C while a kernel has the other."""
    assert threading.get_ident() not in parallel.run([threading.get_ident] * 3, 1)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_failure_cancels_what_has_not_started(n_threads):
    cancel, started = np.zeros(1, dtype=np.int32), []

    def task(i):
        started.append(i)
        if i == 3:
            raise ZeroDivisionError
        while i > 3 and not cancel[0]:
            time.sleep(0.001)

    with pytest.raises(ZeroDivisionError):
        parallel.run([lambda i=i: task(i) for i in range(1000)], n_threads, cancel)
    assert cancel[0] == 1
    assert 3 < len(started) < 1000 or started == [0, 1, 2, 3]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("somewhere_else", [False, True])
def test_what_was_found_before_a_failure_is_let_go_at_once(n_threads, somewhere_else):
    """There may have been too much of it: no ring of references keeps it until it is collected."""
    kept = []

    def task(i):
        if i == 5:
            raise ZeroDivisionError
        found = np.zeros(3)
        kept.append(weakref.ref(found))
        return found

    def ask():
        with contextlib.suppress(ZeroDivisionError):
            parallel.run([lambda i=i: task(i) for i in range(9)], n_threads)

    gc.disable()
    try:
        thread = threading.Thread(target=ask)
        if somewhere_else:
            thread.start()
            thread.join()
        else:
            ask()
        deadline = time.monotonic() + 10.0
        while any(one() is not None for one in kept) and time.monotonic() < deadline:
            time.sleep(0.001)  # until the threads have ended
        assert [one() is None for one in kept] == [True] * len(kept)
        assert len(kept) >= 5
    finally:
        gc.enable()


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_more_threads_can_be_started_those_that_are_do_the_work(allowed, monkeypatch):
    started, start = [], threading.Thread.start

    def refusing(thread):
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    assert parallel.run([lambda i=i: i for i in range(9)], 4) == list(range(9))
    started.clear()
    with pytest.raises(ZeroDivisionError):
        parallel.run([lambda: 1 // 0, *[lambda: 1] * 9], 4)


ENDING = """
import atexit, sys, threading, time
import numpy as np
import covertreex as cx
from covertreex.base import tuning

tuning.BRIEF = 0
when, n_threads, warm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
X = np.random.default_rng(0).normal(size=(600, 2))
trees = [cx.cover_tree(X), cx.cover_tree(X, kernel=cx.RBF(), inducing=20)]
truth = [tree.oracle().knn(3)[0] for tree in trees]

def ask():
    for tree, expected in zip(trees, truth):
        for settings in ("exact", "parity"):
            assert np.array_equal(tree.knn(3, settings=settings, n_threads=n_threads), expected)
        tree.radius(0.1, n_threads=n_threads)
    print("answered", flush=True)

def later():
    threading.main_thread().join()
    time.sleep(0.05)
    ask()

if warm:
    ask()
if when == "atexit":
    atexit.register(ask)
else:
    threading.Thread(target=later).start()
"""


@pytest.mark.parametrize("warm", [0, 1])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("when", ["atexit", "thread"])
def test_searches_answer_while_python_ends(when, n_threads, warm):
    """At exit, and in a thread that goes on after the main thread ended; the first search of the process, or not."""
    command = [sys.executable, "-c", ENDING, when, str(n_threads), str(warm)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "answered\n" * (1 + warm)


# ---------------------------------------------------------------------------------------------------------------------
# BLAS


def blas_threads():
    """Of every BLAS that is loaded."""
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads():
    """BLAS at two threads, whatever the machine has; the number is checked, for a BLAS may have fewer."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        if set(blas_threads()) != {2}:
            pytest.skip(f"this BLAS cannot be set to two threads: {blas_threads()}")
        yield


@pytest.mark.usefixtures("two_blas_threads")
def test_the_last_one_out_restores_the_threads_of_blas():
    first, second = parallel.one_blas_thread(), parallel.one_blas_thread()
    first.__enter__()
    second.__enter__()
    assert set(blas_threads()) == {1}
    first.__exit__(None, None, None)  # not the last in first out, as threads come and go
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert set(blas_threads()) == {2}
    with pytest.raises(ZeroDivisionError), parallel.one_blas_thread():
        raise ZeroDivisionError
    assert set(blas_threads()) == {2}


@pytest.mark.usefixtures("two_blas_threads")
def test_a_child_is_not_left_at_one_thread_of_blas():
    """Forked while another thread holds the limit, which nobody in the child will ever give back."""
    limit = parallel._BlasLimit()
    limit.enter()
    limit.forked()
    assert set(blas_threads()) == {2}
    limit.enter()
    assert set(blas_threads()) == {1}
    limit.leave()
    assert set(blas_threads()) == {2}


def test_a_blas_that_is_loaded_later_is_held_too():
    program = """
from threadpoolctl import ThreadpoolController
from covertreex.base import parallel

def pools():
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]

with parallel.one_blas_thread():
    first = pools()
import scipy.linalg
with parallel.one_blas_thread():
    second = pools()
print(len(second) - len(first), *{*first, *second})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    more, threads = done.stdout.split()
    if more == "0":
        pytest.skip("NumPy and SciPy share their BLAS")
    assert (more, threads) == ("1", "1")


@pytest.mark.usefixtures("two_blas_threads")
def test_trees_prepared_at_the_same_time_leave_blas_as_it_was(rng):
    X = rng.normal(size=(1500, 2))
    trees = [cx.cover_tree(X, kernel=cx.Matern32(), inducing=30) for _ in range(4)]
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda tree: tree.prepare(k=5, n_threads=2), trees))
        assert set(blas_threads()) == {2}


# ---------------------------------------------------------------------------------------------------------------------
# How many


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.0, 1), (1.5, 2), (6.0, 6), (100.0, 8), (2.0**20, 8)])
def test_threads_by_default_are_cores_within_the_quota(quota, expected, monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(parallel, "cpu_quota", lambda: quota)
    assert parallel.thread_count(None) == expected
    assert parallel.thread_count(5) == 5


def sent(tree):
    """Trees as others get them: by pickle, from a file, and as the tree's own descendants."""
    return [pickle.loads(pickle.dumps(tree)), ForkingPickler.loads(ForkingPickler.dumps(tree)), copy.copy(tree),
            tree.insert([[9.0]]), tree.delete([0]), tree.with_metric(cx.Euclidean())]  # fmt: skip


@pytest.mark.parametrize("given", [None, 3])
def test_who_receives_a_tree_counts_its_own_cores(given, monkeypatch, tmp_path):
    cx.cover_tree([[0.0], [1.0], [3.0]]).save(tmp_path / "tree")
    made = [cx.cover_tree([[0.0], [1.0], [3.0]], n_threads=given), cx.load(tmp_path / "tree", n_threads=given)]
    trees = [other for tree in made for other in [tree, *sent(tree)]]
    for cores in (5, 2):  # as if sent from a process with five to one with two
        monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        monkeypatch.setattr(parallel, "cpu_quota", lambda: 64.0)
        for tree in trees:
            assert tree.n_threads == (cores if given is None else given)
            assert tree.search(1).telemetry.n_threads == tree.n_threads
