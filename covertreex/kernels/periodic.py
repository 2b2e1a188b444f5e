"""Kernels of columns that come round again: a time of day, a season, an angle."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from covertreex.base.arithmetic import sin_cos_turns
from covertreex.base.contract import KERNEL_CODES
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.checks import positive
from covertreex.kernels.closed import RBF
from covertreex.kernels.functions import Functions, Plain
from covertreex.kernels.limited import Limited
from covertreex.kernels.stationary import Stationary
from covertreex.kernels.table import Table

__all__ = ["Circles", "Cosine", "Periodic"]


@dataclass(frozen=True)
class Circles:
    """Columns as points on circles: ``(cos, sin)`` of ``2 pi x / period``, divided by lengthscales.

    The squared distance of two such points is ``sum((2 sin(pi (x - y) / period) / lengthscale)**2)``.

    Parameters
    ----------
    columns : Columns
        The columns, in the units of `period`.
    period, lengthscale : float or tuple of float
        One number, or one per column.

    Examples
    --------
    >>> import numpy as np
    >>> from covertreex.kernels import Columns
    >>> Circles(Columns(), period=24.0)(np.array([[0.0], [6.0], [24.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """

    columns: Any
    period: float | tuple[float, ...] = 1.0
    lengthscale: Any = 1.0

    def __call__(self, X: FloatArray) -> FloatArray:
        """Scaled coordinates, shape (n, 2 D), of points (n, d)."""
        chosen = self.checked(X)
        sine, cosine = sin_cos_turns(chosen / np.asarray(self.period))
        scaled = np.empty((len(chosen), 2 * chosen.shape[1]))
        scaled[:, 0::2], scaled[:, 1::2] = cosine / np.asarray(self.lengthscale), sine / np.asarray(self.lengthscale)
        return scaled

    def checked(self, X: FloatArray) -> FloatArray:
        """The columns that are compared."""
        chosen: FloatArray = self.columns(X)
        for name in ("period", "lengthscale"):
            given = np.shape(getattr(self, name))
            if given and given != (chosen.shape[1],):
                raise InvalidInputError(
                    f"the kernel has {given[0]} {name}s, but {chosen.shape[1]} columns are compared. "
                    "Give one number, or one per column."
                )
        return chosen

    def width(self, d: int) -> int:
        """How many scaled coordinates there are of points with `d` columns."""
        width: int = 2 * self.columns.width(d)
        return width


@dataclass(frozen=True)
class Periodic(Stationary):
    """``variance * exp(-2 * sum(sin(pi (x - y) / period)**2 / lengthscale**2))``: what comes round again.

    The `RBF` kernel of points on circles, so that it is positive definite for any number of columns. Source: MacKay,
    *Introduction to Gaussian Processes* (1998), section 5; Rasmussen and Williams (2006), equation 4.31. Times another
    kernel of the same column it is quasi-periodic: ``Periodic(period=365.25) * RBF(1000.0)``.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`. The lengthscale is no length: small is wiggly within a period, 1 and above nearly a sine.
    period : float or sequence of float
        In the units of the data; a sequence gives one per column.

    Examples
    --------
    >>> from covertreex import Periodic
    >>> daily = Periodic(0.5, period=24.0)
    >>> daily([[0.0]], [[24.0], [12.0]]).round(6).tolist()
    [[1.0, 0.000335]]
    """

    period: float | tuple[float, ...] = 1.0

    code: ClassVar[int] = KERNEL_CODES["rbf"]
    takes_lonlat: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.ndim(self.lengthscale) == 2:
            raise InvalidInputError("Periodic has a lengthscale for each column; a matrix of them means nothing here.")
        given: Any = self.period
        if np.ndim(given) > 1 or np.size(given) == 0:
            raise InvalidInputError(f"period must be a number or a sequence of one per column, got {given!r}.")
        period: Any = positive("period", given) if np.ndim(given) == 0 else _periods(given)
        object.__setattr__(self, "period", period)

    @property
    def shape_names(self) -> list[str]:
        return []

    @property
    def columns(self) -> Any:
        return Circles(replace(super().columns, lengthscale=1.0), self.period, self.lengthscale)

    @property
    def table(self) -> Table:
        return RBF().table

    @property
    def value_error(self) -> float:
        return RBF().value_error

    def beyond(self, r: float) -> float:
        return RBF().beyond(r)

    def modulus(self, delta: float) -> float:
        return RBF().modulus(delta)

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        return by.exp(-0.5 * r2)

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        A, B = self.columns.checked(A), self.columns.checked(B)
        sine = np.sin(np.pi / np.asarray(self.period) * (A[:, None, :] - B[None, :, :])) / np.asarray(self.lengthscale)
        return self.variance * self.correlation(4.0 * np.sum(sine * sine, axis=2))


def _periods(given: Any) -> tuple[float, ...]:
    return tuple(positive(f"period[{i}]", value) for i, value in enumerate(given))


@dataclass(frozen=True)
class Cosine(Stationary):
    """``variance * cos(2 pi r / period)`` of one column: a wave that never forgets; for products with kernels that do.

    Positive definite, but not strictly: its covariance matrices have rank 2. In more columns a cosine of the distance
    is no covariance; there a product of such kernels, each of its column, is. Source: Yaglom,
    *Correlation Theory of Stationary and Related Random Functions I* (1987), chapter 2. A component of the spectral
    mixture of Wilson and Adams, *ICML* (2013), equation 12, is ``RBF(...) * Cosine(...)``.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.
    period : float
        In lengthscales: the units of the data, if the lengthscale is 1.

    Examples
    --------
    >>> from covertreex import Cosine
    >>> Cosine(period=4.0)([[0.0]], [[4.0], [2.0]]).round(6).tolist()
    [[1.0, -1.0]]
    """

    period: float = 1.0

    above: ClassVar[float | None] = -1.0

    takes_lonlat: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.size(self.lengthscale) != 1:
            raise InvalidInputError(
                f"Cosine compares one column: lengthscale must be one number, got {self.lengthscale}."
            )

    @property
    def columns(self) -> Any:
        advice = "Choose one by active_dims=; a product of such kernels, each of its own column, is one in more."
        one = Limited(replace(super().columns, lengthscale=1.0), 1, "Cosine", advice)
        return Circles(one, float(np.ravel(self.lengthscale)[0]) * self.period)

    @property
    def shape_names(self) -> list[str]:
        return ["period"]

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        """At squared distances of points on the circle of radius 1: at most 4."""
        return 1.0 - 0.5 * np.minimum(r2, 4.0)

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        A, B = self.columns.checked(A), self.columns.checked(B)
        covariances: FloatArray = self.variance * np.cos(2.0 * math.pi / self.columns.period * (A - B.T))
        return covariances
