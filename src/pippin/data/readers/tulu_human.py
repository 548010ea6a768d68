"""Human evaluation of Tulu 1: which of two models' answers is better, on five points, and whether each is acceptable.

Source: Wang et al., "How Far Can Camels Go?", NeurIPS 2023, arXiv 2306.04751; data of allenai/open-instruct.

``path`` is the workbook (``.xlsx``), a table of the same columns (CSV, JSON lines), or a folder with one workbook. An
item is a prompt with two models' answers. Each person's choice is in the order that person saw (strength 1 slightly, 2
clearly better), with a score ``acceptable`` (1 or 0) for each answer. Rows hold all texts: no other file is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError
from pippin.core.types import Group
from pippin.data import tulu_rows
from pippin.data.reader import Benchmark, Notes, Reader
from pippin.data.rows import Row, read_rows
from pippin.data.workbook import read_workbook


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    found = sorted(path.glob("*.xlsx")) if path.is_dir() else [path]
    if len(found) != 1:
        raise InputError("not one workbook in this folder", where=str(path), found=[file.name for file in found],
                         expected="one file .xlsx")  # fmt: skip
    rows = read_workbook(found[0]) if found[0].suffix.lower() == ".xlsx" else read_rows(found[0])
    return tulu_rows.groups(filter(lambda row: _filled(row, notes), rows), notes)


def _filled(row: Row, notes: Notes) -> bool:
    values: list[Any] = list(row.values.values())
    empty = all(value is None or value == "" for value in values)
    notes.saw("empty rows left out", empty)
    return not empty


READER = Reader(groups)
BENCHMARK = Benchmark(
    (tulu_rows.SET,), note="single people on five points; 31 % of the judgements are ties",
    warnings=("no gold label: 564 of 642 items have one person's judgement",
              "three items share each prompt, and every pair has one Tulu 65B answer: resample by prompt",
              "24 items have two equal answers"),
)  # fmt: skip
