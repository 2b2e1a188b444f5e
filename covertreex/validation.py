"""Checks of what callers pass in, before any work."""

import numpy as np

from covertreex.errors import InvalidInputError

#: Coordinates beyond this, in lengthscales too, would overflow in a squared distance.
LARGEST_COORDINATE = 1e140


#: Differences of coordinates that are 0 or at least this in size have squares that no arithmetic loses, and whose sums
#: are those of exact squares but for rounding: not below 2**-946.
SMALLEST_COORDINATE = 2.0**-420


def read_only(array):
    """`array`, made read-only."""
    array.flags.writeable = False
    return array


def as_array(values, name):
    """`values` as an array.

    Raises
    ------
    InvalidInputError
        If they are nested lists of different lengths, or some are masked.
    """
    if np.ma.is_masked(values):
        raise InvalidInputError(
            f"{name} has {np.ma.count_masked(values)} masked entries, which have no value. Drop or fill them."
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{name} must be a rectangular array of numbers: {error}.") from None


def check_points(points, name, columns=None):
    """A C-contiguous float64 copy-if-needed of a (n, d) array of finite numbers.

    Raises
    ------
    InvalidInputError
        If it is not two-dimensional, empty, not numeric, not finite, or has the wrong number of columns.
    """
    array = as_array(points, name)
    if array.dtype.kind not in "fiub":
        hint = " Keep the columns that are numbers, and make them float." if array.ndim == 2 else ""
        raise InvalidInputError(f"{name} must be an array of real numbers, got dtype {array.dtype}.{hint}")
    if array.ndim != 2:
        hint = " Use X.reshape(-1, 1) for one coordinate per point." if array.ndim == 1 else ""
        raise InvalidInputError(f"{name} must have shape (n, d), got {array.shape}.{hint}")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InvalidInputError(f"{name} is empty, shape {array.shape}; at least one row and one column are needed.")
    if columns is not None and array.shape[1] != columns:
        raise InvalidInputError(f"{name} must have {columns} columns as the data has, got {array.shape[1]}.")
    array = np.ascontiguousarray(array, dtype=np.float64)
    # Two reductions, for factors may be most of memory; NaN fails the comparison too.
    if not (array.max() <= LARGEST_COORDINATE and array.min() >= -LARGEST_COORDINATE):
        bad = ~(np.abs(array) <= LARGEST_COORDINATE)
        row, column = np.argwhere(bad)[0]
        raise InvalidInputError(
            f"{name} must be finite (at most {LARGEST_COORDINATE:g} in size), got {array[row, column]} at row {row}, "
            f"column {column}; {int(bad.any(axis=1).sum())} such rows. Drop or impute them."
        )
    return array


def check_told_apart(coords, others=None, name="X"):
    """Check that squared distances tell all different points apart.

    They cannot where two points differ in nothing but coordinates whose squares are below what float64 holds. Beside
    other differences such coordinates do not matter.

    Parameters
    ----------
    coords : ndarray, shape (n, d)
        In lengthscales.
    others : ndarray, shape (q, d), optional
        Points that are compared with them.
    name : str

    Raises
    ------
    InvalidInputError
    """
    all_points = [coords] if others is None else [coords, others]
    if not any(_has_tiny(points) for points in all_points):
        return
    points = np.concatenate(all_points) + 0.0  # -0.0 and 0.0 are one place
    near = np.where(np.abs(points) < SMALLEST_COORDINATE, 0.0, points)
    if len(np.unique(near, axis=0)) != len(np.unique(points, axis=0)):
        tiny = np.abs(points[(points != 0.0) & (np.abs(points) < SMALLEST_COORDINATE)]).min()
        raise InvalidInputError(
            f"{name} has points that differ only in coordinates as small as {tiny:.3g} (in lengthscales): their squares "
            f"underflow, and no distance tells them apart. Multiply the data, so that what differs is at least "
            f"{SMALLEST_COORDINATE:.1g}, or set what is smaller to 0."
        )


def _has_tiny(points):
    size = np.abs(points)
    return bool(np.min(size, where=size > 0.0, initial=np.inf) < SMALLEST_COORDINATE)


def check_rows(rows, n, name):
    """Integer rows as int64, all in [0, n).

    Raises
    ------
    InvalidInputError
        If they are not one-dimensional, not integers, or out of range.
    """
    array = as_array(rows, name)
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional integer rows, got shape {array.shape}.")
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        hint = " Give np.flatnonzero(mask) for a mask." if array.dtype.kind == "b" else ""
        raise InvalidInputError(f"{name} must be integer rows, got dtype {array.dtype}.{hint}")
    bad = (array < 0) | (array >= n)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInputError(f"{name} must be rows from 0 to {n - 1}, got {array[at]} at position {at}.")
    return array.astype(np.int64)


def check_flag(value, name):
    """`value` as a bool.

    Raises
    ------
    InvalidInputError
        If it is something else, such as a word that only looks like one.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_k(k, most, what):
    """`k` as an int from 1 to `most`.

    Raises
    ------
    InvalidInputError
        Otherwise; `what` says why `most` is the most.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise InvalidInputError(f"k must be an integer, got {k!r}.")
    if not 1 <= k <= most:
        raise InvalidInputError(f"k must be from 1 to {most} ({what}), got {k}.")
    return int(k)
