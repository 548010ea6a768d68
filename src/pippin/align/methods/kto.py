"""KTO: single responses called desirable or undesirable, valued as people value gains and losses.

Source: Ethayarajh et al. 2024 (arXiv 2402.01306), eq. 7-8

u = S_θ(y|x) - S_ref(y|x), sums over response tokens;  L = E[λ_D (1 - σ(β (u - z)))] over desirable and
E[λ_U (1 - σ(β (z - u)))] over undesirable responses. The reference point z is max(0, mean of u over mismatched rows)
and carries no gradient: prompt x_i with the response to the prompt before it in the data, an estimate of KL(π || π_ref)
over the optimiser batch. No pairs are needed: labels are scores of the criterion ``label`` (1 or 0); where there are
none the better response of a pair is desirable and the worse one is not, and ties say nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pippin.align import layouts, sources, terms
from pippin.align.judged import LABEL
from pippin.align.method import Method, Outputs, Term
from pippin.align.networks import Networks
from pippin.align.shapes import Batch, Example, Tensors, collate
from pippin.core.config import setting
from pippin.core.errors import InputError

ROWS = 64  # mismatched rows of one pass


@dataclass(frozen=True)
class Config:
    """KTO's own fields, named as in TRL."""

    beta: float = setting(0.1, "strength of the pull to the reference; the implicit reward is beta * log-ratio")
    desirable_weight: float = setting(1.0, "λ_D; keep λ_D n_D / (λ_U n_U) between 1 and 4/3")
    undesirable_weight: float = setting(1.0, "λ_U")


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """Labelled responses, and beside each a row of weight 0 that answers its prompt with another prompt's response."""
    labelled = [(n, list(labels(g))) for n, g in enumerate(groups)]
    labelled = [(n, rows) for n, rows in labelled if rows]
    if not labelled:
        raise InputError(
            "no response is labelled", expected=f"scores of criterion {LABEL!r}, 1 or 0, or preferences",
            mend="Give rows with prompt, completion and label",
        )  # fmt: skip
    examples: list[Example] = []
    for k, (number, rows) in enumerate(labelled):
        other, others = labelled[k - 1]  # the prompt before; the last one before the first
        for i, (row, desirable, weight) in enumerate(rows):
            real = layouts.example(groups[number], row, number, desirable=desirable)
            examples.append(replace(real, weight=weight))
            strange = layouts.example(groups[other], others[i % len(others)][0], number, mismatched=weight)
            before, after = list(groups[number].prompt_ids), len(groups[other].prompt_ids)
            ids, mask = context.policy.chat.truncate(
                before + list(strange.ids[after:]), [0] * len(before) + list(strange.mask[after:]),
                context.max_length,
            )  # fmt: skip
            if other != number and any(mask):
                examples.append(replace(strange, ids=ids, mask=mask, weight=0.0))
    return Batch(tuple(examples))


def labels(group: sources.LoopGroup) -> Iterator[tuple[int, float, float]]:
    """Row, 1 or 0, and weight of each labelled response."""
    if LABEL in group.stated:
        for row, label in enumerate(group.stated[LABEL]):
            if not np.isnan(label) and label != 0.5:
                yield row, float(label > 0.5), 1.0
        return
    weights: dict[tuple[int, float], float] = defaultdict(float)
    for preference in group.preferences:
        if preference.probability != 0.5:
            first = float(preference.probability > 0.5)
            weights[preference.i, first] += preference.weight
            weights[preference.j, 1 - first] += preference.weight
    for (row, label), weight in sorted(weights.items()):
        yield row, label, weight


def couple(networks: Networks, batch: Batch, config: Any) -> Mapping[str, float]:
    """z, over the mismatched rows of the whole optimiser batch under the current policy."""
    rows = sorted((e for e in batch.examples if e.value.get("mismatched")), key=lambda e: (len(e.ids), tuple(e.ids)))
    total = 0.0
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        tensors = collate(Batch(tuple(part)), networks.policy.chat.pad_id)
        known = all("logp_ref" in e.token for e in part)
        reference_N_T = tensors.token["logp_ref"] if known else networks.note(tensors, "logp_ref")
        gain_N = terms.sequence(networks.note(tensors, "logp_old") - reference_N_T)
        total += float((gain_N * tensors.value["mismatched"]).sum())
    return {"z": max(0.0, total / sum(e.value["mismatched"] for e in rows)) if rows else 0.0}


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """The KTO loss ``[N]``, and TRL's metrics over desirable (chosen) and undesirable (rejected) responses."""
    sums_N = terms.sequence(outputs.logp_N_T)
    gain_N = sums_N - terms.sequence(batch.token["logp_ref"])
    desirable_N, z = batch.value["desirable"], batch.coupled["z"]
    class_N = config.desirable_weight * desirable_N + config.undesirable_weight * (1 - desirable_N)
    metrics = {"kl": gain_N.new_tensor([z])}
    for name, said in (("chosen", 1.0), ("rejected", 0.0)):
        rows = (batch.weight_N > 0) & (desirable_N == said)
        if rows.any():
            metrics |= {f"rewards/{name}": config.beta * gain_N[rows], f"logps/{name}": sums_N[rows]}
    return class_N * terms.kto(gain_N, desirable_N, z, config.beta), metrics


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    parts=lambda config: frozenset({"reference"}),
    layout=layout,
    annotate=lambda config: ("logp_ref",),
    couple=couple,
    terms=(Term("kto", loss, "seq"),),
    score="sum",
    defaults={"learning_rate": 1e-6},
)
