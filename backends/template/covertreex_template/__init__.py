"""The smallest covertreex backend, in plain NumPy. Copy it.

Level L0 is `scan`, L1 is `search`, and S is `screens.py`: leave out what you do not want, and its name in `levels`.
"""

import heapq

import numpy as np

from covertreex.protocols import COUNTERS, BackendError, Capabilities
from covertreex_template import screens


class Neighbours:
    """The k best offers so far, by A7 of docs/mathematics.md: (distance, ``-|rho|``, r2, dataset index)."""

    def __init__(self, k):
        self.heap, self.k = [], k  # negated, so that the worst is on top

    @property
    def kth(self):
        """float: the k-th best distance, inf until there are k."""
        return -self.heap[0][0] if len(self.heap) == self.k else np.inf

    def offer(self, nearness, index):
        """Whether the offer is accepted."""
        item = tuple(-part for part in (*nearness, index))
        if len(self.heap) < self.k:
            heapq.heappush(self.heap, item)
            return True
        return heapq.heappushpop(self.heap, item) != item


def bounds(payload, slack_abs, d, radius):
    """B2: no descendant of nodes at computed distance `d`, all within `radius` of them, computes nearer than this."""
    return payload.lower(np.maximum(payload.lower(d, slack_abs) - radius, 0.0), slack_abs)


class TemplateBackend:
    """`covertreex.protocols.TreeTraversal` and `Screening`."""

    name = "template"
    protocol_version = (4, 1)
    capabilities = Capabilities(
        summary="plain NumPy, to be copied: right, and slow", levels=frozenset({"L0", "L1", "S"})
    )

    def prepare(self, payload):
        """See `covertreex.protocols.Screening.prepare`."""
        return screens.Handle(payload)

    def release(self, handle):
        """Nothing: Python forgets the copy by itself."""

    def shortlist(self, handle, plan, thresholds, k, out):
        """See `covertreex.protocols.Screening.shortlist`."""
        return screens.shortlist(handle, plan, thresholds, k, out)

    def search(self, tree, payload, queries, k, settings, out):
        """Walk a cover tree best-first; parameters as `covertreex.protocols.Traversal.search`."""
        missing = self.capabilities.missing(settings)
        if missing:
            raise BackendError(f"backend {self.name!r} lacks {', '.join(missing)}.")
        for q in range(len(queries)):
            if out.cancel[0]:
                return
            best, count = Neighbours(k), dict.fromkeys(COUNTERS, 0)
            reason = self._walk(tree, payload, queries, q, settings.kth_frontier_stop, best, count)
            self._finish(out, q, reason, best, count)

    def _walk(self, tree, payload, queries, q, stop_rule, best, count):
        limit, exclude, index = queries.limit[q], queries.exclude[q], payload.index
        visited = np.zeros(len(payload), dtype=bool)
        frontier, nodes = [], np.array([tree.root])
        while True:
            if queries.prefix:  # Q1: neither a node past the limit nor its later siblings have anything to offer
                nodes = nodes[: np.searchsorted(index[nodes], limit)]
            fresh = np.array([c for c in dict.fromkeys(nodes.tolist()) if not visited[c]], dtype=np.int64)
            visited[fresh] = True
            count["prunes_visited"] += len(nodes) - len(fresh)
            count["nodes_visited"] += len(fresh)
            count["distance_evals"] += len(fresh)
            nearness = np.stack(payload.nearness(queries, q, fresh), axis=1)
            distances = nearness[:, 0]
            allowed = (queries.rank[fresh] < limit) & (fresh != exclude)
            lower = bounds(payload, queries.slack_abs, distances, tree.si[fresh])
            inner = tree.child_ptr[fresh] < tree.child_ptr[fresh + 1]
            for c, near, offered, bound, has_children in zip(fresh, nearness, allowed, lower, inner, strict=True):
                if offered:
                    count["yields"] += best.offer(near, index[c])
                if not has_children:
                    continue
                if bound > best.kth:
                    count["prunes_bound"] += 1
                    continue
                heapq.heappush(frontier, (bound, count["frontier_pushes"], c))
                count["frontier_pushes"] += 1
                count["frontier_peak"] = max(count["frontier_peak"], len(frontier))
            if not frontier:
                return "exhausted"
            if stop_rule and frontier[0][0] > best.kth:
                return "kth_frontier"
            node = heapq.heappop(frontier)[2]
            nodes = tree.children[tree.child_ptr[node] : tree.child_ptr[node + 1]]

    def scan(self, payload, plan, k, settings, out):
        """Compare queries with runs of rows; parameters as `covertreex.protocols.Traversal.scan`."""
        for group in range(len(plan.group_ptr) - 1):
            runs = range(plan.run_ptr[group], plan.run_ptr[group + 1])
            for q in range(plan.group_ptr[group], plan.group_ptr[group + 1]):
                if out.cancel[0]:
                    return
                best, count = Neighbours(k), dict.fromkeys(COUNTERS, 0)
                reason = self._sweep(payload, plan, runs, q, settings.kth_frontier_stop, best, count)
                self._finish(out, q, reason, best, count)

    def _sweep(self, payload, plan, runs, q, stop_rule, best, count):
        queries, kth_upper = plan.queries, plan.kth_upper[q]
        for run in runs:
            if stop_rule and plan.run_lower[run] > min(best.kth, kth_upper):
                return "kth_frontier"
            rows = np.arange(plan.run_start[run], plan.run_stop[run])
            rows = rows[(queries.rank[rows] < queries.limit[q]) & (rows != queries.exclude[q])]
            count["distance_evals"] += len(rows)
            count["nodes_visited"] += len(rows)
            for row, *near in zip(rows, *payload.nearness(queries, q, rows), strict=True):
                if near[0] <= kth_upper:
                    count["yields"] += best.offer(near, payload.index[row])
        return "exhausted"

    def _finish(self, out, q, reason, best, count):
        count[f"stop_{reason}"] = 1
        for place, (d, _, _, index) in enumerate(sorted(best.heap, reverse=True)):
            out.distances[q, place], out.indices[q, place] = -d, -index
        out.counters[q] = list(count.values())


backend = TemplateBackend()
