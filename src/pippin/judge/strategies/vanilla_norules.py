"""Asks for the bare label of the better output, without saying what better means.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1
(``Vanilla_NoRules`` in the paper's code). The wording here is our own.
"""

from __future__ import annotations

from pippin.judge.ask import Order, Pair, comparison
from pippin.judge.strategy import Asking, Strategy, read_verdict, verdict_request


def ask(pair: Pair, order: Order, by: str, parser: str) -> Asking:
    [call] = yield [verdict_request(pair, order, comparison(pair, order))]
    return read_verdict(pair, order, by, call, parser)


STRATEGY = Strategy(ask, calls=2)
