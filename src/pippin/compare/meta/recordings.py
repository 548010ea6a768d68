"""Recorded outputs of LLMBar's evaluators (``LLM__STRATEGY.jsonl.gz``) into verdicts, read anew from the texts.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024: the
    strategies, and how the paper's code read each. Whatever winners a file holds are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Outcome, Stop
from pippin.data.rows import read_rows
from pippin.judge.numbers import DEFAULT as NUMBER
from pippin.judge.numbers import read_number
from pippin.judge.parse import read

LABEL, SENTENCE = "llmbar", "llmbar_cot"
RATING: tuple[str, ...] = ()
STRATEGIES: Mapping[str, tuple[str, ...]] = {
    "Vanilla_NoRules": (LABEL,), "Vanilla": (LABEL,), "Vanilla_1shot": (LABEL,), "Vanilla_2shot": (LABEL,),
    "Metrics": (LABEL,), "Reference": (LABEL,), "Metrics_Reference": (LABEL,),
    "CoT": (SENTENCE,), "Swap": (SENTENCE, LABEL), "Swap_CoT": (SENTENCE, SENTENCE),
    "Rating_NoRules": RATING, "Rating": RATING, "Rating_Metrics": RATING, "Rating_Reference": RATING,
    "Rating_Metrics_Reference": RATING,
}  # fmt: skip
"""The published parser of each stage; none for strategies that rate each output alone."""

RULES: Mapping[str, str] = {"verdict": LABEL, "phrase": SENTENCE, "rating": "rating"}
"""What ``--parser-for`` may name: the published rules V, C and int."""

SCALE = (0.0, 9.0)
STOPS: Mapping[str, Stop] = {
    "stop": "end", "length": "length", "content_filter": "filter", "content management policy": "filter",
}  # fmt: skip


class Read(NamedTuple):
    """One verdict about a pair as it was shown, and the text that it was read from."""

    outcome: Outcome
    texts: tuple[tuple[str, str], ...]
    conflict: bool
    parser: str


@dataclass(frozen=True)
class Recording:
    """One evaluator on one set, by position in the set; outcomes are about the pair as it was shown.

    ``explained`` holds, by position, the first-stage texts and verdicts of strategies that begin with an explanation:
    the same request in all of them, so that they repeat one another.
    """

    llm: str
    strategy: str
    set: str
    labels: dict[int, int | None] = field(default_factory=dict)  # gold as the file states it: 1 or 2
    original: dict[int, Read] = field(default_factory=dict)
    swapped: dict[int, Read] = field(default_factory=dict)
    explained: dict[int, tuple[Read, Read]] = field(default_factory=dict)


def read_recordings(
    folder: str | Path, parser: str, overrides: Mapping[str, str] | None = None
) -> tuple[list[Recording], list[dict[str, str]]]:
    """All recordings in a folder, and what is to be said of some of its files.

    ``parser`` ``llmbar`` reads each stage as the paper's code did; any other name reads every text with that parser.
    ``overrides`` are rules (``verdict``, ``phrase``, ``rating``) by ``LLM__STRATEGY``.

    Raises:
        InputError: no recordings in the folder, or a row that is not one. UnknownName: an override that is no rule, or
            is for no recording here.
    """
    files = sorted(f for f in Path(folder).glob("*__*") if f.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise InputError("no recordings", where=str(folder), expected="files named LLM__STRATEGY.jsonl.gz")
    by_name = {file.name.removesuffix(".gz").removesuffix(".jsonl"): file for file in files}
    for name, rule in (overrides or {}).items():
        if name not in by_name:
            raise UnknownName("recording", name, by_name, where=str(folder))
        if rule not in RULES:
            raise UnknownName("rule", rule, RULES, where=name)
    found: list[Recording] = []
    notes: list[dict[str, str]] = []
    for name, file in by_name.items():
        llm, _, strategy = name.partition("__")
        rule = RULES[overrides[name]] if overrides and name in overrides else ""
        if strategy not in STRATEGIES and not rule:
            notes.append({"file": file.name, "why": f"strategy {strategy} is not LLMBar's: read by what its rows hold"})
        found += _read(file, llm, strategy, parser, rule)
    return found, notes


def _read(file: Path, llm: str, strategy: str, parser: str, rule: str) -> list[Recording]:
    sets: dict[str, Recording] = {}
    seen: dict[str, set[int]] = defaultdict(set)
    for where, row in read_rows(file):
        name, index = row.get("set"), row.get("i")
        if not isinstance(name, str) or not isinstance(index, int) or index in seen[name]:
            raise InputError(
                "not a row of a recording", where=where, found=[name, index], expected="set and i, each once"
            )
        seen[name].add(index)
        one = sets.setdefault(name, Recording(llm, strategy, name))
        label = row.get("label")
        one.labels[index] = label if label in (1, 2) else None
        rates = rule == "rating" or (not rule and _rates(strategy, row))
        if rates:
            one.original[index], one.swapped[index] = _ratings(row, parser, where)
            continue
        stages = _stages(row, strategy, where)
        rules = _rules(strategy, len(stages), rule)
        read_as = [name if parser == LABEL or rule else parser for name in rules]
        if rules[0] == SENTENCE:
            one.explained[index] = _stage(stages[0], read_as[0], "explain")
        role = "explain" if rules[-1] == SENTENCE else "judge"
        last = _stage(stages[-1], read_as[-1], role)
        if len(stages) > 1:  # the texts that led to the last one stand before it
            first = one.explained.get(index) or _stage(stages[0], read_as[0], "explain")
            last = tuple(b._replace(texts=(*a.texts, *b.texts)) for a, b in zip(first, last, strict=True))
        one.original[index], one.swapped[index] = last
    return list(sets.values())


def _rates(strategy: str, row: Mapping[str, Any]) -> bool:
    return STRATEGIES[strategy] == RATING if strategy in STRATEGIES else "scores" in row


def _rules(strategy: str, stages: int, rule: str) -> tuple[str, ...]:
    """The published rule of each stage that was run; for strategies of others, labels unless it explains."""
    if rule:
        return (rule,) * stages
    if strategy in STRATEGIES:
        return STRATEGIES[strategy][:stages]
    return (SENTENCE if strategy.lower().endswith("cot") else LABEL,) * stages


def _stages(row: Mapping[str, Any], strategy: str, where: str) -> list[Any]:
    stages = row.get("stages")
    most = len(STRATEGIES.get(strategy) or (None, None))
    if not isinstance(stages, list) or not 1 <= len(stages) <= most or any(len(stage) != 2 for stage in stages):
        raise InputError("not a row of a recording", where=where, found=stages, expected="stages of two texts each")
    return stages


def _stage(stage: Any, parser: str, role: str) -> tuple[Read, Read]:
    said = []
    for text, stop, *_ in stage:
        reading = read(text, STOPS.get(stop or "", ""), parser)
        said.append(Read(reading.outcome, ((role, text),), reading.conflict, parser))
    return said[0], said[1]


def _ratings(row: Mapping[str, Any], parser: str, where: str) -> tuple[Read, Read]:
    """The higher score wins in both orders. The paper's code splits ties and failures: one order each, half credit."""
    scores = row.get("scores")
    if not isinstance(scores, list) or len(scores) != 2:
        raise InputError("not a row of a recording", where=where, found=scores, expected="scores of both outputs")
    name = LABEL if parser == LABEL else NUMBER
    one, two = (read_number(text, STOPS.get(stop or "", ""), SCALE, name) for text, stop in scores)
    original, swapped = _outcomes(one.value, two.value, published=parser == LABEL)
    if original is Outcome.UNPARSED:
        original = swapped = next(n.outcome for n in (one, two) if n.outcome) or original
    texts = (("rate", scores[0][0]), ("rate", scores[1][0]))
    return Read(original, texts, False, name), Read(swapped, texts[::-1], False, name)


def _outcomes(one: float | None, two: float | None, published: bool) -> tuple[Outcome, Outcome]:
    """Of the pair as it was shown in either order."""
    if one is None or two is None:
        # the paper's code credits output_1 in one order and output_2 in the other, shown first both times
        return (Outcome.FIRST, Outcome.FIRST) if published else (Outcome.UNPARSED, Outcome.UNPARSED)
    if one == two:
        return (Outcome.SECOND, Outcome.SECOND) if published else (Outcome.TIE, Outcome.TIE)
    winner = Outcome.FIRST if one > two else Outcome.SECOND
    return winner, winner.swap()
