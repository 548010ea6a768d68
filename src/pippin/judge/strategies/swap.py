"""Explains in both orders; where the two verdicts contradict each other, the explanations are shown as a debate.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1
(``Swap``, ``Swap+CoT``). The wording is our own.

A verdict that is missing in stage one, and two verdicts that agree, are final.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pippin.core.types import Call, Choice, Key, Outcome, Request, Sampling
from pippin.judge.ask import LABELS, ORDERS, Extra, Order, Pair, comparison
from pippin.judge.guide import RULES
from pippin.judge.parse import explained
from pippin.judge.strategies.cot import ANSWER, EXPLANATION_TOKENS, explanation_request
from pippin.judge.strategy import Asker, Asking, Calls, Strategy, read_verdict, verdict_request

FAMILY = {
    "swap": "As cot; contradicting verdicts of the two orders are debated, and the label is asked for.",
    "swap_cot": "As swap; after the debate an explanation is asked for again.",
}
_LABEL = re.compile(r"\b(output) \(([ab])\)", re.IGNORECASE)


def exchanged(text: str) -> str:
    """An explanation written in one order, as it reads in the other: "output (a)" and "output (b)" change places."""
    return _LABEL.sub(lambda m: f"{m[1]} ({'b' if m[2].lower() == 'a' else 'a'})", text)


def debate(order: Order, said: Mapping[Order, tuple[Call, Choice]]) -> list[Extra]:
    """The argument for each output, as ``order`` shows them. ``said`` holds contradicting verdicts, one per order."""
    extras: list[Extra] = []
    for label, outcome in zip(LABELS, (Outcome.FIRST, Outcome.SECOND), strict=True):
        for written, (call, choice) in said.items():
            here = choice.outcome if written == order else choice.outcome.swap()
            if here is outcome:
                text = call.text if written == order else exchanged(call.text)
                extras.append(Extra(f"argument for {label}", f"One assistant argues for output {label}:", text.strip()))
    return extras


def _strategy(explain: bool) -> Strategy:
    def second(pair: Pair, order: Order, said: Mapping[Order, tuple[Call, Choice]]) -> Request:
        extras = debate(order, said)
        if not explain:
            return verdict_request(pair, order, comparison(pair, order, RULES, extras=extras), turn=1)
        messages = comparison(pair, order, RULES, answer=ANSWER, extras=extras)
        return Request(Key(pair.id, "explain", order, 1), messages, Sampling(0.0, max_tokens=EXPLANATION_TOKENS))

    def ask(pair: Pair, orders: Sequence[Order], asker: Asker) -> Asking[list[Choice]]:
        sentence = explained(asker.parser)
        calls = yield [explanation_request(pair, order) for order in ORDERS]
        said: dict[Order, tuple[Call, Choice]] = {
            order: (call, read_verdict(pair, order, asker, call, parser=sentence))
            for order, call in zip(ORDERS, calls, strict=True)
        }
        one, two = (choice.outcome for _, choice in said.values())
        if not (one.decided and one is two):  # of one pair in two orders, equal outcomes name different responses
            return [said[order][1] for order in orders]
        earlier = tuple(call.id for call in calls)
        calls = yield [second(pair, order, said) for order in orders]
        parser = sentence if explain else asker.parser
        return [read_verdict(pair, order, asker, call, parser=parser, calls=earlier)
                for order, call in zip(orders, calls, strict=True)]  # fmt: skip

    return Strategy(ask, lambda _: Calls(pair=2, more=2))


STRATEGY = {"swap": _strategy(explain=False), "swap_cot": _strategy(explain=True)}
