"""The query driver: validate, plan, cut into blocks, dispatch to a backend on threads, merge.

There is one, for every backend and profile. Results do not depend on how it cuts or shares (R1, R2).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from covertreex.backends.telemetry import COUNTERS, BlockRecord, Telemetry, merge_counters, merge_totals
from covertreex.base import parallel
from covertreex.base.progress import Progress
from covertreex.data.payload import EUCLIDEAN
from covertreex.errors import BackendError
from covertreex.protocols import SearchOutput
from covertreex.search import plans
from covertreex.search.boxes import BoxPlanner
from covertreex.search.halos import GivenUp, HaloPlanner
from covertreex.search.planner import Plan, ScanPlanner
from covertreex.search.second_pass import second_pass

#: Queries per block of a tree search, where the settings do not size blocks themselves.
BLOCK = 64

#: Columns of the counters of which each query has one, equal to 1, when it was answered.
STOPS = [column for column, name in enumerate(COUNTERS) if name.startswith("stop_")]

#: Groups of a scan that one block holds at most, and the share of all groups that it may.
GROUPS_MOST, GROUPS_SHARE = 8, 64

#: Bounds of a dynamic query block, and the share of the active queries that it takes.
DYNAMIC_SMALLEST, DYNAMIC_LARGEST, DYNAMIC_SHARE = 8, 256, 8


@dataclass(frozen=True, eq=False)
class Answer:
    """What the driver returns: results in query order, and what was counted."""

    indices: np.ndarray
    distances: np.ndarray
    telemetry: Telemetry
    plan: Plan


@dataclass(frozen=True, eq=False)
class Work:
    """One pass over all queries.

    Attributes
    ----------
    order : ndarray, shape (q,), int64
        The queries' places in the caller's order.
    sizes : list of int
        Of the blocks.
    answer : callable
        Answers block `number`, queries `start` to `stop`, into an output; returns what was counted beyond.
    plan : callable
        Tells the plan in the end.
    following : callable
        The next pass, given what this one found; None if it is the last.
    """

    order: np.ndarray
    sizes: list
    answer: Callable
    plan: Callable
    following: Callable = lambda indices, distances: None


def choose_verb(settings, payload):
    """How `settings` are carried out on `payload`: 'search' (the tree) or 'scan'.

    Under residual correlation most points are nearly uncorrelated, and a blocked scan, which loads each row once for
    many queries, is faster than a tree that visits a third of them. Under Euclidean distance boxes around rows are
    built in a moment and prune as well as a cover tree; but only the tree knows budgets and caps.
    """
    if settings.strategy == "tree":
        return "search"
    if payload.metric == EUCLIDEAN:
        return "scan" if settings.gate and not (settings.budget_schedule or settings.level_cap) else "search"
    return "scan"


def dynamic_blocks(active):
    """Block sizes for `active` queries: an eighth of those still active, so that the last blocks are small."""
    sizes = []
    while active:
        size = min(active, max(DYNAMIC_SMALLEST, min(DYNAMIC_LARGEST, -(-active // DYNAMIC_SHARE))))
        sizes.append(size)
        active -= size
    return sizes


def run(tree, payload, queries, k, settings, backend, n_threads, prepared=None):
    """Answer `queries`.

    Parameters
    ----------
    tree : callable
        Returns the `Tree`; called only if the settings need one.
    payload : PayloadStore
    queries : QueryBlock
    k : int
    settings : TraversalSettings
    backend : Traversal
    n_threads : int
    prepared : tuple of (Halos or GivenUp, PayloadStore), optional
        Halos of the payload, or why there are none; and the payload with the slack that the queries need.

    Returns
    -------
    Answer

    Raises
    ------
    BackendError
        If the backend gave a query no stop reason, or more than one.
    """
    cancel = np.zeros(1, dtype=np.int32)
    verb = choose_verb(settings, payload)
    structure = tree() if verb == "search" else None
    begin = time.perf_counter()
    if verb == "search":
        work = _plan_search(structure, payload, queries, k, settings, backend)
    else:
        work = _plan_scan(payload, queries, k, settings, backend, n_threads, cancel, prepared)
    indices, distances = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k))
    unfit, records, passes = 0, [], 0

    def answer_block(work, before, number, start, stop):
        clock = time.perf_counter()
        # A block's own output stays in cache, and the threads share the work of bringing it into the caller's order.
        out = replace(SearchOutput.empty(stop - start, k), cancel=cancel)
        extra = work.answer(number, start, stop, out)
        place = work.order[start:stop]
        indices[place], distances[place] = out.indices, out.distances
        unfit = int(np.sum(out.counters[:, STOPS].sum(axis=1) != 1))
        if passes:  # a query stops once
            out.counters[:, STOPS] = 0
        counters = merge_counters(out.counters)
        for name, value in extra.items():
            counters[name] += value
        return unfit, BlockRecord(
            backend=backend.name,
            profile=settings.profile,
            verb=verb,
            block=before + number,
            queries=stop - start,
            k=k,
            seconds=time.perf_counter() - clock,
            counters=counters,
            pass_number=passes + 1,
        )

    while work is not None:
        ends = [int(end) for end in np.cumsum(work.sizes, dtype=np.int64)]
        spans = zip([0, *ends], ends, strict=False)
        tasks = [partial(answer_block, work, len(records), i, *span) for i, span in enumerate(spans)]
        with Progress("second pass" if passes else "queries", len(queries)) as progress:
            done = parallel.run(tasks, n_threads, cancel, on_done=lambda one, p=progress: p.advance(one[1].queries))
        unfit += sum(bad for bad, _ in done)
        records += [record for _, record in done]
        passes, plan = passes + 1, work.plan
        work = work.following(indices, distances)
    totals = merge_totals(record.counters for record in records)
    if unfit:
        raise BackendError(
            f"backend {backend.name!r} gave {unfit} of {len(queries)} queries no stop reason, or more than one; its "
            "answer cannot be trusted. Run the conformance checks on it."
        )
    telemetry = Telemetry(
        counters=totals,
        seconds=time.perf_counter() - begin,
        n_threads=n_threads,
        blocks=tuple(records) if settings.telemetry else (),
    )
    return Answer(indices, distances, telemetry, plan())


def _plan_search(tree, payload, queries, k, settings, backend):
    """The `Work` of a tree search."""
    # Queries that are near each other go together: they walk the same part of the tree.
    order = np.lexsort((queries.limit, queries.rows))
    queries = plans.permuted(queries, order)
    if settings.dynamic_query_block:
        sizes = dynamic_blocks(len(queries))
    else:
        sizes = [stop - start for start, stop in parallel.spans(len(queries), BLOCK)]

    def answer(number, start, stop, out):
        backend.search(tree, payload, queries.slice(start, stop), k, settings, out)
        return {}

    why = "the settings ask for the tree" if settings.strategy == "tree" else "a tree prunes well under this metric"
    return Work(order, sizes, answer, lambda: Plan("search", why))


def _plan_scan(payload, queries, k, settings, backend, n_threads, cancel, prepared):
    """The `Work` of a scan."""
    arguments = (payload, queries, k, settings, backend, n_threads, cancel)
    if payload.metric == EUCLIDEAN:
        planner = BoxPlanner(*arguments)
    elif prepared is not None and prepared[0].serve(queries, k, settings):
        planner = HaloPlanner(*arguments, *prepared)
    else:
        planner = ScanPlanner(*arguments)
        if prepared is not None and isinstance(prepared[0], GivenUp):
            planner.plan = replace(planner.plan, reason=f"{planner.plan.reason}; no halos: {prepared[0].reason}")
    return _work_of_groups(planner)


def _work_of_groups(planner):
    """The `Work` of a planner: a block is some groups of queries."""
    spans = parallel.spans(len(planner.groups), max(1, min(GROUPS_MOST, len(planner.groups) // GROUPS_SHARE)))
    ptr = planner.groups.ptr

    def answer(number, start, stop, out):
        return planner.answer(*spans[number], out)

    def following(indices, distances):
        second = second_pass(planner, indices, distances) if isinstance(planner, ScanPlanner) else None
        return None if second is None else _work_of_groups(second)

    sizes = [ptr[last] - ptr[first] for first, last in spans]
    return Work(planner.groups.order, sizes, answer, lambda: planner.plan, following)
