"""Cells: space, cut into boxes that hold about as many rows each; and the halo of rows around each box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Cells:
    """Boxes that cover all of space, made by cuts at right angles to the axes.

    Attributes
    ----------
    axis : ndarray, shape (nodes,), int64
        The axis that each node cuts; -1 for a cell.
    cut : ndarray, shape (nodes,), float64
        Rows below it are in the first child, others in the second.
    child : ndarray, shape (nodes, 2), int64
        Numbers of nodes; of a cell, its number and -1.
    lower, upper : ndarray, shape (cells, d), float64
        Corners; infinite at the end of space.
    """

    axis: IntArray
    cut: FloatArray
    child: IntArray
    lower: FloatArray
    upper: FloatArray

    def __len__(self) -> int:
        return len(self.lower)

    @classmethod
    def of_sample(cls, sample: FloatArray, count: int) -> "Cells":
        """`count` cells that hold about as many points of a sample (n, d) each.

        Examples
        --------
        >>> cells = Cells.of_sample(np.array([[0.0], [1.0], [2.0], [3.0]]), 2)
        >>> float(cells.cut[0]), cells.cell_of(np.array([[1.4], [1.6]])).tolist()
        (1.5, [0, 1])
        """
        axis: list[int] = []
        cut: list[float] = []
        child: list[list[int]] = []
        lower: list[FloatArray] = []
        upper: list[FloatArray] = []

        def grow(points: FloatArray, count: int, low: FloatArray, high: FloatArray) -> int:
            node = len(axis)
            axis.append(-1)
            cut.append(0.0)
            child.append([len(lower), -1])
            if count == 1:
                lower.append(low)
                upper.append(high)
                return node
            wide = int(np.argmax(np.ptp(points, axis=0))) if len(points) else 0
            first = count // 2
            along = np.sort(points[:, wide])
            place = len(along) * first // count
            at = 0.0 if not len(along) else float(along[max(0, place - 1)] + along[place]) / 2.0
            below = points[:, wide] < at
            middle = np.full(1, at)
            before, behind = high.copy(), low.copy()
            before[wide : wide + 1] = np.minimum(middle, high[wide])
            behind[wide : wide + 1] = np.maximum(middle, low[wide])
            axis[node], cut[node] = wide, at
            child[node] = [
                grow(points[below], first, low, before),
                grow(points[~below], count - first, behind, high),
            ]
            return node

        d = sample.shape[1]
        grow(sample, count, np.full(d, -np.inf), np.full(d, np.inf))
        return cls(np.array(axis), np.array(cut), np.array(child), np.array(lower), np.array(upper))

    def cell_of(self, places: FloatArray) -> IntArray:
        """The cell of each place (n, d)."""
        found = np.empty(len(places), dtype=np.int64)
        for cell, members in self._walk(places, None):
            found[members] = cell
        return found

    def near(self, places: FloatArray, width: FloatArray) -> tuple[IntArray, IntArray]:
        """All pairs of a place and a cell whose box is within the place's width of it: numbers of places, and cells."""
        members, cells = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for cell, some in self._walk(places, width):
            some = some[self.outside(places[some], np.full(len(some), cell)) <= width[some]]
            members.append(some)
            cells.append(np.full(len(some), cell))
        return np.concatenate(members), np.concatenate(cells)

    def outside(self, places: FloatArray, cells: IntArray) -> FloatArray:
        """How far each place is from the box of a cell; 0 inside."""
        away = np.maximum(np.maximum(self.lower[cells] - places, places - self.upper[cells]), 0.0)
        far: FloatArray = np.sqrt(np.sum(away * away, axis=1))
        return far

    def _walk(self, places: FloatArray, width: FloatArray | None) -> "list[tuple[int, NDArray[np.int64]]]":
        """(cell, places in it), or those within their `width` of each of its cuts."""
        found, waiting = [], [(0, np.arange(len(places)))]
        while waiting:
            node, members = waiting.pop()
            axis = self.axis[node]
            if axis < 0:
                found.append((int(self.child[node, 0]), members))
                continue
            along = places[members, axis] - self.cut[node]
            first = along < 0.0 if width is None else along <= width[members]
            second = ~first if width is None else along >= -width[members]
            waiting.append((int(self.child[node, 0]), members[first]))
            waiting.append((int(self.child[node, 1]), members[second]))
        return found
