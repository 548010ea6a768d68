"""Groups into examples: token rows, index tensors, and the batch-level arithmetic of rewards and advantages. Pure.

An :class:`Example` is one sequence (prompt and response) with what was written on its response tokens; a :class:`Batch`
is many of them with the pairs that relate them; :class:`Tensors` is a padded batch as the losses see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pippin.lm.forward import pad

Arrays = Mapping[str, np.ndarray]
_START = 128  # tokens whose arithmetic takes as long as starting a pass of its own


@dataclass(frozen=True)
class Example:
    """One sequence. ``mask`` is 1 exactly on the response tokens; ``token`` arrays are aligned to those tokens."""

    ids: Sequence[int]
    mask: Sequence[int]
    group: int
    token: Arrays = field(default_factory=dict)
    value: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    stream: str = ""  # other data than the method's own; every optimiser batch holds its share of each stream

    @property
    def length(self) -> int:
        """Response tokens."""
        return sum(self.mask)

    def counts(self, rows: str) -> float:
        """How much this row counts for a term on ``rows``."""
        return self.value.get(rows, 0.0) if rows else self.weight

    def with_tokens(self, **arrays: np.ndarray) -> Example:
        return replace(self, token={**self.token, **arrays})


@dataclass(frozen=True)
class Batch:
    """Examples, in order of their groups, and pairs (i better than j with probability p, weight w) of row numbers."""

    examples: tuple[Example, ...]
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    p: np.ndarray = field(default_factory=lambda: np.zeros(0))
    weight: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def groups(self) -> list[int]:
        """Group numbers in order of appearance."""
        return list(dict.fromkeys(e.group for e in self.examples))


@dataclass(frozen=True)
class Tensors:
    """A padded batch. Token arrays stand at the columns of their tokens and are zero elsewhere."""

    ids_N_T: torch.Tensor
    attention_N_T: torch.Tensor
    mask_N_T: torch.Tensor
    pairs_P_2: torch.Tensor
    p_P: torch.Tensor
    weight_P: torch.Tensor
    weight_N: torch.Tensor
    group_P: torch.Tensor  # position of each pair's group among the groups of this batch
    group_N: torch.Tensor  # position of each row's group
    token: Mapping[str, torch.Tensor]
    value: Mapping[str, torch.Tensor]
    coupled: Mapping[str, float] = field(default_factory=dict)  # numbers over the whole optimiser batch

    @property
    def groups(self) -> int:
        return int(self.group_N.max()) + 1 if len(self.group_N) else 0


def collate(batch: Batch, pad_id: int, coupled: Mapping[str, float] | None = None) -> Tensors:
    """Pad a batch on the right and put its arrays beside it; a row that lacks an array or a value has zeros there."""
    ids, attention = pad([e.ids for e in batch.examples], pad_id)
    mask, _ = pad([e.mask for e in batch.examples], 0)
    mask = mask.bool()
    names = set().union(*(e.token for e in batch.examples))
    token = {}
    for name in sorted(names):
        column = torch.zeros(ids.shape, dtype=torch.float32)
        rows = [np.asarray(e.token.get(name, np.zeros(e.length)), dtype=np.float32) for e in batch.examples]
        column[mask] = torch.from_numpy(np.concatenate(rows))
        token[name] = column
    values = set().union(*(e.value for e in batch.examples))
    place = {g: k for k, g in enumerate(batch.groups)}
    return Tensors(
        ids,
        attention,
        mask,
        torch.from_numpy(batch.pairs),
        torch.from_numpy(np.asarray(batch.p, dtype=np.float32)),
        torch.from_numpy(np.asarray(batch.weight, dtype=np.float32)),
        torch.tensor([e.weight for e in batch.examples], dtype=torch.float32),
        torch.tensor([place[batch.examples[i].group] for i in batch.pairs[:, 0]], dtype=torch.long),
        torch.tensor([place[e.group] for e in batch.examples], dtype=torch.long),
        token,
        {v: torch.tensor([e.value.get(v, 0.0) for e in batch.examples], dtype=torch.float32) for v in sorted(values)},
        coupled or {},
    )


@dataclass(frozen=True)
class Size:
    """What a group takes in a pass: rows, the longest of them in tokens, and all its tokens where none is padding."""

    rows: int
    longest: int
    tokens: int | None = None


def cut(sizes: Sequence[Size], most: int, processes: int = 1) -> list[list[int]]:
    """Groups cut into micro-batches of at most ``most``, so that little is padding and passes are few.

    Rows that are padded: groups of like length come together, the longest first. Of all ways to cut their sorted line
    the one with the fewest tokens, padding and the start of each pass counted; so a micro-batch may be smaller than it
    is allowed to be. Rows end to end: as few micro-batches as ``most`` of the longest group have room for, of about
    the same number of tokens each, and one for each of the processes; one of short groups has more than ``most``.
    """
    tokens = [size.tokens for size in sizes if size.tokens is not None]
    if sizes and len(tokens) == len(sizes):
        return _filled(tokens, most, min(processes, len(tokens)))
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i].longest)
    best, before = [0.0], [0]  # of the first k groups: tokens, and where the last micro-batch begins
    for stop in range(1, len(order) + 1):
        choices, rows = [], 0
        for start in range(stop - 1, max(-1, stop - 1 - most), -1):
            rows += sizes[order[start]].rows
            choices.append((best[start] + _START + rows * sizes[order[start]].longest, start))
        fewest, start = min(choices)
        best.append(fewest)
        before.append(start)
    parts, stop = [], len(order)
    while stop:
        parts.append(order[before[stop] : stop])
        stop = before[stop]
    return parts[::-1]


def _filled(tokens: Sequence[int], most: int, fewest: int) -> list[list[int]]:
    """Groups into the fewest parts that hold no more than ``most`` of the longest: each into the emptiest part."""
    order = sorted(range(len(tokens)), key=lambda i: -tokens[i])
    room = most * tokens[order[0]]
    for count in range(fewest, len(tokens) + 1):
        filled, parts = [0] * count, [list[int]() for _ in range(count)]
        for i in order:
            k = filled.index(min(filled))
            filled[k] += tokens[i]
            parts[k].append(i)
        if max(filled) <= room:
            break
    return parts


def denominator(batch: Batch, reduction: str, rows: str = "", constant: float = 1.0) -> float:
    """What a reduction divides by, over a whole optimiser batch (all micro-batches).

    ``token``: weighted response tokens; ``const``: weighted rows times ``constant``; ``seq_sum``, ``seq_mean`` and
    ``seq``: weighted rows; ``pair_mean``: weighted pairs; ``group_mean`` and ``group_sum``: groups that have a pair;
    ``group``: groups that have a row of this term.
    """
    if reduction == "token":
        return float(sum(e.counts(rows) * e.length for e in batch.examples))
    if reduction in ("seq_sum", "seq_mean", "seq", "const"):
        scale = constant if reduction == "const" else 1.0
        return float(sum(e.counts(rows) for e in batch.examples)) * scale
    if reduction == "pair_mean":
        return float(batch.weight.sum())
    if reduction == "group":
        return float(len({e.group for e in batch.examples if e.counts(rows)}))
    return float(len({batch.examples[i].group for i in batch.pairs[:, 0]}))


def reduce(loss: torch.Tensor, tensors: Tensors, reduction: str, over: float, rows: str = "") -> torch.Tensor:
    """The part of a reduced loss that this micro-batch contributes; ``over`` is the optimiser batch's denominator."""
    weight_N = tensors.value.get(rows, torch.zeros(len(tensors.weight_N))) if rows else tensors.weight_N
    if reduction in ("token", "const"):
        return (loss * tensors.mask_N_T * weight_N[:, None]).sum() / over
    if reduction == "seq_sum":
        return ((loss * tensors.mask_N_T).sum(-1) * weight_N).sum() / over
    if reduction == "seq_mean":
        lengths = tensors.mask_N_T.sum(-1).clamp(min=1)
        return ((loss * tensors.mask_N_T).sum(-1) / lengths * weight_N).sum() / over
    if reduction == "seq":
        return (loss * weight_N).sum() / over
    if reduction == "group":
        return loss.sum() / over
    if reduction in ("pair_mean", "group_sum"):
        return (loss * tensors.weight_P).sum() / over
    groups = tensors.groups
    total = torch.zeros(groups).index_add(0, tensors.group_P, loss * tensors.weight_P)
    weight = torch.zeros(groups).index_add(0, tensors.group_P, tensors.weight_P)
    return (total / weight.clamp(min=1e-12)).sum() / over


def kl_rewards(logp_old: np.ndarray, logp_ref: np.ndarray, score: float, kl_coef: float) -> np.ndarray:
    """Per-token rewards ``[T]``: -β (lp_old - lp_ref), plus the score on the last token (Ziegler et al. 2019)."""
    rewards = -kl_coef * (logp_old - logp_ref)
    rewards[-1] += score
    return rewards


def gae(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantage estimation over one response: advantages and returns, each ``[T]``; V after the end is 0.

    δ_t = r_t + γ V_{t+1} - V_t;  A_t = δ_t + γλ A_{t+1};  R_t = A_t + V_t  (Schulman et al. 2016, eq. 16).
    """
    advantages = np.zeros_like(rewards)
    last = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        following = values[t + 1] if t + 1 < len(values) else 0.0
        last = rewards[t] + gamma * following - values[t] + gamma * lam * last
        advantages[t] = last
    return advantages, advantages + values


def whiten(arrays: Sequence[np.ndarray], *, shift: bool = True, bessel: bool = True) -> list[np.ndarray]:
    """(A - mean) / sqrt(var + 1e-8) over all response tokens of a rollout; without ``shift`` the mean is added back.

    ``bessel``: TRL's variance; False: OpenAI's biased one.
    """
    flat = np.concatenate(arrays)
    if len(flat) < 2:
        return list(arrays)
    mean, scale = flat.mean(), 1 / np.sqrt(flat.var(ddof=int(bessel)) + 1e-8)
    return [(a - mean) * scale + (0.0 if shift else mean) for a in arrays]
