"""Studies whose verdicts are planted: every arm's value is a known sum of effects of prompt, seed, both and arm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pippin.compare.analyse import analyse
from pippin.compare.plan import plan
from pippin.compare.study import Study, read_study
from pippin.core.store import Store
from pippin.core.types import digest

from .made_cells import fill
from .studies import SMALL, write

ARMS = {"method": {"sft": {"use": "$sft"}, "dpo": {"method": "dpo"}, "kto": {"method": "kto"}}}
SETTINGS = {"dpo": {"model": "$sft", "data": "$feedback"}, "kto": {"model": "$sft", "data": "$feedback"}}
LABEL = re.compile(r"(.+) judged, (.+) \(seed (\d+)\)")


@dataclass(frozen=True)
class World:
    """What values are made of; deviations in the unit of the values. ``gain``: arm -> true effect."""

    gain: Mapping[str, float]
    prompt: float = 0.3
    seed: float = 0.05  # of an arm's run
    shared: float = 0.0  # of a seed, in all arms alike
    rest: float = 0.2

    def plant(self, cell, result) -> None:
        found = LABEL.fullmatch(cell.label)
        if cell.kind != "judge" or not found or "values" not in result:
            return
        arm, _, seed = found.groups()

        def normal(*of) -> float:
            return float(np.random.default_rng(int(digest(["planted", *of]), 16)).normal())

        run = self.gain.get(arm, 0.0) + self.seed * normal(arm, seed) + self.shared * normal(seed)
        for prompt, values in result["values"].items():
            known = run + self.prompt * normal(prompt)
            result["values"][prompt] = [known + self.rest * normal(arm, seed, prompt, k) for k in range(len(values))]


def study(folder: Path, **changes) -> Study:
    """A study of three arms on ``python`` scores, which have no range; the first arm is the baseline."""
    told = {
        **SMALL, "axes": ARMS, "settings": SETTINGS, "judge": "python/scores.py:score", "seeds": list(range(6)),
        "evaluation": {"n": 2, "max_tokens": 16, "greedy": False}, **changes,
    }  # fmt: skip
    return read_study(write(folder, told))


def analysed(made: Study, store: Store, world: World):
    planned = plan(made)
    fill(planned, store, world.plant)
    return analyse(planned, store, "pippin compare study.yaml")
