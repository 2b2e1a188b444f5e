"""What plans expect: every part is told, grows with what it is about, and adds up."""

import numpy as np
import pytest

import covertreex as cx


def search(n=3000, d=3, k=10, m=40, settings="exact", **asked):
    X = np.random.default_rng(0).uniform(size=(n, d))
    return cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=m, n_threads=1).search(k, settings=settings, **asked)


def test_a_sweep_tells_its_parts():
    plan = search().plan
    assert [what for what, _ in plan.expected] == ["pairs", "pairs in doubt", "decision"]
    assert plan.expected_us == pytest.approx(sum(us for _, us in plan.expected))
    _, cost, pairs = plan.costs[0]
    assert plan.expected[0][1] == pytest.approx(cost * pairs / 1e3)
    (line,) = [line for line in str(plan).splitlines() if line.startswith("expected in all")]
    assert "us of one core for a query (pairs " in line
    assert "way: all rows" in str(plan)


def test_rings_tell_what_finding_rows_takes():
    result = search(n=20_000, d=5, m=20, settings=cx.FAST.replace(recall_target=0.9), predecessor_mode=True)
    parts = dict(result.plan.expected)
    assert set(parts) == {"pairs", "pairs in doubt", "near rows", "decision", "sample"}
    assert min(parts.values()) > 0.0
    higher = search(n=20_000, d=5, m=20, settings="fast", predecessor_mode=True)
    assert dict(higher.plan.expected)["near rows"] > parts["near rows"]


def test_more_of_everything_is_expected_to_take_longer():
    base = search().plan.expected_us
    assert search(n=6000).plan.expected_us > base
    assert search(m=200).plan.expected_us > base
    assert search(k=40).plan.expected_us > base
    assert search(predecessor_mode=True).plan.expected_us < base


@pytest.mark.parametrize("d", [1, 3, 12])
def test_boxes_are_expected_to_grow_with_the_dimension_and_k(d, rng):
    tree = cx.cover_tree(rng.normal(size=(2000, d)))
    assert tree.search(20).plan.expected_us > tree.search(2).plan.expected_us > 0.0
    assert "expected in all" in str(tree.search(2).plan)


def test_a_tree_walk_expects_nothing():
    plan = search(n=200, settings="parity").plan
    assert plan.expected == ()
    assert plan.expected_us == 0
    assert "expected in all" not in str(plan)


def test_without_a_screen_every_row_is_decided():
    plan = search(n=60, k=30).plan
    assert plan.screen == "none"
    assert [what for what, _ in plan.expected] == ["decision"]


def test_a_second_pass_adds_to_the_first(rng):
    X = rng.normal(size=(8192, 3))
    plan = cx.cover_tree(X, kernel=cx.RBF(1.0), inducing=128).search(50, settings="fast", predecessor_mode=True).plan
    assert plan.strategy == "second pass"
    assert [what for what, _ in plan.expected][-2:] == ["graph", "second pass"]
