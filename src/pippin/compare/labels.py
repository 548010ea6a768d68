"""Which pairs people are to judge: drawn with known probabilities, oftener where a judge is least sure.

A pair's size is the floor plus how unsure the judge is of it; each pair has a random number of its own, fixed by the
seed and its ids; the n pairs with the smallest ratio of number to size are drawn (priority sampling). So exactly n are
drawn, a larger n keeps what a smaller one drew, and the order of rows changes nothing. The probability stored with a
pair is the one given all other pairs' numbers, ``size`` times the (n+1)-th ratio and at most 1: sums weighted by one
over it are unbiased, exactly, and weights of different pairs are uncorrelated. Without a judge's word all sizes are
equal, the probability is n out of all.

Rows stand in an order of their own that says nothing about the judge: whoever labels from the top and stops anywhere
has labelled a fair part of the draw.

Source: N. Duffield, C. Lund, M. Thorup, "Priority sampling for estimation of arbitrary subset sums", J. ACM 54 (2007),
theorem 1 and lemma 2; E. Ohlsson, "Sequential Poisson sampling", J. Official Statistics 14 (1998).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pippin.compare.pairs import within
from pippin.compare.wording import visible
from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Judgement, Messages, digest
from pippin.data.columns import TRUSTED, merge
from pippin.data.labels import Key, cell, key, read_labels
from pippin.data.rows import write_rows
from pippin.judge.ask import Pair

FLOOR = 0.4
"""Size of a pair of which the judge is sure, where 1 is one without a verdict: weights up to 2.5 to 1."""

_UNSURE = 0.9  # of a pair on which the judge is of two minds; one without a verdict is more so


@dataclass(frozen=True)
class Drawn:
    """One pair to be judged, its responses in the order in which they are to be shown."""

    pair: Pair
    probability: float

    @property
    def key(self) -> Key:
        return key(self.pair.prompt.id, self.pair.first.id, self.pair.second.id)


@dataclass(frozen=True)
class Drawing:
    """What was drawn, in the order of the rows. ``judged`` pairs had a judge's word; ``identical`` texts need none."""

    drawn: tuple[Drawn, ...]
    pairs: int
    judged: int
    identical: int
    seed: int
    floor: float
    annotator: str = ""

    @property
    def effective(self) -> float:
        """So many labels drawn with equal probabilities would do as well, if the judge's doubts told nothing.

        Source: L. Kish, "Survey sampling" (1965), section 11.7.
        """
        weight_D = np.array([1 / one.probability for one in self.drawn])
        return float(weight_D.sum() ** 2 / (weight_D**2).sum())

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON."""
        weights = [1 / one.probability for one in self.drawn]
        return {
            "drawn": len(self.drawn), "of": self.pairs, "judged": self.judged, "identical": self.identical,
            "effective_sample_size": self.effective, "weights": [min(weights), max(weights)], "seed": self.seed,
            "floor": self.floor, "annotator": self.annotator,
        }  # fmt: skip


def candidates(groups: Sequence[Group], judgements: Iterable[Judgement] = ()) -> tuple[list[Pair], list[Choice]]:
    """The pairs of a file and what judges said of them: the pairs judged, or all of a prompt where none was.

    What judges said stands in the groups or in ``judgements``. Gold labels are not a judge's word.
    """
    more: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        more.setdefault(judgement.prompt_id, []).append(judgement)
    alone = all(len(group.responses) < 2 for group in groups)
    pairs: list[Pair] = []
    said: dict[Choice, None] = {}
    for group in merge(groups) if alone else groups:
        stated = [*group.judgements, *more.get(group.prompt.id, ())]
        mine = [j for j in stated if isinstance(j, Choice) and j.by not in TRUSTED]
        known = {key(j.prompt_id, j.first, j.second) for j in mine}
        made = within([group])
        pairs += [p for p in made if not known or key(p.prompt.id, p.first.id, p.second.id) in known]
        said |= dict.fromkeys(mine)
    return pairs, list(said)


def draw(
    pairs: Iterable[Pair], said: Iterable[Choice], n: int, *, seed: int = 0, floor: float = FLOOR, annotator: str = ""
) -> Drawing:
    """Draw ``n`` of the pairs (all, where there are fewer), each once; equal texts need no person.

    Args:
        said: what judges said of them, in any order shown; empty: all pairs alike.
        floor: the size of a pair of which the judge is sure; 1 draws all alike.

    Raises:
        InputError: no pair of different texts, or a floor that is not above 0 and at most 1.
    """
    if not 0 < floor <= 1:
        raise InputError("not a floor", where="--floor", found=floor, expected="above 0, at most 1")
    every = {key(p.prompt.id, p.first.id, p.second.id): p for p in pairs}
    different = {k: p for k, p in sorted(every.items(), key=_by_id) if p.first.text != p.second.text}
    if not different:
        raise InputError("no prompt has two different responses", found=f"{len(every)} pairs")
    opinions: dict[Key, list[Choice]] = {}
    for choice in said:
        opinions.setdefault(key(choice.prompt_id, choice.first, choice.second), []).append(choice)
    judged = sum(k in opinions for k in different)
    doubt_P = np.array([doubt(opinions.get(k, ()), p.first.id) if judged else 1.0 for k, p in different.items()])
    number_P = np.array([number(seed, "draw", p) for p in different.values()])
    chosen_D, probability_D = select(floor + (1 - floor) * doubt_P, number_P, n)
    listed = list(different.values())
    drawn = [Drawn(shown(listed[k], seed, annotator), float(p)) for k, p in zip(chosen_D, probability_D, strict=True)]
    drawn.sort(key=lambda one: number(seed, "place", one.pair))
    return Drawing(tuple(drawn), len(different), judged, len(every) - len(different), seed, floor, annotator)


def doubt(said: Sequence[Choice], response: str) -> float:
    """How unsure judges are of one pair, 0 to 1: orders that contradict each other, ties, probabilities near one half.

    An order without a verdict counts as one half; a pair without any verdict is 1, more than any other.
    """
    shares = [_share(choice, response) for choice in said]
    if all(share is None for share in shares):
        return 1.0
    mean = float(np.mean([0.5 if share is None else share for share in shares]))
    return _UNSURE * (1 - abs(2 * mean - 1))


def select(size_P: np.ndarray, number_P: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the ``n`` units drawn and the probabilities of these, by priority sampling.

    Args:
        size_P: positive sizes, shape (P,).
        number_P: a random number between 0 and 1 for each unit, shape (P,).
    """
    if n >= len(size_P):
        return np.arange(len(size_P)), np.ones(len(size_P))
    ratio_P = number_P / size_P
    order_P = np.argsort(ratio_P, kind="stable")
    if np.ptp(size_P) == 0:
        return order_P[:n], np.full(n, n / len(size_P))
    return order_P[:n], np.minimum(1.0, size_P[order_P[:n]] * ratio_P[order_P[n]])


def rows(drawing: Drawing, kept: Sequence[Choice] = ()) -> list[dict[str, Any]]:
    """The rows that people fill in, ``choice`` empty; what was ``kept`` of an earlier file stands in its own rows.

    Raises:
        InputError: something kept is about a pair that was not drawn.
    """
    earlier: dict[Key, list[Choice]] = {}
    for choice in kept:
        earlier.setdefault(key(choice.prompt_id, choice.first, choice.second), []).append(choice)
    lost = set(earlier) - {one.key for one in drawing.drawn}
    if lost:
        raise InputError("labels that people gave would be lost: their pairs are not in this draw",
                         found=f"{len(lost)} pairs", mend="Give another --out, or draw with the same seed")  # fmt: skip
    made = []
    for one in drawing.drawn:
        said = earlier.get(one.key, [])
        for choice in said:
            swapped = choice.first != one.pair.first.id
            made.append(_row(one, swapped, str(choice.outcome), choice.by))
        if not said or (drawing.annotator and drawing.annotator not in {choice.by for choice in said}):
            made.append(_row(one, False, "", drawing.annotator))
    return made


def write_labels(path: str | Path, made: Sequence[dict[str, Any]]) -> int:
    """Write rows for people as CSV (or by the ending of ``path``); no cell is a formula. Return how many."""
    return write_rows(path, [{k: cell(v) if isinstance(v, str) else v for k, v in row.items()} for row in made])


def kept(path: str | Path) -> tuple[Choice, ...]:
    """What people have filled in at ``path`` already; nothing where there is no such file."""
    return read_labels(path).choices if Path(path).is_file() else ()


def _row(one: Drawn, swapped: bool, choice: str, annotator: str) -> dict[str, Any]:
    first, second = (one.pair.second, one.pair.first) if swapped else (one.pair.first, one.pair.second)
    return {
        "prompt_id": one.pair.prompt.id, "first": first.id, "second": second.id, "choice": choice,
        "annotator": annotator, "weight": _short(1 / one.probability),
        "probability": _short(one.probability),
        "prompt": _text(one.pair.prompt.messages), "text_first": _text(first.messages),
        "text_second": _text(second.messages),
    }  # fmt: skip


def _short(value: float) -> float:
    """Ten digits; a whole number without a point, so that Python and a browser write the same."""
    rounded = float(f"{value:.10g}")
    return int(rounded) if rounded.is_integer() else rounded


def _text(messages: Messages) -> str:
    """One turn as it stands, several under the names of their roles; all that cannot be seen made visible."""
    if len(messages) == 1:
        return visible(messages[0].content)
    return "\n\n".join(f"{m.role}:\n{visible(m.content)}" for m in messages)


def _share(choice: Choice, response: str) -> float | None:
    """The judge's probability, or else its verdict, for ``response``."""
    if choice.outcome.missing or choice.p_first is None:
        return choice.credit(response)
    return choice.p_first if choice.first == response else 1 - choice.p_first


def shown(pair: Pair, seed: int, annotator: str) -> Pair:
    """The pair in a random order, so that the place of a response is no hint."""
    one, two = sorted((pair.first, pair.second), key=lambda response: response.id)
    swap = number(seed, f"order {annotator}", pair) < 0.5
    return Pair(pair.prompt, two, one) if swap else Pair(pair.prompt, one, two)


def number(seed: int, purpose: str, pair: Pair) -> float:
    """The random number of a pair for a purpose, above 0 and below 1, whichever response stands first."""
    ids = [pair.prompt.id, *sorted((pair.first.id, pair.second.id))]
    return (int(digest(["label", seed, purpose, *ids], 13), 16) + 0.5) / 16**13


def _by_id(item: tuple[Key, Pair]) -> tuple[str, list[str]]:
    return item[0][0], sorted(item[0][1])
