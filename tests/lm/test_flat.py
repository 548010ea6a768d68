"""Rows laid end to end say what they say alone: values, gradients, and no token sees another row."""

import pytest
import torch
from lm_tiny import tiny_llama
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)

from pippin.lm import flat, forward, shared, threads
from pippin.lm.forward import pad, response_hidden, response_logps, response_stats

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MORE = {**SMALL, "intermediate_size": 64, "num_key_value_heads": 2}
CONFIGS = {
    "llama": LlamaConfig(**MORE),
    "qwen3": Qwen3Config(**MORE, head_dim=8),
    "mistral": MistralConfig(**MORE, sliding_window=None),
    "gpt2": GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4),
}
OTHERS = {
    "reads all that stands before": MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2),
    "counts the tokens between": FalconConfig(**SMALL, alibi=True),
    "caps what attention says": Gemma2Config(**MORE, head_dim=8),
}


@pytest.fixture(autouse=True)
def no_model_is_small(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 0)


@pytest.fixture
def batch():
    drawn = torch.Generator().manual_seed(3)
    rows = [torch.randint(4, 50, (n,), generator=drawn).tolist() for n in (5, 17, 30, 2)]
    ids, attention = pad(rows, 0)
    mask = torch.zeros_like(ids)
    for row, (start, stop) in zip(mask, ((2, 5), (1, 17), (28, 30), (1, 2)), strict=True):
        row[start:stop] = 1
    return ids, attention, mask


def made(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def one_by_one(ask, ids, attention, mask):
    """Each row without its padding, put where it stands in the batch."""
    lengths = attention.sum(-1).tolist()
    told = [
        ask(i[None, :n], a[None, :n], m[None, :n])[0] for i, a, m, n in zip(ids, attention, mask, lengths, strict=True)
    ]
    return torch.stack([torch.cat([t, t.new_zeros(ids.shape[1] - len(t), *t.shape[1:])]) for t in told])


@pytest.mark.parametrize("name", CONFIGS)
def test_as_alone_and_with_the_same_gradient(name, batch):
    model = made(CONFIGS[name])
    assert flat.takes(model, 30)

    def ask(*rows):
        return response_logps(model, *rows)

    weight = torch.randn(batch[0].shape, generator=torch.Generator().manual_seed(1))
    told = [ask(*batch), one_by_one(ask, *batch)]
    torch.testing.assert_close(*told, atol=2e-5, rtol=1e-5)
    embedding = model.get_input_embeddings().weight
    gradients = [torch.autograd.grad((logps * weight).sum(), embedding)[0] for logps in told]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_everything_that_is_read(batch):
    model = made(CONFIGS["llama"])
    for ask in (
        lambda *rows: response_hidden(model, *rows),
        lambda *rows: response_stats(model, *rows, entropy=True).entropy_N_T,
        lambda *rows: forward.token_kl(model, tiny_llama(vocab_size=50), *rows),
    ):
        torch.testing.assert_close(ask(*batch), one_by_one(ask, *batch), atol=2e-5, rtol=1e-5)


def test_no_padding_goes_through_and_no_row_sees_another(batch):
    model, (ids, attention, mask) = made(CONFIGS["llama"]), batch
    assert flat.takes(model, 30)
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, given, made: seen.append(given[0].numel()))
    before = response_logps(model, ids, attention, mask)
    changed = ids.clone()
    changed[1, :17] = 7
    after = response_logps(model, changed, attention, mask)
    assert seen == [int(attention.sum())] * 2
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]]) and not torch.equal(before[1], after[1])
    assert model.config._attn_implementation == "sdpa"


def test_left_padding_and_hidden_tokens(batch):
    model = made(CONFIGS["llama"])
    rows = [[5, 6, 7, 8, 9], [10, 11, 12]]
    ids = torch.tensor([rows[0], [0, 0, *rows[1]]])
    attention, mask = torch.tensor([[1, 0, 1, 1, 1], [0, 0, 1, 1, 1]]), torch.tensor([[0, 0, 0, 0, 1]] * 2)
    told = response_logps(model, ids, attention, mask)[:, -1]
    alone = [response_logps(model, *pad([row], 0), torch.tensor([[0] * (len(row) - 1) + [1]]))[0, -1]
             for row in ([5, 7, 8, 9], rows[1])]  # fmt: skip
    torch.testing.assert_close(told, torch.stack(alone), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("why", OTHERS)
def test_models_that_cannot_are_found_out(why):
    assert not flat.takes(made(OTHERS[why]), 8)


def test_where_it_is_not_done(monkeypatch):
    model = made(MistralConfig(**MORE, sliding_window=16))
    assert flat.takes(model, 16) and not flat.takes(model, 17)
    model = made(CONFIGS["llama"])
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert flat.takes(model, 30)
    model.train()
    assert not flat.takes(model, 30)
    monkeypatch.setattr(threads, "SMALL", 10**9)
    assert not flat.takes(model.eval(), 30)


def test_continuations_of_prompts_in_one_row():
    model = made(CONFIGS["qwen3"])
    drawn = torch.randint(0, 50, (40,), generator=torch.Generator().manual_seed(2)).tolist()
    prompts = [drawn[:7], drawn[7:8]]
    continuations = [[drawn[20:25], drawn[25:26]], [drawn[26:30], drawn[26:30], drawn[30:38]]]
    calls = []
    handle = model.get_input_embeddings().register_forward_hook(
        lambda module, given, made: calls.append(given[0].shape)
    )
    found = shared.continuation_logps(model, prompts, continuations)
    assert calls[-1] == (1, 7 + 5 + 1 + 1 + 4 + 4 + 8)
    handle.remove()
    for prompt, several, told in zip(prompts, continuations, found, strict=True):
        for continuation, logps in zip(several, told, strict=True):
            row, mask = [*prompt, *continuation], [0] * len(prompt) + [1] * len(continuation)
            alone = response_logps(model, *pad([row], 0), torch.tensor([mask]))[0, len(prompt) :]
            torch.testing.assert_close(logps, alone, atol=2e-5, rtol=1e-5)
