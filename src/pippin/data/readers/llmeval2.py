"""LLMEval2 as LLMBar processed it: 200 pairs sampled from fifteen tasks, labelled by people, no ties.

Source: Zhang et al., "Wider and Deeper LLM Networks are Fairer LLM Evaluators", 2023, arXiv 2308.01862; processed by
    Zeng et al., ICLR 2024, arXiv 2310.07641.

``path`` is the folder LLMEval2 (also ``LLMEval^2``), any folder above it, or the file itself. One pair has two equal
outputs and one has an empty output: both carry a label, are kept, and are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group
from pippin.data import llmbar_rows
from pippin.data.reader import Benchmark, Notes, Reader

SET = "LLMEval2"


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    return llmbar_rows.groups(path, notes, "llmeval2", SET)


READER = Reader(groups)
BENCHMARK = Benchmark(
    (SET,), note="a sample of 200 without ties out of 2,553",
    warnings=(
        "one pair has two equal outputs and yet a label: no judge can be right on it but by chance; another has an"
        " empty output",
        "ties (482 of 2,553), empty and non-English instructions were dropped before sampling",
    ),
)  # fmt: skip
