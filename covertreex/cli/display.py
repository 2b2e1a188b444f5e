"""How commands speak: results on stdout, what is going on and what went wrong on stderr."""

import enum
import json
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import typer

from covertreex.errors import InvalidInputError
from covertreex.kernels import KERNELS
from covertreex.settings import PROFILES

#: Choices of options, so that help texts and errors list what the library has.
KernelName = enum.Enum("KernelName", {name: name for name in KERNELS}, type=str)
ProfileName = enum.Enum("ProfileName", {name: name for name in PROFILES}, type=str)
KERNEL_LIST, PROFILE_LIST = ", ".join(KERNELS), ", ".join(PROFILES)

#: Columns from which a terminal shows the last column of a table, too.
WIDE = 110


class Steps:
    """Says on stderr what is being done, each line with the seconds since the start; remembers how long steps took."""

    def __init__(self):
        self.begin = time.perf_counter()
        self.took = {}

    def __call__(self, text):
        typer.echo(f"{time.perf_counter() - self.begin:7.1f} s  {text}", err=True)

    def timed(self, name, text):
        """A context manager around a step: announces `text`, and keeps the duration under `name`."""
        return _Step(self, name, text)


class _Step:
    def __init__(self, steps, name, text):
        self.steps, self.name, self.text = steps, name, text

    def __enter__(self):
        self.steps(self.text)
        self.begin = time.perf_counter()

    def __exit__(self, *exception):
        self.steps.took[self.name] = time.perf_counter() - self.begin


def write_json(value, file, indent=2):
    """Write what can become JSON to a file, whole or not at all; ``-`` for stdout."""
    from covertreex import tables

    text = json.dumps(value, indent=indent) + "\n"
    if str(file) == "-":
        typer.echo(text, nl=False)
    else:
        with tables.replacing(file) as whole:
            whole.write(text)


def console(stderr=False):
    """A rich console that leaves numbers and brackets alone."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def plain_table(*columns):
    """A table without vertical lines; columns are (header, justify), and the first is never broken."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, (header, justify) in enumerate(columns):
        table.add_column(header, justify=justify, overflow="fold", no_wrap=number == 0)
    return table


@dataclass(frozen=True)
class Grid:
    """A table for the screen and for Markdown: (header, justify) of each column, and rows of text."""

    columns: list
    rows: list

    def on_terminal(self, width=None):
        """A rich table of the first `width` columns."""
        table = plain_table(*self.columns[:width])
        for row in self.rows:
            table.add_row(*row[:width])
        return table

    def markdown(self):
        """Lines of a Markdown table whose source can be read, too."""
        lines = [
            [header.replace("/\n", "/").replace("\n/", "/").replace("\n", " ") for header, _ in self.columns],
            *self.rows,
        ]
        lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.columns))]
        right = [justify == "right" for _, justify in self.columns]
        rule = ["-" * (width - 1) + ":" if flush else "-" * width for width, flush in zip(widths, right, strict=True)]
        for line in (lines[0], rule, *lines[1:]):
            cells = zip(line, widths, right, strict=True)
            yield "| " + " | ".join(c.rjust(w) if flush else c.ljust(w) for c, w, flush in cells) + " |"


def fact_table(facts):
    """Names and values side by side."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, str(value))
    return table


def command_line(context):
    """The command as a person may type it again; of a path outside the current folder, the name alone."""
    parts = ["covertreex", context.info_name]
    for parameter in context.command.params:
        # By name: typer may carry a copy of click of its own.
        source = context.get_parameter_source(parameter.name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name]
        if isinstance(value, bool):
            parts.append(parameter.opts[0] if value else parameter.secondary_opts[0])
            continue
        if parameter.param_type_name == "option":
            parts.append(parameter.opts[0])
        for one in value if isinstance(value, (list, tuple)) else [value]:
            outside = isinstance(one, Path) and (one.is_absolute() or ".." in one.parts)
            parts.append(one.name if outside else str(getattr(one, "value", one)))
    return shlex.join(parts)


def share(value):
    """A recall for people: 1.0 only if it is exactly 1.

    Examples
    --------
    >>> share(1.0), share(0.99999999)
    ('1.0', '0.999999')
    """
    return "1.0" if value == 1.0 else f"{math.floor(value * 1e6) / 1e6:.6f}"


def duration(seconds):
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


def numbers(text, name):
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


def names(text):
    """The parts of a comma list, None for None."""
    return None if text is None else [part.strip() for part in text.split(",")]


def make_kernel(name, lengthscale, variance=1.0, alpha=None):
    """The kernel called `name`.

    Raises
    ------
    InvalidInputError
        If `alpha` is given to a kernel without one, or a parameter is out of range.
    """
    extra = {}
    if alpha is not None:
        if name != "rationalquadratic":
            raise InvalidInputError(f"alpha belongs to the kernel rationalquadratic; {name} has none.")
        extra = {"alpha": alpha}
    return KERNELS[name](lengthscale=lengthscale, variance=variance, **extra)
