"""Radius searches over partitions."""

import itertools
from typing import Any

import dask.dataframe as dd
import numpy as np
from dask.delayed import Delayed, delayed

from covertreex.dask import tasks
from covertreex.dask.planning import named
from covertreex.dask.preparing import Prepared, in_groups, prepare, sent_back
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel


def radius(
    X: Any,
    r: float | None = None,
    queries: Any = None,
    *,
    min_correlation: float | None = None,
    **options: Any,
) -> dd.DataFrame:
    """All neighbours within a radius; exact under all settings, as `covertreex.CoverTree.radius`.

    Without a kernel each partition needs a halo as wide as the radius. Under a kernel what is correlated need not be
    near, and all pairs of partitions are looked at.

    Parameters
    ----------
    r : float
        Neighbours at a distance of at most this.
    min_correlation : float, from 0 to 1, optional
        Instead of `r`, where there is a kernel: neighbours with ``|rho|`` of at least this.
    X, queries, **options
        As for `covertreex.dask.search`: what says how far away points are, which neighbours a row may have, and what
        tasks may take, as in ``radius(X, 0.05, kernel=kernel, memory="1 GiB")``.

    Returns
    -------
    dask.dataframe.DataFrame
        A line for each neighbour: ``query`` and ``index``, rows of `queries` (or of X) and of X, and ``distance``. In
        the order of the queries and in their chunks, the nearest first.

    Raises
    ------
    InvalidInputError, SettingsError, BackendError, FactorizationError
        As for `covertreex.dask.search`.

    Examples
    --------
    >>> import numpy as np, covertreex.dask as cxd
    >>> found = cxd.radius(np.array([[0.0], [1.0], [3.0]]), 2.0).compute()
    >>> found["query"].tolist(), found["index"].tolist(), found["distance"].tolist()
    ([0, 1, 1, 2], [1, 0, 2, 1], [1.0, 1.0, 2.0, 2.0])
    """
    if "audit" in options:
        raise InvalidInputError("audit measures recall, and radius searches are exact; leave it out.")
    far = _distance(r, min_correlation, options.get("kernel"))
    ready = prepare(X, queries, None, r=far, **options)
    starts, collect = ready.asked.source.starts, named(tasks.collect_within)
    frames = sent_back(_found(ready, far), tasks.answers_within, starts)
    spans = enumerate(itertools.pairwise(starts.tolist()))
    parts = [collect(i, frames[i], start, stop - start) for i, (start, stop) in spans]
    empty = np.zeros(0, dtype=np.int64)
    lines: dd.DataFrame = dd.from_delayed(parts, meta=tasks.pairs_of(empty, empty, np.zeros(0)))
    return lines


def _distance(r: Any, min_correlation: Any, kernel: Kernel | None) -> float:
    """The radius as a distance."""
    if (r is None) == (min_correlation is None):
        raise InvalidInputError("give a radius r, or min_correlation=..., and not both.")
    given, name, most = (r, "r", np.inf) if min_correlation is None else (min_correlation, "min_correlation", 1.0)
    if min_correlation is not None and kernel is None:
        raise InvalidInputError("min_correlation needs a kernel; this metric is Euclidean. Give a radius r.")
    if (
        isinstance(given, (bool, np.bool_))
        or not isinstance(given, (int, float, np.number))
        or not 0.0 <= given <= most
    ):
        raise InvalidInputError(f"{name} must be a number from 0 to {most}, got {given!r}.")
    return float(given) if min_correlation is None else float(np.sqrt(1.0 - given))


def _found(ready: Prepared, r: float) -> list[Delayed]:
    """What each partition finds for its queries, by itself or in all others."""
    given = delayed(ready.model, traverse=False)
    frames, ask = ready.shuffled()
    here = named(tasks.within)
    found = [here(i, frame, one, given, r) for i, (frame, one) in enumerate(zip(frames, ask, strict=True))]
    if ready.model.euclidean or len(frames) == 1:
        return found
    there, settle = named(tasks.within_others), named(tasks.settle_within)
    rows, settled = in_groups(frames, ready.groups(ready.partition.levels[0])), []
    size = -(-len(frames) // len(rows))
    for i, one in enumerate(found):
        others = [there(i * len(rows) + j, one, group, i - j * size, given, r) for j, group in enumerate(rows)]
        settled.append(settle(i, one, given, r, *others))
    return settled
