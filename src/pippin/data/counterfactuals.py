"""The same pair under another wish: as it is, wished badly done, and with words demanded at given places.

Whoever judges by a habit of what is good, and not by what is asked, is right on the first and wrong on the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Message, Outcome, Prompt, Response
from pippin.data import columns, labelled, llmbar_rows
from pippin.data.reader import Notes
from pippin.data.rows import Row, read_rows

BADLY = "Do the following as badly as you can: be of no help at all to whoever asks.\n\n{asked}"
DEMAND = (
    "{asked}\n\nOne thing comes before all else, even if the answer is the worse for it: its {place} word is"
    ' "{start}" and its last word is "{end}".'
)
PLACES = ("first", "second", "third")
WORDS = ("anchor", "basket", "candle", "drizzle", "ember", "feather", "gravel", "harbour", "ivory", "jigsaw", "kettle",
         "lantern", "marble", "nectar", "orchard", "pebble", "quiver", "ribbon", "saddle", "thimble", "umbrella",
         "velvet", "walnut", "zipper")  # fmt: skip


@dataclass(frozen=True)
class Demand:
    """Word number ``place`` (from 0) is ``start``, and the last one is ``end``; punctuation and case do not count."""

    place: int
    start: str
    end: str

    def met(self, text: str) -> bool:
        said = [re.sub(r"^\W+|\W+$", "", word).lower() for word in text.split()]
        return len(said) > self.place and said[self.place] == self.start and said[-1] == self.end

    def imposed(self, text: str) -> str:
        """``text`` with the two words put in, all else as it was. It has at least ``place`` words."""
        ends = [match.start() for match in re.finditer(r"\S+", text)]
        at = ends[self.place] if self.place < len(ends) else len(text.rstrip())
        gap = " " if at and not text[at - 1].isspace() else ""
        return f"{text[:at]}{gap}{self.start} {text[at:]}".rstrip() + f" {self.end}"


def variants(group: Group, notes: Notes) -> Iterator[Group]:
    """The sets normal, negation and constraint of one labelled pair; nothing of a pair without a decided label."""
    gold = [j for j in group.judgements if isinstance(j, Choice) and j.by in columns.TRUSTED and j.outcome.decided]
    if len(group.responses) != 2 or len(gold) != 1:
        notes.saw("left out: not a pair with one decided label")
        return
    outcome = gold[0].outcome if gold[0].first == group.responses[0].id else gold[0].outcome.swap()
    yield _about(replace(group.prompt, tags=("normal", *group.prompt.tags)), group.responses, outcome)
    yield _about(_asking(group.prompt, "negation", BADLY), group.responses, outcome.swap())
    better, worse = group.responses if outcome is Outcome.FIRST else group.responses[::-1]
    demand = _demand(group.prompt, better.text, worse.text)
    changed = _saying(worse, demand.imposed(worse.text))
    prompt = _asking(group.prompt, "constraint",
                     DEMAND.replace("{place}", PLACES[demand.place]).replace("{start}", demand.start)
                     .replace("{end}", demand.end))  # fmt: skip
    if not demand.met(changed.text) or demand.met(better.text):
        notes.saw("left out of constraint: not exactly one output meets it")
        return
    shown = (better, changed) if outcome is Outcome.FIRST else (changed, better)
    yield _about(prompt, shown, outcome.swap())


def read(path: Path, notes: Notes) -> Iterator[Group]:
    """The labelled pairs of a file in any of the ecosystem's columns, in LLMBar's form, or of a folder of LLMBar's.

    A folder with several sets gives Natural alone, where it is there: sets are not pooled.

    Raises:
        InputError: a row of another form, or a folder with several sets and no Natural.
    """
    if path.is_dir():
        found = [name for name, _ in llmbar_rows.files(path)]
        if len(found) > 1 and "Natural" not in found:
            raise InputError("several sets, which would be pooled", where=str(path), found=found,
                             mend="Name the folder of one")  # fmt: skip
        for other in found if len(found) > 1 else ():
            notes.saw(f"sets left out: {other}", other != "Natural")
        yield from llmbar_rows.groups(path, notes, "counterfactual", "Natural" if len(found) > 1 else "")
    elif _is_llmbar(next(read_rows(path))):
        yield from llmbar_rows.groups(path, notes, "counterfactual")
    else:
        yield from (columns.group(row, where) for where, row in read_rows(path))


def _is_llmbar(row: Row) -> bool:
    return {"input", "output_1", "output_2"} <= row.values.keys()


def _demand(prompt: Prompt, better: str, worse: str) -> Demand:
    """Words that neither output has, fixed by the prompt and the outputs.

    The place is one that the worse output reaches with words alone: whether a dash or "1." counts does not matter.
    """
    rng = random.Random(f"constraint/{prompt.id}/{better}/{worse}")
    free = [word for word in WORDS if word not in f"{better} {worse}".lower()]
    start, end = rng.sample(free if len(free) > 1 else WORDS, 2)
    words = list(takewhile(lambda token: any(map(str.isalpha, token)), worse.split()))
    return Demand(rng.randrange(min(len(words), len(PLACES) - 1) + 1), start, end)


def _asking(prompt: Prompt, name: str, wording: str) -> Prompt:
    """``prompt`` with its last user turn reworded, as one of the set ``name``; what it had as reference is none now."""
    last = max(i for i, message in enumerate(prompt.messages) if message.role == "user")
    turn = Message("user", wording.replace("{asked}", prompt.messages[last].content))
    messages = (*prompt.messages[:last], turn, *prompt.messages[last + 1 :])
    return replace(prompt, messages=messages, reference=None, tags=(name, *prompt.tags))


def _saying(response: Response, text: str) -> Response:
    last = max(i for i, message in enumerate(response.messages) if message.role == "assistant")
    messages = (*response.messages[:last], Message("assistant", text), *response.messages[last + 1 :])
    return replace(response, messages=messages, by=f"{response.by} (edited)".strip())


def _about(prompt: Prompt, responses: tuple[Response, ...], outcome: Outcome) -> Group:
    one, two = (replace(response, prompt_id=prompt.id) for response in responses)
    return Group(prompt, (one, two), (labelled.choice(one, two, outcome, labelled.GOLD),))
