"""LLMBar: pairs of outputs, one of which follows the instruction better, by set (Natural, Neighbor, GPTInst, ...).

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, arXiv
    2310.07641.

``path`` is one ``dataset.json`` or any folder above such files; the folder that holds a file names its set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Outcome, Prompt, assistant, user
from pippin.data import columns
from pippin.data.reader import Benchmark, Notes, Reader
from pippin.data.rows import read_rows

SETS = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    files = [path] if path.is_file() else sorted(path.rglob("dataset.json"), key=_rank)
    if not files:
        raise InputError("no LLMBar data", where=str(path), expected="a dataset.json in this folder or below")
    for file in files:
        name = file.resolve().parent.name
        for where, row in read_rows(file):
            notes.saw(f"pairs of {name}")
            yield _group(row, name, where)


def _rank(file: Path) -> tuple[int, str]:
    name = file.parent.name
    return (SETS.index(name) if name in SETS else len(SETS)), str(file)


def _group(row: dict, name: str, where: str) -> Group:
    texts = [text for key in ("input", "output_1", "output_2") if isinstance(text := row.get(key), str)]
    if len(texts) < 3 or row.get("label") not in (1, 2):
        raise InputError("not a row of LLMBar", where=where, found=row,
                         expected="input, output_1, output_2, label 1 or 2")  # fmt: skip
    prompt = Prompt(user(texts[0]), source="llmbar", tags=(name,))
    one, two = columns.responses(prompt, [assistant(text) for text in texts[1:]])
    outcome = Outcome.FIRST if row["label"] == 1 else Outcome.SECOND
    return Group(prompt, (one, two), (Choice(prompt.id, one.id, two.id, outcome, "gold"),))


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, (("Adversarial", SETS[1:]), ("all five sets", SETS)), human=0.94,
    note="candidates were filtered with ChatGPT judges: those are below chance partly by selection",
)  # fmt: skip
