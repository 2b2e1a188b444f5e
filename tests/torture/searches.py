"""A fixed set of searches, and a digest of every answer: ``python tests/torture/searches.py --state ftz``.

Run in a process of its own by test_environments.py, in one environment or another. Prints one line of JSON: the digest
of each search, ``refused: ...`` where covertreex raised an error of its own, or ``warned: ...``.
"""

import argparse
import ctypes
import hashlib
import json
import locale
import threading
import warnings

#: <fenv.h> of x86-64 Linux.
ROUNDING = {"upward": 0x800, "downward": 0x400, "zero": 0xC00}


def spoil(state, library):
    """Do to this process what some other library in it might have done."""
    if state == "ftz":
        ctypes.CDLL(library).flush_to_zero()
    elif state == "fastmath":
        ctypes.CDLL(library)  # compiled with -ffast-math, it sets the same bits as it is loaded
    elif state in ROUNDING:
        assert ctypes.CDLL("libm.so.6").fesetround(ROUNDING[state]) == 0
    elif state == "locale":
        locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
        assert locale.localeconv()["decimal_point"] == ","
    elif state.startswith("stack"):
        threading.stack_size(int(state.removeprefix("stack")) * 1024)


def state_holds(state):
    """Whether the process is in the state at all: a test of nothing is none."""
    tiny = float.fromhex("0x1p-1040")
    if state in ("ftz", "fastmath"):
        return tiny * 1.5 == 0.0
    one, small = float("1"), float("1e-17")
    return {"upward": one + small > 1.0, "downward": one - small < 1.0, "zero": one - small < 1.0}.get(state, True)


def data(exponent=-16):
    """Integers of 16 bits times a power of two, put together bit by bit, so that no state of the processor matters."""
    import numpy as np

    bits = np.random.default_rng(5).integers(1, 2**16, size=(200, 10))
    if exponent < -1022:
        return (bits << (exponent + 1074)).view(np.float64)  # subnormal
    X = bits.astype(np.float64)
    return (X.view(np.int64) + (exponent << 52)).view(np.float64)


def trees(cx):
    """(name, function that makes a tree) of every data set."""
    X = data()
    plane = X[:, :2]
    wide = cx.RBF(lengthscale=0.035, variance=1e-3)
    faint = {"lengthscale": 0.035}
    return {
        "euclid": lambda: cx.cover_tree(X[:, :3]),
        "euclid, tiny": lambda: cx.cover_tree(data(-549)[:, :3]),
        "euclid, subnormal": lambda: cx.cover_tree(data(-1050)[:, :3]),
        "plain": lambda: cx.cover_tree(plane, kernel=cx.Matern52(lengthscale=0.25)),
        "plain, underflow": lambda: cx.cover_tree(X, kernel=cx.RBF(**faint)),
        "residual": lambda: cx.cover_tree(plane, kernel=cx.Matern32(lengthscale=0.25), inducing=30),
        "residual, rbf": lambda: cx.cover_tree(X[:, :5], kernel=cx.RBF(lengthscale=0.5, variance=2.5), inducing=40),
        "residual, underflow": lambda: cx.cover_tree(X, kernel=wide, inducing=20, jitter=1e-9),
        "residual, faint": lambda: cx.cover_tree(X, kernel=cx.RBF(variance=1e-90, **faint), inducing=20, jitter=1e-96),
    }


def asks(cx, make, backend):
    """(name, function that answers) of every search of a tree."""
    import numpy as np

    rows = list(range(0, 200, 7))

    def other(X):
        return np.roll(X, 1, axis=1)

    def inserted():
        tree = make()
        return tree.insert(other(tree.X[::9])).knn(k=7, return_distances=True, backend=backend)

    def radius():
        tree = make()
        far = tree.knn(k=9, queries=[0], return_distances=True, backend=backend)[1][0, -1]
        result = tree.radius(float(far), queries=rows, backend=backend)
        return result.indptr, result.indices, result.distances

    def profile(name):
        return lambda: make().knn(k=9, settings=name, return_distances=True, backend=backend)

    def before():
        return make().knn(k=9, predecessor_mode=True, return_distances=True, backend=backend)

    def external():
        tree = make()
        return tree.knn(k=9, queries=other(tree.X[::11]), return_distances=True, backend=backend, n_threads=1)

    named = {name: profile(name) for name in ("exact", "fast", "parity")}
    return {**named, "before": before, "external": external, "radius": radius, "insert": inserted}


def digest(answer):
    """Of all bits of the arrays of an answer."""
    found = hashlib.sha256()
    for array in answer:
        found.update(repr(array.shape).encode() + array.tobytes())
    return found.hexdigest()[:16]


def main():
    """Print the digests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", action="append", required=True)
    parser.add_argument("--ask", action="append", help="only these, as asks() names them; leave it out for all")
    parser.add_argument("--state", default="")
    parser.add_argument("--library")
    parser.add_argument("--when", choices=("first", "late"), default="first", help="before covertreex is imported?")
    given = parser.parse_args()
    if given.when == "first":
        spoil(given.state, given.library)
    import covertreex as cx
    from covertreex.base import tuning

    tuning.BRIEF = 0  # threads for few queries too: each has a state of its own
    if given.when == "late":
        spoil(given.state, given.library)
    found = {"state": state_holds(given.state)}
    for backend in given.backend:
        for name, make in trees(cx).items():
            known = asks(cx, make, backend)
            for what in given.ask or known:
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("error")
                        answer = digest(known[what]())
                except Warning as warning:
                    answer = f"warned: {type(warning).__name__}: {warning}"
                except cx.CovertreexError as error:
                    answer = f"refused: {type(error).__name__}: {error}"
                found[f"{backend}: {name}: {what}"] = answer
    print(json.dumps(found))


if __name__ == "__main__":
    main()
