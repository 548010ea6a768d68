"""People's labels in a study: every arm's difference from its baseline as people would find it.

Labels are about responses, so they speak of those runs whose responses were labelled; an arm that nobody labelled has
no corrected row. Pairs are the judge's own, seeds and draws of an arm together; of what people did not see the judge
tells (:mod:`people`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pippin.compare import papers
from pippin.compare.cells import ArmRun, Plan
from pippin.compare.people import correct, match, row
from pippin.compare.spec import judge_scores
from pippin.compare.work import pairs_against
from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.core.types import Group, Prompt, Response
from pippin.data import files
from pippin.data.labels import Labels, read_labels
from pippin.judge.ask import ORDERS, Pair

Json = dict[str, Any]


def corrected(plan: Plan, store: Store) -> Json | None:
    """``{labels, rows: [...]}`` of a study with ``people``; None without.

    Raises:
        InputError: no such file, the study's judge gives numbers, or no label is about the arms' responses.
    """
    if not plan.study.people:
        return None
    if judge_scores(plan.study.judge):
        raise InputError("people's choices correct a judge of pairs", where="people", found=plan.study.judge,
                         expected="a judge that compares, such as MODEL:STRATEGY or rule/first")  # fmt: skip
    labels = read_labels(Path(plan.study.people).expanduser())
    rows: list[Json] = []
    for arm in dict.fromkeys(run.arm.name for run in plan.runs):
        for decoding in dict.fromkeys(d for run in plan.runs if run.arm.name == arm for d in run.verdicts):
            runs = [run for run in plan.runs if run.arm.name == arm and decoding in run.verdicts]
            made = _row(labels, [r for r in runs if not plan.is_baseline(arm)], decoding, plan, store)
            if made is not None:
                rows.append({"name": arm, "decoding": decoding, "seeds": len(runs), **made})
    if not rows and labels.choices:
        raise InputError("no label is about the responses of this study", where=labels.path,
                         mend="Labels are for the very responses that were drawn: pippin label REPORT")  # fmt: skip
    return {"labels": len(labels.by_pair), "not_yet_labelled": labels.empty, "rows": rows}


def groups(folder: Path, store: Store) -> list[Group]:
    """What people can label of a study that was run: every arm's responses with its baseline's, the study's first way
    of answering.

    Args:
        folder: the report's, with ``plan.json``.

    Raises:
        InputError: no such plan, or its answers are not in the store.
    """
    plan = papers.read(folder)
    found: list[Group] = []
    for run in plan.runs:
        base = plan.baseline_of(run)
        decoding = next(iter(run.responses), "")
        if plan.is_baseline(run.arm.name) or base is None or decoding not in base.responses:
            continue
        mine, theirs = (_answers(r, r.responses[decoding], store) for r in (run, base))
        found += [Group(pair.prompt, (pair.second, pair.first)) for pair in pairs_against(mine, theirs)]
    return found


def _answers(run: ArmRun, key: str, store: Store) -> list[tuple[Prompt, Response]]:
    folder = store.artifact(key)
    if folder is None:
        raise InputError("answers are not in the store", found=run.arm.name, mend="Run the study again on this machine")
    return files.read_responses(folder / "responses.jsonl")


def _row(labels: Labels, runs: Sequence[ArmRun], decoding: str, plan: Plan, store: Store) -> Json | None:
    """The corrected difference of one arm; None where no label is about it."""
    pairs: list[Pair] = []
    credit: list[float] = []
    for run in runs:
        spec, done = plan.cells[run.verdicts[decoding]].spec, store.cell(run.verdicts[decoding])
        mine, theirs = (_answers(run, spec[side].removeprefix("cell:"), store) for side in ("responses", "against"))
        said = {prompt: iter(values) for prompt, values in (done or {})["result"]["values"].items()}
        for pair in pairs_against(mine, theirs):  # the arm's response is judged first; as V2 it stands second
            orders = [next(said[pair.prompt.id]) for _ in ORDERS]
            pairs.append(Pair(pair.prompt, pair.second, pair.first))
            credit.append(float(np.mean([np.nan if v is None else v for v in orders])))
    try:
        told = match(labels, pairs)
    except InputError:
        return None
    if not told:
        return None
    people = correct(labels, told, pairs, np.array(credit))
    return {
        "labels": people.labels, "delta": row(people.delta), "people_alone": row(people.alone),
        "bias": row(people.bias), "gain": people.gain, "why_not": people.why_not or None,
        "cautions": list(people.cautions),
    }  # fmt: skip
