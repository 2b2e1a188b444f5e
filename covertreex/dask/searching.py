"""The search: planned at once, computed when it is asked for."""

from dataclasses import replace
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.delayed import Delayed, delayed
from dask.utils import format_bytes
from numpy.typing import ArrayLike

from covertreex.base.types import IntArray
from covertreex.base.validation import as_array, check_flag, check_k, check_max_per_site, check_rows
from covertreex.covertree import cover_tree
from covertreex.dask import tasks
from covertreex.dask.model import Model, version
from covertreex.dask.partition import Level, Partition, bytes_of_row, level_sizes
from covertreex.dask.planning import WORTH_CUTTING, Data, look, named, partition, workers
from covertreex.dask.results import DaskPlan, DaskResult
from covertreex.dask.rows import Found, Rows
from covertreex.dask.sources import Source
from covertreex.data.metrics import Metric
from covertreex.data.payload import padded
from covertreex.errors import InvalidInputError, SettingsError
from covertreex.kernels import Kernel
from covertreex.settings import TraversalSettings, resolve_settings, settings_from_env


def search(
    X: Any,
    k: int,
    queries: Any = None,
    *,
    kernel: Kernel | None = None,
    inducing: ArrayLike | None = None,
    seed: int = 0,
    jitter: float | None = None,
    noise: ArrayLike | None = None,
    lonlat: bool = False,
    radius: float | None = None,
    predecessor_mode: bool = False,
    order: ArrayLike | None = None,
    include_self: bool = False,
    max_per_site: int | None = None,
    settings: str | TraversalSettings | None = None,
    backend: str | None = None,
    audit: int = 0,
    memory: str | float | None = None,
    partitions: int | None = None,
) -> DaskResult:
    """The k nearest neighbours of every row, or of other points, by tasks that Dask runs wherever it runs.

    Planning reads the points once or twice, at once: it checks all numbers, takes a sample, and finds out how wide
    halos must be. The search itself is lazy.

    Parameters
    ----------
    X : dask.array.Array, dask.dataframe.DataFrame, ndarray, memmap or zarr.Array, shape (n, d)
        Points, in chunks of rows. Where their sizes are unknown, they are counted first, in a pass of its own.
    k : int
        From 1 to n.
    queries : as `X`, optional
        Other points to find neighbours of. By default the rows of X.
    kernel, inducing, seed, jitter, noise, lonlat, radius
        As for `covertreex.cover_tree`. Inducing points and a noise for each point are NumPy arrays.
    predecessor_mode, include_self, max_per_site, settings, backend
        As for `covertreex.CoverTree.search`.
    order : array_like of int, shape (n,), optional
        As for `covertreex.CoverTree.search`; it travels with the graph, 8 bytes a row.
    audit : int
        How many queries `DaskResult.recall` is measured by.
    memory : int or str, optional
        Bytes that one task may take, such as '512 MB'; by default six tenths of each worker's limit, less what it has
        in use when idle, divided among its threads. Partitions are as few as that allows.
    partitions : int, optional
        At least so many partitions; by default one for each worker.

    Returns
    -------
    DaskResult

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, a number is not finite (the chunk and the row in it are named), columns differ
        between partitions of a data frame, a worker has another version of covertreex, or no partition fits into
        `memory`.
    SettingsError, BackendError, FactorizationError
        As for `covertreex.cover_tree` and `covertreex.CoverTree.search`.

    Notes
    -----
    'exact' settings give the bits of `covertreex.CoverTree.search` with all points in one process, whatever the
    partitions. 'fast' looks at each partition and a halo around it, and meets the same recall target.

    Examples
    --------
    >>> import dask.array as da, covertreex as cx, covertreex.dask as cxd
    >>> X = da.from_array([[0.0], [1.0], [3.0]], chunks=(2, 1))
    >>> cxd.search(X, k=1).indices.compute().ravel().tolist()
    [1, 0, 1]
    """
    chosen = _settings(settings)
    predecessor_mode = check_flag(predecessor_mode, "predecessor_mode")
    include_self = check_flag(include_self, "include_self")
    most = check_max_per_site(max_per_site)
    if isinstance(audit, bool) or not isinstance(audit, (int, np.integer)) or audit < 0:
        raise InvalidInputError(f"audit must be a number of queries, 0 or more, got {audit!r}.")
    if partitions is not None and (not isinstance(partitions, (int, np.integer)) or partitions < 1):
        raise InvalidInputError(f"partitions must be a number of partitions, 1 or more, or None, got {partitions!r}.")
    if queries is not None and predecessor_mode:
        raise InvalidInputError(
            "predecessor_mode is about rows of X; points of queries=... have no place among them. Leave one out."
        )
    if order is not None and not predecessor_mode:
        raise InvalidInputError("order says which rows come before others; give predecessor_mode=True beside it.")
    source, passes = Source.of(X, "X"), 1
    asked = None if queries is None else Source.of(queries, "queries")
    for one in (source, asked):
        passes += one is not None and one.sizes is None
    source = source.counted()
    asked = None if asked is None else asked.counted()
    n = len(source)
    k = check_k(k, n, "the number of points")
    many = workers(memory)
    data = Data.of(source, _ranks(order, n), _noise_of_points(noise, n))

    wanted, coordinates = _inducing(inducing, seed, n)
    factors = padded(len(wanted) if coordinates is None else len(coordinates))
    each = bytes_of_row(factors, source.width, k)
    room = max(1, int(many.memory / each))
    if not chosen.approximate:
        room = max(1, room // 2)  # a sweep has rows of two partitions
    cells = partitions or min(many.count, max(1, n // WORTH_CUTTING))
    levels = level_sizes(n, predecessor_mode, min(room, n // cells))
    samples, drawn = look(data, levels, wanted, max(cells, n // room))
    if inducing is not None:
        inducing = drawn.points if coordinates is None else coordinates
    model = Model(
        _metric(source, samples[0], asked, {
            "kernel": kernel, "inducing": inducing, "seed": seed, "jitter": jitter, "lonlat": lonlat, "radius": radius,
            "noise": None if noise is None else np.asarray(noise).flat[: min(np.size(noise), 1)][0],
        }),
        k, predecessor_mode, include_self, asked is not None, most, chosen, backend, version(),
    )  # fmt: skip
    of_queries, sample = data, None
    if asked is not None:
        of_queries = Data.of(asked, None, None)
        (sample,), _ = look(of_queries, [len(asked)], np.zeros(0, dtype=np.int64), 0)
    part = partition(data, model, levels, samples, sample, room, cells)
    model = replace(model, threads=max(1, many.threads // len(part.levels[0].cells)))
    passes += len(part) > len(part.levels)
    largest = max(level.largest for level in part.levels)
    if largest > room:
        raise InvalidInputError(
            f"no partition fits into memory: a task and its halo would take about {format_bytes(int(largest * each))}, "
            f"and may take {format_bytes(int(room * each))}. Halos grow with the dimension and with k; give workers "
            "more memory, or fewer threads each, or memory='...' if there is more than Dask knows of."
        )
    indices, distances = _assemble(data, None if asked is None else of_queries, model, part, room, samples[0])
    plan = DaskPlan(part, many.memory, largest * each, passes)
    return DaskResult(indices, distances, plan, model, data, of_queries, int(audit))


def knn(X: Any, k: int, queries: Any = None, *, return_distances: bool = False, **options: Any) -> Any:
    """`search`, for its arrays alone, as `covertreex.CoverTree.knn`.

    Parameters
    ----------
    X, k, queries, **options
        As for `search`.
    return_distances : bool
        Whether to return the distances as well.

    Returns
    -------
    indices : dask.array.Array, shape (q, k), int64
    distances : dask.array.Array, shape (q, k), float64
        Only if `return_distances`.

    Raises
    ------
    InvalidInputError, SettingsError, BackendError, FactorizationError
        As for `search`.

    Examples
    --------
    >>> import numpy as np, covertreex.dask as cxd
    >>> cxd.knn(np.array([[0.0], [1.0], [3.0]]), 2, predecessor_mode=True).compute().tolist()
    [[-1, -1], [0, -1], [1, 0]]
    """
    result = search(X, k, queries, **options)
    return (result.indices, result.distances) if check_flag(return_distances, "return_distances") else result.indices


def _settings(settings: str | TraversalSettings | None) -> TraversalSettings:
    chosen = resolve_settings(settings, settings_from_env())
    if chosen.budget_schedule or chosen.level_cap:
        raise SettingsError(
            "budget_schedule and level_cap are about one tree of all points, which partitions do not have; use 'fast', "
            "or another recall_target."
        )
    return chosen


def _ranks(order: ArrayLike | None, n: int) -> IntArray | None:
    """The place of each row in the order."""
    if order is None:
        return None
    rows = check_rows(as_array(order, "order"), n, "order")
    if len(rows) != n or np.bincount(rows, minlength=n).max() > 1:
        raise InvalidInputError(
            f"order must be a permutation of all {n} rows, each once; got {len(rows)} rows, {len(np.unique(rows))} of "
            "them different. If these are ranks, give np.argsort(ranks)."
        )
    rank = np.empty(n, dtype=np.int64)
    rank[rows] = np.arange(n)
    return rank


def _noise_of_points(noise: ArrayLike | None, n: int) -> Any:
    """The noise of each point, where they have different ones."""
    if noise is None or np.ndim(noise) == 0:
        return None
    array = np.asarray(as_array(noise, "noise"), dtype=np.float64)
    if array.shape != (n,):
        raise InvalidInputError(f"noise must be a number, or one for each of {n} points; got shape {array.shape}.")
    return array


def _inducing(inducing: Any, seed: int, n: int) -> tuple[IntArray, Any]:
    """Rows that are inducing points, or coordinates."""
    none = np.zeros(0, dtype=np.int64)
    if inducing is None:
        return none, None
    array = as_array(inducing, "inducing")
    if array.ndim == 2:
        return none, array
    if array.ndim == 1:
        return check_rows(array, n, "inducing"), None
    count = int(array)
    if not np.issubdtype(array.dtype, np.integer) or not 1 <= count <= n:
        raise InvalidInputError(
            f"inducing must be a count from 1 to {n}, rows, or coordinates of shape (m, d); got {inducing!r}."
        )
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False)), None


def _metric(source: Source, sample: Rows, asked: Source | None, arguments: dict[str, Any]) -> Metric:
    """The metric, checked as that of any tree: by making one of a few points."""
    few: Any = sample.points[:64]
    if source.columns is not None:
        few = pd.DataFrame(few, columns=list(source.columns))
        if asked is not None and asked.columns is not None and asked.columns != source.columns:
            raise InvalidInputError(
                f"queries has columns {list(asked.columns)}, but X has {list(source.columns)}; they must have the same "
                "names in the same order."
            )
    return cover_tree(few, n_threads=1, **arguments).metric


def _assemble(
    data: Data, asked: Data | None, model: Model, part: Partition, room: int, some: Rows
) -> tuple[da.Array, da.Array]:
    """The graph of tasks: deal, shuffle, search, send back."""
    given, dealt = delayed(model, traverse=False), delayed(part, traverse=False)
    empty = some.take(np.zeros(0, dtype=np.int64))
    noise = None if data.about[0].noise is None else np.zeros(0)
    meta = tasks.frame_of(Rows(empty.row, empty.rank, empty.points, noise), empty.row, np.zeros(0, dtype=bool))
    frames = _shuffled(data.each(tasks.deal, given, dealt), meta, "part", len(part))
    ask: list[Delayed | None] = [None] * len(frames)
    if asked is not None:
        meta = tasks.frame_of(empty, empty.row, np.zeros(0, dtype=bool))
        ask = list(_shuffled(asked.each(tasks.deal_queries, given, dealt), meta, "part", len(part)))
    found: list[Delayed] = []
    near = named(tasks.near)
    for level, start in zip(part.levels, part.starts, strict=False):
        cells = range(start, start + len(level.cells))
        whole = len(level.cells) == 1
        close = [near(i, frames[i], ask[i], given, level.least, whole) for i in cells]
        if not whole and not model.settings.approximate:
            close = _swept(close, [frames[i] for i in cells], given, level, room)
        found += close
    blocks = (data if asked is None else asked).source
    return _in_order(found, blocks, model.k)


def _shuffled(parts: list[Delayed], meta: pd.DataFrame, key: str, count: int) -> list[Delayed]:
    """Frames for each value of a column below `count`."""
    frame = dd.from_delayed(parts, meta=meta)
    return list(frame.set_index(key, divisions=list(range(count + 1))).to_delayed())


def _swept(close: list[Delayed], frames: list[Delayed], given: Delayed, level: Level, room: int) -> list[Delayed]:
    """Every partition's queries against the rows of all partitions, a few of these at a time."""
    own, sweep, settle = named(tasks.own), named(tasks.sweep), named(tasks.settle)
    rows = [own(i, frame) for i, frame in enumerate(frames)]
    several = max(1, room // max(1, level.most // len(frames)))
    settled = []
    for i, found in enumerate(close):
        others = [sweep(i * len(rows) + j, found, rows[j : j + several], given) for j in range(0, len(rows), several)]
        settled.append(settle(i, found, others, given))
    return settled


def _in_order(found: list[Delayed], blocks: Source, k: int) -> tuple[da.Array, da.Array]:
    """Answers in the order and chunks of what was asked."""
    sizes = np.diff(blocks.starts)
    answers, collect = named(tasks.answers), named(tasks.collect)
    none = Rows(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 1)))
    empty = np.zeros((0, k), dtype=np.int64)
    meta = tasks.answers(Found(none, none, empty, empty.astype(np.float64)), blocks.starts)
    starts = delayed(blocks.starts, traverse=False)
    frames = _shuffled([answers(i, one, starts) for i, one in enumerate(found)], meta, "block", len(blocks.blocks))
    indices, distances = [], []
    for i, (frame, start, size) in enumerate(zip(frames, blocks.starts, sizes, strict=False)):
        both: Any = collect(i, frame, int(start), int(size), k)
        indices.append(da.from_delayed(both[0], (int(size), k), dtype=np.int64))
        distances.append(da.from_delayed(both[1], (int(size), k), dtype=np.float64))
    return da.concatenate(indices), da.concatenate(distances)
