"""Contrastive preference optimisation: DPO against a uniform reference, with likelihood of the chosen.

Source: Xu et al. 2024 (arXiv 2401.08417), eq. 5

L = -E[log σ(β (S_w - S_l))] + α NLL(w), sums over response tokens in the first term; NLL is the mean over the chosen
responses' tokens. ``hinge`` is max(0, 1 - β (S_w - S_l)): with α it is SLiC with δ = 1/β, scaled by β. A soft label p
mixes both directions; a tie has no chosen response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """CPO's own fields, named as in TRL."""

    beta: float = setting(0.1, "scale of the reward, the log-probability of the response")
    loss_type: Literal["sigmoid", "hinge"] = setting("sigmoid", "function of β (S_w - S_l)")
    cpo_alpha: float = setting(1.0, "weight of the chosen responses' negative log-likelihood; 0: off")


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """-log σ(β (S_w - S_l)), or its hinge, ``[P]``; rewards are β S."""
    sums_N = terms.sequence(outputs.logp_N_T)
    margin_P = config.beta * terms.margins(sums_N, batch.pairs_P_2)
    metrics = terms.watched(config.beta * sums_N, sums_N, batch.pairs_P_2)
    if config.loss_type == "hinge":
        return terms.hinge(margin_P, batch.p_P), metrics
    return terms.bradley_terry(margin_P, batch.p_P), metrics


def chosen_nll(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``; rows count as often as they are chosen."""
    return terms.nll(outputs.logp_N_T), {}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layouts.paired,
    terms=(
        Term("cpo", loss, "pair_mean"),
        Term(
            "nll",
            chosen_nll,
            "token",
            rows="chosen",
            weight=lambda config: config.cpo_alpha,
            active=lambda config: config.cpo_alpha > 0,
        ),
    ),
    score="sum",
    defaults={"learning_rate": 1e-6},
)
