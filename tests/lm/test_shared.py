"""Continuations that share their prompt have the log-probabilities that they have alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, FalconConfig, GPT2Config, LlamaConfig, MambaConfig, Qwen3Config

from pippin.lm.forward import pad, response_logps
from pippin.lm.hf import load_policy
from pippin.lm.shared import continuation_logps, shares_prompts

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, intermediate_size=64, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SMALL, intermediate_size=64, num_key_value_heads=2, head_dim=8),
    "gpt2": GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4),
}


def alone(model, prompt, continuation):
    ids, attention = pad([[*prompt, *continuation]], 0)
    wanted = torch.zeros_like(ids)
    wanted[0, len(prompt) :] = 1
    return response_logps(model, ids, attention, wanted)[0, len(prompt) :]


@pytest.mark.parametrize("name", CONFIGS)
def test_as_alone_and_with_the_same_gradient(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    assert shares_prompts(model)
    draws = torch.randint(0, 50, (60,)).tolist()
    prompts = [draws[:7], draws[7:8], draws[8:20]]
    continuations = [[draws[20:25], draws[25:26]], [draws[26:30]], [draws[30:33], draws[33:40], draws[30:33]]]
    found = continuation_logps(model, prompts, continuations)
    flat = torch.cat([logps for several in found for logps in several])
    one_by_one = torch.cat(
        [alone(model, p, c) for p, several in zip(prompts, continuations, strict=True) for c in several]
    )
    torch.testing.assert_close(flat, one_by_one, atol=2e-5, rtol=1e-5)
    weight = torch.linspace(-1, 1, len(flat))
    gradients = [torch.autograd.grad((logps * weight).sum(), model.get_input_embeddings().weight)[0]
                 for logps in (flat, one_by_one)]  # fmt: skip
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_models_that_cannot_are_found_out():
    """A recurrence reads all that stands before; a bias by distance counts tokens that are hidden."""
    torch.manual_seed(0)
    mamba = AutoModelForCausalLM.from_config(MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2)).eval()
    assert not shares_prompts(mamba)
    alibi = FalconConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
    assert not shares_prompts(AutoModelForCausalLM.from_config(alibi).eval())


def test_labels_of_a_policy():
    from pippin.core.types import user

    policy = load_policy("world/base")
    asked = [user("list the fruits : apple"), user("count : one two")]
    labels = [("apple", "apple pear", "two"), ("one two", "two")]
    found = policy.label_logps(asked, labels)
    for messages, wanted, told in zip(asked, labels, found, strict=True):
        for label in wanted:
            ids, mask = policy.chat.example(messages, label, ended=False)
            [total] = policy._totals([(ids, mask)])
            assert told[label] == pytest.approx(total, abs=1e-5)
