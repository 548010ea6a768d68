"""A study run in stages: the cells of one look after the other, until every comparison is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pippin.compare import diverged, inputs, looks, values
from pippin.compare.cells import Cell, Plan
from pippin.compare.inference import compared
from pippin.compare.plan import plan
from pippin.compare.study import Study
from pippin.compare.values import METHOD, RUNS, Pooled
from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.core.types import Scope
from pippin.stats.contrast import error_parts

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
    for look in range(len(wanted.at)):
        planned = plan(looks.study_at(study, wanted, look))
        do(planned.cells)
        live, _ = diverged.without(planned, store)
        decoding = next(iter(live.runs[0].verdicts))
        rows, scope = _rows(planned, values.pooled(live, values.read(live, store)), decoding)
        seen.append(rows)
        judged.append(looks.judged(wanted, seen, study.margin))
        if all(row["decided"] for row in judged[-1]):
            break
    return planned, looks.report(wanted, judged, scope, decoding)


def _rows(planned: Plan, pool: Pooled, decoding: str) -> tuple[list[Json], Scope]:
    """Every arm against its baseline, also one that diverged, in the widest scope that all allow."""
    there = {arm: base for arm, base, d in compared(planned, pool) if d == decoding}
    pairs = {arm: (pool[arm, decoding], pool[base, decoding]) for arm, base in there.items()}
    scope: Scope = METHOD if all(values.comparable(pair, METHOD) for pair in pairs.values()) else RUNS
    rows: list[Json] = []
    for arm, base in planned.baselines.items():
        if arm == base:
            continue
        row: Json = {"name": arm, "baseline": base, "delta": None, "error": None, "freedom": None}
        sides = values.comparable(pairs[arm], scope) if arm in pairs else None
        made = values.contrast(pairs[arm], (1.0, -1.0), scope) if sides is not None else None
        if sides is not None and made is not None:
            spread = error_parts(sides[0], (1.0, -1.0), sides[1])[0].spread
            row |= {"delta": made.value, "error": spread.error, "freedom": spread.freedom}
        rows.append(row)
    if not rows:
        raise InputError("looks need an arm beside the baseline", where=f"{planned.study.where}: looks",
                         found=planned.study.baseline)  # fmt: skip
    return rows, scope
