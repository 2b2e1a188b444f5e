"""What people call: `cover_tree` makes a `CoverTree`, which answers queries."""

import os
from collections.abc import Iterator
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from covertreex import search
from covertreex._core.canonical import standard_arithmetic
from covertreex.backends import registry
from covertreex.base import parallel
from covertreex.base.progress import logger
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import check_flag, check_k, check_max_per_site, check_points, feature_names, read_only
from covertreex.data import changes, questions
from covertreex.data.factors import Projection
from covertreex.data.metrics import Correlation, Euclidean, Metric, ResidualCorrelation, lonlat_of
from covertreex.data.payload import PayloadStore
from covertreex.data.sites import Sites, SitesOfRows
from covertreex.data.state import TreeState
from covertreex.data.tree import Tree
from covertreex.errors import InvalidInputError
from covertreex.io import transport
from covertreex.kernels import Kernel
from covertreex.kernels.checks import radius_of_sphere
from covertreex.kernels.columns import check_lonlat
from covertreex.oracle import DenseOracle
from covertreex.protocols import QueryBlock
from covertreex.results import RadiusResult, SearchResult, recall_interval
from covertreex.settings import TraversalSettings, resolve_settings, settings_from_env


class CoverTree:
    """Points, a metric, and the ways to ask for neighbours. Made by `cover_tree`; immutable.

    Examples
    --------
    >>> import covertreex as cx
    >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    >>> tree, len(tree)
    (CoverTree(n=3, d=1, metric=Euclidean), 3)
    """

    def __init__(self, state: TreeState) -> None:
        self._state = state

    def __len__(self) -> int:
        return len(self._state)

    def __repr__(self) -> str:
        return f"CoverTree(n={len(self)}, d={self.X.shape[1]}, metric={type(self.metric).__name__})"

    @property
    def X(self) -> FloatArray:
        """ndarray, shape (n, d), float64: the points, in the caller's order; deleted ones are still there."""
        return self._state.X

    @property
    def metric(self) -> Metric:
        """Euclidean, Correlation or ResidualCorrelation: what distances mean."""
        return self._state.metric

    @property
    def payload(self) -> PayloadStore:
        """PayloadStore: what distances are computed from; shared by all backends."""
        return self._state.payload

    @property
    def projection(self) -> Projection | None:
        """Projection or None: how points that are no rows are compared with these. Called with points and a number of
        threads, it gives their scaled coordinates, factors and residual variances, in the units of `payload`. None
        where factors were supplied."""
        return self._state.projection

    @property
    def n_threads(self) -> int:
        """int: as given; else the cores that this process may use, wherever the tree was made."""
        return self._state.threads

    @property
    def feature_names_in_(self) -> tuple[str, ...] | None:
        """tuple of str, or None: names of the columns, if the points came as a table whose columns all have strings for
        names. Tables that are asked for or inserted must have the same, in the same order; arrays, which have none, go
        by position."""
        return self._state.feature_names

    @property
    def lonlat(self) -> float | None:
        """float or None: radius of the sphere on which columns 0 and 1 of `X`, and of whatever is asked for or
        inserted, are longitude and latitude in degrees; None if they are not."""
        return self._state.lonlat

    @property
    def ids(self) -> IntArray:
        """ndarray, shape (n,), int64: rows of `X` that may be asked for and found, ascending: all but deleted ones."""
        return self._state.ids

    @property
    def tree(self) -> Tree:
        """Tree: the cover tree itself; built when it is first needed (a scan needs none)."""
        return self._state.tree

    @standard_arithmetic
    def check_invariants(self, pairs: int | None = None) -> None:
        """Check the tree's invariants T1 to T5; see `covertreex.data.tree.Tree.check_invariants`.

        Raises
        ------
        InvariantError
            Naming the invariant that is broken.

        Examples
        --------
        >>> import covertreex as cx
        >>> cx.cover_tree([[0.0], [1.0], [3.0]]).check_invariants()  # silent: all hold
        """
        self.tree.check_invariants(self.payload, pairs)

    @overload
    def knn(
        self,
        k: int,
        queries: ArrayLike | None = None,
        *,
        return_distances: Literal[False] = False,
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        include_self: bool = False,
        max_per_site: int | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
    ) -> IntArray: ...

    @overload
    def knn(
        self,
        k: int,
        queries: ArrayLike | None = None,
        *,
        return_distances: Literal[True],
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        include_self: bool = False,
        max_per_site: int | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
    ) -> tuple[IntArray, FloatArray]: ...

    @overload
    def knn(
        self,
        k: int,
        queries: ArrayLike | None = None,
        *,
        return_distances: bool,
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        include_self: bool = False,
        max_per_site: int | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
    ) -> IntArray | tuple[IntArray, FloatArray]: ...

    def knn(
        self,
        k: int,
        queries: ArrayLike | None = None,
        *,
        return_distances: bool = False,
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        include_self: bool = False,
        max_per_site: int | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
    ) -> IntArray | tuple[IntArray, FloatArray]:
        """The k nearest neighbours.

        Parameters
        ----------
        k : int
            From 1 to n.
        queries : array_like, optional
            Integer rows of X, shape (q,): a row is not its own neighbour, unless `include_self`. Or coordinates, shape
            (q, d), such as the points to predict at: nothing is excluded. All rows by default.
        return_distances : bool
            Whether to return the distances as well.
        predecessor_mode : bool
            Only neighbours before the query: j < i, or earlier in `order`. Rows with fewer than k of them end in -1.
        order : array_like of int, shape (n,), optional
            A permutation of the rows (`covertreex.ordering`), beside `predecessor_mode` or `limit`: "before" means
            earlier in it. Neighbours are rows of X all the same.
        limit : int or array_like of int, shape (q,), optional
            Only neighbours among the first so many rows (of `order`, if it is given), for each query or for all.
        include_self : bool
            Whether a row may be its own neighbour.
        max_per_site : int, optional
            At most so many neighbours of a query share one site, that is equal scaled coordinates: the k nearest that
            there are under this restriction. By default any number.
        v_query : array_like, shape (q, m), optional
            Factors of coordinates, ``L^-1 k(Z, x)`` from the same model as the data's own; they are needed where the
            data's were given as `v_matrix`.
        p_query : array_like, shape (q,), optional
            Residual variances that go with `v_query`, as `p_diag` with `v_matrix`; computed if left out.
        settings : str or TraversalSettings, optional
            'exact', 'fast', 'parity', 'gold' or settings of your own. By default 'exact', unless the environment says
            otherwise (`covertreex.settings_from_env`).
        backend : str, optional
            Name of a backend; by default the first of cython, rust, numba that can do it.
        n_threads : int, optional
            By default what the tree was made with. Has no influence on the answer.

        Returns
        -------
        indices : ndarray, shape (q, k), int64
            Rows of X, the nearest first; those at one distance by ``|rho|`` as float64 holds it, then by scaled
            distance, then by row. -1 past the last.
        distances : ndarray, shape (q, k), float64
            Only if `return_distances`. ``sqrt(1 - |rho|)`` or Euclidean; inf past the last.

        Raises
        ------
        InvalidInputError
            If an argument is out of range or of the wrong shape.
        SettingsError
            If the settings are unknown.
        BackendError
            If the backend is unknown, broken, or unable.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]])
        >>> tree.knn(k=2).tolist()
        [[1, 2], [0, 2], [1, 0]]
        >>> tree.knn(k=2, predecessor_mode=True).tolist()
        [[-1, -1], [0, -1], [1, 0]]
        >>> tree.knn(k=2, predecessor_mode=True, order=[2, 0, 1]).tolist()
        [[2, -1], [0, 2], [-1, -1]]
        >>> tree.knn(k=2, queries=[[2.1]], limit=2).tolist()
        [[1, 0]]
        """
        result = self.search(
            k,
            queries,
            predecessor_mode=predecessor_mode,
            order=order,
            limit=limit,
            include_self=include_self,
            max_per_site=max_per_site,
            v_query=v_query,
            p_query=p_query,
            settings=settings,
            backend=backend,
            n_threads=n_threads,
        )
        return (result.indices, result.distances) if return_distances else result.indices

    @standard_arithmetic
    def search(
        self,
        k: int,
        queries: ArrayLike | None = None,
        *,
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        include_self: bool = False,
        max_per_site: int | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
        audit: int = 0,
        start: SearchResult | None = None,
    ) -> SearchResult:
        """`knn`, and everything that it hides.

        Parameters
        ----------
        k, queries, predecessor_mode, order, limit, include_self, max_per_site, v_query, p_query, settings, backend, \
        n_threads
            As for `knn`.
        audit : int
            Check this many randomly drawn queries (the same for the same arguments) against the dense float64 oracle,
            and report their recall.
        start : SearchResult, optional
            What an earlier search for rows returned, as before an optimiser's last step (`with_metric`): a search of
            all rows with a recall target begins with its neighbours, where a sample says that this meets the target,
            in some three quarters of the time. Other searches do not need it. The recall target is the same, and an
            answer that is not exact may be another one than without.

        Returns
        -------
        SearchResult

        Raises
        ------
        InvalidInputError, SettingsError, BackendError
            As for `knn`.

        Examples
        --------
        >>> import covertreex as cx
        >>> result = cx.cover_tree([[0.0], [1.0], [3.0]]).search(k=1, audit=3)
        >>> result.recall, result.telemetry.counters["stop_budget"]
        (1.0, 0)
        """
        environment = settings_from_env()
        settings = resolve_settings(settings, environment)
        k = check_k(k, len(self), "the number of points")
        most = check_max_per_site(max_per_site)
        n_threads = self.n_threads if n_threads is None else parallel.thread_count(n_threads)
        if isinstance(audit, bool) or not isinstance(audit, (int, np.integer)) or audit < 0:
            raise InvalidInputError(f"audit must be a number of queries, 0 or more, got {audit!r}.")
        asked = questions.check(
            self._state,
            queries,
            predecessor_mode=predecessor_mode,
            include_self=include_self,
            order=order,
            limit=limit,
            v_query=v_query,
            p_query=p_query,
        )
        earlier = None
        if start is not None:
            if not isinstance(start, SearchResult):
                raise InvalidInputError(
                    f"start must be what an earlier search returned, a SearchResult, got {type(start).__name__}."
                )
            known = questions.earlier(self._state, asked, start.rows, start.indices, start.distances)
            earlier = search.Earlier(*known)
        chosen = registry.choose_backend(settings, backend, search.choose_verb(settings, self.payload), environment)
        block = questions.block_of(self._state, asked, n_threads)
        context = search.SearchContext(self.payload, k, settings, chosen, n_threads)
        sites, spread = Sites.of(self.payload), None
        if most is not None and sites.largest > most:
            spread = search.Spread(sites.numbers, most, len(self))
        answer = search.nearest(context, block, lambda: self.tree, self._state.halos, spread, earlier)
        indices = questions.dataset_indices(self._state, answer.indices)
        logger.debug("k = %d for %d points: %s, backend %s", k, len(asked), answer.plan.strategy, chosen.name)
        recall = interval = None
        if audit:
            draw = np.random.default_rng(0).permutation(len(asked))[:audit]
            truth = self.oracle().hits(indices[draw], max_per_site=most, **asked.draw(draw))
            recall, interval = recall_interval(*truth)
        return SearchResult(
            indices=indices,
            distances=answer.distances,
            telemetry=answer.telemetry,
            backend=chosen.name,
            plan=answer.plan,
            settings=settings,
            recall=recall,
            recall_interval=interval,
            rows=None if asked.external else asked.asked,
            order=asked.order,
            site_of=SitesOfRows(sites, self._state.held),
        )

    @standard_arithmetic
    def radius(
        self,
        r: float | None = None,
        queries: ArrayLike | None = None,
        *,
        min_correlation: float | None = None,
        include_self: bool = False,
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
        max_bytes: float | None = None,
    ) -> RadiusResult:
        """All neighbours within a radius.

        Parameters
        ----------
        r : float
            Neighbours at a distance of at most this: ``sqrt(1 - |rho|)`` or Euclidean. The comparison is exact, of the
            distance that `knn` returns.
        queries
            As for `knn`.
        min_correlation : float, from 0 to 1, optional
            Instead of `r`: neighbours with ``|rho|`` of at least this, which is ``r = sqrt(1 - min_correlation)``.
        include_self, predecessor_mode, order, limit, v_query, p_query, backend, n_threads
            As for `knn`.
        settings : str or TraversalSettings, optional
            As for `knn`, but the answer is exact under all of them.
        max_bytes : float, optional
            Memory that the neighbours may take, 32 bytes each while they are put in order (16 in the result); half of
            what is available by default. They are counted as they are found, and a search that finds more is refused;
            `radius_batches` goes through any number of them.

        Returns
        -------
        RadiusResult

        Raises
        ------
        InvalidInputError
            Also if there are more neighbours than `max_bytes` has room for.
        SettingsError, BackendError
            As for `knn`.

        Examples
        --------
        >>> import covertreex as cx
        >>> result = cx.cover_tree([[0.0], [1.0], [3.0]]).radius(2.0)
        >>> result.indptr.tolist(), result.indices.tolist(), result.distances.tolist()
        ([0, 1, 3, 4], [1, 0, 2, 1], [1.0, 1.0, 2.0, 2.0])
        """
        (whole,) = self._radius_blocks(
            r, queries, min_correlation, None, max_bytes, settings, backend, n_threads, include_self=include_self,
            predecessor_mode=predecessor_mode, order=order, limit=limit, v_query=v_query, p_query=p_query,
        )  # fmt: skip
        return whole

    def radius_batches(
        self,
        r: float | None = None,
        queries: ArrayLike | None = None,
        *,
        batch_size: int = 1024,
        min_correlation: float | None = None,
        include_self: bool = False,
        predecessor_mode: bool = False,
        order: ArrayLike | None = None,
        limit: ArrayLike | None = None,
        v_query: ArrayLike | None = None,
        p_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
        max_bytes: float | None = None,
    ) -> Iterator[RadiusResult]:
        """`radius`, for one block of consecutive queries after the other, where all answers together are too many.

        Parameters
        ----------
        batch_size : int
            Queries of a block; the last has what is left.
        max_bytes : float, optional
            As for `radius`, of each block.
        r, queries, min_correlation, include_self, predecessor_mode, order, limit, v_query, p_query, settings, backend,\
        n_threads
            As for `radius`.

        Returns
        -------
        iterator of RadiusResult
            Of each block in turn, searched for when it is asked for. Together they hold what `radius` returns.

        Raises
        ------
        InvalidInputError, SettingsError, BackendError
            As for `radius`; arguments are checked at once, `max_bytes` block by block.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]])
        >>> [(len(part), part.indices.tolist()) for part in tree.radius_batches(2.0, batch_size=2)]
        [(2, [1, 0, 2]), (1, [1])]
        """
        return self._radius_blocks(
            r, queries, min_correlation, search.check_batch_size(batch_size), max_bytes, settings, backend, n_threads,
            include_self=include_self, predecessor_mode=predecessor_mode, order=order, limit=limit, v_query=v_query,
            p_query=p_query,
        )  # fmt: skip

    def _radius_blocks(
        self,
        r: float | None,
        queries: ArrayLike | None,
        min_correlation: float | None,
        size: int | None,
        max_bytes: float | None,
        settings: str | TraversalSettings | None,
        backend: str | None,
        n_threads: int | None,
        **asked: Any,
    ) -> Iterator[RadiusResult]:
        """Check everything; an iterator of answers to blocks of `size` queries, or to all at once."""
        environment = settings_from_env()
        settings = resolve_settings(settings, environment)
        n_threads = self.n_threads if n_threads is None else parallel.thread_count(n_threads)
        distance = search.check_radius(self.payload, r, min_correlation)
        most = search.check_max_bytes(max_bytes)
        question = questions.check(self._state, queries, **asked)
        chosen = registry.choose_backend(settings, backend, "scan", environment)
        block = questions.block_of(self._state, question, n_threads)

        @standard_arithmetic  # batches are answered when they are asked for
        def answer(part: QueryBlock) -> RadiusResult:
            context = search.SearchContext(self.payload, 0, settings, chosen, n_threads)
            found = search.within(context, part, distance, most)
            assert found.indptr is not None  # within a radius each query has as many as it has
            return RadiusResult(
                indptr=found.indptr,
                indices=questions.dataset_indices(self._state, found.indices),
                distances=found.distances,
                radius=distance,
                backend=chosen.name,
                rows=None if question.external else self._rows_of(part),
                telemetry=found.telemetry,
                plan=found.plan,
            )

        return map(answer, [block] if size is None else search.batches(block, size))

    def _rows_of(self, block: QueryBlock) -> IntArray:
        """Rows of X that a block of internal queries is about."""
        return questions.dataset_indices(self._state, self.payload.index[block.rows])

    @standard_arithmetic
    def prepare(self, k: int, n_threads: int | None = None) -> "CoverTree":
        """Make ready what small exact searches use again, so that each takes a fraction of the time.

        Worth it where few queries at a time are asked, again and again. Under residual correlation rows around a net of
        anchors are sorted by angle (halos), in the time of an exact search for a quarter of all rows; then a query
        looks at some hundred rows instead of all. That helps searches for at most `k` neighbours among all rows, under
        'exact' and 'fast'; with predecessors or a limit nothing changes. Where hardly any row is near another, as
        under rough kernels, a sample tells, and nothing is made. ``print(result.plan)`` of a search says how it went.
        Where boxes find the nearest, as under Euclidean distance, those are made that the first search would make.

        Answers are the same, to the bit, with and without. Trees that `with_metric`, `insert` and `delete` return, and
        loaded ones, have to be prepared anew. Halos take at most 8 bytes for each of 1,024 rows (4 `k`, if that is
        more) around each anchor.

        Parameters
        ----------
        k : int
            The most neighbours that will be wanted.
        n_threads : int, optional
            As for `knn`.

        Returns
        -------
        CoverTree
            This tree.

        Raises
        ------
        InvalidInputError
            If an argument is out of range.

        Examples
        --------
        >>> import numpy as np, covertreex as cx
        >>> X = np.random.default_rng(0).normal(size=(3000, 2))
        >>> tree = cx.cover_tree(X, kernel=cx.RBF(lengthscale=0.5), inducing=50).prepare(k=10)
        >>> print(tree.search(k=10, queries=[5, 7]).plan)  # doctest: +ELLIPSIS
        scan: halos: ...certified 2 of 2 queries...
        """
        k = check_k(k, len(self), "the number of points")
        n_threads = self.n_threads if n_threads is None else parallel.thread_count(n_threads)
        environment = settings_from_env()
        settings = resolve_settings("exact", environment)
        block = questions.block_of(self._state, questions.check(self._state, include_self=True), n_threads)
        backend = registry.choose_backend(settings, None, "scan", environment)
        context = search.SearchContext(self.payload, k, settings, backend, n_threads)
        self._state.kept.put("halos", search.prepare(context, block))
        return self

    @standard_arithmetic
    def with_metric(self, metric: Kernel | Metric, *, noise: ArrayLike | None = None) -> "CoverTree":
        """The same points under another metric, as an optimiser of kernel parameters needs them at every step.

        Row order and maps are kept, and so is the shape of the cover tree, if it was built: only factors, distances
        and radii are computed anew. Inducing points stay. Answers are those of a tree made afresh, to the bit; a tree
        search may look at more nodes, as the shape is that of a cover tree in the old metric (`Tree.cover_metric`).
        That takes a small part of the time of building one (docs/measured.md).

        Parameters
        ----------
        metric : Kernel, Euclidean, Correlation or ResidualCorrelation
            A kernel takes the place of the one there is. Names in its `active_dims` are those of the tree's columns,
            and `lonlat` stays what it is.
        noise : float, or array_like of shape (n,), optional
            Beside a kernel: as for `cover_tree`, of an array one entry for each of `ids`; by default what it was.

        Returns
        -------
        CoverTree

        Raises
        ------
        InvalidInputError
            If the metric cannot be used on these points, or a kernel is given where factors were supplied.
        FactorizationError
            As for `cover_tree`.

        Examples
        --------
        >>> import numpy as np, covertreex as cx
        >>> X = np.random.default_rng(0).normal(size=(500, 2))
        >>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.5), inducing=50)
        >>> before = tree.search(k=5, predecessor_mode=True)
        >>> after = tree.with_metric(cx.Matern32(lengthscale=0.51)).search(k=5, predecessor_mode=True)
        >>> len(after.changed_rows(before)) < 250
        True
        """
        return CoverTree(changes.with_metric(self._state, metric, noise))

    @standard_arithmetic
    def insert(
        self,
        X_new: ArrayLike,
        *,
        v_matrix: ArrayLike | None = None,
        p_diag: ArrayLike | None = None,
        noise: ArrayLike | None = None,
    ) -> "CoverTree":
        """A tree with more points; this one stays as it is.

        The new points come after all others: their rows are ``len(tree.X)`` and up, and rows of old points do not
        change. Inducing points stay what they are. Answers are those of a tree made afresh of all points (with the same
        inducing points), to the bit. Only factors of the new points are computed, and if the cover tree was built, only
        they are inserted; the first insertion copies the factors of the others, later ones share them, and take a small
        part of the time of making all anew (docs/measured.md). Factors that the caller supplies are copied and checked
        anew in every insertion.

        Test points that are inserted and asked for with ``predecessor_mode=True`` have all training points and the test
        points before them as candidates, as joint predictions of Vecchia approximations do.

        Parameters
        ----------
        X_new : array_like, shape (m, d)
        v_matrix, p_diag : array_like, optional
            Factors, shape (m, columns), and residual variances, shape (m,), of the new points; where the tree was made
            with them.
        noise : float, or array_like of shape (m,), optional
            Noise of the new points; needed where the tree was made with one for each point. By default a noise that all
            points share is theirs too.

        Returns
        -------
        CoverTree

        Raises
        ------
        InvalidInputError
            If the points or factors cannot be used.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]]).insert([[1.4]])
        >>> len(tree), tree.knn(k=1).ravel().tolist()
        (4, [1, 3, 3, 1])
        """
        return CoverTree(changes.insert(self._state, X_new, v_matrix, p_diag, noise))

    @standard_arithmetic
    def delete(self, rows: ArrayLike) -> "CoverTree":
        """A tree with fewer points; this one stays as it is.

        Rows of the other points do not change: `X` keeps all rows, and answers speak of them as before. A deleted row
        is nobody's neighbour and cannot be asked for; `ids` lists what is left, and ``knn(k)`` answers for these, in
        this order. Inducing points stay what they are, even if they were rows that are deleted. Answers are those of a
        tree made afresh of what is left; counters of a tree search need not be. Nothing is computed, in less than a
        millisecond: deleted points stay in the cover tree, to lead a search to others, until they are a quarter of all
        rows. Then arrays are copied without them, and the cover tree, if it is needed, is built anew, as it is when a
        tree with deleted points is saved and loaded.

        Parameters
        ----------
        rows : array_like of int

        Returns
        -------
        CoverTree

        Raises
        ------
        InvalidInputError
            If a row is out of range or was deleted before, or none is left.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]]).delete([1])
        >>> tree.ids.tolist(), tree.knn(k=1).ravel().tolist()
        ([0, 2], [2, 0])
        """
        return CoverTree(changes.delete(self._state, rows))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this tree to a file that `covertreex.load` verifies and maps (docs/file-format.md).

        The cover tree is in it if it was built before, and does not hold deleted points; otherwise whoever loads the
        file builds it when it is needed.
        An older file at `path` is replaced in one step: an interrupted save leaves it as it was.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        InvalidInputError
            If `path` is a directory.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile, covertreex as cx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "tree.safetensors")
        ...     cx.cover_tree([[0.0], [1.0], [3.0]]).save(path)
        ...     cx.load(path).knn(k=1).ravel().tolist()
        [1, 0, 1]
        """
        transport.save(self._state, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, transport.pickled(self._state)

    def oracle(self) -> DenseOracle:
        """The dense float64 oracle of the same points and metric.

        Returns
        -------
        covertreex.oracle.DenseOracle

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]])
        >>> tree.oracle().recall(tree.knn(k=2))
        1.0
        """
        metric, held, ids = self.metric, self._state.held, self.ids
        if isinstance(metric, Euclidean):
            return DenseOracle(self.X, ids=ids, lonlat=metric.lonlat)
        noise = metric.noise
        if held is not None and np.ndim(noise):
            noise, values = np.zeros(len(self.X)), noise
            noise[held] = values
        if isinstance(metric, Correlation):
            return DenseOracle(self.X, kernel=metric.kernel, noise=noise, ids=ids)
        V, p = metric.v_matrix, metric.p_diag
        if held is not None and V is not None:  # they are those of the payload's points
            V, values = np.zeros((len(self.X), np.shape(V)[1])), V
            V[held] = values
        if held is not None and p is not None:
            p, values = np.ones(len(self.X)), p
            p[held] = values
        return DenseOracle(
            self.X,
            kernel=metric.kernel,
            inducing=metric.inducing,
            seed=metric.seed,
            jitter=metric.jitter,
            v_matrix=V,
            p_diag=p,
            noise=noise,
            ids=ids,
        )


@standard_arithmetic
def cover_tree(
    X: ArrayLike,
    *,
    kernel: Kernel | None = None,
    inducing: ArrayLike | None = None,
    seed: int = 0,
    jitter: float | None = None,
    v_matrix: ArrayLike | None = None,
    p_diag: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    metric: Metric | None = None,
    lonlat: bool = False,
    radius: float | None = None,
    n_threads: int | None = None,
) -> CoverTree:
    """Prepare points for neighbour queries.

    Without a kernel the metric is Euclidean; with a kernel alone it is the kernel's correlation; with a kernel and
    inducing points or factors it is the residual correlation of Vecchia and VIF Gaussian processes.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Points; finite numbers. A data frame or Arrow table gives names to columns; points of geopandas are their x and
        y (and with longitudes and latitudes `lonlat` is for you to say).
    kernel : Kernel, optional
        Matern, Gneiting or another of `covertreex.kernels`, or a sum or product of such; or a `Covariance` of your own.
        Names of columns in `active_dims` are those of `X`.
    inducing : int, array of int, or ndarray of shape (m, d), optional
        A count (rows drawn by ``default_rng(seed).choice(n, m, replace=False)``, sorted), rows of X, or coordinates. 0
        is none.
    seed : int
        Of the draw of inducing rows.
    jitter : float, optional
        Added to the diagonal of the covariance of the inducing points, in the units of the variance; by default a
        millionth of the variance.
    v_matrix : array_like, shape (n, m), optional
        Factors from somebody's own Gaussian process: row i is ``L^-1 k(Z, x_i)``.
    p_diag : array_like, shape (n,), optional
        Residual variances that go with `v_matrix`.
    noise : float, or array_like of shape (n,), optional
        Variance of the noise (nugget) in each observation, in the units of the kernel's variance; none by default. It
        is added to residual variances, so that the metric is the correlation of observations, as in the Vecchia
        approximation of a response. Points that are asked for as coordinates are values without noise.
    metric : Euclidean, Correlation or ResidualCorrelation, optional
        Instead of the seven arguments above.
    lonlat : bool
        Whether columns 0 and 1 are longitude and latitude in degrees, here and wherever points are given. Places are
        compared by the chord through the sphere; longitudes of any size wrap.
    radius : float, optional
        Of that sphere, beside `lonlat`: the unit of lengthscales and distances. 1, the default, is for radians, 6371
        for kilometres on Earth.
    n_threads : int, optional
        By default all cores that the process may use: those of its affinity, as many as its CPU quota (of a container)
        grants, and counted anew by every process that the tree is sent to. Has no influence on any result.

    Returns
    -------
    CoverTree

    Raises
    ------
    InvalidInputError
        If the data or an argument cannot be used.
    FactorizationError
        If the covariance of the inducing points is not positive definite.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.5), inducing=50)
    >>> tree.knn(k=10, predecessor_mode=True).shape
    (500, 10)
    """
    names = feature_names(X)
    points = check_points(X, "X")
    if isinstance(inducing, (int, np.integer)) and not isinstance(inducing, bool) and inducing == 0:
        inducing = None
    sphere = _sphere(lonlat, radius)
    if metric is None:
        if kernel is None:
            given = {"inducing": inducing, "v_matrix": v_matrix, "p_diag": p_diag, "noise": noise}
            beside = [name for name, value in given.items() if value is not None]
            if beside:
                raise InvalidInputError(
                    f"{beside[0]} needs a kernel; give kernel=..., for example Matern32(lengthscale=1.0)."
                )
            metric = Euclidean()
        elif inducing is None and v_matrix is None and p_diag is None:
            metric = Correlation(kernel, noise)
        else:
            metric = ResidualCorrelation(kernel, inducing, seed, jitter, v_matrix, p_diag, noise)
    elif any(argument is not None for argument in (kernel, inducing, v_matrix, p_diag, noise)):
        raise InvalidInputError(
            "metric stands instead of kernel, inducing, v_matrix, p_diag and noise; give one or the other."
        )
    elif not isinstance(metric, (Euclidean, Correlation, ResidualCorrelation)):
        raise InvalidInputError(f"metric must be a Euclidean, Correlation or ResidualCorrelation, got {metric!r}.")
    if isinstance(metric, ResidualCorrelation):
        metric = metric.of_arrays(names)
    sphere = lonlat_of(metric) if sphere is None else sphere
    check_lonlat(points, "X", sphere)
    metric = metric.on_columns(names, sphere)
    points, n_threads = read_only(points.copy()), parallel.given_threads(n_threads)
    payload, projection = metric.prepare(points, parallel.thread_count(n_threads))
    return CoverTree(TreeState(points, metric, payload, projection, n_threads, names, sphere))


def _sphere(lonlat: object, radius: float | None) -> float | None:
    """The radius of the sphere, or None."""
    lonlat = check_flag(lonlat, "lonlat")
    if radius is not None and not lonlat:
        raise InvalidInputError(
            "radius is that of the sphere of longitudes and latitudes; give lonlat=True beside it. Neighbours within a "
            "radius are had by tree.radius(r)."
        )
    return radius_of_sphere(lonlat if radius is None else radius)


def load(
    path: str | os.PathLike[str], *, mmap: bool = True, verify: bool = True, n_threads: int | None = None
) -> CoverTree:
    """Load a tree that `CoverTree.save` wrote; it gives the same answers, to the bit.

    Processes that map the same file share its memory. Header, sizes, maps and the cover tree's links are always
    checked. By default every byte is read, to compare arrays with their checksums and with each other: a damaged file
    is refused, and does not give other answers.

    Parameters
    ----------
    path : str or path-like
    mmap : bool
        Whether to map the file. False reads it into memory: choose it where somebody may overwrite the file in place.
        (`CoverTree.save` never does: who has the old file mapped keeps it.)
    verify : bool
        Whether to read all of the file and check its values. False maps it in milliseconds, and reads it when it is
        needed: for files that were verified before. Damage then makes wrong distances, but no crash.
    n_threads : int, optional
        Of the loaded tree; as for `cover_tree`. Has no influence on any result.

    Returns
    -------
    CoverTree

    Raises
    ------
    FileFormatError
        If the file is damaged, truncated, of another format, or of a later version.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import os, tempfile, numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> tree = cx.cover_tree(X, kernel=cx.RBF(lengthscale=0.5), inducing=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "tree.safetensors")
    ...     tree.save(path)
    ...     loaded = cx.load(path)
    >>> np.array_equal(loaded.knn(k=5), tree.knn(k=5))
    True
    """
    state = transport.load(path, mmap=mmap, verify=verify, n_threads=n_threads)
    if mmap:
        _send_mapped_trees_by_name()
    return CoverTree(state)


def _restore(*pickled: Any) -> CoverTree | transport.LostTree:
    """Unpickle."""
    state = transport.restore(*pickled)
    return CoverTree(state) if isinstance(state, TreeState) else state


def _reopen(*named: Any) -> CoverTree | transport.LostTree:
    """What another process does with the name of a mapped tree."""
    state = transport.reopen(*named)
    if not isinstance(state, TreeState):
        return state
    _send_mapped_trees_by_name()
    return CoverTree(state)


def _reduce_for_worker(tree: CoverTree) -> tuple[Any, ...]:
    """How a mapped tree travels between processes of one machine: by the name of its file."""
    named = transport.name_of(tree._state)
    return tree.__reduce__() if named is None else (_reopen, named)


def _send_mapped_trees_by_name() -> None:
    from multiprocessing.reduction import ForkingPickler  # which takes long to import, and few need it

    ForkingPickler.register(CoverTree, _reduce_for_worker)
