"""Maximum likelihood, with neighbours that follow the kernel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base import parallel
from covertreex.base.types import FloatArray
from covertreex.base.validation import check_flag
from covertreex.covertree import CoverTree, cover_tree
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel, Product, Sum
from covertreex.settings import TraversalSettings
from covertreex.vecchia.conditioning import check_tree
from covertreex.vecchia.model import Vecchia, check_noise, check_values, mean_matrix, tree_noise

#: Step of finite differences, in the logarithm of a parameter.
STEP = 1e-5

#: Logarithms of parameters stay within so much of where they began.
REACH = math.log(1e5)

#: Between two searches they move by no more: farther away the neighbours are others, and what L-BFGS extrapolates from
#: a poor start may be a kernel of no reach, which is noise by another name, and a maximum too.
LEASH = 1.0

#: When no logarithm has moved by more between two searches, neighbours are those of the answer.
STILL = 1e-3


@dataclass(frozen=True, eq=False)
class Fit:
    """What `fit` found.

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
        How many rows had other neighbours than before, at each search; all of them at the first.
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


def free_parameters(kernel: Kernel) -> list[str]:
    """Names of the parameters that `fit` estimates by default: lengthscales, and variances that data can tell apart.

    Of a product's variances only that of the first part is free: all others say the same.

    Examples
    --------
    >>> from covertreex import RBF, Matern12
    >>> free_parameters(RBF() * Matern12(0.5))
    ['k1__lengthscale', 'k1__variance', 'k2__lengthscale']
    """
    return _free(kernel, "", True)


def _free(kernel: Kernel, prefix: str, scaled: bool) -> list[str]:
    names = []
    if isinstance(kernel, (Sum, Product)):
        for i, part in enumerate(kernel.parts, 1):
            own = scaled if i == 1 else isinstance(kernel, Sum)
            names += _free(part, f"{prefix}k{i}__", own)
        return names
    for field in fields(kernel):  # type: ignore[arg-type]
        value = getattr(kernel, field.name)
        if isinstance(value, Kernel):  # a multiple of a sum or product
            names += _free(value, f"{prefix}{field.name}__", False)
        elif (field.name.startswith("lengthscale") and np.ndim(value) < 2) or (field.name == "variance" and scaled):
            names.append(f"{prefix}{field.name}")
    return names


class _Parameters:
    """Some parameters of a kernel, and perhaps the noise, as a vector of logarithms."""

    def __init__(self, kernel: Kernel, names: Sequence[str], noise: float | None) -> None:
        self.kernel, self.names, self.noise = kernel, list(names), noise
        params, values = kernel.get_params(), []
        for name in self.names:
            if name not in params:
                raise InvalidInputError(f"free names {name!r}, but the kernel has {', '.join(params)}.")
            try:
                value = np.asarray(params[name], dtype=np.float64)
            except (TypeError, ValueError):
                value = np.zeros(0)
            if value.ndim > 1 or value.size == 0 or not np.all(value > 0.0):
                raise InvalidInputError(
                    f"free names {name!r}, which is {params[name]!r}; only positive numbers are fit."
                )
            values.append(value)
        self.shapes = [value.shape for value in values]
        start = [np.ravel(value) for value in values] + ([] if noise is None else [np.array([noise])])
        if not start:
            raise InvalidInputError("nothing is free: give names of parameters in free, or fit_noise=True.")
        self.start = np.log(np.concatenate(start))

    def at(self, theta: FloatArray) -> tuple[dict[str, Any], float | None]:
        """Values of the kernel's parameters by name, and the noise."""
        numbers, at, found = np.exp(theta), 0, {}
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = math.prod(shape)
            found[name] = tuple(numbers[at : at + size].tolist()) if shape else float(numbers[at])
            at += size
        return found, None if self.noise is None else float(numbers[-1])


def fit(
    tree: CoverTree | ArrayLike,
    y: ArrayLike,
    *,
    kernel: Kernel | None = None,
    inducing: ArrayLike | None = None,
    k: int = 30,
    noise: float | None = None,
    X_mean: ArrayLike | None = None,
    order: ArrayLike | None = None,
    free: Sequence[str] | None = None,
    fit_noise: bool = True,
    searches: int = 12,
    settings: str | TraversalSettings | None = None,
    n_threads: int | None = None,
) -> Fit:
    """Estimate a kernel's parameters and the noise by maximum likelihood.

    L-BFGS on logarithms of the parameters, with gradients by finite differences. The likelihood depends on neighbours,
    and these on the kernel: so they are found anew (`CoverTree.with_metric`) after a few steps, which get more each
    time, until the estimates come to rest. Coefficients of a linear mean are profiled out. Where the tree knows of
    noise, neighbours are found under the current estimate of it.

    Parameters
    ----------
    tree : CoverTree, or array_like of shape (n, d)
        A tree with a kernel, which holds the parameters to begin with; or points, beside `kernel`.
    y : array_like, shape (n,)
    kernel : Kernel, optional
        Beside points.
    inducing : int, array of int, or ndarray of shape (m, d), optional
        Beside points: as for `cover_tree`.
    k : int
        Neighbours of each point; at most n are used.
    noise : float, optional
        Variance of the noise to begin with, in the units of the kernel's variance; by default the tree's, or a tenth of
        the kernel's variance where it has none.
    X_mean : array_like, shape (n, c), optional
        Columns of a linear mean.
    order : array_like of int, shape (n,), optional
        Of the approximation.
    free : sequence of str, optional
        Names of the parameters to estimate, as `Kernel.get_params` has them; by default lengthscales and variances.
    fit_noise : bool
        Whether to estimate the noise; False leaves it at `noise`.
    searches : int
        Searches for neighbours, at most.
    settings : str or TraversalSettings, optional
        Of the searches.
    n_threads : int, optional
        By default those of the tree. Has no influence on any result.

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
    >>> fitted = cx.vecchia.fit(X, truth.sample(0)[0], kernel=cx.Matern32(0.3), k=10)
    >>> fitted.converged, fitted.changed[0], 0.05 < fitted.kernel.lengthscale < 0.2
    (True, 400, True)
    """
    from scipy.optimize import minimize

    start, values, A, level = _begin(
        tree, y, kernel, inducing, noise, X_mean, check_flag(fit_noise, "fit_noise"), n_threads
    )
    if isinstance(searches, bool) or not isinstance(searches, (int, np.integer)) or searches < 1:
        raise InvalidInputError(f"searches must be an integer, 1 or more, got {searches!r}.")
    first: Kernel = start.metric.kernel  # type: ignore[union-attr]
    parameters = _Parameters(first, free_parameters(first) if free is None else free, level if fit_noise else None)
    theta, changed, evaluations, converged = parameters.start, [], 0, False
    k = min(k, len(start)) if isinstance(k, (int, np.integer)) and not isinstance(k, bool) else k
    heard = bool(np.any(tree_noise(start)))  # whether neighbours are those of observations
    before = None

    def tree_at(theta: FloatArray, search: bool) -> tuple[CoverTree, float]:
        found, estimate = parameters.at(theta)
        now = level if estimate is None else estimate
        return start.with_metric(first.set_params(**found), noise=now if heard and search else None), now

    def value(theta: FloatArray, like: Vecchia) -> float:
        nonlocal evaluations
        evaluations += 1
        model = Vecchia._of_sets(*tree_at(theta, False), like)
        return -model.log_likelihood(values, A) / len(values)

    def objective(theta: FloatArray, like: Vecchia) -> tuple[float, FloatArray]:
        here = value(theta, like)
        steps = STEP * np.eye(len(theta))
        return here, np.array([value(theta + step, like) - here for step in steps]) / STEP

    ends = parameters.start - REACH, parameters.start + REACH
    with parallel.one_blas_thread():  # to set and restore that takes longer than a small likelihood
        for i in range(searches):
            there, now = tree_at(theta, True)
            result = there.search(k, predecessor_mode=True, order=order, settings=settings, n_threads=n_threads)
            changed.append(len(start) if before is None else len(result.changed_rows(before)))
            before = result
            like = Vecchia(there, noise=now, neighbors=result.indices, order=order, n_threads=n_threads)
            if converged:  # of the estimates; and these are the neighbours that go with them
                break
            bounds = list(zip(np.maximum(theta - LEASH, ends[0]), np.minimum(theta + LEASH, ends[1]), strict=True))
            found = minimize(
                objective, theta, args=(like,), jac=True, method="L-BFGS-B", bounds=bounds,
                options={"maxiter": min(4 * 2**i, 100), "ftol": 1e-11, "gtol": 1e-7},
            )  # fmt: skip
            moved = float(np.max(np.abs(found.x - theta)))
            converged = moved < STILL or (changed[-1] == 0 and moved < LEASH and bool(found.success))
            theta = found.x
        there, now = tree_at(theta, False)
        model = Vecchia._of_sets(there, now, like)
    return Fit(
        model=model,
        y=values,
        X_mean=A,
        log_likelihood=model.log_likelihood(values, A),
        coefficients=None if A is None else model.coefficients(values, A)[0],
        parameters=parameters.at(theta)[0] | {"noise": now},
        changed=tuple(changed),
        converged=converged,
        evaluations=evaluations,
    )


def _begin(
    tree: CoverTree | ArrayLike,
    y: ArrayLike,
    kernel: Kernel | None,
    inducing: ArrayLike | None,
    noise: float | None,
    X_mean: ArrayLike | None,
    fit_noise: bool,
    n_threads: int | None,
) -> tuple[CoverTree, FloatArray, FloatArray | None, float]:
    """The tree to begin with, the data, columns of the mean, and the noise to begin with."""
    if isinstance(tree, CoverTree):
        if kernel is not None or inducing is not None:
            raise InvalidInputError("a tree has its kernel and inducing points; give them beside points alone.")
        start = check_tree(tree)
    else:
        if kernel is None:
            raise InvalidInputError("fit needs a kernel to begin with beside points: kernel=Matern32(lengthscale=...).")
        start = check_tree(cover_tree(tree, kernel=kernel, inducing=inducing, n_threads=n_threads))
    if start.projection is None:
        raise InvalidInputError(
            "this tree was given factors, which belong to one kernel; make it with inducing points to fit the kernel."
        )
    if noise is None:
        noise = tree_noise(start)
        if np.ndim(noise):
            raise InvalidInputError("each observation of this tree has a noise of its own; fit finds one for all.")
        if not noise and fit_noise:
            noise = 0.1 * float(start.metric.kernel.variance)  # type: ignore[union-attr]
    level = check_noise(noise, len(start))
    if np.ndim(level):
        raise InvalidInputError("fit finds one noise for all observations; give a number to begin with.")
    if fit_noise and not level > 0.0:
        raise InvalidInputError("a noise that is fitted begins above 0; fit_noise=False leaves it at 0.")
    A = None if X_mean is None else mean_matrix(X_mean, len(start))
    return start, check_values(y, "y", len(start)), A, level
