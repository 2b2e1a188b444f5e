"""The slow and obvious engine that fast ones are compared with.

The search, the scan and the makers of payloads and queries are the conformance kit's (`covertreex.testing.reference`);
the tree is here, from the definition in covertreex/data/tree.py.
"""

import math

import numpy as np

from covertreex import oracle
from covertreex.data.tree import DUPLICATE_LEVEL, Tree
from covertreex.testing.reference import ReferenceBackend, make_payload, make_queries, split_payload

__all__ = ["make_payload", "make_queries", "naive_scan", "naive_search", "naive_tree", "share_found", "split_payload"]

#: `Traversal.search` and `Traversal.scan`, slowly.
naive_search, naive_scan = ReferenceBackend().search, ReferenceBackend().scan


def _scale(d):
    """The least integer i with ``d <= 2**i``."""
    mantissa, exponent = math.frexp(d)
    return exponent - (mantissa == 0.5)


def naive_tree(payload):
    """The cover tree of a payload, one insertion after another.

    Parameters
    ----------
    payload : PayloadStore

    Returns
    -------
    Tree
    """
    n = len(payload)
    rows = payload.row.tolist()  # in order of insertion
    D = np.array([oracle.canonical_distances(payload, x, np.arange(n)) for x in range(n)]).reshape(n, n)
    root = rows[0]
    parent, level, parent_distance, si = [-1] * n, [DUPLICATE_LEVEL] * n, [0.0] * n, [0.0] * n
    farthest = D[root].max()
    level[root] = _scale(farthest) if farthest > 0.0 else 0

    for count, x in enumerate(rows[1:], start=1):
        earlier = [y for y in rows[:count] if level[y] > DUPLICATE_LEVEL]
        same = [y for y in earlier if D[x, y] == 0.0]
        if same:
            parent[x] = same[0]
            continue
        # Separated at i and at every level below: at i alone, T4 would not hold towards a y of a level below i.
        i = min(scale for y in earlier if (scale := _scale(D[x, y])) <= level[y]) - 1
        covers = [y for y in earlier if level[y] > i and D[x, y] <= 2.0 ** (i + 1)]
        nearest = min(covers, key=lambda y: (D[x, y], payload.index[y]))
        parent[x], level[x], parent_distance[x] = nearest, i, D[x, nearest]

    for x in rows:
        y = parent[x]
        while y != -1:
            si[y] = max(si[y], float(payload.upper(D[x, y])))
            y = parent[y]

    children = [[x for x in rows if parent[x] == y] for y in range(n)]
    return Tree(
        root,
        np.array(parent),
        np.array(level),
        np.cumsum([0] + [len(below) for below in children]),
        np.array([x for below in children for x in below], dtype=np.int64),
        np.array(parent_distance),
        np.array(si),
    )


def share_found(found, exact):
    """How much of an exact answer was found: the recall, in a tenth of the time that the dense oracle takes.

    Parameters
    ----------
    found, exact : ndarray of int, shape (n_queries, k)
        Rows of distinct indices, which end in -1 where there are no more.

    Returns
    -------
    float
    """
    both = np.sort(np.concatenate([found, exact], axis=1), axis=1)
    return np.sum((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)) / np.sum(exact >= 0)
