"""The tree search of docs/architecture.md ("The search"); the names are the same."""

import numpy as np

from covertreex.protocols import COUNTERS, DUPLICATE_LEVEL, EXPRESSION
from covertreex_numba.kernels import (
    borrow,
    clear_best,
    jit,
    jit_entry,
    lower,
    nearness,
    offer,
    sort_best,
    subtree_bound,
    upper,
)

DISTANCE_EVALS = COUNTERS.index("distance_evals")
NODES_VISITED = COUNTERS.index("nodes_visited")
FRONTIER_PUSHES = COUNTERS.index("frontier_pushes")
FRONTIER_PEAK = COUNTERS.index("frontier_peak")
PRUNES_BOUND = COUNTERS.index("prunes_bound")
PRUNES_VISITED = COUNTERS.index("prunes_visited")
YIELDS = COUNTERS.index("yields")
STOP_EXHAUSTED = COUNTERS.index("stop_exhausted")
STOP_KTH_FRONTIER = COUNTERS.index("stop_kth_frontier")
STOP_BUDGET = COUNTERS.index("stop_budget")
LEVEL_CACHE_HITS = COUNTERS.index("level_cache_hits")
BUDGET_ESCALATIONS = COUNTERS.index("budget_escalations")
CAPS_APPLIED = COUNTERS.index("caps_applied")

UNKNOWN = -1.0  # the distance to the parent of the root


@jit_entry
def search_block(payload, tree, queries, options, scratch, distances, indices, counters, cancel):
    """Search for every query of a block. Arguments: see `covertreex_numba.arguments` and `SearchOutput`."""
    payload, tree, queries, options = borrow(payload), borrow(tree), borrow(queries), borrow(options)
    scratch, distances, indices, counters = borrow(scratch), borrow(distances), borrow(indices), borrow(counters)
    for q in range(len(queries.rows)):
        if cancel[0] != 0:
            return
        scratch.heap_size[0] = 0
        scratch.bits[:] = 0
        scratch.evaluated[:] = 0
        clear_best(distances[q], indices[q], scratch.ties)
        stop = _search(payload, tree, queries, q, options, distances[q], indices[q], counters[q], scratch)
        counters[q, stop] = 1
        sort_best(distances[q], indices[q], scratch.ties)


@jit
def _search(payload, tree, queries, q, options, best_distances, best_indices, count, scratch):
    """Walk the tree for query `q`; the reason for stopping, as a column of the counters."""
    limit = queries.limit[q]
    if queries.prefix and payload.index[tree.root[0]] >= limit:
        return STOP_EXHAUSTED
    narrowest = options.stream_tile // 8 if options.dynamic_tile else options.stream_tile
    width = narrowest
    rung, rung_yields, rung_evals, grace = 0, 0, 0, True
    nodes, start, end, dq = tree.root, 0, 1, UNKNOWN
    while True:
        while start < end:
            tile_start, start = start, min(start + width, end)
            yields = count[YIELDS]
            _take(
                payload, tree, queries, q, options, nodes, tile_start, start, dq, best_distances, best_indices, count,
                scratch,
            )  # fmt: skip
            if dq == UNKNOWN:
                continue
            if options.dynamic_tile:
                width = min(2 * width, options.stream_tile) if count[YIELDS] == yields else narrowest

            if rung == len(options.budget_schedule) or count[DISTANCE_EVALS] < options.budget_schedule[rung]:
                continue
            if rung == len(options.budget_schedule) - 1:
                return STOP_BUDGET
            # 0 / 0, when one tile ended two rungs, is neither below budget_down nor below budget_up.
            share = (count[YIELDS] - rung_yields) / (count[DISTANCE_EVALS] - rung_evals)
            if share < options.budget_down or (share < options.budget_up and not grace):
                return STOP_BUDGET
            if share < options.budget_up:
                grace = False
            count[BUDGET_ESCALATIONS] += 1
            rung, rung_yields, rung_evals = rung + 1, count[YIELDS], count[DISTANCE_EVALS]

        if scratch.heap_size[0] == 0:
            return STOP_EXHAUSTED
        if options.kth_frontier_stop and scratch.bound[0] > best_distances[0]:
            return STOP_KTH_FRONTIER
        node, dq = scratch.node[0], scratch.node_distance[0]
        _pop(scratch)
        nodes, start, end = tree.children, tree.child_ptr[node], tree.child_ptr[node + 1]
        if queries.prefix:
            end = _cut(payload, tree, start, end, limit)


@jit
def _cut(payload, tree, start, end, limit):
    """Q1: the end of the children that come before `limit`; their dataset indices ascend."""
    while start < end:
        middle = (start + end) // 2
        if payload.index[tree.children[middle]] < limit:
            start = middle + 1
        else:
            end = middle
    return end


@jit
def _take(payload, tree, queries, q, options, nodes, start, stop, dq, best_distances, best_indices, count, scratch):
    """Visit, evaluate, offer and push the tile ``nodes[start:stop]``, whose parent is at computed distance `dq`."""
    limit, exclude = queries.limit[q], queries.exclude[q]
    use_cache = options.level_cache and dq != UNKNOWN
    parent_lower, parent_upper = lower(payload, queries, dq), upper(payload, queries, dq)

    size = 0
    mask = _visit(options.bitset, scratch, q + 1, nodes, start, stop, count)
    for place in range(start, stop):
        if (mask >> np.uint64(place - start)) & np.uint64(1) == 0:
            continue
        c = nodes[place]
        if options.level_cap > 0 and scratch.evaluated[tree.level[c] - DUPLICATE_LEVEL] >= options.level_cap:
            count[CAPS_APPLIED] += 1
            continue
        if use_cache:
            pd = tree.parent_distance[c]
            far = max(parent_lower - upper(payload, queries, pd), lower(payload, queries, pd) - parent_upper)
            if subtree_bound(payload, queries, far, _radius(tree, options, c)) > best_distances[0]:
                count[LEVEL_CACHE_HITS] += 1
                continue
        if options.level_cap > 0:
            scratch.evaluated[tree.level[c] - DUPLICATE_LEVEL] += 1
        scratch.fresh[size] = c
        size += 1

    by_tables = payload.kernel_code == EXPRESSION
    for place in range(size):
        d, rho, r2 = nearness(payload, queries, q, scratch.fresh[place], by_tables)
        scratch.fresh_distance[place], scratch.fresh_ties[place, 0], scratch.fresh_ties[place, 1] = d, rho, r2
    count[DISTANCE_EVALS] += size

    for place in range(size):
        c, d = scratch.fresh[place], scratch.fresh_distance[place]
        if queries.rank[c] < limit and c != exclude:
            rho, r2 = scratch.fresh_ties[place, 0], scratch.fresh_ties[place, 1]
            if offer(best_distances, best_indices, scratch.ties, d, rho, r2, payload.index[c]):
                count[YIELDS] += 1
        if not _is_inner(tree, c):
            continue
        bound = subtree_bound(payload, queries, lower(payload, queries, d), _radius(tree, options, c))
        if bound > best_distances[0]:
            count[PRUNES_BOUND] += 1
        else:
            _push(scratch, bound, count[FRONTIER_PUSHES], c, d)
            count[FRONTIER_PUSHES] += 1
            count[FRONTIER_PEAK] = max(count[FRONTIER_PEAK], scratch.heap_size[0])


@jit
def _visit(bitset, scratch, stamp, nodes, start, stop, count):
    """Mark the nodes of a tile visited; a mask of those that were not before."""
    mask = np.uint64(0)
    for place in range(start, stop):
        c = nodes[place]
        if bitset:
            word, bit = c >> 6, np.uint64(1) << np.uint64(c & 63)
            seen = scratch.bits[word] & bit != 0
            scratch.bits[word] |= bit
        else:
            seen = scratch.stamps[c] == stamp
            scratch.stamps[c] = stamp
        if seen:
            count[PRUNES_VISITED] += 1
        else:
            count[NODES_VISITED] += 1
            mask |= np.uint64(1) << np.uint64(place - start)
    return mask


@jit
def _is_inner(tree, node):
    return tree.child_ptr[node] < tree.child_ptr[node + 1]


@jit
def _radius(tree, options, node):
    return max(tree.si[node], options.radius_floor) if _is_inner(tree, node) else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# The frontier: a min-heap on (bound, sequence). A node is pushed at most once, so it never outgrows the tree.


@jit
def _push(scratch, bound, sequence, node, node_distance):
    place = scratch.heap_size[0]
    scratch.heap_size[0] += 1
    while place > 0:
        above = (place - 1) // 2
        if not _is_sooner(bound, sequence, scratch.bound[above], scratch.sequence[above]):
            break
        _move(scratch, above, place)
        place = above
    scratch.bound[place], scratch.sequence[place] = bound, sequence
    scratch.node[place], scratch.node_distance[place] = node, node_distance


@jit
def _pop(scratch):
    """Remove the top of the heap."""
    size = scratch.heap_size[0] - 1
    scratch.heap_size[0] = size
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _is_sooner(
            scratch.bound[child + 1], scratch.sequence[child + 1], scratch.bound[child], scratch.sequence[child]
        ):
            child += 1
        if not _is_sooner(scratch.bound[child], scratch.sequence[child], scratch.bound[size], scratch.sequence[size]):
            break
        _move(scratch, child, place)
        place = child
    _move(scratch, size, place)


@jit
def _is_sooner(bound, sequence, other_bound, other_sequence):
    return bound < other_bound or (bound == other_bound and sequence < other_sequence)


@jit
def _move(scratch, source, target):
    scratch.bound[target], scratch.sequence[target] = scratch.bound[source], scratch.sequence[source]
    scratch.node[target], scratch.node_distance[target] = scratch.node[source], scratch.node_distance[source]
