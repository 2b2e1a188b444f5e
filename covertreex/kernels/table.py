"""Correlation functions as pieces of polynomials: one form for all of them, evaluated by one routine per language.

A function of t, the squared scaled distance, is cut at 32 places per binade of t, so that the first bits of t say which
piece it is in, and each piece is a polynomial of degree 7 (docs/mathematics.md, A10). Tables are made by canonical
arithmetic: the same bits on every machine. What is made of them, an `Expression`, travels with the payload.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError

#: Pieces per binade of t, and coefficients of each.
PIECES, TERMS = 32, 8

#: t is at most 4 d LARGEST_COORDINATE**2, and of points that are not the same at least the square of 2**-420.
LOWEST, HIGHEST = -840, 1022

#: A table begins where its function is within so much of its value at 0, and ends where it stays below so much.
NEAR, GONE = 2.0**-54, 2.0**-200

#: What values of a table may be off by, absolutely, for the function to be served by it.
TOLERANCE = 1e-12

_SHIFT = 47  # bits of the fraction within a piece
_MASK, _ONE = 2**_SHIFT - 1, 0x3FF0000000000000

#: A correlation for the variance of 1, of an array of squared scaled distances.
Function: TypeAlias = Callable[[FloatArray], FloatArray]


def _rows(matrix: list[list[Fraction]]) -> list[list[float]]:
    return [[float(x) for x in row] for row in matrix]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    n = len(matrix)
    rows = [row + [Fraction(i == j) for j in range(n)] for i, row in enumerate(matrix)]
    for i in range(n):
        at = next(r for r in range(i, n) if rows[r][i])
        rows[i], rows[at] = rows[at], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for r in range(n):
            if r != i:
                rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [row[n:] for row in rows]


#: Chebyshev points, cut to 20 bits so that t is exact there.
_NODES = [Fraction(round(2**20 * math.cos(math.pi * (2 * j + 1) / (2 * TERMS))), 2**20) for j in range(TERMS)]
_CENTRAL = TERMS // 2


def _chebyshev_to_powers() -> list[list[Fraction]]:
    """Column k has the powers of the k-th Chebyshev polynomial."""
    columns = [[Fraction(i == 0) for i in range(TERMS)], [Fraction(i == 1) for i in range(TERMS)]]
    while len(columns) < TERMS:
        last, before = columns[-1], columns[-2]
        columns.append([2 * (last[i - 1] if i else Fraction(0)) - before[i] for i in range(TERMS)])
    return [[column[i] for column in columns] for i in range(TERMS)]


@cache
def _to_powers() -> list[list[float]]:
    """From values at the nodes to coefficients of powers."""
    return _rows(_inverse([[u**j for j in range(TERMS)] for u in _NODES]))


@cache
def _of_chebyshev() -> list[list[float]]:
    return _rows(_chebyshev_to_powers())


@cache
def _to_chebyshev() -> list[list[float]]:
    return _rows(_inverse(_chebyshev_to_powers()))


def _transform(matrix: list[list[float]], columns: Sequence[FloatArray]) -> list[FloatArray]:
    """Sums in order: a BLAS would give other bits on other processors."""
    out = []
    for row in matrix:
        total = np.zeros_like(columns[0])
        for factor, column in zip(row, columns, strict=True):
            total = total + factor * column
        out.append(total)
    return out


@dataclass(frozen=True, eq=False)
class Table:
    """A function of t >= 0 by pieces: 1 at t = 0.

    Attributes
    ----------
    first : int
        The number of the first piece: its place among all pieces of positive float64 numbers.
    pieces : ndarray, shape (n, 8), float64
        Coefficients of powers of ``u``, from -1 to 1 in a piece. The first piece serves all smaller t, and the last all
        larger ones; they are constant.
    error : float
        How far values were found to be from the function, between the nodes.

    Examples
    --------
    >>> import numpy as np
    >>> table = make_table(lambda t: np.exp(-0.5 * t))
    >>> bool(abs(table(np.array([2.0]))[0] - np.exp(-1.0)) < 1e-15)
    True
    """

    first: int
    pieces: FloatArray
    error: float

    def __call__(self, t: FloatArray) -> FloatArray:
        """A10: values at squared scaled distances `t`, elementwise."""
        bits = np.ascontiguousarray(t, dtype=np.float64).view(np.int64)
        number = np.clip((bits >> _SHIFT) - self.first, 0, len(self.pieces) - 1)
        u = (((bits & _MASK) | _ONE).view(np.float64) - (1.0 + 0.5 / PIECES)) * (2.0 * PIECES)
        a = self.pieces[number]
        u2 = u * u
        value = a[..., 6] + a[..., 7] * u
        value = (a[..., 4] + a[..., 5] * u) + u2 * value
        value = (a[..., 2] + a[..., 3] * u) + u2 * value
        value = a[..., 0] + (a[..., 1] * u + u2 * value)
        values: FloatArray = value.reshape(np.shape(t))
        return values

    # Bounds over the pieces, for screens (C1) and for what is far away.

    @cached_property
    def _low(self) -> FloatArray:
        """The smallest t of each piece."""
        low = ((self.first + np.arange(len(self.pieces), dtype=np.int64)) << _SHIFT).view(np.float64)
        return np.where(np.arange(len(low)) == 0, 0.0, low)

    @cached_property
    def _reach(self) -> FloatArray:
        """How far each piece goes from its central value."""
        reach = np.full(len(self.pieces), self.error)
        for power in range(1, TERMS):
            reach = reach + np.abs(self.pieces[:, power])
        return reach

    @cached_property
    def steepness(self) -> FloatArray:
        """For each piece, a bound of ``|t f'(t)|``."""
        slopes = np.zeros(len(self.pieces))
        for power in range(1, TERMS):
            slopes = slopes + power * np.abs(self.pieces[:, power])
        fraction = 1.0 + (1.0 + (self.first + np.arange(len(slopes))) % PIECES) / PIECES
        return np.asarray(slopes * (2.0 * PIECES) * fraction)

    def beyond(self, t: float) -> float:
        """A bound of the function's size at `t` and beyond."""
        part = np.maximum(np.searchsorted(self._low, t, side="right") - 1, 0)
        return float(np.max(np.abs(self.pieces[part:, 0]) + self._reach[part:]))

    def modulus(self, delta: float) -> float:
        """A bound of the difference of two values, of scaled distances that differ by at most `delta`."""
        if delta == 0.0:
            return 0.0
        high, low = self.pieces[:, 0] + self._reach, self.pieces[:, 0] - self._reach
        span = np.maximum.accumulate(high) - np.minimum.accumulate(low)
        # Where both distances are past the beginning of piece b the slope there and beyond bounds it, and where one is
        # not, what the function does up to there and delta more.
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(self.steepness == 0.0, 0.0, 2.0 * self.steepness / np.sqrt(self._low))
        slope = np.maximum.accumulate(slope[::-1])[::-1]
        reached = np.searchsorted(self._low, (np.sqrt(self._low) + delta) ** 2 * (1.0 + 1e-12), side="right") - 1
        return float(np.min(np.maximum(slope * delta, span[reached]))) + 2.0 * self.error

    @cached_property
    def single(self) -> tuple[NDArray[np.float32], float]:
        """The pieces with degree 3 in float32, shape (n, 4), and how far these are off, without rounding."""
        chebyshev = _transform(_to_chebyshev(), list(self.pieces.T))
        cut = _transform([row[:4] for row in _of_chebyshev()[:4]], chebyshev[:4])
        off = np.sum(np.abs(np.asarray(chebyshev[4:])), axis=0)
        return np.ascontiguousarray(np.stack(cut, axis=1), dtype=np.float32), float(np.max(off))


def make_table(
    function: Function,
    above: float | None = 0.0,
    between: Function | None = None,
    name: str = "the function",
    near: float = NEAR,
    unit: float = 1.0,
) -> Table:
    """The table of a function of squared scaled distances.

    Parameters
    ----------
    function : callable
        Takes an array of t > 0; tends to 1 as t tends to 0.
    above : float, optional
        Its value where it stays within 2**-200 of that, as t grows; None if it does not come to rest: then the last
        piece holds what it is at 2**1022.
    between : callable, optional
        What to compare the table with, if that is another function; it may be slower.
    name : str
        For messages.
    near : float
        The table begins where the function is within this of 1.
    unit : float
        What distances are multiplied by in messages.

    Raises
    ------
    InvalidInputError
        If the function does not tend to 1, is not finite, or cannot be told by pieces to within 1e-12.
    """
    low, high = _range(function, above, name, near)
    edges = np.ldexp(1.0, np.arange(low, high))[:, None] * (1.0 + np.arange(PIECES) / PIECES)
    start, width = edges.ravel(), np.repeat(np.ldexp(1.0 / PIECES, np.arange(low, high)), PIECES)
    at = [start + width * float((1 + u) / 2) for u in _NODES]
    values = [_finite(function, t, name, unit) for t in at]
    centre = values[_CENTRAL]
    coefficients = _transform(_to_powers(), [value - centre for value in values])
    coefficients[0] = centre + coefficients[0]
    pieces = np.zeros((len(start) + 2, TERMS))
    pieces[1:-1] = np.stack(coefficients, axis=1)
    pieces[0, 0] = 1.0
    pieces[-1, 0] = float(_finite(function, np.array([2.0**high]), name, unit)[0]) if above is None else above
    first = int(np.array([2.0**low]).view(np.int64)[0] >> _SHIFT) - 1
    table = Table(first, pieces, 0.0)
    error, place = 0.0, 0
    for fraction in (0.07, 0.31, 0.52, 0.74, 0.97):
        t = start + width * fraction
        off = np.abs(table(t) - _finite(between or function, t, name, unit))
        if off.max() > error:
            error, place = float(off.max()), int(np.argmax(off))
    if error > TOLERANCE:
        ends = [float(t) ** 0.5 * unit for t in (start[place], start[place] + width[place])]
        raise InvalidInputError(
            f"{name} is not smooth enough between the scaled distances {ends[0]:.6g} and {ends[1]:.6g}: a table of it "
            f"would be off by {error:.2g}, at most {TOLERANCE:g} is allowed. If it has a kink or a jump there, or ends "
            "there, give that distance, exactly, as breakpoints=[...]."
        )
    return Table(first, pieces, error)


def _finite(function: Function, t: FloatArray, name: str, unit: float) -> FloatArray:
    with np.errstate(all="ignore"):
        values = np.asarray(function(t), dtype=np.float64)
    if values.shape != t.shape:
        raise InvalidInputError(
            f"{name} must return one number for each distance: got shape {values.shape} for {t.shape}."
        )
    if not np.all(np.isfinite(values)):
        where = float(t[np.argmin(np.isfinite(values))]) ** 0.5 * unit
        raise InvalidInputError(
            f"{name} is {values[np.argmin(np.isfinite(values))]} at the scaled distance {where:.6g}; "
            "it must be finite everywhere."
        )
    return values


def _range(function: Function, above: float | None, name: str, close: float) -> tuple[int, int]:
    """Binades of t in which the function is neither at its value at 0 nor at rest."""
    places = 1.0 + np.arange(4) / 4.0

    def of(exponents: NDArray[np.int64]) -> FloatArray:
        with np.errstate(all="ignore"):
            t = np.ldexp(places, exponents[:, None])
            return np.asarray(function(t.ravel()), dtype=np.float64).reshape(t.shape)

    down = np.arange(0, LOWEST - 1, -1)
    near = np.max(np.abs(of(down) - 1.0), axis=1)
    good = near <= close
    low = LOWEST if not good.any() else int(down[np.argmax(good)]) + 1
    # What is rough tends to 1, if slowly; a jump does not.
    if not good.any() and not near[-1] < min(0.5, 0.9 * near[len(near) // 2]):
        raise InvalidInputError(
            f"{name} is no correlation: it tends to {1.0 - near[-1]:.6g} as the distance tends to 0, not to 1. "
            "A nugget is given by noise=, a variance by variance=."
        )
    if above is None:
        return low, HIGHEST
    up = np.arange(low, HIGHEST)
    still = np.max(np.abs(of(up) - above), axis=1) <= GONE
    # Three binades in a row: a function that oscillates may be small at some places by chance.
    rest = np.flatnonzero(still[:-2] & still[1:-1] & still[2:])
    return low, max(low + 1, int(up[rest[0]]) if len(rest) else HIGHEST)
