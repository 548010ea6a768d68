"""PPO from a reward: clipped policy gradient with a critic, GAE and a KL penalty to the reference.

Source: Schulman et al. 2017 (arXiv 1707.06347); Ziegler et al. 2019 (arXiv 1909.08593); Ouyang et al. 2022 (arXiv
  2203.02155), eq. 2

Each round samples one response a prompt (or more), at temperature 1. Per-token reward: -β (lp_old - lp_ref), plus the
score at the last response token; a response without an end token gets ``score_without_end`` in place of its score.
GAE with V = 0 after the end, returns before whitening, advantages whitened over the rollout, then E epochs of max(-Aρ,
-A clip(ρ, 1±ε)) and c_v · ½ max((V-R)², (V_clip-R)²), both token means. β is fixed, or follows Ziegler's controller
where ``target_kl`` is set. The score is divided by the first rollout's standard deviation, so that β means nats per
standard deviation of the reward. With ``ptx_coef`` γ each optimiser batch also holds demonstrations, and γ times their
token mean negative log-likelihood joins the loss (PPO-ptx; γ is per token here, not the paper's 27.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pippin.align import layouts, shapes, sources, terms
from pippin.align.method import Method, Outputs, State, Term
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """PPO's own fields, named as in TRL where TRL had them."""

    num_rollouts: int = setting(100, "rounds of sampling and training")
    prompts_per_rollout: int = setting(64, "prompts of a round")
    num_generations: int = setting(1, "responses drawn for a prompt")
    max_completion_length: int = setting(64, "tokens of a response at most")
    kl_coef: float = setting(0.05, "β, nats per standard deviation of the first rollout's reward")
    target_kl: float = setting(0.0, "KL per response the controller aims at; 0: β stays fixed")
    k_beta: float = setting(0.1, "gain of the controller")
    cliprange: float = setting(0.2, "ε of the policy ratio")
    cliprange_value: float = setting(0.2, "ε_v of the value")
    vf_coef: float = setting(0.1, "c_v")
    gamma: float = setting(1.0, "discount")
    lam: float = setting(0.95, "λ of GAE")
    score_without_end: float = setting(-1.0, "score of a response that was cut, in standard deviations")
    critic_learning_rate: float = setting(0.0, "of the critic; 0: the policy's")
    whiten_rewards: bool = setting(False, "divide per-token rewards by their deviation over the rollout, no shift")
    ptx_coef: float = setting(0.0, "γ of the demonstrations' likelihood; 0: none are read")
    ptx_per_rollout: int = setting(64, "demonstrations of a round, where ptx_coef is set")


def rollout(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's prompts and responses."""
    config = context.config
    groups = sources.draw_prompts(context, config.prompts_per_rollout)
    return sources.sample(context, groups, config.num_generations, config.max_completion_length)


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> shapes.Batch:
    """One example per response, its score and whether it ended beside it; after them the demonstrations, if any."""
    batch = layouts.rows(groups, config, context)
    scores = np.concatenate([g.rewards for g in groups])
    ended = [e for g in groups for e in g.ended]
    own = tuple(
        replace(e, value={"score": float(s), "ended": float(end)})
        for e, s, end in zip(batch.examples, scores, ended, strict=True)
    )
    return replace(batch, examples=own + demonstrations(config, context, len(groups)))


def demonstrations(config: Any, context: sources.Context, number: int) -> tuple[shapes.Example, ...]:
    """The round's share of the demonstrations, as a stream that counts for the term on ``ptx`` rows alone."""
    if getattr(config, "ptx_coef", 0) <= 0:
        return ()
    if not context.data:
        raise InputError("ptx_coef mixes in demonstrations, and there are none", mend="Give --data FILE")
    rows = [context.data[k] for k in sources.walk(context, "ptx", len(context.data), config.ptx_per_rollout)]
    read = [g.keep([0]) for g in sources.read(replace(context, data=rows, preferences=()), [])]
    examples = layouts.rows(read, config, context).examples
    return tuple(
        replace(e, group=number + k, stream="ptx", weight=0.0, value={"ptx": 1.0}) for k, e in enumerate(examples)
    )


def shape(batch: shapes.Batch, config: Any, state: State) -> shapes.Batch:
    """Rewards, advantages and returns over the whole rollout; its figures go to the state for log and controller."""
    own = [e for e in batch.examples if not e.stream]
    raw = np.array([e.value["score"] for e in own])
    scale = state.setdefault("score_std", float(raw.std()) or 1.0)
    center = state.setdefault("score_mean", float(raw.mean()))
    beta = state.setdefault("kl_coef", config.kl_coef)
    ended = np.array([e.value["ended"] for e in own], dtype=bool)
    score = np.where(ended, (raw - center) / scale, config.score_without_end)
    rewards = [
        shapes.kl_rewards(e.token["logp_old"], e.token["logp_ref"], float(s), beta)
        for e, s in zip(own, score, strict=True)
    ]
    return learn(batch, rewards, score, config, state)


def learn(batch: shapes.Batch, rewards: list[np.ndarray], score: np.ndarray, config: Any, state: State) -> shapes.Batch:
    """Advantages and returns from per-token rewards of the responses; ``score`` is each one's sum, for the figures."""
    own = [e for e in batch.examples if not e.stream]
    if config.whiten_rewards:
        rewards = shapes.whiten(rewards, shift=False)
    advantages, returns = [], []
    for example, r in zip(own, rewards, strict=True):
        a, ret = shapes.gae(r, example.token["values_old"], config.gamma, config.lam)
        advantages.append(a)
        returns.append(ret)
    whitened = shapes.whiten(advantages)
    beta = state["kl_coef"]
    kl = np.array([(e.token["logp_old"] - e.token["logp_ref"]).sum() for e in own])
    values = np.concatenate([e.token["values_old"] for e in own])
    flat = np.concatenate(returns)
    state["figures"] = {
        "objective/kl": float(kl.mean()),
        "objective/scores": float(score.mean()),
        "objective/rlhf_reward": float((score - beta * kl).mean()),
        "objective/kl_coef": beta,
        "val/explained_variance": float(1 - (flat - values).var() / max(flat.var(), 1e-12)),
        "val/length": float(np.mean([e.length for e in own])),
        "val/share_without_end": float(1 - np.mean([e.value["ended"] for e in own])),
    }
    learned = [e.with_tokens(advantages=a, returns=r) for e, a, r in zip(own, whitened, returns, strict=True)]
    others = [
        e.with_tokens(advantages=np.zeros(e.length), returns=np.zeros(e.length)) for e in batch.examples if e.stream
    ]
    return replace(batch, examples=(*learned, *others))


def policy_loss(outputs: Outputs, batch: shapes.Tensors, config: Any):
    """Clipped surrogate ``[N, T]``."""
    old, mask = batch.token["logp_old"], batch.mask_N_T & (batch.weight_N > 0)[:, None]
    log_ratio = (outputs.logp_N_T - old)[mask]
    metrics = {
        "policy/approxkl": 0.5 * log_ratio**2,
        "policy/clipfrac": ((log_ratio.exp() - 1).abs() > config.cliprange).float(),
        "policy/ratio": log_ratio.exp(),
    }
    return terms.ppo_policy(outputs.logp_N_T, old, batch.token["advantages"], config.cliprange), metrics


def value_loss(outputs: Outputs, batch: shapes.Tensors, config: Any):
    """Clipped value loss ``[N, T]``."""
    loss = terms.ppo_value(
        outputs.values_N_T, batch.token["values_old"], batch.token["returns"], config.cliprange_value
    )
    return loss, {"loss/value": loss[batch.mask_N_T & (batch.weight_N > 0)[:, None]]}


def ptx_loss(outputs: Outputs, batch: shapes.Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``; the demonstrations count."""
    nll = terms.nll(outputs.logp_N_T)
    rows = batch.value.get("ptx", torch.zeros(len(nll))) > 0
    return nll, {"loss/ptx": nll[batch.mask_N_T & rows[:, None]]}


def control(state: State, figures: Mapping[str, float], config: Any) -> State:
    """β ← β (1 + K clip(KL / target - 1, ±0.2)) (Ziegler et al. 2019, section 2.2)."""
    if config.target_kl <= 0:
        return state
    error = float(np.clip(figures["objective/kl"] / config.target_kl - 1, -0.2, 0.2))
    return {**state, "kl_coef": state["kl_coef"] * (1 + config.k_beta * error)}


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(rollout, sources.score),
    parts=lambda config: frozenset({"reference", "critic"}),
    layout=layout,
    annotate=lambda config: ("logp_old", "logp_ref", "values_old"),
    shape=shape,
    terms=(
        Term("policy", policy_loss, "token"),
        Term("value", value_loss, "token", frozenset({"values"}), weight=lambda config: config.vf_coef),
        Term(
            "ptx",
            ptx_loss,
            "token",
            rows="ptx",
            weight=lambda config: config.ptx_coef,
            active=lambda config: config.ptx_coef > 0,
        ),
    ),
    asks=lambda config: frozenset({"prompts", "reward"} | ({"data"} if config.ptx_coef > 0 else set())),
    update=control,
    rounds=lambda config: config.num_rollouts,
    score="none",
    defaults={"learning_rate": 3e-6, "num_train_epochs": 4},
)
