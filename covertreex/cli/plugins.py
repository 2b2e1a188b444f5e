"""Commands that other packages add to ``covertreex``, each by an entry point of the group `covertreex.commands`.

An entry point names a function, whose signature typer reads, or a `typer.Typer` with commands of its own. Nothing is
loaded before it is listed or called, and one that cannot be loaded says so in its own line and in no other's way.
"""

from importlib import metadata

import typer
from typer.main import get_command

from covertreex.errors import CovertreexError

GROUP = "covertreex.commands"


def names():
    """Names of all commands found, in alphabetical order."""
    return sorted({entry.name for entry in metadata.entry_points(group=GROUP)})


def command(name):
    """The command called `name`; None if nobody offers one.

    One that cannot be loaded is a command, too: its help, and its error when it is called, is the reason.
    """
    entries = list(metadata.entry_points(group=GROUP, name=name))
    if not entries:
        return None
    if len(entries) > 1:
        packages = " and ".join(sorted(_package(entry) for entry in entries))
        return _broken(name, f"{packages} both offer the command {name}; uninstall all but one")
    try:
        return _make(name, entries[0].load())
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _broken(name, f"the command {name} of {_package(entries[0])} cannot be loaded: {reason}")


def _package(entry):
    return entry.dist.name if entry.dist is not None else entry.value


def _make(name, found):
    """A command from what an entry point names."""
    if not isinstance(found, typer.Typer):
        one = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        one.command(name)(found)
        found = one
    made = get_command(found)
    made.name = name
    return made


def _broken(name, reason):
    """A command that takes any arguments and fails, for this reason."""

    def fail():
        raise CovertreexError(f"{reason}.")

    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    one.command(name, help=f"{reason[0].upper()}{reason[1:]}.", context_settings=settings)(fail)
    return get_command(one)
