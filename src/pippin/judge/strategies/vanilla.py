"""Asks for the bare label of the better output: plainly, after three rules, or after worked examples too.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1
(``Vanilla``; ``Vanilla*`` in the paper is the one with rules, here ``vanilla``). The wording is our own.
"""

from __future__ import annotations

from collections.abc import Sequence

from pippin.core.types import Choice, Message, Prompt, Response, assistant, user
from pippin.judge.ask import LABELS, Order, Pair, comparison
from pippin.judge.guide import RULES
from pippin.judge.strategy import Asker, Asking, Calls, Strategy, each_order, read_verdict, verdict_request

FAMILY = {
    "vanilla_norules": "Asks for the label of the better output, without saying what better means.",
    "vanilla": "Asks for the label of the better output, after three rules on what better means.",
    "vanilla_1shot": "As vanilla, after one worked example.",
    "vanilla_2shot": "As vanilla, after two worked examples.",
}


def _worked(question: str, one: str, two: str, better: int) -> tuple[Message, Message]:
    """A question as the judge gets it, and its right answer, as two turns."""
    prompt = Prompt(user(question))
    pair = Pair(prompt, Response(prompt.id, assistant(one)), Response(prompt.id, assistant(two)))
    return comparison(pair, "first", RULES)[-1], Message("assistant", LABELS[better])


EXAMPLES = (
    _worked(
        "Name three fruits that are red when ripe. Give only the names, separated by commas.",
        "Strawberry, raspberry, cherry",
        "Red fruits are full of antioxidants! Three lovely examples are the strawberry, which is sweet, the "
        "raspberry, which is tart, and the cherry, which many people love.",
        0,
    ),
    _worked(
        "Rewrite this sentence in the past tense: The train leaves at noon and arrives before dark.",
        "Trains are a comfortable way to travel. The train leaves at noon, so plan to be at the station early.",
        "The train left at noon and arrived before dark.",
        1,
    ),
)


def _strategy(rules: Sequence[str] = RULES, examples: Sequence[tuple[Message, Message]] = ()) -> Strategy:
    turns = [turn for example in examples for turn in example]

    def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
        [call] = yield [verdict_request(pair, order, comparison(pair, order, rules, examples=turns))]
        return read_verdict(pair, order, asker, call)

    return Strategy(each_order(ask), lambda _: Calls(2))


STRATEGY = {
    "vanilla_norules": _strategy(()),
    "vanilla": _strategy(),
    "vanilla_1shot": _strategy(examples=EXAMPLES[:1]),
    "vanilla_2shot": _strategy(examples=EXAMPLES[::-1]),
}
