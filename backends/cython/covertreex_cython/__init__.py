"""The cython backend: the production engine, a thin adapter over ``covertreex._core``."""

from covertreex._core.canonical import built_with
from covertreex.protocols import PROTOCOL_VERSION, Capabilities


class CythonBackend:
    """All mechanisms of the tree search, and the scan."""

    name = "cython"
    protocol_version = PROTOCOL_VERSION
    contract = built_with()
    capabilities = Capabilities(
        mechanisms=frozenset({"child_order", "bitset", "tile", "level_cache", "radius_floor", "budget", "level_cap"}),
        summary="production engine: C kernels chosen for the processor at run time",
    )

    def search(self, tree, payload, queries, k, settings, out):
        """See `covertreex.protocols.Traversal.search`."""
        from covertreex._core.search import search

        search(tree, payload, queries, k, settings, out)

    def scan(self, payload, plan, k, settings, out):
        """See `covertreex.protocols.Traversal.scan`."""
        from covertreex._core.scan import scan

        scan(payload, plan, k, settings, out)


backend = CythonBackend()
