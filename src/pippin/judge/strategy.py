"""A strategy: how a model is asked which of two responses is better.

It is a generator: it yields lists of requests, receives their calls in the same order, and returns Choices, one per
order in which the pair was shown. It does no input or output of its own; the engine of ``lm`` drives thousands of them
at once. Requests with the same key and content, of both orders, of several pairs of one prompt, of other strategies
or of an earlier run, are asked once: what is written about a prompt alone carries the prompt's id as its subject.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pippin.core.types import Call, Choice, Key, Messages, Outcome, Prompt, Request, Response, Sampling, Score
from pippin.judge.ask import LABELS, Order, Pair
from pippin.judge.numbers import DEFAULT as NUMBER
from pippin.judge.numbers import Scale, read_number
from pippin.judge.parse import DEFAULT as VERDICT
from pippin.judge.parse import parse

T = TypeVar("T")
Asking = Generator[list[Request], list[Call], T]


@dataclass(frozen=True)
class NoConfig:
    """Settings of a strategy that has none."""


@dataclass(frozen=True)
class Asker:
    """Who asks: the judge's name, the parser that reads its verdicts, and the strategy's settings."""

    by: str
    parser: str
    config: Any = NoConfig()


@dataclass(frozen=True)
class Calls:
    """How many different requests one pair costs in both orders.

    Attributes:
        pair: for every pair.
        prompt: once for all pairs of a prompt.
        more: in addition, where the strategy finds it needs them.
    """

    pair: int
    prompt: int = 0
    more: int = 0

    def __str__(self) -> str:
        once = f"{self.prompt} + " if self.prompt else ""
        return f"{once}{self.pair}" + (f" (+{self.more})" if self.more else "")


@dataclass(frozen=True)
class Strategy:
    """One way of asking.

    Attributes:
        ask: ``ask(pair, orders, asker)`` asks about one pair and returns a Choice per order.
        calls: what a pair costs, given the settings.
        parser: what reads the answers by default.
        config: the settings, a frozen dataclass.
        rate: ``rate(prompt, response, asker)``, for strategies that give a single response a number.
    """

    ask: Callable[[Pair, Sequence[Order], Asker], Asking[list[Choice]]]
    calls: Callable[[Any], Calls]
    parser: str = VERDICT
    config: type = NoConfig
    rate: Callable[[Prompt, Response, Asker], Asking[Score]] | None = None


def each_order(
    one: Callable[[Pair, Order, Asker], Asking[Choice]],
) -> Callable[[Pair, Sequence[Order], Asker], Asking[list[Choice]]]:
    """``ask`` of a strategy whose orders know nothing of one another."""

    def ask(pair: Pair, orders: Sequence[Order], asker: Asker) -> Asking[list[Choice]]:
        return (yield from together([one(pair, order, asker) for order in orders]))

    return ask


def by_ratings(
    rate: Callable[[Prompt, Response, Asker], Asking[Score]],
) -> Callable[[Pair, Sequence[Order], Asker], Asking[list[Choice]]]:
    """``ask`` of a strategy that rates each response alone: the higher number wins in every order."""

    def ask(pair: Pair, orders: Sequence[Order], asker: Asker) -> Asking[list[Choice]]:
        scores = yield from together([rate(pair.prompt, r, asker) for r in (pair.first, pair.second)])
        by_id = {score.response: score for score in scores}
        return [by_numbers(pair, order, asker, *(by_id[r.id] for r in pair.shown(order))) for order in orders]

    return ask


def together(askings: Sequence[Asking[T]]) -> Asking[list[T]]:
    """Several generators side by side: what each wants next is asked in one list. Their results, in their order."""
    results: dict[int, T] = {}
    wanted: dict[int, list[Request]] = {}

    def advance(n: int, calls: list[Call] | None) -> None:
        try:
            wanted[n] = next(askings[n]) if calls is None else askings[n].send(calls)
        except StopIteration as stop:
            wanted.pop(n, None)
            results[n] = stop.value

    for n in range(len(askings)):
        advance(n, None)
    while wanted:
        asked = list(wanted.items())
        calls = yield [request for _, requests in asked for request in requests]
        rest = iter(calls)
        for n, requests in asked:
            advance(n, [next(rest) for _ in requests])
    return [results[n] for n in range(len(askings))]


def verdict_request(pair: Pair, order: Order, messages: Messages, *, turn: int = 0, max_tokens: int = 50) -> Request:
    """A request for a bare label: its log-probability where the model gives one, its text where not. Temperature 0."""
    key = Key(pair.id, "judge", order, turn)
    return Request(key, messages, Sampling(temperature=0.0, max_tokens=max_tokens), labels=LABELS)


def read_verdict(
    pair: Pair, order: Order, asker: Asker, call: Call, *, parser: str = "", calls: tuple[str, ...] = ()
) -> Choice:
    """The Choice that one call states, with the responses in the order shown.

    Text is read by the parser; log-probabilities of both labels give the probability that the first shown is better,
    and decide where the model wrote no text. A text without a verdict is not overruled by them.

    Args:
        parser: instead of the asker's.
        calls: ids of the earlier calls that led to this one.
    """
    p_first = label_probability(call)
    if call.stop == "error":
        outcome, p_first = Outcome.FAILED, None
    elif call.text.strip() or p_first is None:
        outcome = Outcome.TIE if p_first == 0.5 else parse(call.text, call.stop, parser or asker.parser)
        p_first = None if outcome.missing else p_first
    else:
        outcome = Outcome.TIE if p_first == 0.5 else Outcome.FIRST if p_first > 0.5 else Outcome.SECOND
    return stated(pair, order, asker, outcome, p_first=p_first, calls=(*calls, call.id), parser=parser)


def read_score(prompt: Prompt, response: Response, asker: Asker, call: Call, scale: Scale, **more: Any) -> Score:
    """The Score that one call states; ``more`` are further fields of the Score."""
    number = read_number(call.text, call.stop, scale, asker.parser)
    return Score(prompt.id, response.id, number.value, asker.by, scale=scale, outcome=number.outcome,
                 parser=asker.parser, **{"calls": (call.id,), **more})  # fmt: skip


def by_numbers(pair: Pair, order: Order, asker: Asker, one: Score, two: Score) -> Choice:
    """The response with the higher number wins, equal numbers tie; ``strength`` is first less second shown.

    Where a number is missing, the outcome is the reason why.
    """
    calls = tuple(dict.fromkeys((*one.calls, *two.calls)))
    if one.value is None or two.value is None:
        why = next(s.outcome for s in (one, two) if s.value is None)
        return stated(pair, order, asker, why or Outcome.UNPARSED, calls=calls)
    return by_difference(pair, order, asker, one.value - two.value, calls=calls)


def by_difference(pair: Pair, order: Order, asker: Asker, difference: float, *, calls: tuple[str, ...]) -> Choice:
    """The first shown wins where ``difference`` (first less second shown) is above zero; zero is a tie."""
    outcome = Outcome.TIE if difference == 0 else Outcome.FIRST if difference > 0 else Outcome.SECOND
    return stated(pair, order, asker, outcome, strength=difference, calls=calls)


def stated(pair: Pair, order: Order, asker: Asker, outcome: Outcome, *, parser: str = "", **more: Any) -> Choice:
    """A Choice about the pair as shown in ``order``; ``more`` are further fields of it."""
    first, second = pair.shown(order)
    return Choice(pair.prompt.id, first.id, second.id, outcome, asker.by, parser=parser or asker.parser, **more)


def label_probability(call: Call) -> float | None:
    """P(first label) / (P(first label) + P(second label)); None where the call lacks either."""
    known = call.logprobs or {}
    if not all(label in known for label in LABELS):
        return None
    difference = known[LABELS[1]] - known[LABELS[0]]
    return 1.0 / (1.0 + math.exp(min(difference, 700.0))) if math.isfinite(difference) else None


__all__ = [
    "NUMBER", "VERDICT", "Asker", "Asking", "Calls", "NoConfig", "Strategy", "by_difference", "by_numbers",
    "by_ratings", "each_order", "label_probability", "read_score", "read_verdict", "stated", "together",
    "verdict_request",
]  # fmt: skip
