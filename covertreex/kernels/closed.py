"""Kernels with closed forms: canonical arithmetic has a formula for each, in every language (docs/mathematics.md, A4).

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
for people; canonical arithmetic by its own, and so do tables, which serve in sums and products.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from covertreex.base.contract import KERNEL_CODES
from covertreex.base.types import FloatArray
from covertreex.kernels.functions import Functions, Plain
from covertreex.kernels.stationary import Stationary


@dataclass(frozen=True)
class Closed(Stationary):
    """A kernel that canonical arithmetic has a formula for, with a number of its own."""

    @property
    def value_error(self) -> float:
        return (32.0 + (8.0 * self.alpha if "alpha" in self.shape_names else 0.0)) * 2.0**-53

    def beyond(self, r: float) -> float:
        # They fall with distance.
        return float(self.correlation(np.array(r * r)))

    def modulus(self, delta: float) -> float:
        # None falls faster than its variance per lengthscale.
        return delta


@dataclass(frozen=True)
class RBF(Closed):
    """``variance * exp(-r**2 / 2)``. See `Stationary` for the parameters.

    Examples
    --------
    >>> from covertreex import RBF
    >>> RBF(lengthscale=(0.5, 2.0))
    RBF(lengthscale=(0.5, 2.0), variance=1.0)
    """

    code: ClassVar[int] = KERNEL_CODES["rbf"]

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        return by.exp(-0.5 * r2)


@dataclass(frozen=True)
class Matern12(Closed):
    """``variance * exp(-r)``. See `Stationary` for the parameters.

    Examples
    --------
    >>> from covertreex import Matern12
    >>> Matern12().lengthscale
    1.0
    """

    code: ClassVar[int] = KERNEL_CODES["matern12"]

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        return by.exp(-np.sqrt(r2))


@dataclass(frozen=True)
class Matern32(Closed):
    """``variance * (1 + sqrt(3) r) exp(-sqrt(3) r)``. See `Stationary` for the parameters.

    Examples
    --------
    >>> from covertreex import Matern32
    >>> Matern32(lengthscale=0.1, variance=2.0).variance
    2.0
    """

    code: ClassVar[int] = KERNEL_CODES["matern32"]

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        a = by.root(3.0, r2)
        return (1.0 + a) * by.exp(-a)


@dataclass(frozen=True)
class Matern52(Closed):
    """``variance * (1 + sqrt(5) r + 5 r**2 / 3) exp(-sqrt(5) r)``. See `Stationary` for the parameters.

    Examples
    --------
    >>> from covertreex import Matern52
    >>> Matern52(lengthscale=0.1).lengthscale
    0.1
    """

    code: ClassVar[int] = KERNEL_CODES["matern52"]

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        a = by.root(5.0, r2)
        return (1.0 + a + a * a / 3.0) * by.exp(-a)


@dataclass(frozen=True)
class RationalQuadratic(Closed):
    """``variance * (1 + r**2 / (2 alpha))**-alpha``. See `Stationary` for the other parameters.

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

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        return by.power(1.0 + r2 / (2.0 * self.alpha), -self.alpha)


#: Every closed form, by the name that `KERNEL_CODES` of the contract has for it.
CLOSED = {cls.__name__.lower(): cls for cls in Closed.__subclasses__()}
