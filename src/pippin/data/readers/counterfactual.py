"""Counterfactual pairs, where habit misleads a judge: badly done on purpose, demanded words, sums in base 9.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, arXiv
    2310.07641, section 4.6.

From labelled pairs (a file in any of the ecosystem's columns or in LLMBar's form, or a folder of LLMBar's) come the
sets normal (as they are), negation (the instruction asks for the worst; every label flips) and constraint (two words
at given places come first; the worse output is edited to have them and becomes the better one). Without data,
``generate`` makes base_10 and base_9: additions with worked steps, one right and one with a fault in the carrying.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group
from pippin.data import additions, counterfactuals
from pippin.data.reader import Benchmark, Notes, Reader

SETS = ("normal", "negation", "constraint", "base_10", "base_9")


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for item in counterfactuals.read(path, notes):
        for variant in counterfactuals.variants(item, notes):
            notes.saw(f"pairs of {variant.prompt.tags[0]}")
            yield variant


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, generate=additions.generate, note="made by rules from labelled pairs, or generated; compare sets, not judges",
    warnings=(
        "negation holds the pairs of normal with every label flipped: a judge at random is at 50 % on both",
        "constraint: the edited output is made by a program, and two words longer than it was",
        "base_10 and base_9 ask the same numerals; most wrong sums in base 9 are those of someone who carries at ten",
    ),
)  # fmt: skip
