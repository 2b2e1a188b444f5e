"""What every task needs in order to ask the search of this package about some rows."""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from covertreex._version import __version__
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.covertree import CoverTree, cover_tree
from covertreex.dask.rows import Found, Rows, Within
from covertreex.data.metrics import Correlation, Euclidean, Metric
from covertreex.errors import InvalidInputError
from covertreex.settings import EXACT, TraversalSettings


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
    room : int
        Rows that one search may have, for memory.
    threads : int
        Of each task.
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
    room: int
    threads: int = 1

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
                f"a worker (process {os.getpid()}) has covertreex {here}, but the search was planned by "
                f"{self.version}; other versions may give other bits. Install one version on all workers and "
                "the client."
            )
        metric = self.metric
        if rows.noise is not None and not isinstance(metric, Euclidean):
            metric = replace(metric, noise=rows.noise)
        return cover_tree(rows.points, metric=metric, n_threads=self.threads)

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

    def ask(
        self, data: Rows, queries: Rows, settings: TraversalSettings, k: int | None = None, final: bool = False
    ) -> Found:
        """The nearest neighbours of queries among the rows of `data` that they may have, by one search of this package.

        Queries that are rows of the whole data need not be among `data`; then they are nobody's neighbours here. Of a
        `final` answer nobody asks which rows it is made of.
        """
        k = self.k if k is None else k
        if not len(data) or not len(queries):
            indices, distances = np.zeros((len(queries), 0), dtype=np.int64), np.zeros((len(queries), 0))
        else:
            every, tree, asked, restricted = self._question(data, queries)
            result = tree.search(
                min(k, len(every)), asked, max_per_site=self.max_per_site, settings=settings, backend=self.backend,
                n_threads=self.threads, **restricted,
            )  # fmt: skip
            indices, distances = np.append(every.row, -1)[result.indices], result.distances
        if indices.shape[1] < k:
            short = (0, 0), (0, k - indices.shape[1])
            indices = np.pad(indices, short, constant_values=-1)
            distances = np.pad(distances, short, constant_values=np.inf)
        known = np.zeros(0, dtype=np.int64) if final else np.isin(data.row, indices)
        return Found(queries, data.take(known), indices, distances)

    def ask_in_turns(self, data: Rows, queries: Rows, k: int | None = None) -> Found:
        """As `ask` by exact settings, of more rows than one search may have: of some after the other, and then of what
        was found."""
        turns = [
            data.take(np.arange(start, min(start + self.room, len(data)))) for start in range(0, len(data), self.room)
        ]
        found = [self.ask(turn, queries, EXACT, k) for turn in turns or [data]]
        if len(found) == 1:
            return found[0]
        return self.ask(Rows.union([one.candidates for one in found]), queries, EXACT, k)

    def within(self, data: Rows, queries: Rows, r: float) -> Within:
        """All neighbours of queries within a radius among the rows of `data` that they may have; as `ask`."""
        if not len(data) or not len(queries):
            none = np.zeros(0, dtype=np.int64)
            return Within(queries, data.take(none), np.zeros(len(queries) + 1, dtype=np.int64), none, np.zeros(0))
        every, tree, asked, restricted = self._question(data, queries)
        found = tree.radius(
            r, asked, settings=self.settings, backend=self.backend, n_threads=self.threads, **restricted
        )
        indices = every.row[found.indices]
        return Within(queries, data.among(indices), found.indptr, indices, found.distances)

    def _question(self, data: Rows, queries: Rows) -> tuple[Rows, CoverTree, AnyArray, dict[str, Any]]:
        """Rows, their tree, what is asked of it, and what restricts the answer to those of `data` that are allowed."""
        if self.external:
            return data, self.tree(data), queries.points, {}
        every = Rows.union((data, queries))
        may = np.isin(every.row, data.row)
        order = np.concatenate([np.flatnonzero(may)[np.argsort(data.rank)], np.flatnonzero(~may)])
        restricted = {"order": order, "limit": self.limits(data, queries), "include_self": self.include_self}
        return every, self.tree(every), np.searchsorted(every.row, queries.row), restricted
