"""What a tree is: its points, their payload, and what was inserted and deleted since. It never changes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from covertreex._core.canonical import standard_arithmetic
from covertreex.base import parallel
from covertreex.base.contract import CALLED
from covertreex.base.kept import Kept
from covertreex.base.types import FloatArray, IntArray
from covertreex.data.build import build_tree, in_metric
from covertreex.data.factors import Projection
from covertreex.data.metrics import Metric
from covertreex.data.payload import PayloadStore, Room
from covertreex.data.tree import Tree
from covertreex.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class TreeState:
    """All that a `CoverTree` knows. Other states are made from it (`covertreex.data.changes`); it stays as it is.

    A payload numbers the points that it holds from 0; the caller's numbers of them, rows of `X`, are in `held`. Some of
    those held may be deleted, to be led over by searches and found by none.

    Attributes
    ----------
    X : ndarray, shape (n, d), float64
        All points that the caller ever gave, in the caller's order; read-only.
    metric : Euclidean, Correlation or ResidualCorrelation
        Its arrays are about the points that the payload holds.
    payload : PayloadStore
        What distances are computed from.
    projection : Projection or None
        How other points are compared with these; None where the caller supplied the factors.
    n_threads : int or None
        As given: None stays None, for a process with other cores that the tree is sent to.
    feature_names : tuple of str, or None
        Names of the columns of X, if it came as a table.
    lonlat : float or None
        Radius of the sphere on which columns 0 and 1 of X are longitude and latitude; None if they are not.
    held : ndarray, shape (len(payload),), int64, or None
        Row of X of each index of the payload, ascending; None where they are the same.
    dead : ndarray, int64, or None
        Indices of the payload that were deleted, ascending and not empty; None where none was.
    unsorted : int
        Rows at the end of the payload that came after the others were sorted in space.
    room : Room or None
        That of the payload's factors, if insertion made it.
    shape : Tree or None
        A cover tree of the same rows in another metric, which the cover tree takes over (`Tree.cover_metric`).
    origin : covertreex.io.transport.Origin or None
        The mapped file that this came from.
    kept : Kept
        What is made at first need, under a lock: the cover tree ('tree'), 'halos', and the 'factor sample'.
    """

    X: FloatArray
    metric: Metric
    payload: PayloadStore
    projection: Projection | None
    n_threads: int | None = None
    feature_names: tuple[str, ...] | None = None
    lonlat: float | None = None
    held: IntArray | None = None
    dead: IntArray | None = None
    unsorted: int = 0
    room: Room | None = None
    shape: Tree | None = None
    origin: Any = None
    kept: Kept = field(default_factory=Kept, repr=False)

    def __len__(self) -> int:
        return len(self.payload) - (0 if self.dead is None else len(self.dead))

    @property
    def threads(self) -> int:
        """int: as given; else the cores that this process may use, wherever the state was made."""
        return parallel.thread_count(self.n_threads)

    @property
    def ids(self) -> IntArray:
        """ndarray, shape (len(self),), int64: rows of `X` that may be asked for and found, ascending."""
        held = np.arange(len(self.payload), dtype=np.int64) if self.held is None else self.held
        return held if self.dead is None else np.delete(held, self.dead)

    @property
    def held_points(self) -> FloatArray:
        """ndarray: points of the payload, in the order of its indices: those that are left, and some deleted ones."""
        return self.X if self.held is None else self.X[self.held]

    @property
    def living_points(self) -> FloatArray:
        """ndarray, shape (len(self), d): points that were not deleted."""
        return self.held_points if self.dead is None else self.X[self.ids]

    @property
    def tree(self) -> Tree:
        """Tree: the cover tree (T1 to T5), deleted points included; built when it is first needed."""
        return self.kept.get("tree", self._build)

    @property
    def built(self) -> Tree | None:
        """Tree or None: the cover tree, if it is there."""
        built: Tree | None = self.kept.held("tree")
        return built

    @property
    def halos(self) -> Any:
        """What `CoverTree.prepare` made, or None."""
        return self.kept.held("halos")

    @standard_arithmetic
    def _build(self) -> Tree:
        if self.payload.kernel_code == CALLED:
            raise InvalidInputError(
                "a Covariance of your own has no cover tree: nothing compiled knows it. Search with settings='exact' "
                "or 'fast'."
            )
        if self.shape is None:
            return build_tree(self.payload, self.threads)
        return in_metric(self.shape, self.payload, self.threads)
