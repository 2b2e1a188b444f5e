"""The second pass of `fast`: neighbours of neighbours, against plain NumPy; and what both passes answer together."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import share_found

import covertreex as cx
from covertreex._core.canonical import PayloadView
from covertreex._core.graph import Explorer, merge
from covertreex._core.screen import Screener
from covertreex.backends.telemetry import check_line, merge_totals
from covertreex.base import tuning
from covertreex.search import SearchContext
from covertreex.search.calibration import meets
from covertreex.search.exploring import make_graph
from covertreex.search.screens.cache import sharp
from covertreex.testing.reference import make_queries

USABLE = [info.name for info in cx.list_backends(load=True) if info.status == "ok"]
FAST = cx.FAST.replace(recall_target=0.995)


def lists_of(rng, n, k, most):
    """Lists of distinct neighbours, at most `most` each, ascending by distance; and distances."""
    indices, distances = np.full((n, k), -1, dtype=np.int64), np.full((n, k), np.inf)
    for i in range(n):
        size = rng.integers(0, min(most, k) + 1)
        indices[i, :size] = rng.choice(n, size, replace=False)
        distances[i, :size] = np.sort(rng.choice([0.0, 0.3, 0.6, 0.6, 0.9, 1.0], size))
    return indices, distances


def plain_scores(rows, limits, rank, near, rho, seen):
    """Scores of the rows that any query may have, by the definition; 0 for none."""
    n = len(near)
    links = [[] for _ in range(n)]
    for i in range(n):
        for j, r in zip(near[i], rho[i], strict=True):
            links[i].append((j, r))
            links[j].append((i, r))
    score = np.zeros(n, dtype=np.float32)
    for row in rows:
        for j, r in zip(near[row], rho[row], strict=True):
            weight = max(r / max(rho[row][-1], np.float32(1e-3)), np.float32(1e-30))
            for other, s in links[j]:
                score[other] = max(score[other], weight * s)
    score[seen] = 0.0
    score[rank >= max(limits)] = 0.0
    return score


@pytest.mark.parametrize("most", [1, 5, 30])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_scores_are_the_best_products(most, n_threads, rng):
    n, k = 150, 30
    tree = cx.cover_tree(rng.normal(size=(n, 2)), kernel=cx.RBF(), inducing=10)
    payload, rows = tree.payload, rng.permutation(n)
    queries = dataclasses.replace(
        make_queries(payload, payload.index[rows]), rank=rng.permutation(n), limit=rng.integers(1, n, n)
    )
    indices, distances = lists_of(rng, n, k, most)
    context = SearchContext(payload, k, cx.EXACT, cx.get_backend("cython"), n_threads)
    graph = make_graph(context, queries, indices, distances)
    near, rho = [[] for _ in range(n)], [[] for _ in range(n)]
    for place, row in enumerate(queries.rows):
        near[row] = payload.row[indices[place][indices[place] >= 0]]
        rho[row] = (1.0 - distances[place][indices[place] >= 0] ** 2).astype(np.float32)
    lens = sharp(payload).lens(queries, 8)
    screener = Screener(lens, lens, None, queries, PayloadView(payload), k, 8, np.zeros(1, np.int32))
    explorer = Explorer(graph, screener, 8)
    for first, last in ((0, 8), (8, 27), (149, 150)):
        seen = rng.choice(n, 20, replace=False).astype(np.int32)
        parts = [(begin, min(begin + 8, last)) for begin in range(first, last, 8)]
        scores = [
            plain_scores(queries.rows[begin:end], queries.limit[begin:end], queries.rank, near, rho, seen)
            for begin, end in parts
        ]
        leasts = np.ascontiguousarray(np.unique([np.inf, *np.concatenate(scores)])[:0:-1], dtype=np.float32)
        missed, looked = np.empty(len(leasts), dtype=np.int64), np.empty(len(leasts), dtype=np.int64)
        allowed = np.flatnonzero(queries.rank < queries.limit[first])
        for row in [*allowed, -1]:
            members, neighbors = np.array([first]), np.array([[row]])
            assert explorer.trial(first, last, seen, members, neighbors, leasts, missed, looked) == 1
            found = row < 0 or row in seen
            assert missed.tolist() == [not found and scores[0][row] < least for least in leasts]
            assert looked.tolist() == [int(np.sum(scores[0] >= least)) for least in leasts]


@pytest.mark.parametrize("neighbors", [False, True])
def test_a_query_alone_looks_at_its_best_products(neighbors, rng):
    n, k, least = 150, 12, np.float32(0.9)
    tree = cx.cover_tree(rng.normal(size=(n, 2)), kernel=cx.RBF(), inducing=10)
    payload = tree.payload
    queries = dataclasses.replace(
        make_queries(payload, np.arange(n)), rank=rng.permutation(n), limit=rng.integers(1, n, n)
    )
    indices, distances = lists_of(rng, n, k, k)
    graph = make_graph(SearchContext(payload, k, cx.EXACT, cx.get_backend("cython")), queries, indices, distances)
    near, rho = [[] for _ in range(n)], [[] for _ in range(n)]
    for place, row in enumerate(queries.rows):
        near[row] = payload.row[indices[place][indices[place] >= 0]]
        rho[row] = (1.0 - distances[place][indices[place] >= 0] ** 2).astype(np.float32)
    lens = sharp(payload).lens(queries, 8)
    screener = Screener(lens, lens, None, queries, PayloadView(payload), n, 8, np.zeros(1, np.int32))  # n: all stand
    explorer, counts = Explorer(graph, screener, 1, neighbors), np.zeros(8, dtype=np.int64)
    seen = np.zeros(0, np.int32) if neighbors else rng.choice(n, 20, replace=False).astype(np.int32)
    explorer.look_alone(24, 32, seen, least, np.full(8, -np.inf), counts)
    lists = np.split(screener.take(), np.cumsum(counts)[:-1])
    for place, found in zip(range(24, 32), lists, strict=True):
        row, limit = queries.rows[place], queries.limit[place]
        score = plain_scores([row], [limit], queries.rank, near, rho, seen)
        wanted = set(np.flatnonzero(score >= least).tolist())
        if neighbors:
            wanted |= {int(j) for j in near[row] if queries.rank[j] < limit}
        assert sorted(found.tolist()) == sorted(wanted - {queries.exclude[place]})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_merge_is_a_sort(data):
    k = data.draw(st.integers(1, 6))
    pool = [
        (d, i)
        for i, d in enumerate(data.draw(st.lists(st.sampled_from(np.linspace(0.0, 1.0, 9).tolist()), max_size=12)))
    ]
    mine = data.draw(st.lists(st.booleans(), min_size=len(pool), max_size=len(pool)))
    both = [sorted(e for e, m in zip(pool, mine, strict=True) if m == side)[:k] for side in (False, True)]
    indices, distances = np.full((2, 1, k), -1, dtype=np.int64), np.full((2, 1, k), np.inf)
    for side, entries in enumerate(both):
        for t, (d, i) in enumerate(entries):
            indices[side, 0, t], distances[side, 0, t] = i, d
    tied = np.full(1, 7, dtype=np.uint8)
    merge(indices[0], distances[0], indices[1], distances[1], tied)
    assert tied[0] == bool({d for d, _ in both[0]} & {d for d, _ in both[1]})
    if tied[0]:
        return  # whoever asked decides, since distances do not
    expected = sorted(both[0] + both[1])[:k]
    assert indices[1, 0].tolist() == [i for _, i in expected] + [-1] * (k - len(expected))
    assert distances[1, 0].tolist() == [d for d, _ in expected] + [np.inf] * (k - len(expected))


@pytest.fixture
def two_passes(monkeypatch):
    monkeypatch.setattr(tuning, "WORTH_TWO_PASSES", 0.0)
    monkeypatch.setattr(tuning, "ALONE_MOST", 0.0)


@pytest.fixture(scope="module")
def tree():
    return cx.cover_tree(np.random.default_rng(3).normal(size=(9000, 3)), kernel=cx.RBF(0.7), inducing=200)


def check_lines_of_two_passes(telemetry):
    """In the second each query is answered again, but has stopped before."""
    lines = [check_line(line) for line in telemetry.to_jsonl().splitlines()]
    assert [line["block"] for line in lines] == list(range(len(lines)))
    passes = [[line["queries"] for line in lines if line["pass_number"] == number] for number in (1, 2)]
    assert [sum(sizes) for sizes in passes] == [9000, 9000]
    assert len(lines) == len(passes[0]) + len(passes[1])
    assert telemetry.block_sizes == tuple(passes[0])
    assert merge_totals(line["counters"] for line in lines) == telemetry.counters


@pytest.mark.parametrize("predecessors", [False, True])
@pytest.mark.parametrize(("k", "target"), [(20, 0.998), (10, 0.995)])
@pytest.mark.usefixtures("two_passes")
def test_two_passes_meet_the_target_whoever_answers(tree, predecessors, k, target):
    fast = cx.FAST.replace(recall_target=target)
    result = tree.search(k, predecessor_mode=predecessors, settings=fast, audit=1500)
    assert result.plan.promise is not None
    assert result.recall >= target
    assert share_found(result.indices, tree.knn(k, predecessor_mode=predecessors)) >= target
    assert "neighbours of neighbours" in str(result.plan)
    totals = result.telemetry.counters
    assert totals["stop_exhausted"] == 9000
    check_lines_of_two_passes(result.telemetry)
    for other in ({"n_threads": 1}, *({"backend": name} for name in USABLE)):
        again = tree.search(k, predecessor_mode=predecessors, settings=fast, **other)
        np.testing.assert_array_equal(again.indices, result.indices)
        np.testing.assert_array_equal(again.distances, result.distances)


@pytest.mark.usefixtures("two_passes")
def test_any_order_of_all_rows_may_be_asked_for(tree, rng):
    everyone = tree.search(10, settings=FAST)
    order = rng.permutation(9000)
    shuffled = tree.search(10, queries=order, settings=FAST)
    exact = tree.knn(10)
    for result, expected in ((everyone, exact), (shuffled, exact[order])):
        assert result.plan.promise is not None
        assert share_found(result.indices, expected) >= 0.995


def test_one_pass_where_a_second_would_save_little():
    tree = cx.cover_tree(np.random.default_rng(1).uniform(size=(10_000, 4)), kernel=cx.Matern32(0.3), inducing=150)
    result = tree.search(20, settings=FAST)
    assert result.plan.promise is None
    assert result.plan.least is not None


@pytest.mark.parametrize(
    "asked",
    [np.arange(8000), np.append(np.arange(8999), 0)],
    ids=["not all rows", "a row twice"],
)
@pytest.mark.usefixtures("two_passes")
def test_other_queries_have_one_pass(tree, asked):
    result = tree.search(5, queries=asked, settings=FAST)
    assert result.plan.promise is None
    assert share_found(result.indices, tree.knn(5, queries=asked)) >= 0.995


@pytest.mark.usefixtures("two_passes")
def test_a_low_target_has_one_pass(tree):
    assert tree.search(5, settings=cx.FAST.replace(recall_target=0.97)).plan.promise is None


@pytest.mark.usefixtures("two_passes")
def test_without_a_promise_that_meets_the_target_rings_do(tree, monkeypatch):
    monkeypatch.setattr(tuning, "PROMISES", (np.inf,))
    result = tree.search(5, predecessor_mode=True, settings=FAST, audit=2000)
    assert result.plan.promise is None
    assert len(result.plan.tried) > 1
    assert result.recall >= 0.995
    assert result.telemetry.counters["stop_exhausted"] == 9000


@pytest.mark.usefixtures("two_passes")
def test_a_first_pass_that_meets_the_target_is_the_last(tree, monkeypatch):
    monkeypatch.setattr(tuning, "FIRST_PASS", 0.0)
    result = tree.search(5, settings=cx.FAST.replace(recall_target=0.98), audit=2000)
    assert result.plan.promise is None
    assert result.plan.promises == ()
    (tried,) = result.plan.tried
    assert tried[2] >= 0.98
    assert result.recall >= 0.98


def test_deleted_points_are_no_neighbours_of_neighbours(tree, rng):
    gone = rng.choice(9000, 500, replace=False)
    fewer = tree.delete(gone)
    result = fewer.search(5, settings=FAST, audit=2000)
    assert not np.isin(result.indices, gone).any()
    assert result.recall >= 0.995


@pytest.mark.parametrize(("excess", "least", "most"), [(1.3, 0.0, 0.05), (0.1, 0.6, 1.0)])
def test_few_misses_in_clusters_do_not_pass_for_a_target_met(excess, least, most):
    """How many samples let a rule pass that misses `excess` times what the target allows, in clusters."""
    wanted, passed = np.full(100, 240), 0
    expected = excess * 0.001 * wanted.sum()
    sizes, shares = np.array([1, 20]), np.array([0.9, 0.1])  # a lonely query misses many
    for seed in range(300):
        rng = np.random.default_rng(seed)
        clusters = rng.poisson(4.0 * expected / (sizes @ shares))
        size, group = rng.choice(sizes, clusters, p=shares), rng.integers(100, size=clusters)
        stage = rng.integers(4, size=clusters)  # each rule finds some of what the one before it misses
        tries = [np.bincount(group, size * found, 100) for found in (stage >= 0, stage >= 2, stage >= 3)]
        passed += meets(0.999, tries, wanted)
    assert least <= passed / 300 <= most
