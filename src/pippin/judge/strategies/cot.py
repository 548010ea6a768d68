"""Asks for a short explanation that ends with a sentence saying which output is better.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1
(``CoT``). The wording is our own.
"""

from __future__ import annotations

from pippin.core.types import Choice, Key, Request, Sampling
from pippin.judge.ask import Order, Pair, comparison
from pippin.judge.guide import RULES
from pippin.judge.parse import explained
from pippin.judge.strategy import Asker, Asking, Calls, Strategy, each_order, read_verdict

SENTENCE = "Output (a) is better. or Output (b) is better."
ANSWER = (
    "First explain in a few sentences what speaks for and against each output; do not settle on one before you have. "
    f"Then, as the last line, write exactly one of these sentences: {SENTENCE} Not both, and not neither."
)
EXPLANATION_TOKENS = 300


def explanation_request(pair: Pair, order: Order) -> Request:
    """Stage one of every strategy that explains: the same request for all of them."""
    key = Key(pair.id, "explain", order)
    messages = comparison(pair, order, RULES, answer=ANSWER)
    return Request(key, messages, Sampling(temperature=0.0, max_tokens=EXPLANATION_TOKENS))


def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    [call] = yield [explanation_request(pair, order)]
    return read_verdict(pair, order, asker, call, parser=explained(asker.parser))


STRATEGY = Strategy(each_order(ask), lambda _: Calls(2))
