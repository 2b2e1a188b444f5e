"""What a search and a radius search return."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.backends.telemetry import Telemetry
from covertreex.base.types import FloatArray, IntArray
from covertreex.errors import InvalidInputError
from covertreex.settings import TraversalSettings


@dataclass(frozen=True)
class Plan:
    """What was decided, for people: ``print(result.plan)``.

    Attributes
    ----------
    verb : {'search', 'scan'}
        What the backend was asked to do.
    reason : str
        Why this verb.
    screen : str
        '16 bits', 'float32', 'float64', 'none', '8 bits, 176 components', 'whitened 8 bits, 320 components', or
        'float64, 368 components float32'; what a backend calls its own.
    least, patience : float or None, int
        With a recall target: a group of queries looks at rows nearest in coordinates, ring after ring, until so many
        rings in a row have each taken at most this share of its places. None: all rows are looked at.
    alone : bool
        Whether each query looks at rows of its own instead.
    tried : tuple of tuple of (float, int, float, float)
        For each rule tried on a sample: share, patience, the sample's recall, and the rows that a group (or a query
        alone) looked at.
    costs : tuple of (str, float, float)
        Ways to go about it, what was chosen first: the nanoseconds of one core that a pair is expected to take, and the
        pairs per query.
    expected : tuple of (str, float)
        What the way that was chosen is expected to take, part by part: microseconds of one core for a query in the
        mean. Empty where it is not known.
    promise : float or None
        With a second pass, or a start from an earlier answer: neighbours of neighbours are looked at where the product
        of both ``|rho|`` is at least this, the query's own k-th being 1. None: none are.
    promises : tuple of tuple of (float, float, float)
        For each promise tried on a sample: the sample's recall, and the rows that eight queries (or a query alone)
        looked at.
    strategy : {'tree', 'sweep', 'rings', 'second pass', 'from answer', 'halos', 'boxes', 'radius', 'candidates'}
        How it was answered (docs/architecture.md, "The strategies").
    anchors, certified, looked : int, int and float, or None
        Of halos: how many anchors there are, how many queries needed no sweep, and the rows that each looked at.
    candidates, sampled_recall : int and float, or None
        Under a `covertreex.Covariance`, of `fast`: how many rows each query was compared with, and what share of the
        neighbours of a sample these held.
    no_halos : str
        Why `CoverTree.prepare` made no halos; empty if it was not called, or made them.
    screened_by : str
        Whose screens, boxes or halos shortened lists: 'cython' for covertreex's own, or the backend; empty for none.
    decided_by : str
        The backend whose arithmetic decided, or that searched the tree.
    declined : str
        Why the backend's own screens did not take the data; empty if they did, or it has none.
    again : tuple of tuple of (int, int)
        With `max_per_site`: how many queries came out short and were searched for again, and for how many neighbours,
        round after round. The rest of the plan is that of the first search.

    Examples
    --------
    >>> import covertreex as cx
    >>> plan = cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=1).plan
    >>> plan.verb, plan.strategy
    ('scan', 'boxes')
    """

    verb: str
    reason: str
    screen: str = "none"
    least: float | None = None
    patience: int = 1
    alone: bool = False
    tried: tuple[tuple[float, int, float, float], ...] = field(default=(), repr=False)
    costs: tuple[tuple[str, float, float], ...] = field(default=(), repr=False)
    expected: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    promise: float | None = None
    promises: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    strategy: str = "sweep"
    anchors: int | None = None
    certified: int | None = None
    looked: float | None = None
    candidates: int | None = None
    sampled_recall: float | None = None
    no_halos: str = ""
    screened_by: str = ""
    decided_by: str = ""
    declined: str = ""
    again: tuple[tuple[int, int], ...] = ()

    @property
    def expected_us(self) -> float:
        """float: the microseconds of one core that a query is expected to take in the mean; 0 where that is not known.

        They are those of a core at 3 GHz that has the machine to itself, and of a search of many queries.

        Examples
        --------
        >>> import covertreex as cx
        >>> cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=1).plan.expected_us < 10
        True
        """
        return sum(us for _, us in self.expected)

    @property
    def phases(self) -> dict[str, str]:
        """dict of str to str: who did each phase: 'search' by the tree, or 'screen', if there was one, and 'decision'.

        Examples
        --------
        >>> import covertreex as cx
        >>> cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=1).plan.phases
        {'screen': 'cython', 'decision': 'cython'}
        """
        if self.verb == "search":
            return {"search": self.decided_by}
        screen = {"screen": self.screened_by} if self.screened_by else {}
        return screen | {"decision": self.decided_by}

    def __str__(self) -> str:
        more = f"; no halos: {self.no_halos}" if self.no_halos else ""
        lines = [f"{self.verb}: {self.reason}{more}"]
        if self.strategy not in ("tree", "boxes", "candidates"):
            declined = f"; {self.decided_by} declined: {self.declined}" if self.declined else ""
            lines.append(f"screen: {self.screen}{declined}")
        if self.strategy in ("sweep", "rings", "second pass", "from answer"):
            lines += [self._rows(), *self._samples(), *self._ways()]
        lines += self._expected_in_all()
        if self.candidates is not None:
            lines.append(
                f"rows looked at: each query's {self.candidates:,} nearest in other coordinates; of a sample these "
                f"held {self.sampled_recall:.5f} of the neighbours"
            )
        lines += [
            f"again: {queries:,} queries for {k:,} neighbours, of which few may share a site"
            for queries, k in self.again
        ]
        lines.append("by: " + ", ".join(f"{phase} {who}" for phase, who in self.phases.items()))
        return "\n".join(lines)

    def _rows(self) -> str:
        if self.strategy == "from answer":
            return "rows looked at: the neighbours that each query had"
        if self.least is None:
            return "rows looked at: all"
        whose = "each query's nearest" if self.alone else "the nearest to a group"
        return (
            f"rows looked at: {whose} in coordinates, in widening rings, until {_few(self.patience)} "
            f"at most {self.least:.2%} of its places"
        )

    def _samples(self) -> list[str]:
        lines = [
            f"  sample: when {_few(patience)} {least:.2%}, recall is {recall:.5f} with {rows:,.0f} rows looked at"
            for least, patience, recall, rows in self.tried
        ]
        if self.promise is not None:
            lines.append(
                "then: neighbours of neighbours, where the product of both |rho| is at least "
                f"{self.promise:g} times a query's k-th"
            )
        more = "looked at" if self.strategy == "from answer" else "more"
        return lines + [
            f"  sample: at {promise:g} times, recall is {recall:.5f} with {rows:,.0f} rows {more}"
            for promise, recall, rows in self.promises
        ]

    def _ways(self) -> list[str]:
        return [
            f"  way: {way}: {cost:.1f} ns for each of {pairs:,.0f} pairs, {cost * pairs / 1e3:,.0f} us a query"
            for way, cost, pairs in self.costs
        ]

    def _expected_in_all(self) -> list[str]:
        if not self.expected:
            return []
        parts = ", ".join(f"{what} {_us(us)}" for what, us in self.expected)
        return [f"expected in all: {_us(self.expected_us)} us of one core for a query ({parts})"]


def _us(us: float) -> str:
    return f"{us:,.1f}" if us < 10 else f"{us:,.0f}"


def _few(rings: int) -> str:
    return "a ring takes" if rings == 1 else f"{rings} rings in a row take"


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Everything about one search.

    Attributes
    ----------
    indices : ndarray, shape (q, k), int64
        Neighbours as rows of X, the nearest first; those at one distance by ``|rho|`` as float64 holds it, then by
        scaled distance, then by row (docs/mathematics.md, A7). -1 past the last.
    distances : ndarray, shape (q, k), float64
        ``sqrt(1 - |rho|)`` or Euclidean; inf past the last.
    telemetry : Telemetry
        What was counted, and how long it took.
    backend : str
        The backend that answered.
    plan : Plan
        How it was answered, and why; ``print(result.plan)``.
    settings : TraversalSettings
    recall : float or None
        Of the audited queries against the dense oracle; None without `audit`.
    recall_interval : tuple of float or None
        95 % Wilson interval of the recall, neighbours taken as independent.
    rows : ndarray, shape (q,), int64, or None
        The rows of X that were asked for, one per row of the answer; None if coordinates were.
    order : ndarray, shape (n,), int64, or None
        The order of the points that was given, if one was.
    site_of : callable, optional
        The site of each row of X, by which `single_site_rows` counts. It is not pickled.

    Examples
    --------
    >>> import covertreex as cx
    >>> result = cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=1)
    >>> result.indices.ravel().tolist(), result.distances.ravel().tolist()
    ([1, 0, 1], [1.0, 1.0, 2.0])
    """

    indices: IntArray
    distances: FloatArray
    telemetry: Telemetry
    backend: str
    plan: Plan
    settings: TraversalSettings
    recall: float | None = None
    recall_interval: tuple[float, float] | None = None
    rows: IntArray | None = None
    order: IntArray | None = None
    site_of: Callable[[IntArray], IntArray] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "single_site_rows": self.single_site_rows, "site_of": None}

    @cached_property
    def single_site_rows(self) -> int:
        """int: queries with two or more neighbours, all of which are at one site: at equal scaled coordinates.

        Such neighbours say little more than one of them. Many of them are a sign of places that were visited often, of
        which ``max_per_site=...`` lets in a few each; or of `active_dims` that leave out what tells points apart.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [0.0], [0.0], [1.0], [3.0]])
        >>> tree.search(k=2).single_site_rows, tree.search(k=2, max_per_site=1).single_site_rows
        (4, 0)
        """
        if self.site_of is None or self.indices.shape[1] < 2:
            return 0
        alone = 0
        for start in range(0, len(self.indices), 2**14):
            found = self.indices[start : start + 2**14]
            sites = self.site_of(found)
            same = np.all((sites == sites[:, :1]) | (found < 0), axis=1)
            alone += int(np.count_nonzero(same & (found[:, 1] >= 0)))
        return alone

    @property
    def tied_rows(self) -> int:
        """int: queries with two or more neighbours at one distance, whose order the distances do not tell (A7).

        Many of them, at distance 1 or 0, are a sign of a lengthscale that is far too small or large for the data: then
        the correlations, 0 or 1 as far as ``sqrt(1 - |rho|)`` can hold, say little about who is near.

        Examples
        --------
        >>> import covertreex as cx
        >>> cx.cover_tree([[0.0], [1.0], [3.0]], kernel=cx.RBF(lengthscale=0.01)).search(k=2).tied_rows
        3
        """
        same = (self.distances[:, 1:] == self.distances[:, :-1]) & np.isfinite(self.distances[:, 1:])
        return int(np.count_nonzero(same.any(axis=1)))

    def changed_rows(self, previous: "SearchResult | ArrayLike") -> IntArray:
        """Which queries have other neighbours than in an earlier answer to the same queries.

        Sets are compared, not their order: as kernel parameters move, neighbours change places far more often than
        they change, and a Vecchia approximation depends on the set alone.

        Parameters
        ----------
        previous : SearchResult, or ndarray of indices, shape (q, k)

        Returns
        -------
        ndarray, shape (changed,), int64
            Places of the queries, ascending.

        Raises
        ------
        InvalidInputError
            If there were other numbers of queries or neighbours.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0, 0.0], [1.0, 0.0], [0.0, 1.1]], kernel=cx.RBF())
        >>> first = tree.search(k=1)
        >>> tree.with_metric(cx.RBF(lengthscale=(0.5, 2.0))).search(k=1).changed_rows(first).tolist()
        [0]
        """
        earlier = previous.indices if isinstance(previous, SearchResult) else np.asarray(previous)
        if not np.issubdtype(earlier.dtype, np.integer):
            raise InvalidInputError(
                f"changed_rows takes an earlier SearchResult, or its indices; got {type(previous).__name__}."
            )
        if earlier.shape != self.indices.shape:
            raise InvalidInputError(
                f"changed_rows compares two answers to the same queries; their shapes are {earlier.shape} and "
                f"{self.indices.shape}."
            )
        return np.flatnonzero(np.any(np.sort(earlier, axis=1) != np.sort(self.indices, axis=1), axis=1))


@dataclass(frozen=True, eq=False)
class RadiusResult:
    """All neighbours within a radius, as the arrays of a sparse matrix in CSR form.

    The neighbours of query i are ``indices[indptr[i]:indptr[i + 1]]``, the nearest first (A7), at the distances of
    the same places.

    Attributes
    ----------
    indptr : ndarray, shape (q + 1,), int64
    indices : ndarray, shape (total,), int64
        Rows of X.
    distances : ndarray, shape (total,), float64
        ``sqrt(1 - |rho|)`` or Euclidean.
    radius : float
        What distances were compared with; ``sqrt(1 - min_correlation)`` if a correlation was given.
    backend : str
        The backend that answered.
    rows : ndarray, shape (q,), int64, or None
        As of `SearchResult`.
    telemetry : Telemetry or None
        What was counted, and how long it took; `k` is 0 in its lines.
    plan : Plan or None
        How it was answered, and why.

    Examples
    --------
    >>> import covertreex as cx
    >>> found = cx.cover_tree([[0.0], [1.0], [3.0]]).radius(1.5)
    >>> found.indptr.tolist(), found.indices.tolist()
    ([0, 1, 2, 2], [1, 0])
    """

    indptr: IntArray
    indices: IntArray
    distances: FloatArray
    radius: float
    backend: str
    rows: IntArray | None = None
    telemetry: Telemetry | None = None
    plan: Plan | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1


def wilson_interval(share: float, total: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Confidence interval of a share observed in `total` independent trials; z = 1.96 gives 95 %.

    Source: Wilson, *Probable inference, the law of succession, and statistical inference* (1927).

    Examples
    --------
    >>> [round(limit, 3) for limit in wilson_interval(1.0, 1000)]
    [0.996, 1.0]
    """
    if total == 0:
        return (0.0, 1.0)
    centre = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1.0 - share) / total + z * z / (4.0 * total * total))
    scale = 1.0 + z * z / total
    # Rounding must not put the share itself, 0 or 1 above all, outside.
    return (max(0.0, min(share, float((centre - half) / scale))), min(1.0, max(share, float((centre + half) / scale))))


def recall_interval(right: IntArray, expected: IntArray) -> tuple[float, tuple[float, float]]:
    """Recall over a sample of queries, and its 95 % confidence interval.

    Misses come in clusters: a query that misses one neighbour often misses several. So the interval is Wilson's for as
    many trials as the queries are worth: neighbours divided by the design effect, the variance of the recall as it
    varies from query to query over what it would be if neighbours were missed one by one.

    Source: Kish, *Survey Sampling* (1965), section 8.2; Wilson (1927), as `wilson_interval`.

    Parameters
    ----------
    right, expected : ndarray, shape (q,)
        Of each query, true neighbours that were found, and that there are.

    Returns
    -------
    recall : float
        1.0 where no neighbour exists.
    interval : tuple of float

    Examples
    --------
    >>> one_by_one, together = np.full(1000, 10), np.full(1000, 10)
    >>> one_by_one[:20], together[:2] = 9, 0
    >>> for right in (one_by_one, together):
    ...     recall, (low, high) = recall_interval(right, np.full(1000, 10))
    ...     print(recall, round(low, 4), round(high, 4))
    0.998 0.9969 0.9987
    0.998 0.9927 0.9995
    """
    total = int(np.sum(expected))
    if total == 0:
        return 1.0, wilson_interval(1.0, 0)
    recall = float(np.sum(right) / total)
    effect = 1.0
    if 0.0 < recall < 1.0 and len(right) > 1:
        between = np.sum((right - recall * expected) ** 2) * len(right) / (len(right) - 1.0) / total**2
        effect = max(1.0, float(between / (recall * (1.0 - recall) / total)))
    return recall, wilson_interval(recall, total / effect)
