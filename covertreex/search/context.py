"""What one search is about: the same for all of its strategies, and never changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from covertreex._core.canonical import view_of
from covertreex._core.screen import Lens, Screener
from covertreex.base import parallel, tuning
from covertreex.base.contract import CALLED
from covertreex.data.payload import EUCLIDEAN, PayloadStore
from covertreex.protocols import QueryBlock, ScanPlan, SearchOutput, Traversal
from covertreex.results import Plan
from covertreex.search.called_scan import scan_called
from covertreex.settings import TraversalSettings

T = TypeVar("T")


@lru_cache
def _exact(settings: TraversalSettings) -> TraversalSettings:
    return settings.replace(recall_target=1.0)


@dataclass(frozen=True, eq=False)
class SearchContext:
    """The data, what is wanted of it, and who finds it.

    Attributes
    ----------
    payload : PayloadStore
    k : int
        Neighbours wanted; 0 where all within a radius are.
    settings : TraversalSettings
    backend : Traversal
    n_threads : int
    cancel : ndarray, shape (1,), int32
        Kernels that see 1 in it return soon (`SearchOutput`).
    """

    payload: PayloadStore
    k: int
    settings: TraversalSettings
    backend: Traversal
    n_threads: int = 1
    cancel: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, dtype=np.int32))

    @property
    def exact(self) -> "SearchContext":
        """SearchContext: the same search without a recall target."""
        return self if self.settings.recall_target == 1.0 else replace(self, settings=_exact(self.settings))

    @property
    def by_boxes(self) -> bool:
        """bool: whether boxes around rows find the nearest: where those are so by distance alone, in few axes."""
        payload, few = self.payload, self.payload.coords.shape[1] <= tuning.BOX_AXES
        return payload.metric == EUCLIDEAN or (self.settings.gate and few and payload.by_distance)

    @property
    def decided_by(self) -> str:
        """str: whose arithmetic decides: the backend's, or NumPy's under a covariance of the caller's."""
        return "numpy" if self.payload.kernel_code == CALLED else self.backend.name

    def plan(self, verb: str, reason: str, **told: Any) -> Plan:
        """What is told of a strategy, as far as it is known; `told` is the rest of a `Plan`."""
        return Plan(verb, reason, **told, decided_by=self.decided_by)

    def run(
        self, tasks: Sequence[Callable[[], T]], on_done: Callable[[T], object] | None = None, brief: bool = False
    ) -> list[T]:
        """`parallel.run` on this search's threads."""
        return parallel.run(tasks, self.n_threads, self.cancel, on_done, brief)

    def products(self, queries: int) -> float:
        """How many numbers are multiplied for so many queries, about: with all rows, or with those that boxes leave."""
        payload, rows = self.payload, len(self.payload)
        if self.by_boxes and self.settings.strategy != "tree" and self.k:  # a radius may leave any number
            rows = min(rows, tuning.BOXES_LEAVE * (self.k + 1))
        return float(queries * rows * (payload.factors.shape[1] + payload.coords.shape[1] + 16))

    def is_brief(self, queries: int) -> bool:
        """Whether the calling thread looks for so many queries itself: to start threads takes as long."""
        return self.payload.kernel_code != CALLED and self.products(queries) <= tuning.BRIEF

    def scan(self, plan: ScanPlan, k: int | None = None, out: SearchOutput | None = None) -> SearchOutput:
        """Let the backend decide a plan, on this thread.

        Parameters
        ----------
        plan : ScanPlan
        k : int, optional
            Neighbours that there is room for; by default those wanted.
        out : SearchOutput, optional
            Where to write; by default new room.
        """
        k = self.k if k is None else k
        out = self.output(len(plan.queries), k) if out is None else out
        if self.payload.kernel_code == CALLED:
            scan_called(self.payload, plan, k, out)
            return out
        self.backend.scan(self.payload, plan, k, self.settings, out)
        return out

    def output(self, q: int, k: int) -> SearchOutput:
        """Room for the answers to `q` queries, whose kernels hear of this search's end."""
        return SearchOutput.empty(q, k, self.cancel)

    def screener(
        self,
        lens: Lens,
        queries: QueryBlock,
        most: int,
        *,
        first: Lens | None = None,
        again: Lens | None = None,
        k: int | None = None,
    ) -> Screener:
        """One thread's screener of groups of at most `most` queries.

        Parameters
        ----------
        lens : Lens
            What all pairs are looked at through.
        queries : QueryBlock
            What the lens was made for.
        most : int
        first : Lens, optional
            Serves while a query has no threshold yet; `lens` by default.
        again : Lens, optional
            A sharper one, for pairs that `lens` leaves in doubt.
        k : int, optional
            As in `scan`.
        """
        k = self.k if k is None else k
        return Screener(lens if first is None else first, lens, again, queries, view_of(self.payload), k, most,
                        self.cancel)  # fmt: skip
