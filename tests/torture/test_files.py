"""Files that were damaged, or made to mislead: refused, or the same answers; never others, and never a crash.

Each file is made, loaded and put to use in another process, so that a crash there is a failure here. What is made
follows from its number alone.
"""

import contextlib
import hashlib
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache

import numpy as np
import pytest
from sizes import size

import covertreex as cx
from covertreex.data.changes import without_dead
from covertreex.io import container
from covertreex.io.description import describe

#: Settled when this module is imported: tests see no COVERTREEX_* variable.
DAMAGED, BLOCKS, HOSTILE, KILLS = size(60, 1000), size(60, 1000), size(120, 2000), size(8, 100)
N, D, PART = 150, 2, 10


def points(seed, n=N):
    X = np.random.default_rng(seed).normal(size=(n, D))
    X[: n // 10] = X[n // 5 : n // 5 + n // 10]  # duplicates
    return X


def from_factors(p):
    X, kernel = points(0), cx.Matern52(0.9, variance=1.7)
    payload = cx.cover_tree(X, kernel=kernel, inducing=points(1)[:19]).payload
    V, left = payload.factors[payload.row][:, :19], payload.p[payload.row]
    V, left = V * np.sqrt(1.7 / payload.variance), left * (1.7 / payload.variance)
    return cx.cover_tree(X, kernel=kernel, v_matrix=V, p_diag=left + 0.1 if p else None)


def pruned():
    tree = cx.cover_tree(points(0), kernel=cx.Matern32((0.5, 0.8)), inducing=12)
    tree = tree.insert(points(3)[:9]).delete(np.arange(0, len(tree), 3))
    return cx.CoverTree(without_dead(tree._state))


MAKERS = {
    "euclidean": lambda: cx.cover_tree(points(0)),
    "correlation": lambda: cx.cover_tree(points(0), kernel=cx.RationalQuadratic((0.5, 0.8), 2.0, 0.7)),
    "drawn": lambda: cx.cover_tree(points(0), kernel=cx.Matern32((0.5, 0.8)), inducing=20, seed=5),
    "rows": lambda: cx.cover_tree(points(0), kernel=cx.RBF(0.7, variance=0.2), inducing=[9, 3, 100]),
    "coordinates": lambda: cx.cover_tree(points(0), kernel=cx.Matern12(0.8), inducing=points(8)[:33]),
    "v_matrix": lambda: from_factors(p=False),
    "v_matrix and p": lambda: from_factors(p=True),
    "deleted": pruned,
}


@lru_cache
def genuine(name):
    """A tree, what describes it, its file, and its answers."""
    tree = MAKERS[name]()
    _ = tree.tree
    document, arrays = describe(tree._state)
    return tree, document, arrays, file_of(document, arrays), answers(tree)


def file_of(document, arrays):
    head, body = container.encode(document, arrays)
    return head + b"".join(array.tobytes() for array in body)


def answers(tree):
    """A digest of what people ask of a tree."""
    found = hashlib.sha256()

    def ask(tree, k=6):
        for settings in ("exact", "parity"):
            for array in tree.knn(k, predecessor_mode=settings == "parity", return_distances=True, settings=settings):
                found.update(array.tobytes())

    ask(tree)
    near = tree.radius(0.3)
    for array in (near.indptr, near.indices, near.distances):
        found.update(array.tobytes())
    supplied = getattr(tree.metric, "v_matrix", None) is not None
    if not supplied:
        found.update(tree.knn(4, queries=points(11)[:9]).tobytes())
        ask(tree.insert(points(12)[:5]))
        ask(tree.with_metric(cx.Matern32(0.6)))
    ask(tree.prepare(6))
    return found.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def damaged(data, rng, kind):
    """`data` with one bit flipped or its end cut off, or with blocks of it overwritten, copied or moved."""
    data = bytearray(data)
    if kind == "truncated":
        return data[: int(rng.integers(len(data)))]
    if kind == "bit":
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        return data
    length = int(rng.choice([64, 512, 4096]))
    a, b = (int(at) * length for at in rng.integers(0, len(data) // length, size=2))
    first, second = data[a : a + length], data[b : b + length]
    if kind == "zeroed":
        data[a : a + length] = bytes(length)
    elif kind == "random":
        data[a : a + length] = rng.bytes(length)
    elif kind == "duplicated":
        data[b : b + length] = first
    elif kind == "swapped":
        data[a : a + length], data[b : b + length] = second, first
    elif kind == "shuffled":
        data[a : a + length] = rng.permutation(np.frombuffer(first, dtype=np.uint8)).tobytes()
    elif kind == "lost":
        del data[a : a + length]
    return data


FLIPS, MOVES = ("bit", "bit", "truncated"), ("zeroed", "random", "duplicated", "swapped", "shuffled", "lost")


def damage(number, kinds):
    rng = np.random.default_rng([1, number])
    name, kind = list(MAKERS)[number % len(MAKERS)], kinds[number // len(MAKERS) % len(kinds)]
    return name, kind, damaged(genuine(name)[3], rng, kind)


# ---------------------------------------------------------------------------------------------------------------------
# Malice: valid digests, one array changed

FLOATS = {
    "NaN": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "huge": 1e300,
    "large": 1e100,
    "tiny": 1e-300,
    "zero": 0.0,
    "one": 1.0,
    "-one": -1.0,
}
INTEGERS = {"-1": -1, "-2": -2, "0": 0, "huge": 2**62, "-huge": -(2**63), "2**32": 2**32, "n": N, "-1100": -1100}
WHOLE = ("permuted", "reversed", "rolled", "negated", "scaled", "nudged", "two swapped", "sign", "off by one", "twin")


def twisted(array, rng, how):
    """`array`, changed in one way; the same bits if that changes nothing."""
    array = array.copy()
    flat = array.reshape(-1)
    at, other = (int(i) for i in rng.integers(0, flat.size, size=2))
    if how in WHOLE:
        if how == "permuted":
            return rng.permutation(array)
        if how == "reversed":
            return array[::-1].copy()
        if how == "rolled":
            return np.roll(array, 1, axis=0)
        if how == "negated":
            return -array
        if how == "scaled":
            return (array * 2).astype(array.dtype)
        if how == "nudged":
            flat[at] = np.nextafter(flat[at], np.inf) if array.dtype.kind == "f" else flat[at] + 1
        elif how == "sign":
            flat[at] = -flat[at]
        elif how == "two swapped":
            flat[at], flat[other] = flat[other], flat[at]
        elif how == "twin":
            flat[at] = flat[other]
        elif how == "off by one":
            array += 1
        return array
    flat[at] = (FLOATS if array.dtype.kind == "f" else INTEGERS)[how]
    return array


def malice(number):
    rng = np.random.default_rng([2, number])
    name = list(MAKERS)[number % len(MAKERS)]
    _, document, arrays, _, _ = genuine(name)
    changed = sorted(arrays)[number // len(MAKERS) % len(arrays)]
    array = arrays[changed]
    how = str(rng.choice([*(FLOATS if array.dtype.kind == "f" else INTEGERS), *WHOLE]))
    return name, f"{changed} {how}", file_of(document, arrays | {changed: twisted(array, rng, how)})


# ---------------------------------------------------------------------------------------------------------------------
# Other processes


def outcome(name, data, path, **options):
    """What becomes of a file: 'same', 'refused', 'other', or 'another file'.

    That last one has other answers, but they are those of a tree made afresh of the points and the metric in it: x may
    be off by one rounding, which dividing by the lengthscale undoes, and is then as good as any other x.
    """
    with open(path, "wb") as file:
        file.write(data)
    try:
        tree = cx.load(path, n_threads=1, **options)
    except cx.FileFormatError:
        return "refused"
    if options.get("verify") is False:  # anything but a crash
        with contextlib.suppress(cx.CovertreexError), np.errstate(all="ignore"):
            return "same" if answers(tree) == genuine(name)[4] else "other"
        return "error"
    found = answers(tree)
    if found == genuine(name)[4]:
        return "same"
    afresh = cx.cover_tree(tree.X, metric=tree.metric)
    if len(tree.ids) < len(tree.X):
        afresh = afresh.delete(np.setdiff1d(np.arange(len(tree.X)), tree.ids))
    return "another file" if found == answers(afresh) else "other"


def worker(kind, first, last, path, options):
    """Outcomes of files `first` to `last`; `path` and what it has in it tell which one a crash came from."""
    makers = {
        "damaged": lambda i: damage(i, FLIPS),
        "blocks": lambda i: damage(i, MOVES),
        "hostile": malice,
    }
    found = []
    for number in range(first, last):
        name, what, data = makers[kind](number)
        unchanged = data == genuine(name)[3]
        result = outcome(name, data, path, **options)
        found.append((number, f"{name}: {what}", "unchanged" if unchanged and result == "same" else result))
    return found


def torment(kind, count, folder, **options):
    """Outcomes of `count` files of a kind, counted; and those that gave other answers."""
    # Not forked: a child must not inherit locks that threads of this process hold.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(worker, kind, first, min(first + PART, count), str(folder / f"{kind} {first}"), options)
            for first in range(0, count, PART)
        ]
        found = [result for future in futures for result in future.result()]
    tally = Counter(result for _, _, result in found)
    print(f"{kind}, {count} files, {options or 'verified'}: {dict(tally)}")
    assert tally.total() == count
    return tally, [entry for entry in found if entry[2] in ("other", "another file")]


@pytest.mark.parametrize(("kind", "count"), [("damaged", DAMAGED), ("blocks", BLOCKS), ("hostile", HOSTILE)])
def test_verified_files_are_refused_or_answer_the_same(kind, count, tmp_path):
    tally, others = torment(kind, count, tmp_path)
    # Arrays that are a caller's own, and follow from nothing, may be off by one rounding; or points may be mirrored.
    own = ("x nudged", "coords negated", "coords nudged", "inducing_points nudged", "factors nudged")
    assert not [entry for entry in others if entry[2] == "other" or not entry[1].endswith(own)]
    assert len(others) <= 0.01 * count
    assert tally["refused"] > 0.7 * count
    assert kind == "hostile" or tally["same"] == 0  # a digest sees every byte


@pytest.mark.parametrize(("kind", "count"), [("damaged", DAMAGED // 3), ("hostile", HOSTILE // 3)])
def test_unverified_files_crash_nothing(kind, count, tmp_path):
    torment(kind, count, tmp_path, verify=False)


SAVER = """
import os, random, signal, sys, time
import covertreex as cx

path, kills = sys.argv[1], int(sys.argv[2])
trees = [cx.load(f"{path}.{i}", mmap=False, n_threads=1) for i in range(2)]
draw = random.Random(0)
for kill in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            for tree in trees:
                tree.save(path)
    time.sleep(draw.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(cx.load(path, n_threads=1).X.shape[0], flush=True)
"""


def test_a_save_that_is_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "tree"
    for i, n in enumerate((N, 20 * N)):
        tree = cx.cover_tree(points(i, n), kernel=cx.RBF(), inducing=16)
        tree.save(f"{path}.{i}")
        tree.save(path)
    done = subprocess.run(
        [sys.executable, "-c", SAVER, str(path), str(KILLS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sizes = [int(line) for line in done.stdout.split()]
    assert len(sizes) == KILLS
    assert set(sizes) <= {N, 20 * N}
    left = {name for name in os.listdir(tmp_path) if not name.startswith("tree")}
    assert all(name.startswith(".tree.") and name.endswith(".tmp") for name in left)
