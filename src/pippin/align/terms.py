"""The losses: pure functions of log-probabilities, scores and index tensors. No model, no file, no clock.

Every function returns unreduced losses; the loop reduces them by the method's declared reduction. Symbols and section
numbers follow the papers named in each docstring. ``h`` is [S_θ(w) - S_ref(w)] - [S_θ(l) - S_ref(l)], sums in nats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nll(logp_N_T: Tensor) -> Tensor:
    """Negative log-likelihood of each response token; ``[N, T]``, zero off the response."""
    return -logp_N_T


def bradley_terry(margin_P: Tensor, p_P: Tensor) -> Tensor:
    """-p log σ(Δ) - (1-p) log σ(-Δ): Bradley-Terry with soft labels; ``p`` = 1 is the plain form. ``[P]``

    ``margin_P`` is the score of the first of each pair less that of the second, in logits. (Christiano et al. 2017;
    soft labels as in AlpacaFarm and RLCD.) Minimised over Δ at σ(Δ) = p.
    """
    return -p_P * F.logsigmoid(margin_P) - (1 - p_P) * F.logsigmoid(-margin_P)


def centering(score_P_2: Tensor) -> Tensor:
    """(r_w + r_l)²: keeps the free shift of a Bradley-Terry score near zero (Eisenstein et al. 2023). ``[P]``"""
    return score_P_2.sum(-1) ** 2


def dpo(h_P: Tensor, p_P: Tensor, beta: float) -> Tensor:
    """-p log σ(βh) - (1-p) log σ(-βh): DPO (Rafailov et al. 2023, eq. 7); ``p`` < 1 is conservative DPO. ``[P]``"""
    return bradley_terry(beta * h_P, p_P)


def ppo_policy(logp_N_T: Tensor, logp_old_N_T: Tensor, advantages_N_T: Tensor, cliprange: float) -> Tensor:
    """max(-Aρ, -A clip(ρ, 1-ε, 1+ε)), ρ = exp(lp - lp_old): PPO (Schulman et al. 2017, eq. 7). ``[N, T]``"""
    ratio = torch.exp(logp_N_T - logp_old_N_T)
    return torch.maximum(-advantages_N_T * ratio, -advantages_N_T * ratio.clamp(1 - cliprange, 1 + cliprange))


def ppo_value(values_N_T: Tensor, values_old_N_T: Tensor, returns_N_T: Tensor, cliprange: float) -> Tensor:
    """½ max((V-R)², (V_clip-R)²), V_clip = V_old + clip(V - V_old, ±ε_v) (OpenAI's PPO for RLHF). ``[N, T]``"""
    clipped = values_old_N_T + (values_N_T - values_old_N_T).clamp(-cliprange, cliprange)
    return 0.5 * torch.maximum((values_N_T - returns_N_T) ** 2, (clipped - returns_N_T) ** 2)


def sequence(values_N_T: Tensor) -> Tensor:
    """Sum over the response tokens of each row: ``[N, T]`` to ``[N]``. Rows are zero off the response."""
    return values_N_T.sum(-1)


def margins(score_N: Tensor, pairs_P_2: Tensor) -> Tensor:
    """Score of the first of each pair less that of the second. ``[P]``"""
    return score_N[pairs_P_2[:, 0]] - score_N[pairs_P_2[:, 1]]
