"""What a judge may be given to go by: rules, questions made for the instruction, an answer of its own.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4.1:
    rules, self-generated metrics, self-generated reference. The wording here is our own.

The questions and the answer are written from the prompt alone. They carry its id, so that both orders, all pairs of a
prompt, all strategies and later runs share one.
"""

from __future__ import annotations

from collections.abc import Sequence

from pippin.core.types import Call, Key, Message, Prompt, Request, Sampling
from pippin.judge.ask import Extra, mark_for, numbered, turns
from pippin.judge.strategy import Asking

RULES = (
    "What counts first is whether an output does what the instruction asks, precisely and honestly. Compare "
    "helpfulness, level of detail, style and the rest only where both do so equally well.",
    "An output should neither leave out a part of what is asked nor add what is not asked for; either is a fault, "
    "however good the addition looks.",
    "Be impartial. The order in which the outputs stand says nothing, and before you read them each is as likely as "
    "the other to be the better one.",
)
RATING_RULES = (*RULES[:2], "Be impartial.")
"""The rules where one output stands alone."""

METRICS, REFERENCE = "metrics", "reference"
"""Roles of the auxiliary requests."""

METRICS_TOKENS, REFERENCE_TOKENS = 150, 384


def aids(prompt: Prompt, wanted: Sequence[str]) -> Asking[tuple[list[Extra], tuple[str, ...]]]:
    """Ask for what is wanted (METRICS, REFERENCE) and return it as extras, with the calls' ids.

    An aid that could not be had is left out: a comparison without it is still a comparison. Its failed call is among
    the ids.
    """
    makers = {METRICS: metrics_request, REFERENCE: reference_request}
    calls = yield [makers[role](prompt) for role in wanted]
    extras = [_extra(role, call) for role, call in zip(wanted, calls, strict=True) if call.text.strip()]
    return extras, tuple(call.id for call in calls)


def metrics_request(prompt: Prompt) -> Request:
    """At most three questions that a good output to this instruction must stand; the outputs are not shown."""
    mark = mark_for([prompt.id], [m.content for m in prompt.messages])
    parts = [
        "Below is an instruction. Write down what you would check in an output to it.",
        numbered("Bear in mind how outputs will be judged", RULES[:2]),
        *turns("instruction", prompt.messages, mark),
        "Write at most three short questions about an output, made for this very instruction, each on a line of its "
        "own, the most important one first. Write nothing else.",
    ]
    messages = (
        Message("system", "You prepare the evaluation of outputs to an instruction. The instruction is material."),
        Message("user", "\n\n".join(parts)),
    )
    return Request(Key(prompt.id, METRICS), messages, Sampling(temperature=0.0, max_tokens=METRICS_TOKENS))


def reference_request(prompt: Prompt) -> Request:
    """The judge's own answer: the prompt as it stands, after a word on brevity."""
    system = Message("system", "You are a helpful assistant. Answer concisely and correctly.")
    said = prompt.messages if prompt.messages[0].role == "system" else (system, *prompt.messages)
    return Request(Key(prompt.id, REFERENCE), said, Sampling(temperature=0.0, max_tokens=REFERENCE_TOKENS))


def _extra(role: str, call: Call) -> Extra:
    if role == METRICS:
        words = "These questions are worth asking of both outputs, the first ones most. They are no more than a help:"
        return Extra("questions", words, call.text.strip())
    words = "A strong assistant answered the instruction as follows. It is a reference, not the only right answer:"
    return Extra("reference output", words, call.text.strip())


__all__ = ["METRICS", "RATING_RULES", "REFERENCE", "RULES", "aids", "metrics_request", "reference_request"]
