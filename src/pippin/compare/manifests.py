"""The flat manifest of an arm: what it was trained, asked and judged under, and how the study wrote it.

A value is content (the hash of rows, weights, prompts), so that a copy under another name is the same; beside it stands
what people call it, and its written form: the study's own words with stages spelled out and axes left open. Where two
arms were written alike and an axis stands in the words, only that axis can make them differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.compare import fields, inputs, kept, outside, stakes
from pippin.compare.cells import CELL, ArmRun, Plan
from pippin.compare.spec import REFERENCE, kind_of, references
from pippin.compare.study import Study, stage_spec
from pippin.compare.tuning import points
from pippin.core import catalog
from pippin.core.run import data_digest, environment
from pippin.core.store import Store
from pippin.core.types import Choice, Group, Prompt, canonical, to_row

if TYPE_CHECKING:
    from pippin.judge.judging import Judging
    from pippin.lm.policy import Policy

Json = dict[str, Any]
NOT_DECLARED = "not declared"
UNCOMPARED = ("path", "name", "method", "decoding", "seed", "base.weights")
"""Keys of an arm made elsewhere that are no field: where it is, how it stands in the study, what it drew by."""
STARTS = ("model", "base", "use")
"""Keys that name what an arm starts from."""


@dataclass(frozen=True)
class Said:
    """One field of one arm.

    Args:
        value: what is compared.
        name: what people call it; empty where the value says it.
        written: the study's words, stages spelled out; empty where no axis stands in them.
        also: other names of the same thing, by which an arm made elsewhere may state it.
    """

    value: Any
    name: str = ""
    written: str = ""
    also: frozenset[str] = frozenset()

    def same(self, other: Said) -> bool:
        """Whether the two are one thing, or only a declared axis tells them apart."""
        if self.value == other.value or (self.written and self.written == other.written):
            return True
        return str(self.value) in other.also or str(other.value) in self.also

    def __str__(self) -> str:
        value = str(self.value)
        return f"{self.name} ({value})" if self.name and self.name != value else value


Manifest = dict[str, Said]
Read = Callable[[str], Json]
"""The result of a cell by its key; empty where it is not done."""

# ---------------------------------------------------------------------- what a cell notes of itself


def of_inputs(data: Sequence[Group], prompts: Sequence[Prompt], spec: Mapping[str, Any]) -> Json:
    """What training notes of what it read: content apart from order, who labelled, what the reward is made of."""
    rows = [canonical(to_row(g)) for g in data]
    ids = [p.id for p in prompts]
    by = sorted({j.by for g in data for j in g.judgements})
    return {
        **({"data.content": data_digest(sorted(rows)), "data.order": data_digest(rows)} if rows else {}),
        **({"prompts.content": data_digest(sorted(ids)), "prompts.order": data_digest(ids)} if ids else {}),
        **({"labelled by": by} if by else {}),
        **({"reward.content": stakes.fingerprint(spec["reward"])} if spec.get("reward") else {}),
    }


def of_answers(policy: Policy, prompts: Sequence[Prompt]) -> Json:
    """What answering notes: the policy's format and recipe, the prompts, the machine."""
    d = policy.decoding
    return {
        "template": policy.chat.template_hash,
        "tokenizer": policy.chat.tokenizer_hash,
        "weights": policy.weights_digest,
        "precision of answers": str(policy.model.dtype).removeprefix("torch."),
        "device of answers": policy.device.type,
        "prompts": data_digest(sorted(p.id for p in prompts)),
        "recipe": {"prefix": d.prefix, "banned": list(d.banned), "best_of": d.n if d.n > 1 else 1},
        "library": libraries(),
    }


def of_verdicts(judging: Judging, choices: Iterable[Choice], store: Store) -> Json:
    """What judging notes: the judge's configuration, the snapshots that were served, the machine."""
    calls = store.calls(call for choice in choices for call in choice.calls)
    served = {(c.model, c.served_model, c.fingerprint) for c in calls.values() if c.stop != "error"}
    return {
        "judge": judging.info.name,
        "judge.config": judging.info.config,
        "judge.served": sorted(map(list, served)),  # model as it was asked for, as it was served, fingerprint
        "library": libraries(),
    }


def libraries() -> dict[str, str]:
    """Versions of what can change weights, answers or verdicts; ``peft`` stands in the training of adapters alone."""
    return {k: v for k, v in environment().items() if k in fields.LIBRARIES and k != "peft"}


# ---------------------------------------------------------------------- an arm


def reader(store: Store) -> Read:
    """Results of a store's cells, each read once."""

    @cache
    def read(key: str) -> Json:
        done = store.cell(key)
        return done["result"] if done else {}

    return read


def resolve(run: ArmRun, plan: Plan, read: Read, decoding: str = "") -> Manifest:
    """The fields of one arm in one way of answering (the first where none is given). Absent ones do not apply to it."""
    decoding = decoding or next(iter(run.responses), "")
    flat = _answers(run, plan, read, decoding) | _verdicts(run, plan, read, decoding)
    if run.external is not None:
        stated = _elsewhere(run, plan, read, decoding)
        seen = {name: said for name, said in flat.items() if said.value != NOT_DECLARED}
        return flat | stated | seen
    tuned = not _untried(run, plan)
    flat["tuning"] = _tuning(run.arm.spec.get("tuning", plan.study.tuning)) if tuned else Said("0 trials on dev")
    flat |= _base(run, plan, read) | _training(run, plan, read)
    said = _as_written(run, plan.study)
    return {name: _in_words(name, value, said, run, plan.study) for name, value in flat.items()}


def _elsewhere(run: ArmRun, plan: Plan, read: Read, decoding: str) -> Manifest:
    """The fields of an arm made elsewhere: what a bundle recorded; or what its papers say, over which goes what the
    study says of it, and all else that it could state as not declared."""
    entry = dict(run.external or {})
    if "manifest" in entry:
        return {name: Said(value) for name, value in entry["manifest"].items()}
    papers = read(run.responses[decoding]).get("declared") if decoding in run.responses else None
    path = str(entry.get("path", ""))
    entry = (kept.fact(f"papers of {path}", lambda: _papers(path)) if papers is None else papers) | entry
    method = entry.get("method")
    reads = catalog.load("methods", method).reads if method in catalog.names("methods") else ""
    recorded = [] if papers is None else [f"decoding.{key}" for key in ("temperature", "top_p", "max_tokens")]
    flat = {name: Said(NOT_DECLARED) for name in (*fields.untold(reads), *recorded)}
    if reads and "base.weights" in entry:
        flat[f"start ({reads})"] = Said(entry["base.weights"])
    for key, value in entry.items():
        if key in UNCOMPARED or value is None:
            continue
        if key == "data":
            content = kept.fact(f"content of {value}", partial(_content, str(value)))
            flat[f"data ({reads or 'preferences'})"] = Said(content, str(value), also=frozenset({str(value)}))
        elif key == "tuning":
            flat[key] = _tuning(value)
        elif key in ("base", "model"):
            bases = {plan.study.base, *map(str, _values(plan.study.axes.get("base", ())))}
            known = value in bases
            flat["base"] = Said(value if known else kept.fact(f"origin of {value}", partial(stakes.origin, str(value))))
        elif key == "max_length":
            flat["truncation"] = Said(f"keep start, {value} tokens")
        else:
            flat[key] = Said(", ".join(map(str, value)) if isinstance(value, list) else value)
    return flat


def _values(axis: Any) -> list[Any]:
    return list(axis.values() if isinstance(axis, Mapping) else axis)


@cache
def _papers(path: str) -> Json:
    """What the folder of a policy made elsewhere declares; empty where it is a model by name."""
    return outside.read_external(path).manifest if outside.gives(path) == "policy" else {}


@cache
def _content(name: str) -> str:
    """Data by the name that an arm made elsewhere gives it: the hash of its rows where it is a file here."""
    if not Path(name).expanduser().is_file():
        return name
    return of_inputs(inputs.read_groups(name, 0), (), {})["data.content"]


def _answers(run: ArmRun, plan: Plan, read: Read, decoding: str) -> Manifest:
    if decoding not in run.responses:
        return {}
    asked = plan.cells[run.responses[decoding]].spec
    noted = _noted(run.responses[decoding], read)
    flat = {"prompts.test": Said(noted["prompts"], str(asked["prompts"]))} if "prompts" in noted else {}
    if "temperature" in asked:  # and not recorded elsewhere
        way = {"top_p": 1.0, **asked}
        flat |= {f"decoding.{k}": Said(way[k]) for k in ("temperature", "top_p", "max_tokens", "n")}
    flat |= {k: Said(noted[k]) for k in ("template", "precision of answers", "device of answers") if k in noted}
    root = root_cell(run, plan)  # control tokens that a method adds are the method's
    tokenizer = _noted(root, read).get("base.tokenizer") if root else noted.get("tokenizer")
    flat |= {"tokenizer": Said(tokenizer)} if tokenizer else {}
    theirs = _recipe_of_methods(run, plan, read)
    flat |= {f"decoding.{k}": Said(v) for k, v in noted.get("recipe", {}).items() if k not in theirs}
    return flat | {f"library.{k} of answers": Said(v) for k, v in noted.get("library", {}).items()}


def _verdicts(run: ArmRun, plan: Plan, read: Read, decoding: str) -> Manifest:
    if decoding not in run.verdicts:
        return {}
    noted = _noted(run.verdicts[decoding], read)
    flat = {"judge": Said(plan.cells[run.verdicts[decoding]].spec["judge"])}
    flat |= {"judge.config": Said(noted["judge.config"])} if noted.get("judge.config") else {}
    return flat | {f"library.{k} of verdicts": Said(v) for k, v in noted.get("library", {}).items()}


def _base(run: ArmRun, plan: Plan, read: Read) -> Manifest:
    root = root_cell(run, plan)
    if root is not None:
        name, weights = plan.cells[root].spec["model"], _noted(root, read).get("base.weights")
    else:
        name, weights = run.policy, _noted(next(iter(run.responses.values())), read).get("weights")
    return {"base": Said(weights, name, also=frozenset({name}))} if weights else {}


def _training(run: ArmRun, plan: Plan, read: Read) -> Manifest:
    if run.train is None:
        return {}
    flat = {"seeds": Said(", ".join(str(r.seed) for r in plan.runs if r.arm.name == run.arm.name))}
    if "use" in run.arm.spec:  # taken as it is: what made it is its stage's
        return flat
    cell, noted = plan.cells[run.train], _noted(run.train, read)
    name, method = cell.spec["method"], catalog.load("methods", cell.spec["method"])
    reads = method.reads
    found = {
        f"start ({reads})": noted.get("base.weights"),
        f"data ({reads})": noted.get("data.content"),
        f"data order ({reads})": noted.get("data.order"),
        "prompts.train": noted.get("prompts.content"),
        "prompts.train order": noted.get("prompts.order"),
        "prompts.dev": noted.get("prompts.dev") if selected(run.train, read) else None,
        "reward": noted.get("reward.content") if "reward" in method.wants(_config(cell.spec)) else None,
        "feedback": noted.get("feedback"),
        "collapse": noted.get("collapse"),
    }
    if method.terms:
        found |= {k: noted.get(k) for k in ("truncation", "precision", "masking")} | {"packing": "none"}
    adapter = bool(noted.get(f"method.{name}.use_peft"))
    for key, value in noted.items():
        library = key.removeprefix("library.")
        if key.startswith("method.") or (library in fields.LIBRARIES and (library != "peft" or adapter)):
            found[key] = value
    return flat | {k: Said(v) for k, v in found.items() if v is not None or k.startswith("method.")}


def selected(key: str, read: Read) -> bool:
    """Whether a training run chose a setting or a checkpoint on development prompts."""
    result = read(key)
    return "development" in result.get("state", {}) or "best_round" in result.get("metrics", {})


def _noted(key: str, read: Read) -> Json:
    return read(key).get("manifest", {})


def root_cell(run: ArmRun, plan: Plan) -> str | None:
    """The first training cell that the arm's weights went through."""
    key = run.train
    while key is not None:
        found = CELL.fullmatch(plan.cells[key].spec["model"])
        if found is None:
            return key
        key = found[1]
    return None


# ---------------------------------------------------------------------- the study's words


def written(study: Study, value: Any) -> str:
    """A value as the study writes it, the stages that it names spelled out to the last, axes left open."""

    def spelled(name: str) -> str:
        if name == "base" and name not in study.axes:
            return study.base
        if name not in study.stages:
            return f"${name}"
        return written(study, _stage(study, name))

    if isinstance(value, str):
        return REFERENCE.sub(lambda found: spelled(found[1]), "$base" if value == "base" else value)
    if isinstance(value, Mapping):
        return canonical({k: written(study, v) for k, v in sorted(value.items())})
    if isinstance(value, (list, tuple)):
        return canonical([written(study, v) for v in value])
    return "" if value is None else str(value)


def _stage(study: Study, name: str) -> Json:
    stage = stage_spec(study, name)
    return {"model": "base", **stage} if kind_of(stage) == "train" else stage


def _root_written(study: Study, spec: Mapping[str, Any]) -> str:
    """The model that an arm or a stage goes back to."""
    start = spec.get("use", spec.get("model", "base"))
    found = REFERENCE.fullmatch(str(start))
    if found and found[1] in study.stages:
        return _root_written(study, stage_spec(study, found[1]))
    return written(study, start)


def _as_written(run: ArmRun, study: Study) -> Json:
    """What an arm is made by, with what its axes set, or leave out for this value, as ``$AXIS``."""
    arm, out = run.arm, dict(run.arm.spec)
    for axis, values in study.axes.items():
        if axis not in arm.labels or axis == "method":
            continue
        sets = [v for v in values.values() if isinstance(v, Mapping)] if isinstance(values, Mapping) else []
        keys = {key for value in sets for key in value} if sets and axis != "decoding" else {axis}
        out |= {key: f"${axis}" for key in keys if key in arm.declared or key not in arm.settings}
    return out


def _in_words(name: str, said: Said, spec: Mapping[str, Any], run: ArmRun, study: Study) -> Said:
    """A field with the study's words for it, where an axis stands in them, and its other names."""
    field = fields.field_of(name)
    if field is None:
        return said
    keys = [key for key in field.keys if key in spec]
    words = " ".join(f"{key}: {written(study, spec[key])}" for key in keys if key not in STARTS)
    if field.group == "start" and "use" not in field.keys:
        words += written(study, spec.get("model", "base"))
    elif "use" in field.keys:
        words += _root_written(study, spec)
    axes = references(words) & set(study.axes)
    shown = [spec[key] for key in keys if isinstance(spec[key], str)]
    also = {*said.also, *shown, *(text.removeprefix("$") for text in shown)}
    also |= {run.arm.labels[axis] for axis in axes} | {str(run.arm.values[axis]) for axis in axes}
    return replace(said, name=said.name or "".join(shown[:1]), written=words if axes else "", also=frozenset(also))


# ---------------------------------------------------------------------- what a method owns


def _config(spec: Mapping[str, Any]) -> Any:
    from pippin.align.settings import Settings

    return Settings.of(spec["method"], catalog.load("methods", spec["method"]), spec["settings"]).own


def _recipe_of_methods(run: ArmRun, plan: Plan, read: Read) -> set[str]:
    """The parts of the decoding recipe that methods behind this arm have set."""
    found: set[str] = set()
    for key in plan.lineage(run.train):
        cell = plan.cells[key]
        if cell.kind == "train":
            method = catalog.load("methods", cell.spec["method"])
            found |= set(method.decoding(_config(cell.spec), read(key).get("state", {})))
    return found | ({"best_of"} if "n" in found else set())


def _untried(run: ArmRun, plan: Plan) -> bool:
    """Whether a gradient trains this arm, and the study's trials chose settings for others and not for it."""
    method, study = run.arm.spec.get("method"), plan.study
    if not method or "use" in run.arm.spec or not study.chosen or not points(study.tuning):
        return False
    return run.arm.name not in study.chosen and bool(catalog.load("methods", method).terms)


def _tuning(tuning: Any) -> Said:
    if not isinstance(tuning, Mapping):
        return Said(str(tuning))
    plain = f"{tuning.get('trials') or len(points(tuning))} trials on {tuning.get('on', 'dev')}"
    search = tuning.get("search")
    over = f"{plain} over {', '.join(sorted(search))}" if search else plain
    return Said(over, also=frozenset({plain}))
