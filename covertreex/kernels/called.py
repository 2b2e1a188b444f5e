"""A covariance that is no function of a distance: a function of the caller's, which no compiled code knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.contract import CALLED
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.columns import Columns
from covertreex.kernels.kernel import Kernel

#: Rows whose variances are asked for at once: of a block of covariances only the diagonal is used.
DIAGONAL = 16

#: Covariances (a, b) of points (a, d) and (b, d).
Function: TypeAlias = Callable[[FloatArray, FloatArray], ArrayLike]


@dataclass(frozen=True, eq=False)
class Covariance(Kernel):
    """Any covariance: a function of two sets of points, such as a non-stationary one, or one on a graph.

    The function is asked for every pair that is compared, so searches take its time. ``exact`` compares all pairs.
    ``fast`` compares each point with those nearest in `coordinates`, as many as meet its recall target in a sample.
    Cover trees, and so the profiles ``parity`` and ``gold``, need a covariance that compiled code knows.

    Only correlation matters to a search. So the covariance is divided by the standard deviations of both points, and
    `variance` is 1: calling the kernel gives correlations. Results are the same bits on every run if the function's
    value for a pair does not depend on what else it is asked in the same call.

    Parameters
    ----------
    function : callable
        ``f(A, B)`` with points (a, d) and (b, d), float64, returns covariances (a, b).
    coordinates : callable, optional
        ``c(X)`` with points (n, d) returns (n, c): points that are near each other there are likely to be correlated.
        By default the first eight factors, if there are inducing points, and the points themselves if not.

    Raises
    ------
    InvalidInputError
        If the function returns an array of another shape, numbers that are not finite, or variances that are not
        positive.

    Examples
    --------
    A lengthscale that grows with the first coordinate (Paciorek and Schervish 2006, "Spatial modelling using a new
    class of nonstationary covariance functions", equation 1):

    >>> import numpy as np, covertreex as cx
    >>> def wider_to_the_right(A, B):
    ...     a, b = 0.1 + A[:, :1] ** 2, 0.1 + B[:, 0] ** 2
    ...     mean = (a**2 + b**2) / 2
    ...     return np.sqrt(a * b / mean) * np.exp(-((A[:, :1] - B[:, 0]) ** 2) / mean)
    >>> X = np.linspace(0, 1, 50)[:, None]
    >>> cx.cover_tree(X, kernel=cx.Covariance(wider_to_the_right)).knn(k=2, queries=[0, 49]).tolist()
    [[1, 2], [48, 47]]
    """

    function: Function
    coordinates: Callable[[FloatArray], ArrayLike] | None = None

    code: ClassVar[int] = CALLED
    variance: ClassVar[float] = 1.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        for name in ("function", "coordinates"):
            value = getattr(self, name)
            if not callable(value) and not (name == "coordinates" and value is None):
                raise InvalidInputError(f"{name} of a Covariance must be a function, got {value!r}.")

    @property
    def expression(self) -> None:
        """None: it is no function of distances."""
        return None

    @property
    def groups(self) -> list[Any]:
        return [Columns()]

    def scale(self, X: FloatArray) -> FloatArray:
        """The points themselves.

        Parameters
        ----------
        X : ndarray, shape (n, d), float64
        """
        return np.ascontiguousarray(X)

    def unitless(self, unit: float | None = None) -> Kernel:
        return self

    def times(self, factor: Any) -> Kernel:
        raise InvalidInputError(
            "a Covariance is divided by its own variance, so a factor changes nothing; multiply inside its function."
        )

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        return self.of_deviations(A, B, self.deviations(A), self.deviations(B))

    def of_scaled(self, A: FloatArray, B: FloatArray) -> FloatArray:
        return self._of_points(A, B)

    def of_deviations(self, A: FloatArray, B: FloatArray, of_a: FloatArray, of_b: FloatArray) -> FloatArray:
        """Correlations (a, b) of points whose `deviations` are at hand."""
        values = self._ask(A, B)
        values /= of_a[:, None]
        values /= of_b
        return values

    def deviations(self, points: FloatArray) -> FloatArray:
        """Standard deviations, shape (n,), of points (n, d)."""
        parts = [points[start : start + DIAGONAL] for start in range(0, len(points), DIAGONAL)]
        variances = np.concatenate([np.diagonal(self._ask(part, part)) for part in parts] or [np.zeros(0)])
        if not np.all(variances > 0.0):
            at = int(np.argmin(variances > 0.0))
            raise InvalidInputError(
                f"the covariance function gives the point {points[at].tolist()} the variance {variances[at]:g}; "
                "variances must be positive."
            )
        deviations: FloatArray = np.sqrt(variances)
        return deviations

    def _ask(self, A: FloatArray, B: FloatArray) -> FloatArray:
        values = np.array(self.function(A, B), dtype=np.float64)
        if values.shape != (len(A), len(B)):
            raise InvalidInputError(
                f"the covariance function must return shape {(len(A), len(B))} for points {A.shape} and {B.shape}, got "
                f"{values.shape}."
            )
        if not np.all(np.isfinite(values)):
            a, b = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
            raise InvalidInputError(
                f"the covariance function gives {values[a, b]} for the points {A[a].tolist()} and {B[b].tolist()}; it "
                "must be finite."
            )
        return values

    def near(self, points: FloatArray, factors: FloatArray) -> FloatArray:
        """Coordinates (n, c) in which to look for candidates."""
        if self.coordinates is None:
            return np.ascontiguousarray(factors[:, :8] if factors.shape[1] else points)
        found = np.ascontiguousarray(self.coordinates(points), dtype=np.float64)
        if found.ndim != 2 or len(found) != len(points) or not np.all(np.isfinite(found)):
            raise InvalidInputError(
                f"coordinates= must return finite numbers of shape ({len(points)}, c), got shape {found.shape}."
            )
        return found

    @property
    def value_error(self) -> float:
        return 64.0 * 2.0**-53

    def beyond(self, r: float) -> float:
        return 1.0

    def modulus(self, delta: float) -> float:
        return 1.0
