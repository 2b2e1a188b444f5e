"""Families of kernels that are fitted by their shape: `Matern`, `PoweredExponential`, `Cauchy` and others.

They are evaluated by tables (docs/mathematics.md, A10), but for those shapes that have a closed form.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from covertreex._core.table import matern as canonical_matern
from covertreex.base.arithmetic import CanonicalArithmetic
from covertreex.base.contract import EXPRESSION
from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.closed import Closed, Matern12, Matern32, Matern52
from covertreex.kernels.functions import Functions, Plain
from covertreex.kernels.limited import Limited
from covertreex.kernels.stationary import Stationary
from covertreex.kernels.table import Table

__all__ = ["Cauchy", "DampedCosine", "Matern", "PoweredExponential", "Spherical", "Wendland"]


@dataclass(frozen=True)
class _Family(Stationary):
    """Kernels some of which canonical arithmetic has a formula for."""

    @property
    def closed(self) -> Closed | None:
        """Closed or None: the closed form that this kernel is, with a variance of 1."""
        return None

    @property
    def code(self) -> int:  # type: ignore[override]
        """int: the number in canonical arithmetic."""
        return EXPRESSION if self.closed is None else self.closed.code

    @property
    def table(self) -> Table:
        return super().table if self.closed is None else self.closed.table

    @property
    def value_error(self) -> float:
        return super().value_error if self.closed is None else self.closed.value_error

    def beyond(self, r: float) -> float:
        return super().beyond(r) if self.closed is None else self.closed.beyond(r)

    def modulus(self, delta: float) -> float:
        return super().modulus(delta) if self.closed is None else self.closed.modulus(delta)

    def tabulated(self, r2: FloatArray) -> FloatArray:
        return self.correlation(r2, CanonicalArithmetic) if self.closed is None else self.closed.tabulated(r2)


@dataclass(frozen=True)
class Matern(_Family):
    """``variance * 2**(1 - nu) / gamma(nu) * x**nu * K_nu(x)`` with ``x = sqrt(2 nu) r``, of any smoothness nu.

    A Gaussian process with this covariance is differentiable ``ceil(nu) - 1`` times in mean square. Positive definite
    in any dimension. The Matern kernels of smoothness 1/2, 3/2 and 5/2 are the closed forms `Matern12`, `Matern32` and
    `Matern52`, to the last bit; as nu grows it tends to `RBF`. Source: Stein, *Interpolation of Spatial Data* (1999),
    section 2.7; in this parametrisation Rasmussen and Williams (2006), equation 4.14.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.
    nu : float
        Smoothness, from 0.01 to 1000.

    Examples
    --------
    >>> from covertreex import Matern
    >>> Matern(0.2, nu=0.8)
    Matern(lengthscale=0.2, variance=1.0, nu=0.8)
    >>> float(Matern(nu=1.0)([[0.0]], [[0.5]])[0, 0].round(6))
    0.731914
    """

    nu: float = 1.5

    ranges: ClassVar[dict[str, tuple[float, float]]] = {"nu": (0.01, 1000.0)}

    @property
    def closed(self) -> Closed | None:
        return {0.5: Matern12(), 1.5: Matern32(), 2.5: Matern52()}.get(self.nu)

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        if by is not Plain:
            return self.tabulated(r2)
        return _plain_matern(self.nu, np.asarray(r2, dtype=np.float64))

    def tabulated(self, r2: FloatArray) -> FloatArray:
        if self.closed is not None:
            return self.closed.tabulated(r2)
        r2 = np.asarray(r2, dtype=np.float64)
        return canonical_matern(self.nu, np.ascontiguousarray(r2).ravel()).reshape(r2.shape)


#: Above this smoothness SciPy's Bessel functions overflow where the kernel is not 1 yet.
_LARGE_NU = 30.0


def _plain_matern(nu: float, r2: FloatArray) -> FloatArray:
    """By SciPy's Bessel functions, and for large nu by their uniform expansion: DLMF 10.41.4."""
    from scipy.special import gammaln, kve

    x = np.sqrt(2.0 * nu * r2)
    with np.errstate(all="ignore"):
        if nu <= _LARGE_NU:
            logarithm = np.log(kve(nu, x)) - x
        else:
            y = x / nu
            root = np.sqrt(1.0 + y * y)
            eta = root + np.log(y / (1.0 + root))
            series = sum((-1) ** k * u(1.0 / root) / nu**k for k, u in enumerate(_debye()))
            logarithm = 0.5 * math.log(math.pi / (2.0 * nu)) - nu * eta - 0.5 * np.log(root) + np.log(series)
        value = np.exp(logarithm + nu * np.log(0.5 * x) + math.log(2.0) - gammaln(nu))
    # So near that the Bessel function overflows, it is 1.
    return np.minimum(np.where((x == 0.0) | ~np.isfinite(value), np.where(x < 1.0, 1.0, 0.0), value), 1.0)


@cache
def _debye() -> list[np.polynomial.Polynomial]:
    """The polynomials U_k of DLMF 10.41.9."""
    p = np.polynomial.Polynomial([0.0, 1.0])
    found = [np.polynomial.Polynomial([1.0])]
    for _ in range(9):
        last = found[-1]
        found.append(0.5 * p**2 * (1 - p**2) * last.deriv() + 0.125 * ((1 - 5 * p**2) * last).integ())
    return found


@dataclass(frozen=True)
class PoweredExponential(_Family):
    """``variance * exp(-r**power)``, the stable kernel.

    Positive definite in any dimension for powers up to 2. A power of 1 is `Matern12`, to the last bit; with a power of
    2 it is ``exp(-r**2)``, which is `RBF` of a lengthscale divided by ``sqrt(2)``. Source: Diggle and Ribeiro,
    *Model-based Geostatistics* (2007), section 3.4.2.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.
    power : float
        From 0.01 to 2.

    Examples
    --------
    >>> from covertreex import PoweredExponential
    >>> float(PoweredExponential(power=1.5)([[0.0]], [[1.0]])[0, 0].round(6))
    0.367879
    """

    power: float = 1.0

    ranges: ClassVar[dict[str, tuple[float, float]]] = {"power": (0.01, 2.0)}

    @property
    def closed(self) -> Closed | None:
        return Matern12() if self.power == 1.0 else None

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        return by.exp(-(r2 if self.power == 2.0 else by.power(r2, 0.5 * self.power)))


@dataclass(frozen=True)
class Cauchy(Stationary):
    """``variance * (1 + r**alpha)**(-beta / alpha)``, the generalised Cauchy kernel.

    Its smoothness, alpha, and how fast it falls far away, as ``r**-beta``, are chosen apart: long memory is a small
    beta. Positive definite in any dimension for alpha up to 2 and any positive beta. Source: Gneiting and Schlather,
    *SIAM Review* 46 (2004), equation 8.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.
    alpha : float
        From 0.1 to 2. With 2 the process is differentiable, below that rough.
    beta : float
        From 0.01 to 1000.

    Examples
    --------
    >>> from covertreex import Cauchy
    >>> float(Cauchy(alpha=2.0, beta=2.0)([[0.0]], [[1.0]])[0, 0])
    0.5
    """

    alpha: float = 1.0
    beta: float = 1.0

    ranges: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.1, 2.0), "beta": (0.01, 1000.0)}

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        power = r2 if self.alpha == 2.0 else by.power(r2, 0.5 * self.alpha)
        return by.exp(-(self.beta / self.alpha) * by.log1p(power))


def _whole(kernel: Any, *names: str) -> None:
    """Parameters of a kernel that was just made become integers."""
    for name in names:
        number = getattr(kernel, name)
        if number != int(number):
            raise InvalidInputError(f"{name} must be an integer, got {number!r}.")
        object.__setattr__(kernel, name, int(number))


def _integer_power(x: FloatArray, exponent: int) -> FloatArray:
    """By multiplications, which give the same bits everywhere."""
    result = np.ones_like(x)
    while exponent:
        if exponent & 1:
            result = result * x
        x, exponent = x * x, exponent >> 1
    return result


@dataclass(frozen=True)
class Wendland(Stationary):
    """Wendland's piecewise polynomials: exactly 0 from ``r = 1`` on, so that the lengthscale is the range.

    With ``l = dimension // 2 + smoothness + 1`` and ``s = max(1 - r, 0)`` times the variance:

    ==========  ==========================================================================
    smoothness
    ==========  ==========================================================================
    0           ``s**l``
    1           ``s**(l + 1) * (1 + (l + 1) r)``
    2           ``s**(l + 2) * (1 + (l + 2) r + (l**2 + 4 l + 3) r**2 / 3)``
    3           ``s**(l + 3) * (1 + (l + 3) r + (6 l**2 + 36 l + 45) r**2 / 15``
                ``+ (l**3 + 9 l**2 + 23 l + 15) r**3 / 15)``
    ==========  ==========================================================================

    Positive definite in up to `dimension` dimensions; a process is differentiable `smoothness` times. Source: Wendland,
    *Advances in Computational Mathematics* 4 (1995); the formulas are those of Rasmussen and Williams (2006), equation
    4.21.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.
    smoothness : int
        From 0 to 3.
    dimension : int
        More columns are refused; from 1 to 100.

    Examples
    --------
    >>> from covertreex import Wendland
    >>> Wendland(smoothness=1)([[0.0]], [[0.5], [1.0]]).round(6).tolist()
    [[0.1875, 0.0]]
    """

    smoothness: int = 1
    dimension: int = 3

    ranges: ClassVar[dict[str, tuple[float, float]]] = {"smoothness": (0.0, 3.0), "dimension": (1.0, 100.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, "smoothness", "dimension")

    @property
    def columns(self) -> Any:
        return Limited(super().columns, self.dimension, repr(self), "Choose some by active_dims=, or raise dimension=.")

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        r = np.sqrt(r2)
        k = self.smoothness
        n = self.dimension // 2 + k + 1
        factor: Any = 1.0
        if k == 1:
            factor = 1.0 + (n + 1) * r
        elif k == 2:
            factor = 1.0 + r * ((n + 2) + r * ((n**2 + 4 * n + 3) / 3.0))
        elif k == 3:
            third = (n**3 + 9 * n**2 + 23 * n + 15) / 15.0
            factor = 1.0 + r * ((n + 3) + r * ((6 * n**2 + 36 * n + 45) / 15.0 + r * third))
        # A scalar is an array here, or NumPy would warn of infinity times 0.
        r = np.minimum(r, 1.0)
        return _integer_power(1.0 - r, n + k) * np.where(r < 1.0, factor, 1.0)


@dataclass(frozen=True)
class Spherical(Stationary):
    """``variance * (1 - 1.5 r + 0.5 r**3)``, exactly 0 from ``r = 1`` on, so that the lengthscale is the range.

    The share that two balls of diameter 1 have in common at the distance r. Positive definite in up to three
    dimensions; more columns are refused. Source: Cressie, *Statistics for Spatial Data* (1993), section 2.3.1.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.

    Examples
    --------
    >>> from covertreex import Spherical
    >>> Spherical(lengthscale=2.0)([[0.0]], [[1.0], [3.0]]).tolist()
    [[0.3125, 0.0]]
    """

    @property
    def columns(self) -> Any:
        return Limited(super().columns, 3, "Spherical", "Choose some by active_dims=, or take Wendland(dimension=...).")

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        # (1 - r)**2 (1 + r / 2), which cancels nothing
        r = np.minimum(np.sqrt(r2), 1.0)
        return (1.0 - r) * (1.0 - r) * (1.0 + 0.5 * r)


@dataclass(frozen=True)
class DampedCosine(Stationary):
    """``variance * exp(-r) * cos(frequency * r)``: a hole effect, of processes that swing and forget.

    Positive definite in d dimensions if and only if ``frequency <= tan(pi / (2 d))``: always in one, up to 1 in two,
    and up to ``1 / sqrt(3)`` in three. Source: Chiles and Delfiner, *Geostatistics* (1999),
    page 92; the bound is Yaglom's, and Zastavnyi, *Journal of Multivariate Analysis* 73 (2000), has the proof.

    Parameters
    ----------
    lengthscale, variance, active_dims
        See `Stationary`.
    frequency : float
        In radians per lengthscale, from 1e-6 to 8. In one column ``Matern12(...) * Cosine(...)`` has any.
    dimension : int
        More columns are refused; from 1 to 100.

    Examples
    --------
    >>> from covertreex import DampedCosine
    >>> float(DampedCosine(frequency=0.5)([[0.0]], [[1.0]])[0, 0].round(6))
    0.322845
    """

    frequency: float = 0.5
    dimension: int = 3

    ranges: ClassVar[dict[str, tuple[float, float]]] = {"frequency": (1e-6, 8.0), "dimension": (1.0, 100.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, "dimension")
        most = math.inf if self.dimension == 1 else math.tan(math.pi / (2 * self.dimension))
        if self.frequency > most * (1.0 + 4e-16):
            raise InvalidInputError(
                f"DampedCosine is a covariance in {self.dimension} dimensions for frequencies up to "
                f"tan(pi / {2 * self.dimension}) = {most:.6g}, got {self.frequency!r}. Give a lower frequency=, or a "
                "lower dimension= if fewer columns are compared."
            )

    @property
    def columns(self) -> Any:
        return Limited(super().columns, self.dimension, repr(self), "Choose some by active_dims=, or raise dimension=.")

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        r = np.sqrt(r2)
        return by.exp(-r) * by.cos_turns(np.minimum(r, 1e6) * (self.frequency / (2.0 * math.pi)))
