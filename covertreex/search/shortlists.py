"""Who shortens the lists of a strategy: the backend's own screens (level S), or covertreex's, by one verb."""

import weakref
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Screener
from covertreex.base import parallel
from covertreex.data.payload import PayloadStore
from covertreex.errors import BackendError
from covertreex.protocols import Declined, QueryBlock, ScanPlan, Screening, ShortlistOutput, Traversal
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups
from covertreex.search.scan_plans import plan_of_lists
from covertreex.search.screens.view import View

#: What people are told of screens that are covertreex's own: they are the cython backend's code.
OWN = "cython"


class Shortener(Protocol):
    """What has the verb."""

    def shortlist(
        self, handle: Any, plan: ScanPlan, thresholds: NDArray[np.float64], k: int, out: ShortlistOutput
    ) -> NDArray[np.int64]:
        """See `covertreex.protocols.Screening.shortlist`."""


@dataclass(frozen=True, eq=False)
class Lookout:
    """The handle of `OwnScreens`: one thread's screener, and which of its queries a plan begins with."""

    screener: Screener
    before: int = 0


class OwnScreens:
    """Level S by the screens of ``covertreex._core``, which serve every backend that has none."""

    def shortlist(
        self, handle: Lookout, plan: ScanPlan, thresholds: NDArray[np.float64], k: int, out: ShortlistOutput
    ) -> NDArray[np.int64]:
        """See `covertreex.protocols.Screening.shortlist`; `k` and the flag are those of the screener."""
        _, out.counts[:] = handle.screener.sweep(plan, handle.before, thresholds)
        return handle.screener.take()


@dataclass(frozen=True)
class Prepared:
    """What a backend has made of a payload for its screens.

    Attributes
    ----------
    handle : Any
        None if it has no level S, or declined.
    declined : str
        Why it did.
    """

    handle: Any = None
    declined: str = ""


def prepared(backend: Traversal, payload: PayloadStore) -> Prepared:
    """What `backend` makes of a payload for its screens: once (V6), and released when the payload is gone.

    Raises
    ------
    BackendError
        If `prepare` fails but by declining.
    """
    if "S" not in backend.capabilities.levels or not isinstance(backend, Screening):
        return Prepared()

    def make() -> Prepared:
        try:
            handle = backend.prepare(payload)
        except Declined as declined:
            return Prepared(declined=str(declined))
        except Exception as error:
            raise BackendError(
                f"backend {backend.name!r} could not prepare its screens: {error}. Choose another backend, or "
                "report it to its authors."
            ) from error
        weakref.finalize(payload, backend.release, handle).atexit = False
        return Prepared(handle)

    # By the object, not its name alone: two of one name may be asked in turn.
    made: Prepared = payload.kept.get(f"prepared by {backend.name}, {id(backend)}", make)
    return made


class Shortlists:
    """Short lists of the groups of one strategy.

    Parameters
    ----------
    context : SearchContext
    view : View
        How covertreex's own screens see the data.
    queries : QueryBlock
        All that the strategy asks; plans hold some of them in a row.
    most : int
        Queries of the largest group.
    k : int, optional
        0 for all rows that may reach their threshold; by default the neighbours wanted.

    Attributes
    ----------
    by : str
        Whose screens they are.
    name : str
        What people are told of the screen.
    """

    def __init__(
        self, context: SearchContext, view: View, queries: QueryBlock, most: int, k: int | None = None
    ) -> None:
        k = context.k if k is None else k
        self._context, self._view, self._k = context, view, k
        # It knows k and not this object: in a circle, all data would stay in memory until somebody looks for circles.
        self._screeners = parallel.PerThread(lambda: view.screener(queries, most, k))
        made = prepared(context.backend, context.payload)
        self._handle, self.declined = made.handle, made.declined
        self.by, self.name = OWN, view.screen.name
        self._screens: Shortener = OwnScreens()
        if made.handle is not None:
            assert isinstance(context.backend, Screening)
            self.by, self.name, self._screens = context.backend.name, str(made.handle), context.backend

    def told(self) -> dict[str, Any]:
        """What a `Plan` says of the screen; what is expected is told of covertreex's own."""
        told: dict[str, Any] = {"screen": self.name, "screened_by": self.by, "declined": self.declined}
        return told if self._handle is None else told | {"costs": (), "expected": ()}

    def of(
        self,
        plan: ScanPlan,
        before: int,
        thresholds: NDArray[np.float64] | None,
        kth_upper: NDArray[np.float64] | None = None,
    ) -> tuple[ScanPlan, dict[str, int]]:
        """A plan with one group per query, which holds the rows of `plan` that may be among its k nearest (V1).

        Parameters
        ----------
        plan : ScanPlan
            Its queries are those from place `before` on.
        before : int
        thresholds : ndarray, shape (q,), float64, or None
            What the k-th best ``|rho|`` of each query is sure to reach.
        kth_upper : ndarray, shape (q,), float64, optional
            Of the plan that is returned.

        Returns
        -------
        plan : ScanPlan
        counters : dict of str to int
            What the screen did: `gate_rejects` in float32, `gemm_tiles` in float64, `canonical_rechecks`.

        Raises
        ------
        BackendError
            If the backend's counts are not those of its rows.
        """
        q = len(plan.queries)
        thresholds = np.full(q, -np.inf) if thresholds is None else thresholds
        out = ShortlistOutput.empty(q, self._context.cancel)
        if self._handle is None:
            screener = self._screeners.get()
            rows = self._screens.shortlist(Lookout(screener, before), plan, thresholds, self._k, out)
            counters = self._view.screen.counters(screener, len(rows))
        else:
            rows = self._screens.shortlist(self._handle, plan, thresholds, self._k, out)
            counters = {"canonical_rechecks": len(rows), "gate_rejects": max(0, int(out.pairs[0]) - len(rows))}
            if out.counts.sum() != len(rows):
                raise BackendError(
                    f"backend {self.by!r} returned {len(rows)} rows and counted {out.counts.sum()}; its answer cannot "
                    "be trusted. Run the conformance checks on it."
                )
        return plan_of_lists(plan.queries, out.counts, rows, kth_upper), counters


def batched(context: SearchContext, groups: Groups) -> Groups:
    """Groups of a strategy that asks `Shortlists`, in blocks that the backend likes (`Capabilities.batch`)."""
    batch = context.backend.capabilities.batch
    if batch == 0 or prepared(context.backend, context.payload).handle is None:
        return groups
    return groups.in_blocks(max(1, batch // max(1, groups.most)))
