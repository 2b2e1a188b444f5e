"""Searches that start from an earlier answer: the same recall target, whatever the answer was, and the same bits."""

import dataclasses

import numpy as np
import pytest
from naive import share_found

import covertreex as cx
from covertreex.errors import InvalidInputError

USABLE = [info.name for info in cx.list_backends(load=True) if info.status == "ok"]
FAST = cx.FAST.replace(recall_target=0.995)
N, K = 9000, 10


def moved(tree, factor=1.05):
    kernel = tree.metric.kernel
    return tree.with_metric(type(kernel)(kernel.lengthscale * factor))


@pytest.fixture(scope="module", params=["16 bits", "float64"])
def before(request):
    """A tree whose screen is in sixteen bits and one where it is not, and what was found in each."""
    rng = np.random.default_rng(3)
    if request.param == "16 bits":
        tree = cx.cover_tree(rng.uniform(size=(N, 4)), kernel=cx.Matern32(0.4), inducing=60)
    else:
        tree = cx.cover_tree(rng.normal(size=(N, 3)), kernel=cx.RBF(1.0), inducing=200)
    answers = {mode: tree.search(K, predecessor_mode=mode, settings=FAST) for mode in (False, True)}
    assert answers[True].plan.screen.startswith(request.param)
    return tree, answers


@pytest.mark.parametrize("predecessors", [False, True])
def test_it_meets_the_target_whoever_answers(before, predecessors):
    tree, answers = before
    after, start = moved(tree), answers[predecessors]
    result = after.search(K, predecessor_mode=predecessors, settings=FAST, start=start)
    assert result.plan.strategy == "from answer"
    assert result.plan.alone == result.plan.screen.startswith("16 bits")
    assert "the neighbours that each query had" in str(result.plan)
    assert "rows looked at" in str(result.plan)
    assert len(result.changed_rows(start)) > 100
    exact = after.search(K, predecessor_mode=predecessors)
    assert share_found(result.indices, exact.indices) >= 0.995
    assert result.telemetry.counters["stop_exhausted"] == N
    for other in ({"n_threads": 1}, *({"backend": name} for name in USABLE)):
        again = after.search(K, predecessor_mode=predecessors, settings=FAST, start=start, **other)
        np.testing.assert_array_equal(again.indices, result.indices)
        np.testing.assert_array_equal(again.distances, result.distances)


def test_exact_settings_have_no_use_for_it(before):
    tree, answers = before
    some = np.arange(40)
    np.testing.assert_array_equal(
        moved(tree).search(K, queries=some, start=answers[False]).indices, moved(tree).knn(K, queries=some)
    )


def test_a_step_at_a_time(before):
    tree, answers = before
    latest = answers[True]
    for _ in range(3):
        tree = moved(tree, 1.03)
        latest = tree.search(K, predecessor_mode=True, settings=FAST, start=latest)
        assert latest.plan.strategy == "from answer"
    assert share_found(latest.indices, tree.knn(K, predecessor_mode=True)) >= 0.995


def test_rows_that_came_and_went_are_looked_for_elsewhere(rng):
    X = rng.uniform(size=(N, 4))
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.4), inducing=60)
    start = tree.search(K, settings=FAST)
    for after in (tree.insert(rng.uniform(size=(300, 4))), tree.delete(np.arange(0, N, 9)),
                  tree.delete(np.arange(0, N, 2))):  # fmt: skip
        found = after.search(K, settings=FAST, start=start)
        assert share_found(found.indices, after.knn(K)) >= 0.995
        gone = np.setdiff1d(np.arange(len(after.X)), after.ids)
        assert not np.isin(found.indices, gone).any()
    fewer = tree.delete(np.arange(0, N, 9))
    again = tree.search(K, settings=FAST, start=fewer.search(K, settings=FAST))
    assert share_found(again.indices, tree.knn(K)) >= 0.995


def test_queries_in_another_order_find_their_own_lists(before, rng):
    tree, answers = before
    order = rng.permutation(N)
    straight = moved(tree).search(K, settings=FAST, start=answers[False])
    shuffled = moved(tree).search(K, queries=order, settings=FAST, start=answers[False])
    assert straight.plan.strategy == shuffled.plan.strategy == "from answer"
    assert share_found(shuffled.indices, straight.indices[order]) >= 0.995


def test_what_is_no_help_does_no_harm(before, rng):
    tree, answers = before
    start = answers[False]
    expected = tree.search(K, settings=FAST)
    anything = dataclasses.replace(start, indices=rng.permuted(np.tile(np.arange(N), (N, 1))[:, :K], axis=0))
    nothing = dataclasses.replace(start, indices=np.full((N, K), -1), distances=np.full((N, K), np.inf))
    elsewhere = dataclasses.replace(start, rows=start.rows + N, indices=np.where(start.indices >= 0, N, -1))
    for useless in (anything, nothing, elsewhere):
        result = tree.search(K, settings=FAST, start=useless)
        assert result.plan.strategy != "from answer"
        np.testing.assert_array_equal(result.indices, expected.indices)
    some = np.arange(0, N, 3)
    np.testing.assert_array_equal(
        tree.search(K, queries=some, settings=FAST, start=start).indices,
        tree.search(K, queries=some, settings=FAST).indices,
    )


def test_few_may_share_a_site(rng):
    X = np.repeat(rng.uniform(size=(3000, 3)), 3, axis=0)
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.4), inducing=40)
    start = tree.search(K, settings=FAST, max_per_site=1)
    result = moved(tree).search(K, settings=FAST, max_per_site=1, start=start)
    assert share_found(result.indices, moved(tree).knn(K, max_per_site=1)) >= 0.99


def test_messages():
    tree = cx.cover_tree(np.arange(6.0)[:, None], kernel=cx.RBF(), inducing=2)
    result = tree.search(2)
    with pytest.raises(InvalidInputError, match=r"start must be what an earlier search returned, .* ndarray"):
        tree.search(2, start=result.indices)
    with pytest.raises(InvalidInputError, match="start helps queries that are rows of X, and queries are coord"):
        tree.search(2, queries=[[0.5]], start=result)
    with pytest.raises(InvalidInputError, match="and start answers coordinates; leave start out"):
        tree.search(2, start=tree.search(2, queries=[[0.5]]))
