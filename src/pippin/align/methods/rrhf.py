"""RRHF: several scored responses ranked by their log-probability per token, and likelihood of the best.

Source: Yuan et al. 2023 (arXiv 2304.05302), eq. 1-5

p_i = S_i / |y_i|;  L = Σ_{r_i < r_j} max(0, p_i - p_j) - S(y*),  y* the best: a sum over the pairs of a prompt, the
mean over prompts. Rewards are used for their order only; equal ones form no pair. There is no margin, no reference.

``repo_compat`` computes what the published code does: log-probabilities are divided by the padded length of the
prompt's rows (prompt and response) instead of the response's, in both terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """RRHF's own fields, named as in its code."""

    rrhf_weight: float = setting(1.0, "weight of the ranking against the likelihood of the best response")
    repo_compat: bool = setting(False, "divide by the padded length, as the published code does")


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Ranking and likelihood of each prompt's responses ``[G]``; rewards are p."""
    sums_N = terms.sequence(outputs.logp_N_T)
    length_N = padded_lengths(batch) if config.repo_compat else terms.lengths(batch.mask_N_T)
    mean_N = sums_N / length_N
    rank_G = terms.over_groups(terms.rrhf(mean_N, batch.pairs_P_2), batch.group_P, batch.groups)
    fitted_N = -(mean_N if config.repo_compat else sums_N) * batch.value["best"]
    nll_G = terms.over_groups(fitted_N, batch.group_N, batch.groups)
    metrics = terms.watched(mean_N, sums_N, batch.pairs_P_2)
    return config.rrhf_weight * rank_G + nll_G, {**metrics, "loss/rank": rank_G, "loss/nll": nll_G}


def padded_lengths(batch: Tensors) -> torch.Tensor:
    """Tokens of the longest row of each row's group, ``[N]``: what a batch of one prompt is padded to."""
    own_N = batch.attention_N_T.sum(-1)
    longest_G = torch.zeros(batch.groups, dtype=own_N.dtype).scatter_reduce(0, batch.group_N, own_N, "amax")
    return longest_G[batch.group_N]


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layouts.ranked,
    terms=(Term("rrhf", loss, "group"),),
    score="mean",
    defaults={"learning_rate": 2e-5, "num_train_epochs": 3, "warmup_ratio": 0.03},
)
