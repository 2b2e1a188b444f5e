"""The numba backend: the gold reference, written to be read. Its distances are canonical (docs/mathematics.md).

Importing this package imports no numba; the kernels load (and, once per machine, compile) at the first search.
"""

import numpy as np

from covertreex.protocols import Capabilities


class NumbaBackend:
    """`covertreex.protocols.Traversal` in Numba."""

    name = "numba"
    protocol_version = 1
    capabilities = Capabilities(
        mechanisms=frozenset({"bitset", "tile", "level_cache", "radius_floor", "budget", "level_cap"}),
        summary="gold reference: the search and the scan of docs/architecture.md, line by line, compiled by Numba",
    )

    def search(self, tree, payload, queries, k, settings, out):
        """Walk a cover tree best-first; parameters as `covertreex.protocols.Traversal.search`."""
        from covertreex_numba import arguments
        from covertreex_numba.search import search_block

        search_block(
            arguments.payload(payload),
            arguments.tree(tree),
            arguments.queries(queries),
            arguments.options(settings),
            arguments.scratch(tree, k, settings),
            out.distances,
            out.indices,
            out.counters,
            out.cancel,
        )

    def scan(self, payload, plan, k, settings, out):
        """Compare queries with runs of rows; parameters as `covertreex.protocols.Traversal.scan`."""
        from covertreex_numba import arguments
        from covertreex_numba.scan import scan_block

        scan_block(
            arguments.payload(payload),
            arguments.plan(plan),
            arguments.queries(plan.queries),
            settings.kth_frontier_stop,
            np.ones(len(plan.queries), dtype=np.bool_),
            np.empty((len(plan.queries), k, 2)),
            out.distances,
            out.indices,
            out.counters,
            out.cancel,
        )


backend = NumbaBackend()
