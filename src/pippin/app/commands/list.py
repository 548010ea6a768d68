"""``pippin list``: every leaf with its summary, source and file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pippin.app.commands.options import Json, With, use_files


def show(
    kind: Annotated[
        str,
        typer.Argument(
            help="readers, recipes, builders, strategies, judges, methods or benchmarks.", show_default="all"
        ),
    ] = "",
    json: Json = "",
    with_: With = None,
) -> None:
    """List readers, recipes, builders, strategies, judges, methods and benchmarks: name, one line, paper, file."""
    from pippin.app.console import Console
    from pippin.core import catalog

    console = Console(json)
    use_files(with_)
    kinds = [kind] if kind else list(catalog.kind_names())
    found = {name: catalog.entries(name) for name in kinds}
    if json != "-":
        for name, entries in found.items():
            if entries or kind:
                rows = [(e.name, e.summary, e.source, _short(e.path)) for e in entries]
                console.table((name, "", "source", "file"), rows)
    console.result([{**asdict(entry), "kind": name} for name, entries in found.items() for entry in entries])


def _short(path: str) -> str:
    """The file from the package on; a user's own file whole."""
    _, inside, rest = path.rpartition("/pippin/")
    return f"pippin/{rest}" if inside else path
