"""Covariance functions: stationary kernels of a scaled distance, isotropic or with one lengthscale per axis (ARD).

With ``r = |(x - y) / lengthscale|``:

===================  =====================================================
`RBF`                ``variance * exp(-r**2 / 2)``
`Matern12`           ``variance * exp(-r)``
`Matern32`           ``variance * (1 + sqrt(3) r) exp(-sqrt(3) r)``
`Matern52`           ``variance * (1 + sqrt(5) r + 5 r**2 / 3) exp(-sqrt(5) r)``
`RationalQuadratic`  ``variance * (1 + r**2 / (2 alpha))**-alpha``
===================  =====================================================

Source: Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), section 4.2.

Each class has its formula once, `correlation`, for NumPy. Calls evaluate it by NumPy's own functions, for oracles and
for people; `covertreex.oracle.kernel_values` by those of canonical arithmetic (docs/mathematics.md, A2 to A4), as the
search does in other languages. `covertreex.base.contract` numbers the kernels for these.
"""

from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.contract import KERNEL_CODES, NO_KERNEL
from covertreex.base.types import FloatArray
from covertreex.base.validation import LARGEST_COORDINATE
from covertreex.errors import InvalidInputError

_SMALLEST, _LARGEST = 1e-100, 1e100


def _positive(name: str, value: Any) -> float:
    if isinstance(value, np.complexfloating):  # of which float() drops the imaginary part
        raise InvalidInputError(f"{name} must be a real number, got {value!r}.")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"{name} must be a number, got {value!r}.") from None
    # float() drops digits without a word.
    if (isinstance(value, Integral) and int(value) != number) or (isinstance(value, np.floating) and value != number):
        raise InvalidInputError(
            f"{name} = {value} has digits that float64, which is used here, would round. Give float({name}) if the "
            "rounded number will do."
        )
    if not _SMALLEST <= number <= _LARGEST:
        raise InvalidInputError(
            f"{name} must be positive and finite (between {_SMALLEST:g} and {_LARGEST:g}), got {number!r}. "
            "Rescale the data if its units are extreme."
        )
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


@dataclass(frozen=True)
class Kernel:
    """A stationary covariance function; use one of its subclasses.

    Parameters
    ----------
    lengthscale : float or sequence of float, shape (d,)
        In the units of the data; a sequence gives one lengthscale per axis (ARD).
    variance : float
        The kernel's value at distance zero.

    Raises
    ------
    InvalidInputError
        If a parameter is not positive and finite.
    """

    lengthscale: float | tuple[float, ...] = 1.0
    variance: float = 1.0

    code: ClassVar[int] = NO_KERNEL

    def __post_init__(self) -> None:
        if type(self) is Kernel:
            raise InvalidInputError(f"Kernel is abstract; use {names_of_kernels()}.")
        given: Any = self.lengthscale
        scale: float | tuple[float, ...]
        if np.ndim(given) == 0:
            scale = _positive("lengthscale", given)
        elif np.ndim(given) == 1 and len(given):
            scale = tuple(_positive(f"lengthscale[{i}]", v) for i, v in enumerate(given))
        else:
            raise InvalidInputError(
                f"lengthscale must be a number or a sequence of one per axis, got shape {np.shape(given)}."
            )
        object.__setattr__(self, "lengthscale", scale)
        for field in fields(self):
            if field.name != "lengthscale":
                object.__setattr__(self, field.name, _positive(field.name, getattr(self, field.name)))

    def scale(self, X: FloatArray) -> FloatArray:
        """Coordinates divided by the lengthscale.

        Parameters
        ----------
        X : ndarray, shape (n, d), float64

        Returns
        -------
        ndarray, shape (n, d), float64, C-contiguous

        Raises
        ------
        InvalidInputError
            If there is one lengthscale per axis, but not for each axis of `X`, or it is too small for the data.
        """
        lengthscale = np.asarray(self.lengthscale, dtype=np.float64)
        if lengthscale.ndim and lengthscale.shape[0] != X.shape[1]:
            raise InvalidInputError(
                f"the kernel has {lengthscale.shape[0]} lengthscales, but the data has {X.shape[1]} columns. "
                "Give one number, or one per column."
            )
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ascontiguousarray(X / lengthscale)
        if not np.all(np.abs(scaled) <= LARGEST_COORDINATE):
            raise InvalidInputError(
                f"the data spans up to {np.abs(scaled).max():.3g} lengthscales, at most {LARGEST_COORDINATE:g} can be "
                f"compared. Give a lengthscale in the units of the data; got {self.lengthscale}."
            )
        if np.any(lengthscale > 1.0) and np.any((scaled == 0.0) & (X != 0.0)):
            raise InvalidInputError(
                "the data has coordinates that vanish beside the lengthscale, and no distance tells such points apart. "
                f"Give a lengthscale in the units of the data; got {self.lengthscale}."
            )
        return scaled

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
        rows, columns = (self.scale(np.atleast_2d(np.asarray(M, dtype=np.float64))) for M in (A, B))
        return self._of_scaled(rows, columns)

    def _of_scaled(self, A: FloatArray, B: FloatArray) -> FloatArray:
        """As a call, of coordinates that `scale` has made."""
        from scipy.spatial.distance import cdist

        return self.variance * self.correlation(cdist(A, B, "sqeuclidean"), getattr(self, "alpha", 1.0))

    @staticmethod
    def correlation(r2: FloatArray, alpha: float, by: Functions = Plain) -> FloatArray:
        """The kernel for a variance of 1 at squared scaled distances.

        Parameters
        ----------
        r2 : ndarray, float64
        alpha : float
            That of `RationalQuadratic`; other kernels do not use it.
        by : Plain or type
            Functions to compute with: another class with those of `Plain`.

        Returns
        -------
        ndarray, float64, of the shape of `r2`

        Examples
        --------
        >>> from covertreex import RBF
        >>> float(RBF.correlation(np.float64(0.0), 1.0))
        1.0
        """
        raise NotImplementedError("a kernel needs a formula of its own")


@dataclass(frozen=True)
class RBF(Kernel):
    """``variance * exp(-r**2 / 2)``. See `Kernel` for the parameters.

    Examples
    --------
    >>> from covertreex import RBF
    >>> RBF(lengthscale=(0.5, 2.0))
    RBF(lengthscale=(0.5, 2.0), variance=1.0)
    """

    code: ClassVar[int] = KERNEL_CODES["rbf"]

    @staticmethod
    def correlation(r2: FloatArray, alpha: float, by: Functions = Plain) -> FloatArray:
        return by.exp(-0.5 * r2)


@dataclass(frozen=True)
class Matern12(Kernel):
    """``variance * exp(-r)``. See `Kernel` for the parameters.

    Examples
    --------
    >>> from covertreex import Matern12
    >>> Matern12().lengthscale
    1.0
    """

    code: ClassVar[int] = KERNEL_CODES["matern12"]

    @staticmethod
    def correlation(r2: FloatArray, alpha: float, by: Functions = Plain) -> FloatArray:
        return by.exp(-np.sqrt(r2))


@dataclass(frozen=True)
class Matern32(Kernel):
    """``variance * (1 + sqrt(3) r) exp(-sqrt(3) r)``. See `Kernel` for the parameters.

    Examples
    --------
    >>> from covertreex import Matern32
    >>> Matern32(lengthscale=0.1, variance=2.0).variance
    2.0
    """

    code: ClassVar[int] = KERNEL_CODES["matern32"]

    @staticmethod
    def correlation(r2: FloatArray, alpha: float, by: Functions = Plain) -> FloatArray:
        a = by.root(3.0, r2)
        return (1.0 + a) * by.exp(-a)


@dataclass(frozen=True)
class Matern52(Kernel):
    """``variance * (1 + sqrt(5) r + 5 r**2 / 3) exp(-sqrt(5) r)``. See `Kernel` for the parameters.

    Examples
    --------
    >>> from covertreex import Matern52
    >>> Matern52(lengthscale=0.1).lengthscale
    0.1
    """

    code: ClassVar[int] = KERNEL_CODES["matern52"]

    @staticmethod
    def correlation(r2: FloatArray, alpha: float, by: Functions = Plain) -> FloatArray:
        a = by.root(5.0, r2)
        return (1.0 + a + a * a / 3.0) * by.exp(-a)


@dataclass(frozen=True)
class RationalQuadratic(Kernel):
    """``variance * (1 + r**2 / (2 alpha))**-alpha``. See `Kernel` for the other parameters.

    Parameters
    ----------
    alpha : float
        Mixture of scales: small is heavy-tailed, infinity is `RBF`.

    Examples
    --------
    >>> from covertreex import RationalQuadratic
    >>> RationalQuadratic(lengthscale=0.3, alpha=2.0).alpha
    2.0
    """

    alpha: float = 1.0

    code: ClassVar[int] = KERNEL_CODES["rationalquadratic"]

    @staticmethod
    def correlation(r2: FloatArray, alpha: float, by: Functions = Plain) -> FloatArray:
        return by.power(1.0 + r2 / (2.0 * alpha), -alpha)


#: Every kernel, by the name that `KERNEL_CODES` of the contract has for it.
KERNELS = {cls.__name__.lower(): cls for cls in Kernel.__subclasses__()}


def names_of_kernels() -> str:
    """The names of all kernels, for messages.

    Examples
    --------
    >>> names_of_kernels()
    'RBF, Matern12, Matern32, Matern52 or RationalQuadratic'
    """
    *others, last = (cls.__name__ for cls in KERNELS.values())
    return f"{', '.join(others)} or {last}"
