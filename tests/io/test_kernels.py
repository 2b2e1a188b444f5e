"""Kernels in files: with their tables, so that what is loaded answers as what was saved, whatever makes tables then."""

import dataclasses
import pickle

import numpy as np
import pytest

import covertreex as cx
from covertreex.io import transport
from covertreex.io.kernels import assemble_kernel, describe_kernel
from covertreex.kernels import Stationary, table


@dataclasses.dataclass(frozen=True)
class Rough(Stationary):
    """exp(-r^power), as somebody else's package would have it."""

    power: float = 0.7

    def correlation(self, r2, by=None):
        return np.exp(-np.power(r2, self.power / 2))


KERNELS = {
    "own": Rough(0.8),
    "columns": Rough(0.8, active_dims=[0, 2]),
    "sum": cx.RBF(1.0) + cx.Matern12((0.2, 0.3, 0.4), variance=0.3),
    "product": Rough(0.8, active_dims=[0, 1]) * cx.Matern12(0.3, active_dims=[2]),
    "scaled": 2.5 * (cx.RBF(1.0) + Rough(0.8)),
}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS)
def kernel(request):
    return request.param


@pytest.fixture
def tree(kernel, rng):
    return cx.cover_tree(rng.normal(size=(120, 3)), kernel=kernel, inducing=15)


def answers(tree):
    return [array.tobytes() for array in tree.knn(k=5, return_distances=True)]


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("verify", [True, False])
def test_files(tree, kernel, tmp_path, mmap, verify):
    tree.save(tmp_path / "tree")
    loaded = cx.load(tmp_path / "tree", mmap=mmap, verify=verify)
    assert loaded.metric.kernel == kernel
    assert answers(loaded) == answers(tree)
    new = np.random.default_rng(3).normal(size=(10, 3))
    assert answers(loaded.insert(new)) == answers(tree.insert(new))
    assert loaded.knn(k=3, queries=new).tolist() == tree.knn(k=3, queries=new).tolist()
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "tree").read_bytes()


def test_pickles(tree):
    assert answers(pickle.loads(pickle.dumps(tree))) == answers(tree)


def test_what_is_loaded_keeps_its_tables(kernel, rng, tmp_path, monkeypatch):
    """Another version of what makes tables, off by the last digits, changes no bit of what was saved."""
    X = rng.normal(size=(120, 3))
    tree = cx.cover_tree(X, kernel=kernel, inducing=15)
    tree.save(tmp_path / "tree")
    genuine = table.make_table

    def other(function, *args, **kwargs):
        made = genuine(function, *args, **kwargs)
        pieces = made.pieces.copy()
        pieces[1:-1, 0] = np.nextafter(pieces[1:-1, 0], 0.0)
        return dataclasses.replace(made, pieces=pieces)

    monkeypatch.setattr("covertreex.kernels.stationary.make_table", other)
    monkeypatch.setattr("covertreex.kernels.expression._TABLES", {})
    loaded = cx.load(tmp_path / "tree")
    assert answers(loaded) == answers(tree)
    assert answers(loaded.insert(X[:3] + 0.1)) == answers(tree.insert(X[:3] + 0.1))


def entries(kernel):
    arrays = {}
    document = describe_kernel(kernel, arrays)
    return document, {name: array.copy() for name, array in arrays.items()}


class Given:
    """Arrays as `covertreex.io.description.Arrays` gives them."""

    def __new__(cls, arrays):
        from covertreex.io.description import Arrays

        return Arrays(arrays)


def put(name, place, value):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


LIES = {
    "piece is nan": put("kernel.pieces", (3, 2), np.nan),
    "piece is huge": put("kernel.pieces", (3, 2), 1e300),
    "another function": put("kernel.pieces", (slice(40, -40), 0), 0.5),
    "stop too large": put("kernel.table_stop", -1, 10**6),
    "stop too small": put("kernel.table_stop", 0, 0),
    "term without factors": put("kernel.term_stop", 0, 0),
    "no such table": put("kernel.factor_table", 0, 99),
    "negative table": put("kernel.factor_table", 0, -1),
    "group": put("kernel.factor_group", 0, 9),
    "rescaled by half": put("kernel.rescale_table", 0, 0),
    "weight": put("kernel.weight", 0, 0.75),
    "first": put("kernel.table_first", 0, -(2**40)),
    "error": put("kernel.error", 0, np.nan),
    "missing": lambda arrays: arrays.pop("kernel.pieces"),
    "columns": lambda arrays: arrays.update({"kernel.pieces": np.ascontiguousarray(arrays["kernel.pieces"][:, :7])}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("kernel", [KERNELS["product"], KERNELS["scaled"]], ids=["product", "scaled"])
def test_tables_that_lie(kernel, lie):
    document, arrays = entries(kernel)
    assert assemble_kernel(document, Given(arrays)) == kernel
    lie(arrays)
    with pytest.raises(cx.FileFormatError):
        assemble_kernel(document, Given(arrays))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "nobody"},
        {"name": "matern12"},
        {"parts": []},
        {"parts": [{"name": "rbf", "lengthscale": 1.0, "variance": 1.0}] * 3},
        {"parts": [{"name": "rbf", "lengthscale": 1.0, "variance": "1"}] * 2},
        {"parts": [{"name": "rbf", "lengthscale": 1.0, "variance": 1.0, "active_dims": [-1]}] * 2},
        {"more": 1},
    ],
)
def test_documents_that_lie(change):
    document, arrays = entries(KERNELS["sum"])
    with pytest.raises(cx.FileFormatError):
        assemble_kernel(document | change, Given(arrays))


def test_kernels_in_kernels_without_end():
    document, arrays = entries(KERNELS["scaled"])
    for _ in range(40):
        document = {"name": "scaled", "kernel": document, "variance": 1.0}
    with pytest.raises(cx.FileFormatError, match="too deeply"):
        assemble_kernel(document, Given(arrays))


def test_a_kernel_that_is_not_imported(tree, tmp_path, monkeypatch):
    tree.save(tmp_path / "tree")
    monkeypatch.setattr("covertreex.io.kernels._classes", dict)
    with pytest.raises(cx.FileFormatError, match="import the module that has it"):
        cx.load(tmp_path / "tree")


def test_processes_get_the_tables(tree):
    assert transport  # pickles of trees go through it
    clone = pickle.loads(pickle.dumps(tree.metric.kernel))
    assert clone == tree.metric.kernel
