"""What a comparison says about answers that differ, and that it asks all alike."""

from dataclasses import replace

import numpy as np
import pytest

import covertreex as cx
from covertreex_bench import compare, workloads


def test_difference_carries_both_answers_and_the_oracle(install_liar):
    def spoil(out):
        out.distances[-1, 2] = np.nextafter(out.distances[-1, 2], 2.0)

    install_liar(spoil)
    workload = workloads.gold(n=200, queries=10, k=4, inducing=10)
    tree = workload.tree(1)
    contenders = compare.parse_contenders(["cython/parity", "liar/parity"])
    found = compare.compare(tree, workload.queries, 4, contenders, n_threads=1)
    assert [run.same_bits for run in found.runs] == [True, False]
    assert [run.same_counters for run in found.runs] == [True, True]
    (difference,) = found.differences
    truth, distances = tree.oracle().knn(4, workload.queries)
    position = difference.position
    assert difference.query == workload.queries[position]
    assert difference.neighbors == (truth[position, 2],) * 2
    assert difference.oracle_neighbor == truth[position, 2]
    assert difference.oracle_distance == pytest.approx(distances[position, 2], abs=1e-6)
    assert difference.oracle_distances == pytest.approx([distances[position, 2]] * 2, abs=1e-6)
    assert difference.distances[1] == np.nextafter(difference.distances[0], 2.0)
    assert f"query {position} (row {difference.query}), neighbour 3: cython/parity has" in str(difference)


def test_difference_of_euclidean_coordinates_and_short_rows(install_liar):
    def forget(out):
        out.indices[0, -1], out.distances[0, -1] = -1, np.inf

    install_liar(forget)
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    found = compare.compare(tree, [[0.4]], 2, compare.parse_contenders(["cython/parity", "liar/parity"]))
    (difference,) = found.differences
    assert difference.query == [0.4]
    assert difference.neighbors == (1, -1)
    assert difference.oracle_distances == pytest.approx((0.6, np.nan), nan_ok=True)


def test_repeated_runs_must_agree(install_liar):
    turns = iter(range(100))

    def drift(out):
        out.distances[:] += next(turns)

    install_liar(drift)
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    with pytest.raises(cx.BackendError, match="run 2 differently from run 1"):
        compare.compare(tree, np.arange(3), 1, compare.parse_contenders(["liar/parity"]), repeat=2)


def test_a_row_that_cannot_run_is_refused_before_any_work():
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    with pytest.raises(cx.BackendError, match="nobody"):
        compare.compare(tree, np.arange(3), 1, compare.parse_contenders(["cython/parity", "nobody/parity"]))
    assert tree._state.built is None


def test_approximate_rows_may_have_a_recall_below_one():
    settings = cx.PARITY.replace(budget_schedule=(8,))
    workload = workloads.gold(n=200, queries=10, k=4, inducing=10)
    contender = replace(compare.parse_contenders(["cython/parity"])[0], settings=settings)
    found = compare.compare(workload.tree(1), workload.queries, 4, [contender])
    assert found.runs[0].recall < 1.0
    assert found.problems == []
