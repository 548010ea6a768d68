"""What differs between arms that the study does not declare: confounds, named; a method's own settings, listed.

Each arm resolves to a flat manifest. Fields are compared between the arms that have them: an arm that reads no
preferences has no preference data to differ in. What a method owns (``method.NAME.*``) may differ and is listed as a
setting. What an external arm does not say is *not declared*, which is neither equal nor different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pippin.compare.plan import ArmRun, Plan
from pippin.compare.tuning import points
from pippin.core import catalog
from pippin.core.store import Store

Json = dict[str, Any]
NOT_DECLARED = "not declared"

WHY = {
    "prompts.test": "the arms answered different prompts",
    "template": "the chat template differs, so the same prompt is different text",
    "tokenizer": "the tokenizers differ, so lengths and probabilities are in different units",
    "truncation": "the arms saw different parts of the same data",
    "precision": "the arms were trained in different number formats",
    "precision of answers": "the arms answered in different number formats",
    "masking": "different tokens were trained on",
    "decoding.max_tokens": "answers were cut at different lengths",
    "base": "the arms do not start from the same base model",
    "judge": "the arms were judged by different judges",
    "tuning": "some arms had more tuning than others",
}
TRAINING = (
    "base", "truncation", "precision", "masking", "data (demonstrations)", "data (preferences)", "prompts.train",
    "start (demonstrations)", "start (preferences)", "start (prompts)", "reward", "collapse", "tuning",
)  # fmt: skip


def manifest(run: ArmRun, plan: Plan, store: Store) -> Json:
    """The flat manifest of one arm: what it was trained and judged under. Absent fields do not apply to it."""
    flat: Json = {
        "prompts.test": run.evaluation["prompts"],
        "decoding.max_tokens": run.evaluation["max_tokens"],
        "judge": plan.study.judge,
    }
    answered = store.cell(next(iter(run.responses.values())))
    if answered is not None:
        said = answered["result"]["manifest"]
        flat |= {"template": said["template"], "tokenizer": said["tokenizer"]}
        flat["precision of answers"] = said["precision of answers"]
    if run.external is not None:
        told = {k: v for k, v in run.external.items() if k not in ("path", "name")}
        renamed = {"data": "data (preferences)", "model": "base"}
        flat |= dict.fromkeys(TRAINING, NOT_DECLARED)
        flat |= {renamed.get(k, k): v for k, v in told.items()}
        return flat
    flat["base"] = _root(run.train, plan) or run.policy
    flat["tuning"] = _tuning(plan.study.tuning)
    if run.train is None:
        return flat
    cell = plan.cells[run.train]
    method = catalog.load("methods", cell.spec["method"])
    done = store.cell(run.train)
    trained: Json = done["result"]["manifest"] if done else {}
    reads = method.reads
    printed = cell.spec.get("fingerprints", {})
    data = {
        "demonstrations": {"data (demonstrations)": printed.get("data", cell.spec["data"])},
        "preferences": {"data (preferences)": printed.get("data", cell.spec["data"])},
        "prompts": {"prompts.train": printed.get("prompts", cell.spec["prompts"]), "reward": cell.spec["reward"]},
    }[reads]
    flat |= {k: v for k, v in data.items() if v}
    flat[f"start ({reads})"] = cell.spec["model"]
    if method.terms:
        flat |= {k: trained[k] for k in ("truncation", "precision", "masking") if k in trained}
    if trained.get("collapse"):
        flat["collapse"] = trained["collapse"]
    flat |= {k: v for k, v in trained.items() if k.startswith(("method.", "library."))}
    return flat


def differences(
    manifests: Mapping[str, Json], declared: Mapping[str, Sequence[str]] | None = None
) -> tuple[list[Json], list[Json], list[Json]]:
    """(confounds, settings, not declared) of the arms' manifests.

    Args:
        manifests: arm -> flat manifest.
        declared: arm -> fields that the study says vary for it; they are no confound.
    """
    declared = declared or {}
    confounds, settings, undeclared = [], [], []
    for field in sorted(set().union(*manifests.values())):
        have = {arm: flat[field] for arm, flat in manifests.items() if field in flat}
        if field.startswith("method."):
            if any(value != _default(field) for value in have.values()):
                settings.append({"field": field, "arms": have})
            continue
        known = {a: v for a, v in have.items() if v != NOT_DECLARED and field not in declared.get(a, ())}
        if len({_text(v) for v in known.values()}) > 1:
            confounds.append({"field": field, "arms": {a: _text(v) for a, v in known.items()}, "why": _why(field)})
    for arm, flat in manifests.items():
        silent = sorted(f for f, v in flat.items() if v == NOT_DECLARED)
        if silent:
            undeclared.append({"arm": arm, "fields": silent})
    return confounds, settings, undeclared


def of_plan(plan: Plan, store: Store) -> tuple[list[Json], list[Json], list[Json]]:
    """Confounds, settings and undeclared fields of a study whose cells are done; seeds are compared with themselves."""
    found: dict[str, Json] = {}
    settings: list[Json] = []
    undeclared: list[Json] = []
    for seed in plan.study.seeds:
        runs = [r for r in plan.runs if r.seed == seed]
        manifests = {r.arm.name: manifest(r, plan, store) for r in runs}
        declared = {r.arm.name: _declared(r, plan) for r in runs}
        confounds, settings, undeclared = differences(manifests, declared)
        for confound in confounds:
            found.setdefault(confound["field"], confound)
    judged = _judge_in_training(plan)
    return [*found.values(), *judged, *_unmatched(plan, store), *_shared_prompts(plan)], settings, undeclared


def _declared(run: ArmRun, plan: Plan) -> list[str]:
    """Manifest fields that the study declares to vary for this arm: what an axis sets."""
    fields = {
        "data": ["data (demonstrations)", "data (preferences)", "prompts.train", "reward"],
        "prompts": ["prompts.train"],
        "model": ["start (demonstrations)", "start (preferences)", "start (prompts)", "base"],
        "base": ["base", "start (demonstrations)", "start (preferences)", "start (prompts)", "tokenizer", "template"],
        "reward": ["reward"],
        "template": ["template"],
        "max_length": ["truncation"],
        "bf16": ["precision"],
        "prompts_test": ["prompts.test"],
        "max_tokens": ["decoding.max_tokens"],
        "use": ["start (demonstrations)", "start (preferences)", "start (prompts)"],
    }
    said = [k for k in run.arm.declared if k != "method"] + [a for a in run.arm.values if a != "method"]
    return [f for key in said for f in fields.get(key, [key])]


def _judge_in_training(plan: Plan) -> list[Json]:
    """A judge that labelled or rewarded in training and evaluates. Gold, the truth, may select on dev prompts."""
    used = {
        r.arm.name: plan.cells[key].spec.get("judge")
        if plan.cells[key].kind == "feedback"
        else plan.cells[key].spec.get("reward")
        for r in plan.runs
        for key in plan.lineage(r.train)
        if plan.study.judge
        in (
            plan.cells[key].spec.get("reward"),
            plan.cells[key].spec.get("judge") if plan.cells[key].kind == "feedback" else None,
        )
    }
    if not used:
        return []
    why = "the judge that evaluates also labelled or rewarded in training"
    return [{"field": "judge in training", "arms": {a: str(v) for a, v in used.items()}, "why": why}]


def _unmatched(plan: Plan, store: Store) -> list[Json]:
    """Arms whose ledger misses the stated match by more than 5 %."""
    out = []
    for column, amount in plan.study.match.items():
        spent: Json = {}
        for run in plan.runs:
            if run.train is None or "use" in run.arm.spec or run.seed != plan.study.seeds[0]:
                continue  # nothing was spent on this arm itself
            done = store.cell(run.train)
            value = done["result"]["ledger"].get(column) if done else None
            if value and abs(value - float(amount)) > 0.05 * float(amount):
                spent[run.arm.name] = value
        if spent:
            out.append({"field": f"match: {column}", "arms": spent, "why": f"not matched at {amount} {column}"})
    return out


def _shared_prompts(plan: Plan) -> list[Json]:
    """Test prompts that also stand among training or development prompts."""
    from pippin.compare import inputs

    sets = plan.study.prompts
    test = {p.id for p in inputs.read_prompts(sets.test, 0)}
    shared: Json = {}
    for name in ("train", "dev"):
        source = getattr(sets, name)
        if not source:
            continue
        for seed in plan.study.seeds:
            both = test & {p.id for p in inputs.read_prompts(source, seed)}
            if both:
                shared[name] = f"{len(both)} of {len(test)} test prompts"
    return (
        [{"field": "leaked prompts", "arms": shared, "why": "test prompts were seen before the test"}] if shared else []
    )


@cache
def _defaults(method: str) -> Json:
    """What a method's settings are where nobody sets them."""
    from dataclasses import asdict

    from pippin.align.settings import Settings

    chosen = Settings.of(method, catalog.load("methods", method), {})
    return {**asdict(chosen.training), **asdict(chosen.own)}


def _default(field: str) -> Any:
    """The default of ``method.NAME.SETTING``; a method that is not known here has none."""
    _, name, setting = field.split(".", 2)
    return _defaults(name).get(setting) if name in catalog.names("methods") else None


def _root(key: str | None, plan: Plan) -> str | None:
    """The base model behind a training cell."""
    from pippin.compare.plan import CELL

    while key is not None:
        model = plan.cells[key].spec["model"]
        found = CELL.fullmatch(model)
        if found is None:
            return model
        key = found[1]
    return None


def _tuning(tuning: Any) -> str:
    if isinstance(tuning, Mapping):
        trials = tuning.get("trials") or len(points(tuning))
        return f"{trials} trials on {tuning.get('on', 'dev')}"
    return str(tuning)


def _why(field: str) -> str:
    if field in WHY:
        return WHY[field]
    kind = field.partition(" ")[0]
    told = {
        "data": "the arms were trained on different data",
        "start": "the arms start from different weights",
        "prompts.train": "the arms drew from different training prompts",
        "reward": "the arms were rewarded by different scorers",
    }
    return told.get(kind, "differs between arms and is not declared")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)
