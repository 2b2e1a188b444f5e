"""How figures reach people: tables for terminals and for Markdown, and the command that repeats them."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from covertreex.cli import display

#: Columns from which a terminal shows the last column of a table, too.
WIDE = 110


@dataclass(frozen=True)
class Grid:
    """A table for the screen and for Markdown: (header, justify) of each column, and rows of text."""

    columns: list[tuple[str, str]]
    rows: list[list[str]]

    def on_terminal(self, width: int | None = None):
        """A rich table of the first `width` columns."""
        table = display.plain_table(*self.columns[:width])
        for row in self.rows:
            table.add_row(*row[:width])
        return table

    def markdown(self) -> Iterator[str]:
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


def command_line(context: typer.Context) -> str:
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
