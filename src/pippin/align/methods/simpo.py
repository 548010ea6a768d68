"""SimPO: preferences on log-probabilities per token, with a margin and without a reference.

Source: Meng et al. 2024 (arXiv 2405.14734), eq. 6

L = -E[log σ(β (S̄_w - S̄_l) - γ)],  S̄ = S / |y|: the mean log-probability of the response's tokens, the same number that
guides decoding. γ is the margin in the same units as β S̄. A soft label p mixes both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """SimPO's own fields, named as in TRL's CPO; the defaults are those of the paper."""

    beta: float = setting(2.0, "scale of the reward, the log-probability per token")
    simpo_gamma: float = setting(1.0, "γ, the margin that the chosen response's reward should keep")


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """-log σ(β (S̄_w - S̄_l) - γ) ``[P]``; rewards are β S̄."""
    sums_N = terms.sequence(outputs.logp_N_T)
    mean_N = sums_N / terms.lengths(batch.mask_N_T)
    metrics = terms.watched(config.beta * mean_N, sums_N, batch.pairs_P_2)
    margin_P = terms.margins(mean_N, batch.pairs_P_2)
    return terms.simpo(margin_P, batch.p_P, config.beta, config.simpo_gamma), metrics


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layouts.paired,
    terms=(Term("simpo", loss, "pair_mean"),),
    score="mean",
    defaults={"learning_rate": 1e-6},
)
