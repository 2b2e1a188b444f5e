"""Kernels that are one function of a scaled distance."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from covertreex.base.arithmetic import CanonicalArithmetic
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.checks import (
    LARGEST,
    OPTIONAL,
    SMALLEST,
    active_dims_of,
    lengthscale_of,
    positive,
    radius_of_sphere,
)
from covertreex.kernels.columns import Columns, Matrix
from covertreex.kernels.expression import Factor, table_of
from covertreex.kernels.functions import Functions, Plain
from covertreex.kernels.kernel import Kernel, with_expression
from covertreex.kernels.table import Table, make_table


@dataclass(frozen=True)
class Stationary(Kernel):
    """A kernel that is one function of a scaled distance; use one of its subclasses.

    Parameters
    ----------
    lengthscale : float, sequence of float, shape (d,), or matrix, shape (d, d)
        In the units of the data; a sequence gives one lengthscale per axis (ARD). A matrix L makes the distance
        ``r**2 = (x - y)^T (L L^T)^-1 (x - y)``: any directions may be long and short (full anisotropy, of which a
        diagonal matrix is ARD). L may be a Cholesky factor, or a rotation times a diagonal matrix.
    variance : float
        The kernel's value at distance zero.
    active_dims : sequence of int or str, optional
        Columns of the data that are compared, by number or by name; by default all of them. Names are those of the
        columns of the table that a tree is made of (`Kernel.on_columns`).
    lonlat : float or bool, optional
        Radius of the sphere on which columns 0 and 1 are longitude and latitude in degrees, compared by the chord
        between places; True for 1. By default they are columns as others are. Of the lengthscales, longitude and
        latitude have one between them. `covertreex.cover_tree` sets it: ``cover_tree(X, kernel=..., lonlat=True)``.

    Raises
    ------
    InvalidInputError
        If a parameter is not positive and finite.
    """

    lengthscale: float | tuple[float, ...] | Matrix = 1.0
    variance: float = 1.0
    active_dims: tuple[int | str, ...] | None = field(default=None, kw_only=True)
    lonlat: float | None = field(default=None, kw_only=True)

    takes_lonlat: ClassVar[bool] = True

    #: What parameters besides these may be, by name: all between positive numbers.
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    #: The value far away, which the table ends with; None if the function does not come to rest.
    above: ClassVar[float | None] = 0.0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__repr__" not in vars(cls):
            cls.__repr__ = Stationary.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        shown = [f.name for f in fields(self) if f.name not in OPTIONAL or getattr(self, f.name) is not None]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __post_init__(self) -> None:
        if type(self) is Stationary:
            raise InvalidInputError("Stationary is abstract; use RBF, Matern or another kernel.")
        object.__setattr__(self, "lengthscale", lengthscale_of(self.lengthscale))
        object.__setattr__(self, "active_dims", active_dims_of(self.active_dims))
        object.__setattr__(self, "lonlat", radius_of_sphere(self.lonlat))
        if self.lonlat is not None:
            self._agreed(self.lonlat)
        for name in self.shape_names:
            low, high = self.ranges.get(name, (SMALLEST, LARGEST))
            object.__setattr__(self, name, positive(name, getattr(self, name), low, high))
        object.__setattr__(self, "variance", positive("variance", self.variance))

    @property
    def shape_names(self) -> list[str]:
        """list of str: its parameters besides lengthscale, variance and those of its columns."""
        return [f.name for f in fields(self) if f.name not in ("lengthscale", "variance", *OPTIONAL)]

    @property
    def columns(self) -> Columns:
        """Columns: where its coordinates come from."""
        return Columns(self.lengthscale, self.active_dims, self.lonlat)

    @cached_property
    def groups(self) -> list[Any]:
        return [self.columns]

    def terms(self) -> list[tuple[float, list[Factor]]]:
        return [(self.variance, [Factor(self.columns, self.table)])]

    @property
    def table(self) -> Table:
        """Table: its correlation; of kernels with the same shape the same object."""
        return table_of(type(self), tuple(getattr(self, name) for name in self.shape_names), self._make_table)

    def _make_table(self) -> Table:
        return make_table(self.tabulated, self.above, name=type(self).__name__)

    def tabulated(self, r2: FloatArray) -> FloatArray:
        """What the table holds, in arithmetic that gives the same bits on every machine."""
        return self.correlation(r2, CanonicalArithmetic)

    def unitless(self, unit: float | None = None) -> "Kernel":
        changed = replace(self, variance=1.0 if unit is None else self.variance / unit)
        return with_expression(changed, self)

    def times(self, factor: Any) -> "Kernel":
        changed = replace(self, variance=self.variance * positive("a factor of a kernel", factor))
        return with_expression(changed, self)

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        return self.of_scaled(self.scale(A), self.scale(B))

    def of_scaled(self, A: FloatArray, B: FloatArray) -> FloatArray:
        from scipy.spatial.distance import cdist

        return self.variance * self.correlation(cdist(A, B, "sqeuclidean"))

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        """The kernel for a variance of 1 at squared scaled distances.

        Parameters
        ----------
        r2 : ndarray, float64
        by : Plain or type
            Functions to compute with: another class with those of `Plain`.

        Returns
        -------
        ndarray, float64, of the shape of `r2`

        Examples
        --------
        >>> import numpy as np
        >>> from covertreex import RBF
        >>> float(RBF().correlation(np.float64(0.0)))
        1.0
        """
        raise NotImplementedError("a kernel needs a formula of its own")
