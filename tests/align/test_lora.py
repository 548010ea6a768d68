"""An adapter in place of the weights: what is trained, what the reference is, what is saved and loaded."""

import json
from dataclasses import replace

import pytest
import torch

from pippin.align import adapters, loop, networks
from pippin.align.run import align, load_run
from pippin.core.errors import InputError
from pippin.lm.forward import response_logps
from pippin.lm.hf import load_policy
from pippin.lm.reward import load_reward

SETTINGS = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "learning_rate": 1e-2, "max_length": 64, "logging_steps": 1}


@pytest.fixture
def adapted(make_bench):
    """A bench whose policy carries an adapter."""

    def make(name, recompute=False, **settings):
        plain = make_bench(name, **SETTINGS, **settings)
        policy = load_policy("world/base")
        adapters.attach(policy, plain.context.training, "world/base")
        context = replace(plain.context, policy=policy)
        parts = plain.method.parts(context.config)
        built = networks.build(policy, parts, reward=None, kind="last", seed=0, recompute=recompute)
        context.reference = built.reference
        return replace(plain, context=context, networks=built)

    return make


IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
ARGUMENTS = (IDS, torch.ones_like(IDS), torch.tensor([[0, 0, 1, 1, 1, 1]]))


def test_the_reference_is_the_model_with_its_adapter_off(adapted):
    bench = adapted("dpo", max_steps=3)
    base = load_policy("world/base")
    loop.train(bench.method, bench.context, bench.networks)
    with torch.no_grad():
        start = response_logps(base.model, *ARGUMENTS)
        reference = response_logps(bench.networks.reference.model, *ARGUMENTS)
        moved = response_logps(bench.networks.policy.model, *ARGUMENTS)
    torch.testing.assert_close(reference, start, atol=1e-6, rtol=0)
    assert (moved - start).abs().max() > 1e-3
    assert bench.networks.reference.model.adapted is bench.networks.policy.model, "no second copy"
    frozen = dict(adapters.plain(bench.networks.policy.model).named_parameters())
    for name, value in base.model.named_parameters():
        found = frozen[name] if name in frozen else frozen[name.replace(".weight", ".base_layer.weight")]
        assert torch.equal(found, value), f"{name} is not trained"


def test_only_the_adapter_is_trained(adapted):
    trained = [n for n, p in adapted("sft").networks.policy.model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)


@pytest.mark.parametrize("name", ["sft", "dpo", "reward_model", "online_dpo", "ppo"])
def test_a_run_saves_an_adapter_that_is_loaded(name, make_bench, tmp_path):
    from peft import AutoPeftModelForCausalLM

    bench = make_bench(name)
    c = bench.context
    run = align(
        name, {**make_bench.small.get(name, {}), **SETTINGS, "max_steps": 2}, model="world/base", out=tmp_path / "run",
        data=c.data, prompts=c.prompts, reward="rule/shorter" if c.prompts else None,
    )  # fmt: skip
    assert run.manifest[f"method.{name}.use_peft"] is True and run.manifest[f"method.{name}.lora_r"] == 4
    saved = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= saved
    assert "model.safetensors" not in saved and load_run(tmp_path / "run")["ledger"]["steps"] >= 1
    ours = load_policy(str(tmp_path / "run")).model
    theirs = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run", dtype=torch.float32).eval()
    with torch.no_grad():
        told = response_logps(ours, *ARGUMENTS)
        torch.testing.assert_close(told, response_logps(theirs, *ARGUMENTS), atol=1e-4, rtol=1e-4)
        assert (told - response_logps(load_policy("world/base").model, *ARGUMENTS)).abs().max() > 1e-5
    if name == "reward_model":
        assert len(load_reward(tmp_path / "run").score([c.data[0].prompt.messages], ["apple"])) == 1


def test_without_an_adapter_the_manifest_says_nothing_of_one(make_bench, tmp_path):
    run = align("sft", {"max_steps": 1}, model="world/base", out=tmp_path / "run", data=make_bench("sft").context.data)
    assert not [key for key in run.manifest if "lora" in key or "use_peft" in key]


def test_the_logratio_reward_keeps_its_reference(make_bench, tmp_path):
    data = make_bench("reward_model").context.data
    settings = {**SETTINGS, "head": "logratio", "max_steps": 2}
    align("reward_model", settings, model="world/base", data=data, out=tmp_path / "run")
    reward = load_reward(tmp_path / "run")
    assert reward.reference is not None
    with torch.no_grad():
        torch.testing.assert_close(
            response_logps(reward.reference.model, *ARGUMENTS),
            response_logps(load_policy("world/base").model, *ARGUMENTS),
        )


def test_a_run_that_was_cut_ends_as_if_it_was_not(adapted, tmp_path):
    settings = {"save_steps": 1, "per_device_train_batch_size": 3, "num_train_epochs": 2}
    whole = adapted("dpo", **settings)
    loop.train(whole.method, whole.context, whole.networks, folder=tmp_path / "whole")
    cut = adapted("dpo", **settings)

    class Killed(Exception):
        pass

    def log(line):
        if line["step"] >= 3:
            raise Killed

    with pytest.raises(Killed):
        loop.train(cut.method, cut.context, cut.networks, folder=tmp_path / "cut", log=log)
    [checkpoint] = (tmp_path / "cut").glob("checkpoint-*")
    from safetensors import safe_open

    with safe_open(checkpoint / "weights.safetensors", "pt") as file:
        assert all("lora_" in key for key in file.keys()), "what is frozen is not stored again"  # noqa: SIM118
    again = adapted("dpo", **settings)
    loop.train(again.method, again.context, again.networks, folder=tmp_path / "cut")
    assert again.networks.policy.weights_digest == whole.networks.policy.weights_digest


@pytest.mark.parametrize("lora", [False, True])
def test_computing_layers_again_changes_no_gradient(lora, adapted, make_bench):
    told, layers = {}, {}
    for recompute in (False, True):
        if lora:
            bench = adapted("dpo", recompute=recompute)
        else:
            bench = make_bench("dpo")
            bench.networks = networks.build(
                bench.context.policy, frozenset({"reference"}), reward=None, kind="last", seed=0, recompute=recompute
            )
        runs = []
        inside = adapters.plain(bench.networks.policy.model).model.layers[0].mlp
        handle = inside.register_forward_pre_hook(lambda *_, runs=runs: runs.append(torch.is_grad_enabled()))
        pool = loop._prepare(bench.method, bench.context, bench.networks, None)
        term = [t for t in bench.method.terms if t.active(bench.context.config)]
        loop.accumulate(term, bench.networks, pool, pool.groups, bench.context.config, bench.context.training)
        handle.remove()
        layers[recompute] = sum(runs)
        told[recompute] = torch.cat(
            [p.grad.flatten() for p in bench.networks.policy.model.parameters() if p.grad is not None]
        )
        assert not any(m.training for m in bench.networks.policy.model.modules())
    torch.testing.assert_close(told[True], told[False], atol=1e-6, rtol=1e-5)
    assert layers[True] == 2 * layers[False], "each layer runs again in the backward pass"


def test_what_cannot_be_is_refused(make_bench, tmp_path):
    data = make_bench("sft").context.data
    for settings, match in [
        ({"lora_dropout": 0.1}, "lora_dropout must be 0"),
        ({"lora_r": 0}, "rank"),
        ({"lora_target_modules": ("nothing_here",)}, "lora_target_modules"),
    ]:
        with pytest.raises(InputError, match=match):
            align("sft", {**SETTINGS, **settings}, model="world/base", data=data, out=tmp_path / "x")
    align("sft", {**SETTINGS, "max_steps": 1}, model="world/base", data=data, out=tmp_path / "adapter")
    with pytest.raises(InputError, match="adapter on an adapter"):
        align("sft", SETTINGS, model=str(tmp_path / "adapter"), data=data, out=tmp_path / "y")
    name = "quark"
    with pytest.raises(InputError, match="new tokens"):
        small = {**make_bench.small[name], **SETTINGS, "max_steps": 1}
        prompts = make_bench(name).context.prompts
        align(name, small, model="world/base", prompts=prompts, reward="rule/shorter", out=tmp_path / "z")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 4
