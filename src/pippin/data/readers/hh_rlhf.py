"""HH-RLHF: two whole dialogues a row, chosen and rejected, that differ in the last reply.

Source: Bai et al., "Training a Helpful and Harmless Assistant with RLHF", 2022, arXiv 2204.05862.

A turn begins only at ``\\n\\nHuman:`` or ``\\n\\nAssistant:``: "Human:" inside a line and blank lines inside a reply
belong to the text. Pairs whose prompts differ, or that do not end with a reply, state nothing about two replies to
one prompt: they are dropped and counted. Empty replies and two turns of one speaker in a row are in the data, are
kept, and are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Message, Messages, Outcome, Prompt, Role
from pippin.data import columns
from pippin.data.reader import Benchmark, Notes, Reader
from pippin.data.rows import read_rows

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES: Mapping[str, Role] = {"Human": "user", "Assistant": "assistant"}


def dialogue(text: object, where: str) -> Messages:
    """The turns of one whole dialogue, stripped of the spaces around them."""
    head, *rest = TURN.split(text) if isinstance(text, str) else ("",)
    if head.strip() or not rest:
        raise InputError("not an HH-RLHF dialogue", where=where, found=text, expected="\\n\\nHuman: ...")
    return tuple(Message(ROLES[who], said.strip()) for who, said in zip(rest[::2], rest[1::2], strict=True))


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for where, row in read_rows(path):
        chosen, rejected = dialogue(row.get("chosen"), where), dialogue(row.get("rejected"), where)
        if chosen[:-1] != rejected[:-1]:
            notes.saw("pairs dropped: the two prompts differ")
            continue
        if {chosen[-1].role, rejected[-1].role} != {"assistant"} or len(chosen) == 1:
            notes.saw("pairs dropped: the last turn is not a reply")
            continue
        notes.saw("pairs with an empty reply", not (chosen[-1].content and rejected[-1].content))
        twice = any(one.role == two.role for one, two in pairwise(chosen))
        notes.saw("pairs with two turns of one speaker in a row", twice)
        prompt = Prompt(chosen[:-1], source="hh_rlhf", tags=(path.resolve().parent.name,))
        answers = columns.responses(prompt, [chosen[-1:], rejected[-1:]])
        yield Group(prompt, answers, (Choice(prompt.id, answers[0].id, answers[1].id, Outcome.FIRST, "gold"),))


READER = Reader(groups)
BENCHMARK = Benchmark(note="each label is one crowd worker's: a noisy reference")
