"""Threads that ask the same trees at the same time, while what is made once is being made: the bits of each alone."""

import sys
import threading

import numpy as np
import pytest
from sizes import size
from threadpoolctl import ThreadpoolController

import covertreex as cx

#: Rounds of mixed questions, how many each thread asks, and rounds of first questions, and which. Read here: tests
#: themselves see no COVERTREEX_* variable.
ROUNDS, QUESTIONS, FIRST_ROUNDS = size(1, 1000), 10, size(1, 50)
FIRST = size(("exact", "parity", "prepare"), ("exact", "fast", "parity", "coordinates", "radius", "insert", "prepare"))
THREADS, N, D, K = 8, 1200, 3, 6

METRICS = {
    "euclidean": {},
    "correlation": {"kernel": cx.Matern32(0.5)},
    "residual": {"kernel": cx.Matern52(0.6), "inducing": 40},
    "no float32": {"kernel": cx.RBF(3.0), "inducing": 60, "jitter": 1e-9},
    "no screen": {"kernel": cx.RationalQuadratic(0.5), "inducing": 20},
}

OTHER = {"euclidean": cx.Euclidean(), "correlation": cx.Matern12(0.7), "residual": cx.RBF(0.4),
         "no float32": cx.RBF(2.0), "no screen": cx.RationalQuadratic(0.7)}  # fmt: skip


def points(n=N, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D))


def knn(tree, queries=None, **options):
    return tree.knn(K, queries, return_distances=True, **options)


def within(tree, **options):
    found = tree.radius(0.3, **options)
    return found.indptr, found.indices, found.distances


def batches(tree, **options):
    return [array for part in tree.radius_batches(0.3, batch_size=500, **options)
            for array in (part.indptr, part.indices, part.distances)]  # fmt: skip


#: What is asked of a tree in a metric: arrays.
ASKED = {
    "exact": lambda tree, _, **options: knn(tree, **options),
    "exact, predecessors": lambda tree, _, **options: knn(tree, predecessor_mode=True, **options),
    "exact, few": lambda tree, _, **options: knn(tree, [5, 700, 1100], **options),
    "fast": lambda tree, _, **options: knn(tree, settings="fast", **options),
    "parity": lambda tree, _, **options: knn(tree, range(0, N, 9), settings="parity", **options),
    "coordinates": lambda tree, _, **options: knn(tree, points(50, 1), **options),
    "radius": lambda tree, _, **options: within(tree, **options),
    "radius, batches": lambda tree, _, **options: batches(tree, **options),
    "another metric": lambda tree, name, **options: knn(tree.with_metric(OTHER[name]), range(200), **options),
    "insert": lambda tree, _, **options: knn(tree.insert(points(3, 2)), range(N - 9, N + 3), **options),
    "delete": lambda tree, _, **options: knn(tree.delete(range(0, N, 7)), range(1, N, 7), **options),
    "prepare": lambda tree, _, **options: knn(tree.prepare(K, **options), [3, 9], **options),
}


def bits(arrays):
    return [(array.shape, array.tobytes()) for array in arrays]


def fresh(name):
    return cx.cover_tree(points(), **METRICS[name], n_threads=2)


@pytest.fixture(scope="module")
def alone():
    """What each question is answered where nobody else asks, by a tree of its own and one thread."""
    return {(name, what): bits(ask(fresh(name), name, n_threads=1)) for name in METRICS for what, ask in ASKED.items()}


@pytest.fixture
def often():
    """Threads take turns a thousand times as often as they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def blas_threads():
    return sorted(pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas")


@pytest.mark.usefixtures("often")
def test_answers_are_those_of_each_alone(alone):
    before, wrong = blas_threads(), []

    def work(seed, trees, start):
        rng = np.random.default_rng(seed)
        start.wait()
        for number in rng.permutation(len(alone))[:QUESTIONS]:
            name, what = list(alone)[number]
            try:
                found = bits(ASKED[what](trees[name], name, n_threads=int(rng.integers(1, 4))))
            except BaseException as error:
                wrong.append((seed, name, what, repr(error)))
                return
            if found != alone[name, what]:
                wrong.append((seed, name, what, "other bits"))

    for turn in range(ROUNDS):
        trees, start = {name: fresh(name) for name in METRICS}, threading.Barrier(THREADS)
        threads = [threading.Thread(target=work, args=((turn, i), trees, start)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert blas_threads() == before


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("what", FIRST)
def test_the_first_question_from_all_threads_at_once(name, what, alone):
    """Whatever is made at the first use is made by eight threads."""
    for _ in range(FIRST_ROUNDS):
        tree, start, found = fresh(name), threading.Barrier(THREADS), [None] * THREADS

        def work(i, tree=tree, start=start, found=found):
            start.wait()
            found[i] = bits(ASKED[what](tree, name, n_threads=1 + i % 2))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [one == alone[name, what] for one in found] == [True] * THREADS
