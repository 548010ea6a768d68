"""``pippin meta``: judges judged, on data whose better response is known."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pippin.app.commands.options import (
    DryRun,
    Json,
    Limit,
    MaxCost,
    Out,
    Parser,
    Seed,
    Strategy,
    With,
    pairs_of,
    use_files,
)  # fmt: skip


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
        str,
        typer.Option(
            help="Ties and missing verdicts: counted, published, half, wrong, first.", show_default="by the parser"
        ),
    ] = "",
    parser: Parser = "",
    parser_for: Annotated[
        list[str] | None,
        typer.Option(
            "--parser-for", metavar="LLM__STRATEGY=RULE", help="verdict, phrase or rating for one recording.",
            show_default=False,
        ),
    ] = None,
    strategy: Strategy = "",
    repeats: Annotated[int, typer.Option(min=1, help="Run each judge so often: the noise floor.")] = 1,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    seed: Seed = 0,
    limit: Limit = None,
    out: Out = None,
    with_: With = None,
    json: Json = "",
) -> None:  # fmt: skip
    """Meta-evaluate judges: accuracy, consistency, biases, calibration and cost, beside trivial rules and people."""
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # thousands of small products: threads would wait for one another
    from pippin.app.console import Console, folder
    from pippin.compare.meta.run import evaluate, forecast
    from pippin.compare.meta.table import points, table
    from pippin.core.store import Store

    console = Console(json)
    target = folder(out, "--out") if out else None
    use_files(with_)
    if recordings is not None and (recordings / "recordings").is_dir():
        recordings = recordings / "recordings"  # the whole folder of a benchmark: its data lie beside them
    if dry_run:
        with Store() as store:
            _forecast(console, forecast(
                benchmark, judges or (), data=data, recordings=recordings, sets=sets or (), limit=limit, seed=seed,
                store=store, strategy=strategy,
            ))  # fmt: skip
        return
    with Store() as store, console.watching("judging") as progress:
        found = evaluate(
            benchmark, judges or (), data=data, recordings=recordings, parser=parser,
            parser_for=pairs_of(parser_for, "--parser-for"), policy=policy or None,  # type: ignore[arg-type] - named
            seed=seed, limit=limit, sets=sets or (), against=against, repeats=repeats, strategy=strategy, store=store,
            budget=max_cost, progress=progress,
        )  # fmt: skip
        result = found.result
        if target:
            from pippin.compare.meta import page

            page.write(found, target, command=_command(), store=store)
    rows = table(result)
    headers = list(rows[0]) if rows else []
    console.table(headers, [[row.get(name, "") for name in headers] for row in rows], title=_title(result))
    for row in result["differences"]:
        difference = f"{row['judge']} against {row['against']}: {points(row['difference'])} points of accuracy"
        console.say(f"{row['set']}: {difference}, p {row['difference']['p']:.3f} (corrected)")
    for claim in result["claims"]:
        console.say(_claim(claim))
    for warning in result["warnings"]:
        console.note(f"note: {warning}")
    for skipped in result["skipped"]:
        console.note(f"{skipped.get('file', '')}: {skipped.get('why', skipped)}")
    if target:
        console.say(str((target / "report.html").absolute()))
    console.result(result)
    failed = sum(cell["outcomes"].get("failed", 0) for cell in result["cells"]) if judges else 0
    if failed:
        console.note(f"{failed} verdicts failed; the same command asks them again")
        raise typer.Exit(3)


def _forecast(console: Any, told: dict[str, str]) -> None:
    """What would be asked, one line for each judge."""
    for judge, words in told.items():
        console.say(f"{judge}: {words}")
    console.result({"dry_run": told})


def _title(result: dict[str, Any]) -> str:
    note = f"; {result['note']}" if result["note"] else ""
    human = f"; people agree {result['human_agreement']:.0%}" if result["human_agreement"] else ""
    return f"{result['benchmark']}, parser {result['parser']}: {result['policy_says']}{human}{note}"


def _claim(claim: dict[str, Any]) -> str:
    """One line: how often a claim of the benchmark's authors holds here."""
    counts = [f"{verdict} for {n}" for verdict in ("holds", "not shown", "reversed")
              if (n := sum(row["verdict"] == verdict for row in claim["rows"]))]  # fmt: skip
    held = f"{', '.join(counts)} of {len(claim['rows'])} models"
    return f"claim: {claim['claim']} ({claim['what']}, {claim['over']}): {held}"


def _command() -> str:
    """What was typed, for the report."""
    import shlex

    return shlex.join(["pippin", *sys.argv[1:]])
