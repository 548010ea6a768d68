"""Small pieces that readers of labelled data share: texts out of a row, responses by known authors, choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Outcome, Prompt, Response, assistant

T = TypeVar("T")
GOLD = "gold"


def texts(row: Mapping[str, Any], keys: Sequence[str], where: str, form: str) -> list[str]:
    """The texts in these columns.

    Raises:
        InputError: one is missing or no text; names all that are needed.
    """
    found = [row.get(key) for key in keys]
    if not all(isinstance(value, str) for value in found):
        raise InputError(f"not a row of {form}", where=where, found=sorted(map(str, row)), expected=", ".join(keys))
    return found  # type: ignore[return-value]


def coded(value: Any, codes: Mapping[Any, T], where: str, column: str, form: str) -> T:
    """What a label means.

    Raises:
        InputError: it is none of the codes.
    """
    if not isinstance(value, (str, int)) or isinstance(value, bool) or value not in codes:
        raise InputError(f"not a row of {form}: no label in column {column!r}", where=where, found=value,
                         expected=list(codes))  # fmt: skip
    return codes[value]


def responses(prompt: Prompt, said: Iterable[tuple[str, str]]) -> tuple[Response, ...]:
    """Responses from pairs of text and author; equal texts of one author are numbered, so that their ids differ."""
    seen: Counter[tuple[str, str]] = Counter()
    result = []
    for text, by in said:
        result.append(Response(prompt.id, assistant(text), by=by, sample=seen[text, by]))
        seen[text, by] += 1
    return tuple(result)


def choice(first: Response, second: Response, outcome: Outcome, by: str, strength: float | None = None) -> Choice:
    """What ``by`` said of two responses, in the order shown."""
    return Choice(first.prompt_id, first.id, second.id, outcome, by, strength=strength)


def pair(prompt: Prompt, said: Iterable[tuple[str, str]], outcome: Outcome) -> Group:
    """Two responses, given as text and author, with one gold label."""
    one, two = responses(prompt, said)
    return Group(prompt, (one, two), (choice(one, two, outcome, GOLD),))
