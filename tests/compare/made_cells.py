"""Cells of a study without the hours: results of the shape that work leaves, their facts read off the plan.

What costs nothing is the real thing (settings, rows, prompts, versions); weights are names, scores are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pippin.align.run import _masking
from pippin.align.settings import Settings
from pippin.compare import inputs, manifests, stakes
from pippin.compare.cells import CELL, Cell, Plan, in_order
from pippin.core import catalog
from pippin.core.run import Ledger, data_digest, environment, file_digest
from pippin.core.store import Store
from pippin.core.types import canonical, digest
from pippin.feedback.collapse import Rule
from pippin.judge.resolve import resolve
from pippin.lm.hf import locate

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


def weights(model: str) -> str:
    """What stands for the weights of a model: its files' content, or the cell that trains it."""
    found = CELL.fullmatch(model)
    return digest(["weights", found[1] if found else stakes._weights(locate(model))])


def tokenizer(model: str, plan: Plan) -> str:
    while found := CELL.fullmatch(model):
        model = plan.cells[found[1]].spec["model"]
    return file_digest(locate(model) / "tokenizer.json")


def template(spec: Json) -> str:
    return file_digest(spec["template"]) if spec.get("template") else "the model's own"


def train(cell: Cell, plan: Plan) -> Json:
    spec = cell.spec
    method = catalog.load("methods", spec["method"])
    chosen = Settings.of(spec["method"], method, {**spec["settings"], "seed": spec["seed"]})
    data, seen = spec["data"] or "", {}
    if found := CELL.fullmatch(data):
        seen = {"data.content": found[1], "data.order": found[1], "labelled by": [plan.cells[found[1]].spec["judge"]]}
    groups = inputs.read_groups(data, spec["seed"]) if data and not found else []
    prompts = inputs.read_prompts(spec["prompts"], spec["seed"]) if spec["prompts"] else []
    development = inputs.read_prompts(spec["dev"], spec["seed"]) if spec["dev"] else []
    manifest = {
        "method": spec["method"],
        "model": spec["model"],
        "base.weights": weights(spec["model"]),
        "base.tokenizer": tokenizer(spec["model"], plan),
        "base.template": template(spec),
        "data": data_digest([data]) if data else None,
        "prompts.train": data_digest([p.id for p in prompts]) if prompts else None,
        "prompts.dev": data_digest([p.id for p in development]) if development else None,
        "masking": _masking(chosen.own),
        "collapse": canonical(asdict(Rule())) if method.reads == "preferences" else None,
        "reward": spec["reward"],
        "judge.dev": spec["judge"],
        **({"feedback": spec["feedback"]} if "feedback" in spec else {}),
        **chosen.flat(spec["method"]),
        **{f"library.{k}": v for k, v in environment().items()},
        **manifests.of_inputs(groups, prompts, spec),
        **seen,
    }
    ledger = Ledger(steps=20, labels=100, gradient_tokens=1000, prompts_seen=50)
    chose = method.choose is not None and len(getattr(chosen.own, "candidates", ())) > 1
    state = {"n": 4, **({"development": {"4": 0.5}} if chose else {})} if method.choose else {}
    return {"ledger": ledger.to_row(), "state": state, "metrics": {}, "manifest": manifest, "watch": {}}


def feedback(cell: Cell, plan: Plan) -> Json:
    ledger = Ledger(policy_tokens_sampled=100)
    return {"ledger": ledger.to_row(), "prompts": 12, "pairs": 36, "judge": cell.spec["judge"]}


def respond(cell: Cell, plan: Plan) -> Json:
    spec = cell.spec
    prompts = inputs.read_prompts(spec["prompts"], 0)
    recipe = {"prefix": "", "banned": [], "best_of": 1}
    found = CELL.fullmatch(spec["policy"])
    while found:
        made = plan.cells[found[1]].spec
        method = catalog.load("methods", made["method"])
        own = Settings.of(made["method"], method, made["settings"]).own
        told = dict(method.decoding(own, {"n": 4}))
        told = {"best_of" if k == "n" else k: list(v) if isinstance(v, tuple) else v for k, v in told.items()}
        recipe |= {k: v for k, v in told.items() if k in recipe}
        found = CELL.fullmatch(made["model"])
    manifest = {
        "template": template(spec),
        "tokenizer": tokenizer(spec["policy"], plan),
        "weights": weights(spec["policy"]),
        "precision of answers": "float32",
        "device of answers": "cpu",
        "prompts": data_digest(sorted(p.id for p in prompts)),
        "recipe": recipe,
        "library": manifests.libraries(),
    }
    lengths = {p.id: [8] * spec["n"] for p in prompts}
    return {"mean_length": 8.0, "share_without_end": 0.0, "lengths": lengths, "manifest": manifest}


def judge(cell: Cell, plan: Plan) -> Json:
    spec = cell.spec
    rng = np.random.default_rng(int(cell.key, 16))
    n = plan.cells[CELL.fullmatch(spec["responses"])[1]].spec["n"]
    values = {p.id: rng.random(n).round(3).tolist() for p in inputs.read_prompts(spec["prompts"], 0)}
    manifest = {"judge": spec["judge"], "judge.config": "", "judge.served": [], "library": manifests.libraries()}
    if spec["judge"].startswith(("gold", "rule/")):
        manifest["judge.config"] = resolve(spec["judge"]).info.config
    return {"values": values, "judge": spec["judge"], "manifest": manifest}


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
