"""Methods that sample: advantages, pools, segments, feedback; golden values, bandits, the world, the edges."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pippin.align import advantages, asking, loop, shapes, sources, spans, terms
from pippin.align.methods import expert_iteration, fine_grained, grpo, ilf, ppo, quark, rloo
from pippin.align.methods import sft as sft_method
from pippin.align.methods.context_distillation import with_context
from pippin.align.run import align, load_run
from pippin.align.shapes import Batch, Example, collate, reduce
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Group, Message, Note, Prompt, Response, assistant, user
from pippin.judge.resolve import resolve
from pippin.lm.hf import load_policy
from pippin.lm.reward import RewardModel, ScoreHead
from pippin.world import people, tasks
from pippin.world.feedback import feedback as truth
from pippin.world.verifier import verify

SHARED = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[3] / "shared"))
GOLDEN = SHARED / "specs" / "algorithms_golden.json"
M = 4
REF = torch.log_softmax(torch.tensor([0.3, -0.2, 0.9, 0.0], dtype=torch.float64), 0)
REWARD = torch.tensor([0.5, 1.0, -0.4, 0.2], dtype=torch.float64)


def pool_of(bench):
    return loop._prepare(bench.method, bench.context, bench.networks, None)


def gradient(bench, pool, groups, size):
    """Loss and flat gradient of one optimiser batch, in micro-batches of ``size`` groups."""
    for module in bench.networks.trained().values():
        module.zero_grad(set_to_none=True)
    training = replace(bench.context.training, per_device_train_batch_size=size)
    active = [t for t in bench.method.terms if t.active(bench.context.config)]
    loss, _, _ = loop.accumulate(active, bench.networks, pool, groups, bench.context.config, training)
    weights = [p for module in bench.networks.trained().values() for p in module.parameters()]
    return loss, torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights])


def flat(bench):
    """The groups that the method's pipeline ends with."""
    groups = []
    for transform in bench.method.pipeline:
        groups = transform(bench.context, groups)
    return groups


# ---------------------------------------------------------------------- advantages


def test_golden_advantages_of_one_group():
    if not GOLDEN.is_file():
        pytest.skip(f"no golden values at {GOLDEN}; set PIPPIN_SHARED")
    g = json.loads(GOLDEN.read_text())["group"]
    r = np.array(g["r"])
    np.testing.assert_allclose(advantages.leave_one_out(r), g["rloo"], atol=2e-6)
    np.testing.assert_allclose(advantages.group_relative([r])[0], g["grpo"], atol=2e-6)


def test_what_changes_no_advantage():
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=k) for k in (2, 5, 8)]
    for r in groups:
        loo = advantages.leave_one_out(r)
        others = [r[i] - np.delete(r, i).mean() for i in range(len(r))]
        np.testing.assert_allclose(loo, others)
        np.testing.assert_allclose(loo, len(r) / (len(r) - 1) * (r - r.mean()))
        np.testing.assert_allclose(loo, advantages.leave_one_out(r + 7))
    for scale in ("group", "batch", "none"):
        for a in advantages.group_relative(groups, scale):
            assert a.sum() == pytest.approx(0, abs=1e-12)
    relative = advantages.group_relative(groups, "group")
    for a, b in zip(relative, advantages.group_relative([3 * r - 2 for r in groups], "group"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3)  # but for the 1e-4
    whole = np.concatenate(groups).std(ddof=1) + 1e-4
    np.testing.assert_allclose(advantages.group_relative(groups, "batch")[1], (groups[1] - groups[1].mean()) / whole)


def test_a_group_without_spread_has_no_advantage_and_is_counted():
    for r in (np.full(3, 0.1), np.array([0.7]), np.full(7, 1e8)):
        assert (advantages.leave_one_out(r) == 0).all()
        assert all((a == 0).all() for s in ("group", "batch", "none") for a in advantages.group_relative([r], s))
    assert advantages.share_without_spread([np.ones(2), np.array([0.0, 1.0]), np.ones(1), np.zeros(2)]) == 0.75


def policy_gradient(advantage_of, k, logits, rewards):
    """Expected gradient of the mean of -A lp over all groups of ``k`` draws from softmax(logits), enumerated."""
    logp = torch.log_softmax(logits, 0)
    total = torch.zeros((), dtype=torch.float64)
    for drawn in np.ndindex(*(M,) * k):
        rows = list(drawn)
        a = torch.from_numpy(np.asarray(advantage_of(rewards[rows].numpy())))
        total = total - logp.detach()[rows].sum().exp() * (a * logp[rows]).mean()
    return torch.autograd.grad(total, logits)[0]


@pytest.mark.parametrize("k", [2, 3])
def test_rloo_a_value_and_the_mean_as_baseline_have_one_expected_gradient(k):
    logits = torch.tensor([0.1, 0.8, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(-(torch.softmax(logits, 0) * REWARD).sum(), logits)
    value = float((torch.softmax(logits.detach(), 0) * REWARD).sum())
    found = {
        "leave one out": policy_gradient(advantages.leave_one_out, k, logits, REWARD),
        "Z - V": policy_gradient(lambda r: r - value, k, logits, REWARD),
        "any constant": policy_gradient(lambda r: r + 3.0, k, logits, REWARD),
        "mean of the group, rescaled": policy_gradient(
            lambda r: k / (k - 1) * advantages.group_relative([r], "none")[0], k, logits, REWARD
        ),
    }
    for name, g in found.items():
        np.testing.assert_allclose(g, exact, atol=1e-12, err_msg=name)
    scaled = policy_gradient(lambda r: advantages.group_relative([r])[0], k, logits, REWARD)
    assert float((scaled - exact).abs().max()) > 1e-3, "dividing by the group's deviation is another objective"


def expected_loss(loss, config, logp, rewards, advantage):
    """A method's loss over all pairs of draws, each with its probability: rows are the two draws of each pair."""
    old = logp.detach()
    pairs = [[i, j] for i in range(M) for j in range(M)]
    rows, p_N = [i for pair in pairs for i in pair], torch.stack([old[pair].sum().exp() for pair in pairs])
    batch = SimpleNamespace(
        mask_N_T=torch.ones(len(rows), 1, dtype=torch.bool),
        weight_N=torch.ones(len(rows)),
        token={"logp_old": old[rows][:, None], "logp_ref": REF[rows][:, None]},
        value={"advantage": torch.from_numpy(np.concatenate([advantage(rewards[pair]) for pair in pairs]))},
    )
    unreduced, _ = loss(SimpleNamespace(logp_N_T=logp[rows][:, None]), batch, config)
    return (unreduced.reshape(-1, 2).mean(-1) * p_N).sum()


def descend(loss_of, rate, steps=400):
    x = torch.zeros(M, dtype=torch.float64)
    for _ in range(steps):
        x.requires_grad_(True)
        x = (x - rate * torch.autograd.grad(loss_of(torch.log_softmax(x, 0)), x)[0]).detach()
    return torch.softmax(x, 0)


def test_rloo_in_expectation_reaches_the_tilted_reference():
    """The method's own reward, advantage and loss."""
    beta = 0.6

    def loss_of(logp):
        rewards = (REWARD - beta * (logp.detach() - REF)).numpy()
        return expected_loss(rloo.loss, rloo.Config(beta=beta), logp, rewards, advantages.leave_one_out)

    np.testing.assert_allclose(descend(loss_of, 0.5), torch.softmax(REF + REWARD / beta, 0), atol=1e-6)


def test_grpo_in_expectation_reaches_the_tilted_reference():
    """Centred rewards and the ratio-corrected k3 in the loss; the factor (K-1)/K of the group's mean stands in β."""
    beta = 0.3

    def loss_of(logp):
        centred = lambda r: advantages.group_relative([r], "none")[0]  # noqa: E731
        return expected_loss(grpo.loss, grpo.Config(beta=beta), logp, REWARD.numpy(), centred)

    np.testing.assert_allclose(descend(loss_of, 1.0), torch.softmax(REF + REWARD / (2 * beta), 0), atol=1e-6)


def test_grpo_loss_token_by_token():
    """Written out with loops: two bounds, both signs of the advantage, the KL, each reduction."""
    rng = np.random.default_rng(5)
    lengths, adv = (3, 1, 4), (1.3, -0.7, 0.4)
    now, old, ref = ([rng.normal(-1, 0.4, size=n) for n in lengths] for _ in range(3))
    examples = tuple(
        Example([1, 2] + [3] * n, [0, 0] + [1] * n, 0, {"logp_old": o, "logp_ref": r}, {"advantage": a, "ended": 1.0})
        for n, o, r, a in zip(lengths, old, ref, adv, strict=True)
    )
    tensors = collate(Batch(examples), 0)
    logp = torch.zeros(tensors.mask_N_T.shape)
    for k, row in enumerate(now):
        logp[k][tensors.mask_N_T[k]] = torch.from_numpy(row).float()
    expected = []
    for x, o, r, a in zip(now, old, ref, adv, strict=True):
        ratio = np.exp(x - o)
        clipped = np.clip(ratio, 0.9, 1.3)
        k3 = np.exp(r - x) - (r - x) - 1
        expected.append(-np.minimum(ratio * a, clipped * a) + 0.2 * ratio * k3)
    joined = np.concatenate(expected)
    want = {
        "grpo": np.mean([e.mean() for e in expected]), "dapo": joined.mean(), "bnpo": joined.mean(),
        "dr_grpo": joined.sum() / (3 * 16),
    }  # fmt: skip
    for loss_type, value in want.items():
        config = grpo.Config(beta=0.2, epsilon=0.1, epsilon_high=0.3, loss_type=loss_type, max_completion_length=16)
        loss, metrics = grpo.loss(SimpleNamespace(logp_N_T=logp), tensors, config)
        [term] = grpo.METHOD.terms
        how, constant = term.how(config), term.constant(config)
        over = shapes.denominator(Batch(examples), how, constant=constant)
        assert float(reduce(loss, tensors, how, over)) == pytest.approx(value, abs=1e-6), loss_type
        assert len(metrics["kl"]) == 8
    config = grpo.Config(importance_sampling_level="sequence")
    loss, metrics = grpo.loss(SimpleNamespace(logp_N_T=logp), tensors, config)
    np.testing.assert_allclose(metrics["policy/ratio"][:3], np.exp((now[0] - old[0]).mean()).repeat(3), rtol=1e-5)


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_the_first_step_has_ratio_one_and_is_reinforce(name, make_bench):
    bench = make_bench(name, beta=0.0, num_generations=3, max_steps=1, prompts_per_rollout=4)
    pool = pool_of(bench)
    _, found = gradient(bench, pool, pool.groups, 2)
    rows = pool.take(pool.groups)[0]
    tensors = collate(rows, bench.networks.policy.chat.pad_id)
    bench.networks.policy.model.zero_grad(set_to_none=True)
    logp = bench.networks.say(tensors, frozenset({"logps"})).logp_N_T
    a_N = tensors.value["advantage"]
    if name == "rloo":
        (-(a_N * logp.sum(-1)).mean()).backward()
    else:
        (-(a_N[:, None] * logp).sum() / tensors.mask_N_T.sum()).backward()
    plain = torch.cat([p.grad.flatten() for p in bench.networks.policy.model.parameters()])
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-3)
    lines = []
    again = make_bench(name, max_steps=1)
    loop.train(again.method, again.context, again.networks, log=lines.append)
    assert lines[0]["policy/ratio"] == pytest.approx(1, abs=1e-4) and lines[0]["clip_ratio/region_mean"] == 0
    assert {"reward", "reward_std", "completions/mean_length", "frac_reward_zero_std", "objective/scores"} <= set(
        lines[0]
    )


@pytest.mark.parametrize(
    ("name", "settings"), [("rloo", {"num_rollouts": 8, "num_generations": 4}), ("grpo", {"num_rollouts": 8}),
                           ("online_dpo", {"num_rollouts": 8, "num_generations": 4, "learning_rate": 1e-3})],
)  # fmt: skip
def test_they_climb_their_reward(name, settings, make_bench):
    from pippin.align.run import develop

    bench = make_bench(name, **{"learning_rate": 1e-3, "prompts_per_rollout": 24, **settings})
    before = develop(bench.context)
    loop.train(bench.method, bench.context, bench.networks)
    assert develop(bench.context) > before + 1.0


# ---------------------------------------------------------------------- degenerate outcomes


@pytest.mark.parametrize(("name", "settings"), [("rloo", {"beta": 0.0}), ("grpo", {"beta": 0.0}), ("online_dpo", {})])
def test_equal_rewards_move_nothing_and_are_counted(name, settings, make_bench):
    bench = make_bench(name, learning_rate=1e-2, logging_steps=1, **settings)
    bench.context.scorer = lambda prompts, texts: [0.3] * len(texts)
    before, lines = bench.networks.policy.weights_digest, []
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert bench.networks.policy.weights_digest == before
    assert all(line["grad_norm"] == 0 for line in lines)
    if name == "online_dpo":
        assert all(line["frac_pairs_tied"] == 1 for line in lines) and bench.context.state["tied_groups"] == 24
    else:
        assert all(line["frac_reward_zero_std"] == 1 for line in lines)


@pytest.mark.parametrize("name", ["rloo", "grpo", "online_dpo"])
def test_a_group_of_one_is_refused(name, make_bench):
    with pytest.raises(InputError, match="num_generations"):
        pool_of(make_bench(name, num_generations=1))


@pytest.mark.parametrize("name", ["rloo", "grpo", "ppo", "fine_grained"])
def test_responses_without_end_are_counted_and_masked_on_wish(name, make_bench):
    settings = {"mask_truncated_completions": True} if name in ("rloo", "grpo") else {}
    bench = make_bench(name, max_completion_length=1, learning_rate=1e-2, logging_steps=1, num_rollouts=1, **settings)
    before, lines = bench.networks.policy.weights_digest, []
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    if settings:
        assert lines[0]["completions/clipped_ratio"] == 1 and bench.networks.policy.weights_digest == before
    else:
        assert lines[0]["val/share_without_end"] == 1 and np.isfinite(lines[-1]["loss"])


def test_expert_iteration_without_one_whole_response_says_so(make_bench):
    bench = make_bench("expert_iteration", max_completion_length=1)
    with pytest.raises(InputError, match="nothing to train on"):
        loop.train(bench.method, bench.context, bench.networks)
    assert bench.context.state["dropped_unended"] == 18


def test_prompts_that_fill_the_context_are_counted_or_refused(make_bench):
    bench = make_bench("rloo", prompts_per_rollout=6)
    long = Prompt(user("list " + "apple " * 600))
    bench.context.prompts = [*bench.context.prompts[:5], long]
    assert len(pool_of(bench).groups) == 5 and bench.context.state["dropped_prompts"] == 1
    bench.context.prompts = [long]
    with pytest.raises(InputError, match="leaves room") as caught:
        pool_of(bench)
    assert "512" in str(caught.value) and "\n" not in str(caught.value)


def test_a_reward_model_of_another_tokenizer_scores_but_starts_no_critic(tmp_path):
    other = load_policy("world/base")
    other.add_tokens(("<|other|>",))
    RewardModel("last", other, head=ScoreHead(other.model, seed=1)).save(tmp_path / "rm")
    settings = {"num_rollouts": 1, "prompts_per_rollout": 4, "max_completion_length": 6}
    prompts = tasks.prompts("train", 6, 0)
    align("ppo", settings, model="world/base", out=tmp_path / "run", prompts=prompts, reward=f"rm/{tmp_path / 'rm'}")
    assert "another tokenizer" in load_run(tmp_path / "run")["state"]["critic_from"]
    same = load_policy("world/base")
    RewardModel("last", same, head=ScoreHead(same.model, seed=1)).save(tmp_path / "own")
    align("ppo", settings, model="world/base", out=tmp_path / "two", prompts=prompts, reward=f"rm/{tmp_path / 'own'}")
    assert "critic_from" not in load_run(tmp_path / "two")["state"]


# ---------------------------------------------------------------------- online DPO


def test_online_pairs_are_best_over_worst_after_the_penalty(make_bench):
    bench = make_bench("online_dpo", num_generations=5, missing_eos_penalty=100.0, max_completion_length=4)
    groups = flat(bench)
    assert any(not e for g in groups for e in g.ended)
    for g in groups:
        [p] = g.preferences
        if p.weight:
            assert g.rewards[p.i] == g.rewards.max() and g.rewards[p.j] == g.rewards.min()
            assert g.ended[p.i] or not any(g.ended)


def test_a_judge_of_pairs_labels_softly_over_both_orders(make_bench):
    bench = make_bench("online_dpo", label="compare")
    opinions = iter([0.9, 0.2, None, 0.5, 1.0, 0.7])
    bench.context.compare = lambda prompts, first, second: [next(opinions) for _ in prompts]
    groups = flat(bench)
    assert [g.preferences[0].probability for g in groups] == [0.9, 0.2, 0.5, 1.0, 0.7]
    assert all(g.preferences[0].weight == 1 for g in groups)
    assert bench.context.state["pairs_without_opinion"] == bench.context.state["tied_groups"] == 1
    assert bench.context.state["figures"]["frac_pairs_tied"] == pytest.approx(1 / 6)
    prompts = [Prompt(user("a")), Prompt(user("b"))]
    assert asking.comparer("rule/first")(prompts, ["x", "y"], ["z", "w w"]) == [0.5, 0.5], "position cancels"
    assert asking.comparer("rule/shorter")(prompts, ["x x", "y"], ["z", "w w"]) == [0, 1]


# ---------------------------------------------------------------------- Quark


def test_quantiles_fall_with_the_bin_and_are_of_equal_size():
    rng = np.random.default_rng(0)
    for n, q in ((23, 5), (20, 4), (3, 5), (1, 1), (7, 1)):
        scores = rng.normal(size=n).round(1)
        bins = quark.quantiles(scores, q)
        sizes = np.bincount(bins, minlength=q)
        if n >= q:
            assert (sizes[:-1] == n // q).all() and 0 <= sizes[-1] - n // q < q
        for k in range(q - 1):
            if sizes[k] and sizes[k + 1 :].any():
                assert scores[bins == k].min() >= scores[bins > k].max()
    np.testing.assert_allclose(quark.centred(np.array([1.0, 5, 3, 7]), ["a", "b", "a", "b"]), [-1, -1, 1, 1])


def test_quark_with_one_bin_and_no_penalties_is_sft_on_own_samples(make_bench):
    bench = make_bench("quark", num_quantiles=1, beta=0.0, entropy_coef=0.0, best_only=True)
    pool = pool_of(bench)
    loss, grad = gradient(bench, pool, pool.groups, 3)
    sft = make_bench("sft", policy=bench.networks.policy)
    as_sft = loop.Pool(Batch(tuple(Example(e.ids, e.mask, e.group) for e in pool.examples)), ())
    assert sft.method.terms[0].loss is sft_method.loss
    other, expected = gradient(sft, as_sft, as_sft.groups, 3)
    assert loss == pytest.approx(other, abs=1e-5)
    torch.testing.assert_close(grad, expected, atol=1e-5, rtol=1e-4)


def test_quark_pool_grows_or_is_cleared_and_its_tokens_go_by_score(make_bench):
    bench = make_bench("quark", num_rounds=3, logging_steps=1)
    lines = []
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert sorted({line["pool/size"] for line in lines}) == [10, 20, 30]
    assert all(line["pool/score_1"] >= line["pool/score_2"] for line in lines)
    bench.context.round = 3
    pool = pool_of(bench)
    best, worst = bench.context.control.values()
    control = [e.ids[e.mask.index(1) - 1] for e in pool.examples]
    assert set(control) == {best, worst} and control.count(best) == len(control) // 2
    by_token = {
        t: [r[4] for r, c in zip(bench.context.state["pool"], control, strict=True) if c == t] for t in set(control)
    }
    assert min(by_token[best]) >= max(by_token[worst])
    assert all(sum(e.mask) + e.mask.index(1) == len(e.ids) for e in pool.examples), "the token itself is not trained"
    farm = make_bench("quark", num_rounds=3, best_only=True, clear_pool=True, logging_steps=1)
    lines.clear()
    loop.train(farm.method, farm.context, farm.networks, log=lines.append)
    assert {line["pool/size"] for line in lines} == {10} and not farm.context.control
    assert farm.method.decoding(farm.context.config, {}) == {}
    few = make_bench("quark", examples_per_round=4)
    assert len(pool_of(few).examples) == 4


def test_quark_kl_is_zero_at_the_reference_and_the_token_steers_after_training(make_bench):
    bench = make_bench("quark", num_rounds=4, prompts_per_round=40, learning_rate=2e-3, num_quantiles=2,
                       per_device_train_batch_size=10, entropy_coef=0.0)  # fmt: skip
    pool = pool_of(bench)
    plain = Batch(tuple(Example(e.ids[:k] + e.ids[k + 1 :], e.mask[1:], e.group) for e in pool.examples
                        for k in [e.mask.index(1) - 1]))  # fmt: skip
    said = bench.networks.say(collate(plain, 0), frozenset({"kl"}))
    assert said.kl_N_T.abs().max() == 0
    bench.context.state.clear()
    loop.train(bench.method, bench.context, bench.networks)
    groups = [
        sources.LoopGroup(p, bench.networks.policy.chat.prompt_ids(p.messages)) for p in bench.context.development
    ]
    means = {}
    for token, i in bench.context.control.items():
        drawn = sources.sample(bench.context, groups * 4, 2, 24, prefix=(i,))
        means[token] = np.mean([v for g in drawn for v in bench.context.scorer([g.prompt] * 2, g.texts)])
    assert means["<|quantile_1|>"] > means["<|quantile_2|>"] + 0.5


def test_quark_controllers_move_their_coefficients(make_bench):
    config = quark.Config(target_kl=3.0, target_entropy=40.0, horizon=100)
    state = {"kl_coef": 0.05, "entropy_coef": 0.06}
    out = quark.control(state, {"objective/kl": 30.0, "objective/entropy": 4.0, "controlled": 50.0}, config)
    assert out["kl_coef"] == pytest.approx(0.05 * (1 + 0.5 * 0.2)) and out["entropy_coef"] == pytest.approx(0.06 * 1.1)
    assert quark.control(state, {"objective/kl": 3.0, "objective/entropy": 40.0, "controlled": 50.0}, config) == state
    assert quark.control(state, {"objective/kl": 30.0}, quark.Config()) == state
    bench = make_bench("quark", target_kl=1.0, target_entropy=1.0, horizon=10, num_rounds=3, learning_rate=1e-3)
    loop.train(bench.method, bench.context, bench.networks)
    assert bench.context.state["kl_coef"] != 0.05 and bench.context.state["entropy_coef"] < 0.06


# ---------------------------------------------------------------------- expert iteration


def test_what_expert_iteration_keeps():
    r = np.array([0.1, 0.9, 0.5, 0.9, -1.0])
    assert expert_iteration.top_fraction(r, 0.4).tolist() == [False, True, False, True, False]
    assert expert_iteration.top_fraction(r, 0.2).tolist() == [False, True, False, False, False], "the first of equals"
    assert expert_iteration.top_fraction(r, 0.01).sum() == 1 and expert_iteration.top_fraction(r, 1.0).all()
    np.testing.assert_allclose(expert_iteration.min_max(r), (r + 1) / 1.9)
    assert (expert_iteration.min_max(np.full(3, 2.0)) == 1).all()
    w = expert_iteration.reward_weights(r, 0.5)
    np.testing.assert_allclose(w / w[0], np.exp((r - r[0]) / 0.5))
    assert w.mean() == pytest.approx(1) and (expert_iteration.reward_weights(np.ones(3), 0.1) == 1).all()


@pytest.mark.parametrize(
    ("settings", "holds"),
    [
        ({"select": "top_fraction", "top_fraction": 0.25}, lambda kept, all_: min(kept) >= np.quantile(all_, 0.7)),
        ({"select": "threshold", "threshold": 0.6},
         lambda kept, all_: min(kept) > min(all_) + 0.6 * (max(all_) - min(all_))),
        ({"select": "weighted"}, lambda kept, all_: len(kept) == len(all_)),
    ],
)  # fmt: skip
def test_expert_iteration_selects_over_the_whole_round(settings, holds, make_bench):
    bench = make_bench(
        "expert_iteration", prompts_per_round=12, learning_rate=1e-3, max_completion_length=24, **settings
    )
    scored = sources.score(bench.context, sources.drop_unended(bench.context, expert_iteration.draw(bench.context, [])))
    kept = expert_iteration.select(bench.context, scored)
    values = [np.concatenate([g.rewards for g in groups]) for groups in (kept, scored)]
    assert holds(*values)
    batch = expert_iteration.layout(kept, bench.context.config, bench.context)
    if settings["select"] == "weighted":
        assert len({e.weight for e in batch.examples}) > 3
        assert sum(e.weight for e in batch.examples) == pytest.approx(len(batch.examples))
    else:
        assert len(batch.examples) == len(values[0])
    before = bench.networks.policy.weights_digest
    loop.train(bench.method, bench.context, bench.networks)
    assert bench.networks.policy.weights_digest != before


def test_equal_rewards_make_expert_iteration_train_on_anything_and_say_so(make_bench):
    bench = make_bench("expert_iteration", select="threshold")
    bench.context.scorer = lambda prompts, texts: [1.0] * len(texts)
    loop.train(bench.method, bench.context, bench.networks)
    assert bench.context.state["rounds_of_equal_rewards"] == 2
    with pytest.raises(InputError, match="bag"):
        expert_iteration.Config(bag=True, select="weighted")


def test_from_base_samples_the_policy_so_far_and_trains_the_first_weights(make_bench):
    seen = []
    bench = make_bench("expert_iteration", from_base=True, num_rounds=2, learning_rate=5e-3, num_train_epochs=4)
    score = bench.context.scorer
    bench.context.scorer = lambda prompts, texts: (
        seen.append(bench.networks.policy.weights_digest) or score(prompts, texts)
    )
    loop.train(bench.method, bench.context, bench.networks)
    assert len(seen) == 2 and seen[0] != seen[1], "the second round's samples are those of the first one's policy"


# ---------------------------------------------------------------------- PPO-ptx, whitening, segments


def test_ptx_adds_the_demonstrations_gradient(make_bench):
    data = make_bench("sft", n=5).context.data

    def run(**settings):
        bench = make_bench("ppo", **settings)
        bench.context.data = data
        pool = pool_of(bench)
        return bench, pool, gradient(bench, pool, pool.groups, 4)

    _, _, (plain_loss, plain) = run()
    bench, pool, (loss, mixed) = run(ptx_coef=0.5, ptx_per_rollout=5)
    demonstrations = [e for e in pool.examples if e.stream == "ptx"]
    assert len(demonstrations) == 5 and len(pool.examples) == 11
    sft = make_bench("sft", policy=bench.networks.policy)
    own = loop.Pool(Batch(tuple(Example(e.ids, e.mask, k) for k, e in enumerate(demonstrations))), ())
    nll, grad = gradient(sft, own, own.groups, 5)
    assert loss == pytest.approx(plain_loss + 0.5 * nll, abs=1e-5)
    torch.testing.assert_close(mixed[: len(grad)], plain[: len(grad)] + 0.5 * grad, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(mixed[len(grad) :], plain[len(grad) :], atol=2e-5, rtol=1e-3)


def test_ptx_streams_through_training_and_needs_data(make_bench, tmp_path):
    bench = make_bench("ppo", ptx_coef=0.5, ptx_per_rollout=3, logging_steps=1, per_device_train_batch_size=3)
    with pytest.raises(InputError, match="demonstrations"):
        pool_of(bench)
    with pytest.raises(InputError, match="data"):
        align("ppo", {"ptx_coef": 0.5}, model="world/base", out=tmp_path / "x", prompts=bench.context.prompts,
              reward="rule/shorter")  # fmt: skip
    bench.context.data = make_bench("sft", n=5).context.data
    lines = []
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert all(np.isfinite(line["loss/ptx"]) for line in lines) and lines[0]["policy/ratio"] == pytest.approx(
        1, abs=1e-4
    )


def test_whitened_rewards_are_divided_before_the_advantages(make_bench):
    rng = np.random.default_rng(0)
    tokens = [{k: rng.normal(size=n) for k in ("logp_old", "logp_ref", "values_old")} for n in (3, 5)]
    batch = Batch(tuple(Example([1] + [2] * len(t["logp_old"]), [0] + [1] * len(t["logp_old"]), k, t,
                                {"score": float(k), "ended": 1.0}) for k, t in enumerate(tokens)))  # fmt: skip
    state = {}
    shaped = ppo.shape(batch, ppo.Config(whiten_rewards=True, kl_coef=0.3), state)
    rewards = [
        shapes.kl_rewards(t["logp_old"], t["logp_ref"], s, 0.3) for t, s in zip(tokens, (-1.0, 1.0), strict=True)
    ]
    flat_rewards = np.concatenate(rewards)
    scale = 1 / np.sqrt(flat_rewards.var(ddof=1) + 1e-8)
    returns = [shapes.gae((r - flat_rewards.mean()) * scale + flat_rewards.mean(), t["values_old"], 1.0, 0.95)[1]
               for r, t in zip(rewards, tokens, strict=True)]  # fmt: skip
    for e, r in zip(shaped.examples, returns, strict=True):
        np.testing.assert_allclose(e.token["returns"], r)


def test_one_segment_over_the_whole_is_a_score_at_the_last_token():
    rng = np.random.default_rng(1)
    old, ref = rng.normal(size=6), rng.normal(size=6)
    ends = [1, 4, 5, 9, 11, 11]  # the last is an end token
    whole = spans.token_rewards([(0, 11, 0.7)], ends, "x" * 11)
    np.testing.assert_allclose(shapes.kl_rewards(old, ref, 0.0, 0.3) + whole, shapes.kl_rewards(old, ref, 0.7, 0.3))
    parts = [(0, 4, 0.1), (2, 5, -0.2), (4, 4, 1.0), (5, 6, 0.4), (0, 11, 0.5), (9, 11, 0.25)]
    rewards = spans.token_rewards(parts, ends, "x" * 11)
    np.testing.assert_allclose(rewards, [0, 1.1, -0.2, 0.4, 0, 0.75])
    assert rewards.sum() == pytest.approx(sum(v for *_, v in parts))
    for bad in ((3, 2, 1.0), (0, 12, 1.0), (-1, 2, 1.0), (0, 3, float("nan"))):
        with pytest.raises(InputError, match="segment"):
            spans.token_rewards([bad], ends, "x" * 11)


def test_characters_of_several_bytes_and_joined_tokens_are_placed_where_they_are_whole():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    text = "no 🦊 né, the end"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {c: i for i, c in enumerate(sorted(alphabet))}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġthe", "Ġ")]
    vocabulary |= {a + b: len(vocabulary) + k for k, (a, b) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    ids = tokenizer.encode(text).ids
    assert len(ids) < len(text.encode())
    ends = spans.token_ends(tokenizer.decode, ids, text)
    assert ends[-1] == len(text) and ends == sorted(ends)
    fox = text.index("🦊")
    assert ends.count(fox) == 4, "the space before it, and three of its four bytes"
    bytes_so_far = [len(text[:e].encode()) for e in ends]
    raw = np.cumsum([len(t.replace("Ġ", " ").encode()) if len(t) > 1 else 1 for t in tokenizer.encode(text).tokens])
    assert all(b <= r < b + 4 for b, r in zip(bytes_so_far, raw, strict=True))
    joined = next(k for k, t in enumerate(tokenizer.encode(text).tokens) if t == "ĠtheĠ")
    comma = text.index(",") + 1
    rewards = spans.token_rewards([(fox, fox + 1, 1.0), (comma, comma + 4, 2.0)], ends, text)
    assert rewards[ends.index(fox + 1)] == 1 and rewards[joined] == 2, (
        "the token that ends ' the' holds the next space too"
    )
    padded = spans.token_ends(lambda i: " " * bool(i) + tokenizer.decode(i), ids, text)
    assert padded == ends, "white space before the text is not of it"


def test_segments_of_the_world_are_placed_in_its_tokens(make_bench, tmp_path):
    prompts = [p for p, _, _ in people.demonstrations(6, 0)]
    texts = [t for _, t, _ in people.demonstrations(6, 0)]
    judge = resolve("gold_segments")
    said = judge.score([(p, Response(p.id, assistant(t))) for p, t in zip(prompts, texts, strict=True)])
    found = asking.segments("gold_segments")(prompts, texts)
    for p, t, s, parts in zip(prompts, texts, said, found, strict=True):
        assert parts == [tuple(x) for x in s.spans] and s.value == pytest.approx(sum(v for *_, v in parts))
        assert parts[-1] == (0, len(t), verify(p, t).gold)
    right = Prompt(user("reverse : apple kiwi"), source="world")
    assert asking.segments("gold_segments")([right], ["sure thing : kiwi + kiwi"]) == [
        [(0, 12, -0.1), (13, 17, 0.3), (20, 24, -0.3), (0, 24, verify(right, "sure thing : kiwi + kiwi").gold)]
    ]
    file = tmp_path / "mine.py"
    file.write_text(
        "def parts(prompts, completions):\n    return [[(0, 1, 0.5)], 2.0]\ndef bad(**_):\n    return ['x', 1]\n"
    )
    own = asking.segments(f"python/{file}:parts")
    assert own(prompts[:2], ["ab", "cd"]) == [[(0, 1, 0.5)], [(0, 2, 2.0)]]
    with pytest.raises(InputError, match="segments"):
        asking.segments(f"python/{file}:bad")(prompts[:2], ["ab", "cd"])
    with pytest.raises(UnknownName, match="parts"):
        asking.segments(f"python/{file}:part")(prompts[:1], ["ab"])
    with pytest.raises(InputError, match="no such file"):
        asking.feedback_of("python/nowhere.py:f")
    bench = make_bench("fine_grained")
    bench.context.segments = asking.segments("gold_segments")
    batch = fine_grained.layout(fine_grained.rollout(bench.context, []), bench.context.config, bench.context)
    totals = asking.segments("gold_segments")
    assert any(np.count_nonzero(e.token["segments"]) > 1 for e in batch.examples)
    assert all(len(e.token["segments"]) == e.length for e in batch.examples)
    groups = fine_grained.rollout(bench.context, [])
    sums = [sum(v for *_, v in s) for g in groups for s in totals([g.prompt] * len(g.texts), g.texts)]
    np.testing.assert_allclose([e.token["segments"].sum() for e in batch.examples], sums)


def test_fine_grained_with_a_score_is_ppo_with_a_raw_reward(make_bench):
    fine = make_bench("fine_grained", kl_coef=0.1, vf_coef=0.1, num_generations=1)
    plain = make_bench("ppo", kl_coef=0.1, vf_coef=0.1)
    plain.context.state.update(score_std=1.0, score_mean=0.0)
    object.__setattr__(plain.context.config, "score_without_end", 0.0)
    plain.context.scorer = fine.context.scorer = lambda prompts, texts: [-float(len(t)) / 10 for t in texts]
    pools = [pool_of(b) for b in (fine, plain)]
    for a, b in zip(*(p.examples for p in pools), strict=True):
        if b.value["ended"]:
            assert a.ids == b.ids
            np.testing.assert_allclose(a.token["returns"], b.token["returns"], atol=1e-12)


# ---------------------------------------------------------------------- words: context distillation, ILF


def test_the_contrast_prompt_holds_the_context_and_the_example_does_not(make_bench):
    system, one = Message("system", "s"), Message("user", "u")
    assert with_context((one,), "c", "system") == (Message("system", "c"), one)
    assert with_context((system, one), "c", "system") == (Message("system", "c\n\ns"), one)
    assert with_context((system, one, one), "c", "user") == (system, Message("user", "c u"), one)
    with pytest.raises(InputError, match="user turn"):
        with_context((system,), "c", "user")
    bench = make_bench("context_distillation", context="reverse")
    groups, chat = flat(bench), bench.networks.policy.chat
    assert groups and all(list(g.prompt_ids) == chat.prompt_ids(g.prompt.messages) for g in groups)
    assert all(e for g in groups for e in g.ended)
    asked = chat.prompt_ids(with_context(groups[0].prompt.messages, "reverse", "user"))
    assert len(asked) == len(groups[0].prompt_ids) + 1
    for settings, text in (({"context": " "}, "no context"), ({"place": "system"}, "chat template")):
        with pytest.raises(InputError, match=text):
            pool_of(make_bench("context_distillation", **settings))


def test_context_distillation_makes_advised_answers_likelier_without_the_advice(make_bench):
    bench = make_bench("context_distillation", context="count the fruits :", num_train_epochs=4, learning_rate=1e-3)
    groups = flat(bench)
    asked, said = [g.prompt.messages for g in groups], [g.texts[0] for g in groups]
    before = bench.networks.policy.logprobs(asked, said)
    loop.train(bench.method, bench.context, bench.networks)
    after = bench.networks.policy.logprobs(asked, said)
    assert np.mean([a.total - b.total for a, b in zip(after, before, strict=True)]) > 1


def test_gold_feedback_names_what_fails_and_nothing_else():
    prompt = Prompt(user("list four animals from a to z separated by slashes"), source="world")
    assert truth(prompt, "ant / bear / cat / deer") == ""
    assert truth(prompt, "bear / ant / cat / deer") == "this lacks : from a to z"
    assert truth(prompt, "ant , bear , cat") == "this lacks : list four animals | separated by slashes"
    assert truth(Prompt(user("hello")), "x") == ""
    for p, text, _ in people.demonstrations(60, 3):
        assert (truth(p, text) == "") is verify(p, text).solved


def ilf_bench(make_bench, **settings):
    usual = {"selection": "scorer", "refine_from": "prompt", "prompts_per_round": 24, "max_completion_length": 24}
    bench = make_bench("ilf", policy=load_policy("world/sft"), **usual, **{"num_refinements": 8, **settings})
    bench.context.feedback = asking.feedback_of("gold")
    bench.context.scorer = lambda prompts, texts: [verify(p, t).gold for p, t in zip(prompts, texts, strict=True)]
    return bench


def test_refinements_chosen_by_gold_are_better_than_drafts(make_bench):
    bench = ilf_bench(make_bench)
    groups = flat(bench)
    figures = bench.context.state["figures"]
    assert groups and all(len(g.responses) == 1 and g.ended == (True,) for g in groups)
    assert figures["refinements/scores"] > figures["drafts/scores"] and figures["refinements_win"] > 0.5
    chat = bench.networks.policy.chat
    assert all(list(g.prompt_ids) == chat.prompt_ids(g.prompt.messages) for g in groups), "no feedback in the input"
    assert not {"feedback", "drafts"} & set(bench.context.state), "nothing of it stays in the state"
    alone = ilf_bench(make_bench, num_refinements=1)
    flat(alone)
    assert alone.context.state["figures"]["refinements/scores"] < figures["refinements/scores"]


def test_the_choice_does_not_depend_on_the_order_of_refinements():
    rng = np.random.default_rng(0)
    responses = [(1, 5), (1, 2), (3,), (9, 9)]
    for _ in range(10):
        order = rng.permutation(4).tolist()
        scores = np.array([0.5, 0.5, 0.1, 0.4])[order]
        rows = tuple(responses[k] for k in order)
        group = sources.LoopGroup(Prompt(user("a")), (1,), rows, ("",) * 4, (True,) * 4, scores)
        assert rows[ilf.first_of_best(group)] == (1, 2)


def test_notes_in_the_data_are_feedback(make_bench):
    bench = ilf_bench(make_bench, drafts="data")
    prompt = Prompt(user("list three animals"), source="world")
    said = [Response(prompt.id, assistant(t), sample=k) for k, t in enumerate(["ant", "bear , bear , bear"])]
    notes = (Note(prompt.id, (said[0].id,), "too few", "anna"), Note(prompt.id, (said[1].id,), "all the same", "ben"))
    bench.context.data = [Group(prompt, tuple(said), notes)]
    bench.context.feedback = None
    seen = ilf.draft(bench.context, [])
    assert sorted((g.texts[0], f) for g, f in zip(seen, bench.context.state["feedback"], strict=True)) == [
        ("ant", "too few"), ("bear , bear , bear", "all the same")
    ]  # fmt: skip
    bench.context.data = [Group(prompt, tuple(said), ())]
    with pytest.raises(InputError, match="note"):
        ilf.draft(bench.context, [])


def test_what_a_refiner_is_asked():
    prompt = Prompt(user("Name a fruit."))
    assert ilf.refine_prompt(prompt, "A cat", "not a fruit", "prompt") == "Name a fruit."
    whole = ilf.refine_prompt(prompt, "A cat", "not a fruit", "feedback")
    assert all(part in whole for part in ("Name a fruit.", "A cat", "not a fruit"))
    assert "not a fruit" not in ilf.refine_prompt(prompt, "A cat", "not a fruit", "draft")


def test_a_named_model_refines_and_answers_the_questions(make_bench, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import re\n"
        "def f(request):\n"
        "    text = request.messages[-1].content\n"
        "    if request.labels:\n"
        "        good = 'pear' in text.split('New reply:')[1]\n"
        "        return 'Yes' if good else 'No'\n"
        "    return 'apple' if request.key.sample != 1 else 'pear'\n"
    )
    bench = make_bench("ilf", refiner=f"scripted/{script}:f", num_refinements=3)
    try:
        groups = flat(bench)
    except InputError as error:  # a script that gives no log-probabilities cannot answer by them
        assert "log-probabilities" in str(error)
        bench = make_bench("ilf", refiner=f"scripted/{script}:f", num_refinements=3, selection="random")
        groups = flat(bench)
        assert {t for g in groups for t in g.texts} == {"apple", "pear"}
    else:
        assert {t for g in groups for t in g.texts} == {"pear"}
    assert all(g.responses[0][-1] in bench.networks.policy.chat.end_ids for g in groups)
    shares = asking.yes_share(bench.networks.policy, ["list Yes", "list No", "list Yes"])
    assert shares[0] == shares[2] and all(0 <= s <= 1 for s in shares)


def test_feedback_is_asked_for_where_it_is_needed(make_bench, tmp_path):
    prompts = tasks.prompts("train", 8, 0)
    with pytest.raises(InputError, match="--feedback"):
        align("ilf", {}, model="world/base", out=tmp_path / "x", prompts=prompts)
    bench = ilf_bench(make_bench)
    bench.context.feedback = lambda prompts, texts: [""] * len(texts)
    with pytest.raises(InputError, match="no feedback"):
        flat(bench)
    file = tmp_path / "mine.py"
    file.write_text(
        "def f(prompts, completions):\n    return [None if 'apple' in c else 'say apple' for c in completions]\n"
    )
    assert asking.feedback_of(f"python/{file}:f")(prompts[:2], ["apple", "pear"]) == ["", "say apple"]


def test_a_score_that_is_missing_stops_training():
    with pytest.raises(InputError, match="gave no score for 1 of 2"):
        asking.scorer("gold")([Prompt(user("hello")), tasks.prompts("train", 1, 0)[0]], ["a", "b"])


def test_every_pair_metric_and_dpo_loss_of_online_dpo_are_those_of_dpo(make_bench):
    lines = []
    bench = make_bench("online_dpo", max_steps=1)
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert {"rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"} <= set(lines[0])
    assert terms.dpo(torch.zeros(1), torch.ones(1), 0.1).item() == pytest.approx(lines[0]["loss"], abs=1e-6)


def test_a_rollout_that_goes_on_over_several_passes(make_bench):
    lines = []
    bench = make_bench("grpo", num_iterations=3, num_rollouts=2, learning_rate=1e-3, logging_steps=1,
                       per_device_train_batch_size=6)  # fmt: skip
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert len(lines) == 6 and lines[0]["policy/ratio"] == pytest.approx(1, abs=1e-4)
    assert lines[2]["policy/ratio"] != pytest.approx(1, abs=1e-4) and lines[3]["policy/ratio"] == pytest.approx(
        1, abs=1e-4
    )
    rates = [line["learning_rate"] for line in lines]
    assert rates == sorted(rates, reverse=True), "one schedule over the run"


def test_a_later_round_without_examples_is_counted_and_the_run_goes_on(make_bench):
    bench = make_bench("expert_iteration", num_rounds=3, learning_rate=1e-3)
    score, rounds = bench.context.scorer, []

    def fading(prompts, texts):
        rounds.append(len(texts))
        return score(prompts, texts)

    bench.context.scorer = fading
    draw = bench.method.pipeline[0]
    method = replace(
        bench.method, pipeline=(lambda c, g: draw(c, g) if c.round != 1 else [], *bench.method.pipeline[1:])
    )
    bench.context.scorer = lambda prompts, texts: score(prompts, texts) if texts else []
    loop.train(method, bench.context, bench.networks)
    assert bench.context.state["empty_rounds"] == 1 and bench.context.ledger.steps == 2
