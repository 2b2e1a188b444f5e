"""What a search and a radius search have in common: arguments, passes that plan, and the two shuffles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.utils import format_bytes
from numpy.typing import ArrayLike

from covertreex.base.types import IntArray
from covertreex.base.validation import as_array, check_flag, check_k, check_max_per_site, check_order, check_rows
from covertreex.covertree import cover_tree
from covertreex.dask import tasks
from covertreex.dask.model import Model, version
from covertreex.dask.partition import Level, Need, Partition, level_sizes, rank_sizes, row_bytes
from covertreex.dask.planning import (
    MOST_BY_RANK,
    MOST_BY_RANK_EXACT,
    WORTH_CUTTING,
    Data,
    drawn,
    look,
    named,
    partition,
    workers,
)
from covertreex.dask.results import DaskPlan
from covertreex.dask.rows import Found, Rows
from covertreex.dask.sources import Source
from covertreex.data.metrics import Correlation, Euclidean, Metric
from covertreex.data.payload import padded
from covertreex.errors import InvalidInputError, SettingsError
from covertreex.kernels import Kernel
from covertreex.settings import TraversalSettings, resolve_settings, settings_from_env

#: A task whose queries are compared with a group of partitions may take so many times the coordinates of these.
GROUPED = 8

#: Parts among which each row is sent by itself: a task for each pair of a block and a part costs less than a shuffle.
FEW_PARTS = 4


@dataclass(frozen=True, eq=False)
class Prepared:
    """A search that is planned.

    Attributes
    ----------
    data, asked : Data
        The points, and those whose neighbours are wanted; the same where these are the rows of X.
    model : Model
    partition : Partition
    plan : DaskPlan
    audit : Rows or None
        Queries by whose neighbours levels are judged, where these have halos that may be too narrow.
    """

    data: Data
    asked: Data
    model: Model
    partition: Partition
    plan: DaskPlan
    audit: Rows | None

    def groups(self, level: Level) -> int:
        """How many groups of partitions there are, for a task to compare its queries with one group after the other.

        As few as leave most of its memory to the search.
        """
        return -(-int(GROUPED * level.most * 8 * (self.data.source.width + 2)) // int(self.plan.memory))

    def shuffled(self) -> tuple[list[Delayed], list[Delayed | None]]:
        """For each part, a frame of its rows and its halo; and one of its queries, where these are no rows."""
        given, dealt = delayed(self.model, traverse=False), delayed(self.partition, traverse=False)
        frames, count = self.sent(self.data.each(tasks.deal, given, dealt)), len(self.partition)
        if not self.model.external:
            return frames, [None] * count
        queries = self.asked.each(tasks.deal_queries, given, dealt)
        return frames, [*_sent(queries, "part", count, count, _frame(self.data.source.width))]

    def sent(self, frames: list[Delayed]) -> list[Delayed]:
        """Rows that are dealt, as a frame for each part."""
        count = len(self.partition)
        noise = None if self.data.about[0].noise is None else np.zeros(0)
        return _sent(frames, "part", count, count, _frame(self.data.source.width, noise))


def prepare(
    X: Any,
    queries: Any,
    k: int | None,
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
    memory: str | float | None = None,
    partitions: int | None = None,
    audit: int = 0,
    r: float = 0.0,
) -> Prepared:
    """Check the arguments of `search`, or with k of None those of `radius`, and plan."""
    metric: dict[str, Any] = {"kernel": kernel, "seed": seed, "jitter": jitter, "lonlat": lonlat, "radius": radius}
    chosen = _settings(settings)
    predecessor_mode = check_flag(predecessor_mode, "predecessor_mode")
    include_self = check_flag(include_self, "include_self")
    most = check_max_per_site(max_per_site)
    _check(partitions, queries, predecessor_mode, order)
    source, asked = Source.of(X, "X"), None if queries is None else Source.of(queries, "queries")
    passes = 1 + sum(one is not None and one.sizes is None for one in (source, asked))
    if asked is not None and asked.width != source.width:
        raise InvalidInputError(f"queries must have {source.width} columns as X has, got {asked.width}.")
    source = source.counted()
    n, near = len(source), k is not None
    k = 1 if k is None else check_k(k, n, "the number of points")
    noises = _noises(noise, n)
    ranks = _ranks(order, n)
    data = Data.of(source, ranks, noises)
    of_queries = data if asked is None else Data.of(asked.counted(), None, None)

    many, wanted = workers(memory), _inducing(inducing, seed, n)
    factors = 0 if inducing is None else padded(len(wanted) or len(as_array(inducing, "inducing")))
    need = Need.of(factors, source.width, k)
    memory_of_task = many.memory if near and chosen.approximate else many.memory / 2.0  # a sweep has two partitions
    room = max(1, int(memory_of_task / (need.row + need.query)))
    cells = partitions or min(many.count, max(1, n // WORTH_CUTTING))
    levels = level_sizes(n, predecessor_mode and near, min(room, n // cells))
    most_by_rank = MOST_BY_RANK if chosen.approximate else MOST_BY_RANK_EXACT
    if predecessor_mode and near and partitions is None and 1 < cells <= most_by_rank and n <= room:
        levels, cells = rank_sizes(n, cells, not chosen.approximate), 1
    judged = drawn(len(of_queries.source), audit, 1)
    mine = judged if asked is None else judged[:0]
    samples, known = look(data, levels, np.union1d(wanted, mine), max(cells, n // room))
    judges = known.among(mine)
    metric["inducing"] = known.points[np.searchsorted(known.row, wanted)] if len(wanted) else inducing
    made = _metric(source, samples[0], asked, metric | {"noise": noise if noises is None else 0.0})
    if noises is not None and not isinstance(made, Euclidean):
        Correlation(made.kernel, noises)  # which checks the values
    model = Model(made, k, predecessor_mode, include_self, asked is not None, most, chosen, backend, version(), room)
    sample = None
    if asked is not None:
        (sample,), judges = look(of_queries, [len(of_queries.source)], judged, 0)
    how = data, model, levels, samples, sample, need, memory_of_task, cells
    part = partition(*how, None if near else r)
    passes += near and len(part) > len(part.levels)
    if near and not chosen.approximate and part.bytes > memory_of_task:
        part = partition(*how, 0.0)  # sweeps find what halos would
    if part.bytes > memory_of_task:
        raise InvalidInputError(
            f"no partition fits into memory: a task and its halo would take about {format_bytes(int(part.bytes))}, "
            f"and may take {format_bytes(int(memory_of_task))}. Halos grow with the dimension and with k; give workers "
            "more memory, or fewer threads each, or memory='...' if there is more than Dask knows of."
        )
    most = max(1, int(memory_of_task / max(part.copies * row_bytes(source.width), need.query)))
    data = Data.of(source.cut(most), ranks, noises)
    of_queries = data if asked is None else Data.of(of_queries.source.cut(most), None, None)
    model = replace(model, threads=max(1, many.threads // max(many.count, len(part.levels[0].cells))))
    plan = DaskPlan(part, many.memory, part.bytes, passes)
    judge = near and chosen.approximate and len(part) > len(part.levels) and len(judges) > 0
    return Prepared(data, of_queries, model, part, plan, judges if judge else None)


def _check(partitions: int | None, queries: Any, predecessor_mode: bool, order: ArrayLike | None) -> None:
    if partitions is not None and (
        isinstance(partitions, bool) or not isinstance(partitions, (int, np.integer)) or partitions < 1
    ):
        raise InvalidInputError(f"partitions must be a number of partitions, 1 or more, or None, got {partitions!r}.")
    if queries is not None and predecessor_mode:
        raise InvalidInputError(
            "predecessor_mode is about rows of X; points of queries=... have no place among them. Leave one out."
        )
    if order is not None and not predecessor_mode:
        raise InvalidInputError("order says which rows come before others; give predecessor_mode=True beside it.")


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
    rank = np.empty(n, dtype=np.int64)
    rank[check_order(order, n, n)] = np.arange(n)
    return rank


def _noises(noise: ArrayLike | None, n: int) -> Any:
    """The noise of each point, where they have different ones."""
    if noise is None or np.ndim(noise) == 0:
        return None
    array = np.asarray(as_array(noise, "noise"), dtype=np.float64)
    if array.shape != (n,):
        raise InvalidInputError(f"noise must be a number, or one for each of {n} points; got shape {array.shape}.")
    return array


def _inducing(inducing: Any, seed: int, n: int) -> IntArray:
    """Rows that are inducing points; none where these are given as coordinates."""
    none = np.zeros(0, dtype=np.int64)
    if inducing is None:
        return none
    array = as_array(inducing, "inducing")
    if array.ndim == 2:
        return none
    if array.ndim == 1:
        return check_rows(array, n, "inducing")
    count = int(array)
    if not np.issubdtype(array.dtype, np.integer) or not 1 <= count <= n:
        raise InvalidInputError(
            f"inducing must be a count from 1 to {n}, rows, or coordinates of shape (m, d); got {inducing!r}."
        )
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


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


def _frame(width: int, noise: Any = None) -> pd.DataFrame:
    none = np.zeros(0, dtype=np.int64)
    return tasks.frame_of(Rows(none, none, np.zeros((0, width)), noise), none, np.zeros(0, dtype=bool))


def _sent(frames: list[Delayed], key: str, count: int, parts: int, meta: pd.DataFrame) -> list[Delayed]:
    """Frames for each value of a column below `count`: picked from each frame where parts are few, else shuffled."""
    if parts <= FEW_PARTS:
        pick, gather = named(tasks.picked), named(tasks.together)
        one = len(frames)
        picked = [[pick(to * one + i, frame, key, to) for i, frame in enumerate(frames)] for to in range(count)]
        return [gather(to, *pieces) for to, pieces in enumerate(picked)]
    # `from_delayed` marks its tasks as sources of data, which a scheduler holds back while there is other work: what is
    # found would pile up in memory until all is found.
    graph = HighLevelGraph.merge(*[frame.dask for frame in frames]).to_dict()
    unknown = (None,) * (len(frames) + 1)
    frame = dd.from_graph(graph, meta, unknown, [frame.key for frame in frames], f"by-{key}")
    return list(frame.set_index(key, divisions=list(range(count + 1))).to_delayed())


def in_groups(frames: list[Delayed], count: int) -> list[Delayed]:
    """The rows of all partitions without their halos, in `count` groups of partitions."""
    own, gathered = named(tasks.own), named(tasks.gathered)
    rows = [own(i, frame) for i, frame in enumerate(frames)]
    size = -(-len(rows) // count)
    return [gathered(j, *rows[j : j + size]) for j in range(0, len(rows), size)]


def sent_back(found: list[Delayed], answers: Callable[..., Any], starts: IntArray) -> list[Delayed]:
    """What was found, made into frames by `answers`, as frames for each block of what was asked."""
    none = _frame(1)["row"].to_numpy()
    rows = Rows(none, none, np.zeros((0, 1)))
    meta = tasks.answers(Found(rows, rows, none[:, None], np.zeros((0, 1))), starts)
    task, lazy = named(answers), delayed(starts, traverse=False)
    frames = [task(i, one, lazy) for i, one in enumerate(found)]
    return _sent(frames, "block", len(starts) - 1, len(found), meta)
