"""SLiC-HF, sample-rank: pairs drawn from the policy at the start and ranked by a reward, then SLiC's loss.

Source: Zhao et al. 2023 (arXiv 2305.10425), sections 3.1-3.3

The policy as it was answers each prompt m = 8 times (temperature 0.7; the paper cuts to the 40 most likely tokens, here
none is cut). ``tournament``: neighbours of a knock-out meet, m-1 matches, winner over loser; ``random``: m pairs with
r(w) > r(l). Labels are made once, before training. The loss is that of slic: max(0, δ - S(w) + S(l)) - λ S(y_reg);
y_reg is the prompt's reference answer where it has one (``given``), else the best-ranked response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pippin.align import layouts, ranking, sources
from pippin.align.method import Method
from pippin.align.methods.slic import TERMS, demonstrated
from pippin.align.shapes import Batch
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """SLiC's own fields, and those of its samples."""

    num_candidates: int = setting(8, "m, responses drawn for a prompt")
    temperature: float = setting(0.7, "of the draws")
    max_completion_length: int = setting(64, "tokens of a response at most")
    pairing: Literal["tournament", "random"] = setting("tournament", "which responses are compared")
    num_pairs: int = setting(8, "pairs of a prompt, with random pairing")
    delta: float = setting(1.0, "δ, the margin in nats from which a pair is settled")
    reg_coef: float = setting(0.1, "λ, weight of the target's negative log-likelihood (a sum over tokens); 0: off")
    target: Literal["given", "best"] = setting(
        "given", "y_reg: given: the reference answer where there is one, else the best-ranked; best: always that"
    )


def draw(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Every prompt with its candidates."""
    config = context.config
    groups = sources.draw_prompts(context, len(context.prompts))
    return sources.sample(
        context, groups, config.num_candidates, config.max_completion_length, config.temperature, purpose="candidates"
    )


def pair(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Winner and loser of each comparison."""
    config = context.config
    context.state["figures"] = {
        "objective/scores": float(np.mean([g.rewards for g in groups])),
        "completions/clipped_ratio": 1 - float(np.mean([e for g in groups for e in g.ended])),
    }
    if config.pairing == "tournament":
        return sources.pair(context, groups, ranking.tournament)
    return sources.pair(context, groups, lambda scores, rng: ranking.random_pairs(scores, config.num_pairs, rng))


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """The pairs, and for each group its target, which counts once for each pair."""
    batch = layouts.paired(groups, config, context)
    targets = []
    for number, group in enumerate(groups):
        given = demonstrated(group, number, context) if config.target == "given" else []
        weight, best = float(layouts.wins(group).sum()), int(np.argmax(group.rewards))
        targets += given or [layouts.example(group, best, number, target=weight)]
    return replace(batch, examples=(*batch.examples, *targets))


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(draw, sources.score, pair),
    layout=layout,
    terms=TERMS,
    score="sum",
    defaults={"learning_rate": 1e-5},
)
