"""Supervised fine-tuning: maximum likelihood of given responses.

Source: Ouyang et al. 2022 (arXiv 2203.02155), section 3.5; Wei et al. 2022 (arXiv 2109.01652)

L = Σ_batch Σ_t m_t (-log π_θ(y_t | x, y_<t)) / Σ_batch Σ_t m_t, over the whole optimiser batch (reduction ``token``);
the mask is 1 on the response and its end token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Tensors


@dataclass(frozen=True)
class Config:
    """SFT has no field of its own."""


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``."""
    nll = terms.nll(outputs.logp_N_T)
    return nll, {"nll": nll[batch.mask_N_T]}


METHOD = Method(
    config=Config,
    reads="demonstrations",
    pipeline=(sources.read,),
    layout=layouts.rows,
    terms=(Term("nll", loss, "token"),),
    score="mean",
    defaults={"learning_rate": 2e-5},
)
