"""New tokens in a model's vocabulary: control tokens that a policy is conditioned on and never draws."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pippin.core.errors import InputError
from pippin.core.types import digest
from pippin.lm.chat import Chat

if TYPE_CHECKING:
    from pippin.lm.policy import Policy


def add_tokens(policy: Policy, texts: Sequence[str], seed: int = 0) -> dict[str, int]:
    """Make ``texts`` special tokens of the policy's tokenizer and give each a row in its embeddings and head; in place.

    A new row is drawn from a normal distribution with mean and standard deviation of the existing rows in each
    dimension, by a stream of (seed, text). A text that is a special token already keeps its row. The policy gets a
    tokenizer of its own: clones made before keep theirs.

    Returns:
        The id of each text.

    Raises:
        InputError: a text is empty, has white space around it, stands twice, or is an ordinary word of the vocabulary.

    Source: Lu et al. 2022 (arXiv 2205.13636), section 2 and their code.
    """
    if not texts:
        return {}
    from tokenizers import AddedToken

    old = policy.chat
    _check(texts, old.tokenizer, policy.name)
    tokenizer = copy.deepcopy(old.tokenizer)
    before = set(tokenizer.get_vocab())
    tokens = [AddedToken(text, special=True, normalized=False) for text in texts]
    tokenizer.add_tokens(tokens, special_tokens=True)
    ids = {text: int(tokenizer.convert_tokens_to_ids(text)) for text in texts}
    _grow(policy.model, {text: i for text, i in ids.items() if text not in before}, len(before), seed)
    policy.chat = Chat(tokenizer, old.template, ends=old.end_ids)
    policy.chat.pad_id = old.pad_id
    return ids


def _check(texts: Sequence[str], tokenizer: Any, where: str) -> None:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    vocabulary = tokenizer.get_vocab()
    for text in texts:
        if not text.strip() or text != text.strip() or texts.count(text) > 1:
            raise InputError("a control token is one text without space around it", where=where, found=text)
        if text in vocabulary and text not in special:
            raise InputError("a control token must be new, and this is a word of the vocabulary", where=where,
                             found=text, mend="Choose a text that no message holds, such as <|best|>")  # fmt: skip


@torch.no_grad()
def _grow(model: Any, new: dict[str, int], known: int, seed: int) -> None:
    """Rows for the new ids in the embeddings, and in the head where it has weights of its own."""
    if not new:
        return
    rows = model.get_input_embeddings().weight.shape[0]
    if max(new.values()) >= rows:
        model.resize_token_embeddings(max(new.values()) + 1, mean_resizing=False)
    layers = {"embeddings": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    if layers["head"] is None or layers["head"].weight is layers["embeddings"].weight:
        del layers["head"]
    for name, layer in layers.items():
        used = layer.weight[: min(rows, known)].float()  # rows beyond the tokenizer's tokens were never trained
        mean_D, std_D = used.mean(0), used.std(0)
        bias = getattr(layer, "bias", None)
        for text, i in new.items():
            generator = torch.Generator().manual_seed(int(digest(["token", seed, name, text]), 16) % 2**63)
            noise_D = torch.randn(mean_D.shape, generator=generator).to(mean_D.device)
            layer.weight[i] = (mean_D + std_D * noise_D).to(layer.weight.dtype)
            if bias is not None:
                bias[i] = bias[: min(rows, known)].mean()
