"""HHH alignment: 221 pairs whose better reply is more helpful, honest or harmless.

Source: Askell et al., "A General Language Assistant as a Laboratory for Alignment", 2021, arXiv 2112.00861.

Rows ``instruction``, ``chosen``, ``rejected`` and ``source``, which names the set. An instruction that holds a dialogue
(turns begin at ``\\n\\nAssistant:`` and ``\\n\\nHuman:``) becomes a prompt of several turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pippin.core.types import Group, Message, Outcome, Prompt, Role
from pippin.data import labelled
from pippin.data.reader import Benchmark, Notes, Reader, file_in
from pippin.data.rows import read_rows

SETS = ("helpful", "honest", "harmless", "other")
TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES: Mapping[str, Role] = {"Human": "user", "Assistant": "assistant"}
COLUMNS = ("instruction", "chosen", "rejected", "source")


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for where, row in read_rows(file_in(path, "hhh")):
        asked, chosen, rejected, name = labelled.texts(row, COLUMNS, where, "HHH")
        first, *rest = TURN.split(asked)
        turns = [("Human", first), *zip(rest[::2], rest[1::2], strict=True)]
        messages = tuple(Message(ROLES[who], said.strip()) for who, said in turns)
        notes.saw(f"pairs of {name}")
        notes.saw("prompts of several turns", len(messages) > 1)
        notes.saw("rubrics left out: they are not part of the benchmark", "rubric" in row)
        prompt = Prompt(messages, source="hhh", tags=(name,))
        yield labelled.pair(prompt, [(chosen, ""), (rejected, "")], Outcome.FIRST)


READER = Reader(groups)
BENCHMARK = Benchmark(
    SETS, (("all four sets", SETS),),
    warnings=(
        "the better reply always stands first in the data: ask in both orders",
        "102 distinct prompts in 221 pairs: resample by prompt",
    ),
)  # fmt: skip
