"""RewardBench 2: prompts with good and bad completions (usually one of four is good), by subset.

Source: Malik et al., "RewardBench 2: Advancing Reward Model Evaluation", 2025, arXiv 2506.01937.

``path`` is a file or a folder of Parquet or JSON lines. Good completions have rank 1, the others rank 2. The prompt's
second tag is the row's id: in Ties it joins the rows that are scored together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError
from pippin.core.types import Group, Prompt, Ranking, user
from pippin.data import labelled
from pippin.data.reader import Benchmark, Notes, Reader, files_below
from pippin.data.rows import read_rows

SETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
EXPECTED = "prompt, subset, chosen and rejected (lists of texts)"


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for file in files_below(path, EXPECTED):
        for where, row in read_rows(file):
            yield _group(row, where, notes)


def _group(row: dict[str, Any], where: str, notes: Notes) -> Group:
    asked, subset = labelled.texts(row, ("prompt", "subset"), where, "RewardBench 2")
    good, bad = (row.get(name) for name in ("chosen", "rejected"))
    if not all(isinstance(said, list) and said and all(isinstance(t, str) for t in said) for said in (good, bad)):
        raise InputError("not a row of RewardBench 2", where=where, found={"chosen": good}, expected=EXPECTED)
    for column, n in (("num_correct", len(good)), ("num_incorrect", len(bad))):  # type: ignore[arg-type]
        if row.get(column) not in (None, n):
            raise InputError(f"column {column!r} does not fit the lists", where=where, found=row[column], expected=n)
    said = [*good, *bad]  # type: ignore[misc]
    models = row.get("models") or []
    fits = len(models) == len(said)
    notes.saw(f"prompts of {subset}")
    notes.saw("prompts whose list of models does not fit: authors unknown", not fits)
    notes.saw("additional_metadata left out", row.get("additional_metadata") is not None)
    prompt = Prompt(user(asked), source="reward_bench_2", tags=(subset, str(row.get("id", ""))))
    answers = labelled.responses(prompt, zip(said, models if fits else [""] * len(said), strict=True))
    ranks = tuple(1 if i < len(good) else 2 for i in range(len(said)))  # type: ignore[arg-type]
    return Group(prompt, answers, (Ranking(prompt.id, tuple(r.id for r in answers), ranks, labelled.GOLD),))


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, (("all six subsets", SETS),), hub="allenai/reward-bench-2",
    note="best of four, by chance 25 %",
    warnings=("good completions stand first in the data: shuffle what a judge is shown",
              "Ties has many good completions a prompt: all of them must beat all of the others"),
)  # fmt: skip
