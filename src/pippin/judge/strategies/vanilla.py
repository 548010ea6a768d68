"""Asks for the bare label of the better output, after three rules on what better means.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1
(``Vanilla``, "rules" in the paper). The wording here is our own.
"""

from __future__ import annotations

from pippin.judge.ask import Order, Pair, comparison
from pippin.judge.strategy import Asking, Strategy, read_verdict, verdict_request

RULES = (
    "What counts first is whether an output does what the instruction asks, precisely and honestly. Compare "
    "helpfulness, level of detail, style and the rest only where both do so equally well.",
    "An output should neither leave out a part of what is asked nor add what is not asked for; either is a fault, "
    "however good the addition looks.",
    "Be impartial. The order in which the outputs stand says nothing, and before you read them each is as likely as "
    "the other to be the better one.",
)


def ask(pair: Pair, order: Order, by: str, parser: str) -> Asking:
    [call] = yield [verdict_request(pair, order, comparison(pair, order, RULES))]
    return read_verdict(pair, order, by, call, parser)


STRATEGY = Strategy(ask, calls=2)
