"""Pairs for the tests of judges."""

from __future__ import annotations

from pippin.core.types import Prompt, Response, assistant, user
from pippin.judge.ask import Pair


def pair(ask: str = "Why?", first: str = "Because it is.", second: str = "No idea.") -> Pair:
    prompt = Prompt(user(ask))
    one, two = (
        Response(prompt.id, assistant(first)),
        Response(prompt.id, assistant(second), sample=int(first == second)),
    )
    return Pair(prompt, one, two)


def pairs(n: int) -> list[Pair]:
    return [pair(f"Question {i}?", "x" * (1 + i % 3), "y" * (1 + i % 2)) for i in range(n)]
