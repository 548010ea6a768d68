"""Best-of-n: nothing is trained; the policy answers n times and a reward keeps the best.

Source: Stiennon et al. 2020 (arXiv 2009.01325), appendix G.3; Nakano et al. 2021 (arXiv 2112.09332), appendix I; Gao
  et al. 2022 (arXiv 2210.10760)

y* = argmax_i r(x, y_i), y_i ~ π. The artefact is a decoding recipe: n and the reranker. With several ``candidates`` n
is the one with the best development score, estimated without bias for every n from the same draws. KL to the policy is
at most log n - (n-1)/n nats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pippin.align import sources
from pippin.align.method import Method, State
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import digest
from pippin.stats import best_of_n


@dataclass(frozen=True)
class Config:
    """Best-of-n's own fields."""

    candidates: tuple[int, ...] = setting((16,), "values of n to choose from on development prompts; one: no choice")
    max_completion_length: int = setting(64, "tokens of a response at most")


def choose(context: sources.Context, config: Any) -> State:
    """n, by the development score of the response that the reward would keep."""
    if len(config.candidates) == 1:
        return {"n": config.candidates[0]}
    if not context.development or context.evaluate is None:
        raise InputError(
            "best_of_n chooses n on development prompts, and there are none",
            found=f"candidates {config.candidates}",
            mend="Give one candidate, or development prompts and a judge that scores",
        )
    most = max(config.candidates)
    chat = context.policy.chat
    groups = [sources.LoopGroup(p, chat.prompt_ids(p.messages)) for p in context.development]
    groups = sources.fitting(context, groups)
    groups = sources.score(
        context, sources.sample(context, groups, most, config.max_completion_length, purpose="develop")
    )
    gold_M_N = np.array([context.evaluate([g.prompt] * most, g.texts) for g in groups])
    proxy_M_N = np.array([g.scores for g in groups])
    rng = np.random.default_rng(int(digest([context.seed, "ties"]), 16))
    curve = {n: float(np.mean(best_of_n(proxy_M_N, gold_M_N, n, rng))) for n in sorted(config.candidates)}
    return {"n": max(curve, key=lambda n: curve[n]), "development": {str(n): v for n, v in curve.items()}}


def decoding(config: Any, state: State) -> Mapping[str, Any]:
    """The recipe: how many draws. The run adds the reranker's name."""
    return {"n": state["n"]}


METHOD = Method(config=Config, reads="prompts", layout=None, choose=choose, decoding=decoding)
