"""Direct preference optimisation: the policy is its own reward model.

Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7; soft labels as in cDPO (Mitchell 2023)

L = -E[p log σ(βh) + (1-p) log σ(-βh)],  h = [S_θ(w) - S_ref(w)] - [S_θ(l) - S_ref(l)], sums over response tokens. The
reference is the policy as it was at the start. Every pair
counts the same; the pairs of one prompt stand in one optimiser step.
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
    """DPO's own fields, named as in TRL."""

    beta: float = setting(0.1, "strength of the pull to the reference; the implicit reward is beta * log-ratio")
    label_smoothing: float = setting(0.0, "assumed share of flipped labels (cDPO); 0 is plain DPO")


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """The DPO loss ``[P]`` and TRL's metrics: rewards are β (S_θ - S_ref)."""
    sums_N = terms.sequence(outputs.logp_N_T)
    gain_N = sums_N - terms.sequence(batch.token["logp_ref"])
    h_P = terms.margins(gain_N, batch.pairs_P_2)
    p_P = batch.p_P * (1 - config.label_smoothing) + (1 - batch.p_P) * config.label_smoothing
    better, worse = batch.pairs_P_2.T
    metrics = {
        "rewards/chosen": config.beta * gain_N[better],
        "rewards/rejected": config.beta * gain_N[worse],
        "rewards/margins": config.beta * h_P,
        "rewards/accuracies": (h_P > 0).float(),
        "logps/chosen": sums_N[better],
        "logps/rejected": sums_N[worse],
    }
    return terms.dpo(h_P, p_P, config.beta), metrics


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    parts=lambda config: frozenset({"reference"}),
    layout=layouts.paired,
    annotate=lambda config: ("logp_ref",),
    terms=(Term("dpo", loss, "pair_mean"),),
    score="sum",
    defaults={"learning_rate": 1e-6},
)
