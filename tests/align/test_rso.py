"""Samplers and pairings of ranked samples against their distributions in closed form, and RSO on a bandit."""

from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from pippin.align import ranking, sources, terms
from pippin.align.methods import rso
from pippin.align.methods.slic_sample import METHOD as SLIC_SAMPLE
from pippin.core.errors import InputError

REWARDS = np.array([0.0, 1.0, 2.0])


def rng(seed=0):
    return np.random.default_rng(seed)


def first_counts(sampler, rewards, beta, draws, k=1):
    generator = rng(1)
    return np.bincount([sampler(rewards, k, beta, generator)[0] for _ in range(draws)], minlength=len(rewards))


def test_one_gumbel_draw_follows_the_softmax_of_the_reward():
    beta, rewards = 0.5, np.array([0.1, -0.3, 0.7, 0.7, 0.2])
    counts = first_counts(ranking.gumbel_top_k, rewards, beta, 20000)
    expected = np.exp(rewards / beta) / np.exp(rewards / beta).sum()
    assert stats.chisquare(counts, expected * counts.sum()).pvalue > 1e-3


def test_several_gumbel_draws_are_draws_without_replacement():
    beta, rewards = 1.0, np.array([0.0, 0.5, 1.5, -0.5])
    p = np.exp(rewards) / np.exp(rewards).sum()
    generator, seen = rng(2), dict.fromkeys(permutations(range(4), 2), 0)
    for _ in range(20000):
        seen[tuple(ranking.gumbel_top_k(rewards, 2, beta, generator).tolist())] += 1
    expected = [p[i] * p[j] / (1 - p[i]) for i, j in seen]
    assert stats.chisquare(list(seen.values()), np.array(expected) * 20000).pvalue > 1e-3


def test_the_published_sampler_favours_the_best_of_few():
    """Three candidates and k = 1: shuffled passes accept the best first more often than softmax says."""
    counts = first_counts(ranking.statistical_rejection, REWARDS, 1.0, 20000) / 20000
    np.testing.assert_allclose(counts, [0.059, 0.177, 0.763], atol=0.012)


def test_mean_accepted_reward_at_the_papers_setting():
    """64 candidates of N(0, 1) to 8 at β = 0.5: 1.34 by the published sampler in shuffled order, 1.28 by Gumbel."""
    generator, means = rng(3), {"paper": [], "gumbel": []}
    for _ in range(300):
        rewards = generator.normal(size=64)
        for name, found in means.items():
            found.append(rewards[ranking.SAMPLERS[name](rewards, 8, 0.5, generator)].mean())
    assert np.mean(means["paper"]) == pytest.approx(1.34, abs=0.05)
    assert np.mean(means["gumbel"]) == pytest.approx(1.28, abs=0.05)


@pytest.mark.parametrize("name", ["gumbel", "paper"])
def test_limits_of_the_samplers(name):
    sampler = ranking.SAMPLERS[name]
    rewards = rng(4).normal(size=12)
    best = np.argsort(-rewards)
    for beta in (0.0, 1e-9):
        assert sampler(rewards, 1, beta, rng()) == best[:1]
        assert set(sampler(rewards, 4, beta, rng())) == set(best[:4].tolist())
    assert sorted(sampler(rewards, 12, 0.5, rng())) == list(range(12))
    counts = np.bincount(np.concatenate([sampler(rewards, 3, 1e9, rng(s)) for s in range(3000)]), minlength=12)
    assert stats.chisquare(counts).pvalue > 1e-3, "any of them"
    for k, beta in ((13, 1.0), (0, 1.0), (2, -1.0)):
        with pytest.raises(InputError):
            sampler(rewards, k, beta, rng())


@pytest.mark.parametrize("name", ["gumbel", "paper"])
def test_equal_rewards_and_equal_texts_are_rows_of_their_own(name):
    chosen = ranking.SAMPLERS[name](np.zeros(8), 5, 0.5, rng())
    assert len(set(chosen.tolist())) == 5
    counts = first_counts(ranking.SAMPLERS[name], np.zeros(4), 0.5, 4000)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_best_is_accepted_on_its_first_visit():
    rewards = np.array([5.0, -50.0, -50.0])
    assert all(ranking.statistical_rejection(rewards, 1, 0.5, rng(s))[0] == 0 for s in range(50))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_pairings(size):
    scores = rng(size).permutation(size).astype(float)
    first, knockout = ranking.first_round(scores, rng()), ranking.tournament(scores, rng())
    everyone = ranking.random_pairs(scores, 99, rng())
    assert len(first) == size // 2 and len(set(first.flatten().tolist())) == 2 * len(first)
    assert len(knockout) == size - 1
    assert len(everyone) == size * (size - 1) // 2 and len(ranking.random_pairs(scores, 2, rng())) == min(
        2, len(everyone)
    )
    for pairs in (first, knockout, everyone, ranking.best_and_worst(scores)):
        assert pairs.shape[1:] == (2,) and all(scores[w] > scores[l] for w, l in pairs)
    if size > 1:
        losers = knockout[:, 1].tolist()
        assert sorted(losers) == [i for i in range(size) if i != np.argmax(scores)], "all but the best lose once"
        np.testing.assert_array_equal(ranking.best_and_worst(scores), [[np.argmax(scores), np.argmin(scores)]])


def test_equal_scores_make_no_pair():
    for choose in (ranking.first_round, ranking.tournament, lambda s, g: ranking.random_pairs(s, 5, g)):
        assert len(choose(np.ones(6), rng())) == 0
        pairs = choose(np.array([1.0, 1.0, 0.0, 0.0]), rng())
        assert all(w in (0, 1) and l in (2, 3) for w, l in pairs)
    assert len(ranking.best_and_worst(np.ones(3))) == 0 and len(ranking.best_and_worst(np.ones(1))) == 0


def test_random_pairs_are_uniform():
    scores, counts = np.array([0.0, 1.0, 2.0, 2.0]), {}
    for s in range(6000):
        [pair] = ranking.random_pairs(scores, 1, rng(s)).tolist()
        counts[tuple(pair)] = counts.get(tuple(pair), 0) + 1
    assert set(counts) == {(1, 0), (2, 0), (3, 0), (2, 1), (3, 1)}
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_rso_on_a_bandit_reaches_the_tilted_reference():
    """Pairs with the probabilities of Gumbel draws, labels by Bradley-Terry: the optimum is π_ref exp(r/γ)."""
    reference = torch.log_softmax(torch.tensor([0.3, -0.2, 0.9, 0.0, -1.1], dtype=torch.float64), 0)
    reward = torch.tensor([0.5, 1.0, -0.4, 0.2, 1.7], dtype=torch.float64)
    gamma, p = 0.7, torch.softmax(reference + reward / 0.5, 0)
    pairs = torch.tensor(list(permutations(range(5), 2)))
    weight = p[pairs[:, 0]] * p[pairs[:, 1]] / (1 - p[pairs[:, 0]])
    labels = torch.sigmoid(terms.margins(reward, pairs))
    x = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([x], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-18,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        optimiser.zero_grad()
        h = gamma * terms.margins(torch.log_softmax(x, 0) - reference, pairs)
        value = (weight * terms.bradley_terry(h, labels)).sum()
        value.backward()
        return value

    optimiser.step(closure)
    found = torch.softmax(x.detach(), 0)
    np.testing.assert_allclose(found, torch.softmax(reference + reward / gamma, 0), atol=1e-6)


def test_the_three_losses(make_bench):
    """sigmoid_norm, hinge_norm and hinge, from log-probabilities computed here."""
    logp = torch.tensor([[-1.0, -2.0], [-0.5, -0.1], [-3.0, 0.0], [-1.0, -1.0]])
    ref = torch.tensor([[-1.5, -2.0], [-0.5, -1.1], [-1.0, 0.0], [-2.0, -1.0]])
    pairs = torch.tensor([[0, 1], [2, 3]])
    s, h = torch.tensor([-3.0 + 0.6, -3.0 + 2.0]), torch.tensor([0.5 - 1.0, -2.0 - 1.0])
    expected = {
        "sigmoid_norm": -torch.nn.functional.logsigmoid(0.3 * h),
        "hinge_norm": torch.relu(1 - 0.3 * h),
        "hinge": torch.relu(1 - 0.3 * s),
    }
    for name, value in expected.items():
        config = rso.Config(loss_type=name, gamma=0.3)
        batch = SimpleNamespace(token={"logp_ref": ref}, pairs_P_2=pairs, p_P=torch.ones(2))
        loss, metrics = rso.loss(SimpleNamespace(logp_N_T=logp), batch, config)
        torch.testing.assert_close(loss, value)
        assert {"rewards/chosen", "rewards/accuracies", "logps/rejected"} <= set(metrics)


@pytest.mark.parametrize("settings", [{}, {"sampler": "paper"}, {"pairing": "tournament"}, {"loss_type": "hinge"}])
def test_candidates_come_from_the_reference_and_pairs_are_disjoint_rows(settings, make_bench):
    bench = make_bench("rso", **settings)
    with torch.no_grad():
        for weight in bench.networks.policy.model.parameters():
            weight.zero_()  # whoever sampled this policy would see it
    groups = []
    for transform in bench.method.pipeline:
        groups = transform(bench.context, groups)
    assert len({len(text.split()) for g in groups for text in g.texts}) > 1
    assert all(len(g.responses) == 4 for g in groups)
    for g in groups:
        decided = [p for p in g.preferences if p.weight]
        assert all(p.i != p.j and g.rewards[p.i] > g.rewards[p.j] for p in decided)
    again = []
    for transform in make_bench("rso", **settings).method.pipeline:
        again = transform(bench.context, again)
    assert [g.responses for g in again] == [g.responses for g in groups]


def test_slic_samples_train_on_the_best_or_on_the_reference_answer(make_bench):
    bench = make_bench("slic_sample", num_candidates=4, target="best")
    groups = []
    for transform in bench.method.pipeline:
        groups = transform(bench.context, groups)
    assert all(len(g.preferences) <= 3 for g in groups)
    batch = SLIC_SAMPLE.layout(groups, bench.context.config, bench.context)
    targets = {e.group: e for e in batch.examples if e.value.get("target", 0) > 0}
    for number, e in targets.items():
        g = groups[number]
        assert list(e.ids) == [*g.prompt_ids, *g.responses[int(np.argmax(g.rewards))]]
        assert e.value["target"] == sum(p.weight for p in g.preferences)


def test_groups_without_a_better_one_have_no_weight_and_are_counted(make_bench):
    bench = make_bench("slic_sample")
    bench.context.scorer = lambda prompts, texts: [1.0] * len(texts)
    groups = sources.draw_prompts(bench.context, 3)
    groups = sources.score(bench.context, sources.sample(bench.context, groups, 3, 4))
    paired = sources.pair(bench.context, groups, ranking.tournament)
    assert bench.context.state["tied_groups"] == 3
    assert [[(p.probability, p.weight) for p in g.preferences] for g in paired] == [[(0.5, 0.0)]] * 3
    some = [replace(groups[0], scores=np.array([0.0, 1.0, 2.0])), *groups[1:]]
    [left] = sources.pair(bench.context, some, ranking.tournament)
    assert left.prompt.id == groups[0].prompt.id and bench.context.state["tied_groups"] == 5
