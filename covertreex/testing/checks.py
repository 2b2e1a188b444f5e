"""The checks: small functions that take a backend, return if it keeps the contract, and raise if it does not.

A check that has nothing to say about a backend raises `unittest.SkipTest`, which pytest understands.
"""

import gc
import threading
import time
import unittest
import weakref
from collections.abc import Callable
from functools import wraps
from itertools import product
from typing import Any
from unittest import mock

import numpy as np

from covertreex import covertree, errors, kernels, oracle
from covertreex.backends import registry
from covertreex.backends.telemetry import UNEQUAL_FIELDS, check_line
from covertreex.base import parallel, tuning
from covertreex.base.contract import COUNTERS
from covertreex.data import metrics
from covertreex.data.tree import Tree
from covertreex.protocols import MECHANISMS, Declined, SearchOutput, ShortlistOutput
from covertreex.search import SearchContext, choose_verb, nearest, within
from covertreex.settings import EXACT, GOLD, PARITY
from covertreex.testing.cases import (
    Space,
    answer,
    expect_answer,
    expect_reference_scan,
    expect_reference_search,
    expect_right,
    expect_same,
    fail,
    hand_made_tree,
    hard_spaces,
    kernels_by_tables,
    lattice,
    levels_of,
    make_plan,
    nearest_runs_first,
    scan,
    search,
    shortlists,
    spaces,
    true_rho,
    verbs_of,
    whole_range,
)
from covertreex.testing.reference import ReferenceBackend, make_queries, sealed

_EVALS = COUNTERS.index("distance_evals")

#: All checks, in order of definition.
CHECKS: list[Callable[[Any], None]] = []


def _check(function):
    """Take a function into the list: a check of every backend, that is of level L0."""
    CHECKS.append(function)
    return function


def _check_of(level):
    """As `_check`, of a level that not every backend claims; the check does not apply to others."""

    def register(function):
        @wraps(function)
        def check(backend):
            if level not in levels_of(backend):
                raise unittest.SkipTest(f"it does not claim level {level}")
            function(backend)

        check.level = level
        return _check(check)

    return register


# ---------------------------------------------------------------------------------------------------------------------
# The object


@_check
def check_protocol(backend):
    """Name, protocol version, capabilities and both verbs are there; its mechanisms are known ones."""
    name = getattr(backend, "name", None)
    if not isinstance(name, str) or not name:
        fail(f"its name is {name!r}; a backend has a name.")
    problem = registry.check_backend_object(backend, name)
    if problem:
        fail(problem + ".")
    unknown = sorted(set(backend.capabilities.mechanisms) - set(MECHANISMS))
    if unknown:
        fail(f"it claims the mechanism {unknown[0]!r}; the known ones are {', '.join(MECHANISMS)}.")


@_check
def check_settings_refused(backend):
    """Settings that need what the backend lacks are refused, by the driver, before it is called."""
    lacking = [name for name in MECHANISMS if name not in backend.capabilities.mechanisms]
    for name in lacking:
        for settings in MECHANISM_SETTINGS[name]:
            asked = name if "L1" in levels_of(backend) else "level L1"
            if not any(asked in one for one in backend.capabilities.missing(settings)):
                fail(f"its capabilities do not say that it lacks {name!r}.")
            if _is_installed(backend):
                try:
                    registry.choose_backend(settings, backend.name, "search")
                except errors.BackendError as error:
                    if asked not in str(error):
                        fail(f"the refusal of {asked!r} does not name it: {error}")
                else:
                    fail(f"settings that need {name!r}, which it lacks, were not refused.")
    if "L1" in levels_of(backend) and backend.capabilities.missing(PARITY):
        fail(f"it lacks {backend.capabilities.missing(PARITY)}, but level L1 is the parity search.")


# ---------------------------------------------------------------------------------------------------------------------
# Answers


@_check_of("L1")
def check_search_answers(backend):
    """A tree search returns the canonical answer, bit for bit."""
    for space in spaces():
        expect_right(backend, "plain queries", space, space.queries(range(0, 120, 6)), 10, ["search"])


@_check
def check_scan_answers(backend):
    """A scan returns the canonical answer, bit for bit."""
    for space in spaces():
        expect_right(backend, "plain queries", space, space.queries(range(0, 120, 6)), 10, ["scan"])


@_check
def check_kernels(backend):
    """Every kernel, with its own lengthscale per axis and a variance other than 1."""
    X = np.random.default_rng(1).normal(size=(60, 2))
    ard = {"lengthscale": (0.7, 1.9), "variance": 1.7}
    for kernel in (
        kernels.RBF(**ard),
        kernels.Matern12(**ard),
        kernels.Matern32(**ard),
        kernels.Matern52(**ard),
        kernels.RationalQuadratic(**ard, alpha=0.6),
    ):
        label = type(kernel).__name__
        for metric in (metrics.Correlation(kernel), metrics.ResidualCorrelation(kernel, inducing=9)):
            space = Space.of(label, X, metric)
            expect_right(backend, "kernel", space, space.queries(range(0, 60, 5)), 6)


@_check
def check_tables(backend):
    """Kernels by tables (A10): functions of several shapes, sums and products, a distance that another one rescales."""
    rng = np.random.default_rng(11)
    X = rng.normal(size=(60, 3))
    X[rng.permutation(60)[:12]] = X[rng.integers(0, 60, 12)]
    # On points, beside them, and so far away that tables end.
    points = np.concatenate([X[:4], X[4:8] + 1e-7, X[8:12] + 0.01, np.full((1, 3), 40.0), np.full((1, 3), 1e9)])
    for label, kernel in kernels_by_tables().items():
        for metric in (metrics.Correlation(kernel), metrics.ResidualCorrelation(kernel, inducing=9)):
            space = Space.of(label, X, metric)
            for block in (space.queries(range(0, 60, 3)), space.external(points)):
                expect_right(backend, "kernel by tables", space, block, 6)
                expect_reference_search(backend, "kernel by tables", space, block, 6)
            expect_reference_scan(backend, "kernel by tables", space, whole_range(space.queries(range(0, 60, 3))), 6)


@_check
def check_padding(backend):
    """Any number of inducing points and of dimensions: factors are padded to multiples of 16."""
    for m, d in ((1, 1), (15, 2), (16, 5), (17, 4), (33, 9)):
        X = np.random.default_rng(m).normal(size=(50, d))
        metric = metrics.ResidualCorrelation(kernels.Matern52(lengthscale=2.0), inducing=m)
        space = Space.of(f"m={m}, d={d}", X, metric)
        expect_right(backend, "padding", space, space.queries(range(0, 50, 7)), 5)


@_check
def check_far_points(backend):
    """Points so far apart that the kernel underflows, and that squared differences span many magnitudes."""
    X = np.random.default_rng(2).normal(size=(40, 2)) * np.logspace(-6, 6, 40)[:, None]
    for metric in (metrics.Euclidean(), metrics.Correlation(kernels.RBF(lengthscale=1.0))):
        space = Space.of(type(metric).__name__, X, metric)
        expect_right(backend, "far points", space, space.queries(), 7)


@_check
def check_larger_problem(backend):
    """A problem large enough for deep trees, with more neighbours than a leaf holds."""
    X = np.random.default_rng(3).normal(size=(900, 3))
    for metric in (metrics.Euclidean(), metrics.ResidualCorrelation(kernels.RBF(lengthscale=1.0), inducing=64)):
        space = Space.of(type(metric).__name__, X, metric)
        expect_right(backend, "larger problem", space, space.queries(range(0, 900, 90)), 50)


@_check
def check_dense_oracle(backend):
    """Through the driver, every neighbour that the independent dense oracle names is found: recall 1.0."""
    for space in spaces():
        for predecessors in (False, True):
            rows = np.arange(10, 120, 5)
            block = space.queries(rows, predecessor_mode=predecessors)
            found = _drive(backend, space, block, 8, PARITY if "L1" in levels_of(backend) else EXACT)
            recall = space.oracle().recall(found.indices, rows, predecessor_mode=predecessors)
            if recall != 1.0:
                fail(f"recall against the dense oracle is {recall} ({space.label}, predecessors {predecessors}).")


@_check
def check_ties(backend):
    """Equal distances are ordered by dataset index, also where they straddle the k-th place."""
    X = lattice()
    for metric in (metrics.Euclidean(), metrics.Correlation(kernels.Matern12(lengthscale=3.0))):
        space = Space.of(f"lattice, {type(metric).__name__}", X, metric)
        for k in (1, 5, 20):
            expect_right(backend, "ties", space, space.queries(range(0, 64, 4)), k)
            expect_right(backend, "ties", space, space.queries(range(0, 64, 4), predecessor_mode=True), k)


@_check
def check_duplicates(backend):
    """Exact duplicates are at distance 0 and ordered by dataset index; all points may be one."""
    rng = np.random.default_rng(4)
    X = rng.permutation(np.repeat(rng.normal(size=(12, 2)), 5, axis=0))
    kernel = kernels.Matern32(lengthscale=1.0)
    for metric in (metrics.Euclidean(), metrics.Correlation(kernel), metrics.ResidualCorrelation(kernel, np.eye(2))):
        for label, points in (("duplicates", X), ("one place", np.repeat(X[:1], 20, axis=0))):
            space = Space.of(f"{label}, {type(metric).__name__}", points, metric)
            for k in (3, 7):
                expect_right(backend, "duplicates", space, space.queries(), k)
                expect_right(backend, "duplicates", space, space.queries(include_self=True), k)


@_check
def check_near_duplicates(backend):
    """Near-duplicates with residual variances at their floor, where rounding is magnified and bounds need slack."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=(25, 2))
    X = rng.permutation(np.concatenate([base, base + 1e-9 * rng.normal(size=base.shape), base + 1e-5]))
    metric = metrics.ResidualCorrelation(kernels.RBF(lengthscale=1.0), inducing=base[:10], jitter=1e-10)
    space = Space.of("p at its floor", X, metric)
    for k in (1, 6, 30):
        expect_right(backend, "near-duplicates", space, space.queries(), k)
        expect_right(backend, "near-duplicates", space, space.queries(include_self=True), k)


@_check
def check_degenerate_sizes(backend):
    """One, two and three points; k of 1, n - 1 and n; one dimension."""
    kernel = kernels.RBF(lengthscale=1.0)
    for n, metric in product((1, 2, 3), (metrics.Euclidean(), metrics.ResidualCorrelation(kernel, inducing=1))):
        space = Space.of(f"n={n}, {type(metric).__name__}", np.arange(n, dtype=float)[:, None], metric)
        for k in sorted({1, max(1, n - 1), n}):
            expect_right(backend, "degenerate size", space, space.queries(), k)
            expect_right(backend, "degenerate size", space, space.queries(include_self=True), k)


@_check
def check_every_k(backend):
    """Every k from 1 to n, beyond what there is to return."""
    for space in spaces(12):
        for k in range(1, 13):
            expect_right(backend, "every k", space, space.queries(), k)


# ---------------------------------------------------------------------------------------------------------------------
# What restricts an answer


@_check
def check_predecessors(backend):
    """Predecessors in insertion order: short rows end in (-1, inf)."""
    for space in spaces(60):
        for include_self in (False, True):
            block = space.queries(predecessor_mode=True, include_self=include_self)
            expect_right(backend, "predecessors", space, block, 5)


@_check
def check_predecessors_custom_rank(backend):
    """Predecessors in an order that is not the order of insertion (prefix=False)."""
    rank = np.random.default_rng(6).permutation(60)
    for space in spaces(60):
        block = space.queries(predecessor_mode=True, rank=rank)
        expect_right(backend, "custom rank", space, block, 5)


@_check
def check_limits(backend):
    """Limits that are no query's own index: 0 allows nothing, n everything."""
    for space in spaces(60):
        block = make_queries(space.payload, range(60))
        block.limit[:] = np.random.default_rng(7).permutation(np.arange(60) * 61 // 59)
        expect_right(backend, "limits", space, sealed(block), 5)


@_check
def check_exclude(backend):
    """The excluded row is never returned, whether it is the query, another row, or none."""
    for space in spaces(60):
        block = make_queries(space.payload, range(60))
        block.exclude[:] = np.where(np.arange(60) % 3 == 0, -1, np.roll(block.rows, 1))
        expect_right(backend, "exclude", space, sealed(block), 5)
        # The nearest of all, so that ignoring it cannot go unseen.
        nearest, _ = oracle.canonical(space.payload, space.queries(), 1)
        block = make_queries(space.payload, range(60))
        block.exclude[:] = space.payload.row[nearest[:, 0]]
        expect_right(backend, "exclude", space, sealed(block), 5)


@_check
def check_external_queries(backend):
    """Queries that are no rows: near points, on points, and far away; with a limit and an excluded row."""
    for space in spaces(60):
        points = np.concatenate([space.X[:5] + 0.01, space.X[5:10], np.full((1, 3), 40.0)])
        expect_right(backend, "external queries", space, space.external(points), 6)
        restricted = space.external(points, exclude=int(space.payload.row[7]), limit=30)
        expect_right(backend, "external queries, restricted", space, restricted, 6)


@_check
def check_no_queries(backend):
    """A block without queries, and a plan without groups, are done at once."""
    for space in spaces(20):
        none = space.queries([])
        if "L1" in levels_of(backend):
            search(backend, space, none, 3)
        for plan in (whole_range(none), make_plan(none, [])):
            scan(backend, space, plan, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Plans of a scan


@_check
def check_scan_groups(backend):
    """Several groups with their own runs: uneven, empty, gaps between runs, runs in any order."""
    for space in spaces(60):
        groups = [(3, [(40, 60), (0, 7)]), (0, [(0, 60)]), (5, []), (1, [(5, 5), (9, 10)]), (11, [(0, 30), (30, 60)])]
        for predecessors in (False, True):
            block = space.queries(range(0, 60, 3), predecessor_mode=predecessors)
            expect_reference_scan(backend, "groups of a plan", space, make_plan(block, groups), 6)


@_check
def check_scan_stop(backend):
    """A scan stops each query at the first run whose lower bound exceeds its k-th best, and never on equality."""
    line = Space.of("line", np.arange(64.0)[:, None], metrics.Euclidean())
    for space in (*spaces(), Space.of("lattice", lattice(), metrics.Euclidean()), line):
        block = space.queries(range(0, len(space), 4))
        sizes = [7, 1, 0, len(block) - 8]
        plan = nearest_runs_first(space.payload, block, sizes, 5)
        for k, settings in product((1, 4), (PARITY, PARITY.replace(kth_frontier_stop=False))):
            expect_reference_scan(backend, "run_lower", space, plan, k, settings)


@_check
def check_scan_kth_upper(backend):
    """Rows beyond a query's kth_upper are evaluated and not returned; rows at it are; it stops runs, too."""
    for space in (*spaces(60), Space.of("lattice", lattice(), metrics.Euclidean())):
        block = space.queries(range(0, 60, 4))
        _, distances = oracle.canonical(space.payload, block, 6)
        for kth_upper in (distances[:, 5], distances[:, 2], np.zeros(len(block))):
            nearest = nearest_runs_first(space.payload, block, [len(block)], 6)
            runs = list(zip(nearest.run_start.tolist(), nearest.run_stop.tolist(), strict=True))
            plan = make_plan(block, [(len(block), runs)], nearest.run_lower, kth_upper)
            expect_reference_scan(backend, "kth_upper", space, plan, 6)


# ---------------------------------------------------------------------------------------------------------------------
# Counters


@_check_of("L1")
def check_search_counters(backend):
    """Under parity settings a tree search counts what the reference counts."""
    for space in (*spaces(), Space.of("lattice", lattice(), metrics.Euclidean())):
        for options in ({}, {"predecessor_mode": True}):
            expect_reference_search(backend, "counters", space, space.queries(range(0, 60, 3), **options), 6)
    expect_reference_search(backend, "counters", space, space.external(space.X[:6] + 0.3), 6)


@_check_of("L1")
def check_scan_counters(backend):
    """A scan counts what the reference counts."""
    for space in spaces(60):
        for options in ({}, {"predecessor_mode": True}):
            block = space.queries(range(0, 60, 3), **options)
            expect_reference_scan(backend, "counters", space, whole_range(block), 6)


@_check_of("L1")
def check_stop_rule_off(backend):
    """Without the kth/frontier stop the frontier is emptied, and the answer is the same."""
    settings = PARITY.replace(kth_frontier_stop=False)
    for space in spaces(80):
        expect_reference_search(backend, "no stop rule", space, space.queries(range(0, 80, 4)), 6, settings)


@_check_of("L1")
def check_slack(backend):
    """Bounds are widened by the slack that queries need and the payload's relative one, as B1 and B2 say."""
    for space in spaces(80):
        payload = space.payload
        arrays = (
            payload.metric,
            payload.kernel,
            payload.coords,
            payload.factors,
            payload.p,
            payload.index,
            payload.row,
        )
        for slack_abs, slack_rel in ((1e-2, 0.0), (1e-12, 0.1), (0.3, 0.01)):
            wide = type(payload)(*arrays, slack_abs, slack_rel)
            loose = Space(f"{space.label}, slack {slack_abs:g}, {slack_rel:g}", space.X, space.metric, wide, None)
            expect_reference_search(backend, "slack", loose, loose.queries(range(0, 80, 5)), 6)
        # Queries may need more than the payload's rows do among themselves.
        more = space.queries(range(0, 80, 5), slack_abs=0.3)
        expect_reference_search(backend, "slack of the queries", space, more, 6)


@_check_of("L1")
def check_tree_shapes(backend):
    """Trees of other shapes: a star, a chain, a comb. The tree that is given is the one that is walked."""
    for space in spaces(40):
        row = space.payload.row
        before = np.concatenate([[-1], row[:-1]])
        shapes = {
            "star": np.where(np.arange(40) == 0, -1, row[0]),
            "chain": before,
            "comb": np.where(np.arange(40) % 2 == 1, before, np.concatenate([[-1, -1], row[:-2]])),
        }
        for shape, parent_of_index in shapes.items():
            tree = hand_made_tree(space.payload, parent_of_index[space.payload.index])
            for options in ({}, {"predecessor_mode": True}):
                block = space.queries(range(0, 40, 3), **options)
                expect_reference_search(backend, f"a {shape} for a tree", space, block, 5, tree=tree)


@_check_of("L1")
def check_visited(backend):
    """A node that is listed twice is visited once: no neighbour twice, prunes_visited counted."""
    for space in spaces(40):
        row, tree = space.payload.row, space.tree
        leaves = [x for x in row if tree.child_ptr[x] == tree.child_ptr[x + 1]]
        first = tree.children[tree.child_ptr[tree.root]]
        # Twice under one parent, under two parents, and an inner node under its own grandchild's sibling.
        extra = [(tree.root, int(first)), *((tree.root, int(x)) for x in leaves[:6]), (int(tree.root), int(leaves[0]))]
        doubled = hand_made_tree(space.payload, tree.parent, extra)
        for options in ({}, {"predecessor_mode": True}):
            block = space.queries(**options)
            expect_reference_search(backend, "children listed twice", space, block, 5, tree=doubled)
            if "bitset" in backend.capabilities.mechanisms:
                settings = PARITY.replace(visited="bitset")
                expect_reference_search(backend, "bitset visited set", space, block, 5, settings, doubled)


#: Settings that ask for one mechanism.
MECHANISM_SETTINGS = {
    "child_order": [PARITY.replace(child_order="nearest")],
    "bitset": [PARITY.replace(visited="bitset")],
    "tile": [
        PARITY.replace(stream_tile=3),
        PARITY.replace(stream_tile=64),
        PARITY.replace(stream_tile=16, dynamic_tile=True),
    ],
    "level_cache": [PARITY.replace(level_cache=True)],
    "radius_floor": [PARITY.replace(radius_floor=0.4)],
    "budget": [
        PARITY.replace(budget_schedule=(20,)),
        PARITY.replace(budget_schedule=(8, 16, 32, 64, 96), budget_up=0.5, budget_down=0.1),
        PARITY.replace(budget_schedule=(4, 30, 50), budget_up=0.0, budget_down=0.0),
    ],
    "level_cap": [PARITY.replace(level_cap=1), PARITY.replace(level_cap=6)],
    "gate": [PARITY.replace(gate=True)],
    "gemm": [PARITY.replace(gemm=True)],
}

#: Mechanisms whose counters are a backend's own affair.
_OWN_COUNTERS = ("gate", "gemm")


@_check_of("L2")
def check_mechanisms(backend):
    """Each mechanism that the backend claims does what docs/architecture.md says; exact ones leave the answer alone."""
    claimed = [name for name in MECHANISMS if name in backend.capabilities.mechanisms]
    for space in (*spaces(80), Space.of("lattice", lattice(), metrics.Euclidean())):
        blocks = (space.queries(range(0, 60, 4)), space.queries(range(0, 60, 4), predecessor_mode=True))
        for name, block in product(claimed, blocks):
            for settings in MECHANISM_SETTINGS[name]:
                out = search(backend, space, block, 5, settings)
                what = f"mechanism {name} ({space.label}, {settings})"
                if not settings.approximate:
                    expect_answer(what, out, *oracle.canonical(space.payload, block, 5))
                if name not in _OWN_COUNTERS:
                    expect_same(backend, what, out, search(ReferenceBackend(), space, block, 5, settings))


@_check_of("L2")
def check_mechanisms_together(backend):
    """The mechanisms that the backend claims work together, as under the gold profile."""
    together = [
        GOLD,
        PARITY.replace(stream_tile=8, dynamic_tile=True, level_cache=True),
        PARITY.replace(stream_tile=4, level_cap=5, visited="bitset"),
        PARITY.replace(stream_tile=4, budget_schedule=(16, 40)),
        PARITY.replace(stream_tile=8, dynamic_tile=True, level_cache=True, child_order="nearest"),
    ]
    able = [settings for settings in together if not backend.capabilities.missing(settings)]
    if not able:
        raise unittest.SkipTest("it lacks some mechanism of every combination")
    for space, settings in product(spaces(80), able):
        expect_reference_search(backend, f"{settings}", space, space.queries(range(0, 80, 4)), 5, settings)


# ---------------------------------------------------------------------------------------------------------------------
# Through the driver


def _drive(backend, space, block, k, settings, n_threads=1):
    return nearest(SearchContext(space.payload, k, settings, backend, n_threads), block, lambda: space.tree)


def _driver_settings(backend):
    """Parity, and the exact settings where the backend can carry them out; both verbs come up."""
    return [(space, s) for space, s in product(spaces(100), (PARITY, EXACT)) if _is_able(backend, space, s)]


def _is_able(backend, space, settings):
    return choose_verb(settings, space.payload) == "scan" or not backend.capabilities.missing(settings)


@_check
def check_driver(backend):
    """Answers through the driver, queries in any order and repeated, are the canonical ones."""
    rows = np.random.default_rng(8).integers(0, 100, size=90)
    for space, settings in _driver_settings(backend):
        block = space.queries(rows, predecessor_mode=True)
        found = _drive(backend, space, block, 5, settings)
        what = f"through the driver ({space.label}, {settings.profile})"
        expect_answer(what, found, *oracle.canonical(space.payload, block, 5))


@_check
def check_threads(backend):
    """Neither answers nor counters depend on the number of threads."""
    for space, settings in _driver_settings(backend):
        block = space.queries(predecessor_mode=True)
        with mock.patch.object(tuning, "BRIEF", 0):  # so few queries would start no thread
            one, two = (_drive(backend, space, block, 5, settings, count) for count in (1, 2))
        what = f"two threads ({space.label}, {settings.profile})"
        expect_answer(what, two, one.indices, one.distances)
        if two.telemetry.counters != one.telemetry.counters:
            fail(f"{what}: counters {two.telemetry.counters}, with one thread {one.telemetry.counters}.")


@_check_of("L1")
def check_telemetry(backend):
    """Telemetry lines fit the schema and, under parity settings, are the reference's but for name and time."""
    for space in spaces(100):
        lines, expected = (
            _drive(one, space, space.queries(), 5, PARITY).telemetry.to_jsonl().splitlines()
            for one in (backend, ReferenceBackend())
        )
        for line, other in zip(lines, expected, strict=True):
            record, reference = check_line(line), check_line(other)
            if record["backend"] != backend.name:
                fail(f"telemetry names the backend {record['backend']!r}.")
            for name in sorted(set(record) - set(UNEQUAL_FIELDS)):
                if record[name] != reference[name]:
                    fail(f"telemetry, {space.label}: {name} is {record[name]}, the reference's {reference[name]}.")


def _is_installed(backend):
    return any(info.name == backend.name and info.status == "ok" for info in registry.list_backends()) and (
        registry.get_backend(backend.name) is backend
    )


@_check
def check_public_face(backend):
    """Chosen by name, the backend answers, and bad arguments are refused with the errors that callers expect."""
    if not _is_installed(backend):
        raise unittest.SkipTest(f"no installed distribution offers it under the name {backend.name!r}")
    X = np.random.default_rng(9).normal(size=(50, 2))
    index = covertree.cover_tree(X, kernel=kernels.Matern32(lengthscale=1.0), inducing=10)
    points = X[:3] + 0.1
    settings = PARITY if "L1" in levels_of(backend) else EXACT
    for queries in (None, [3, 3, 0], points):
        result = index.search(4, queries, settings=settings, backend=backend.name)
        if result.backend != backend.name:
            fail(f"asked for {backend.name!r}, {result.backend!r} answered.")
        recall = index.oracle().recall(result.indices, None if queries is None else np.asarray(queries))
        if recall != 1.0:
            fail(f"recall by name is {recall}.")
    refusals = {
        "k of 0": ({"k": 0}, errors.InvalidInputError),
        "k beyond n": ({"k": 51}, errors.InvalidInputError),
        "a row beyond n": ({"k": 1, "queries": [50]}, errors.InvalidInputError),
        "NaN coordinates": ({"k": 1, "queries": [[np.nan, 0.0]]}, errors.InvalidInputError),
        "predecessors of coordinates": (
            {"k": 1, "queries": points, "predecessor_mode": True},
            errors.InvalidInputError,
        ),
    }
    if backend.name != "numba":
        refusals["gold on another backend than numba"] = ({"k": 1, "settings": GOLD}, errors.BackendError)
    for what, (arguments, error) in refusals.items():
        try:
            index.search(**{"settings": settings, "backend": backend.name, **arguments})
        except error:
            continue
        fail(f"{what} was not refused with {error.__name__}.")


# ---------------------------------------------------------------------------------------------------------------------
# Conduct


@_check
def check_blocks(backend):
    """A block is answered alike whole and in pieces, and no piece writes another's rows."""
    for space, verb in product(spaces(60), verbs_of(backend)):
        block = space.queries(predecessor_mode=True)
        whole = answer(backend, verb, space, block, 5)
        out = SearchOutput.empty(60, 5)
        for start, stop in ((20, 60), (0, 1), (1, 20)):
            before = [array.copy() for array in (out.indices, out.distances, out.counters)]
            part, piece = sealed(block.slice(start, stop)), out.slice(start, stop)
            if verb == "search":
                backend.search(space.tree, space.payload, part, 5, PARITY, piece)
            else:
                backend.scan(space.payload, whole_range(part), 5, PARITY, piece)
            outside = np.r_[0:start, stop:60]
            for old, new in zip(before, (out.indices, out.distances, out.counters), strict=True):
                if not np.array_equal(old[outside], new[outside]):
                    fail(f"queries {start} to {stop}, {verb}: rows of other queries were written.")
        expect_same(backend, f"block in three pieces ({space.label}, {verb})", out, whole)


def _snapshot(*sources):
    """(name, array, bytes, writeable) of every array that the backend gets."""
    found = []
    for source in sources:
        for name, value in vars(source).items():
            if isinstance(value, np.ndarray):
                found.append((f"{type(source).__name__}.{name}", value, value.tobytes(), value.flags.writeable))
    return found


@_check
def check_inputs_unchanged(backend):
    """Payload, tree, queries and plan are the same after a call as before, and still read-only."""
    for space in spaces(60):
        for predecessors in (False, True):
            block = space.queries(range(0, 60, 2), predecessor_mode=predecessors)
            plan = nearest_runs_first(space.payload, block, [10, 20], 8)
            before = _snapshot(space.payload, space.tree, block, plan)
            if "L1" in levels_of(backend):
                search(backend, space, block, 5)
            scan(backend, space, plan, 5)
            for name, array, content, writeable in before:
                if array.tobytes() != content:
                    fail(f"{name} was changed ({space.label}).")
                if array.flags.writeable != writeable:
                    fail(f"{name} was made writable ({space.label}).")


@_check
def check_keeps_nothing(backend):
    """Once a call is over the backend holds none of the arrays that it was given."""

    def call(verb):
        space = spaces(40)[2]
        block = space.queries()
        out = SearchOutput.empty(len(block), 5)
        plan = whole_range(block)
        if verb == "search":
            backend.search(space.tree, space.payload, block, 5, PARITY, out)
        else:
            backend.scan(space.payload, plan, 5, PARITY, out)
        owners = {"payload": space.payload, "tree": space.tree, "queries": block, "output": out, "plan": plan}
        return {
            f"{owner}.{name}": weakref.ref(value)
            for owner, data in owners.items()
            for name, value in vars(data).items()
            if isinstance(value, np.ndarray)
        }

    for verb in verbs_of(backend):
        held = call(verb)
        gc.collect()
        kept = sorted(name for name, reference in held.items() if reference() is not None)
        if kept:
            fail(f"after {verb} it still holds {', '.join(kept)}.")


@_check
def check_no_memory(backend):
    """A call is answered alike whatever was asked before: other data, other sizes, another k, a cancellation."""
    small, large = spaces(30), spaces(120, seed=1)
    for verb, space, other in product(verbs_of(backend), small, large):
        block = space.queries(predecessor_mode=True)
        first = answer(backend, verb, space, block, 4)
        answer(backend, verb, other, other.queries(range(0, 120, 10)), 20)
        expect_same(backend, f"after another call ({verb})", answer(backend, verb, space, block, 4), first)
        cancelled = SearchOutput.empty(len(block), 4)
        cancelled.cancel[0] = 1
        _call_with(backend, verb, space, block, 4, cancelled)
        expect_same(backend, f"after a cancelled call ({verb})", answer(backend, verb, space, block, 4), first)


@_check
def check_concurrent_calls(backend):
    """Calls that overlap in time, on different data, do not disturb each other."""
    jobs = [(verb, space, k) for verb in verbs_of(backend) for space in spaces(60) for k in (3, 9)]
    alone = [answer(backend, verb, space, space.queries(), k) for verb, space, k in jobs]
    tasks = [lambda j=job: answer(backend, j[0], j[1], j[1].queries(), j[2]) for job in jobs * 3]
    for job, out, expected in zip(jobs * 3, parallel.run(tasks, 4), alone * 3, strict=True):
        expect_same(backend, f"beside other calls ({job[1].label}, {job[0]})", out, expected)


def _call_with(backend, verb, space, block, k, out):
    """As `answer`, into `out`; a scan in groups of 8 queries and runs of 40 rows, each a place to look at the flag."""
    if verb == "search":
        backend.search(space.tree, space.payload, block, k, PARITY, out)
        return
    n = len(space)
    runs = [(start, min(start + 40, n)) for start in range(0, n, 40)]
    groups = [(min(8, len(block) - begin), runs) for begin in range(0, len(block), 8)]
    backend.scan(space.payload, make_plan(block, groups), k, PARITY, out)


def _work(backend, out):
    """Distances that were evaluated, or the answers that there are, of a backend that does not count."""
    return int(out.counters[:, _EVALS].sum()) if "L1" in levels_of(backend) else int(np.sum(out.indices >= 0))


@_check
def check_cancelled_before(backend):
    """With the cancel flag set beforehand a call does next to nothing."""
    for space, verb in product(spaces(200), verbs_of(backend)):
        block = space.queries(range(0, 200, 5))
        usual, cancelled = SearchOutput.empty(len(block), 5), SearchOutput.empty(len(block), 5)
        cancelled.cancel[0] = 1
        _call_with(backend, verb, space, block, 5, usual)
        _call_with(backend, verb, space, block, 5, cancelled)
        done, work = _work(backend, cancelled), _work(backend, usual)
        if done > work / 4:
            fail(f"{verb}, cancelled beforehand: {done} of {work} distances were evaluated nevertheless.")


#: Seconds of work that is interrupted, and when.
_WORK, _PATIENCE = 3.0, 0.1


def _uniform_tree(payload, children=16):
    """A tree in which every node has the same number of children and nothing can be pruned."""
    n = len(payload)
    above = (np.arange(n) - 1) // children
    parent, level = np.full(n, -1), np.zeros(n, dtype=np.int64)
    parent[payload.row[1:]] = payload.row[above[1:]]
    for i in range(1, n):
        level[payload.row[i]] = level[payload.row[above[i]]] - 1
    order = np.argsort(parent[payload.row[1:]], kind="stable")
    counts = np.bincount(parent[payload.row[1:]], minlength=n)
    return Tree(
        root=int(payload.row[0]),
        parent=parent,
        level=level,
        child_ptr=np.concatenate([[0], np.cumsum(counts)]),
        children=payload.row[1:][order],
        parent_distance=oracle.canonical_distances(payload, np.arange(n), np.maximum(parent, 0)),
        si=np.where(counts > 0, 3.0, 0.0),
    )


@_check
def check_cancelled_during(backend):
    """When the cancel flag is set from another thread a call returns soon, most of its queries untouched."""
    rng = np.random.default_rng(10)
    metric = metrics.ResidualCorrelation(kernels.Matern32(lengthscale=1.0), inducing=32)
    space = Space.of("residual", rng.normal(size=(5000, 3)), metric)
    tree = _uniform_tree(space.payload)
    for verb in verbs_of(backend):

        def call(count, out, verb=verb):
            block = space.queries(np.resize(np.arange(5000), count))
            if verb == "search":
                backend.search(tree, space.payload, block, 5, PARITY, out)
            else:
                _call_with(backend, verb, space, block, 5, out)

        call(4, SearchOutput.empty(4, 5))
        clock = time.perf_counter()
        call(8, SearchOutput.empty(8, 5))
        count = max(16, int(8 * _WORK / (time.perf_counter() - clock)))
        out = SearchOutput.empty(count, 5)
        thread = threading.Thread(target=call, args=(count, out), daemon=True)
        thread.start()
        time.sleep(_PATIENCE)
        out.cancel[0] = 1
        thread.join()
        # A share of the queries, not of a clock that other programs slow down.
        done = int(np.sum(out.indices[:, 0] >= 0))
        if done > count / 2:
            fail(
                f"{verb}, cancelled after {_PATIENCE} s of about {_WORK} s: {done} of {count} queries were answered "
                "nevertheless. A kernel looks at the flag for every query, and releases the GIL."
            )


# ---------------------------------------------------------------------------------------------------------------------
# Screens (docs/mathematics.md, V1 to V8)


def _expect_complete(backend, what, space, plan, k, thresholds=None, handle=None):
    """V1: all that is wanted of a plan is in the short lists. Returns how many rows these hold."""
    queries = plan.queries
    thresholds = np.full(len(queries), -np.inf) if thresholds is None else thresholds
    what = f"{what} ({space.label}, k={k})"
    lists = shortlists(backend, what, space, plan, k, thresholds, handle)
    for group in range(len(plan.group_ptr) - 1):
        runs = range(plan.run_ptr[group], plan.run_ptr[group + 1])
        rows = np.array([row for run in runs for row in range(plan.run_start[run], plan.run_stop[run])], dtype=np.int64)
        known = {}  # queries may be asked many times
        for q in range(plan.group_ptr[group], plan.group_ptr[group + 1]):
            asked = int(queries.rows[q])
            if asked not in known:
                known[asked] = true_rho(space.payload, queries, q, rows)
            may = (queries.rank[rows] < queries.limit[q]) & (rows != queries.exclude[q])
            allowed, rho = rows[may], known[asked][may]
            strange = np.setdiff1d(lists[q], allowed)
            if len(strange):
                fail(f"{what}: query {q} is given row {strange[0]}, which its plan does not allow (V4).")
            least = np.partition(rho, -k)[-k] if 0 < k <= len(rho) else -np.inf
            least = max(least, thresholds[q])
            lost = np.flatnonzero((rho >= least) & ~np.isin(allowed, lists[q]))
            if len(lost):
                fail(
                    f"{what}: query {q} loses {len(lost)} rows that it wants (V1). Row {allowed[lost[0]]} has |rho| "
                    f"{float(rho[lost[0]])!r}, and the least that is wanted is {float(least)!r}: its error bound is "
                    "too small (V2), or equality is not kept."
                )
    return sum(map(len, lists))


def _taken(backend, candidates):
    """Those of some spaces that the backend's screens take, each with its handle; a failure if they take none (V7)."""
    taken, reasons = [], []
    for space in candidates:
        try:
            taken.append((space, backend.prepare(space.payload)))
        except Declined as declined:
            reasons.append(f"{space.label}: {declined}")
    if not taken:
        fail(f"it declines everything ({'; '.join(reasons)}).")
    return taken


@_check_of("S")
def check_shortlist(backend):
    """A short list holds the k nearest: plain queries, predecessors, with themselves, excluded rows, coordinates."""
    for space in spaces()[1:]:
        odd = make_queries(space.payload, range(120))
        odd.exclude[:] = np.where(np.arange(120) % 3 == 0, -1, np.roll(odd.rows, 1))
        odd.limit[:] = np.random.default_rng(7).permutation(np.arange(120) * 121 // 119)
        blocks = [
            space.queries(range(0, 120, 3)),
            space.queries(range(0, 120, 3), predecessor_mode=True, rank=np.random.default_rng(6).permutation(120)),
            space.queries(range(0, 120, 3), predecessor_mode=True, include_self=True),
            space.external(np.concatenate([space.X[:9] + 0.01, space.X[9:12], np.full((1, 3), 40.0)]), limit=100),
            sealed(odd),
        ]
        for block, k in product(blocks, (1, 10, 120)):
            _expect_complete(backend, "short list", space, whole_range(block), k)


@_check_of("S")
def check_shortlist_groups(backend):
    """Short lists of groups with runs of their own: uneven, empty, with gaps, in any order; and of no queries."""
    for space in spaces(60)[1:]:
        groups = [(3, [(40, 60), (0, 7)]), (0, [(0, 60)]), (5, []), (1, [(5, 5), (9, 10)]), (11, [(0, 30), (30, 60)])]
        for predecessors, k in product((False, True), (0, 4)):
            block = space.queries(range(0, 60, 3), predecessor_mode=predecessors)
            _expect_complete(backend, "groups", space, make_plan(block, groups), k)
        _expect_complete(backend, "no queries", space, make_plan(space.queries([]), []), 4)


@_check_of("S")
def check_shortlist_bound(backend):
    """Rows at a threshold are kept, for every pair: tiny p, near ties, duplicates, long sums. The bound is rigorous."""
    for space, handle in _taken(backend, hard_spaces()):
        n = len(space)
        block = space.queries(np.repeat(np.arange(n), n), include_self=True)
        rho = np.stack([true_rho(space.payload, block, q, np.arange(n)) for q in range(0, n * n, n)])
        _expect_complete(backend, "every pair at its threshold", space, whole_range(block), 0, rho.ravel(), handle)


@_check_of("S")
def check_shortlist_hard_data(backend):
    """Short lists on data made to hurt hold the k nearest, with and without thresholds that are just reached."""
    for space, handle in _taken(backend, hard_spaces()):
        block = space.queries()
        for k in (1, 7):
            kth = [np.sort(true_rho(space.payload, block, q, np.delete(np.arange(len(space)), block.rows[q])))[-k]
                   for q in range(len(block))]  # fmt: skip
            for thresholds in (None, np.array(kth)):
                _expect_complete(backend, "hard data", space, whole_range(block), k, thresholds, handle)


@_check_of("S")
def check_shortlist_tables(backend):
    """Kernels by tables (A10): a short list is right, or the payload is declined."""
    X = np.random.default_rng(11).normal(size=(60, 3))
    spaces_by_tables = [
        Space.of(label, X, metrics.ResidualCorrelation(kernel, inducing=9))
        for label, kernel in kernels_by_tables().items()
    ]
    plain = spaces(60)[2]
    for space, handle in _taken(backend, [*spaces_by_tables, plain]):
        _expect_complete(backend, "tables", space, whole_range(space.queries()), 6, handle=handle)


@_check_of("S")
def check_shortlist_is_short(backend):
    """On smooth data most rows are dropped: of 1,500, a tenth at most stands for 5 neighbours."""
    X = np.random.default_rng(12).normal(size=(1500, 2))
    space = Space.of("smooth", X, metrics.ResidualCorrelation(kernels.Matern32(0.5), inducing=32, jitter=1e-4))
    queries = space.queries(range(0, 1500, 30))
    found = _expect_complete(backend, "smooth data", space, whole_range(queries), 5)
    if found > 0.1 * 1500 * len(queries):
        fail(
            f"{found / len(queries):.0f} of 1,500 rows stand for each query, where 150 would be many: nothing is saved."
        )


@_check_of("S")
def check_shortlist_threads(backend):
    """Calls with one handle that overlap in time do not disturb each other (V6)."""
    space = spaces(120)[2]
    handle = backend.prepare(space.payload)
    plans = [whole_range(space.queries(range(start, 120, 4))) for start in range(4)] * 3
    tasks = [lambda plan=plan: _expect_complete(backend, "at once", space, plan, 6, handle=handle) for plan in plans]
    parallel.run(tasks, 4)


@_check_of("S")
def check_shortlist_handle(backend):
    """A handle holds neither the payload nor its arrays, which go when the tree does (V6), and says what it is."""
    space = spaces(60)[2]
    handle = backend.prepare(space.payload)
    _expect_complete(backend, "before", space, whole_range(space.queries()), 6, handle=handle)
    if not str(handle) or str(handle) == object.__repr__(handle):
        fail(f"str(handle) is {str(handle)!r}; it tells people in which precision, and where, products are formed.")
    arrays = [value for value in vars(space.payload).values() if isinstance(value, np.ndarray)]
    alive = [weakref.ref(space.payload), *map(weakref.ref, arrays)]
    del space, arrays
    gc.collect()
    if any(reference() is not None for reference in alive):
        fail("its handle holds the payload, or an array of it: then no tree is ever forgotten.")
    backend.release(handle)


@_check_of("S")
def check_shortlist_inputs_unchanged(backend):
    """Payload, queries, plan and thresholds are the same after a call as before."""
    for space in spaces(60)[1:]:
        block = space.queries(predecessor_mode=True)
        plan, thresholds = nearest_runs_first(space.payload, block, [20, 40], 8), np.zeros(60)
        before = _snapshot(space.payload, block, plan)
        _expect_complete(backend, "inputs", space, plan, 5, thresholds)
        changed = [name for name, array, content, _ in before if array.tobytes() != content]
        if changed or thresholds.any():
            fail(f"{(*changed, 'thresholds')[0]} was changed ({space.label}).")


@_check_of("S")
def check_shortlist_cancelled(backend):
    """With the cancel flag set beforehand a call looks at next to nothing (V8)."""
    space = Space.of("large", np.random.default_rng(13).normal(size=(4000, 2)), metrics.Correlation(kernels.RBF(0.5)))
    plan, handle = whole_range(space.queries(range(0, 4000, 10))), backend.prepare(space.payload)
    usual, cancelled = ShortlistOutput.empty(400), ShortlistOutput.empty(400)
    cancelled.cancel[0] = 1
    for out in (usual, cancelled):
        backend.shortlist(handle, plan, np.full(400, -np.inf), 5, out)
    if not usual.pairs[0] or cancelled.pairs[0] > usual.pairs[0] / 4:
        fail(f"cancelled beforehand, {cancelled.pairs[0]} of {usual.pairs[0]} pairs were looked at nevertheless.")


@_check_of("S")
def check_shortlist_driver(backend):
    """Through the driver `exact` and a radius search have the bits of the cython backend, and say who did what."""
    X = np.random.default_rng(14).normal(size=(400, 2))
    metric = metrics.ResidualCorrelation(kernels.Matern52(0.6), inducing=24, jitter=1e-4)
    space, own = Space.of("residual", X, metric), registry.get_backend("cython")
    many, few = range(0, 400), range(0, 400, 20)
    for block in (space.queries(many, predecessor_mode=True), space.queries(few), space.external(X[:9] + 0.01)):
        found, expected = (_drive(one, space, block, 3, EXACT) for one in (backend, own))
        expect_answer("exact through the driver", found, expected.indices, expected.distances)
        told = {"screen": backend.name, "decision": backend.name}
        if found.plan.phases != told:
            fail(f"the plan says that phases were {found.plan.phases}, not {told}.")
        inside, truth = (within(SearchContext(space.payload, 0, EXACT, one), block, 0.3) for one in (backend, own))
        for name in ("indptr", "indices", "distances"):
            if not np.array_equal(getattr(inside, name), getattr(truth, name)):
                fail(f"within a radius, {name} are not those of the cython backend.")
