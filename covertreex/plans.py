"""Scan plans as plain arrays: which rows each group of queries is compared with."""

import numpy as np

from covertreex.protocols import ScanPlan

#: Bytes of query factors that a group may hold, so that they stay in a core's second-level cache.
GROUP_BYTES = 2**18

#: Most queries in a group.
GROUP_MOST = 128


def group_size(payload):
    """Queries per group of a scan: as many as stay in cache together."""
    width = 8 * (payload.factors.shape[1] + payload.coords.shape[1])
    return max(8, min(GROUP_MOST, GROUP_BYTES // width))


def whole_range(payload, queries):
    """One group of all `queries`, compared with every row: blocked brute force.

    Parameters
    ----------
    payload : PayloadStore
    queries : QueryBlock

    Returns
    -------
    ScanPlan
    """
    q = len(queries)
    return ScanPlan(
        queries=queries,
        group_ptr=np.array([0, q], dtype=np.int64),
        run_ptr=np.array([0, 1], dtype=np.int64),
        run_start=np.zeros(1, dtype=np.int64),
        run_stop=np.array([len(payload)], dtype=np.int64),
        run_lower=np.zeros(1),
        kth_upper=np.full(q, np.inf),
    )
