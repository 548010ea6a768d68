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
confound unless an axis has it. Any other key of an arm can be an axis (:mod:`axes`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.compare import axes, design, looks, spec, tuning
from pippin.compare.axes import Arm, arms
from pippin.compare.spec import Json, judge_scores, kind_of, split_settings
from pippin.core import config
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import Ledger

INNER = ("chosen", "text", "where")
"""Fields of a study that its file does not have."""


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
    baseline: str = config.setting(help="what arms are held against: an arm, a value of an axis, a stage, or base")
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
    external: tuple[Any, ...] = config.setting((), "arms made elsewhere: {path, name, method, data}")
    extend: Any = config.setting("", "a bundle whose arms stand beside these: FILE.zip or {bundle: FILE.zip, arms: []}")
    people: str = config.setting("", "a file of people's labels, which correct a judge of pairs")
    design: Any = config.setting("full", "points of the axes that are run: full, one_factor or {fraction: N, seed: K}")
    looks: Json = config.setting({}, "{over: seeds or prompts, at: [5, 8]}: look early, stop when the answer is clear")
    margin: float | None = config.setting(None, "a difference smaller than this does not matter: tests equivalence")
    gate: str = config.setting("", "expression over delta, delta_low, delta_high, n that must hold")
    chosen: Json = config.setting({}, "what tuning chose: arm name -> settings")
    text: str = config.setting("", "the file as it was read")
    where: str = config.setting("", "the file's path")


def read_study(path: str | Path) -> Study:
    """A study file, checked: keys, arms, references, methods and their settings.

    Raises:
        InputError, UnknownName: with file and line.
    """
    values, lines = config.read_yaml(path)
    for key in INNER:
        if key in values:
            known = {f.name for f in dataclasses.fields(Study)} - set(INNER)
            raise UnknownName("key of a study", key, known, where=f"{path}:{lines.get(key)}")
    text = Path(path).read_text(encoding="utf-8")
    study = config.build(Study, {**values, "text": text, "where": str(path)}, str(path), lines=lines)
    check(study, lines)
    return study


def stage_spec(study: Study, name: str) -> Json:
    """A stage as its file says it, on top of the settings (not the inputs) that ``settings`` gives its method."""
    stage = dict(study.stages[name])
    _, own = split_settings(study.settings.get(str(stage.get("method")), {}))
    return {**own, **stage}


def check(study: Study, lines: Mapping[str, int] | None = None) -> None:
    """Refuse a study that cannot mean what it says.

    Raises:
        InputError, UnknownName: with the file's line where ``lines`` has it.
    """

    def where(key: str) -> str:
        parts = key.split(".")
        found = ((lines or {}).get(".".join(parts[:n])) for n in range(len(parts), 0, -1))
        line = next(filter(None, found), None)
        return f"{study.where}:{line}: {key}" if line else f"{study.where}: {key}" if study.where else key

    if not study.axes:
        raise InputError("a study needs an axis", where=where("axes"), mend="For example: axes: {method: [dpo, ppo]}")
    if len(set(study.seeds)) != len(study.seeds) or not study.seeds:
        raise InputError("seeds must be different, and at least one", where=where("seeds"), found=study.seeds)
    axes.check_values(study, where("axes"))
    design.check(study.design, {axis: list(values) for axis, values in axes.spread(study).items()}, where("design"))
    looks.read(study, where("looks"))
    names = set(study.stages) | set(study.axes) | {"base"}
    for name in study.stages:
        if not isinstance(study.stages[name], Mapping):
            raise InputError(f"stage {name!r} is not a set of keys", where=where(f"stages.{name}"))
        spec.check(name, stage_spec(study, name), names, where(f"stages.{name}"))
    made = _checked_arms(study, names, where)
    _check_external(study, made, where)
    labels = {a.name for a in made} | {e["name"] for e in study.external}
    staged = {str(stage.get("method")) for stage in study.stages.values()}
    methods = staged | {str(a.declared.get("method")) for a in made} | {a.labels.get("method", "") for a in made}
    for name in study.settings:
        if name not in labels | methods:
            raise UnknownName(
                "arm or method of this study", name, (labels | methods) - {"None", ""}, where=where(f"settings.{name}")
            )
    for name in study.beside:
        if name not in labels:
            raise UnknownName("arm", name, labels, where=where("beside"))
    for column, amount in study.match.items():
        if column not in Ledger.columns():
            raise UnknownName("column of the ledger", str(column), Ledger.columns(), where=where(f"match.{column}"))
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not amount > 0:
            raise InputError("not an amount to match", where=where(f"match.{column}"), found=amount,
                             expected="a number above 0")  # fmt: skip
    tuning.check(study.tuning, where("tuning"))
    if study.margin is not None and not study.margin > 0:
        raise InputError("a margin is a difference above 0", where=where("margin"), found=study.margin)


def _checked_arms(study: Study, names: set[str], where: Callable[[str], str]) -> list[Arm]:
    axes.check_axes(study, where("axes"))
    made = arms(study)
    for arm in made:
        keys = (f"settings.{arm.name}", f"settings.{arm.labels.get('method', '')}")
        key = next((k for k in keys if k.partition(".")[2] in study.settings), f"axes.method.{arm.name}")
        if not kind_of(arm.spec):
            raise InputError(f"arm {arm.name!r} says neither method nor use", where=where(key),
                             mend="Give an axis of methods, such as axes: {method: [dpo]}")  # fmt: skip
        spec.check(arm.name, arm.spec, names, where(key), arm=True)
    kinds = {arm.name: judge_scores(arm.spec.get("judge", study.judge)) for arm in made}
    if len(set(kinds.values())) > 1:
        raise InputError(
            "judges that give numbers and judges that compare cannot stand in one study", where=where("judge"),
            found=", ".join(f"{name}: {'numbers' if scores else 'pairs'}" for name, scores in kinds.items()),
        )  # fmt: skip
    if not study.extend:  # else it may be an arm of a bundle, which is not opened here
        axes.baselines(study, made, where=where("baseline"))
    return made


def _check_external(study: Study, made: Sequence[Arm], where: Callable[[str], str]) -> None:
    for n, entry in enumerate(study.external):
        if not isinstance(entry, Mapping) or not {"path", "name"} <= set(entry):
            raise InputError("an external arm needs path and name", where=where(f"external.{n}"), found=entry)
        if entry["name"] in {arm.name for arm in made}:
            raise InputError("two arms of one name", where=where(f"external.{n}"), found=entry["name"])
        if not study.extend:
            axes.external_baseline(study, entry, made, axes.baselines(study, made))
