"""Rows of Tulu's human evaluation as Groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from pippin.core.types import Group, Judgement, Outcome, Prompt, Response, Score, user
from pippin.data import labelled
from pippin.data.reader import Notes
from pippin.data.rows import Row

SET = "tulu_human"
FORM = "Tulu's human evaluation"
COLUMNS = ("prompt", "model_a", "model_b", "completion_a", "completion_b", "preference", "evaluator")
POINTS = {
    "a-is-better": (Outcome.FIRST, 2.0), "a-is-slightly-better": (Outcome.FIRST, 1.0), "tie": (Outcome.TIE, None),
    "b-is-slightly-better": (Outcome.SECOND, 1.0), "b-is-better": (Outcome.SECOND, 2.0),
}  # fmt: skip
ACCEPTABLE = {"yes": 1.0, "no": 0.0}

Item = tuple[str, tuple[tuple[str, str], ...]]  # the prompt, and (model, text) of both answers, sorted


def groups(rows: Iterable[Row], notes: Notes) -> Iterator[Group]:
    """One Group per prompt and two answers, in the order of first appearance; sides are joined by model and text.

    Raises:
        InputError: a row of another form, with another word for a preference or for acceptability.
    """
    items: dict[Item, list[Row]] = defaultdict(list)
    for row in rows:
        asked, model_a, model_b, text_a, text_b, *_ = labelled.texts(row.values, COLUMNS, row.where, FORM)
        notes.saw("judgements")
        notes.saw("comments and marks of quality left out",
                  bool(row.values.get("comment") or row.values.get("instance_quality")))  # fmt: skip
        items[asked, tuple(sorted([(model_a, text_a), (model_b, text_b)]))].append(row)
    for (asked, _), seen in items.items():
        prompt = Prompt(user(asked), source="tulu_human", tags=(SET,))
        first = seen[0].values
        answers = labelled.responses(prompt, [(first[f"completion_{s}"], first[f"model_{s}"]) for s in "ab"])
        people = Counter(row.values["evaluator"] for row in seen)
        notes.saw("items")
        notes.saw("items judged more than once", len(seen) > 1)
        notes.saw("items that one person judged more than once", max(people.values()) > 1)
        notes.saw("items with two equal answers", answers[0].text == answers[1].text)
        yield Group(prompt, answers, tuple(said for row in seen for said in _said(row, answers, notes)))


def _said(row: Row, answers: tuple[Response, ...], notes: Notes) -> Iterator[Judgement]:
    values, by = row.values, f"human/{row.values['evaluator']}"
    shown = [next(r for r in answers if (r.by, r.text) == (values[f"model_{s}"], values[f"completion_{s}"]))
             for s in "ab"]  # fmt: skip
    outcome, strength = labelled.coded(values["preference"], POINTS, row.where, "preference", FORM)
    yield labelled.choice(shown[0], shown[1], outcome, by, strength)
    for side, response in zip("ab", shown, strict=True):
        column = f"completion_{side}_is_acceptable"
        if values.get(column) in (None, ""):
            notes.saw("answers without a word on whether they are acceptable")
            continue
        value = labelled.coded(values[column], ACCEPTABLE, row.where, column, FORM)
        yield Score(response.prompt_id, response.id, value, by, "acceptable", (0.0, 1.0))
