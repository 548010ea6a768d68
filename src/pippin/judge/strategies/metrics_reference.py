"""Asks for the bare label after rules, with questions made for the instruction, the judge's own answer, or both.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1
(``Metrics``, ``Reference``). The wording is our own.
"""

from __future__ import annotations

from collections.abc import Sequence

from pippin.core.types import Choice
from pippin.judge.ask import Order, Pair, comparison
from pippin.judge.guide import METRICS, REFERENCE, RULES, aids
from pippin.judge.strategy import Asker, Asking, Calls, Strategy, each_order, read_verdict, verdict_request

FAMILY = {
    "metrics": "As vanilla, with at most three questions that the judge wrote for the instruction.",
    "reference": "As vanilla, with the judge's own answer to the instruction as a reference.",
    "metrics_reference": "As vanilla, with both the questions and the reference.",
}


def _strategy(wanted: Sequence[str]) -> Strategy:
    def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
        extras, earlier = yield from aids(pair.prompt, wanted)
        [call] = yield [verdict_request(pair, order, comparison(pair, order, RULES, extras=extras))]
        return read_verdict(pair, order, asker, call, calls=earlier)

    return Strategy(each_order(ask), lambda _: Calls(pair=2, prompt=len(wanted)))


STRATEGY = {
    "metrics": _strategy((METRICS,)),
    "reference": _strategy((REFERENCE,)),
    "metrics_reference": _strategy((METRICS, REFERENCE)),
}
