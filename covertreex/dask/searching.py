"""Searches for the nearest: planned at once, computed when they are asked for."""

import itertools
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import ArrayLike

from covertreex.base.validation import check_flag
from covertreex.dask import tasks
from covertreex.dask.again import asked_again
from covertreex.dask.planning import named
from covertreex.dask.preparing import Prepared, in_groups, prepare, sent_back
from covertreex.dask.results import DaskResult
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel
from covertreex.settings import TraversalSettings


def search(
    X: Any,
    k: int,
    queries: Any = None,
    *,
    kernel: Kernel | None = None,
    inducing: ArrayLike | None = None,
    seed: int = 0,
    jitter: float | None = None,
    noise: ArrayLike | None = None,
    lonlat: bool = False,
    radius: float | None = None,
    predecessor_mode: bool = False,
    order: ArrayLike | None = None,
    include_self: bool = False,
    max_per_site: int | None = None,
    settings: str | TraversalSettings | None = None,
    backend: str | None = None,
    audit: int = 0,
    memory: str | float | None = None,
    partitions: int | None = None,
) -> DaskResult:
    """The k nearest neighbours of every row, or of other points, by tasks that Dask runs wherever it runs.

    Planning reads the points once or twice, at once: it checks all numbers, takes a sample, and finds out how wide
    halos must be. The search itself is lazy.

    Parameters
    ----------
    X : dask.array.Array, dask.dataframe.DataFrame, ndarray, memmap or zarr.Array, shape (n, d)
        Points, in chunks of rows. Where their sizes are unknown, they are counted first, in a pass of its own.
    k : int
        From 1 to n.
    queries : as `X`, optional
        Other points to find neighbours of. By default the rows of X.
    kernel, inducing, seed, jitter, noise, lonlat, radius
        As for `covertreex.cover_tree`. Inducing points and a noise for each point are NumPy arrays.
    predecessor_mode, include_self, max_per_site, settings, backend
        As for `covertreex.CoverTree.search`.
    order : array_like of int, shape (n,), optional
        As for `covertreex.CoverTree.search`; it travels with the graph, 8 bytes a row.
    audit : int
        How many queries `DaskResult.recall` is measured by. Where settings are approximate and partitions have halos,
        as many others are audited as part of the search: their neighbours are looked for in all rows, and a prefix
        level that misses more of them than its target allows is asked again, with halos as wide as they need.
    memory : int or str, optional
        Bytes that one task may take, such as '512 MB'; by default six tenths of each worker's limit, less what it has
        in use when idle, divided among its threads. Partitions are as few as that allows.
    partitions : int, optional
        At least so many partitions; by default one for each worker.

    Returns
    -------
    DaskResult

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, a number is not finite (the chunk and the row in it are named), columns differ
        between partitions of a data frame, a worker has another version of covertreex, or no partition fits into
        `memory`.
    SettingsError, BackendError, FactorizationError
        As for `covertreex.cover_tree` and `covertreex.CoverTree.search`.

    Notes
    -----
    'exact' settings give the bits of `covertreex.CoverTree.search` with all points in one process, whatever the
    partitions. 'fast' looks at each partition and a halo around it, and meets the same recall target.

    Examples
    --------
    >>> import dask.array as da, covertreex as cx, covertreex.dask as cxd
    >>> X = da.from_array([[0.0], [1.0], [3.0]], chunks=(2, 1))
    >>> cxd.search(X, k=1).indices.compute().ravel().tolist()
    [1, 0, 1]
    """
    if isinstance(audit, bool) or not isinstance(audit, (int, np.integer)) or audit < 0:
        raise InvalidInputError(f"audit must be a number of queries, 0 or more, got {audit!r}.")
    ready = prepare(
        X,
        queries,
        k,
        kernel=kernel,
        inducing=inducing,
        seed=seed,
        jitter=jitter,
        noise=noise,
        lonlat=lonlat,
        radius=radius,
        predecessor_mode=predecessor_mode,
        order=order,
        include_self=include_self,
        max_per_site=max_per_site,
        settings=settings,
        backend=backend,
        memory=memory,
        partitions=partitions,
        audit=int(audit),
    )
    found = _found(ready)
    indices, distances = _in_order(ready, found if ready.audit is None else asked_again(ready, found))
    return DaskResult(indices, distances, ready.plan, ready.model, ready.data, ready.asked, int(audit))


def knn(X: Any, k: int, queries: Any = None, *, return_distances: bool = False, **options: Any) -> Any:
    """`search`, for its arrays alone, as `covertreex.CoverTree.knn`.

    Parameters
    ----------
    X, k, queries, **options
        As for `search`.
    return_distances : bool
        Whether to return the distances as well.

    Returns
    -------
    indices : dask.array.Array, shape (q, k), int64
    distances : dask.array.Array, shape (q, k), float64
        Only if `return_distances`.

    Raises
    ------
    InvalidInputError, SettingsError, BackendError, FactorizationError
        As for `search`.

    Examples
    --------
    >>> import numpy as np, covertreex.dask as cxd
    >>> cxd.knn(np.array([[0.0], [1.0], [3.0]]), 2, predecessor_mode=True).compute().tolist()
    [[-1, -1], [0, -1], [1, 0]]
    """
    result = search(X, k, queries, **options)
    return (result.indices, result.distances) if check_flag(return_distances, "return_distances") else result.indices


def _found(ready: Prepared) -> list[Delayed]:
    """What each partition finds for its queries."""
    given, found = delayed(ready.model, traverse=False), list[Delayed]()
    frames, ask = ready.shuffled()
    near, part = named(tasks.near), ready.partition
    for level, start in zip(part.levels, part.starts, strict=False):
        cells = range(start, start + len(level.cells))
        whole = len(level.cells) == 1
        close = [near(i, frames[i], ask[i], given, level.least, whole) for i in cells]
        if not whole and not ready.model.settings.approximate:
            close = _swept(close, [frames[i] for i in cells], given, ready.groups(level))
        found += close
    return found


def _swept(close: list[Delayed], frames: list[Delayed], given: Delayed, groups: int) -> list[Delayed]:
    """Every partition's queries against the rows of all partitions, which are in groups."""
    sweep, settle, sweep_all = named(tasks.sweep), named(tasks.settle), named(tasks.sweep_all)
    rows, settled = in_groups(frames, groups), list[Delayed]()
    if len(rows) == 1:  # one group after the other would be compared, and what they had at last; of one, that is all
        return [sweep_all(i, found, given, rows[0]) for i, found in enumerate(close)]
    for i, found in enumerate(close):
        others = [sweep(i * len(rows) + j, found, given, group) for j, group in enumerate(rows)]
        settled.append(settle(i, found, given, *others))
    return settled


def _in_order(ready: Prepared, found: list[Delayed]) -> tuple[da.Array, da.Array]:
    """Answers in the order and chunks of what was asked."""
    k, starts = ready.model.k, ready.asked.source.starts
    frames, collect = sent_back(found, tasks.answers, starts), named(tasks.collect)
    indices, distances = [], []
    for i, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
        both: Any = collect(i, frames[i], start, stop - start, k)
        indices.append(da.from_delayed(both[0], (stop - start, k), dtype=np.int64))
        distances.append(da.from_delayed(both[1], (stop - start, k), dtype=np.float64))
    return da.concatenate(indices), da.concatenate(distances)
