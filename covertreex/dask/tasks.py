"""What runs on workers. Each function is a task; its name is what the dashboard shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray
from covertreex.dask.bounds import may_gain
from covertreex.dask.model import Model
from covertreex.dask.partition import Partition
from covertreex.dask.rows import Found, Rows, Within
from covertreex.dask.sources import points_of
from covertreex.errors import CovertreexError
from covertreex.settings import FAST

#: How much less than the k-th ``|rho|`` that of a right neighbour may be; how much farther it may be, Euclidean.
RHO_TOLERANCE, EUCLIDEAN_TOLERANCE = 1e-7, 1e-9

#: How the answers of a row travel: pandas and Arrow move pieces of bytes faster than many columns.
PACKED = pa.large_binary()


@dataclass(frozen=True, eq=False)
class Block:
    """What a task must know of a block beside its points.

    Attributes
    ----------
    label : str
        What an error calls it.
    columns : tuple of str or None
        Their names, if they have some.
    width : int
        How many there are.
    start : int
        The number of its first row.
    rank : ndarray, shape (rows,), int64, or None
        Places of its rows in the order; their numbers by default.
    noise : ndarray, shape (rows,), float64, or None
    """

    label: str
    columns: tuple[str, ...] | None
    width: int
    start: int
    rank: IntArray | None = None
    noise: FloatArray | None = None

    def rows(self, block: Any) -> Rows:
        """Its rows."""
        points = points_of(block, self.label, self.columns, self.width)
        row = self.start + np.arange(len(points), dtype=np.int64)
        return Rows(row, row if self.rank is None else self.rank, points, self.noise)


def look(block: Any, about: Block, levels: Sequence[int], share: float, wanted: IntArray) -> tuple[list[Rows], Rows]:
    """Check a block; a sample of its rows of every prefix level, and rows that are wanted by their numbers."""
    rows = about.rows(block)
    random = np.random.default_rng(about.start)
    samples = []
    for level in levels:
        members = np.flatnonzero(rows.rank < level)
        count = min(len(members), int(np.ceil(share * len(members) * levels[0] / level)))
        samples.append(rows.take(np.sort(random.choice(members, count, replace=False))))
    return samples, rows.take(wanted - about.start)


def probe(
    block: Any,
    about: Block,
    model: Model,
    levels: Sequence[int],
    shares: Sequence[int],
    ks: Sequence[int],
    samples: Sequence[Rows],
) -> list[Found]:
    """The nearest of samples of queries, one a prefix level, in a share of a block's rows."""
    rows = about.rows(block)
    mixed = (rows.row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    found = []
    for level, share, k, queries in zip(levels, shares, ks, samples, strict=True):
        data = rows.take((rows.rank < level) & (mixed % np.uint64(share) == 0))
        found.append(model.ask_in_turns(data, queries, k))
    return found


def nearest_of(*parts: Sequence[Found]) -> list[Found]:
    """Of the neighbours that several blocks have, the nearest of each query; which of a tie, a sample need not know."""
    merged = []
    for level in zip(*parts, strict=True):
        k = level[0].indices.shape[1]
        distances = np.concatenate([found.distances for found in level], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :k]
        indices = np.take_along_axis(np.concatenate([found.indices for found in level], axis=1), best, axis=1)
        candidates = Rows.union([found.candidates for found in level]).among(indices)
        merged.append(Found(level[0].queries, candidates, indices, np.take_along_axis(distances, best, axis=1)))
    return merged


def truth(block: Any, about: Block, model: Model, queries: Rows) -> Found:
    """The neighbours that queries have in a block."""
    return model.ask_in_turns(about.rows(block), queries)


def true_neighbours(model: Model, *parts: Found) -> Found:
    """The neighbours that queries have, from those that they have in each block."""
    return model.ask_in_turns(Rows.union([found.candidates for found in parts]), parts[0].queries)


def hits(model: Model, true: Found, indices: IntArray, distances: FloatArray) -> tuple[IntArray, IntArray]:
    """How many of each query's true neighbours were returned, and how many there are (as `DenseOracle.hits`)."""
    expected = np.sum(true.indices >= 0, axis=1)
    last = np.take_along_axis(true.distances, np.maximum(expected - 1, 0)[:, None], axis=1)
    if model.euclidean:
        enough = distances <= last * (1.0 + EUCLIDEAN_TOLERANCE)
    else:
        enough = 1.0 - distances**2 >= 1.0 - last**2 - RHO_TOLERANCE
    right = np.sum(enough & (indices >= 0), axis=1)
    return np.minimum(right, expected), expected


def deal(block: Any, about: Block, model: Model, partition: Partition) -> pd.DataFrame:
    """The rows of a block, each as often as a partition has it: once as its own, or as one of its halo."""
    rows = about.rows(block)
    places = model.places(rows.points) if len(rows) else rows.points
    member, part, own = partition.deal(places, rows.rank)
    return frame_of(rows.take(member), part, own)


def deal_queries(block: Any, about: Block, model: Model, partition: Partition) -> pd.DataFrame:
    """External queries, each in the partition where it is."""
    rows = about.rows(block)
    cell = partition.levels[0].cells.cell_of(model.places(rows.points)) if len(rows) else rows.row
    return frame_of(rows, cell, np.ones(len(rows), dtype=bool))


def frame_of(rows: Rows, part: IntArray, own: NDArray[np.bool_]) -> pd.DataFrame:
    """Rows as what is shuffled: coordinates and numbers, no factors."""
    columns: dict[str, Any] = {"part": part, "row": rows.row, "rank": rows.rank, "own": own}
    if rows.noise is not None:
        columns["noise"] = rows.noise
    columns |= {f"x{i}": rows.points[:, i] for i in range(rows.points.shape[1])}
    return pd.DataFrame(columns)


def picked(frame: pd.DataFrame, key: str, number: int) -> pd.DataFrame:
    """The rows of a frame that go to one part or block."""
    return frame[(frame[key] == number).to_numpy()]


def together(*frames: pd.DataFrame) -> pd.DataFrame:
    """What goes to one part or block, from all frames."""
    return pd.concat(frames)


def rows_of(frame: pd.DataFrame) -> tuple[Rows, NDArray[np.bool_]]:
    """Rows of a partition, and which are its own; in the order of their numbers, whatever the shuffle made of it."""
    frame = frame.sort_values("row")
    labels = [label for label in frame.columns if label.startswith("x")]
    noise = frame["noise"].to_numpy(dtype=np.float64) if "noise" in frame else None
    rows = Rows(
        frame["row"].to_numpy(dtype=np.int64),
        frame["rank"].to_numpy(dtype=np.int64),
        np.ascontiguousarray(frame[labels].to_numpy(dtype=np.float64)),
        noise,
    )
    return rows, frame["own"].to_numpy(dtype=bool)


def near(data: pd.DataFrame, queries: pd.DataFrame | None, model: Model, least: int, whole: bool) -> Found:
    """The neighbours of a partition's queries among its own rows and its halo.

    `least` is the lowest rank of its queries. With `whole` the halo is all that there is, and the answer final.
    """
    rows, own = rows_of(data)
    asked = rows.take(own & (rows.rank >= least)) if queries is None else rows_of(queries)[0]
    final = whole or model.settings.approximate
    return model.ask(rows, asked, model.settings if final else FAST, final=final)


def own(data: pd.DataFrame) -> Rows:
    """The rows of a partition without its halo."""
    rows, mine = rows_of(data)
    return rows.take(mine)


def gathered(*parts: Rows) -> tuple[Rows, ...]:
    """The rows of some partitions, as one thing that tasks depend on."""
    return parts


def sweep(found: Found, model: Model, parts: Sequence[Rows]) -> Rows:
    """Rows of some partitions that are neighbours of a partition's queries, and were not known as such."""
    known = sweep_all(found, model, parts)
    return known.candidates.take(~np.isin(known.candidates.row, found.candidates.row))


def sweep_all(found: Found, model: Model, parts: Sequence[Rows]) -> Found:
    """The neighbours of a partition's queries among the rows of some partitions and those that are known.

    Only queries that may gain something are asked, and a few partitions at a time: what these have bounds how near a
    new neighbour in the next ones must be.
    """
    known = found
    for turn in in_turns(parts, model.room):
        gains = [may_gain(model, known, part) for part in turn]
        asked = np.logical_or.reduce(gains)
        if not np.any(asked):
            continue
        before = known.candidates.among(known.indices[asked])
        data = Rows.union([before, *(part for part, gain in zip(turn, gains, strict=True) if np.any(gain))])
        known = known.improved(asked, model.ask(data, known.queries.take(asked), model.settings))
    return known


def in_turns(parts: Sequence[Rows], room: int) -> Iterator[Sequence[Rows]]:
    """Consecutive parts that together have as many rows as one search may have, or one part that has more."""
    start, held = 0, 0
    for place, part in enumerate(parts):
        if place > start and held + len(part) > room:
            yield parts[start:place]
            start, held = place, 0
        held += len(part)
    if start < len(parts):
        yield parts[start:]


def settle(found: Found, model: Model, *others: Rows) -> Found:
    """The answer, from all rows that may be in it: once more a search, which puts ties in their order."""
    if not any(map(len, others)):
        return found
    return model.ask(Rows.union([found.candidates, *others]), found.queries, model.settings, final=True)


def answers(found: Found, starts: IntArray) -> pd.DataFrame:
    """What was found, as it is sent back to the blocks that queries came from: a row's answer is one piece of bytes."""
    both = np.concatenate([found.indices, found.distances.view(np.int64)], axis=1)
    ends = np.arange(len(both) + 1, dtype=np.int64) * both.shape[1]
    return _packed(found.queries.row, both, ends, starts)


def _packed(row: IntArray, values: IntArray, ends: IntArray, starts: IntArray) -> pd.DataFrame:
    """A frame of rows of blocks that begin at `starts`, with `values` between `ends` as one piece of bytes for each."""
    packed = pa.Array.from_buffers(PACKED, len(row), [None, pa.py_buffer(8 * ends), pa.py_buffer(values)])
    block = np.searchsorted(starts, row, side="right") - 1
    return pd.DataFrame({"block": block, "row": row, "answer": pd.array(packed, dtype=pd.ArrowDtype(PACKED))})


def collect(frame: pd.DataFrame, start: int, size: int, k: int) -> tuple[IntArray, FloatArray]:
    """Indices and distances of a block, in the order of its rows.

    Raises
    ------
    CovertreexError
        If a row is missing or there twice, which only a shuffle that went wrong could do.
    """
    place = _places(frame, start, size)
    both = np.empty((size, 2 * k), dtype=np.int64)
    both[place] = _unpacked(pa.array(frame["answer"]))[0].reshape(-1, 2 * k)
    return both[:, :k].copy(), both[:, k:].copy().view(np.float64)


def _places(frame: pd.DataFrame, start: int, size: int) -> IntArray:
    """Where the rows of a frame are in their block, which has each once."""
    place: IntArray = frame["row"].to_numpy(dtype=np.int64) - start
    if not np.array_equal(np.sort(place), np.arange(size)):
        raise CovertreexError(
            f"the shuffle returned {len(place)} rows for the {size} from row {start} on; search again, and report it."
        )
    return place


def _unpacked(packed: Any) -> tuple[IntArray, IntArray]:
    """All bytes of an Arrow array of pieces of bytes, as integers; and how many each piece has."""
    parts, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for part in packed.chunks if isinstance(packed, pa.ChunkedArray) else [packed]:
        if len(part):
            _, ends, values = part.buffers()
            ends = np.frombuffer(ends, dtype=np.int64)[part.offset : part.offset + len(part) + 1] // 8
            counts.append(np.diff(ends))
            parts.append(np.frombuffer(values or b"", dtype=np.int64)[ends[0] : ends[-1]])
    return np.concatenate(parts), np.concatenate(counts)


def within(data: pd.DataFrame, queries: pd.DataFrame | None, model: Model, r: float) -> Within:
    """The neighbours within a radius that a partition's queries have among its own rows and its halo."""
    rows, own = rows_of(data)
    asked = rows.take(own) if queries is None else rows_of(queries)[0]
    return model.within(rows, asked, r)


def within_others(found: Within, parts: Sequence[Rows], own: int, model: Model, r: float) -> Rows:
    """Rows of some partitions that are neighbours of a partition's queries within a radius; `own` was asked before."""
    turns = in_turns([part for place, part in enumerate(parts) if place != own], model.room)
    others = [model.within(Rows.union(turn), found.queries, r).candidates for turn in turns]
    return Rows.union([found.candidates, *others])


def settle_within(found: Within, model: Model, r: float, *others: Rows) -> Within:
    """All neighbours within a radius, from those in all partitions: once more a search, which puts them in order."""
    return model.within(Rows.union([found.candidates, *others]), found.queries, r)


def answers_within(found: Within, starts: IntArray) -> pd.DataFrame:
    """As `answers`."""
    counts = np.diff(found.indptr)
    values = np.empty(2 * len(found.indices), dtype=np.int64)
    place = np.arange(len(found.indices)) + np.repeat(found.indptr[:-1], counts)
    values[place] = found.indices
    values[place + np.repeat(counts, counts)] = found.distances.view(np.int64)
    return _packed(found.queries.row, values, 2 * found.indptr, starts)


def collect_within(frame: pd.DataFrame, start: int, size: int) -> pd.DataFrame:
    """The neighbours of a block's rows: a line for each, in the order of the rows, the nearest first."""
    order = np.argsort(_places(frame, start, size))
    values, counts = _unpacked(pa.array(frame["answer"]))
    begin, counts = (np.cumsum(counts) - counts)[order], counts[order] // 2
    place = np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    distances = values[place + np.repeat(counts, counts)].view(np.float64)
    return pairs_of(np.repeat(start + np.arange(size, dtype=np.int64), counts), values[place], distances)


def pairs_of(query: IntArray, index: IntArray, distance: FloatArray) -> pd.DataFrame:
    """A line for each pair of a query and a neighbour."""
    return pd.DataFrame({"query": query, "index": index, "distance": distance})


def table(indices: IntArray, distances: FloatArray, start: int) -> pd.DataFrame:
    """What was found for a block, as a table that can be written."""
    columns: dict[str, Any] = {"row": start + np.arange(len(indices), dtype=np.int64)}
    columns |= {f"i{j}": indices[:, j] for j in range(indices.shape[1])}
    columns |= {f"d{j}": distances[:, j] for j in range(indices.shape[1])}
    return pd.DataFrame(columns)
