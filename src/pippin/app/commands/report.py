"""``pippin report``: the page of a study again, from its results or from a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pippin.app.commands.options import Json


def report(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="The folder of a study's report, or a bundle.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report.", show_default="the run's own; the name of a bundle"),
    ] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Examples without arms and scores, in mixed order, until they are revealed.")
    ] = False,
    json: Json = "",
) -> None:
    """Write the page, figures and tables of a study again. A bundle is analysed anew, offline, from what it holds."""
    from pippin.app.console import Console, folder
    from pippin.compare import bundle as bundles
    from pippin.compare import wording
    from pippin.compare.headline import headline
    from pippin.compare.report import write_report

    console = Console(json)
    packed = run.is_file()
    target = folder(out or (run.with_suffix("") if packed else run), "--out")
    results = _unpacked(console, run, target) if packed else bundles.read_results(run)
    page = write_report(results, target, blind=blind)
    console.say(headline(results))
    console.say(wording.confound_line(results))
    console.say(str(page.absolute()))
    console.result(results)


def _unpacked(console: Any, run: Path, target: Path) -> dict[str, Any]:
    """The results of a bundle, and beside the page what an arm of one's own needs."""
    from pippin.compare import bundle as bundles
    from pippin.core.run import write_json

    made = bundles.analysed_again(run)
    bundles.lay_out(run, target)
    write_json(target / "results.json", made.results)
    if made.differs:
        console.note(f"caution: not as the bundle states it: {', '.join(made.differs)}")
    else:
        console.say("Analysed anew from the bundle's cells; every figure is as the bundle states it.")
    return made.results
