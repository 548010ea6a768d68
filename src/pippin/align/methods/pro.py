"""Preference ranking optimisation: a ranked list of responses, each against all that are worse.

Source: Song et al. 2023 (arXiv 2306.17492), eq. 7-9

Responses sorted by reward, s_k = S_k / |y_k|; T_kj = r_k - r_j for j > k, T_kk = max_j T_kj;
L = Σ_{k<n} [logsumexp(s_k T_kk, {s_j T_kj}_{j>k}) - s_k T_kk] + β (n-1)² NLL(y_1), NLL a sum over tokens; the mean over
prompts. For n = 2 the first term is -log σ((s_1 - s_2)(r_1 - r_2)); where all rewards are equal it is log n! and has no
gradient. Rewards of any scale may be divided by their standard deviation over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Batch, Tensors
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """PRO's own fields."""

    sft_weight: float = setting(0.05, "β of β (n-1)² NLL of the best of n responses")
    standardise: bool = setting(False, "divide rewards by their standard deviation over the data")
    max_temperature: float = setting(0.0, "differences of rewards are cut to this; 0: not cut")


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """Ranked responses with their rewards as ``score``."""
    batch = layouts.ranked(groups, config, context)
    scale = float(np.std([e.value["score"] for e in batch.examples])) if config.standardise else 1.0
    scaled = (replace(e, value={**e.value, "score": e.value["score"] / (scale or 1.0)}) for e in batch.examples)
    return replace(batch, examples=tuple(scaled))


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """The list's loss and the likelihood of its best, ``[G]``; rewards are s."""
    sums_N = terms.sequence(outputs.logp_N_T)
    mean_N = sums_N / terms.lengths(batch.mask_N_T)
    ranks, fits = [], []
    for group in range(batch.groups):
        rows = (batch.group_N == group).nonzero().flatten()
        rows = rows[batch.value["rank"][rows].argsort()]
        heat = terms.temperatures(batch.value["score"][rows])
        if config.max_temperature > 0:
            heat = heat.clamp(max=config.max_temperature)
        ranks.append(terms.pro(mean_N[rows], heat).sum())
        fits.append(-((len(rows) - 1) ** 2) * sums_N[rows[0]])
    rank_G, nll_G = torch.stack(ranks), torch.stack(fits)
    metrics = terms.watched(mean_N, sums_N, batch.pairs_P_2)
    return rank_G + config.sft_weight * nll_G, {**metrics, "loss/rank": rank_G, "loss/nll": nll_G}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layout,
    terms=(Term("pro", loss, "group"),),
    score="mean",
    defaults={"learning_rate": 5e-6, "num_train_epochs": 2},
)
