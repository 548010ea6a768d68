"""Chain of Hindsight: both responses of a pair in one sequence, each after words that say how good it is.

Source: Liu et al. 2023 (arXiv 2302.02676), section 3

From each pair up to four sequences: ``p`` = x m⁺ y_w, ``n`` = x m⁻ y_l, ``pn`` = x m⁺ y_w m⁻ y_l, ``np`` =
x m⁻ y_l m⁺ y_w. The mask is 1 on the answers and their end tokens, 0 on prompt and markers. L = the mean over rows of
the mean token loss, plus ``pt_loss_weight`` times the same on demonstrations: groups without a pair, in a stream of
their own. Ties are skipped. The policy answers after the positive marker. The published code's random masking of past
tokens, off in its defaults, is not part of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, State, Term
from pippin.align.shapes import Batch, Example, Tensors
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.lm.chat import Chat

STREAM = "pretrain"


@dataclass(frozen=True)
class Config:
    """Chain of Hindsight's own fields."""

    templates: tuple[Literal["p", "n", "pn", "np"], ...] = setting(
        ("p", "n", "pn", "np"), "sequences made of each pair: p the chosen, n the rejected, in this order"
    )
    positive_marker: str = setting("A helpful answer:", "stands before a chosen response; the policy's prefix")
    negative_marker: str = setting("An unhelpful answer:", "stands before a rejected response")
    pt_loss_weight: float = setting(0.01, "weight of the loss on demonstrations, where the data have any; 0: off")


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """A row per pair and template, and the demonstrations."""
    limit, examples = context.max_length, []
    for number, group in enumerate(groups):
        marked = markers(group, config, context.policy.chat)
        for w, l, weight in pairs(group):
            for template in config.templates:
                parts = [(marked[side], w if side == "p" else l) for side in template]
                row = chain(group, number, parts, limit)
                if any(row.mask):
                    examples.append(replace(row, value={"hindsight": weight}))
        if not group.preferences and config.pt_loss_weight > 0:
            shown = [layouts.example(group, k, number, pretrain=1.0) for k in sorted(group.demonstrations)]
            examples += [replace(e, stream=STREAM) for e in shown]
    return Batch(tuple(examples))


def markers(group: sources.LoopGroup, config: Any, chat: Chat) -> dict[str, list[int]]:
    """Ids of the markers after the opening of the assistant's turn.

    Raises:
        InputError: the tokenizer cannot tell them apart.
    """
    opening = len(chat.prompt_ids(group.prompt.messages))
    texts = {"p": config.positive_marker, "n": config.negative_marker}
    ids = {side: chat.prompt_ids(group.prompt.messages, text)[opening:] for side, text in texts.items()}
    if len({side for template in config.templates for side in template}) > 1 and ids["p"] == ids["n"]:
        raise InputError(
            "the markers are the same tokens to this tokenizer", found=list(texts.values()),
            mend="Give positive_marker and negative_marker in words that it knows",
        )  # fmt: skip
    return ids


def pairs(group: sources.LoopGroup) -> Iterator[tuple[int, int, float]]:
    """Rows of the chosen and the rejected, and weight, of each pair that is no tie."""
    for preference in group.preferences:
        if preference.probability != 0.5:
            first = preference.probability > 0.5
            w, l = (preference.i, preference.j) if first else (preference.j, preference.i)
            yield w, l, preference.weight


def chain(group: sources.LoopGroup, number: int, parts: Sequence[tuple[list[int], int]], limit: int) -> Example:
    """The prompt, then each marker with its answer; cut on the right."""
    ids = list(group.prompt_ids)
    mask = [0] * len(ids)
    for marker, row in parts:
        answer = layouts.example(group, row, number)
        start = len(group.prompt_ids)
        ids += [*marker, *answer.ids[start:]]
        mask += [*[0] * len(marker), *answer.mask[start:]]
    return Example(ids[:limit], mask[:limit], number)


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``."""
    nll = terms.nll(outputs.logp_N_T)
    return nll, {"nll": nll[batch.mask_N_T]}


def decoding(config: Any, state: State) -> Mapping[str, Any]:
    """The policy answers after the positive marker."""
    return {"prefix": config.positive_marker}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    layout=layout,
    terms=(
        Term("hindsight", loss, "seq_mean", rows="hindsight"),
        Term(
            "pretrain",
            lambda outputs, batch, config: (terms.nll(outputs.logp_N_T), {}),
            "seq_mean",
            rows="pretrain",
            weight=lambda config: config.pt_loss_weight,
            active=lambda config: config.pt_loss_weight > 0,
        ),
    ),
    decoding=decoding,
    score="mean",
    defaults={"learning_rate": 2e-5},
)
