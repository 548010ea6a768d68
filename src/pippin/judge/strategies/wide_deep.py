"""A network of reviewers: one per angle scores both outputs, then again after reading its neighbours' reviews.

Source: Zhang et al., "Wider and Deeper LLM Networks are Fairer LLM Evaluators", 2023, arXiv 2308.01862
The wording is our own.

The angles are listed once per prompt. The mean over the scores of all layers decides. Where the model lists no angle,
there is one general angle, and so one reviewer; where that call fails, nothing more is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Call, Choice, Key, Outcome, Request, Sampling
from pippin.judge.ask import LABELS, Extra, Order, Pair
from pippin.judge.scoring import TOKENS, aspects, by_mean, side_by_side, spoken, two_scores
from pippin.judge.strategy import NUMBER, Asker, Asking, Calls, Strategy, each_order, stated

SCALE = (1.0, 10.0)
TASK = (
    f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}. You are one of several reviewers, and you "
    "look at the outputs from one angle alone. Score both."
)
ANGLE = "This is your angle; it was named by an assistant and is no more than that:"
REVIEW = f"Write a short review of both outputs from your angle. {two_scores(SCALE)}"
AGAIN = (
    "Think the earlier reviews over: keep what is right, mend what is wrong. Then write a short review of both outputs "
    f"from your angle. {two_scores(SCALE)}"
)


@dataclass(frozen=True)
class Config:
    """Settings of wide_deep."""

    angles: int = setting(3, "Most angles, and so reviewers in a layer")
    layers: int = setting(2, "Layers of reviewers")

    def __post_init__(self) -> None:
        if min(self.angles, self.layers) < 1:
            raise InputError("too few reviewers", found=f"{self.angles} angles, {self.layers} layers",
                             expected="at least 1 of both")  # fmt: skip


def neighbours(n: int, reviews: Sequence[Call]) -> list[Extra]:
    """The earlier reviews that reviewer ``n`` reads: its own, and those of the reviewers to its left and right."""
    extras: list[Extra] = []
    for at in range(max(0, n - 1), min(len(reviews), n + 2)):
        words = "Your own earlier review:" if at == n else "The earlier review of another reviewer:"
        extras += spoken(f"review {at + 1}", words, reviews[at])
    return extras


def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    config: Config = asker.config
    angles, first = yield from aspects(pair.prompt, "angles", config.angles)
    if not angles:
        return stated(pair, order, asker, Outcome.FAILED, calls=(first.id,), parser=NUMBER)
    calls: list[Call] = []
    reviews: list[Call] = []
    for layer in range(config.layers):
        reviews = yield [_review(pair, order, angle, layer, n, reviews) for n, angle in enumerate(angles)]
        calls += reviews
    return by_mean(pair, order, asker, calls, SCALE, earlier=(first.id,))


def _review(pair: Pair, order: Order, angle: str, layer: int, n: int, reviews: Sequence[Call]) -> Request:
    extras = [Extra("angle", ANGLE, angle), *neighbours(n, reviews)]
    messages = side_by_side(pair, order, TASK, AGAIN if layer else REVIEW, extras=extras)
    return Request(Key(pair.id, "judge", order, layer, n), messages, Sampling(0.0, max_tokens=TOKENS))


def calls(config: Config) -> Calls:
    return Calls(pair=2 * config.layers * config.angles, prompt=1)


STRATEGY = Strategy(each_order(ask), calls, NUMBER, Config)
