"""The cover tree itself: immutable flat arrays, one node per payload row, numbered invariants."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from covertreex.base.contract import DUPLICATE_LEVEL
from covertreex.base.types import FloatArray, IntArray
from covertreex.data.canonical import canonical_distances
from covertreex.data.payload import PayloadStore
from covertreex.errors import InvariantError

__all__ = ["DUPLICATE_LEVEL", "Tree"]


@dataclass(frozen=True, eq=False)
class Tree:
    """A compressed cover tree over the rows of a payload: every row is one node, and node number = row number.

    With ``d`` the computed distance:

    - INVARIANT T1 (tree): every node but `root` has one parent; `children` lists the children of each node in
      insertion order, which is the order of dataset indices; all nodes hang on the root.
    - INVARIANT T2 (nesting): a parent's level is above its child's.
    - INVARIANT T3 (cover): ``parent_distance[x] = d(x, parent[x]) <= 2**(level[x] + 1)``; 0 for duplicates.
    - INVARIANT T4 (separation): ``d(x, y) > 2**min(level[x], level[y])`` for any two nodes above `DUPLICATE_LEVEL`.
    - INVARIANT T5 (radius): ``si[x]`` is ``upper(max d(x, y))`` over the descendants y of x, and 0 without any.

    A tree whose `cover_metric` is False was built under another metric and keeps its shape: distances and radii are
    those of the present one (`parent_distance`, T5), so a search is exact, but T3's bound and T4 hold in the old one.

    The tree is a function of the data, the metric and the order of insertion alone. Let an earlier node y *cover* x if
    ``c = ceil(log2 d(x, y)) <= level[y]``. Then the level of x is one below the least such c, and its parent is the
    nearest node (ties: least dataset index) above that level within ``2**(level[x] + 1)``. The root's level is the
    least whose ball reaches all points. Source: Elkin and Kurlin, *Counterexamples expose gaps in the proof of time
    complexity for cover trees* (2022), definition 2.1, compressed cover tree.

    Attributes
    ----------
    root : int
    parent : ndarray, shape (n,), int64
        -1 for the root.
    level : ndarray, shape (n,), int64
    child_ptr : ndarray, shape (n + 1,), int64
        The children of x are ``children[child_ptr[x]:child_ptr[x + 1]]``.
    children : ndarray, shape (n - 1,), int64
    parent_distance : ndarray, shape (n,), float64
        0 for the root.
    si : ndarray, shape (n,), float64
    cover_metric : bool
        Whether it is a cover tree in the payload's metric.
    farthest : ndarray, shape (n,), float64, or None
        What `si` is made from: the largest computed distance to a descendant, -1 without any. None in a tree from a
        file; only `covertreex.data.build.extend_tree` needs it.
    """

    root: int
    parent: IntArray
    level: IntArray
    child_ptr: IntArray
    children: IntArray
    parent_distance: FloatArray
    si: FloatArray
    cover_metric: bool = True
    farthest: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("parent", "level", "child_ptr", "children", "parent_distance", "si", "farthest"):
            if getattr(self, name) is not None:
                getattr(self, name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def nbytes(self) -> int:
        """int: bytes held by the arrays."""
        arrays = (self.parent, self.level, self.child_ptr, self.children, self.parent_distance, self.si)
        return sum(array.nbytes for array in arrays)

    @cached_property
    def nearest_children(self) -> IntArray:
        """ndarray, shape (n - 1,), int64: `children`, those of each node by (parent distance, dataset index)."""
        above = np.repeat(np.arange(len(self)), np.diff(self.child_ptr))
        return self.children[np.lexsort((self.parent_distance[self.children], above))]

    def depth(self) -> int:
        """Edges on the longest way from the root."""
        depth = np.zeros(len(self), dtype=np.int64)
        for node in self.topological()[1:]:
            depth[node] = depth[self.parent[node]] + 1
        return int(depth.max())

    def topological(self) -> IntArray:
        """All nodes, parents before children.

        Returns
        -------
        ndarray, shape (n,), int64

        Raises
        ------
        InvariantError
            T1: if not every node can be reached from the root just once.
        """
        n = len(self)
        order = np.empty(n, dtype=np.int64)
        seen = np.zeros(n, dtype=bool)
        order[0], seen[self.root], filled = self.root, True, 1
        position = 0
        while position < filled:
            node = order[position]
            position += 1
            below = self.children[self.child_ptr[node] : self.child_ptr[node + 1]]
            if np.any(seen[below]) or len(np.unique(below)) != len(below):
                raise InvariantError(f"T1: a child of node {node} hangs on two parents.")
            seen[below] = True
            order[filled : filled + len(below)] = below
            filled += len(below)
        if filled != n:
            raise InvariantError(f"T1: {n - filled} of {n} nodes cannot be reached from the root.")
        return order

    def check_invariants(self, payload: PayloadStore, pairs: int | None = None, seed: int = 0) -> None:
        """Check T1 to T5 against distances in canonical NumPy arithmetic.

        Of a tree whose `cover_metric` is False T4 and T3's bound are not checked.

        Parameters
        ----------
        payload : PayloadStore
        pairs : int, optional
            Check T4 on this many random pairs; by default on all pairs, which takes n**2 / 2 distances.
        seed : int
            Of the random pairs.

        Raises
        ------
        InvariantError
            Naming the invariant and a node that breaks it.
        """
        order = self.topological()
        index = payload.index
        for node in order:
            below = self.children[self.child_ptr[node] : self.child_ptr[node + 1]]
            if np.any(self.parent[below] != node):
                raise InvariantError(f"T1: node {node} lists a child whose parent is another.")
            if np.any(np.diff(index[below]) <= 0):
                raise InvariantError(f"T1: the children of node {node} are not in insertion order.")
            if np.any(self.level[below] >= self.level[node]):
                raise InvariantError(f"T2: a child of node {node} is not below it.")
        if self.parent[self.root] != -1:
            raise InvariantError("T1: the root has a parent.")

        rest = order[1:]
        distance = canonical_distances(payload, rest, self.parent[rest])
        if np.any(distance != self.parent_distance[rest]):
            bad = rest[np.argmax(distance != self.parent_distance[rest])]
            raise InvariantError(f"T3: node {bad} is not at the stored distance from its parent.")
        duplicate = self.level[rest] == DUPLICATE_LEVEL
        limit = np.where(duplicate, 0.0, np.ldexp(1.0, np.maximum(self.level[rest] + 1, -1080)))
        if self.cover_metric and np.any(distance > limit):
            raise InvariantError(
                f"T3: node {rest[np.argmax(distance > limit)]} is farther from its parent than allowed."
            )

        if self.cover_metric:
            self._check_separation(payload, pairs, seed)
        farthest = np.full(len(self), -1.0)
        below, above = rest, self.parent[rest]
        while len(below):
            np.maximum.at(farthest, above, canonical_distances(payload, below, above))
            above = self.parent[above]
            below, above = below[above != -1], above[above != -1]
        expected = np.where(farthest < 0.0, 0.0, payload.upper(farthest))
        if np.any(expected != self.si):
            raise InvariantError(f"T5: the radius of node {np.argmax(expected != self.si)} is wrong.")

    def _check_separation(self, payload: PayloadStore, pairs: int | None, seed: int) -> None:
        n = len(self)
        if pairs is None:
            first, second = np.triu_indices(n, 1)
        else:
            first, second = np.random.default_rng(seed).integers(0, n, size=(2, pairs))
            first, second = first[first != second], second[first != second]
        lower = np.minimum(self.level[first], self.level[second])
        keep = lower > DUPLICATE_LEVEL
        first, second, lower = first[keep], second[keep], lower[keep]
        bad = canonical_distances(payload, first, second) <= np.ldexp(1.0, lower)
        if np.any(bad):
            at = np.argmax(bad)
            raise InvariantError(f"T4: nodes {first[at]} and {second[at]} are closer than their levels allow.")
