"""What number a judge's words give: versioned parsers of ratings, beside the parsers of verdicts.

``llmbar``
    The published rule of LLMBar (Zeng et al. 2024, code of the paper): the whole text is an integer, or there is no
    rating. Nobody looks whether it lies on the scale.
``number-1``
    A number in JSON or in double brackets, after "rating" or "score", or alone; the last statement wins. A number
    that is not on the scale is no rating.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pippin.core.errors import UnknownName
from pippin.core.types import Outcome, Stop
from pippin.judge.parse import missing, without_thinking

DEFAULT = "number-1"
Scale = tuple[float, float]

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_STATED = re.compile(
    rf"\[\[\s*{_NUMBER}\s*\]\]"
    rf"|[\"']?\b(?:rating|score)s?\b[\"']?[\s*_]*(?:is|of|:|=)?[\s*_:]*{_NUMBER}(?![\d.]*\d)",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"^[\W_]*{_NUMBER}\s*(?:/\s*\d+|points?|out of \d+)?[\W_]*$", re.IGNORECASE)
_ANY = re.compile(_NUMBER)
_OTHER_NUMBERS = re.compile(r"/\s*\d+|\bout of \d+|\b(?:assistant|output|response)\s*#?\d+\b", re.IGNORECASE)
_OF_SCORES = re.compile(
    r"\b(?:my|the|final|overall|scores?|ratings?|points?|of|for|is|are|and|vs|first|second|one|two|[ab]"
    r"|assistant|output|response|answer)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Number:
    """A rating, or the outcome that says why there is none."""

    value: float | None
    outcome: Outcome | None = None


def read_number(text: str, stop: Stop, scale: Scale, parser: str = DEFAULT) -> Number:
    """Read one rating.

    Raises:
        UnknownName: no such parser.
    """
    if parser not in PARSERS:
        raise UnknownName("parser of numbers", parser, PARSERS)
    if stop == "error":
        return Number(None, Outcome.FAILED)
    return PARSERS[parser](text.strip(), stop, scale)


def read_two(text: str, stop: Stop, scale: Scale) -> tuple[float, float] | Outcome:
    """Two ratings, of the response shown first and of the one shown second, in the last lines that state two numbers.

    A line such as ``8 6`` or ``Scores: 8, 6``, or two labelled numbers on one line or on two lines that follow each
    other. A sentence that happens to hold two numbers states none. Numbers off the scale are none, and a text that was
    cut off has not come to its scores.
    """
    if stop == "error":
        return Outcome.FAILED
    _, spoken = without_thinking(text.strip())
    lines = [line for line in spoken.split("\n") if line.strip()] if stop != "length" else []
    for size in (1, 2):  # both on one line, else one on each of two
        for start in range(len(lines) - size, max(-1, len(lines) - size - 3), -1):
            line = _OTHER_NUMBERS.sub(" ", " ".join(lines[start : start + size]))
            found = [float(n) for n in _ANY.findall(line)]
            if len(found) == 2 and not _WORD.search(_OF_SCORES.sub(" ", line)):
                return (found[0], found[1]) if all(scale[0] <= n <= scale[1] for n in found) else Outcome.UNPARSED
    told = missing(spoken, stop)
    return told if told.missing else Outcome.UNPARSED


def _published(text: str, stop: Stop, scale: Scale) -> Number:
    try:
        return Number(float(int(text)))
    except ValueError:
        return Number(None, _why(text, stop))


def _last_statement(text: str, stop: Stop, scale: Scale) -> Number:
    _, spoken = without_thinking(text)
    first, last = spoken.split("\n")[0], spoken.split("\n")[-1]
    stated = [next(g for g in m.groups() if g) for m in _STATED.finditer(spoken)]
    alone = [m[1] for line in ((first,) if stop == "length" else (first, last)) if (m := _ALONE.match(line))]
    found = stated or alone
    if not found or (stop == "length" and not alone):
        return Number(None, _why(spoken, stop))
    value = float(found[-1])
    return Number(value) if scale[0] <= value <= scale[1] else Number(None, Outcome.UNPARSED)


def _why(text: str, stop: Stop) -> Outcome:
    told = missing(text, stop)
    return told if told.missing else Outcome.UNPARSED


PARSERS: dict[str, Callable[[str, Stop, Scale], Number]] = {"number-1": _last_statement, "llmbar": _published}
