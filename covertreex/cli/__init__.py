"""The command line. Each command is a module that says what it does to people; the work is done in the library.

Commands of other packages are found through the entry points `covertreex.commands` (`covertreex.cli.plugins`).

Exit codes: 0 all is well; 1 what was checked is not right; 2 the command cannot be carried out as given; 130 Ctrl-C.
"""

from functools import cached_property
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from covertreex._version import __version__
from covertreex.cli import backends, doctor, neighbors, plugins
from covertreex.errors import CovertreexError


class _Commands(TyperGroup):
    """Adds the commands of other packages, and turns the library's errors into one line on stderr and exit code 2."""

    # Contexts and commands are click's, of which some releases of typer have a copy of their own: no name fits all.

    @cached_property
    def _offers(self) -> dict[str, plugins.Offer]:
        return plugins.offers()

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in self._offers if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        return self._offers[cmd_name].command if own is None and cmd_name in self._offers else own

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            # Typer suggests names of the commands that it finds here.
            self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CovertreexError as error:
            typer.echo(f"covertreex: {error}", err=True)
        except MemoryError as error:
            typer.echo(f"covertreex: out of memory: {error}. Use fewer points or inducing points.", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well; 1 what was checked is not right; 2 the command cannot be carried out as given; "
    "130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"covertreex {__version__}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Nearest neighbours for Gaussian processes: the k points most correlated with each point once the inducing points
    have explained what they can."""


app.command("neighbors")(neighbors.neighbors)
app.command("backends")(backends.backends)
app.command("doctor")(doctor.doctor)
