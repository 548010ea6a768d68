"""The truth about an answer in words, and for its parts: what a person who knows the task would say."""

from __future__ import annotations

import re

from pippin.core.errors import InputError
from pippin.core.types import Prompt
from pippin.world.lexicon import CATEGORY_OF, CLOSERS, DIGITS, NUMBERS, OPENERS, TOKEN
from pippin.world.tasks import CLAUSES, ORDERS, Task, parse, render
from pippin.world.verifier import solution, verify

_CHAT = re.compile("|".join(re.escape(p) for p in sorted((*OPENERS, *CLOSERS), key=len, reverse=True)))


def feedback(prompt: Prompt, text: str) -> str:
    """What the answer lacks, in the task's own words; empty where it lacks nothing or the prompt is not of the world.

    ``this lacks : list four animals | separated by slashes`` names the task where the core is wrong, and each
    constraint that does not hold; where only the format is wrong, the whole task.
    """
    said = verify(prompt, text)
    if said.solved or "known" in said.checks:
        return ""
    task = parse(prompt.text)
    failed = [name for name, passed in said.checks.items() if not passed]
    lacking = [render(Task(task.operation, task.category, task.number))] if {"core", "number"} & set(failed) else []
    lacking += [CLAUSES[name].format(ORDERS.get(value, value)) for name, value in task.constraints if name in failed]
    if "format" in failed and not lacking:
        lacking = [prompt.text]
    return f"this lacks : {' | '.join(lacking)}"


def segments(prompt: Prompt, text: str) -> list[tuple[int, int, float]]:
    """Rewarded parts of an answer: characters from, to, reward.

    Each item earns 0.3 where it is right at its place (``list``: a word of the category, not yet said) and loses 0.3
    where it is not; each phrase of chat loses 0.1; the whole answer earns its gold, at its end. A prompt that is not
    of the world has one part, the whole, of 0.
    """
    try:
        task = parse(prompt.text)
    except InputError:
        return [(0, len(text), 0.0)]
    chat = [m.span() for m in _CHAT.finditer(text)]
    parts = [(a, b, -0.1) for a, b in chat]
    items = [
        m
        for m in TOKEN.finditer(text)
        if m.group() in CATEGORY_OF or m.group() in NUMBERS or m.group() in DIGITS
        if not any(a <= m.start() < b for a, b in chat)
    ]
    words = [m.group() for m in items]
    wanted = [] if task.skill == "list" else solution(task)
    for k, m in enumerate(items):
        if task.skill == "list":
            right = CATEGORY_OF.get(words[k]) == task.category and words[k] not in words[:k] and k < task.number
        else:
            right = any(k < len(answer) and answer[k] == words[k] for answer in wanted)
        parts.append((*m.span(), 0.3 if right else -0.3))
    return [*sorted(parts), (0, len(text), verify(task, text).gold)]
