"""Make the base model from its recipe: ``python -m pippin.world.pretrain --out DIR``.

A long check (about ten minutes on one core), never part of a run: the result is shipped as package data. The same
recipe, seed and versions give the same weights on the same machine; elsewhere floating-point sums may differ in the
last bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.world import BASE
from pippin.world.corpus import SPECIALS, Document, documents, vocabulary
from pippin.world.lexicon import tokens
from pippin.world.tasks import SKILL_OF

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

PAD, UNK, EOS = (SPECIALS.index(name) for name in ("<pad>", "<unk>", "<eos>"))
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<user> {{ message['content'] }} "
    "{% elif message['role'] == 'assistant' %}<asst> {% generation %}{{ message['content'] }} <eos> {% endgeneration %}"
    "{% else %}{{ raise_exception('roles are user and assistant') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<asst> {% endif %}"
)
"""Jinja. Tokens are separated by spaces, so a prompt's tokens are a prefix of the tokens of prompt and answer."""


@dataclass(frozen=True)
class Recipe:
    """All that determines the base, with the package's own code. ``text_weight`` is the loss weight off the results."""

    seed: int = 0
    steps: int = 7000
    batch_size: int = 64
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup: int = 100
    text_weight: float = 0.05
    hidden_size: int = 96
    layers: int = 3
    heads: int = 6
    intermediate_size: int = 288


def build_tokenizer() -> Tokenizer:
    """Word-level tokenizer over :func:`pippin.world.corpus.vocabulary`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and the chat template in the layout of transformers."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(),
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<asst>"],
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """The untrained network, in float32, drawn from the recipe's seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=512,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def batches(recipe: Recipe) -> Iterator[list[tuple[list[int], list[float]]]]:
    """Endless batches of (token ids, loss weight of each token), of similar length within a batch."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    pool, start = 16 * recipe.batch_size, 0
    while True:
        rows = [encode(document, ids, recipe.text_weight) for document in documents(pool, recipe.seed, start)]
        rows.sort(key=lambda row: len(row[0]))
        cuts = list(range(0, pool, recipe.batch_size))
        random.Random(recipe.seed + start).shuffle(cuts)
        for cut in cuts:
            yield rows[cut : cut + recipe.batch_size]
        start += pool


def encode(document: Document, ids: dict[str, int], text_weight: float) -> tuple[list[int], list[float]]:
    """Token ids of a document, ``<eos>`` after it, and the weight of each. The token after a result counts with it."""
    row: list[int] = []
    weights: list[float] = []
    for text, result in document.pieces:
        piece = [ids[token] for token in tokens(text)]
        row += piece
        weights += [1.0 if result else text_weight] * len(piece)
    for i in range(1, len(weights)):
        if row[i] == ids["||"]:
            weights[i] = 1.0
    return [*row, EOS], [*weights, 1.0]


def collate(rows: list[tuple[list[int], list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, weights), both of shape (batch, longest), padded on the right."""
    import torch

    longest = max(len(row) for row, _ in rows)
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row, _ in rows])
    weights = torch.tensor([weight + [0.0] * (longest - len(weight)) for _, weight in rows])
    return ids, weights


def train(recipe: Recipe) -> LlamaForCausalLM:
    """The trained base, in float32; the learning rates fall to zero along a cosine.

    Matrices inside the layers go by Muon (torch 2.9 or newer), the rest by AdamW: in fewer steps than AdamW alone the
    circuits for copying, sorting and filtering form.
    """
    import torch
    from torch.nn.functional import cross_entropy

    model = build_model(recipe)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, momentum=0.95, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay),
    ]

    def rate(step: int) -> float:
        rising = min(1.0, (step + 1) / recipe.warmup)
        return rising * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / recipe.steps)).item())

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    began, total = time.perf_counter(), 0.0
    for step, rows in zip(range(recipe.steps), batches(recipe), strict=False):
        ids, weights = collate(rows)
        logits = model(input_ids=ids).logits[:, :-1]
        losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        total += loss.item()
        if (step + 1) % 500 == 0:
            seconds = time.perf_counter() - began
            print(f"step {step + 1}: loss {total / 500:.4f}, {seconds:.0f} s {measure(model, 600)}", file=sys.stderr)
            total = 0.0
    return model


def measure(model: LlamaForCausalLM, n: int) -> dict[str, float]:
    """On ``n`` fresh documents: mean loss on results (nats per token), and per operation the share whose most likely
    token is right at every place of the result. Lists are left out, since many answers are right, and documents of two
    records, since nothing tells that a second one follows."""
    import torch
    from torch.nn.functional import cross_entropy

    ids_of = {token: i for i, token in enumerate(vocabulary())}
    fresh = documents(n, seed=-1)
    ids, weights = collate([encode(document, ids_of, 0.0) for document in fresh])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1]
    target, mask = ids[:, 1:], weights[:, 1:]
    losses = cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(mask)
    right = ((logits.argmax(-1) == target) | (mask == 0)).all(1).tolist()
    figures = {"loss": (losses * mask).sum().item() / mask.sum().item()}
    for operation in SKILL_OF:
        pairs = zip(right, fresh, strict=True)
        rows = [r for r, d in pairs if len(d.tasks) == 1 and d.tasks[0].operation == operation != "list"]
        if rows:
            figures[operation] = sum(rows) / len(rows)
    return {name: round(value, 4) for name, value in figures.items()}


def save(model: LlamaForCausalLM, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write the base as ``world/base`` ships it: bfloat16 weights, tokenizer, and the recipe with the weights' hash."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16)
    model.save_pretrained(folder)
    model.to(torch.float32)
    save_tokenizer(folder)
    record = {
        "recipe": asdict(recipe),
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "measured": measure(model, 2000),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (folder / "recipe.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def main(arguments: list[str] | None = None) -> None:
    """Command line: ``--out DIR`` and any field of :class:`Recipe`."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m pippin.world.pretrain", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help=f"folder to write; the shipped one is {BASE.name}")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    given = vars(parser.parse_args(arguments))
    out = given.pop("out")
    recipe = Recipe(**given)
    torch.set_num_threads(1)  # fastest at this size, and sums come in one order
    print(json.dumps(save(train(recipe), recipe, out)["measured"]))


if __name__ == "__main__":
    main()
