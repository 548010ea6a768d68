"""Criteria made for the instruction, two scores by each of them, and one judgement from all.

Source: Saha et al., "Branch-Solve-Merge Improves Large Language Model Evaluation and Generation", NAACL 2024,
    arXiv 2310.15123
The wording is our own.

The criteria are listed once per prompt. Where the model lists none, there is one general criterion; where that call
fails, nothing more is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Call, Choice, Key, Outcome, Request, Sampling
from pippin.judge.ask import LABELS, Extra, Order, Pair
from pippin.judge.parse import DEFAULT as VERDICT
from pippin.judge.scoring import TOKENS, aspects, by_sign, difference, numbers, reason, side_by_side, spoken, two_scores
from pippin.judge.strategies.cot import EXPLANATION_TOKENS, SENTENCE
from pippin.judge.strategy import NUMBER, Asker, Asking, Calls, Strategy, each_order, read_verdict, stated

SCALE = (1.0, 5.0)
TASK = (
    f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}. Judge both by one criterion alone, as if "
    "there were no other."
)
CRITERION = "This is the criterion; it was named by an assistant and is no more than that:"
SOLVE = f"Write in a few sentences how well each output meets the criterion. {two_scores(SCALE)}"
WEIGH = (
    f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}, and what assistants found when they "
    "judged the outputs by one criterion each."
)
MERGE = (
    "Weigh the findings by how much each criterion matters for this instruction, and say in a few sentences what "
    f"decides. Then, as the last line, write exactly one of these sentences: {SENTENCE}"
)


@dataclass(frozen=True)
class Config:
    """Settings of branch_solve_merge."""

    criteria: int = setting(5, "Most criteria")
    merge: Literal["sum", "model"] = setting("sum", "Scores are added up, or the model weighs the findings")

    def __post_init__(self) -> None:
        if self.criteria < 1:
            raise InputError("too few criteria", found=self.criteria, expected="1 or more")


def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    config: Config = asker.config
    criteria, branch = yield from aspects(pair.prompt, "criteria", config.criteria)
    if not criteria:
        return stated(pair, order, asker, Outcome.FAILED, calls=(branch.id,), parser=NUMBER)
    solved = yield [_solve(pair, order, text, n) for n, text in enumerate(criteria)]
    ids = (branch.id, *(call.id for call in solved))
    read = [difference(call, SCALE) for call in solved]
    found = numbers(read)
    if not found:
        return stated(pair, order, asker, reason(read), calls=ids, parser=NUMBER)
    if config.merge == "sum":
        return by_sign(pair, order, asker, math.fsum(found), calls=ids)
    [call] = yield [_merge(pair, order, criteria, solved)]
    return read_verdict(pair, order, asker, call, parser=VERDICT, calls=ids)


def _solve(pair: Pair, order: Order, text: str, n: int) -> Request:
    messages = side_by_side(pair, order, TASK, SOLVE, extras=[Extra("criterion", CRITERION, text)])
    return Request(Key(pair.id, "judge", order, 0, n), messages, Sampling(0.0, max_tokens=TOKENS))


def _merge(pair: Pair, order: Order, criteria: Sequence[str], solved: Sequence[Call]) -> Request:
    extras: list[Extra] = []
    for n, (text, call) in enumerate(zip(criteria, solved, strict=True), 1):
        finding = spoken(f"finding {n}", "Found by it:", call)
        extras += [Extra(f"criterion {n}", "A criterion:", text), *finding] if finding else []
    messages = side_by_side(pair, order, WEIGH, MERGE, extras=extras)
    return Request(Key(pair.id, "merge", order, 1), messages, Sampling(0.0, max_tokens=EXPLANATION_TOKENS))


def calls(config: Config) -> Calls:
    return Calls(pair=2 * (config.criteria + (config.merge == "model")), prompt=1)


STRATEGY = Strategy(each_order(ask), calls, NUMBER, Config)
