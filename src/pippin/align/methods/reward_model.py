"""Reward model: scores fitted to preferences, to the best of several responses, or to numbers.

Source: Christiano et al. 2017 (arXiv 1706.03741); Ouyang et al. 2022 (arXiv 2203.02155), eq. 1; margin: Llama 2
  (arXiv 2307.09288), eq. 2; best of K: Ziegler et al. 2019 (arXiv 1909.08593), eq. 1; log-ratio head: Rafailov et al.
  2023

``bradley_terry``: -p log σ(Δ - m) - (1-p) log σ(-Δ - m), Δ = r(x, y_i) - r(x, y_j), m the pair's stated strength times
``margin_scale``. All pairs of a prompt stand in one step and every prompt weighs the same (InstructGPT's K-wise form,
reduction ``group_mean``). ``best_of_k``: -log softmax(r)[best] over a prompt's responses, shared by equal bests.
``regression``: (r - score)². Heads: ``last`` token, ``sum`` over response tokens, or ``logratio`` β(S_θ - S_ref), which
needs a reference and no head. After training the gauge is fixed: mean 0 and standard deviation 1 over the training
responses, stored with the artefact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Batch, Tensors
from pippin.core.config import setting
from pippin.core.errors import InputError

HEADS = frozenset({"logps", "scores"})


@dataclass(frozen=True)
class Config:
    """The reward model's own fields."""

    head: Literal["last", "sum", "logratio"] = setting("last", "what a score is read from")
    beta: float = setting(0.1, "scale of the log-ratio head")
    center_rewards_coefficient: float = setting(0.0, "weight of (r_w + r_l)²; 0: off")
    loss_type: Literal["bradley_terry", "best_of_k", "regression"] = setting(
        "bradley_terry", "what scores are fitted to: pairs, the best of a prompt's responses, or numbers"
    )
    margin_scale: float = setting(0.0, "margin of a pair per unit of its stated strength (Llama 2); 0: no margin")

    def __post_init__(self) -> None:
        if self.loss_type != "bradley_terry" and (self.margin_scale or self.center_rewards_coefficient):
            raise InputError("margin_scale and center_rewards_coefficient belong to pairs", found=self.loss_type)


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """Pairs, ranked lists or scored rows, as the loss needs."""
    if config.loss_type == "best_of_k":
        return layouts.ranked(groups, config, context)
    if config.loss_type == "regression":
        rows = [(n, g, k, v) for n, g in enumerate(groups) for k, v in enumerate(layouts.numbers(g))]
        return Batch(tuple(layouts.example(g, k, n, score=float(v)) for n, g, k, v in rows if not np.isnan(v)))
    return with_margins(groups) if config.margin_scale else layouts.paired(groups, config, context)


def with_margins(groups: Sequence[sources.LoopGroup]) -> Batch:
    """Each pair with rows of its own, since a margin belongs to a pair; ``strength`` stands on its first row."""
    found = [(n, g, p, s) for n, g in enumerate(groups) for p, s in zip(g.preferences, g.strengths, strict=True)]
    examples = [layouts.example(g, row, n, strength=strength) for n, g, p, strength in found for row in (p.i, p.j)]
    return Batch(
        tuple(examples),
        np.arange(len(examples), dtype=np.int64).reshape(-1, 2),
        np.array([p.probability for _, _, p, _ in found], dtype=float),
        np.array([p.weight for _, _, p, _ in found], dtype=float),
    )


def scores_N(outputs: Outputs, batch: Tensors, config: Any):
    """One score per row: the head's, or the scaled log-ratio."""
    if config.head == "logratio":
        return config.beta * (terms.sequence(outputs.logp_N_T) - terms.sequence(batch.token["logp_ref"]))
    return outputs.scores_N


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Bradley-Terry with soft labels, and with a margin where one is stated, ``[P]``."""
    scores = scores_N(outputs, batch, config)
    margin_P = terms.margins(scores, batch.pairs_P_2)
    metrics = {"rewards/margins": margin_P, "rewards/accuracies": ((margin_P > 0) == (batch.p_P > 0.5)).float()}
    if not config.margin_scale:
        return terms.bradley_terry(margin_P, batch.p_P), metrics
    wanted_P = config.margin_scale * batch.value["strength"][batch.pairs_P_2[:, 0]]
    return terms.simpo(margin_P, batch.p_P, 1.0, wanted_P), metrics


def center(outputs: Outputs, batch: Tensors, config: Any):
    """(r_w + r_l)² ``[P]``."""
    return terms.centering(scores_N(outputs, batch, config)[batch.pairs_P_2]), {}


def best_of_k(outputs: Outputs, batch: Tensors, config: Any):
    """-log softmax(r)[best] ``[G]``."""
    scores, losses, right = scores_N(outputs, batch, config), [], []
    for group in range(batch.groups):
        rows = batch.group_N == group
        losses.append(terms.best_of_k(scores[rows], batch.value["score"][rows]))
        right.append(batch.value["best"][rows][scores[rows].argmax()])
    return torch.stack(losses), {"rewards/accuracies": torch.stack(right)}


def regression(outputs: Outputs, batch: Tensors, config: Any):
    """(r - score)² ``[N]``."""
    error_N = scores_N(outputs, batch, config) - batch.value["score"]
    return error_N**2, {"rewards/error": error_N.abs()}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    parts=lambda config: frozenset({"reference"} if config.head == "logratio" else {"head"}),
    layout=layout,
    annotate=lambda config: ("logp_ref",) if config.head == "logratio" else (),
    terms=(
        Term("bradley_terry", loss, "group_mean", HEADS, active=lambda config: config.loss_type == "bradley_terry"),
        Term(
            "centering",
            center,
            "pair_mean",
            HEADS,
            weight=lambda config: config.center_rewards_coefficient,
            active=lambda config: config.center_rewards_coefficient > 0,
        ),
        Term("best_of_k", best_of_k, "group", HEADS, active=lambda config: config.loss_type == "best_of_k"),
        Term("regression", regression, "seq", HEADS, active=lambda config: config.loss_type == "regression"),
    ),
    artefact="reward",
    score="sum",
    defaults={"learning_rate": 1e-5},
)
