"""Evidence before two scores, several draws in every order; the higher mean wins.

Source: Wang et al., "Large Language Models are not Fair Evaluators", 2023, arXiv 2305.17926, sections 3.1 (multiple
    evidence) and 3.2 (balanced position)
The wording is our own.

The two orders are two choices; their mean strength is the paper's calibrated score.
"""

from __future__ import annotations

from dataclasses import dataclass

from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Choice, Key, Request, Sampling
from pippin.judge.ask import LABELS, Order, Pair
from pippin.judge.scoring import TOKENS, by_mean, side_by_side, two_scores
from pippin.judge.strategy import NUMBER, Asker, Asking, Calls, Strategy, each_order

SCALE = (1.0, 10.0)
TASK = (
    f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}. Compare how helpful, relevant, accurate "
    "and detailed they are, and score both."
)
ANSWER = (
    "First set down the evidence: what in each output speaks for it and what against it. The order in which they stand "
    f"must not matter. Only then think of numbers. {two_scores(SCALE)}"
)


@dataclass(frozen=True)
class Config:
    """Settings of fair_eval."""

    k: int = setting(3, "Draws per order")
    temperature: float = setting(1.0, "Of the draws; a single draw is greedy")

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError("too few draws", found=self.k, expected="k of 1 or more")


def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    config: Config = asker.config
    sampling = Sampling(config.temperature if config.k > 1 else 0.0, max_tokens=TOKENS)
    messages = side_by_side(pair, order, TASK, ANSWER)
    calls = yield [Request(Key(pair.id, "judge", order, 0, n), messages, sampling) for n in range(config.k)]
    return by_mean(pair, order, asker, calls, SCALE)


STRATEGY = Strategy(each_order(ask), lambda config: Calls(pair=2 * config.k), NUMBER, Config)
