"""Neighbours by the cover tree: every query walks it best-first, by the backend's `search`."""

from typing import cast

import numpy as np

from covertreex.base import parallel, tuning
from covertreex.data.tree import Tree
from covertreex.protocols import QueryBlock, TreeTraversal
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups, permuted
from covertreex.search.strategy import Found, LastPass


def dynamic_blocks(active: int) -> list[int]:
    """Block sizes for `active` queries: an eighth of those still active, so that the last blocks are small."""
    sizes = []
    while active:
        share = -(-active // tuning.DYNAMIC_SHARE)
        size = min(active, max(tuning.DYNAMIC_SMALLEST, min(tuning.DYNAMIC_LARGEST, share)))
        sizes.append(size)
        active -= size
    return sizes


class TreeWalk(LastPass):
    """A search of the cover tree `tree`; groups are blocks of queries that a backend is given at once."""

    def __init__(self, context: SearchContext, queries: QueryBlock, tree: Tree) -> None:
        self.context, self.tree = context, tree
        # Queries that are near each other go together: they walk the same part of the tree.
        order = np.lexsort((queries.limit, queries.rows))
        if context.settings.dynamic_query_block:
            sizes = dynamic_blocks(len(queries))
        else:
            sizes = [stop - start for start, stop in parallel.spans(len(queries), tuning.BLOCK)]
        self.groups = Groups.of_sizes(order, sizes, len(context.payload), per_block=1)
        self.queries = permuted(queries, order)
        asked = context.settings.strategy == "tree"
        why = "the settings ask for the tree" if asked else "a tree prunes well under this metric"
        self.plan = context.plan("search", why, strategy="tree")

    def answer(self, first: int, last: int) -> Found:
        """As `Strategy.answer`."""
        context, (start, stop) = self.context, self.groups.span(first, last)
        out = context.output(stop - start, context.k)
        queries = self.queries.slice(start, stop)
        backend = cast(TreeTraversal, context.backend)  # `Capabilities.missing` has refused others
        backend.search(self.tree, context.payload, queries, context.k, context.settings, out)
        return Found.of(out)
