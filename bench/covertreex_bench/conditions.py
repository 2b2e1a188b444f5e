"""The conditions under which figures were measured: the machine, what is installed on it, and what else it did."""

import os
from collections.abc import Iterable, Iterator

from covertreex.cli import doctor, machine


def load_average() -> float | None:
    """Processes that wanted a core during the last minute, on average; None where that is not known."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def facts(threads: int | None, load: float | None, packages: Iterable[str]) -> dict:
    """What there is to know about the machine after the last run, as a dictionary that can become JSON.

    Parameters
    ----------
    threads : int or None
        As it was asked for.
    load : float or None
        `load_average` before the first run.
    packages : iterable of str
        Distributions whose versions matter beside those of `covertreex.cli.machine.PACKAGES`.

    Returns
    -------
    dict
    """
    return machine.describe(threads) | {
        "versions": machine.versions(dict.fromkeys((*machine.PACKAGES, *packages))),
        "instruction_sets": doctor.instruction_sets(),
        "load_before": load,
        "load_after": load_average(),
    }


def hardware(found: dict) -> Iterator[tuple[str, str]]:
    """(name, value) pairs of what `facts` found, but for versions and loads."""
    yield "processor", found["processor"]
    yield "cores", f"{found['usable_cores']} usable of {found['cores']}; {found['threads']} threads used"
    if "instruction_sets" in found:
        yield "instruction sets", found["instruction_sets"]
    if "blas" in found:
        yield "BLAS", found["blas"]
    yield "system", found["system"]


def line(found: dict) -> str:
    """What `covertreex.cli.machine.describe` found, as one line for people."""
    cores = f"{found['usable_cores']} cores" + (
        f" of {found['cores']}" if found["usable_cores"] != found["cores"] else ""
    )
    listed = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{found['processor']}, {cores}, {found['threads']} threads used; {listed}"
