"""Checks of what callers pass in, before any work."""

import numpy as np

from covertreex.errors import InvalidInputError

#: Coordinates beyond this, in lengthscales too, would overflow in a squared distance.
LARGEST_COORDINATE = 1e140


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
