"""What a plan is made of: cells, each under the hash of all that makes it, and the runs of arms that stand on them.

References between cells are texts ``cell:KEY`` inside a cell's specification."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pippin.compare.axes import Arm
from pippin.compare.spec import Json
from pippin.compare.study import Study
from pippin.core.types import canonical

CELL = re.compile(r"cell:([0-9a-f]{16})")


@dataclass(frozen=True)
class Cell:
    """One piece of work. ``kind``: train, feedback, respond, import, judge, kl, check or curve."""

    key: str
    kind: str
    spec: Json
    label: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells that must be there first."""
        return tuple(dict.fromkeys(CELL.findall(canonical(self.spec))))


@dataclass(frozen=True)
class ArmRun:
    """One arm with one seed: the policy, and the cells that answer, judge and measure it. ``decoding`` -> key."""

    arm: Arm
    seed: int
    policy: str
    evaluation: Json
    responses: Mapping[str, str]
    verdicts: Mapping[str, str]
    kl: str | None = None
    external: Json | None = None

    @property
    def train(self) -> str | None:
        """The arm's own training cell; None where it takes a model as it is."""
        found = CELL.fullmatch(self.policy)
        return found[1] if found else None


@dataclass(frozen=True)
class Trial:
    """One point of the search for one arm: its training cell, its answers and their verdicts on development prompts."""

    arm: str
    settings: Json
    train: str | None
    responses: str
    verdicts: str
    baseline: Trial | None  # what it is held against; None for a baseline


@dataclass(frozen=True)
class Plan:
    """All cells of a study, in an order in which they can be run."""

    study: Study
    cells: Mapping[str, Cell]
    runs: tuple[ArmRun, ...]
    checks: Mapping[tuple[str, int], str] = field(default_factory=dict)
    curves: Mapping[tuple[str, int], str] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Arm -> the arm that it is held against; a baseline is its own."""

    @property
    def judge(self) -> str:
        """Who judges the arms; where an axis has several, their names joined by commas."""
        return ", ".join(dict.fromkeys(str(r.evaluation.get("judge", self.study.judge)) for r in self.runs))

    def is_baseline(self, arm: str) -> bool:
        """Whether others are held against this arm."""
        return self.baselines.get(arm) == arm

    def baseline_of(self, run: ArmRun) -> ArmRun | None:
        """What a run is held against: its baseline with the same seed; None where there is none."""
        held = self.baselines.get(run.arm.name)
        return next((r for r in self.runs if r.arm.name == held and r.seed == run.seed), None)

    def lineage(self, key: str | None) -> list[str]:
        """The training and feedback cells behind a cell, itself last, each once."""
        if key is None:
            return []
        out: list[str] = []
        for need in self.cells[key].needs:
            out += [k for k in self.lineage(need) if k not in out]
        return [*out, key]


def in_order(cells: Mapping[str, Cell]) -> list[str]:
    """The keys of cells, each after all that it needs."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(key: str) -> None:
        if key not in seen:
            seen.add(key)
            for need in cells[key].needs:
                visit(need)
            order.append(key)

    for key in cells:
        visit(key)
    return order
