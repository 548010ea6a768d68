"""GRPO: advantages relative to the prompt's own group of responses, clipped token by token, without a critic.

Source: Shao et al. 2024 (arXiv 2402.03300), eq. 3; DAPO, Yu et al. 2025 (arXiv 2503.14476); Dr. GRPO, Liu et al. 2025
  (arXiv 2503.20783)

Each round samples G responses a prompt at temperature 1. A_i = (r_i - mean of the group) / (std of the group + 1e-4),
the same for every token. ℓ_t = -min(ρ_t A, clip(ρ_t, 1-ε, 1+ε_high) A) + β ρ_t k3_t, ρ_t = exp(lp - lp_old), k3 =
exp(lp_ref - lp) - (lp_ref - lp) - 1; the factor ρ_t keeps the KL's gradient right off-policy (not in the paper; TRL).
``loss_type`` is the reduction: ``grpo`` the mean over responses of their means, ``bnpo`` and ``dapo`` the mean over all
tokens of the optimiser batch, ``dr_grpo`` the sum over a constant length. A prompt whose rewards are all equal has no
gradient but the KL's (``frac_reward_zero_std``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pippin.align import shapes, sources
from pippin.align.advantages import by_group, group_relative, rollout_figures, share_without_spread
from pippin.align.method import Method, Outputs, Reduction, State, Term
from pippin.align.methods.ppo import layout
from pippin.align.methods.rloo import rollout
from pippin.core.config import setting

REDUCTIONS: dict[str, Reduction] = {"grpo": "seq_mean", "bnpo": "token", "dapo": "token", "dr_grpo": "const"}


@dataclass(frozen=True)
class Config:
    """GRPO's own fields, named as in TRL."""

    num_rollouts: int = setting(100, "rounds of sampling and training")
    prompts_per_rollout: int = setting(64, "prompts of a round")
    num_generations: int = setting(8, "G, responses drawn for a prompt; at least 2")
    max_completion_length: int = setting(64, "tokens of a response at most")
    loss_type: Literal["grpo", "bnpo", "dapo", "dr_grpo"] = setting("dapo", "how the tokens' losses are averaged")
    scale_rewards: Literal["group", "batch", "none"] = setting("group", "whose deviation divides the rewards")
    beta: float = setting(0.0, "weight of the KL to the reference in the loss; 0: no reference is kept")
    epsilon: float = setting(0.2, "ε, how far a token's ratio may fall")
    epsilon_high: float = setting(0.0, "ε_high, how far it may rise; 0: as far as it may fall (DAPO: 0.28)")
    num_iterations: int = setting(1, "μ, passes over each rollout")
    importance_sampling_level: Literal["token", "sequence"] = setting(
        "token", "ratio of each token, or the geometric mean over the response (GSPO)"
    )
    mask_truncated_completions: bool = setting(False, "train on no response that was cut; the group still knows it")


def shape(batch: shapes.Batch, config: Any, state: State) -> shapes.Batch:
    """One advantage a response, relative to its group."""
    scores = np.array([e.value["score"] for e in batch.examples])
    groups = by_group(batch.examples)
    advantages = np.zeros(len(scores))
    for rows, values in zip(groups, group_relative([scores[r] for r in groups], config.scale_rewards), strict=True):
        advantages[rows] = values
    state["figures"] = rollout_figures(batch, scores) | {
        "frac_reward_zero_std": share_without_spread([scores[rows] for rows in groups])
    }
    cut = config.mask_truncated_completions
    return replace(
        batch,
        examples=tuple(
            replace(e, value={**e.value, "advantage": float(a)}, weight=e.value["ended"] if cut else 1.0)
            for e, a in zip(batch.examples, advantages, strict=True)
        ),
    )


def surrogate(ratio_N_T: Tensor, advantage_N_1: Tensor, low: float, high: float) -> Tensor:
    """-min(ρA, clip(ρ, 1-low, 1+high) A) ``[N, T]``: Shao et al. 2024, eq. 3; two bounds as in DAPO."""
    return -torch.minimum(ratio_N_T * advantage_N_1, ratio_N_T.clamp(1 - low, 1 + high) * advantage_N_1)


def k3(logp_N_T: Tensor, logp_ref_N_T: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = lp_ref - lp, never negative ``[N, T]``: Schulman 2020; Shao et al. 2024, eq. 4."""
    gap = logp_ref_N_T - logp_N_T
    return gap.exp() - gap - 1


def loss(outputs: Outputs, batch: shapes.Tensors, config: Any):
    """Clipped surrogate and KL of each token ``[N, T]``."""
    log_ratio, mask = outputs.logp_N_T - batch.token["logp_old"], batch.mask_N_T
    ratio = log_ratio.exp()
    if config.importance_sampling_level == "sequence":
        mean_N = (log_ratio * mask).sum(-1) / mask.sum(-1).clamp(min=1)
        ratio = mean_N.exp()[:, None].expand_as(log_ratio)
    advantage = batch.value["advantage"][:, None]
    high = config.epsilon_high or config.epsilon
    loss = surrogate(ratio, advantage, config.epsilon, high)
    counted = mask & (batch.weight_N > 0)[:, None]
    low_clipped, high_clipped = (ratio < 1 - config.epsilon) & (advantage < 0), (ratio > 1 + high) & (advantage > 0)
    metrics = {
        "policy/ratio": ratio[counted],
        "clip_ratio/low_mean": low_clipped[counted].float(),
        "clip_ratio/high_mean": high_clipped[counted].float(),
        "clip_ratio/region_mean": (low_clipped | high_clipped)[counted].float(),
    }
    if config.beta > 0:
        kl = k3(outputs.logp_N_T, batch.token["logp_ref"])
        loss = loss + config.beta * ratio * kl
        metrics["kl"] = kl[counted]
    return loss, metrics


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(rollout, sources.score),
    parts=lambda config: frozenset({"reference"} if config.beta > 0 else ()),
    layout=layout,
    annotate=lambda config: ("logp_old", "logp_ref") if config.beta > 0 else ("logp_old",),
    shape=shape,
    terms=(
        Term(
            "grpo",
            loss,
            lambda config: REDUCTIONS[config.loss_type],
            constant=lambda config: float(config.max_completion_length),
        ),
    ),
    rounds=lambda config: config.num_rollouts,
    passes=lambda config: config.num_iterations,
    score="none",
    defaults={"learning_rate": 1e-6},
)
