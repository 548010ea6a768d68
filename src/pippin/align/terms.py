"""The losses: pure functions of log-probabilities, scores and index tensors. No model, no file, no clock.

Every function returns unreduced losses; the loop reduces them by the method's declared reduction. Symbols and section
numbers follow the papers named in each docstring. ``h`` is [S_θ(w) - S_ref(w)] - [S_θ(l) - S_ref(l)], sums in nats.
"""

from __future__ import annotations

import math

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


def best_of_k(score_K: Tensor, value_K: Tensor) -> Tensor:
    """-log softmax(r)[best], best the highest value; equal bests share the target (Ziegler et al. 2019, eq. 1)."""
    best_K = (value_K == value_K.max()).to(score_K.dtype)
    return -(score_K.log_softmax(-1) * best_K).sum() / best_K.sum()


def dpo(h_P: Tensor, p_P: Tensor, beta: float) -> Tensor:
    """-p log σ(βh) - (1-p) log σ(-βh): DPO (Rafailov et al. 2023, eq. 7); ``p`` < 1 is conservative DPO. ``[P]``"""
    return bradley_terry(beta * h_P, p_P)


def robust_dpo(h_P: Tensor, p_P: Tensor, beta: float, flips: float) -> Tensor:
    """[-(1-ε) log σ(βh) + ε log σ(-βh)] / (1-2ε): without bias where labels are flipped at rate ε < ½. ``[P]``

    This is DPO on the label (p-ε)/(1-2ε), which may lie outside [0, 1]; so it may be negative. Source: Ray Chowdhury et
    al. 2024 (arXiv 2403.00409), eq. 12.
    """
    return dpo(h_P, (p_P - flips) / (1 - 2 * flips), beta)


def ipo(h_P: Tensor, p_P: Tensor, tau: float) -> Tensor:
    """(h - 1/(2τ))²: a bounded target for the margin (Azar et al. 2023, eq. 17). ``[P]``"""
    target = 1 / (2 * tau)
    return p_P * (h_P - target) ** 2 + (1 - p_P) * (-h_P - target) ** 2


def hinge(margin_P: Tensor, p_P: Tensor, delta: float = 1.0) -> Tensor:
    """max(0, δ - Δ): zero, with zero gradient, from a margin of δ on; a soft label mixes both directions. ``[P]``

    On S_w - S_l it is SLiC's rank loss (Zhao et al. 2023, eq. 1), on γh with δ = 1 RSO's hinge-norm (Liu et al. 2023,
    eq. 8): relu(1 - βΔ) = β relu(1/β - Δ).
    """
    return p_P * F.relu(delta - margin_P) + (1 - p_P) * F.relu(delta + margin_P)


def simpo(margin_P: Tensor, p_P: Tensor, beta: float, gamma: float | Tensor) -> Tensor:
    """-log σ(β (S̄_w - S̄_l) - γ) on log-probabilities per token (Meng et al. 2024, eq. 6). ``[P]``"""
    return -p_P * F.logsigmoid(beta * margin_P - gamma) - (1 - p_P) * F.logsigmoid(-beta * margin_P - gamma)


def log_odds(mean_N: Tensor) -> Tensor:
    """log p/(1-p) of p = exp(S̄), the probability per token (Hong et al. 2024, eq. 4). ``[N]``"""
    x = mean_N.clamp(max=-1e-6)  # a response that is certain has no odds
    rest = torch.where(x > -0.6931, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
    return x - rest


def kto(gain_N: Tensor, desirable_N: Tensor, z: float, beta: float) -> Tensor:
    """1 - σ(β(u - z)) where desirable, 1 - σ(β(z - u)) where not, u = S_θ - S_ref (Ethayarajh et al. 2024, eq. 8).
    ``[N]``, without the classes' weights; ``z`` in nats."""
    side_N = 2 * desirable_N - 1
    return 1 - torch.sigmoid(beta * side_N * (gain_N - z))


def rrhf(mean_N: Tensor, pairs_P_2: Tensor) -> Tensor:
    """max(0, p_l - p_w) on log-probabilities per token: no margin (Yuan et al. 2023, eq. 3). ``[P]``"""
    return F.relu(-margins(mean_N, pairs_P_2))


def temperatures(reward_K: Tensor) -> Tensor:
    """T[k, j] = r_k - r_j for j > k of a list sorted best first; on the diagonal the largest of its row. ``[K, K]``

    Song et al. 2023, eq. 9; their temperatures are the reciprocals.
    """
    gaps = reward_K[:, None] - reward_K[None, :]
    return torch.triu(gaps, 1) + torch.diag(gaps[:, -1])


def pro(score_K: Tensor, temperature_K_K: Tensor) -> Tensor:
    """logsumexp(s_k T_kk, {s_j T_kj, j > k}) - s_k T_kk for k < K: the best of what is left, K-1 times. ``[K-1]``

    ``score_K`` is a list sorted best first (Song et al. 2023, eq. 8). With all T = 1 it is the negative log-likelihood
    of Plackett and Luce.
    """
    K = len(score_K)
    later = torch.triu(torch.ones(K, K, dtype=torch.bool, device=score_K.device))
    logits = (score_K * temperature_K_K).masked_fill(~later, -torch.inf)
    return (logits.logsumexp(-1) - logits.diagonal())[: K - 1]


def unlikelihood(logp_N_T: Tensor, good_N: Tensor, alpha: float) -> Tensor:
    """-a log p - α (1-a) log(1-p), a = 1 on rows that are good (Welleck et al. 2020; Korbak et al. 2023). ``[N, T]``"""
    log_rest = torch.log1p(-logp_N_T.exp().clamp(max=1 - 1e-6))
    return -good_N[:, None] * logp_N_T - alpha * (1 - good_N[:, None]) * log_rest


def advantage_weight(advantage: Tensor, beta: float, most: float = 1000.0) -> Tensor:
    """min(exp(A/β), most): how much a token counts in advantage-weighted regression (Peng et al. 2019, eq. 9)."""
    return torch.exp((advantage / beta).clamp(max=math.log(most)))


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


def lengths(mask_N_T: Tensor) -> Tensor:
    """Response tokens of each row, at least one: ``[N]``."""
    return mask_N_T.sum(-1).clamp(min=1)


def margins(score_N: Tensor, pairs_P_2: Tensor) -> Tensor:
    """Score of the first of each pair less that of the second. ``[P]``"""
    return score_N[pairs_P_2[:, 0]] - score_N[pairs_P_2[:, 1]]


def watched(reward_N: Tensor, logp_N: Tensor, pairs_P_2: Tensor) -> dict[str, Tensor]:
    """What every preference method logs, by TRL's names: rewards and log-probabilities on both sides. ``[P]`` each."""
    better, worse = pairs_P_2.T
    margin_P = reward_N[better] - reward_N[worse]
    return {
        "rewards/chosen": reward_N[better],
        "rewards/rejected": reward_N[worse],
        "rewards/margins": margin_P,
        "rewards/accuracies": (margin_P > 0).float(),
        "logps/chosen": logp_N[better],
        "logps/rejected": logp_N[worse],
    }


def over_groups(value_P: Tensor, group_P: Tensor, groups: int) -> Tensor:
    """Sums of what stands by pair or by row, for each group: ``[P]`` to ``[G]``."""
    return torch.zeros(groups, dtype=value_P.dtype, device=value_P.device).index_add(0, group_P, value_P)
