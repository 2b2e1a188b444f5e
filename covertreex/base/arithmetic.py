"""Canonical functions in NumPy (docs/mathematics.md, A2 and A3): the same bits everywhere, unlike NumPy's own."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.types import FloatArray


def exp_neg(x: ArrayLike) -> FloatArray:
    """A2: ``exp(x)`` for ``x <= 0``, elementwise.

    Examples
    --------
    >>> float(exp_neg(0.0))
    1.0
    """
    x = np.asarray(x, dtype=np.float64)
    magic = 6755399441055744.0
    clamped = np.where(x < -708.0, -708.0, x)
    shifted = clamped * 1.4426950408889634 + magic
    n = shifted - magic
    r = (clamped - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    r2 = r * r
    e = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    for even, odd in ((3628800.0, 39916800.0), (40320.0, 362880.0), (720.0, 5040.0), (24.0, 120.0), (2.0, 6.0)):
        e = (1.0 / even + r * (1.0 / odd)) + r2 * e
    e = (1.0 + r) + r2 * e
    return np.where(x < -708.0, 0.0, e * np.ldexp(1.0, n.astype(np.int64)))


def log(x: ArrayLike) -> FloatArray:
    """A3: ``log(x)`` of positive, normal numbers, elementwise.

    Examples
    --------
    >>> float(log(1.0))
    0.0
    """
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    m, n = mantissa * 2.0, exponent - 1
    high = m > 1.4142135623730951
    m = np.where(high, m * 0.5, m)
    n = np.where(high, n + 1, n).astype(np.float64)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    t: Any = 1.0 / 21.0
    for odd in (19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        t = 1.0 / odd + z * t
    t = z * t
    low = n * 1.90821492927058770002e-10 + 2.0 * (s * t)
    value: FloatArray = n * 0.693147180369123816490 + (2.0 * s + low)
    return value


def sin_cos_turns(turns: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Sine and cosine of an angle in turns (1 is 360 degrees), elementwise; exact at multiples of a quarter.

    Examples
    --------
    >>> sine, cosine = sin_cos_turns([0.0, 0.25, 0.5])
    >>> sine.tolist(), cosine.tolist()
    ([0.0, 1.0, 0.0], [1.0, 0.0, -1.0])
    """
    turns = np.asarray(turns, dtype=np.float64)
    within = turns - np.rint(turns)  # exact, in [-1/2, 1/2]
    quarter = np.rint(4.0 * within)
    x = (within - 0.25 * quarter) * 6.283185307179586  # in [-pi/4, pi/4]
    z = x * x
    sine: Any = -1.0 / 121645100408832000.0
    for odd in (355687428096000.0, -1307674368000.0, 6227020800.0, -39916800.0, 362880.0, -5040.0, 120.0, -6.0):
        sine = 1.0 / odd + z * sine
    sine = x + x * (z * sine)
    cosine: Any = -1.0 / 6402373705728000.0
    for even in (20922789888000.0, -87178291200.0, 479001600.0, -3628800.0, 40320.0, -720.0, 24.0):
        cosine = 1.0 / even + z * cosine
    cosine = 1.0 + z * (-0.5 + z * cosine)
    q = quarter.astype(np.int64) % 4
    sines = np.select([q == 0, q == 1, q == 2], [sine, cosine, -sine], -cosine)
    cosines = np.select([q == 0, q == 1, q == 2], [cosine, -sine, -cosine], sine)
    return sines + 0.0, cosines + 0.0


class CanonicalArithmetic:
    """What the formulas of `covertreex.kernels` are made of, in canonical arithmetic."""

    exp = staticmethod(exp_neg)

    @staticmethod
    def root(factor: float, r2: FloatArray) -> FloatArray:
        """``sqrt(factor * r2)``."""
        product: FloatArray = np.sqrt(factor) * np.sqrt(r2)
        return product

    @staticmethod
    def power(base: FloatArray, exponent: float) -> FloatArray:
        """``base ** exponent``, of a positive base; infinity above ``e ** 708``."""
        logarithm = exponent * log(base)
        small = exp_neg(-np.abs(logarithm))
        if not np.any(logarithm > 0.0):
            return small
        with np.errstate(divide="ignore"):
            return np.where(logarithm > 0.0, 1.0 / small, small)

    @staticmethod
    def log1p(x: FloatArray) -> FloatArray:
        """``log(1 + x)``, of ``x >= 0``."""
        above = 1.0 + x
        logarithm: FloatArray = log(above) + (x - (above - 1.0)) / above
        return logarithm

    @staticmethod
    def cos_turns(turns: FloatArray) -> FloatArray:
        """``cos(2 pi turns)``."""
        return sin_cos_turns(turns)[1]
