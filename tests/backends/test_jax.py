"""The jax backend: the bits of cython on the workloads that are measured, refusals, and what becomes of its memory."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import covertreex as cx
from covertreex.backends import registry
from covertreex.data import questions
from covertreex.search import SearchContext, nearest
from covertreex.settings import EXACT, FAST
from covertreex_bench.workloads import make_workload

jax = pytest.importorskip("jax", reason="JAX is not installed: python -m pip install ./backends/jax")
covertreex_jax = pytest.importorskip("covertreex_jax", reason="python -m pip install ./backends/jax")

from covertreex_jax import screens  # noqa: E402


def ask(tree, k, backend, settings=EXACT, queries=None, predecessors=False):
    """What `backend`, an object, answers through the driver."""
    asked = questions.check(tree._state, queries, predecessor_mode=predecessors)
    block = questions.block_of(tree._state, asked, 2)
    return nearest(SearchContext(tree.payload, k, settings, backend, 2), block, lambda: tree.tree)


@pytest.fixture(scope="module")
def tree():
    X = np.random.default_rng(0).uniform(size=(3000, 2))
    return cx.cover_tree(X, kernel=cx.Matern32(0.2), inducing=40, jitter=1e-4)


@pytest.mark.parametrize(("name", "n", "inducing"), [("gold", 4096, 256), ("vif", 8000, None), ("cities", 8000, None)])
def test_bits_are_those_of_cython_on_what_is_measured(name, n, inducing):
    work = make_workload(name, n=n, inducing=inducing, queries=300)
    tree = work.tree()
    for settings in (EXACT, FAST):
        ours, theirs = (
            ask(tree, work.k, one, settings, work.queries, work.predecessors)
            for one in (registry.get_backend("cython"), covertreex_jax.JaxBackend())
        )
        np.testing.assert_array_equal(theirs.indices, ours.indices)
        np.testing.assert_array_equal(theirs.distances.view(np.int64), ours.distances.view(np.int64))
        assert theirs.plan.phases == {"screen": "jax", "decision": "jax"}
        assert theirs.plan.screen.startswith("float64 on " if name == "gold" else "float32 on ")
        assert {block.screened_by for block in theirs.telemetry.blocks} == {"jax"}


def test_rings_are_cythons_so_that_they_end_where_they_ever_did():
    X = np.random.default_rng(3).uniform(size=(6000, 2))
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=64, jitter=1e-4)
    settings = FAST.replace(recall_target=0.95)
    found, expected = ask(tree, 8, covertreex_jax.JaxBackend(), settings), tree.search(8, settings=settings)
    assert found.plan.least is not None
    assert found.plan.phases == {"screen": "cython", "decision": "jax"}
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_a_payload_that_takes_too_much_memory_is_declined(tree):
    found = ask(tree, 5, covertreex_jax.JaxBackend(memory=1000))
    assert found.plan.phases == {"screen": "cython", "decision": "jax"}
    assert "its copy of the data takes 0.000612 GB, and 1e-06 GB may be used" in found.plan.declined
    assert "jax declined: its copy" in str(found.plan)
    np.testing.assert_array_equal(found.indices, tree.search(5).indices)


class Scarce(screens.Handle):
    """A copy on a device that has no memory for more than so many rows at a time."""

    most = 2048

    def put(self, array):
        if array.ndim == 1 and array.dtype == np.int32 and len(array) > max(self.most, screens.WIDTHS[-1]):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return super().put(array)


def test_tiles_become_smaller_where_memory_runs_out(tree, monkeypatch):
    monkeypatch.setattr(screens, "Handle", Scarce)
    context = SearchContext(tree.payload, 5, EXACT, covertreex_jax.JaxBackend())
    block = questions.block_of(tree._state, questions.check(tree._state, None), 1)
    found = nearest(context, block, lambda: tree.tree)
    assert found.plan.screened_by == "jax"
    np.testing.assert_array_equal(found.indices, tree.search(5).indices)


def test_where_no_tile_is_small_enough_the_error_says_so(tree, monkeypatch):
    def look(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(screens, "_look", look)
    with pytest.raises(cx.BackendError, match="has no memory for 2048 queries and 1024 rows at a time; free some, or"):
        ask(tree, 5, covertreex_jax.JaxBackend())


def test_a_device_that_rounds_more_than_its_bound_says_is_declined(tree, monkeypatch):
    pairs = screens._pairs
    monkeypatch.setattr(screens, "_pairs", lambda *arguments: pairs(*arguments) * 1.001)
    found = ask(tree, 5, covertreex_jax.JaxBackend())
    assert "computes |rho| with errors up to 0.00" in found.plan.declined
    assert "beyond the bound of float32" in found.plan.declined


def test_a_copy_is_made_once_and_freed_with_the_tree():
    X = np.random.default_rng(1).uniform(size=(600, 2))
    tree, backend = cx.cover_tree(X, kernel=cx.Matern32(0.2), inducing=20, jitter=1e-4), covertreex_jax.JaxBackend()
    handles = []

    def prepare(payload, make=backend.prepare):
        handles.append(make(payload))
        return handles[-1]

    backend.prepare = prepare
    for _ in range(2):
        ask(tree, 5, backend)
    deleted = tree.delete([3, 5])
    ask(deleted, 5, backend)
    assert len(handles) == 1
    ask(tree.with_metric(cx.Matern32(0.3)), 5, backend)
    assert len(handles) == 2
    del tree, deleted
    gc.collect()
    assert all(array.is_deleted() for array in handles[0].arrays)


def test_a_tree_search_is_refused():
    assert covertreex_jax.backend.capabilities.missing(cx.PARITY) == ["the tree search (level L1)"]


def test_jax_is_imported_when_it_is_needed():
    code = "import sys, covertreex_jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
