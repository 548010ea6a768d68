"""The study file: what varies, what is held equal, how it is judged. Parsed and checked before any work begins.

```yaml
question: Which method mends the crowd's habits?
base: world/base
prompts: {train: "world/train?n=2000", dev: "world/dev?n=150&seed=0", test: "world/heldout?n=500&seed=0"}
stages:                                   # derived once per value of what they use
  sft: {method: sft, data: "world/demonstrations?n=5000"}
  feedback: {respond: $sft, n: 4, judge: simulated/world}
  reward: {method: reward_model, model: $sft, data: $feedback}
axes:
  method: [dpo, ppo]                      # or a mapping: name -> what this arm declares
settings: {dpo: {model: $sft, data: $feedback}, ppo: {model: $sft, reward: rm/$reward}}
judge: gold
seeds: [0, 1]
baseline: sft
tuning: {trials: 4, search: {learning_rate: [1e-4, 2e-4, 4e-4, 8e-4]}}   # the same trials for every arm (:mod:`tuning`)
```

``$NAME`` stands for a stage's output, or for the value of an axis. An axis named ``method`` takes a list of methods,
or a mapping from arm names to what the arm declares (``{method: sft, data: ...}`` or ``{use: $sft}``). What
``settings`` says of a method is the method's own; what it says beside that (truncation, template, test prompts) is a
confound unless an axis has it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pippin.compare import tuning
from pippin.core import catalog, config
from pippin.core.errors import InputError, UnknownName

Json = dict[str, Any]
REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
STAGE_KEYS = {
    "train": ("method", "model", "data", "prompts", "reward", "feedback", "template"),
    "feedback": ("respond", "prompts", "n", "judge", "orders", "temperature", "max_tokens"),
    "use": ("use", "decoding", "template"),
}
EVALUATION_KEYS = ("prompts_test", "decoding", "max_tokens", "template")


@dataclass(frozen=True)
class Prompts:
    """Where prompts come from; the three sets must not share one."""

    test: str = config.setting(help="prompts that the arms are compared on, scored once")
    train: str = config.setting("", "prompts that methods and feedback draw from")
    dev: str = config.setting("", "prompts for choosing settings and checkpoints")


@dataclass(frozen=True)
class Evaluation:
    """How every arm answers the test prompts."""

    n: int = config.setting(1, "responses a prompt at temperature above 0")
    temperature: float = config.setting(1.0, "of the sampled responses")
    greedy: bool = config.setting(True, "also answer greedily")
    max_tokens: int = config.setting(64, "tokens of a response at most")


@dataclass(frozen=True)
class Study:
    """A study as its file says it."""

    question: str = config.setting(help="what this comparison is to answer")
    base: str = config.setting(help="the model that every arm starts from")
    prompts: Prompts = config.setting(help="train, dev and test")
    axes: Json = config.setting(help="what varies: axis name -> values")
    judge: str = config.setting(help="who judges the test responses")
    baseline: str = config.setting(help="the arm that others are compared with")
    stages: Json = config.setting({}, "what arms stand on: name -> how it is made")
    settings: Json = config.setting({}, "per arm or method: inputs and settings")
    seeds: tuple[int, ...] = config.setting((0,), "training seeds; each arm is run once a seed")
    tuning: Any = config.setting("published", "published, or {trials: N, on: dev, search: {SETTING: [values]}}")
    match: Json = config.setting({}, "ledger column -> amount that every arm gets")
    evaluation: Evaluation = config.setting(Evaluation(), "how the arms answer the test prompts")
    reference: str = config.setting("", "policy that KL is measured from; empty: not measured")
    beside: tuple[str, ...] = config.setting((), "further arms that every arm is also compared with")
    checks: Json = config.setting({}, "name -> {judge, policy, n}: agreement of a judge with the study's judge")
    curves: Json = config.setting({}, "name -> {policy, reward, n}: over-optimisation by best-of-n")
    external: tuple[Any, ...] = config.setting((), "checkpoints made elsewhere: {path, name, method, data}")
    gate: str = config.setting("", "expression over delta, delta_low, delta_high, n that must hold")
    chosen: Json = config.setting({}, "what tuning chose: arm name -> settings")
    text: str = config.setting("", "the file as it was read")
    where: str = config.setting("", "the file's path")


@dataclass(frozen=True)
class Arm:
    """One point of the axes: what it declares, and what its settings add."""

    name: str
    values: Mapping[str, Any]  # axis -> value
    declared: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)

    @property
    def spec(self) -> Json:
        """What the arm is made by: its settings, and what it declares on top."""
        return {**self.settings, **self.declared}


def read_study(path: str | Path) -> Study:
    """A study file, checked: keys, arms, references, methods and their settings.

    Raises:
        InputError, UnknownName: with file and line.
    """
    values, lines = config.read_yaml(path)
    study = config.build(
        Study, {**values, "text": Path(path).read_text(encoding="utf-8"), "where": str(path)}, str(path), lines=lines
    )
    check(study, lines)
    return study


def arms(study: Study) -> list[Arm]:
    """Every arm, in the order of the axes' values; external ones are not among them."""
    names = list(study.axes)
    spread = [
        list(v.items()) if isinstance(v, Mapping) else [(str(x), x) for x in v] for v in (study.axes[n] for n in names)
    ]
    out = []
    for point in itertools.product(*spread):
        values = {axis: value for axis, (_, value) in zip(names, point, strict=True)}
        labels = dict(zip(names, (label for label, _ in point), strict=True))
        method = values.get("method", labels.get("method"))
        declared = dict(method) if isinstance(method, Mapping) else {"method": method} if method else {}
        label, named = str(labels.get("method", "")), str(declared.get("method", ""))
        own = {**study.settings.get(named, {}), **study.settings.get(label, {})}
        if "use" in declared:  # takes a model as it is: what the name's settings say of training is for stages
            own = {k: v for k, v in own.items() if k in EVALUATION_KEYS}
        name = "/".join(labels.values())
        own |= study.chosen.get(name, {})
        out.append(Arm(name, {a: labels[a] if a == "method" else v for a, v in values.items()}, declared, dict(own)))
    return out


def stage_spec(study: Study, name: str) -> Json:
    """A stage as its file says it, on top of the settings (not the inputs) that ``settings`` gives its method."""
    spec = dict(study.stages[name])
    _, own = split_settings(study.settings.get(str(spec.get("method")), {}))
    return {**own, **spec}


def substitute(value: Any, names: Mapping[str, str]) -> Any:
    """``$NAME`` in texts, lists and mappings replaced by what ``names`` says.

    Raises:
        UnknownName: a name is not there.
    """
    if isinstance(value, str):

        def replacement(found: re.Match[str]) -> str:
            if found[1] not in names:
                raise UnknownName("stage or axis", found[1], names)
            return str(names[found[1]])

        return REFERENCE.sub(replacement, value)
    if isinstance(value, Mapping):
        return {k: substitute(v, names) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute(v, names) for v in value]
    return value


def kind_of(spec: Mapping[str, Any]) -> str:
    """``train``, ``feedback`` or ``use``: what a stage or an arm does."""
    return next(
        (kind for kind, key in (("use", "use"), ("feedback", "respond"), ("train", "method")) if key in spec), ""
    )


def split_settings(spec: Mapping[str, Any]) -> tuple[Json, Json]:
    """(inputs of a training stage, settings of its method) of one mapping."""
    structural = set(STAGE_KEYS["train"]) | set(EVALUATION_KEYS)
    return {k: v for k, v in spec.items() if k in structural}, {k: v for k, v in spec.items() if k not in structural}


def check(study: Study, lines: Mapping[str, int] | None = None) -> None:
    """Refuse a study that cannot mean what it says."""

    def where(key: str) -> str:
        line = (lines or {}).get(key)
        return f"{study.where}:{line}: {key}" if line else f"{study.where}: {key}" if study.where else key

    if not study.axes:
        raise InputError("a study needs an axis", where=where("axes"), mend="For example: axes: {method: [dpo, ppo]}")
    names = set(study.stages) | set(study.axes) | {"base"}
    for name in study.stages:
        if not isinstance(study.stages[name], Mapping):
            raise InputError(f"stage {name!r} is not a set of keys", where=where(f"stages.{name}"))
        _check_stage(name, stage_spec(study, name), names, where(f"stages.{name}"))
    made = arms(study)
    for arm in made:
        key = f"settings.{arm.name}" if f"settings.{arm.name}" in (lines or {}) else f"axes.method.{arm.name}"
        if not kind_of(arm.spec) and "method" in study.axes:
            raise InputError(f"arm {arm.name!r} says neither method nor use", where=where(key))
        _check_stage(arm.name, arm.spec, names, where(key), arm=True)
    labels = {a.name for a in made} | {e["name"] for e in study.external if isinstance(e, Mapping) and "name" in e}
    staged = {str(spec.get("method")) for spec in study.stages.values()}
    methods = staged | {str(a.declared.get("method")) for a in made}
    for name in study.settings:
        if name not in labels | methods:
            raise UnknownName(
                "arm or method of this study", name, labels | methods - {"None"}, where=where(f"settings.{name}")
            )
    for name in (study.baseline, *study.beside):
        if name not in labels:
            raise UnknownName("arm", name, labels, where=where("baseline"))
    for n, entry in enumerate(study.external):
        if not isinstance(entry, Mapping) or not {"path", "name"} <= set(entry):
            raise InputError("an external arm needs path and name", where=where(f"external.{n}"), found=entry)
    tuning.check(study.tuning, where("tuning"))
    if len(set(study.seeds)) != len(study.seeds) or not study.seeds:
        raise InputError("seeds must be different, and at least one", where=where("seeds"), found=study.seeds)


def _check_stage(name: str, spec: Any, names: set[str], where: str, arm: bool = False) -> None:
    if not isinstance(spec, Mapping) or not kind_of(spec):
        raise InputError(
            f"{name!r} does not say what it does", where=where, found=spec, expected="method, respond or use"
        )
    kind = kind_of(spec)
    for found in REFERENCE.findall(str(dict(spec))):
        if found not in names:
            raise UnknownName("stage or axis", found, names, where=where)
    if kind == "train":
        if REFERENCE.search(str(spec["method"])):
            return
        if spec["method"] not in catalog.names("methods"):
            raise UnknownName("method", str(spec["method"]), catalog.names("methods"), where=where)
        method = catalog.load("methods", spec["method"])
        from pippin.align.settings import Settings

        _, own = split_settings(spec)
        Settings.of(spec["method"], method, {k: v for k, v in own.items() if "$" not in str(v)}, where=where)
        return
    allowed = {*STAGE_KEYS[kind], *(EVALUATION_KEYS if arm else ())}
    for key in spec:
        if key not in allowed:
            raise UnknownName(f"key of {name}", str(key), allowed, where=where)
