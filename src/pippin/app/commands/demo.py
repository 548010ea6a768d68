"""``pippin demo``: the whole circle in the embedded world."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pippin.app.commands.options import Json, Seed


def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html and results.json.")] = Path("demo"),
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work at once.")] = 2,
    json: Json = "",
) -> None:
    """The whole circle from nothing: a small model learns to follow instructions, is aligned, judged and compared."""
    from pippin.app.console import Console, folder

    console = Console(json)
    target = folder(out, "--out")
    from pippin.compare import demo as circle
    from pippin.compare import report

    started = time.monotonic()
    with console.progress("the circle") as advance:
        results = circle.run(
            target, seed, workers=workers, report=lambda what, done, total: advance(done, total, what=what)
        )
    console.say(results["decision"])
    console.table(*report.summary_rows(results))
    console.say(str((target / "report.html").absolute()))
    console.say(f"{time.monotonic() - started:.0f} seconds")
    console.result(results)
