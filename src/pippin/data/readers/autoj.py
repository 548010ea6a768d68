"""Auto-J's test set: 1,392 pairs in 58 scenarios, one human label each, ties included.

Source: Li et al., "Generative Judge for Evaluating Alignment", ICLR 2024, arXiv 2310.05470.

Rows ``prompt``, ``output_1``, ``output_2``, ``label`` (1, 2 or tie) and ``scenario``, which is the prompt's second tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group, Outcome, Prompt, user
from pippin.data import labelled
from pippin.data.reader import Benchmark, Notes, Reader, file_in
from pippin.data.rows import read_rows

SET = "autoj"
LABELS = {"1": Outcome.FIRST, "2": Outcome.SECOND, "tie": Outcome.TIE}
COLUMNS = ("prompt", "output_1", "output_2", "scenario")


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for where, row in read_rows(file_in(path, "autoj_pairwise")):
        asked, one, two, scenario = labelled.texts(row, COLUMNS, where, "Auto-J")
        outcome = labelled.coded(row.get("label"), LABELS, where, "label", "Auto-J")
        notes.saw("pairs")
        notes.saw("pairs with two equal outputs", one == two)
        notes.saw("pairs with an empty output", not (one.strip() and two.strip()))
        notes.saw("pairs whose label is a tie", outcome is Outcome.TIE)
        prompt = Prompt(user(asked), source="autoj", tags=(SET, scenario))
        yield labelled.pair(prompt, [(one, ""), (two, "")], outcome)


READER = Reader(groups)
BENCHMARK = Benchmark(
    (SET,), note="one human label a pair; 373 of 1,392 are ties",
    warnings=("27 % of the labels are ties: say what a tie counts before comparing accuracies",),
)  # fmt: skip
