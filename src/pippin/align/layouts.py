"""Groups into a :class:`~pippin.align.shapes.Batch`: which responses are trained on, and which pairs relate them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pippin.align.shapes import Batch, Example
from pippin.align.sources import Context, LoopGroup


def example(group: LoopGroup, row: int, number: int) -> Example:
    """One response of a group as a sequence whose mask is 1 on the response."""
    prompt, response = list(group.prompt_ids), list(group.responses[row])
    return Example(prompt + response, [0] * len(prompt) + [1] * len(response), number)


def rows(groups: Sequence[LoopGroup], config: Any, context: Context) -> Batch:
    """Every response of every group, for losses on single sequences."""
    return Batch(tuple(example(g, k, n) for n, g in enumerate(groups) for k in range(len(g.responses))))


def paired(groups: Sequence[LoopGroup], config: Any, context: Context) -> Batch:
    """The responses that stand in a preference, and the preferences as pairs of row numbers."""
    examples: list[Example] = []
    pairs, p, weight = [], [], []
    for number, group in enumerate(groups):
        used = sorted({r for preference in group.preferences for r in (preference.i, preference.j)})
        place = {r: len(examples) + k for k, r in enumerate(used)}
        examples += [example(group, r, number) for r in used]
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
