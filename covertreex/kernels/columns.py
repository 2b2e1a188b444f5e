"""Where the coordinates that a kernel compares come from: columns of the data, in units of lengthscales."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from covertreex.base.arithmetic import sin_cos_turns
from covertreex.base.types import FloatArray
from covertreex.base.validation import LARGEST_COORDINATE, read_only
from covertreex.errors import InvalidInputError

#: Rows of a square matrix.
Matrix: TypeAlias = tuple[tuple[float, ...], ...]

#: A matrix of lengthscales may be as ill-conditioned as this: what its inverse does to rounding errors.
WORST_CONDITION = 1e10


@dataclass(frozen=True)
class Columns:
    """Which columns of the data a kernel compares, and in which units: what its scaled coordinates are.

    Parameters
    ----------
    lengthscale : float, tuple of float, or tuple of tuple of float
        One number, one per column that is compared, or a matrix L: scaled coordinates are ``L^-1 x``.
    active_dims : tuple of int or str, or None
        The columns, by number or by name; None for all.
    lonlat : float or None
        Radius of a sphere on which columns 0 and 1 are longitude and latitude in degrees: in their place there are
        three coordinates, and the two have one lengthscale. It says nothing where neither is compared.
    """

    lengthscale: float | tuple[float, ...] | Matrix = 1.0
    active_dims: tuple[int | str, ...] | None = None
    lonlat: float | None = None

    def __call__(self, X: FloatArray) -> FloatArray:
        """Scaled coordinates, shape (n, D), of points (n, d)."""
        lengthscale, dims = self._lengthscales, self._dims(X.shape[1])
        if self._on_sphere(dims):
            X, lengthscale = self._places(X, dims, lengthscale)
        else:
            X = X if self.active_dims is None else X[:, dims]
            if lengthscale.ndim and lengthscale.shape[0] != X.shape[1]:
                raise InvalidInputError(
                    f"the kernel has {lengthscale.shape[0]} lengthscales, but the data has {X.shape[1]} columns. "
                    "Give one number, or one per column."
                )
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if lengthscale.ndim == 2:
                scaled = solved(cast("Matrix", self.lengthscale), X)
            else:
                scaled = np.ascontiguousarray(X / lengthscale)
        if not np.abs(scaled).max(initial=0.0) <= LARGEST_COORDINATE:  # NaN fails, too
            raise InvalidInputError(
                f"the data spans up to {np.abs(scaled).max():.3g} lengthscales, at most {LARGEST_COORDINATE:g} can be "
                f"compared. Give a lengthscale in the units of the data; got {self.lengthscale}."
            )
        if self._shrinks and np.any(_vanished(scaled, X, lengthscale.ndim == 2)):
            raise InvalidInputError(
                "the data has coordinates that vanish beside the lengthscale, and no distance tells such points apart. "
                f"Give a lengthscale in the units of the data; got {self.lengthscale}."
            )
        return scaled

    @cached_property
    def _lengthscales(self) -> FloatArray:
        return read_only(np.asarray(self.lengthscale, dtype=np.float64))

    @cached_property
    def _shrinks(self) -> bool:
        """Whether coordinates may become smaller, and so vanish."""
        return bool(np.abs(self._lengthscales).max() > 1.0)

    def width(self, d: int) -> int:
        """How many scaled coordinates there are of points with `d` columns."""
        dims = range(d) if self.active_dims is None else self.active_dims
        return len(dims) + (self.lonlat is not None and 0 in dims and 1 in dims)

    def _dims(self, d: int) -> list[int]:
        """The numbers of the columns that are compared, of `d` columns."""
        if self.active_dims is None:
            return list(range(d))
        dims: list[int] = []
        for column in self.active_dims:
            if isinstance(column, str):
                raise InvalidInputError(
                    f"active_dims has the name {column!r}, but the data has no names for its columns. Give a "
                    "DataFrame, or numbers of columns from 0."
                )
            if column >= d:
                raise InvalidInputError(
                    f"active_dims has column {column}, but the data has {d} columns, numbered from 0."
                )
            dims.append(column)
        return dims

    def _on_sphere(self, dims: Sequence[int | str]) -> bool:
        if self.lonlat is None or not (0 in dims or 1 in dims):
            return False
        if not (0 in dims and 1 in dims):
            raise InvalidInputError(
                f"with lonlat, columns 0 and 1 are longitude and latitude, and make one place: columns {list(dims)} "
                "have but one of them. Compare both or neither (active_dims)."
            )
        return True

    def _places(self, X: FloatArray, dims: list[int], lengthscale: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coordinates with three in place of longitude and latitude, and a lengthscale for each."""
        if lengthscale.ndim == 2:
            raise InvalidInputError(
                "a matrix of lengthscales needs axes, and with lonlat there are none: give one number, or one for "
                "places and one for each other column, in another kernel with active_dims if it is to be a matrix."
            )
        axes = [dim for dim in dims if dim != 1] if dims.index(0) < dims.index(1) else [d for d in dims if d != 0]
        if lengthscale.ndim and len(lengthscale) != len(axes):
            raise InvalidInputError(
                f"the kernel has {len(lengthscale)} lengthscales, but with lonlat {len(axes)} are needed: longitude "
                "and latitude share one, in the place of the first of them, for a place has no axes. "
                "Give one number, or one for places and one for each other column."
            )
        parts, scales = [], []
        for i, dim in enumerate(axes):
            part = on_sphere(X[:, 0], X[:, 1], cast("float", self.lonlat)) if dim in (0, 1) else X[:, dim, None]
            parts.append(part)
            scales += [lengthscale[i] if lengthscale.ndim else lengthscale] * part.shape[1]
        return np.concatenate(parts, axis=1), np.array(scales)


def on_sphere(longitude: FloatArray, latitude: FloatArray, radius: float = 1.0) -> FloatArray:
    """Places on a sphere, from degrees: ``radius * (cos lat cos lon, cos lat sin lon, sin lat)``.

    Longitudes that differ by 360 degrees are one to the bit, and so are all at a pole.

    Parameters
    ----------
    longitude, latitude : ndarray, shape (n,)
        Degrees.
    radius : float

    Returns
    -------
    ndarray, shape (n, 3), float64

    Raises
    ------
    InvalidInputError
        If a latitude is not from -90 to 90; names its row.

    Examples
    --------
    >>> on_sphere(np.array([0.0, 450.0, 7.0]), np.array([0.0, 0.0, 90.0]), 2.0).tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    check_latitude(latitude, "the data")
    within = np.fmod(longitude, 360.0)  # exact, and so is what follows
    within = np.where(np.abs(within) > 180.0, within - np.copysign(360.0, within), within)
    (up, across), (sine, cosine) = sin_cos_turns(latitude / 360.0), sin_cos_turns(within / 360.0)
    return np.stack([radius * (across * cosine), radius * (across * sine), radius * up], axis=1) + 0.0


def check_latitude(latitude: FloatArray, name: str) -> None:
    """Check that latitudes are from -90 to 90 degrees.

    Raises
    ------
    InvalidInputError
        Naming the row of the first that is not.
    """
    bad = ~(np.abs(latitude) <= 90.0)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInputError(
            f"{name} must have latitudes from -90 to 90 degrees in column 1, got {latitude[at]} at row {at}; "
            f"{int(bad.sum())} such rows. With lonlat, column 0 is the longitude and column 1 the latitude."
        )


def check_lonlat(points: FloatArray, name: str, lonlat: float | None) -> None:
    """With lonlat, check that points (n, d) have longitudes and latitudes.

    Raises
    ------
    InvalidInputError
    """
    if lonlat is None:
        return
    if points.shape[1] < 2:
        raise InvalidInputError(f"with lonlat, {name} needs two columns, longitude and latitude; it has one.")
    check_latitude(points[:, 1], name)


def _vanished(scaled: FloatArray, X: FloatArray, mixed: bool) -> NDArray[np.bool_]:
    """Where something became 0 that was not; coordinates that a matrix has mixed may cancel, but not all of a point."""
    if mixed:
        gone: NDArray[np.bool_] = ~np.any(scaled, axis=1) & np.any(X, axis=1)
        return gone
    vanished: NDArray[np.bool_] = (scaled == 0.0) & (X != 0.0)
    return vanished


# ---------------------------------------------------------------------------------------------------------------------
# Matrices of lengthscales: elimination of our own, for a LAPACK gives other bits on other machines


def solved(matrix: Matrix, X: FloatArray) -> FloatArray:
    """``L^-1 x`` for each row x of `X` (n, d); of a diagonal L the same bits as ``X / np.diag(L)``.

    Examples
    --------
    >>> solved(((2.0, 0.0), (1.0, 4.0)), np.array([[2.0, 9.0]])).tolist()
    [[1.0, 2.0]]
    """
    order, rows = _eliminated(matrix)
    d = len(rows)
    out = np.empty(X.shape)
    for i in range(d):
        column = X[:, order[i]]
        for j in range(i):
            if rows[i][j] != 0.0:
                column = column - rows[i][j] * out[:, j]
        out[:, i] = column if _is_upper(matrix) else column / rows[i][i]
    if _is_upper(matrix):
        for i in reversed(range(d)):
            column = out[:, i]
            for j in range(i + 1, d):
                if rows[i][j] != 0.0:
                    column = column - rows[i][j] * out[:, j]
            out[:, i] = column / rows[i][i]
    return out


def _is_upper(matrix: Matrix) -> bool:
    """Whether there is something above the diagonal."""
    return any(any(row[i + 1 :]) for i, row in enumerate(matrix))


@lru_cache(maxsize=64)
def _eliminated(matrix: Matrix) -> tuple[list[int], list[list[float]]]:
    """Gaussian elimination: the order of the rows, and L (without its diagonal of ones) and U in one; of a lower
    triangular matrix itself."""
    rows, order = [list(row) for row in matrix], list(range(len(matrix)))
    if not _is_upper(matrix):
        return order, rows
    sizes = [max(map(abs, row)) for row in rows]
    for k in range(len(rows)):
        shares = [abs(rows[i][k]) / sizes[i] if sizes[i] else 0.0 for i in range(k, len(rows))]
        best = k + shares.index(max(shares))
        for listed in (rows, order, sizes):
            _swap(listed, k, best)
        if rows[k][k] == 0.0:
            continue  # singular, as `check_matrix` says
        for i in range(k + 1, len(rows)):
            factor = rows[i][k] = rows[i][k] / rows[k][k]
            for j in range(k + 1, len(rows)):
                rows[i][j] = rows[i][j] - factor * rows[k][j]
    return order, rows


def _swap(listed: list[Any], i: int, j: int) -> None:
    listed[i], listed[j] = listed[j], listed[i]


@lru_cache(maxsize=64)
def check_matrix(matrix: Matrix) -> None:
    """Check that the inverse of a matrix can be told from rounding errors.

    What counts is ``max |L^-1| |L|`` (Skeel's condition number), which the units of the data do not change: a diagonal
    matrix has 1.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_matrix(((1e-9, 0.0), (0.0, 1e9)))  # silent: it can
    """
    with np.errstate(all="ignore"):
        inverse, given = np.abs(solved(matrix, np.eye(len(matrix))).T), np.abs(np.array(matrix))
        condition = np.max(np.sum(inverse[:, :, None] * given[None, :, :], axis=(1, 2)))
    if not condition <= WORST_CONDITION:
        what = (
            f"nearly singular (condition {condition:.3g}" if np.isfinite(condition) else "singular (condition infinite"
        )
        raise InvalidInputError(
            f"lengthscale is a matrix that is {what}, at most {WORST_CONDITION:g} can be used): it makes distances "
            "along some direction infinite. Give L with r^2 = (x - y)^T (L L^T)^-1 (x - y), such as a Cholesky factor."
        )
