"""The query driver: validate, plan, cut into blocks, dispatch to a backend on threads, merge.

There is one, for every backend and profile. Results do not depend on how it cuts or shares (R1, R2).
"""

import time
from dataclasses import dataclass

import numpy as np

from covertreex import parallel, plans
from covertreex.errors import BackendError
from covertreex.payload import EUCLIDEAN
from covertreex.progress import Progress
from covertreex.protocols import QueryBlock, SearchOutput
from covertreex.telemetry import BlockRecord, Telemetry, merge_counters, merge_totals

#: Queries per block of a tree search, where the settings do not size blocks themselves.
BLOCK = 64

#: Bounds of a dynamic query block, and the share of the active queries that it takes.
DYNAMIC_SMALLEST, DYNAMIC_LARGEST, DYNAMIC_SHARE = 8, 256, 8


@dataclass(frozen=True)
class Answer:
    """What the driver returns: results in query order, and what was counted."""

    indices: np.ndarray
    distances: np.ndarray
    telemetry: Telemetry


def choose_verb(settings, payload):
    """How `settings` are carried out on `payload`: 'search' (the tree) or 'scan'.

    A tree prunes well under Euclidean distance. Under residual correlation most points are nearly uncorrelated, and a
    blocked scan, which loads each row once for many queries, is faster than a tree that visits a third of them.
    """
    if settings.strategy == "tree":
        return "search"
    return "search" if payload.metric == EUCLIDEAN else "scan"


def dynamic_blocks(active):
    """Block sizes for `active` queries: an eighth of those still active, so that the last blocks are small."""
    sizes = []
    while active:
        size = min(active, max(DYNAMIC_SMALLEST, min(DYNAMIC_LARGEST, -(-active // DYNAMIC_SHARE))))
        sizes.append(size)
        active -= size
    return sizes


def _block_sizes(verb, settings, payload, total):
    if verb == "scan":
        fixed = plans.group_size(payload)
    elif settings.dynamic_query_block:
        return dynamic_blocks(total)
    else:
        fixed = BLOCK
    return [stop - start for start, stop in parallel.spans(total, fixed)]


def _permuted(queries, order):
    return QueryBlock(
        queries.rows[order],
        queries.coords,
        queries.factors,
        queries.p,
        queries.exclude[order],
        queries.limit[order],
        queries.rank,
        queries.prefix,
    )


def run(tree, payload, queries, k, settings, backend, n_threads):
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

    Returns
    -------
    Answer

    Raises
    ------
    BackendError
        If the backend left a query without a stop reason.
    """
    verb = choose_verb(settings, payload)
    structure = tree() if verb == "search" else None
    begin = time.perf_counter()
    # Neighbouring queries go together: they need the same rows, and in a scan those of like limits the same range.
    keys = (queries.rows, queries.limit) if verb == "scan" else (queries.limit, queries.rows)
    order = np.lexsort(keys)
    sorted_queries = _permuted(queries, order)
    out = SearchOutput.empty(len(queries), k)

    def answer_block(number, start, stop):
        clock = time.perf_counter()
        block, part = sorted_queries.slice(start, stop), out.slice(start, stop)
        if verb == "search":
            backend.search(structure, payload, block, k, settings, part)
        else:
            backend.scan(payload, plans.whole_range(payload, block), k, settings, part)
        return BlockRecord(
            backend=backend.name,
            profile=settings.profile,
            verb=verb,
            block=number,
            queries=stop - start,
            k=k,
            seconds=time.perf_counter() - clock,
            counters=merge_counters(part.counters),
        )

    stops = np.cumsum(_block_sizes(verb, settings, payload, len(queries)), dtype=np.int64)
    tasks = [
        lambda number=number, stop=int(stop): answer_block(number, int(stops[number - 1]) if number else 0, stop)
        for number, stop in enumerate(stops)
    ]
    with Progress("queries", len(queries)) as progress:
        records = parallel.run(tasks, n_threads, out.cancel, on_done=lambda record: progress.advance(record.queries))

    totals = merge_totals(record.counters for record in records)
    stopped = sum(value for name, value in totals.items() if name.startswith("stop_"))
    if stopped != len(queries):
        raise BackendError(
            f"backend {backend.name!r} gave a stop reason for {stopped} of {len(queries)} queries; its answer cannot "
            "be trusted. Run the conformance checks on it."
        )
    indices, distances = np.empty_like(out.indices), np.empty_like(out.distances)
    indices[order], distances[order] = out.indices, out.distances
    telemetry = Telemetry(
        counters=totals,
        seconds=time.perf_counter() - begin,
        n_threads=n_threads,
        blocks=tuple(records) if settings.telemetry else (),
    )
    return Answer(indices, distances, telemetry)
