"""Rules that every judge must beat: ``rule/longer``, ``rule/shorter``, ``rule/length?target=20``, ``rule/first``.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024; length: Singhal
  et al., "A Long Way to Go: Investigating Length Correlations in RLHF", COLM 2024, arXiv 2310.03716

``longer`` and ``shorter`` count characters, ``first`` takes what is shown first. In the adversarial pairs of LLMBar the
shorter output is mostly the right one: a rule beats most judges there. ``length`` scores 1 - ``|words / target - 1|``:
it is 1 at the target, 0 for an empty response and for one of twice the target. A judge sees texts, so it counts words,
where the paper counts the policy's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pippin.core.config import build, setting
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Judge, Outcome, Score
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge, keep, no_scores

if TYPE_CHECKING:
    from pippin.core.store import Store

LENGTH = {"longer": 1.0, "shorter": -1.0}


@dataclass(frozen=True)
class Config:
    """Settings of ``rule/length``."""

    target: int = setting(help="Words of the response that scores highest")

    def __post_init__(self) -> None:
        if self.target < 1:
            raise InputError("a length to aim at is one word or more", where="target", found=self.target)


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


def length_only(text: str, target: int) -> float:
    """1 - ``|words / target - 1|``, at most 1 and without a lower end (Singhal et al. 2023, length-only reward)."""
    return 1 - abs(len(text.split()) / target - 1)


def make(rest: str, options: Options) -> Judging:
    if rest == "length":
        target = build(Config, options.settings, where="rule/length").target
        name = f"rule/length?target={target}"
        return ScoreJudge(Judge(name), lambda rows: [length_only(response.text, target) for _, response in rows])
    options.none_left("a rule")
    if rest == "first":
        return AlwaysFirst()
    if rest not in LENGTH:
        raise UnknownName("rule", rest, [*LENGTH, "length", "first"])
    sign = LENGTH[rest]
    return ScoreJudge(Judge(f"rule/{rest}"), lambda rows: [sign * len(response.text) for _, response in rows])


JUDGE = make
