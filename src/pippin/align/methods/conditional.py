"""Conditional training: a control token says whether a response is good; the policy answers after the good one.

Source: Korbak et al. 2023 (arXiv 2302.08582), section 2; binary classes as in AlpacaFarm, Dubois et al. 2023 (arXiv
  2305.14387); objectives beside it: unlikelihood, Welleck et al. 2020 (arXiv 1908.04319); AWR, Peng et al. 2019 (arXiv
  1910.00177), reward-weighted regression with V = 0

Each response follows the token of its class, right after the opening of the assistant's turn; with probability
``drop_token_fraction`` it follows none. The token is conditioned on, never trained. L is SFT's token mean. Classes: a
score of at least ``threshold`` is good (``threshold``), or the chosen of a pair is good and the rejected is not
(``binary``). The recipe answers after the good token and bans both.

``objective`` takes the paper's other uses of the same scores, without tokens: filtering (good responses only),
unlikelihood -a log p - α (1-a) log(1-p), rwr and awr: token losses weighted by min(exp(A/β), 1000), A = r or r - V(s_t)
with (1-α) of a squared value error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pippin.align import layouts, sources, terms
from pippin.align.method import Method, Outputs, State, Term
from pippin.align.shapes import Batch, Example, Tensors
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import digest


@dataclass(frozen=True)
class Config:
    """Conditional training's own fields, named as in its code where it names them."""

    objective: Literal["conditional", "filtering", "unlikelihood", "awr", "rwr"] = setting(
        "conditional", "what is made of the scores: control tokens, or an objective beside them"
    )
    classes: Literal["threshold", "binary"] = setting("threshold", "good: by score, or the chosen of each pair")
    threshold: float | None = setting(None, "lowest score of a good response; none: the median of the data")
    drop_token_fraction: float = setting(0.01, "share of responses without a control token")
    good_token: str = setting("<|aligned|>", "control token of good responses")
    bad_token: str = setting("<|misaligned|>", "control token of the others")
    unlikelihood_alpha: float = setting(1.0, "weight of unlikelihood on the responses that are not good")
    awr_alpha: float = setting(0.5, "awr: weight of the token loss; the value error has the rest")
    awr_beta: float = setting(10.0, "awr and rwr: temperature of the weights, in units of the score")


def tokens(config: Any) -> tuple[str, ...]:
    """The two control tokens, where the objective has them."""
    return (config.good_token, config.bad_token) if config.objective == "conditional" else ()


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """Classified responses, each after its control token where the objective has them."""
    examples = []
    for number, row, good, score, weight in classified(groups, config):
        if config.objective == "filtering" and not good:
            continue
        example = replace(layouts.example(groups[number], row, number, good=good, score=score), weight=weight)
        if config.objective == "conditional" and not dropped(example, config, context):
            token = config.good_token if good else config.bad_token
            example = after(example, len(groups[number].prompt_ids), context.control[token], context)
        if any(example.mask):
            examples.append(example)
    return Batch(tuple(examples))


def classified(groups: Sequence[sources.LoopGroup], config: Any) -> Iterator[tuple[int, int, float, float, float]]:
    """Group, row, 1 or 0 for good, score and weight of every response that has a class.

    Raises:
        InputError: no response has one.
    """
    if config.classes == "binary":
        sides = [(n, p) for n, g in enumerate(groups) for p in g.preferences if p.probability != 0.5]
        for number, p in sides:
            first = float(p.probability > 0.5)
            yield number, p.i, first, first, p.weight
            yield number, p.j, 1 - first, 1 - first, p.weight
        found = bool(sides)
    else:
        rows = [(n, k, float(v)) for n, g in enumerate(groups) for k, v in enumerate(layouts.numbers(g))]
        rows = [row for row in rows if not np.isnan(row[2])]
        values = [v for _, _, v in rows]
        least = float(np.median(values)) if config.threshold is None and rows else config.threshold or 0.0
        for number, row, value in rows:
            yield number, row, float(value >= least), value, 1.0
        found = bool(rows)
    if not found:
        raise InputError(
            f"conditional classifies by {config.classes}, and no response has a class",
            expected="preferences" if config.classes == "binary" else "scores",
            mend="Let a judge score the responses, or set classes to binary where there are pairs",
        )


def dropped(example: Example, config: Any, context: sources.Context) -> bool:
    """Whether this response stands without a token: a draw that depends on the seed and the row alone."""
    seed = int(digest([context.seed, "drop", list(example.ids), example.value["good"]]), 16)
    return bool(np.random.default_rng(seed).random() < config.drop_token_fraction)


def after(example: Example, opening: int, token: int, context: sources.Context) -> Example:
    """The response after a control token, which stands right before it and is not trained."""
    ids = [*example.ids[:opening], token, *example.ids[opening:]]
    mask = [*example.mask[:opening], 0, *example.mask[opening:]]
    ids, mask = context.policy.chat.truncate(ids, mask, context.max_length)
    return replace(example, ids=ids, mask=mask)


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """Token losses ``[N, T]`` of the objective; ``nll`` of good responses and of the others are logged."""
    good_N, nll_N_T = batch.value["good"], terms.nll(outputs.logp_N_T)
    metrics = {"nll": nll_N_T[batch.mask_N_T]}
    for name, rows in (("good", good_N > 0), ("bad", good_N == 0)):
        if rows.any():
            metrics[f"nll/{name}"] = nll_N_T[batch.mask_N_T & rows[:, None]]
    if config.objective == "unlikelihood":
        return terms.unlikelihood(outputs.logp_N_T, good_N, config.unlikelihood_alpha), metrics
    if config.objective in ("awr", "rwr"):
        score_N_1 = batch.value["score"][:, None]
        advantage = score_N_1 - outputs.values_N_T.detach() if config.objective == "awr" else score_N_1
        return terms.advantage_weight(advantage, config.awr_beta) * nll_N_T, metrics
    return nll_N_T, metrics


def value_loss(outputs: Outputs, batch: Tensors, config: Any):
    """(V(s_t) - r)² ``[N, T]``."""
    return (outputs.values_N_T - batch.value["score"][:, None]) ** 2, {}


def decoding(config: Any, state: State) -> Mapping[str, Any]:
    """The policy answers after the good token, and draws neither."""
    if config.objective != "conditional":
        return {}
    return {"prefix": config.good_token, "banned": (config.good_token, config.bad_token)}


METHOD = Method(
    config=Config,
    reads="preferences",
    pipeline=(sources.read,),
    parts=lambda config: frozenset({"critic"} if config.objective == "awr" else ()),
    tokens=tokens,
    layout=layout,
    terms=(
        Term("nll", loss, "token", weight=lambda config: config.awr_alpha if config.objective == "awr" else 1.0),
        Term(
            "value",
            value_loss,
            "token",
            frozenset({"values"}),
            weight=lambda config: 1 - config.awr_alpha,
            active=lambda config: config.objective == "awr",
        ),
    ),
    decoding=decoding,
    score="mean",
    defaults={"learning_rate": 2e-5},
)
