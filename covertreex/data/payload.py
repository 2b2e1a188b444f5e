"""The payload store: what a distance is computed from, once, shared by every backend without a copy."""

import threading
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from covertreex._core.factors import place
from covertreex.base.contract import EUCLIDEAN, KERNEL_CODES, LANES, NO_KERNEL, RESIDUAL, ROUNDOFF, check_codes
from covertreex.base.kept import Kept
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.data.canonical import canonical_nearness
from covertreex.errors import InvalidInputError
from covertreex.kernels import Expression, Kernel
from covertreex.protocols import QueryBlock

__all__ = [
    "EUCLIDEAN",
    "LANES",
    "RESIDUAL",
    "ROUNDOFF",
    "PayloadStore",
    "Room",
    "empty_factors",
    "longest_square",
    "padded",
]


#: Squared diameter of the data, in lengthscales, below which correlation hardly tells their points apart.
WIDE = 2.0**-16


def padded(m: int) -> int:
    """`m` rounded up to a multiple of `LANES`."""
    return -(-m // LANES) * LANES


def longest_square(factors: FloatArray) -> float:
    """The largest ``|v|**2`` of rows ``v``; 0 if there are none."""
    return float(np.max(np.einsum("ij,ij->i", factors, factors), initial=0.0))


def empty_factors(rows: int, m: int) -> FloatArray:
    """An uninitialised (rows, m) float64 array whose rows begin on cache lines, and on huge pages if it is large.

    A search reads rows at random: a row that straddles cache lines or small pages costs it a third more time.
    """
    align = 2**21 if rows * m * 8 >= 2**22 else 64
    memory = np.empty(rows * m * 8 + align, dtype=np.uint8)
    start = -place(memory) % align
    return memory[start : start + rows * m * 8].view(np.float64).reshape(rows, m)


class Room:
    """Factor rows with room behind them, shared by trees that `CoverTree.insert` makes one from the other.

    Each tree sees the first so many rows, which never change; only the latest may write more behind them.

    Parameters
    ----------
    rows : int
        Rows that will be there at once; an eighth of them more are kept free (memory that is not touched costs none).
    m : int
    """

    def __init__(self, rows: int, m: int) -> None:
        self.factors = empty_factors(rows + rows // 8, m)
        self._used, self._lock = rows, threading.Lock()

    def claim(self, start: int, stop: int) -> bool:
        """Whether rows `start` to `stop` are now the caller's: not if others have them, or they do not fit."""
        with self._lock:
            if start != self._used or stop > len(self.factors):
                return False
            self._used = stop
            return True


@dataclass(frozen=True, eq=False)
class PayloadStore:
    """Coordinates, factors and residual variances in *row* order, and the maps between rows and dataset indices.

    Rows are sorted so that neighbours in space are neighbours in memory (`covertreex.data.leaf_order`). All arrays
    are C-contiguous and read-only; kernels borrow them.

    Attributes
    ----------
    metric : int
        `EUCLIDEAN` or `RESIDUAL`.
    kernel : Kernel or None
        None for Euclidean. Its variance is 1, or from 1 to 4 where the caller supplied factors: correlation has no
        units, and factors and residual variances are in those of this kernel (`unit`, A8).
    coords : ndarray, shape (n, d), float64
        Coordinates divided by the lengthscale.
    factors : ndarray, shape (n, m), float64
        ``v_i = L^-1 k(Z, x_i)``, m padded with zeros to a multiple of 16; m = 0 without inducing points.
    p : ndarray, shape (n,), float64
        Residual variances; length 0 for Euclidean.
    index : ndarray, shape (n,), int64
        Dataset index of each row.
    row : ndarray, shape (n,), int64
        Row of each dataset index.
    slack_abs, slack_rel : float
        INVARIANT B1: a squared true distance lies within ``d**2 * (1 -+ slack_rel) -+ slack_abs`` of a computed ``d``.
    floored : int
        Rows whose residual variance was raised to its floor, ``1e-9 k(x, x)``.
    longest : float or None
        The largest ``|v_i|**2``, if it is known.
    unit : float
        What variances of the caller's were divided by, and factors by its root.
    kept : Kept
        Screens and boxes, and the view that compiled code has of it.
    """

    metric: int
    kernel: Kernel | None
    coords: FloatArray
    factors: FloatArray
    p: FloatArray
    index: IntArray
    row: IntArray
    slack_abs: float
    slack_rel: float
    floored: int = 0
    longest: float | None = None
    unit: float = 1.0
    kept: Kept = field(default_factory=Kept, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            check_codes(self.metric, self.kernel_code)
        except ValueError as error:
            raise InvalidInputError(f"payload: {error}") from None
        n = len(self.coords)
        shapes = {
            "coords": (n, self.coords.shape[1]),
            "factors": (n, padded(self.factors.shape[1])),
            "p": (n if self.metric == RESIDUAL else 0,),
            "index": (n,),
            "row": (n,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            dtype = np.int64 if name in ("index", "row") else np.float64
            if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
                raise InvalidInputError(
                    f"payload array {name} must be C-contiguous {np.dtype(dtype)} of shape {shape}; "
                    f"got {array.dtype} of shape {array.shape}."
                )
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def nbytes(self) -> int:
        """int: bytes held by the arrays."""
        return sum(a.nbytes for a in (self.coords, self.factors, self.p, self.index, self.row))

    @property
    def covariance(self) -> Kernel:
        """Kernel: under correlation, where there is always one."""
        assert self.kernel is not None
        return self.kernel

    @property
    def kernel_code(self) -> int:
        """int: the kernel's number in canonical arithmetic; `NO_KERNEL` for Euclidean."""
        return self.kernel.code if self.kernel is not None else NO_KERNEL

    @property
    def expression(self) -> Expression | None:
        """Expression or None: the correlation by tables (A10), if the kernel has no closed form (A4)."""
        return None if self.kernel is None else self.kernel.expression_for(self.coords.shape[1])

    def spread(self, coords: FloatArray) -> FloatArray:
        """Scaled coordinates as they are where rows near each other are looked for (`Kernel.stretch`)."""
        return coords if self._stretch is None else np.ascontiguousarray(coords * self._stretch)

    @cached_property
    def _stretch(self) -> FloatArray | None:
        return None if self.kernel is None else self.kernel.stretch(self.coords.shape[1])

    @cached_property
    def corners(self) -> tuple[FloatArray, FloatArray]:
        """ndarray, ndarray: the least and the largest of each coordinate, shape (d,); at 0 without rows."""
        d = self.coords.shape[1]
        if len(self) == 0:
            return np.zeros(d), np.zeros(d)
        return self.coords.min(axis=0), self.coords.max(axis=0)

    @cached_property
    def by_distance(self) -> bool:
        """bool: whether correlation falls with distance in scaled coordinates alone (E4): no factors, a formula for the
        kernel, noise that is the same for all, and room.
        """
        if self.factors.shape[1] or self.kernel_code not in KERNEL_CODES.values() or len(self) == 0:
            return False
        low, high = self.corners
        same = self.smallest_p == self.p.max()
        return bool(same and self.alpha >= 0.5 and np.sum((high - low) ** 2) >= WIDE)

    @cached_property
    def smallest_p(self) -> float:
        """float: the least residual variance; infinity for Euclidean."""
        return float(self.p.min(initial=np.inf))

    @property
    def variance(self) -> float:
        """float: the kernel's variance; 1 for Euclidean."""
        return self.kernel.variance if self.kernel is not None else 1.0

    @property
    def alpha(self) -> float:
        """float: the rational quadratic kernel's alpha; 1 for others."""
        return self.kernel.alpha if self.kernel is not None else 1.0

    def lower(self, distance: ArrayLike, slack_abs: float | None = None) -> FloatArray:
        """INVARIANT B1: no true distance is below this when `distance` is the computed one (elementwise).

        Parameters
        ----------
        distance : array_like, float64
        slack_abs : float, optional
            What a `QueryBlock` says its queries need; the payload's, for distances between rows, by default.
        """
        distance = np.asarray(distance, dtype=np.float64)
        t = (distance * distance) * (1.0 - self.slack_rel) - (self.slack_abs if slack_abs is None else slack_abs)
        lower: FloatArray = np.sqrt(np.where(t > 0.0, t, 0.0))
        return lower

    def upper(self, distance: ArrayLike, slack_abs: float | None = None) -> FloatArray:
        """INVARIANT B1: no true distance is above this when `distance` is the computed one; parameters as `lower`."""
        distance = np.asarray(distance, dtype=np.float64)
        slack_abs = self.slack_abs if slack_abs is None else slack_abs
        upper: FloatArray = np.sqrt((distance * distance) * (1.0 + self.slack_rel) + slack_abs)
        return upper

    def nearness(self, queries: QueryBlock, q: int, rows: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """A5, A7: what `rows` are sorted by, before their dataset index, as neighbours of query `q`.

        It is `covertreex.oracle.canonical_nearness`, in NumPy: for a backend that imports no more than
        `covertreex.protocols`.

        Examples
        --------
        >>> import covertreex as cx
        >>> from covertreex.testing.reference import make_queries
        >>> payload = cx.cover_tree([[0.0], [3.0]]).payload
        >>> payload.nearness(make_queries(payload, [0]), 0, payload.row[[1]])[0].tolist()
        [3.0]
        """
        return canonical_nearness(self, queries, q, rows)

    def coordinates(self, indices: ArrayLike) -> FloatArray:
        """Scaled coordinates of dataset indices.

        Parameters
        ----------
        indices : array_like of int, shape (q,)

        Returns
        -------
        ndarray, shape (q, d), float64
        """
        rows: IntArray = self.row[np.asarray(indices)]
        return self.coords[rows]

    def locate(self, coords: ArrayLike) -> IntArray:
        """Dataset index of the first point at exactly these scaled coordinates; -1 where there is none.

        Parameters
        ----------
        coords : array_like, shape (q, d)

        Returns
        -------
        ndarray, shape (q,), int64
        """
        keys, indices = self._sorted_keys
        wanted = _byte_keys(np.asarray(coords, dtype=np.float64))
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, indices[at], -1)

    @cached_property
    def _sorted_keys(self) -> tuple[AnyArray, IntArray]:
        keys = _byte_keys(self.coords[self.row])
        order = np.argsort(keys, kind="stable")
        return keys[order], order


def _byte_keys(coords: FloatArray) -> AnyArray:
    coords = np.ascontiguousarray(coords) + 0.0  # -0.0 and 0.0 are one place
    keys: AnyArray = coords.view(np.dtype((np.void, coords.shape[1] * 8))).ravel()
    return keys
