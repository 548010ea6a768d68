"""What a training run will do, counted from its method's slots and settings. A method says nothing here: what it draws,
keeps and trains on follows from the names of its settings, which all methods share."""

from __future__ import annotations

import math
from typing import Any

from pippin.align import looking
from pippin.align.method import Method
from pippin.align.settings import Settings
from pippin.compare.counts import WHOLE, Counts, Rows, Scene
from pippin.core import catalog

Json = dict[str, Any]
SHARED = 1.3  # a token of rows that share their prompt, against one of a row of its own: masks and pieces


def count(scene: Scene, made: Counts, spec: Json) -> None:
    """Add what a training cell does to ``made``."""
    method: Method = catalog.load("methods", spec["method"])
    chosen = Settings.of(spec["method"], method, {"save_steps": 0, **spec["settings"], "seed": spec["seed"]})
    run = _Run(scene, made, spec, method, chosen)
    made.add(loads=1, runs=1)
    if method.choose is not None:
        run.choose()
        return
    run.train()


class _Run:
    def __init__(self, scene: Scene, made: Counts, spec: Json, method: Method, chosen: Settings) -> None:
        self.scene, self.made, self.spec, self.method = scene, made, spec, method
        self.own, self.training = chosen.own, chosen.training
        self.model = spec["model"]
        self.limit = getattr(self.own, "max_completion_length", looking.TOKENS)
        self.length = scene.length(self.model, self.limit)

    def choose(self) -> None:
        """n of best-of-n, on development prompts, and the look at it."""
        scene, most = self.scene, max(self.own.candidates)
        if len(self.own.candidates) > 1:
            self._develop(most, self.spec["reward"])
        if self.training.watch_prompts and self.spec["dev"]:
            rows = scene.prompts(self.spec["dev"], self.model)
            draws = looking.DRAWS * self.training.watch_prompts
            few = Rows(max(2, draws // most), rows.prompt)
            scene.draw(self.made, few, most, self.length, self.limit)
            for judge in (self.spec["reward"], self.spec["judge"]):
                if judge:
                    scene.score(self.made, judge, few, most, self.length)

    def train(self) -> None:
        """Rounds of drawing, annotating and training, and the looks between."""
        rounds, parts = self.method.rounds(self.own), self.method.parts(self.own)
        rows, of_each, response = self._data() if self.method.reads != "prompts" else self._drawn(rounds)
        if self.method.couple is not None:  # a row for each label of a response, which may have both, and one beside it
            of_each = 4 * (of_each - 1) if of_each > 1 else 2.0
        networks = 1 + ("critic" in parts)
        groups, size = rows.prompts, self.training.per_device_train_batch_size
        steps = math.ceil(groups / (size * self.training.gradient_accumulation_steps))
        steps *= self.training.num_train_epochs * self.method.passes(self.own) * rounds
        share = 1.0
        if 0 <= self.training.max_steps < steps:
            share, steps = self.training.max_steps / steps, self.training.max_steps
        passes = self.training.num_train_epochs * self.method.passes(self.own) * rounds * share * self._growth(rounds)
        whole = groups * of_each * (rows.prompt + response)
        alone = of_each <= 1 or "critic" in parts or "head" in parts
        read = whole if alone else min(whole, SHARED * groups * (rows.prompt + of_each * response))
        made, tokens = self.made, passes * whole * networks
        made.add(steps=steps * networks, trained=passes * read * networks, gradient_tokens=tokens)
        once = min(1.0, share * self.training.num_train_epochs) if rounds == 1 else share
        made.add(forward=len(self.method.annotate(self.own)) * read * once * rounds)
        if any("kl" in term.needs and term.active(self.own) for term in self.method.terms):
            made.add(forward=WHOLE * passes * read)
        if self.method.couple is not None:  # half of the rows, by the policy and by the reference
            made.add(forward=passes * read)
        made.add(loads=sum(part in parts for part in ("reference", "critic")))
        if self.training.eval_steps and self.spec["dev"]:
            for _ in range(math.ceil(rounds / self.training.eval_steps)):
                self._develop(1, None)
        if self.training.watch_prompts and self.method.artefact == "policy":
            self._watch(rows.prompt, tokens, steps)
        elif self.method.artefact == "reward":  # its gauge is read off the training responses
            made.add(forward=min(1000, groups * of_each) * (rows.prompt + response))

    def _data(self) -> tuple[Rows, float, float]:
        """(rows, responses of each that are trained on, their length) of a method that reads."""
        rows = self.scene.data(self.spec["data"], self.model)
        groups, labels = rows.prompts, self.spec["match"].get("labels")
        if labels is not None and rows.judgements:
            groups = min(groups, math.ceil(labels / rows.judgements))
        self.made.add(labels=groups * (rows.judgements or rows.responses), rows=rows.prompts * max(1, rows.responses))
        rows = Rows(groups, rows.prompt, rows.responses, rows.judgements, rows.response)
        return rows, rows.responses, min(rows.response, self.training.max_length)

    def _drawn(self, rounds: int) -> tuple[Rows, float, float]:
        """The same of a method that draws; what drawing and scoring take is added."""
        own, scene = self.own, self.scene
        source = scene.prompts(self.spec["prompts"], self.model)
        self.made.add(rows=source.prompts)
        count = next((getattr(own, n) for n in ("prompts_per_rollout", "prompts_per_round") if hasattr(own, n)), None)
        rows = Rows(source.prompts if count is None else count, source.prompt)
        draws = next((getattr(own, n) for n in ("num_generations", "num_candidates") if hasattr(own, n)), 1)
        draws = draws + getattr(own, "num_refinements", 0)
        for _ in range(rounds):
            scene.draw(self.made, rows, draws, self.length, self.limit)
            if self.spec["reward"]:
                scene.score(self.made, self.spec["reward"], rows, draws, self.length)
        kept = float(getattr(own, "num_samples", draws))
        if hasattr(own, "num_refinements") or getattr(own, "select", "") == "best":
            kept = 1.0
        elif getattr(own, "select", "") == "top_fraction":
            kept = draws * own.top_fraction
        return rows, kept, self.length

    def _growth(self, rounds: int) -> float:
        """Examples of a round in those of the first, on the average: a pool or a bag grows."""
        if getattr(self.own, "bag", False) or getattr(self.own, "clear_pool", True) is False:
            return (rounds + 1) / 2
        return 1.0

    def _develop(self, draws: int, reward: str | None) -> None:
        """``draws`` responses to every development prompt, scored by the development judge and a reward."""
        rows = self.scene.prompts(self.spec["dev"], self.model)
        self.scene.draw(self.made, rows, draws, self.length, self.limit)
        for judge in (reward, self.spec["judge"]):
            if judge:
                self.scene.score(self.made, judge, rows, draws, self.length)

    def _watch(self, prompt: float, tokens: float, steps: float) -> None:
        """The looks at the run: the first, those that a twentieth of its tokens pays for, and the last."""
        pool = self.spec["dev"] or self.spec["prompts"]
        rows = self.scene.prompts(pool, self.model) if pool else None
        count = self.training.watch_prompts if rows is None else min(self.training.watch_prompts, rows.prompts)
        prompt = prompt if rows is None else rows.prompt
        few = Rows(count, prompt)
        drawn = count * (prompt + looking.DRAWS * self.length)
        each, spent, looks, step = drawn + 2 * count * (prompt + self.length), drawn, 1, 1
        while step < steps:
            if spent + 2 * each > looking.SHARE * tokens * step / steps:
                step += 1
                continue
            looks, spent, step = looks + 1, spent + each, max(step + 1, math.ceil(looking.GROWTH * step))
        looks += 1
        for _ in range(looks):
            self.scene.draw(self.made, few, looking.DRAWS, self.length, self.limit)
            self.made.add(forward=2 * WHOLE * count * (prompt + self.length))
            for judge in (self.spec["reward"], self.spec["judge"]):
                if judge:
                    self.scene.score(self.made, judge, few, looking.DRAWS, self.length)
