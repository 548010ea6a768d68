"""``pippin respond``: responses of a model to prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pippin.app.commands.options import Json, Limit, MaxTokens, Samples, Seed, Temperature, TopP
from pippin.core.errors import InputError


def respond(
    model: Annotated[str, typer.Argument(help="A model's name or path.")],
    prompts: Annotated[
        str, typer.Argument(help="A file of prompts, READER:FILE, or a source such as world/heldout?n=100.")
    ],
    out: Annotated[Path, typer.Option(help="File of responses: .jsonl, .json, .csv or .parquet, also .gz.")],
    n: Samples = 1,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    limit: Limit = None,
    json: Json = "",
) -> None:
    """Answer prompts with a model and write prompt, completion, model. The same command resumes."""
    from pippin.app.console import Console, writable
    from pippin.compare import inputs
    from pippin.compare.sides import Draw, ask, find_model
    from pippin.core.store import Store
    from pippin.data.columns import response_row
    from pippin.data.rows import SUFFIXES, write_rows

    console = Console(json)
    target = writable(out, "--out")
    if not target.name.lower().removesuffix(".gz").endswith(SUFFIXES):
        raise InputError("a file of unknown kind", where=f"--out {out}", expected=" or ".join(SUFFIXES))
    asked = inputs.read_prompts(prompts, seed)[:limit]
    answering = find_model(model)
    draw = Draw(n, temperature, top_p, max_tokens, seed)
    with Store() as store, console.progress("answers", len(asked) * n) as advance:
        side = ask(model, answering, asked, draw, store, lambda done, total: advance(done, total))
    summary = {
        "model": model, "prompts": len(asked), "responses": len(side.rows), "failed": side.failed,
        "cut": sum(response.stop == "length" for _, response in side.rows),
        "sampling": side.sampling and vars(side.sampling), "out": str(target),
    }  # fmt: skip
    if side.rows:
        rows = ({**response_row(p, r), "sample": r.sample, "stop": r.stop} for p, r in side.rows)
        write_rows(target, rows)
        cut = f", {summary['cut']} cut at {side.sampling.max_tokens} tokens" if summary["cut"] and side.sampling else ""
        console.say(f"{target}: {len(side.rows)} responses to {len(asked)} prompts{cut}")
    console.result(summary)
    if side.failed:
        console.note(f"{side.failed} of {len(asked) * n} failed ({side.why}); the same command asks them again")
        raise typer.Exit(3)
