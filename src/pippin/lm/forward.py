"""Log-probabilities of given tokens under a causal language model, for training (with gradients) and for scoring.

The language-model head is applied at response positions only. This is done at the head's door: a hook gathers the
wanted rows of the hidden states just before the head multiplies them by the vocabulary. So the model's own forward runs
(whatever it does to its logits afterwards, and whatever wraps it: DDP, FSDP, a PEFT adapter), only with fewer rows.
A model whose head is not a module gives all its logits, and the rows are gathered from those. Where the model takes it
(:mod:`flat`), rows go through it end to end, without their padding.

Shapes: N rows, T tokens, P response tokens of the whole batch, D hidden size, V vocabulary. Log-probabilities are in
nats and float32 whatever the model's precision. Column t of a result speaks of token t, which is read from position
t - 1. Inputs are moved to the model's device, and results are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from pippin.core.errors import InputError
from pippin.lm import flat

# Logits of more numbers than this (float32: 256 MB) are made chunk by chunk, and made again in the backward pass.
MAX_LOGITS = 2**26


class ResponseStats(NamedTuple):
    """What one pass says about response tokens; zero outside the mask."""

    logp_N_T: torch.Tensor
    entropy_N_T: torch.Tensor | None = None
    hidden_N_T_D: torch.Tensor | None = None  # the state from which token t was predicted


class Inputs(NamedTuple):
    """What a model is given: rows with their attention mask, or one row of ``pieces``."""

    ids_N_T: torch.Tensor
    attention: torch.Tensor | None  # [N, T], or a mask of its own for every pair of tokens
    place_N_T: torch.Tensor
    pieces: tuple[flat.Piece, ...] = ()


class _Rows(NamedTuple):
    """Hidden states at P positions and the way from them to float32 logits."""

    hidden_P_D: torch.Tensor
    logits: Callable[[int, int], torch.Tensor]  # positions from, to
    chunk: int


def pad(rows: Sequence[Sequence[int]], pad_id: int, device: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids as ``(ids_N_T, attention_N_T)``, padded on the right. The attention comes from the lengths."""
    if not rows or not all(len(row) for row in rows):
        raise InputError("a batch needs rows of at least one token", found=[len(row) for row in rows])
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, (torch.arange(width, device=device) < lengths[:, None]).long()


def response_logps(
    model: torch.nn.Module,
    ids_N_T: torch.Tensor,
    attention_N_T: torch.Tensor,
    mask_N_T: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """``logp_N_T``: the log-probability of each token where the mask is 1, zero elsewhere. float32, with gradients.

    Args:
        mask_N_T: 1 on the tokens wanted. Column 0 must be 0: nothing comes before the first token.
        temperature: logits are divided by it first (the policy that was sampled at that temperature).
    """
    return response_stats(model, ids_N_T, attention_N_T, mask_N_T, temperature).logp_N_T


def response_stats(
    model: torch.nn.Module,
    ids_N_T: torch.Tensor,
    attention_N_T: torch.Tensor,
    mask_N_T: torch.Tensor,
    temperature: float = 1.0,
    *,
    entropy: bool = False,
    hidden: bool = False,
) -> ResponseStats:
    """As :func:`response_logps`; on wish with the entropy of each next-token distribution, and the hidden states.

    ``hidden_N_T_D[n, t]`` is the state before token t (a value head's input: PPO's V(s_t)); states *at* tokens come
    from :func:`response_hidden`.
    """
    ids_N_T, attention_N_T, mask = _ready(model, ids_N_T, attention_N_T, mask_N_T)
    n_P, t_P = mask.nonzero(as_tuple=True)
    rows = _rows(model, *_inputs(model, ids_N_T, attention_N_T, n_P, t_P - 1), temperature)
    targets_P = ids_N_T[n_P, t_P]

    def of_chunk(start: int, stop: int) -> torch.Tensor:
        logits = rows.logits(start, stop)
        norm = logits.logsumexp(-1)
        logp = logits.gather(-1, targets_P[start:stop, None]).squeeze(-1) - norm
        if not entropy:
            return logp[None]
        return torch.stack([logp, norm - ((logits - norm[:, None]).exp() * logits).sum(-1)])

    out = _over_chunks(of_chunk, len(n_P), rows.chunk)
    return ResponseStats(
        _scatter(out[0], mask, n_P, t_P),
        _scatter(out[1], mask, n_P, t_P) if entropy else None,
        _scatter(rows.hidden_P_D, mask, n_P, t_P) if hidden else None,
    )


def response_hidden(
    model: torch.nn.Module, ids_N_T: torch.Tensor, attention_N_T: torch.Tensor, mask_N_T: torch.Tensor
) -> torch.Tensor:
    """``hidden_N_T_D``: the last hidden state *at* each token where the mask is 1, zero elsewhere. The head is not run.

    What a reward head reads: the state at token t has seen token t. In the model's precision.
    """
    ids_N_T, attention_N_T, mask = _ready(model, ids_N_T, attention_N_T, mask_N_T, first=0)
    n_P, t_P = mask.nonzero(as_tuple=True)
    rows = _rows(model, *_inputs(model, ids_N_T, attention_N_T, n_P, t_P), head=False)
    return _scatter(rows.hidden_P_D, mask, n_P, t_P)


def token_kl(
    model_a: torch.nn.Module,
    model_b: torch.nn.Module,
    ids_N_T: torch.Tensor,
    attention_N_T: torch.Tensor,
    mask_N_T: torch.Tensor,
    temperature: float = 1.0,
    *,
    ids_b_N_T: torch.Tensor | None = None,
    attention_b_N_T: torch.Tensor | None = None,
    mask_b_N_T: torch.Tensor | None = None,
    without: Sequence[int] = (),
) -> torch.Tensor:
    """``kl_N_T``: KL(a || b) of the distribution of each response token, in nats, with gradients of a.

    Unlike the estimators from sampled tokens (k1, k2, k3) this is no estimate: at each position all V tokens count.

    Args:
        ids_b_N_T: what b reads, where that is something else before the response (no control tokens for a reference).
        attention_b_N_T: what b may see, where that is less.
        mask_b_N_T: where the same response tokens stand in what b reads, where that is elsewhere.
        without: tokens that neither may draw: both distributions are renormalised over the others. They may be tokens
            that b does not have.
    """
    ids, attention, mask = _ready(model_a, ids_N_T, attention_N_T, mask_N_T)
    seen_by_b = attention if attention_b_N_T is None else attention_b_N_T.to(attention.device)
    read_by_b = ids if ids_b_N_T is None else ids_b_N_T.to(ids.device)
    n_P, t_P = mask.nonzero(as_tuple=True)
    a = _rows(model_a, *_inputs(model_a, ids, attention, n_P, t_P - 1), temperature)
    with torch.no_grad() if not next(model_b.parameters()).requires_grad else nullcontext():
        at_P = (n_P, t_P) if mask_b_N_T is None else mask_b_N_T.to(ids.device).nonzero(as_tuple=True)
        b = _rows(model_b, *_inputs(model_b, read_by_b, seen_by_b, at_P[0], at_P[1] - 1), temperature)

    def of_chunk(start: int, stop: int) -> torch.Tensor:
        logits_a, logits_b = a.logits(start, stop), b.logits(start, stop)
        if without:
            keep = torch.ones(logits_a.shape[-1], dtype=torch.bool, device=logits_a.device)
            keep[list(without)] = False
            logits_a, logits_b = logits_a[:, keep], logits_b[:, keep[: logits_b.shape[-1]]]
        logp_a, logp_b = logits_a.log_softmax(-1), logits_b.log_softmax(-1)
        return (logp_a.exp() * (logp_a - logp_b)).sum(-1)[None]

    kl_P = _over_chunks(of_chunk, len(n_P), min(a.chunk, b.chunk))[0]
    return _scatter(kl_P, mask, n_P, t_P)


def next_logps(model: torch.nn.Module, ids_N_T: torch.Tensor, attention_N_T: torch.Tensor) -> torch.Tensor:
    """``logp_N_V``: the distribution of the token after each (right-padded) row, float32."""
    ids_N_T, attention_N_T, _ = _ready(model, ids_N_T, attention_N_T, attention_N_T, first=0)
    n_N = torch.arange(len(ids_N_T), device=ids_N_T.device)
    rows = _rows(model, *_inputs(model, ids_N_T, attention_N_T, n_N, attention_N_T.sum(-1) - 1))
    return torch.cat([rows.logits(i, i + rows.chunk).log_softmax(-1) for i in range(0, len(n_N), rows.chunk)])


def positions(attention_N_T: torch.Tensor) -> torch.Tensor:
    """Position ids from the attention mask, right for left and right padding alike."""
    return (attention_N_T.cumsum(-1) - 1).clamp(min=0)


# ---------------------------------------------------------------------- inside


def _ready(
    model: torch.nn.Module, ids_N_T: torch.Tensor, attention_N_T: torch.Tensor, mask_N_T: torch.Tensor, first: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention and boolean mask, checked and on the model's device. ``first``: first column that may be set."""
    mask = mask_N_T.bool()
    if mask.shape != ids_N_T.shape or attention_N_T.shape != ids_N_T.shape or bool(mask[:, :first].any()):
        raise InputError(
            "attention and response mask must have the shape of the ids, and nothing is read before the first token",
            found=f"attention {tuple(attention_N_T.shape)}, mask {tuple(mask.shape)}, "
            f"{int(mask[:, :first].sum())} rows set in column 0",
            expected=f"shape {tuple(ids_N_T.shape)}, column 0 of the mask 0",
        )
    device = next(model.parameters()).device
    return ids_N_T.to(device), attention_N_T.to(device), mask.to(device)


def _scatter(value_P: torch.Tensor, mask: torch.Tensor, n_P: torch.Tensor, t_P: torch.Tensor) -> torch.Tensor:
    out = value_P.new_zeros(*mask.shape, *value_P.shape[1:])
    return out.index_put((n_P, t_P), value_P)


def _over_chunks(of_chunk: Callable[[int, int], torch.Tensor], total: int, size: int) -> torch.Tensor:
    """``of_chunk`` over [0, total), joined on the last axis; more than one chunk is not kept for the backward pass."""
    if total <= size:
        return of_chunk(0, total)
    spans = [(i, min(i + size, total)) for i in range(0, total, size)]
    if not torch.is_grad_enabled():
        return torch.cat([of_chunk(*span) for span in spans], -1)
    return torch.cat([checkpoint(of_chunk, *span, use_reentrant=False) for span in spans], -1)


def _inputs(
    model: torch.nn.Module, ids_N_T: torch.Tensor, attention_N_T: torch.Tensor, n_P: torch.Tensor, t_P: torch.Tensor
) -> tuple[Inputs, torch.Tensor]:
    """Rows as the model is given them, and where the tokens (n, t) are then, counted through all rows."""
    place_N_T, seen = positions(attention_N_T), attention_N_T.bool()
    at_P = n_P * ids_N_T.shape[1] + t_P
    lengths = attention_N_T.sum(-1).tolist()
    whole = len(lengths) > 1 and all(lengths) and bool(seen.flatten()[at_P].all())
    if not whole or not flat.takes(model, max(lengths)):
        return Inputs(ids_N_T, attention_N_T, place_N_T), at_P
    pieces = tuple(flat.Piece(length) for length in lengths)
    moved = seen.flatten().cumsum(0) - 1
    return Inputs(ids_N_T[seen][None], None, place_N_T[seen][None], pieces), moved[at_P]


def _rows(
    model: torch.nn.Module, inputs: Inputs, at_P: torch.Tensor, temperature: float = 1.0, head: bool = True
) -> _Rows:
    """One pass of the model; logits wanted at these positions, counted through all rows."""
    module = _output_head(model)
    if module is None:
        return _rows_of_all_logits(model, inputs, at_P, temperature, head)
    weight = getattr(module, "weight", None)
    chunk = len(at_P) if weight is None else max(1, MAX_LOGITS // weight.shape[0])
    large = head and len(at_P) > chunk
    with _gathering(module, at_P, seen=0 if not head else (1 if large else len(at_P))) as door:
        logits = _call(model, inputs).logits
    if "hidden_P_D" not in door:  # the head was not called as a module: these are all the logits
        return _rows_of_all_logits(model, inputs, at_P, temperature, head, logits)
    hidden = door["hidden_P_D"]
    if large and not torch.equal(module(hidden[:1]), logits):
        # The model does more to its logits than its head does (a soft cap, a scale): take the model's own.
        with _gathering(module, at_P, seen=len(at_P)) as door:
            logits = _call(model, inputs).logits
        hidden, large = door["hidden_P_D"], False
    if large:
        return _Rows(hidden, lambda i, j: module(hidden[i:j]).float() / temperature, chunk)
    return _Rows(hidden, lambda i, j: logits[i:j].float() / temperature, chunk)


def _rows_of_all_logits(
    model: torch.nn.Module,
    inputs: Inputs,
    at_P: torch.Tensor,
    temperature: float,
    head: bool,
    logits: torch.Tensor | None = None,
) -> _Rows:
    """The plain way: logits (and hidden states) of every position, then the rows wanted."""
    out = _call(model, inputs, output_hidden_states=True)
    hidden = out.hidden_states[-1].flatten(0, 1)[at_P]
    wanted = (out.logits if logits is None else logits).flatten(0, 1)[at_P] if head else hidden
    return _Rows(hidden, lambda i, j: wanted[i:j].float() / temperature, max(1, MAX_LOGITS // wanted.shape[-1]))


def _call(model: torch.nn.Module, inputs: Inputs, **more: Any) -> Any:
    given = {"input_ids": inputs.ids_N_T, "attention_mask": inputs.attention, "position_ids": inputs.place_N_T}
    if not inputs.pieces:
        return model(**given, use_cache=False, **more)
    with flat.attending(model):
        return model(**given, use_cache=False, pieces=flat.masks(inputs.pieces, inputs.ids_N_T.device), **more)


def _output_head(model: torch.nn.Module) -> torch.nn.Module | None:
    inner: Any = getattr(model, "module", model)  # DDP keeps the model inside
    head = getattr(inner, "get_output_embeddings", lambda: None)()
    return head if isinstance(head, torch.nn.Module) else None


@contextmanager
def _gathering(head: torch.nn.Module, at_P: torch.Tensor, seen: int) -> Any:
    """While open, the head gets the first ``seen`` of the wanted rows only; the dict receives all wanted rows."""
    door: dict[str, torch.Tensor] = {}

    def gather(_: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_N_T_D = args[0]
        door["hidden_P_D"] = hidden_N_T_D.reshape(-1, hidden_N_T_D.shape[-1])[at_P]
        return (door["hidden_P_D"][:seen], *args[1:])

    handle = head.register_forward_pre_hook(gather)
    try:
        yield door
    finally:
        handle.remove()
