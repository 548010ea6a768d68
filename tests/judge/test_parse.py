"""Verdicts from words. Oracle for the published rules: the winners recorded by the paper's code."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pippin.core.errors import UnknownName
from pippin.core.types import Outcome, Stop
from pippin.judge.numbers import read_number, read_two
from pippin.judge.parse import PARSERS, parse, read

RECORDINGS = (
    Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared"))
    / "data"
    / "llmbar"
    / "recordings"
)
FIRST, SECOND, UNPARSED = Outcome.FIRST, Outcome.SECOND, Outcome.UNPARSED


@pytest.mark.parametrize(
    ("text", "stop", "outcome"),
    [
        ("(a)", "end", FIRST),
        ("Output (b)", "", SECOND),
        ("**Output (a)**.", "end", FIRST),
        ("b", "end", SECOND),
        ("Answer: (b)", "end", SECOND),
        ("The better output is (a).", "end", FIRST),
        ("Output (a) is better at first sight. However, output (b) is clearly better.", "end", SECOND),
        ("Output (b) is better.\n\nOutput (a) is a good start, but", "length", SECOND),
        ("(b)\n\nOutput (a) is", "length", SECOND),
        ("Therefore, Output (a)", "length", Outcome.TRUNCATED),
        ("(a)\n(b)", "end", SECOND),
        ("Output (a)\n\nAll in all, output (b) is better.", "end", SECOND),
        ("Output (a) and Output (b)", "end", UNPARSED),
        ("(a) (b)", "end", UNPARSED),
        ("(a). Output (b).", "end", UNPARSED),
        ("Output (a) (Note: output (b) is off topic)", "end", FIRST),
        ("(a). Output (b) leaves out half.", "end", FIRST),
        ("A good start, both of them", "end", UNPARSED),
        ("", "end", UNPARSED),
        ("", "filter", Outcome.REFUSED),
        ("I'm sorry, but I can't compare these.", "end", Outcome.REFUSED),
        ("I’m sorry, but I can’t.", "end", Outcome.REFUSED),
        ("Both outputs are equally good.", "end", Outcome.TIE),
        ("Neither output is right.", "end", Outcome.BOTH_BAD),
        ("(a)", "error", Outcome.FAILED),
        ("Both are fine, but [[B]]", "end", SECOND),
        ("[[A]] at first, yet in the end [[C]]", "end", Outcome.TIE),
        ('{"explanation": "(b) wins", "winner": "a"}', "end", FIRST),
        ('```json\n{"verdict": "Output (b)"}\n```', "end", SECOND),
        ("<think>Output (a) is better, no, wait</think>\n(b)", "end", SECOND),
        ("so output (a) is better</think>(b)", "end", SECOND),
        ("<think>Output (a) is better. But", "length", Outcome.TRUNCATED),
        ("<think>Output (a) is better.", "end", UNPARSED),
        ("[[A]] because it", "length", FIRST),
    ],
)
def test_last_statement_wins(text: str, stop: Stop, outcome: Outcome) -> None:
    assert parse(text, stop) is outcome


def test_statements_that_contradict_one_another_are_flagged() -> None:
    for text, conflict in (("(a)\n\nOutput (b) is better.", True), ("(a)\n\nOutput (a) is better.", False),
                           ("Hm.", False), ("<think>(b)</think>(a)", False)):  # fmt: skip
        assert read(text).conflict is conflict
    assert read("<think> because </think> (a)").thinking == "because"


@pytest.mark.parametrize(
    ("text", "stop", "number"),
    [
        ("7", "end", 7.0),
        ("Rating: 7/9", "end", 7.0),
        ("First I thought of a score of 3. Score: 8", "end", 8.0),
        ("[[6.5]]", "end", 6.5),
        ('{"score": 4, "why": "2 faults"}', "end", 4.0),
        ("**8**", "end", 8.0),
        ("8 out of 9", "length", 8.0),
        ("It has 2 faults.", "end", UNPARSED),
        ("10", "end", UNPARSED),
        ("Rating: 1", "length", Outcome.TRUNCATED),
        ("I'm sorry, no.", "end", Outcome.REFUSED),
        ("7", "error", Outcome.FAILED),
    ],
)
def test_numbers(text: str, stop: Stop, number: float | Outcome) -> None:
    read = read_number(text, stop, (0, 9))
    assert (read.outcome if read.value is None else read.value) == number


def test_the_published_rule_of_numbers_is_int() -> None:
    assert read_number("10", "", (0, 9), "llmbar").value == 10.0
    assert read_number("7.", "", (0, 9), "llmbar").outcome is UNPARSED
    with pytest.raises(UnknownName, match="parser of numbers"):
        read_number("7", "", (0, 9), "pippin-2")


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("Both are good.\n8 6", (8, 6)),
        ("Scores: 8, 6.5", (8, 6.5)),
        ("why\nThe score of Assistant 1: 8\nThe score of Assistant 2: 7", (8, 7)),
        ("Output (a): 9/10, Output (b): 3/10", (9, 3)),
        ("11 3", UNPARSED),
        ("It makes 2 claims and 3 errors.", UNPARSED),
        ("My scores are 7 and 5.", (7, 5)),
        ("8", UNPARSED),
    ],
)
def test_two_numbers(text: str, scores: object) -> None:
    assert read_two(text, "end", (1, 10)) == scores
    assert read_two(text, "length", (1, 10)) is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("text", "parser", "outcome"),
    [
        ("Output (b)\nOutput (a)", "llmbar", FIRST),  # (a) first, wherever it stands
        ("I say\n Output (b)", "llmbar", SECOND),
        ("I say Output (b)", "llmbar", UNPARSED),
        ("\n  Output (b)", "llmbar", SECOND),  # the text is stripped first
        ("x\n  Output (b)", "llmbar", UNPARSED),  # two spaces are one too many
        ("Output (b) is better. Output (a) is better.", "llmbar_cot", FIRST),
        ("so Output (b) is better!", "llmbar_cot", SECOND),
        ("so Output (b) is better", "llmbar_cot", UNPARSED),  # one more character must follow
        ("Both are equally good", "llmbar", UNPARSED),
        ("", "llmbar_cot", UNPARSED),
    ],
)
def test_published_rules(text: str, parser: str, outcome: Outcome) -> None:
    assert parse(text, "end", parser) is outcome


@given(st.text(), st.sampled_from(sorted(PARSERS)), st.sampled_from(["", "end", "length", "filter", "error"]))
def test_parsers_are_total(text: str, parser: str, stop: Stop) -> None:
    assert isinstance(parse(text, stop, parser), Outcome)


def test_an_unknown_parser_is_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'llmbar'"):
        parse("", "end", "lmbar")


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the LLMBar recordings are not here (PIPPIN_SHARED)")
def test_published_rules_on_all_recorded_texts() -> None:
    """No verdict differs from the recorded winner; ``pippin-2`` differs on ambiguous texts, and in one direction."""
    number = {FIRST: "1", SECOND: "2"}
    stops: dict[str, Stop] = {"stop": "end", "length": "length", "content management policy": "filter", "": ""}
    read, ours = 0, Counter()
    for file in sorted(RECORDINGS.glob("*__*.jsonl.gz")):
        strategy = file.name.removesuffix(".jsonl.gz").partition("__")[2]
        if strategy.startswith("Rating"):
            continue
        with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                for n, stage in enumerate(json.loads(line)["stages"]):
                    by_sentence = strategy in ("CoT", "Swap_CoT") or (strategy == "Swap" and n == 0)
                    for swapped, (text, stop, winner) in enumerate(stage):
                        shown = winner if not swapped or winner is None else {"1": "2", "2": "1"}[winner]
                        parser = "llmbar_cot" if by_sentence else "llmbar"
                        assert number.get(parse(text, stops[stop], parser)) == shown, (file.name, text)
                        read += 1
                        mine = number.get(parse(text, stops[stop]))
                        if mine != shown:
                            ours[shown, mine] += 1
    assert read > 40_000
    assert ours["1", "2"] > 100 and ours["2", "1"] == 0  # the published bias is towards (a), by construction
    assert ours.total() < 0.004 * read
