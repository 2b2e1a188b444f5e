"""What every task needs in order to ask the search of this package about some rows."""

import os
from dataclasses import dataclass, replace

import numpy as np

from covertreex._version import __version__
from covertreex.base.types import FloatArray, IntArray
from covertreex.covertree import CoverTree, cover_tree
from covertreex.dask.rows import Found, Rows
from covertreex.data.metrics import Correlation, Euclidean, Metric
from covertreex.errors import InvalidInputError
from covertreex.settings import TraversalSettings


def version() -> str:
    """The version of covertreex in this process."""
    return __version__


@dataclass(frozen=True, eq=False)
class Model:
    """A metric, and a question about it, without data.

    Inducing points are coordinates, so factors that two tasks make of one row have the same bits.

    Attributes
    ----------
    metric : Euclidean, Correlation or ResidualCorrelation
        Its noise is 0 where each point has its own.
    k : int
    predecessor_mode, include_self, external : bool
        `external` is whether queries are coordinates that are no rows of the data.
    max_per_site : int or None
    settings : TraversalSettings
        Of the answer.
    backend : str or None
    version : str
        Of the covertreex that made it.
    """

    metric: Metric
    k: int
    predecessor_mode: bool
    include_self: bool
    external: bool
    max_per_site: int | None
    settings: TraversalSettings
    backend: str | None
    version: str

    @property
    def euclidean(self) -> bool:
        """bool: whether there is no kernel."""
        return isinstance(self.metric, Euclidean)

    def tree(self, rows: Rows) -> CoverTree:
        """A tree of some rows.

        Raises
        ------
        InvalidInputError
            If this process has another covertreex than the one that planned the search.
        """
        here = version()
        if here != self.version:
            raise InvalidInputError(
                f"a worker (process {os.getpid()}) has covertreex {here}, but the search was planned by {self.version}; "
                "other versions may give other bits. Install the same version on all workers and the client."
            )
        metric = self.metric
        if rows.noise is not None and not isinstance(metric, Euclidean):
            metric = replace(metric, noise=rows.noise)
        return cover_tree(rows.points, metric=metric, n_threads=1)

    def places(self, points: FloatArray) -> FloatArray:
        """Coordinates in which what is near is correlated; space is cut in them."""
        plain = self.metric if isinstance(self.metric, Euclidean) else Correlation(self.metric.kernel)
        tree = replace(self, metric=plain).tree(Rows(np.arange(1), np.arange(1), points[:1]))
        assert tree.projection is not None  # only factors of the caller's come without one
        return tree.payload.spread(tree.projection(points, 1)[0])

    def limits(self, data: Rows, queries: Rows) -> IntArray:
        """How many rows of the data, in their order, each query may have."""
        if self.external or not self.predecessor_mode:
            return np.full(len(queries), len(data), dtype=np.int64)
        return np.searchsorted(np.sort(data.rank), queries.rank, side="right" if self.include_self else "left")

    def ask(self, data: Rows, queries: Rows, settings: TraversalSettings, k: int | None = None) -> Found:
        """The nearest neighbours of queries among the rows of `data` that they may have, by one search of this package.

        Queries that are rows of the whole data need not be among `data`; then they are nobody's neighbours here.
        """
        k = self.k if k is None else k
        indices = np.full((len(queries), k), -1, dtype=np.int64)
        distances = np.full((len(queries), k), np.inf)
        if len(data) and len(queries):
            every = data if self.external else Rows.union((data, queries))
            most = min(k, len(every))
            if self.external:
                result = self.tree(every).search(
                    most, queries.points, max_per_site=self.max_per_site, settings=settings, backend=self.backend
                )
            else:
                known = np.isin(every.row, data.row)
                may, rest = np.flatnonzero(known), np.flatnonzero(~known)
                result = self.tree(every).search(
                    most,
                    np.searchsorted(every.row, queries.row),
                    order=np.concatenate([may[np.argsort(every.rank[may])], rest]),
                    limit=self.limits(data, queries),
                    include_self=self.include_self,
                    max_per_site=self.max_per_site,
                    settings=settings,
                    backend=self.backend,
                )
            indices[:, :most] = np.where(result.indices >= 0, every.row[result.indices], -1)
            distances[:, :most] = result.distances
        return Found(queries, data.among(indices), indices, distances)
