"""Recorded outputs of LLMBar's evaluators (``LLM__STRATEGY.jsonl.gz``) into verdicts, read anew from the texts.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024: the
    strategies, and how the paper's code read each. Whatever winners a file holds are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError
from pippin.core.types import Outcome, Stop
from pippin.data.rows import read_rows
from pippin.judge.parse import parse

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

STOPS: Mapping[str, Stop] = {
    "stop": "end", "length": "length", "content_filter": "filter", "content management policy": "filter",
}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """One evaluator on one set: outcomes in the data's numbering (FIRST is output_1), by position in the set."""

    llm: str
    strategy: str
    set: str
    labels: dict[int, int | None]  # gold as the file states it: 1 or 2
    original: dict[int, Outcome]
    swapped: dict[int, Outcome]


def read_recordings(folder: str | Path, parser: str) -> tuple[list[Recording], list[dict[str, str]]]:
    """All recordings in a folder, and the files that were skipped, each with the reason.

    ``parser`` ``llmbar`` reads each stage as the paper's code did; any other name reads every text with that parser.

    Raises:
        InputError: no recordings in the folder, or a row that is not one.
    """
    files = sorted(f for f in Path(folder).glob("*__*") if f.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise InputError("no recordings", where=str(folder), expected="files named LLM__STRATEGY.jsonl.gz")
    found: list[Recording] = []
    skipped: list[dict[str, str]] = []
    for file in files:
        llm, _, strategy = file.name.removesuffix(".gz").removesuffix(".jsonl").partition("__")
        if strategy not in STRATEGIES:
            skipped.append({"file": file.name, "why": f"how strategy {strategy} states its verdict is not known"})
            continue
        found += _read(file, llm, strategy, parser)
    return found, skipped


def _read(file: Path, llm: str, strategy: str, parser: str) -> list[Recording]:
    sets: dict[str, Recording] = {}
    seen: dict[str, set[int]] = defaultdict(set)
    for where, row in read_rows(file):
        name, index = row.get("set"), row.get("i")
        if not isinstance(name, str) or not isinstance(index, int) or index in seen[name]:
            raise InputError(
                "not a row of a recording", where=where, found=[name, index], expected="set and i, each once"
            )
        seen[name].add(index)
        one = sets.setdefault(name, Recording(llm, strategy, name, {}, {}, {}))
        label = row.get("label")
        one.labels[index] = label if label in (1, 2) else None
        read = _ratings if STRATEGIES[strategy] == RATING else _comparison
        one.original[index], one.swapped[index] = read(row, strategy, parser, where)
    return list(sets.values())


def _comparison(row: Mapping[str, Any], strategy: str, parser: str, where: str) -> tuple[Outcome, Outcome]:
    """The verdicts of the last stage that was run; the swapped order's (a) is output_2."""
    published, stages = STRATEGIES[strategy], row.get("stages")
    if not isinstance(stages, list) or not 1 <= len(stages) <= len(published) or len(stages[-1]) != 2:
        raise InputError("not a row of a recording", where=where, found=stages, expected="stages of two texts each")
    name = published[len(stages) - 1] if parser == LABEL else parser
    original, swapped = (parse(text, STOPS.get(stop or "", ""), name) for text, stop, *_ in stages[-1])
    return original, swapped.swap()


def _ratings(row: Mapping[str, Any], strategy: str, parser: str, where: str) -> tuple[Outcome, Outcome]:
    """The higher score wins in both orders. The paper's code splits ties and failures: one order each, half credit."""
    scores = row.get("scores")
    if not isinstance(scores, list) or len(scores) != 2:
        raise InputError("not a row of a recording", where=where, found=scores, expected="scores of both outputs")
    one, two = (_number(text) for text, *_ in scores)
    if one is None or two is None:
        return (Outcome.FIRST, Outcome.SECOND) if parser == LABEL else (Outcome.UNPARSED, Outcome.UNPARSED)
    if one == two:
        return (Outcome.SECOND, Outcome.FIRST) if parser == LABEL else (Outcome.TIE, Outcome.TIE)
    winner = Outcome.FIRST if one > two else Outcome.SECOND
    return winner, winner


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
