"""Runs whose training left the numbers: an outcome that a study reports, never a number that it makes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pippin.compare.cells import Plan
from pippin.compare.study import Json, Study
from pippin.core.errors import InputError
from pippin.core.store import Store


def without(plan: Plan, store: Store) -> tuple[Plan, list[Json]]:
    """The plan without the runs that diverged, and these with what they said.

    Raises:
        InputError: the baseline diverged, or nothing is left.
    """
    lost: list[Json] = []
    for run in plan.runs:
        why = next(filter(None, (_lost(key, store) for key in run.verdicts.values())), "")
        if why:
            lost.append({"arm": run.arm.name, "seed": run.seed, "why": why})
    if not lost:
        return plan, []
    gone = {(row["arm"], row["seed"]) for row in lost}
    for row in lost:
        if plan.is_baseline(row["arm"]):
            raise InputError("the baseline diverged", where=row["arm"], found=row["why"])
    runs = tuple(run for run in plan.runs if (run.arm.name, run.seed) not in gone)
    measured = [{k: key for k, key in m.items() if not _lost(key, store)} for m in (plan.checks, plan.curves)]
    return replace(plan, runs=runs, checks=measured[0], curves=measured[1]), lost


def told(lost: Sequence[Json], study: Study) -> str:
    """Which arms the numbers are silent about, and in how many of their seeds."""
    counts = {row["arm"]: sum(other["arm"] == row["arm"] for other in lost) for row in lost}
    said = ", ".join(f"{arm} in {n} of {len(study.seeds)} seeds" for arm, n in counts.items())
    return f" Diverged, and left out of these figures: {said}." if said else ""


def _lost(key: str, store: Store) -> str:
    """Why a cell has nothing to say; empty where it has."""
    cell = store.cell(key)
    return "" if cell is None else cell["result"].get("diverged", "")
