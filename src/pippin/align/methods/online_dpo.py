"""Online DPO: DPO on pairs that the current policy has just drawn, labelled by a reward or by a judge of pairs.

Source: Guo et al. 2024 (arXiv 2402.04792), algorithm 1; loss: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7

Each round samples two responses a prompt (or more: the best and the worst are a pair) at temperature 1. ``score``: the
higher reward wins, and a response without end token first loses ``missing_eos_penalty``. ``compare``: the judge sees
both orders, and the mean probability is a soft label. The loss is DPO's, against the policy at the start. Two of equal
reward, or without an opinion, are no pair: they have no gradient and are counted (``tied_groups``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pippin.align import layouts, ranking, sources
from pippin.align.method import Method, State, Term
from pippin.align.methods.dpo import loss
from pippin.align.shapes import Batch
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Preference


@dataclass(frozen=True)
class Config:
    """Online DPO's own fields, named as in TRL."""

    num_rollouts: int = setting(100, "rounds of sampling and training")
    prompts_per_rollout: int = setting(64, "prompts of a round")
    num_generations: int = setting(2, "responses drawn for a prompt; at least 2")
    max_completion_length: int = setting(64, "tokens of a response at most")
    label: Literal["score", "compare"] = setting("score", "ask the judge for numbers, or which of two is better")
    missing_eos_penalty: float = setting(0.0, "taken off the score of a response without end token")
    beta: float = setting(0.1, "strength of the pull to the reference")
    loss_type: Literal["sigmoid", "ipo", "hinge"] = setting("sigmoid", "function of the margin, as in dpo")
    label_smoothing: float = setting(0.0, "assumed share of flipped labels; with sigmoid only")
    ipo_average: bool = setting(False, "ipo on log-ratios per token")


def rollout(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's prompts, each with its responses."""
    config = context.config
    if config.num_generations < 2 or (config.label == "compare" and config.num_generations > 2):
        raise InputError("a pair needs two responses, and a judge of pairs sees two", where="num_generations",
                         found=config.num_generations, expected="2, or with scores 2 or more")  # fmt: skip
    groups = sources.draw_prompts(context, config.prompts_per_rollout)
    return sources.sample(context, groups, config.num_generations, config.max_completion_length)


def label(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Which response is better."""
    drawn = len(groups)
    figures = {
        "completions/clipped_ratio": 1 - float(np.mean([e for g in groups for e in g.ended])),
        "completions/mean_length": float(np.mean([len(r) for g in groups for r in g.responses])),
    }
    if context.config.label == "compare":
        groups = by_comparison(context, groups)
    else:
        groups = sources.score(context, groups)
        figures["objective/scores"] = float(np.mean(np.concatenate([g.rewards for g in groups])))
        penalty = context.config.missing_eos_penalty
        groups = [replace(g, scores=g.rewards - penalty * ~np.array(g.ended)) for g in groups]
        groups = sources.pair(context, groups, lambda scores, rng: ranking.best_and_worst(scores))
    weighted = sum(any(p.weight for p in g.preferences) for g in groups)
    context.state["figures"] = {**figures, "frac_pairs_tied": 1 - weighted / drawn}
    return groups


def by_comparison(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Soft preferences by a judge of pairs; where it has no opinion there is none."""
    if context.compare is None:
        raise InputError("there is no judge of pairs", mend="Give --reward JUDGE")
    said = context.compare([g.prompt for g in groups], [g.texts[0] for g in groups], [g.texts[1] for g in groups])
    missing = sum(p is None for p in said)
    if missing:
        context.state["pairs_without_opinion"] = context.state.get("pairs_without_opinion", 0) + missing
    context.ledger.add(scorer_calls=2 * len(groups))
    out = [
        replace(g, preferences=() if p is None else (Preference(0, 1, p),)) for g, p in zip(groups, said, strict=True)
    ]
    return sources.without_opinion(context, out)


def shape(batch: Batch, config: Any, state: State) -> Batch:
    """The rollout as it is: all of it is annotated before the first step."""
    return batch


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(rollout, label),
    parts=lambda config: frozenset({"reference"}),
    layout=layouts.paired,
    annotate=lambda config: ("logp_ref",),
    shape=shape,
    terms=(Term("dpo", loss, "pair_mean"),),
    rounds=lambda config: config.num_rollouts,
    score="sum",
    defaults={"learning_rate": 5e-7},
)
