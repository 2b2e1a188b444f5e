"""``covertreex backends``: what is installed, what it can do, and what is wrong with it."""

from typing import Annotated

import typer

from covertreex.backends import registry
from covertreex.cli import display, probe
from covertreex.errors import InvalidInputError
from covertreex.settings import settings_from_env


def backends(
    check: Annotated[
        bool, typer.Option("--check", help="Load each, in a process of its own, and say what it can do.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where a broken backend failed; with --check.")
    ] = False,
    json_file: display.JsonFile = None,
) -> None:
    """List the backends that are installed. Nothing of theirs is imported, but with --check.

    With --check: what each can do, and why a broken one is broken.
    """
    if traceback and not check:
        raise InvalidInputError("--traceback goes with --check, which loads backends.")
    infos, out = registry.list_backends(), display.console_beside(json_file)
    if check:
        infos = [probe.load(info)[0] for info in infos]
    table = display.plain_table(
        ("name", "left"), ("version", "left"), ("distribution", "left"), ("status", "left"), ("what it is", "left")
    )
    for info in infos:
        summary = info.capabilities.summary if info.capabilities else ""
        table.add_row(info.name, info.version, info.distribution, info.status, summary)
    out.print(table)
    for info in infos:
        if info.status == "found":
            continue
        out.print()
        if info.capabilities is None:
            style = "bold red" if info.status == "broken" else ""
            out.print(f"{info.name} is {info.status}: {info.reason}.", style=style)
            if traceback and info.traceback:
                out.print(info.traceback.rstrip())
            continue
        mechanisms = ", ".join(sorted(info.capabilities.mechanisms)) or "none"
        out.print(
            f"{info.name}: protocol {info.protocol}, levels {', '.join(info.levels)}; mechanisms of the tree search: "
            f"{mechanisms}."
        )
    out.print()
    if not check:
        out.print("None was loaded; --check loads each, in a process of its own, and says what it can do.")
    absent = [name for name in registry.HOW_TO_GET if name not in {info.name for info in infos}]
    for name in absent:
        out.print(f"{name} is not installed: {registry.HOW_TO_GET[name]}.")
    priority = settings_from_env().priority
    order = [*priority, *(name for name in registry.PREFERENCE if name not in priority)]
    out.print(f"Unless you name one, the first of {', '.join(order)} that is able answers.")
    display.write_json([_figures(info) for info in infos], json_file)


def _figures(info: registry.BackendInfo) -> dict[str, object]:
    """A backend for a program; what it can do is null where it was not loaded, or cannot be."""
    able = info.capabilities
    return {
        "name": info.name,
        "version": info.version,
        "distribution": info.distribution,
        "status": info.status,
        "reason": info.reason,
        "summary": able.summary if able else None,
        "levels": list(info.levels) if able else None,
        "mechanisms": sorted(able.mechanisms) if able else None,
    }
