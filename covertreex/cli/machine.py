"""Facts about this machine and what is installed on it."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from covertreex._version import __version__
from covertreex.base import limits, parallel

PACKAGES = ("numpy", "scipy", "numba")


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Version by package name, as installed, Python's and ours first; nothing is imported."""
    found = {"python": platform.python_version(), "covertreex": __version__}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def processor() -> str:
    """The processor's name, as well as it can be told."""
    return limits.cpuinfo("model name") or platform.processor() or platform.machine() or "unknown"


def instruction_sets() -> frozenset[str]:
    """Instruction sets that the processor offers, as compilers name them; empty if unknown (other than Linux)."""
    return frozenset(limits.cpuinfo("flags").split())


def describe(n_threads: int | None = None) -> dict[str, Any]:
    """The machine as a dictionary that can become JSON."""
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "usable_cores": parallel.thread_count(None),
        "threads": parallel.thread_count(n_threads),
        "versions": versions(),
    }
