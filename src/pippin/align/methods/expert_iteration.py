"""Expert iteration: sample several, keep the best by the reward, fine-tune on them, repeat.

Source: Anthony et al. 2017 (arXiv 1705.08439); RAFT, Dong et al. 2023 (arXiv 2304.06767); Llama 2 rejection sampling
  (arXiv 2307.09288), section 3.2.3; threshold: ReST, Gulcehre et al. 2023 (arXiv 2308.08998)

Each round: ``num_generations`` draws for each of ``prompts_per_round`` prompts from the current policy, those without
an end token dropped, the argmax of the reward kept (first of equals), SFT on the kept. A round starts from the current
weights, or from the first ones (``from_base``); with ``bag`` it also trains on what earlier rounds kept.

``select`` keeps something else: ``top_fraction`` the best of the whole round, whatever their prompts (RAFT);
``threshold`` those above it once the round's rewards are put on [0, 1] by their least and largest (ReST), all of them
where they are equal; ``weighted`` all, with weights K softmax(r/β) within each prompt (reward-weighted regression)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pippin.align import layouts, sources
from pippin.align.method import Method, Term
from pippin.align.methods.sft import loss
from pippin.align.shapes import Batch
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """Expert iteration's own fields."""

    num_rounds: int = setting(2, "rounds of sampling and fine-tuning")
    prompts_per_round: int = setting(512, "prompts drawn for a round")
    num_generations: int = setting(16, "responses drawn for a prompt; the best is kept")
    max_completion_length: int = setting(64, "tokens of a response at most")
    temperature: float = setting(1.0, "of the draws")
    from_base: bool = setting(False, "each round starts again from the first weights (Llama 2)")
    bag: bool = setting(False, "train on the best of all rounds so far (Llama 2 after V3)")
    select: Literal["best", "top_fraction", "threshold", "weighted"] = setting("best", "which responses are kept")
    top_fraction: float = setting(0.2, "share of the round's responses that top_fraction keeps")
    threshold: float = setting(0.7, "reward on [0, 1] that threshold asks for")
    reward_temperature: float = setting(1.0, "β of weighted, in units of the reward")

    def __post_init__(self) -> None:
        if self.bag and self.select == "weighted":
            raise InputError("the bag keeps responses and not their weights", where="bag", found="select weighted")
        if not 0 < self.top_fraction <= 1:
            raise InputError("a share of the responses is kept", where="top_fraction", found=self.top_fraction)


def draw(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's prompts with their responses."""
    config = context.config
    groups = sources.draw_prompts(context, config.prompts_per_round)
    return sources.sample(context, groups, config.num_generations, config.max_completion_length, config.temperature)


def select(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """What this round keeps. The figures tell how far the best lie above the middle: what is left to gain."""
    config = context.config
    scores = [g.rewards for g in groups]
    if not scores:
        return []
    flat = np.concatenate(scores)
    context.state["figures"] = {
        "objective/scores": float(flat.mean()),
        "rewards/max": float(np.mean([s.max() for s in scores])),
        "rewards/median": float(np.mean([np.median(s) for s in scores])),
    }
    if config.select == "best":
        return sources.best(context, groups)
    if config.select == "weighted":
        return groups
    if config.select == "top_fraction":
        kept = top_fraction(flat, config.top_fraction)
    else:
        kept = min_max(flat) > config.threshold
    parts = np.split(kept, np.cumsum([len(s) for s in scores])[:-1])
    return [g.keep(np.flatnonzero(part).tolist()) for g, part in zip(groups, parts, strict=True) if part.any()]


def top_fraction(rewards_N: np.ndarray, share: float) -> np.ndarray:
    """``[N]`` true on the highest ``share`` of the rows, at least one; the first of equals."""
    kept = np.zeros(len(rewards_N), dtype=bool)
    kept[np.argsort(-rewards_N, kind="stable")[: max(1, math.floor(share * len(rewards_N) + 1e-9))]] = True
    return kept


def min_max(rewards_N: np.ndarray) -> np.ndarray:
    """Rewards on [0, 1] by their least and largest ``[N]``; 1 everywhere where all are equal."""
    spread = np.ptp(rewards_N)
    return np.ones(len(rewards_N)) if spread == 0 else (rewards_N - rewards_N.min()) / spread


def reward_weights(rewards_K: np.ndarray, beta: float) -> np.ndarray:
    """K softmax(r/β) ``[K]``, mean 1: each sample of π stands for one of π exp(r/β) / Z (Peters and Schaal 2007)."""
    scaled = np.exp((rewards_K - rewards_K.max()) / beta)
    return len(rewards_K) * scaled / scaled.sum()


def collect(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """What this round kept, and with ``bag`` what earlier rounds kept, which the state holds."""
    if not context.config.bag:
        return groups
    kept = context.state.setdefault("bag", [])
    kept += [[group.prompt.id, list(group.prompt_ids), list(ids)] for group in groups for ids in group.responses]
    by_id = {p.id: p for p in context.prompts}
    return [sources.LoopGroup(by_id[i], ids, (response,), ("",), (True,)) for i, ids, response in kept]


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """One example per kept response, with its weight."""
    batch = layouts.rows(groups, config, context)
    if config.select != "weighted":
        return batch
    weights = np.concatenate([reward_weights(g.rewards, config.reward_temperature) for g in groups])
    examples = (replace(e, weight=float(w)) for e, w in zip(batch.examples, weights, strict=True))
    return replace(batch, examples=tuple(examples))


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(draw, sources.drop_unended, sources.score, select, collect),
    layout=layout,
    terms=(Term("nll", loss, "token"),),
    rounds=lambda config: config.num_rounds,
    restart=lambda config: config.from_base,
    score="mean",
    defaults={"learning_rate": 2e-5},
)
