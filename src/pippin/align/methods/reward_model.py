"""Reward model: scores fitted to pairwise preferences by Bradley-Terry, hard or soft labels.

Source: Christiano et al. 2017 (arXiv 1706.03741); Ouyang et al. 2022 (arXiv 2203.02155), eq. 1; log-ratio head:
Rafailov et al. 2023

-p log σ(Δ) - (1-p) log σ(-Δ), Δ = r(x, y_i) - r(x, y_j). All pairs of a prompt stand in one step and every prompt
weighs the same (InstructGPT's K-wise form, reduction ``group_mean``). Heads: ``last`` token, ``sum`` over response
tokens, or ``logratio`` β(S_θ - S_ref), which needs a reference and no head. After training the gauge is fixed: mean 0
and standard deviation 1 over the training responses, stored with the artefact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """The reward model's own fields."""

    head: Literal["last", "sum", "logratio"] = setting("last", "what a score is read from")
    beta: float = setting(0.1, "scale of the log-ratio head")
    center_rewards_coefficient: float = setting(0.0, "weight of (r_w + r_l)²; 0: off")


def scores_N(outputs: Outputs, batch: Tensors, config: Any):
    """One score per row: the head's, or the scaled log-ratio."""
    if config.head == "logratio":
        return config.beta * (terms.sequence(outputs.logp_N_T) - terms.sequence(batch.token["logp_ref"]))
    return outputs.scores_N


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Bradley-Terry with soft labels ``[P]``."""
    scores = scores_N(outputs, batch, config)
    margin_P = terms.margins(scores, batch.pairs_P_2)
    metrics = {"rewards/margins": margin_P, "rewards/accuracies": ((margin_P > 0) == (batch.p_P > 0.5)).float()}
    return terms.bradley_terry(margin_P, batch.p_P), metrics


def center(outputs: Outputs, batch: Tensors, config: Any):
    """(r_w + r_l)² ``[P]``."""
    return terms.centering(scores_N(outputs, batch, config)[batch.pairs_P_2]), {}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    parts=lambda config: frozenset({"reference"} if config.head == "logratio" else {"head"}),
    layout=layouts.paired,
    annotate=lambda config: ("logp_ref",) if config.head == "logratio" else (),
    terms=(
        Term("bradley_terry", loss, "group_mean", frozenset({"logps", "scores"})),
        Term(
            "centering",
            center,
            "pair_mean",
            frozenset({"logps", "scores"}),
            weight=lambda config: config.center_rewards_coefficient,
            active=lambda config: config.center_rewards_coefficient > 0,
        ),
    ),
    artefact="reward",
    score="sum",
    defaults={"learning_rate": 1e-5},
)
