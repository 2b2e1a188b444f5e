"""Checks of what callers pass in, before any work."""

import contextlib
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.errors import InvalidInputError

#: Coordinates beyond this, in lengthscales too, would overflow in a squared distance.
LARGEST_COORDINATE = 1e140

#: float64 holds all integers up to here, and not all beyond.
LARGEST_INTEGER = 2.0**53


#: Differences of coordinates that are 0 or at least this in size have squares that no arithmetic loses, and whose sums
#: are those of exact squares but for rounding: not below 2**-946.
SMALLEST_COORDINATE = 2.0**-420

Array = TypeVar("Array", bound=AnyArray)


def read_only(array: Array) -> Array:
    """`array`, made read-only."""
    array.flags.writeable = False
    return array


def columns_of(values: Any) -> list[tuple[Any, Any]] | None:
    """Names and columns of a pandas or polars data frame, or an Arrow table, in their order; None of anything else.

    Points of geopandas are their coordinates, as columns x and y."""
    if hasattr(values, "iloc") and hasattr(values, "columns"):
        columns = [(name, values.iloc[:, i]) for i, name in enumerate(values.columns)]
        return [part for name, column in columns for part in _coordinates(column) or [(name, column)]]
    if hasattr(values, "geom_type"):
        return _coordinates(values)
    if hasattr(values, "column_names") and hasattr(values, "column"):
        return [(name, values.column(i)) for i, name in enumerate(values.column_names)]
    if hasattr(values, "get_columns"):
        return [(column.name, column) for column in values.get_columns()]
    return None


def _coordinates(values: Any) -> list[tuple[str, AnyArray]] | None:
    """Columns x and y, and z where points have one, of points of geopandas; None of anything else."""
    if not hasattr(values, "geom_type"):
        return None
    kinds = sorted({kind for kind in values.geom_type if isinstance(kind, str)} - {"Point"})  # others are missing
    if kinds:
        raise InvalidInputError(
            f"a geometry must be points, got {', '.join(kinds)}. Give a point of each, such as geometry.centroid."
        )
    axes = ("x", "y", "z") if np.any(values.has_z) else ("x", "y")
    return [(axis, np.asarray(getattr(values, axis))) for axis in axes]


def feature_names(values: Any) -> tuple[str, ...] | None:
    """Names of the columns of a table, a tuple of str; None if there are none, or some are no strings (scikit-learn's
    rule)."""
    names = tuple(name for name, _ in columns_of(values) or ())
    return names if names and all(isinstance(name, str) for name in names) else None


def check_names(names: tuple[str, ...] | None, values: Any, name: str) -> None:
    """Check that a table of new points has the columns of the data, in their order. What has no names is let pass.

    Parameters
    ----------
    names : tuple of str or None
        Those of the data.
    values : array_like
    name : str
        What the caller calls `values`.

    Raises
    ------
    InvalidInputError
        If both have names, and they are not the same.
    """
    given = None if names is None else feature_names(values)
    if names is None or given is None or given == names:
        return
    unseen, missing = [n for n in given if n not in names], [n for n in names if n not in given]
    if not unseen and not missing:
        trouble = f"are in another order: {_listed(given)}, where the data has {_listed(names)}"
    else:
        parts = [("not in the data", unseen), ("in the data, but missing", missing)]
        trouble = "do not match the data's: " + "; ".join(f"{what}: {_listed(some)}" for what, some in parts if some)
    raise InvalidInputError(
        f"the columns of {name} {trouble}. They must have the same names in the same order; choose them by name, such "
        f"as {name}[list(tree.feature_names_in_)], or give an array without names."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def as_array(values: Any, name: str) -> AnyArray:
    """`values` as an array; a table, column by column, as float64.

    Raises
    ------
    InvalidInputError
        If they are sparse, or nested lists of different lengths, some are masked or missing, a column holds no numbers,
        two columns have one name, numbers would lose digits on the way into one array, a tensor requires grad, or a
        table is a plan that was not carried out.
    """
    if isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values)
    if hasattr(values, "tocsr") or hasattr(values, "todense"):
        raise InvalidInputError(f"{name} is sparse ({type(values).__name__}); give {name}.toarray().")
    if getattr(values, "requires_grad", False) is True:
        raise InvalidInputError(
            f"{name} is a tensor that requires grad, and neighbours have no gradient; give {name}.detach()."
        )
    if hasattr(values, "collect") and not hasattr(values, "__array__"):
        raise InvalidInputError(f"{name} is a {type(values).__name__}, not computed yet; give {name}.collect().")
    several = isinstance(values, (list, tuple))
    masked = sum(np.ma.count_masked(part) for part in (values if several else (values,)) if np.ma.is_masked(part))
    if masked:
        raise InvalidInputError(f"{name} has {masked} masked entries, which have no value. Drop or fill them.")
    columns = columns_of(values)
    if columns is not None:
        _check_different([label for label, _ in columns], name)
        arrays = [as_float64(_column(column, name, label), name, label) for label, column in columns]
        return np.stack(arrays, axis=1) if arrays else np.zeros((len(values), 0))
    if hasattr(values, "to_numpy"):
        return _column(values, name)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{name} must be a rectangular array of numbers: {error}.") from None
    except (RuntimeError, TypeError) as error:  # such as tensors on a GPU
        raise InvalidInputError(f"NumPy cannot read {name}, a {type(values).__name__}: {error}") from None
    if several and array.dtype.kind == "f" and np.any(np.abs(array) >= LARGEST_INTEGER):
        # NumPy rounds integers that stand beside floats.
        _check_digits(np.array(values, dtype=object), array, name)
    return array


def _check_different(labels: list[Any], name: str) -> None:
    """Refuse two columns of one name: no name would tell which is meant."""
    twice = [label for label in labels if isinstance(label, str) and labels.count(label) > 1]
    if twice:
        raise InvalidInputError(
            f"{name} has {labels.count(twice[0])} columns named {twice[0]!r}. Rename or drop one; if all are meant, "
            f"an array without names does, such as {name}.to_numpy()."
        )


def _column(column: Any, name: str, label: object = None) -> AnyArray:
    """A column of a table as an array that lost nothing."""
    of = name if label is None else f"column {label!r} of {name}"
    dtype = column.dtype if hasattr(column, "dtype") else column.type
    if isinstance(dtype, np.dtype):
        return np.asarray(column)  # where missing values are NaN
    if hasattr(column, "isna"):
        missing = int(np.sum(column.isna()))
    else:
        missing = column.null_count() if callable(column.null_count) else column.null_count
    if missing:
        raise InvalidInputError(f"{of} has {missing} missing values. Drop or fill them.")
    kind = getattr(dtype, "kind", None)
    numpy_dtype = getattr(dtype, "numpy_dtype", None) if kind in ("f", "i", "u", "b") else None
    try:
        return np.asarray(column if numpy_dtype is None else column.to_numpy(dtype=numpy_dtype))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{of} must be real numbers, got {dtype} ({error}).") from None


def as_float64(array: AnyArray, name: str, label: object = None) -> FloatArray:
    """An array of real numbers as float64, every number the same.

    Parameters
    ----------
    array : ndarray
    name : str
        What the caller calls it.
    label : optional
        Name of the column that it is.

    Raises
    ------
    InvalidInputError
        If these are no real numbers, or float64 cannot hold one of them.
    """
    if array.dtype.kind not in "fiub":
        of = f"{name} must be an array of real numbers" if label is None else f"column {label!r} of {name} must be real"
        raise InvalidInputError(f"{of}{' numbers' * (label is not None)}, got dtype {array.dtype}.{_instead(array)}")
    if array.dtype.kind in "iu" or array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):  # what is too large is refused as infinite
            rounded = array.astype(np.float64)
        _check_digits(array, rounded, name, label)
        return rounded
    return np.asarray(array, dtype=np.float64)


def _instead(array: AnyArray) -> str:
    """What to do about an array that holds no real numbers."""
    if array.dtype.kind in "mM":
        unit = "/ np.timedelta64(1, 's')"
        return f" Give numbers, such as {'(t - t.min()) ' if array.dtype.kind == 'M' else 't '}{unit} for seconds."
    if array.dtype.kind == "c":
        return " Give real and imaginary parts as two columns."
    return " Keep the columns that are numbers, and make them float." if array.ndim == 2 else ""


def _check_digits(array: AnyArray, rounded: FloatArray, name: str, label: object = None) -> None:
    """Refuse what differs from its float64 values `rounded`: integers beyond 2**53, or extended precision."""
    sizes = np.abs(rounded)
    if array.dtype.kind in "iu" and not np.any(sizes >= LARGEST_INTEGER):
        return
    # As Python integers, for comparisons of int64 with float64 round, too. Smaller ones cannot differ.
    if array.dtype.kind == "f":
        suspects = (array != rounded) & np.isfinite(rounded)
    else:
        suspects = (sizes >= LARGEST_INTEGER) & np.isfinite(rounded)
        if array.dtype.kind in "iu":  # those that come back are exact; a float beyond the integers cannot come back
            safe = suspects & (sizes < np.iinfo(array.dtype).max)
            suspects[safe] = rounded[safe].astype(array.dtype) != array[safe]
    for place in map(tuple, np.argwhere(suspects)):
        value = array[place]
        exact = value if array.dtype.kind == "f" else int(value) if isinstance(value, (Integral, np.integer)) else None
        if exact is None or (array.dtype.kind != "f" and int(rounded[place]) == exact):
            continue
        where = f"row {place[0]}" if place else "its only entry"
        if label is not None or len(place) > 1:
            where += f", column {label!r}" if label is not None else f", column {place[1]}"
        if array.dtype.kind == "f":
            what, do = f"numbers of {array.dtype}", ""
        else:
            what = "integers beyond 2**53"
            do = "Subtract an offset, such as the smallest, or take a larger unit, such as seconds for nanoseconds. "
        shown = np.format_float_positional(exact, trim="-") if array.dtype.kind == "f" else exact
        raise InvalidInputError(
            f"{name} has {what} that float64, which is used here, would round: {shown} at {where}. {do}"
            "If rounded numbers will do, give .astype(np.float64)."
        )


def check_exact(values: Any, name: str) -> None:
    """Check that no number loses digits as float64, and nothing else.

    Raises
    ------
    InvalidInputError
        Naming the first that would.
    """
    for label, column in columns_of(values) or [(None, values)]:
        if label is None and isinstance(values, (list, tuple)):
            column = np.array(values, dtype=object) if values else np.zeros(0)
        array = np.asarray(column)
        if array.dtype.kind in "iu" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
            as_float64(array, name, label)
        elif array.dtype.kind == "O":
            whole = np.frompyfunc(lambda value: isinstance(value, Integral), 1, 1)(array).astype(bool)
            rounded = np.zeros(array.shape)
            with contextlib.suppress(OverflowError):
                rounded[whole] = array[whole].astype(np.float64)
            _check_digits(array, rounded, name, label)


@contextlib.contextmanager
def blaming_float32(names: Sequence[str], *arrays: ArrayLike | None) -> Iterator[None]:
    """Where factors contradict their kernel, say so if they were rounded to float32, whatever they are now."""
    try:
        yield
    except InvalidInputError as error:
        for name, array in zip(names, arrays, strict=True):
            if array is not None and _rounded_to_float32(np.asarray(array)):
                raise InvalidInputError(
                    f"{error} All numbers of {name} are float32 numbers, and their rounding alone may be the cause; "
                    "astype(np.float64) does not bring the digits back. Compute the factors in float64."
                ) from None
        raise


def _rounded_to_float32(array: AnyArray) -> bool:
    """Whether these are float32 numbers, and not just short ones such as 0.5."""
    if array.dtype.kind != "f":
        return False
    with np.errstate(over="ignore"):
        return np.array_equal(array, array.astype(np.float32)) and not np.array_equal(array, array.astype(np.float16))


def check_points(points: ArrayLike, name: str, columns: int | None = None) -> FloatArray:
    """A C-contiguous float64 copy-if-needed of a (n, d) array of finite numbers.

    Raises
    ------
    InvalidInputError
        If it is not two-dimensional, empty, not numeric, not finite, or has the wrong number of columns, or float64
        cannot hold its numbers.
    """
    array = as_array(points, name)
    if array.dtype.kind not in "fiub":
        as_float64(array, name)
    if array.ndim != 2:
        hint = " Use X.reshape(-1, 1) for one coordinate per point." if array.ndim == 1 else ""
        raise InvalidInputError(f"{name} must have shape (n, d), got {array.shape}.{hint}")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InvalidInputError(f"{name} is empty, shape {array.shape}; at least one row and one column are needed.")
    if columns is not None and array.shape[1] != columns:
        raise InvalidInputError(f"{name} must have {columns} columns as the data has, got {array.shape[1]}.")
    array = np.ascontiguousarray(as_float64(array, name))
    # Two reductions, for factors may be most of memory; NaN fails the comparison too.
    if not (array.max() <= LARGEST_COORDINATE and array.min() >= -LARGEST_COORDINATE):
        bad = ~(np.abs(array) <= LARGEST_COORDINATE)
        row, column = np.argwhere(bad)[0]
        names = [label for label, _ in columns_of(points) or ()]
        raise InvalidInputError(
            f"{name} must be finite (at most {LARGEST_COORDINATE:g} in size), got {array[row, column]} at row {row}, "
            f"column {repr(names[column]) if names else column}; {int(bad.any(axis=1).sum())} such rows. "
            "Drop or impute them."
        )
    return array


def check_told_apart(
    coords: FloatArray, others: FloatArray | None = None, name: str = "X", tiny: bool | None = None
) -> None:
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
    tiny : bool, optional
        What `has_tiny` says of `coords`, if that is known.

    Raises
    ------
    InvalidInputError
    """
    all_points = [coords] if others is None else [coords, others]
    if not ((has_tiny(coords) if tiny is None else tiny) or any(has_tiny(points) for points in all_points[1:])):
        return
    points = np.concatenate(all_points) + 0.0  # -0.0 and 0.0 are one place
    near = np.where(np.abs(points) < SMALLEST_COORDINATE, 0.0, points)
    if len(np.unique(near, axis=0)) != len(np.unique(points, axis=0)):
        tiny = np.abs(points[(points != 0.0) & (np.abs(points) < SMALLEST_COORDINATE)]).min()
        raise InvalidInputError(
            f"{name} has points that differ only in coordinates as small as {tiny:.3g} (in lengthscales): their "
            f"squares underflow, and no distance tells them apart. Multiply the data, so that what differs is at least "
            f"{SMALLEST_COORDINATE:.1g}, or set what is smaller to 0."
        )


def has_tiny(points: FloatArray) -> bool:
    """Whether some coordinates are not 0, but smaller than `SMALLEST_COORDINATE`."""
    size = np.abs(points)
    if size.min(initial=np.inf) >= SMALLEST_COORDINATE:  # no zeros either, as most points have none
        return False
    return bool(np.count_nonzero((size < SMALLEST_COORDINATE) & (size > 0.0)))


def check_rows(rows: ArrayLike, n: int, name: str) -> IntArray:
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
    if not issubclass(array.dtype.type, np.integer):
        hint = " Give np.flatnonzero(mask) for a mask." if array.dtype.kind == "b" else ""
        raise InvalidInputError(f"{name} must be integer rows, got dtype {array.dtype}.{hint}")
    rows = array.astype(np.int64)
    if rows.view(np.uint64).max() >= n:  # negative ones are the largest
        at = int(np.argmax((array < 0) | (array >= n)))
        raise InvalidInputError(f"{name} must be rows from 0 to {n - 1}, got {array[at]} at position {at}.")
    return rows


def check_order(order: ArrayLike, count: int, n: int) -> IntArray:
    """An order of `count` of the rows from 0 to n - 1, each once, as int64.

    Raises
    ------
    InvalidInputError
        If it has another length, holds no rows, or one twice.
    """
    array = as_array(order, "order")
    if array.ndim != 1 or len(array) != count:
        raise InvalidInputError(f"order must be a permutation of all rows, shape ({count},), got shape {array.shape}.")
    array = check_rows(array, n, "order")
    times = np.bincount(array)
    if times.max(initial=0) > 1:
        raise InvalidInputError(
            f"order must be a permutation of all rows, each once; it names row {np.argmax(times > 1)} "
            f"{times.max()} times. If these are ranks, give np.argsort(ranks)."
        )
    return array


def check_flag(value: object, name: str) -> bool:
    """`value` as a bool.

    Raises
    ------
    InvalidInputError
        If it is something else, such as a word that only looks like one.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_k(k: object, most: int, what: str) -> int:
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


def check_max_per_site(most: object) -> int | None:
    """How many neighbours may share a site, as an int of at least 1; None for any number.

    Raises
    ------
    InvalidInputError
    """
    if most is None:
        return None
    if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 1:
        raise InvalidInputError(f"max_per_site must be an integer, 1 or above, or None for any number; got {most!r}.")
    return int(most)
