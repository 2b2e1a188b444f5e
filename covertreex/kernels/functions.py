"""What formulas of kernels are made of."""

from typing import Protocol

import numpy as np

from covertreex.base.types import FloatArray


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
