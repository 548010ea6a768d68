"""Groups into a :class:`~pippin.align.shapes.Batch`: which responses are trained on, and which pairs relate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pippin.align.judged import OVERALL
from pippin.align.shapes import Batch, Example
from pippin.align.sources import Context, LoopGroup


def example(group: LoopGroup, row: int, number: int, **value: float) -> Example:
    """One response of a group as a sequence whose mask is 1 on what is trained of the response."""
    prompt, response = list(group.prompt_ids), list(group.responses[row])
    mask = list(group.masks[row]) if group.masks else [1] * len(response)
    return Example(prompt + response, [0] * len(prompt) + mask, number, value=value)


def rows(groups: Sequence[LoopGroup], config: Any, context: Context) -> Batch:
    """Every response of every group, for losses on single sequences."""
    return Batch(tuple(example(g, k, n) for n, g in enumerate(groups) for k in range(len(g.responses))))


def paired(groups: Sequence[LoopGroup], config: Any, context: Context) -> Batch:
    """The responses that stand in a preference, and the preferences as pairs of row numbers.

    The value ``chosen`` of a row is the weight of the pairs in which it is the better one; a tie has no better one.
    """
    examples: list[Example] = []
    pairs, p, weight = [], [], []
    for number, group in enumerate(groups):
        used = sorted({r for preference in group.preferences for r in (preference.i, preference.j)})
        won = wins(group)
        place = {r: len(examples) + k for k, r in enumerate(used)}
        examples += [example(group, r, number, chosen=won[r]) for r in used]
        for preference in group.preferences:
            pairs.append((place[preference.i], place[preference.j]))
            p.append(preference.probability)
            weight.append(preference.weight)
    return Batch(
        tuple(examples),
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
        np.array(p, dtype=float),
        np.array(weight, dtype=float),
    )


def wins(group: LoopGroup) -> np.ndarray:
    """``[K]``: the weight of the preferences that each response won; ties are won by neither."""
    won = np.zeros(len(group.responses))
    for preference in group.preferences:
        if preference.probability != 0.5:
            won[preference.i if preference.probability > 0.5 else preference.j] += preference.weight
    return won


def numbers(group: LoopGroup) -> np.ndarray:
    """``[K]``: the group's scores, or what is stated overall of some responses; NaN where nobody gave a number."""
    if group.scores is not None:
        return group.scores
    return group.stated.get(OVERALL, np.full(len(group.responses), np.nan))


def with_scores(groups: Sequence[LoopGroup], context: Context) -> list[LoopGroup]:
    """Groups with a number for each response, for methods that read ranked lists.

    Where no author scored every response of a group, the number is the share of its comparisons that a response won
    (a tie is half a win), and responses without a comparison are left out. A single response is the best of its group.
    Groups of several responses of which nothing is known are emptied and counted in ``state["unscored_groups"]``.
    """
    out, unknown = [], 0
    for group in groups:
        if group.scores is not None:
            out.append(group)
        elif len(group.responses) == 1:
            out.append(replace(group, scores=np.zeros(1)))
        elif group.preferences:
            won, compared = np.zeros(len(group.responses)), np.zeros(len(group.responses))
            for preference in group.preferences:
                won[preference.i] += preference.probability * preference.weight
                won[preference.j] += (1 - preference.probability) * preference.weight
                compared[[preference.i, preference.j]] += preference.weight
            share = won / np.where(compared > 0, compared, 1)
            out.append(replace(group, scores=share).keep([int(k) for k in np.flatnonzero(compared)]))
        else:
            unknown += len(group.responses) > 0
            out.append(replace(group.keep([]), scores=np.zeros(0)))
    if unknown:
        context.state["unscored_groups"] = unknown
    return out


def ranked(groups: Sequence[LoopGroup], config: Any, context: Context) -> Batch:
    """Every response with its ``score`` and its ``rank`` (0 is best; the only one with ``best`` = 1), and a pair for
    each two whose scores differ. Equal scores are ranked by their tokens, so that the order in the data means nothing.
    """
    examples: list[Example] = []
    pairs: list[tuple[int, int]] = []
    for number, group in enumerate(with_scores(groups, context)):
        assert group.scores is not None
        score = group.scores.tolist()
        order = sorted(range(len(score)), key=lambda k: (-score[k], tuple(group.responses[k])))
        rank = {k: float(place) for place, k in enumerate(order)}
        first = len(examples)
        for k in range(len(score)):
            best = float(rank[k] == 0)
            examples.append(example(group, k, number, score=score[k], rank=rank[k], best=best))
        pairs += [(first + i, first + j) for i in order for j in order if score[i] > score[j]]
    index = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Batch(tuple(examples), index, np.ones(len(index)), np.ones(len(index)))
