"""Planning: the passes over the points that come before a search, and the memory that its tasks may take."""

import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.base import compute
from dask.delayed import Delayed, delayed
from dask.utils import parse_bytes
from distributed import Client, default_client
from distributed.system import MEMORY_LIMIT

from covertreex.base.parallel import thread_count
from covertreex.base.types import IntArray
from covertreex.dask import tasks
from covertreex.dask.model import Model, version
from covertreex.dask.partition import Level, Need, Pairs, Partition, Sampled, chances, cut
from covertreex.dask.rows import Found, Rows
from covertreex.dask.sources import Source
from covertreex.errors import InvalidInputError
from covertreex.settings import FAST

#: Rows of a sample that cells are cut from, at least; and for each cell.
SAMPLE, SAMPLE_OF_CELL = 2**15, 128

#: Queries of each prefix level whose neighbours tell how wide halos must be.
PROBES = 2048

#: They are looked for in one of so many rows, but in this many rows at least.
PROBED_SHARE, PROBED_ROWS = 4, 20_000

#: Share of the misses that a recall target allows which halos may take.
HALO_MISSES = 0.5

#: Share of a worker's memory that its tasks may fill, and what a worker has in use before it does anything.
FILLED, IDLE = 0.6, 2.5e8

#: Parts, at most, that predecessors are cut into by rank, where a task can hold all rows. More have rows too often,
#: which matters less where queries cost more, by exact settings.
MOST_BY_RANK, MOST_BY_RANK_EXACT = 4, 16

#: Points for which another worker is worth another partition.
WORTH_CUTTING = 20_000


@dataclass(frozen=True)
class Workers:
    """Who works: how many processes, how many threads they have together, and the memory for one thread."""

    count: int
    threads: int
    memory: float


def workers(memory: str | float | None) -> Workers:
    """The workers of the client that is connected, or this process; `memory` is what the caller grants a task.

    Raises
    ------
    InvalidInputError
        If one has another version of covertreex, or `memory` is no size.
    """
    client = _client()
    if client is None:
        threads = int(dask.config.get("num_workers", None) or thread_count(None))
        count, share = 1, float(MEMORY_LIMIT) / 2.0 / threads
    else:
        _check_versions(client)
        known = client.scheduler_info(n_workers=-1)["workers"].values()
        count, threads = max(1, len(known)), max(1, sum(one["nthreads"] for one in known))
        limits = [(FILLED * (one["memory_limit"] or MEMORY_LIMIT) - IDLE) / one["nthreads"] for one in known]
        share = max(min(limits, default=1e9), 1e7)
    if memory is not None:
        try:
            share = float(parse_bytes(memory))
        except (TypeError, ValueError):
            share = 0.0
        if not share > 0.0:
            raise InvalidInputError(
                f"memory must be what one task may take, in bytes or as a size such as '512 MB', got {memory!r}."
            )
    return Workers(count, threads, share)


def _client() -> Client | None:
    try:
        client: Client = default_client()
        return client
    except ValueError:
        return None


def _check_versions(client: Client) -> None:
    here, found = version(), client.run(version)
    for address, there in found.items():
        if there != here:
            raise InvalidInputError(
                f"worker {address} has covertreex {there}, but this process has {here}; other versions may give other "
                "bits. Install the same version on all workers and the client."
            )


@dataclass(frozen=True, eq=False)
class Data:
    """The points, cut into blocks, and what goes with each block.

    Attributes
    ----------
    source : Source
    about : list of tasks.Block
    """

    source: Source
    about: list[tasks.Block]

    @classmethod
    def of(cls, source: Source, rank: IntArray | None, noise: Any) -> "Data":
        """Blocks of counted points."""
        starts = source.starts
        about = [
            tasks.Block(
                source.label(i),
                source.columns,
                source.width,
                int(start),
                _part(rank, start, stop),
                _part(noise, start, stop),
            )
            for i, (start, stop) in enumerate(itertools.pairwise(starts))
        ]
        return cls(source, about)

    def each(self, function: Callable[..., Any], *arguments: Any, split: Sequence[Any] | None = None) -> list[Delayed]:
        """A task for each block, called after its function; `split` has a last argument for each."""
        task = named(function)
        own = [()] * len(self.about) if split is None else [(part,) for part in split]
        return [
            task(i, block, delayed(about, traverse=False), *arguments, *last)
            for i, (block, about, last) in enumerate(zip(self.source.blocks, self.about, own, strict=True))
        ]


def named(function: Callable[..., Any]) -> Callable[..., Delayed]:
    """Tasks that the dashboard shows under the function's name: called with a number first, which is no argument."""
    made = delayed(function, pure=False)
    group = f"{function.__name__.replace('_', '-')}-{uuid.uuid4().hex}"

    def task(number: int, *arguments: Any) -> Delayed:
        one: Delayed = made(*arguments, dask_key_name=(group, number))
        return one

    return task


def drawn(n: int, count: int, seed: int) -> IntArray:
    """Numbers of `count` of n rows, or of all, drawn at random."""
    return np.sort(np.random.default_rng(seed).choice(n, min(count, n), replace=False))


def _part(values: Any, start: int, stop: int) -> Any:
    return None if values is None else values[start:stop]


def look(data: Data, levels: Sequence[int], wanted: IntArray, cells: int) -> tuple[list[Rows], Rows]:
    """Read all points once: check them, take a sample of each level, and those rows that are wanted."""
    starts, n, sizes = data.source.starts, len(data.source), np.diff(data.source.starts)
    share = min(1.0, max(SAMPLE, SAMPLE_OF_CELL * cells) / n)
    split = np.split(wanted, np.searchsorted(wanted, starts[1:-1]))
    looks = data.each(tasks.look, list(levels), share, split=split)
    parts = [part for part, size in zip(compute(*looks), sizes, strict=True) if size]
    samples = [Rows.union([part[0][level] for part in parts]) for level in range(len(levels))]
    return samples, Rows.union([part[1] for part in parts])


def _shares(levels: Sequence[int]) -> list[int]:
    """In one of how many rows of each level the neighbours of some queries are looked for."""
    return [int(max(1, min(PROBED_SHARE, level // PROBED_ROWS))) for level in levels]


def probe(data: Data, model: Model, levels: Sequence[int], asked: Sequence[Rows]) -> list[Found]:
    """The neighbours of some queries of each level in a part of the data: a pass over it.

    Of a query's k nearest about k / s are in one of s rows, and are the nearest of these. Of more than twice as many
    none is likely to be one.
    """
    shares = _shares(levels)
    ks = [min(model.k, 2 * -(-model.k // share)) for share in shares]
    given = delayed(model, traverse=False), list(levels), shares, ks, delayed(list(asked), traverse=False)
    return list(merged(data.each(tasks.probe, *given), tasks.nearest_of).compute())


def merged(parts: list[Delayed], function: Callable[..., Any], *arguments: Any) -> Delayed:
    """One task of many, eight together at a time."""
    while len(parts) > 1:
        task = named(function)
        # No lists of parts: for a list `delayed` looks through all graphs.
        parts = [task(i, *arguments, *parts[i : i + 8]) for i in range(0, len(parts), 8)]
    return parts[0]


def partition(
    data: Data,
    model: Model,
    levels: Sequence[int],
    samples: Sequence[Rows],
    queries: Rows | None,
    need: Need,
    memory: float,
    cells: int,
    r: float | None = None,
) -> Partition:
    """Cells of each level, and halos as wide as sampled queries need.

    Parameters
    ----------
    data : Data
    model : Model
    levels : list of int
        Rows of each prefix level.
    samples : list of Rows
        Of each.
    queries : Rows or None
        A sample of external queries, if these are asked.
    need : Need
    memory : float
        Bytes that a task may take.
    cells : int
        Of the first level, at least.
    r : float, optional
        A radius: where distances are those of space, halos are as wide, and elsewhere there are none.
    """
    random, bounds = np.random.default_rng(0), [*levels, 0]
    # At least as many as hold the rows, and as leave no task more than its share of the work.
    room = int(memory / (need.row + need.query))
    counts = [max(1, -(-level // max(1, room)), round(cells * level / levels[0])) for level in levels]
    asked = []
    for sample, least, count in zip(samples, bounds[1:], counts, strict=True):
        may = sample.take(sample.rank >= least) if queries is None else queries
        asked.append(may.take(np.sort(random.permutation(len(may))[: PROBES if count > 1 else 0])))
    found = probe(data, model, levels, asked) if max(counts) > 1 and r is None else None
    width = None if r is None else r * (1.0 + 1e-9) if model.euclidean else 0.0
    target = model.settings.recall_target if model.settings.approximate else FAST.recall_target
    made: list[Level] = []
    for i, (count, share) in enumerate(zip(counts, _shares(levels), strict=True)):
        places = model.places(samples[i].points)
        pairs = Pairs.none(places.shape[1]) if found is None else pairs_of(found[i], model, share)
        sampled = Sampled(bounds[i + 1], levels[i], places, samples[i].rank, pairs, width, model.external)
        made.append(cut(sampled, count, need, memory, HALO_MISSES * (1.0 - target)))
    return Partition(tuple(made))


def pairs_of(found: Found, model: Model, share: int) -> Pairs:
    """Each query with each of its neighbours in one of `share` rows."""
    query, place = np.nonzero(found.indices >= 0)
    if not len(query):
        return Pairs.none(found.queries.points.shape[1])
    where = np.searchsorted(found.candidates.row, found.indices[query, place])
    weight = chances(model.k, share, found.indices.shape[1])[place]
    asked, there = model.places(found.queries.points)[query], model.places(found.candidates.points)[where]
    return Pairs(query, found.queries.rank[query], weight, asked, there)
