"""SLiC-HF: sequence likelihood calibrated by a hinge on pairs, held to a target by likelihood.

Source: Zhao et al. 2023 (arXiv 2305.10425), eq. 1; Zhao et al. 2022 (arXiv 2210.00045)

L = E[max(0, δ - S(w) + S(l))] - λ E[S(y_reg)]: log-probabilities of whole sequences (sums), no reference model. This is
the direct form: the pairs are the data's own. y_reg is the demonstration or reference answer where the group has one,
else the chosen response. Pairs and targets count the same: a group's target counts once for each of its pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Batch, Example, Tensors
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """SLiC's own fields."""

    delta: float = setting(1.0, "δ, the margin in nats from which a pair is settled")
    reg_coef: float = setting(0.1, "λ, weight of the target's negative log-likelihood (a sum over tokens); 0: off")
    target: Literal["given", "chosen"] = setting(
        "given", "y_reg: given: the demonstration or reference where there is one, else the chosen; chosen: always that"
    )


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """The pairs, and on each row as ``target`` how often it is y_reg."""
    batch = layouts.paired(groups, config, context)
    given: list[Example] = []
    if config.target == "given":
        given = [e for n, g in enumerate(groups) if g.preferences for e in demonstrated(g, n, context)]
    has_given = {e.group for e in given}
    examples = [
        replace(e, value={**e.value, "target": 0.0 if e.group in has_given else e.value["chosen"]})
        for e in batch.examples
    ]
    return replace(batch, examples=(*examples, *given))


def demonstrated(group: sources.LoopGroup, number: int, context: sources.Context) -> list[Example]:
    """The group's demonstrations, or the prompt's reference answer, as rows that share the weight of its pairs."""
    weight = float(layouts.wins(group).sum())
    if group.demonstrations:
        share = weight / len(group.demonstrations)
        return [layouts.example(group, k, number, target=share) for k in sorted(group.demonstrations)]
    if not group.prompt.reference:
        return []
    chat = context.policy.chat
    row = chat.example(group.prompt.messages, group.prompt.reference)
    ids, mask = chat.truncate(*row, context.max_length)
    return [Example(ids, mask, number, value={"target": weight})] if any(mask) else []


def rank_loss(outputs: Outputs, batch: Tensors, config: Any):
    """max(0, δ - S_w + S_l) ``[P]``; rewards are S, as there is no reference."""
    sums_N = terms.sequence(outputs.logp_N_T)
    margin_P = terms.margins(sums_N, batch.pairs_P_2)
    return terms.hinge(margin_P, batch.p_P, config.delta), terms.watched(sums_N, sums_N, batch.pairs_P_2)


def target_nll(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``; rows count as often as they are the target."""
    return terms.nll(outputs.logp_N_T), {}


TERMS = (
    Term("rank", rank_loss, "pair_mean"),
    Term(
        "target",
        target_nll,
        "seq_sum",
        rows="target",
        weight=lambda config: config.reg_coef,
        active=lambda config: config.reg_coef > 0,
    ),
)

METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layout,
    terms=TERMS,
    score="sum",
    defaults={"learning_rate": 1e-5},
)
