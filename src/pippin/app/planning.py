"""``pippin compare STUDY.yaml --plan``: what a study would run, take and see, said before it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pippin.app.console import Console
    from pippin.compare.cells import Cell

Json = dict[str, Any]


def show(console: Console, file: str, *, workers: int, freeze: bool) -> None:
    """Arms and cells of a study, what the missing ones will take, and how small a difference can be seen.

    Args:
        workers: processes that would work at once.
        freeze: store the plan, so that results tell what changed since.

    Raises:
        InputError, UnknownName: the study cannot be run as it is.
    """
    from pippin.compare import axes, confounds, costs, design, detect, extend, looks, wording
    from pippin.compare import freeze as freezing
    from pippin.compare.plan import plan, plan_trials
    from pippin.compare.study import read_study
    from pippin.compare.tuning import points
    from pippin.core.store import Store

    study = read_study(file)
    wanted = looks.read(study, f"{file}: looks")
    stages = [plan(looks.study_at(study, wanted, n)) for n in range(len(wanted.at))] if wanted else [plan(study)]
    made = stages[-1]
    tried, trials = plan_trials(study) if points(study.tuning) else ({}, ())
    with Store() as store:
        if study.extend:
            extend.bring(study.extend, store)
        stored = {key for key in {**made.cells, **tried} if store.cell(key) is not None}
        tuned = {trial.arm for trial in trials if trial.baseline}
        first = {run.train for run in made.runs if run.seed == study.seeds[0] and run.arm.name in tuned}
        reused = {key for key in first if key} - set(tried)  # one of the trials is what the study then runs
        before = [tried, *(stage.cells for stage in stages[:-1])]
        estimate = costs.estimate(study, made, before, store, workers=workers, reused=reused)
        seen = detect.detectable(made, store)
        found = confounds.ahead(made, store)
        stated = replace(made, study=study)
        row = freezing.freeze(stated, store) if freeze else None
        frozen = freezing.frozen(stated, store)
    console.say(made.study.question)
    console.say(wording.confound_line({"confounds": found}))
    if trials:
        number = sum(t.baseline is not None for t in trials)
        told = f"{number} trials first, {len(tried)} cells of which {len(stored & set(tried))} are stored"
        console.say(f"{told}; then the study under the settings that they choose, in place of these:")
    arms = [(r.arm.name, r.seed, ", ".join(r.verdicts), "made elsewhere" if r.external else "") for r in made.runs]
    console.table(("arm", "seed", "decoding", ""), arms)
    console.table(*_cells(made.cells, stored))
    console.table(("it will take", ""), costs_rows(estimate, workers))
    labels = {axis: list(values) for axis, values in axes.spread(study).items()}
    fraction = design.told(labels, study.design, study.baseline)
    if wanted:
        console.say(f"the study may end at the look after {wanted.at[0]} {wanted.over}; this is what all of it takes")
    for line in (*caveats(estimate), seen["sentence"], fraction["sentence"] if fraction else ""):
        if line:
            console.say(line)
    if row is not None:
        seen_before = "; verdicts on its test prompts were in the store before" if row["data_seen_before"] else ""
        console.say(f"frozen: {row['hash']}, {row['when']}{seen_before}")
    elif frozen is not None:
        console.say(frozen_line(frozen))
    console.result(
        {
            "question": made.study.question,
            "arms": [{"name": a, "seed": s, "decodings": d.split(", "), "external": bool(e)} for a, s, d, e in arms],
            "cells": [{"key": k, "kind": c.kind, "label": c.label, "needs": list(c.needs), "stored": k in stored}
                      for k, c in made.cells.items()],
            "trials": [{"arm": t.arm, "settings": t.settings} for t in trials if t.baseline],
            "confounds": found,
            "estimate": estimate,
            "detectable": seen,
            "frozen": frozen,
            "design": fraction,
        }
    )  # fmt: skip


def _cells(cells: Mapping[str, Cell], stored: set[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
    """The table of cells: header, rows, title."""
    rows = [(cell.kind, cell.label, "stored" if key in stored else "to run") for key, cell in cells.items()]
    missing = sum(key not in stored for key in cells)
    return ("cell", "for", ""), rows, f"{missing} of {len(rows)} cells to run"


def costs_rows(estimate: Json, workers: int) -> list[tuple[str, str]]:
    """What a study will take, as lines of a table."""
    cpu, minutes, money = estimate["cpu_seconds"], estimate["minutes"], estimate["money"]
    spent = "not known" if money is None else f"${money['low']:.2f} to ${money['high']:.2f}"
    at_once = "one process" if workers == 1 else f"{workers} processes"
    return [
        ("CPU minutes", _range({name: value / 60 for name, value in cpu.items()})),
        (f"minutes with {at_once}", _range(minutes)),
        ("tokens sampled", f"{estimate['tokens']['sampled']:,}"),
        ("tokens trained on", f"{estimate['tokens']['gradient']:,}"),
        ("labels", f"{estimate['labels']:,}"),
        ("calls of judging models", f"{estimate['calls']:,}"),
        ("money", spent if estimate["calls"] else "none"),
    ]


def caveats(estimate: Json) -> list[str]:
    """What the figures leave out."""
    told = []
    if estimate["unpriced"]:
        told.append(
            f"no price is known of {', '.join(estimate['unpriced'])}: say ?input=USD&output=USD per million tokens"
        )
    if estimate["unknown"]:
        told.append(f"not in these minutes: {len(estimate['unknown'])} cells of models that are not at hand")
    return told


def frozen_line(frozen: Json) -> str:
    """A frozen plan and what changed since, in a line."""
    seen = ", after its data were seen" if frozen["data_seen_before"] else ""
    changed = ", ".join(change["field"] for change in frozen["changed"])
    return f"frozen {frozen['when']} as {frozen['hash']}{seen}; changed since: {changed or 'nothing'}"


def _range(value: Json) -> str:
    return f"{value['planned']:.1f} ({value['low']:.1f} to {value['high']:.1f})"
