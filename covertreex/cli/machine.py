"""Facts about this machine and what is installed on it."""

import os
import platform
from importlib import metadata

from covertreex.base import parallel

PACKAGES = ("covertreex", "numpy", "scipy", "numba")


def versions(packages=PACKAGES):
    """Version by package name, as installed; nothing is imported."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cpuinfo(field):
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == field:
                    return value.strip()
    except OSError:
        pass
    return ""


def processor():
    """The processor's name, as well as it can be told."""
    return _cpuinfo("model name") or platform.processor() or platform.machine() or "unknown"


def instruction_sets():
    """Instruction sets that the processor offers, as compilers name them; empty if unknown (other than Linux)."""
    return frozenset(_cpuinfo("flags").split())


def load_average():
    """Processes that wanted a core during the last minute, on average; None where that is not known."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def describe(n_threads=None):
    """The machine as a dictionary that can become JSON."""
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "usable_cores": parallel.thread_count(None),
        "threads": parallel.thread_count(n_threads),
        "versions": versions(),
    }


def hardware(machine):
    """(name, value) pairs of what `describe` found, but for versions and loads."""
    yield "processor", machine["processor"]
    yield "cores", f"{machine['usable_cores']} usable of {machine['cores']}; {machine['threads']} threads used"
    if "instruction_sets" in machine:
        yield "instruction sets", machine["instruction_sets"]
    if "blas" in machine:
        yield "BLAS", machine["blas"]
    yield "system", machine["system"]


def line(machine):
    """The same as one line for people."""
    cores = f"{machine['usable_cores']} cores" + (
        f" of {machine['cores']}" if machine["usable_cores"] != machine["cores"] else ""
    )
    listed = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['processor']}, {cores}, {machine['threads']} threads used; {listed}"
