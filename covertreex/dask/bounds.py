"""Whether a partition can have neighbours that its queries do not know yet: bounds on the kernel and on factors."""

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray
from covertreex.dask.model import Model
from covertreex.dask.rows import Found, Rows
from covertreex.data.metrics import Euclidean
from covertreex.kernels.stationary import Stationary

#: What bounds give away for their own rounding, and for that of distances; and of covariances.
SLACK, ROUNDING = 1e-7, 1e-11

#: Rows and queries that are looked at first.
FEW = 64


def may_gain(model: Model, found: Found, data: Rows) -> NDArray[np.bool_]:
    """False for queries that have k neighbours which are nearer than any row of `data` can be.

    With r the distance of a query from the box around the rows, in scaled coordinates, no correlation exceeds
    ``(k(r) + |v_q| V) / sqrt(p_q P)``, V being the largest ``|v|`` of the rows and P the smallest residual variance
    (Cauchy and Schwarz). Noise makes correlations smaller still. Equality keeps the query, so ties lose nothing.
    """
    kth = found.distances[:, -1]
    every = np.ones(len(kth), dtype=bool)
    if not len(data) or not len(kth):
        return ~every
    # The bound of a few rows is below that of all: where it passes over no query, that of all does not either.
    some, few = (np.unique(np.linspace(0, len(one) - 1, FEW).astype(np.int64)) for one in (kth, data))
    if np.all(_may_gain(model, found.queries.take(some), kth[some], data.take(few))):
        return every
    return _may_gain(model, found.queries, kth, data)


def _may_gain(model: Model, queries: Rows, kth: FloatArray, data: Rows) -> NDArray[np.bool_]:
    tree = model.tree(data.take(np.arange(1)))
    project = tree.projection
    if project is None or not (isinstance(tree.metric, Euclidean) or isinstance(tree.metric.kernel, Stationary)):
        return np.ones(len(kth), dtype=bool)  # of several distances none bounds the others
    coords, factors, p = project(data.points, model.threads)
    asked, of_queries, p_asked = project(queries.points, model.threads)
    away = np.maximum(np.maximum(coords.min(axis=0) - asked, asked - coords.max(axis=0)), 0.0)
    far = np.sqrt(np.sum(away * away, axis=1)) * (1.0 - SLACK)
    if isinstance(tree.metric, Euclidean):
        within: NDArray[np.bool_] = far <= kth
        return within
    edges = np.unique(np.floor(far * 16.0)) / 16.0  # one value of the kernel for all queries that are about as far
    largest = np.array([tree.metric.kernel.beyond(edge) for edge in edges])
    kernel = largest[np.searchsorted(edges, far, side="right") - 1]
    product = _lengths(of_queries) * np.max(_lengths(factors))
    rho = (kernel + product + ROUNDING) / np.sqrt(p_asked * np.min(p))
    nearest = np.sqrt(np.maximum(0.0, 1.0 - rho - SLACK))
    gain: NDArray[np.bool_] = nearest <= kth
    return gain


def _lengths(factors: FloatArray) -> FloatArray:
    lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", factors, factors))
    return lengths
