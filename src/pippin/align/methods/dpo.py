"""Direct preference optimisation: the policy is its own reward model.

Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7; soft labels as in cDPO (Mitchell 2023); robust: Ray Chowdhury et
  al. 2024 (arXiv 2403.00409); ipo: Azar et al. 2023 (arXiv 2310.12036), eq. 17; hinge: RSO, Liu et al. 2023 (arXiv
  2309.06657), eq. 8; DPO + NLL: Pang et al. 2024 (arXiv 2404.19733)

L = -E[p log σ(βh) + (1-p) log σ(-βh)],  h = [S_θ(w) - S_ref(w)] - [S_θ(l) - S_ref(l)], sums over response tokens. The
reference is the policy as it was at the start. Every pair
counts the same; the pairs of one prompt stand in one optimiser step.

``loss_type`` takes another function of h: robust [-(1-ε) log σ(βh) + ε log σ(-βh)] / (1-2ε), ipo (h - 1/(2β))²
(``ipo_average``: h of log-ratios per token), hinge max(0, 1 - βh). ``rpo_alpha`` adds the chosen responses' negative
log-likelihood per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """DPO's own fields, named as in TRL."""

    beta: float = setting(0.1, "strength of the pull to the reference; the implicit reward is beta * log-ratio")
    label_smoothing: float = setting(0.0, "assumed share of flipped labels (cDPO, robust); 0 is plain DPO")
    loss_type: Literal["sigmoid", "robust", "ipo", "hinge"] = setting(
        "sigmoid", "function of the margin h; with ipo beta is tau, with hinge 1/beta is the margin in nats"
    )
    ipo_average: bool = setting(False, "ipo on log-ratios per token, as in TRL; the paper's are sums")
    rpo_alpha: float = setting(0.0, "weight of the chosen responses' negative log-likelihood (DPO + NLL); 0: off")

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss_type not in ("sigmoid", "robust"):
            raise InputError("label_smoothing belongs to the loss types sigmoid and robust", found=self.loss_type)
        if not 0 <= self.label_smoothing < 0.5:
            raise InputError("label_smoothing must be below one half", found=self.label_smoothing)
        if self.ipo_average and self.loss_type != "ipo":
            raise InputError("ipo_average belongs to the loss type ipo", found=self.loss_type)


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """The DPO loss ``[P]`` and TRL's metrics: rewards are β (S_θ - S_ref)."""
    sums_N = terms.sequence(outputs.logp_N_T)
    gain_N = sums_N - terms.sequence(batch.token["logp_ref"])
    h_P, p_P = terms.margins(gain_N, batch.pairs_P_2), batch.p_P
    metrics = terms.watched(config.beta * gain_N, sums_N, batch.pairs_P_2)
    if config.loss_type == "robust":
        return terms.robust_dpo(h_P, p_P, config.beta, config.label_smoothing), metrics
    if config.loss_type == "hinge":
        return terms.hinge(config.beta * h_P, p_P), metrics
    if config.loss_type == "ipo":
        if config.ipo_average:
            h_P = terms.margins(gain_N / terms.lengths(batch.mask_N_T), batch.pairs_P_2)
        return terms.ipo(h_P, p_P, config.beta), metrics
    smooth_P = p_P * (1 - config.label_smoothing) + (1 - p_P) * config.label_smoothing
    return terms.dpo(h_P, smooth_P, config.beta), metrics


def chosen_nll(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``; rows count as often as they are chosen."""
    return terms.nll(outputs.logp_N_T), {}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    parts=lambda config: frozenset({"reference"}),
    layout=layouts.paired,
    annotate=lambda config: ("logp_ref",),
    terms=(
        Term("dpo", loss, "pair_mean"),
        Term(
            "nll",
            chosen_nll,
            "token",
            rows="chosen",
            weight=lambda config: config.rpo_alpha,
            active=lambda config: config.rpo_alpha > 0,
        ),
    ),
    score="sum",
    defaults={"learning_rate": 1e-6},
)
