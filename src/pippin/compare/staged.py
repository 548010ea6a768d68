"""A study run in stages: the cells of one look after the other, until every comparison is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pippin.compare import diverged, inputs, looks, values
from pippin.compare.cells import Cell, Plan
from pippin.compare.looks import Looks
from pippin.compare.plan import plan
from pippin.compare.study import Study
from pippin.compare.values import METHOD, RUNS, Pooled
from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.core.types import Scope
from pippin.stats.contrast import error_parts
from pippin.stats.resampling import SEEDS_FOR_THE_METHOD

Json = dict[str, Any]


def run(study: Study, store: Store, do: Callable[[Mapping[str, Cell]], None]) -> tuple[Plan, Json | None]:
    """The part of a study that was needed, all of its cells done, and what the looks came to (None without looks).

    Args:
        do: runs the cells that the store does not have.

    Raises:
        InputError: as :func:`plan`, or the study has fewer prompts than its looks.
    """
    wanted = looks.read(study, f"{study.where}: looks" if study.where else "looks")
    if wanted is None:
        planned = plan(study)
        do(planned.cells)
        return planned, None
    if wanted.over == "prompts":
        there = len(inputs.read_prompts(study.prompts.test, 0))
        if there < wanted.at[-1]:
            raise InputError("looks go beyond the test prompts", where=f"{study.where}: looks.at", found=wanted.at[-1],
                             expected=f"{there} at most")  # fmt: skip
    seen: list[list[Json]] = []
    judged: list[list[Json]] = []
    while True:
        planned = plan(looks.study_at(study, wanted, len(seen)))
        do(planned.cells)
        live, _ = diverged.without(planned, store)
        decoding, scope = next(iter(live.runs[0].verdicts)), _scope(planned, wanted)
        seen.append(_rows(planned, values.pooled(live, values.read(live, store)), decoding, scope))
        judged.append(looks.judged(wanted, seen, study.margin))
        if all(row["decided"] for row in judged[-1]) or len(seen) == len(wanted.at):
            return planned, looks.report(wanted, judged, scope, decoding)


def _scope(planned: Plan, wanted: Looks) -> Scope:
    """Looks over seeds are about the method; over prompts, where there are seeds enough for every arm, too."""
    compared = [(arm, base) for arm, base in planned.baselines.items() if arm != base]
    enough = len(planned.study.seeds) >= SEEDS_FOR_THE_METHOD and all(_repeated(planned, *pair) for pair in compared)
    return METHOD if wanted.over == "seeds" or enough else RUNS


def _rows(planned: Plan, pool: Pooled, decoding: str, scope: Scope) -> list[Json]:
    """Every arm that a look can decide against its baseline, also one that diverged."""
    rows: list[Json] = []
    for arm, base in planned.baselines.items():
        if arm == base or (scope == METHOD and not _repeated(planned, arm, base)):
            continue
        row: Json = {"name": arm, "baseline": base, "delta": None, "error": None, "freedom": None}
        pair = [pool[name, decoding] for name in (arm, base) if (name, decoding) in pool]
        sides = values.comparable(pair, scope) if len(pair) == 2 else None
        made = values.contrast(pair, (1.0, -1.0), scope) if sides is not None else None
        if sides is not None and made is not None:
            spread = error_parts(sides[0], (1.0, -1.0), sides[1])[0].spread
            row |= {"delta": made.value, "error": spread.error, "freedom": spread.freedom}
        rows.append(row)
    if not rows:
        raise InputError("looks need an arm to decide beside the baseline", where=f"{planned.study.where}: looks",
                         found=planned.study.baseline)  # fmt: skip
    return rows


def _repeated(planned: Plan, arm: str, base: str) -> bool:
    """Whether other seeds say more of the two: one is trained, and none is a single checkpoint made elsewhere."""
    runs = {name: [run for run in planned.runs if run.arm.name == name] for name in (arm, base)}
    single = [len({run.policy for run in found}) == 1 and found[0].external is not None for found in runs.values()]
    return any(run.train for found in runs.values() for run in found) and not any(single)
