"""The facts that the driver, every backend and every compiled kernel must agree on, each written once.

Python and Numba import them from here; for C and Cython `setup.py` writes them into headers; Rust has them in one file
of its own. What is compiled tells what it was built with, and is refused where that differs from `CONTRACT`: it would
answer, and wrongly.

Imports nothing of covertreex, so that `setup.py` can load this file before anything is built.
"""

from collections.abc import Iterator, Mapping
from typing import Any

#: Major and minor version of the verbs and arrays of `covertreex.protocols`. A minor version adds what no backend need
#: know of, so a backend of an older one goes on; a major version changes what is there. 2: a `QueryBlock` says by
#: itself what slack it needs. 3: a payload may have an `expression`. 4.0: counters of the driver's are no columns of a
#: backend's. 4.1: `payload.nearness`, and all that a backend imports is in `covertreex.protocols`.
PROTOCOL_VERSION = (4, 1)

#: Lanes of the canonical dot product (A1); factor rows are padded with zeros to a multiple of it.
LANES = 16

#: Unit roundoff of float64.
ROUNDOFF = 2.0**-53

#: The number of each metric in a payload.
METRIC_CODES: dict[str, int] = {"euclidean": 0, "residual": 1}

EUCLIDEAN, RESIDUAL = METRIC_CODES["euclidean"], METRIC_CODES["residual"]

#: Where no kernel is evaluated: Euclidean distance, and screens whose dot products are correlations already.
NO_KERNEL = -1

#: The number of each kernel in canonical arithmetic (A4), by the name of its class in lower case.
KERNEL_CODES: dict[str, int] = {"rbf": 0, "matern12": 1, "matern32": 2, "matern52": 3, "rationalquadratic": 4}

#: A kernel that is evaluated by tables (A10): `covertreex.kernels.Expression` has them.
EXPRESSION = 16

#: A covariance that only a function of the caller's knows: nothing compiled has it, and no backend is asked about it.
CALLED = 17

#: Level of a node that coincides (computed distance 0) with its parent: below every other level.
DUPLICATE_LEVEL = -1100

#: Counters that a backend fills, in the order of their columns. A minor version may add columns at the end.
COUNTERS = (
    "distance_evals",
    "nodes_visited",
    "frontier_pushes",
    "frontier_peak",
    "prunes_bound",
    "prunes_visited",
    "yields",
    "stop_exhausted",
    "stop_kth_frontier",
    "stop_budget",
    "level_cache_hits",
    "budget_escalations",
    "caps_applied",
)

#: Counters of the driver's own, about screens; a backend's array has no columns for them.
DRIVER_COUNTERS = ("gate_rejects", "gemm_tiles", "canonical_rechecks")

#: All of it that something compiled may be built with, in types that JSON has. What a minor version adds is not
#: among it: that would refuse what goes on.
CONTRACT: dict[str, Any] = {
    "protocol": PROTOCOL_VERSION[0],
    "lanes": LANES,
    "metrics": METRIC_CODES,
    "no_kernel": NO_KERNEL,
    "kernels": KERNEL_CODES,
    "expression": EXPRESSION,
    "counters": list(COUNTERS),
}


def difference(theirs: Mapping[str, Any], older: bool = False) -> str:
    """The first fact in which another contract differs from `CONTRACT`, in words; an empty string if none does.

    Parameters
    ----------
    theirs : dict
        As `CONTRACT`.
    older : bool
        Whether it may be of an earlier minor version, which lacks what was added since.

    Examples
    --------
    >>> difference(CONTRACT)
    ''
    >>> difference({**CONTRACT, "counters": list(COUNTERS[:12])}, older=True)
    ''
    >>> difference({**CONTRACT, "kernels": {**KERNEL_CODES, "matern12": 7}})
    "kernels['matern12'] is 7 there and 1 here"
    """
    there, here = dict(_facts(theirs)), dict(_facts(CONTRACT))
    for name in {**here, **there}:
        if older and name not in there:
            continue
        if name not in there or name not in here or there[name] != here[name]:
            return f"{name} is {_shown(there, name)} there and {_shown(here, name)} here"
    return ""


def _facts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word in nested dictionaries and lists, and what it is called."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _facts(part, f"{name}[{key!r}]" if name else key)
    elif isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            yield from _facts(part, f"{name}[{place}]")
    else:
        yield name, value


def _shown(facts: Mapping[str, Any], name: str) -> str:
    return repr(facts[name]) if name in facts else "absent"


def check_metric(code: int) -> int:
    """`code`, if it is the number of a metric.

    Raises
    ------
    ValueError
        Naming the known ones.

    Examples
    --------
    >>> check_metric(7)
    Traceback (most recent call last):
    ...
    ValueError: no metric has code 7; known are 0 (euclidean), 1 (residual).
    """
    return _check(code, METRIC_CODES, "metric")


def check_kernel(code: int) -> int:
    """`code`, if it is the number of a kernel.

    Raises
    ------
    ValueError
        Naming the known ones.

    Examples
    --------
    >>> check_kernel(2)
    2
    """
    return _check(code, {**KERNEL_CODES, "expression": EXPRESSION}, "kernel")


def check_codes(metric: int, kernel: int) -> None:
    """Raise a ValueError unless `metric` and `kernel` are the codes of a metric and of a kernel that it can have."""
    if check_metric(metric) == RESIDUAL:
        if kernel != CALLED:
            check_kernel(kernel)
    elif kernel != NO_KERNEL:
        raise ValueError(f"Euclidean distance has no kernel, code {NO_KERNEL}; got code {kernel}.")


def _check(code: int, known: Mapping[str, int], what: str) -> int:
    if code not in known.values():
        listed = ", ".join(f"{number} ({name})" for name, number in known.items())
        raise ValueError(f"no {what} has code {code}; known are {listed}.")
    return code
