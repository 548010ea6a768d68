"""FeedME: fine-tuning on demonstrations and on those samples that were rated best.

Source: OpenAI, model index for researchers (2022): samples with the top rating; AlpacaFarm, Dubois et al. 2023 (arXiv
  2305.14387): the preferred of each pair

Keep the responses whose rating reaches a threshold (the highest rating that was given, where none is stated), or the
chosen of each pair, or the best k of each prompt; and every demonstration: a response that nobody judged and no policy
drew. The loss is SFT's. ``demonstration_share`` sets how much of the total weight the demonstrations have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pippin.align import layouts, sources
from pippin.align.method import Method, Term
from pippin.align.methods.sft import loss
from pippin.align.shapes import Batch, Example
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """FeedME's own fields."""

    mode: Literal["rating", "binary_pairs", "topk_per_prompt"] = setting(
        "rating", "which judged responses are kept: rated high enough, preferred in a pair, or best of their prompt"
    )
    threshold: float | None = setting(None, "rating: the lowest that is kept; none: the highest that was given")
    top_k: int = setting(1, "topk_per_prompt: how many")
    demonstration_share: float | None = setting(
        None, "demonstrations' share of the rows' total weight; none: every row weighs the same"
    )
    reduction: Literal["token", "seq_sum", "seq_mean"] = setting("token", "how token losses become one, as in sft")


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """The kept responses and the demonstrations."""
    judged = [g.keep([k for k in range(len(g.responses)) if k not in g.demonstrations]) for g in groups]
    kept = {"rating": rated, "binary_pairs": preferred, "topk_per_prompt": best}[config.mode](judged, config, context)
    given = [layouts.example(g, k, n) for n, g in enumerate(groups) for k in sorted(g.demonstrations)]
    if config.demonstration_share is not None and kept and given:
        total = sum(e.weight for e in (*kept, *given))
        share = config.demonstration_share
        given = [replace(e, weight=e.weight * share * total / sum(g.weight for g in given)) for e in given]
        scale = (1 - share) * total / sum(e.weight for e in kept)
        kept = [replace(e, weight=e.weight * scale) for e in kept]
    return Batch(tuple(sorted((*kept, *given), key=lambda e: e.group)))


def rated(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> list[Example]:
    """Responses whose rating reaches the threshold."""
    rating = [layouts.numbers(g) for g in groups]
    known = [r for row in rating for r in row if not np.isnan(r)]
    if not known:
        raise InputError(
            "feedme keeps by rating, and no response has one",
            mend="Let a judge score the responses, or set mode to binary_pairs",
        )
    least = max(known) if config.threshold is None else config.threshold
    return [
        layouts.example(g, int(k), n)
        for n, (g, row) in enumerate(zip(groups, rating, strict=True))
        for k in np.flatnonzero(row >= least)
    ]


def preferred(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> list[Example]:
    """The chosen of each pair; a response that was chosen several times counts as often."""
    return [
        replace(layouts.example(g, k, n), weight=float(won))
        for n, g in enumerate(groups)
        for k, won in enumerate(layouts.wins(g))
        if won > 0
    ]


def best(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> list[Example]:
    """The ``top_k`` of each prompt."""
    ranked = layouts.ranked(groups, config, context).examples
    return [replace(e, value={}) for e in ranked if e.value["rank"] < config.top_k]


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layout,
    terms=(Term("nll", loss, lambda config: config.reduction),),
    score="mean",
    defaults={"learning_rate": 2e-5},
)
