"""What a judge's words say: versioned parsers, pure functions from a text to an outcome in the order shown.

``llmbar``, ``llmbar_cot``
    The published rules of LLMBar (Zeng et al. 2024, code of the paper): a label at the start of the text or of a
    line; the phrase "Output (x) is better" anywhere. (a) is tried first and wins wherever it stands; no match is no
    verdict. Kept so that the published numbers can be reproduced. Trying (a) first is a position bias where a text
    contains both.
``pippin-1``
    A bare label on the first or the last line, or the last sentence that says which is better: an explanation may
    weigh both sides before it. Bare labels that contradict one another or that sentence are no verdict. Refusal,
    truncation and failure are told apart from what cannot be read.

A parser is never changed: a better one gets a new name, and old calls can be read again with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pippin.core.errors import UnknownName
from pippin.core.types import Outcome, Stop

Parser = Callable[[str, Stop], Outcome]
_OUTCOME = {"a": Outcome.FIRST, "b": Outcome.SECOND}

_LINE = {x: re.compile(rf"(?:^|\n) ?Output \({x}\)") for x in "ab"}
_IS_BETTER = {x: re.compile(rf"Output \({x}\) is better.") for x in "ab"}

_DRESS = r"[\s*_`\"'>#-]*"
_BARE = re.compile(
    rf"{_DRESS}(?:(?:the )?(?:final )?(?:answer|verdict|better output|choice)(?: is)?\s*:?\s*)?{_DRESS}"
    rf"(?:output\s*\(?([ab])\)?|\(([ab])\))(?:{_DRESS}$|{_DRESS}[.;!(](?!{_DRESS}(?:output\s*)?\(?[ab]\)\W*$)|\s+(?:because|since)\b)"
    rf"|\W*([ab])\W*$",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"\boutput\s*\(?([ab])\)?\s+(?:is|was|would be)\s+(?:\w+ly\s+|much\s+|the\s+|overall\s+)*"
    r"(?:better|best|preferred|superior)\b"
    r"|\b(?:prefer|choose|pick|select)\s+output\s*\(?([ab])\)?"
    r"|\b(?:better|best|preferred)\s+(?:output|one|choice)\s+is\s+(?:output\s*)?\(?([ab])\)?(?!\w)",
    re.IGNORECASE,
)
_TIE = re.compile(r"^\W*(?:tie\b|both\b|equal(?:ly)?\b|it is a tie\b|they are equal)|\bequally good\b", re.IGNORECASE)
_NEITHER = re.compile(r"^\W*neither\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:i'?m sorry|i am sorry|sorry|i apologi[sz]e|as an ai\b|i (?:can ?not|can'?t|won'?t|am unable|must decline)"
    r"|unfortunately,? i)",
    re.IGNORECASE,
)


def parse(text: str, stop: Stop = "", parser: str = "pippin-1") -> Outcome:
    """Read a verdict. ``stop`` is the call's stop reason.

    Raises:
        UnknownName: no such parser.
    """
    if parser not in PARSERS:
        raise UnknownName("parser", parser, PARSERS)
    return PARSERS[parser](text.strip(), stop)


def _published(patterns: dict[str, re.Pattern[str]]) -> Parser:
    """(a) first, and nothing but a verdict or none: the paper's code knows no tie."""

    def read(text: str, stop: Stop) -> Outcome:
        found = next((x for x, pattern in patterns.items() if pattern.search(text)), None)
        outcome = _OUTCOME[found] if found else _missing(text, stop)
        return outcome if outcome.decided or outcome.missing else Outcome.UNPARSED

    return read


def _last_statement(text: str, stop: Stop) -> Outcome:
    if stop == "error":
        return Outcome.FAILED
    plain = text.replace("’", "'")
    lines = plain.strip().split("\n")
    bare = {_label(m) for line in (lines[0], lines[-1]) if (m := _BARE.match(line))}
    last = [_label(m) for m in _PHRASE.finditer(plain)][-1:]
    if bare:
        said = bare.union(last)
        return _OUTCOME[said.pop()] if len(said) == 1 else Outcome.UNPARSED
    if last and stop != "length":  # an explanation that was cut off has not come to its end
        return _OUTCOME[last[0]]
    return _missing(plain, stop)


def _label(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).lower()


def _missing(text: str, stop: Stop) -> Outcome:
    """Why a text holds no verdict, or that it says there is none to give."""
    if stop == "error":
        return Outcome.FAILED
    if stop == "filter" or _REFUSAL.search(text):
        return Outcome.REFUSED
    if stop == "length":
        return Outcome.TRUNCATED
    if _NEITHER.search(text):
        return Outcome.BOTH_BAD
    return Outcome.TIE if _TIE.search(text) else Outcome.UNPARSED


PARSERS: dict[str, Parser] = {
    "pippin-1": _last_statement,
    "llmbar": _published(_LINE),
    "llmbar_cot": _published(_IS_BETTER),
}
