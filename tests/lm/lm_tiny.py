"""A tiny random Llama with word-level tokenizers: a model whose every answer is known only through the maths."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pippin.lm.chat import Chat

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|bot|>", "<|end|>", "User:", "Assistant:"]
WORDS = [*SPECIAL, *(f"w{i}" for i in range(250 - len(SPECIAL)))]
TEMPLATE = (
    "{% for m in messages %}{{ '<|user|> ' if m.role == 'user' else '<|bot|> ' }}{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|> {% endif %}"
)


def word_tokenizer(template: str | None = TEMPLATE, words=WORDS, **options):
    table = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    settings = {
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "additional_special_tokens": ["<|user|>", "<|bot|>", "<|end|>"],
    } | options
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=table, **settings)
    tokenizer.chat_template = template
    return tokenizer


def tiny_llama(seed: int = 0, **options) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
        "vocab_size": len(WORDS), "max_position_embeddings": 128, "tie_word_embeddings": False,
        "initializer_range": 0.3, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1,
    } | options  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**settings)).eval()


def shown(chat: Chat, ids, mask=None) -> str:
    """Ids as readable text, trained ones in brackets."""
    names = chat.tokenizer.convert_ids_to_tokens(list(ids))
    if mask is None:
        return " ".join(names)
    return " ".join(f"[{name}]" if trained else name for name, trained in zip(names, mask, strict=True))


def completion(text="fine", finish="stop", **more):
    """A reply of an OpenAI-compatible server."""
    return {
        "model": "served-1",
        "system_fingerprint": "fp_1",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish, **more}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}},
    }
