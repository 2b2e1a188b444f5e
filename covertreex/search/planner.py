"""How a scan goes about its queries: how they are grouped, which rows are looked at, and by which screen.

The answer to an exact scan does not depend on any choice made here; that of a scan with a recall target depends on
where it stops widening alone, which is a function of the data, the queries and the settings.
"""

import threading
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from covertreex.base import parallel
from covertreex.protocols import SearchOutput
from covertreex.search import plans
from covertreex.search.screens import whitened as whitening
from covertreex.search.screens.plain import WORTH_TURNING, make_mixed, make_screen

#: Each ring of rows reaches so much farther that it would hold this many times more, were they spread evenly.
GROWTH = 1.3

#: Queries of a sampled group that are solved exactly, and the fewest groups of a sample.
SAMPLE_QUERIES, SAMPLE_GROUPS = 8, 60

#: Queries of a sample that are solved together.
SOLVED_TOGETHER = 80

#: The sample has this many times more neighbours than the target lets one be missed in.
CERTAINTY = 24.0

#: A recall target is met exactly, by looking at all rows, if the sample would be more than this share of the queries.
SAMPLE_SHARE = 0.125

#: Queries for which a float32 copy of the factors pays, one of the smaller components, and one of the coordinates in
#: blocks.
WORTH_COPYING, WORTH_MIXING, WORTH_BLOCKS = 64, 512, 256

#: Screens drop little unless there are this many times more rows than neighbours wanted.
WORTH_SCREENING = 8

#: See `meets`.
CAUTION = 1.2

#: Rules that miss more than so many times what the target allows do not tell how misses near it cluster.
TELLING = 10.0

#: Where the near rows of one pass are more than this share of all, all are better swept in order.
WORTH_NEAR = 0.3

#: A screen that leaves more than this share of the rows is not worth its time.
WORTH_A_SCREEN = 0.25

#: Pairs of a sample that tells what a whitened screen would leave: queries and rows, and rows of a group.
LOOK_QUERIES, LOOK_ROWS, LOOK_GROUP_ROWS = 96, 2048, 64

#: In the first of two passes a group stops widening after a ring that takes at most this share of its places. For high
#: targets there are two, where until a share as of one pass so many times more rows would be looked at, and the first
#: looks at less than this share of all.
FIRST_PASS, ONE_PASS, WORTH_TWO_PASSES, WORTH_FIRST, HIGH_TARGET = 0.006, 0.001, 1.35, 0.5, 0.98

#: Groups that tell.
PROBES = 16

#: More than there are rings.
NO_RING = np.iinfo(np.int32).max

#: Rules tried, in this order: a group stops widening after so many rings in a row (the keys) that each take at most
#: such a share of its places.
RULES = {1: (*np.geomspace(0.1, 0.001, 21).tolist(), 0.0), 3: (0.004, 0.002, 0.001, 0.0), 6: (0.001, 0.0), 12: (0.0,)}


#: Each query may look at rows of its own, alone, in float32: rules tried, as shares of its places and rings in a row.
ALONE_RULES = ((0.3, 1), (0.2, 1), (0.1, 1), *((0.0, patience) for patience in (1, 2, 3, 4, 6)))

#: How many rows it may take, as a multiple of the neighbours wanted, and what a pair costs, as one of a pair that is
#: shared. That is not tried where a few groups take more until so many rings in a row bring nothing.
ALONE_MOST, ALONE_COST, ALONE_PROBED = 12.0, 4.0, 2

#: As `CAUTION`, there: fewer rules tell how misses cluster.
ALONE_CAUTION = 1.5


@dataclass(frozen=True)
class Plan:
    """What was decided, for people.

    Attributes
    ----------
    verb : {'search', 'scan'}
    reason : str
        Why this verb.
    screen : str
        'float32', 'float64', 'none', 'float64, 368 components float32', or 'whitened float32, 320 components'.
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
    promise : float or None
        With a second pass: neighbours of neighbours are looked at where the product of both ``|rho|`` is at least this,
        the query's own k-th being 1. None: there is one pass.
    promises : tuple of tuple of (float, float, float)
        For each promise tried on a sample: the sample's recall, and the rows that eight queries looked at.
    """

    verb: str
    reason: str
    screen: str = "none"
    least: float | None = None
    patience: int = 1
    alone: bool = False
    tried: tuple = field(default=(), repr=False)
    costs: tuple = field(default=(), repr=False)
    promise: float | None = None
    promises: tuple = field(default=(), repr=False)

    def __str__(self):
        lines = [f"{self.verb}: {self.reason}"]
        if self.verb == "scan":
            lines.append(f"screen: {self.screen}")
            if self.least is None:
                lines.append("rows looked at: all")
            else:
                whose = "each query's nearest" if self.alone else "the nearest to a group"
                lines.append(
                    f"rows looked at: {whose} in coordinates, in widening rings, until {_few(self.patience)} "
                    f"at most {self.least:.2%} of its places"
                )
            lines += [
                f"  sample: when {_few(patience)} {least:.2%}, recall is {recall:.5f} with {rows:,.0f} rows looked at"
                for least, patience, recall, rows in self.tried
            ]
            if self.promise is not None:
                lines.append(
                    "then: neighbours of neighbours, where the product of both |rho| is at least "
                    f"{self.promise:g} times a query's k-th"
                )
            lines += [
                f"  sample: at {promise:g} times, recall is {recall:.5f} with {rows:,.0f} rows more"
                for promise, recall, rows in self.promises
            ]
            lines += [
                f"  expected: {way}: {cost:.1f} ns for each of {pairs:,.0f} pairs, {cost * pairs / 1e3:,.0f} us a query"
                for way, cost, pairs in self.costs
            ]
        return "\n".join(lines)


def _few(rings):
    return "a ring takes" if rings == 1 else f"{rings} rings in a row take"


def choose_screen(payload, settings, total, n_threads=1):
    """The `Screen` that a scan for `total` queries should use, or None."""
    if settings.gate and total >= WORTH_COPYING:
        exact = settings.recall_target == 1.0
        turned = exact and total >= WORTH_TURNING * payload.factors.shape[1]
        screen = screen32(payload, n_threads, turned, either=exact and not turned)
        if screen is not None:
            return screen
    return payload.screen64 if settings.gemm else None


def screen32(payload, n_threads=1, turned=False, either=False):
    """The float32 `Screen` of a payload, None where that is too coarse; each kind is made once (`make_screen`).

    Parameters
    ----------
    payload : PayloadStore
    n_threads : int
    turned : bool
        Whether its factors may be turned, which a recall target must not have.
    either : bool
        Whether the other kind would do, if it is there.
    """
    names = ("float32", "float32, turned")
    if either:
        for name in names:
            if payload.kept.held(name) is not None:
                return payload.kept.held(name)

    def make():
        plain = payload.kept.held(names[0])
        made = make_screen(payload, np.float32, n_threads, turned)
        # One copy where both are the same.
        return plain if plain is not None and made is not None and made.basis is None else made

    screen = payload.kept.get(names[turned], make)
    if turned and (screen is None or screen.basis is None):
        payload.kept.get(names[0], lambda: screen)
    return screen


def mixed_screen(payload, settings, total, n_threads=1):
    """What `make_mixed` makes of the payload where that pays for `total` queries, else `PayloadStore.screen64`.

    Not for one pass with a recall target: where that stops must not depend on whether it whitens, which may depend on
    what was asked before.
    """
    if settings.gate and total >= WORTH_MIXING:
        mixed = payload.kept.get("mixed", lambda: make_mixed(payload, n_threads))
        if mixed is not None:
            return mixed
    return payload.screen64


class ScanPlanner:
    """Plans one scan and answers its groups.

    Parameters
    ----------
    payload : PayloadStore
    queries : QueryBlock
    k : int
    settings : TraversalSettings
    backend : Traversal
    n_threads : int
    cancel : ndarray, shape (1,), int32
    two_passes : bool
        Whether there may be a second pass.

    Attributes
    ----------
    seen : list of ndarray, int32, or None
        With a second pass to come, the rows that each group has looked at so far.
    alone : bool
        See `Plan`.
    sample : Sample or None
        The sample that a recall target is calibrated on, once it is solved.
    """

    def __init__(self, payload, queries, k, settings, backend, n_threads, cancel, two_passes=True):
        self.payload, self.k, self.settings, self.backend = payload, k, settings, backend
        self.n_threads, self.cancel, self.asked = n_threads, cancel, queries
        self.seen, self.alone, self.sample = None, False, None
        worth = k * WORTH_SCREENING < len(payload)
        self.screen = choose_screen(payload, settings, len(queries), n_threads) if worth else None
        self.external = None if self.screen is None else self.screen.of_queries(queries)
        self.least, self.patience, tried, rows = None, 1, (), 0.0
        near = None
        if self.screen is not None and len(queries) >= WORTH_BLOCKS:
            near = _Near(self, queries)
        self.may_whiten = near is not None and settings.gate and self.screen.dtype is np.float64
        if near is not None and settings.recall_target < 1.0:
            alone = near.calibrate_alone() if self.screen.dtype is np.float32 else None
            rows = near.rows_of_first_pass() if two_passes and alone is None else np.inf
            if alone is not None:
                self.alone, (self.least, self.patience, tried) = True, alone
                rows = tried[-1][-1]
            elif rows < WORTH_FIRST * np.mean(queries.limit):
                self.least, self.seen = FIRST_PASS, [None] * len(near.groups)
                if self.screen is payload.screen64:
                    self.look_through(mixed_screen(payload, settings, len(queries), n_threads), near.queries)
                    near.refocus()
            else:
                self.least, self.patience, tried = near.calibrate()
                rows = tried[-1][-1] if tried else 0.0
        if self.least is not None:
            self.near = near
            self.groups, self.shortlists = near.groups, near.shortlists
            self.queries = near.queries
        else:
            self.settings = settings.replace(recall_target=1.0)
            if near is not None and settings.recall_target < 1.0:
                screen = choose_screen(payload, self.settings, len(queries), n_threads)
                self.look_through(screen or self.screen, near.queries)
                near.refocus()
            self.groups = plans.group_queries(
                payload, queries, plans.SWEEP_MOST, plans.SWEEP_SHARE, n_threads=n_threads
            )
            self.queries = plans.permuted(queries, self.groups.order)
            self.start = None
            if near is not None:
                start, left = near.thresholds()
                self.start = start[self.groups.order]
                if left > WORTH_A_SCREEN * len(payload):  # so many are equally near
                    self.screen = None
                elif self.may_whiten:
                    self.whiten(self.queries, self._looks(), float(np.sum(self.queries.limit)))
            self.shortlists = self._sweep
            self._scratch = threading.local()
        self.plan = Plan(
            verb="scan",
            reason="residual correlation: most pairs are nearly uncorrelated, and blocks of rows are shared by queries",
            screen=self.screen.name if self.screen is not None else "none",
            least=self.least,
            patience=self.patience,
            alone=self.alone,
            tried=tried,
            costs=self._costs(rows),
        )

    def _costs(self, rows):
        """`Plan.costs`, where `rows` near each group are looked at, or would have been."""
        if self.screen is None or len(self.queries) == 0:
            return ()
        every, sharp = float(np.mean(self.queries.limit)), self.payload.screen64
        plain = sharp if self.screen.tried else self.screen
        where, pairs = ("all rows", every) if self.least is None else ("near rows", rows)
        if self.alone:
            ways = [(f"{where} alone, {self.screen.name}", ALONE_COST * self.screen.pair_cost, pairs)]
            return (*ways, (f"all rows, {plain.name}", plain.pair_cost, every))
        ways = [(f"{where}, {self.screen.name}", self.screen.pair_cost, pairs)]
        ways += [(f"{where}, whitened float32, {r} components", cost, pairs) for r, cost in self.screen.tried]
        ways.append((f"{where}, float64", sharp.pair_cost, pairs))
        if self.least is not None:
            ways.append((f"all rows, {plain.name}", plain.pair_cost, every))
        elif rows:
            ways.append((f"near rows, {plain.name}", plain.pair_cost, rows))
        return tuple(dict.fromkeys(ways))

    def in_one_pass(self):
        """A planner of the same scan with one pass."""
        return ScanPlanner(
            self.payload, self.asked, self.k, self.settings, self.backend, self.n_threads, self.cancel, two_passes=False
        )

    def whiten(self, queries, looks, pairs):
        """Change to a `WhitenedScreen`, if that is expected to be faster: see `whitening.make_whitened`."""
        made = whitening.whitened(self.payload, looks, pairs, self.n_threads)
        if made is None and self.settings.recall_target == 1.0:
            made = mixed_screen(self.payload, self.settings, len(queries), self.n_threads)
        if made is not None:
            self.look_through(made, queries)

    def look_through(self, screen, queries):
        """Change to another screen."""
        self.screen, self.external = screen, screen.of_queries(queries)

    def _looks(self):
        """A sample of the pairs of a sweep."""
        queries = self.queries
        inside = np.flatnonzero((queries.rows >= 0) & np.isfinite(self.start))
        if len(inside) < LOOK_QUERIES:
            return []
        sample = inside[np.linspace(0, len(inside) - 1, LOOK_QUERIES).astype(np.int64)]
        rows = np.linspace(0, len(self.payload) - 1, LOOK_ROWS).astype(np.int64)
        allowed = queries.rank[rows] < queries.limit[sample][:, None]
        return [whitening.Look(queries.rows[sample], rows, self.start[sample], allowed)]

    def answer(self, first, last, out):
        """Answer groups `first` to `last` (exclusive) into `out`, their part of the output in group order.

        Returns
        -------
        dict of str to int
            What the screen counted.
        """
        ptr = self.groups.ptr
        block = self.queries.slice(ptr[first], ptr[last])
        if self.screen is None:
            plan, counters = plans.whole_range(self.payload, block, ptr[first : last + 1] - ptr[first]), {}
        else:
            counts, rows, counters = self.shortlists(first, last)
            plan = plans.plan_of_lists(block, counts, rows)
        self.backend.scan(self.payload, plan, self.k, self.settings, out)
        return counters

    def _sweep(self, first, last):
        """Short lists of some groups: how many rows each query has, the rows, and what was counted."""
        ptr = self.groups.ptr
        screener = self._scratch.__dict__.get("screener")
        if screener is None:
            screener = self._scratch.screener = self.new_screener(self.queries, self.groups.most)
        block = self.queries.slice(ptr[first], ptr[last])
        plan = plans.whole_range(self.payload, block, ptr[first : last + 1] - ptr[first])
        start = None if self.start is None else self.start[ptr[first] : ptr[last]]
        _, counts = screener.sweep(plan, ptr[first], start)
        rows = screener.take()
        return counts, rows, self.screen.counters(screener, len(rows))

    def new_screener(self, queries, most):
        """A thread's own screener for groups of at most `most` of `queries`."""
        from covertreex._core.canonical import PayloadView
        from covertreex._core.screen import Screener

        lens = self.screen.lens(queries, most, self.external)
        sharp = None if self.screen is self.payload.screen64 else self.payload.screen64.lens(queries, most)
        # A whitened screen is too blunt where there is no threshold yet.
        near = sharp if isinstance(self.screen, whitening.WhitenedScreen) else lens
        return Screener(near, lens, sharp, queries, PayloadView(self.payload), self.k, most, self.cancel)


@dataclass(frozen=True, eq=False)
class _Log:
    """What happened when a group, or a query alone, looked at ring after ring.

    Attributes
    ----------
    gained, looked : list
        As `covertreex._core.nearest.Finder.narrow` returns them, or `log`.
    rows : ndarray
        As these return them.
    thresholds : ndarray, or float
        What the k-th best ``|rho|`` of each query is sure to reach.
    """

    gained: list
    looked: list
    rows: np.ndarray
    thresholds: np.ndarray

    def rings(self, rows):
        """In which ring each of some payload rows was looked at; `NO_RING` if in none."""
        order = np.argsort(self.rows)
        place = order[np.minimum(np.searchsorted(self.rows, rows, sorter=order), len(order) - 1)]
        ring = np.searchsorted(self.looked, place, side="right")
        return np.where(self.rows[place] == rows, ring, NO_RING)


@dataclass(frozen=True, eq=False)
class Sample:
    """Queries that were solved exactly.

    Attributes
    ----------
    groups : list of int
    members : list of ndarray, int64
        For each group, places of queries.
    rows : list of ndarray, shape (members, k), int64
        And the payload rows of their neighbours, -1 behind the last.
    """

    groups: list
    members: list
    rows: list


class _Near:
    """Groups of queries that are near each other, and the rows around them in coordinates."""

    def __init__(self, planner, queries):
        from covertreex._core.nearest import Blocks, centred

        self.planner, payload = planner, planner.payload
        self.groups = plans.group_queries(
            payload, queries, plans.NEAR_MOST, inner=plans.INNER, n_threads=planner.n_threads
        )
        self.queries = plans.permuted(queries, self.groups.order)
        self.unit = min(planner.k, len(payload))
        self.growth = GROWTH ** (2.0 / payload.coords.shape[1])
        rank, middle = queries.rank, planner.screen.centre
        every = centred(payload.coords, middle)

        def block(level):
            return Blocks(every, np.flatnonzero(rank < self.groups.prefix[level]), rank)

        levels = np.unique(self.groups.level).tolist()
        blocks = parallel.run([partial(block, level) for level in levels], planner.n_threads, planner.cancel)
        self.blocks = dict(zip(levels, blocks, strict=True))
        self.coords = centred(plans.query_coords(payload, self.queries), middle)
        self.refocus()

    def refocus(self):
        """Look through the planner's screen, which has changed."""
        self._scratch = threading.local()

    def _finder(self, group):
        """This thread's `covertreex._core.nearest.Finder`, and what its methods are told of a group."""
        from covertreex._core.nearest import Finder

        scratch = self._scratch.__dict__
        if "screener" not in scratch:
            scratch["screener"] = self.planner.new_screener(self.queries, self.groups.most)
        level = int(self.groups.level[group])
        finder = scratch.get(level)
        if finder is None:
            finder = scratch[level] = Finder(self.blocks[level], self.groups.most)
        part = slice(self.groups.ptr[group], self.groups.ptr[group + 1])
        told = scratch["screener"], part.start, self.coords[part], self.queries.limit[part], self.unit, self.growth
        return finder, told

    def narrow(self, group, least, patience, rings, thresholds, counts):
        """Look at the rows around a group; see `covertreex._core.nearest.Finder.narrow`."""
        finder, told = self._finder(group)
        return finder.narrow(*told, least, patience, rings, thresholds, counts)

    def shortlists(self, first, last):
        """As `ScanPlanner._sweep`, of the rows around each group."""
        ptr = self.groups.ptr
        start, total = ptr[first], ptr[last] - ptr[first]
        thresholds, counts = np.empty(total), np.zeros(total, dtype=np.int64)
        for group in range(first, last):
            part = slice(ptr[group] - start, ptr[group + 1] - start)
            if self.planner.alone:
                finder, told = self._finder(group)
                finder.alone(
                    *told, self._places(self.planner.least), self.planner.patience, thresholds[part], counts[part]
                )
                continue
            *_, rows = self.narrow(group, self.planner.least, self.planner.patience, 0, thresholds[part], counts[part])
            if self.planner.seen is not None:
                self.planner.seen[group] = rows
        screener = self._scratch.screener
        rows = screener.take()
        return counts, rows, self.planner.screen.counters(screener, len(rows))

    def thresholds(self):
        """What the first ring tells.

        Returns
        -------
        start : ndarray, shape (q,)
            For each query, in the caller's order, what the k-th best ``|rho|`` is sure to reach.
        left : float
            Rows of the ring that stand, in the mean.
        """
        ptr = self.groups.ptr
        found, counts = np.empty(len(self.queries)), np.empty(len(self.queries), dtype=np.int64)

        def look(first, last):
            for group in range(first, last):
                part = slice(ptr[group], ptr[group + 1])
                self.narrow(group, 0.0, 1, 1, found[part], counts[part])
            if last > first:
                self._scratch.screener.take()

        tasks = [lambda a=a, b=b: look(a, b) for a, b in parallel.spans(len(self.groups), 32)]
        parallel.run(tasks, self.planner.n_threads, self.planner.cancel)
        start = np.empty_like(found)
        start[self.groups.order] = found
        return start, float(np.mean(counts)) if len(counts) else 0.0

    def sample(self):
        """Groups of which some queries are to be solved exactly; None if too few queries would be left."""
        groups, planner = self.groups, self.planner
        wanted = CERTAINTY / (1.0 - planner.settings.recall_target)
        count = max(SAMPLE_GROUPS, int(wanted / planner.k / SAMPLE_QUERIES) + 1)
        if count * SAMPLE_QUERIES > SAMPLE_SHARE * len(self.queries):
            return None
        # At random, one from each of so many equal parts: equal steps would fall in with the splits of the order.
        edges = np.linspace(0, len(groups), min(count, len(groups)) + 1)
        places = edges[:-1] + np.random.default_rng(0).random(len(edges) - 1) * np.diff(edges)
        return places.astype(np.int64).tolist()

    def _places(self, share):
        """How many of a query's places are a share of them."""
        return int(share * self.planner.k + 1e-9)

    def members(self, sample):
        """Places of the queries of each group of a sample that are solved exactly."""
        ptr = self.groups.ptr
        return [
            np.random.default_rng(group).permutation(np.arange(ptr[group], ptr[group + 1]))[:SAMPLE_QUERIES]
            for group in sample
        ]

    def calibrate_alone(self):
        """When each query alone may stop widening, as `calibrate`; None where it would look at too many rows."""
        planner, sample, target = self.planner, self.sample(), self.planner.settings.recall_target
        if sample is None:
            return None
        most = min(ALONE_MOST * planner.k, WORTH_NEAR / ALONE_COST * np.mean(self.queries.limit))
        probes = [log for logs in self._logs_alone(_probes(sample)) for log in logs]
        if _looked(probes, _stops(probes, 0, ALONE_PROBED)) > most:
            return None
        members, groups = self.members(sample), self._logs_alone(sample)
        planner.sample = self.solve(sample, members, [np.array([log.thresholds for log in logs]) for logs in groups])
        logs = [log for logs in groups for log in logs]
        truth = [row[row >= 0] for rows in planner.sample.rows for row in rows]
        rings = [log.rings(rows) for log, rows in zip(logs, truth, strict=True)]
        owner = np.repeat(np.arange(len(sample)), [len(own) for own in members])
        wanted = np.bincount(owner, [len(rows) for rows in truth])
        tried, tries = [], []
        for least, patience in ALONE_RULES:
            stops = _stops(logs, self._places(least), patience)
            missed = np.bincount(owner, [np.sum(ring > stop) for ring, stop in zip(rings, stops, strict=True)])
            rows, recall = _looked(logs, stops), float(1.0 - missed.sum() / max(1, wanted.sum()))
            tried.append((least, patience, recall, rows))
            if rows > most:
                return None
            # How misses cluster where far too many are missed tells little of how they do near the target.
            if recall >= 1.0 - TELLING * (1.0 - target):
                tries.append(missed)
                if meets(target, tries, wanted, ALONE_CAUTION):
                    return least, patience, tuple(tried)
        return None

    def _logs_alone(self, sample):
        """A list of `_Log` for each group of a sample: of its `members`, each alone."""
        most = max(patience for _, patience in ALONE_RULES)

        def log(group, places):
            finder, told = self._finder(group)
            found = finder.log(*told, most, places - self.groups.ptr[group])
            self._scratch.screener.take()
            return [_Log(*one) for one in found]

        tasks = [partial(log, *one) for one in zip(sample, self.members(sample), strict=True)]
        return parallel.run(tasks, self.planner.n_threads, self.planner.cancel)

    def rows_of_first_pass(self):
        """How many rows a group would look at in the first of two passes; infinite where there should be one."""
        rows, n = self.queries.rows, len(self.planner.payload)
        every_row = len(rows) == n and rows.min() >= 0 and np.bincount(rows, minlength=n).max() == 1
        sample = self.sample()
        if not every_row or sample is None or self.planner.settings.recall_target < HIGH_TARGET:
            return np.inf
        logs = self._logs(_probes(sample), ONE_PASS, 1)
        rows = _looked(logs, _stops(logs, FIRST_PASS, 1))
        return rows if np.mean([len(log.rows) for log in logs]) >= WORTH_TWO_PASSES * rows else np.inf

    def calibrate(self):
        """Where to stop widening so that a sample of queries, solved exactly, has its neighbours; and what was tried.

        Returns
        -------
        least, patience : float or None, int
            The rule; None to look at all rows: no rule meets the target, or a sample would not pay.
        tried : tuple of tuple
            As `Plan.tried`.
        """
        planner, sample = self.planner, self.sample()
        target = planner.settings.recall_target
        if sample is None:
            return None, 1, ()
        logs = self._logs(sample, 0.0, 1)
        most = WORTH_NEAR * np.mean(self.queries.limit)
        if _looked(logs, _stops(logs, RULES[1][0], 1)) >= most:
            return None, 1, ()
        if planner.may_whiten:
            planner.whiten(self.queries, *self._looks(sample, logs))
            self.refocus()
        if planner.sample is None:
            members = self.members(sample)
            start = [
                log.thresholds[own - self.groups.ptr[group]]
                for group, own, log in zip(sample, members, logs, strict=True)
            ]
            planner.sample = self.solve(sample, members, start)
        truth = [rows[rows >= 0] for rows in planner.sample.rows]
        wanted = np.array([len(rows) for rows in truth])
        tried, tries = [], []
        for patience, shares in RULES.items():
            logs = self._logs(sample, 0.0, patience) if patience > 1 else logs
            rings = [log.rings(rows) for log, rows in zip(logs, truth, strict=True)]
            for least in shares:
                stops = _stops(logs, least, patience)
                tries.append(np.array([np.sum(ring > stop) for ring, stop in zip(rings, stops, strict=True)]))
                rows = _looked(logs, stops)
                tried.append((least, patience, float(1.0 - tries[-1].sum() / max(1, wanted.sum())), rows))
                if meets(target, tries, wanted):
                    return (least if rows < most else None), patience, tuple(tried)
        return None, 1, tuple(tried)

    def _logs(self, sample, least, patience):
        """A `_Log` of each group of a sample."""
        tasks = [partial(self._log, group, least, patience) for group in sample]
        return parallel.run(tasks, self.planner.n_threads, self.planner.cancel)

    def _log(self, group, least, patience):
        """What happens when a group looks at ring after ring."""
        size = self.groups.ptr[group + 1] - self.groups.ptr[group]
        thresholds = np.empty(size)
        logged = self.narrow(group, least, patience, 0, thresholds, np.empty(size, dtype=np.int64))
        self._scratch.screener.take()
        return _Log(*logged, thresholds)

    def _looks(self, sample, logs):
        """A sample of the pairs behind the first ring, and how many there are at most, if no rule needs patience."""
        looks, pairs = [], 0
        for group, log in zip(sample, logs, strict=True):
            part = slice(self.groups.ptr[group], self.groups.ptr[group + 1])
            queries = self.queries.rows[part]
            pairs += (log.looked[-1] - log.looked[0]) * len(queries)
            rows = np.sort(log.rows[log.looked[0] :])
            if (queries < 0).any() or len(rows) == 0:
                continue
            rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), LOOK_GROUP_ROWS)).astype(np.int64)]
            allowed = self.queries.rank[rows] < self.queries.limit[part][:, None]
            looks.append(whitening.Look(queries, rows, log.thresholds, allowed))
        return looks, pairs / len(sample) * len(self.groups)

    def solve(self, sample, members, start):
        """The `Sample` of some queries of each group of a sample: `members` are their places, and `start` what the k-th
        best ``|rho|`` of each is sure to reach.
        """
        planner, payload, places = self.planner, self.planner.payload, np.concatenate(members)
        # Those of like limits together: rows that none of them may have are passed over.
        order = np.argsort(self.queries.limit[places], kind="stable")
        block, start = plans.permuted(self.queries, places[order]), np.concatenate(start)[order]
        out = SearchOutput.empty(len(block), planner.k)

        def solve(begin, end):
            part = block.slice(begin, end)
            screener = planner.new_screener(block, end - begin)
            _, counts = screener.sweep(plans.whole_range(payload, part), begin, start[begin:end])
            plan = plans.plan_of_lists(part, counts, screener.take())
            planner.backend.scan(payload, plan, planner.k, planner.settings, out.slice(begin, end))

        tasks = [partial(solve, *span) for span in parallel.spans(len(block), SOLVED_TOGETHER)]
        parallel.run(tasks, planner.n_threads, planner.cancel)
        rows = np.empty_like(out.indices)
        rows[order] = np.where(out.indices >= 0, payload.row[out.indices], -1)
        return Sample(sample, members, np.split(rows, np.cumsum([len(part) for part in members])[:-1]))


def meets(target, tries, wanted, caution=CAUTION):
    """Whether a recall target is met by the last of the rules tried, from what a sample says.

    Parameters
    ----------
    target : float
    tries : list of ndarray, shape (groups,)
        For each rule tried so far, how many neighbours each sampled group missed.
    wanted : ndarray, shape (groups,)
        Of how many.
    caution : float

    Notes
    -----
    Misses come in clusters, and their number varies by as many times more than that of single misses would as all rules
    tried tell together: the last rule may have missed too few for its own to be known. The rule meets the target if
    one that just misses it would have had so few misses in a sample as unlucky as `caution` standard errors; or if the
    sample misses none, for one that is large enough to tell more may be more than there are queries.
    """
    total, allowed = max(1, wanted.sum()), 1.0 - target
    missed = np.asarray(tries, dtype=np.float64)
    counts = missed.sum(axis=1)
    spread = np.sum((missed - counts[:, None] * wanted / total) ** 2)
    clusters = max(1.0, spread / max(1.0, counts.sum()))
    # One more might have been missed.
    error = 0.0 if counts[-1] == 0 else caution * np.sqrt(allowed * clusters / total)
    return (counts[-1] + 1.0) / total + error <= allowed


def _probes(sample):
    """Some groups of a sample."""
    return [sample[i] for i in np.linspace(0, len(sample) - 1, PROBES).astype(np.int64)]


def _stops(logs, least, patience):
    """The ring after which each of some groups stops."""
    return [_stop(log.gained, least, patience) for log in logs]


def _looked(logs, stops):
    """How many rows groups have looked at in the mean, each until its ring of `stops`."""
    return float(np.mean([log.looked[stop] for log, stop in zip(logs, stops, strict=True)]))


def _stop(gained, least, patience):
    """The ring after which a group stops: ring 0 does not count."""
    poor = 0
    for ring, share in enumerate(gained):
        poor = poor + 1 if ring > 0 and share <= least else 0
        if poor == patience:
            return ring
    return len(gained) - 1
