"""Peer judgements on Vicuna's 80 questions: five models judge each other, people vote; and experts on long answers.

Source: Li et al., "PRD: Peer Rank and Discussion Improve Large Language Model based Evaluations", 2023, arXiv
    2307.02762.

``path`` is a folder with ``questions_answers.jsonl`` and ``votes.csv`` (set vicuna80) and perhaps
``lfqa_experts.jsonl`` (set lfqa), packed or not, or the last file alone. An LLM judge gave all 20 ordered pairs of a
question; people's votes are ``by`` the slot human/1 to human/3, which is not one person throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Group
from pippin.data import prd_rows
from pippin.data.reader import Benchmark, Notes, Reader

SETS = ("vicuna80", "lfqa")


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    if not path.is_dir():
        yield from prd_rows.experts(path, SETS[1], notes)
        return
    votes, questions, experts = (_file(path, stem) for stem in ("votes", "questions_answers", "lfqa_experts"))
    if votes and questions:
        yield from prd_rows.votes(questions, votes, SETS[0], notes)
    elif votes or questions or not experts:
        raise InputError("no data of PRD", where=str(path), found=sorted(file.name for file in path.iterdir()),
                         expected="votes.csv and questions_answers.jsonl")  # fmt: skip
    if experts:
        yield from prd_rows.experts(experts, SETS[1], notes)


def _file(folder: Path, stem: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"{stem}.*"))), None)


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, note="people agree with each other only in part: see their kappa beside any judge's",
    warnings=("each judge is also a contestant: self-preference",
              "a slot (human/1 ...) is not one person: agreement is between votes, not between known people",
              "people saw each pair in one order only, and pairs with claude have one vote instead of three",
              "lfqa: gold is the majority of one to three experts; pairs on which they are split have none"),
)  # fmt: skip
