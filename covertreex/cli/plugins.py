"""Commands that other packages add to ``covertreex``, each by an entry point of the group `covertreex.commands`.

An entry point names a function, whose signature typer reads, or a `typer.Typer` with commands of its own. Nothing is
loaded before it is listed or called, and one that cannot be loaded says so in its own line and is in no other's way.
"""

from functools import cached_property
from importlib import metadata
from typing import Any

import typer
from typer.main import get_command

from covertreex.errors import CovertreexError

GROUP = "covertreex.commands"


def offers() -> "dict[str, Offer]":
    """An `Offer` by name, in alphabetical order; nothing is loaded."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return {name: Offer(name, found[name]) for name in sorted(found)}


class Offer:
    """A command that other packages offer: the entry points of its name."""

    def __init__(self, name: str, entries: list[metadata.EntryPoint]) -> None:
        self.name = name
        self.entries = {(entry.value, _owner(entry)): entry for entry in entries}

    @cached_property
    def command(self) -> Any:
        """The command, loaded. One that cannot be is a command, too: its help, and its error, is the reason."""
        owners = sorted(owner for _, owner in self.entries)
        if len(owners) > 1:
            claim = f"the command {self.name} is claimed by {' and '.join(owners)}"
            return _broken(self.name, f"{claim}; uninstall all but one")
        (entry,) = self.entries.values()
        # SystemExit too: a package that leaves Python on import must not take the other commands along.
        try:
            return _make(self.name, entry.load())
        except (Exception, SystemExit) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            about = f"the command {self.name} of {owners[0]} cannot be loaded"
            return _broken(self.name, f"{about}: {why}; reinstall {owners[0]}")


def _owner(entry: metadata.EntryPoint) -> str:
    """Name of the distribution that an entry point belongs to."""
    return entry.dist.name if entry.dist is not None else "an unknown package"


# Commands are click's, of which some releases of typer have a copy of their own: no name of their class fits all.


def _make(name: str, found: Any) -> Any:
    """A command from what an entry point names."""
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode="markdown")
        found.command(name)(function)
    made = get_command(found)
    made.name = name
    return made


def _broken(name: str, reason: str) -> Any:
    """A command that takes any arguments and fails, for this reason."""

    def fail() -> None:
        raise CovertreexError(f"{reason}.")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    one = typer.Typer(add_completion=False)
    one.command(name, help=f"{reason[0].upper()}{reason[1:]}.", context_settings=anything)(fail)
    return get_command(one)
