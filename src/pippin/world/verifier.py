"""The truth about an answer: named checks, gold in [0, 1], length and fluff. Total: no text makes it raise.

An answer is read as ``openers body closers``; the body is items joined by one kind of separator, then perhaps an end
mark.

==========  =======================================================================================================
check       passes where
==========  =======================================================================================================
format      the body is nothing but items, one separator of one kind between each two, and at most one end mark
core        list: different words of the category; transform and filter: exactly the right words in the right order;
            count: exactly the right number, in digits or as a word
number      list: as many items as asked
start       the first item is the word asked for
include     the word asked for is among the items
avoid       the word is not among the items
order       the items stand in the order asked for
form        count: a digit or a word, as asked
separator   every separator is of the kind asked for
end         the body ends in the mark asked for
==========  =======================================================================================================

Without an item no check passes. ``solved`` is all checks passed. Gold is 1 if solved, else half the share of passed
checks, halved again where ``core`` or ``format`` fails; then each fluff word beyond the third costs 5 % of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pippin.core.errors import InputError
from pippin.core.types import Prompt
from pippin.world.lexicon import (
    CATEGORY_OF,
    CLOSERS,
    DIGITS,
    ENDS,
    NUMBERS,
    OPENERS,
    SEPARATORS,
    tokens,
)
from pippin.world.tasks import Task, parse, select

FREE_FLUFF = 3
FLUFF_PRICE = 0.05
LONGEST = 256  # tokens read; a longer text is judged by its first ones, and cannot be right

_OPENERS = tuple(tuple(phrase.split()) for phrase in OPENERS)
_CLOSERS = tuple(tuple(phrase.split()) for phrase in CLOSERS)
_STYLE = frozenset(word for phrase in _OPENERS + _CLOSERS for word in phrase if word.isalpha())
_ITEMS = frozenset((*CATEGORY_OF, *NUMBERS, *DIGITS))
_MARKS = frozenset(ENDS.values())
_JOINTS = frozenset(SEPARATORS.values())


@dataclass(frozen=True)
class Verdict:
    """What the verifier says of one answer. ``words`` counts all tokens, ``fluff`` the words of chat."""

    gold: float
    solved: bool
    checks: dict[str, bool]
    words: int
    fluff: int


@dataclass(frozen=True)
class _Body:
    """An answer without its chat."""

    items: tuple[str, ...]
    joints: tuple[str, ...]
    end: str
    clean: bool


def verify(asked: Prompt | Task | str, response: str) -> Verdict:
    """Check ``response`` against what was asked: a task, a prompt of this world, or its text.

    A prompt that is not of this world has no truth: gold 0 and the single check ``known`` failed.
    """
    text = tokens(response)
    stripped, fluff = _strip(text[:LONGEST])
    try:
        task = asked if isinstance(asked, Task) else parse(asked.text if isinstance(asked, Prompt) else asked)
    except InputError:
        return Verdict(0.0, False, {"known": False}, len(text), fluff)
    body = _read(stripped, complete=len(text) <= LONGEST)
    checks = _checks(task, body)
    solved = all(checks.values())
    gold = 1.0 if solved else 0.5 * sum(checks.values()) / len(checks)
    if not (checks["core"] and checks["format"]):
        gold *= 0.5
    gold *= max(0.0, 1.0 - FLUFF_PRICE * max(0, fluff - FREE_FLUFF))
    return Verdict(gold, solved, checks, len(text), fluff)


def solution(task: Task) -> list[tuple[str, ...]]:
    """All right item sequences of a task other than ``list``; the constraint ``form`` is ignored."""
    words = select(task)
    if task.skill == "filter":
        return [words]
    if task.skill == "count":
        return [(DIGITS[len(words)],), (NUMBERS[len(words)],)]
    results = {
        "ascending": tuple(sorted(words)),
        "descending": tuple(sorted(words, reverse=True)),
        "reverse": words[::-1],
        "copy": words,
        "twice": tuple(word for word in words for _ in range(2)),
    }
    return [results[task.operation]]


def _strip(text: list[str]) -> tuple[list[str], int]:
    """``text`` without the openers before and the closers after its body; and how many fluff words it has in all."""
    fluff = sum(token in _STYLE for token in text)
    start, stop = 0, len(text)
    while size := next((len(p) for p in _OPENERS if tuple(text[start : start + len(p)]) == p), 0):
        start += size
    while size := next((len(p) for p in _CLOSERS if tuple(text[max(start, stop - len(p)) : stop]) == p), 0):
        stop -= size
    return text[start:stop], fluff


def _read(text: list[str], complete: bool) -> _Body:
    end = text[-1] if text and text[-1] in _MARKS else ""
    inner = text[:-1] if end else text
    items, joints = tuple(inner[0::2]), tuple(inner[1::2])
    clean = len(items) == len(joints) + 1 and _ITEMS.issuperset(items) and joints == joints[:1] * len(joints)
    return _Body(
        tuple(token for token in inner if token in _ITEMS),
        tuple(token for token in inner if token in _JOINTS),
        end,
        complete and clean and _JOINTS.issuperset(joints),
    )


def _checks(task: Task, body: _Body) -> dict[str, bool]:
    items, any_item = body.items, bool(body.items)
    checks = {"format": body.clean, "core": False}
    if task.skill == "list":
        checks["core"] = len(set(items)) == len(items) and all(CATEGORY_OF.get(w) == task.category for w in items)
        checks["number"] = len(items) == task.number
    else:
        checks["core"] = items in solution(task)
    for name, value in task.constraints:
        checks[name] = _holds(name, value, body) if any_item else False
    return {name: passed and any_item for name, passed in checks.items()}


def _holds(constraint: str, value: str, body: _Body) -> bool:
    items = body.items
    match constraint:
        case "start":
            return items[0] == value
        case "include":
            return value in items
        case "avoid":
            return value not in items
        case "order":
            return list(items) == sorted(items, reverse=value == "za")
        case "form":
            return all(item in (DIGITS if value == "digit" else NUMBERS) for item in items)
        case "separator":
            return body.joints == (SEPARATORS[value],) * (len(items) - 1)
        case _:
            return body.end == ENDS[value]
