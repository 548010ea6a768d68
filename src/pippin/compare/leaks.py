"""Leaked prompts: those of the training, development and test sets of a study that stand in another of them.

Prompts are the same where their texts are, whatever their case, white space and form of the same characters: the id of
a prompt tells a trailing space, and a model is not helped less by it. Rows of data count as training prompts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from pippin.compare import inputs
from pippin.compare.cells import Plan
from pippin.core.errors import InputError
from pippin.core.types import Prompt

Key = tuple[str, ...]
TRAINING = ("world/train", "world/demonstrations")
"""Sources of the world's training split."""


def shared_prompts(plan: Plan) -> dict[str, str]:
    """``train and test`` -> how many of which prompts, for every two sets that share some."""
    sets, seeds = plan.study.prompts, (*plan.study.seeds, 0)
    asked = {r.evaluation["prompts"] for r in plan.runs if "bundle" not in (r.external or {})}  # theirs may not be here
    test = _keys(p for name in asked for p in inputs.read_prompts(name, 0))
    dev = _keys(p for seed in dict.fromkeys(seeds) if sets.dev for p in inputs.read_prompts(sets.dev, seed))
    train = _keys(p for seed in plan.study.seeds if sets.train for p in inputs.read_prompts(sets.train, seed))
    found: dict[str, str] = {}

    def compare(label: str, one: set[Key], what: str, other: set[Key], where: str = "") -> None:
        both = len(one & other)
        if both:
            found[f"{label} and {what}"] = f"{both} of {len(other)} {what} prompts{where}"

    compare("train", train, "test", test)
    compare("train", train, "dev", dev)
    compare("dev", dev, "test", test)
    read = list(_read_by_arms(plan))
    for what, other in (("test", test), ("dev", dev)):
        rows: set[Key] = set()
        arms: list[str] = []
        for arm, seen in read:
            if seen & other and not seen <= train:
                rows |= seen
                arms += [arm] if arm not in arms else []
        compare("data", rows, what, other, f", in the data of {', '.join(arms)}")
    return found


def _read_by_arms(plan: Plan) -> Iterator[tuple[str, set[Key]]]:
    """(arm, prompts) of every source that an arm's stages or its own training read, but for the study's own."""
    sets, read = plan.study.prompts, dict[tuple[str, int], set[Key]]()
    asked = [sets.dev, *(run.evaluation["prompts"] for run in plan.runs)]
    for run in plan.runs:
        if "bundle" in (run.external or {}):
            continue
        sources: list[tuple[str, int]] = []
        for key in plan.lineage(run.train):
            spec = plan.cells[key].spec
            named = [spec.get("data"), spec.get("prompts")]
            sources += [(name, spec["seed"]) for name in named if name and not name.startswith("cell:")]
        told = (run.external or {}).get("data")
        if isinstance(told, str) and Path(told).expanduser().is_file():
            sources.append((told, run.seed))
        for source in sources:
            if source[0] == sets.train or _apart(source[0], asked):
                continue
            if source not in read:
                read[source] = _keys(_asked(*source))
            yield run.arm.name, read[source]


def _apart(source: str, others: Iterable[str]) -> bool:
    """Whether a source is of the world's training split and none of the others can be: its splits share no prompt."""
    world = inputs.WORLD
    elsewhere = (f"{world}dev", f"{world}heldout")
    return source.startswith(TRAINING) and all(other.startswith(elsewhere) for other in others if other)


def _asked(name: str, seed: int) -> Iterable[Prompt]:
    rows = Path(name) / "groups.jsonl"
    try:
        return inputs.read_prompts(str(rows) if rows.is_file() else name, seed)
    except InputError:  # a source of rows and not of prompts
        return [group.prompt for group in inputs.read_groups(name, seed)]


def _keys(prompts: Iterable[Prompt]) -> set[Key]:
    return {tuple(_plain(m.content) for m in (*p.messages, *p.follow_ups)) for p in prompts}


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
