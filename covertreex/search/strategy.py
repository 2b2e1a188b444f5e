"""How a scan is done, as an object: what every strategy has, and what it returns."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from covertreex.protocols import QueryBlock, SearchOutput
from covertreex.results import Plan
from covertreex.search.groups import Groups


@dataclass(frozen=True, eq=False)
class Found:
    """What some queries have found, in the order of the groups.

    Attributes
    ----------
    indices, distances : ndarray, int64 and float64
        Of shape (q, k), or one query's after the other's where `counts` says how many each has.
    counters : ndarray, shape (q, len(COUNTERS)), int64
        What the backend counted.
    screened : dict of str to int
        What screens counted besides, by name.
    counts : ndarray, shape (q,), int64, or None
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    counters: NDArray[np.int64]
    screened: dict[str, int] = field(default_factory=dict)
    counts: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, out: SearchOutput, screened: dict[str, int] | None = None) -> "Found":
        """What a backend has filled."""
        return cls(out.indices, out.distances, out.counters, screened or {})


class Strategy(Protocol):
    """One pass over all queries. It is made for one search, from a `SearchContext` and a `QueryBlock`.

    Attributes
    ----------
    groups : Groups
        Queries that are answered together.
    queries : QueryBlock
        Those of the search, in the order of the groups.
    plan : Plan
        What was decided, for people; looked at when all is done.
    """

    groups: Groups
    queries: QueryBlock

    @property
    def plan(self) -> Plan: ...

    def answer(self, first: int, last: int) -> Found:
        """Answer groups `first` to `last` (exclusive), on the thread that calls."""
        ...

    def following(self, indices: NDArray[np.int64], distances: NDArray[np.float64]) -> "Strategy | None":
        """The next pass, given what was found so far in the caller's order; None if this is the last."""
        ...


class LastPass:
    """A strategy that nothing follows."""

    def following(self, indices: NDArray[np.int64], distances: NDArray[np.float64]) -> Strategy | None:
        """None: there is no next pass."""
        return None
