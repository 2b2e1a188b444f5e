"""Pairs of a sample: what a screen would leave of all that are to be looked at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from covertreex._core.canonical import CovarianceView, covariances
from covertreex.base import tuning
from covertreex.base.types import AnyArray
from covertreex.data.payload import PayloadStore
from covertreex.protocols import QueryBlock


@dataclass(frozen=True, eq=False)
class PairSample:
    """Pairs of a sample, each of some queries with each of some rows, that tells what a screen would leave.

    Attributes
    ----------
    queries, rows : ndarray of int64, or of int32
        Payload rows.
    thresholds : ndarray
        What the k-th best ``|rho|`` of each query is sure to reach.
    allowed : ndarray of bool, shape (queries, rows)
        Pairs that are looked at.
    """

    queries: NDArray[np.signedinteger[Any]]
    rows: NDArray[np.signedinteger[Any]]
    thresholds: NDArray[np.float64]
    allowed: NDArray[np.bool_]

    @classmethod
    def of_sweep(cls, payload: PayloadStore, queries: QueryBlock, start: NDArray[np.float64]) -> "list[PairSample]":
        """One of all pairs of some queries, whose k-th best ``|rho|`` is sure to reach `start`, where that is known of
        enough; rows of the data, spread evenly, stand in for external queries.
        """
        known, last = np.flatnonzero(np.isfinite(start)), len(payload) - 1
        if len(known) < tuning.PAIR_QUERIES:
            return []
        sample = known[np.linspace(0, len(known) - 1, tuning.PAIR_QUERIES).astype(np.int64)]
        rows = np.linspace(0, last, tuning.PAIR_ROWS).astype(np.int64)
        asked = queries.rows[sample]
        asked = np.where(asked >= 0, asked, np.linspace(0, last, tuning.PAIR_QUERIES).astype(np.int64))
        allowed = queries.rank[rows] < queries.limit[sample][:, None]
        return [cls(asked, rows, start[sample], allowed)]

    @property
    def digest(self) -> str:
        """str: of all of it."""
        arrays: tuple[AnyArray, ...] = (self.queries, self.rows, self.thresholds, self.allowed)
        return " ".join(xxhash.xxh3_128_hexdigest(np.ascontiguousarray(array).data) for array in arrays)


def correlations(
    payload: PayloadStore,
    rows: NDArray[np.signedinteger[Any]],
    coords: NDArray[np.float64],
    factors: NDArray[np.float64],
    p: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Residual correlations of some payload rows with other points, (rows, points), in float64."""
    view = CovarianceView(payload.kernel, payload.coords.shape[1])
    values: NDArray[np.float64] = covariances(view, payload.coords[rows], coords) - payload.factors[rows] @ factors.T
    values /= np.sqrt(payload.p[rows])[:, None]
    values /= np.sqrt(p)
    return values
