"""Correlations as sums of products of tables: what every language evaluates (docs/mathematics.md, A10)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex.base.types import FloatArray, IntArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.table import Table

#: A sum of products may have so many groups of columns and so many factors: kernels keep their state on the stack.
MOST_GROUPS, MOST_FACTORS = 16, 64

#: The arrays of an `Expression`, in order.
ARRAYS = (
    "group_stop", "term_stop", "weight", "factor_group", "factor_table", "rescale_group", "rescale_table",
    "table_first", "table_stop", "pieces", "error",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Expression:
    """A correlation as sums of products of tables: what every language evaluates, in this order (A10).

    Coordinates are cut into groups of columns; t of a group is the sum of its squared differences in order of the axes,
    from 0. The value is the sum, in order and from 0, of the terms; a term is its weight times its factors, in order; a
    factor is the value of a table at t of its group, which is multiplied first, where `rescale_table` is not negative,
    by the value of that table at t of `rescale_group`.

    Attributes
    ----------
    group_stop : ndarray, shape (g,), int64
        The columns of each group end before this one and begin where those of the group before end.
    term_stop : ndarray, shape (terms,), int64
        As `group_stop`, the factors of each term.
    weight : ndarray, shape (terms,), float64
        Positive; they sum up to 1 exactly, in order.
    factor_group, factor_table, rescale_group, rescale_table : ndarray, shape (factors,), int64
    table_first : ndarray, shape (tables,), int64
        `Table.first`.
    table_stop : ndarray, shape (tables,), int64
        As `group_stop`, the pieces of each table.
    pieces : ndarray, shape (pieces, 8), float64
        Those of all tables; rows begin on cache lines.
    error : ndarray, shape (tables,), float64
        `Table.error`.
    """

    group_stop: IntArray
    term_stop: IntArray
    weight: FloatArray
    factor_group: IntArray
    factor_table: IntArray
    rescale_group: IntArray
    rescale_table: IntArray
    table_first: IntArray
    table_stop: IntArray
    pieces: FloatArray
    error: FloatArray

    def __post_init__(self) -> None:
        if self.pieces.ctypes.data % 64 or not self.pieces.flags.c_contiguous:
            object.__setattr__(self, "pieces", _aligned(self.pieces))
        for name in ARRAYS:
            getattr(self, name).flags.writeable = False

    def __reduce__(self) -> tuple[type, tuple[NDArray[np.generic], ...]]:
        return Expression, tuple(getattr(self, name) for name in ARRAYS)

    @cached_property
    def tables(self) -> list[Table]:
        """list of Table: one for each of `table_first`."""
        starts = [0, *self.table_stop[:-1]]
        return [
            Table(int(first), self.pieces[start:stop], float(error))
            for first, start, stop, error in zip(self.table_first, starts, self.table_stop, self.error, strict=True)
        ]

    def __call__(self, A: FloatArray, B: FloatArray) -> FloatArray:
        """A10: correlations of scaled coordinates, of shapes (..., d) that broadcast."""
        squares, start = [], 0
        for stop in self.group_stop:
            t = np.zeros(np.broadcast_shapes(A.shape[:-1], B.shape[:-1]))
            for axis in range(start, stop):
                difference = A[..., axis] - B[..., axis]
                t = t + difference * difference
            squares.append(t)
            start = stop
        total, begin = np.zeros(squares[0].shape), 0
        for weight, end in zip(self.weight, self.term_stop, strict=True):
            term: FloatArray = np.full(squares[0].shape, weight)
            for f in range(begin, end):
                t = squares[self.factor_group[f]]
                if self.rescale_table[f] >= 0:
                    t = t * self.tables[self.rescale_table[f]](squares[self.rescale_group[f]])
                term = term * self.tables[self.factor_table[f]](t)
            total, begin = total + term, end
        return total

    @cached_property
    def single(self) -> tuple[NDArray[np.float32], list[float]]:
        """`Table.single` of all tables together: coefficients (pieces, 4), and the error of each table."""
        parts = [table.single for table in self.tables]
        pieces: NDArray[np.float32] = _aligned(np.concatenate([part for part, _ in parts]))  # type: ignore[assignment]
        return pieces, [error for _, error in parts]

    @property
    def value_error(self) -> float:
        """float: how far a value is from that of the functions which the tables were made from, about."""
        return self._by_factors(lambda table: table.error, lambda table: 0.0)

    def beyond(self, t: float) -> float:
        """A bound of the correlation's size where every group's t is at least `t`."""
        total, begin = 0.0, 0
        for weight, end in zip(self.weight, self.term_stop, strict=True):
            # A rescaled t is smaller than t; where it ends is not known here.
            sizes = [
                1.0 if self.rescale_table[f] >= 0 else self.tables[self.factor_table[f]].beyond(t)
                for f in range(begin, end)
            ]
            total, begin = total + float(weight) * min(1.0, *sizes, 1.0), end
        return total

    def modulus(self, delta: float) -> float:
        """A bound of the difference of two values, of points that moved by `delta` in each group's distance."""

        def rescaled(table: Table) -> float:
            high, low = table.pieces[:, 0] + table._reach, table.pieces[:, 0] - table._reach
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(low > 0.0, 2.0 * table.steepness / (np.sqrt(table._low) * low), np.inf)
                relative = np.where(table.steepness == 0.0, 0.0, relative)
                span = np.log(np.maximum.accumulate(high) / np.minimum.accumulate(np.maximum(low, 0.0)))
            slope = np.maximum.accumulate(relative[::-1])[::-1]
            reached = np.searchsorted(table._low, (np.sqrt(table._low) + delta) ** 2 * (1.0 + 1e-12), side="right") - 1
            return float(np.min(np.maximum(slope * delta, span[reached])))

        return self._by_factors(lambda table: table.modulus(delta), rescaled)

    @property
    def steepness(self) -> float:
        """float: a bound of how much a value changes, absolutely, as every t changes by a factor, relatively."""
        return self._by_factors(lambda table: float(np.max(table.steepness)), lambda table: 4.0)

    def single_error(self) -> float:
        """What float32's coefficients are off by, absolutely, but for rounding."""
        errors = dict(zip(map(id, self.tables), self.single[1], strict=True))
        return self._by_factors(lambda table: errors[id(table)], lambda table: 2.0 * errors[id(table)])

    def _by_factors(self, own: Callable[[Table], float], rescale: Callable[[Table], float]) -> float:
        """A bound for all terms from what each factor may change by, no factor being larger than 1: `own`, and where t
        is rescaled, how steep it is times what the rescaling may change by, relatively."""
        total, begin = 0.0, 0
        for weight, end in zip(self.weight, self.term_stop, strict=True):
            for f in range(begin, end):
                table = self.tables[self.factor_table[f]]
                total += float(weight) * own(table)
                if self.rescale_table[f] >= 0:
                    steep = float(np.max(table.steepness))
                    total += float(weight) * steep * rescale(self.tables[self.rescale_table[f]])
            begin = end
        return total


def _aligned(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A copy whose memory begins on a cache line."""
    memory = np.empty(array.nbytes + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


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


_TABLES: dict[tuple[type, tuple[Any, ...]], Table] = {}


def table_of(cls: type, shape: tuple[Any, ...], make: Callable[[], Table]) -> Table:
    """Tables that were made already; the latest ones, for an optimiser goes on to others."""
    key = cls, shape
    try:
        return _TABLES[key]
    except KeyError:
        while len(_TABLES) >= 64:
            _TABLES.pop(next(iter(_TABLES)), None)
        return _TABLES.setdefault(key, make())
