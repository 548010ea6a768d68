"""``pippin compare``: a study of many arms, or which of two is better."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pippin.app.commands.options import (
    Json,
    Limit,
    MaxTokens,
    Parser,
    Samples,
    Seed,
    Strategy,
    Temperature,
    TopP,
    With,
    use_files,
)  # fmt: skip
from pippin.core.errors import GateNotMet, InputError

if TYPE_CHECKING:
    from pippin.app.console import Console


_ARM_FIGURES = ("delta", "delta_low", "delta_high", "p", "n")
"""What the gate of a study may name; it is asked of every arm against the baseline."""


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="V1|STUDY.yaml",
            help="A study, or V1: a response file, model, checkpoint or run.",
            show_default=False,
        ),
    ] = "",
    second: Annotated[str, typer.Argument(metavar="V2", help="V2, of the same kinds.", show_default=False)] = "",
    judge: Annotated[str, typer.Option(help="Who says which is better.", show_default=False)] = "",
    prompts: Annotated[
        str, typer.Option(help="Prompts to compare on.", show_default="those of the response files")
    ] = "",
    gate: Annotated[
        str,
        typer.Option(
            metavar="EXPR", help='Such as "delta_low > 0": exit code 4 where it does not hold.', show_default=False
        ),
    ] = "",
    people: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="People's labels of some pairs, which correct the judge.", show_default=False
        ),
    ] = None,
    rogan_gladen: Annotated[
        bool, typer.Option("--rogan-gladen", help="With --people: also correct by the judge's error rates.")
    ] = False,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential", help="With --people: label and judge in waves, and stop as soon as it is settled."
        ),
    ] = False,
    worth: Annotated[float, typer.Option(help="With --sequential: a smaller difference is not worth having.")] = 0.05,
    label_budget: Annotated[
        int | None, typer.Option(help="With --sequential: the most labels.", show_default="every pair")
    ] = None,
    call_budget: Annotated[
        int | None, typer.Option(help="With --sequential: the most calls of the judge.", show_default="no limit")
    ] = None,
    metric: Annotated[str, typer.Option(help="win: shares of wins; score: a judge's numbers.")] = "win",
    plan: Annotated[
        bool, typer.Option("--plan", help="A study: what it runs, costs and can see; runs nothing.")
    ] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="With --plan: store the plan; results tell what changed since.")
    ] = False,
    new: Annotated[
        Path | None,
        typer.Option("--new", metavar="FILE", help="Write a study with comments, ready to run.", show_default=False),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of studies, for editors.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A study: folder of the report.", show_default="the study's name")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="A study: processes that work at once.")] = 2,
    strategy: Strategy = "",
    parser: Parser = "",
    n: Samples = 1,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    limit: Limit = None,
    with_: With = None,
    json: Json = "",
) -> None:
    """Compare apples with apples: STUDY.yaml with its arms and confounds, or V1 and V2 under one judge."""
    from pippin.app.console import Console, folder

    console = Console(json)
    use_files(with_)
    if schema or new:
        _schema() if schema else _new(console, new)
        return
    if not first:
        raise InputError("nothing to compare", expected="STUDY.yaml, or V1 V2 --judge JUDGE", mend="Or: --new FILE")
    if (people or rogan_gladen) and not second:
        raise InputError("people's labels correct a judge of two", found=first, expected="V1 V2 --judge JUDGE")
    if not second:
        if not first.endswith((".yaml", ".yml")):
            raise InputError("nothing to compare with", found=first, expected="STUDY.yaml, or V1 V2 --judge JUDGE")
        target = folder(out or Path(first).stem, "--out")
        if plan or freeze:
            from pippin.app import planning

            planning.show(console, first, workers=workers, freeze=freeze)
        else:
            _study(console, first, target, workers)
        return
    if not judge:
        from pippin.compare.recorded import no_judge

        raise no_judge(first, second)
    from pippin.app.deciding import settle
    from pippin.compare import gate as gates
    from pippin.compare.decide import Terms
    from pippin.compare.sides import Draw
    from pippin.compare.two import compare_two
    from pippin.core.store import Store

    draw = Draw(n, temperature, top_p, max_tokens, seed)
    if sequential:
        if not people or rogan_gladen or metric != "win":
            raise InputError("a sequential decision is about people's shares of wins", where="--sequential",
                             mend="Give --people FILE, and neither --rogan-gladen nor --metric score")  # fmt: skip
        settle(
            console, first, second, judge=judge, people=people, terms=Terms(worth, label_budget, call_budget),
            gate=gate, prompts=prompts, draw=draw, limit=limit, strategy=strategy, parser=parser,
        )  # fmt: skip
        return
    if label_budget is not None or call_budget is not None:
        raise InputError("budgets are for a sequential decision", mend="Give --sequential")
    with Store() as store, console.progress("comparing") as advance:
        made = compare_two(
            first, second, judge=judge, prompts=prompts, draw=draw, limit=limit, strategy=strategy, parser=parser,
            metric=metric, gate=gate, store=store,  # type: ignore[arg-type] - a wrong metric is refused with its name
            people=people or "", rogan_gladen=rogan_gladen,
            report=lambda what, done, total: advance(done, total, what=what),
        )  # fmt: skip
    _say(console, made)
    figures = made.figures()
    met = gates.holds(gate, figures) if gate and not made.why_not else False if gate else None
    console.result({**made.to_row(), "gate": gate or None, "gate_met": met})
    if made.why_not and gate:
        raise GateNotMet(f"the gate does not hold: {gate} ({made.why_not})")
    if met is False:
        raise GateNotMet(f"the gate does not hold: {gate} ({_known(gate, figures)})")
    failed = made.v1.failed + made.v2.failed + made.outcomes.get("failed", 0)
    if failed:
        console.note(f"{failed} requests failed; the same command asks them again")
        raise typer.Exit(3)


def _say(console: Console, made: Any) -> None:
    """The decision first, then what more prompts would buy, then what stands beside it."""
    from pippin.app.console import interval, one_line
    from pippin.compare.people import ASSUMED

    console.say(one_line(made.decision))
    if made.people and not made.why_not:
        console.say(one_line(made.alone))
    console.say(made.more)
    name = "delta, win share" if made.metric == "win" else "delta, mean score"
    rows: list[tuple[Any, ...]] = [(name, made.delta)] if made.people is None else _of_people(made)
    if made.metric == "win" and made.scores is not None:
        rows.append(("mean score, V2 minus V1", made.scores))
    rows += [
        ("the rule `longer wins` would say", made.longer_wins),
        ("same verdict in both orders", made.same_in_both_orders),
        ("the response shown first is preferred", made.first_shown),
        ("characters, V1", made.lengths[0]), ("characters, V2", made.lengths[1]),
    ]  # fmt: skip
    console.table(("", "value [95 % interval]"), [row for row in rows if row[1] is not None])
    console.say(f"V1: {one_line(made.v1.name)}   V2: {one_line(made.v2.name)}   scope: {made.delta.scope}")
    if made.worst is not None and made.best is not None:
        ends = f"{interval(made.worst, sign=True)} and {interval(made.best, sign=True)}"
        console.say(f"were all missing verdicts against V2, or for it: {ends}")
    if any(made.left_out):
        console.note(f"prompts of the files that are not compared: {made.left_out[0]} of V1, {made.left_out[1]} of V2")
    if made.people and made.people.rogan_gladen is not None:
        told = made.people.rogan_gladen
        console.say(f"Rogan-Gladen: {told if isinstance(told, str) else interval(told, sign=True)}; {ASSUMED}")
    for caution in made.cautions:
        console.note(f"caution: {one_line(caution)}")


def _of_people(made: Any) -> list[tuple[Any, ...]]:
    """The judge beside people: each side's error rate of its own, never one for both."""
    people = made.people
    return [
        ("delta corrected by people, win share", None if made.why_not else made.delta),
        ("delta, the judge alone", made.judge_alone),
        (f"delta, people alone ({people.labels} labels)", people.alone),
        ("people less judge on the labelled", people.bias),
        ("the judge gave to V2, of people's wins of V1", people.wrong[0]),
        ("the judge gave to V1, of people's wins of V2", people.wrong[1]),
        ("annotators of one pair agree", people.agreement),
        ("labels of people alone that would do as well, times", people.gain),
    ]


def _known(gate: str, figures: dict[str, Any]) -> str:
    """The figures that a gate names, with their values."""
    named = [name for name in figures if name in gate]
    return ", ".join(
        f"{k} = {figures[k]:.4g}" if isinstance(figures[k], float) else f"{k} = {figures[k]}" for k in named
    )


def _schema() -> None:
    """The JSON schema of study files, on standard output."""
    import json

    from pippin.compare.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=1))


def _new(console: Console, file: Path | None) -> None:
    """A study with comments under a new name.

    Raises:
        InputError: the file is there already.
    """
    from pippin.compare import study
    from pippin.core.run import replacing

    assert file is not None
    if file.exists():
        raise InputError("the file is there already", where=str(file), mend="Choose another name")
    text = Path(study.__file__).with_name("templates") / "study.yaml"
    with replacing(file) as made:
        made.write(text.read_bytes())
    console.say(f"{file}: a study with comments. Next: pippin compare {file} --plan")


def _study(console: Console, file: str, target: Path, workers: int) -> None:
    """Run what is missing, analyse, and write results.json and the report."""
    from pippin.compare import gate as gates
    from pippin.compare import report, wording
    from pippin.compare.headline import headline
    from pippin.compare.run import run_study
    from pippin.compare.study import read_study

    study = read_study(file)
    if study.gate:
        gates.check(study.gate, _ARM_FIGURES)
    with console.progress("cells") as advance:
        results = run_study(
            study, target, command=f"pippin compare {file}", workers=workers,
            report=lambda what, done, total: advance(done, total, what=what),
        )  # fmt: skip
    console.say(headline(results))
    console.say(wording.confound_line(results))
    console.table(*report.summary_rows(results))
    console.say(f"{(target / 'report.html').absolute()}, with figures/ and tables/ beside it")
    failed = [arm for arm, figures in _arms(results) if not gates.holds(study.gate, figures)] if study.gate else []
    console.result({**results, "gate": study.gate or None, "gate_met": not failed if study.gate else None})
    if failed:
        raise GateNotMet(f"the gate does not hold for {', '.join(failed)}: {study.gate}")


def _arms(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of every arm but the baseline, in the study's own decoding (the first)."""
    base = results["baseline"]
    decoding = results["pooled"][0]["decoding"]
    for row in results["pooled"]:
        if row["decoding"] == decoding and row["name"] != base:
            values = (row[f"delta_vs_{base}"], row["delta_low"], row["delta_high"], row["p_holm"], row["n"])
            yield row["name"], dict(zip(_ARM_FIGURES, values, strict=True))
