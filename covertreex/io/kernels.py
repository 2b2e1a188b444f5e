"""A kernel as a part of a JSON document, and its tables as arrays; and back.

A kernel that is evaluated by tables is stored with them: what is loaded answers as what was saved did, whatever makes
tables then, and a function of the caller's, which no file can hold, is its table from then on.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from covertreex.base.contract import CALLED, EXPRESSION
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.errors import FileFormatError, InvalidInputError
from covertreex.io.container import REPAIR, check_keys, require
from covertreex.kernels import Expression, Kernel, Table
from covertreex.kernels.checks import OPTIONAL
from covertreex.kernels.expression import ARRAYS
from covertreex.kernels.table import HIGHEST, LOWEST, PIECES, TERMS

#: Kernels in kernels, and what lists may hold.
DEEPEST, LONGEST = 32, 4096

#: Parameters that may be names, or none.
NAMED = ("active_dims", "space_dims", "time_dims", "lonlat", "name", "breakpoints")

#: Numbers and coefficients of tables in a file are at most this.
LARGEST_COEFFICIENT = 1e6

#: How far tables that are made anew may be from those of a file.
ALIKE = 1e-10

#: What fields are called in a document whose own name has another meaning there.
KEYS = {"name": "called"}

_STORED = tuple(name for name in ARRAYS if name != "group_stop")


class Source(Protocol):
    """Where arrays come from: `covertreex.io.description.Arrays`."""

    def take(self, name: str, dtype: DTypeLike, shape: tuple[int | None, ...]) -> AnyArray: ...

    def numbers(self, name: str, shape: tuple[int | None, ...], low: float = ..., high: float = ...) -> FloatArray: ...

    def places(self, name: str, shape: tuple[int | None, ...], stop: int, start: int = 0) -> IntArray: ...


def _classes() -> dict[str, type[Kernel]]:
    """Kernels that there are, by the names of their classes in lower case; strangers' too, once they are imported."""

    def below(cls: type[Kernel]) -> Iterator[type[Kernel]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    return {
        cls.__name__.lower(): cls
        for cls in below(Kernel)
        if hasattr(cls, "__dataclass_fields__") and cls.code != CALLED
    }


def describe_kernel(kernel: Kernel, arrays: dict[str, AnyArray]) -> dict[str, Any]:
    """A kernel for a document; adds its tables to `arrays`.

    Raises
    ------
    InvalidInputError
        If it is no kernel that a file can hold.
    """
    tables: list[Table] = []
    if kernel.code == CALLED:
        raise InvalidInputError(
            "a file cannot hold a Covariance of your own: keep the points, and make the tree again from your function."
        )
    if kernel.code == EXPRESSION or kernel.expression is not None:
        expression = kernel.expression
        assert expression is not None
        arrays |= {f"kernel.{name}": getattr(expression, name) for name in _STORED}
        tables = expression.tables
    return _document(kernel, tables)


def _document(kernel: Kernel, tables: list[Table]) -> dict[str, Any]:
    name = type(kernel).__name__.lower()
    if _classes().get(name) is not type(kernel):
        raise InvalidInputError(f"a file cannot hold {kernel!r}: there is another kernel of that name.")
    document: dict[str, Any] = {"name": name}
    for field in fields(kernel):  # type: ignore[arg-type]
        value = getattr(kernel, field.name)
        if field.name in OPTIONAL and value is None:
            continue
        key = KEYS.get(field.name, field.name)
        if callable(value) and not isinstance(value, Kernel):
            document[key] = {"table": _place(kernel, tables)}
        else:
            document[key] = _value(value, tables)
    return document


def _place(kernel: Kernel, tables: list[Table]) -> int:
    """Which of `tables` is that of a kernel with a function of the caller's."""
    own = kernel.table  # type: ignore[attr-defined]
    return next(i for i, table in enumerate(tables) if np.array_equal(table.pieces, own.pieces))


def _value(value: Any, tables: list[Table]) -> Any:
    if isinstance(value, Kernel):
        return _document(value, tables)
    if isinstance(value, tuple):
        return [_value(part, tables) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def assemble_kernel(document: Any, arrays: Source) -> Kernel:
    """The kernel that `describe_kernel` described, with the tables that it was stored with."""
    expression = _assemble_expression(arrays) if _has_tables(document) else None
    kernel = _kernel(document, [] if expression is None else expression.tables, 0)
    require((kernel.code == EXPRESSION) == (expression is not None), "the kernel's tables are missing, or are too many")
    if expression is not None:
        if any(getattr(part, "function", part) is not None for part in kernel.parts_within()):
            _compare(kernel, expression)
        _attach(kernel, expression)
    return kernel


def _class(document: Any) -> type[Kernel]:
    name = document.get("name") if isinstance(document, dict) else None
    cls = _classes().get(name) if isinstance(name, str) else None
    require(cls is not None, f"the kernel {name!r} is none of {', '.join(_classes())}; import the module that has it")
    assert cls is not None
    return cls


def _has_tables(document: Any) -> bool:
    code: Any = _class(document).code
    if isinstance(code, property):  # some kernels of this class are closed forms
        code = _kernel(document, [], 0).code
    return bool(code == EXPRESSION)


def _kernel(document: Any, tables: list[Table], depth: int) -> Kernel:
    cls = _class(document)
    require(depth < DEEPEST, "kernels are nested too deeply")
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    keys = {KEYS.get(name, name): name for name in names}
    check_keys(document, "the kernel", "name", *(key for key in keys if key not in OPTIONAL or key in document))
    given = {keys[key]: _read(document[key], tables, depth, keys[key] in NAMED) for key in document if key != "name"}
    try:
        return cls(**given)
    except InvalidInputError as error:
        raise FileFormatError(f"the kernel makes no sense: {error} {REPAIR}") from None


def _read(value: Any, tables: list[Table], depth: int, named: bool = False) -> Any:
    if isinstance(value, dict) and set(value) == {"table"}:
        place = value["table"]
        require(type(place) is int and 0 <= place < len(tables), f"the kernel has no table {place!r}")
        return tables[place]
    if isinstance(value, dict):
        return _kernel(value, tables, depth + 1)
    if isinstance(value, list):
        require(0 < len(value) <= LONGEST, "a list of the kernel is empty or too long")
        return tuple(_read(part, tables, depth, named) for part in value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    good = number or (named and (value is None or isinstance(value, str)))
    require(good, f"kernel parameters must be numbers, but one is {value!r}")
    return value


def _assemble_expression(arrays: Source) -> Expression:
    """Everything that a kernel relies on is in range."""
    tables = arrays.take("kernel.table_first", np.int64, (None,))
    bits = (np.ldexp(1.0, [LOWEST, HIGHEST + 1]).view(np.int64) >> 47) + np.array([-1, 1])
    require(np.all((tables >= bits[0]) & (tables <= bits[1])), "a table begins where no squared distance can be")
    pieces = arrays.numbers("kernel.pieces", (None, TERMS), -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
    terms = arrays.take("kernel.term_stop", np.int64, (None,))
    factors = arrays.take("kernel.factor_table", np.int64, (None,))
    table_stop = arrays.take("kernel.table_stop", np.int64, (len(tables),))
    _stops("kernel.table_stop", table_stop, len(pieces), 2)
    _stops("kernel.term_stop", terms, len(factors), 1)
    longest = (HIGHEST - LOWEST + 2) * PIECES + 2
    require(np.all(np.diff(table_stop, prepend=0) <= longest), "a table has too many pieces")
    require(np.all((factors >= 0) & (factors < len(tables))), "a factor of the kernel has no table")
    groups = arrays.places("kernel.factor_group", (len(factors),), LONGEST)
    by = arrays.places("kernel.rescale_table", (len(factors),), len(tables), start=-1)
    of = arrays.places("kernel.rescale_group", (len(factors),), LONGEST, start=-1)
    require(np.array_equal(by < 0, of < 0), "a factor of the kernel is rescaled by half a table")
    weight = arrays.numbers("kernel.weight", (len(terms),), 0.0, 1.0)
    total = 0.0
    for one in weight:
        total = total + one
    require(total == 1.0, "the weights of the kernel do not sum up to 1")
    error = arrays.numbers("kernel.error", (len(tables),), 0.0, 1.0)
    return Expression(
        np.zeros(0, dtype=np.int64), terms, weight, groups, factors, of, by, tables, table_stop, pieces, error
    )


def _stops(name: str, stops: IntArray, total: int, least: int) -> None:
    good = np.all(np.diff(stops, prepend=0) >= least) and stops[-1] == total
    require(good, f"the array {name!r} does not cut what it cuts into parts")


def _compare(kernel: Kernel, stored: Expression) -> None:
    """Tables of a file are those of its kernel, but for what other versions of libraries may change."""
    made = kernel.expression
    assert made is not None
    same = all(
        np.array_equal(getattr(made, name), getattr(stored, name))
        for name in ("term_stop", "factor_group", "factor_table", "rescale_group", "rescale_table")
    )
    require(same and len(made.tables) == len(stored.tables), "the tables are not of the kernel that is described")
    t = np.ldexp(1.0, np.arange(-60, 60)) * 1.37
    for ours, theirs in zip(made.tables, stored.tables, strict=True):
        require(np.max(np.abs(ours(t) - theirs(t))) <= ALIKE, "a table has not the values of the kernel's function")
    require(np.allclose(made.weight, stored.weight, rtol=1e-12), "the weights are not of the kernel's variances")


def _attach(kernel: Kernel, expression: Expression) -> None:
    """The kernel answers by these tables from now on."""
    for part in (kernel, getattr(kernel, "kernel", kernel)):
        vars(part)["expression"] = expression
        vars(part).pop("_expressions", None)
