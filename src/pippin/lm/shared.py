"""Several continuations of one prompt in one row: the prompt is read once.

A row is the prompt and its continuations one after another. The attention mask lets every continuation see the prompt
and itself; its position ids go on from the prompt. So each token is computed from what it would be computed from in a
row of its own, where the model takes a mask of its own for every pair of tokens. Whether a model does is tried once, on
a small row: a model with another idea of attention (a recurrence, a window of its own) gets one row per continuation.

Shapes: N rows, T tokens, P continuation tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from pippin.lm import forward

_exact: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()
_CLOSE = 1e-3  # nats, by which the two ways may differ in float32; another attention differs by far more
_WORTH = 0.9  # share of the tokens (padding counted) at which rows are put together


def continuation_logps(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[Sequence[int]]]
) -> list[list[torch.Tensor]]:
    """For each prompt the log-probabilities of the tokens of each of its continuations, float32, with gradients.

    Args:
        prompts: token ids, at least one each.
        continuations: for each prompt its continuations, at least one token each.
    """
    rows = [_Row(list(p), [list(c) for c in several]) for p, several in zip(prompts, continuations, strict=True)]
    device = next(model.parameters()).device
    width = max(len(row.ids) for row in rows)
    ids, place = (torch.zeros(len(rows), width, dtype=torch.long, device=device) for _ in range(2))
    sees = torch.eye(width, dtype=torch.bool, device=device).repeat(len(rows), 1, 1)  # a pad sees itself
    n_P, from_P, targets = [], [], []
    for n, row in enumerate(rows):
        length = len(row.ids)
        ids[n, :length] = torch.tensor(row.ids, device=device)
        place[n, :length] = torch.tensor(row.places, device=device)
        sees[n, :length, :length] = row.sees().to(device)
        n_P += [n] * len(row.sources)
        from_P += row.sources
        targets += [token for several in row.continuations for token in several]
    at_N, at_T = (torch.tensor(values, device=device) for values in (n_P, from_P))
    mask = _as_model_takes_it(model, sees)
    found = forward._rows(model, ids, mask, at_N, at_T, 1.0, place_N_T=place)
    target_P = torch.tensor(targets, device=device)

    def of_chunk(start: int, stop: int) -> torch.Tensor:
        logits = found.logits(start, stop)
        return (logits.gather(-1, target_P[start:stop, None]).squeeze(-1) - logits.logsumexp(-1))[None]

    logp_P = forward._over_chunks(of_chunk, len(targets), found.chunk)[0]
    sizes = [len(c) for row in rows for c in row.continuations]
    parts = iter(logp_P.split(sizes))
    return [[next(parts) for _ in row.continuations] for row in rows]


def shares_prompts(model: torch.nn.Module) -> bool:
    """Whether :func:`continuation_logps` gives what rows of their own would; tried once for each model."""
    if model not in _exact:
        _exact[model] = _try(model)
    return _exact[model]


def response_logps(
    model: torch.nn.Module, ids_N_T: torch.Tensor, attention_N_T: torch.Tensor, mask_N_T: torch.Tensor
) -> torch.Tensor:
    """As :func:`pippin.lm.forward.response_logps`, where rows that begin alike are read together.

    What rows have in common is what stands before their first wanted token. They go through the model one by one where
    the model cannot share, or where that makes no fewer tokens.
    """
    groups = _together(ids_N_T, attention_N_T, mask_N_T)
    width = max((len(prompt) + sum(len(row.columns) for row in rows) for prompt, rows in groups.items()), default=0)
    pays = 0 < len(groups) * width <= _WORTH * ids_N_T.numel()
    if not pays or not all(groups) or not _within_window(model, width) or not shares_prompts(model):
        return forward.response_logps(model, ids_N_T, attention_N_T, mask_N_T)
    told = continuation_logps(
        model, [*groups], [[ids_N_T[row.number, row.columns].tolist() for row in rows] for rows in groups.values()]
    )
    parts, n_P, t_P = [], [], []
    for rows, several in zip(groups.values(), told, strict=True):
        for row, logps in zip(rows, several, strict=True):
            wanted = mask_N_T[row.number, row.columns].bool()
            columns = row.columns[wanted]
            parts.append(logps[wanted.to(logps.device)])
            n_P.append(torch.full_like(columns, row.number))
            t_P.append(columns)
    logp_P = torch.cat(parts)
    where = (torch.cat(n_P).to(logp_P.device), torch.cat(t_P).to(logp_P.device))
    return logp_P.new_zeros(ids_N_T.shape).index_put(where, logp_P)


def shared_size(rows: Sequence[tuple[Sequence[int], int]]) -> tuple[int, int]:
    """How many rows these (ids, tokens before the first wanted one) become when shared, and the longest of them."""
    lengths: dict[tuple[int, ...], int] = {}
    for ids, before in rows:
        prompt = tuple(ids[:before])
        lengths[prompt] = lengths.get(prompt, before) + len(ids) - before
    return len(lengths), max(lengths.values(), default=0)


class _Member(NamedTuple):
    """One row of a batch: its number, and the columns from its first wanted token to its last."""

    number: int
    columns: torch.Tensor


def _together(
    ids_N_T: torch.Tensor, attention_N_T: torch.Tensor, mask_N_T: torch.Tensor
) -> dict[tuple[int, ...], list[_Member]]:
    """Rows with a wanted token, by what stands before the first one."""
    groups: dict[tuple[int, ...], list[_Member]] = {}
    for n in range(len(ids_N_T)):
        wanted = mask_N_T[n].nonzero()[:, 0]
        if not len(wanted):
            continue
        seen = attention_N_T[n].nonzero()[:, 0]
        prompt = tuple(ids_N_T[n, seen[seen < wanted[0]]].tolist())
        columns = seen[(seen >= wanted[0]) & (seen <= wanted[-1])]
        groups.setdefault(prompt, []).append(_Member(n, columns))
    return groups


def _within_window(model: Any, width: int) -> bool:
    """Whether a row is no longer than what the model's attention reaches back; a mask of its own forgets that limit."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return window is None or width <= window


class _Row:
    """One prompt with its continuations."""

    def __init__(self, prompt: list[int], continuations: list[list[int]]) -> None:
        self.prompt, self.continuations = prompt, continuations
        self.ids, self.places, self.sources = list(prompt), list(range(len(prompt))), list[int]()
        for several in continuations:
            start = len(self.ids)
            self.ids += several
            self.places += range(len(prompt), len(prompt) + len(several))
            # the first token is foretold at the prompt's end, the others at the token before
            self.sources += [len(prompt) - 1, *range(start, start + len(several) - 1)]

    def sees(self) -> torch.Tensor:
        """Which token sees which, ``[T, T]``."""
        total, before = len(self.ids), len(self.prompt)
        owner = torch.zeros(total, dtype=torch.long)
        start = before
        for k, several in enumerate(self.continuations, 1):
            owner[start : start + len(several)] = k
            start += len(several)
        earlier = torch.ones(total, total, dtype=torch.bool).tril()
        return earlier & ((owner[None, :] == 0) | (owner[None, :] == owner[:, None]))


def _as_model_takes_it(model: torch.nn.Module, sees_N_T_T: torch.Tensor) -> torch.Tensor:
    """0 where a token is seen and the lowest number where it is not, ``[N, 1, T, T]``, in the model's precision."""
    dtype = next(model.parameters()).dtype
    hidden = torch.zeros(sees_N_T_T.shape, dtype=dtype, device=sees_N_T_T.device)
    return hidden.masked_fill(~sees_N_T_T, torch.finfo(dtype).min)[:, None]


@torch.inference_mode()
def _try(model: Any) -> bool:
    vocabulary = int(model.config.get_text_config().vocab_size)
    drawn = torch.randint(0, vocabulary, (2, 12), generator=torch.Generator().manual_seed(0)).tolist()
    prompts, continuations = [drawn[0][:5], drawn[1][:3]], [[drawn[0][5:8], drawn[0][8:9]], [drawn[1][3:7]]]
    try:
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            return _same(model, prompts, continuations)
    except (RuntimeError, ValueError, TypeError, IndexError):  # the model refuses such a mask
        return False


def _same(model: Any, prompts: list[list[int]], continuations: list[list[list[int]]]) -> bool:
    together = continuation_logps(model, prompts, continuations)
    for prompt, several, found in zip(prompts, continuations, together, strict=True):
        for continuation, logps in zip(several, found, strict=True):
            ids, attention = forward.pad([[*prompt, *continuation]], 0)
            wanted = torch.zeros_like(ids)
            wanted[0, len(prompt) :] = 1
            alone = forward.response_logps(model, ids, attention, wanted)[0, len(prompt) :]
            limit = _CLOSE if logps.dtype == next(model.parameters()).dtype else 0.1
            if not torch.allclose(alone, logps, atol=limit):
                return False
    return True
