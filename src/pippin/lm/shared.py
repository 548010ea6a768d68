"""Several continuations of one prompt in one row: the prompt is read once.

A row is the prompt and its continuations one after another. Every continuation sees the prompt and itself; its position
ids go on from the prompt. So each token is computed from what it would be computed from in a row of its own. This is
said in pieces where the model takes them (:mod:`flat`), and all rows become one; else by an attention mask for every
pair of tokens. Whether a model takes such a mask is tried once, on a small row: a model with another idea of attention
(a recurrence, a window of its own) gets one row per continuation.

Shapes: N rows, T tokens, P continuation tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from pippin.lm import flat, forward

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
    longest = max(len(row.ids) for row in rows)
    if flat.takes(model, longest):
        inputs, at = _end_to_end(rows)
    else:
        inputs, at = _with_masks(rows, next(model.parameters()).dtype)
    inputs = forward.Inputs(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in inputs))
    found = forward._rows(model, inputs, torch.tensor(at, device=device))
    targets = [token for row in rows for several in row.continuations for token in several]
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
    if not _pays(model, ids_N_T, attention_N_T, groups):
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


def shared_sizes(rows: Sequence[tuple[Sequence[int], int]]) -> list[int]:
    """The lengths of the rows that these (ids, tokens before the first wanted one) become when shared."""
    lengths: dict[tuple[int, ...], int] = {}
    for ids, before in rows:
        prompt = tuple(ids[:before])
        lengths[prompt] = lengths.get(prompt, before) + len(ids) - before
    return list(lengths.values())


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


def _pays(
    model: torch.nn.Module,
    ids_N_T: torch.Tensor,
    attention_N_T: torch.Tensor,
    groups: dict[tuple[int, ...], list[_Member]],
) -> bool:
    """Whether sharing is exact and leaves fewer tokens."""
    width = max((len(prompt) + sum(len(row.columns) for row in rows) for prompt, rows in groups.items()), default=0)
    if not width or not all(groups) or not flat.within_window(model, width):
        return False
    if flat.takes(model, width):
        return len(groups) < len(ids_N_T)
    return len(groups) * width <= _WORTH * ids_N_T.numel() and shares_prompts(model)


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


def _end_to_end(rows: Sequence[_Row]) -> tuple[forward.Inputs, list[int]]:
    """All rows in one, and where in it the continuations are foretold."""
    ids, place, pieces, at = list[int](), list[int](), list[flat.Piece](), list[int]()
    for row in rows:
        at += [len(ids) + source for source in row.sources]
        prompt = len(pieces)
        pieces += [flat.Piece(len(row.prompt)), *(flat.Piece(len(c), prompt) for c in row.continuations)]
        ids, place = ids + row.ids, place + row.places
    return forward.Inputs(torch.tensor([ids]), None, torch.tensor([place]), tuple(pieces)), at


def _with_masks(rows: Sequence[_Row], dtype: torch.dtype) -> tuple[forward.Inputs, list[int]]:
    """Padded rows with their masks ``[N, 1, T, T]`` (0: seen; the lowest number: not), and where, through all rows,
    the continuations are foretold."""
    width = max(len(row.ids) for row in rows)
    ids, place = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
    sees = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)  # a pad sees itself
    for n, row in enumerate(rows):
        length = len(row.ids)
        ids[n, :length] = torch.tensor(row.ids)
        place[n, :length] = torch.tensor(row.places)
        sees[n, :length, :length] = row.sees()
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[:, None]
    return forward.Inputs(ids, mask, place), [
        n * width + source for n, row in enumerate(rows) for source in row.sources
    ]


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
