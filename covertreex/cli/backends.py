"""``covertreex backends``: what is installed, what it can do, and what is wrong with it."""

from typing import Annotated

import typer

from covertreex.backends import registry
from covertreex.cli import display


def backends(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where a broken backend failed.")] = False,
    json_file: display.JsonFile = None,
) -> None:
    """List the backends that are installed, what they can do, and why a broken one is broken."""
    infos, out = registry.list_backends(), display.console_beside(json_file)
    table = display.plain_table(
        ("name", "left"), ("version", "left"), ("distribution", "left"), ("status", "left"), ("what it is", "left")
    )
    for info in infos:
        summary = info.capabilities.summary if info.capabilities else ""
        table.add_row(info.name, info.version, info.distribution, info.status, summary)
    out.print(table)
    for info in infos:
        out.print()
        if info.capabilities is None:
            out.print(
                f"{info.name} is {info.status}: {info.reason}.", style="bold red" if info.status == "broken" else ""
            )
            if traceback and info.traceback:
                out.print(info.traceback.rstrip())
            continue
        mechanisms = ", ".join(sorted(info.capabilities.mechanisms)) or "none"
        out.print(f"{info.name}: the parity search and the scan; beyond these: {mechanisms}.")
    out.print()
    absent = [name for name in registry.HOW_TO_GET if name not in {info.name for info in infos}]
    for name in absent:
        out.print(f"{name} is not installed: {registry.HOW_TO_GET[name]}.")
    out.print(f"Unless you name one, the first of {', '.join(registry.PREFERENCE)} that is able answers.")
    display.write_json([_figures(info) for info in infos], json_file)


def _figures(info: registry.BackendInfo) -> dict[str, object]:
    """A backend for a program; `mechanisms` is null where it cannot be used."""
    able = info.capabilities
    return {
        "name": info.name,
        "version": info.version,
        "distribution": info.distribution,
        "status": info.status,
        "reason": info.reason,
        "summary": able.summary if able else "",
        "mechanisms": sorted(able.mechanisms) if able else None,
    }
