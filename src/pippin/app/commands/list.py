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
            help="readers, recipes, builders, strategies, judges, methods, external or benchmarks.", show_default="all"
        ),
    ] = "",
    json: Json = "",
    with_: With = None,
) -> None:
    """List readers, recipes, builders, strategies, judges, methods, benchmarks and kinds of what other programs leave
    behind (external): name, one line, paper, file.

    `pippin list methods` also says which log-probability of a response the loss is about (sum or mean over its tokens),
    whether a frozen reference is kept, and where responses come from: the data (offline), the first policy (once), the
    policy of each round (online).
    """
    from pippin.app.console import Console
    from pippin.core import catalog

    console = Console(json)
    use_files(with_)
    kinds = [kind] if kind else list(catalog.kind_names())
    found = {name: catalog.entries(name) for name in kinds}
    more = {e.name: _facts(e.name, e.path) for e in found["methods"]} if kind == "methods" else {}
    columns = list(next(iter(more.values()), {}))
    if json != "-":
        for name, entries in found.items():
            if entries or kind:
                rows = [(e.name, e.summary, *more.get(e.name, {}).values(), e.source, _short(e.path)) for e in entries]
                console.table((name, "", *columns, "source", "file"), rows)
    console.result(
        [
            {**asdict(entry), "kind": name, **more.get(entry.name, {})}
            for name, entries in found.items()
            for entry in entries
        ]
    )


def _facts(name: str, path: str) -> dict[str, str | None]:
    """What a method needs, from its file's text where that says it (loading a method loads torch); a dash where the
    method cannot be loaded, since a listing shows what is there."""
    from pippin.align.facts import COLUMNS, facts, sketch
    from pippin.core import catalog
    from pippin.core.errors import PippinError

    read = sketch(path)
    try:
        return dict(facts(catalog.load("methods", name) if read is None else read))
    except PippinError:
        return dict.fromkeys(COLUMNS)


def _short(path: str) -> str:
    """The file from the package on; a user's own file whole."""
    _, inside, rest = path.rpartition("/pippin/")
    return f"pippin/{rest}" if inside else path
