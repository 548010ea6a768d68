"""What the cells of a study will note of themselves, as far as the plan tells: for confounds named before any work.

Weights that are yet to be trained are named by their cell, models of a hub by their name; what is only known when a
model is loaded or a judge has answered (number formats, devices, served snapshots) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pippin.align.settings import Settings
from pippin.compare import inputs, manifests, stakes
from pippin.compare.cells import CELL, Cell, Plan
from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.run import data_digest, environment, file_digest
from pippin.core.types import canonical
from pippin.feedback.collapse import Rule
from pippin.judge.resolve import is_path
from pippin.lm.decoding import Decoding, read_decoding

Json = dict[str, Any]


def reader(plan: Plan) -> manifests.Read:
    """Results of cells as they can be foreseen: ``manifest`` and ``state`` alone."""

    @cache
    def read(key: str) -> Json:
        cell = plan.cells[key]
        try:
            return SEEN[cell.kind](cell, plan) if cell.kind in SEEN else {}
        except InputError:  # files of a bundle's arms lie elsewhere
            return {}

    return read


def train(cell: Cell, plan: Plan) -> Json:
    """The manifest of a training run, and that it chose n where it will."""
    spec, name = cell.spec, cell.spec["method"]
    method = catalog.load("methods", name)
    chosen = Settings.of(name, method, {**spec["settings"], "seed": spec["seed"]})
    prompts = inputs.read_prompts(spec["prompts"], spec["seed"]) if spec["prompts"] else []
    development = inputs.read_prompts(spec["dev"], spec["seed"]) if spec["dev"] else []
    data, made = spec["data"] or "", CELL.fullmatch(spec["data"] or "")
    groups = inputs.read_groups(data, spec["seed"]) if data and not made else []
    rows = {"data.content": made[1], "data.order": made[1], "labelled by": [_judge_of(made[1], plan)]} if made else {}
    manifest = {
        "base.weights": stakes.identity(spec["model"]),
        "base.tokenizer": tokenizer(spec["model"], plan),
        "prompts.dev": data_digest([p.id for p in development]) if development else None,
        "masking": str({k: getattr(chosen.own, k, False) for k in ("train_on_prompt", "assistant_only_loss")}),
        "collapse": canonical(asdict(Rule())) if method.reads == "preferences" else None,
        **({"feedback": spec["feedback"]} if "feedback" in spec else {}),
        **chosen.flat(name),
        **{f"library.{k}": v for k, v in environment().items()},
        **manifests.of_inputs(groups, prompts, spec),
        **rows,
    }
    chooses = method.choose is not None and len(getattr(chosen.own, "candidates", ())) > 1
    return {
        "manifest": manifest,
        "state": {"n": 2, **({"development": {}} if chooses else {})} if method.choose else {},
    }


def respond(cell: Cell, plan: Plan) -> Json:
    """The manifest of answers: the recipe is that of the model at the root, with what methods put over it."""
    spec = cell.spec
    chain = lineage(spec["policy"], plan)
    recipe = _recipe(chain[-1])
    for model in reversed(chain[:-1]):
        made = plan.cells[CELL.fullmatch(model)[1]].spec  # type: ignore[index] - all but the last are cells
        own = Settings.of(made["method"], catalog.load("methods", made["method"]), made["settings"]).own
        told = dict(catalog.load("methods", made["method"]).decoding(own, {"n": 2}))
        told = {"best_of" if k == "n" else k: list(v) if isinstance(v, tuple) else v for k, v in told.items()}
        recipe |= {k: v for k, v in told.items() if k in recipe}
    manifest = {
        "template": template(spec, chain[-1]),
        "tokenizer": tokenizer(spec["policy"], plan),
        "weights": stakes.identity(spec["policy"]),
        "prompts": data_digest(sorted(p.id for p in inputs.read_prompts(spec["prompts"], 0))),
        "recipe": recipe,
        "library": manifests.libraries(),
    }
    return {"manifest": manifest}


def judge(cell: Cell, plan: Plan) -> Json:
    """The manifest of verdicts: what the judge is made of."""
    spec = cell.spec["judge"]
    return {"manifest": {"judge": spec, "judge.config": stakes.fingerprint(spec), "library": manifests.libraries()}}


def lineage(model: str, plan: Plan) -> list[str]:
    """A model, what it is trained from, and so on to one that the study does not train."""
    chain = [model]
    while found := CELL.fullmatch(chain[-1]):
        chain.append(plan.cells[found[1]].spec["model"])
    return chain


def tokenizer(model: str, plan: Plan) -> str:
    """The tokenizer at the root: its file's content, or the model's name."""
    root = lineage(model, plan)[-1]
    return _file(root, "tokenizer.json") or root


def template(spec: Mapping[str, Any], root: str) -> str:
    """The chat template: of the file that is given, else the root's own."""
    if spec.get("template"):
        return file_digest(Path(spec["template"]).expanduser())
    return _file(root, "chat_template.jinja") or _file(root, "tokenizer_config.json") or root


def _recipe(root: str) -> Json:
    d = read_decoding(Path(root).expanduser()) if is_path(root) else Decoding()
    return {"prefix": d.prefix, "banned": list(d.banned), "best_of": d.n}


def _file(model: str, name: str) -> str:
    """The hash of a file in a model's folder; empty where there is none on this machine."""
    from pippin.lm.hf import PACKAGED, locate

    place = locate(model) if model in PACKAGED else Path(model).expanduser()
    return file_digest(place / name) if (place / name).is_file() else ""


def _judge_of(key: str, plan: Plan) -> str:
    return str(plan.cells[key].spec.get("judge", ""))


SEEN: dict[str, Callable[[Cell, Plan], Json]] = {"train": train, "respond": respond, "judge": judge}
