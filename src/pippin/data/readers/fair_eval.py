"""FairEval as LLMBar processed it: answers of ChatGPT and Vicuna-13B to 66 questions, labelled by people, no ties.

Source: Wang et al., "Large Language Models are not Fair Evaluators", 2023, arXiv 2305.17926; processed by Zeng et al.,
    ICLR 2024, arXiv 2310.07641.

``path`` is the folder FairEval, any folder above it, or the file itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group
from pippin.data import llmbar_rows
from pippin.data.reader import Benchmark, Notes, Reader

SET = "FairEval"


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    return llmbar_rows.groups(path, notes, "fair_eval", SET)


READER = Reader(groups)
BENCHMARK = Benchmark(
    (SET,), human=0.717, note="80 questions less 14 ties",
    warnings=(
        "position is confounded with the model: the first output is always ChatGPT's, the second Vicuna-13B's",
        "14 of the 80 questions were ties and are left out",
    ),
)  # fmt: skip
