"""`Vecchia`: a Gaussian process under one kernel and noise."""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from covertreex._core import vecchia as core
from covertreex._core.canonical import standard_arithmetic
from covertreex.base import parallel, tuning
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import (
    as_array,
    as_float64,
    check_flag,
    check_order,
    check_points,
    columns_of,
    read_only,
)
from covertreex.covertree import CoverTree
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel
from covertreex.settings import TraversalSettings
from covertreex.vecchia.conditioning import Conditioning, check_neighbors, check_tree, condition
from covertreex.vecchia.factorization import Factorization, LatentFactorization, covariance_of, refuse, sparse_factor
from covertreex.vecchia.fitting import climb
from covertreex.vecchia.gradient import powers, slopes, telling_rows
from covertreex.vecchia.parameters import Parameters, free_parameters

#: Step of central differences, in the logarithm of a parameter.
STEP = 1e-5


class Vecchia:
    """A Gaussian process whose observations are each regressed on a few that come before.

    The model is ``y = mean + f + e``, f a Gaussian process with the kernel of the tree, e independent noise. Without
    inducing points ``f + e`` has a Vecchia approximation of the response (Vecchia 1988; Katzfuss and Guinness 2021):
    its precision is ``B' D^-1 B``, where point i has the regression weights ``-B_iN = C_iN C_NN^-1`` on its neighbours
    N and the residual variance ``D_i = C_ii - C_iN C_NN^-1 C_Ni``, C being the kernel plus the noise. With inducing
    points (VIF, arXiv 2507.05064, section 2) these have a part of rank m, ``U U'``, and only what they leave, plus the
    noise, is approximated so: the covariance is ``U U' + (B' D^-1 B)^-1``. No n x n matrix is ever made: memory is in
    proportion to n k beside the tree, and time to ``n (k**2 m / 2 + k**3 / 3 + k m + m**2)``. Results do not depend on
    threads.

    A conditioning set may be singular: sites that coincide without noise, or residual variances as small as rounding.
    Where a pivot is below 1e-14 of the variance, jitter is added to the diagonal of that set: 1e-10 of the variance,
    and ten times as much until it factorizes, at most 1e-4. Rows of which that is true are in `jittered`.

    Parameters
    ----------
    tree : CoverTree
        With a kernel, and with or without inducing points. Its kernel and its variance are the model's.
    k : int
        Neighbours of each point, found by the tree among those before it.
    noise : float, or array_like of shape (n,), optional
        Variance of the noise of all observations or each, in the units of the kernel's variance (those of y, squared).
        By default that of the tree. The noise of the tree itself says how near observations are to each other, nothing
        else: the two are never added.
    neighbors : array_like of int, shape (n, k), optional
        Anyone's neighbours, in place of `k`: rows of X before each point, -1 past the last.
    order : array_like of int, shape (n,), optional
        A permutation of the rows (`covertreex.ordering`), that of the approximation; by default that of the data.
    latent : bool
        Whether the noise is outside the approximation: values of the process are regressed on each other, and
        ``Sigma = U U' + (B' D^-1 B)^-1 + noise``. Nearer to the dense model where there is much noise, and dearer: a
        sparse matrix of n rows is factorized, which takes memory beyond n k, so that some 10^4 observations are many.
    settings : str or TraversalSettings, optional
        Of the search, as for `CoverTree.knn`.
    n_threads : int, optional
        By default that of the tree. Has no influence on any result.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used.
    FactorizationError
        If a conditioning set is singular beyond the largest jitter; the message names the row.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).uniform(size=(300, 2))
    >>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.3), inducing=20)
    >>> model = cx.vecchia.Vecchia(tree, k=10, noise=0.1)
    >>> model
    Vecchia(n=300, k=10, m=20, kernel=Matern32(lengthscale=0.3, variance=1.0), noise=0.1)
    >>> y = model.sample(1)[0]
    >>> closer = cx.vecchia.Vecchia(tree, k=299, noise=0.1)  # everything before: no approximation any more
    >>> bool(abs(model.log_likelihood(y) - closer.log_likelihood(y)) < 1.0)
    True
    """

    @standard_arithmetic
    def __init__(
        self,
        tree: CoverTree,
        k: int = 30,
        noise: ArrayLike | None = None,
        *,
        neighbors: ArrayLike | None = None,
        order: ArrayLike | None = None,
        latent: bool = False,
        settings: str | TraversalSettings | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.tree = check_tree(tree)
        self.noise = check_noise(tree_noise(tree) if noise is None else noise, len(tree))
        self.latent = check_flag(latent, "latent")
        if self.latent and not np.all(np.asarray(self.noise) > 0.0):
            raise InvalidInputError(
                "latent=True approximates the process and adds the noise to that, so there must be some: give a noise "
                "above 0. Without noise both forms are one."
            )
        self._threads = tree.n_threads if n_threads is None else parallel.thread_count(n_threads)
        n = len(tree)
        checked = np.arange(n, dtype=np.int64) if order is None else check_order(order, n, n)
        if neighbors is None:
            found = tree.knn(k, predecessor_mode=True, order=order, settings=settings, n_threads=self._threads)
        else:
            found = check_neighbors(neighbors, checked)
        self._settings, self._own = settings, neighbors is not None
        self._sets = condition(tree, found, checked)
        self._factorization = self._factorize()

    def _factorize(self) -> Factorization:
        payload = self.tree.payload
        noise = np.broadcast_to(self.noise, len(payload))[payload.index] / payload.unit
        kind = LatentFactorization if self.latent else Factorization
        return kind(payload, self._sets, noise, self._m, self._threads)

    def _with(self, tree: CoverTree, noise: float, sets: Conditioning | None = None) -> "Vecchia":
        """The model under the kernel of another tree of the same points in the same rows, and perhaps other sets."""
        model = copy(self)
        model.tree, model.noise, model._sets = tree, noise, self._sets if sets is None else sets
        model._factorization = standard_arithmetic(model._factorize)()
        return model

    def __repr__(self) -> str:
        noise = self.noise if np.ndim(self.noise) == 0 else f"<{len(self)} variances>"
        k = self.neighbors.shape[1]
        latent = ", latent=True" if self.latent else ""
        return f"Vecchia(n={len(self)}, k={k}, m={self._m}, kernel={self.kernel!r}, noise={noise}{latent})"

    def __len__(self) -> int:
        return len(self.tree)

    @property
    def kernel(self) -> Kernel:
        """Kernel: that of the tree."""
        kernel: Kernel = self.tree.metric.kernel  # type: ignore[union-attr]
        return kernel

    @property
    def neighbors(self) -> IntArray:
        """ndarray, shape (n, k), int64: the conditioning set of each point, rows of X; -1 past the last."""
        return self._sets.neighbors

    @property
    def order(self) -> IntArray:
        """ndarray, shape (n,), int64: the points in the order of the approximation."""
        return self._sets.order

    @property
    def jittered(self) -> IntArray:
        """ndarray, int64: rows whose conditioning sets were singular and got jitter, ascending."""
        return np.sort(self.tree.payload.index[self._factorization.jitter > 0.0])

    @property
    def _m(self) -> int:
        """Inducing points, or columns of factors."""
        if self.tree.payload.factors.shape[1] == 0:
            return 0
        metric: Any = self.tree.metric
        projection = self.tree.projection
        return np.shape(metric.v_matrix)[1] if projection is None else len(projection.factorized[1])

    def factor(self) -> tuple[Any, FloatArray]:
        """The sparse factor of the precision of what inducing points leave: ``B' D^-1 B``.

        The noise is in it, unless the model is latent.

        Returns
        -------
        B : scipy.sparse.csr_matrix, shape (n, n)
            Unit lower triangular. Row t is about point ``order[t]``.
        D : ndarray, shape (n,)
            Variances of points given their neighbours, in the same order and in units of the kernel's variance.

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]], kernel=cx.Matern12())
        >>> B, D = cx.vecchia.Vecchia(tree, k=1).factor()
        >>> B.toarray().round(4).tolist()
        [[1.0, 0.0, 0.0], [-0.3679, 1.0, 0.0], [0.0, -0.1353, 1.0]]
        >>> D.round(4).tolist()
        [1.0, 0.8647, 0.9817]
        """
        sets, found, payload = self._sets, self._factorization, self.tree.payload
        rank = np.empty(len(self), dtype=np.int64)
        rank[sets.order] = np.arange(len(self))
        neighbors = sets.neighbors[sets.order]
        neighbors = np.where(neighbors < 0, -1, rank[neighbors])
        B = sparse_factor(found.weights[sets.row_order], neighbors)
        B.sort_indices()
        return B, found.D[sets.row_order] * payload.unit

    @overload
    def log_likelihood(
        self, y: ArrayLike, X_mean: ArrayLike | None = None, *, grad: Literal[False] = False
    ) -> float: ...

    @overload
    def log_likelihood(
        self,
        y: ArrayLike,
        X_mean: ArrayLike | None = None,
        *,
        grad: Literal[True],
        free: Sequence[str] | None = None,
    ) -> tuple[float, dict[str, Any]]: ...

    @standard_arithmetic
    def log_likelihood(
        self,
        y: ArrayLike,
        X_mean: ArrayLike | None = None,
        *,
        grad: bool = False,
        free: Sequence[str] | None = None,
    ) -> float | tuple[float, dict[str, Any]]:
        """The Gaussian log-likelihood of observations, and perhaps its gradient.

        ``-(n log(2 pi) + log |Sigma| + r' Sigma^-1 r) / 2``. With inducing points ``log |Sigma| = sum(log D) + log
        |M|`` and ``Sigma^-1 = R^-1 - R^-1 U M^-1 U' R^-1``, where ``R^-1 = B' D^-1 B`` and ``M = I + U' R^-1 U``: the
        matrix determinant lemma and Woodbury's formula (VIF, arXiv 2507.05064, section 2).

        Parameters
        ----------
        y : array_like, shape (n,)
        X_mean : array_like, shape (n, c), optional
            Columns of a linear mean, such as ones. Its coefficients are the best ones (`coefficients`). By default the
            mean is zero.
        grad : bool
            Whether to return the gradient too: inducing points, neighbours and their order stay as they are.
        free : sequence of str, optional
            Names of the kernel's parameters in the gradient, as `Kernel.get_params` has them; by default lengthscales
            and variances (`free_parameters`). Derivatives by these are analytic; by others, such as a smoothness, they
            are central differences, each of which costs two likelihoods.

        Returns
        -------
        log_likelihood : float
        gradient : dict of str to float or tuple of float
            Only if `grad`: the derivative with each parameter, by name, as many numbers as that has; ``'noise'`` beside
            them, if all observations have one.

        Raises
        ------
        InvalidInputError
            If an argument cannot be used, or the tree was given factors, whose derivatives nobody knows.

        Examples
        --------
        >>> import covertreex as cx
        >>> model = cx.vecchia.Vecchia(cx.cover_tree([[0.0], [1.0]], kernel=cx.Matern12()), k=1, noise=1.0)
        >>> round(model.log_likelihood([0.0, 0.0]), 6)  # -(2 log(2 pi) + log(4 - exp(-2))) / 2
        -2.513815
        >>> value, gradient = model.log_likelihood([0.0, 0.0], grad=True)
        >>> {name: round(number, 6) for name, number in gradient.items()}
        {'lengthscale': 0.035019, 'variance': -0.482491, 'noise': -0.517509}
        """
        r = self._unexplained(y, X_mean)
        value = self._log_density(r)
        if not check_flag(grad, "grad"):
            return value
        parameters = self._parameters(free, np.ndim(self.noise) == 0)
        return value, parameters.named(self._slopes(r, parameters))

    def _unexplained(self, y: ArrayLike, X_mean: ArrayLike | None) -> FloatArray:
        """Observations less their mean."""
        r = check_values(y, "y", len(self))
        return r if X_mean is None else r - self._mean_matrix(X_mean) @ self.coefficients(y, X_mean)[0]

    def _log_density(self, r: FloatArray) -> float:
        index, unit, n = self.tree.payload.index, self.tree.payload.unit, len(self)
        quadratic = float(self._factorization.gram(r[index, None])[0, 0]) / unit
        return -0.5 * (n * math.log(2.0 * math.pi) + n * math.log(unit) + self._factorization.log_det + quadratic)

    def _parameters(self, free: Sequence[str] | None, noise: bool) -> Parameters:
        if self.tree.projection is None:
            raise InvalidInputError(
                "this tree was given factors, which belong to one kernel; make it with inducing points for a gradient "
                "or a fit."
            )
        names = free_parameters(self.kernel) if free is None else free
        return Parameters(self.kernel, names, float(self.noise) if noise else None)

    def _slopes(self, r: FloatArray, parameters: Parameters) -> FloatArray:
        """Derivatives of `_log_density` with the numbers of the parameters."""
        if self.latent:
            steps = [self._difference(r, parameters, i) for i in range(len(parameters.numbers))]
            return np.array(steps) / parameters.numbers
        payload, metric = self.tree.payload, self.tree.metric
        share = getattr(metric, "jitter", None) is None
        by_kernel, by_noise = slopes(
            self._factorization, r[payload.index] / math.sqrt(payload.unit), self.tree.projection, share
        )
        rows, found = telling_rows(self.tree.X), np.full(len(parameters.numbers), -0.5 * by_noise / payload.unit)
        for i, (name, place) in enumerate(parameters.places()):
            power = powers(self.kernel, name, place, rows)
            found[i] = self._difference(r, parameters, i) if power is None else -0.5 * float(by_kernel @ power)
            found[i] /= parameters.numbers[i]
        return found

    def _difference(self, r: FloatArray, parameters: Parameters, place: int) -> float:
        """The derivative with the logarithm of a parameter, by a central difference."""
        at, values = [], []
        for side in (-STEP, STEP):
            theta = parameters.logarithms
            theta[place] += side
            theta = np.clip(theta, *parameters.ends)  # from one side at the end of a range
            at.append(theta[place])
            kernel, noise = parameters.at(theta)
            other = self._with(self.tree.with_metric(kernel), self.noise if noise is None else noise)
            values.append(other._log_density(r))
        return (values[1] - values[0]) / float(at[1] - at[0])

    @standard_arithmetic
    def scale(self, y: ArrayLike, X_mean: ArrayLike | None = None) -> float:
        """What all variances together, the kernel's and the noise, are best multiplied by: ``s = r' Sigma^-1 r / n``.

        With it the likelihood is largest: ``-(n log(2 pi s) + log |Sigma| + n) / 2``, the profile likelihood of the
        variance.

        Parameters
        ----------
        y : array_like, shape (n,)
        X_mean : array_like, shape (n, c), optional

        Returns
        -------
        float

        Examples
        --------
        >>> import covertreex as cx
        >>> cx.vecchia.Vecchia(cx.cover_tree([[0.0], [9.0]], kernel=cx.Wendland()), k=1).scale([3.0, 5.0])
        17.0
        """
        r, payload = self._unexplained(y, X_mean), self.tree.payload
        return float(self._factorization.gram(r[payload.index, None])[0, 0]) / payload.unit / len(self)

    def fit(
        self,
        y: ArrayLike,
        X_mean: ArrayLike | None = None,
        *,
        free: Sequence[str] | None = None,
        fit_noise: bool = True,
        searches: int = 12,
    ) -> "Fit":
        """Estimate the kernel's parameters and the noise by maximum likelihood, beginning with those of the model.

        L-BFGS on logarithms of the parameters. The likelihood depends on neighbours, and these on the kernel: so they
        are found anew (`CoverTree.with_metric`) after a few steps, which get more each time, until the estimates come
        to rest. Coefficients of a linear mean are profiled out. Where the tree knows of noise, neighbours are found
        under the current estimate of it. Neighbours that the model was given stay as they are.

        Parameters
        ----------
        y : array_like, shape (n,)
        X_mean : array_like, shape (n, c), optional
            Columns of a linear mean.
        free : sequence of str, optional
            Names of the parameters to estimate, as `Kernel.get_params` has them; by default lengthscales and variances.
        fit_noise : bool
            Whether to estimate the noise, beginning with the model's, or a tenth of the kernel's variance if that is 0.
            False leaves it as it is.
        searches : int
            Searches for neighbours, at most.

        Returns
        -------
        Fit

        Raises
        ------
        InvalidInputError
            If an argument cannot be used, or factors were supplied to the tree: these belong to one kernel.
        FactorizationError
            If a conditioning set, or the covariance of inducing points, is singular.

        Examples
        --------
        >>> import numpy as np, covertreex as cx
        >>> X = np.random.default_rng(0).uniform(size=(400, 1))
        >>> truth = cx.vecchia.Vecchia(cx.cover_tree(X, kernel=cx.Matern32(0.1)), k=20, noise=0.05)
        >>> start = cx.vecchia.Vecchia(cx.cover_tree(X, kernel=cx.Matern32(0.3)), k=10)
        >>> fitted = start.fit(truth.sample(0)[0])
        >>> fitted.converged, fitted.changed[0], 0.05 < fitted.kernel.lengthscale < 0.2
        (True, 0, True)
        """
        if isinstance(searches, bool) or not isinstance(searches, (int, np.integer)) or searches < 1:
            raise InvalidInputError(f"searches must be an integer, 1 or more, got {searches!r}.")
        values, A = check_values(y, "y", len(self)), None if X_mean is None else self._mean_matrix(X_mean)
        if np.ndim(self.noise) and check_flag(fit_noise, "fit_noise"):
            raise InvalidInputError(
                "each observation of this model has a noise of its own, and a fit finds one for all; fit_noise=False "
                "leaves them as they are."
            )
        first = self
        if check_flag(fit_noise, "fit_noise") and self.noise == 0.0:
            first = self._with(self.tree, 0.1 * float(self.kernel.variance))
        parameters = first._parameters(free, fit_noise)
        heard = bool(np.any(tree_noise(self.tree)))  # whether neighbours are those of observations
        latest, answer = first, None

        def tree_at(theta: FloatArray, search: bool) -> tuple[CoverTree, Any]:
            kernel, noise = parameters.at(theta)
            noise = first.noise if noise is None else noise
            return self.tree.with_metric(kernel, noise=noise if heard and search else None), noise

        def search(theta: FloatArray) -> tuple[Vecchia, int]:
            nonlocal latest, answer
            if self._own or np.array_equal(theta, parameters.logarithms):
                return latest, 0
            tree, noise = tree_at(theta, True)
            k, order = self.neighbors.shape[1], self.order
            answer = tree.search(
                k, predecessor_mode=True, order=order, settings=self._settings, n_threads=self._threads, start=answer
            )
            found = answer.indices
            others = int(np.sum(np.any(np.sort(found, axis=1) != np.sort(latest.neighbors, axis=1), axis=1)))
            latest = latest._with(tree, noise, condition(tree, found, order))
            return latest, others

        def value(model: Vecchia, theta: FloatArray) -> tuple[float, FloatArray]:
            here = model._with(*tree_at(theta, False))
            r = here._unexplained(values, A)
            n = len(values)
            return here._log_density(r) / n, here._slopes(r, parameters.moved(theta)) * np.exp(theta) / n

        with parallel.one_blas_thread():  # to set and restore that takes longer than a small likelihood
            summit = climb(parameters.logarithms, parameters.ends, search, value, searches, len(values))
            model = summit.model._with(*tree_at(summit.theta, False))
        return Fit(
            model=model,
            y=values,
            X_mean=A,
            log_likelihood=model.log_likelihood(values, A),
            coefficients=None if A is None else model.coefficients(values, A)[0],
            parameters=parameters.named(np.exp(summit.theta)) | {"noise": model.noise},
            changed=summit.changed,
            converged=summit.converged,
            evaluations=summit.evaluations,
        )

    @standard_arithmetic
    def coefficients(self, y: ArrayLike, X_mean: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Generalized least squares: the coefficients of a linear mean that make the likelihood largest.

        ``beta = (X' Sigma^-1 X)^-1 X' Sigma^-1 y``, and their covariance ``(X' Sigma^-1 X)^-1``.

        Parameters
        ----------
        y : array_like, shape (n,)
        X_mean : array_like, shape (n, c)

        Returns
        -------
        beta : ndarray, shape (c,)
        covariance : ndarray, shape (c, c)

        Raises
        ------
        InvalidInputError
            If columns depend on each other.

        Examples
        --------
        >>> import covertreex as cx
        >>> model = cx.vecchia.Vecchia(cx.cover_tree([[0.0], [1.0]], kernel=cx.Matern12()), k=1)
        >>> float(model.coefficients([1.0, 2.0], [[1.0], [1.0]])[0][0].round(6))
        1.5
        """
        values, A = check_values(y, "y", len(self)), self._mean_matrix(X_mean)
        size = np.sqrt(np.mean(A * A, axis=0))
        scale = np.where(size > 0.0, size, 1.0)
        gram = self._factorization.gram(np.column_stack([A / scale, values])[self.tree.payload.index])
        inner, right = gram[:-1, :-1], gram[:-1, -1]
        if np.linalg.matrix_rank(A / scale) < A.shape[1] or np.linalg.eigvalsh(inner)[0] <= 0.0:
            raise InvalidInputError("columns of X_mean depend on each other; leave out those that others make.")
        inverse = np.linalg.inv(inner)
        return inverse @ right / scale, inverse * self.tree.payload.unit / np.outer(scale, scale)

    @standard_arithmetic
    def predict(
        self,
        X_new: ArrayLike,
        y: ArrayLike,
        k: int = 30,
        *,
        X_mean: ArrayLike | None = None,
        X_mean_new: ArrayLike | None = None,
        observed: bool = False,
        v_query: ArrayLike | None = None,
        settings: str | TraversalSettings | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the process at other points, given observations.

        Each point is regressed on its k nearest observations (not on other new points): ``A = c_N C_NN^-1``, with
        residual variance ``D = c - A c_N'`` (Vecchia prediction, observations first: Katzfuss, Guinness, Gong and
        Zilber 2020). With inducing points (VIF, arXiv 2507.05064, section 2) ``w``, the weights of U, have mean
        ``M^-1 U' R^-1 y`` and covariance ``M^-1``; the mean is ``u E[w] + A (y_N - U_N E[w])``, and the variance ``D +
        (u - A U_N) M^-1 (u - A U_N)'``.

        Parameters
        ----------
        X_new : array_like, shape (q, d)
        y : array_like, shape (n,)
            The observations.
        k : int
            Neighbours of each point; at most n are used.
        X_mean, X_mean_new : array_like, shapes (n, c) and (q, c), optional
            Columns of the mean at both. The variance then has that of the coefficients in it (universal kriging).
        observed : bool
            Whether to predict observations: the variance has the noise in it.
        v_query : array_like, shape (q, m), optional
            Factors of the new points, where the tree was made with factors.
        settings : str or TraversalSettings, optional
            Of the search.

        Returns
        -------
        mean, variance : ndarray, shape (q,)

        Raises
        ------
        InvalidInputError
            If an argument cannot be used.
        FactorizationError
            If a conditioning set is singular beyond the largest jitter.

        Examples
        --------
        >>> import covertreex as cx
        >>> model = cx.vecchia.Vecchia(cx.cover_tree([[0.0], [1.0]], kernel=cx.Matern12()), k=1)
        >>> mean, variance = model.predict([[1.0], [2.0]], [0.0, 1.0], k=2)
        >>> mean.round(4).tolist(), variance.round(4).tolist()
        ([1.0, 0.3679], [0.0, 0.8647])
        """
        n, payload = len(self), self.tree.payload
        if check_flag(observed, "observed") and np.ndim(self.noise):
            raise InvalidInputError("each observation has a noise of its own; predict f, and add that of the new ones.")
        k = min(k, n) if isinstance(k, (int, np.integer)) and not isinstance(k, bool) else k
        given = check_values(y, "y", n)
        found = self.tree.knn(k, X_new, v_query=v_query, settings=settings, n_threads=self._threads)
        coords, factors = self._projected(X_new, v_query)
        values, means = given[:, None], np.zeros((len(coords), 0))
        if (X_mean is None) != (X_mean_new is None):
            raise InvalidInputError("X_mean and X_mean_new go together: the mean's columns at data and at new points.")
        if X_mean is not None:
            A, beta = self._mean_matrix(X_mean), self.coefficients(y, X_mean)
            means = check_points(as_array(X_mean_new, "X_mean_new"), "X_mean_new", columns=A.shape[1])
            if len(means) != len(coords):
                raise InvalidInputError(f"X_mean_new must have {len(coords)} rows, as X_new; got {len(means)}.")
            values = np.column_stack([given - A @ beta[0], A])
        linear, variance = self._linear(coords, factors, np.where(found < 0, -1, payload.row[found]), values)
        mean, variance = linear[:, 0], variance * payload.unit
        if X_mean is not None:
            unexplained = means - linear[:, 1:]
            mean = mean + means @ beta[0]
            variance = variance + np.einsum("ij,jk,ik->i", unexplained, beta[1], unexplained)
        return mean, variance + self.noise if observed else variance

    def _projected(self, X_new: ArrayLike, v_query: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
        """Scaled coordinates and padded factors, in the payload's units, of points that a search took."""
        payload, projection = self.tree.payload, self.tree.projection
        points = check_points(as_array(X_new, "X_new"), "X_new")
        if projection is not None:
            coords, factors, _ = projection(points, self._threads)
            return coords, factors
        V = as_float64(as_array(v_query, "v_query"), "v_query")
        factors = np.zeros((len(points), payload.factors.shape[1]))
        factors[:, : V.shape[1]] = V / math.sqrt(payload.unit)
        return payload.covariance.scale(points), factors

    def _linear(
        self, coords: FloatArray, factors: FloatArray, neighbors: IntArray, values: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Predictions of each column of `values` (n, c, in the order of X), and variances in the payload's units."""
        from scipy.linalg import solve_triangular

        found, payload, q = self._factorization, self.tree.payload, len(coords)
        values = np.ascontiguousarray(values[payload.index])
        weights, D, jitter = np.empty(neighbors.shape), np.empty(q), np.empty(q)
        explained = found.explained(values)
        values = found.rest(values, explained)
        mean, variance = np.zeros((q, values.shape[1])), np.empty(q)
        cancel = np.zeros(1, dtype=np.int32)

        def task(start: int, stop: int) -> None:
            part, left = slice(start, stop), np.empty((stop - start, factors.shape[1]))
            sets = core.Sets(
                payload.kernel.variance, payload.coords, payload.factors, found.noise, neighbors[part],  # type: ignore[union-attr]
                coords[part], factors[part], np.zeros(stop - start),
            )  # fmt: skip
            failed = core.regress(
                sets, covariance_of(payload), True, weights[part], D[part], jitter[part], left, cancel
            )
            if failed >= 0:
                raise refuse(f"point {start + failed} of X_new")
            core.subtract(values, neighbors[part], -weights[part], mean[part])
            mean[part] += factors[part] @ explained
            variance[part] = D[part] + found.spread(weights[part], neighbors[part])
            if factors.shape[1]:
                if found.carried is not payload.factors:  # of those, it is what the regression left
                    left[...] = factors[part]
                    core.subtract(found.carried, neighbors[part], weights[part], left)
                variance[part] += np.sum(solve_triangular(found.L, left.T, lower=True) ** 2, axis=0)

        with parallel.one_blas_thread():
            tasks = [partial(task, *span) for span in parallel.spans(q, tuning.FACTOR_BLOCK)]
            parallel.run(tasks, self._threads, cancel, brief=found.is_brief(q))
        return mean, variance

    @standard_arithmetic
    def sample(self, rng: int | np.random.Generator | None = None, size: int = 1) -> FloatArray:
        """Draws of all observations, with noise and with mean zero.

        ``U w + B^-1 D^(1/2) z``, w and z independent normal numbers.

        Parameters
        ----------
        rng : int, numpy.random.Generator, or None
            A seed, or what draws.
        size : int

        Returns
        -------
        ndarray, shape (size, n)

        Examples
        --------
        >>> import covertreex as cx
        >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]], kernel=cx.Matern12())
        >>> cx.vecchia.Vecchia(tree, k=1).sample(0, size=2).shape
        (2, 3)
        """
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise InvalidInputError(f"size must be a number of draws, 1 or more, got {size!r}.")
        values = self._factorization.colour(np.random.default_rng(rng), size)
        payload = self.tree.payload
        return np.ascontiguousarray((values[payload.row] * math.sqrt(payload.unit)).T)

    def _mean_matrix(self, X_mean: ArrayLike) -> FloatArray:
        return mean_matrix(X_mean, len(self))


@dataclass(frozen=True, eq=False)
class Fit:
    """What `Vecchia.fit` found.

    Attributes
    ----------
    model : Vecchia
        At the estimates, with the neighbours of the last search.
    y : ndarray, shape (n,)
    X_mean : ndarray, shape (n, c), or None
    log_likelihood : float
    coefficients : ndarray, shape (c,), or None
        Of the mean.
    parameters : dict of str to float or tuple
        The estimates, by the names that `Kernel.get_params` has; 'noise' beside them.
    changed : tuple of int
        How many rows had other neighbours than before, at each search; 0 at the first, which is the
        model's.
    converged : bool
        Whether the estimates came to rest, and the neighbours with them.
    evaluations : int
        Of the likelihood.
    """

    model: Vecchia
    y: FloatArray
    X_mean: FloatArray | None
    log_likelihood: float
    coefficients: FloatArray | None
    parameters: dict[str, Any]
    changed: tuple[int, ...]
    converged: bool
    evaluations: int

    @property
    def kernel(self) -> Kernel:
        """Kernel: with the estimates."""
        return self.model.kernel

    @property
    def noise(self) -> float:
        """float: the estimated variance of the noise."""
        return float(self.model.noise)

    def predict(
        self, X_new: ArrayLike, k: int = 30, *, X_mean_new: ArrayLike | None = None, observed: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance at other points, given the data of the fit; as `Vecchia.predict`.

        Parameters
        ----------
        X_new : array_like, shape (q, d)
        k : int
        X_mean_new : array_like, shape (q, c), optional
            Where the fit had `X_mean`.
        observed : bool
            Whether the noise is in the variance.

        Returns
        -------
        mean, variance : ndarray, shape (q,)
        """
        return self.model.predict(X_new, self.y, k, X_mean=self.X_mean, X_mean_new=X_mean_new, observed=observed)


def mean_matrix(X_mean: ArrayLike, n: int) -> FloatArray:
    """Columns of the mean, checked."""
    A = check_points(as_array(X_mean, "X_mean"), "X_mean")
    if len(A) != n:
        raise InvalidInputError(f"X_mean must have one row per point, shape ({n}, c), got {A.shape}.")
    if not 1 <= A.shape[1] <= n:
        raise InvalidInputError(f"X_mean must have from 1 to {n} columns, got {A.shape[1]}.")
    return A


def check_values(y: ArrayLike, name: str, n: int) -> FloatArray:
    """One finite number for each point."""
    array = as_array(y, name)
    if array.ndim == 2 and array.shape[1] == 1 and columns_of(y) is not None:
        array = array[:, 0]
    values = as_float64(array, name)
    if values.shape != (n,):
        raise InvalidInputError(f"{name} must have one number per point, shape ({n},), got {values.shape}.")
    if not np.all(np.isfinite(values)):
        at = int(np.argmin(np.isfinite(values)))
        raise InvalidInputError(f"{name} must be finite, got {values[at]} at row {at}.")
    return values


def tree_noise(tree: CoverTree) -> Any:
    """The noise that a tree was made with; 0 if there was none."""
    return getattr(tree.metric, "noise", 0.0)


def check_noise(noise: ArrayLike, n: int) -> Any:
    """A noise variance as a float, or a read-only array of one for each point."""
    try:
        array = as_float64(as_array(noise, "noise"), "noise")
    except (TypeError, ValueError):
        raise InvalidInputError(f"noise must be a variance, or one for each point; got {noise!r}.") from None
    if array.shape not in ((), (n,)):
        raise InvalidInputError(f"noise must be a variance, or one for each point, shape ({n},); got {array.shape}.")
    if not np.all((array >= 0.0) & (array < np.inf)):
        raise InvalidInputError(f"noise must be a variance, 0 or above and finite; got {noise!r}.")
    return read_only(array.copy()) if array.ndim else float(array)
