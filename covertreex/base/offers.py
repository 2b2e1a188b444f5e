"""Which backends there are, and who offers them, told from what is installed: nothing of theirs is imported.

A distribution offers a backend through the entry-point group ``covertreex.backends``. Ours need none: where a program
is frozen into one file, or is a folder that was copied, there are no entry points, but modules.
"""

import importlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec

from covertreex._version import DISTRIBUTION, __version__

GROUP = "covertreex.backends"

#: Backends of ours, and where each is. The name belongs to what is there, whoever else may claim it.
SHIPPED = {
    "cython": "covertreex_cython:backend",
    "rust": "covertreex_rust:backend",
    "numba": "covertreex_numba:backend",
}


@dataclass(frozen=True)
class Offer:
    """A backend that a distribution offers.

    Attributes
    ----------
    name : str
    distribution, version : str
    entry : importlib.metadata.EntryPoint
        What loads it.
    """

    name: str
    distribution: str
    version: str
    entry: metadata.EntryPoint


def shipped(name: str) -> Offer | None:
    """Our own backend of this name, if it is here; no metadata is read.

    Examples
    --------
    >>> shipped("cython").entry.value
    'covertreex_cython:backend'
    """
    target = SHIPPED.get(name)
    if target is None or find_spec(target.partition(":")[0]) is None:
        return None
    return Offer(name, DISTRIBUTION, __version__, metadata.EntryPoint(name, target, GROUP))


@lru_cache(maxsize=1)
def backends() -> tuple[Offer, ...]:
    """All backends that are offered, each once, sorted by name. Kept until `forget`.

    Examples
    --------
    >>> {"cython", "numba"} <= {offer.name for offer in backends()}
    True
    """
    found = {(offer.name, offer.entry.value): offer for offer in map(shipped, SHIPPED) if offer is not None}
    by_others = dict[tuple[str, str, str], Offer]()
    for entry in metadata.entry_points(group=GROUP):
        name, version = "unknown", ""
        if entry.dist is not None:
            name, version = entry.dist.name or "unknown", entry.dist.version or ""
        offer = Offer(entry.name, name, version, entry)
        if SHIPPED.get(entry.name) == entry.value:
            found[entry.name, entry.value] = offer
        else:
            by_others[entry.name, entry.value, name] = offer
    return tuple(sorted((*found.values(), *by_others.values()), key=lambda o: (o.name, o.entry.value, o.distribution)))


def forget() -> None:
    """Look again, when next asked, at what is installed."""
    importlib.invalidate_caches()
    backends.cache_clear()


def variable(name: str) -> str:
    """What stands for a backend in the names of environment variables.

    Examples
    --------
    >>> variable("my-backend")
    'MY_BACKEND'
    """
    return re.sub(r"\W", "_", name).upper()
