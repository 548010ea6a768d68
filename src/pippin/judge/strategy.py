"""A strategy: how a model is asked which of two responses is better.

It is a generator: it yields lists of requests, receives their calls in the same order, and returns one Choice. It
does no input or output of its own; the engine of ``lm`` drives thousands of them at once. Requests that both orders
share carry the same key in both, and the engine asks them once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

from pippin.core.types import Call, Choice, Key, Messages, Outcome, Request, Sampling
from pippin.judge.ask import LABELS, Order, Pair
from pippin.judge.parse import parse

Asking = Generator[list[Request], list[Call], Choice]


@dataclass(frozen=True)
class Strategy:
    """``ask(pair, order, by, parser)`` asks about one pair in one order.

    ``calls`` is how many different requests one pair costs in both orders, ``parser`` what reads the verdict by
    default.
    """

    ask: Callable[[Pair, Order, str, str], Asking]
    calls: int
    parser: str = "pippin-1"


def verdict_request(pair: Pair, order: Order, messages: Messages, *, max_tokens: int = 50) -> Request:
    """A request for a bare label: its log-probability where the model gives one, its text where not. Temperature 0."""
    key = Key(pair.id, "judge", order)
    return Request(key, messages, Sampling(temperature=0.0, max_tokens=max_tokens), labels=LABELS)


def read_verdict(pair: Pair, order: Order, by: str, call: Call, parser: str) -> Choice:
    """The Choice that one call states, with the responses in the order shown.

    Text is read by the parser; log-probabilities of both labels give the probability that the first shown is better,
    and decide where the model wrote no text. A text without a verdict is not overruled by them.
    """
    first, second = pair.shown(order)
    p_first = label_probability(call)
    if call.stop == "error":
        outcome, p_first = Outcome.FAILED, None
    elif call.text.strip() or p_first is None:
        outcome = Outcome.TIE if p_first == 0.5 else parse(call.text, call.stop, parser)
        p_first = None if outcome.missing else p_first
    else:
        outcome = Outcome.TIE if p_first == 0.5 else Outcome.FIRST if p_first > 0.5 else Outcome.SECOND
    return Choice(pair.prompt.id, first.id, second.id, outcome, by, p_first, calls=(call.id,), parser=parser)


def label_probability(call: Call) -> float | None:
    """P(first label) / (P(first label) + P(second label)); None where the call lacks either."""
    known = call.logprobs or {}
    if not all(label in known for label in LABELS):
        return None
    difference = known[LABELS[1]] - known[LABELS[0]]
    return 1.0 / (1.0 + math.exp(min(difference, 700.0))) if math.isfinite(difference) else None
