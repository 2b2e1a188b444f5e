"""How commands speak: results on stdout, what is going on and what went wrong on stderr."""

import enum
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel, named_kernels
from covertreex.settings import PROFILES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Choices of options, so that help texts and errors list what the library has: a type checker cannot know their names.
KernelName = enum.Enum("KernelName", {name: name for name in named_kernels()}, type=str)  # type: ignore[misc]
ProfileName = enum.Enum("ProfileName", {name: name for name in PROFILES}, type=str)  # type: ignore[misc]
KERNEL_LIST, PROFILE_LIST = ", ".join(named_kernels()), ", ".join(PROFILES)


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


def numbers(text: str, name: str) -> float | tuple[float, ...]:
    """A number, or a tuple of those between commas.

    Raises
    ------
    InvalidInputError
        If a part is not a number.

    Examples
    --------
    >>> numbers("0.5", "lengthscale"), numbers(".35,.4", "lengthscale")
    (0.5, (0.35, 0.4))
    """
    try:
        values = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        raise InvalidInputError(f"{name} must be a number, or numbers between commas; got {text!r}.") from None
    return values[0] if len(values) == 1 else values


def names(text: str | None) -> list[str] | None:
    """The parts of a comma list, None for None."""
    return None if text is None else [part.strip() for part in text.split(",")]


def make_kernel(
    name: str, lengthscale: float | tuple[float, ...], variance: float = 1.0, alpha: float | None = None
) -> Kernel:
    """The kernel called `name`.

    Raises
    ------
    InvalidInputError
        If `alpha` is given to a kernel without one, or a parameter is out of range.
    """
    extra: dict[str, Any] = {}
    if alpha is not None:
        if name != "rationalquadratic":
            raise InvalidInputError(f"alpha belongs to the kernel rationalquadratic; {name} has none.")
        extra = {"alpha": alpha}
    return named_kernels()[name](lengthscale=lengthscale, variance=variance, **extra)
