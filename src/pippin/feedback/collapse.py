"""Judgements of a group into preferences: a one-way arrow, by a rule that is written into the run.

Each judgement becomes opinions about pairs of responses: a Choice about one, a Ranking about all, two Scores of one
author and criterion about theirs. An opinion is the credit of a pair's first response: 1, 1/2 or 0, or missing. A
pair's credit is the mean of its orders' means, so that an author who judged one order more often adds no position
bias.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isclose
from statistics import fmean
from typing import Literal

from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Choice, Judgement, Note, Preference, Ranking, Response, Score


@dataclass(frozen=True)
class Rule:
    """What becomes of ties, of orders that disagree, and of missing judgements."""

    ties: Literal["drop", "half"] = setting("drop", "drop: no preference; half: one with probability 1/2")
    orders: Literal["average", "agree"] = setting(
        "average", "average: the mean credit decides; agree: drop the pair unless all opinions on it are the same"
    )
    missing: Literal["drop"] = setting("drop", "a pair without an opinion gives no preference, and is counted")
    probabilities: Literal["stated", "hard"] = setting(
        "hard", "hard: credit 1, 1/2 or 0 per opinion; stated: the judge's own probability where it gives one"
    )


@dataclass(frozen=True)
class Collapsed:
    """Preferences, and the pairs that gave none, by reason. ``pairs`` counts all pairs that were judged."""

    preferences: tuple[Preference, ...]
    pairs: int
    ties: int = 0
    missing: int = 0
    disagreeing: int = 0
    elsewhere: int = 0  # judgements about responses that are not in the group

    @property
    def dropped(self) -> dict[str, int]:
        """How many pairs gave no preference, by reason."""
        counts = {"ties": self.ties, "missing": self.missing, "disagreeing": self.disagreeing,
                  "elsewhere": self.elsewhere}  # fmt: skip
        return {reason: count for reason, count in counts.items() if count}


class _Opinion:
    """Credit of response i against j, i before j in the group; ``order`` is the one shown, None where there is none."""

    __slots__ = ("credit", "i", "j", "order")

    def __init__(self, one: int, two: int, credit: float | None, shown: bool = False) -> None:
        forward = one < two
        self.i, self.j = (one, two) if forward else (two, one)
        self.credit = credit if forward or credit is None else 1.0 - credit
        self.order = forward if shown else None


def collapse(judgements: Sequence[Judgement], responses: Sequence[Response], rule: Rule = Rule()) -> Collapsed:
    """The preferences that ``judgements`` state about ``responses``, by index, the preferred one first.

    Raises:
        InputError: two parsers' readings of one call are mixed; a view takes one parser's version.
    """
    _one_parser(judgements)
    place = {response.id: index for index, response in enumerate(responses)}
    pairs: dict[tuple[int, int], list[_Opinion]] = defaultdict(list)
    elsewhere = 0
    for opinion in _opinions(judgements, place, rule):
        if opinion is None:
            elsewhere += 1
        else:
            pairs[opinion.i, opinion.j].append(opinion)
    found: list[Preference] = []
    counts = {"ties": 0, "missing": 0, "disagreeing": 0}
    for (i, j), opinions in sorted(pairs.items()):
        result = _decide(opinions, rule)
        if isinstance(result, str):
            counts[result] += 1
        if result == "ties" and rule.ties == "half":
            counts["ties"] -= 1
            result = 0.5
        if isinstance(result, float):
            found.append(Preference(i, j, result) if result >= 0.5 else Preference(j, i, 1.0 - result))
    return Collapsed(tuple(found), len(pairs), **counts, elsewhere=elsewhere)


def _decide(opinions: list[_Opinion], rule: Rule) -> float | str:
    """The credit of a pair's first response, or why it has none."""
    credits = [opinion.credit for opinion in opinions if opinion.credit is not None]
    if not credits or (rule.orders == "agree" and len(credits) < len(opinions)):
        return "missing"
    if rule.orders == "agree" and len({(credit > 0.5) - (credit < 0.5) for credit in credits}) > 1:
        return "disagreeing"
    by_order: dict[bool | None, list[float]] = defaultdict(list)
    for opinion in opinions:
        if opinion.credit is not None:
            by_order[opinion.order].append(opinion.credit)
    credit = fmean(fmean(values) for values in by_order.values())
    return "ties" if isclose(credit, 0.5, abs_tol=1e-12) else credit


def _opinions(judgements: Sequence[Judgement], place: dict[str, int], rule: Rule) -> Iterator[_Opinion | None]:
    scores: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for judgement in judgements:
        match judgement:
            case Choice():
                yield _of_choice(judgement, place, rule)
            case Ranking():
                yield from _of_ranking(judgement, place)
            case Score():
                scores[judgement.by, judgement.criterion].append(judgement)
            case Note():
                continue
    for stated in scores.values():
        known = {place[s.response]: s.value for s in stated if s.response in place}
        yield from [None] * sum(s.response not in place for s in stated)
        for one, two in combinations(sorted(known), 2):
            yield _Opinion(one, two, _credit(known[one], known[two]))


def _of_choice(choice: Choice, place: dict[str, int], rule: Rule) -> _Opinion | None:
    if choice.first not in place or choice.second not in place or choice.first == choice.second:
        return None
    credit = choice.credit(choice.first)
    if rule.probabilities == "stated" and credit is not None and choice.p_first is not None:
        credit = choice.p_first
    return _Opinion(place[choice.first], place[choice.second], credit, shown=True)


def _of_ranking(ranking: Ranking, place: dict[str, int]) -> Iterator[_Opinion | None]:
    yield from [None] * sum(response not in place for response in ranking.responses)
    ranks = ranking.ranks or (None,) * len(ranking.responses)
    known = [(place[r], rank) for r, rank in zip(ranking.responses, ranks, strict=True) if r in place]
    for (one, rank_one), (two, rank_two) in combinations(known, 2):
        yield _Opinion(one, two, _credit(rank_two, rank_one))  # rank 1 is best


def _credit(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else 0.5 + 0.5 * ((one > two) - (one < two))


def _one_parser(judgements: Sequence[Judgement]) -> None:
    parsers: dict[tuple[str, ...], str] = {}
    for judgement in judgements:
        if not isinstance(judgement, Note) and judgement.calls:
            other = parsers.setdefault((judgement.by, *judgement.calls), judgement.parser)
            if other != judgement.parser:
                raise InputError("one call is read by two parsers", found=[other, judgement.parser],
                                 mend="Take the judgements of one parser")  # fmt: skip
