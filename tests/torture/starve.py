"""``starve.py SCENARIO WHOSE TRIES``: do it again and again, each time with another allocation failing.

Run under failing_malloc.c by test_allocations.py. Prints what happened, as JSON; "trying" lines on stderr say how
far it came, should it not come back.
"""

import ctypes
import gc
import importlib
import json
import pkgutil
import sys

import numpy as np

import covertreex as cx
from covertreex import _core
from covertreex.base import tuning

#: Words in the paths of those whose allocations fail, and the least bytes. NumPy's iterators have buffers of up to
#: 8,192 numbers, and where one cannot be had NumPy (2.4) raises without holding the GIL, and crashes: not ours to mend.
WHOSE = {"core": (b"covertreex/_core/", 0), "numpy": (b"_multiarray_umath", 8 * 8192 + 1)}


def points(n, d=2, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    X[:20] = X[20:40]
    return X


def residual(n=1200, **kernel):
    return cx.cover_tree(points(n), kernel=cx.RBF(**({"lengthscale": 0.5} | kernel)), inducing=32, n_threads=1)


def euclidean(n=1200):
    return cx.cover_tree(points(n), n_threads=1)


def answer(tree, **asked):
    return [np.array(part) for part in tree.knn(6, return_distances=True, **asked)]


def two_passes():
    """Where neighbours of neighbours are looked at, however little that saves."""
    tuning.WORTH_TWO_PASSES, tuning.ALONE_MOST = 0.0, 0.0
    return cx.cover_tree(points(4000, 3), kernel=cx.RBF(0.7), inducing=100, n_threads=1)


def radius(tree, r):
    found = tree.radius(r, queries=np.arange(0, len(tree), 3))
    return [np.array(getattr(found, name)) for name in ("indptr", "indices", "distances")]


def built(tree):
    return [np.array(getattr(tree.tree, name)) for name in ("parent", "level", "parent_distance", "si")]


def with_tree(tree):
    _ = tree.tree
    return tree


def few(tree):
    return answer(tree.prepare(6), queries=np.arange(0, len(tree), 9))


#: For each scenario, what to start from (it is made with no allocation failing) and what to do with it.
SCENARIOS = {
    "exact": (residual, lambda tree: answer(tree, settings="exact")),
    "fast": (residual, lambda tree: answer(tree, settings="fast")),
    "two passes": (two_passes, lambda tree: answer(tree, settings="fast")),
    "parity": (lambda: with_tree(residual()), lambda tree: answer(tree, settings="parity")),
    "predecessors": (residual, lambda tree: answer(tree, predecessor_mode=True)),
    "coordinates": (residual, lambda tree: answer(tree, queries=points(200, seed=1))),
    "euclid": (euclidean, answer),
    "euclid, predecessors": (euclidean, lambda tree: answer(tree, predecessor_mode=True)),
    "euclid, parity": (lambda: with_tree(euclidean()), lambda tree: answer(tree, settings="parity")),
    "build": (residual, built),
    "prepare": (residual, few),
    "radius": (residual, lambda tree: radius(tree, 0.3)),
    "euclid, radius": (euclidean, lambda tree: radius(tree, 0.2)),
    "insert": (
        lambda: with_tree(residual()),
        lambda tree: built(tree.insert(points(40, seed=2))) + answer(tree.insert(points(40, seed=2))),
    ),
    "maximin": (residual, lambda tree: [np.array(cx.ordering.maximin(tree))]),
}


def preloaded():
    """failing_malloc.c."""
    shim = ctypes.CDLL(None)
    shim.watch.argtypes = ctypes.c_char_p, ctypes.c_size_t
    shim.arm.argtypes = (ctypes.c_long,)
    shim.count.restype = shim.outstanding.restype = ctypes.c_long
    return shim


def same(found, expected):
    return all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def main(scenario, whose, tries):
    shim = preloaded()
    for module in pkgutil.iter_modules(_core.__path__):
        importlib.import_module(f"covertreex._core.{module.name}")
    start, act = SCENARIOS[scenario]
    expected = act(start())  # once untouched, for what is imported or made only once
    if not shim.watch(*WHOSE[whose]):
        raise SystemExit("nothing to watch")
    tree = start()
    shim.arm(0)
    act(tree)
    total = shim.count()
    del tree
    gc.collect()
    unfreed = shim.outstanding()
    report = {"allocations": total, "tried": 0, "errors": 0, "unharmed": 0, "wrong": [], "leaked": []}
    for n in sorted({int(n) for n in np.linspace(1, total, min(total, tries))}):
        print(f"trying {n} of {total}", file=sys.stderr, flush=True)
        tree = start()
        before = built(tree) if scenario == "insert" else None
        report["tried"] += 1
        shim.arm(n)
        try:
            found = act(tree)
            shim.arm(0)
            report["unharmed"] += 1
        except MemoryError:
            shim.arm(0)
            report["errors"] += 1
            found = expected
        if (
            not same(found, expected)
            or not same(act(tree), expected)
            or not (before is None or same(built(tree), before))
        ):
            report["wrong"].append(n)
        del tree, found
        gc.collect()
        if whose == "core" and shim.outstanding() > unfreed:
            report["leaked"].append(n)
            unfreed = shim.outstanding()
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
