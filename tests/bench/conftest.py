"""A backend that lies, for tests of what finds it out."""

import pytest

import covertreex as cx
from covertreex.backends import registry
from covertreex.protocols import Capabilities


class Liar:
    """The cython backend, but for what `spoil(out)` does to its answers."""

    name = "liar"
    protocol_version = 1
    capabilities = Capabilities(summary="not to be trusted")

    def __init__(self, spoil):
        self.spoil = spoil

    def search(self, tree, payload, queries, k, settings, out):
        cx.get_backend("cython").search(tree, payload, queries, k, settings, out)
        self.spoil(out)

    def scan(self, payload, plan, k, settings, out):
        cx.get_backend("cython").scan(payload, plan, k, settings, out)
        self.spoil(out)


@pytest.fixture
def install_liar(install):
    """A function that installs a backend whose answers `spoil(out)` spoils."""

    def add(spoil):
        info = registry.BackendInfo("liar", "lies", "0.1", "lies:backend", "ok", capabilities=Liar.capabilities)
        install(info, Liar(spoil))

    return add
