"""ORPO: supervised fine-tuning on the chosen response with an odds ratio against the rejected one.

Source: Hong et al. 2024 (arXiv 2403.07691), eq. 6-7

L = E[NLL(w)] - λ E[log σ(log odds(w) - log odds(l))],  log odds(y) = S̄ - log(1 - exp S̄), S̄ the mean log-probability
of the response's tokens. NLL is -S̄, over response tokens only (TRL counts the prompt's too). No reference: one model
and one stage from the base. A soft label p mixes both directions; a tie has no chosen response.
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
    """ORPO's own field, named as in TRL."""

    beta: float = setting(0.1, "λ, weight of the odds ratio")


def odds_ratio(outputs: Outputs, batch: Tensors, config: Any):
    """-log σ(log odds(w) - log odds(l)) ``[P]``; rewards are λ S̄, as in TRL."""
    sums_N = terms.sequence(outputs.logp_N_T)
    mean_N = sums_N / terms.lengths(batch.mask_N_T)
    ratio_P = terms.margins(terms.log_odds(mean_N), batch.pairs_P_2)
    metrics = terms.watched(config.beta * mean_N, sums_N, batch.pairs_P_2)
    return terms.bradley_terry(ratio_P, batch.p_P), {**metrics, "log_odds_chosen": ratio_P}


def chosen_nll(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``; rows count as often as they are chosen."""
    nll = terms.nll(outputs.logp_N_T)
    return nll, {"nll_loss": nll[batch.mask_N_T & (batch.value["chosen"] > 0)[:, None]]}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layouts.paired,
    terms=(
        Term("nll", chosen_nll, "seq_mean", rows="chosen"),
        Term("odds_ratio", odds_ratio, "pair_mean", weight=lambda config: config.beta),
    ),
    score="mean",
    defaults={"learning_rate": 8e-6},
)
