"""What people call: `cover_tree` makes a `CoverTree`, which answers queries."""

from dataclasses import dataclass, replace

import numpy as np

from covertreex import driver, parallel, persistence, registry
from covertreex.build import build_tree
from covertreex.errors import InvalidInputError
from covertreex.metrics import Correlation, Euclidean, ResidualCorrelation
from covertreex.oracle import DenseOracle
from covertreex.planner import Plan
from covertreex.protocols import QueryBlock
from covertreex.settings import TraversalSettings, resolve_settings, settings_from_env
from covertreex.telemetry import Telemetry
from covertreex.validation import as_array, check_k, check_points, check_rows, read_only


@dataclass(frozen=True)
class SearchResult:
    """Everything about one search.

    Attributes
    ----------
    indices : ndarray, shape (q, k), int64
        Neighbours as rows of X, sorted by (distance, row); -1 past the last.
    distances : ndarray, shape (q, k), float64
        ``sqrt(1 - |rho|)`` or Euclidean; inf past the last.
    telemetry : Telemetry
        What was counted, and how long it took.
    backend : str
        The backend that answered.
    plan : covertreex.planner.Plan
        How it was answered, and why; ``print(result.plan)``.
    settings : TraversalSettings
    recall : float or None
        Of the audited queries against the dense oracle; None without `audit`.
    recall_interval : tuple of float or None
        95 % Wilson interval of the recall, neighbours taken as independent.
    """

    indices: np.ndarray
    distances: np.ndarray
    telemetry: Telemetry
    backend: str
    plan: Plan
    settings: TraversalSettings
    recall: float | None = None
    recall_interval: tuple[float, float] | None = None


def wilson_interval(share, total, z=1.959963984540054):
    """Confidence interval of a share observed in `total` trials; z = 1.96 gives 95 %.

    Source: Wilson, *Probable inference, the law of succession, and statistical inference* (1927).

    Examples
    --------
    >>> [round(limit, 3) for limit in wilson_interval(1.0, 1000)]
    [0.996, 1.0]
    """
    if total == 0:
        return (0.0, 1.0)
    centre = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1.0 - share) / total + z * z / (4.0 * total * total))
    scale = 1.0 + z * z / total
    return (max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale)))


class CoverTree:
    """Points, a metric, and the ways to ask for neighbours. Made by `cover_tree`; immutable.

    Attributes
    ----------
    X : ndarray, shape (n, d), float64
        The points, in the caller's order.
    metric : Euclidean, Correlation or ResidualCorrelation
    payload : PayloadStore
        What distances are computed from; shared by all backends.
    n_threads : int
    """

    def __init__(self, X, metric, n_threads, prepared=None):
        self.X = X
        self.metric = metric
        self.n_threads = n_threads
        self.payload, self._projection = metric.prepare(X, n_threads) if prepared is None else prepared
        self._tree = None
        self._origin = None  # the mapped file it came from (covertreex.persistence)

    def __len__(self):
        return len(self.X)

    def __repr__(self):
        n, d = self.X.shape
        return f"CoverTree(n={n}, d={d}, metric={type(self.metric).__name__})"

    @property
    def tree(self):
        """Tree: the cover tree itself; built when it is first needed (a scan needs none)."""
        if self._tree is None:
            self._tree = build_tree(self.payload, self.n_threads)
        return self._tree

    def check_invariants(self, pairs=None):
        """Check the tree's invariants T1 to T5; see `covertreex.tree.Tree.check_invariants`.

        Raises
        ------
        InvariantError
            Naming the invariant that is broken.
        """
        self.tree.check_invariants(self.payload, pairs)

    def knn(
        self,
        k,
        queries=None,
        *,
        return_distances=False,
        predecessor_mode=False,
        include_self=False,
        settings=None,
        backend=None,
        n_threads=None,
    ):
        """The k nearest neighbours.

        Parameters
        ----------
        k : int
            From 1 to n.
        queries : array_like, optional
            Integer rows of X, shape (q,): a row is not its own neighbour, unless `include_self`. Or coordinates, shape
            (q, d): nothing is excluded. All rows by default.
        return_distances : bool
            Whether to return the distances as well.
        predecessor_mode : bool
            Only neighbours j < i; rows with fewer than k of them end in -1.
        include_self : bool
            Whether a row may be its own neighbour.
        settings : str or TraversalSettings, optional
            'exact', 'fast', 'parity', 'gold' or settings of your own. By default 'exact', unless the environment says
            otherwise (`covertreex.settings_from_env`).
        backend : str, optional
            Name of a backend; by default the first of cython, rust, numba that can do it.
        n_threads : int, optional
            All cores by default. Has no influence on the answer.

        Returns
        -------
        indices : ndarray, shape (q, k), int64
            Rows of X sorted by (distance, row); -1 past the last.
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
        """
        result = self.search(
            k,
            queries,
            predecessor_mode=predecessor_mode,
            include_self=include_self,
            settings=settings,
            backend=backend,
            n_threads=n_threads,
        )
        return (result.indices, result.distances) if return_distances else result.indices

    def search(
        self,
        k,
        queries=None,
        *,
        predecessor_mode=False,
        include_self=False,
        settings=None,
        backend=None,
        n_threads=None,
        audit=0,
    ):
        """`knn`, and everything that it hides.

        Parameters
        ----------
        k, queries, predecessor_mode, include_self, settings, backend, n_threads
            As for `knn`.
        audit : int
            Check this many randomly drawn queries (the same for the same arguments) against the dense float64 oracle,
            and report their recall.

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
        n_threads = self.n_threads if n_threads is None else parallel.thread_count(n_threads)
        if isinstance(audit, bool) or not isinstance(audit, (int, np.integer)) or audit < 0:
            raise InvalidInputError(f"audit must be a number of queries, 0 or more, got {audit!r}.")
        rows, points = self._check_queries(queries)
        if predecessor_mode and points is not None:
            raise InvalidInputError(
                "predecessor_mode needs queries that are rows of X; coordinates have no place in it."
            )
        verb = driver.choose_verb(settings, self.payload)
        chosen = registry.choose_backend(settings, backend, verb)
        block = self._query_block(rows, points, predecessor_mode, include_self, n_threads)
        payload = self._payload_for(block) if verb == "search" else self.payload
        answer = driver.run(lambda: self.tree, payload, block, k, settings, chosen, n_threads)
        recall = interval = None
        if audit:
            recall, interval = self._audit(
                answer.indices, rows if points is None else points, predecessor_mode, include_self, audit
            )
        return SearchResult(
            indices=answer.indices,
            distances=answer.distances,
            telemetry=answer.telemetry,
            backend=chosen.name,
            plan=answer.plan,
            settings=settings,
            recall=recall,
            recall_interval=interval,
        )

    def save(self, path):
        """Write this tree to a file that `covertreex.load` maps in milliseconds (docs/file-format.md).

        The cover tree is in it if it was built before; otherwise whoever loads the file builds it when it is needed.
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
        persistence.save(self, path)

    def __reduce__(self):
        return persistence.reduce(self)

    def oracle(self):
        """The dense float64 oracle of the same points and metric.

        Returns
        -------
        covertreex.oracle.DenseOracle
        """
        metric = self.metric
        if isinstance(metric, Euclidean):
            return DenseOracle(self.X)
        if isinstance(metric, Correlation):
            return DenseOracle(self.X, kernel=metric.kernel)
        return DenseOracle(
            self.X,
            kernel=metric.kernel,
            inducing=metric.inducing,
            seed=metric.seed,
            jitter=metric.jitter,
            v_matrix=metric.v_matrix,
            p_diag=metric.p_diag,
        )

    def _check_queries(self, queries):
        """(rows, None) or (None, points)."""
        if queries is None:
            return np.arange(len(self), dtype=np.int64), None
        array = as_array(queries, "queries")
        if array.ndim == 2:
            points = check_points(array, "queries", columns=self.X.shape[1])
            if self._projection is None:
                raise InvalidInputError(
                    "queries given as coordinates need inducing points (inducing=...): v_matrix has factors for the "
                    "rows of X alone. Ask for rows of X."
                )
            return None, points
        if array.ndim == 0:
            raise InvalidInputError(
                f"queries must be integer rows, shape (q,), or coordinates, shape (q, d); got {queries!r}. "
                "Put one row into a list."
            )
        return check_rows(array, len(self), "queries"), None

    def _query_block(self, rows, points, predecessor_mode, include_self, n_threads):
        payload, n = self.payload, len(self)
        if points is None:
            at = payload.row[rows]
            count = len(rows)
            coords, factors, p = np.zeros((0, payload.coords.shape[1])), payload.factors[:0], np.zeros(0)
        else:
            count = len(points)
            at = -1 - np.arange(count, dtype=np.int64)
            coords, factors, p = self._projection(points, n_threads)
        limit = rows + include_self if predecessor_mode else np.full(count, n, dtype=np.int64)
        exclude = at if points is None and not include_self else np.full(count, -1, dtype=np.int64)
        arrays = (at, coords, factors, p, exclude, limit.astype(np.int64), payload.index)
        return QueryBlock(*map(read_only, arrays), prefix=True)

    def _payload_for(self, block):
        """The payload, with the slack that external queries near inducing points need (B1: it grows as p falls)."""
        payload = self.payload
        if len(block.p) == 0 or not isinstance(self.metric, ResidualCorrelation) or block.p.min() >= payload.p.min():
            return payload
        slack = self.metric.slack(payload.factors.shape[1], block.p.min())
        return replace(payload, slack_abs=max(payload.slack_abs, slack))

    def _audit(self, indices, queries, predecessor_mode, include_self, audit):
        draw = np.random.default_rng(0).permutation(len(queries))[:audit]
        recall = self.oracle().recall(
            indices[draw], queries[draw], predecessor_mode=predecessor_mode, include_self=include_self
        )
        return recall, wilson_interval(recall, int(np.sum(indices[draw] >= 0)))


def cover_tree(
    X,
    *,
    kernel=None,
    inducing=None,
    seed=0,
    jitter=1e-6,
    v_matrix=None,
    p_diag=None,
    metric=None,
    n_threads=None,
):
    """Prepare points for neighbour queries.

    Without a kernel the metric is Euclidean; with a kernel alone it is the kernel's correlation; with a kernel and
    inducing points or factors it is the residual correlation of Vecchia and VIF Gaussian processes.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Points; finite numbers.
    kernel : Kernel, optional
        RBF, Matern12, Matern32, Matern52 or RationalQuadratic.
    inducing : int, array of int, or ndarray of shape (m, d), optional
        A count (rows drawn by ``default_rng(seed).choice(n, m, replace=False)``, sorted), rows of X, or coordinates.
    seed : int
        Of the draw of inducing rows.
    jitter : float
        Added to the diagonal of the covariance of the inducing points.
    v_matrix : array_like, shape (n, m), optional
        Factors from somebody's own Gaussian process: row i is ``L^-1 k(Z, x_i)``.
    p_diag : array_like, shape (n,), optional
        Residual variances that go with `v_matrix`.
    metric : Euclidean, Correlation or ResidualCorrelation, optional
        Instead of the six arguments above.
    n_threads : int, optional
        All cores by default. Has no influence on any result.

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
    X = check_points(X, "X")
    if metric is None:
        if kernel is None:
            beside = [name for name, value in {"inducing": inducing, "v_matrix": v_matrix, "p_diag": p_diag}.items()
                      if value is not None]  # fmt: skip
            if beside:
                raise InvalidInputError(
                    f"{beside[0]} needs a kernel; give kernel=..., for example Matern32(lengthscale=1.0)."
                )
            metric = Euclidean()
        elif inducing is None and v_matrix is None and p_diag is None:
            metric = Correlation(kernel)
        else:
            metric = ResidualCorrelation(kernel, inducing, seed, jitter, v_matrix, p_diag)
    elif any(argument is not None for argument in (kernel, inducing, v_matrix, p_diag)):
        raise InvalidInputError(
            "metric stands instead of kernel, inducing, v_matrix and p_diag; give one or the other."
        )
    elif not isinstance(metric, (Euclidean, Correlation, ResidualCorrelation)):
        raise InvalidInputError(f"metric must be a Euclidean, Correlation or ResidualCorrelation, got {metric!r}.")
    return CoverTree(read_only(X.copy()), metric, parallel.thread_count(n_threads))
