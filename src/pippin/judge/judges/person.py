"""What people said of pairs: ``person/labels.csv``, filled in as ``pippin label`` writes it.

A pair is answered in the order in which people saw it; the other order is ABSTAINED, never the same opinion counted
twice. Several annotators of one order are averaged, and say TIE where they are divided; ``?by=NAME`` picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pippin.core.config import build, setting
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import file_digest
from pippin.core.types import Choice, Judge, Outcome
from pippin.data.labels import PERSON, credit, read_labels
from pippin.judge.judges.recorded import Recorded
from pippin.judge.judging import Judging, Options


@dataclass(frozen=True)
class Config:
    """Settings of a file of people's labels."""

    by: str = setting("", "One annotator of those in the file")


def make(rest: str, options: Options) -> Judging:
    config = build(Config, options.settings, where=f"person/{rest}")
    if not rest:
        raise InputError("no file of people's labels is named", expected="person/labels.csv")
    path = Path(rest).expanduser()
    labels = read_labels(path)
    if config.by and config.by not in labels.annotators:
        raise UnknownName("annotator", config.by, labels.annotators, where=str(path))
    if not labels.choices:
        raise InputError("nobody has labelled anything in this file yet", where=str(path), found=f"{labels.empty} rows")
    name = f"{PERSON}/{config.by}" if config.by else PERSON
    seen: dict[tuple[str, str, str], list[Choice]] = {}
    for choice in labels.choices:
        if config.by in ("", choice.by):
            seen.setdefault((choice.prompt_id, choice.first, choice.second), []).append(choice)
    return Recorded([_together(said, name) for said in seen.values()], Judge(name, file_digest(path)))


def _together(said: Sequence[Choice], name: str) -> Choice:
    """One choice from all opinions on one pair in one order."""
    prompt, first, second = said[0].prompt_id, said[0].first, said[0].second
    if len(said) == 1:
        return Choice(prompt, first, second, said[0].outcome, name)
    share = credit(said, first)
    outcome = Outcome.FIRST if share > 0.5 else Outcome.SECOND if share < 0.5 else Outcome.TIE
    if all(choice.outcome is Outcome.BOTH_BAD for choice in said):
        outcome = Outcome.BOTH_BAD
    return Choice(prompt, first, second, outcome, name, p_first=share)


JUDGE = make
