"""``pippin meta``: judges judged, on data whose better response is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pippin.app.commands.options import Json, Limit, Parser, Seed, With, use_files


def meta(
    benchmark: Annotated[
        str, typer.Argument(help="A benchmark of `pippin list benchmarks`, or a file of preferences.")
    ],
    judges: Annotated[
        list[str] | None, typer.Argument(help="Judges; none where there are recordings.", show_default=False)
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="A folder of recorded evaluators.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the benchmark's data lie.", show_default="beside the recordings")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Only this part of the benchmark; may be repeated.", show_default=False),
    ] = None,
    against: Annotated[
        str, typer.Option(help="A judge here that all others are compared with, paired.", show_default=False)
    ] = "",
    policy: Annotated[
        str, typer.Option(help="Missing verdicts: counted, or as published.", show_default="by the parser")
    ] = "",
    parser: Parser = "",
    seed: Seed = 0,
    limit: Limit = None,
    with_: With = None,
    json: Json = "",
) -> None:
    """Meta-evaluate judges: accuracy in both orders, consistency, position and length bias, beside trivial rules."""
    from pippin.app.console import Console
    from pippin.compare.judges import meta as measure
    from pippin.compare.judges import table
    from pippin.core.store import Store

    console = Console(json)
    use_files(with_)
    if recordings is not None and (recordings / "recordings").is_dir():
        recordings = recordings / "recordings"  # the whole folder of a benchmark: its data lie beside them
    asking = {"policy": policy or None, "seed": seed, "limit": limit, "sets": sets or (), "against": against}
    with Store() as store, console.progress("judging"):
        result = measure(
            benchmark, judges or (), data=data, recordings=recordings, parser=parser, store=store, **asking
        )
    rows = table(result)
    headers = list(rows[0]) if rows else []
    console.table(headers, [[row.get(name, "") for name in headers] for row in rows], title=_title(result))
    for difference in result["differences"]:
        console.say(_difference(difference))
    for skipped in result["skipped"]:
        console.note(f"skipped {skipped.get('file', '')}: {skipped.get('why', skipped)}")
    console.result(result)
    failed = sum(cell["outcomes"].get("failed", 0) for cell in result["cells"]) if judges else 0
    if failed:
        console.note(f"{failed} requests failed; the same command asks them again")
        raise typer.Exit(3)


def _title(result: dict[str, Any]) -> str:
    note = f"; {result['note']}" if result["note"] else ""
    human = f"; people agree {result['human_agreement']:.0%}" if result["human_agreement"] else ""
    return f"{result['benchmark']}, parser {result['parser']}: {result['policy_says']}{human}{note}"


def _difference(row: dict[str, Any]) -> str:
    d = row["difference"]
    figures = f"{100 * d['value']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}] points of accuracy"
    return f"{row['set']}: {row['judge']} against {row['against']}: {figures}, p {d['p']:.3f} (corrected)"
