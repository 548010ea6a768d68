"""``pippin store``: what is stored, out of it, and away with what is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pippin.app.commands.options import Json
from pippin.core.errors import InputError, UnknownName

ACTIONS = ("size", "export", "clean")


def store(
    action: Annotated[str, typer.Argument(help="size, export or clean.")] = "size",
    out: Annotated[Path | None, typer.Option(help="export: the folder for the JSON lines.", show_default=False)] = None,
    failures: Annotated[bool, typer.Option("--failures", help="clean: remove failed calls too.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="clean: remove artifacts older than this.", show_default=False),
    ] = None,
    json: Json = "",
) -> None:
    """Show the size of the store, export it as JSON lines, or clean it up."""
    from pippin.app.console import Console, folder
    from pippin.core.run import home

    console = Console(json)
    if action not in ACTIONS:
        raise UnknownName("action of `pippin store`", action, ACTIONS)
    place = home() / "store.db"
    if action == "export" and out is None:
        raise InputError("no folder to export into", mend="Give --out DIR")
    target = folder(out or ".", "--out")
    from pippin.core.store import Store

    with Store() as opened:
        if action == "size":
            counts = opened.size() if place.exists() else {}
            rows = [(name.replace("_", " "), _bytes(n) if name.endswith("bytes") else n) for name, n in counts.items()]
            console.say(f"{place}{'' if counts else ' (nothing stored yet)'}")
            if rows:
                console.table(("what", "how much"), rows)
            console.result({"path": str(place), **counts})
        elif action == "export":
            counts = opened.export(target)
            console.say(f"{target}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
            console.result({"path": str(target), **counts})
        else:
            seconds = None if older_than is None else older_than * 86400
            counts = opened.clean(failures=failures, artifacts_older_than=seconds)
            console.say("removed: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()))
            console.result(counts)


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
