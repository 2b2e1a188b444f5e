"""Building a cover tree over a payload: batches on threads, commits in order (see ``_core/build.pyx``)."""

import numpy as np

from covertreex import parallel
from covertreex.progress import Progress
from covertreex.tree import Tree

#: Points of a batch that one thread looks up. Within a batch all pairs are compared, so more is not better.
PART = 64


def build_tree(payload, n_threads=1):
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
    from covertreex._core.build import Builder, CoverFinder
    from covertreex._core.canonical import distances

    n = len(payload)
    insertion = payload.row
    root = int(insertion[0])
    farthest = distances(payload, np.full(n, root, dtype=np.int64), insertion).max()
    mantissa, exponent = np.frexp(farthest)
    root_level = 0 if farthest == 0.0 else int(exponent) - int(mantissa == 0.5)
    builder = Builder(payload, root, root_level)
    finders = [CoverFinder(builder, PART) for _ in range(n_threads)]

    with Progress("cover tree", n) as progress:
        start = 1
        while start < n:
            # While the tree is small, a batch larger than it would mostly be compared with itself.
            stop = min(n, start + min(PART * n_threads, start))
            parts = np.array_split(insertion[start:stop], n_threads)
            tasks = [lambda f=finder, rows=rows: f.find(rows) for finder, rows in zip(finders, parts, strict=True)]
            if n_threads == 1:
                tasks[0]()
            else:
                parallel.run(tasks, n_threads)
            builder.commit(insertion[start:stop], finders)
            progress.advance(stop - start)
            start = stop
    return _flatten(payload, root, **builder.result())


def _flatten(payload, root, parent, level, parent_distance, farthest):
    n = len(payload)
    rest = payload.row[1:]
    children = rest[np.argsort(parent[rest], kind="stable")]
    counts = np.bincount(parent[rest], minlength=n)
    return Tree(
        root=root,
        parent=parent,
        level=level,
        child_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        children=children,
        parent_distance=parent_distance,
        si=np.where(farthest < 0.0, 0.0, payload.upper(farthest)),
    )
