"""How commands speak: results on stdout, what is going on and what went wrong on stderr."""

import enum
import json
import math
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from covertreex.errors import InvalidInputError
from covertreex.io import tables
from covertreex.kernels import Kernel, named_kernels
from covertreex.kernels.checks import OPTIONAL
from covertreex.settings import PROFILES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Choices of options, so that help texts and errors list what the library has: a type checker cannot know their names.
KernelName = enum.Enum("KernelName", {name: name for name in named_kernels()}, type=str)  # type: ignore[misc]
ProfileName = enum.Enum("ProfileName", {name: name for name in PROFILES}, type=str)  # type: ignore[misc]
KERNEL_LIST, PROFILE_LIST = ", ".join(named_kernels()), ", ".join(PROFILES)


#: The option ``--json``, of every command that finds something out.
JsonFile: TypeAlias = Annotated[
    Path | None, typer.Option("--json", metavar="FILE|-", help="Write the figures as JSON; - for stdout.")
]


class Steps:
    """Says on stderr what is being done, each line with the seconds since the start; remembers how long steps took."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.took: dict[str, float] = {}

    def __call__(self, text: str) -> None:
        typer.echo(f"{time.perf_counter() - self.begin:7.1f} s  {text}", err=True)

    def timed(self, name: str, text: str) -> "_Step":
        """A context manager around a step: announces `text`, and keeps the duration under `name`."""
        return _Step(self, name, text)


class _Step:
    def __init__(self, steps: Steps, name: str, text: str) -> None:
        self.steps, self.name, self.text = steps, name, text

    def __enter__(self) -> None:
        self.steps(self.text)
        self.begin = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.steps.took[self.name] = time.perf_counter() - self.begin


def console(stderr: bool = False) -> "Console":
    """A rich console that leaves numbers and brackets alone."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def console_beside(json_file: Path | None) -> "Console":
    """The console for people: stderr where stdout is for JSON. Whether its file can be written is found out now."""
    if json_file is not None and str(json_file) != "-":
        tables.check_output(json_file)
    return console(stderr=str(json_file) == "-")


def write_json(value: object, file: Path | str | None, indent: int = 2) -> None:
    """Write what can become JSON to a file, whole or not at all; ``-`` for stdout, None for nowhere."""
    text = json.dumps(value, indent=indent) + "\n"
    if str(file) == "-":
        typer.echo(text, nl=False)
    elif file is not None:
        with tables.replacing(file) as whole:
            whole.write(text)


def plain_table(*columns: tuple[str, Any]) -> "Table":
    """A table without vertical lines; columns are (header, justify), and the first is never broken."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, (header, justify) in enumerate(columns):
        table.add_column(header, justify=justify, overflow="fold", no_wrap=number == 0)
    return table


def fact_table(facts: Iterable[tuple[str, object]]) -> "Table":
    """Names and values side by side."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, str(value))
    return table


def share(value: float) -> str:
    """A recall for people: 1.0 only if it is exactly 1.

    Examples
    --------
    >>> share(1.0), share(0.99999999)
    ('1.0', '0.999999')
    """
    return "1.0" if value == 1.0 else f"{math.floor(value * 1e6) / 1e6:.6f}"


def duration(seconds: float | None) -> str:
    """Seconds with three digits.

    Examples
    --------
    >>> duration(0.01234), duration(3.21), duration(123.4), duration(None)
    ('0.012', '3.21', '123', '-')
    """
    if seconds is None:
        return "-"
    return (
        f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.{int(seconds < 100)}f}"
    )


def numbers(text: str, name: str) -> float | tuple[float, ...] | tuple[tuple[float, ...], ...]:
    """A number, a tuple of those between commas, or a matrix of rows between semicolons.

    Raises
    ------
    InvalidInputError
        If a part is not a number.

    Examples
    --------
    >>> numbers("0.5", "lengthscale"), numbers(".35,.4", "lengthscale"), numbers("1,0;2,1", "lengthscale")
    (0.5, (0.35, 0.4), ((1.0, 0.0), (2.0, 1.0)))
    """
    try:
        rows = tuple(tuple(float(part) for part in row.split(",")) for row in str(text).split(";"))
    except ValueError:
        raise InvalidInputError(f"{name} must be a number, or numbers between commas; got {text!r}.") from None
    if len(rows) > 1:
        return rows
    return rows[0][0] if len(rows[0]) == 1 else rows[0]


def names(text: str | None) -> list[str] | None:
    """The parts of a comma list, None for None."""
    return None if text is None else [part.strip() for part in text.split(",")]


def parameters(listed: list[str] | None, **named: float | None) -> dict[str, Any]:
    """Parameters of a kernel from ``name=value`` texts, and from options of their own, None for those not given.

    Raises
    ------
    InvalidInputError
        If a text is something else, or a parameter is given twice.

    Examples
    --------
    >>> parameters(["nu=0.8", "period=1,7"], alpha=2.0, power=None)
    {'alpha': 2.0, 'nu': 0.8, 'period': (1.0, 7.0)}
    """
    found: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for text in listed or []:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise InvalidInputError(f"--param takes name=value, such as nu=0.8; got {text!r}.")
        if name in ("lengthscale", "variance", "name", *OPTIONAL):
            raise InvalidInputError(f"{name} has an option of its own; --param is for what a kernel has besides.")
        if name in found:
            raise InvalidInputError(f"{name} is given twice.")
        found[name] = numbers(value, name)
    return found


def make_kernel(
    name: str,
    lengthscale: Any,
    variance: float = 1.0,
    alpha: float | None = None,
    active_dims: Any = None,
    **shape: Any,
) -> Kernel:
    """The kernel called `name`, with parameters of its own in `shape`.

    Raises
    ------
    InvalidInputError
        If a parameter is given to a kernel without it, or is out of range.

    Examples
    --------
    >>> make_kernel("rationalquadratic", 0.5, alpha=2.0)
    RationalQuadratic(lengthscale=0.5, variance=1.0, alpha=2.0)
    """
    shape = parameters(None, alpha=alpha) | shape
    own = {cls_name: _shape_of(cls) for cls_name, cls in named_kernels().items()}
    for parameter in shape:
        if parameter not in own[name]:
            owners = [other for other, known in own.items() if parameter in known]
            if not owners:
                listed = ", ".join(own[name]) or "none"
                raise InvalidInputError(f"no kernel has a parameter {parameter!r}; those of {name}: {listed}.")
            raise InvalidInputError(
                f"{parameter} belongs to the kernel{'s' * (len(owners) > 1)} {', '.join(owners)}; {name} has none."
            )
    make: Any = named_kernels()[name]
    if active_dims is not None:
        shape["active_dims"] = active_dims
    kernel: Kernel = make(lengthscale=lengthscale, variance=variance, **shape)
    return kernel


def _shape_of(cls: type) -> list[str]:
    """The parameters of a kernel but for those that all have."""
    return [f.name for f in fields(cls) if f.name not in ("lengthscale", "variance", *OPTIONAL)]
