"""Both sides of a comparison of two, and the prompts that they are compared on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pippin.compare import inputs
from pippin.compare.pairs import Report, nothing_in_common
from pippin.compare.recorded import read_two
from pippin.compare.sides import Draw, Side, ask, find_model, required
from pippin.core.errors import InputError
from pippin.core.types import Prompt

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.judge.judging import Judging


@dataclass(frozen=True)
class Both:
    """V1 and V2 by name, with the responses of those that are files, before any model is asked.

    ``recorded`` is the judge that reads off the scores of two logs, where one was asked for.
    """

    names: tuple[str, str]
    files: tuple[Side | None, Side | None]
    prompts: tuple[Prompt, ...]
    recorded: Judging | None

    def answers(self, draw: Draw, store: Store | None = None, report: Report | None = None) -> tuple[Side, Side]:
        """The responses of both to the prompts; models are asked.

        Raises:
            InputError, UnknownName: no such model, or a side without a response to these prompts.
        """
        models = [None if side else find_model(name) for side, name in zip(self.files, self.names, strict=True)]
        told = []
        for side, name, model, label in zip(self.files, self.names, models, ("V1", "V2"), strict=True):
            if model is None:
                assert side is not None
                told.append(_only(side, self.prompts, label))
            else:
                seen = None if report is None else _named(report, f"{label} answers")
                told.append(required(ask(name, model, self.prompts, draw, store, seen), label))
        return told[0], told[1]


def opened(first: str, second: str, judge: str, prompts: str, limit: int | None, draw: Draw) -> Both:
    """V1 and V2 and their prompts: those of the source ``prompts``, else those that the response files have in common.

    Raises:
        InputError: no such file, two models without prompts, or files without a prompt in common.
    """
    files, recorded = read_two(first, second, judge)
    return Both((first, second), files, tuple(_prompts(files, (first, second), prompts, limit, draw.seed)), recorded)


def _prompts(
    sides: tuple[Side | None, ...], names: tuple[str, str], source: str, limit: int | None, seed: int
) -> list[Prompt]:
    """The prompts to compare on: those named, else those that the response files have in common."""
    known = [side.prompts for side in sides if side is not None]
    if source:
        found = inputs.read_prompts(source, seed)
    elif not known:
        raise InputError("two models need prompts to answer", mend="Give --prompts FILE")
    else:
        common = set.intersection(*({p.id for p in listed} for listed in known))
        found = [p for p in known[0] if p.id in common]
        if not found:
            raise nothing_in_common(names)
    return found[:limit]


def _only(side: Side, asked: Sequence[Prompt], label: str) -> Side:
    wanted = {p.id for p in asked}
    rows = tuple(row for row in side.rows if row[0].id in wanted)
    if not rows:
        raise InputError(f"{label} answers none of the prompts", where=side.name)
    return replace(side, rows=rows)


def _named(report: Report, what: str) -> Callable[[int, int], None]:
    return lambda done, total: report(what, done, total)
