"""What every kernel is, and how kernels are added and multiplied."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.contract import CALLED, EXPRESSION
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.checks import numbered, positive
from covertreex.kernels.expression import Expression, Factor, make_expression
from covertreex.kernels.params import Params

#: Groups of columns are stretched so that correlation falls to this at the same distance along each.
ALIKE = 0.65


class Kernel(Params):
    """A covariance function: `RBF` and others below, or sums and products of such.

    ``a + b`` and ``a * b`` are kernels, and so is ``2.0 * a``, whose variance is twice that of a.
    """

    #: Its number in canonical arithmetic; `EXPRESSION` where it is evaluated by tables.
    code: ClassVar[int] = EXPRESSION

    #: Fields that say which columns are compared, None for all; names in them become numbers (`on_columns`).
    dims_fields: ClassVar[tuple[str, ...]] = ("active_dims",)

    #: Whether it has a field `lonlat`, and its columns make places on a sphere of longitude and latitude.
    takes_lonlat: ClassVar[bool] = False

    #: What some closed form needs besides distances.
    alpha: float = 1.0

    variance: Any

    # -- what a kernel of its own has to have

    def terms(self) -> list[tuple[float, list[Factor]]]:
        """Its covariance as a sum of products: a weight and factors, for each term."""
        raise NotImplementedError("a kernel needs terms, or a formula `correlation`")

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        """Covariances (a, b), not in canonical arithmetic."""
        raise NotImplementedError("a kernel needs a formula of its own")

    # -- what follows from that

    @cached_property
    def expression(self) -> Expression | None:
        """Expression or None: the correlation as canonical arithmetic evaluates it, whatever columns its groups have;
        None for a closed form."""
        return None if self.code != EXPRESSION else make_expression(self.terms())

    def expression_for(self, columns: int) -> Expression | None:
        """`expression`, of this many scaled coordinates."""
        whole = self.expression
        if whole is None:
            return None
        known: dict[int, Expression] = vars(self).setdefault("_expressions", {})
        if columns in known:
            return known[columns]
        for d in range(1, columns + 1):
            stops = np.cumsum([group.width(d) for group in self.groups])
            if stops[-1] == columns:
                return known.setdefault(columns, replace(whole, group_stop=stops.astype(np.int64)))
        raise InvalidInputError(f"{self!r} does not compare {columns} scaled coordinates.")

    @cached_property
    def groups(self) -> list[Any]:
        """list of Columns: the groups of columns that its expression compares, in order."""
        found: list[Any] = []
        for _, factors in self.terms():
            for factor in factors:
                for part in (factor, factor.rescale):
                    if part is not None and part.columns not in found:
                        found.append(part.columns)
        return found

    def scale(self, X: FloatArray) -> FloatArray:
        """Coordinates as the kernel compares them: of each group of columns, divided by its lengthscales.

        Parameters
        ----------
        X : ndarray, shape (n, d), float64

        Returns
        -------
        ndarray, shape (n, D), float64, C-contiguous

        Raises
        ------
        InvalidInputError
            If lengthscales or `active_dims` do not fit the columns of `X`, or lengthscales are extreme for the data.
        """
        parts: list[FloatArray] = [columns(X) for columns in self.groups]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))

    def stretch(self, columns: int) -> FloatArray | None:
        """What this many scaled coordinates are multiplied by so that correlation falls alike along each group of
        columns: where rows that are near each other are looked for. None for 1.

        Returns
        -------
        ndarray, shape (columns,), or None
        """
        expression = self.expression_for(columns)
        if expression is None or len(expression.group_stop) == 1:
            return None
        starts = np.concatenate([[0], expression.group_stop[:-1]])
        reach = np.zeros((len(starts), columns))
        low, high = np.full(len(starts), 1e-6), np.full(len(starts), 1e6)
        for _ in range(40):
            middle = np.sqrt(low * high)
            reach[np.arange(len(starts)), starts] = middle
            above = expression(np.zeros(columns), reach) > ALIKE
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        stretch: FloatArray = np.repeat(1.0 / np.minimum(low, 1e3), np.diff(expression.group_stop, prepend=0))
        return stretch

    def spread(self, coords: FloatArray) -> FloatArray:
        """Scaled coordinates, stretched (`stretch`)."""
        stretch = self.stretch(coords.shape[1])
        return coords if stretch is None else np.ascontiguousarray(coords * stretch)

    def on_columns(self, names: tuple[str, ...] | None, lonlat: float | None = None) -> "Kernel":
        """The kernel for data with columns of these names: numbers in place of names, in all of its parts.

        Parameters
        ----------
        names : tuple of str, or None
            Those of the data; None if it has none.
        lonlat : float, optional
            Radius of the sphere on which columns 0 and 1 are longitude and latitude: for all parts that compare them.

        Returns
        -------
        Kernel

        Raises
        ------
        InvalidInputError
            If there is no column of a name, or a part has another `lonlat`.

        Examples
        --------
        >>> from covertreex import RBF, Matern12
        >>> (RBF(active_dims=["x"]) * Matern12(active_dims=["t"])).on_columns(("t", "x"))
        Product(parts=(RBF(lengthscale=1.0, variance=1.0, active_dims=(1,)), Matern12(lengthscale=1.0, \
variance=1.0, active_dims=(0,))))
        """
        changes: dict[str, Any] = {}
        dims: list[tuple[int | str, ...] | None] = []
        for name, value in self._values():
            if name in self.dims_fields:
                dims.append(numbered(value, names))
                changes[name] = dims[-1]
            elif isinstance(value, Kernel):
                changes[name] = value.on_columns(names, lonlat)
            elif isinstance(value, tuple) and any(isinstance(part, Kernel) for part in value):
                changes[name] = tuple(
                    part.on_columns(names, lonlat) if isinstance(part, Kernel) else part for part in value
                )
        if lonlat is not None and any(one is None or 0 in one or 1 in one for one in dims):
            changes["lonlat"] = self._agreed(lonlat)
        if all(getattr(self, name) == value for name, value in changes.items()):
            return self
        changed: Kernel = replace(self, **changes)  # type: ignore[type-var]
        return with_expression(changed, self) if len(changed.groups) == len(self.groups) else changed

    def parts_within(self) -> Iterator["Kernel"]:
        """This kernel and all that it is made of."""
        yield self
        for _, value in self._values():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Kernel):
                    yield from part.parts_within()

    def _values(self) -> list[tuple[str, Any]]:
        """Names and values of its fields."""
        return [(name, getattr(self, name)) for name in getattr(self, "__dataclass_fields__", {}) if name in vars(self)]

    def _agreed(self, lonlat: float) -> float:
        """The radius of the sphere, which this kernel must know of, and know no other."""
        if not self.takes_lonlat:
            raise InvalidInputError(
                f"{type(self).__name__} cannot compare longitudes and latitudes (lonlat); give it other columns."
            )
        own: float | None = getattr(self, "lonlat", None)
        if own is not None and own != lonlat:
            raise InvalidInputError(
                f"the data is on a sphere of radius {lonlat:g} (lonlat, radius), but {self!r} on one of {own:g}."
            )
        return lonlat

    def unitless(self, unit: float | None = None) -> "Kernel":
        """The kernel with its variance divided by `unit`; by default by itself."""
        return Scaled(self, 1.0 if unit is None else self.variance / unit)

    def __call__(self, A: ArrayLike, B: ArrayLike) -> FloatArray:
        """Covariance matrix between the rows of `A` and of `B`.

        Parameters
        ----------
        A : array_like, shape (a, d)
        B : array_like, shape (b, d)

        Returns
        -------
        ndarray, shape (a, b), float64

        Examples
        --------
        >>> from covertreex import Matern12
        >>> float(Matern12(lengthscale=2.0)([[0.0]], [[0.0]])[0, 0])
        1.0
        """
        return self._of_points(*(np.atleast_2d(np.asarray(M, dtype=np.float64)) for M in (A, B)))

    def of_scaled(self, A: FloatArray, B: FloatArray) -> FloatArray:
        """As a call, of coordinates that `scale` has made."""
        expression = self.expression_for(A.shape[1])
        assert expression is not None
        covariances: FloatArray = self.variance * expression(A[:, None, :], B[None, :, :])
        return covariances

    def __add__(self, other: "Kernel") -> "Kernel":
        return Sum(_parts(self, Sum) + _parts(other, Sum)) if isinstance(other, Kernel) else NotImplemented

    def __mul__(self, other: "Kernel | float") -> "Kernel":
        if isinstance(other, Kernel):
            return Product(_parts(self, Product) + _parts(other, Product))
        if isinstance(other, Real) and not isinstance(other, bool):
            return self.times(other)
        return NotImplemented

    __rmul__ = __mul__

    def times(self, factor: Any) -> "Kernel":
        """The kernel with its variance multiplied by `factor`."""
        raise NotImplementedError

    # -- bounds (docs/mathematics.md, B1 and C1), for a variance of 1

    @property
    def value_error(self) -> float:
        """float: what a canonical value may be off by, absolutely."""
        assert self.expression is not None
        return 32.0 * 2.0**-53 + 4.0 * self.expression.value_error

    def beyond(self, r: float) -> float:
        """A bound of the correlation of points whose scaled coordinates differ by `r` or more in each group."""
        assert self.expression is not None
        return self.expression.beyond(r * r)

    def modulus(self, delta: float) -> float:
        """A bound of the change of a value, absolutely, where distances change by `delta`."""
        assert self.expression is not None
        return self.expression.modulus(delta)


def _parts(kernel: Kernel, kind: type) -> tuple[Kernel, ...]:
    return kernel.parts if isinstance(kernel, kind) else (kernel,)  # type: ignore[attr-defined]


def with_expression(changed: Kernel, kernel: Kernel) -> Kernel:
    """`changed`, with what `kernel` has made already and no variance changes."""
    if "expression" in vars(kernel):
        vars(changed)["expression"] = vars(kernel)["expression"]
    return changed


@dataclass(frozen=True)
class _Composed(Kernel):
    """Kernels put together."""

    parts: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            if not isinstance(part, Kernel):
                raise InvalidInputError(f"a {type(self).__name__.lower()} is of kernels, got {part!r}.")
            if part.code == CALLED:
                raise InvalidInputError(
                    "a Covariance is neither added nor multiplied, for nothing else knows it; do that inside its "
                    "function."
                )
        if len(self.parts) < 2:
            raise InvalidInputError(f"a {type(self).__name__.lower()} has at least two kernels, got {self.parts!r}.")
        object.__setattr__(self, "parts", tuple(self.parts))

    def times(self, factor: Any) -> Kernel:
        positive("a factor of a kernel", factor)
        return Scaled(self, self.variance * factor)


@dataclass(frozen=True)
class Sum(_Composed):
    """The sum of kernels: what ``a + b`` makes.

    Parameters
    ----------
    parts : tuple of Kernel

    Examples
    --------
    >>> from covertreex import RBF, Matern12
    >>> (RBF(2.0) + Matern12(0.1, variance=0.5)).variance
    1.5
    """

    @property
    def variance(self) -> float:
        """float: the sum of the parts' variances."""
        return math.fsum(part.variance for part in self.parts)

    def terms(self) -> list[tuple[float, list[Factor]]]:
        return [term for part in self.parts for term in part.terms()]

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        return cast("FloatArray", sum(part._of_points(A, B) for part in self.parts))


@dataclass(frozen=True)
class Product(_Composed):
    """The product of kernels: what ``a * b`` makes.

    Parameters
    ----------
    parts : tuple of Kernel

    Examples
    --------
    >>> from covertreex import RBF, Matern12
    >>> space_time = RBF(2.0, active_dims=[0, 1]) * Matern12(0.1, active_dims=[2])
    >>> space_time([[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.1]]).round(4).tolist()
    [[0.3679]]
    """

    @property
    def variance(self) -> float:
        """float: the product of the parts' variances."""
        variance: float = math.prod(part.variance for part in self.parts)
        return variance

    def terms(self) -> list[tuple[float, list[Factor]]]:
        terms: list[tuple[float, list[Factor]]] = [(1.0, [])]
        for part in self.parts:
            terms = [(w * v, a + b) for w, a in terms for v, b in part.terms()]
        return terms

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        return cast("FloatArray", math.prod(part._of_points(A, B) for part in self.parts))


@dataclass(frozen=True)
class Scaled(Kernel):
    """A sum or product with another variance: what ``2.0 * (a + b)`` makes.

    Parameters
    ----------
    kernel : Kernel
    variance : float
        At distance zero.

    Examples
    --------
    >>> from covertreex import RBF, Matern12
    >>> (2.0 * (RBF() + Matern12())).variance
    4.0
    """

    kernel: Kernel
    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", positive("variance", self.variance))
        if isinstance(self.kernel, Scaled):
            object.__setattr__(self, "kernel", self.kernel.kernel)

    @cached_property
    def expression(self) -> Expression | None:
        return self.kernel.expression

    @property
    def groups(self) -> list[Any]:
        return self.kernel.groups

    def terms(self) -> list[tuple[float, list[Factor]]]:
        share = self.variance / self.kernel.variance
        return [(weight * share, factors) for weight, factors in self.kernel.terms()]

    def times(self, factor: Any) -> Kernel:
        return Scaled(self.kernel, self.variance * positive("a factor of a kernel", factor))

    def _of_points(self, A: FloatArray, B: FloatArray) -> FloatArray:
        covariances: FloatArray = self.kernel._of_points(A, B) * (self.variance / self.kernel.variance)
        return covariances
