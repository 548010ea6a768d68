"""Cells of a study without the hours: results of the shape that work leaves, their facts read off the plan.

What costs nothing is the real thing (settings, rows, prompts, versions); weights are names, scores are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from pippin.compare import confounds, foreseen, inputs
from pippin.compare.cells import CELL, Cell, Plan, in_order
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.core.run import Ledger
from pippin.core.store import Store

from .studies import write

Json = dict[str, Any]
Plant = Callable[[Cell, Json], None]


class Shelf:
    """What confounds need of a store, without a disk: cells as JSON gives them back, no artifact."""

    def __init__(self) -> None:
        self.cells: dict[str, str] = {}

    def cell(self, key: str) -> Json | None:
        return json.loads(self.cells[key]) if key in self.cells else None

    def add_cell(self, key: str, manifest: Json, result: Any) -> None:
        self.cells.setdefault(key, json.dumps({"manifest": manifest, "result": result}))

    def artifact(self, key: str) -> None:
        return None


def fill(plan: Plan, store: Store | Shelf, plant: Plant = lambda cell, result: None) -> None:
    """Give every cell of a plan a result; ``plant`` may change it before it is stored."""
    for key in in_order(plan.cells):
        cell = plan.cells[key]
        lost = [r["result"]["diverged"] for k in cell.needs if (r := store.cell(k)) and "diverged" in r["result"]]
        result = {"diverged": lost[0]} if lost else MADE[cell.kind](cell, plan)
        plant(cell, result)
        store.add_cell(key, cell.spec, result)


def train(cell: Cell, plan: Plan) -> Json:
    spec, seen = cell.spec, foreseen.train(cell, plan)
    rest = {
        "method": spec["method"], "model": spec["model"], "reward": spec["reward"], "judge.dev": spec["judge"],
        "base.template": "the model's own", "data": spec["data"], "prompts.train": spec["prompts"],
    }  # fmt: skip
    ledger = Ledger(steps=20, labels=100, gradient_tokens=1000, prompts_seen=50)
    return {**seen, "ledger": ledger.to_row(), "metrics": {}, "manifest": rest | seen["manifest"], "watch": {}}


def feedback(cell: Cell, plan: Plan) -> Json:
    ledger = Ledger(policy_tokens_sampled=100)
    return {"ledger": ledger.to_row(), "prompts": 12, "pairs": 36, "judge": cell.spec["judge"]}


def respond(cell: Cell, plan: Plan) -> Json:
    seen = foreseen.respond(cell, plan)["manifest"]
    seen |= {"precision of answers": "float32", "device of answers": "cpu"}
    lengths = {p.id: [8] * cell.spec["n"] for p in inputs.read_prompts(cell.spec["prompts"], 0)}
    return {"mean_length": 8.0, "share_without_end": 0.0, "lengths": lengths, "manifest": seen}


def judge(cell: Cell, plan: Plan) -> Json:
    spec = cell.spec
    rng = np.random.default_rng(int(cell.key, 16))
    n = plan.cells[CELL.fullmatch(spec["responses"])[1]].spec["n"]
    values = {p.id: rng.random(n).round(3).tolist() for p in inputs.read_prompts(spec["prompts"], 0)}
    seen = foreseen.judge(cell, plan)["manifest"] | {"judge.served": []}
    return {"values": values, "judge": spec["judge"], "manifest": seen}


def kl(cell: Cell, plan: Plan) -> Json:
    return {"values": {p.id: [0.1] for p in inputs.read_prompts(cell.spec["prompts"], 0)}, "kind": "exact"}


MADE: dict[str, Callable[[Cell, Plan], Json]] = {
    "train": train, "feedback": feedback, "respond": respond, "judge": judge, "kl": kl,
}  # fmt: skip


def other_tokenizer(base: Path, place: Path) -> str:
    """A copy of a model's folder whose tokenizer knows one word more: the same weights, other tokens."""
    place.mkdir()
    for file in base.iterdir():
        if file.is_file():
            (place / file.name).write_bytes(file.read_bytes())
    content = json.loads((place / "tokenizer.json").read_text())
    last = max([*content["model"]["vocab"].values(), *(token["id"] for token in content["added_tokens"])])
    content["added_tokens"].append({**content["added_tokens"][0], "id": last + 1, "content": "<other>"})
    (place / "tokenizer.json").write_text(json.dumps(content))
    return str(place)


def named(study: Json, folder: Path, shelf: Shelf, plant: Plant | None = None) -> set[str]:
    """The fields that a study's cells, made up and perhaps planted, are confounded in."""
    made = plan(read_study(write(folder, study)))
    fill(made, shelf, plant or (lambda cell, result: None))
    found = confounds.of_plan(made, cast(Store, shelf))[0]
    for confound in found:
        assert confound["why"] and confound["arms"] and all(isinstance(v, str) for v in confound["arms"].values())
    return {confound["field"] for confound in found}
