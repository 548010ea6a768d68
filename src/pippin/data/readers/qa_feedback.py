"""QA-Feedback: four answers to a question about given passages, with a human label for each of the six pairs.

Source: Wu et al., "Fine-Grained Human Feedback Gives Better Rewards for Language Model Training", NeurIPS 2023, arXiv
    2306.01693.

The passages are part of the prompt, as they were for the models: without them no one can say what an answer makes up.
The written answer (``gold``) is the reference. Labels are 1 first, 2 second, 0 equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Group, Outcome, Prompt, user
from pippin.data import labelled
from pippin.data.reader import Benchmark, Notes, Reader, file_in
from pippin.data.rows import read_rows

SET = "qa_feedback"
COLUMNS = ("question", "gold", "prediction 1", "prediction 2", "prediction 3", "prediction 4")
LABELS = {1: Outcome.FIRST, 2: Outcome.SECOND, 0: Outcome.TIE}


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for where, row in read_rows(file_in(path, "dev_feedback")):
        question, gold, *said = labelled.texts(row, COLUMNS, where, "QA-Feedback")
        passages, labels = row.get("passages"), row.get("preference")
        if not isinstance(labels, list) or len(labels) != 6 or not isinstance(passages, list):
            raise InputError("not a row of QA-Feedback", where=where, found=labels, expected="passages; six labels")
        context = "\n\n".join(f"{title}\n{' '.join(sentences)}" for title, *sentences in passages)
        asked = f"Answer the question from these passages.\n\n{context}\n\nQuestion: {question}"
        prompt = Prompt(user(asked), source="qa_feedback", reference=gold, tags=(SET,))
        answers = labelled.responses(prompt, [(text, "") for text in said])
        outcomes = [labelled.coded(label, LABELS, where, "preference", "QA-Feedback") for label in labels]
        shown = zip(combinations(answers, 2), outcomes, strict=True)
        spans = len((row.get("feedback") or {}).get("errors") or ())
        notes.saw("questions")
        notes.update({"faulty spans of the first answer left out": spans} if spans else {})
        yield Group(prompt, answers, tuple(labelled.choice(*pair, outcome, labelled.GOLD) for pair, outcome in shown))


READER = Reader(groups)
BENCHMARK = Benchmark(
    (SET,), note="each label is one crowd worker's",
    warnings=(
        "the first of the two answers wins 62 % of the decided pairs: position or the order of sampling",
        "the six pairs of a question share its four answers: resample by prompt",
    ),
)  # fmt: skip
