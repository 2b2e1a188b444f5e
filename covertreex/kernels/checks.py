"""Checks of the parameters of kernels, and their forms: numbers as floats, sequences as tuples."""

from numbers import Integral, Real
from typing import Any

import numpy as np

from covertreex.errors import InvalidInputError
from covertreex.kernels.columns import Matrix, check_matrix

SMALLEST, LARGEST = 1e-100, 1e100

#: Fields of a kernel that are mostly None, and then neither shown nor stored.
OPTIONAL = ("active_dims", "lonlat")


def positive(name: str, value: Any, low: float = SMALLEST, high: float = LARGEST) -> float:
    """`value` as a float, if it is a number from `low` to `high`."""
    if hasattr(value, "detach"):  # a tensor, which may warn that numbers have no gradient
        value = value.detach()
    if isinstance(value, np.complexfloating):  # of which float() drops the imaginary part
        raise InvalidInputError(f"{name} must be a real number, got {value!r}.")
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):  # float() would take some of them
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"{name} must be a number, got {value!r}.") from None
    # float() drops digits without a word.
    if (isinstance(value, Integral) and int(value) != number) or (isinstance(value, np.floating) and value != number):
        raise InvalidInputError(
            f"{name} = {value} has digits that float64, which is used here, would round. Give float({name}) if the "
            "rounded number will do."
        )
    if (low, high) == (SMALLEST, LARGEST):
        if not low <= number <= high:
            raise InvalidInputError(
                f"{name} must be positive and finite (between {low:g} and {high:g}), got {number!r}. "
                "Rescale the data if its units are extreme."
            )
    elif not low <= number <= high:
        raise InvalidInputError(f"{name} must be from {low:g} to {high:g}, got {number!r}.")
    return number


def radius_of_sphere(given: Any) -> float | None:
    """The radius that a `lonlat` stands for: True is 1, None and False are no sphere."""
    if given is None or given is False:
        return None
    return positive("lonlat, the radius of the sphere,", 1.0 if given is True else given)


def lengthscale_of(given: Any) -> float | tuple[float, ...] | Matrix:
    """A number, one per axis, or the rows of a matrix; checked."""
    try:
        shape = np.shape(given)
    except ValueError:
        raise InvalidInputError(f"lengthscale must be a matrix with rows of one length, got {given!r}.") from None
    if shape == ():
        return positive("lengthscale", given)
    if not isinstance(given, (list, tuple)):
        given = list(given)  # and not an array, which a tensor that requires grad refuses to be
    if len(shape) == 1 and shape[0]:
        return tuple(positive(f"lengthscale[{i}]", v) for i, v in enumerate(given))
    if len(shape) == 2 and shape[0] == shape[1]:
        matrix = tuple(
            tuple(_signed(f"lengthscale[{i}][{j}]", v) for j, v in enumerate(row)) for i, row in enumerate(given)
        )
        check_matrix(matrix)
        return matrix
    raise InvalidInputError(
        f"lengthscale must be a number, a square matrix, or a sequence of one per axis, got shape {shape}."
    )


def _signed(name: str, value: Any) -> float:
    """`value` as a float, if it is 0, or `positive` but for its sign."""
    if not isinstance(value, (Real, np.number)) or isinstance(value, np.complexfloating) or not value < 0:
        return 0.0 if isinstance(value, Real) and value == 0 else positive(name, value)
    return -positive(name, -value)


def active_dims_of(given: Any) -> tuple[int | str, ...] | None:
    if given is None:
        return None
    listed = [given] if isinstance(given, (str, Integral)) else list(given)
    out: list[int | str] = []
    for column in listed:
        if isinstance(column, str):
            out.append(column)
        elif isinstance(column, Integral) and not isinstance(column, bool) and int(column) >= 0:
            out.append(int(column))
        else:
            raise InvalidInputError(
                f"active_dims must be numbers of columns from 0, or names of columns, got {given!r}."
            )
    if not out or len(set(out)) != len(out):
        raise InvalidInputError(f"active_dims must name at least one column, and none twice; got {given!r}.")
    return tuple(out)


def numbered(dims: tuple[int | str, ...] | None, names: tuple[str, ...] | None) -> tuple[int | str, ...] | None:
    """Columns by number."""
    if dims is None or not any(isinstance(column, str) for column in dims):
        return dims
    if names is None:
        name = next(column for column in dims if isinstance(column, str))
        raise InvalidInputError(
            f"active_dims has the name {name!r}, but the data has no names for its columns. Give a DataFrame, or "
            "numbers of columns from 0."
        )
    missing = [column for column in dims if isinstance(column, str) and column not in names]
    if missing:
        raise InvalidInputError(
            f"active_dims has {', '.join(map(repr, missing))}, but the data has the columns "
            f"{', '.join(map(repr, names))}."
        )
    numbers = tuple(names.index(column) if isinstance(column, str) else column for column in dims)
    if len(set(numbers)) != len(numbers):
        raise InvalidInputError(f"active_dims {dims!r} names a column twice, by its name and its number.")
    return numbers
