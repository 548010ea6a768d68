"""Countermeasures against length and over-optimisation: on rewards, on preferences, and who may use them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pippin.align import interventions, loop, sources
from pippin.align.asking import scorer
from pippin.align.method import Training
from pippin.align.run import align, load_run
from pippin.align.settings import Settings
from pippin.compare.work import reranker
from pippin.core import catalog
from pippin.core.errors import Diverged, InputError
from pippin.core.types import Choice, Outcome, Preference, Sampling
from pippin.feedback.collapse import Rule, collapse
from pippin.lm.hf import load_policy
from pippin.world import tasks

REWARDED = ["expert_iteration", "grpo", "ilf", "online_dpo", "ppo", "quark", "rloo", "rso", "slic_sample"]


def pipeline(bench):
    groups = []
    for transform in bench.method.pipeline:
        groups = transform(bench.context, groups)
    return groups


# ------------------------------------------------------------ rewards


def test_nothing_is_changed_or_kept_by_default():
    state, rewards = {}, np.array([1.0, 5.0])
    assert interventions.on_rewards(rewards, [3, 4], Training(), state) is rewards and state == {}


def test_the_published_penalty_and_scaling():
    rewards, tokens = np.array([1.0, 2.0, 6.0]), [0, 100, 150]
    sigma = np.sqrt(7.0)  # of 1, 2, 6, with n - 1
    penalised = interventions.on_rewards(rewards, tokens, Training(length_penalty=2.0), {})
    np.testing.assert_allclose(penalised, [1 + 2 * sigma, 2, 6 - sigma])  # 2 sigma (1 - 0.01 len)
    state = {}
    scaled = interventions.on_rewards(rewards, tokens, Training(score_clip=0.3), state)
    np.testing.assert_allclose(scaled, [-0.3, -1 / sigma if sigma > 1 / 0.3 else -0.3, 0.3])
    assert state["clipped_rewards"] == 3
    wide = interventions.on_rewards(rewards, tokens, Training(score_clip=9.0), {})
    np.testing.assert_allclose(wide, (rewards - 3) / sigma)
    both = interventions.on_rewards(rewards, tokens, Training(score_clip=9.0, length_penalty=2.0), {})
    np.testing.assert_allclose(both, (penalised - 3) / sigma)  # the penalty first, the statistics of what was given


def test_statistics_run_over_ten_rounds():
    state, training = {}, Training(score_clip=100.0)
    rounds = [np.array([k, k + 2.0 * (k + 1)]) for k in range(15)]  # mean 2k + 1, deviation (k + 1) sqrt 2
    for k, rewards in enumerate(rounds):
        seen = range(max(0, k - 9), k + 1)
        mean, sigma = np.mean([2 * j + 1 for j in seen]), np.mean([(j + 1) * np.sqrt(2) for j in seen])
        found = interventions.on_rewards(rewards, [1, 1], training, state)
        np.testing.assert_allclose(found, (rewards - mean) / sigma)
    assert len(json.loads(json.dumps(state))["reward_rounds"]) == 10


def test_rewards_without_spread_stay_without_spread():
    training = Training(score_clip=0.3, length_penalty=2.0)
    for rewards in (np.full(4, 7.0), np.array([7.0])):
        assert (interventions.on_rewards(rewards, [5] * len(rewards), training, {}) == 0).all()


@pytest.mark.parametrize("name", REWARDED)
def test_every_method_that_scores_takes_them(name, make_bench):
    on = {"score_clip": 0.3, "length_penalty": 2.0, "length_penalty_tokens": 6}
    settings = {"selection": "scorer"} if name == "ilf" else {}
    bench = make_bench(name, learning_rate=1e-3, max_steps=2, **on, **settings)
    interventions.fits(name, bench.method, bench.context.config, bench.context.training)
    seen = []
    score = sources.score

    def noted(context, groups):
        out = score(context, groups)
        seen.extend(float(s) for g in out for s in g.rewards)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "score", noted)
        method = bench.method
        pipe = tuple(noted if t is score else t for t in method.pipeline)
        loop.train(replace(method, pipeline=pipe), bench.context, bench.networks)
    assert seen and max(map(abs, seen)) <= 0.3 and bench.context.state["reward_rounds"]


def test_the_method_list_is_whole(make_bench):
    """Every method that asks for a reward is among those above, or is refused."""
    asking = set()
    for name in catalog.names("methods"):
        method = catalog.load("methods", name)
        if "reward" in method.wants(Settings.of(name, method, make_bench.small.get(name, {})).own):
            asking.add(name)
    assert asking | {"ilf"} == {*REWARDED, "best_of_n", "fine_grained"}


@pytest.mark.parametrize("name", ["grpo", "ppo", "quark", "rloo"])
def test_responses_that_were_cut_can_be_left_out(name, make_bench):
    many = {"prompts_per_round" if name == "quark" else "prompts_per_rollout": 12}
    bench = make_bench(name, omit_unended=True, max_completion_length=9, learning_rate=1e-3, max_steps=2, **many)
    asked = []
    judge = bench.context.scorer
    bench.context.scorer = lambda prompts, texts: asked.extend(texts) or judge(prompts, texts)
    drawn = sources.sample

    def counted(*args, **named):
        out = drawn(*args, **named)
        drawn_all.extend(e for g in out for e in g.ended)
        return out

    drawn_all = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "sample", counted)
        loop.train(bench.method, bench.context, bench.networks)
    cut = drawn_all.count(False)
    assert cut and bench.context.state["dropped_unended"] == cut
    assert len(asked) == len(drawn_all) - cut == bench.context.ledger.scorer_calls


def test_a_round_in_which_nothing_ended_says_so(make_bench):
    bench = make_bench("rloo", omit_unended=True, max_completion_length=1)
    with pytest.raises(InputError, match="Raise max_completion_length"):
        pipeline(bench)
    bench.context.round = 3
    with pytest.raises(Diverged, match="omit_unended"):
        pipeline(bench)


def test_a_cut_run_goes_on_with_its_statistics(make_bench, tmp_path):
    settings = {"learning_rate": 1e-3, "save_steps": 1, "logging_steps": 1, "score_clip": 0.3, "num_rollouts": 3}
    ends = []
    for killed in (False, True):
        folder = tmp_path / str(killed)
        if killed:
            bench = make_bench("rloo", **settings)
            with pytest.raises(KeyboardInterrupt):
                loop.train(bench.method, bench.context, bench.networks, folder=folder, log=_stop_at_two)
        bench = make_bench("rloo", **settings)
        loop.train(bench.method, bench.context, bench.networks, folder=folder)
        ends.append((bench.networks.policy.weights_digest, bench.context.state["reward_rounds"]))
    assert ends[0] == ends[1] and len(ends[0][1]) == 3


def _stop_at_two(line):
    if line["step"] == 2:
        raise KeyboardInterrupt


# ------------------------------------------------------------ preferences


ALL = {"min_confidence": 0.6, "random_pairs": 0.5, "length_balance": 3}


def stated(groups):
    """The same with a probability beside each choice, and the better response longer in most."""
    rng = np.random.default_rng(0)
    return [
        replace(g, judgements=tuple(replace(c, p_first=float(rng.uniform(0.3, 1))) for c in g.judgements))
        for g in groups
    ]


def test_a_run_counts_what_it_dropped_and_added(make_bench, tmp_path):
    data = stated(make_bench("dpo", n=16).context.data)
    settings = {"max_steps": 2, "max_length": 64, "watch_prompts": 0}
    for name, on in (("plain", {}), ("all", ALL)):
        align("dpo", {**settings, **on}, model="world/base", out=tmp_path / name, data=data,
              rule=Rule(probabilities="stated"))  # fmt: skip
    plain, said = load_run(tmp_path / "plain"), load_run(tmp_path / "all")
    assert not [k for k in plain["manifest"] if k.rpartition(".")[2] in {*ALL, "score_clip", "max_confidence"}]
    assert "preferences" not in plain["manifest"] and "pairs_given" not in plain["state"]
    assert {k: said["manifest"][f"method.dpo.{k}"] for k in ALL} == ALL
    assert json.loads(said["manifest"]["preferences"]) == said["state"]
    state = said["state"]
    assert state["pairs_given"] == plain["ledger"]["labels"]
    changes = -state["dropped_confidence"] + state["added_random_pairs"] - state["dropped_balance"]
    assert said["ledger"]["labels"] == state["pairs_given"] + changes
    assert min(state["dropped_confidence"], state["added_random_pairs"], state["dropped_balance"]) > 0


@pytest.mark.parametrize(
    "name", [n for n in catalog.names("methods") if catalog.load("methods", n).reads == "preferences"]
)
def test_every_method_that_reads_preferences_learns_from_what_is_left(name, make_bench):
    bench = make_bench(name, n=16, random_pairs=0.25, length_balance=5, max_steps=1)
    context = bench.context
    context.preferences = [collapse(g.judgements, g.responses).preferences for g in context.data]
    counts = interventions.on_preferences(context)
    rows = list(zip(context.data, context.preferences, strict=True))
    gaps = [
        context.trained_length(g, g.responses[p.i]) - context.trained_length(g, g.responses[p.j])
        for g, preferences in rows
        for p in preferences
    ]
    assert sum(gap > 0 for gap in gaps) == sum(gap < 0 for gap in gaps)
    assert counts["added_random_pairs"] > 0
    assert counts["dropped_balance"] > 0 or name in ("conditional", "feedme", "pro", "rrhf")  # tested on equal lengths
    loop.train(bench.method, context, bench.networks)
    assert context.ledger.steps == 1


def test_lengths_are_those_that_are_trained_on(make_bench):
    bench = make_bench("dpo")
    context = bench.context
    [read] = [sources.read(replace(context, ledger=type(context.ledger)()), [])]
    for group, given in zip(read, context.data, strict=True):
        assert [len(r) for r in group.responses] == [context.trained_length(given, r) for r in given.responses]


def test_data_that_leave_nothing_say_so(make_bench):
    bench = make_bench("dpo", length_balance=1)
    group = bench.context.data[0]
    long, short = sorted(group.responses, key=lambda r: -len(r.text))[:2]
    group = replace(
        group, responses=(long, short), judgements=(Choice(group.prompt.id, long.id, short.id, Outcome.FIRST, "t"),)
    )
    bench.context.data, bench.context.preferences = [group], [(Preference(0, 1),)]
    with pytest.raises(InputError, match=r"length_balance: no pair is left .*dropped_balance"):
        interventions.on_preferences(bench.context)


# ------------------------------------------------------------ who may use them


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("ppo", {"length_balance": 10}, "length_balance: ppo reads prompts, and this setting changes preferences"),
        ("sft", {"random_pairs": 0.25}, "random_pairs: sft reads demonstrations"),
        ("dpo", {"score_clip": 0.3}, "score_clip: dpo learns from no reward"),
        ("best_of_n", {"length_penalty": 2}, "length_penalty: best_of_n learns from no reward"),
        ("context_distillation", {"omit_unended": True}, "omit_unended: context_distillation learns from no reward"),
        ("fine_grained", {"score_clip": 0.3}, "score_clip: this method takes segments as its reward"),
        ("online_dpo", {"label": "compare", "length_penalty": 2}, "takes comparisons as its reward"),
        ("dpo", {"min_confidence": 0.6}, "collapse.probabilities"),
        ("dpo", {"min_confidence": 0.4}, "0.5 <= min_confidence"),
        ("dpo", {"min_confidence": 0.9, "max_confidence": 0.8}, "0.5 <= min_confidence"),
        ("ppo", {"score_clip": -0.3}, "score_clip: a countermeasure cannot be negative"),
        ("ppo", {"length_penalty_tokens": 0}, "1 or more"),
    ],
)
def test_what_would_do_nothing_is_refused(name, settings, said, make_bench, tmp_path):
    small = make_bench.small.get(name, {})
    method = catalog.load("methods", name)
    bench = make_bench(name)
    with pytest.raises(InputError) as caught:
        align(
            name,
            {"max_length": 64, "watch_prompts": 0, **small, **settings},
            model="world/base",
            out=tmp_path / "run",
            data=bench.context.data,
            prompts=bench.context.prompts,
            reward="rule/longer" if method.reads == "prompts" else None,
        )
    assert said in str(caught.value) and "\n" not in str(caught.value)


# ------------------------------------------------------------ baselines


def test_best_of_n_by_length_keeps_the_longest_of_the_policy_s_own_draws(tmp_path):
    align("best_of_n", {"candidates": (4,), "max_completion_length": 12, "watch_prompts": 0}, model="world/base",
          out=tmp_path / "longest", reward="rule/longer")  # fmt: skip
    policy = load_policy(str(tmp_path / "longest"))
    prompts, sampling = tasks.prompts("dev", 6, 0), Sampling(1.0, 1.0, 12, 0)
    kept = policy.respond(prompts, sampling=sampling, rerank=reranker(policy))
    policy.decoding = type(policy.decoding)()
    drawn = policy.respond(prompts, n=4, sampling=sampling)
    for prompt, response in zip(prompts, kept, strict=True):
        texts = [r.text for r in drawn if r.prompt_id == prompt.id]
        assert response.text == max(texts, key=len) and len(texts) == 4


@pytest.mark.slow
def test_a_reward_for_length_alone_lengthens_and_costs_gold_and_a_penalty_slows_it(tmp_path):
    prompts, gold = tasks.prompts("dev", 80, 7), scorer("gold")

    def measured(model):
        texts = [r.text for r in load_policy(model).respond(prompts, sampling=Sampling(1.0, 1.0, 32, 3))]
        return np.mean([len(t.split()) for t in texts]), np.mean(gold(prompts, texts))

    settings = {"num_rollouts": 12, "prompts_per_rollout": 16, "num_generations": 4, "max_completion_length": 32,
                "learning_rate": 1e-3, "beta": 0.0, "per_device_train_batch_size": 32, "watch_prompts": 0,
                "max_length": 128}  # fmt: skip
    found = {"start": measured("world/sft")}
    for name, on in (("length", {}), ("penalised", {"length_penalty": 2.0, "length_penalty_tokens": 10})):
        align("rloo", {**settings, **on}, model="world/sft", out=tmp_path / name,
              prompts=tasks.prompts("train", 300, 0), reward="rule/length?target=16")  # fmt: skip
        found[name] = measured(str(tmp_path / name))
    start, length, penalised = found.values()
    assert length[0] > start[0] + 5 and length[1] < start[1] - 0.2
    assert penalised[0] < length[0] - 1
