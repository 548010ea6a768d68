"""What somebody said before: ``recorded/FILE``, a file of judgements as ``pippin judge`` writes it.

A pair is answered in the orders in which it was recorded; the other order is ABSTAINED, never the same opinion
counted twice. Where a file holds judgements of several authors, ``?by=NAME`` picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pippin.core.config import build, setting
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import file_digest
from pippin.core.types import Choice, Judge, Judgement, Outcome, Score
from pippin.data.files import read_judgements
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, keep

if TYPE_CHECKING:
    from pippin.core.store import Store


@dataclass(frozen=True)
class Config:
    """Settings of a recording."""

    by: str = setting("", "Whose judgements, where the file holds several authors'")


class Recorded:
    """Answers from judgements of one author."""

    def __init__(self, judgements: Sequence[Judgement], info: Judge) -> None:
        self.info = info
        self.choices = {(j.prompt_id, j.first, j.second): j for j in judgements if isinstance(j, Choice)}
        self.scores = {(j.prompt_id, j.response): j for j in judgements if isinstance(j, Score)}

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        shown = [(pair.prompt.id, *pair.shown(order)) for pair in pairs for order in orders]
        silent = [Choice(prompt, one.id, two.id, Outcome.ABSTAINED, self.info.name) for prompt, one, two in shown]
        return keep([self.choices.get((c.prompt_id, c.first, c.second), c) for c in silent], store)

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        silent = [Score(p.id, r.id, None, self.info.name, outcome=Outcome.ABSTAINED) for p, r in rows]
        return [self.scores.get((s.prompt_id, s.response), s) for s in silent]


def make(rest: str, options: Options) -> Judging:
    config = build(Config, options.settings, where=f"recorded/{rest}")
    path = Path(rest).expanduser()
    judgements = read_judgements(path)
    authors = sorted({j.by for j in judgements})
    if config.by and config.by not in authors:
        raise UnknownName("author", config.by, authors, where=str(path))
    if not config.by and len(authors) != 1:
        raise InputError("judgements of several authors", where=str(path), found=authors, mend="Pick one: ?by=NAME")
    by = config.by or authors[0]
    return Recorded([j for j in judgements if j.by == by], Judge(by, file_digest(path)))


JUDGE = make
