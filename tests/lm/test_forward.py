"""Log-probabilities against a plain float64 log-softmax over all logits, on several architectures."""

import pytest
import torch
from lm_tiny import WORDS, tiny_llama
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from pippin.core.errors import InputError
from pippin.lm import forward
from pippin.lm.forward import next_logps, pad, response_hidden, response_logps, response_stats, token_kl


def capped_gemma():
    """A model that does more to its logits than its head does: 3 tanh(x / 3)."""
    torch.manual_seed(1)
    config = Gemma2Config(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=3.0, initializer_range=0.5, pad_token_id=0,
        attn_implementation="eager",
    )  # fmt: skip
    return Gemma2ForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3)
    return GPT2LMHeadModel(config).eval()


class Headless(torch.nn.Module):
    """A model that hides its head, so that only all its logits can be had."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, **inputs):
        return self.inner(**inputs)


MODELS = {"llama": tiny_llama, "gemma": capped_gemma, "gpt2": gpt2, "headless": lambda: Headless(tiny_llama())}


@pytest.fixture(params=MODELS)
def any_model(request):
    return MODELS[request.param]()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(4, len(WORDS), (n,), generator=generator).tolist() for n in (5, 17, 30, 31, 2)]
    ids, attention = pad(rows, 0)
    mask = torch.zeros_like(ids)
    for row, (start, stop) in zip(mask, ((2, 5), (1, 17), (28, 30), (10, 20), (1, 2)), strict=True):
        row[start:stop] = 1
    return rows, ids, attention, mask


def all_logits(model, rows):
    """One row at a time, without padding, in the model's own forward."""
    return [model(input_ids=torch.tensor([row])).logits[0].double() for row in rows]


def plain(model, rows, mask, temperature=1.0):
    """log p, entropy by the definitions, in float64."""
    logp, entropy = (torch.zeros(mask.shape, dtype=torch.double) for _ in range(2))
    for n, (row, logits) in enumerate(zip(rows, all_logits(model, rows), strict=True)):
        table = (logits / temperature).log_softmax(-1)
        for t in range(1, len(row)):
            logp[n, t] = table[t - 1, row[t]]
            entropy[n, t] = -(table[t - 1].exp() * table[t - 1]).sum()
    return logp * mask, entropy * mask


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [2**26, len(WORDS) * 4])
def test_exact(any_model, batch, temperature, chunk, monkeypatch):
    monkeypatch.setattr(forward, "MAX_LOGITS", chunk)
    rows, ids, attention, mask = batch
    stats = response_stats(any_model, ids, attention, mask, temperature, entropy=True)
    logp, entropy = plain(any_model, rows, mask, temperature)
    scale = logp.abs().max()
    assert (stats.logp_N_T - logp).abs().max() < 1e-6 * max(1.0, scale)
    assert (stats.entropy_N_T - entropy).abs().max() < 1e-6 * max(1.0, scale)
    assert stats.logp_N_T.dtype == torch.float32
    assert torch.equal(response_logps(any_model, ids, attention, mask, temperature), stats.logp_N_T)


@pytest.mark.parametrize("chunk", [2**26, len(WORDS) * 4])
def test_gradients(any_model, batch, chunk, monkeypatch):
    monkeypatch.setattr(forward, "MAX_LOGITS", chunk)
    rows, ids, attention, mask = batch
    any_model.zero_grad()
    stats = response_stats(any_model, ids, attention, mask, entropy=True)
    (stats.logp_N_T.sum() + 0.3 * stats.entropy_N_T.sum()).backward()
    ours = {k: p.grad.clone() for k, p in any_model.named_parameters()}
    any_model.zero_grad()
    logp, entropy = plain(any_model, rows, mask)
    (logp.sum() + 0.3 * entropy.sum()).backward()
    for key, parameter in any_model.named_parameters():
        scale = parameter.grad.abs().max().clamp(min=1.0)
        assert (ours[key] - parameter.grad).abs().max() < 1e-4 * scale, key


def test_head_sees_response_positions_only(batch, model):
    _, ids, attention, mask = batch
    seen = []
    handle = model.lm_head.register_forward_hook(lambda m, args, out: seen.append(out.shape))
    response_logps(model, ids, attention, mask)
    response_hidden(model, ids, attention, mask)
    handle.remove()
    assert seen == [(int(mask.sum()), len(WORDS)), (0, len(WORDS))]
    assert not model.lm_head._forward_pre_hooks  # nothing of ours is left on the model


def test_padding_changes_nothing(batch, model):
    _, ids, attention, mask = batch
    wide_ids, wide_attention = torch.nn.functional.pad(ids, (0, 9), value=7), torch.nn.functional.pad(attention, (0, 9))
    wide = response_logps(model, wide_ids, wide_attention, torch.nn.functional.pad(mask, (0, 9)))
    assert (wide[:, : ids.shape[1]] - response_logps(model, ids, attention, mask)).abs().max() < 1e-5


def test_left_padding_has_right_positions(batch, model):
    rows, *_ = batch
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(r)) + r for r in rows])
    attention = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
    last = torch.zeros_like(ids)
    last[:, -1] = 1
    got = response_logps(model, ids, attention, last)[:, -1]
    want = torch.stack([z[-2].log_softmax(-1)[r[-1]] for z, r in zip(all_logits(model, rows), rows, strict=True)])
    assert (got - want).abs().max() < 1e-5


def test_hidden_states(any_model, batch):
    rows, ids, attention, mask = batch
    at, before = (
        response_hidden(any_model, ids, attention, mask),
        response_stats(any_model, ids, attention, mask, hidden=True).hidden_N_T_D,
    )
    for n, row in enumerate(rows):
        states = any_model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[-1][0]
        for t in range(len(row)):
            want_at, want_before = (states[t], states[t - 1]) if mask[n, t] else (0, 0)
            assert (at[n, t] - want_at).abs().max() < 1e-5
            assert (before[n, t] - want_before).abs().max() < 1e-5


@pytest.mark.parametrize("chunk", [2**26, len(WORDS) * 4])
def test_exact_kl(batch, chunk, monkeypatch):
    monkeypatch.setattr(forward, "MAX_LOGITS", chunk)
    rows, ids, attention, mask = batch
    a, b = tiny_llama(0), tiny_llama(1)
    kl_N = token_kl(a, b, ids, attention, mask).sum(-1)
    for n, (row, za, zb) in enumerate(zip(rows, all_logits(a, rows), all_logits(b, rows), strict=True)):
        p, q = (torch.distributions.Categorical(logits=z[:-1]) for z in (za, zb))
        per_token = torch.distributions.kl_divergence(p, q) * mask[n, 1 : len(row)]
        assert kl_N[n].item() == pytest.approx(per_token.sum().item(), rel=1e-5)
    assert token_kl(a, a, ids, attention, mask).abs().max() < 1e-6


def test_next_token_distribution(batch, any_model):
    rows, ids, attention, _ = batch
    want = torch.stack([z[-1].log_softmax(-1) for z in all_logits(any_model, rows)])
    assert (next_logps(any_model, ids, attention) - want).abs().max() < 1e-5


def test_adapter_is_part_of_the_model(batch):
    peft = pytest.importorskip("peft")
    rows, ids, attention, mask = batch
    wrapped = peft.get_peft_model(tiny_llama(), peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.eval()
    logp, _ = plain(wrapped, rows, mask)
    assert (response_logps(wrapped, ids, attention, mask) - logp).abs().max() < 1e-5
    with wrapped.disable_adapter():
        bare = response_logps(wrapped, ids, attention, mask)
    assert (bare - response_logps(tiny_llama(), ids, attention, mask)).abs().max() < 1e-5
    assert (bare - logp).abs().max() > 0.1


def test_wrapped_for_data_parallel_training(batch, tmp_path):
    _, ids, attention, mask = batch
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(tiny_llama())
        response_logps(wrapped, ids, attention, mask).sum().backward()
        alone = tiny_llama()
        response_logps(alone, ids, attention, mask).sum().backward()
        for (key, mine), theirs in zip(alone.named_parameters(), wrapped.parameters(), strict=True):
            assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5), key
    finally:
        torch.distributed.destroy_process_group()


def test_bfloat16_weights_give_float32_results(batch):
    _, ids, attention, mask = batch
    exact, rounded = (response_logps(tiny_llama().to(d), ids, attention, mask) for d in (torch.float32, torch.bfloat16))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 1.0


def test_bad_masks(batch, model):
    _, ids, attention, mask = batch
    first = mask.clone()
    first[0, 0] = 1
    with pytest.raises(InputError, match="first token"):
        response_logps(model, ids, attention, first)
    with pytest.raises(InputError, match="shape"):
        response_logps(model, ids, attention, mask[:, :-1])
    with pytest.raises(InputError, match="at least one token"):
        pad([[1], []], 0)


def test_pad_id_equal_to_a_token_of_the_row(model):
    _, attention = pad([[5, 2, 6, 2], [7, 2]], 2)
    assert attention.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_kl_of_models_that_read_other_things_before_the_response():
    """Response tokens that stand elsewhere in what the reference reads, whose vocabulary lacks the newest tokens."""
    a, b = tiny_llama(0), tiny_llama(1)
    known = a.get_input_embeddings().weight.shape[0]
    torch.manual_seed(0)
    a.resize_token_embeddings(known + 2)
    torch.nn.init.normal_(a.get_input_embeddings().weight[known:], std=0.5)
    prefixed = [[known + 1, 3, 5, 7, 9], [4, known, 6, 8, 2]]
    plain = [[3, 5, 7, 9], [4, 6, 8, 2]]  # without the new token
    ids, attention = pad(prefixed, 0)
    mask = pad([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1]], 0)[0].bool()
    ids_b, attention_b = pad(plain, 0)
    mask_b = pad([[0, 0, 1, 1], [0, 0, 1, 1]], 0)[0].bool()
    with torch.no_grad():
        kl_N_T = token_kl(
            a, b, ids, attention, mask, ids_b_N_T=ids_b, attention_b_N_T=attention_b, mask_b_N_T=mask_b,
            without=(known, known + 1),
        )  # fmt: skip
        za, zb = (m(input_ids=i).logits for m, i in ((a, ids), (b, ids_b)))
    for n in range(2):
        for t, t_b in ((3, 2), (4, 3)):
            p = torch.distributions.Categorical(logits=za[n, t - 1, :known])
            q = torch.distributions.Categorical(logits=zb[n, t_b - 1])
            want = torch.distributions.kl_divergence(p, q).item()
            assert kl_N_T[n, t].item() == pytest.approx(want, rel=1e-4)
