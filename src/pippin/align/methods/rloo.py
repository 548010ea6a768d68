"""RLOO: REINFORCE with the other responses to the prompt as its baseline, and whole responses as its actions.

Source: Ahmadian et al. 2024 (arXiv 2402.14740), eq. 8; Kool et al. 2019

Each round samples K >= 2 responses a prompt at temperature 1. The reward is r_i = score_i - β Σ_t(lp_old - lp_ref) (k1,
summed), the advantage A_i = r_i - mean of the other rewards. L = mean over responses of max(-Aρ, -A clip(ρ, 1±ε)),
ρ = exp(S_θ - S_old), ratios of whole responses. On the first step ρ = 1 and this is REINFORCE with a leave-one-out
baseline, which is unbiased. A prompt whose rewards are all equal has no gradient (``frac_reward_zero_std``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pippin.align import shapes, sources, terms
from pippin.align.advantages import by_group, leave_one_out, rollout_figures, share_without_spread
from pippin.align.method import Method, Outputs, State, Term
from pippin.align.methods.ppo import layout
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """RLOO's own fields, named as in TRL."""

    num_rollouts: int = setting(100, "rounds of sampling and training")
    prompts_per_rollout: int = setting(64, "prompts of a round")
    num_generations: int = setting(2, "K, responses drawn for a prompt; at least 2")
    max_completion_length: int = setting(64, "tokens of a response at most")
    beta: float = setting(0.05, "of the KL to the reference, taken off the reward; 0: no reference is kept")
    epsilon: float = setting(0.2, "ε of the ratio of whole responses")
    num_iterations: int = setting(1, "passes over each rollout")
    normalize_advantages: bool = setting(False, "divide advantages by their deviation over the rollout")
    mask_truncated_completions: bool = setting(False, "train on no response that was cut; baselines still know it")


def rollout(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's prompts, each with K responses."""
    config = context.config
    if config.num_generations < 2:
        raise InputError("one response has no other to be compared with", where="num_generations",
                         found=config.num_generations, expected="2 or more")  # fmt: skip
    groups = sources.draw_prompts(context, config.prompts_per_rollout)
    return sources.sample(context, groups, config.num_generations, config.max_completion_length)


def shape(batch: shapes.Batch, config: Any, state: State) -> shapes.Batch:
    """Rewards less KL, leave-one-out advantages, one number a response."""
    scores = np.array([e.value["score"] for e in batch.examples])
    kl = np.zeros(len(scores))
    if config.beta > 0:
        kl = np.array([(e.token["logp_old"] - e.token["logp_ref"]).sum() for e in batch.examples])
    rewards = scores - config.beta * kl
    advantages = np.zeros(len(scores))
    groups = by_group(batch.examples)
    for rows in groups:
        advantages[rows] = leave_one_out(rewards[rows])
    if config.normalize_advantages and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-4)
    state["figures"] = rollout_figures(batch, scores) | {
        "kl": float(kl.mean()),
        "frac_reward_zero_std": share_without_spread([rewards[rows] for rows in groups]),
    }
    cut = config.mask_truncated_completions
    return replace(
        batch,
        examples=tuple(
            replace(e, value={**e.value, "advantage": float(a)}, weight=e.value["ended"] if cut else 1.0)
            for e, a in zip(batch.examples, advantages, strict=True)
        ),
    )


def loss(outputs: Outputs, batch: shapes.Tensors, config: Any):
    """Clipped surrogate with the ratio of whole responses ``[N]``."""
    now_N, old_N = terms.sequence(outputs.logp_N_T), terms.sequence(batch.token["logp_old"])
    ratio_N = (now_N - old_N).exp()[batch.weight_N > 0]
    metrics = {"policy/ratio": ratio_N, "clip_ratio/region_mean": ((ratio_N - 1).abs() > config.epsilon).float()}
    return terms.ppo_policy(now_N, old_N, batch.value["advantage"], config.epsilon), metrics


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(rollout, sources.score),
    parts=lambda config: frozenset({"reference"} if config.beta > 0 else ()),
    layout=layout,
    annotate=lambda config: ("logp_old", "logp_ref") if config.beta > 0 else ("logp_old",),
    shape=shape,
    terms=(Term("rloo", loss, "seq"),),
    rounds=lambda config: config.num_rollouts,
    passes=lambda config: config.num_iterations,
    score="sum",
    defaults={"learning_rate": 1e-6},
)
