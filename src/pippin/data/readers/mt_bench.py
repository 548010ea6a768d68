"""MT-Bench as LLMBar processed it: 200 pairs of first-turn answers with the majority of human votes, no ties.

Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, arXiv 2306.05685;
    processed by Zeng et al., ICLR 2024, arXiv 2310.07641.

``path`` is the folder MT-Bench, any folder above it, or the file itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group
from pippin.data import llmbar_rows
from pippin.data.reader import Benchmark, Notes, Reader

SET = "MT-Bench"


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    return llmbar_rows.groups(path, notes, "mt_bench", SET)


READER = Reader(groups)
BENCHMARK = Benchmark(
    (SET,), human=0.81, note="first turns only; the majority of human votes",
    warnings=(
        "75 distinct instructions in 200 pairs: resample by prompt",
        "the longer output is the better one in 134 of 200 pairs",
        "first turns only; ties of the human votes were dropped (people agree on 63 % with ties, 81 % without)",
    ),
)  # fmt: skip
