"""The two files of PRD as Groups: votes on model answers, and experts' preferences on long answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Note, Outcome, Prompt, user
from pippin.data import labelled
from pippin.data.reader import Notes
from pippin.data.rows import Row, read_rows

VOTES = {"A": Outcome.FIRST, "B": Outcome.SECOND, "tie": Outcome.TIE}
PREFERENCES = {-1: Outcome.FIRST, 1: Outcome.SECOND}
CELLS = ("judge", "slot", "question_id", "model_a", "model_b", "vote")
COLUMN = "overall_preference"
EXPERT = ("question", "answer_a", "answer_b")


def votes(questions: Path, file: Path, name: str, notes: Notes) -> Iterator[Group]:
    """One Group a question: all models' answers, all votes on two of them in the order of the file.

    Raises:
        InputError: a row of another form.
    """
    cast: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(file):
        labelled.texts(row.values, CELLS, row.where, "PRD votes")
        notes.saw("votes read")
        cast[row.values["question_id"]].append(row)
    for where, row in read_rows(questions):
        (asked,) = labelled.texts(row, ("question",), where, "PRD questions")
        answers = row.get("answers")
        if not isinstance(answers, dict) or not all(isinstance(text, str) for text in answers.values()):
            raise InputError("not a row of PRD questions", where=where, found=answers, expected="answers by model")
        notes.saw(f"questions of {name}")
        prompt = Prompt(user(asked), source="prd", tags=(name, str(row.get("category") or "")))
        models = tuple(answers)
        given = labelled.responses(prompt, [(answers[model], model) for model in models])
        by_model = dict(zip(models, given, strict=True))
        stated: list[Choice] = []
        for seen, vote in cast.pop(str(row.get("question_id")), ()):
            outcome = labelled.coded(vote["vote"], VOTES, seen, "vote", "PRD votes")
            first, second = by_model.get(vote["model_a"]), by_model.get(vote["model_b"])
            if first is None or second is None:
                notes.saw("votes left out: one of the two answers is not in the data")
                continue
            stated.append(labelled.choice(first, second, outcome, _voter(vote["judge"], vote["slot"], seen)))
        yield Group(prompt, given, tuple(stated))
    notes.update({"votes left out: the question is not in the data": n} if (n := sum(map(len, cast.values()))) else {})


def experts(file: Path, name: str, notes: Notes) -> Iterator[Group]:
    """One Group a pair of answers: each expert's choice and reasons; the majority as gold, where there is one.

    Raises:
        InputError: a row of another form.
    """
    asked: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in read_rows(file):
        asked[tuple(labelled.texts(row.values, EXPERT, row.where, "PRD lfqa_experts"))].append(row)
    for (question, *said), rows in asked.items():
        prompt = Prompt(user(question), source="prd", tags=(name,))
        authors = [str(rows[0].values.get(column) or "") for column in ("answer_a_type", "answer_b_type")]
        one, two = labelled.responses(prompt, zip(said, authors, strict=True))
        given = [labelled.coded(row.values.get(COLUMN), PREFERENCES, row.where, COLUMN, "PRD lfqa_experts")
                 for row in rows]  # fmt: skip
        people = [labelled.choice(one, two, outcome, f"human/{i}") for i, outcome in enumerate(given, 1)]
        reasons = [Note(prompt.id, (one.id, two.id), text, f"human/{i}") for i, row in enumerate(rows, 1)
                   if isinstance(text := row.values.get("justification"), str) and text.strip()]  # fmt: skip
        (outcome, most), *rest = Counter(given).most_common()
        split = bool(rest) and rest[0][1] == most
        notes.saw(f"pairs of {name}")
        notes.saw(f"pairs of {name} without gold: the experts are split", split)
        notes.update({f"experts' preferences of {name}": len(rows)})
        gold = () if split else (labelled.choice(one, two, outcome, labelled.GOLD),)
        yield Group(prompt, (one, two), (*gold, *people, *reasons))


def _voter(judge: str, slot: str, where: str) -> str:
    if judge != "human":
        return judge
    if not slot.isdigit():
        raise InputError("no slot in column 'slot'", where=where, found=slot, expected="0, 1 or 2")
    return f"human/{int(slot) + 1}"
