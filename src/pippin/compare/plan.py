"""A study into cells: every training run, set of responses and set of verdicts, each under the hash of all that makes
it.

A cell that two arms share (an SFT stage, a reward model) has one key and is run once; a cell that the store holds is
not run again. References between cells are texts ``cell:KEY`` inside a cell's specification."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin import __version__
from pippin.compare import inputs, tuning
from pippin.compare.study import Arm, Json, Study, arms, kind_of, split_settings, stage_spec, substitute
from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.run import environment
from pippin.core.types import canonical, digest

CELL = re.compile(r"cell:([0-9a-f]{16})")
BASED = ("use", "model", "respond")  # keys where the plain word ``base`` names the study's base
SCORING = ("gold", "rm", "reward_model", "implicit", "python")


@dataclass(frozen=True)
class Cell:
    """One piece of work. ``kind``: train, feedback, respond, judge, kl, check or curve."""

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


@dataclass(frozen=True)
class Plan:
    """All cells of a study, in an order in which they can be run."""

    study: Study
    cells: Mapping[str, Cell]
    runs: tuple[ArmRun, ...]
    checks: Mapping[tuple[str, int], str] = field(default_factory=dict)
    curves: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def lineage(self, key: str | None) -> list[str]:
        """The training and feedback cells behind a cell, itself last, each once."""
        if key is None:
            return []
        out: list[str] = []
        for need in self.cells[key].needs:
            out += [k for k in self.lineage(need) if k not in out]
        return [*out, key]


def plan(study: Study) -> Plan:
    """Arms and cells of a study. Reads file contents for their hashes; runs nothing.

    Raises:
        InputError: a file is missing, or a reference goes in a circle.
    """
    return _Planner(study).plan()


def plan_trials(study: Study) -> tuple[Mapping[str, Cell], tuple[Trial, ...]]:
    """The cells of a study's tuning: every arm that a gradient trains under every point of the search, and the baseline
    as it is, answering the development prompts once at the study's temperature; the first training seed.

    Raises:
        InputError: as :func:`plan`, or the study has no development prompts.
    """
    return _Planner(study).trials()


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


def judge_scores(judge: str) -> bool:
    """Whether a judge gives numbers to single responses (else it compares pairs)."""
    head, _, rest = judge.partition("?")[0].partition("/")
    return head in SCORING or (head == "rule" and rest in ("longer", "shorter", "length"))


class _Names(Mapping[str, str]):
    """What ``$NAME`` means for one arm and seed; stages are planned when they are first named."""

    def __init__(self, planner: _Planner, axes: Mapping[str, Any], seed: int) -> None:
        self.planner, self.axes, self.seed = planner, axes, seed

    def __getitem__(self, name: str) -> str:
        if name == "base":
            return self.planner.study.base
        if name in self.axes:
            return str(self.axes[name])
        return self.planner.stage(name, self)

    def __iter__(self) -> Iterator[str]:
        yield from ("base", *self.axes, *self.planner.study.stages)

    def __len__(self) -> int:
        return 1 + len(self.axes) + len(self.planner.study.stages)

    def __contains__(self, name: object) -> bool:
        return name in set(self)


class _Planner:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.cells: dict[str, Cell] = {}
        self.open: list[str] = []  # stages being planned, outermost first
        self.versions = {k: v for k, v in environment().items() if k in ("torch", "transformers", "numpy")}

    def add(self, kind: str, spec: Json, label: str) -> str:
        key = digest([kind, spec, __version__, self.versions])
        self.cells.setdefault(key, Cell(key, kind, spec, label))
        return key

    def plan(self) -> Plan:
        runs, checks, curves = [], {}, {}
        for seed in self.study.seeds:
            baseline: ArmRun | None = None
            made = sorted(arms(self.study), key=lambda arm: arm.name != self.study.baseline)
            for arm in made:
                names = _Names(self, arm.values, seed)
                run = self._evaluate(arm, seed, *self._policy(arm, names), baseline)
                baseline = baseline or run
                runs.append(run)
            for entry in self.study.external:
                arm = Arm(entry["name"], {}, {k: v for k, v in entry.items() if k not in ("path", "name")})
                fixed = {"prompts_test": self.study.prompts.test}
                runs.append(self._evaluate(arm, seed, entry["path"], fixed, baseline, external=dict(entry)))
            names = _Names(self, {}, seed)
            for name, spec in self.study.checks.items():
                checks[name, seed] = self._measure("check", name, substitute(spec, names), seed)
            for name, spec in self.study.curves.items():
                curves[name, seed] = self._measure("curve", name, substitute(spec, names), seed)
        order = {arm.name: n for n, arm in enumerate(arms(self.study))}
        runs.sort(key=lambda r: (order.get(r.arm.name, len(order)), r.arm.name, r.seed))
        return Plan(self.study, self.cells, tuple(runs), checks, curves)

    def trials(self) -> tuple[Mapping[str, Cell], tuple[Trial, ...]]:
        dev, seed = self.study.prompts.dev, self.study.seeds[0]
        if not dev:
            raise InputError("tuning needs development prompts", where=f"{self.study.where}: prompts.dev")
        out: list[Trial] = []
        baseline = next(arm for arm in arms(self.study) if arm.name == self.study.baseline)
        responses: Json = {}

        def answered(arm: Arm, point: Json) -> Trial:
            made = Arm(arm.name, arm.values, arm.declared, {**arm.settings, **point})
            policy, own = self._policy(made, _Names(self, made.values, seed))
            run = self._evaluate(
                made, seed, policy, {**own, "prompts_test": dev}, responses.get("baseline"), greedy=False
            )
            responses.setdefault("baseline", run)
            decoding = next(iter(run.responses))
            return Trial(arm.name, point, run.train, run.responses[decoding], run.verdicts[decoding])

        out.append(answered(baseline, {}))
        for arm in arms(self.study):
            method = arm.spec.get("method")
            if arm.name != self.study.baseline and method and catalog.load("methods", method).terms:
                out += [answered(arm, point) for point in tuning.points(self.study.tuning)]
        return self.cells, tuple(out)

    def stage(self, name: str, names: _Names) -> str:
        """The output of a stage, as a text that stands where a model, data or reward is named."""
        if name in self.open:
            circle = " -> ".join([*self.open[self.open.index(name) :], name])
            raise InputError("stages that need each other", where=f"{self.study.where}: stages", found=circle)
        self.open.append(name)
        made = self._make(name, stage_spec(self.study, name), names)[0]
        self.open.pop()
        return made

    def _policy(self, arm: Arm, names: _Names) -> tuple[str, Json]:
        return self._make(arm.name, arm.spec, names)

    def _make(self, name: str, spec: Mapping[str, Any], names: _Names) -> tuple[str, Json]:
        """(what it gives, how it is evaluated) of a stage or an arm."""
        spec = substitute({k: "$base" if k in BASED and v == "base" else v for k, v in spec.items()}, names)
        evaluation = {k: spec[k] for k in ("prompts_test", "decoding", "max_tokens", "template") if k in spec}
        kind = kind_of(spec)
        label = f"{name} (seed {names.seed})"
        if kind == "use":
            return spec["use"], evaluation
        if kind == "feedback":
            made = {
                "policy": spec["respond"],
                "prompts": spec.get("prompts", self.study.prompts.train),
                "n": int(spec.get("n", 4)),
                "judge": spec["judge"],
                "orders": spec.get("orders", "one"),
                "temperature": float(spec.get("temperature", 1.0)),
                "max_tokens": int(spec.get("max_tokens", self.study.evaluation.max_tokens)),
                "seed": names.seed,
            }
            return f"cell:{self.add('feedback', self._printed(made, 'policy', 'prompts'), label)}", evaluation
        inputs_of, settings = split_settings(spec)
        method = catalog.load("methods", spec["method"])
        develops = method.choose is not None or int(settings.get("eval_steps", 0)) > 0 or self._watches
        made = {
            "method": spec["method"],
            "model": inputs_of.get("model", self.study.base),
            "data": inputs_of.get("data"),
            "prompts": inputs_of.get("prompts", self.study.prompts.train) if method.reads == "prompts" else None,
            "reward": inputs_of.get("reward"),
            **({"feedback": inputs_of["feedback"]} if "feedback" in inputs_of else {}),
            "template": inputs_of.get("template"),
            "dev": self.study.prompts.dev if develops else None,
            "judge": self.study.judge if develops else None,
            "settings": dict(sorted(settings.items())),
            "match": dict(self.study.match),
            "seed": names.seed,
        }
        return f"cell:{self.add('train', self._printed(made, 'model', 'data', 'prompts', 'dev'), label)}", evaluation

    @property
    def _watches(self) -> bool:
        """Whether runs look at themselves on development prompts: where the judge gives numbers and asks no model."""
        return bool(self.study.prompts.dev) and judge_scores(self.study.judge)

    def _printed(self, spec: Json, *paths: str) -> Json:
        """The specification with the fingerprints of what it names."""
        printed = {p: inputs.fingerprint(spec[p]) for p in paths if spec.get(p) and "cell:" not in spec[p]}
        return {**spec, "fingerprints": printed}

    def _evaluate(
        self,
        arm: Arm,
        seed: int,
        policy: str,
        own: Json,
        baseline: ArmRun | None,
        external: Json | None = None,
        greedy: bool = True,
    ) -> ArmRun:
        told = self.study.evaluation
        evaluation = {
            "prompts": own.get("prompts_test", self.study.prompts.test),
            "max_tokens": int(own.get("max_tokens", told.max_tokens)),
            "template": own.get("template"),
        }
        ways = {f"temperature {told.temperature:g}": (told.temperature, told.n)}
        if told.greedy and greedy and not self._reranks(arm):
            ways["greedy"] = (0.0, 1)
        if "decoding" in own:
            ways = {k: v for k, v in ways.items() if k == own["decoding"]}
        responses, verdicts = {}, {}
        for decoding, (temperature, n) in ways.items():
            spec = {"policy": policy, **evaluation, "temperature": temperature, "n": n, "seed": seed}
            key = self.add(
                "respond", self._printed(spec, "policy", "prompts"), f"{arm.name} answers, {decoding} (seed {seed})"
            )
            responses[decoding] = key
            judged = {"responses": f"cell:{key}", "judge": self.study.judge, "prompts": evaluation["prompts"]}
            if not judge_scores(self.study.judge):
                other = baseline.responses.get(decoding) if baseline else key
                if other is None:
                    continue
                judged["against"] = f"cell:{other}"
            verdicts[decoding] = self.add("judge", judged, f"{arm.name} judged, {decoding} (seed {seed})")
        kl = None
        sampled = next((d for d in responses if d != "greedy"), None)
        if self.study.reference and sampled and greedy and external is None:
            reference = substitute(self.study.reference, _Names(self, arm.values, seed))
            spec = {
                "policy": policy,
                "reference": reference,
                "responses": f"cell:{responses[sampled]}",
                "prompts": evaluation["prompts"],
            }
            kl = self.add("kl", self._printed(spec, "policy", "reference"), f"{arm.name} KL (seed {seed})")
        return ArmRun(arm, seed, policy, evaluation, responses, verdicts, kl, external)

    def _reranks(self, arm: Arm) -> bool:
        name = arm.spec.get("method")
        return bool(name) and catalog.load("methods", name).choose is not None

    def _measure(self, kind: str, name: str, spec: Json, seed: int) -> str:
        made = {"prompts": self.study.prompts.test, "against": self.study.judge, "limit": 300, **spec, "seed": seed}
        made["max_tokens"] = self.study.evaluation.max_tokens
        return self.add(kind, self._printed(made, "policy", "prompts"), f"{name} (seed {seed})")
