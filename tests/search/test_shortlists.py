"""The verb `shortlist`: covertreex's own screens pass the kit's checks of level S, and backends that err are named."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from zoo import TemplateBackend, eleven_bits

import covertreex as cx
from covertreex.data import questions
from covertreex.protocols import (
    LEVELS,
    PROTOCOL_VERSION,
    Capabilities,
    Declined,
    Screening,
    Traversal,
    TreeTraversal,
    margin,
)
from covertreex.search import SearchContext, nearest
from covertreex.search.screens.cache import mixed_or_sharp, sharp, single
from covertreex.search.screens.view import View
from covertreex.search.shortlists import Shortlists
from covertreex.settings import EXACT
from covertreex.testing import CHECKS, check_backend

OF_SCREENS = [check for check in CHECKS if getattr(check, "level", "L0") == "S"]

#: What covertreex's screens are, each from a payload; None where it is too coarse, or does not pay.
OWN = {
    "16 bits": lambda payload: single(payload) if payload.kernel_code >= 0 else None,
    "float64": sharp,
    "mixed": lambda payload: sharp(payload) and mixed_or_sharp(payload, EXACT, 10**6),
}


class OwnScreens:
    """The cython backend, with covertreex's own screens as if they were its."""

    protocol_version = PROTOCOL_VERSION
    capabilities = Capabilities(levels=frozenset({"L0", "S"}))

    def __init__(self, kind):
        self.name, self.make, self.cython = kind, OWN[kind], cx.get_backend("cython")

    def scan(self, payload, plan, k, settings, out):
        self.cython.scan(payload, plan, k, settings, out)

    def prepare(self, payload):
        screen = self.make(payload)
        if screen is None:
            raise Declined("too coarse")
        return Owner(weakref.ref(payload), screen.name)

    def release(self, handle):
        pass

    def shortlist(self, handle, plan, thresholds, k, out):
        payload, queries = handle.payload(), plan.queries
        context = SearchContext(payload, k, EXACT, self.cython, 1, out.cancel)
        view, most = View(context, self.make(payload), queries), int(np.max(np.diff(plan.group_ptr), initial=0))
        short, counted = Shortlists(context, view, queries, most).of(plan, 0, thresholds)
        out.counts[:] = np.diff(short.run_ptr)
        out.pairs[0] = counted.get("gate_rejects", 0) + most * counted.get("gemm_tiles", 0) + len(short.run_start)
        return short.run_start


class Owner:
    """A handle that holds no payload."""

    def __init__(self, payload, name):
        self.payload, self.name = payload, name

    def __str__(self):
        return self.name


@pytest.mark.parametrize("check", OF_SCREENS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", OWN)
def test_covertreexs_own_screens_pass_the_kit(kind, check):
    check(OwnScreens(kind))


@pytest.fixture(scope="module")
def tree():
    X = np.random.default_rng(0).uniform(size=(500, 2))
    return cx.cover_tree(X, kernel=cx.Matern32(0.2), inducing=20, jitter=1e-4)


def ask(tree, backend, k=4):
    """What a backend, an object, answers to 40 queries through the driver."""
    block = questions.block_of(tree._state, questions.check(tree._state, range(0, 500, 13)), 1)
    return nearest(SearchContext(tree.payload, k, EXACT, backend), block, lambda: tree.tree)


def test_a_backend_with_screens_is_asked(tree):
    found, expected = ask(tree, TemplateBackend()), tree.search(4, range(0, 500, 13))
    assert found.plan.phases == {"screen": "template", "decision": "template"}
    assert "screen: float32 products by BLAS\n" in str(found.plan)
    assert {block.screened_by for block in found.telemetry.blocks} == {"template"}
    assert found.telemetry.counters["canonical_rechecks"] < found.telemetry.counters["gate_rejects"]
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert expected.plan.phases == {"screen": "cython", "decision": "cython"}


def test_one_that_declines_is_not(tree):
    class Picky(TemplateBackend):
        def prepare(self, payload):
            raise Declined("it is the wrong day")

    found = ask(tree, Picky())
    assert found.plan.phases == {"screen": "cython", "decision": "template"}
    assert "screen: float64; template declined: it is the wrong day" in str(found.plan)


def test_errors_of_a_backend_name_it(tree):
    class Failing(TemplateBackend):
        def prepare(self, payload):
            raise RuntimeError("no such device")

    class Miscounting(TemplateBackend):
        def shortlist(self, handle, plan, thresholds, k, out):
            return super().shortlist(handle, plan, thresholds, k, out)[1:]

    with pytest.raises(
        cx.BackendError, match=r"'template' could not prepare its screens: no such device. Choose another"
    ):
        ask(tree, Failing())
    with pytest.raises(cx.BackendError, match=r"'template' returned \d+ rows and counted \d+; .* Run the conformance"):
        ask(tree, Miscounting())


def test_a_backend_has_as_many_queries_at_once_as_it_likes(tree):
    class Large(TemplateBackend):
        sizes = ()

        def shortlist(self, handle, plan, thresholds, k, out):
            self.sizes += (len(plan.queries),)
            return super().shortlist(handle, plan, thresholds, k, out)

    small, large = Large(), Large()
    large.capabilities = replace(small.capabilities, batch=400)
    block = questions.block_of(tree._state, questions.check(tree._state, None), 1)
    for backend in (small, large):
        nearest(SearchContext(tree.payload, 4, EXACT, backend), block, lambda: tree.tree)
    assert sum(large.sizes) == sum(small.sizes) == 500
    assert max(small.sizes) < 100 < max(large.sizes) <= 400


def test_what_is_prepared_is_made_once_and_released_with_the_payload():
    told = []

    class Telling(TemplateBackend):
        def prepare(self, payload):
            told.append("made")
            return super().prepare(payload)

        def release(self, handle):
            told.append("released")

    X = np.random.default_rng(1).uniform(size=(500, 2))
    tree, backend = cx.cover_tree(X, kernel=cx.Matern32(0.2), inducing=20, jitter=1e-4), Telling()
    for _ in range(2):
        ask(tree, backend)
    assert told == ["made"]
    del tree
    gc.collect()
    assert told == ["made", "released"]


def test_levels():
    cython = cx.get_backend("cython")
    assert cython.capabilities.claimed == ("L0", "L1", "L2")
    assert set(TemplateBackend.capabilities.claimed) | {"L2"} == set(LEVELS)
    assert TemplateBackend.capabilities.verbs == ("scan", "search", "prepare", "release", "shortlist")
    assert isinstance(cython, Traversal)
    assert isinstance(cython, TreeTraversal)
    assert not isinstance(cython, Screening)
    answers = Capabilities(levels=frozenset({"L0"}))
    assert answers.missing(cx.PARITY) == ["the tree search (level L1)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": {"L0", "L3"}}, "level 'L3' is unknown; levels may be L0, L1, S."),
        ({"levels": {"L0", "L2"}}, "level 'L2' is unknown; levels may be L0, L1, S."),
        ({"levels": {"S"}}, r"levels are \['S'\]; add 'L0', which every backend has."),
        ({"levels": {"L0"}, "mechanisms": {"tile"}}, "add 'L1' to levels, or give none."),
        ({"batch": -1}, "batch is -1; give a number of queries, or 0."),
    ],
)
def test_capabilities_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Capabilities(**arguments)


def test_the_margin_covers_what_factors_are_rounded_to(rng):
    """C6: products of factors of 11 bits are within the bound that knows of it, and beyond the one that does not."""
    V = rng.uniform(0.5, 1.0, size=(60, 256)) / np.sqrt(256.0)
    length = float(np.max(np.sum(V * V, axis=1)))
    exact = V @ V.T
    for inputs, rounded in ((0.0, V.astype(np.float32)), (2.0**-11, eleven_bits(V.astype(np.float32)))):
        off = np.max(np.abs((rounded @ rounded.T).astype(np.float64) - exact))
        assert off <= margin(cx.RBF(), 256, 2, length, 0.0, 2.0**-24, inputs)
    few_bits = eleven_bits(V.astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(few_bits @ few_bits.T - exact)) > margin(cx.RBF(), 256, 2, length, 0.0, 2.0**-24)


def test_the_kit_does_not_take_a_backend_that_declines_everything():
    class Declining(TemplateBackend):
        def prepare(self, payload):
            raise Declined("never")

    with pytest.raises(AssertionError, match="it declines everything"):
        check_backend(Declining(), checks=[check for check in OF_SCREENS if check.__name__ == "check_shortlist_bound"])
