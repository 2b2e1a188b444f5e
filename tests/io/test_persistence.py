"""Files and pickles: the same answers to the bit, and nothing believed that a file says."""

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import xxhash
from hypothesis import assume, example, given
from hypothesis import strategies as st

import covertreex as cx
from covertreex.data.build import build_tree
from covertreex.data.tree import DUPLICATE_LEVEL
from covertreex.io import container, description, transport
from covertreex.io.description import StoredRows, describe

PAYLOAD = ("coords", "factors", "p", "index", "row")
COVER = ("parent", "level", "child_ptr", "children", "parent_distance", "si")
N, D = 160, 3
SCALE = (0.5, 0.8, 1.3)


def points(seed=3):
    X = np.random.default_rng(seed).normal(size=(N, D))
    X[17] = X[4]  # duplicates
    X[90, 1] = -0.0
    return X


def supplied(kernel, m=21):
    """Factors of somebody's own Gaussian process."""
    tree = cx.cover_tree(points(), kernel=kernel, inducing=m)
    payload = tree.payload
    return payload.factors[payload.row][:, :m] * np.sqrt(payload.unit), payload.p[payload.row] * payload.unit


def exhausted():
    """Factors that explain a point wholly, and a p below its floor."""
    V = np.zeros((N, 2))
    V[5] = [1.0, 0.0]
    return V, np.where(np.arange(N) == 5, 1e-12, 1.0)


def from_factors(kernel, V, p):
    return cx.cover_tree(points(), kernel=kernel, v_matrix=V, p_diag=p)


RQ = cx.RationalQuadratic(SCALE, variance=2.0, alpha=0.7)
MAKERS = {
    "euclidean": lambda: cx.cover_tree(points()),
    "correlation": lambda: cx.cover_tree(points(), kernel=RQ),
    "unscaled": lambda: cx.cover_tree(points(), kernel=cx.RBF()),
    "count": lambda: cx.cover_tree(points(), kernel=cx.Matern32(SCALE), inducing=20, seed=5, jitter=1e-5),
    "rows": lambda: cx.cover_tree(points(), kernel=cx.Matern12(0.7), inducing=[9, 3, 100]),
    "coordinates": lambda: cx.cover_tree(points(), kernel=cx.Matern52(SCALE, 0.3), inducing=points(8)[:33]),
    "v_matrix": lambda: cx.cover_tree(points(), kernel=RQ, v_matrix=supplied(RQ)[0]),
    "v_matrix and p": lambda: from_factors(RQ, supplied(RQ)[0], supplied(RQ)[1] + 0.1),
    "p is p": lambda: from_factors(RQ, *supplied(RQ)),
    "p at its floor": lambda: from_factors(cx.RBF(1e-3), *exhausted()),
    "one point": lambda: cx.cover_tree([[1.0, 2.0]], kernel=cx.RBF(2.0), inducing=1),
    "equal points": lambda: cx.cover_tree(np.ones((20, 2))),
}


@pytest.fixture(scope="module", params=[(name, built) for name in MAKERS for built in (False, True)], ids=str)
def tree(request):
    name, built = request.param
    tree = MAKERS[name]()
    if built:
        _ = tree.tree
    return tree


@pytest.fixture(scope="module")
def residual():
    """A tree with everything in it, and its file as bytes."""
    tree = MAKERS["count"]()
    _ = tree.tree
    return tree, file_of(*describe(tree._state))


def file_of(document, arrays):
    head, body = container.encode(document, arrays)
    return head + b"".join(array.tobytes() for array in body)


def bits(array):
    return array.dtype.str, array.shape, array.tobytes()


def answers(tree, backend=None):
    """Everything that people ask a tree for, as bits."""
    k = min(7, len(tree))
    found = []
    for settings in ("exact", "parity"):
        for mode in (False, True):
            found += tree.knn(k, predecessor_mode=mode, return_distances=True, settings=settings, backend=backend)
        if tree._state.projection is not None:
            near = tree.X[:9] + 0.01
            found += tree.knn(k, queries=near, return_distances=True, settings=settings, backend=backend)
    return [bits(array) for array in found]


def assert_same(loaded, tree):
    assert bits(loaded.X) == bits(tree.X)
    for name in PAYLOAD:
        assert bits(getattr(loaded.payload, name)) == bits(getattr(tree.payload, name)), name
        assert not getattr(loaded.payload, name).flags.writeable
    for name in ("metric", "kernel", "slack_abs", "slack_rel", "floored"):
        assert getattr(loaded.payload, name) == getattr(tree.payload, name)
    assert type(loaded.metric) is type(tree.metric)
    for name in ("kernel", "seed", "jitter"):
        assert getattr(loaded.metric, name, None) == getattr(tree.metric, name, None)
    for name in ("inducing", "v_matrix", "p_diag"):
        ours, theirs = getattr(loaded.metric, name, None), getattr(tree.metric, name, None)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert loaded.payload.factors.size == 0 or loaded.payload.factors.ctypes.data % 64 == 0


# ---------------------------------------------------------------------------------------------------------------------
# Round trips


@pytest.mark.parametrize("options", [{}, {"verify": False}, {"mmap": False}, {"mmap": False, "verify": False}], ids=str)
def test_round_trip(tree, options, tmp_path):
    path, built = tmp_path / "tree.safetensors", tree._state.built is not None
    tree.save(path)
    loaded = cx.load(path, **options)
    assert (loaded._state.built is not None) == built
    assert_same(loaded, tree)
    other = copy.copy(tree)  # so that the fixture's own cover tree stays as it is
    assert answers(loaded) == answers(other)
    if built:
        assert loaded.tree.root == tree.tree.root
        for name in COVER:
            assert bits(getattr(loaded.tree, name)) == bits(getattr(tree.tree, name)), name
            assert not getattr(loaded.tree, name).flags.writeable
        loaded.check_invariants()
    assert loaded.search(min(5, len(tree)), include_self=True, audit=30).recall == 1.0

    loaded.save(path)  # over the file that it is mapped from
    assert_same(cx.load(path, **options), tree)
    assert_same(loaded, tree)


WAYS = [pickle.HIGHEST_PROTOCOL, 2, copy.deepcopy, copy.copy]


@pytest.mark.parametrize("way", WAYS, ids=["pickle", "pickle-2", "deepcopy", "copy"])
def test_pickles_and_copies(tree, way):
    clone = way(tree) if callable(way) else pickle.loads(pickle.dumps(tree, way))
    assert clone.n_threads == tree.n_threads
    assert (clone._state.built is not None) == (tree._state.built is not None)
    assert_same(clone, tree)
    assert answers(clone) == answers(copy.copy(tree))
    assert np.shares_memory(clone.payload.index, tree.payload.index) == (way is copy.copy)


def test_every_backend_answers_from_a_map(tree, backend, tmp_path):
    tree.save(tmp_path / "tree")
    assert answers(cx.load(tmp_path / "tree"), backend) == answers(copy.copy(tree), backend)


def test_file_and_pickle_are_no_larger_than_the_arrays(tree, tmp_path):
    tree.save(tmp_path / "tree")
    payload, cover = tree.payload, tree._state.built
    least = payload.nbytes + (cover.nbytes if cover else 0)
    kept = sum(a.nbytes for a in describe(tree._state)[1].values())
    for size in (os.path.getsize(tmp_path / "tree"), len(pickle.dumps(tree, 5))):
        assert least <= size < kept + 6000


@pytest.mark.parametrize(("name", "needed"), [("euclidean", False), ("unscaled", False), ("correlation", True)])
def test_points_are_stored_only_if_coordinates_do_not_give_them(name, needed):
    assert ("x" in describe(MAKERS[name]()._state)[1]) == needed


def test_supplied_factors_are_stored_once(tmp_path):
    tree = MAKERS["v_matrix and p"]()
    tree.save(tmp_path / "tree")
    assert os.path.getsize(tmp_path / "tree") < tree.payload.nbytes + tree.X.nbytes + 6000
    loaded = cx.load(tmp_path / "tree")
    assert isinstance(loaded.metric.v_matrix, StoredRows)
    np.testing.assert_array_equal(loaded.metric.v_matrix, tree.metric.v_matrix)
    np.testing.assert_array_equal(loaded.metric.p_diag, tree.metric.p_diag)


def test_stored_rows_behave_like_the_array_they_stand_for():
    array, row = np.arange(12.0).reshape(4, 3), np.array([2, 0, 3, 1])
    rows = StoredRows(array, row, 2)
    np.testing.assert_array_equal(rows, array[row][:, :2])
    assert np.shape(rows) == rows.shape == (4, 2)
    assert (rows.ndim, rows.dtype, len(rows)) == (2, np.float64, 4)
    assert np.asarray(rows, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(rows[1:, 0], array[row][1:, 0])
    np.testing.assert_array_equal(StoredRows(array[:, 0], row), array[row, 0])
    with pytest.raises(ValueError, match="without a copy"):
        rows.__array__(copy=False)


@pytest.mark.parametrize("seed", [0, np.int64(4), 2**70], ids=str)
def test_seeds_of_every_kind(seed, tmp_path):
    tree = cx.cover_tree(points(), kernel=cx.RBF(), inducing=9, seed=seed)
    tree.save(tmp_path / "tree")
    loaded = cx.load(tmp_path / "tree")
    assert answers(loaded) == answers(tree)
    assert loaded.search(5, audit=N).recall == 1.0  # the oracle of a loaded tree draws nothing anew


def test_a_generator_that_draws_differently_does_not_matter(residual, tmp_path, monkeypatch):
    tree, data = residual
    (tmp_path / "tree").write_bytes(data)
    assert cx.load(tmp_path / "tree").metric.inducing == 20
    monkeypatch.setattr(description, "_drawn_rows", lambda seed, n, count: np.arange(count))
    loaded = cx.load(tmp_path / "tree")
    np.testing.assert_array_equal(tree.X[loaded.metric.inducing] / SCALE, tree._state.projection.inducing)
    assert answers(loaded) == answers(tree)
    assert loaded.search(5, audit=N).recall == 1.0


def test_n_threads(residual, tmp_path):
    tree, data = residual
    (tmp_path / "tree").write_bytes(data)
    assert cx.load(tmp_path / "tree", n_threads=3).n_threads == 3
    assert cx.load(tmp_path / "tree").n_threads == tree.n_threads
    with pytest.raises(cx.InvalidInputError, match="n_threads must be"):
        cx.load(tmp_path / "tree", n_threads=0)


# ---------------------------------------------------------------------------------------------------------------------
# The container, as docs/file-format.md describes it


def read_by_the_book(data):
    """Metadata and arrays of a file, from the description alone."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    arrays = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        arrays[name] = np.frombuffer(data[begin:end], {"F64": "<f8", "I64": "<i8", "U8": "u1"}[entry["dtype"]])
        arrays[name] = arrays[name].reshape(entry["shape"])
        assert begin % 64 == 0 or name.startswith("pad.")
    assert arrays.pop("header_sha256").tobytes() == hashlib.sha256(data[: 8 + length]).digest()
    return metadata, {name: array for name, array in arrays.items() if not name.startswith("pad.")}


def by_the_book(data, block=2**26):
    """The digest of an array, from the description alone."""
    blocks = [xxhash.xxh3_128(data[start : start + block]).digest() for start in range(0, len(data), block)]
    return xxhash.xxh3_128(b"".join(blocks)).hexdigest()


def test_digests_do_not_depend_on_threads_and_blocks_are_as_documented(monkeypatch):
    assert container.BLOCK == 2**26
    monkeypatch.setattr(container, "BLOCK", 100)
    arrays = {str(size): np.arange(float(size)) for size in (1, 12, 13, 100, 1000)}
    expected = {name: by_the_book(array.tobytes(), 100) for name, array in arrays.items()}
    assert container.digests(arrays, 1) == container.digests(arrays, 3) == expected


def test_ctrl_c_is_heard_between_blocks(residual, tmp_path, monkeypatch):
    genuine, seen = container.parallel.run, []

    def interrupt(block):
        seen.append(block)
        if len(seen) == 1:
            raise KeyboardInterrupt
        time.sleep(0.2)  # as a block does: meanwhile those that have not begun are cancelled

    (tmp_path / "tree").write_bytes(residual[1])
    monkeypatch.setattr(container, "BLOCK", 1000)
    monkeypatch.setattr(container.xxhash, "xxh3_128_digest", interrupt)
    monkeypatch.setattr(container.parallel, "run", lambda tasks, n_threads: genuine(tasks, 1))
    with pytest.raises(KeyboardInterrupt):
        cx.load(tmp_path / "tree")
    assert len(seen) < 10  # of 70 or so


def in_version_1(document, arrays):
    """A file as version 1 had it: SHA-256 of whole arrays."""

    def edit(header):
        header["__metadata__"]["version"] = "1"
        del header["__metadata__"]["xxh3_128"]
        header["__metadata__"]["sha256"] = json.dumps(
            {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
        )

    return rewritten(file_of(document, arrays), edit)


def test_files_of_version_1(residual, tmp_path):
    tree, path = residual[0], tmp_path / "tree"
    data = in_version_1(*describe(tree._state))
    path.write_bytes(data)
    assert_same(cx.load(path), tree)
    assert answers(cx.load(path, verify=False)) == answers(tree)
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    refuse(path, "does not match its checksum")
    cancelled = np.ones(1, dtype=np.int32)
    assert container._sha256(tree.X, cancelled) == hashlib.sha256().hexdigest()


def test_the_file_is_as_documented(residual):
    tree, data = residual
    metadata, arrays = read_by_the_book(data)
    assert (metadata["format"], metadata["version"]) == ("covertreex", "2")
    assert json.loads(metadata["xxh3_128"]) == {name: by_the_book(array.tobytes()) for name, array in arrays.items()}
    description = json.loads(metadata["description"])
    assert description["tree"] == {"root": tree.tree.root}
    assert description["metric"]["kernel"] == {"name": "matern32", "lengthscale": list(SCALE), "variance": 1.0}
    expected = {name: getattr(tree.payload, name) for name in PAYLOAD}
    expected |= {f"tree.{name}": getattr(tree.tree, name) for name in COVER}
    expected |= {"x": tree.X, "inducing": tree._state.projection.inducing, "cholesky": tree._state.projection.cholesky}
    expected["inducing_rows"] = np.sort(np.random.default_rng(5).choice(N, 20, replace=False))
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert bits(arrays[name]) == bits(array), name


def test_the_library_of_safetensors_reads_it(residual, tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    tree, data = residual
    arrays = library.load(data)
    for name in PAYLOAD:
        assert bits(arrays[name]) == bits(getattr(tree.payload, name))


def test_the_same_tree_makes_the_same_file(residual, tmp_path):
    tree, data = residual
    tree.save(tmp_path / "tree")
    assert (tmp_path / "tree").read_bytes() == data
    again = MAKERS["count"]()
    _ = again.tree
    assert file_of(*describe(again._state)) == data


def test_a_map_is_read_only_and_leaves_the_file_alone(residual, tmp_path):
    data = residual[1]
    path = tmp_path / "tree"
    path.write_bytes(data)
    path.chmod(0o444)
    loaded = cx.load(path)
    for array in (loaded.X, *(getattr(loaded.payload, name) for name in PAYLOAD), loaded.tree.si):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        loaded.payload.factors.flags.writeable = True
    answers(loaded)
    assert path.read_bytes() == data


# ---------------------------------------------------------------------------------------------------------------------
# Saving


def test_an_interrupted_save_leaves_the_old_file(residual, tmp_path, monkeypatch):
    data = residual[1]
    path = tmp_path / "tree"
    path.write_bytes(data)

    def interrupt(*_):
        raise KeyboardInterrupt

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, interrupt)
            with pytest.raises(KeyboardInterrupt):
                MAKERS["euclidean"]().save(path)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == ["tree"]


def test_a_full_disk_leaves_the_old_file(residual, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    tree, data = residual
    path = tmp_path / "tree"
    path.write_bytes(data)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            tree.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["tree"]


def test_a_killed_save_leaves_the_old_file(residual, tmp_path):
    path = tmp_path / "tree"
    path.write_bytes(residual[1])
    program = (
        "import os, signal, sys, covertreex as cx\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cx.cover_tree([[0.0], [1.0]]).save(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == residual[1]
    cx.load(path, verify=True)


def test_who_has_the_old_file_mapped_keeps_it(residual, tmp_path):
    tree, data = residual
    path = tmp_path / "tree"
    path.write_bytes(data)
    loaded = cx.load(path)
    MAKERS["euclidean"]().save(path)
    assert answers(loaded) == answers(tree)
    assert isinstance(cx.load(path).metric, cx.Euclidean)


def test_where_a_save_goes(residual, tmp_path, monkeypatch):
    tree, data = residual
    (tmp_path / "link").symlink_to(tmp_path / "target")
    tree.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == data

    monkeypatch.chdir(tmp_path)
    tree.save("relative")
    assert (tmp_path / "relative").read_bytes() == data
    tree.save(os.fsencode("bytes" + 240 * "s"))
    assert_same(cx.load(os.fsencode("bytes" + 240 * "s")), tree)

    old = os.umask(0o027)
    try:
        tree.save(tmp_path / "mine")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "mine").st_mode) == 0o640

    with pytest.raises(cx.InvalidInputError, match="path must name a file, got the directory"):
        tree.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such directory to save to"):
        tree.save(tmp_path / "missing" / "tree")
    with pytest.raises(TypeError):
        tree.save(3)


# ---------------------------------------------------------------------------------------------------------------------
# Foreign, truncated, damaged and future files


def refuse(path, match, **options):
    for mmap in (True, False):
        with pytest.raises(cx.FileFormatError, match=match) as caught:
            cx.load(path, mmap=mmap, **options)
        assert str(path) in str(caught.value)


def test_foreign_files(residual, tmp_path):
    path = tmp_path / "file"
    header = b'{"a": {"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    refuse(path, "a safetensors file, but not of covertreex")
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(3))
    refuse(path, "no file of covertreex, but a zip file")
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    refuse(path, "no file of covertreex, but a NumPy array")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    refuse(path, "no file of covertreex, but an HDF5 file")
    for data in (pickle.dumps(residual[0]), b"x,y\n" * 50, bytes(1000)):
        path.write_bytes(data)
        refuse(path, "no file of covertreex, but something else")
    path.write_bytes(b"")
    refuse(path, "it is empty")
    path.write_bytes(bytes(8))
    refuse(path, "it is truncated")
    path.write_bytes(b"{" * 1000)
    refuse(path, "no file of covertreex, or damaged")


def test_no_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        cx.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        cx.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "no regular file")


def rewritten(data, edit):
    """The file with its header edited and the header's checksum made to fit."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    head = len(text).to_bytes(8, "little") + text
    return head + hashlib.sha256(head).digest() + data[8 + length + 32 :]


def test_files_of_the_future(residual, tmp_path):
    path = tmp_path / "tree"
    for version in ("3", "17"):
        path.write_bytes(rewritten(residual[1], lambda h, v=version: h["__metadata__"].update(version=v, new="things")))
        refuse(path, rf"has version {version} of the format, written by 'covertreex .*up to 2. Upgrade covertreex")
    for version in ("0", "-1", "1.5", "", "one", "9" * 5000, "²"):
        path.write_bytes(rewritten(residual[1], lambda h, v=version: h["__metadata__"].update(version=v)))
        refuse(path, "its version is")


def entry(name, **changes):
    return lambda header: header[name].update(changes)


HEADERS = {
    "extra key": entry("p", note=1),
    "unknown dtype": entry("p", dtype="F16"),
    "dtype no string": entry("p", dtype=[]),
    "wrong dtype": entry("index", dtype="F64"),
    "bytes": lambda h: h["p"].update(dtype="U8", shape=[N * 8]),
    "bytes in two axes": lambda h: h["p"].update(dtype="U8", shape=[N, 8]),
    "shape too large": entry("p", shape=[N + 1]),
    "shape too small": entry("p", shape=[N - 1]),
    "shape overflows": entry("p", shape=[2**62, 2**62]),
    "shape wraps to what it was": entry("p", shape=[N + 2**61]),
    "negative shape": entry("p", shape=[-N, -1]),
    "zero shape": entry("p", shape=[0]),
    "huge and zero": entry("p", shape=[0, 2**62]),
    "no shape": entry("p", shape=[]),
    "three axes": entry("p", shape=[N, 1, 1]),
    "two axes": entry("p", shape=[N, 1]),
    "float shape": entry("p", shape=[float(N)]),
    "true in shape": entry("p", shape=[N, True]),
    "shape no list": entry("p", shape=N),
    "offsets reversed": lambda h: h["p"]["data_offsets"].reverse(),
    "offsets of three": lambda h: h["p"]["data_offsets"].append(0),
    "negative offset": lambda h: h["p"].update(data_offsets=[-8, h["p"]["data_offsets"][1]]),
    "past the end": lambda h: h["tree.si"].update(data_offsets=[2**60, 2**60 + 8 * N]),
    "overlap": lambda h: h["p"].update(data_offsets=h["index"]["data_offsets"]),
    "gap": lambda h: h.pop("p"),
    "no entry": lambda h: h.update(p=None),
    "digest gone": lambda h: h.update(other=h.pop("header_sha256")),
    "digest of floats": entry("header_sha256", dtype="F64", shape=[4]),
    "digest elsewhere": lambda h: h.update(header_sha256=h["pad.1"], **{"pad.1": h["header_sha256"]}),
    "renamed": lambda h: h.update(q=h.pop("p")),
    "no metadata": lambda h: h.update(__metadata__=[]),
    "no checksums": lambda h: h["__metadata__"].pop("xxh3_128"),
    "checksum missing": lambda h: h["__metadata__"].update(xxh3_128="{}"),
    "checksums no object": lambda h: h["__metadata__"].update(xxh3_128="[1]"),
    "no description": lambda h: h["__metadata__"].pop("description"),
    "description no string": lambda h: h["__metadata__"].update(description=3),
    "description no JSON": lambda h: h["__metadata__"].update(description="{"),
    "description too deep": lambda h: h["__metadata__"].update(description="[" * 100_000),
    "description of huge number": lambda h: h["__metadata__"].update(description='{"a": ' + "9" * 10_000 + "}"),
    "description twice": lambda h: h["__metadata__"].update(description='{"tree": null, "tree": null}'),
    "description NaN": lambda h: h["__metadata__"].update(description='{"slack_abs": NaN}'),
    "description empty": lambda h: h["__metadata__"].update(description="{}"),
}


@pytest.mark.parametrize("edit", HEADERS.values(), ids=HEADERS)
def test_headers_that_lie(residual, edit, tmp_path):
    path = tmp_path / "tree"
    path.write_bytes(rewritten(residual[1], edit))
    refuse(path, "damaged|missing|makes no sense|must be|not of covertreex")


def test_padding_and_what_follows(residual, tmp_path):
    path, data = tmp_path / "tree", residual[1]
    start = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[: start + 40] + b"\x01" + data[start + 41 :])
    refuse(path, "pad.1 is not padding of zeros")
    path.write_bytes(data + b"\0")
    refuse(path, "1 bytes follow its last array")
    path.write_bytes(data[:-1])
    refuse(path, "it is truncated")
    path.write_bytes(data[:8] + b"{" + b"\xff" * 20_000)
    refuse(path, "its header is no JSON")


def changed(array, *changes):
    array = array.copy()
    for place, value in changes:
        array[place] = value
    return array


def swapped(array, a, b):
    return changed(array, (a, array[b]), (b, array[a]))


#: (what is said, document -> changes of it, arrays -> changes of them); None takes an array away
LIES = {
    "index too large": ("'index' has values", {}, lambda a: {"index": changed(a["index"], (3, N))}),
    "index negative": ("'index' has values", {}, lambda a: {"index": changed(a["index"], (3, -1))}),
    "index huge": ("'index' has values", {}, lambda a: {"index": changed(a["index"], (0, 2**63 - 1))}),
    "index twice": ("inverse", {}, lambda a: {"index": changed(a["index"], (3, a["index"][4]))}),
    "row too large": ("'row' has values", {}, lambda a: {"row": changed(a["row"], (3, N))}),
    "row negative": ("'row' has values", {}, lambda a: {"row": changed(a["row"], (3, -(2**63)))}),
    "rows swapped": ("inverse", {}, lambda a: {"row": swapped(a["row"], 3, 4)}),
    "index short": ("'index' must be", {}, lambda a: {"index": a["index"][:-1]}),
    "coords NaN": ("'coords' has values", {}, lambda a: {"coords": changed(a["coords"], ((2, 1), np.nan))}),
    "coords inf": ("'coords' has values", {}, lambda a: {"coords": changed(a["coords"], ((2, 1), -np.inf))}),
    "coords missing": ("'coords' is missing", {}, lambda a: {"coords": None}),
    "coords flat": ("'coords' must be", {}, lambda a: {"coords": a["coords"].ravel()}),
    "coords wide": ("must be|one lengthscale", {}, lambda a: {"coords": np.zeros((N, D + 1))}),
    "x NaN": ("'x' has values", {}, lambda a: {"x": changed(a["x"], ((0, 0), np.nan))}),
    "x of other points": ("'x' must be", {}, lambda a: {"x": a["x"][:-1]}),
    "factors narrow": ("'factors' must be", {}, lambda a: {"factors": np.zeros((N, 16))}),
    "factors short": ("'factors' must be", {}, lambda a: {"factors": a["factors"][:-1]}),
    "factors missing": ("'factors' is missing", {}, lambda a: {"factors": None}),
    "p zero": ("'p' has values", {}, lambda a: {"p": changed(a["p"], (0, 0.0))}),
    "p NaN": ("'p' has values", {}, lambda a: {"p": changed(a["p"], (0, np.nan))}),
    "p missing": ("'p' is missing", {}, lambda a: {"p": None}),
    "p integers": ("'p' must be", {}, lambda a: {"p": a["index"]}),
    "inducing other": ("must be", {}, lambda a: {"inducing": a["inducing"][:-5]}),
    "inducing columns": ("'inducing' must be", {}, lambda a: {"inducing": np.zeros((20, D + 1))}),
    "rows drawn": ("'inducing_rows' has", {}, lambda a: {"inducing_rows": changed(a["inducing_rows"], (0, N))}),
    "cholesky square": ("'cholesky' must be", {}, lambda a: {"cholesky": np.eye(20)}),
    "cholesky singular": ("diagonal", {}, lambda a: {"cholesky": np.zeros((20, 32))}),
    "cholesky NaN": ("'cholesky' has", {}, lambda a: {"cholesky": changed(a["cholesky"], ((0, 0), np.nan))}),
    "extra": ("do not belong here: extra", {}, lambda a: {"extra": np.zeros(3)}),
    "root too large": ("root must be", {"tree": {"root": N}}, None),
    "root negative": ("root must be", {"tree": {"root": -1}}, None),
    "root true": ("root must be", {"tree": {"root": True}}, None),
    "root float": ("root must be", {"tree": {"root": 0.0}}, None),
    "no root": ("the cover tree must be", {"tree": {}}, None),
    "tree a list": ("the cover tree must be", {"tree": []}, None),
    "tree unsaid": ("do not belong here", {"tree": None}, None),
    "tree missing": ("'tree.parent' is missing", {}, lambda a: {"tree.parent": None}),
    "child too large": ("'tree.children' has", {}, lambda a: {"tree.children": changed(a["tree.children"], (0, N))}),
    "child negative": ("'tree.children' has", {}, lambda a: {"tree.children": changed(a["tree.children"], (0, -1))}),
    "child twice": (
        "T1",
        {},
        lambda a: {"tree.children": changed(a["tree.children"], (0, a["tree.children"][1]))},
    ),
    "children swapped": ("T1", {}, lambda a: {"tree.children": swapped(a["tree.children"], 0, 1)}),
    "children many": ("'tree.children' must be", {}, lambda a: {"tree.children": a["index"]}),
    "parent too large": ("'tree.parent' has", {}, lambda a: {"tree.parent": changed(a["tree.parent"], (1, N))}),
    "parent below -1": ("'tree.parent' has", {}, lambda a: {"tree.parent": changed(a["tree.parent"], (1, -2))}),
    "two roots": ("T1", {}, lambda a: {"tree.parent": np.full(N, -1)}),
    "pointers decrease": (
        "does not run",
        {},
        lambda a: {"tree.child_ptr": changed(a["tree.child_ptr"], (5, N - 1), (6, 0))},
    ),
    "pointers too far": ("'tree.child_ptr' has", {}, lambda a: {"tree.child_ptr": a["tree.child_ptr"] + 1}),
    "pointers negative": (
        "'tree.child_ptr' has",
        {},
        lambda a: {"tree.child_ptr": changed(a["tree.child_ptr"], (0, -1))},
    ),
    "pointers end early": (
        "does not run",
        {},
        lambda a: {"tree.child_ptr": np.minimum(a["tree.child_ptr"], N - 2)},
    ),
    "levels equal": ("T2", {}, lambda a: {"tree.level": np.zeros(N, dtype=np.int64)}),
    "level too high": ("'tree.level' has", {}, lambda a: {"tree.level": a["tree.level"] + 2**40}),
    "level too low": (
        "'tree.level' has",
        {},
        lambda a: {"tree.level": changed(a["tree.level"], (0, DUPLICATE_LEVEL - 1))},
    ),
    "si NaN": ("'tree.si' has", {}, lambda a: {"tree.si": changed(a["tree.si"], (0, np.nan))}),
    "si negative": ("'tree.si' has", {}, lambda a: {"tree.si": changed(a["tree.si"], (0, -1.0))}),
    "distance inf": (
        "'tree.parent_distance' has",
        {},
        lambda a: {"tree.parent_distance": changed(a["tree.parent_distance"], (0, np.inf))},
    ),
    "slack negative": ("slack_abs must be", {"slack_abs": -1.0}, None),
    "slack infinite": ("slack_rel must be", {"slack_rel": 10**400}, None),
    "slack a string": ("slack_abs must be", {"slack_abs": "0"}, None),
    "floored": ("floored must be", {"floored": N + 1}, None),
    "unknown key": ("must be an object", {"more": 1}, None),
    "metric null": ("the metric None", {"metric": None}, None),
    "metric unknown": ("the metric 'cosine'", {"metric": {"name": "cosine"}}, None),
    "metric unhashable": ("the metric", {"metric": {"name": []}}, None),
    "euclidean with factors": ("do not belong here", {"metric": {"name": "euclidean"}}, None),
}
KERNEL = {"name": "matern32", "lengthscale": list(SCALE), "variance": 1.0}
for label, changes in {
    "kernel unknown": {"name": "cosine"},
    "kernel unhashable": {"name": {}},
    "lengthscale zero": {"lengthscale": 0},
    "lengthscale negative": {"lengthscale": [1.0, -1.0, 1.0]},
    "lengthscale huge": {"lengthscale": 10**400},
    "lengthscale few": {"lengthscale": [1.0, 1.0]},
    "lengthscale none": {"lengthscale": []},
    "lengthscale nested": {"lengthscale": [[1.0], [1.0], [1.0]]},
    "lengthscale text": {"lengthscale": "1.0"},
    "lengthscale null": {"lengthscale": None},
    "variance true": {"variance": True},
    "variance negative": {"variance": -1.0},
    "variance tiny": {"variance": 1e-200},
    "alpha": {"alpha": 1.0},
}.items():
    LIES[label] = ("kernel|lengthscale|variance", {"metric": {"kernel": KERNEL | changes}}, None)
for label, changes in {
    "jitter negative": {"jitter": -1.0},
    "jitter text": {"jitter": "1e-6"},
    "seed negative": {"seed": -1},
    "seed float": {"seed": 1.5},
    "metric key": {"more": 1},
    "kernel missing": {"kernel": None},
    "factors also": {"factor_columns": 20, "p_diag": "none"},
    "residual as correlation": {"name": "correlation"},
}.items():
    LIES[label] = ("jitter|seed|must be|kernel", {"metric": changes}, None)


@pytest.mark.parametrize(("match", "document_changes", "array_changes"), LIES.values(), ids=LIES)
def test_contents_that_lie(residual, match, document_changes, array_changes, tmp_path):
    """A file with the right checksums, made to mislead a kernel."""
    document, arrays = describe(residual[0]._state)
    document = json.loads(json.dumps(document))
    for key, value in document_changes.items():
        merge = key == "metric" and isinstance(value, dict) and value.get("name") not in ("euclidean", "cosine", [])
        document[key] = document["metric"] | value if merge else value
    arrays = arrays | (array_changes(arrays) if array_changes else {})
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    path = tmp_path / "tree"
    path.write_bytes(file_of(document, arrays))
    refuse(path, match)
    with pytest.raises(cx.FileFormatError, match=match):
        transport.restore(document, arrays, 1, None)


def scaled_by(name, factor):
    return lambda a: {name: a[name] * factor}


def far_away(arrays):
    return {"x": arrays["x"] * 1e100}


#: (tree, what is said, document, arrays): what contradicts the other arrays; in LIES' form
CONTRADICTIONS = {
    "coords huge": ("count", "'coords' has values", {}, lambda a: {"coords": changed(a["coords"], ((2, 1), 1e300))}),
    "coords moved": ("count", "'coords' is not", {}, lambda a: {"coords": changed(a["coords"], ((2, 1), 0.125))}),
    "coords moved, x not": ("euclidean", "is missing", {"metric": {"name": "correlation"}}, None),
    "x moved": ("count", "'coords' is not", {}, lambda a: {"x": changed(a["x"], ((2, 1), 0.125))}),
    "lengthscale": ("correlation", "'coords' is not", {"kernel": {"lengthscale": 0.5}}, None),
    "lengthscale too small": ("correlation", "does not belong to", {"kernel": {"lengthscale": 1e-99}}, far_away),
    "inducing huge": ("count", "'inducing' has values", {}, lambda a: {"inducing": a["inducing"] + 1e300}),
    "inducing moved": ("count", "'inducing' is not", {}, lambda a: {"inducing": a["inducing"] + 0.1}),
    "inducing points moved": (
        "coordinates",
        "'inducing' is not",
        {},
        lambda a: {"inducing_points": a["inducing_points"] + 0.1},
    ),
    "other rows": ("count", "'inducing' is not", {}, lambda a: {"inducing_rows": a["inducing_rows"][::-1]}),
    "cholesky above": ("count", "zero above", {}, lambda a: {"cholesky": changed(a["cholesky"], ((0, 3), 1e-3))}),
    "cholesky padding": ("count", "zero above", {}, lambda a: {"cholesky": changed(a["cholesky"], ((0, 31), 1.0))}),
    "cholesky": ("count", "'cholesky' is not that", {}, scaled_by("cholesky", 1.0 + 1e-6)),
    "cholesky, last digits": ("count", "'factors' is not that", {}, scaled_by("cholesky", 1.0 + 1e-15)),
    "jitter": ("count", "'cholesky' is not that", {"metric": {"jitter": 1e-3}}, None),
    "kernel": ("count", "'cholesky' is not that", {"kernel": {"name": "rbf"}}, None),
    "factors NaN": ("count", "not finite", {}, lambda a: {"factors": changed(a["factors"], ((3, 2), np.nan))}),
    "factors inf": ("count", "not finite", {}, lambda a: {"factors": changed(a["factors"], ((3, 2), np.inf))}),
    "factors huge": ("count", "not finite", {}, lambda a: {"factors": changed(a["factors"], ((3, 2), 1e300))}),
    "factors zero": ("count", "'p' is not", {}, scaled_by("factors", 0.0)),
    "factors negative": ("count", "'factors' is not that", {}, scaled_by("factors", -1.0)),
    "p": ("count", "'p' is not", {}, lambda a: {"p": changed(a["p"], (3, 0.5))}),
    "p of a correlation": ("correlation", "'p' is not", {}, scaled_by("p", 0.5)),
    "p beside v_matrix": ("v_matrix", "'p' is not", {}, scaled_by("p", 1.5)),
    "p below": ("p is p", "'p' is not", {}, lambda a: {"p": changed(a["p"], (3, a["p"][3] * 0.9))}),
    "p beside p_diag": ("p at its floor", "what 'p_diag' makes", {}, lambda a: {"p": changed(a["p"], (3, 2.0))}),
    "p_diag": ("p at its floor", "what 'p_diag' makes", {}, scaled_by("p_diag", 1.01)),
    "factors permuted": ("p is p", "'p' is not|eigenvalue", {}, lambda a: {"factors": a["factors"][::-1].copy()}),
    "factors off the kernel": (
        "p is p",
        "eigenvalue",
        {},
        lambda a: {"factors": a["factors"] * np.resize([[1], [-1]], (N, 1))},
    ),
    "v_matrix padding": ("v_matrix", "'p' is not|padded", {}, lambda a: {"factors": a["factors"][:, ::-1].copy()}),
    "padding": (
        "v_matrix and p",
        "not padded with zeros",
        {},
        lambda a: {"factors": changed(a["factors"], ((3, 31), 1e-3))},
    ),
    "slack small": ("count", "slack_abs is 1e-300, but this metric needs", {"slack_abs": 1e-300}, None),
    "slack of Euclid": ("euclidean", "slack_rel is 0.0, but this metric needs", {"slack_rel": 0.0}, None),
    "slack of v_matrix": ("v_matrix", "slack_abs is 0.0, but this metric needs", {"slack_abs": 0.0}, None),
    "floored": ("count", "floored is 1, but 0 rows of 'p' are", {"floored": 1}, None),
    "parent distances": ("count", "T3: the array", {}, scaled_by("tree.parent_distance", 1.0 + 1e-15)),
    "distance of the root": ("euclidean", "T3: the array", {}, lambda a: {"tree.parent_distance": a["tree.si"]}),
    "levels fall": (
        "euclidean",
        "T3: a node is farther",
        {},
        lambda a: {"tree.level": np.maximum(a["tree.level"] - 3, -1100)},
    ),
    "radii of children": ("count", "T5: .* the children", {}, scaled_by("tree.si", 0.0)),
    "radii": ("euclidean", "T5: .* descendants", {}, scaled_by("tree.si", 1.0 + 1e-6)),
    "radius of a point": ("one point", "T5: a single node", {}, lambda a: {"tree.si": np.ones(1)}),
}


def tree_of(name):
    tree = MAKERS[name]()
    _ = tree.tree
    return tree


@pytest.mark.parametrize(("name", "match", "changes", "arrays_of"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_arrays_that_contradict_each_other(name, match, changes, arrays_of, tmp_path):
    """A file with the right checksums, all its numbers possible, and wrong answers in it."""
    document, arrays = describe(tree_of(name)._state)
    document = json.loads(json.dumps(document))
    for key, value in changes.items():
        if key == "kernel":
            document["metric"]["kernel"] |= value
        elif key == "metric":
            document["metric"] |= value
        else:
            document[key] = value
    if name == "euclidean" and "metric" in changes:
        document["metric"]["kernel"] = {"name": "rbf", "lengthscale": 1.0, "variance": 1.0}
    arrays = arrays | (arrays_of(arrays) if arrays_of else {})
    path = tmp_path / "tree"
    path.write_bytes(file_of(document, {name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    refuse(path, match)


def test_large_trees_are_compared_in_part(tmp_path, monkeypatch):
    """Where recomputing everything would take long, a sample is: what must be seen is seen, and genuine files pass."""
    monkeypatch.setattr(description, "BUDGET", 1)
    monkeypatch.setattr(description, "LEADING", 8)
    for name in ("count", "euclidean", "v_matrix"):
        tree_of(name).save(tmp_path / name)
        assert answers(cx.load(tmp_path / name)) == answers(tree_of(name))
    document, arrays = describe(tree_of("count")._state)
    for changes, match in (
        (scaled_by("factors", -1.0), "'factors' is not that"),
        (scaled_by("cholesky", 1.0 + 1e-15), "'factors' is not that"),
        (lambda a: {"tree.si": np.where(a["tree.si"] > 0.0, np.nextafter(a["tree.si"], 0.0), 0.0)}, "T5"),
    ):
        (tmp_path / "tree").write_bytes(file_of(document, arrays | changes(arrays)))
        refuse(tmp_path / "tree", match)


def floored():
    """Inducing points that explain themselves nearly wholly: computed p at their floor."""
    tree = cx.cover_tree(points(), kernel=cx.Matern32(2.0, variance=1.9), inducing=np.arange(0, N, 4), jitter=1e-10)
    assert tree.payload.floored > 0
    return tree


DERIVED = {
    "floored": floored,
    "other metric": lambda: tree_of("count").with_metric(cx.RBF(0.7)),
    "other kind of metric": lambda: tree_of("euclidean").with_metric(cx.Correlation(RQ)),
    "inserted": lambda: tree_of("count").insert(points(5)[:7]),
    "inserted, sorted anew": lambda: tree_of("rows").insert(points(5)[:70]),
    "inserted in Euclid": lambda: tree_of("euclidean").insert(points(5)[:7]),
    "inserted, supplied": lambda: tree_of("v_matrix").insert(points()[:5], v_matrix=supplied(RQ)[0][:5]),
    "deleted": lambda: tree_of("count").delete(np.arange(3, 30)),
    "deleted and inserted": lambda: tree_of("count").delete(np.arange(3, 30)).insert(points(5)[:7]),
}


@pytest.mark.parametrize("make", DERIVED.values(), ids=DERIVED)
def test_derived_trees_contradict_nothing(make, tmp_path):
    tree = make()
    _ = tree.tree
    for _ in range(2):
        tree.save(tmp_path / "tree")
        loaded = cx.load(tmp_path / "tree")
        assert answers(loaded) == answers(tree)
        tree = loaded if getattr(loaded.metric, "v_matrix", None) is not None else loaded.insert(points(6)[:3])


def test_verify_is_a_flag(residual, tmp_path):
    (tmp_path / "tree").write_bytes(residual[1])
    with pytest.raises(cx.InvalidInputError, match="verify must be True or False, got None"):
        cx.load(tmp_path / "tree", verify=None)


def test_a_tree_without_finite_distances_is_an_error():
    """Nothing is written where there is no parent: a point that nothing covers ends the build."""
    tree = cx.cover_tree(points())
    for value in (np.nan, np.inf, 1e300):
        for n_threads in (1, 2):
            coords = tree.payload.coords.copy()
            coords[tree.payload.row[100]] = value
            payload = dataclasses.replace(tree.payload, coords=coords)
            with np.errstate(invalid="ignore"), pytest.raises(cx.InvalidInputError, match="at no finite distance from"):
                build_tree(payload, n_threads)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"factor_columns": 33}, "'factors' must be"),
        ({"factor_columns": 0}, "factor_columns must be"),
        ({"factor_columns": 2**80}, "factor_columns must be"),
        ({"p_diag": "some"}, "p_diag is"),
        ({"p_diag": []}, "p_diag is"),
        ({"p_diag": "array"}, "'p_diag' is missing"),
        ({"seed": 1}, "must be an object"),
    ],
    ids=str,
)
def test_supplied_factors_that_lie(changes, match):
    document, arrays = describe(MAKERS["v_matrix"]()._state)
    document["metric"] |= changes
    with pytest.raises(cx.FileFormatError, match=match):
        transport.restore(document, arrays, 1, None)


def test_a_cycle_beside_the_tree_is_seen(residual):
    """Two nodes that hang on each other: every node is a child just once, and all are in range."""
    document, arrays = describe(residual[0]._state)
    n = len(residual[0])
    root, a, b = document["tree"]["root"], *[x for x in range(n) if x != document["tree"]["root"]][:2]
    parent = np.full(n, root)
    parent[[root, a, b]] = -1, b, a
    rest = np.array([x for x in np.argsort(parent, kind="stable") if x != root])
    counts = np.bincount(parent[rest], minlength=n)
    level = np.where(np.arange(n) == root, 5, 0)
    arrays |= {"tree.parent": parent, "tree.children": rest, "tree.level": level}
    arrays["tree.child_ptr"] = np.concatenate([[0], np.cumsum(counts)])
    with pytest.raises(cx.FileFormatError, match="T2"):
        transport.restore(document, arrays, 1, None)


def test_factors_of_any_bits_crash_nothing(residual, backend, tmp_path):
    """Factors are too many to look at when a file is mapped unverified: then anything may be in them."""
    document, arrays = describe(residual[0]._state)
    words = np.random.default_rng(0).integers(0, 2**64, size=arrays["factors"].shape, dtype=np.uint64)
    for factors in (words.view(np.float64), np.full(words.shape, np.nan), np.full(words.shape, 1e300)):
        (tmp_path / "tree").write_bytes(file_of(document, arrays | {"factors": factors}))
        refuse(tmp_path / "tree", "'factors' has rows that are not finite")
        loaded = cx.load(tmp_path / "tree", verify=False)
        with contextlib.suppress(cx.CovertreexError):
            answers(loaded, backend)
        with contextlib.suppress(cx.CovertreexError), np.errstate(all="ignore"):
            loaded.insert(points(9)[:20])
        with contextlib.suppress(cx.CovertreexError):
            answers(loaded.with_metric(cx.RBF(0.4)), backend)


# ---------------------------------------------------------------------------------------------------------------------
# Fuzz


def head_of(data):
    """Bytes before the first array: length, header, its digest, and padding."""
    return 8 + int.from_bytes(data[:8], "little") + 64


def test_every_byte_of_the_header_counts(residual, tmp_path):
    path, data = tmp_path / "tree", bytearray(residual[1])
    changes = np.random.default_rng(1).integers(1, 256, size=head_of(data)).tolist()
    path.write_bytes(data)
    with open(path, "r+b", buffering=0) as file:
        for at, change in enumerate(changes):
            file.seek(at)
            file.write(bytes([data[at] ^ change]))
            with pytest.raises(cx.FileFormatError):
                cx.load(path)
            file.seek(at)
            file.write(data[at : at + 1])
    cx.load(path, verify=True)


@given(st.data())
def test_fuzzed_headers(residual, tmp_path_factory, data):
    path, original = tmp_path_factory.getbasetemp() / "fuzzed header", residual[1]
    begin = data.draw(st.integers(0, head_of(original) - 1))
    end = data.draw(st.integers(begin, min(begin + 40, head_of(original))))
    fuzzed = original[:begin] + data.draw(st.binary(max_size=40)) + original[end:]
    assume(fuzzed != original)
    path.write_bytes(fuzzed)
    refuse(path, "cannot load")


@given(st.floats(0.0, 1.0, exclude_max=True))
@example(0.0)
def test_truncated_files(residual, tmp_path_factory, share):
    path, original = tmp_path_factory.getbasetemp() / "truncated", residual[1]
    for most in (head_of(original), len(original)):
        path.write_bytes(original[: int(share * most)])
        refuse(path, "truncated|empty")


@given(st.data())
def test_fuzzed_arrays(residual, tmp_path_factory, data):
    """Damage among the arrays is an error; unverified, it gives answers that may be wrong, but no crash."""
    path, fuzzed = tmp_path_factory.getbasetemp() / "fuzzed arrays", bytearray(residual[1])
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(head_of(fuzzed), len(fuzzed) - 1))
        some = data.draw(st.binary(min_size=1, max_size=9))
        fuzzed[at : at + len(some)] = some[: len(fuzzed) - at]
    assume(fuzzed != residual[1])
    path.write_bytes(fuzzed)
    with pytest.raises(cx.FileFormatError):
        cx.load(path)
    with pytest.raises(cx.FileFormatError):
        cx.load(path, mmap=False)
    with contextlib.suppress(cx.CovertreexError):
        answers(cx.load(path, verify=False))


def test_a_file_that_shrinks_while_it_is_read(residual, tmp_path, monkeypatch):
    path = tmp_path / "tree"
    path.write_bytes(residual[1])
    genuine = container._read_entries

    def shrink(*arguments):
        where = genuine(*arguments)
        os.truncate(path, head_of(residual[1]) + 100)
        return where

    monkeypatch.setattr(container, "_read_entries", shrink)
    with pytest.raises(cx.FileFormatError, match=r"truncated|damaged"):
        cx.load(path, mmap=False)


def test_mapping_unverified_reads_no_factors(tmp_path):
    """Loading takes the time of what is checked, which the factors are not."""
    tree = cx.cover_tree(np.random.default_rng(0).normal(size=(4000, 2)), kernel=cx.Matern32(), inducing=64)
    tree.save(tmp_path / "tree")
    shutil.copy(tmp_path / "tree", tmp_path / "copy")
    loaded = cx.load(tmp_path / "copy", verify=False)
    start, size = loaded.payload.factors.ctypes.data, math.prod(loaded.payload.factors.shape) * 8
    resident = 0
    with open("/proc/self/smaps") as file:
        for line in file:
            if line.rstrip().endswith("/copy"):
                low, high = (int(edge, 16) for edge in line.split()[0].split("-"))
                assert low <= start
                assert start + size <= high
                resident = next(int(row.split()[1]) for row in file if row.startswith("Rss:"))
    assert 0 < resident * 1024 < os.path.getsize(tmp_path / "copy")
