"""The jax backend: the pairs of `exact` are looked at on the device that JAX uses, a CPU, a GPU or a TPU.

Level S is the device's: batched products with an error bound. What they leave is decided by covertreex's compiled
canonical arithmetic (level L0), since a device's compiler may fuse and reorder operations. It has no tree search.
"""

from covertreex.protocols import Capabilities, decide


class JaxBackend:
    """`covertreex.protocols.Screening`.

    Parameters
    ----------
    device : jax.Device, optional
        Where products are formed; by default where JAX would, which ``JAX_PLATFORMS`` and ``jax_default_device`` say.
    memory : int, optional
        Bytes that the copy of one payload may take; by default four fifths of what the device says is free.
    """

    name = "jax"
    protocol_version = (4, 1)
    capabilities = Capabilities(
        summary="screens by JAX on a CPU, GPU or TPU; decisions by covertreex",
        levels=frozenset({"L0", "S"}),
        batch=2048,
    )

    def __init__(self, device=None, memory=None):
        self.device, self.memory = device, memory

    def scan(self, payload, plan, k, settings, out):
        """See `covertreex.protocols.Traversal.scan`."""
        decide(payload, plan, k, settings, out)

    # JAX takes a second to import, and is imported when there is something to do.

    def prepare(self, payload):
        """See `covertreex.protocols.Screening.prepare`."""
        from covertreex_jax.screens import prepare

        return prepare(payload, self.device, self.memory)

    def release(self, handle):
        """Free the device's memory now, not when Python gets to it."""
        handle.delete()

    def shortlist(self, handle, plan, thresholds, k, out):
        """See `covertreex.protocols.Screening.shortlist`."""
        from covertreex_jax.screens import shortlist

        return shortlist(handle, plan, thresholds, k, out)


backend = JaxBackend()
