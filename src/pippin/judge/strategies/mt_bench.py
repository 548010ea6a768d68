"""The judges of MT-Bench: a verdict with ties after an explanation, or a score of each output alone.

Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, arXiv 2306.05685,
    sections 3.1 and 3.4
The wording is our own.

Conversations of several turns are shown whole; the last answer is what is judged. Of the reference-guided forms, the
reference is the prompt's own where it has one, else the judge's answer to the first turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pippin.core.config import setting
from pippin.core.types import Choice, Key, Outcome, Prompt, Request, Response, Sampling, Score
from pippin.judge.ask import LABELS, Extra, Order, Pair
from pippin.judge.guide import REFERENCE, aids
from pippin.judge.parse import explained
from pippin.judge.scoring import TOKENS, alone, side_by_side
from pippin.judge.strategies.rating import SYSTEM as RATING_SYSTEM
from pippin.judge.strategy import (
    NUMBER,
    Asker,
    Asking,
    Calls,
    Strategy,
    by_numbers,
    each_order,
    read_score,
    read_verdict,
    together,
)

FAMILY = {
    "mt_bench": "Explains, then says which output is better, or that they are equally good.",
    "mt_bench_single": "Explains, then scores each output alone from 1 to 10; differences up to 0.1 are ties.",
    "mt_bench_reference": "As mt_bench, with the prompt's reference or the judge's own answer to go by.",
    "mt_bench_single_reference": "As mt_bench_single, with the prompt's reference or the judge's own answer.",
}
SCALE = (1.0, 10.0)
SIDES = "how helpful, relevant, accurate, deep, creative and detailed"
TURNS = (
    "They are conversations of several turns. Read them whole, but judge the last answer first and foremost: whether "
    "it meets the last request, given all that was said before."
)
COMPARE = f"Below are an instruction and two outputs, {LABELS[0]} and {LABELS[1]}. Consider {SIDES} each one is."
VERDICT = (
    "Explain your comparison in a few sentences. Neither the order of the outputs nor their length may sway you. Then "
    f"write as the last line [[A]] if output {LABELS[0]} is better, [[B]] if output {LABELS[1]} is better, or [[C]] if "
    "they are equally good."
)
RATE = f"Below are an instruction and an output. Consider {SIDES} the output is."
NUMBERS = (
    "Explain your opinion in a few sentences. Then write as the last line a number from 1 (worst) to 10 (best) in "
    "double brackets, such as [[5]]."
)
CHECK = "Compare with the reference first, and find out what is wrong."


@dataclass(frozen=True)
class Config:
    """Settings of the forms that score."""

    tie: float = setting(0.1, "The largest difference of scores that is a tie")


def several(prompt: Prompt, *responses: Response) -> bool:
    """Whether a conversation of more than one answer is judged."""
    return bool(prompt.follow_ups) or any(sum(m.role == "assistant" for m in r.messages) > 1 for r in responses)


def reference(prompt: Prompt) -> Asking[tuple[list[Extra], tuple[str, ...]]]:
    """The prompt's own reference, or what the judge answers, with the call that this took."""
    if prompt.reference and prompt.reference.strip():
        words = "This is a reference answer to the instruction:"
        return [Extra("reference output", words, prompt.reference.strip())], ()
    return (yield from aids(prompt, (REFERENCE,)))


def no_reference(prompt: Prompt) -> Asking[tuple[list[Extra], tuple[str, ...]]]:
    """Nothing to go by, and nothing asked."""
    yield from ()
    return [], ()


def _task(task: str, extras: Sequence[Extra], turns: bool) -> str:
    return " ".join([task, *([TURNS] if turns else []), *([CHECK] if extras else [])])


def _pairwise(guided: bool) -> Strategy:
    def ask(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
        extras, earlier = yield from (reference if guided else no_reference)(pair.prompt)
        task = _task(COMPARE, extras, several(pair.prompt, pair.first, pair.second))
        messages = side_by_side(pair, order, task, VERDICT, extras=extras)
        [call] = yield [Request(Key(pair.id, "judge", order), messages, Sampling(0.0, max_tokens=TOKENS))]
        return read_verdict(pair, order, asker, call, parser=explained(asker.parser), calls=earlier)

    return Strategy(each_order(ask), lambda _: Calls(pair=2, prompt=int(guided)))


def _single(guided: bool) -> Strategy:
    def rate(prompt: Prompt, response: Response, asker: Asker) -> Asking[Score]:
        extras, earlier = yield from (reference if guided else no_reference)(prompt)
        task = _task(RATE, extras, several(prompt, response))
        messages = alone(prompt, response, task, NUMBERS, extras=extras, system=RATING_SYSTEM)
        [call] = yield [Request(Key(response.id, "judge"), messages, Sampling(0.0, max_tokens=TOKENS))]
        return read_score(prompt, response, asker, call, SCALE, calls=(*earlier, call.id))

    def ask(pair: Pair, orders: Sequence[Order], asker: Asker) -> Asking[list[Choice]]:
        scores = yield from together([rate(pair.prompt, r, asker) for r in (pair.first, pair.second)])
        shown = {"first": scores, "swapped": scores[::-1]}
        return [within(by_numbers(pair, order, asker, *shown[order]), asker.config.tie) for order in orders]

    return Strategy(ask, lambda _: Calls(pair=2, prompt=int(guided)), NUMBER, Config, rate)


def within(choice: Choice, tie: float) -> Choice:
    """A tie where the two numbers are no further apart than ``tie``."""
    close = choice.strength is not None and round(abs(choice.strength), 9) <= tie
    return replace(choice, outcome=Outcome.TIE) if close else choice


STRATEGY = {
    "mt_bench": _pairwise(False),
    "mt_bench_single": _single(False),
    "mt_bench_reference": _pairwise(True),
    "mt_bench_single_reference": _single(True),
}
