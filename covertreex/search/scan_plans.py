"""Scan plans as plain arrays: which rows each query is compared with."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import read_only
from covertreex.data.payload import PayloadStore
from covertreex.protocols import QueryBlock, ScanPlan


def plan_of_lists(
    queries: QueryBlock,
    counts: NDArray[np.int64],
    rows: NDArray[np.int64],
    kth_upper: NDArray[np.float64] | None = None,
) -> ScanPlan:
    """A plan with a group for each query: query q is compared with the next ``counts[q]`` of `rows`."""
    q = len(queries)
    return ScanPlan(
        queries=queries,
        group_ptr=np.arange(q + 1, dtype=np.int64),
        run_ptr=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        run_start=rows,
        run_stop=rows + 1,
        run_lower=np.zeros(len(rows)),
        kth_upper=np.full(q, np.inf) if kth_upper is None else kth_upper,
    )


def whole_range(payload: PayloadStore, queries: QueryBlock, group_ptr: NDArray[np.int64] | None = None) -> ScanPlan:
    """Every group is compared with every row (that ranks before its limits): brute force. One group by default."""
    group_ptr = np.array([0, len(queries)], dtype=np.int64) if group_ptr is None else group_ptr
    return ScanPlan(queries, group_ptr, *_all_rows(len(payload), len(group_ptr) - 1, len(queries)))


@lru_cache(maxsize=16)
def _all_rows(n: int, groups: int, queries: int) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
    """What a `ScanPlan` says of runs, each of which is `n` rows; one query after the other asks for the same."""
    return (
        read_only(np.arange(groups + 1, dtype=np.int64)),
        read_only(np.zeros(groups, dtype=np.int64)),
        read_only(np.full(groups, n, dtype=np.int64)),
        read_only(np.zeros(groups)),
        read_only(np.full(queries, np.inf)),
    )
