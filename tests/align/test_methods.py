"""What holds for every method in the folder: a new file there is tested before its author writes a test."""

import copy
import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pippin.align import loop
from pippin.align.method import Training
from pippin.align.run import align, load_run
from pippin.align.shapes import collate, denominator, reduce
from pippin.core import catalog
from pippin.core.errors import Diverged, InputError, UnknownName
from pippin.lm.hf import load_policy
from pippin.lm.reward import load_reward

METHODS = catalog.names("methods")
TRAINED = [m for m in METHODS if catalog.load("methods", m).terms]
HEADS = [("reward_model", {"head": h}) for h in ("last", "sum", "logratio")]
CASES = [(m, {}) for m in TRAINED if m != "reward_model"] + HEADS


def pool_of(bench):
    return loop._prepare(bench.method, bench.context, bench.networks, None)


def terms_of(bench):
    return [t for t in bench.method.terms if t.active(bench.context.config)]


def gradient(bench, pool, groups, size):
    """Loss and flat gradient of one optimiser batch, cut into micro-batches of ``size`` groups."""
    training = copy.copy(bench.context.training)
    object.__setattr__(training, "per_device_train_batch_size", size)
    for module in bench.networks.trained().values():
        module.zero_grad(set_to_none=True)
    loss, _, _ = loop.accumulate(
        terms_of(bench), bench.networks, pool, groups, bench.context.config, training, bench.method.couple
    )
    parts = [
        (p.grad if p.grad is not None else torch.zeros_like(p)).flatten()
        for module in bench.networks.trained().values()
        for p in module.parameters()
    ]
    return loss, torch.cat(parts)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    entry = next(e for e in catalog.entries("methods") if e.name == name)
    assert entry.summary and re.search(r"\d{4}", entry.source), "a summary, and a paper with its year"
    method = catalog.load("methods", name)
    assert is_dataclass(method.config)
    own = {f.name for f in fields(method.config)}
    assert not own & {f.name for f in fields(Training)}, "a setting belongs to the method or to the loop, not to both"
    assert all(f.metadata.get("help") for f in fields(method.config))
    assert method.score in ("sum", "mean", "none")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_never_steps_by_itself(name):
    entry = next(e for e in catalog.entries("methods") if e.name == name)
    text = Path(entry.path).read_text(encoding="utf-8")
    code = re.sub(r'"""[\s\S]*?"""', "", text)
    assert not re.search(r"\.backward\(|optim\.|\.step\(", code)
    assert len(text.splitlines()) <= 220


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_cutting_the_batch_changes_nothing(name, settings, make_bench):
    bench = make_bench(name, **settings)
    pool = pool_of(bench)
    whole_loss, whole = gradient(bench, pool, pool.groups, len(pool.groups))
    cut_loss, cut = gradient(bench, pool, pool.groups, 1)
    assert cut_loss == pytest.approx(whole_loss, abs=2e-5)
    assert whole.abs().max() > 0, "a method that has no gradient here is not tested here"
    torch.testing.assert_close(cut, whole, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_order_of_groups_and_inside_them_changes_nothing(name, settings, make_bench):
    bench = make_bench(name, **settings)
    pool = pool_of(bench)
    loss, grad = gradient(bench, pool, pool.groups, len(pool.groups))
    shuffled = [pool.groups[i] for i in np.random.default_rng(1).permutation(len(pool.groups))]
    for rows in pool.rows_of.values():
        rows.reverse()
    other_loss, other = gradient(bench, pool, shuffled, len(pool.groups))
    assert other_loss == pytest.approx(loss, abs=2e-5)
    torch.testing.assert_close(other, grad, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_padding_and_bfloat16_change_little(name, settings, make_bench):
    bench = make_bench(name, **settings)
    pool = pool_of(bench)
    pool.annotate(list(range(len(pool.examples))), bench.networks, pool.lazy, bf16=False)
    batch, _ = pool.take(pool.groups)
    terms = terms_of(bench)
    needs = frozenset().union(*(t.needs for t in terms))

    def loss_of(tensors, dtype=None):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not None):
            outputs = bench.networks.say(tensors, needs)
        return sum(
            float(
                reduce(
                    t.loss(outputs, tensors, bench.context.config)[0],
                    tensors,
                    t.how(bench.context.config),
                    denominator(batch, t.how(bench.context.config), t.rows, t.constant(bench.context.config)),
                    t.rows,
                )
            )
            for t in terms
        )

    coupled = bench.method.couple(bench.networks, batch, bench.context.config) if bench.method.couple else None
    tensors = collate(batch, bench.networks.policy.chat.pad_id, coupled)
    wider = copy.copy(tensors)
    n, pad_id = len(batch.examples), bench.networks.policy.chat.pad_id
    for field, fill in (("ids_N_T", pad_id), ("attention_N_T", 0), ("mask_N_T", False)):
        value = getattr(tensors, field)
        object.__setattr__(wider, field, torch.cat([value, torch.full((n, 7), fill, dtype=value.dtype)], dim=1))
    token = {k: torch.cat([v, torch.zeros(n, 7)], dim=1) for k, v in tensors.token.items()}
    object.__setattr__(wider, "token", token)
    exact = loss_of(tensors)
    assert loss_of(wider) == pytest.approx(exact, abs=2e-5)
    assert loss_of(tensors, torch.bfloat16) == pytest.approx(exact, abs=0.1 + 0.05 * abs(exact))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_saves_what_transformers_and_pippin_load(name, make_bench, tmp_path):
    bench = make_bench(name)
    c = bench.context
    settings = {"max_steps": 3, "logging_steps": 1, "max_length": 64}
    run = align(
        name,
        {**settings, **make_bench.small.get(name, {})},
        model="world/base",
        out=tmp_path / "run",
        data=c.data,
        prompts=c.prompts,
        reward="rule/shorter" if bench.method.reads == "prompts" else None,
        feedback="gold" if "feedback" in bench.method.wants(c.config) else None,
        development=c.development,
        judge="rule/shorter" if bench.method.choose else None,
    )
    said = load_run(tmp_path / "run")
    assert said["manifest"]["method"] == name and said["ledger"]["wall_clock"] > 0
    if bench.method.terms:
        assert said["ledger"]["steps"] > 0 and said["ledger"]["gradient_tokens"] > 0
        assert np.isfinite(run.metrics["last"]["loss"])
    if bench.method.artefact == "reward":
        reward = load_reward(tmp_path / "run")
        values = reward.score(
            [g.prompt.messages for g in c.data for _ in g.responses], [r.text for g in c.data for r in g.responses]
        )
        assert np.mean(values) == pytest.approx(0, abs=1e-4) and np.std(values) == pytest.approx(1, abs=1e-4)
        return
    policy = load_policy(str(tmp_path / "run"))
    if policy.decoding.plain:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": "list"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert model.generate(**ids, max_new_tokens=2).shape[1] > ids["input_ids"].shape[1]
    elif policy.decoding.prefix:
        messages = (c.prompts[0] if c.prompts else c.data[0].prompt).messages
        plain, steered = (policy.chat.prompt_ids(messages, p) for p in ("", policy.decoding.prefix))
        assert steered[: len(plain)] == plain and len(steered) > len(plain) and not policy.decoding.reranker
        control = bench.method.tokens(c.config)
        assert policy.decoding.banned == control
        assert set(steered[len(plain) :]) <= set(policy.banned_ids) or not control
    else:
        assert policy.decoding.n == 2 and policy.decoding.reranker == "rule/shorter"


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_reproducible_and_moves(name, make_bench):
    ends = []
    for _ in range(2):
        bench = make_bench(name, learning_rate=1e-3, max_steps=3)
        before = bench.networks.policy.weights_digest
        loop.train(bench.method, bench.context, bench.networks)
        assert bench.networks.policy.weights_digest != before
        ends.append(bench.networks.policy.weights_digest)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_that_was_cut_ends_as_if_it_was_not(name, make_bench, tmp_path):
    settings = {"learning_rate": 1e-3, "save_steps": 1, "per_device_train_batch_size": 3, "num_train_epochs": 2}
    whole = make_bench(name, **settings)
    loop.train(whole.method, whole.context, whole.networks, folder=tmp_path / "whole")
    cut = make_bench(name, **settings)

    class Killed(Exception):
        pass

    def log(line):
        if line["step"] >= 3:
            raise Killed

    object.__setattr__(cut.context.training, "logging_steps", 1)
    with pytest.raises(Killed):
        loop.train(cut.method, cut.context, cut.networks, folder=tmp_path / "cut", log=log)
    again = make_bench(name, **settings)
    loop.train(again.method, again.context, again.networks, folder=tmp_path / "cut")
    assert again.networks.policy.weights_digest == whole.networks.policy.weights_digest
    a, b = again.context.ledger.to_row(), whole.context.ledger.to_row()
    for volatile in ("wall_clock", "peak_memory"):
        a.pop(volatile), b.pop(volatile)
    assert a == b


@pytest.mark.parametrize("bf16", [False, True])
def test_the_first_dpo_loss_is_log_two(bf16, make_bench):
    lines = []
    bench = make_bench("dpo", max_steps=1, per_device_train_batch_size=3, bf16=bf16)
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)


def test_the_first_ppo_minibatch_has_ratio_one_and_centred_advantages(make_bench):
    lines = []
    bench = make_bench("ppo", max_steps=1, per_device_train_batch_size=6, vf_coef=0.0)
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert lines[0]["policy/ratio"] == pytest.approx(1, abs=1e-4)
    assert lines[0]["policy/clipfrac"] == 0 and lines[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert lines[0]["loss"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("name", "settings"), [("expert_iteration", {"num_rounds": 3}), ("ppo", {"num_rollouts": 12})])
def test_methods_that_sample_climb_their_reward(name, settings, make_bench):
    bench = make_bench(
        name,
        learning_rate=1e-3,
        **{**settings, "prompts_per_round" if name == "expert_iteration" else "prompts_per_rollout": 24},
    )
    from pippin.align.run import develop

    before = develop(bench.context)
    loop.train(bench.method, bench.context, bench.networks)
    assert develop(bench.context) > before + 1.0


def test_diverging_stops_with_a_clear_word(make_bench):
    bench = make_bench("sft", learning_rate=1e9, num_train_epochs=50, max_grad_norm=0.0)
    with pytest.raises(Diverged, match="Lower learning_rate"):
        loop.train(bench.method, bench.context, bench.networks)


def test_wrong_settings_and_missing_inputs_say_so(tmp_path, make_bench):
    data = make_bench("sft").context.data
    with pytest.raises(UnknownName, match="Did you mean 'beta'"):
        align("dpo", {"beat": 0.1}, model="world/base", out=tmp_path / "x")
    with pytest.raises(InputError, match="preferences"):
        align("dpo", {}, model="world/base", data=data, out=tmp_path / "x")
    with pytest.raises(InputError, match="reward"):
        align("ppo", {}, model="world/base", prompts=[data[0].prompt], out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_run_that_was_cut_logs_every_step_once_and_leaves_no_checkpoint(tmp_path, make_bench):
    data = make_bench("sft").context.data
    settings = {"save_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 2, "max_length": 64}

    class Killed(Exception):
        pass

    def report(line):
        if line["step"] == 4:
            raise Killed

    with pytest.raises(Killed):
        align("sft", settings, model="world/base", data=data, out=tmp_path / "run", report=report)
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    align("sft", settings, model="world/base", data=data, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert not list((tmp_path / "run").glob("checkpoint-*"))
