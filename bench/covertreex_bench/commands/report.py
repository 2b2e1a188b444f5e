"""``covertreex report``: a page, with pictures, of what ``covertreex bench`` measured."""

from pathlib import Path
from typing import Annotated

import typer

from covertreex_bench.writing import command_line


def report(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE.json...", help='What "covertreex bench --json" wrote.')],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.md", help="Page to write; pictures are put beside it.")
    ] = Path("performance.md"),
):
    """Write a page of what "covertreex bench --json" measured, with a picture of each suite beside it.

    Files of one suite are put together, so that a long suite can be run in parts (--n, --series); of two that have the
    same question in the same size, the one named later counts. Needs matplotlib.
    """
    from covertreex.io import tables
    from covertreex_bench.speed import pictures, results
    from covertreex_bench.speed.page import Page

    tables.check_output(output, (".md",))
    suites = results.merge([results.read(path) for path in files])
    pictures.check_matplotlib()
    page = Page(suites, output.stem, command_line(context))
    for suite in suites:
        with tables.replacing(output.with_name(page.picture(suite)), "wb") as file:
            pictures.draw(suite, file)
    with tables.replacing(output) as file:
        file.write(page.markdown())
    for suite in suites:
        typer.echo(f"{output.with_name(page.picture(suite))}")
    typer.echo(f"{output}")
