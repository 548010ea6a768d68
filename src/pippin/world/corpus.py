"""Documents for pre-training: the skills of the world without its instruction format.

A document is one or two records. A record is a set of fields in any order joined by ``|``, the operation with its words
last, a mark, and the right result::

    style slashes | tail star | mirrored : goat fig cat -> cat / fig / goat *

Fields are in words of their own (``mirrored`` for ``reverse``), now and then in the instruction's wording, and a few
documents are questions and answers; neither the turn tokens nor the chat phrases ever occur. Only tasks of the train
split are used, so nothing held out stands in any document.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pippin.world.lexicon import (
    CATEGORIES,
    CLOSERS,
    DIGITS,
    ENDS,
    NUMBERS,
    OPENERS,
    SEPARATORS,
    WORDS,
    tokens,
)
from pippin.world.people import answer
from pippin.world.tasks import CLAUSES, FORMS, ORDERS, VERBS, Task, draw, render, split_of, stream

SPECIALS: tuple[str, ...] = ("<pad>", "<unk>", "<eos>", "<user>", "<asst>")
"""Token ids 0 to 4: padding, unknown, end of an assistant turn (and of a document), and the two turn openers."""

SHARES: dict[str, float] = {"list": 0.32, "transform": 0.38, "filter": 0.19, "count": 0.11}
MARKS: tuple[str, ...] = ("->", "=>", "=", "gives")
OPERATION_NAMES: dict[str, str] = {
    "ascending": "ascending",
    "descending": "falling",
    "reverse": "mirrored",
    "copy": "same",
    "twice": "doubled",
    "keep": "only {}",
    "drop": "no {}",
    "count": "tally {}",
}
FIELD_NAMES: dict[str, str] = {
    "start": "leads {}",
    "include": "has {}",
    "avoid": "lacks {}",
    "order": "{}",
    "form": "shown {}",
    "separator": "style {}",
    "end": "tail {}",
}
ORDER_NAMES: dict[str, str] = {"az": "ascending", "za": "falling"}
BORROWED = 0.3
"""How often a field stands in the instruction's wording."""
QUESTIONS = 0.05
"""Share of documents of the form ``q : INSTRUCTION a : RESULT``."""
DOUBLE = 0.1
"""Share of documents with two records."""


@dataclass(frozen=True)
class Document:
    """Text in pieces: (text, is it a result). Results carry the loss; the rest is given.

    ``tasks`` are those of its records.
    """

    pieces: tuple[tuple[str, bool], ...]
    tasks: tuple[Task, ...]

    @property
    def text(self) -> str:
        return " ".join(text for text, _ in self.pieces)


def documents(n: int, seed: int, start: int = 0) -> list[Document]:
    """Documents ``start`` to ``start + n`` of the endless corpus of ``seed``."""
    return [_document(stream(seed, "document", row)) for row in range(start, start + n)]


def vocabulary() -> tuple[str, ...]:
    """Every token that prompts, answers, chat and documents can hold, special tokens first; the order gives the ids."""
    wordings = (*VERBS.values(), *CLAUSES.values(), *ORDERS.values(), *FORMS, "list keep drop count the q a : | ||")
    fields = (*MARKS, *OPERATION_NAMES.values(), *FIELD_NAMES.values(), *ORDER_NAMES.values(), "pick")
    content = (*CATEGORIES, *WORDS, *NUMBERS, *DIGITS, *SEPARATORS, *SEPARATORS.values(), *ENDS, *ENDS.values())
    found = dict.fromkeys(t for text in (*content, *OPENERS, *CLOSERS, *wordings, *fields) for t in tokens(text))
    return (*SPECIALS, *(token for token in found if token not in ("{", "}", "{}")))


def _document(rng: random.Random) -> Document:
    if rng.random() < QUESTIONS:
        task = _draw(rng)
        return Document(((f"q : {render(task)} a :", False), (answer(task, rng), True)), (task,))
    first = _draw(rng)
    pieces = _record(first, rng)
    if rng.random() >= DOUBLE:
        return Document(pieces, (first,))
    second = _draw(rng)
    return Document((*pieces, ("||", False), *_record(second, rng)), (first, second))


def _draw(rng: random.Random) -> Task:
    while split_of(task := draw(rng, SHARES)) != "train":
        pass
    return task


def _record(task: Task, rng: random.Random) -> tuple[tuple[str, bool], ...]:
    fields = [_field(rng, name, value) for name, value in task.constraints]
    head = _operation(rng, task)
    if task.skill == "list":
        fields.append(head)
        rng.shuffle(fields)
    else:
        rng.shuffle(fields)
        fields.append(f"{head} : {' '.join(task.words)}")
    return ((f"{' | '.join(fields)} {rng.choice(MARKS)}", False), (answer(task, rng), True))


def _operation(rng: random.Random, task: Task) -> str:
    borrowed = rng.random() < BORROWED
    if task.skill == "list":
        return f"{'list' if borrowed else 'pick'} {NUMBERS[task.number]} {task.category}"
    if task.skill == "transform":
        return VERBS[task.operation] if borrowed else OPERATION_NAMES[task.operation]
    return (
        f"{task.operation} the {task.category}" if borrowed else OPERATION_NAMES[task.operation].format(task.category)
    )


def _field(rng: random.Random, name: str, value: str) -> str:
    borrowed = rng.random() < BORROWED
    if name == "order":
        return CLAUSES[name].format(ORDERS[value]) if borrowed else ORDER_NAMES[value]
    return (CLAUSES if borrowed else FIELD_NAMES)[name].format(value)
