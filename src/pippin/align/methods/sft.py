"""Supervised fine-tuning: maximum likelihood of given responses.

Source: Ouyang et al. 2022 (arXiv 2203.02155), section 3.5; Wei et al. 2022 (arXiv 2109.01652)

L = Σ_batch Σ_t m_t (-log π_θ(y_t | x, y_<t)) / Σ_batch Σ_t m_t, over the whole optimiser batch (reduction ``token``);
the mask is 1 on the response and its end token. ``seq_sum`` is the mean over rows of the sum, ``seq_mean`` of the mean
over tokens. On wish the prompt's tokens are trained too, or every assistant turn of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, Term
from pippin.align.shapes import Batch, Tensors
from pippin.core.config import setting
from pippin.core.errors import InputError


@dataclass(frozen=True)
class Config:
    """SFT's own fields."""

    reduction: Literal["token", "seq_sum", "seq_mean"] = setting(
        "token", "mean over all tokens of the batch; over rows of the sum over tokens; over rows of the mean over them"
    )
    train_on_prompt: bool = setting(False, "the loss counts the prompt's tokens too")
    assistant_only_loss: bool = setting(False, "every assistant turn of a conversation is trained, not only the last")

    def __post_init__(self) -> None:
        if self.train_on_prompt and self.assistant_only_loss:
            raise InputError(
                "train_on_prompt trains every token", mend="Set one of train_on_prompt, assistant_only_loss"
            )


def read(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """The demonstrations."""
    return sources.read(context, groups, every_turn=context.config.assistant_only_loss)


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """One example per response; with ``train_on_prompt`` its mask is 1 on all that has a token before it."""
    batch = layouts.rows(groups, config, context)
    if not config.train_on_prompt:
        return batch
    return replace(batch, examples=tuple(replace(e, mask=[0] + [1] * (len(e.ids) - 1)) for e in batch.examples))


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Token negative log-likelihood ``[N, T]``."""
    nll = terms.nll(outputs.logp_N_T)
    return nll, {"nll": nll[batch.mask_N_T]}


METHOD = Method(
    config=Config,
    reads="demonstrations",
    pipeline=(read,),
    layout=layout,
    terms=(Term("nll", loss, lambda config: config.reduction),),
    score="mean",
    defaults={"learning_rate": 2e-5},
)
