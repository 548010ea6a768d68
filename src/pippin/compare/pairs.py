"""Pairs of responses to the same prompt, from one file or from two, and a judge's word on them in both orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from pippin.compare import inputs
from pippin.compare.sides import Side, read_file
from pippin.core.errors import InputError
from pippin.core.types import Choice, Group
from pippin.judge.ask import ORDERS, Pair

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.judge.judging import Judging

Report = Callable[[str, int, int], None]
_BATCH = 256  # pairs judged between two reports


def pairs(v1: Side, v2: Side) -> list[Pair]:
    """Pairs by prompt: the k-th responses of both; a side's single response with each of the other's."""
    other, known = v2.by_prompt, v1.by_prompt
    made = []
    for prompt in v1.prompts:
        one, two = known[prompt.id], other.get(prompt.id, [])
        many = max(len(one), len(two)) if 1 in (len(one), len(two)) else min(len(one), len(two))
        if two:
            made += [Pair(prompt, one[k % len(one)], two[k % len(two)]) for k in range(many)]
    return made


def nothing_in_common(names: Iterable[str]) -> InputError:
    """For two files or models that share no prompt."""
    return InputError("no prompt in common", where=" and ".join(names),
                      mend="Pairs are made by prompt: its messages must be the same in both")  # fmt: skip


def read_pairs(names: Sequence[str]) -> list[Group]:
    """Groups: of one file its rows; of two files the responses that are to be compared.

    Raises:
        InputError: no response, more than two files, or two without a prompt in common.
    """
    if len(names) > 2:
        raise InputError("too many files", found=len(names), expected="one, or two to be compared")
    if len(names) == 2:
        made = pairs(*(read_file(name) for name in names))
        if not made:
            raise nothing_in_common(names)
        return [Group(pair.prompt, (pair.first, pair.second)) for pair in made]
    found = inputs.read_groups(names[0], 0)
    if not any(group.responses for group in found):
        raise InputError(
            "no response in this file", where=names[0], expected="completion, output, or chosen and rejected"
        )
    return found


def within(groups: Iterable[Group]) -> list[Pair]:
    """Every pair of different responses of every group."""
    return [
        Pair(group.prompt, one, two)
        for group in groups
        for one, two in combinations(group.responses, 2)
        if one.id != two.id
    ]


def judged(
    judge: Judging,
    made: Sequence[Pair],
    store: Store | None = None,
    report: Report | None = None,
    orders: Literal["both", "one"] = "both",
) -> list[Choice]:
    """Both orders of every pair, or the one that it is given in, some pairs at a time."""
    choices: list[Choice] = []
    asked = ORDERS if orders == "both" else ORDERS[:1]
    for start in range(0, len(made), _BATCH):
        choices += judge.compare(made[start : start + _BATCH], orders=asked, store=store)
        if report is not None:
            report("judging", len(choices) // len(asked), len(made))
    return choices


def credits(made: Sequence[Pair], choices: Iterable[Choice]) -> np.ndarray:
    """Credit of the second response in each order, ``[P, 2]``: 1, 1/2, 0, NaN where missing. Equal texts are ties.

    Args:
        choices: as :func:`judged` gives them for those of the pairs that have different texts.
    """
    said = iter(choices)
    found_P_2 = np.full((len(made), 2), 0.5)
    for row, pair in zip(found_P_2, made, strict=True):
        if pair.first.text != pair.second.text:
            credits = [next(said).credit(pair.second.id) for _ in range(2)]
            row[:] = [np.nan if credit is None else credit for credit in credits]
    return found_P_2
