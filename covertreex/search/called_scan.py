"""A scan under a covariance that only a function of the caller's knows: what backends do for others, in NumPy."""

import numpy as np
from numpy.typing import NDArray

from covertreex._core.canonical import dots
from covertreex.base import tuning
from covertreex.base.contract import COUNTERS
from covertreex.data.payload import PayloadStore
from covertreex.kernels import Covariance
from covertreex.protocols import ScanPlan, SearchOutput

_EVALS, _STOP = COUNTERS.index("distance_evals"), COUNTERS.index("stop_exhausted")


def scan_called(payload: PayloadStore, plan: ScanPlan, k: int, out: SearchOutput) -> None:
    """As a backend's scan: the queries of a plan and the rows that it names, in canonical arithmetic but for the
    function's own values."""
    for group in range(len(plan.group_ptr) - 1):
        queries = np.arange(plan.group_ptr[group], plan.group_ptr[group + 1])
        runs = range(plan.run_ptr[group], plan.run_ptr[group + 1])
        rows = np.concatenate([np.arange(plan.run_start[r], plan.run_stop[r]) for r in runs] or [np.zeros(0, np.int64)])
        step = max(1, tuning.CALLED_PAIRS // max(1, len(rows)))
        for start in range(0, len(queries), step):
            if out.cancel[0]:
                return
            _compare(payload, plan, queries[start : start + step], rows, k, out)


def _compare(
    payload: PayloadStore,
    plan: ScanPlan,
    queries: NDArray[np.int64],
    rows: NDArray[np.int64],
    k: int,
    out: SearchOutput,
) -> None:
    block = plan.queries
    own = block.rows[queries]
    coords, factors, p = (_sides(own, *pair) for pair in (
        (payload.coords, block.coords), (payload.factors, block.factors), (payload.p, block.p)))  # fmt: skip
    allowed = block.rank[rows] < block.limit[queries][:, None]
    allowed &= rows != block.exclude[queries][:, None]
    used = np.flatnonzero(allowed.any(axis=0))
    rows, allowed = rows[used], allowed[:, used]
    kernel = payload.covariance
    assert isinstance(kernel, Covariance)
    of_rows = payload.kept.get("deviations", lambda: kernel.deviations(payload.coords))
    outside = kernel.deviations(coords[own < 0])
    of_queries = _sides(np.where(own < 0, -np.cumsum(own < 0, dtype=np.int64), own), of_rows, outside)
    numerator = kernel.of_deviations(coords, payload.coords[rows], of_queries, of_rows[rows])
    if payload.factors.shape[1]:
        numerator -= dots(factors, np.ascontiguousarray(payload.factors[rows]))
    rho = np.minimum(np.abs(numerator / np.sqrt(p[:, None] * payload.p[rows])), 1.0)
    rho[rows == own[:, None]] = 1.0
    distance = np.where(allowed, np.sqrt(1.0 - rho), np.inf)
    for i, q in enumerate(queries):
        bound = min(plan.kth_upper[q], np.partition(distance[i], k - 1)[k - 1] if k <= len(rows) else np.inf)
        near = np.flatnonzero((distance[i] <= bound) & allowed[i])
        apart = payload.coords[rows[near]] - coords[i]
        r2 = np.zeros(len(near))
        for axis in range(apart.shape[1]):
            r2 = r2 + apart[:, axis] * apart[:, axis]
        near = near[np.lexsort((payload.index[rows[near]], r2, -rho[i, near], distance[i, near]))[:k]]
        out.indices[q, : len(near)] = payload.index[rows[near]]
        out.distances[q, : len(near)] = distance[i, near]
        out.counters[q, _EVALS] += int(allowed[i].sum())
        out.counters[q, _STOP] = 1


def _sides(rows: NDArray[np.int64], data: NDArray[np.float64], external: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each query, from the data or, where its row is negative, from what is no row of it."""
    found = np.empty((len(rows), *data.shape[1:]))
    found[rows >= 0], found[rows < 0] = data[rows[rows >= 0]], external[-1 - rows[rows < 0]]
    return found
