"""Trivial rules that every judge must beat: ``rule/longer``, ``rule/shorter`` (characters), ``rule/first`` (as shown).

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024

In the adversarial pairs of that benchmark the shorter output is mostly the right one: a rule beats most judges there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pippin.core.errors import UnknownName
from pippin.core.types import Choice, Judge, Outcome, Score
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge, keep, no_scores

if TYPE_CHECKING:
    from pippin.core.store import Store

LENGTH = {"longer": 1.0, "shorter": -1.0}


class AlwaysFirst:
    """Prefers whatever is shown first: accuracy 50 %, agreement 0 between the orders."""

    info = Judge("rule/first")

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        shown = [(pair.prompt.id, *pair.shown(order)) for pair in pairs for order in orders]
        return keep([Choice(p, one.id, two.id, Outcome.FIRST, self.info.name) for p, one, two in shown], store)

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        raise no_scores(self.info.name)


def make(rest: str, options: Options) -> Judging:
    options.none_left("a rule")
    if rest == "first":
        return AlwaysFirst()
    if rest not in LENGTH:
        raise UnknownName("rule", rest, [*LENGTH, "first"])
    sign = LENGTH[rest]
    return ScoreJudge(Judge(f"rule/{rest}"), lambda rows: [sign * len(response.text) for _, response in rows])


JUDGE = make
