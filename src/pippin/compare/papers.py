"""A plan as a file: what a report stands on, cell by cell, so that it can be analysed again without planning again.

Planning anew would need the files that the study names, and the libraries that its cells were made with; a report that
is sent to someone has neither. ``plan.json`` lies beside ``results.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pippin.compare.axes import Arm
from pippin.compare.cells import ArmRun, Cell, Plan, in_order
from pippin.compare.study import Study
from pippin.core import config
from pippin.core.errors import InputError
from pippin.core.run import replacing

Json = dict[str, Any]
FILE = "plan.json"
FORMAT = 1
_MEASURED = ("checks", "curves")  # keyed by name and seed, which no key of JSON is


def to_row(plan: Plan) -> Json:
    """A plan as JSON takes it; :func:`from_row` gives an equal one."""
    rest = {f.name: getattr(plan, f.name) for f in fields(plan)}
    told = {
        "study": asdict(rest.pop("study")),
        "cells": [asdict(cell) for cell in rest.pop("cells").values()],
        "runs": [asdict(run) for run in rest.pop("runs")],
        **{name: [[*of, key] for of, key in rest.pop(name).items()] for name in _MEASURED},
    }
    return json.loads(json.dumps({"format": FORMAT, **rest, **told}))


def from_row(row: Mapping[str, Any], where: str = FILE) -> Plan:
    """The plan of :func:`to_row`.

    Raises:
        InputError: the row is no plan, or one of another format.
    """
    if not isinstance(row, Mapping) or row.get("format") != FORMAT:
        raise InputError("not a plan of this version", where=where, expected=f"format {FORMAT}",
                         found=row.get("format") if isinstance(row, Mapping) else None)  # fmt: skip
    try:
        rest = {k: v for k, v in row.items() if k != "format"}
        cells = [Cell(**cell) for cell in rest.pop("cells")]
        runs = [ArmRun(**{**run, "arm": Arm(**run["arm"])}) for run in rest.pop("runs")]
        measured = {name: {(of[0], of[1]): of[2] for of in rest.pop(name)} for name in _MEASURED}
        study = config.build(Study, rest.pop("study"), where, at="study")
        made = Plan(study, {c.key: c for c in cells}, tuple(runs), **measured, **rest)
        _check(made)
        return made
    except (TypeError, KeyError, IndexError, ValueError, AttributeError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError("not a plan of this version", where=where, found=found) from None


def _check(plan: Plan) -> None:
    """Refuse a plan whose cells are not all there, or need each other.

    Raises:
        KeyError, ValueError: with a key.
    """
    named = [key for run in plan.runs for key in (*run.responses.values(), *run.verdicts.values(), run.kl, run.train)]
    lost = [key for key in named if key and key not in plan.cells]
    if lost:
        raise ValueError(f"cell {lost[0]} is not there")
    place = {key: n for n, key in enumerate(in_order(plan.cells))}
    for key, cell in plan.cells.items():
        if any(place[need] >= place[key] for need in cell.needs):
            raise ValueError(f"cell {key} needs itself")


def text(plan: Plan) -> bytes:
    """``plan.json``. Keys stand in the plan's order, which is that of the arms and decodings in a report."""
    return json.dumps(to_row(plan)).encode() + b"\n"


def write(plan: Plan, folder: Path) -> None:
    """Write ``plan.json`` into ``folder``."""
    with replacing(folder / FILE) as file:
        file.write(text(plan))


def read(folder: Path) -> Plan:
    """The plan in ``folder``.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    file = folder / FILE
    try:
        return from_row(json.loads(file.read_bytes()), str(file))
    except (OSError, ValueError) as error:
        mend = "Run `pippin compare` on the study again; what is stored is not run again"
        raise InputError(
            "no plan beside the report",
            where=str(file),
            found=getattr(error, "strerror", None) or str(error),
            mend=mend,
        ) from None
