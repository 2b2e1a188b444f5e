"""How rows are dealt to tasks: prefix levels, the cells of each, and halos; sizes follow from the memory of a task."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray
from covertreex.dask.cells import Cells

#: A prefix level has this share of the rows of the one before: their queries need halos of their own.
LEVEL_SHARE = 4

#: Rows of the smallest prefix level, at least.
SMALLEST_LEVEL = 2048

#: More cells, as a multiple, while a task would not fit.
MORE_CELLS = 1.25

#: Sampled rows of a cell, at least, for its size to be known.
SAMPLED = 16


@dataclass(frozen=True, eq=False)
class Level:
    """A problem of its own: queries that come after `least` rows, and the rows that they may have.

    Attributes
    ----------
    least, most : int
        Its queries have ranks from `least` to below `most`; its data are all rows below `most`.
    cells : Cells
    width : float
        Of the halo around each cell.
    largest, rows : int
        Rows of the largest task, and of all tasks together, halos included; estimated from the sample.
    """

    least: int
    most: int
    cells: Cells
    width: float
    largest: int
    rows: int


@dataclass(frozen=True, eq=False)
class Partition:
    """All levels, from the last rows to the first."""

    levels: tuple[Level, ...]

    def __len__(self) -> int:
        return sum(len(level.cells) for level in self.levels)

    @property
    def largest(self) -> int:
        """int: rows of the largest task."""
        return max(level.largest for level in self.levels)

    @property
    def starts(self) -> list[int]:
        """list of int: the number of the first part of each level."""
        return [0, *itertools.accumulate(len(level.cells) for level in self.levels)]

    def deal(self, places: FloatArray, rank: IntArray) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        """Which rows go to which parts: numbers of rows, parts, and whether the part's own cell has the row."""
        member, part, own = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
        for level, start in zip(self.levels, self.starts, strict=False):
            may = np.flatnonzero(rank < level.most)
            if not len(may):
                continue
            home = level.cells.cell_of(places[may])
            some, cells = level.cells.near(places[may], level.width)
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
    [1000000, 250000, 62500, 15625, 3906]
    """
    sizes = [n]
    while predecessors and sizes[-1] > max(together, SMALLEST_LEVEL):
        sizes.append(sizes[-1] // LEVEL_SHARE)
    return sizes


@dataclass(frozen=True, eq=False)
class Sampled:
    """What is known of a level before it is cut.

    Attributes
    ----------
    size : int
        Its rows.
    places : ndarray, shape (s, d)
        Where a sample of them is.
    queries, neighbours : ndarray, shape (pairs, d)
        Where sampled queries and their neighbours are.
    width : float or None
        Of halos, if that is known.
    """

    size: int
    places: FloatArray
    queries: FloatArray
    neighbours: FloatArray
    width: float | None = None


def cut(sampled: Sampled, least: int, cells: int, room: int, may_miss: float) -> Level:
    """The fewest cells, `cells` at least, whose tasks have at most `room` rows; else those with the smallest tasks.

    Parameters
    ----------
    sampled : Sampled
    least : int
        As `Level`.
    cells : int
    room : int
    may_miss : float
        Share of the neighbours that may be outside of the halos.
    """
    best = level = _level(sampled, least, cells, may_miss)
    while level.largest > room and SAMPLED * len(level.cells) < len(sampled.places):
        level = _level(sampled, least, int(np.ceil(MORE_CELLS * len(level.cells))), may_miss)
        best = min(best, level, key=lambda one: one.largest)
    return best


def _level(sampled: Sampled, least: int, count: int, may_miss: float) -> Level:
    cells = Cells.of_sample(sampled.places, count)
    width = 0.0 if sampled.width is None else sampled.width
    if count > 1 and sampled.width is None:
        needed = np.sort(cells.outside(sampled.neighbours, cells.cell_of(sampled.queries)))
        allowed = int(may_miss * len(needed))
        width = float(needed[-1 - allowed]) * (1.0 + 1e-9) if len(needed) else 0.0
    _, of = cells.near(sampled.places, width)
    held = np.bincount(of, minlength=count)
    scale = sampled.size / max(1, len(sampled.places))
    return Level(least, sampled.size, cells, width, int(np.max(held) * scale), int(np.sum(held) * scale))


def bytes_of_row(factors: int, d: int, k: int) -> float:
    """Bytes that a task needs for each row that it has, at most (docs/dask.md, "Memory").

    Factors in float64, and in float32 twice while they are turned; frames, points, coordinates and levels of near rows;
    the answer as arrays and as a frame.
    """
    return 16.0 * factors + 120.0 * (d + 4) + 64.0 * k
