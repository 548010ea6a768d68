"""Pairs in LLMBar's form: ``dataset.json`` in a folder that names the set, with input, output_1, output_2 and label.

LLMBar's own sets, its case study and its processed versions of other benchmarks all have this form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Group, Outcome, Prompt, user
from pippin.data import labelled
from pippin.data.reader import Notes
from pippin.data.rows import read_rows

SETS = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")
CASE_STUDY = ("Normal", "Negation", "Constraint", "Base_9", "Base_10")
PROCESSED = ("FairEval", "LLMEval2", "MT-Bench")
ALL = (*SETS, *CASE_STUDY, *PROCESSED)

FOLDERS = {"LLMEval^2": "LLMEval2", "Base-9": "Base_9", "Base-10": "Base_10"}
"""Other names under which folders of these sets are found."""

AUTHORS = {"FairEval": ("chatgpt", "vicuna-13b")}
"""Who wrote output_1 and output_2, for the one set where that is known."""

LABELS = {1: Outcome.FIRST, 2: Outcome.SECOND}


def files(path: Path, only: str = "") -> list[tuple[str, Path]]:
    """Set and file of each ``dataset.json`` in ``path`` or below, LLMBar's own sets first; of the set ``only``, if any.

    A single file outside the known folders counts as the set ``only``.

    Raises:
        InputError: there is none, or two of one set.
    """
    if path.is_file():
        name = _set_of(path)
        found = [(name if name in ALL or not only else only, path)]
    else:
        found = sorted(((_set_of(file), file) for file in path.rglob("dataset.json")), key=_rank)
    kept = [(name, file) for name, file in found if only in ("", name)]
    if not kept:
        raise InputError(f"no data of {only or 'LLMBar'}", where=str(path), found=[name for name, _ in found] or None,
                         expected="a dataset.json in this folder or below")  # fmt: skip
    names = [name for name, _ in kept]
    twice = next((file for i, (name, file) in enumerate(kept) if name in names[:i]), None)
    if twice is not None:
        raise InputError("a second file of the same set", where=str(twice), mend="Name the folder of one of them")
    return kept


def groups(path: Path, notes: Notes, source: str, only: str = "") -> Iterator[Group]:
    """The pairs of all sets below ``path``, or of one; the set is the prompt's tag.

    Raises:
        InputError: no data, or a row of another form.
    """
    for name, file in files(path, only):
        for where, row in read_rows(file):
            notes.saw(f"pairs of {name}")
            item, one, two = labelled.texts(row, ("input", "output_1", "output_2"), where, "LLMBar")
            notes.saw(f"pairs of {name} with two equal outputs", one == two)
            notes.saw(f"pairs of {name} with an empty output", not (one.strip() and two.strip()))
            outcome = labelled.coded(row.get("label"), LABELS, where, "label", "LLMBar")
            prompt = Prompt(user(item), source=source, tags=(name,))
            yield labelled.pair(prompt, zip((one, two), AUTHORS.get(name, ("", "")), strict=True), outcome)


def _set_of(file: Path) -> str:
    name = file.resolve().parent.name
    return FOLDERS.get(name, name)


def _rank(found: tuple[str, Path]) -> tuple[int, str]:
    name, file = found
    return (ALL.index(name) if name in ALL else len(ALL)), str(file)
