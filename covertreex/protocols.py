"""The contract between the query driver and a backend: two verbs over flat arrays.

A backend imports this module of covertreex, and no other: what it needs of the rest is here too, or comes with what it
is given. Only this stays as it is from one version of covertreex to the next; `PROTOCOL_VERSION` says when it changes.

A backend is an object with `name`, `protocol_version`, `capabilities`, `search` and `scan` (`Traversal`). The driver
validates, plans, cuts queries into blocks, runs blocks on threads, and merges what comes back; a backend answers one
block on the thread that called it, and never starts threads of its own.

What each verb must do, to the counter, is in docs/architecture.md ("The search" and "The scan"); docs/mathematics.md
has the arithmetic. Arrays that a backend receives are C-contiguous and read-only but for those of `SearchOutput`; a
backend may keep none of them after it returns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from covertreex.base.contract import (
    CONTRACT,
    COUNTERS,
    DUPLICATE_LEVEL,
    EUCLIDEAN,
    EXPRESSION,
    KERNEL_CODES,
    LANES,
    METRIC_CODES,
    NO_KERNEL,
    PROTOCOL_VERSION,
    RESIDUAL,
    check_codes,
)
from covertreex.base.types import FloatArray, IntArray
from covertreex.errors import BackendError
from covertreex.settings import TraversalSettings

__all__ = [
    "CONTRACT",
    "COUNTERS",
    "DUPLICATE_LEVEL",
    "EUCLIDEAN",
    "EXPRESSION",
    "KERNEL_CODES",
    "LANES",
    "MECHANISMS",
    "METRIC_CODES",
    "NO_KERNEL",
    "PROTOCOL_VERSION",
    "RESIDUAL",
    "BackendError",
    "Capabilities",
    "QueryBlock",
    "ScanPlan",
    "SearchOutput",
    "Traversal",
    "check_codes",
]

#: Mechanisms beyond the parity search that settings may ask of a backend's tree search, and how to see that they do.
#: The screens of a scan ('gate', 'gemm') are shared code, so that every backend has them there.
MECHANISMS: dict[str, Callable[[TraversalSettings], bool]] = {
    "child_order": lambda s: s.child_order != "insertion",
    "bitset": lambda s: s.visited == "bitset",
    "tile": lambda s: s.stream_tile > 1,
    "level_cache": lambda s: s.level_cache,
    "radius_floor": lambda s: s.radius_floor > 0.0,
    "budget": lambda s: bool(s.budget_schedule),
    "level_cap": lambda s: s.level_cap > 0,
    "gate": lambda s: s.gate and s.strategy == "tree",
    "gemm": lambda s: s.gemm and s.strategy == "tree",
}


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.

    Parameters
    ----------
    mechanisms : frozenset of str
        The names in `MECHANISMS` that its `search` carries out. The parity search itself is not optional.
    summary : str
        One line for people.
    """

    mechanisms: frozenset[str] = frozenset()
    summary: str = ""

    def missing(self, settings: TraversalSettings) -> list[str]:
        """Mechanisms that `settings` ask of a tree search and this backend lacks, sorted.

        Examples
        --------
        >>> from covertreex import GOLD
        >>> Capabilities(frozenset({"tile", "bitset"})).missing(GOLD)
        ['level_cache', 'radius_floor']
        """
        return sorted(name for name, asked in MECHANISMS.items() if asked(settings) and name not in self.mechanisms)


@dataclass(frozen=True, eq=False)
class QueryBlock:
    """Queries, and what restricts their answers.

    Attributes
    ----------
    rows : ndarray, shape (q,), int64
        Payload row of each query; ``-1 - e`` for external query ``e``, whose data is in the next three.
    coords : ndarray, shape (e, d), float64
        Scaled coordinates of external queries.
    factors : ndarray, shape (e, m), float64
        Their factors, padded as the payload's.
    p : ndarray, shape (e,), float64
        Their residual variances.
    exclude : ndarray, shape (q,), int64
        Payload row that must not be returned; -1 for none.
    limit : ndarray, shape (q,), int64
        Only rows with ``rank[row] < limit`` may be returned.
    rank : ndarray, shape (n,), int64
        Rank of each payload row: its dataset index, or its position in the caller's order; n or more for a row of a
        deleted point, which no query may have.
    prefix : bool
        Whether `rank` is the order of insertion (the dataset index): then a node whose index is at or past the limit
        has no descendant before it, and a tree search skips it and its later siblings (INVARIANT Q1).
    slack_abs : float
        The absolute slack of INVARIANT B1 that distances of these queries need, at least the payload's: a tree search
        bounds by it, and by the payload's ``slack_rel`` (INVARIANT B2).

    Examples
    --------
    >>> import covertreex as cx
    >>> from covertreex.testing.reference import make_queries
    >>> queries = make_queries(cx.cover_tree([[0.0], [1.0], [3.0]]).payload, [0, 2])
    >>> len(queries), queries.slice(0, 1).limit.tolist()
    (2, [3])
    """

    rows: IntArray
    coords: FloatArray
    factors: FloatArray
    p: FloatArray
    exclude: IntArray
    limit: IntArray
    rank: IntArray
    prefix: bool
    slack_abs: float

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, start: int, stop: int) -> "QueryBlock":
        """Queries ``start`` to ``stop`` as a block; arrays are views, external data is shared."""
        part = slice(start, stop)
        return QueryBlock(
            self.rows[part], self.coords, self.factors, self.p, self.exclude[part], self.limit[part], self.rank,
            self.prefix, self.slack_abs,
        )  # fmt: skip

    def take(self, places: IntArray) -> "QueryBlock":
        """Some of the queries as a block; external data is shared."""
        return QueryBlock(
            self.rows[places], self.coords, self.factors, self.p, self.exclude[places], self.limit[places], self.rank,
            self.prefix, self.slack_abs,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScanPlan:
    """Which rows each query is compared with: groups of queries, each with runs of payload rows.

    Attributes
    ----------
    queries : QueryBlock
    group_ptr : ndarray, shape (g + 1,), int64
        Group ``g`` holds queries ``group_ptr[g]`` to ``group_ptr[g + 1]``.
    run_ptr : ndarray, shape (g + 1,), int64
        Group ``g`` has runs ``run_ptr[g]`` to ``run_ptr[g + 1]``.
    run_start, run_stop : ndarray, shape (r,), int64
        Each run is the payload rows ``run_start`` to ``run_stop``; the runs of a group do not overlap.
    run_lower : ndarray, shape (r,), float64
        No computed distance between a query of the group and a row of the run is below this; ascending in a group.
    kth_upper : ndarray, shape (q,), float64
        Rows farther than this need not be returned to the query; inf for no bound.

    Examples
    --------
    >>> import covertreex as cx
    >>> from covertreex.search import scan_plans
    >>> from covertreex.testing.reference import make_queries
    >>> payload = cx.cover_tree([[0.0], [1.0], [3.0]]).payload
    >>> scan_plans.whole_range(payload, make_queries(payload, [0, 2])).run_stop.tolist()
    [3]
    """

    queries: QueryBlock
    group_ptr: IntArray
    run_ptr: IntArray
    run_start: IntArray
    run_stop: IntArray
    run_lower: FloatArray
    kth_upper: FloatArray


@dataclass(frozen=True, eq=False)
class SearchOutput:
    """Arrays that a backend fills; the driver owns them, and no two blocks share a row.

    Attributes
    ----------
    indices : ndarray, shape (q, k), int64
        Dataset indices, the nearest first (INVARIANT A7); -1 past the last.
    distances : ndarray, shape (q, k), float64
        Their distances; inf past the last.
    counters : ndarray, shape (q, len(COUNTERS)), int64
        Zero on entry.
    cancel : ndarray, shape (1,), int32
        The driver sets it to 1 from another thread; a kernel that sees it returns soon, its output void.

    Examples
    --------
    >>> SearchOutput.empty(2, 3).indices.tolist()
    [[-1, -1, -1], [-1, -1, -1]]
    """

    indices: IntArray
    distances: FloatArray
    counters: IntArray
    cancel: NDArray[np.int32]

    @classmethod
    def empty(cls, q: int, k: int) -> "SearchOutput":
        """Output for `q` queries: -1, inf and zeros."""
        return cls(
            np.full((q, k), -1, dtype=np.int64),
            np.full((q, k), np.inf),
            np.zeros((q, len(COUNTERS)), dtype=np.int64),
            np.zeros(1, dtype=np.int32),
        )

    def slice(self, start: int, stop: int) -> "SearchOutput":
        """Output of queries ``start`` to ``stop``: views."""
        part = slice(start, stop)
        return SearchOutput(self.indices[part], self.distances[part], self.counters[part], self.cancel)


@runtime_checkable
class Traversal(Protocol):
    """A backend.

    Attributes
    ----------
    name : str
    protocol_version : tuple of int
        The least `PROTOCOL_VERSION` that has all it uses, major and minor: it goes on under later minor versions.
    capabilities : Capabilities
    contract : dict, optional
        What `covertreex.base.contract.CONTRACT` was when the backend was built, of one whose compiled code has its
        facts in itself: it is refused where they differ from those of the covertreex that is installed.

    Examples
    --------
    >>> import covertreex as cx
    >>> isinstance(cx.get_backend("cython"), Traversal)
    True
    """

    name: str
    protocol_version: tuple[int, int]
    capabilities: Capabilities

    # `tree` and `payload` are any to a type checker: their classes are in rooms above this one, and a backend may name
    # them, or say no more than what it uses of them.

    def search(
        self, tree: Any, payload: Any, queries: QueryBlock, k: int, settings: TraversalSettings, out: SearchOutput
    ) -> None:
        """Walk a cover tree best-first and fill `out`.

        Parameters
        ----------
        tree : covertreex.data.tree.Tree
        payload : covertreex.data.payload.PayloadStore
        queries : QueryBlock
        k : int
        settings : covertreex.TraversalSettings
        out : SearchOutput
        """

    def scan(self, payload: Any, plan: ScanPlan, k: int, settings: TraversalSettings, out: SearchOutput) -> None:
        """Compare the queries of a `ScanPlan` with the rows that it names and fill `out`. Parameters as `search`."""
