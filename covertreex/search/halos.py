"""Halos: few queries answered exactly, once rows around a net of anchors are sorted by angle.

``arccos |rho|`` is a metric on lines. Every row has an anchor near it, and a query that walks through the rows around
its anchor, nearest first, may stop where the triangle inequality leaves all others behind (docs/mathematics.md, H1). A
query whose walk reaches the end of the halo is swept as ever. In either case a scan decides, so bits are the same.
"""

import threading
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from covertreex.base import parallel
from covertreex.search import plans
from covertreex.search.planner import Plan, ScanPlanner

#: Every row is within one of these ``|rho|`` of an anchor: the first for which that takes few enough anchors.
NEAR = 0.95, 0.9

#: Halos reach no farther than this angle, unless an anchor's own neighbours are farther; and a little beyond these.
WIDEST, SPARE = 1.4, 0.02

#: Consecutive rows that share anchors.
BLOCK = 256

#: Halos are given up if more than this share of a sample of rows are anchors, or less than that one of its queries are
#: certified; blocks and anchors of these samples.
MOST_ANCHORS, LEAST_CERTIFIED = 0.4, 0.5
SAMPLE_BLOCKS, SAMPLE_ANCHORS = 8, 192

#: Rows in a halo, at most, but for large k.
MOST_ROWS = 1024

#: Queries that walk in one task, at most; tasks for each thread, at least; and queries that are swept together.
TOGETHER, SHARED, SWEPT = 256, 4, 16


@dataclass(frozen=True, eq=False)
class Halos:
    """Rows around anchors.

    Attributes
    ----------
    k : int
        Neighbours that they were made for; a query wants no more.
    anchors : ndarray, shape (a,), int64
        Payload rows.
    ptr : ndarray, shape (a + 1,), int64
        The halo of anchor i is ``ptr[i]`` to ``ptr[i + 1]`` of the next two.
    rows, angles : ndarray, int32 and float32
        Payload rows, and lower bounds of their angles from the anchor, ascending.
    radii : ndarray, shape (a,)
        No other row is nearer to the anchor than this.
    number : ndarray, shape (n,), int64
        The anchor that a row walks from; -1 for none.
    slack_abs : float
        That of the payload (B1).
    """

    k: int
    anchors: np.ndarray
    ptr: np.ndarray
    rows: np.ndarray
    angles: np.ndarray
    radii: np.ndarray
    number: np.ndarray
    slack_abs: float

    @property
    def nbytes(self):
        """int: bytes held by the arrays."""
        return sum(a.nbytes for a in (self.anchors, self.ptr, self.rows, self.angles, self.radii, self.number))

    def serve(self, queries, k, settings):
        """Whether a `HaloPlanner` can answer these queries."""
        return (
            k <= self.k
            and settings.gemm
            and settings.kth_frontier_stop
            and len(queries) > 0
            and int(queries.limit.min()) == len(self.number)
        )


@dataclass(frozen=True)
class GivenUp:
    """Why there are no halos."""

    reason: str

    def serve(self, queries, k, settings):
        """As `Halos.serve`: no."""
        return False


class HaloPlan(Plan):
    """A `Plan` of halos."""

    def __str__(self):
        return f"{self.verb}: {self.reason}\nscreen: {self.screen}"


def make_halos(payload, block, k, settings, backend, n_threads):
    """Choose anchors and sort the rows around them.

    Parameters
    ----------
    payload : PayloadStore
    block : QueryBlock
        All rows that may be asked for, each of which may be its own neighbour.
    k : int
        Neighbours that queries will want.
    settings : TraversalSettings
    backend : Traversal
    n_threads : int

    Returns
    -------
    Halos or GivenUp
    """
    cancel = np.zeros(1, dtype=np.int32)
    block = plans.permuted(block, np.argsort(block.rows))  # near each other in space
    if payload.screen64 is None:
        return GivenUp("residual variances are too small for a screen")
    for near in NEAR:
        net = _net(payload, block.rows, near, n_threads, cancel)
        if net is not None:
            break
    else:
        return GivenUp(
            f"more than {MOST_ANCHORS:.0%} of a sample of rows would be anchors, hardly any row being near another"
        )
    anchors, reach = _reach(*net)
    queries = plans.permuted(block, anchors)
    # Angles are wanted in float64; a halo holds its anchor too.
    planner = ScanPlanner(
        payload, queries, min(k + 1, len(block)), settings.replace(gate=False), backend, n_threads, cancel
    )
    if planner.screen is None:
        return GivenUp("no screen would drop enough rows")
    kth = np.full(len(anchors), np.pi)
    if planner.start is not None:
        kth = np.arccos(np.clip(planner.start, -1.0, 1.0))
    # A row within `reach` of its anchor has its k nearest within the anchor's own k-th angle and twice `reach`.
    far = np.maximum(np.minimum(kth + 2.0 * reach[planner.groups.order], WIDEST), kth) + SPARE
    most = min(max(MOST_ROWS, 4 * k), len(block))
    builder = _Builder(payload, planner.queries, planner.groups, np.cos(np.minimum(far, np.pi)), most, cancel)
    sample = builder.sample(SAMPLE_ANCHORS)
    if len(sample) < len(planner.groups):
        halos = _halos(payload, k, near, builder.parts(sample, n_threads))
        probe = plans.permuted(block, np.flatnonzero(halos.number[block.rows] >= 0))
        walked = _walk(halos, payload, probe, halos.number[probe.rows], k, payload, n_threads, cancel)
        share = float(np.mean(walked.certified))
        if share < LEAST_CERTIFIED:
            return GivenUp(f"they would certify {share:.0%} of a sample of queries")
    parts = builder.parts(range(len(planner.groups)), n_threads)
    halos = _halos(payload, k, near, parts)
    # Rows that leave their halo become anchors themselves: those so far from all others that no halo is wide enough.
    asked = plans.permuted(replace(block, exclude=block.rows), np.argsort(halos.anchors[halos.number[block.rows]]))
    walked = _walk(halos, payload, asked, halos.number[asked.rows], k, payload, n_threads, cancel)
    left = np.flatnonzero(~walked.certified)
    if 0 < len(left) <= len(anchors):
        far = np.arccos(np.clip(walked.thresholds[left], -1.0, 1.0)) + SPARE
        left = plans.permuted(asked, left)
        groups = plans.group_queries(payload, left, plans.SWEEP_MOST, plans.SWEEP_SHARE)
        left = plans.permuted(replace(left, exclude=np.full(len(left), -1)), groups.order)
        builder = _Builder(payload, left, groups, np.cos(np.minimum(far, np.pi))[groups.order], most, cancel)
        halos = _halos(payload, k, near, parts, builder.parts(range(len(groups)), n_threads))
    return halos


def _reach(own, angle):
    """Anchors, and the angle of the farthest row of each, if row i is at ``angle[i]`` from its anchor ``own[i]``."""
    anchors, number = np.unique(own, return_inverse=True)
    reach = np.zeros(len(anchors))
    np.maximum.at(reach, number, angle)
    return anchors, reach


def _net(payload, rows, near, n_threads, cancel):
    """For each of these rows the place of its anchor among them, and the angle to it; None if a sample says that too
    many rows would be anchors.
    """
    spans = parallel.spans(len(rows), BLOCK)
    sample = np.unique(np.linspace(0, len(spans) - 1, min(SAMPLE_BLOCKS, len(spans))).astype(np.int64)).tolist()

    def cover(numbers):
        with parallel.one_blas_thread():
            tasks = [partial(_cover, payload, rows[slice(*spans[number])], near) for number in numbers]
            return dict(zip(numbers, parallel.run(tasks, n_threads, cancel), strict=True))

    found = cover(sample)
    share = sum(len(np.unique(own)) for own, _ in found.values()) / sum(len(own) for own, _ in found.values())
    if share > MOST_ANCHORS:
        return None
    found |= cover([number for number in range(len(spans)) if number not in found])
    parts = [found[number] for number in range(len(spans))]
    own = np.concatenate([own + begin for (own, _), (begin, _) in zip(parts, spans, strict=True)])
    return own, np.concatenate([angle for _, angle in parts])


def _cover(payload, rows, near):
    """Of some rows, the place of each one's anchor among them, within ``|rho|`` of `near`, and the angle to it.

    Anchors are chosen one after the other: that to which the most rows without an anchor are near.
    """
    inverse = 1.0 / np.sqrt(payload.p[rows])
    factors, coords = payload.factors[rows] * inverse[:, None], payload.coords[rows]
    rho = payload.kernel._of_scaled(coords, coords)
    rho *= inverse
    rho *= inverse[:, None]
    rho -= factors @ factors.T
    np.abs(rho, out=rho)
    np.fill_diagonal(rho, 1.0)
    linked = (rho >= near) | (rho.T >= near)  # rounding may tell them apart
    left, chosen = linked.sum(axis=0), []
    open_rows = np.ones(len(rows), dtype=bool)
    while open_rows.any():
        best = int(np.argmax(left))
        chosen.append(best)
        new = np.flatnonzero(linked[best] & open_rows)
        open_rows[new] = False
        left -= linked[new].sum(axis=0)
    chosen = np.sort(chosen)
    own = chosen[np.argmax(rho[chosen], axis=0)]
    return own, np.arccos(np.minimum(rho[own, np.arange(len(rows))], 1.0))


class _Builder:
    """Makes halos of groups of anchors, of at most `most` rows, within the ``|rho|`` that `start` has for each."""

    def __init__(self, payload, queries, groups, start, most, cancel):
        self.payload, self.queries, self.groups, self.start = payload, queries, groups, np.ascontiguousarray(start)
        self.most, self.cancel = most, cancel
        self._scratch = threading.local()

    def sample(self, anchors):
        """Some groups, of about so many anchors."""
        count = -(-anchors // max(1, self.groups.most))
        return np.unique(np.linspace(0, len(self.groups) - 1, count).astype(np.int64)).tolist()

    def parts(self, groups, n_threads):
        """For each of some groups, its anchors and what `covertreex._core.halos.surround` returns."""
        return parallel.run([partial(self._surround, group) for group in groups], n_threads, self.cancel)

    def _surround(self, group):
        from covertreex._core.halos import surround

        payload, most, scratch = self.payload, self.groups.most, self._scratch.__dict__
        if "screener" not in scratch:
            lens = payload.screen64.lens(self.queries, most)
            scratch["screener"] = _screener(payload, lens, None, self.queries, self.most, most, self.cancel)
        first, last = self.groups.ptr[group], self.groups.ptr[group + 1]
        found = surround(
            scratch["screener"], first, last - first, self.start[first:last], len(payload), payload.slack_rel,
            payload.slack_abs,
        )  # fmt: skip
        return self.queries.rows[first:last], *found


def _halos(payload, k, near, parts, more=()):
    """`Halos` of the parts that a `_Builder` made; of the anchors around a row the nearest is its own, if it is `near`.

    Those of `more` serve no row but themselves.
    """
    both = zip(*parts, *more, strict=True)
    anchors, counts, radii, rows, angles = (np.concatenate(arrays) for arrays in both)
    shared = sum(len(part[3]) for part in parts)
    best = np.full(len(payload), np.inf, dtype=np.float32)
    np.minimum.at(best, rows[:shared], angles[:shared])
    nearest = np.flatnonzero((angles[:shared] == best[rows[:shared]]) & (angles[:shared] <= np.arccos(near)))
    number = np.full(len(payload), -1)
    number[rows[nearest]] = np.searchsorted(np.cumsum(counts), nearest, side="right")
    number[anchors] = np.arange(len(anchors))
    return Halos(
        k=k,
        anchors=anchors,
        ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows=rows,
        angles=angles,
        radii=radii,
        number=number,
        slack_abs=payload.slack_abs,
    )


def _screener(payload, lens, sharp, queries, k, most, cancel):
    from covertreex._core.canonical import PayloadView
    from covertreex._core.screen import Screener

    return Screener(lens, lens, sharp, queries, PayloadView(payload), k, most, cancel)


class _Walker:
    """Queries that walk; `exact` is the payload with the slack that they need."""

    def __init__(self, halos, payload, queries, number, k, exact, cancel):
        self.halos, self.payload, self.queries, self.number, self.k = halos, payload, queries, number, k
        self.exact, self.cancel = exact, cancel
        self._external = payload.screen64.of_queries(queries)
        self._scratch = threading.local()

    def walk(self, first, stop):
        """What `covertreex._core.halos.walk` finds for some queries; the rows that survive; how many were looked at."""
        from covertreex._core.halos import walk

        scratch = self._scratch.__dict__
        if "screener" not in scratch:
            lens = self.payload.screen64.lens(self.queries, 1, self._external)
            scratch["screener"] = _screener(self.payload, lens, None, self.queries, self.k, 1, self.cancel)
        screener = scratch["screener"]
        exact = self.exact
        found = walk(screener, self.halos, self.number, exact.slack_abs, exact.slack_rel, first, stop)
        rows = screener.take()
        return *found, rows, screener.counted()[0]


@dataclass(frozen=True, eq=False)
class _Walked:
    """What walks found; arrays are by query, `rows` of one query after the other."""

    counts: np.ndarray
    rows: np.ndarray
    thresholds: np.ndarray
    certified: np.ndarray
    looked: int


def _walk(halos, payload, queries, number, k, exact, n_threads, cancel):
    """All queries walk."""
    walker = _Walker(halos, payload, queries, number, k, exact, cancel)
    spans = parallel.spans(len(queries), TOGETHER)
    found = parallel.run([partial(walker.walk, *span) for span in spans], n_threads, cancel)
    *arrays, looked = zip(*found, strict=True)
    counts, thresholds, certified, rows = map(np.concatenate, arrays)
    return _Walked(counts, rows, thresholds, certified, sum(looked))


class HaloPlanner:
    """Plans a scan by halos and answers its groups. Parameters and use as of `planner.ScanPlanner`; `halos`
    are those of the payload, and `exact` is the payload with the slack that external queries need.
    """

    def __init__(self, payload, queries, k, settings, backend, n_threads, cancel, halos, exact):
        self.payload, self.k, self.settings, self.backend, self.cancel = payload, k, settings, backend, cancel
        number, at = _starts(halos, payload, queries, cancel)
        order = np.argsort(at, kind="stable")
        together = min(TOGETHER, -(-len(queries) // (SHARED * n_threads)))
        ptr = np.append(np.arange(0, len(queries), together), len(queries))
        self.groups = plans.Groups(
            order=order,
            ptr=ptr,
            level=np.zeros(len(ptr) - 1, dtype=np.int64),
            prefix=np.array([len(payload)]),
        )
        self.queries = plans.permuted(queries, order)
        self._walker = _Walker(halos, payload, self.queries, number[order], k, exact, cancel)
        self.screen = payload.kept.held("whitened")
        if self.screen is None or not settings.gate:
            self.screen = payload.screen64
        self._done = []  # of each part, how many were certified, and how many rows were looked at

    @property
    def plan(self):
        """HaloPlan: with what was certified so far."""
        certified, looked = np.sum(self._done, axis=0, dtype=np.int64) if self._done else (0, 0)
        count = len(self.queries)
        return HaloPlan(
            verb="scan",
            reason=f"halos: {len(self._walker.halos.anchors):,} anchors, certified {certified:,} of {count:,} "
            f"queries, which looked at {looked / count:,.0f} rows each; the others sweep all rows",
            screen=self.screen.name,
        )

    def answer(self, first, last, out):
        """Answer groups `first` to `last` (exclusive) into `out`; return what was counted."""
        start, stop = self.groups.ptr[first], self.groups.ptr[last]
        block = self.queries.slice(start, stop)
        counts, thresholds, certified, rows, looked = self._walker.walk(start, stop)
        counters = {"canonical_rechecks": len(rows), "gemm_tiles": 0}
        self._done.append((np.sum(certified), looked))
        left = np.flatnonzero(~certified)
        if len(left):
            counts[left], swept = self._sweep(plans.permuted(block, left), thresholds[left], counters)
            merged, own = np.empty(len(rows) + len(swept), dtype=np.int64), np.repeat(certified, counts)
            merged[own], merged[~own] = rows, swept
            rows = merged
        plan = plans.plan_of_lists(block, counts, rows)
        self.backend.scan(self.payload, plan, self.k, self.settings, out)
        return counters

    def _sweep(self, block, start, counters):
        sharp = None if self.screen.dtype is np.float64 else self.payload.screen64.lens(block, SWEPT)
        lens = self.screen.lens(block, SWEPT)
        screener = _screener(self.payload, lens, sharp, block, self.k, SWEPT, self.cancel)
        ptr = np.append(np.arange(0, len(block), SWEPT), len(block))
        _, counts = screener.sweep(plans.whole_range(self.payload, block, ptr), 0, start)
        rows = screener.take()
        for name, value in self.screen.counters(screener, len(rows)).items():
            counters[name] = counters.get(name, 0) + value
        return counts, rows


def _starts(halos, payload, queries, cancel):
    """The anchor of each query, -1 for none, and a row that it is near to."""
    at = queries.rows.copy()
    outside = np.flatnonzero(at < 0)
    if len(outside):
        from covertreex._core.euclid import nearest

        tree, block = payload.boxes, plans.permuted(queries, outside)
        ptr, rows, _ = nearest(
            tree, plans.query_coords(payload, block), block.limit, block.exclude, block.rank, tree.least(block.rank),
            1, cancel,
        )  # fmt: skip
        at[outside] = rows[ptr[:-1]]
    return halos.number[at], at
