"""scikit-learn estimators. Need the extra ``sklearn``."""

from dataclasses import replace
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.base.validation import check_exact, check_names, feature_names
from covertreex.covertree import CoverTree, cover_tree
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel, Matern32
from covertreex.kernels.checks import radius_of_sphere
from covertreex.ordering import maximin
from covertreex.outputs import MODES, to_csr
from covertreex.results import SearchResult
from covertreex.settings import TraversalSettings
from covertreex.vecchia import Vecchia

try:
    from joblib import effective_n_jobs
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"covertreex.sklearn needs scikit-learn 1.6 or later, which cannot be imported ({error}): "
        "python -m pip install '.[sklearn]' in the source folder."
    ) from error

#: An array of arrays, one per query.
ObjectArray: TypeAlias = NDArray[np.object_]


class _KernelParams(BaseEstimator):
    """An estimator whose kernel has parameters of its own. Kernels never change: to set one is to have another."""

    kernel: Kernel | None

    def set_params(self, **params: Any) -> "_KernelParams":
        """Change parameters, those of the kernel too: ``kernel__lengthscale``, and ``kernel__k1__variance`` of a sum.

        Parameters
        ----------
        **params
            By the names that `get_params` has.

        Returns
        -------
        self
            Its kernel is another one then: kernels never change.

        Raises
        ------
        InvalidInputError
            If the kernel has no such parameter, or there is no kernel.

        Examples
        --------
        >>> from covertreex import RBF
        >>> CoverTreeNeighbors(kernel=RBF()).set_params(kernel__lengthscale=0.3).kernel
        RBF(lengthscale=0.3, variance=1.0)
        """
        inner = {name[8:]: value for name, value in params.items() if name.startswith("kernel__")}
        super().set_params(**{name: value for name, value in params.items() if not name.startswith("kernel__")})
        if inner:
            if not isinstance(self.kernel, Kernel):
                raise InvalidInputError(f"kernel__{next(iter(inner))} needs a kernel, but kernel is {self.kernel!r}.")
            self.kernel = self.kernel.set_params(**inner)
        return self


class CoverTreeNeighbors(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _KernelParams):
    """Neighbours as a scikit-learn estimator: a `KNeighborsTransformer` with this package's metrics.

    `transform` makes a graph that estimators with ``metric='precomputed'`` take: KNeighborsRegressor, TSNE, DBSCAN.
    Queries are coordinates; a point of the training data among them finds itself, at distance 0. Source: the
    interface is that of ``sklearn.neighbors.KNeighborsTransformer`` and ``NearestNeighbors``.

    Parameters
    ----------
    n_neighbors : int
        Neighbours per query. In mode 'distance' `transform` adds one, as scikit-learn does, since each training point
        is the first neighbour of itself.
    radius : float
        Of `radius_neighbors`.
    mode : {'distance', 'correlation', 'connectivity'}
        Entries of the graph that `transform` makes; 'correlation', ``|rho|``, needs a kernel.
    kernel, inducing, jitter, noise
        As for `covertreex.cover_tree`: without a kernel the metric is Euclidean.
    lonlat : bool or float
        Whether the first two columns are longitude and latitude in degrees, everywhere; a number is the radius of the
        sphere (of `covertreex.cover_tree`, with ``lonlat=True``), which is 1 otherwise.
    random_state : int, RandomState or None
        Of the draw of inducing rows: an integer is the seed of `covertreex.cover_tree`.
    settings, backend
        As for `covertreex.CoverTree.knn`.
    n_jobs : int or None
        Threads: None is 1 (unless joblib's context says otherwise), -1 all cores. Has no influence on the answer.

    Attributes
    ----------
    tree_ : CoverTree
    n_samples_fit_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If `X` had names of columns.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn.pipeline import make_pipeline
    >>> model = make_pipeline(
    ...     CoverTreeNeighbors(n_neighbors=2), KNeighborsRegressor(n_neighbors=2, metric="precomputed")
    ... )
    >>> model.fit([[0.0], [1.0], [3.0]], [0.0, 1.0, 3.0]).predict([[0.4], [2.9]]).tolist()
    [0.5, 2.0]
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        radius: float = 1.0,
        mode: str = "distance",
        kernel: Kernel | None = None,
        inducing: int | ArrayLike | None = None,
        jitter: float | None = None,
        noise: float | ArrayLike | None = None,
        lonlat: bool | float = False,
        random_state: int | np.random.RandomState | None = 0,
        settings: str | TraversalSettings | None = None,
        backend: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.mode = mode
        self.kernel = kernel
        self.inducing = inducing
        self.jitter = jitter
        self.noise = noise
        self.lonlat = lonlat
        self.random_state = random_state
        self.settings = settings
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: object = None) -> "CoverTreeNeighbors":
        """Prepare the points.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError
            If a parameter is out of range or the data cannot be used.
        FactorizationError
            If the covariance of the inducing points is not positive definite.

        Examples
        --------
        >>> CoverTreeNeighbors(n_neighbors=1).fit([[0.0], [1.0], [3.0]]).n_samples_fit_
        3
        """
        if self.mode not in MODES:
            raise InvalidInputError(f"mode must be one of {', '.join(map(repr, MODES))}, got {self.mode!r}.")
        if self.mode == "correlation" and self.kernel is None:
            raise InvalidInputError("mode='correlation' needs a kernel; give kernel=..., or take mode='distance'.")
        if (
            isinstance(self.n_neighbors, bool)
            or not isinstance(self.n_neighbors, (int, np.integer))
            or self.n_neighbors < 1
        ):
            raise InvalidInputError(f"n_neighbors must be a positive integer, got {self.n_neighbors!r}.")
        points: FloatArray = validate_data(self, X, dtype=np.float64, order="C")
        check_exact(X, "X")
        names = feature_names(X)
        check_names(names, self.inducing, "inducing")
        seed = _seed(self.random_state)
        sphere = radius_of_sphere(self.lonlat)
        tree = cover_tree(
            points,
            kernel=self.kernel.on_columns(names) if isinstance(self.kernel, Kernel) else self.kernel,
            inducing=self.inducing,
            jitter=self.jitter,
            noise=self.noise,
            lonlat=sphere is not None,
            radius=sphere,
            seed=seed,
            n_threads=effective_n_jobs(self.n_jobs),
        )
        # The table's names, which the validated array has no more.
        self.tree_ = CoverTree(replace(tree._state, feature_names=names))
        self.n_samples_fit_ = len(points)
        return self

    @overload
    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: Literal[True] = True
    ) -> tuple[FloatArray, IntArray]: ...

    @overload
    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, *, return_distance: Literal[False]
    ) -> IntArray: ...

    @overload
    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[FloatArray, IntArray] | IntArray: ...

    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[FloatArray, IntArray] | IntArray:
        """The nearest training points.

        Parameters
        ----------
        X : array_like, shape (q, d), optional
            By default the training points, none of which is its own neighbour then.
        n_neighbors : int, optional
            By default the estimator's.
        return_distance : bool

        Returns
        -------
        distances : ndarray, shape (q, n_neighbors), float64
            Only if `return_distance`.
        indices : ndarray, shape (q, n_neighbors), int64
            Rows of the training data, nearest first, ties by row.

        Raises
        ------
        InvalidInputError
            If the queries cannot be used, or there are fewer other points than `n_neighbors`.
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> neighbors = CoverTreeNeighbors(n_neighbors=1).fit([[0.0], [1.0], [3.0]])
        >>> distances, indices = neighbors.kneighbors([[2.5]])
        >>> distances.tolist(), indices.tolist()
        ([[0.5]], [[2]])
        """
        result = self._search(X, n_neighbors)
        return (result.distances, result.indices) if return_distance else result.indices

    def kneighbors_graph(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, mode: str = "connectivity"
    ) -> Any:
        """The graph of nearest neighbours.

        Parameters
        ----------
        X, n_neighbors
            As for `kneighbors`.
        mode : {'connectivity', 'distance', 'correlation'}

        Returns
        -------
        scipy.sparse.csr_matrix, shape (q, n), float64
            See `covertreex.outputs.to_csr`.

        Raises
        ------
        InvalidInputError, NotFittedError
            As for `kneighbors`; if `mode` is unknown, or 'correlation' without a kernel.

        Examples
        --------
        >>> neighbors = CoverTreeNeighbors(n_neighbors=1).fit([[0.0], [1.0], [3.0]])
        >>> neighbors.kneighbors_graph().toarray().tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        """
        return to_csr(self._search(X, n_neighbors), mode, n=self.n_samples_fit_)

    @overload
    def radius_neighbors(
        self, X: ArrayLike | None = None, radius: float | None = None, return_distance: Literal[True] = True
    ) -> tuple[ObjectArray, ObjectArray]: ...

    @overload
    def radius_neighbors(
        self, X: ArrayLike | None = None, radius: float | None = None, *, return_distance: Literal[False]
    ) -> ObjectArray: ...

    @overload
    def radius_neighbors(
        self, X: ArrayLike | None = None, radius: float | None = None, return_distance: bool = True
    ) -> tuple[ObjectArray, ObjectArray] | ObjectArray: ...

    def radius_neighbors(
        self, X: ArrayLike | None = None, radius: float | None = None, return_distance: bool = True
    ) -> tuple[ObjectArray, ObjectArray] | ObjectArray:
        """All training points within a radius.

        Parameters
        ----------
        X : array_like, shape (q, d), optional
            By default the training points, none of which is its own neighbour then.
        radius : float, optional
            By default the estimator's.
        return_distance : bool

        Returns
        -------
        distances : ndarray, shape (q,), of ndarray, float64
            Only if `return_distance`.
        indices : ndarray, shape (q,), of ndarray, int64
            Rows of the training data, nearest first, ties by row.

        Raises
        ------
        InvalidInputError
            If the queries or the radius cannot be used.
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> neighbors = CoverTreeNeighbors(radius=2.0).fit([[0.0], [1.0], [3.0]])
        >>> [rows.tolist() for rows in neighbors.radius_neighbors(return_distance=False)]
        [[1], [0, 2], [1]]
        """
        check_is_fitted(self)
        result = self.tree_.radius(
            self.radius if radius is None else radius,
            self._queries(X),
            settings=self.settings,
            backend=self.backend,
            n_threads=effective_n_jobs(self.n_jobs),
        )
        indices = _rows(result.indices, result.indptr)
        return (_rows(result.distances, result.indptr), indices) if return_distance else indices

    def transform(self, X: ArrayLike) -> Any:
        """The graph of nearest neighbours in the estimator's mode.

        Parameters
        ----------
        X : array_like, shape (q, d)

        Returns
        -------
        scipy.sparse.csr_matrix, shape (q, n), float64
            With ``n_neighbors + 1`` entries per row in mode 'distance', else `n_neighbors`.

        Raises
        ------
        InvalidInputError, NotFittedError
            As for `kneighbors`.

        Examples
        --------
        >>> CoverTreeNeighbors(n_neighbors=1).fit_transform([[0.0], [1.0], [3.0]]).toarray().tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
        """
        check_is_fitted(self)
        return self.kneighbors_graph(X, self.n_neighbors + (self.mode == "distance"), self.mode)

    def _search(self, X: ArrayLike | None, n_neighbors: int | None) -> SearchResult:
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise InvalidInputError(f"n_neighbors must be an integer, got {k!r}.")
        queries = self._queries(X)
        most = self.n_samples_fit_ - (queries is None)
        if not 1 <= k <= most:
            raise InvalidInputError(
                f"n_neighbors must be from 1 to {most} (n_samples_fit = {self.n_samples_fit_}"
                f"{', and no point is its own neighbour' if queries is None else ''}), got {k}. "
                "Mode 'distance' asks for one more than n_neighbors."
            )
        result: SearchResult = self.tree_.search(
            int(k),
            queries,
            settings=self.settings,
            backend=self.backend,
            n_threads=effective_n_jobs(self.n_jobs),
        )
        return result

    def _queries(self, X: ArrayLike | None) -> FloatArray | None:
        if X is None:
            return None
        queries: FloatArray = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        check_exact(X, "X")
        return queries

    @property
    def _n_features_out(self) -> int:
        return self.n_samples_fit_


class VecchiaGPRegressor(RegressorMixin, _KernelParams):
    """Gaussian process regression for many points: `covertreex.vecchia` as a scikit-learn estimator.

    The mean is a constant, found with the rest. The order of the approximation is maximin. The interface is that
    of ``sklearn.gaussian_process.GaussianProcessRegressor``.

    Parameters
    ----------
    kernel : Kernel, optional
        To begin with; by default a `Matern32` as wide as a quarter of the data, with the variance of y.
    inducing : int, array of int, or ndarray of shape (m, d), optional
        As for `covertreex.cover_tree`; a count is at most that of the points. None: a Vecchia approximation without.
    n_neighbors : int
        Of each point, at most that of the points.
    noise : float, optional
        Variance of the noise to begin with, in the units of y squared; by default a tenth of the kernel's variance.
    optimize : bool
        Whether kernel and noise are estimated by maximum likelihood (`covertreex.vecchia.Vecchia.fit`), or stay.
    settings
        As for `covertreex.CoverTree.knn`.
    random_state : int, RandomState or None
        Of the draw of inducing rows.
    n_jobs : int or None
        Threads: None is 1 (unless joblib's context says otherwise), -1 all cores. Has no influence on the answer.

    Attributes
    ----------
    kernel_ : Kernel
    noise_ : float
    mean_ : float
        The constant.
    log_marginal_likelihood_value_ : float
    model_ : covertreex.vecchia.Vecchia

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).uniform(size=(300, 1))
    >>> model = VecchiaGPRegressor(n_neighbors=10).fit(X, np.sin(9 * X[:, 0]))
    >>> mean, std = model.predict([[0.5]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(4.5)) < 0.01)
    True
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        *,
        inducing: Any = None,
        n_neighbors: int = 30,
        noise: float | None = None,
        optimize: bool = True,
        settings: str | TraversalSettings | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.inducing = inducing
        self.n_neighbors = n_neighbors
        self.noise = noise
        self.optimize = optimize
        self.settings = settings
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> "VecchiaGPRegressor":
        """Estimate kernel, noise and mean, and keep the data.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,)

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError
            If a parameter is out of range or the data cannot be used.
        FactorizationError
            As `covertreex.vecchia.Vecchia.fit`.
        """
        points, values = validate_data(self, X, y, dtype=np.float64, order="C", y_numeric=True)
        self.y_: FloatArray = np.asarray(values, dtype=np.float64)
        seed = _seed(self.random_state)
        kernel, inducing = self.kernel, self.inducing
        if kernel is None:
            extent, variance = float(np.ptp(points, axis=0).mean()) / 4.0, float(np.var(self.y_))
            kernel = Matern32(max(extent, 1e-10) if extent else 1.0, variance=max(variance, 1e-10))
        elif isinstance(kernel, Kernel):
            kernel = kernel.on_columns(feature_names(X))
        if isinstance(inducing, (int, np.integer)) and not isinstance(inducing, bool):
            inducing = min(inducing, len(points))
        threads = effective_n_jobs(self.n_jobs)
        tree = cover_tree(points, kernel=kernel, inducing=inducing, seed=seed, n_threads=threads)
        order, ones = maximin(tree.X), np.ones((len(points), 1))
        noise = 0.1 * float(kernel.variance) if self.noise is None else self.noise
        count = self.n_neighbors
        if isinstance(count, (int, np.integer)) and not isinstance(count, bool):
            count = min(count, len(points))
        self.model_ = Vecchia(tree, count, noise, order=order, settings=self.settings)
        if self.optimize:
            self.model_ = self.model_.fit(self.y_, ones, fit_noise=noise > 0).model
        self.kernel_, self.noise_ = self.model_.kernel, float(self.model_.noise)
        self.mean_ = float(self.model_.coefficients(self.y_, ones)[0][0])
        self.log_marginal_likelihood_value_ = self.model_.log_likelihood(self.y_, ones)
        return self

    @overload
    def predict(self, X: ArrayLike, return_std: Literal[False] = False) -> FloatArray: ...

    @overload
    def predict(self, X: ArrayLike, return_std: Literal[True]) -> tuple[FloatArray, FloatArray]: ...

    def predict(self, X: ArrayLike, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Predict the process, without noise.

        Parameters
        ----------
        X : array_like, shape (q, d)
        return_std : bool

        Returns
        -------
        mean : ndarray, shape (q,)
        std : ndarray, shape (q,)
            Only if `return_std`.

        Raises
        ------
        InvalidInputError
            If the points cannot be used.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        points: FloatArray = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        ones = np.ones((len(self.y_), 1))
        mean, variance = self.model_.predict(
            points, self.y_, self.n_neighbors, X_mean=ones, X_mean_new=np.ones((len(points), 1)), settings=self.settings
        )
        return (mean, np.sqrt(variance)) if return_std else mean


def _seed(random_state: Any) -> Any:
    """The seed that a `random_state` of scikit-learn's stands for."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        return random_state
    return check_random_state(random_state).randint(2**31 - 1)


def _rows(values: AnyArray, indptr: IntArray) -> ObjectArray:
    """The rows of a CSR-like array as an array of arrays, as scikit-learn returns them."""
    rows = np.empty(len(indptr) - 1, dtype=object)
    for i in range(len(rows)):
        rows[i] = values[indptr[i] : indptr[i + 1]]
    return rows
