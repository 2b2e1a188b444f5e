"""How a scan goes about its queries: how they are grouped, which rows are looked at, and by which screen.

The answer to an exact scan does not depend on any choice made here; that of a scan with a recall target depends on the
width alone, which is a function of the data, the queries and the settings.
"""

import threading
from dataclasses import dataclass, field

import numpy as np

from covertreex import parallel, plans
from covertreex._core.nearest import Blocks, Finder
from covertreex.protocols import SearchOutput

#: Strata of groups, each with a width of its own, chosen by solving a sample of its queries exactly.
STRATA = 4

#: Queries of a sample that share a group, and the fewest groups of a sample.
SAMPLE_QUERIES, SAMPLE_GROUPS = 4, 8

#: A stratum's sample has this many times more neighbours than the target lets one be missed in.
CERTAINTY = 4.0

#: A recall target is met exactly, by looking at all rows, if the samples would be more than this share of the queries.
SAMPLE_SHARE = 0.125

#: Queries for which the float32 copy of the factors pays.
WORTH_COPYING = 64

#: The sample must miss at most this share of what the target allows, as it may flatter the width.
CAUTION = 0.25

#: Each width tried is this much wider than the last.
WIDEN = 1.5


@dataclass(frozen=True)
class Plan:
    """What was decided, for people.

    Attributes
    ----------
    verb : {'search', 'scan'}
    reason : str
        Why this verb.
    screen : str
        'float32', 'float64' or 'none'.
    widths : tuple of (int or None)
        Rows nearest in coordinates that each query looks at, by stratum of groups, from crowded to empty places; None
        for all rows. Empty without a recall target.
    tried : tuple of tuple of (int, float)
        For each stratum, the widths tried and the recall of the sample at each.
    """

    verb: str
    reason: str
    screen: str = "none"
    widths: tuple = ()
    tried: tuple = field(default=(), repr=False)

    def __str__(self):
        lines = [f"{self.verb}: {self.reason}"]
        if self.verb == "scan":
            lines.append(f"screen: {self.screen}")
        if self.verb == "scan" and not self.widths:
            lines.append("rows looked at: all")
        for number, (width, tried) in enumerate(zip(self.widths, self.tried, strict=True), 1):
            looked = "all rows" if width is None else f"about {width} rows nearest in coordinates, shared by a group"
            steps = ", ".join(f"{width}: {recall:.4f}" for width, recall in tried)
            lines.append(f"places {number} of {len(self.widths)}, crowded to empty: {looked} (sample recall {steps})")
        return "\n".join(lines)


def choose_screen(payload, settings, total):
    """The `Screen` that a scan for `total` queries should use, or None."""
    if settings.gate and total >= WORTH_COPYING and payload.screen32 is not None:
        return payload.screen32
    return payload.screen64 if settings.gemm else None


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
    """

    def __init__(self, payload, queries, k, settings, backend, n_threads, cancel):
        self.payload, self.k, self.settings, self.backend = payload, k, settings, backend
        self.cancel = cancel
        self.screen = choose_screen(payload, settings, len(queries))
        self.external = None if self.screen is None else self.screen.of_queries(queries)
        self._blocks = {}
        self._scratch = threading.local()
        near = settings.recall_target < 1.0 and STRATA * self._sample_size() <= SAMPLE_SHARE * len(queries)
        self.groups = plans.group_queries(payload, queries, plans.NEAR_MOST if near else plans.SWEEP_MOST)
        self.queries = plans.permuted(queries, self.groups.order)
        self.coords = plans.query_coords(payload, self.queries)
        self.widths, tried, self.stratum = self._calibrate(n_threads) if near else ((), (), None)
        self.plan = Plan(
            verb="scan",
            reason="residual correlation: most pairs are nearly uncorrelated, and blocks of rows are shared by queries",
            screen=np.dtype(self.screen.dtype).name if self.screen is not None else "none",
            widths=self.widths,
            tried=tried,
        )

    def answer(self, first, last, out):
        """Answer groups `first` to `last` (exclusive) into `out`, their part of the output in group order.

        Returns
        -------
        dict of str to int
            What the screen counted.
        """
        start, stop = self.groups.ptr[first], self.groups.ptr[last]
        block = self.queries.slice(start, stop)
        group_ptr = self.groups.ptr[first : last + 1] - start
        runs = [self._runs(group) for group in range(first, last)]
        return self._scan(plans.plan_of_runs(block, group_ptr, runs), out)

    def _runs(self, group):
        width = self.widths[self.stratum[group]] if self.widths else None
        if width is None:
            return plans.every_row(self.payload)
        return plans.as_runs(self._rows_near(group, width))

    def _scan(self, plan, out):
        counters = {}
        if self.screen is not None:
            plan, counters = self.screen.shortlist(plan, self.k, self.cancel, self.external)
        self.backend.scan(self.payload, plan, self.k, self.settings, out)
        return counters

    def _rows_near(self, group, width):
        level = self.groups.level[group]
        part = slice(self.groups.ptr[group], self.groups.ptr[group + 1])
        finders = self._scratch.__dict__.setdefault("finders", {})
        if level not in finders:
            finders[level] = Finder(self._level_blocks(level))
        return finders[level].rows_near(self.coords[part], self.queries.limit[part], width)

    def _level_blocks(self, level):
        if level not in self._blocks:
            rank = self.queries.rank
            self._blocks[level] = Blocks(self.payload.coords, np.flatnonzero(rank < self.groups.prefix[level]), rank)
        return self._blocks[level]

    def _sample_size(self):
        """Queries of a stratum's sample."""
        wanted = CERTAINTY / (1.0 - self.settings.recall_target) / self.k
        return max(SAMPLE_GROUPS * SAMPLE_QUERIES, int(wanted) + 1)

    def _calibrate(self, n_threads):
        """Widths by stratum, what was tried, and the stratum of each group.

        Groups are ranked by their extent: where points are far apart (in lengthscales), the best correlated are found
        less surely among the nearest. In each stratum a sample of queries is solved exactly, and the least width that
        meets the target on it is taken; where none short of a quarter of the rows does, all rows are.
        """
        begin, end = self.groups.ptr[:-1], self.groups.ptr[1:]
        extent = [np.ptp(self.coords[a:b], axis=0).max() for a, b in zip(begin, end, strict=True)]
        ranked = np.argsort(extent, kind="stable")
        stratum = np.empty(len(ranked), dtype=np.int64)
        stratum[ranked] = np.arange(len(ranked)) * STRATA // len(ranked)
        for level in np.unique(self.groups.level):
            self._level_blocks(level)
        chosen = [self._least_width(ranked[stratum[ranked] == s], n_threads) for s in range(STRATA)]
        return tuple(width for width, _ in chosen), tuple(tried for _, tried in chosen), stratum

    def _least_width(self, groups, n_threads):
        count = -(-self._sample_size() // SAMPLE_QUERIES)
        sample = groups[np.unique(np.linspace(0, len(groups) - 1, count).astype(np.int64))]
        truth = parallel.run([lambda g=g: self._true_rows(g) for g in sample], n_threads, self.cancel)
        allowed = CAUTION * (1.0 - self.settings.recall_target)
        total = sum(map(len, truth))
        width, tried = self.k, []
        while width < len(self.payload) // 4:
            tasks = [
                lambda g=g, rows=rows, width=width: np.isin(rows, self._rows_near(g, width)).sum()
                for g, rows in zip(sample, truth, strict=True)
            ]
            found = sum(parallel.run(tasks, n_threads, self.cancel))
            recall = float(found / total) if total else 1.0
            tried.append((width, recall))
            if 1.0 - recall <= allowed:
                return width, tuple(tried)
            width = int(width * WIDEN) + 1
        return None, tuple(tried)

    def _true_rows(self, group):
        """Payload rows of the true neighbours of a sample of a group's queries, one after the other."""
        start, stop = self.groups.ptr[group], self.groups.ptr[group + 1]
        members = np.unique(np.linspace(start, stop - 1, SAMPLE_QUERIES).astype(np.int64))
        block = plans.permuted(self.queries, members)
        out = SearchOutput.empty(len(block), self.k)
        self._scan(plans.whole_range(self.payload, block), out)
        return self.payload.row[out.indices[out.indices >= 0]]
