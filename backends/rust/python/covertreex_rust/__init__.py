"""The rust backend: the search and the scan of covertreex, compiled from ``crates/core``."""

from covertreex.protocols import Capabilities
from covertreex_rust import _core


class RustBackend:
    """All mechanisms of the tree search, and the scan."""

    name = "rust"
    contract = _core.contract()
    protocol_version = _core.protocol_version()
    capabilities = Capabilities(
        mechanisms=frozenset({"bitset", "tile", "level_cache", "radius_floor", "budget", "level_cap"}),
        summary="the production engine in Rust: instructions chosen for the processor at run time",
    )

    def search(self, tree, payload, queries, k, settings, out):
        """See `covertreex.protocols.Traversal.search`."""
        _core.search(tree, payload, queries, k, settings, out)

    def scan(self, payload, plan, k, settings, out):
        """See `covertreex.protocols.Traversal.scan`."""
        _core.scan(payload, plan, k, settings, out)


backend = RustBackend()
