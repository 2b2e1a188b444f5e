"""Covariances of space and time that are no product of one of each."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from covertreex.base.arithmetic import CanonicalArithmetic
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.checks import active_dims_of, positive, radius_of_sphere
from covertreex.kernels.columns import Columns
from covertreex.kernels.expression import Factor, table_of
from covertreex.kernels.families import Matern, _whole
from covertreex.kernels.kernel import Kernel, with_expression
from covertreex.kernels.limited import Limited
from covertreex.kernels.table import Table, make_table

__all__ = ["Gneiting"]

_RANGES = {
    "nu": (0.01, 1000.0),
    "alpha": (0.05, 1.0),
    "beta": (0.0, 1.0),
    "delta": (0.0, 100.0),
    "dimension": (1.0, 9.0),
}


@dataclass(frozen=True)
class Share:
    """Scaled coordinates of space, or of time: the last column is time, where nobody says otherwise.

    Parameters
    ----------
    columns : Columns
    time : bool
        Whether it is time that is wanted.
    other : tuple of int or str, or None
        The columns that are the other's.
    """

    columns: Columns
    time: bool
    other: tuple[int | str, ...] | None = None

    def __call__(self, X: FloatArray) -> FloatArray:
        """Scaled coordinates, shape (n, D), of points (n, d)."""
        d = X.shape[1]
        if d < 2:
            raise InvalidInputError(f"Gneiting compares columns of space and of time, but the data has {d} column.")
        if self.columns.active_dims is None:
            # Names are numbers by now, or `Columns` says what is wrong with them.
            if self.other is None:
                return self.columns(X[:, d - 1 :] if self.time else X[:, : d - 1])
            Columns(1.0, self.other)(X)
            return self.columns(X[:, [j for j in range(d) if j not in self.other]])
        return self.columns(X)

    def width(self, d: int) -> int:
        """How many scaled coordinates there are of points with `d` columns."""
        if self.columns.active_dims is not None:
            return self.columns.width(d)
        columns = (1 if self.time else d - 1) if self.other is None else d - len(self.other)
        width: int = self.columns.width(columns)
        return width


@dataclass(frozen=True)
class Gneiting(Kernel):
    """Space and time together: what is far apart in time is compared over wider distances in space.

    With h the scaled distance in space and u that in time, and ``psi = 1 + u**(2 alpha)``::

        variance * psi**-(delta + beta * dimension / 2) * M(h / psi**(beta / 2))

    where M is the `Matern` correlation of smoothness `nu`, which is ``exp(-h)`` by default. At ``beta = 0`` it is the
    product of a `Matern` kernel of space and a `Cauchy` kernel of time, and at 1 the two interact most. Positive
    definite for all parameters in their ranges, in up to `dimension` dimensions of space. Source: Gneiting,
    *Journal of the American Statistical Association* 97 (2002), equations 14 to 16.

    Parameters
    ----------
    lengthscale_space : float or sequence of float
        In the units of the data; a sequence gives one per column.
    lengthscale_time : float
    variance : float
        The kernel's value at distance zero.
    nu : float
        Smoothness in space, from 0.01 to 1000.
    alpha : float
        Smoothness in time, from 0.05 to 1.
    beta : float
        Interaction of space and time, from 0 to 1.
    delta : float
        How fast it falls with time besides, from 0 to 100.
    dimension : int
        Of space; more columns are refused. From 1 to 9.
    space_dims, time_dims : sequence of int or str, optional
        Columns by number or by name. By default time is the last column, and space all the others.
    lonlat : float, optional
        Radius of a sphere on which columns 0 and 1 are longitude and latitude, as of other kernels: three dimensions,
        so `dimension` must be at least 3.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.

    Examples
    --------
    >>> from covertreex import Gneiting
    >>> kernel = Gneiting(lengthscale_space=100.0, lengthscale_time=7.0, beta=0.5)
    >>> float(kernel([[0.0, 0.0, 0.0]], [[60.0, 80.0, 7.0]])[0, 0].round(6))
    0.215662
    """

    lengthscale_space: float | tuple[float, ...] = 1.0
    lengthscale_time: float = 1.0
    variance: float = 1.0
    nu: float = 0.5
    alpha: float = 0.5
    beta: float = 1.0
    delta: float = 0.5
    dimension: int = 2
    space_dims: tuple[int | str, ...] | None = None
    time_dims: tuple[int | str, ...] | None = None
    lonlat: float | None = field(default=None, kw_only=True)

    takes_lonlat: ClassVar[bool] = True

    #: The fields that name columns.
    dims_fields: ClassVar[tuple[str, ...]] = ("space_dims", "time_dims")

    def __post_init__(self) -> None:
        given: Any = self.lengthscale_space
        if np.ndim(given) > 1 or np.size(given) == 0:
            raise InvalidInputError(
                f"lengthscale_space must be a number or a sequence of one per column, got {given!r}."
            )
        space: Any
        if np.ndim(given) == 0:
            space = positive("lengthscale_space", given)
        else:
            space = tuple(positive(f"lengthscale_space[{i}]", value) for i, value in enumerate(given))
        object.__setattr__(self, "lengthscale_space", space)
        for name in ("lengthscale_time", "variance"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))
        for name, limits in _RANGES.items():
            object.__setattr__(self, name, positive(name, getattr(self, name), *limits))
        _whole(self, "dimension")
        for name in self.dims_fields:
            object.__setattr__(self, name, active_dims_of(getattr(self, name)))
        object.__setattr__(self, "lonlat", radius_of_sphere(self.lonlat))
        if self.lonlat is not None and {0, 1} & set(self.time_dims or ()):
            raise InvalidInputError(
                "with lonlat, columns 0 and 1 are longitude and latitude; time_dims names one of them."
            )
        both = set(self.space_dims or ()) & set(self.time_dims or ())
        if both:
            raise InvalidInputError(f"column {both.pop()!r} is in both space_dims and time_dims.")
        if self._exponent == 0.0:
            raise InvalidInputError("with beta = 0 and delta = 0 the kernel does not depend on time. Raise delta.")

    @property
    def _exponent(self) -> float:
        return self.delta + 0.5 * self.beta * self.dimension

    @property
    def _space(self) -> Any:
        share = Share(Columns(self.lengthscale_space, self.space_dims, self.lonlat), False, self.time_dims)
        return Limited(share, self.dimension, "Gneiting in space", "Choose some by space_dims=, or raise dimension=.")

    @property
    def _time(self) -> Any:
        return Share(Columns(self.lengthscale_time, self.time_dims), True, self.space_dims)

    def _of_time(self, exponent: float) -> Table:
        """The table of ``psi**-exponent``."""

        def function(t: FloatArray) -> FloatArray:
            by = CanonicalArithmetic
            return by.exp(-exponent * by.log1p(t if self.alpha == 1.0 else by.power(t, self.alpha)))

        return table_of(Gneiting, (self.alpha, exponent), lambda: make_table(function, name="Gneiting"))

    def terms(self) -> list[tuple[float, list[Factor]]]:
        time, rescale = self._time, None
        if self.beta > 0.0:
            rescale = Factor(time, self._of_time(self.beta))
        return [
            (
                self.variance,
                [Factor(self._space, Matern(nu=self.nu).table, rescale), Factor(time, self._of_time(self._exponent))],
            )
        ]

    def unitless(self, unit: float | None = None) -> Kernel:
        return with_expression(replace(self, variance=1.0 if unit is None else self.variance / unit), self)

    def times(self, factor: Any) -> Kernel:
        return with_expression(replace(self, variance=self.variance * positive("a factor of a kernel", factor)), self)

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        from scipy.spatial.distance import cdist

        h2 = cdist(self._space(A), self._space(B), "sqeuclidean")
        psi = 1.0 + cdist(self._time(A), self._time(B), "sqeuclidean") ** self.alpha
        covariances: FloatArray = (
            self.variance * psi**-self._exponent * Matern(nu=self.nu).correlation(h2 / psi**self.beta)
        )
        return covariances
