"""RSO: pairs drawn from the optimal policy of the reward, by rejecting samples of the reference policy.

Source: Liu et al. 2023 (arXiv 2309.06657), sections 3.2-3.4, algorithm 1

The reference draws 64 candidates a prompt; 8 are kept so that they follow π_ref exp(r/β) / Z. ``gumbel`` keeps the
largest r/β + Gumbel noise, exact for one; ``paper`` is the published rejection sampler, exact for many candidates only.
The kept are paired by ``first_round`` (random disjoint pairs) or ``tournament`` and ordered by the reward. The loss on
h = [S_θ(w) - S_ref(w)] - [S_θ(l) - S_ref(l)]: sigmoid_norm -log σ(γh), hinge_norm max(0, 1 - γh), and hinge max(0,
1 - γ(S_w - S_l)), without reference, which is SLiC's. The paper samples at temperature 0.7 from the 40 most likely
tokens; here from all of them. β -> ∞ keeps any 8 (sft-sample-rank)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pippin.align import layouts, ranking, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors
from pippin.core.config import setting
from pippin.core.types import digest


@dataclass(frozen=True)
class Config:
    """RSO's own fields."""

    num_candidates: int = setting(64, "responses of the reference policy drawn for a prompt")
    num_samples: int = setting(8, "of them kept")
    temperature: float = setting(0.7, "of the draws")
    max_completion_length: int = setting(64, "tokens of a response at most")
    beta: float = setting(0.5, "β, temperature of the reward in π_ref exp(r/β); 0 keeps the best")
    sampler: Literal["gumbel", "paper"] = setting("gumbel", "how the kept are drawn")
    pairing: Literal["first_round", "tournament"] = setting("first_round", "which of the kept are compared")
    loss_type: Literal["sigmoid_norm", "hinge_norm", "hinge"] = setting("sigmoid_norm", "function of the margin")
    gamma: float = setting(0.05, "γ, scale of the margin in the loss")


def draw(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Candidates for every prompt, from the policy as it was at the start."""
    config = context.config
    groups = sources.draw_prompts(context, len(context.prompts))
    return sources.sample(
        context, groups, config.num_candidates, config.max_completion_length, config.temperature,
        purpose="candidates", policy=context.reference,
    )  # fmt: skip


def keep(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Those of each group that follow the reward's optimal policy."""
    config, out = context.config, []
    for group in groups:
        rng = np.random.default_rng(int(digest([context.seed, "keep", group.prompt.id]), 16))
        chosen = ranking.SAMPLERS[config.sampler](group.rewards, config.num_samples, config.beta, rng)
        out.append(group.keep(sorted(chosen.tolist())))
    kept, all_of = (np.concatenate([g.rewards for g in part]) for part in (out, groups))
    unended = 1 - float(np.mean([e for g in out for e in g.ended]))
    context.state["figures"] = {
        "objective/scores": float(kept.mean()), "candidates/scores": float(all_of.mean()),
        "completions/clipped_ratio": unended,
    }  # fmt: skip
    return out


def pair(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Pairs of the kept, the better by the reward first."""
    choose = ranking.tournament if context.config.pairing == "tournament" else ranking.first_round
    return sources.pair(context, groups, choose)


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """RSO's loss ``[P]``, rewards γ (S_θ - S_ref), or γ S_θ without a reference."""
    sums_N = terms.sequence(outputs.logp_N_T)
    score_N = sums_N if config.loss_type == "hinge" else sums_N - terms.sequence(batch.token["logp_ref"])
    margin_P = config.gamma * terms.margins(score_N, batch.pairs_P_2)
    metrics = terms.watched(config.gamma * score_N, sums_N, batch.pairs_P_2)
    if config.loss_type == "sigmoid_norm":
        return terms.bradley_terry(margin_P, batch.p_P), metrics
    return terms.hinge(margin_P, batch.p_P), metrics


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(draw, sources.score, keep, pair),
    parts=lambda config: frozenset({"reference"}),
    layout=layouts.paired,
    annotate=lambda config: () if config.loss_type == "hinge" else ("logp_ref",),
    terms=(Term("rso", loss, "pair_mean"),),
    score="sum",
    defaults={"learning_rate": 1e-5, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
)
