"""Referees of different character talk the outputs over and score them in the last round.

Source: Chan et al., "ChatEval: Towards Better LLM-based Evaluators through Multi-Agent Debate", 2023, arXiv 2308.07201,
    sections 2.1 to 2.3
The wording and the characters are our own.

Scores that could not be read, and ties, count for neither side. A talk in which a turn before the last round failed
has failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Call, Choice, Key, Outcome, Request, Sampling
from pippin.judge.ask import LABELS, SYSTEM, Extra, Order, Pair
from pippin.judge.scoring import TOKENS, by_sign, difference, numbers, reason, side_by_side, spoken, two_scores
from pippin.judge.strategy import NUMBER, Asker, Asking, Calls, Strategy, each_order, stated

SCALE = (1.0, 10.0)
PERSONAS = (
    "an ordinary reader who wants to know whether an output would help the person who asked",
    "a critic who looks for faults: what is wrong, missing, vague or beside the point",
    "a scientist who asks whether every claim is right and every step follows",
    "an editor who cares that a text is clear, in order and no longer than it must be",
    "a teacher who asks whether the instruction was understood and followed to the letter",
)
TASK = (
    f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}. Several referees talk about which output "
    "is better. You see what has been said so far, if anything."
)
TALK = (
    "Say in a few sentences what you think of the two outputs, and answer what the others have said. Think for "
    "yourself. Give no scores yet."
)
SCORE = (
    "This is the last round. Give the evidence for your judgement in a few sentences, whatever the order of the "
    f"outputs. {two_scores(SCALE)}"
)
SUMMARY = "You take no side. Sum up in a few sentences what the referees said in this round, and give no scores."


@dataclass(frozen=True)
class Config:
    """Settings of chat_eval."""

    personas: int = setting(2, f"Referees, 1 to {len(PERSONAS)}")
    rounds: int = setting(2, "Rounds of talk; in the last one scores are given")
    talk: Literal["one_by_one", "simultaneous", "simultaneous_summary"] = setting(
        "one_by_one", "Who hears what: all before, the rounds before, or summaries of them"
    )
    aggregation: Literal["average", "majority", "last"] = setting(
        "average", "The mean difference decides, the majority of referees, or the last referee"
    )

    def __post_init__(self) -> None:
        if not 1 <= self.personas <= len(PERSONAS):
            raise InputError("no such number of referees", found=self.personas, expected=f"1 to {len(PERSONAS)}")
        if self.rounds < 1:
            raise InputError("too few rounds", found=self.rounds, expected="1 or more")


def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    config: Config = asker.config
    heard: list[Extra] = []
    earlier: list[str] = []
    for turn in range(config.rounds - 1):
        calls = yield from _round(pair, order, config, turn, heard)
        said = _said(calls, turn)
        if config.talk == "simultaneous_summary":
            [summary] = yield [_request(pair, order, "summary", turn, said, "", SUMMARY)]
            calls = [*calls, summary]
            said = spoken(f"summary of round {turn + 1}", f"Round {turn + 1}, summed up:", summary)
        earlier += [call.id for call in calls]
        if any(call.stop == "error" for call in calls):
            return stated(pair, order, asker, Outcome.FAILED, calls=tuple(earlier), parser=NUMBER)
        heard += said
    last = yield from _round(pair, order, config, config.rounds - 1, heard)
    return decided(pair, order, asker, last, earlier)


def decided(pair: Pair, order: Order, asker: Asker, calls: Sequence[Call], earlier: Sequence[str] = ()) -> Choice:
    """What the scores of the last round say together."""
    read = [difference(call, SCALE) for call in (calls[-1:] if asker.config.aggregation == "last" else calls)]
    found, ids = numbers(read), (*earlier, *(call.id for call in calls))
    if not found:
        return stated(pair, order, asker, reason(read), calls=ids, parser=NUMBER)
    if asker.config.aggregation == "majority":
        found = [math.copysign(1.0, value) if value else 0.0 for value in found]
    return by_sign(pair, order, asker, math.fsum(found) / len(found), calls=ids)


def _round(pair: Pair, order: Order, config: Config, turn: int, heard: Sequence[Extra]) -> Asking[list[Call]]:
    """All referees once: side by side, or each after hearing those before it."""
    answer = SCORE if turn == config.rounds - 1 else TALK

    def speaks(n: int, heard: Sequence[Extra]) -> Request:
        return _request(pair, order, f"referee_{n + 1}", turn, heard, f" You are {PERSONAS[n]}.", answer)

    if config.talk != "one_by_one":
        return (yield [speaks(n, heard) for n in range(config.personas)])
    calls: list[Call] = []
    for n in range(config.personas):
        calls += yield [speaks(n, [*heard, *_said(calls, turn)])]
    return calls


def _said(calls: Sequence[Call], turn: int) -> list[Extra]:
    words = f"In round {turn + 1} a referee said:"
    return [extra for n, call in enumerate(calls, 1) for extra in spoken(f"referee {n}, round {turn + 1}", words, call)]


def _request(
    pair: Pair, order: Order, role: str, turn: int, heard: Sequence[Extra], character: str, answer: str
) -> Request:
    messages = side_by_side(pair, order, TASK, answer, extras=heard, system=SYSTEM + character)
    return Request(Key(pair.id, role, order, turn), messages, Sampling(0.0, max_tokens=TOKENS))


def calls(config: Config) -> Calls:
    summaries = config.rounds - 1 if config.talk == "simultaneous_summary" else 0
    return Calls(pair=2 * (config.personas * config.rounds + summaries))


STRATEGY = Strategy(each_order(ask), calls, NUMBER, Config)
