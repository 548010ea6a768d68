"""``pippin align``: a policy (or a reward model) from data, by a method."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pippin.app.commands.options import Json, With, use_files
from pippin.core.errors import InputError

if TYPE_CHECKING:
    from pippin.align.evaluate import PairLogps
    from pippin.align.method import Method
    from pippin.align.run import Run
    from pippin.app.console import Console
    from pippin.app.job import Told
    from pippin.core.types import Group, Prompt
    from pippin.lm.policy import Policy

CONFIG = "align.yaml"
COUNTED = {
    "dropped_rows": "responses were left out: nothing of them is within max_length",
    "dropped_prompts": "prompts were left out: they fill the model's context",
    "dropped_unended": "responses were left out: they did not end within max_completion_length",
    "tied_groups": "prompts had no gradient: none of their responses is better than another",
    "pairs_without_opinion": "pairs had no label: the judge gave no opinion in one order or both",
    "empty_rounds": "rounds had nothing to train on",
    "cut_rows": "responses were cut at max_length",
    "groups_of_equal_rewards": "prompts had equal rewards for all their responses",
    "rounds_of_equal_rewards": "rounds had equal rewards throughout",
    "dropped_confidence": "pairs were left out: their confidence is out of the band",
    "dropped_balance": "pairs were left out to balance lengths",
    "added_random_pairs": "pairs of responses to different prompts were added",
    "clipped_rewards": "rewards were clipped",
}
"""What a run may count beside its steps, and how that is told."""

SHOWN = ("loss", "rewards/accuracies", "objective/scores")
"""Figures beside the progress bar."""


def align(
    context: typer.Context,
    method: Annotated[
        str, typer.Argument(help="A method of `pippin list methods`, or a FILE.yaml.", show_default=False)
    ] = "",
    model: Annotated[str, typer.Option(help="The policy to start from: a name or a path.", show_default=False)] = "",
    data: Annotated[
        str, typer.Option(help="FILE or READER:FILE, perhaps with [start:stop] of its rows.", show_default=False)
    ] = "",
    prompts: Annotated[str, typer.Option(help="Prompts, for methods that sample.", show_default=False)] = "",
    reward: Annotated[
        str, typer.Option(help="A judge that scores, for methods that need one.", show_default=False)
    ] = "",
    dev: Annotated[str, typer.Option(help="Development prompts, for choosing settings.", show_default=False)] = "",
    judge: Annotated[str, typer.Option(help="What scores the answers to them.", show_default=False)] = "",
    feedback: Annotated[
        str, typer.Option(help="What criticises responses: gold, a model, python/FILE.py:function.", show_default=False)
    ] = "",
    template: Annotated[str, typer.Option(help="A file with another chat template.", show_default=False)] = "",
    eval_data: Annotated[
        str,
        typer.Option(
            "--eval-data", "--eval_data", help="Held-out preferences, tested before and after.", show_default=False
        ),
    ] = "",
    eval_limit: Annotated[
        int, typer.Option("--eval-limit", "--eval_limit", min=0, help="So many of them; 0: all.")
    ] = 0,
    out: Annotated[str, typer.Option(help="Folder of the run.", show_default=False)] = "",
    config: Annotated[
        str, typer.Option(metavar="FILE.yaml", help="Read options from a file.", show_default=False)
    ] = "",
    print_config: Annotated[bool, typer.Option("--print-config", help="Print everything resolved, and end.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in --out.")] = False,
    with_: With = None,
    json: Json = "",
) -> None:
    """Align a model by a method, or make a reward model. Every setting is an option: --learning_rate 1e-5 --beta 0.1.

    `pippin align dpo --print-config > dpo.yaml` writes a file with all of them, to be filled in, and
    `pippin align dpo.yaml` runs it. Running the same command again goes on where an interrupted run stopped.
    """
    from pippin.app import job
    from pippin.app.console import Console, folder

    console = Console(json)
    use_files(with_)
    if method.endswith((".yaml", ".yml")):
        method, config = "", config or method
    if method.startswith("-"):
        raise InputError("the method comes first", found=method, expected="pippin align METHOD --setting value")
    given = {
        "method": method, "model": model, "data": data, "prompts": prompts, "reward": reward, "dev": dev,
        "judge": judge, "feedback": feedback, "template": template, "eval_data": eval_data, "eval_limit": eval_limit,
        "out": out,
    }  # fmt: skip
    told = job.read(config, {k: v for k, v in given.items() if v} | job.flags(context.args), blank=print_config)
    if print_config:
        console.result(told.to_row())
        console.say(told.to_yaml().rstrip())
        return
    target = folder(told.job.out, "--out")
    from pippin.align import distributed, trackers

    trackers.named(told.job.report_to)

    distributed.start()
    with distributed.together():
        if distributed.leads():
            _same_run(target, told, overwrite)
        done = distributed.from_first(lambda: _done(told, target))  # after what --overwrite removes
        if distributed.leads():
            _run(console, told, target, done)
        elif not done:
            _train(told, *_inputs(told)[:3], target)


def _inputs(told: Told) -> tuple[list[Group], list[Prompt], list[Prompt], str]:
    """Data, prompts and development prompts, and a line about the data."""
    from pippin.app import job
    from pippin.compare import inputs

    seed = told.resolved["seed"]
    groups, found = job.read_data(told.job.data, seed) if told.job.data else ([], "")
    prompts = inputs.read_prompts(told.job.prompts, seed) if told.job.prompts else []
    development = inputs.read_prompts(told.job.dev, seed) if told.job.dev else []
    return groups, prompts, development, found


def _train(
    told: Told, groups: list[Group], prompts: list[Prompt], development: list[Prompt], target: Path, **listeners: Any
) -> Run:
    from pippin.align import run

    return run.align(
        told.job.method, told.settings, model=told.job.model, out=target, data=groups, prompts=prompts,
        reward=told.job.reward or None, development=development, judge=told.job.judge or None,
        feedback=told.job.feedback or None, template=told.job.template or None, rule=told.job.collapse,
        **listeners,
    )  # fmt: skip


def _run(console: Console, told: Told, target: Path, done: bool) -> None:
    from pippin.align import card, publish, run, trackers
    from pippin.app.announce import announce
    from pippin.core import catalog
    from pippin.core.run import write_json
    from pippin.lm.hf import load_policy

    method: Method = catalog.load("methods", told.job.method)
    groups, prompts, development, found = _inputs(told)
    _enough(told, method, groups, prompts)
    held_out, shared = _held_out(told, groups, prompts)
    policy = run.with_template(load_policy(told.job.model), told.job.template or None)
    announce(console, told, method, policy, groups, prompts, found)
    names = {key: getattr(told.job, key) for key in ("data", "prompts")}
    hub_model_id = told.job.hub_model_id or target.absolute().name
    if told.job.push_to_hub:
        console.say(f"hub: known there as {publish.ready(hub_model_id)}")
    before = _evaluate(console, policy, held_out) if held_out and method.artefact == "policy" else None
    del policy
    total = _steps(told, method, groups)
    with trackers.mirror(told.job.report_to, target, run_name=told.job.run_name, tell=console.note) as mirror:
        with _left_behind(console, target), console.progress(told.job.method, total) as advance:
            _write_config(target, told)

            def report(line: Any) -> None:
                figures = [f"{name} {line[name]:.4f}" for name in SHOWN if name in line]
                advance(line["step"], total, note=", ".join(figures))

            if done:
                made = run.finished(target)
                console.note("this run is finished, and is not trained again; --overwrite does that")
            else:
                made = _train(told, groups, prompts, development, target, report=report, mirror=mirror)
        _told_after(console, made)
        evaluation = _after(console, method, target, held_out, before, told)
        if evaluation:
            evaluation |= {"data": told.job.eval_data, "prompts_shared_with_training_left_out": shared}
            write_json(target / "eval.json", evaluation)
            mirror.log({"step": made.ledger.steps, "eval/rewards/accuracies": _accuracy(evaluation["after"])})
    card.write_card(target, names)
    address = ""
    if told.job.push_to_hub:
        address = publish.push(target, hub_model_id, private=told.job.hub_private_repo)
        console.say(address)
    console.say(str(target))
    console.result(
        {"folder": str(target), "manifest": made.manifest, "ledger": made.ledger.to_row(), "metrics": made.metrics,
         "state": made.state, "watch": made.watch or None, "eval": evaluation or None, "hub": address or None}
    )  # fmt: skip


def _done(told: Told, target: Path) -> bool:
    """Whether the folder holds this run, finished: with the same data, prompts and first weights as they are now."""
    from pippin.align import run
    from pippin.lm.hf import load_policy

    if not (target / run.FILE).is_file():
        return False
    held = run.finished(target).manifest
    groups, prompts, development, _ = _inputs(told)
    policy = run.with_template(load_policy(told.job.model), told.job.template or None)
    now = run.digests(policy, groups, prompts, development)
    return {key: held.get(key) for key in now} == now


def _enough(told: Told, method: Method, groups: list[Group], prompts: list[Prompt]) -> None:
    """Refuse, before any model is loaded, what the method cannot do without."""
    from pippin.align.run import FEEDBACK
    from pippin.align.settings import Settings

    if method.reads != "prompts" and not groups:
        raise InputError(f"{told.job.method} reads {method.reads}, and there are none", mend="Give --data FILE")
    if method.reads == "preferences" and not any(group.judgements for group in groups):
        raise InputError(f"{told.job.method} reads preferences, and no row states one", where=told.job.data,
                         mend="Give prompt, chosen and rejected, or use pippin judge --groups")  # fmt: skip
    wanted = method.wants(Settings.of(told.job.method, method, told.settings).own)
    if "prompts" in wanted and method.choose is None and not prompts:
        raise InputError(f"{told.job.method} samples, and there are no prompts", mend="Give --prompts FILE")
    if "reward" in wanted and not told.job.reward:
        raise InputError(f"{told.job.method} needs a reward", mend="Give --reward rm/PATH or another judge that scores")
    if "feedback" in wanted and not told.job.feedback:
        raise InputError(f"{told.job.method} learns from feedback in words, and none is given", mend=FEEDBACK)
    if "data" in wanted and not groups:
        raise InputError(f"{told.job.method} needs data under these settings", mend="Give --data FILE")


def _held_out(told: Told, groups: list[Group], prompts: list[Prompt]) -> tuple[list[Group], int]:
    """The rows of ``eval_data`` whose prompts are not trained on, and how many were left out for that."""
    from pippin.app import job

    if not told.job.eval_data:
        return [], 0
    rows, _ = job.read_data(told.job.eval_data, told.resolved["seed"])
    seen = {g.prompt.id for g in groups} | {p.id for p in prompts}
    fresh = [g for g in rows if g.prompt.id not in seen]
    if not fresh:
        raise InputError("every prompt of the evaluation is trained on", where=told.job.eval_data,
                         mend="Take other rows, such as FILE[1000:]")  # fmt: skip
    return fresh[: told.job.eval_limit or None], len(rows) - len(fresh)


def _steps(told: Told, method: Method, groups: list[Group]) -> int | None:
    """How many steps there will be, where that is known before."""
    own = told.resolved
    if own["max_steps"] >= 0:
        return own["max_steps"]
    if method.reads == "prompts":
        return None
    size = own["per_device_train_batch_size"] * own["gradient_accumulation_steps"]
    return -(-len(groups) // size) * own["num_train_epochs"]


def _evaluate(console: Console, policy: Policy, held_out: list[Group]) -> PairLogps:
    from pippin.align.evaluate import pair_logps

    with console.progress(f"testing on {len(held_out)} held-out pairs"):
        return pair_logps(policy, held_out)


def _after(
    console: Console, method: Method, target: Path, held_out: list[Group], before: PairLogps | None, told: Told
) -> dict[str, Any]:
    """Accuracies on the held-out preferences, shown and as plain values."""
    if not held_out:
        return {}
    title = f"accuracy on held-out preferences of {told.job.eval_data}"
    if before is None:
        from pippin.align.evaluate import score_accuracy
        from pippin.lm.reward import load_reward

        accuracy = score_accuracy(load_reward(target).score, held_out)
        console.table(("reading", "after", "pairs"), [("score", accuracy, accuracy.n)], title=title)
        return {"after": {"score": asdict(accuracy)}}
    from pippin.align import run
    from pippin.lm.hf import load_policy

    policy = run.with_template(load_policy(str(target.absolute())), told.job.template or None)
    after = _evaluate(console, policy, held_out)
    tables = {"before": before.accuracies(), "after": after.accuracies(before), "change": after.change(before)}
    names = {"sum": "summed log-probability", "mean": "mean log-probability", "implicit": "implicit reward"}
    rows = [
        (title_of, *(tables[when].get(key) for when in tables), tables["after"][key].n)
        for key, title_of in names.items()
    ]
    console.table(("reading", *tables, "pairs"), rows, title=title)
    return {when: {key: asdict(value) for key, value in found.items()} for when, found in tables.items()}


def _accuracy(after: dict[str, Any]) -> float:
    """Of the implicit reward, or of a reward model's scores: what TRL calls ``eval/rewards/accuracies``."""
    return after["score" if "score" in after else "implicit"]["value"]


def _told_after(console: Console, made: Any) -> None:
    lines = [line for line in (made.metrics.get("first", {}), made.metrics.get("last", {})) if "loss" in line]
    losses = dict.fromkeys(f"{line['loss']:.6f} at step {line['step']:.0f}" for line in lines)
    if losses:
        console.say(f"loss: {', '.join(losses)}")
    ledger = made.ledger
    console.say(f"{ledger.steps} steps, {ledger.wall_clock:.0f} seconds, {ledger.peak_memory / 1e9:.1f} GB at most")
    if made.watch:
        from pippin.align.watch import lines as told_lines

        for line in told_lines(made.watch):
            console.say(line)
    for key, what in COUNTED.items():
        if made.state.get(key):
            console.note(f"{made.state[key]} {what}")


def _same_run(target: Path, told: Told, overwrite: bool) -> None:
    """Refuse to mix two runs in one folder; the same run goes on.

    Raises:
        InputError: the folder holds something else.
    """
    if overwrite and (target / CONFIG).exists():
        shutil.rmtree(target)
    if not target.exists() or not any(target.iterdir()):
        return
    file = target / CONFIG
    if not file.is_file():
        raise InputError(
            "the folder is not empty and holds no run", where=f"--out {target}", mend="Name another folder"
        )
    from pippin.app import job
    from pippin.core.config import read_yaml

    before, now = read_yaml(file)[0], told.to_row()
    changed = [key for key in now if key not in ("out", *job.BESIDE) and before.get(key) != job.plain(now[key])]
    if changed:
        key = changed[0]
        raise InputError(f"the folder holds another run ({key} differs)", where=f"--out {target}",
                         found=before.get(key), expected=now[key], mend="Name another one or --overwrite")  # fmt: skip


@contextmanager
def _left_behind(console: Console, target: Path) -> Iterator[None]:
    """Bad input that is only found while training leaves no folder; of an interrupted run it is said what is kept."""
    from pippin.align import checkpoint

    existed = target.exists()
    try:
        yield
    except KeyboardInterrupt:
        step, _ = checkpoint.position(target)
        kept = f"kept as it was at step {step}" if step >= 0 else "no checkpoint yet (save_steps says how often)"
        console.note(f"{target}: {kept}")
        raise
    except InputError:
        if not existed:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _write_config(target: Path, told: Told) -> None:
    from pippin.core.run import replacing

    with replacing(target / CONFIG) as file:
        file.write(told.to_yaml().encode())
