"""The contract between the query driver and a backend: three verbs over flat arrays, by levels.

A backend imports this module of covertreex, and no other: what it needs of the rest is here too, or comes with what it
is given. Only this stays as it is from one version of covertreex to the next; `PROTOCOL_VERSION` says when it changes.

A backend is an object with `name`, `protocol_version`, `capabilities` and the verbs of the `LEVELS` that it claims:
`scan` (`Traversal`), `search` (`TreeTraversal`), `shortlist` (`Screening`). The driver validates, plans, cuts queries
into blocks, runs blocks on threads, and merges what comes back; a backend answers one block on the thread that called
it, and starts no threads of its own but those of its device.

What `search` and `scan` must do, to the counter, is in docs/architecture.md ("The search" and "The scan"), what
`shortlist` must do in docs/mathematics.md (V1 to V8), which has the arithmetic too. Arrays that a backend receives are
C-contiguous and read-only but for those of its output; a backend may keep none of them after it returns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from covertreex._core.scan import scan
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
    ROUNDOFF,
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
    "LEVELS",
    "MECHANISMS",
    "METRIC_CODES",
    "NO_KERNEL",
    "PROTOCOL_VERSION",
    "RESIDUAL",
    "BackendError",
    "Capabilities",
    "Declined",
    "QueryBlock",
    "ScanPlan",
    "Screening",
    "SearchOutput",
    "ShortlistOutput",
    "Traversal",
    "TreeTraversal",
    "check_codes",
    "decide",
    "margin",
]

#: What a backend may claim, and what each level means. The conformance kit tests those that are claimed.
LEVELS = {
    "L0": "answers: by `scan`, the same indices and distances, to the bit",
    "L1": "counters: `search` by the tree as well, and what both verbs count, to the unit",
    "L2": "mechanisms: what further settings may ask of a tree search; those in `Capabilities.mechanisms`",
    "S": "screens: `shortlist`, by an error bound of its own (docs/mathematics.md, V1 to V8)",
}

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


class Declined(Exception):
    """A backend's screens do not take a payload: the message says why, and covertreex's own screens serve (V7).

    Examples
    --------
    >>> str(Declined("its factors take 80 GB, and the device has 40 GB free"))
    'its factors take 80 GB, and the device has 40 GB free'
    """


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.

    Parameters
    ----------
    mechanisms : frozenset of str
        The names in `MECHANISMS` that its `search` carries out: level L2. The parity search itself is level L1.
    summary : str
        One line for people.
    levels : frozenset of str
        Of "L0", "L1" and "S", those that it claims (`LEVELS`). L0 is not optional, and "L2" follows from `mechanisms`.
    batch : int
        How many queries its `shortlist` likes to have at once; 0 for as many as a block of the driver happens to hold.

    Raises
    ------
    ValueError
        If `levels` holds an unknown one, or not "L0", or there are mechanisms without "L1", or `batch` is below 0.

    Examples
    --------
    >>> Capabilities(levels=frozenset({"L0", "S"})).claimed
    ('L0', 'S')
    """

    mechanisms: frozenset[str] = frozenset()
    summary: str = ""
    levels: frozenset[str] = frozenset({"L0", "L1"})
    batch: int = 0

    def __post_init__(self) -> None:
        choices = set(LEVELS) - {"L2"}
        unknown = sorted(set(self.levels) - choices)
        if unknown:
            raise ValueError(f"level {unknown[0]!r} is unknown; levels may be {', '.join(sorted(choices))}.")
        if "L0" not in self.levels:
            raise ValueError(f"levels are {sorted(self.levels)}; add 'L0', which every backend has.")
        if self.mechanisms and "L1" not in self.levels:
            raise ValueError("mechanisms are those of a tree search; add 'L1' to levels, or give none.")
        if self.batch < 0:
            raise ValueError(f"batch is {self.batch}; give a number of queries, or 0.")

    @property
    def claimed(self) -> tuple[str, ...]:
        """tuple of str: the levels that are claimed, in the order of `LEVELS`."""
        return tuple(level for level in LEVELS if level in self.levels or (level == "L2" and self.mechanisms))

    @property
    def verbs(self) -> tuple[str, ...]:
        """tuple of str: the methods that the backend must have."""
        found = ["scan"]
        if "L1" in self.levels:
            found.append("search")
        if "S" in self.levels:
            found += ["prepare", "release", "shortlist"]
        return tuple(found)

    def missing(self, settings: TraversalSettings) -> list[str]:
        """What `settings` ask of a tree search and this backend lacks, sorted: mechanisms, or the level L1.

        Examples
        --------
        >>> from covertreex import GOLD
        >>> Capabilities(frozenset({"tile", "bitset"})).missing(GOLD)
        ['level_cache', 'radius_floor']
        """
        if "L1" not in self.levels:
            return ["the tree search (level L1)"]
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
        if (start, stop) == (0, len(self)):
            return self
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
    def empty(cls, q: int, k: int, cancel: NDArray[np.int32] | None = None) -> "SearchOutput":
        """Output for `q` queries: -1, inf and zeros; `cancel` is a flag that others share."""
        indices, distances = np.empty((q, k), dtype=np.int64), np.empty((q, k))
        indices.fill(-1)
        distances.fill(np.inf)
        counters = np.zeros((q, len(COUNTERS)), dtype=np.int64)
        return cls(indices, distances, counters, np.zeros(1, dtype=np.int32) if cancel is None else cancel)

    def slice(self, start: int, stop: int) -> "SearchOutput":
        """Output of queries ``start`` to ``stop``: views."""
        part = slice(start, stop)
        return SearchOutput(self.indices[part], self.distances[part], self.counters[part], self.cancel)


@dataclass(frozen=True, eq=False)
class ShortlistOutput:
    """What `Screening.shortlist` fills besides the rows that it returns; the driver owns it.

    Attributes
    ----------
    counts : ndarray, shape (q,), int64
        How many rows of each query stand. Zero on entry.
    pairs : ndarray, shape (1,), int64
        How many pairs were looked at, for telemetry. Zero on entry.
    cancel : ndarray, shape (1,), int32
        As in `SearchOutput`.

    Examples
    --------
    >>> ShortlistOutput.empty(2).counts.tolist()
    [0, 0]
    """

    counts: IntArray
    pairs: IntArray
    cancel: NDArray[np.int32]

    @classmethod
    def empty(cls, q: int, cancel: NDArray[np.int32] | None = None) -> "ShortlistOutput":
        """Output for `q` queries: zeros; `cancel` is a flag that others share."""
        flag = np.zeros(1, dtype=np.int32) if cancel is None else cancel
        return cls(np.zeros(q, dtype=np.int64), np.zeros(1, dtype=np.int64), flag)


@runtime_checkable
class Traversal(Protocol):
    """A backend: level L0.

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

    def scan(self, payload: Any, plan: ScanPlan, k: int, settings: TraversalSettings, out: SearchOutput) -> None:
        """Compare the queries of a `ScanPlan` with the rows that it names and fill `out`.

        At level L0 counters are a backend's own affair, but for one stop reason of each query that it answered.

        Parameters
        ----------
        payload : covertreex.data.payload.PayloadStore
        plan : ScanPlan
        k : int
        settings : covertreex.TraversalSettings
        out : SearchOutput
        """


@runtime_checkable
class TreeTraversal(Traversal, Protocol):
    """A backend of level L1 or L2.

    Examples
    --------
    >>> import covertreex as cx
    >>> isinstance(cx.get_backend("cython"), TreeTraversal)
    True
    """

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


@runtime_checkable
class Screening(Traversal, Protocol):
    """A backend of level S: it shortens lists of rows, under correlation, which a scan then decides.

    Examples
    --------
    >>> import covertreex as cx
    >>> isinstance(cx.get_backend("numba"), Screening)
    False
    """

    def prepare(self, payload: Any) -> Any:
        """What `shortlist` wants made of a payload, once, such as a copy of its factors on a device.

        Parameters
        ----------
        payload : covertreex.data.payload.PayloadStore
            Its metric is a correlation.

        Returns
        -------
        handle
            Anything that holds neither the payload nor its arrays (V6); ``str(handle)`` tells people precision and
            place.

        Raises
        ------
        Declined
            If it does not take this payload (V7).
        """

    def release(self, handle: Any) -> None:
        """Let go of what `prepare` returned: the payload is gone, and no call with this handle follows."""

    def shortlist(self, handle: Any, plan: ScanPlan, thresholds: FloatArray, k: int, out: ShortlistOutput) -> IntArray:
        """The rows of a `ScanPlan` that may be among the k nearest of each query (V1).

        Parameters
        ----------
        handle
            What `prepare` returned.
        plan : ScanPlan
            Its queries, groups and runs count; `run_lower` and `kth_upper` do not.
        thresholds : ndarray, shape (q,), float64
            Of each query, a ``|rho|`` below which no row is wanted; -inf for none.
        k : int
            0 for all rows that may reach their threshold.
        out : ShortlistOutput

        Returns
        -------
        ndarray, shape (sum of ``out.counts``,), int64
            Payload rows, one query's after the other's, in any order.
        """


def decide(payload: Any, plan: ScanPlan, k: int, settings: TraversalSettings, out: SearchOutput) -> None:
    """`Traversal.scan` by covertreex's compiled canonical arithmetic, for a backend that has none of its own.

    A device whose compiler fuses or reorders operations cannot have the bits; its `scan` may be this.

    Examples
    --------
    >>> import covertreex as cx
    >>> from covertreex.testing.cases import whole_range
    >>> from covertreex.testing.reference import make_queries
    >>> payload, out = cx.cover_tree([[0.0], [1.0], [3.0]]).payload, SearchOutput.empty(1, 1)
    >>> decide(payload, whole_range(make_queries(payload, [0])), 1, cx.EXACT, out)
    >>> out.indices.tolist()
    [[1]]
    """
    scan(payload, plan, k, settings, out)


def margin(kernel: Any, m: int, d: int, length: float, extent: float, roundoff: float, inputs: float = 0.0) -> float:
    """C1, C6: how far ``k - v . v`` may be off that is computed in floating point, against canonical arithmetic.

    Any order of the sums is covered, with and without fused multiply-add: so are BLAS, and products on a device.

    Parameters
    ----------
    kernel : covertreex.kernels.Kernel
        That of a payload.
    m, d : int
        Components of factors and of coordinates.
    length : float
        The largest ``|v|**2`` of rows and queries.
    extent : float
        How far coordinates reach in any axis, in lengthscales.
    roundoff : float
        Of the sums, and of the kernel: 2**-24 for float32, 2**-53 for float64.
    inputs : float
        What factors are rounded by before they are multiplied, if that is more: 2**-11 for TF32, 2**-8 for bfloat16.

    Returns
    -------
    float

    Examples
    --------
    >>> import covertreex as cx
    >>> 1e-6 < margin(cx.RBF(), 16, 2, 1.0, 1.0, 2.0**-24) < 1e-5
    True
    >>> 1e-4 < margin(cx.RBF(), 16, 2, 1.0, 1.0, 2.0**-24, inputs=2.0**-11) < 1e-2
    True
    """
    dot = (m + 16) * length
    moved = kernel.modulus(4.0 * roundoff * extent * np.sqrt(d)) / (2.0 * roundoff)
    expression = kernel.expression
    if expression is None:
        values = kernel.variance * (moved + d + 40.0)
    else:
        rounding = (d + 8.0) * max(1.0, expression.steepness) + 40.0 * len(expression.factor_table)
        values = kernel.variance * (moved + rounding)
        if roundoff > ROUNDOFF:
            values += kernel.variance * expression.single_error() / (2.0 * roundoff)
    return float(2.0 * roundoff * (dot + values) + inputs * (2.0 + inputs) * length)
