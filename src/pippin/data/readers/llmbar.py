"""LLMBar: pairs of outputs, one of which follows the instruction better, by set (Natural, Neighbor, GPTInst, ...).

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, arXiv
    2310.07641.

``path`` is one ``dataset.json`` or any folder above such files; the folder that holds a file names its set. The case
study (Normal, Negation, Constraint, Base_9, Base_10) and the processed sets of other benchmarks are read where they
lie, each under its own name; a report takes the five sets of LLMBar unless it asks for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.types import Group
from pippin.data import llmbar_rows
from pippin.data.llmbar_rows import SETS
from pippin.data.reader import Benchmark, Claim, Notes, Reader


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    return llmbar_rows.groups(path, notes, "llmbar")


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, (("Adversarial", SETS[1:]), ("all five sets", SETS)), (("all five sets, pooled", SETS),), human=0.94,
    warnings=(
        "the adversarial candidates were filtered with ChatGPT judges: judges of that family are below chance partly"
        " by selection",
        "the shorter output is the better one in most adversarial pairs: a rule that prefers it gets 78 % there and"
        " 43 % on Natural, so the two are never to be pooled",
    ),
    claims=(
        Claim("ChatGPT and LLaMA-2 are below chance on the adversarial sets", "accuracy less one half",
              "Vanilla_NoRules", over="Adversarial", sign=-1, models=("ChatGPT", "ChatGPT-0301", "LLaMA2")),
        Claim("Chain of thought mostly hurts", "CoT less Vanilla", "CoT", "Vanilla", "Adversarial", sign=-1),
        Claim("Rules, metrics and a reference together help, by ten points with the best judge",
              "Metrics_Reference less Vanilla_NoRules", "Metrics_Reference", "Vanilla_NoRules", "Adversarial"),
        Claim("Rules alone help", "Vanilla less Vanilla_NoRules", "Vanilla", "Vanilla_NoRules", "Adversarial"),
        Claim("Metrics and a reference help on top of rules", "Metrics_Reference less Vanilla",
              "Metrics_Reference", "Vanilla", "Adversarial"),
        Claim("Debating contradictions helps", "Swap less Vanilla", "Swap", "Vanilla", "Adversarial"),
    ),
)  # fmt: skip
