"""Rows laid end to end in one row: nothing is padding.

All of a layer but attention looks at one token at a time, so that it does not mind where a row ends. Attention is run
piece by piece, by the same function as ever: a piece is a row of its own, or a continuation that also sees the piece
that holds its prompt. So each token is computed from what it would be computed from in a row of its own, and no token
is computed twice or for nothing. Whether a model hands its attention over like that is tried once, on a small row.

For large models on a CPU: a small one loses more by the many calls than by the padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from pippin.lm import threads

_NAME = "pippin_pieces"
_CLOSE = 1e-3  # nats, by which the two ways may differ in float32; another attention differs by far more
_same: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


class Piece(NamedTuple):
    """Tokens one after another. Each sees those before it in its piece, and all of the piece with number ``after``."""

    size: int
    after: int | None = None


def takes(model: torch.nn.Module, longest: int) -> bool:
    """Whether rows of ``model``, the longest of so many tokens, may be laid end to end. Layers that compute their
    activations again may not be: when they do, :func:`attending` is over."""
    parameters = list(model.parameters())
    if parameters[0].device.type != "cpu" or sum(p.numel() for p in parameters) < threads.SMALL:
        return False
    if any(getattr(layer, "gradient_checkpointing", False) and layer.training for layer in model.modules()):
        return False
    if model not in _same:
        _same[model] = _try(model)
    return _same[model] and within_window(model, longest)


def within_window(model: Any, width: int) -> bool:
    """Whether ``width`` tokens are no more than the model's own attention reaches back; here nothing limits it."""
    window = getattr(_config(model), "sliding_window", None)
    return window is None or width <= window


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """While open, the model's attention takes an argument ``pieces``: the :func:`masks` of those of its one row."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    config = _config(model)
    before, config._attn_implementation = config._attn_implementation, _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def masks(pieces: Sequence[Piece], device: Any = None) -> list[tuple[Piece, torch.Tensor | None]]:
    """Each piece with its mask, where it sees more than itself."""

    def mask(piece: Piece) -> torch.Tensor | None:
        if piece.after is None:
            return None
        prompt = pieces[piece.after].size
        return torch.ones(1, 1, piece.size, prompt + piece.size, dtype=torch.bool, device=device).tril(prompt)

    return [(piece, mask(piece)) for piece in pieces]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    pieces: list[tuple[Piece, torch.Tensor | None]],
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as ``sdpa`` of transformers has it, for each piece of a row ``[1, heads, tokens, width]``."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    sizes = [piece.size for piece, _ in pieces]
    keys, values = key.split(sizes, 2), value.split(sizes, 2)
    said = []
    for n, ((piece, mask), asks) in enumerate(zip(pieces, query.split(sizes, 2), strict=True)):
        k, v = keys[n], values[n]
        if piece.after is not None:
            k, v = torch.cat([keys[piece.after], k], 2), torch.cat([values[piece.after], v], 2)
        said.append(sdpa_attention_forward(module, asks, k, v, mask, **rest)[0])
    return torch.cat(said, 1), None


def _config(model: Any) -> Any:
    return getattr(model, "module", model).config.get_text_config()  # DDP keeps the model inside


@torch.inference_mode()
def _try(model: Any) -> bool:
    """Whether a prompt with two continuations and a row of its own say what they say one by one."""
    try:
        config = _config(model)
        if config._attn_implementation != "sdpa":
            return False
        drawn = torch.randint(0, int(config.vocab_size), (16,), generator=torch.Generator().manual_seed(0))
        pieces = [Piece(5), Piece(3, 0), Piece(1, 0), Piece(7)]
        place = torch.tensor([*range(5), *range(5, 8), 5, *range(7)])
        alone = [(range(8), slice(0, 8)), ([*range(5), 8], slice(8, 9)), (range(9, 16), slice(9, 16))]
        with torch.autocast("cpu", enabled=False):
            with attending(model):
                told = model(
                    input_ids=drawn[None], position_ids=place[None], use_cache=False, pieces=masks(pieces)
                ).logits[0]
            for columns, at in alone:
                said = model(input_ids=drawn[list(columns)][None], use_cache=False).logits[0]
                found = told[at].float().log_softmax(-1)
                limit = _CLOSE if told.dtype == torch.float32 else 0.1
                if not torch.allclose(said[-len(found) :].float().log_softmax(-1), found, atol=limit):
                    return False
    except (AttributeError, RuntimeError, ValueError, TypeError, IndexError):  # attention of another kind
        return False
    return True
