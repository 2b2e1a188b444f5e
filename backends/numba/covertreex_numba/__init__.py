"""The numba backend: the gold reference, written to be read. Its distances are canonical (docs/mathematics.md).

Importing this package imports no numba; the kernels load (and, once per machine, compile) at the first search.
"""

from importlib import import_module

import numpy as np

from covertreex.protocols import PROTOCOL_VERSION, BackendError, Capabilities


def _kernels(name):
    """A module that needs numba.

    Raises
    ------
    BackendError
        Saying why it cannot be loaded.
    """
    try:
        return import_module(f"covertreex_numba.{name}")
    except BackendError:
        raise
    except Exception as error:  # such as a NumPy that this Numba refuses
        raise BackendError(
            f"the numba backend cannot load its kernels: {type(error).__name__}: {error}; install versions of numba "
            "and numpy that go together, or choose another backend (covertreex.list_backends())."
        ) from error


class NumbaBackend:
    """`covertreex.protocols.Traversal` in Numba."""

    name = "numba"
    protocol_version = PROTOCOL_VERSION
    capabilities = Capabilities(
        mechanisms=frozenset({"bitset", "tile", "level_cache", "radius_floor", "budget", "level_cap"}),
        summary="gold reference: the search and the scan of docs/architecture.md, line by line, compiled by Numba",
    )

    def search(self, tree, payload, queries, k, settings, out):
        """Walk a cover tree best-first; parameters as `covertreex.protocols.Traversal.search`."""
        from covertreex_numba import arguments

        _kernels("search").search_block(
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

        _kernels("scan").scan_block(
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
