"""A zoo of broken backends: each has one fault, and names the check of the conformance kit that should catch it.

``python tests/zoo.py`` runs the whole kit on every one and prints which check caught which.
"""

import io
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from covertreex import oracle
from covertreex.backends import registry
from covertreex.backends.telemetry import COUNTERS
from covertreex.data.payload import EUCLIDEAN
from covertreex.kernels import RBF
from covertreex.protocols import PROTOCOL_VERSION, Capabilities, SearchOutput
from covertreex.testing import CHECKS, ConformanceError, check_backend
from covertreex.testing.cases import whole_range
from covertreex.testing.reference import Best, ReferenceBackend, Sweep, Walk

# It need not be installed.
sys.path.append(str(Path(__file__).parents[1] / "backends" / "template"))
from covertreex_template import TemplateBackend, screens

#: The healthy backends that the broken ones are made of.
PARENTS = {
    "cython": lambda: registry.get_backend("cython"),
    "reference": ReferenceBackend,
    "template": TemplateBackend,
}


@dataclass(frozen=True)
class Beast:
    """A broken backend: how to make one, what is wrong with it, and the check that should notice."""

    name: str
    make: type
    fault: str
    caught_by: str


ZOO = []


def caught_by(check):
    """Put a class into the zoo; its docstring is its fault."""

    def register(kind):
        ZOO.append(Beast(kind.__name__, kind, kind.__doc__, check))
        return kind

    return register


class Wrapper:
    """The cython backend, with a place to go wrong before and after each call."""

    protocol_version = PROTOCOL_VERSION
    capabilities = Capabilities()

    def __init__(self):
        self.parent = PARENTS["cython"]()
        self.name = type(self).__name__

    def search(self, tree, payload, queries, k, settings, out):
        """See `covertreex.protocols.Traversal.search`."""
        self.call(lambda queries, k, out: self.parent.search(tree, payload, queries, k, settings, out), queries, k, out)

    def scan(self, payload, plan, k, settings, out):
        """See `covertreex.protocols.Traversal.scan`."""
        plan = self.plan(plan)
        self.call(
            lambda queries, k, out: self.parent.scan(payload, replace(plan, queries=queries), k, settings, out),
            plan.queries,
            k,
            out,
        )

    def call(self, parent, queries, k, out):
        """Answer by ``parent(queries, k, out)``."""
        parent(queries, k, out)

    def plan(self, plan):
        """What becomes of the plan of a scan."""
        return plan


class Broken(ReferenceBackend):
    """The reference backend, to be given other parts."""

    @property
    def name(self):
        """str: the beast's own."""
        return type(self).__name__


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers


@caught_by("check_every_k")
class OffByOneInK(Wrapper):
    """Finds k - 1 neighbours."""

    def call(self, parent, queries, k, out):
        fewer = SearchOutput.empty(len(queries), max(1, k - 1))
        parent(queries, max(1, k - 1), replace(fewer, counters=out.counters, cancel=out.cancel))
        out.indices[:, : max(1, k - 1)], out.distances[:, : max(1, k - 1)] = fewer.indices, fewer.distances


@caught_by("check_ties")
class UnstableTies(Broken):
    """Orders equal distances by arrival."""

    class Arrival(Best):
        def offer(self, d, ties, index):
            if len(self.offers) == self.k and d >= self.offers[-1][0]:
                return False
            self.offers = sorted([*self.offers, (d, *ties, index)], key=lambda offer: offer[0])[: self.k]
            return True

    class walk_type(Walk):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.best = UnstableTies.Arrival(self.best.k)

    class sweep_type(Sweep):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.best = UnstableTies.Arrival(self.best.k)


class _OtherDistances(Broken):
    """Distances that pass through `change`."""

    def finish(self, task, out, q):
        task.distance = self.change(task, q)
        super().finish(task, out, q)


@caught_by("check_search_answers")
class SinglePrecision(_OtherDistances):
    """Computes in float32."""

    def change(self, task, q):
        return np.float64(np.float32(task.distance)).tolist()


@caught_by("check_near_duplicates")
class ComputesSelf(Broken):
    """Computes d(i, i) instead of taking 0: wrong where p was raised to its floor."""

    def search(self, tree, payload, queries, k, settings, out):
        self.rows = queries.rows
        super().search(tree, payload, queries, k, settings, out)

    def scan(self, payload, plan, k, settings, out):
        self.rows = plan.queries.rows
        super().scan(payload, plan, k, settings, out)

    def finish(self, task, out, q):
        row, payload = self.rows[q], task.payload
        if row >= 0 and payload.metric != EUCLIDEAN:
            left = payload.variance - oracle.dot16(payload.factors[row], payload.factors[row])
            task.distance[row] = float(np.sqrt(1.0 - min(1.0, abs(left / payload.p[row]))))
        super().finish(task, out, q)


@caught_by("check_kernels")
class LibraryExp(_OtherDistances):
    """Takes the library's exp in place of the canonical one."""

    def change(self, task, q):
        payload = task.payload
        if min(task.distance) > 0.0 or payload.metric == EUCLIDEAN or payload.kernel_code != 0:
            return task.distance
        row = int(np.argmin(task.distance))
        k = payload.variance * np.exp(-0.5 * oracle.squared_distances(payload.coords[row], payload.coords))
        dot = oracle.dot16(payload.factors[row], payload.factors)
        rho = np.abs((k - dot) / np.sqrt(payload.p[row] * payload.p))
        d = np.sqrt(1.0 - np.minimum(rho, 1.0))
        d[row] = 0.0
        return d.tolist()


@caught_by("check_larger_problem")
class PrunesTooMuch(Broken):
    """Halves the radius of subtrees, and so loses neighbours."""

    class walk_type(Walk):
        def _radius(self, c):
            return 0.5 * super()._radius(c)


@caught_by("check_slack")
class ForgetsSlack(Broken):
    """Prunes by the bare triangle inequality."""

    class walk_type(Walk):
        def bound(self, d, c):
            return max(0.0, d - float(self.tree.si[c]))


@caught_by("check_slack")
class TakesThePayloadsSlack(Broken):
    """Prunes by the slack of the payload, as protocol version 1 did."""

    class walk_type(Walk):
        def __init__(self, tree, payload, *rest):
            super().__init__(tree, payload, *rest)
            self.slack_abs = payload.slack_abs


@caught_by("check_search_answers")
class ForgetsToSort(Broken):
    """Returns neighbours in no order."""

    def finish(self, task, out, q):
        super().finish(task, out, q)
        found = len(task.best.offers)
        out.indices[q, :found], out.distances[q, :found] = out.indices[q, :found][::-1], out.distances[q, :found][::-1]


@caught_by("check_predecessors")
class ZeroesShortRows(Wrapper):
    """Ends a short row in zeros, not in (-1, inf)."""

    def call(self, parent, queries, k, out):
        parent(queries, k, out)
        out.distances[out.indices < 0] = 0.0
        out.indices[out.indices < 0] = 0


@caught_by("check_degenerate_sizes")
class NeedsTwoPoints(Wrapper):
    """Takes for granted that the root has a child."""

    def search(self, tree, payload, queries, k, settings, out):
        tree.children[tree.child_ptr[tree.root] :][0]
        super().search(tree, payload, queries, k, settings, out)


@caught_by("check_no_queries")
class NeedsAQuery(Wrapper):
    """Takes for granted that a block has a query."""

    def call(self, parent, queries, k, out):
        queries.rows[0]
        parent(queries, k, out)


# ---------------------------------------------------------------------------------------------------------------------
# Restrictions ignored


@caught_by("check_predecessors")
class IgnoresLimit(Wrapper):
    """Ignores the predecessor limit."""

    def call(self, parent, queries, k, out):
        parent(replace(queries, limit=np.full_like(queries.limit, len(queries.rank))), k, out)


@caught_by("check_limits")
class FirstLimitForAll(Wrapper):
    """Applies the first query's limit to the whole block."""

    def call(self, parent, queries, k, out):
        first = queries.limit[0] if len(queries) else 0
        parent(replace(queries, limit=np.full_like(queries.limit, first)), k, out)


@caught_by("check_predecessors_custom_rank")
class WrongPrefixShortcut(Wrapper):
    """Cuts children at the limit although rank is not the order of insertion."""

    def call(self, parent, queries, k, out):
        parent(replace(queries, prefix=True), k, out)


@caught_by("check_exclude")
class IgnoresExclude(Wrapper):
    """Returns the excluded row."""

    def call(self, parent, queries, k, out):
        parent(replace(queries, exclude=np.full_like(queries.exclude, -1)), k, out)


@caught_by("check_exclude")
class ExcludesItself(Wrapper):
    """Excludes the query's own row, whatever row the block excludes."""

    def call(self, parent, queries, k, out):
        parent(replace(queries, exclude=np.where(queries.exclude >= 0, queries.rows, -1)), k, out)


@caught_by("check_external_queries")
class NegativeIndex(Wrapper):
    """Takes external query e for the e-th row from the end."""

    def call(self, parent, queries, k, out):
        parent(
            replace(queries, rows=np.where(queries.rows < 0, queries.rows + len(queries.rank), queries.rows)), k, out
        )


# ---------------------------------------------------------------------------------------------------------------------
# Plans misread


@caught_by("check_scan_stop")
class IgnoresRunLower(Wrapper):
    """Meets every run, whatever its lower bound."""

    def plan(self, plan):
        return replace(plan, run_lower=np.zeros_like(plan.run_lower))


@caught_by("check_scan_stop")
class StopsOnEquality(Broken):
    """Stops a scan at a lower bound equal to the k-th best, where the dataset index should decide."""

    class sweep_type(Sweep):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.plan = replace(self.plan, run_lower=np.nextafter(self.plan.run_lower, np.inf))


@caught_by("check_scan_kth_upper")
class IgnoresKthUpper(Wrapper):
    """Returns rows beyond kth_upper."""

    def plan(self, plan):
        return replace(plan, kth_upper=np.full_like(plan.kth_upper, np.inf))


@caught_by("check_scan_groups")
class FirstGroupForAll(Broken):
    """Meets the runs of the first group for queries of every group."""

    class sweep_type(Sweep):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.group = 0


@caught_by("check_stop_rule_off")
class AlwaysStops(Broken):
    """Stops at the k-th best although the settings say not to."""

    def search(self, tree, payload, queries, k, settings, out):
        super().search(tree, payload, queries, k, settings.replace(kth_frontier_stop=True), out)


# ---------------------------------------------------------------------------------------------------------------------
# The tree misread, the counters wrong


@caught_by("check_visited")
class ForgetsVisited(Broken):
    """Keeps no visited set."""

    class walk_type(Walk):
        def is_fresh(self, c):
            return True


@caught_by("check_search_counters")
class WrongCounter(Broken):
    """Counts offers that were not accepted as yields."""

    class walk_type(Walk):
        def is_allowed(self, c):
            allowed = super().is_allowed(c)
            self.offered = getattr(self, "offered", 0) + allowed
            return allowed

        def run(self):
            reason = super().run()
            self.count["yields"] = getattr(self, "offered", 0)
            return reason


@caught_by("check_scan_counters")
class CountsSkippedRows(Broken):
    """Counts rows that a scan skips as evaluated."""

    class sweep_type(Sweep):
        def run(self):
            reason = super().run()
            self.count["distance_evals"] = self.count["nodes_visited"] = len(self.payload)
            return reason


@caught_by("check_tree_shapes")
class BruteForce(Wrapper):
    """Walks no tree at all: right answers, other work than it was asked to do."""

    def search(self, tree, payload, queries, k, settings, out):
        self.parent.scan(payload, whole_range(queries), k, settings, out)


@caught_by("check_mechanisms")
class ClaimsTooMuch(Wrapper):
    """Claims the level cap and does not carry it out."""

    capabilities = Capabilities(frozenset({"level_cap"}))

    def search(self, tree, payload, queries, k, settings, out):
        super().search(tree, payload, queries, k, settings.replace(level_cap=0), out)


@caught_by("check_settings_refused")
class HidesWhatItLacks(Wrapper):
    """Tells the driver that it lacks nothing."""

    class capabilities(Capabilities):
        def missing(self, settings):
            return []

    capabilities = capabilities()


@caught_by("check_protocol")
class OldProtocol(Wrapper):
    """Was written for another protocol version."""

    protocol_version = 0


@caught_by("check_tables")
class NeverRescales(Broken):
    """Evaluates every table at the distance of its own columns."""

    def search(self, tree, payload, *others):
        super().search(tree, never_rescaled(payload), *others)

    def scan(self, payload, *others):
        super().scan(never_rescaled(payload), *others)


class _Rescaled:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getattr__(self, name):
        return getattr(self.kernel, name)

    def expression_for(self, columns):
        expression = self.kernel.expression_for(columns)
        return replace(expression, rescale_table=np.full(len(expression.rescale_table), -1))


def never_rescaled(payload):
    """A payload whose kernel, if it is one by tables, has lost its rescaling."""
    return payload if payload.expression is None else replace(payload, kernel=_Rescaled(payload.kernel))


# ---------------------------------------------------------------------------------------------------------------------
# Bad manners


@caught_by("check_inputs_unchanged")
class MutatesItsInput(Wrapper):
    """Sorts the queries' limits in place, though they were read-only."""

    def call(self, parent, queries, k, out):
        parent(queries, k, out)
        if queries.limit.base is None:
            queries.limit.flags.writeable = True
            queries.limit[::-1].sort()


@caught_by("check_blocks")
class WritesOthersRows(Wrapper):
    """Clears the whole output before it fills its own rows."""

    def call(self, parent, queries, k, out):
        if out.indices.base is not None:
            out.indices.base[:] = -1
        parent(queries, k, out)


@caught_by("check_keeps_nothing")
class KeepsArrays(Wrapper):
    """Holds on to the last output."""

    def call(self, parent, queries, k, out):
        parent(queries, k, out)
        self.last = out


@caught_by("check_no_memory")
class LeaksState(Wrapper):
    """Returns the last answer again when a block looks like the last one: as many queries, the same first row and k."""

    known = (None, None)

    def call(self, parent, queries, k, out):
        key = (len(queries), k, *queries.rows[:1])
        if self.known[0] == key:
            out.indices[:], out.distances[:], out.counters[:] = self.known[1]
            return
        parent(queries, k, out)
        self.known = (key, (out.indices.copy(), out.distances.copy(), out.counters.copy()))


@caught_by("check_concurrent_calls")
class SharedScratch(Broken):
    """Keeps what a call works on where another thread's call overwrites it."""

    def finish(self, task, out, q):
        self.task = task
        time.sleep(1e-5)
        super().finish(self.task, out, q)


@caught_by("check_cancelled_before")
class IgnoresCancel(Wrapper):
    """Never looks at the cancel flag."""

    def call(self, parent, queries, k, out):
        parent(queries, k, replace(out, cancel=np.zeros(1, dtype=np.int32)))


@caught_by("check_cancelled_during")
class LooksOnce(Wrapper):
    """Looks at the cancel flag when a call begins, and never again."""

    def call(self, parent, queries, k, out):
        parent(queries, k, replace(out, cancel=out.cancel.copy()))


@caught_by("check_telemetry")
class CountsNothing(Wrapper):
    """Gives stop reasons, and no other counter."""

    def call(self, parent, queries, k, out):
        parent(queries, k, out)
        stops = [name.startswith("stop_") for name in COUNTERS]
        out.counters[:, ~np.array(stops)] = 0


# ---------------------------------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------------------------------
# Unsound screens


class Screened(TemplateBackend):
    """The template backend, to be given other screens."""

    handle_type = screens.Handle

    def __init__(self):
        self.name = type(self).__name__

    def prepare(self, payload):
        """See `covertreex.protocols.Screening.prepare`."""
        return self.handle_type(payload)


@caught_by("check_shortlist_bound")
class NoErrorBound(Screened):
    """Takes float32 for exact."""

    class handle_type(screens.Handle):
        def bounds(self, asked, tile):
            rho, slack = super().bounds(asked, tile)
            return rho, 0.0 * slack


@caught_by("check_shortlist_bound")
class BoundOfAnotherPrecision(Screened):
    """Multiplies factors of 11 bits, as tensor cores do by default, and states the bound of float32."""

    class handle_type(screens.Handle):
        def __init__(self, payload):
            super().__init__(payload)
            self.rows.factors = eleven_bits(self.rows.factors)


def eleven_bits(values):
    """float32 numbers rounded to 11 bits, as TF32 has them."""
    return ((values.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


@caught_by("check_shortlist_hard_data")
class BoundOfATypicalPair(Screened):
    """States one bound for all pairs, that of the median p."""

    class handle_type(screens.Handle):
        def bounds(self, asked, tile):
            rho, slack = super().bounds(asked, tile)
            return rho, np.minimum(slack, np.median(slack))


@caught_by("check_shortlist")
class CountsRowsTwice(Screened):
    """Its k-th best is that of lows of which each is there twice."""

    def shortlist(self, handle, plan, thresholds, k, out):
        return super().shortlist(handle, plan, thresholds, (k + 1) // 2, out)


@caught_by("check_shortlist")
class LeavesItselfOut(Screened):
    """Never returns the row that a query is, even if it may."""

    def shortlist(self, handle, plan, thresholds, k, out):
        queries = plan.queries
        exclude = np.where(queries.exclude < 0, queries.rows, queries.exclude)
        return super().shortlist(handle, replace(plan, queries=replace(queries, exclude=exclude)), thresholds, k, out)


@caught_by("check_shortlist")
class OffersTheExcluded(Screened):
    """Returns rows that a query must not have."""

    def shortlist(self, handle, plan, thresholds, k, out):
        queries = replace(plan.queries, exclude=np.full_like(plan.queries.exclude, -1))
        return super().shortlist(handle, replace(plan, queries=queries), thresholds, k, out)


@caught_by("check_shortlist_groups")
class RunsOfTheFirstGroup(Screened):
    """Compares all groups with the runs of the first."""

    def shortlist(self, handle, plan, thresholds, k, out):
        ptr = plan.run_ptr
        if len(ptr) > 2:
            first = np.arange(ptr[0], ptr[1])
            some = np.tile(first, len(ptr) - 1)
            plan = replace(plan, run_start=plan.run_start[some], run_stop=plan.run_stop[some],
                           run_ptr=np.arange(len(ptr)) * len(first))  # fmt: skip
        return super().shortlist(handle, plan, thresholds, k, out)


@caught_by("check_shortlist_tables")
class OneKernelForAll(Screened):
    """Takes kernels by tables for RBF."""

    class handle_type(screens.Handle):
        def __init__(self, payload):
            super().__init__(payload)
            if payload.expression is not None:
                self.kernel = RBF()


@caught_by("check_shortlist_is_short")
class KeepsEveryRow(Screened):
    """States a bound that drops nothing."""

    class handle_type(screens.Handle):
        def bounds(self, asked, tile):
            rho, slack = super().bounds(asked, tile)
            return rho, slack + 2.0


@caught_by("check_shortlist_threads")
class OneScratchForAll(Screened):
    """Keeps what is asked in the handle, where another call may change it."""

    class handle_type(screens.Handle):
        def asked(self, queries):
            self.scratch = super().asked(queries)
            time.sleep(0.002)
            return self.scratch


@caught_by("check_shortlist_handle")
class HoldsThePayload(Screened):
    """Its handle keeps the payload alive."""

    class handle_type(screens.Handle):
        def __init__(self, payload):
            super().__init__(payload)
            self.payload = payload


@caught_by("check_shortlist_inputs_unchanged")
class RaisesThresholds(Screened):
    """Raises the driver's thresholds in place."""

    def shortlist(self, handle, plan, thresholds, k, out):
        rows = super().shortlist(handle, plan, thresholds, k, out)
        np.maximum(thresholds, 1e-3, out=thresholds)
        return rows


@caught_by("check_shortlist_cancelled")
class GoesOn(Screened):
    """Never looks at the flag."""

    def shortlist(self, handle, plan, thresholds, k, out):
        return super().shortlist(handle, plan, thresholds, k, replace(out, cancel=np.zeros(1, dtype=np.int32)))


@caught_by("check_shortlist_driver")
class TakesRadiusForNearest(Screened):
    """Of rows within a threshold it returns the nearest alone."""

    def shortlist(self, handle, plan, thresholds, k, out):
        return super().shortlist(handle, plan, thresholds, max(1, k), out)


def failures(beast, checks=None):
    """Names of the checks that catch `beast`, with their reasons."""
    try:
        return check_backend(beast.make(), checks=checks, stream=io.StringIO()).failures
    except ConformanceError as error:
        return error.report.failures


def main():
    """Print which check caught which; the exit status is 1 if one got away, or if a healthy parent was caught."""
    escaped = 0
    for name, make in PARENTS.items():
        wrong = failures(Beast(name, make, "", ""))
        escaped += bool(wrong)
        print(f"{name}: healthy; {', '.join(wrong) or 'passes all'} ({len(CHECKS)} checks)")
    unused = {check.__name__ for check in CHECKS}
    for beast in ZOO:
        found = failures(beast)
        unused -= set(found)
        verdict = "caught by" if beast.caught_by in found else "NOT CAUGHT BY"
        escaped += beast.caught_by not in found
        others = [name for name in found if name != beast.caught_by]
        also = f"; also by {', '.join(others)}" if others else ""
        print(f"{beast.name}: {beast.fault}\n    {verdict} {beast.caught_by}{also}", flush=True)
    idle = ", ".join(sorted(unused)) or "none"
    print(f"{len(ZOO)} broken backends, {escaped} surprises; checks that caught none: {idle}")
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
