"""What a search counted: one schema, the same counters from every backend, one JSON line per query block.

Backends fill one row of `COUNTERS` per query; the driver adds them up (`frontier_peak`: the largest), and counts what
its screens did. So totals do not depend on how queries were cut into blocks or shared among threads.

A fast search may look at every query a second time, from the neighbours of its neighbours. The blocks of that pass have
the ``pass_number`` 2, and lines of their own; a query stops once, in the first pass, so the stops in a line add up to
its `queries` there and to 0 later. (Version 1 of the schema had no ``pass_number``, version 2 no ``screened_by``.)
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from covertreex.base.contract import COUNTERS, DRIVER_COUNTERS
from covertreex.base.types import IntArray
from covertreex.errors import InvalidInputError

SCHEMA = "covertreex.telemetry"
SCHEMA_VERSION = 3

#: What a search counts: what backends do, and what screens did.
TOTALS = COUNTERS + DRIVER_COUNTERS

_PEAK = COUNTERS.index("frontier_peak")

#: Fields that may differ between two backends under parity settings; all others must be equal.
UNEQUAL_FIELDS = ("backend", "seconds")


def merge_counters(counters: IntArray) -> dict[str, int]:
    """Totals of a backend's counter array; those of the driver are 0.

    Parameters
    ----------
    counters : ndarray, shape (q, len(COUNTERS)), int64

    Returns
    -------
    dict of str to int

    Examples
    --------
    >>> import numpy as np
    >>> merge_counters(np.ones((3, len(COUNTERS)), dtype=np.int64))["distance_evals"]
    3
    """
    totals: list[int]
    if len(counters) == 1:
        totals = counters[0].tolist()
    else:
        totals = counters.sum(axis=0).tolist()
        totals[_PEAK] = int(counters[:, _PEAK].max(initial=0))
    return dict(zip(TOTALS, totals + [0] * len(DRIVER_COUNTERS), strict=True))


def merge_totals(totals: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Totals of several totals, as `merge_counters` makes them.

    Examples
    --------
    >>> merge_totals([{"yields": 1}, {"yields": 2}])["yields"]
    3
    """
    left = iter(totals)
    merged = {**dict.fromkeys(TOTALS, 0), **next(left, {})}
    for one in left:
        for name, value in one.items():
            merged[name] = max(merged[name], value) if name == "frontier_peak" else merged[name] + value
    return merged


@dataclass(frozen=True)
class BlockRecord:
    """One query block: who answered it, how, how many queries, how long, what was counted, in which pass, and whose
    screens or boxes shortened lists before `backend` decided (`Plan.screened_by`; empty for none).

    Examples
    --------
    >>> import covertreex as cx
    >>> record = cx.cover_tree([[0.0], [1.0]]).search(k=1).telemetry.blocks[0]
    >>> record.verb, record.queries
    ('scan', 2)
    """

    backend: str
    profile: str
    verb: str
    block: int
    queries: int
    k: int
    seconds: float
    counters: dict[str, int]
    pass_number: int = 1
    screened_by: str = ""

    def to_json(self) -> str:
        """The block's telemetry line (no newline)."""
        record: dict[str, Any] = {"schema": SCHEMA, "version": SCHEMA_VERSION}
        record.update((name, getattr(self, name)) for name in _RECORD_TYPES)
        record["counters"] = dict(self.counters)
        return json.dumps(record)


_RECORD_TYPES: dict[str, Any] = {
    "backend": str,
    "profile": str,
    "verb": str,
    "block": int,
    "queries": int,
    "k": int,
    "seconds": float,
    "pass_number": int,
    "screened_by": str,
}


@dataclass(frozen=True)
class Telemetry:
    """What one search counted.

    Attributes
    ----------
    blocks : tuple of BlockRecord
        In query order, pass after pass; empty when the settings turn telemetry off.
    counters : dict of str to int
        Totals over all queries.
    seconds : float
        Wall-clock time of the search.
    n_threads : int
        Threads that shared the blocks.

    Examples
    --------
    >>> import covertreex as cx
    >>> telemetry = cx.cover_tree([[0.0], [1.0]]).search(k=1).telemetry
    >>> telemetry.block_sizes, telemetry.counters["stop_kth_frontier"]
    ((2,), 0)
    """

    counters: dict[str, int]
    seconds: float
    n_threads: int
    blocks: tuple[BlockRecord, ...] = field(default=(), repr=False)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """tuple of int: queries per block of the first pass, in order; they add up to the queries."""
        return tuple(record.queries for record in self.blocks if record.pass_number == 1)

    def to_jsonl(self) -> str:
        """One JSON line per query block, each ending in a newline."""
        return "".join(record.to_json() + "\n" for record in self.blocks)


def check_line(line: str) -> dict[str, Any]:
    """Parse one telemetry line and check it against the schema.

    Parameters
    ----------
    line : str

    Returns
    -------
    dict

    Raises
    ------
    InvalidInputError
        Naming the first field that is missing, unknown, of the wrong type or out of range.

    Examples
    --------
    >>> check_line("{}")
    Traceback (most recent call last):
    ...
    covertreex.errors.InvalidInputError: telemetry line: schema must be 'covertreex.telemetry', got None.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"telemetry line is not JSON: {error}.") from None
    if not isinstance(record, dict):
        raise InvalidInputError(f"telemetry line must be a JSON object, got {type(record).__name__}.")
    if record.get("schema") != SCHEMA:
        _fail("schema", repr(SCHEMA), record.get("schema"))
    if record.get("version") != SCHEMA_VERSION:
        _fail("version", SCHEMA_VERSION, record.get("version"))
    for name, kind in _RECORD_TYPES.items():
        value: Any = record.get(name)
        if isinstance(value, bool) or not isinstance(value, kind):
            _fail(name, f"of type {kind.__name__}", value)
        if kind is not str and not 0 <= value < float("inf"):
            _fail(name, "finite and not negative", value)
    if record["pass_number"] < 1:
        _fail("pass_number", "1 or more", record["pass_number"])
    if record["verb"] not in ("search", "scan"):
        _fail("verb", "'search' or 'scan'", record["verb"])
    _check_counters(record)
    extra = sorted(set(record) - set(_RECORD_TYPES) - {"schema", "version", "counters"})
    if extra:
        _fail("no field", "outside the schema", extra[0])
    return record


def _check_counters(record: dict[str, Any]) -> None:
    counters = record.get("counters")
    if not isinstance(counters, dict) or tuple(counters) != TOTALS:
        _fail("counters", f"an object with {', '.join(TOTALS)}", counters)
    for name, value in counters.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _fail(f"counters.{name}", "a whole number, not negative", value)
    stops = sum(counters[name] for name in COUNTERS if name.startswith("stop_"))
    expected = record["queries"] if record["pass_number"] == 1 else 0
    if stops != expected:
        why = f"queries ({expected})" if record["pass_number"] == 1 else "0 after the first pass"
        _fail("counters", f"such that the stops add up to {why}", stops)


def _fail(name: str, expected: object, value: object) -> NoReturn:
    raise InvalidInputError(f"telemetry line: {name} must be {expected}, got {value!r}.")
