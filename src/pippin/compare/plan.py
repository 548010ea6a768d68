"""A study into cells: every training run, set of responses and set of verdicts, each under the hash of all that makes
it.

A cell that two arms share (an SFT stage, a reward model) has one key and is run once; a cell that the store holds is
not run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pippin import __version__
from pippin.compare import extend, imported, inputs, looks, outside, stakes, tuning
from pippin.compare.axes import Arm, arms, axes_behind, baselines, external_baseline
from pippin.compare.cells import ArmRun, Cell, Plan, Trial
from pippin.compare.spec import EVALUATION_KEYS, Json, judge_scores, kind_of, split_settings, substitute
from pippin.compare.study import Study, stage_spec
from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.run import environment
from pippin.core.types import digest

BASED = ("use", "model", "respond")  # keys where the plain word ``base`` names the study's base
AS_DECLARED = "as declared"
"""The one way of answering of a study whose arms declare ways of their own."""


def plan(study: Study) -> Plan:
    """Arms and cells of a study. Reads file contents for their hashes; runs nothing.

    Raises:
        InputError: a file is missing, or a reference goes in a circle.
    """
    return _Planner(study).plan()


def plan_trials(study: Study) -> tuple[Mapping[str, Cell], tuple[Trial, ...]]:
    """The cells of a study's tuning: the baselines as they are, then every arm that a gradient trains under every point
    of the search, answering the development prompts once at the study's temperature; the first training seed.

    Raises:
        InputError: as :func:`plan`, or the study has no development prompts.
    """
    return _Planner(study).trials()


class _Names(Mapping[str, Any]):
    """What ``$NAME`` means for one arm and seed; stages are planned when they are first named."""

    def __init__(self, planner: _Planner, arm: Arm | None, seed: int) -> None:
        self.planner, self.seed = planner, seed
        self.axes, self.labels = (arm.values, arm.labels) if arm else ({}, {})

    def __getitem__(self, name: str) -> Any:
        if name in self.axes:
            return self.axes[name]
        if name == "base":
            return self.planner.study.base
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
        self.arms = arms(study)
        self.cells: dict[str, Cell] = {}
        self.open: list[str] = []  # stages being planned, outermost first
        self.versions = {k: v for k, v in environment().items() if k in ("torch", "transformers", "numpy")}

    def add(self, kind: str, spec: Json, label: str) -> str:
        key = digest([kind, spec, __version__, self.versions])
        self.cells.setdefault(key, Cell(key, kind, spec, label))
        return key

    def plan(self) -> Plan:
        runs, checks, curves = [], {}, {}
        study, made = self.study, list(self.arms)
        theirs = extend.read(study.extend, frozenset(arm.name for arm in made)) if study.extend else None
        held = baselines(study, made, theirs.arms if theirs else (), f"{study.where}: baseline")
        for entry in study.external:
            held[entry["name"]] = external_baseline(study, entry, made, held)
        if theirs:
            self.cells |= theirs.cells
        made.sort(key=lambda arm: held.get(arm.name) != arm.name)  # baselines first: others are judged against them
        for seed in study.seeds:
            first = {run.arm.name: run for run in theirs.of(seed)} if theirs else {}
            if theirs:
                runs += [extend.judged(run, first.get(study.baseline), study.judge, self.add) for run in first.values()]
            for arm in made:
                names = _Names(self, arm, seed)
                run = self._evaluate(arm, seed, *self._policy(arm, names), first.get(held.get(arm.name, "")))
                first[arm.name] = run
                runs.append(run)
            for entry in study.external:
                runs.append(self._external(entry, seed, first.get(held[entry["name"]])))
            names = _Names(self, None, seed)
            for name, spec in study.checks.items():
                checks[name, seed] = self._measure("check", name, substitute(spec, names), seed)
            for name, spec in study.curves.items():
                curves[name, seed] = self._measure("curve", name, substitute(spec, names), seed)
        order = {arm.name: n for n, arm in enumerate(self.arms)}
        runs.sort(key=lambda r: (order.get(r.arm.name, len(order)), r.arm.name, r.seed))
        return Plan(study, self.cells, tuple(runs), checks, curves, held)

    def _external(self, entry: Json, seed: int, baseline: ArmRun | None) -> ArmRun:
        """An arm made elsewhere: a policy that answers here, or answers that were recorded."""
        arm = Arm(entry["name"], {}, {k: v for k, v in entry.items() if k not in ("path", "name")})
        path = str(entry["path"])
        if outside.gives(path) != "answers":
            policy = imported.read_arm(path).policy or path  # it may lie deep in the folder
            return self._evaluate(arm, seed, policy, {}, baseline, external=dict(entry))
        told = self.study.prompts.test
        spec = {"path": path, "prompts": told, "fingerprint": imported.fingerprint(path)}
        key = self.add("import", self._printed(spec, "prompts"), f"{arm.name}, recorded answers")
        ways = self._ways(arm, {}, greedy=True)
        decoding = entry.get("decoding", next(iter(ways)))
        return self._evaluate(arm, seed, path, {"decoding": decoding}, baseline, external=dict(entry), answers=key)

    def trials(self) -> tuple[Mapping[str, Cell], tuple[Trial, ...]]:
        dev, seed = self.study.prompts.dev, self.study.seeds[0]
        if not dev:
            raise InputError("tuning needs development prompts", where=f"{self.study.where}: prompts.dev")
        out: list[Trial] = []
        held = baselines(self.study, self.arms)
        first: dict[str, ArmRun] = {}
        tried_first: dict[str, Trial] = {}

        def answered(arm: Arm, point: Json) -> Trial:
            tried = replace(arm, settings={**arm.settings, **point})
            policy, own = self._policy(tried, _Names(self, tried, seed))
            base = held.get(arm.name, "")
            run = self._evaluate(tried, seed, policy, {**own, "prompts_test": dev}, first.get(base), greedy=False)
            first.setdefault(arm.name, run)
            decoding = next(iter(run.responses))
            keys = (run.train, run.responses[decoding], run.verdicts[decoding])
            made = Trial(arm.name, point, *keys, tried_first.get(base))
            tried_first.setdefault(arm.name, made)
            return made

        out += [answered(arm, {}) for arm in self.arms if held.get(arm.name) == arm.name]
        for arm in self.arms:
            method = arm.spec.get("method")
            if method and catalog.load("methods", method).terms:
                out += [answered(arm, point) for point in tuning.points(self.study.tuning)]
        return self.cells, tuple(out)

    def stage(self, name: str, names: _Names) -> str:
        """The output of a stage, as a text that stands where a model, data or reward is named."""
        if name in self.open:
            circle = " -> ".join([*self.open[self.open.index(name) :], name])
            raise InputError("stages that need each other", where=f"{self.study.where}: stages", found=circle)
        self.open.append(name)
        of = [names.labels[axis] for axis in axes_behind(self.study, f"${name}") if axis in names.labels]
        labels = {k: v for k, v in self.study.match.items() if k == "labels"}  # the rest is for the arms' own training
        made = self._make("/".join([name, *sorted(of)]), stage_spec(self.study, name), names, labels)[0]
        self.open.pop()
        return made

    def _policy(self, arm: Arm, names: _Names) -> tuple[str, Json]:
        return self._make(arm.name, arm.spec, names, self.study.match)

    def _make(self, name: str, spec: Mapping[str, Any], names: _Names, match: Json) -> tuple[str, Json]:
        """(what it gives, how it is evaluated) of a stage or an arm."""
        spec = substitute({k: "$base" if k in BASED and v == "base" else v for k, v in spec.items()}, names)
        evaluation = {k: spec[k] for k in EVALUATION_KEYS if k in spec}
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
            return f"cell:{self.add('feedback', self._printed(made, 'policy', 'prompts', 'judge'), label)}", evaluation
        inputs_of, settings = split_settings(spec)
        method = catalog.load("methods", spec["method"])
        # Runs look at themselves on development prompts where the judge gives numbers and asks no model.
        watches = bool(self.study.prompts.dev) and judge_scores(self.study.judge)
        develops = method.choose is not None or int(settings.get("eval_steps", 0)) > 0 or watches
        made = {
            "method": spec["method"],
            "model": inputs_of.get("model", names["base"]),
            "data": inputs_of.get("data"),
            "prompts": inputs_of.get("prompts", self.study.prompts.train) if method.reads == "prompts" else None,
            "reward": inputs_of.get("reward"),
            **({"feedback": inputs_of["feedback"]} if "feedback" in inputs_of else {}),
            "template": inputs_of.get("template"),
            "dev": self.study.prompts.dev if develops else None,
            "judge": self.study.judge if develops else None,
            "settings": dict(sorted(settings.items())),
            "match": dict(match),
            "seed": names.seed,
        }
        named = ("model", "data", "prompts", "dev", "template", "reward", "judge")
        return f"cell:{self.add('train', self._printed(made, *named), label)}", evaluation

    def _printed(self, spec: Json, *paths: str) -> Json:
        """The specification with the fingerprints of what it names."""
        told = {p: spec[p] for p in paths if spec.get(p) and "cell:" not in spec[p]}
        known = {"policy": imported.fingerprint, **dict.fromkeys(("judge", "reward", "against"), stakes.content)}
        printed = {p: known.get(p, inputs.fingerprint)(name) for p, name in told.items()}
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
        answers: str = "",
    ) -> ArmRun:
        told, judge = self.study.evaluation, own.get("judge", self.study.judge)
        evaluation = {
            "prompts": own.get("prompts_test", self.study.prompts.test),
            "max_tokens": int(own.get("max_tokens", told.max_tokens)),
            "template": own.get("template"),
            "judge": judge,
        }
        responses, verdicts = {}, {}
        for decoding, way in self._ways(arm, own, greedy).items():
            spec = {"policy": policy, **evaluation, **way, "seed": seed}
            del spec["judge"]
            label = f"{arm.name} answers, {decoding} (seed {seed})"
            key = answers or self._answered(spec, label)
            responses[decoding] = key
            judged = {"responses": f"cell:{key}", "judge": judge, "prompts": evaluation["prompts"]}
            if not judge_scores(judge):
                other = baseline.responses.get(decoding) if baseline else key
                if other is None:
                    continue
                judged["against"] = f"cell:{other}"
            label = f"{arm.name} judged, {decoding} (seed {seed})"
            verdicts[decoding] = self.add("judge", self._printed(judged, "judge"), label)
        kl = None
        sampled = next((d for d in responses if d != "greedy"), None)
        if self.study.reference and sampled and greedy and external is None:
            named = "$base" if self.study.reference == "base" else self.study.reference
            reference = substitute(named, _Names(self, arm, seed))
            spec = {
                "policy": policy,
                "reference": reference,
                "responses": f"cell:{responses[sampled]}",
                "prompts": evaluation["prompts"],
            }
            kl = self.add("kl", self._printed(spec, "policy", "reference"), f"{arm.name} KL (seed {seed})")
        return ArmRun(arm, seed, policy, evaluation, responses, verdicts, kl, external)

    def _answered(self, spec: Json, label: str) -> str:
        """The cell of an arm's answers; of a later look over prompts, on top of the answers of the look before."""
        earlier = looks.earlier(spec["prompts"], self.study.looks)
        if earlier is not None:
            spec = {**spec, "before": f"cell:{self._answered({**spec, 'prompts': earlier}, label)}"}
        return self.add("respond", self._printed(spec, "policy", "prompts", "template"), label)

    def _ways(self, arm: Arm, own: Json, greedy: bool) -> dict[str, Json]:
        """How an arm answers: name -> temperature, n, and what else it declares. One way where arms declare their own,
        so that all arms of a study can be paired."""
        told = self.study.evaluation
        sampled, fixed = {"temperature": told.temperature, "n": told.n}, {"temperature": 0.0, "n": 1}
        ways = {f"temperature {told.temperature:g}": sampled}
        if told.greedy and greedy and not self._reranks(arm):
            ways["greedy"] = fixed
        said = own.get("decoding")
        if any(isinstance(a.spec.get("decoding"), Mapping) for a in self.arms) or "decoding" in self.study.axes:
            chosen = dict(said) if isinstance(said, Mapping) else ways.get(said, fixed if said == "greedy" else sampled)
            return {AS_DECLARED: {**sampled, **chosen}}
        return {k: v for k, v in ways.items() if k == said} if said is not None else ways

    def _reranks(self, arm: Arm) -> bool:
        name = arm.spec.get("method")
        return bool(name) and catalog.load("methods", name).choose is not None

    def _measure(self, kind: str, name: str, spec: Json, seed: int) -> str:
        made = {"prompts": self.study.prompts.test, "against": self.study.judge, "limit": 300, **spec, "seed": seed}
        made["max_tokens"] = self.study.evaluation.max_tokens
        named = ("policy", "prompts", "judge", "reward", "against")
        return self.add(kind, self._printed(made, *named), f"{name} (seed {seed})")
