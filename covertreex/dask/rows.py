"""Rows of the whole data that are at hand in a task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of the whole data, in ascending order of their numbers there.

    So ties that a search settles by the number of a row here are settled as if all rows were here.

    Attributes
    ----------
    row : ndarray, shape (n,), int64
        Numbers in the whole data; of external queries, numbers among these.
    rank : ndarray, shape (n,), int64
        Places in the order that says who comes before whom.
    points : ndarray, shape (n, d), float64
    noise : ndarray, shape (n,), float64, or None
        Of each point, where each has its own.
    """

    row: IntArray
    rank: IntArray
    points: FloatArray
    noise: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[np.bool_] | IntArray) -> "Rows":
        """Some of them, by a mask or by ascending places."""
        noise = None if self.noise is None else self.noise[which]
        return Rows(self.row[which], self.rank[which], self.points[which], noise)

    def among(self, numbers: IntArray) -> "Rows":
        """Those that have one of these numbers."""
        return self.take(np.isin(self.row, numbers))

    @classmethod
    def union(cls, parts: "Sequence[Rows]") -> "Rows":
        """All rows of several parts, each once."""
        if len(parts) == 1:
            return parts[0]
        row, first = np.unique(np.concatenate([part.row for part in parts]), return_index=True)
        noise = None
        if parts[0].noise is not None:
            noise = np.concatenate([part.noise for part in parts if part.noise is not None])[first]
        rank = np.concatenate([part.rank for part in parts])[first]
        return cls(row, rank, np.concatenate([part.points for part in parts])[first], noise)


@dataclass(frozen=True, eq=False)
class Found:
    """What a task knows of its queries.

    Attributes
    ----------
    queries : Rows
    candidates : Rows
        Rows of the data that are neighbours of one of the queries, as far as is known.
    indices : ndarray, shape (q, k), int64
        Rows of the whole data, -1 past the last.
    distances : ndarray, shape (q, k), float64
    """

    queries: Rows
    candidates: Rows
    indices: IntArray
    distances: FloatArray

    def improved(self, asked: NDArray[np.bool_], better: "Found") -> "Found":
        """The same with other answers of some of the queries."""
        indices, distances = self.indices.copy(), self.distances.copy()
        indices[asked], distances[asked] = better.indices, better.distances
        candidates = Rows.union([self.candidates, better.candidates]).among(indices)
        return Found(self.queries, candidates, indices, distances)


@dataclass(frozen=True, eq=False)
class Within:
    """What a task knows of all neighbours of its queries within a radius; as `Found`, and as `RadiusResult`.

    Attributes
    ----------
    queries, candidates : Rows
    indptr, indices, distances : ndarray
    """

    queries: Rows
    candidates: Rows
    indptr: IntArray
    indices: IntArray
    distances: FloatArray
