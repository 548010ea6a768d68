"""What a judge's words say: versioned parsers, pure functions from a text to an outcome in the order shown.

``llmbar``, ``llmbar_cot``
    The published rules of LLMBar (Zeng et al. 2024, code of the paper): a label at the start of the text or of a
    line; the phrase "Output (x) is better" anywhere. (a) is tried first and wins wherever it stands; no match is no
    verdict. Kept so that the published numbers can be reproduced. Trying (a) first is a position bias where a text
    contains both.
``pippin-2``
    The last statement wins: a verdict in JSON or in double brackets, a bare label on the first or the last line, a
    sentence that says which is better. Statements that contradict one another are flagged. Thinking is set apart.
    Refusal, truncation and failure are told apart from what cannot be read.

A parser is never changed: a better one gets a new name, and stored calls can be read again with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pippin.core.errors import UnknownName
from pippin.core.types import Outcome, Stop

DEFAULT = "pippin-2"


@dataclass(frozen=True)
class Reading:
    """What one text says: ``said`` are its statements in their order, ``conflict`` that they contradict one another.

    ``thinking`` is what the model wrote before its answer between think tags; it states nothing.
    """

    outcome: Outcome
    said: tuple[Outcome, ...] = ()
    thinking: str = ""

    @property
    def conflict(self) -> bool:
        return len(set(self.said)) > 1


Parser = Callable[[str, Stop], Reading]
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
_BRACKET = re.compile(r"\[\[\s*(?:output\s*)?\(?(a|b|c|tie)\)?\s*\]\]", re.IGNORECASE)
_JSON = re.compile(
    r"[\"'](?:winner|verdict|better|best|choice|preferred|preference|answer)[\"']\s*:\s*"
    r"[\"']?\s*(?:output\s*)?\(?(a|b|tie|both|equal)\)?\s*[\"']?\s*(?=[,}\n]|$)",
    re.IGNORECASE,
)
_TIE = re.compile(r"^\W*(?:tie\b|both\b|equal(?:ly)?\b|it is a tie\b|they are equal)|\bequally good\b", re.IGNORECASE)
_NEITHER = re.compile(r"^\W*neither\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:i'?m sorry|i am sorry|sorry|i apologi[sz]e|as an ai\b|i (?:can ?not|can'?t|won'?t|am unable|must decline)"
    r"|unfortunately,? i)",
    re.IGNORECASE,
)
_THINKING = re.compile(r"^\s*<(think|thinking|reasoning)>(.*?)(?:</\1>|$)", re.DOTALL)
_THOUGHT = re.compile(r"^(.*?)</(?:think|thinking|reasoning)>", re.DOTALL)  # templates may write the opening tag


def read(text: str, stop: Stop = "", parser: str = DEFAULT) -> Reading:
    """Read a verdict. ``stop`` is the call's stop reason.

    Raises:
        UnknownName: no such parser.
    """
    if parser not in PARSERS:
        raise UnknownName("parser", parser, PARSERS)
    return PARSERS[parser](text.strip(), stop)


def parse(text: str, stop: Stop = "", parser: str = DEFAULT) -> Outcome:
    """The outcome alone of :func:`read`."""
    return read(text, stop, parser).outcome


def explained(parser: str) -> str:
    """What reads an explanation's closing sentence where ``parser`` reads bare labels: the published rules are two."""
    return "llmbar_cot" if parser == "llmbar" else parser


def without_thinking(text: str) -> tuple[str, str]:
    """(thinking, the rest): what stands between think tags at the start of a text, and what follows it.

    Thinking that was never closed is all of the text.
    """
    found = _THINKING.match(text)
    if found:
        return found[2].strip(), text[found.end() :].strip()
    found = _THOUGHT.match(text)
    return (found[1].strip(), text[found.end() :].strip()) if found else ("", text)


def missing(text: str, stop: Stop) -> Outcome:
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


def _published(patterns: dict[str, re.Pattern[str]]) -> Parser:
    """(a) first, and nothing but a verdict or none: the paper's code knows no tie."""

    def reading(text: str, stop: Stop) -> Reading:
        said = tuple(_OUTCOME[x] for x, pattern in patterns.items() if pattern.search(text))
        outcome = said[0] if said else missing(text, stop)
        return Reading(outcome if outcome.decided or outcome.missing else Outcome.UNPARSED, said)

    return reading


def _last_statement(text: str, stop: Stop) -> Reading:
    if stop == "error":
        return Reading(Outcome.FAILED)
    thinking, spoken = without_thinking(text.replace("’", "'"))
    cut = stop == "length"
    said = _statements(spoken, cut)
    if said:
        return Reading(said[-1], said, thinking)
    if thinking and not spoken:
        return Reading(Outcome.TRUNCATED if cut else Outcome.UNPARSED, (), thinking)
    return Reading(missing(spoken, stop), (), thinking)


def _statements(text: str, cut: bool) -> tuple[Outcome, ...]:
    """All that a text states, in the order in which it does."""
    found: list[tuple[int, Outcome]] = []
    for pattern in (_BRACKET, _JSON):
        found += [(m.start(), _OUTCOME.get(m[1].lower(), Outcome.TIE)) for m in pattern.finditer(text)]
    first, newline, _ = text.partition("\n")
    lines = [(0, first)]
    if newline and not cut:
        start = text.rindex("\n") + 1
        lines.append((start, text[start:]))
    found += [(at, _OUTCOME[_label(m)]) for at, line in lines if (m := _BARE.match(line))]
    found += [(m.start(), _OUTCOME[_label(m)]) for m in _PHRASE.finditer(text)]
    return tuple(outcome for _, outcome in sorted(found, key=lambda item: item[0]))


def _label(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).lower()


PARSERS: dict[str, Parser] = {
    "pippin-2": _last_statement,
    "llmbar": _published(_LINE),
    "llmbar_cot": _published(_IS_BETTER),
}
