"""How rows are dealt to tasks: prefix levels, the cells of each, and halos; sizes follow from the memory of a task."""

import itertools
from collections.abc import Container
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray
from covertreex.dask.cells import Cells

#: A prefix level has this share of the rows of the one before: their queries need halos of their own.
LEVEL_SHARE = 8

#: Rows of the smallest prefix level, at least.
SMALLEST_LEVEL = 2048

#: What each row of a task costs beside its queries: factors, their copy for a screen. As a share of what a query costs.
ROW_COST = 0.25

#: More cells, as a multiple, while a task would not fit.
MORE_CELLS = 1.1

#: Standard errors by which a sample of misses is taken to be too lucky.
CAUTION = 1.5

#: Sampled rows of a cell, at least, for its size to be known.
SAMPLED = 16


@dataclass(frozen=True)
class Need:
    """Bytes that a task needs, at most, for each row that it has, and for each query (docs/dask.md, "Memory")."""

    row: float
    query: float

    @classmethod
    def of(cls, factors: int, d: int, k: int) -> "Need":
        """Of so many factors, coordinates and neighbours.

        Factors in float64, float32 and eight bits; frames, points, coordinates and levels of near
        rows; the answer as arrays and as a frame.
        """
        return cls(16.0 * factors + 120.0 * (d + 4), 64.0 * k)


@dataclass(frozen=True, eq=False)
class Level:
    """A problem of its own: queries that come after `least` rows, and the rows that they may have.

    Attributes
    ----------
    least, most : int
        Its queries have ranks from `least` to below `most`; its data are all rows below `most`.
    cells : Cells
    width : float
        Of the halo around each cell, for the last rows.
    power : float
        Earlier rows have a wider halo: what comes after them, and may have them as neighbours, begins where rows are
        fewer. It grows like this power of ``most / rank``.
    largest, rows : int
        Rows of the largest task, and of all tasks together, halos included; estimated from the sample.
    bytes : float
        Of the task that needs most.
    """

    least: int
    most: int
    cells: Cells
    width: float
    power: float
    largest: int
    rows: int
    bytes: float

    def widths(self, rank: IntArray) -> FloatArray:
        """How wide the halos are that have rows of these ranks."""
        return self.width * self.wider(rank)

    def wider(self, rank: IntArray) -> FloatArray:
        """The same as multiples of `width`."""
        return _wider(rank, self.least, self.most, self.power)


def _wider(rank: IntArray, least: int, most: int, power: float) -> FloatArray:
    times: FloatArray = (most / np.maximum(rank, max(1, least))) ** power
    return times


@dataclass(frozen=True, eq=False)
class Partition:
    """All levels, from the last rows to the first."""

    levels: tuple[Level, ...]

    def __len__(self) -> int:
        return sum(len(level.cells) for level in self.levels)

    @property
    def bytes(self) -> float:
        """float: of the task that needs most."""
        return max(level.bytes for level in self.levels)

    @property
    def copies(self) -> float:
        """float: in how many parts a row is."""
        return sum(level.rows for level in self.levels) / self.levels[0].most

    @property
    def starts(self) -> list[int]:
        """list of int: the number of the first part of each level."""
        return [0, *itertools.accumulate(len(level.cells) for level in self.levels)]

    def deal(
        self, places: FloatArray, rank: IntArray, which: Container[int] | None = None
    ) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        """Which rows go to which parts: numbers of rows, parts, and whether the part's own cell has the row.

        Of all levels, or those whose number is in `which`.
        """
        member, part, own = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
        for number, (level, start) in enumerate(zip(self.levels, self.starts, strict=False)):
            may = np.flatnonzero(rank < level.most)
            if not len(may) or (which is not None and number not in which):
                continue
            home = level.cells.cell_of(places[may])
            some, cells = level.cells.near(places[may], level.widths(rank[may]))
            halo = home[some] != cells
            member += [may, may[some[halo]]]
            part += [start + home, start + cells[halo]]
            own += [np.ones(len(may), bool), np.zeros(int(halo.sum()), bool)]
        return np.concatenate(member), np.concatenate(part), np.concatenate(own)


def level_sizes(n: int, predecessors: bool, together: int) -> list[int]:
    """How many of the first rows each prefix level has; `together` are answered in one task.

    Examples
    --------
    >>> level_sizes(1_000_000, True, 10_000)
    [1000000, 125000, 15625, 1953]
    """
    sizes = [n]
    while predecessors and sizes[-1] > max(together, SMALLEST_LEVEL):
        sizes.append(sizes[-1] // LEVEL_SHARE)
    return sizes


def rank_sizes(n: int, parts: int, exact: bool) -> list[int]:
    """How many of the first rows each of so many parts has, whose queries are the rows that the next part has not.

    No part has a halo: it has all that its queries may have. All parts cost about the same, so a later part, which has
    more rows, has fewer queries: each query costs 1 and each row `ROW_COST`, or for `exact` settings each query all
    rows before it.

    Examples
    --------
    >>> rank_sizes(900, 2, False), rank_sizes(1000, 4, True)
    ([900, 500], [1000, 866, 707, 500])
    """
    if exact:
        return [int(n * (part / parts) ** 0.5) for part in range(parts, 0, -1)]
    share = 1.0 / (1.0 + ROW_COST)
    return [int(n * (1.0 - share**part) / (1.0 - share**parts)) for part in range(parts, 0, -1)]


@dataclass(frozen=True, eq=False)
class Sampled:
    """What is known of a level before it is cut.

    Attributes
    ----------
    least, size : int
        Its rows, and how many of them are not asked.
    places : ndarray, shape (s, d)
        Where a sample of them is.
    rank : ndarray, shape (s,)
    pairs : Pairs
        Sampled queries and their neighbours.
    width : float or None
        Of halos, if that is known.
    external : bool
        Whether queries are other points.
    """

    least: int
    size: int
    places: FloatArray
    rank: IntArray
    pairs: "Pairs"
    width: float | None = None
    external: bool = False


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a query and what is perhaps one of its k nearest.

    Attributes
    ----------
    query : ndarray, shape (pairs,), int64
        Numbers of queries.
    rank : ndarray, shape (pairs,), int64
        Of the query.
    weight : ndarray, shape (pairs,)
        How probable it is that it is one.
    queries, neighbours : ndarray, shape (pairs, d)
        Where both are.
    """

    query: IntArray
    rank: IntArray
    weight: FloatArray
    queries: FloatArray
    neighbours: FloatArray

    @classmethod
    def none(cls, d: int) -> "Pairs":
        """No pair."""
        nothing, places = np.zeros(0, dtype=np.int64), np.zeros((0, d))
        return cls(nothing, nothing, np.zeros(0), places, places)

    def width(self, cells: Cells, wider: FloatArray, may_miss: float) -> float:
        """The narrowest halo outside of which no more than this share of the neighbours is.

        The sample is taken to be an unlucky one. Misses of one query come together, so their spread is that of queries.
        """
        if not len(self.query):
            return 0.0
        needed = cells.outside(self.neighbours, cells.cell_of(self.queries)) / wider
        order = np.argsort(-needed)
        allowed, missed, squares = may_miss * float(np.sum(self.weight)), 0.0, 1.0
        of_query: dict[int, float] = {}
        for place in order.tolist():
            query, weight = int(self.query[place]), float(self.weight[place])
            before = of_query.get(query, 0.0)
            of_query[query] = before + weight
            missed, squares = missed + weight, squares + weight * (weight + 2.0 * before)
            if missed + CAUTION * np.sqrt(squares) > allowed:
                return float(needed[place]) * (1.0 + 1e-9)
        return 0.0


def row_bytes(d: int) -> float:
    """Bytes that a row takes on its way to a partition, at most: in a frame, which is made and cut into pieces."""
    return 6.0 * (8.0 * (d + 4) + 1.0)


def chances(k: int, share: int, count: int) -> FloatArray:
    """How probable it is that the first, second... neighbour in one of `share` rows is one of the k nearest in all.

    The j-th is if at least j of the k are among those rows.

    Examples
    --------
    >>> chances(2, 2, 3).tolist()
    [0.75, 0.25, 0.0]
    """
    kept = np.ones(1)
    for _ in range(k):
        kept = np.append(kept * (1.0 - 1.0 / share), 0.0) + np.append(0.0, kept / share)
    beyond = np.cumsum(kept[::-1])[::-1]
    return np.append(beyond, np.zeros(count))[1 : count + 1]


def cut(sampled: Sampled, cells: int, need: Need, memory: float, may_miss: float) -> Level:
    """The fewest cells, `cells` at least, whose tasks need at most `memory`; else those with the smallest tasks.

    Parameters
    ----------
    sampled : Sampled
    cells : int
    need : Need
    memory : float
    may_miss : float
        Share of the neighbours that may be outside of the halos.
    """
    best = level = _level(sampled, cells, need, may_miss)
    while level.bytes > memory and SAMPLED * len(level.cells) < len(sampled.places):
        level = _level(sampled, int(np.ceil(MORE_CELLS * len(level.cells))), need, may_miss)
        best = min(best, level, key=lambda one: one.bytes)
    return best


def _level(sampled: Sampled, count: int, need: Need, may_miss: float) -> Level:
    cells, width, power = Cells.of_sample(sampled.places, count), 0.0, 0.0
    if sampled.width is not None:
        width = sampled.width
    elif count > 1:
        if sampled.least:
            power = 1.0 / sampled.places.shape[1]
        wider = _wider(sampled.pairs.rank, sampled.least, sampled.size, power)
        width = sampled.pairs.width(cells, wider, may_miss)
    widths = width * _wider(sampled.rank, sampled.least, sampled.size, power)
    held = np.bincount(cells.near(sampled.places, widths)[1], minlength=count)
    asked = held
    if not sampled.external:
        asked = np.bincount(cells.cell_of(sampled.places[sampled.rank >= sampled.least]), minlength=count)
    scale = sampled.size / max(1, len(sampled.places))
    bytes_ = scale * float(np.max(need.row * held + need.query * asked))
    largest, rows = int(np.max(held) * scale), int(np.sum(held) * scale)
    return Level(sampled.least, sampled.size, cells, width, power, largest, rows, bytes_)
