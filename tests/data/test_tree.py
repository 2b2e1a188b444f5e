"""The cover tree: equal to the one that its definition spells out, and invariants that notice damage."""

import dataclasses
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import naive_tree

import covertreex as cx
from covertreex.base import tuning
from covertreex.data.build import build_tree
from covertreex.data.tree import DUPLICATE_LEVEL

ARRAYS = ("parent", "level", "child_ptr", "children", "parent_distance", "si")


def clustered(rng, n=150, d=3):
    centres = rng.normal(size=(10, d))
    return centres[rng.integers(0, 10, n)] + 1e-4 * rng.normal(size=(n, d))


def geometric(n=120):
    """Points at 0, 1, 1/2, 1/4, ...: as many levels as points."""
    return np.concatenate([[0.0], 2.0 ** -np.arange(n - 1)]).reshape(-1, 1)


DATA = {
    "one": lambda rng: np.array([[1.0, 2.0]]),
    "two": lambda rng: np.array([[1.0, 2.0], [1.5, 2.0]]),
    "two-equal": lambda rng: np.ones((2, 2)),
    "three": lambda rng: np.array([[0.0], [2.0], [2.9]]),
    "normal": lambda rng: rng.normal(size=(150, 3)),
    "sorted": lambda rng: np.sort(rng.normal(size=(150, 1)), axis=0),
    "reversed": lambda rng: np.sort(rng.normal(size=(150, 1)), axis=0)[::-1],
    "clustered": clustered,
    "identical": lambda rng: np.full((60, 3), 0.1),
    "duplicates": lambda rng: rng.integers(0, 3, size=(150, 3)).astype(float),
    "grid": lambda rng: np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2),
    "geometric": lambda rng: geometric(),
    "tiny": lambda rng: 1e-100 * rng.normal(size=(120, 2)),
    "huge": lambda rng: 1e100 * rng.normal(size=(120, 2)),
    "mixed-scales": lambda rng: rng.normal(size=(120, 2)) * 10.0 ** rng.uniform(-100, 100, size=(120, 1)),
}  # fmt: skip

METRICS = {
    "euclidean": lambda n: cx.Euclidean(),
    "correlation": lambda n: cx.Correlation(cx.Matern32(0.7)),
    "residual": lambda n: cx.ResidualCorrelation(cx.RBF(1.5), inducing=min(n, 12), jitter=1e-4),
}


def assert_equal_trees(found, expected):
    assert found.root == expected.root
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data", DATA)
def test_tree_is_the_one_of_its_definition(data, metric, rng):
    X = DATA[data](rng)
    payload, _ = METRICS[metric](len(X)).prepare(X)
    expected = naive_tree(payload)
    expected.check_invariants(payload)
    for n_threads in (1, 2):
        assert_equal_trees(build_tree(payload, n_threads), expected)


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=40),
    st.sampled_from([1.0, 0.3, 1e-8]),
    st.sampled_from(sorted(METRICS)),
)
def test_tree_of_any_small_data(points, scale, metric):
    X = scale * np.array(points, dtype=float)
    payload, _ = METRICS[metric](len(X)).prepare(X)
    assert_equal_trees(build_tree(payload), naive_tree(payload))


@pytest.mark.parametrize("part", [1, 5, 64])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_tree_does_not_depend_on_batches_or_threads(n_threads, part, monkeypatch, rng):
    payload, _ = cx.ResidualCorrelation(cx.Matern52(), inducing=20).prepare(rng.normal(size=(500, 3)))
    expected = build_tree(payload)
    monkeypatch.setattr(tuning, "TREE_PART", part)
    assert_equal_trees(build_tree(payload, n_threads), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_invariants_of_a_larger_tree(metric, rng):
    X = np.concatenate([rng.normal(size=(1500, 3)), clustered(rng, 400)])
    payload, _ = METRICS[metric](len(X)).prepare(X)
    build_tree(payload, 2).check_invariants(payload)


def test_invariants_on_some_pairs(rng):
    payload, _ = cx.Euclidean().prepare(rng.normal(size=(500, 2)))
    tree = build_tree(payload)
    tree.check_invariants(payload, pairs=2000)
    assert len(tree) == 500
    assert tree.nbytes == sum(getattr(tree, name).nbytes for name in ARRAYS)
    assert 1 < tree.depth() < 50


def test_a_tree_is_built_once_and_only_for_a_search(rng):
    tree = cx.cover_tree(rng.normal(size=(100, 2)), kernel=cx.RBF(), inducing=5)
    tree.knn(3, settings="exact", backend="cython")
    assert tree._state.built is None
    tree.knn(3, settings="parity", backend="cython")
    assert tree.tree is tree.tree


def test_topological_order(rng):
    payload, _ = cx.Euclidean().prepare(rng.normal(size=(200, 2)))
    tree = build_tree(payload)
    order = tree.topological()
    place = np.empty(200, dtype=int)
    place[order] = np.arange(200)
    assert order[0] == tree.root
    np.testing.assert_array_equal(np.sort(order), np.arange(200))
    rest = order[1:]
    assert np.all(place[tree.parent[rest]] < place[rest])


def test_all_equal_points_hang_on_the_first():
    payload, _ = cx.Euclidean().prepare(np.zeros((5, 2)))
    tree = build_tree(payload)
    assert tree.root == payload.row[0]
    assert np.all(tree.parent[payload.row[1:]] == tree.root)
    assert np.all(tree.level[payload.row[1:]] == DUPLICATE_LEVEL)
    assert tree.si[tree.root] <= 1e-150


# ---------------------------------------------------------------------------------------------------------------------
# Damage


@pytest.fixture
def sound(rng):
    """A payload and its tree, by definition."""
    payload, _ = cx.ResidualCorrelation(cx.Matern32(), inducing=6).prepare(rng.normal(size=(80, 2)))
    return payload, naive_tree(payload)


def damaged(tree, **changes):
    """A copy with ``array[place] = value`` for each ``array=(place, value)``."""
    arrays = {name: getattr(tree, name).copy() for name in ARRAYS}
    for name, (place, value) in changes.items():
        arrays[name][place] = value
    return dataclasses.replace(tree, **arrays)


def a_node(tree, wanted):
    """The first node that is not the root and for which ``wanted(node)``."""
    return next(x for x in range(len(tree)) if x != tree.root and wanted(x))


def is_leaf(tree, x):
    return tree.child_ptr[x] == tree.child_ptr[x + 1]


def child_on_two_parents(tree):
    first = tree.children[tree.child_ptr[tree.root]]
    x = a_node(tree, lambda x: not is_leaf(tree, x))
    return damaged(tree, children=(tree.child_ptr[x], first))


def unreachable_node(tree):
    """The last child of all is dropped from its parent's list."""
    last_inner = max(x for x in range(len(tree)) if not is_leaf(tree, x))
    return damaged(tree, child_ptr=(slice(last_inner + 1, None), len(tree) - 2))


def parent_of_another(tree):
    x = a_node(tree, lambda x: tree.parent[x] != tree.root)
    return damaged(tree, parent=(x, tree.root))


def children_out_of_order(tree):
    below = slice(tree.child_ptr[tree.root], tree.child_ptr[tree.root + 1])
    return damaged(tree, children=(below, tree.children[below][::-1]))


def root_with_a_parent(tree):
    return damaged(tree, parent=(tree.root, tree.children[0]))


def child_as_high_as_its_parent(tree):
    x = a_node(tree, lambda x: is_leaf(tree, x))
    return damaged(tree, level=(x, tree.level[tree.parent[x]]))


def wrong_parent_distance(tree):
    x = a_node(tree, lambda x: True)
    return damaged(tree, parent_distance=(x, np.nextafter(tree.parent_distance[x], 2.0)))


def too_far_from_its_parent(tree):
    x = a_node(tree, lambda x: is_leaf(tree, x))
    return damaged(tree, level=(x, tree.level[x] - 1))


def duplicate_that_is_none(tree):
    x = a_node(tree, lambda x: is_leaf(tree, x))
    return damaged(tree, level=(x, DUPLICATE_LEVEL))


def too_close(tree):
    x = a_node(tree, lambda x: is_leaf(tree, x) and tree.level[x] + 1 < tree.level[tree.parent[x]])
    return damaged(tree, level=(x, tree.level[x] + 1))


def radius_too_small(tree):
    return damaged(tree, si=(tree.root, np.nextafter(tree.si[tree.root], 0.0)))


def radius_too_large(tree):
    return damaged(tree, si=(tree.root, np.nextafter(tree.si[tree.root], 2.0)))


def leaf_with_a_radius(tree):
    return damaged(tree, si=(a_node(tree, lambda x: is_leaf(tree, x)), 1e-9))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (child_on_two_parents, r"T1: a child of node \d+ hangs on two parents"),
        (unreachable_node, r"T1: 1 of 80 nodes cannot be reached"),
        (parent_of_another, r"T1: node \d+ lists a child whose parent is another"),
        (children_out_of_order, r"T1: the children of node \d+ are not in insertion order"),
        (root_with_a_parent, "T1: the root has a parent"),
        (child_as_high_as_its_parent, r"T2: a child of node \d+ is not below it"),
        (wrong_parent_distance, r"T3: node \d+ is not at the stored distance from its parent"),
        (too_far_from_its_parent, r"T3: node \d+ is farther from its parent than allowed"),
        (duplicate_that_is_none, r"T3: node \d+ is farther from its parent than allowed"),
        (too_close, r"T4: nodes \d+ and \d+ are closer than their levels allow"),
        (radius_too_small, r"T5: the radius of node \d+ is wrong"),
        (radius_too_large, r"T5: the radius of node \d+ is wrong"),
        (leaf_with_a_radius, r"T5: the radius of node \d+ is wrong"),
    ],
)
def test_damage_is_named(sound, damage, message):
    payload, tree = sound
    tree.check_invariants(payload)
    with pytest.raises(cx.InvariantError, match=message):
        damage(tree).check_invariants(payload)


# ---------------------------------------------------------------------------------------------------------------------
# The state that a tree holds


def test_threads_that_ask_at_once_get_one_tree_and_scans_do_not_wait(monkeypatch, rng):
    tree = cx.cover_tree(rng.normal(size=(300, 2)), kernel=cx.RBF(0.5), inducing=20)
    building, go_on, calls = threading.Event(), threading.Event(), []

    def slowly(*arguments):
        calls.append(arguments)
        building.set()
        assert go_on.wait(60)
        return build_tree(*arguments)

    monkeypatch.setattr("covertreex.data.state.build_tree", slowly)
    found = []
    threads = [threading.Thread(target=lambda: found.append(tree.tree)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert building.wait(60)
    assert tree._state.built is None
    assert tree.knn(3).shape == (300, 3)  # by a scan, while the cover tree is being built
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert [one is tree.tree for one in found] == [True] * 8


@pytest.mark.parametrize("name", ["X", "metric", "payload", "n_threads", "feature_names_in_", "ids", "tree"])
def test_trees_are_immutable(name, rng):
    tree = cx.cover_tree(rng.normal(size=(30, 2)))
    with pytest.raises(AttributeError):
        setattr(tree, name, None)
    with pytest.raises(AttributeError):
        tree._state.held = np.arange(30)
