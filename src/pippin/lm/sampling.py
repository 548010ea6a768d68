"""Drawing token ids from a causal language model with a key-value cache.

What a row gets depends on its prompt and its seed only, not on the batch it shares (up to float rounding in the model):
every row has its own stream of uniform numbers, and a token is drawn by inverting the cumulative distribution in
float64.

Rows are sorted by prompt length and padded on the left. Equal prompts of a batch go through the model once and share
what was computed. Rows that have ended leave the batch as soon as a quarter of it is done.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import DynamicCache

from pippin.core.errors import InputError
from pippin.lm.forward import positions
from pippin.lm.threads import one_thread_if_small

COMPACT_AT = 0.25  # share of finished rows at which they are taken out of the batch


class Draw(NamedTuple):
    """One drawn continuation: its ids, with the token(s) that ended it, and whether it ended by itself."""

    ids: list[int]
    ended: bool


class _Rule(NamedTuple):
    """How tokens are chosen and when a row ends."""

    temperature: float
    top_p: float
    banned: torch.Tensor | None
    end_ids: torch.Tensor
    end_marker: torch.Tensor | None
    max_tokens: int
    context: int  # the model's context length, 0 where it states none
    pad_id: int
    device: torch.device


@torch.inference_mode()
def sample(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    end_ids: Sequence[int],
    end_marker: Sequence[int] = (),
    seeds: Sequence[int],
    banned: Sequence[int] = (),
    batch_size: int = 256,
    pad_id: int,
) -> list[Draw]:
    """One continuation of each prompt, in the order of the prompts.

    Args:
        max_tokens: most tokens drawn per row. A row also stops where the model's context is full.
        temperature: 0 takes the most likely token, the first of equals.
        top_p: the smallest set of most likely tokens with at least this probability; the draw is from that set.
        end_ids: ids that end a row, each by itself.
        end_marker: several ids that together end a row.
        seeds: one per row; the row's t-th token uses the t-th number of ``numpy.random.default_rng(seed)``.
        banned: ids that are never drawn.

    Raises:
        InputError: a prompt is empty or leaves no room in the model's context; lengths or ranges are wrong.
    """
    context = _check(model, prompts, seeds, max_tokens, temperature, top_p)
    device = next(model.parameters()).device

    def ids(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=device)

    rule = _Rule(
        temperature, top_p, ids(sorted(set(banned))) if banned else None, ids(sorted(set(end_ids))),
        ids(end_marker) if len(end_marker) > 1 else None, max_tokens, context, pad_id, device,
    )  # fmt: skip
    training = model.training
    model.eval()
    draws: dict[int, Draw] = {}
    # longest first: what does not fit into memory shows at once
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i])))
    try:
        with one_thread_if_small(model):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                uniform = None if temperature == 0 else _uniforms([seeds[i] for i in rows], max_tokens, device)
                batch = _draw_batch(model, [tuple(prompts[i]) for i in rows], uniform, rule)
                draws.update(zip(rows, batch, strict=True))
    finally:
        model.train(training)
    return [draws[i] for i in range(len(prompts))]


def choose(
    logits_N_V: torch.Tensor, uniform_N: torch.Tensor | None, temperature: float, top_p: float = 1.0
) -> torch.Tensor:
    """``token_N``: the most likely token (temperature 0), else where the cumulative distribution passes u.

    In float64 and in the order of the vocabulary, so that one uniform number means one token whatever the batch.
    """
    if temperature == 0 or uniform_N is None:
        return logits_N_V.argmax(-1)
    p_N_V = (logits_N_V.double() / temperature).softmax(-1)
    if top_p < 1:
        p_N_V = p_N_V.masked_fill(~nucleus(p_N_V, top_p), 0.0)
    cdf_N_V = p_N_V.cumsum(-1)
    total_N = cdf_N_V[:, -1]
    # u * total may round up to total; the largest number below it still picks a token that has probability
    at_N = torch.minimum(uniform_N * total_N, torch.nextafter(total_N, torch.zeros_like(total_N)))
    return torch.searchsorted(cdf_N_V, at_N[:, None], right=True).squeeze(-1)


def nucleus(p_N_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Mask of the smallest set of most likely tokens whose probabilities sum to at least ``top_p``; never empty.

    Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, section 3.1.
    """
    sorted_N_V, index_N_V = p_N_V.sort(dim=-1, descending=True, stable=True)
    before_N_V = sorted_N_V.cumsum(-1) - sorted_N_V
    return torch.zeros_like(p_N_V, dtype=torch.bool).scatter_(-1, index_N_V, before_N_V < top_p)


def _draw_batch(
    model: torch.nn.Module, prompts: list[tuple[int, ...]], uniform_N_T: torch.Tensor | None, rule: _Rule
) -> list[Draw]:
    """Continuations of prompts that are sorted by length, longest first."""
    n, width = len(prompts), len(prompts[0])
    step = _Step(model)
    logits_n_V, attention = _read_prompts(step, prompts, rule)
    at_n = torch.tensor([len(p) for p in prompts], device=rule.device)  # position of the next token
    room_n = torch.full_like(at_n, rule.max_tokens)
    if rule.context:
        room_n = torch.minimum(room_n, rule.context - at_n)
    steps = int(room_n.max())
    tokens_N_T = torch.full((n, steps), rule.pad_id, device=rule.device)
    length_N = torch.zeros(n, dtype=torch.long, device=rule.device)
    ended_N = torch.zeros(n, dtype=torch.bool, device=rule.device)
    here_n = torch.arange(n, device=rule.device)  # which row each row of the cache is; N rows at first, n of them left
    alive_n = torch.ones(n, dtype=torch.bool, device=rule.device)
    attention = torch.cat([attention, attention.new_ones(n, steps)], -1)
    for t in range(steps):
        if rule.banned is not None:
            logits_n_V[:, rule.banned] = -torch.inf
        uniform_n = None if uniform_N_T is None else uniform_N_T[here_n, t]
        token_n = choose(logits_n_V, uniform_n, rule.temperature, rule.top_p)
        tokens_N_T[here_n, t] = token_n
        ended_n = alive_n & _ends(tokens_N_T[here_n, : t + 1], rule)
        over_n = alive_n & (ended_n | (room_n <= t + 1))
        if bool(over_n.any()):
            length_N[here_n[over_n]] = t + 1
            ended_N[here_n[ended_n]] = True
            alive_n = alive_n & ~over_n
        left = int(alive_n.sum())
        if left == 0:
            break
        if left <= (1 - COMPACT_AT) * len(here_n):
            keep = alive_n.nonzero().squeeze(-1)
            step.cache.batch_select_indices(keep)
            here_n, alive_n, token_n, room_n = here_n[keep], alive_n[keep], token_n[keep], room_n[keep]
            attention, at_n = attention[keep], at_n[keep]
        logits_n_V = step(token_n[:, None], attention[:, : width + t + 1], at_n[:, None])
        at_n = (at_n + 1).clamp(max=rule.context - 1) if rule.context else at_n + 1  # rows that are over wait in place
    rows, lengths, ended = tokens_N_T.tolist(), length_N.tolist(), ended_N.tolist()
    return [Draw(row[:k], e) for row, k, e in zip(rows, lengths, ended, strict=True)]


def _ends(tokens_n_T: torch.Tensor, rule: _Rule) -> torch.Tensor:
    """Which rows of drawn tokens have just ended."""
    ended_n = torch.isin(tokens_n_T[:, -1], rule.end_ids)
    if rule.end_marker is None or tokens_n_T.shape[1] < len(rule.end_marker):
        return ended_n
    return ended_n | (tokens_n_T[:, -len(rule.end_marker) :] == rule.end_marker).all(-1)


def _read_prompts(step: _Step, prompts: list[tuple[int, ...]], rule: _Rule) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits after each prompt and the prompts' attention; equal prompts (neighbours in this order) are read once."""
    unique = list(dict.fromkeys(prompts))
    width = len(prompts[0])
    ids = torch.tensor([[rule.pad_id] * (width - len(p)) + list(p) for p in unique], device=rule.device)
    lengths = torch.tensor([len(p) for p in unique], device=rule.device)
    attention = (torch.arange(width, device=rule.device) >= width - lengths[:, None]).long()
    logits = step(ids, attention, positions(attention))
    if len(unique) == len(prompts):
        return logits, attention
    place = {p: i for i, p in enumerate(unique)}
    index = torch.tensor([place[p] for p in prompts], device=rule.device)
    step.cache.batch_select_indices(index)
    return logits[index], attention[index]


class _Step:
    """One forward pass with a cache; gives the logits after the last column."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config)
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter's takes anything
        names = inspect.signature(inner.forward).parameters
        # transformers 5.24 calls the argument ``cache``; earlier ones know its old name only
        argument = "cache" if "cache" in names else "past_key_values"
        self.options: dict[str, Any] = {argument: self.cache, "use_cache": True}
        if "logits_to_keep" in names:
            self.options["logits_to_keep"] = 1

    def __call__(self, ids: torch.Tensor, attention: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        out = self.model(input_ids=ids, attention_mask=attention, position_ids=position_ids, **self.options)
        return out.logits[:, -1].float()


def _uniforms(seeds: Sequence[int], count: int, device: torch.device) -> torch.Tensor:
    """``uniform_N_T`` in [0, 1), float64, one stream per row."""
    return torch.from_numpy(np.stack([np.random.default_rng(seed).random(count) for seed in seeds])).to(device)


def _check(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    max_tokens: int,
    temperature: float,
    top_p: float,
) -> int:
    """The model's context length (0 where it states none)."""
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if len(seeds) != len(prompts):
        raise InputError("one seed per prompt", found=len(seeds), expected=len(prompts))
    if max_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise InputError(
            "sampling out of range", found={"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p},
            expected="max_tokens >= 1, temperature >= 0, 0 < top_p <= 1",
        )  # fmt: skip
    for i, prompt in enumerate(prompts):
        if not prompt or (limit and len(prompt) >= limit):
            raise InputError(
                "a prompt must have at least one token and leave room for an answer", where=f"prompt {i}",
                found=f"{len(prompt)} tokens", expected=f"fewer than {limit}" if limit else "at least 1",
                mend="Shorten the prompt or take a model with a longer context",
            )  # fmt: skip
    return limit
