"""A language model under a prompting strategy: ``MODEL`` or ``MODEL:STRATEGY``.

Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, arXiv 2306.05685.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pippin.core import catalog
from pippin.core.errors import ModelError
from pippin.core.types import Choice, Judge, Outcome, Score, digest
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, keep, no_scores
from pippin.judge.resolve import split_strategy
from pippin.judge.strategy import Strategy

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.lm.protocols import Answers

DEFAULT = "vanilla"


class LLMJudge:
    """Asks ``model`` as ``strategy`` says; every call goes through the engine and its store."""

    def __init__(self, model: Answers, strategy: Strategy, name: str, parser: str = "") -> None:
        self.model, self.strategy, self.parser = model, strategy, parser or strategy.parser
        self.info = Judge(f"{model.name}:{name}", digest([model.name, name, self.parser]), {"judge": model.name})

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        from pippin.lm import engine

        by = self.info.name
        asked: list[tuple[Pair, Order]] = [(pair, order) for pair in pairs for order in orders]
        tasks = {f"{pair.id}/{order}": self.strategy.ask(pair, order, by, self.parser) for pair, order in asked}
        said = engine.run(tasks, {"": self.model}, store)
        failures = [result for result in said.values() if isinstance(result, engine.Failure)]
        if failures and len(failures) == len(said):
            raise ModelError(f"{by} failed on every pair: {failures[0].error}") from failures[0].cause
        choices = []
        for pair, order in asked:
            result = said[f"{pair.id}/{order}"]
            first, second = pair.shown(order)
            failed = Choice(pair.prompt.id, first.id, second.id, Outcome.FAILED, by, parser=self.parser)
            choices.append(result if isinstance(result, Choice) else failed)
        return keep(choices, store)

    def score(self, rows: Rows) -> list[Score]:
        raise no_scores(self.info.name)


def make(spec: str, options: Options) -> Judging:
    options.none_left("a model as a judge")
    model, strategy = (spec, "") if spec in options.models else split_strategy(spec)
    name = options.strategy or strategy or DEFAULT
    asking = catalog.load("strategies", name)
    if model in options.models:
        return LLMJudge(options.models[model], asking, name, options.parser)
    from pippin.lm import models

    return LLMJudge(models.resolve(model), asking, name, options.parser)


JUDGE = make
