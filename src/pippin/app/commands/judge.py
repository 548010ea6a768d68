"""``pippin judge``: what a judge says of pairs or single responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pippin.app.commands.options import DryRun, Json, Limit, MaxCost, Parser, Seed, Strategy, With, use_files
from pippin.core.errors import InputError

if TYPE_CHECKING:
    from pippin.core.types import Group, Judgement, Prompt, Response
    from pippin.judge.ask import Pair
    from pippin.judge.judging import Judging


def judge(
    judge: Annotated[str, typer.Argument(help="MODEL, MODEL:STRATEGY, rm/PATH, rule/longer, gold ...")],
    files: Annotated[
        list[str], typer.Argument(help="One file of pairs, groups or responses; or two files of responses.")
    ],
    out: Annotated[Path, typer.Option(help="File of judgements, one a row.")],
    groups: Annotated[
        Path | None,
        typer.Option(
            help="Also write prompts, responses and judgements together, as `pippin align` reads.", show_default=False
        ),
    ] = None,
    score: Annotated[
        bool | None,
        typer.Option(
            "--score/--pairs",
            help="Score every response, or compare all pairs of a prompt.",
            show_default="by the file",
        ),
    ] = None,
    orders: Annotated[
        Literal["both", "one"], typer.Option(help="of a pair: both to evaluate, one for labels to train on.")
    ] = "both",
    strategy: Strategy = "",
    parser: Parser = "",
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    seed: Seed = 0,
    limit: Limit = None,
    with_: With = None,
    json: Json = "",
) -> None:
    """Judge pairs, in both orders, or single responses. The same command resumes."""
    from pippin.app.console import Console, writable
    from pippin.compare.pairs import judged, read_pairs, within
    from pippin.core.store import Store
    from pippin.data import files as writers
    from pippin.data.columns import merge
    from pippin.judge.judging import said_beforehand
    from pippin.judge.resolve import resolve

    console = Console(json)
    targets = [writable(out, "--out")] + ([writable(groups, "--groups")] if groups else [])
    use_files(with_)
    found = read_pairs(files)[:limit]
    judging = resolve(judge, strategy=strategy, parser=parser, seed=seed, groups=found, budget=max_cost)
    alone = all(len(group.responses) < 2 for group in found)
    scoring = score if score is not None else alone and _gives_numbers(judging)
    pairs = [] if scoring else within(merge(found) if alone else found)
    if score is False and not pairs:
        raise InputError("no prompt has two different responses", where=files[0])
    if dry_run:
        with Store() as store:
            told = said_beforehand(judging, pairs, store)
        console.say(f"{judging.info.name}: {told}")
        console.result({"dry_run": {judging.info.name: told}})
        return
    with Store() as store, console.progress("judging", len(pairs) or None) as advance:
        if pairs:
            choices = judged(judging, pairs, store, lambda what, done, total: advance(done, total), orders)
            said: list[Judgement] = list(choices)
            summary = _of_choices(console, judging, pairs, choices)
        else:
            rows = [(group.prompt, response) for group in found for response in group.responses]
            scores = judging.score(rows, store=store)
            said = list(scores)
            summary = _of_scores(console, judging, rows, scores)
    writers.write_judgements(targets[0], said)
    if groups:
        writers.write_groups(targets[1], _with_judgements(merge(found), said))
    console.say(f"{targets[0]}: {len(said)} judgements")
    console.result({**summary, "out": str(targets[0])})
    failed = summary["outcomes"].get("failed", 0)
    if failed:
        console.note(f"{failed} of {len(said)} failed; the same command asks them again")
        raise typer.Exit(3)


def _gives_numbers(judging: Judging) -> bool:
    try:
        judging.score([])
    except InputError:
        return False
    return True


def _of_choices(console: Any, judging: Judging, pairs: Sequence[Pair], choices: Sequence[Any]) -> dict[str, Any]:
    """Counts of outcomes and missing ones; position and consistency with intervals."""
    import numpy as np

    from pippin import stats
    from pippin.core.types import Outcome

    value = {Outcome.FIRST: 1.0, Outcome.SECOND: -1.0}
    shown_C = np.array([np.nan if c.outcome.missing else value.get(c.outcome, 0.0) for c in choices])
    ids_P = [pair.prompt.id for pair in pairs]
    each = len(choices) // len(pairs)
    same = None
    if each == 2:
        original_P, swapped_P = shown_C[0::2], -shown_C[1::2]
        same_P = np.where(np.isnan(original_P + swapped_P), np.nan, original_P == swapped_P)
        same = stats.mean(same_P, ids_P, support=(0, 1), unit="share of pairs") if not np.isnan(same_P).all() else None
    decided = bool((np.abs(shown_C) == 1).any())
    first = stats.position_bias(shown_C, np.repeat(ids_P, each)) if decided else None
    counts = Counter(str(c.outcome) for c in choices)
    missing = sum(c.outcome.missing for c in choices)
    console.table(("outcome", "judgements"), sorted(counts.items()), title=f"{judging.info.name} on {len(pairs)} pairs")
    console.table(
        ("", "share"), [("same in both orders", same), ("shown first is preferred", first)], title=f"missing: {missing}"
    )
    return _summary(judging, counts, missing, pairs=len(pairs), same_in_both_orders=same, first_shown=first)


def _of_scores(
    console: Any, judging: Judging, rows: Sequence[tuple[Prompt, Response]], scores: Sequence[Any]
) -> dict[str, Any]:
    """The mean score with its interval, and what is missing."""
    import numpy as np

    from pippin import stats

    values_N = np.array([np.nan if s.value is None else s.value for s in scores])
    known = {p.id for (p, _), v in zip(rows, values_N, strict=True) if not np.isnan(v)}
    scale = next((s.scale for s in scores if s.scale), None)
    enough = len(known) > 1 or (known and scale)
    mean = stats.mean(values_N, [p.id for p, _ in rows], support=scale, unit="score") if enough else None
    counts = Counter("scored" if s.value is not None else str(s.outcome) for s in scores)
    missing = sum(s.value is None for s in scores)
    console.table(
        ("outcome", "judgements"), sorted(counts.items()), title=f"{judging.info.name} on {len(rows)} responses"
    )
    console.table(("", "score"), [("mean", mean)], title=f"missing: {missing}")
    return _summary(judging, counts, missing, responses=len(rows), mean=mean)


def _summary(judging: Judging, counts: Counter[str], missing: int, **more: Any) -> dict[str, Any]:
    return {
        "judge": judging.info.name, "config": judging.info.config, "models": dict(judging.info.models),
        "outcomes": dict(sorted(counts.items())), "missing": missing, **more,
    }  # fmt: skip


def _with_judgements(groups: Sequence[Group], said: Sequence[Judgement]) -> list[Group]:
    """Each group with what was said of its responses."""
    from pippin.core.types import Group

    by_prompt: dict[str, list[Any]] = {}
    for judgement in said:
        by_prompt.setdefault(judgement.prompt_id, []).append(judgement)
    made = []
    for group in groups:
        mine = {response.id for response in group.responses}
        new = [j for j in by_prompt.get(group.prompt.id, ()) if _about(j) <= mine]
        made.append(Group(group.prompt, group.responses, tuple(new)))
    return made


def _about(judgement: Any) -> set[str]:
    """The ids of the responses that a choice or a score is about."""
    return {judgement.first, judgement.second} if judgement.kind == "choice" else {judgement.response}
