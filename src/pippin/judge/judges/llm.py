"""A language model under a prompting strategy: ``MODEL``, ``MODEL:STRATEGY`` or ``MODEL:STRATEGY?key=value``.

Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, arXiv 2306.05685.

Settings are the strategy's own, and two that every strategy has: ``thinking``, tokens that the model may think before
each answer, added to the limit of every request; and ``run``, the number of a repetition, which is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pippin.core import catalog
from pippin.core.config import build, setting
from pippin.core.errors import ModelError
from pippin.core.types import Choice, Judge, Outcome, Request, Score, digest
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, keep, no_scores
from pippin.judge.resolve import split_strategy
from pippin.judge.strategy import Asker, Asking, Strategy

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.lm.forecast import Forecast
    from pippin.lm.protocols import Answers

DEFAULT = "vanilla"
_SAMPLES = 1000  # a repetition's draws stand apart from those of the others


@dataclass(frozen=True)
class Common:
    """Settings that a judge has under every strategy."""

    thinking: int = setting(0, "Tokens that the model may think before each answer")
    run: int = setting(0, "Number of the repetition")


@dataclass(frozen=True)
class Limits:
    """What a run of requests may cost, and who is told how far it is."""

    budget: float | None = None  # US dollars
    progress: Callable[[Any], None] | None = None


class LLMJudge:
    """Asks ``model`` as ``strategy`` says; every call goes through the engine and its store.

    Args:
        config: the strategy's settings; by default its defaults.
        others: models that answer in place of ``model``, by role (``reference``, ``metrics`` ...).
    """

    def __init__(
        self,
        model: Answers,
        strategy: Strategy,
        name: str,
        parser: str = "",
        *,
        config: Any = None,
        common: Common = Common(),
        others: Mapping[str, Answers] | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.model, self.strategy, self.common, self.limits = model, strategy, common, limits
        self.spent = 0.0  # US dollars, by all that this judge was asked so far
        self.models = {"": model, **(others or {})}
        config = strategy.config() if config is None else config
        stated = _stated(config) | _stated(common)
        full = name + (f"?{'&'.join(f'{k}={v}' for k, v in stated.items())}" if stated else "")
        self.asker = Asker(f"{model.name}:{full}", parser or strategy.parser, config)
        named = {"judge": model.name, **{role: other.name for role, other in (others or {}).items()}}
        self.info = Judge(self.asker.by, digest([named, full, self.asker.parser]), named)

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        tasks = {pair.id: self._as_set(self.strategy.ask(pair, orders, self.asker)) for pair in pairs}
        said = self._run(tasks, store)
        return keep([choice for pair in pairs for choice in said[pair.id] or self._failed(pair, orders)], store)

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        if self.strategy.rate is None:
            raise no_scores(self.info.name)
        tasks = {r.id: self._as_set(self.strategy.rate(p, r, self.asker)) for p, r in rows}
        said = self._run(tasks, store)
        failed = {"by": self.info.name, "outcome": Outcome.FAILED, "parser": self.asker.parser}
        return keep([said[r.id] or Score(p.id, r.id, None, **failed) for p, r in rows], store)

    def forecast(self, pairs: Sequence[Pair], store: Store | None = None) -> Forecast:
        """What :meth:`compare` would ask and cost; nothing is asked."""
        from pippin.lm import forecast

        rounds = {pair.id: self._as_set(self.strategy.ask(pair, ORDERS, self.asker)) for pair in pairs}
        first = sum(len(next(self.strategy.ask(pair, ORDERS, self.asker), [])) for pair in pairs)
        cost = self.strategy.calls(self.asker.config)
        whole = cost.pair * len(pairs) + cost.prompt * 2 * len(pairs)  # as each order asks, before equal ones are one
        return forecast.estimate(rounds, self.models, store, scale=max(1.0, whole / max(1, first)))

    def _run(self, tasks: Mapping[str, Asking[Any]], store: Store | None) -> dict[str, Any]:
        """Results by task; None where a task failed.

        Raises:
            ModelError: all of them failed.
        """
        from pippin.lm import engine

        before, budget = self.spent, self.limits.budget

        def tell(progress: Any) -> None:
            self.spent = before + progress.spent
            if self.limits.progress is not None:
                self.limits.progress(progress)

        left = None if budget is None else max(0.0, budget - before)
        said = engine.run(tasks, self.models, store, budget=left, progress=tell)
        failures = [result for result in said.values() if isinstance(result, engine.Failure)]
        if failures and len(failures) == len(said):
            raise ModelError(f"{self.info.name} failed on everything: {failures[0].error}") from failures[0].cause
        return {key: None if isinstance(result, engine.Failure) else result for key, result in said.items()}

    def _failed(self, pair: Pair, orders: Sequence[Order]) -> list[Choice]:
        shown = [pair.shown(order) for order in orders]
        return [Choice(pair.prompt.id, one.id, two.id, Outcome.FAILED, self.info.name, parser=self.asker.parser)
                for one, two in shown]  # fmt: skip

    def _as_set(self, asking: Asking[Any]) -> Asking[Any]:
        """The same generator, its requests changed as the common settings say."""
        if self.common == Common():
            return asking

        def change(request: Request) -> Request:
            key = replace(request.key, sample=request.key.sample + _SAMPLES * self.common.run)
            tokens = request.sampling.max_tokens + self.common.thinking
            return replace(request, key=key, sampling=replace(request.sampling, max_tokens=tokens))

        return _changed(asking, change)


def _changed(asking: Asking[Any], change: Callable[[Request], Request]) -> Asking[Any]:
    calls = None
    while True:
        try:
            requests = next(asking) if calls is None else asking.send(calls)
        except StopIteration as stop:
            return stop.value
        calls = yield [change(request) for request in requests]


def _stated(config: Any) -> dict[str, Any]:
    """The settings that are not at their defaults."""
    default = type(config)()
    pairs = ((f.name, getattr(config, f.name)) for f in fields(config))
    return {name: value for name, value in pairs if value != getattr(default, name)}


def make(spec: str, options: Options) -> Judging:
    model, named, stated = (spec, "", {}) if spec in options.models else split_strategy(spec)
    name = options.strategy or named or DEFAULT
    strategy: Strategy = catalog.load("strategies", name)
    settings = {**stated, **options.settings}
    others = settings.pop("models", {})
    common = {f.name for f in fields(Common)}
    config = build(strategy.config, {k: v for k, v in settings.items() if k not in common}, where=f"strategy {name}")
    shared = build(Common, {k: v for k, v in settings.items() if k in common}, where=spec)
    return LLMJudge(
        _model(model, options), strategy, name, options.parser, config=config, common=shared,
        others={role: _model(other, options) for role, other in others.items()},
        limits=Limits(options.budget, options.progress),
    )  # fmt: skip


def _model(name: str, options: Options) -> Answers:
    if name in options.models:
        return options.models[name]
    from pippin.lm import models

    return models.resolve(name)


JUDGE = make
