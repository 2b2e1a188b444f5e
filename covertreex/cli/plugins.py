"""Commands that other packages add to ``covertreex``, each by an entry point of the group `covertreex.commands`.

An entry point names a function, whose signature typer reads, or a `typer.Typer` with commands of its own. Nothing is
loaded before it is listed or called, and one that cannot be loaded says so in its own line and is in no other's way.
"""

from importlib import metadata

import typer
from typer.main import get_command

from covertreex.errors import CovertreexError

GROUP = "covertreex.commands"


def names():
    """Names of all commands found, in alphabetical order; nothing is loaded."""
    return sorted({entry.name for entry in metadata.entry_points(group=GROUP)})


def command(name):
    """The command called `name`; None if nobody offers one.

    One that cannot be loaded is a command, too: its help, and its error when it is called, is the reason.
    """
    found = {(entry.value, _owner(entry)): entry for entry in metadata.entry_points(group=GROUP, name=name)}
    if not found:
        return None
    owners = sorted(owner for _, owner in found)
    if len(found) > 1:
        return _broken(name, f"the command {name} is claimed by {' and '.join(owners)}; uninstall all but one")
    (entry,) = found.values()
    # SystemExit too: a package that leaves Python on import must not take the other commands along.
    try:
        return _make(name, entry.load())
    except (Exception, SystemExit) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return _broken(name, f"the command {name} of {owners[0]} cannot be loaded: {why}; reinstall {owners[0]}")


def _owner(entry):
    """Name of the distribution that an entry point belongs to."""
    return entry.dist.name if entry.dist is not None else "an unknown package"


def _make(name, found):
    """A command from what an entry point names."""
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode="markdown")
        found.command(name)(function)
    made = get_command(found)
    made.name = name
    return made


def _broken(name, reason):
    """A command that takes any arguments and fails, for this reason."""

    def fail():
        raise CovertreexError(f"{reason}.")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    one = typer.Typer(add_completion=False)
    one.command(name, help=f"{reason[0].upper()}{reason[1:]}.", context_settings=anything)(fail)
    return get_command(one)
