"""Neighbours of neighbours (`fast`): what a graph of neighbours says is worth a look, and how much of it.

Most of what is correlated with a query without being near it has neighbours in common with it: it is found by a look at
the neighbours of its neighbours (source: Dong, Charikar, Li, "Efficient k-nearest neighbor graph construction for
generic similarity measures", WWW 2011), those whose product of correlations promises enough. How much is enough is
calibrated on a sample, solved exactly.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from covertreex._core.graph import Explorer, Graph
from covertreex._core.screen import Screener
from covertreex.base import parallel, tuning
from covertreex.protocols import QueryBlock
from covertreex.search.calibration import Sample, meets
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups

#: Queries that share candidates: as many as a float64 screen compares at once.
TOGETHER = tuning.INNER


class Exploring:
    """A graph of all rows' neighbours, as groups of queries walk it.

    Parameters
    ----------
    context : SearchContext
    groups : Groups
    screener : callable
        Returns a screener, which candidates are looked at through: of `TOGETHER` of the queries, or a group of them.
    graph : Graph
    seen : list of ndarray, int32, optional
        Rows that each group has looked at, and looks at no more. Without it, the neighbours that queries have in the
        graph are looked at too.
    alone : bool
        Whether each query of a group looks at candidates of its own; otherwise `TOGETHER` queries share theirs.
    """

    def __init__(
        self,
        context: SearchContext,
        groups: Groups,
        screener: Callable[[], Screener],
        graph: Graph,
        seen: list[NDArray[np.int32]] | None = None,
        alone: bool = False,
    ) -> None:
        self._context, self._groups, self._alone = context, groups, alone
        self._seen = [np.zeros(0, dtype=np.int32)] * len(groups) if seen is None else seen

        def tools() -> tuple[Explorer, Screener]:
            own = screener()
            return Explorer(graph, own, 1 if alone else TOGETHER, seen is None), own

        self._tools = parallel.PerThread(tools)

    @property
    def screener(self) -> Screener:
        """Screener: this thread's; what was found is to be taken from it."""
        return self._tools.get()[1]

    def calibrate(
        self, sample: Sample, solved: list[NDArray[np.int64]]
    ) -> tuple[float | None, tuple[tuple[float, float, float], ...]]:
        """The largest promise at which a sample has its neighbours, None if there is none; and what was tried.

        Parameters
        ----------
        sample : Sample
        solved : list of ndarray
            As `Sample.solve` returns.
        """
        groups = sample.groups
        shape = len(groups), len(tuning.PROMISES)
        missed, looked = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        promises = np.array(tuning.PROMISES, dtype=np.float32)

        def trial(i: int) -> int:
            begin, end = self._groups.span(groups[i], groups[i] + 1)
            explorer, _ = self._tools.get()
            return explorer.trial(
                begin, end, self._seen[groups[i]], sample.members[i], solved[i], promises, missed[i], looked[i]
            )

        parts = sum(self._context.run([partial(trial, i) for i in range(len(groups))]))
        wanted = np.array([np.sum(rows >= 0) for rows in solved])
        tried: list[tuple[float, float, float]] = []
        for promise, tries, rows in zip(tuning.PROMISES, missed.T, looked.sum(axis=0), strict=True):
            tried.append((promise, float(1.0 - tries.sum() / max(1, wanted.sum())), rows / parts))
            if meets(self._context.settings.recall_target, missed.T[: len(tried)], wanted):
                return promise, tuple(tried)
        return None, tuple(tried)

    def look(self, first: int, last: int, promise: float, start: NDArray[np.float64]) -> NDArray[np.int64]:
        """Let groups `first` to `last` (exclusive) look at what promises enough; how many rows stand for each query.

        Parameters
        ----------
        first, last : int
        promise : float
        start : ndarray, shape (queries of the groups,)
            What the k-th best ``|rho|`` of each is sure to reach.
        """
        ptr, (begin, end) = self._groups.ptr, self._groups.span(first, last)
        counts = np.zeros(end - begin, dtype=np.int64)
        explorer, _ = self._tools.get()
        look = explorer.look_alone if self._alone else explorer.look
        for group in range(first, last):
            part = slice(ptr[group] - begin, ptr[group + 1] - begin)
            look(ptr[group], ptr[group + 1], self._seen[group], promise, start[part], counts[part])
        return counts


def make_graph(
    context: SearchContext, queries: QueryBlock, indices: NDArray[np.int64], distances: NDArray[np.float64]
) -> Graph:
    """A graph of what the queries found: all payload rows, each once."""
    n, n_threads = len(context.payload), context.n_threads
    graph = Graph(n, indices.shape[1])

    def take(begin: int, end: int) -> None:
        graph.take(queries.rows[begin:end], context.payload.row, indices[begin:end], distances[begin:end])

    context.run([partial(take, *span) for span in parallel.spans(n, tuning.LISTS_TAKEN)])
    spans = parallel.spans(n, -(-n // n_threads))
    context.run([partial(graph.count, *span) for span in spans])
    graph.make_room()
    context.run([partial(graph.link, *span) for span in spans])
    return graph
