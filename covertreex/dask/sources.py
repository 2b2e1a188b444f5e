"""What points come as: Dask arrays and data frames, memory maps, Zarr arrays; all are blocks of rows to a plan."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
from dask.base import compute
from dask.delayed import Delayed, delayed

from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import check_points
from covertreex.errors import InvalidInputError

#: Bytes of a block of a memory map, which has no chunks of its own.
MAPPED_BLOCK = 2**22


@dataclass(frozen=True, eq=False)
class Source:
    """Points in blocks of rows.

    Attributes
    ----------
    name : str
        What the caller calls them.
    blocks : list of Delayed
        Each is an array of shape (rows, d), or a data frame.
    sizes : ndarray, shape (blocks,), int64, or None
        Rows of each, if known.
    width : int
        Columns.
    columns : tuple of str or None
        Names of the columns of a data frame.
    """

    name: str
    blocks: list[Delayed]
    sizes: IntArray | None
    width: int
    columns: tuple[str, ...] | None = None

    @classmethod
    def of(cls, points: Any, name: str) -> "Source":
        """Points of the caller's, looked at no closer than needed to cut them.

        Raises
        ------
        InvalidInputError
            If they are of no kind that can be read in blocks.
        """
        if isinstance(points, dd.DataFrame):
            columns = tuple(points.columns) if all(isinstance(label, str) for label in points.columns) else None
            return cls(name, points.to_delayed(), None, len(points.columns), columns)
        if isinstance(points, np.memmap) and points.filename is not None and points.flags.c_contiguous:
            return cls._mapped(points, name)
        if isinstance(points, np.ndarray):
            points = da.from_array(points, chunks={0: max(1, MAPPED_BLOCK // max(1, points[:1].nbytes))})
        elif hasattr(points, "store") and hasattr(points, "chunks") and not isinstance(points, da.Array):
            points = da.from_zarr(points)
        if not isinstance(points, da.Array):
            raise InvalidInputError(
                f"{name} must be a Dask array or data frame, a NumPy array or memory map, or a Zarr array; got "
                f"{type(points).__name__}. What fits in memory needs no Dask: covertreex.cover_tree takes it."
            )
        if points.ndim != 2:
            raise InvalidInputError(f"{name} must have shape (n, d), got {points.ndim} dimensions.")
        if len(points.chunks[1]) > 1:
            points = points.rechunk({1: -1})
        sizes = np.array(points.chunks[0], dtype=float)
        known = None if np.isnan(sizes).any() else sizes.astype(np.int64)
        return cls(name, list(points.to_delayed().ravel()), known, points.shape[1])

    @classmethod
    def _mapped(cls, points: "np.memmap[Any, Any]", name: str) -> "Source":
        """Blocks of a memory map, which tasks open by the name of its file: nobody sends its numbers."""
        if points.ndim != 2:
            raise InvalidInputError(f"{name} must have shape (n, d), got {points.ndim} dimensions.")
        base = points
        while isinstance(base.base, np.memmap):
            base = base.base
        offset = base.offset + points.ctypes.data - base.ctypes.data
        rows = max(1, MAPPED_BLOCK // max(1, points.shape[1] * points.itemsize))
        starts = range(0, len(points), rows)
        sizes = np.array([min(rows, len(points) - start) for start in starts], dtype=np.int64)
        read = delayed(_read_map, pure=True)
        where = [
            (str(points.filename), points.dtype.str, offset + start * points.strides[0], (int(size), points.shape[1]))
            for start, size in zip(starts, sizes, strict=True)
        ]
        return cls(name, [read(*one) for one in where], sizes, points.shape[1])

    def counted(self) -> "Source":
        """Itself, its sizes known: one pass over the points where they are not.

        Raises
        ------
        InvalidInputError
            If there is no point.
        """
        sizes = self.sizes
        if sizes is None:
            count = delayed(len, pure=True)
            sizes = np.array(compute(*[count(block) for block in self.blocks]), dtype=np.int64)
        if not np.sum(sizes):
            raise InvalidInputError(f"{self.name} is empty; at least one row is needed.")
        return replace(self, sizes=sizes)

    def cut(self, most: int) -> "Source":
        """Itself, blocks of more than `most` rows in pieces."""
        assert self.sizes is not None  # `counted` has been asked
        if self.sizes.max() <= most:
            return self
        blocks, sizes, slice_of = list[Delayed](), list[int](), delayed(_slice, pure=True)
        for block, size in zip(self.blocks, self.sizes.tolist(), strict=True):
            if size <= most:
                blocks.append(block)
                sizes.append(size)
                continue
            edges = np.linspace(0, size, -(-size // most) + 1).astype(np.int64).tolist()
            blocks += [slice_of(block, *edge) for edge in itertools.pairwise(edges)]
            sizes += np.diff(edges).tolist()
        return replace(self, blocks=blocks, sizes=np.array(sizes, dtype=np.int64))

    @property
    def starts(self) -> IntArray:
        """ndarray, shape (blocks + 1,), int64: the first row of each block, and the number of all rows."""
        assert self.sizes is not None  # `counted` has been asked
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def label(self, number: int) -> str:
        """What an error calls a block."""
        return f"chunk {number} of {self.name}"


def _slice(block: Any, start: int, stop: int) -> Any:
    # A copy: what is sent or kept is no larger than the piece.
    return block[start:stop].copy()


def _read_map(file: str, dtype: str, offset: int, shape: tuple[int, int]) -> FloatArray:
    return np.array(np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape))


def points_of(block: Any, label: str, columns: Sequence[str] | None, width: int) -> FloatArray:
    """A block as an array (rows, d), checked.

    Raises
    ------
    InvalidInputError
        If its columns are others than expected, or a number is not finite; it names the block and the row in it.
    """
    if columns is not None and tuple(block.columns) != tuple(columns):
        raise InvalidInputError(
            f"{label} has columns {list(block.columns)}, but the data frame says {list(columns)}; all partitions must "
            "have the same columns in the same order. Choose them by name in every partition."
        )
    if len(block) == 0:
        return np.zeros((0, width))
    return check_points(block, label, columns=width)
