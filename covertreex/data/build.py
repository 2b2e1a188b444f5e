"""Building a cover tree over a payload: batches on threads, commits in order (see ``_core/build.pyx``)."""

from dataclasses import replace

import numpy as np

from covertreex._core.build import Builder, CoverFinder
from covertreex._core.canonical import distances
from covertreex.base import parallel, tuning
from covertreex.base.progress import Progress
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.data.payload import PayloadStore
from covertreex.data.tree import Tree


def build_tree(payload: PayloadStore, n_threads: int = 1) -> Tree:
    """The cover tree of a payload (INVARIANTS T1 to T5).

    Costs about ``n c`` distances, c being the nodes whose balls a point cannot be shown to miss: tens in low dimension;
    where most points are nearly uncorrelated, the separated points at the top levels, hence up to ``n**2 / 2``.

    Parameters
    ----------
    payload : PayloadStore
    n_threads : int
        Has no influence on the tree.

    Returns
    -------
    Tree
    """
    root = int(payload.row[0])
    builder = Builder(payload, root, _root_level(payload, root, payload.row, n_threads))
    _insert(builder, payload.row, 1, n_threads)
    arrays = builder.result()
    return _flatten(payload, root, arrays)


def extend_tree(tree: Tree, before: PayloadStore, payload: PayloadStore, n_threads: int = 1) -> Tree:
    """The cover tree of a payload whose first points are those of another; the same, to the bit, as one built anew.

    Costs the distances of inserting the new points, and one from each of them to each of its ancestors and to the root;
    and once, if the tree came from a file, one for each node and ancestor of it.

    Parameters
    ----------
    tree : Tree
        The cover tree of `before`, its `cover_metric` True.
    before, payload : PayloadStore
        Index i of `before` is index i of `payload`; rows may differ.
    n_threads : int
        Has no influence on the tree.

    Returns
    -------
    Tree
    """
    start = len(before)
    to = payload.row[before.index]  # where the rows of `before` are now

    root = int(to[tree.root])
    farthest = tree.farthest
    if farthest is None:
        farthest = farthest_below(before, tree.parent, tree.children, n_threads)
    level = _root_level(payload, root, payload.row[start:], n_threads, farthest[tree.root])
    builder = Builder(payload, root, level)
    builder.resume(
        rows=to,
        parent=np.where(tree.parent >= 0, to[tree.parent], -1),
        level=tree.level,
        parent_distance=tree.parent_distance,
        farthest=farthest,
        above=np.repeat(to, np.diff(tree.child_ptr)),
        children=to[tree.children],
    )
    _insert(builder, payload.row, start, n_threads)
    return _flatten(payload, root, builder.result())


def in_metric(tree: Tree, payload: PayloadStore, n_threads: int = 1) -> Tree:
    """A tree of the same shape over a payload with the same rows in another metric; T3's bound and T4 do not follow it.

    Costs a distance for each node and ancestor of it: ``n`` times the mean depth.

    Parameters
    ----------
    tree : Tree
    payload : PayloadStore
    n_threads : int
        Has no influence on the tree.

    Returns
    -------
    Tree
        Its `cover_metric` is False.
    """
    above = tree.parent[tree.children]
    parent_distance = np.zeros(len(tree))
    parent_distance[tree.children] = pair_distances(payload, tree.children, above, n_threads)
    farthest = farthest_below(payload, tree.parent, tree.children, n_threads)
    si = radii(payload, farthest)
    return replace(tree, parent_distance=parent_distance, si=si, cover_metric=False, farthest=farthest)


def _root_level(payload: PayloadStore, root: int, rows: IntArray, n_threads: int, farthest: float = 0.0) -> int:
    """The least level whose ball reaches `rows`, and a point as far away as `farthest`."""
    farthest = max(farthest, pair_distances(payload, np.full(len(rows), root), rows, n_threads).max())
    mantissa, exponent = np.frexp(farthest)
    return 0 if farthest == 0.0 else int(exponent) - int(mantissa == 0.5)


def _insert(builder: Builder, rows: IntArray, start: int, n_threads: int) -> None:
    """Insert ``rows[start:]``, in batches; those before are in the tree already."""
    finders = [CoverFinder(builder, tuning.TREE_PART) for _ in range(n_threads)]
    with Progress("cover tree", len(rows) - start) as progress:
        while start < len(rows):
            # While the tree is small, a batch larger than it would mostly be compared with itself.
            stop = min(len(rows), start + min(tuning.TREE_PART * n_threads, start))
            parts = np.array_split(rows[start:stop], n_threads)
            tasks = [lambda f=finder, part=part: f.find(part) for finder, part in zip(finders, parts, strict=True)]
            if n_threads == 1:
                tasks[0]()
            else:
                parallel.run(tasks, n_threads)
            builder.commit(rows[start:stop], finders)
            progress.advance(stop - start)
            start = stop


def farthest_below(payload: PayloadStore, parent: IntArray, below: IntArray, n_threads: int) -> FloatArray:
    """For each node the largest distance to a descendant that is in `below`; -1 without any."""
    farthest = np.full(len(payload), -1.0)
    above = parent[below]
    while True:
        below, above = below[above != -1], above[above != -1]
        if len(below) == 0:
            return farthest
        np.maximum.at(farthest, above, pair_distances(payload, below, above, n_threads))
        above = parent[above]


def radii(payload: PayloadStore, farthest: FloatArray) -> FloatArray:
    """T5: radii from largest distances, 0 where there is no descendant."""
    return np.where(farthest < 0.0, 0.0, payload.upper(farthest))


def pair_distances(payload: PayloadStore, a: IntArray, b: IntArray, n_threads: int) -> FloatArray:
    """Canonical distances between rows ``a[i]`` and ``b[i]``, on threads."""
    tasks = [
        lambda s=s: distances(payload, a[s[0] : s[1]], b[s[0] : s[1]])
        for s in parallel.spans(len(a), tuning.TREE_DISTANCES)
    ]
    return np.concatenate([np.zeros(0), *parallel.run(tasks, n_threads)])


def _flatten(payload: PayloadStore, root: int, arrays: dict[str, AnyArray]) -> Tree:
    n, parent = len(payload), arrays["parent"]
    rest = payload.row[1:]
    counts = np.bincount(parent[rest], minlength=n)
    return Tree(
        root=root,
        parent=parent,
        level=arrays["level"],
        child_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        children=rest[np.argsort(parent[rest], kind="stable")],
        parent_distance=arrays["parent_distance"],
        si=radii(payload, arrays["farthest"]),
        farthest=arrays["farthest"],
    )
