"""Fine-grained RLHF: PPO with a reward for each part of a response, given where the part ends.

Source: Wu et al. 2023 (arXiv 2306.01693), section 3.2

r_t = Σ_j 1[t = end of segment j] R_j - β (lp_old - lp_ref); all else is PPO with its critic. The judge names
segments by characters and rewards (several kinds may overlap); each reward goes to the token that completes its
segment, and that of the whole text to the last token, so that one segment over the whole is PPO with a score. A judge
that gives one number is one segment. Rewards are taken as they are, not divided by their deviation; what their kinds
weigh is the judge's. A response without end token loses ``missing_eos_penalty`` at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pippin.align import layouts, shapes, sources
from pippin.align.method import Method, State, Term
from pippin.align.methods.ppo import control, learn, policy_loss, rollout, value_loss
from pippin.align.spans import token_ends, token_rewards
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """Fine-grained RLHF's own fields; those of PPO mean the same."""

    num_rollouts: int = setting(100, "rounds of sampling and training")
    prompts_per_rollout: int = setting(64, "prompts of a round")
    num_generations: int = setting(4, "responses drawn for a prompt")
    max_completion_length: int = setting(64, "tokens of a response at most")
    kl_coef: float = setting(0.3, "β, in units of the segments' rewards per nat")
    target_kl: float = setting(0.0, "KL per response the controller aims at; 0: β stays fixed")
    k_beta: float = setting(0.1, "gain of the controller")
    cliprange: float = setting(0.2, "ε of the policy ratio")
    cliprange_value: float = setting(0.2, "ε_v of the value")
    vf_coef: float = setting(1.0, "c_v")
    gamma: float = setting(1.0, "discount")
    lam: float = setting(0.95, "λ of GAE")
    missing_eos_penalty: float = setting(0.0, "taken off at the end of a response that was cut")
    whiten_rewards: bool = setting(False, "divide per-token rewards by their deviation over the rollout, no shift")
    critic_learning_rate: float = setting(0.0, "of the critic; 0: the policy's")


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> shapes.Batch:
    """One example per response with the rewards of its segments on their last tokens."""
    batch = layouts.rows(groups, config, context)
    rows = [(g, ids, text, ended) for g in groups
            for ids, text, ended in zip(g.responses, g.texts, g.ended, strict=True)]  # fmt: skip
    prompts, texts = [g.prompt for g, *_ in rows], [text for _, _, text, _ in rows]
    parts = segments(context, prompts, texts)
    totals = np.array([sum(value for *_, value in spans) for spans in parts])
    sources.count_equal(context, np.split(totals, np.cumsum([len(g.texts) for g in groups])[:-1]))
    examples = []
    decode = partial(context.policy.chat.tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    for example, (_, ids, text, ended), spans in zip(batch.examples, rows, parts, strict=True):
        ends = token_ends(decode, ids, text)
        value = {"ended": float(ended), "segments": float(len(spans))}
        examples.append(replace(example, value=value).with_tokens(segments=token_rewards(spans, ends, text)))
    return replace(batch, examples=tuple(examples))


def segments(context: sources.Context, prompts: list[Any], texts: list[str]) -> list[Any]:
    """The rewarded parts of each text; its score as one part where the judge gives numbers only."""
    if context.segments is None:
        return [[(0, len(t), float(s))] for t, s in zip(texts, sources.asked(context, prompts, texts), strict=True)]
    parts = list(context.segments(prompts, texts))
    if len(parts) != len(texts):
        raise InputError("the reward gave a wrong number of lists of segments", found=len(parts), expected=len(texts))
    context.ledger.add(scorer_calls=len(texts))
    return parts


def shape(batch: shapes.Batch, config: Any, state: State) -> shapes.Batch:
    """Token rewards, then PPO's advantages and returns."""
    beta = state.setdefault("kl_coef", config.kl_coef)
    rewards, totals = [], []
    for example in batch.examples:
        penalty = 0.0 if example.value["ended"] else config.missing_eos_penalty
        given = example.token["segments"].copy()
        given[-1] -= penalty
        rewards.append(shapes.kl_rewards(example.token["logp_old"], example.token["logp_ref"], 0.0, beta) + given)
        totals.append(float(given.sum()))
    batch = learn(batch, rewards, np.array(totals), config, state)
    state["figures"]["segments/per_response"] = float(np.mean([e.value["segments"] for e in batch.examples]))
    return batch


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(rollout,),
    parts=lambda config: frozenset({"reference", "critic"}),
    layout=layout,
    annotate=lambda config: ("logp_old", "logp_ref", "values_old"),
    shape=shape,
    terms=(
        Term("policy", policy_loss, "token"),
        Term("value", value_loss, "token", frozenset({"values"}), weight=lambda config: config.vf_coef),
    ),
    update=control,
    rounds=lambda config: config.num_rollouts,
    score="none",
    defaults={"learning_rate": 1e-5, "num_train_epochs": 4},
)
