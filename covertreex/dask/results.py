"""What a search over partitions returns: Dask arrays, and how they were planned."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.base import compute, persist
from dask.delayed import delayed
from dask.utils import format_bytes

from covertreex.base.types import IntArray
from covertreex.dask import tasks
from covertreex.dask.model import Model
from covertreex.dask.partition import Partition
from covertreex.dask.planning import Data, drawn, look, merged, named
from covertreex.errors import InvalidInputError
from covertreex.results import recall_interval


@dataclass(frozen=True, eq=False)
class DaskPlan:
    """How a search is cut into tasks.

    Attributes
    ----------
    partition : covertreex.dask.partition.Partition
        Prefix levels, and the cells and halos of each.
    memory : float
        Bytes that a task may take.
    estimate : float
        Bytes that the largest task takes, by the estimate.
    passes : int
        How often all points were read while the search was planned. They are read once more when it is computed, twice
        more if levels are judged by an audit, and twice for `DaskResult.recall`.
    """

    partition: Partition
    memory: float
    estimate: float
    passes: int

    def __str__(self) -> str:
        lines = [
            f"ranks {level.least:,} to {level.most:,}: {len(level.cells):,} partitions, halos {level.width:.3g} wide, "
            f"at most about {level.largest:,} rows each"
            for level in self.partition.levels
        ]
        lines.append(f"each row is in about {self.partition.copies:.1f} partitions")
        lines.append(
            f"a task takes about {format_bytes(int(self.estimate))} at most, and may take "
            f"{format_bytes(int(self.memory))}; points were read {self.passes} times to plan this"
        )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class DaskResult:
    """Neighbours that are computed when they are asked for.

    Attributes
    ----------
    indices : dask.array.Array, shape (q, k), int64
        As of `covertreex.SearchResult`, in the caller's order and chunks.
    distances : dask.array.Array, shape (q, k), float64
        Compute both together, by ``compute(result.indices, result.distances)``, `to_zarr` or `persist`, and they
        cost one search.
    plan : DaskPlan
    """

    indices: da.Array
    distances: da.Array
    plan: DaskPlan
    _model: Model = field(repr=False)
    _data: Data = field(repr=False)
    _asked: Data = field(repr=False)
    _audit: int = field(repr=False)

    def persist(self) -> "DaskResult":
        """The same, computed and kept on the workers."""
        indices, distances = persist(self.indices, self.distances)
        return DaskResult(indices, distances, self.plan, self._model, self._data, self._asked, self._audit)

    def to_zarr(self, url: str | os.PathLike[str], **options: Any) -> None:
        """Compute, and write the arrays ``indices`` and ``distances`` of a Zarr group, chunk by chunk as they are had.

        Parameters
        ----------
        url : str or path-like
        **options
            Of `dask.array.to_zarr`.
        """
        rows = self.indices.chunks[0]
        parts = {"indices": self.indices, "distances": self.distances}
        if any(size != rows[0] for size in rows[:-1]) or rows[-1] > rows[0]:  # Zarr has chunks of one size
            parts = {name: array.rechunk({0: max(rows)}) for name, array in parts.items()}
        writes = [
            array.to_zarr(os.fspath(url), component=name, compute=False, **options) for name, array in parts.items()
        ]
        compute(*writes)

    def to_parquet(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Compute, and write a row for each query: its number, ``i0`` and up, and ``d0`` and up.

        Parameters
        ----------
        path : str or path-like
        **options
            Of `dask.dataframe.DataFrame.to_parquet`.
        """
        k, starts = self.indices.shape[1], self._asked.source.starts
        both = [array.to_delayed(optimize_graph=False)[:, 0] for array in (self.indices, self.distances)]
        blocks = zip(*both, starts, strict=False)
        task = named(tasks.table)
        parts = [task(i, indices, distances, int(start)) for i, (indices, distances, start) in enumerate(blocks)]
        meta: pd.DataFrame = tasks.table(np.zeros((0, k), dtype=np.int64), np.zeros((0, k)), 0)
        dd.from_delayed(parts, meta=meta).to_parquet(os.fspath(path), write_index=False, **options)

    @cached_property
    def recall(self) -> float | None:
        """float or None: the recall of `audit` queries, drawn at random; None if none were asked for.

        Their neighbours are looked for in all blocks by exact settings. Computed when it is first read: by the whole
        search, unless `persist` came before; `recall_of` takes what was written.
        """
        return None if self._audit == 0 else self.recall_of(self.indices, self.distances)[0]

    def recall_of(self, indices: Any, distances: Any, count: int | None = None) -> tuple[float, tuple[float, float]]:
        """The recall of a sample of queries, and its 95 % interval, of what this search has answered elsewhere.

        Parameters
        ----------
        indices, distances : array, shape (q, k)
            Dask arrays, Zarr arrays, or NumPy arrays.
        count : int, optional
            How many queries; by default `audit`.
        """
        count = self._audit if count is None else count
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise InvalidInputError(f"count must be a number of queries, 1 or more, got {count!r}.")
        rows = drawn(len(self._asked.source), int(count), 0)
        _, queries = look(self._asked, [len(self._asked.source)], rows, 0)
        given = delayed(self._model, traverse=False), delayed(queries, traverse=False)
        parts = self._data.each(tasks.truth, *given)
        found = merged(parts, tasks.true_neighbours, given[0]).compute()
        answered = compute(*[_rows_of(array, rows) for array in (indices, distances)])
        return recall_interval(*tasks.hits(self._model, found, *answered))


def _rows_of(array: Any, rows: IntArray) -> Any:
    if isinstance(array, (da.Array, np.ndarray)):
        return array[rows]
    return array.oindex[rows]
