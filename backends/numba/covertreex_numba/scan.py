"""The scan of docs/architecture.md ("The scan").

Runs are cut into tiles of rows that fit in the nearest caches, and all queries of the group meet a tile before the next
is read. Each query still meets its rows in order, so answers and counters are those of the plain loop.
"""

from covertreex.protocols import COUNTERS, EXPRESSION
from covertreex_numba.kernels import borrow, clear_best, jit, jit_entry, nearness, offer, sort_best

DISTANCE_EVALS = COUNTERS.index("distance_evals")
NODES_VISITED = COUNTERS.index("nodes_visited")
YIELDS = COUNTERS.index("yields")
STOP_EXHAUSTED = COUNTERS.index("stop_exhausted")
STOP_KTH_FRONTIER = COUNTERS.index("stop_kth_frontier")

TILE_ROWS = 16


@jit_entry
def scan_block(payload, plan, queries, kth_frontier_stop, active, ties, distances, indices, counters, cancel):
    """Scan for every query of a plan.

    Arguments: see `covertreex_numba.arguments` and `SearchOutput`; `active` is True for each query, and
    `ties`, shape (q, k, 2), is scratch.
    """
    payload, plan, queries, active = borrow(payload), borrow(plan), borrow(queries), borrow(active)
    ties, distances, indices, counters = borrow(ties), borrow(distances), borrow(indices), borrow(counters)
    for group in range(len(plan.group_ptr) - 1):
        first, last = plan.group_ptr[group], plan.group_ptr[group + 1]
        for q in range(first, last):
            clear_best(distances[q], indices[q], ties[q])
        for run in range(plan.run_ptr[group], plan.run_ptr[group + 1]):
            for q in range(first, last):
                if kth_frontier_stop and plan.run_lower[run] > min(distances[q, 0], plan.kth_upper[q]):
                    active[q] = False
            for start in range(plan.run_start[run], plan.run_stop[run], TILE_ROWS):
                if cancel[0] != 0:
                    return
                stop = min(start + TILE_ROWS, plan.run_stop[run])
                for q in range(first, last):
                    if active[q]:
                        best = distances[q], indices[q], ties[q]
                        if payload.kernel_code == EXPRESSION:
                            _scan_tile(payload, plan, queries, q, start, stop, True, *best, counters[q])
                        else:
                            _scan_tile(payload, plan, queries, q, start, stop, False, *best, counters[q])
        for q in range(first, last):
            counters[q, STOP_EXHAUSTED if active[q] else STOP_KTH_FRONTIER] = 1
            sort_best(distances[q], indices[q], ties[q])


@jit
def _scan_tile(payload, plan, queries, q, start, stop, by_tables, best_distances, best_indices, ties, count):
    limit, exclude = queries.limit[q], queries.exclude[q]
    for row in range(start, stop):
        if queries.rank[row] >= limit or row == exclude:
            continue
        d, rho, r2 = nearness(payload, queries, q, row, by_tables)
        count[DISTANCE_EVALS] += 1
        count[NODES_VISITED] += 1
        if d <= plan.kth_upper[q] and offer(best_distances, best_indices, ties, d, rho, r2, payload.index[row]):
            count[YIELDS] += 1
