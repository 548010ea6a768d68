"""Preferences made less dependent on length before a method learns from them: pairs dropped, pairs added. Pure.

Source: Singhal et al. 2023, "A Long Way to Go: Investigating Length Correlations in RLHF" (arXiv 2310.03716), on reward
models, and its code: balanced lengths, random-pair augmentation, confidence truncation

A row is a group and its preferences. Which pairs are drawn depends on the seed, the prompt and the two responses alone,
never on the order of rows. What was dropped or added is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Outcome, Preference, Response, assistant, digest

Row = tuple[Group, tuple[Preference, ...]]
Pair = tuple[int, Preference]  # row number, and one of its preferences
Length = Callable[[Group, Response], int]


@dataclass(frozen=True)
class Changed:
    """The rows as they are now, and how many pairs were dropped or added."""

    rows: list[Row]
    pairs: int


def within_confidence(rows: Sequence[Row], low: float, high: float) -> Changed:
    """The pairs whose better response is better with a probability in [``low``, ``high``].

    Published is a cut of both ends by a reward model's training dynamics. Here the probability is the judges' own, as
    the rule of collapse gives it; to have the published cut, label the pairs with that reward model.

    Raises:
        InputError: every pair has probability 1, so that nothing tells them apart.
    """
    if all(_sure(p) == 1 for _, preferences in rows for p in preferences):
        raise InputError(
            "no preference is less than certain, so that none can be cut by its confidence",
            where="min_confidence, max_confidence",
            mend="Set collapse.probabilities to stated, or take a judge that gives probabilities",
        )
    return _filtered(rows, {(n, p) for n, p in _pairs(rows) if low <= _sure(p) <= high})


def with_random_pairs(rows: Sequence[Row], share: float, seed: int) -> Changed:
    """As many pairs more as are this ``share`` of those that have a winner: the winner against the winner of another
    prompt, which is a good response, but to something else (published: 0.25).

    Each is a group of its own with its prompt, its two responses and one Choice by ``random_pairs``.

    Raises:
        InputError: all winners answer one prompt.
    """
    pairs = [(n, p) for n, p in _pairs(rows) if p.probability != 0.5]
    pool = sorted((_winner(rows[n][0], p) for n, p in pairs), key=lambda r: r.id)
    added: list[Row] = []
    for n, preference in _drawn(rows, pairs, round(share * len(pairs)), seed, "random pair"):
        group = rows[n][0]
        won = _winner(group, preference)
        rng = np.random.default_rng(int(digest([seed, "another's response", group.prompt.id, won.id]), 16))
        first = int(rng.integers(len(pool)))
        others = (pool[(first + k) % len(pool)] for k in range(len(pool)))
        other = next((r for r in others if r.prompt_id != group.prompt.id and r.text != won.text), None)
        if other is None:
            raise InputError("random pairs need responses to two prompts or more", where="random_pairs")
        lost = Response(group.prompt.id, assistant(other.text), by=other.by, stop=other.stop)
        choice = Choice(group.prompt.id, won.id, lost.id, Outcome.FIRST, by="random_pairs")
        added.append((Group(group.prompt, (won, lost), (choice,)), (Preference(0, 1),)))
    return Changed([*rows, *added], len(added))


def with_balanced_lengths(rows: Sequence[Row], length: Length, width: int, seed: int) -> Changed:
    """As many pairs in which the better response is longer as in which it is shorter, in each bin of the difference.

    Bins are ``width`` wide in the absolute difference of ``length`` (published: 10 tokens): [0, 10), [10, 20) ... The
    larger side of a bin keeps a random part of its pairs. Pairs of equal lengths and ties say nothing of length and
    stay. (The published code counts equal lengths as shorter, and drops differences beyond 200.)
    """
    sides: dict[int, dict[bool, list[Pair]]] = defaultdict(lambda: {True: [], False: []})
    kept: set[Pair] = set()
    for n, preference in _pairs(rows):
        gap = _gap(rows[n][0], preference, length)
        if gap:
            sides[abs(gap) // width][gap > 0].append((n, preference))
        else:
            kept.add((n, preference))
    for longer, shorter in ((side[True], side[False]) for side in sides.values()):
        few = min(len(longer), len(shorter))
        kept.update(_drawn(rows, longer, few, seed, "length balance"))
        kept.update(_drawn(rows, shorter, few, seed, "length balance"))
    return _filtered(rows, kept)


def length_gaps(rows: Iterable[Row], length: Length) -> list[int]:
    """Of each pair that has a winner: how much longer the winner is."""
    return [_gap(g, p, length) for g, preferences in rows for p in preferences if p.probability != 0.5]


def _pairs(rows: Sequence[Row]) -> list[Pair]:
    return [(n, p) for n, (_, preferences) in enumerate(rows) for p in preferences]


def _filtered(rows: Sequence[Row], wanted: set[Pair]) -> Changed:
    """The rows with the wanted pairs. A response that stood in pairs and stands in none goes, so that methods which
    read lists do not see it either; so does a group that is left without a pair."""
    out, dropped = [], 0
    for n, (group, preferences) in enumerate(rows):
        kept = tuple(p for p in preferences if (n, p) in wanted)
        dropped += len(preferences) - len(kept)
        if len(kept) == len(preferences):
            out.append((group, preferences))
        elif kept:
            paired, left = ({r for p in part for r in (p.i, p.j)} for part in (preferences, kept))
            stay = [k for k in range(len(group.responses)) if k in left or k not in paired]
            place = {k: new for new, k in enumerate(stay)}
            rest = replace(group, responses=tuple(group.responses[k] for k in stay))
            out.append((rest, tuple(replace(p, i=place[p.i], j=place[p.j]) for p in kept)))
    return Changed(out, dropped)


def _drawn(rows: Sequence[Row], pairs: Sequence[Pair], count: int, seed: int, purpose: str) -> list[Pair]:
    """``count`` of the pairs, those whose hash under the seed comes first. Pairs that are said twice are told apart by
    how often they were said before."""
    seen: Counter[tuple[str, str, str]] = Counter()
    keys = []
    for n, p in pairs:
        group = rows[n][0]
        what = (group.prompt.id, group.responses[p.i].id, group.responses[p.j].id)
        keys.append(digest([seed, purpose, *what, seen[what]]))
        seen[what] += 1
    return [pairs[k] for k in sorted(range(len(pairs)), key=keys.__getitem__)[:count]]


def _sure(preference: Preference) -> float:
    return max(preference.probability, 1 - preference.probability)


def _winner(group: Group, preference: Preference) -> Response:
    return group.responses[preference.i if preference.probability > 0.5 else preference.j]


def _gap(group: Group, preference: Preference, length: Length) -> int:
    """How much longer the better response is; 0 where neither is better."""
    if preference.probability == 0.5:
        return 0
    gap = length(group, group.responses[preference.i]) - length(group, group.responses[preference.j])
    return gap if preference.probability > 0.5 else -gap
