"""Two reviewers judge the pair, then talk until the last turn; the last statement counts.

Source: Li et al., "PRD: Peer Rank and Discussion Improve Large Language Model based Evaluations", 2023,
    arXiv 2307.02762 (peer discussion)
The wording is our own.

The reviewers are the roles ``reviewer_1`` and ``reviewer_2``, which may be two models. The leader speaks first. Where
the two agree from the start, they talk only if told to; a talk in which a turn failed has failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Call, Choice, Key, Outcome, Request, Sampling
from pippin.judge.ask import LABELS, SYSTEM, Extra, Order, Pair
from pippin.judge.parse import explained
from pippin.judge.scoring import side_by_side, spoken
from pippin.judge.strategies.cot import EXPLANATION_TOKENS, SENTENCE
from pippin.judge.strategy import Asker, Asking, Calls, Strategy, each_order, read_verdict, stated

TASK = (
    f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}. Two reviewers judge which one answers the "
    "instruction better: above all whether it is right, then whether it is complete and to the point."
)
ENDING = f"Then, as the last line, write exactly one of these sentences: {SENTENCE}"
REVIEW = f"Write your review: in a few sentences, what speaks for and against each output. {ENDING}"
DISCUSS = (
    "It is your turn in the discussion. Answer the other reviewer's points with reasons, not with politeness: give way "
    f"where the other is right, and stand where you are. {ENDING}"
)


@dataclass(frozen=True)
class Config:
    """Settings of peer_discussion."""

    turns: int = setting(4, "Turns of the discussion, of both reviewers together")
    leader: Literal[1, 2] = setting(1, "The reviewer who speaks first")
    only_where_different: bool = setting(True, "Talk only where the first verdicts differ")

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise InputError("too few turns", found=self.turns, expected="1 or more")


def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    config: Config = asker.config
    parser = explained(asker.parser)
    said = yield [_request(pair, order, n, 0, [], REVIEW) for n in (1, 2)]
    one, two = (read_verdict(pair, order, asker, call, parser=parser).outcome for call in said)
    if Outcome.FAILED in (one, two) or (one is two and config.only_where_different):
        outcome = one if one is two else Outcome.FAILED
        return stated(pair, order, asker, outcome, calls=tuple(call.id for call in said), parser=parser)
    heard = [extra for n, call in enumerate(said, 1) for extra in _said(n, 0, call)]
    for turn in range(1, config.turns + 1):
        n = config.leader if turn % 2 else 3 - config.leader
        said += yield [_request(pair, order, n, turn, heard, DISCUSS)]
        if said[-1].stop == "error":
            break
        heard += _said(n, turn, said[-1])
    return read_verdict(pair, order, asker, said[-1], parser=parser, calls=tuple(call.id for call in said[:-1]))


def _said(n: int, turn: int, call: Call) -> list[Extra]:
    if turn == 0:
        return spoken(f"review of reviewer {n}", f"Reviewer {n} wrote at first:", call)
    return spoken(f"turn {turn}, reviewer {n}", f"Then reviewer {n} said:", call)


def _request(pair: Pair, order: Order, n: int, turn: int, heard: list[Extra], answer: str) -> Request:
    messages = side_by_side(pair, order, TASK, answer, extras=heard, system=f"{SYSTEM} You are reviewer {n} of two.")
    return Request(Key(pair.id, f"reviewer_{n}", order, turn), messages, Sampling(0.0, max_tokens=EXPLANATION_TOKENS))


def calls(config: Config) -> Calls:
    talk = 2 * config.turns
    return Calls(pair=4, more=talk) if config.only_where_different else Calls(pair=4 + talk)


STRATEGY = Strategy(each_order(ask), calls, config=Config)
