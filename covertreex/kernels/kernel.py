"""What every kernel is, how kernels are added and multiplied, and where the coordinates that they compare come from."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.arithmetic import CanonicalArithmetic
from covertreex.base.contract import CALLED, EXPRESSION
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.columns import Columns, Matrix, check_matrix
from covertreex.kernels.params import Params
from covertreex.kernels.table import Expression, Table, make_table

__all__ = ["Columns", "Factor", "Functions", "Kernel", "Plain", "Product", "Scaled", "Stationary", "Sum", "positive"]

SMALLEST, LARGEST = 1e-100, 1e100

#: Groups of columns are stretched so that correlation falls to this at the same distance along each.
ALIKE = 0.65

#: Fields of a kernel that are mostly None, and then neither shown nor stored.
OPTIONAL = ("active_dims", "lonlat")

#: A sum of products may have so many groups of columns and so many factors: kernels keep their state on the stack.
MOST_GROUPS, MOST_FACTORS = 16, 64


def positive(name: str, value: Any, low: float = SMALLEST, high: float = LARGEST) -> float:
    """`value` as a float, if it is a number from `low` to `high`."""
    if isinstance(value, np.complexfloating):  # of which float() drops the imaginary part
        raise InvalidInputError(f"{name} must be a real number, got {value!r}.")
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):  # float() would take some of them
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"{name} must be a number, got {value!r}.") from None
    # float() drops digits without a word.
    if (isinstance(value, Integral) and int(value) != number) or (isinstance(value, np.floating) and value != number):
        raise InvalidInputError(
            f"{name} = {value} has digits that float64, which is used here, would round. Give float({name}) if the "
            "rounded number will do."
        )
    if (low, high) == (SMALLEST, LARGEST):
        if not low <= number <= high:
            raise InvalidInputError(
                f"{name} must be positive and finite (between {low:g} and {high:g}), got {number!r}. "
                "Rescale the data if its units are extreme."
            )
    elif not low <= number <= high:
        raise InvalidInputError(f"{name} must be from {low:g} to {high:g}, got {number!r}.")
    return number


class Functions(Protocol):
    """What formulas are made of: `Plain`, or others of the same names, such as those of canonical arithmetic."""

    def exp(self, x: FloatArray, /) -> FloatArray:
        """``e ** x``."""
        ...

    def root(self, factor: float, r2: FloatArray, /) -> FloatArray:
        """``sqrt(factor * r2)``."""
        ...

    def power(self, base: FloatArray, exponent: float, /) -> FloatArray:
        """``base ** exponent``."""
        ...

    def log1p(self, x: FloatArray, /) -> FloatArray:
        """``log(1 + x)``."""
        ...

    def cos_turns(self, turns: FloatArray, /) -> FloatArray:
        """``cos(2 pi turns)``."""
        ...


class Plain:
    """What formulas are made of, by NumPy's own functions."""

    @staticmethod
    def exp(x: FloatArray) -> FloatArray:
        """``e ** x``."""
        return np.exp(x)

    @staticmethod
    def root(factor: float, r2: FloatArray) -> FloatArray:
        """``sqrt(factor * r2)``."""
        return np.sqrt(factor * r2)

    @staticmethod
    def power(base: FloatArray, exponent: float) -> FloatArray:
        """``base ** exponent``."""
        return base**exponent

    @staticmethod
    def log1p(x: FloatArray) -> FloatArray:
        """``log(1 + x)``."""
        return np.log1p(x)

    @staticmethod
    def cos_turns(turns: FloatArray) -> FloatArray:
        """``cos(2 pi turns)``."""
        return np.cos(2.0 * np.pi * turns)


@dataclass(frozen=True)
class Factor:
    """One factor of a product: a function of the distance in some columns.

    Attributes
    ----------
    columns : Columns
    table : Table
        Of two equal shapes the same object.
    rescale : Factor, optional
        By whose value t is multiplied first.
    """

    columns: Any
    table: Table
    rescale: "Factor | None" = None


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
        for d in range(1, columns + 1):
            stops = np.cumsum([group.width(d) for group in self.groups])
            if stops[-1] == columns:
                return replace(whole, group_stop=stops.astype(np.int64))
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
        return np.ascontiguousarray(np.concatenate([columns(X) for columns in self.groups], axis=1))

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
                dims.append(_numbered(value, names))
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
        return _with_expression(changed, self) if len(changed.groups) == len(self.groups) else changed

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
        object.__setattr__(self, "lengthscale", _lengthscale(self.lengthscale))
        object.__setattr__(self, "active_dims", _active_dims(self.active_dims))
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

    @property
    def groups(self) -> list[Any]:
        return [self.columns]

    def terms(self) -> list[tuple[float, list[Factor]]]:
        return [(self.variance, [Factor(self.columns, self.table)])]

    @property
    def table(self) -> Table:
        """Table: its correlation; of kernels with the same shape the same object."""
        return _table_of(type(self), tuple(getattr(self, name) for name in self.shape_names), self._make_table)

    def _make_table(self) -> Table:
        return make_table(self.tabulated, self.above, name=type(self).__name__)

    def tabulated(self, r2: FloatArray) -> FloatArray:
        """What the table holds, in arithmetic that gives the same bits on every machine."""
        return self.correlation(r2, CanonicalArithmetic)

    def unitless(self, unit: float | None = None) -> "Kernel":
        changed = replace(self, variance=1.0 if unit is None else self.variance / unit)
        return _with_expression(changed, self)

    def times(self, factor: Any) -> "Kernel":
        changed = replace(self, variance=self.variance * positive("a factor of a kernel", factor))
        return _with_expression(changed, self)

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
        >>> from covertreex import RBF
        >>> float(RBF().correlation(np.float64(0.0)))
        1.0
        """
        raise NotImplementedError("a kernel needs a formula of its own")


def _numbered(dims: tuple[int | str, ...] | None, names: tuple[str, ...] | None) -> tuple[int | str, ...] | None:
    """Columns by number."""
    if dims is None or not any(isinstance(column, str) for column in dims):
        return dims
    if names is None:
        name = next(column for column in dims if isinstance(column, str))
        raise InvalidInputError(
            f"active_dims has the name {name!r}, but the data has no names for its columns. Give a DataFrame, or "
            "numbers of columns from 0."
        )
    missing = [column for column in dims if isinstance(column, str) and column not in names]
    if missing:
        raise InvalidInputError(
            f"active_dims has {', '.join(map(repr, missing))}, but the data has the columns "
            f"{', '.join(map(repr, names))}."
        )
    numbers = tuple(names.index(column) if isinstance(column, str) else column for column in dims)
    if len(set(numbers)) != len(numbers):
        raise InvalidInputError(f"active_dims {dims!r} names a column twice, by its name and its number.")
    return numbers


def radius_of_sphere(given: Any) -> float | None:
    """The radius that a `lonlat` stands for: True is 1, None and False are no sphere."""
    if given is None or given is False:
        return None
    return positive("lonlat, the radius of the sphere,", 1.0 if given is True else given)


def _lengthscale(given: Any) -> float | tuple[float, ...] | Matrix:
    """A number, one per axis, or the rows of a matrix; checked."""
    try:
        shape = np.shape(given)
    except ValueError:
        raise InvalidInputError(f"lengthscale must be a matrix with rows of one length, got {given!r}.") from None
    if shape == ():
        return positive("lengthscale", given)
    if not isinstance(given, (list, tuple)):
        given = np.asarray(given)
    if len(shape) == 1 and shape[0]:
        return tuple(positive(f"lengthscale[{i}]", v) for i, v in enumerate(given))
    if len(shape) == 2 and shape[0] == shape[1]:
        matrix = tuple(
            tuple(_signed(f"lengthscale[{i}][{j}]", v) for j, v in enumerate(row)) for i, row in enumerate(given)
        )
        check_matrix(matrix)
        return matrix
    raise InvalidInputError(
        f"lengthscale must be a number, a square matrix, or a sequence of one per axis, got shape {shape}."
    )


def _signed(name: str, value: Any) -> float:
    """`value` as a float, if it is 0, or `positive` but for its sign."""
    if not isinstance(value, (Real, np.number)) or isinstance(value, np.complexfloating) or not value < 0:
        return 0.0 if isinstance(value, Real) and value == 0 else positive(name, value)
    return -positive(name, -value)


def _with_expression(changed: Kernel, kernel: Kernel) -> Kernel:
    """`changed`, with what `kernel` has made already and no variance changes."""
    if "expression" in vars(kernel):
        vars(changed)["expression"] = vars(kernel)["expression"]
    return changed


def _active_dims(given: Any) -> tuple[int | str, ...] | None:
    if given is None:
        return None
    listed = [given] if isinstance(given, (str, Integral)) else list(given)
    out: list[int | str] = []
    for column in listed:
        if isinstance(column, str):
            out.append(column)
        elif isinstance(column, Integral) and not isinstance(column, bool) and int(column) >= 0:
            out.append(int(column))
        else:
            raise InvalidInputError(
                f"active_dims must be numbers of columns from 0, or names of columns, got {given!r}."
            )
    if not out or len(set(out)) != len(out):
        raise InvalidInputError(f"active_dims must name at least one column, and none twice; got {given!r}.")
    return tuple(out)


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


_TABLES: dict[tuple[type, tuple[Any, ...]], Table] = {}


def _table_of(cls: type, shape: tuple[Any, ...], make: Callable[[], Table]) -> Table:
    """Tables that were made already; the latest ones, for an optimiser goes on to others."""
    key = cls, shape
    try:
        return _TABLES[key]
    except KeyError:
        while len(_TABLES) >= 64:
            _TABLES.pop(next(iter(_TABLES)), None)
        return _TABLES.setdefault(key, make())


def make_expression(terms: Sequence[tuple[float, list[Factor]]]) -> Expression:
    """The `Expression` of a sum of products.

    Raises
    ------
    InvalidInputError
        If there are too many groups of columns, or factors.
    """
    groups: list[Any] = []
    tables: list[Table] = []

    def place(listed: list[Any], one: Any) -> int:
        for i, other in enumerate(listed):
            if other is one or (not isinstance(one, Table) and other == one):
                return i
        listed.append(one)
        return len(listed) - 1

    stops, rows = [], []
    for _, factors in terms:
        for factor in factors:
            row = [place(groups, factor.columns), place(tables, factor.table), -1, -1]
            if factor.rescale is not None:
                row[2:] = [place(groups, factor.rescale.columns), place(tables, factor.rescale.table)]
            rows.append(row)
        stops.append(len(rows))
    if len(groups) > MOST_GROUPS or len(rows) > MOST_FACTORS:
        raise InvalidInputError(
            f"a kernel may be a sum of products of at most {MOST_FACTORS} kernels over {MOST_GROUPS} different groups "
            f"of columns or lengthscales; multiplied out, this one has {len(rows)} over {len(groups)}."
        )
    weights = [weight for weight, _ in terms]
    total, shares, so_far = math.fsum(weights), [], 0.0
    for weight in weights[:-1]:
        shares.append(weight / total)
        so_far = so_far + shares[-1]
    shares.append(1.0 - so_far)  # so that the sum, in order, is 1: duplicates have distance 0
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Expression(
        group_stop=np.zeros(0, dtype=np.int64),
        term_stop=np.array(stops, dtype=np.int64),
        weight=np.array(shares),
        factor_group=np.ascontiguousarray(columns[:, 0]),
        factor_table=np.ascontiguousarray(columns[:, 1]),
        rescale_group=np.ascontiguousarray(columns[:, 2]),
        rescale_table=np.ascontiguousarray(columns[:, 3]),
        table_first=np.array([table.first for table in tables], dtype=np.int64),
        table_stop=np.cumsum([len(table.pieces) for table in tables]).astype(np.int64),
        pieces=np.concatenate([table.pieces for table in tables]),
        error=np.array([table.error for table in tables]),
    )
