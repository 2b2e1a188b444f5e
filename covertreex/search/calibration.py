"""How far a search with a recall target goes: rules are tried on a sample of the queries, which is solved exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex.base import parallel, tuning
from covertreex.search import scan_plans
from covertreex.search.groups import permuted
from covertreex.search.near import Near
from covertreex.search.screens.pairs import PairSample
from covertreex.search.shortlists import Shortlists

#: More than there are rings.
NO_RING = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Rule:
    """When a group, or a query alone, stops widening.

    Attributes
    ----------
    least : float or None
        After `patience` rings in a row that each took at most this share of its places; None to look at all rows.
    patience : int
    tried : tuple of tuple
        As `Plan.tried`.
    alone : bool
        Whether each query looks at rows of its own.
    """

    least: float | None
    patience: int = 1
    tried: tuple[tuple[float, int, float, float], ...] = ()
    alone: bool = False

    @property
    def rows(self) -> float:
        """float: the rows that a group, or a query alone, looked at in the sample; 0 without one."""
        return self.tried[-1][-1] if self.tried else 0.0


@dataclass(frozen=True, eq=False)
class Log:
    """What happened when a group, or a query alone, looked at ring after ring.

    Attributes
    ----------
    gained, looked : list
        As `Near.search_rings` and `Near.log_rings_alone` return them.
    rows : ndarray
        As these return them.
    thresholds : ndarray
        What the k-th best ``|rho|`` of each query is sure to reach; of one alone, one number.
    """

    gained: Sequence[float]
    looked: Sequence[int]
    rows: NDArray[np.signedinteger[Any]]
    thresholds: NDArray[np.float64]

    def rings(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """In which ring each of some payload rows was looked at; `NO_RING` if in none."""
        order = np.argsort(self.rows)
        place = order[np.minimum(np.searchsorted(self.rows, rows, sorter=order), len(order) - 1)]
        ring = np.searchsorted(self.looked, place, side="right")
        return np.where(self.rows[place] == rows, ring, NO_RING)

    def stop(self, least: float, patience: int) -> int:
        """The ring after which it stops; ring 0 does not count."""
        poor = 0
        for ring, share in enumerate(self.gained):
            poor = poor + 1 if ring > 0 and share <= least else 0
            if poor == patience:
                return ring
        return len(self.gained) - 1


class Sample:
    """Queries that are solved exactly, once, whatever is tried on them.

    Attributes
    ----------
    groups : list of int
    members : list of ndarray, int64
        For each group, places of queries.
    """

    def __init__(self, groups: list[int], members: list[NDArray[np.int64]]) -> None:
        self.groups, self.members = groups, members
        self._solved: list[NDArray[np.int64]] | None = None

    @classmethod
    def draw(cls, near: Near) -> "Sample | None":
        """One of all queries that are asked; None if too few would be left."""
        groups, context = near.groups, near.context
        wanted = tuning.CERTAINTY / (1.0 - context.settings.recall_target)
        count = max(tuning.SAMPLE_GROUPS, int(wanted / context.k / tuning.SAMPLE_QUERIES) + 1)
        if count * tuning.SAMPLE_QUERIES > tuning.SAMPLE_SHARE * len(near.queries):
            return None
        # At random, one from each of so many equal parts: equal steps would fall in with the splits of the order.
        edges = np.linspace(0, len(groups), min(count, len(groups)) + 1)
        places = edges[:-1] + np.random.default_rng(0).random(len(edges) - 1) * np.diff(edges)
        chosen, ptr = places.astype(np.int64).tolist(), groups.ptr
        members = [
            np.random.default_rng(group).permutation(np.arange(ptr[group], ptr[group + 1]))[: tuning.SAMPLE_QUERIES]
            for group in chosen
        ]
        return cls(chosen, members)

    @property
    def owner(self) -> NDArray[np.int64]:
        """ndarray, shape (q,), int64: the group of each query, counted among those of the sample."""
        return np.repeat(np.arange(len(self.groups)), [len(own) for own in self.members])

    @property
    def probes(self) -> "Sample":
        """Sample: some groups of it."""
        some = np.linspace(0, len(self.groups) - 1, tuning.PROBES).astype(np.int64).tolist()
        return Sample([self.groups[i] for i in some], [self.members[i] for i in some])

    def solve(self, near: Near, start: Sequence[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
        """The payload rows of their neighbours, shape (members, k) for each group, -1 behind the last.

        They are the same whatever is looked through and begun with, so they are found the first time alone.

        Parameters
        ----------
        near : Near
        start : sequence of ndarray
            For each group, what the k-th best ``|rho|`` of each member is sure to reach.
        """
        if self._solved is None:
            self._solved = self._solve(near, start)
        return self._solved

    def _solve(self, near: Near, start: Sequence[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
        context, payload, places = near.context, near.context.payload, np.concatenate(self.members)
        # Those of like limits together: rows that none of them may have are passed over.
        order = np.argsort(near.queries.limit[places], kind="stable")
        block, thresholds = permuted(near.queries, places[order]), np.concatenate(start)[order]

        lists = Shortlists(context, near.view, block, tuning.SOLVED_TOGETHER)

        def solve(begin: int, end: int) -> NDArray[np.int64]:
            part = block.slice(begin, end)
            short, _ = lists.of(scan_plans.whole_range(payload, part), begin, thresholds[begin:end])
            return context.scan(short).indices

        spans = parallel.spans(len(block), tuning.SOLVED_TOGETHER)
        indices = np.concatenate(context.run([partial(solve, *span) for span in spans]))
        rows = np.empty_like(indices)
        rows[order] = np.where(indices >= 0, payload.row[indices], -1)
        return np.split(rows, np.cumsum([len(part) for part in self.members])[:-1])


def meets(
    target: float,
    tries: Sequence[NDArray[np.number[Any]]],
    wanted: NDArray[np.number[Any]],
    caution: float = tuning.CAUTION,
) -> bool:
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
    return bool((counts[-1] + 1.0) / total + error <= allowed)


# ---------------------------------------------------------------------------------------------------------------------
# Each query alone


def rule_alone(near: Near, sample: Sample | None) -> Rule | None:
    """When each query alone may stop widening; None where it would look at too many rows.

    That is not tried where some groups look at too many rows until two rings in a row bring nothing.
    """
    if sample is None:
        return None
    context = near.context
    target, most = context.settings.recall_target, most_alone(near)
    probes = [log for logs in _logs_alone(near, sample.probes) for log in logs]
    if _looked(probes, _stops(probes, 0, tuning.ALONE_PROBED)) > most:
        return None
    groups = _logs_alone(near, sample)
    solved = sample.solve(near, [np.concatenate([log.thresholds for log in logs]) for logs in groups])
    logs = [log for logs in groups for log in logs]
    truth = [row[row >= 0] for rows in solved for row in rows]
    rings = np.concatenate([log.rings(rows) for log, rows in zip(logs, truth, strict=True)])
    counts = [len(rows) for rows in truth]
    asked, group = np.repeat(np.arange(len(logs)), counts), np.repeat(sample.owner, counts)
    wanted = np.bincount(sample.owner, counts)
    tried: list[tuple[float, int, float, float]] = []
    tries: list[NDArray[np.number[Any]]] = []
    for least, patience in tuning.ALONE_RULES:
        stops = _stops(logs, places_of_share(least, context.k), patience)
        missed = np.bincount(group, rings > np.array(stops)[asked], len(wanted))
        looked, recall = _looked(logs, stops), float(1.0 - missed.sum() / max(1, wanted.sum()))
        tried.append((least, patience, recall, looked))
        if looked > most:
            return None
        # How misses cluster where far too many are missed tells little of how they do near the target.
        if recall >= 1.0 - tuning.TELLING * (1.0 - target):
            tries.append(missed)
            if meets(target, tries, wanted, tuning.ALONE_CAUTION):
                return Rule(least, patience, tuple(tried), alone=True)
    return None


def most_alone(near: Near) -> float:
    """Rows that a query may look at alone, at most: more are better shared, or swept in order."""
    return min(tuning.ALONE_MOST * near.context.k, most_near(near) / tuning.ALONE_COST)


def places_of_share(share: float, k: int) -> int:
    """How many of a query's k places are a share of them."""
    return int(share * k + 1e-9)


def _logs_alone(near: Near, sample: Sample) -> list[list[Log]]:
    """A list of `Log` for each group of a sample: of its members, each alone."""
    most = max(patience for _, patience in tuning.ALONE_RULES)

    def log(group: int, places: NDArray[np.int64]) -> list[Log]:
        found = near.log_rings_alone(group, places, most)
        near.screener.take()
        return [Log(gained, looked, rows, np.array([threshold])) for gained, looked, rows, threshold in found]

    return near.context.run([partial(log, *one) for one in zip(sample.groups, sample.members, strict=True)])


# ---------------------------------------------------------------------------------------------------------------------
# Groups


def asks_every_row(near: Near) -> bool:
    """Whether each row of the payload is asked for once, so that there is a graph of what all of them have."""
    rows, n = near.queries.rows, len(near.context.payload)
    return len(rows) == n and bool(rows.min() >= 0 and np.bincount(rows, minlength=n).max() == 1)


def rows_of_first_pass(near: Near, sample: Sample | None) -> tuple[float, bool]:
    """How many rows a group would look at in the first of two passes, infinite where there may be one only; and whether
    one that a single ring of few rows ends would look at many more.
    """
    if not asks_every_row(near) or sample is None or near.context.settings.recall_target < tuning.HIGH_TARGET:
        return np.inf, False
    logs = logs_of_groups(near, sample.probes, tuning.ONE_PASS, 1)
    looked = _looked(logs, _stops(logs, tuning.FIRST_PASS, 1))
    if looked >= tuning.WORTH_FIRST * np.mean(near.queries.limit):
        return np.inf, False
    one_pass = float(np.mean([len(log.rows) for log in logs]))
    return looked, one_pass >= tuning.WORTH_TWO_PASSES * looked


def most_near(near: Near) -> float:
    """Rows that a group may look at, at most: more are better swept in order."""
    return tuning.WORTH_NEAR * float(np.mean(near.queries.limit))


def hopeless(near: Near, logs: Sequence[Log]) -> bool:
    """Whether even the loosest rule looks at too many rows."""
    return _looked(logs, _stops(logs, tuning.RULES[1][0], 1)) >= most_near(near)


def rule_of_groups(near: Near, sample: Sample, logs: list[Log], patient: bool = True) -> Rule:
    """The loosest rule for groups that meets the target on a sample.

    Parameters
    ----------
    near : Near
    sample : Sample
    logs : list of Log
        What its groups do until one ring in a row brings nothing.
    patient : bool
        Whether rules may ask for more than one ring in a row.
    """
    ptr = near.groups.ptr
    starts = [
        log.thresholds[own - ptr[group]] for group, own, log in zip(sample.groups, sample.members, logs, strict=True)
    ]
    truth = [rows[rows >= 0] for rows in sample.solve(near, starts)]
    wanted = np.array([len(rows) for rows in truth])
    tried: list[tuple[float, int, float, float]] = []
    tries: list[NDArray[np.number[Any]]] = []
    for patience, shares in tuning.RULES.items():
        if patience > 1 and not patient:
            break
        logs = logs_of_groups(near, sample, 0.0, patience) if patience > 1 else logs
        rings = [log.rings(rows) for log, rows in zip(logs, truth, strict=True)]
        for least in shares:
            stops = _stops(logs, least, patience)
            tries.append(np.array([np.sum(ring > stop) for ring, stop in zip(rings, stops, strict=True)]))
            looked = _looked(logs, stops)
            tried.append((least, patience, float(1.0 - tries[-1].sum() / max(1, wanted.sum())), looked))
            if meets(near.context.settings.recall_target, tries, wanted):
                return Rule(least if looked < most_near(near) else None, patience, tuple(tried))
    return Rule(None, 1, tuple(tried))


def logs_of_groups(near: Near, sample: Sample, least: float, patience: int) -> list[Log]:
    """A `Log` of each group of a sample that stops after `patience` rings that took at most the share `least`."""

    def log(group: int) -> Log:
        size = near.groups.ptr[group + 1] - near.groups.ptr[group]
        thresholds = np.empty(size)
        logged = near.search_rings(group, least, patience, thresholds, np.empty(size, dtype=np.int64))
        near.screener.take()
        return Log(*logged, thresholds)

    return near.context.run([partial(log, group) for group in sample.groups])


def pairs_of_groups(near: Near, sample: Sample, logs: Sequence[Log]) -> tuple[list[PairSample], float]:
    """A sample of the pairs behind the first ring, and how many there are at most, if no rule needs patience."""
    samples, pairs, most = [], 0, tuning.PAIR_GROUP_ROWS
    for group, log in zip(sample.groups, logs, strict=True):
        part = slice(near.groups.ptr[group], near.groups.ptr[group + 1])
        queries = near.queries.rows[part]
        pairs += (log.looked[-1] - log.looked[0]) * len(queries)
        rows = np.sort(log.rows[log.looked[0] :])
        if (queries < 0).any() or len(rows) == 0:
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)]
        allowed = near.queries.rank[rows] < near.queries.limit[part][:, None]
        samples.append(PairSample(queries, rows, log.thresholds, allowed))
    return samples, pairs / len(sample.groups) * len(near.groups)


def _stops(logs: Sequence[Log], least: float, patience: int) -> list[int]:
    """The ring after which each of some groups stops."""
    return [log.stop(least, patience) for log in logs]


def _looked(logs: Sequence[Log], stops: Sequence[int]) -> float:
    """How many rows groups have looked at in the mean, each until its ring of `stops`."""
    return float(np.mean([log.looked[stop] for log, stop in zip(logs, stops, strict=True)]))
