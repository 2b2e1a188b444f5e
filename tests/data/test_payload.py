"""The payload store: maps between rows and dataset indices, read-only memory that all backends share."""

import tracemalloc

import numpy as np
import pytest

import covertreex as cx
from covertreex import search
from covertreex.base import tuning
from covertreex.data import factors
from covertreex.data import questions as asking
from covertreex.data.payload import RESIDUAL, PayloadStore, padded

ARRAYS = ("coords", "factors", "p", "index", "row")
TREE_ARRAYS = ("parent", "level", "child_ptr", "children", "parent_distance", "si")


@pytest.fixture
def tree(rng):
    return cx.cover_tree(rng.normal(size=(200, 3)), kernel=cx.Matern32((1.0, 2.0, 0.5)), inducing=20, n_threads=1)


@pytest.mark.parametrize(("m", "width"), [(0, 0), (1, 16), (16, 16), (17, 32), (512, 512)])
def test_padded(m, width):
    assert padded(m) == width


def test_rows_and_indices_are_inverse(tree):
    payload = tree.payload
    np.testing.assert_array_equal(np.sort(payload.index), np.arange(200))
    np.testing.assert_array_equal(payload.row[payload.index], np.arange(200))
    np.testing.assert_array_equal(payload.index[payload.row], np.arange(200))
    assert np.any(payload.index != np.arange(200)), "the test wants rows in another order than the data's"


def test_coordinates_are_scaled_data(tree):
    payload = tree.payload
    some = [17, 3, 199, 3]
    np.testing.assert_array_equal(payload.coordinates(some), tree.X[some] / np.array([1.0, 2.0, 0.5]))
    np.testing.assert_array_equal(payload.coords[payload.row], payload.coordinates(np.arange(200)))


def test_locate_finds_every_point(tree):
    payload = tree.payload
    np.testing.assert_array_equal(payload.locate(payload.coordinates(np.arange(200))), np.arange(200))


def test_locate_knows_what_is_not_there(tree):
    wanted = tree.payload.coordinates([5, 6, 7])
    wanted[1, 2] = np.nextafter(wanted[1, 2], np.inf)
    assert tree.payload.locate(wanted).tolist() == [5, -1, 7]


def test_locate_gives_the_first_of_duplicates_and_no_sign_to_zero():
    payload = cx.cover_tree([[1.0, 0.0], [0.0, 1.0], [1.0, -0.0], [0.0, 1.0]]).payload
    assert payload.locate([[1.0, 0.0], [1.0, -0.0], [-0.0, 1.0], [0.0, 0.0]]).tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize("name", ARRAYS)
def test_payload_is_read_only(tree, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(tree.payload, name)[...] = 0


@pytest.mark.parametrize("name", TREE_ARRAYS)
def test_tree_is_read_only(tree, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(tree.tree, name)[...] = 0


def test_the_callers_data_is_neither_frozen_nor_watched(rng):
    X = rng.normal(size=(50, 2))
    original = X.copy()
    tree = cx.cover_tree(X)
    X[:] = 0.0
    np.testing.assert_array_equal(tree.X, original)
    np.testing.assert_array_equal(tree.payload.coordinates(np.arange(50)), original)


def test_supplied_factors_are_not_frozen(rng):
    X, V, p = rng.normal(size=(20, 2)), np.zeros((20, 16)), np.ones(20)
    cx.cover_tree(X, kernel=cx.RBF(), v_matrix=V, p_diag=p)
    V[0], p[0] = 1.0, 2.0


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("coords", np.zeros((4, 2), dtype=np.float32)),
        ("coords", np.zeros((2, 4)).T),
        ("factors", np.zeros((4, 17))),
        ("factors", np.zeros((3, 16))),
        ("p", np.ones(3)),
        ("p", np.ones(4, dtype=np.float32)),
        ("index", np.arange(4, dtype=np.int32)),
        ("row", np.arange(5)),
    ],
)
def test_wrong_arrays_are_refused(name, array):
    arrays = {
        "coords": np.zeros((4, 2)),
        "factors": np.zeros((4, 16)),
        "p": np.ones(4),
        "index": np.arange(4),
        "row": np.arange(4),
    }
    with pytest.raises(cx.InvalidInputError, match=f"payload array {name} must be C-contiguous"):
        PayloadStore(RESIDUAL, cx.RBF(), **{**arrays, name: array}, slack_abs=0.0, slack_rel=0.0)


def test_nbytes_counts_every_array(tree):
    assert tree.payload.nbytes == sum(getattr(tree.payload, name).nbytes for name in ARRAYS)


def test_lower_and_upper_enclose(tree):
    d = np.linspace(0.0, 1.0, 50)
    lower, upper = tree.payload.lower(d), tree.payload.upper(d)
    assert np.all(lower <= d)
    assert np.all(d <= upper)
    assert lower[0] == 0.0
    assert upper[0] > 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Shared memory


class Spy:
    """A backend that looks at what another is given."""

    def __init__(self, backend):
        self.backend = backend
        self.name, self.capabilities = backend.name, backend.capabilities
        self.payloads, self.trees = [], []

    def search(self, tree, payload, queries, k, settings, out):
        self.payloads.append(payload)
        self.trees.append(tree)
        self.backend.search(tree, payload, queries, k, settings, out)

    def scan(self, payload, plan, k, settings, out):
        self.payloads.append(payload)
        self.backend.scan(payload, plan, k, settings, out)


def pointers(owner, names):
    return {name: getattr(owner, name).__array_interface__["data"] for name in names}


@pytest.mark.parametrize("profile", [cx.PARITY, cx.EXACT], ids=["search", "scan"])
def test_backends_share_the_store_without_a_copy(tree, backend, profile):
    payload, spy = tree.payload, Spy(cx.get_backend(backend))
    before = pointers(payload, ARRAYS)
    block = asking.block_of(tree._state, asking.check(tree._state), 1)
    search.nearest(search.SearchContext(payload, 5, profile, spy, 2), block, lambda: tree.tree)

    assert spy.payloads
    for seen in spy.payloads:
        assert pointers(seen, ARRAYS) == before
        for name in ARRAYS:
            assert seen is payload or np.shares_memory(getattr(seen, name), getattr(payload, name))
            assert not getattr(seen, name).flags.writeable
    for seen in spy.trees:
        assert pointers(seen, TREE_ARRAYS) == pointers(tree.tree, TREE_ARRAYS)


@pytest.mark.parametrize("profile", [cx.PARITY, cx.EXACT], ids=["search", "scan"])
def test_a_kernel_copies_no_factors(backend, profile, rng):
    tree = cx.cover_tree(rng.normal(size=(2000, 2)), kernel=cx.Matern32(), inducing=256, n_threads=1)
    tree.knn(1, queries=[0], settings=profile, backend=backend)  # builds, imports, compiles
    tracemalloc.start()
    try:
        tree.knn(1, queries=[0], settings=profile, backend=backend)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < tree.payload.factors.nbytes / 10


# ---------------------------------------------------------------------------------------------------------------------
# Memory of the factors

N, M = 20_000, 128
BLOCK = tuning.FACTOR_BLOCK * M * 8
#: What else n points need: coordinates, p, maps and the scratch of their checks, in float64 per point.
REST = 40 * N * 8


def peak_of(prepare):
    """(payload, peak of memory that NumPy and Python allocate meanwhile)"""
    tracemalloc.start()
    try:
        payload, _ = prepare()
        return payload, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_factors_need_no_more_than_themselves_and_a_block_per_thread(n_threads, rng):
    metric, X = cx.ResidualCorrelation(cx.Matern32(), inducing=M), rng.normal(size=(N, 2))
    payload, peak = peak_of(lambda: metric.prepare(X, n_threads))
    assert payload.factors.nbytes == N * M * 8
    assert peak < payload.factors.nbytes + n_threads * BLOCK + REST


def test_supplied_factors_are_copied_once(rng):
    n = 5 * N
    X, V = rng.normal(size=(n, 2)), np.full((n, M), 0.01)
    metric = cx.ResidualCorrelation(cx.Matern32(1e-3), v_matrix=V, p_diag=np.full(n, 2.0 * n))
    payload, peak = peak_of(lambda: metric.prepare(X))
    sample = 16 * factors.SAMPLE**2 * 8  # covariances of some rows are checked
    assert peak < payload.factors.nbytes + BLOCK + 5 * REST + sample
