"""Prompts, responses, preferences and conversations in the ecosystem's columns; the form is detected.

Source: TRL, "Dataset formats and types"; AlpacaEval and ShareGPT for the older columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group
from pippin.data import columns
from pippin.data.reader import Notes, Reader
from pippin.data.rows import read_rows


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for where, row in read_rows(path):
        notes.saw(f"rows read as {describe(columns.form(row, where), row)}")
        yield columns.group(row, where)


def detect(path: Path) -> str:
    """What the first row looks like."""
    where, row = next(read_rows(path))
    return describe(columns.form(row, where), row)


def describe(form: str, row: dict) -> str:
    """The form in words, with the columns that decided and whether texts are strings or messages."""
    shown = {
        "group": ("prompt", "responses", "judgements"), "preference": ("prompt", "chosen", "rejected"),
        "ranked": ("prompt", "responses", "scores", "ranks"), "completion": ("prompt", "completion", "label"),
        "output": ("instruction", "input", "output", "generator"), "messages": ("messages", "conversations"),
        "prompt": ("prompt", "instruction"),
    }[form]  # fmt: skip
    used = [name for name in shown if row.get(name) is not None]
    implicit = ", the prompt being what both begin with" if form == "preference" and "prompt" not in used else ""
    kind = "texts" if all(isinstance(row[name], str) for name in used[:2]) else "messages"
    return f"{form} ({', '.join(used)}; {kind}{implicit})"


READER = Reader(groups, detect)
