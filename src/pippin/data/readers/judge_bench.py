"""JudgeBench: hard pairs of one model's answers, one right and one wrong, in knowledge, reasoning, math and coding.

Source: Tan et al., "JudgeBench: A Benchmark for Evaluating LLM-Based Judges", ICLR 2025, arXiv 2410.12784.

``path`` is a file or a folder of JSON lines or Parquet. The set comes from ``source``, which is the second tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group, Outcome, Prompt, user
from pippin.data import labelled
from pippin.data.reader import Benchmark, Notes, Reader, files_below
from pippin.data.rows import read_rows

SETS = ("knowledge", "reasoning", "math", "coding")
SOURCES = {"mmlu-pro": "knowledge", "livebench-reasoning": "reasoning", "livebench-math": "math",
           "livecodebench": "coding"}  # fmt: skip
LABELS = {"A>B": Outcome.FIRST, "B>A": Outcome.SECOND}
COLUMNS = ("question", "response_A", "response_B", "source")


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for file in files_below(path, "pairs of JudgeBench"):
        for where, row in read_rows(file):
            asked, one, two, source = labelled.texts(row, COLUMNS, where, "JudgeBench")
            outcome = labelled.coded(row.get("label"), LABELS, where, "label", "JudgeBench")
            by = str(row.get("response_model") or "")
            name = next((name for start, name in SOURCES.items() if source.startswith(start)), source)
            notes.saw(f"pairs of answers by {by or 'an unknown model'}")
            notes.saw("pairs of a source that is not known: a set of its own", name == source)
            notes.saw("rows whose recorded judgements are left out", "judgments" in row)
            prompt = Prompt(user(asked), source="judge_bench", tags=(name, source))
            yield labelled.pair(prompt, [(one, by), (two, by)], outcome)


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, (("all four sets", SETS),), hub="ScalerLab/JudgeBench", note="labels are checked answers, not opinions",
    warnings=("the answers of GPT-4o (350 pairs) and of Claude 3.5 Sonnet (270 pairs) are two benchmarks: published"
              " numbers are of one file, so name one",
              "both answers of a pair are one model's: a judge of that family judges itself"),
)  # fmt: skip
