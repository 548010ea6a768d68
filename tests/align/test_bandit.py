"""A tabular bandit of five responses, full enumeration: each loss must reach the optimum that its paper derives."""

import numpy as np
import torch

from pippin.align import shapes, terms

M = 5
REF = torch.log_softmax(torch.tensor([0.3, -0.2, 0.9, 0.0, -1.1], dtype=torch.float64), 0)
REWARD = torch.tensor([0.5, 1.0, -0.4, 0.2, 1.7], dtype=torch.float64)
PAIRS = torch.tensor([[i, j] for i in range(M) for j in range(i + 1, M)])
P = torch.sigmoid(terms.margins(REWARD, PAIRS))


def minimise(loss, size=M, steps=400):
    x = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [x], max_iter=steps, tolerance_grad=1e-14, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        value = loss(x)
        value.backward()
        return value

    optimiser.step(closure)
    return x.detach()


def tilted(beta):
    return torch.softmax(REF + REWARD / beta, 0)


def test_dpo_on_soft_preferences_reaches_the_tilted_reference():
    beta = 0.7

    def loss(x):
        gain = torch.log_softmax(x, 0) - REF
        return terms.dpo(terms.margins(gain, PAIRS), P, beta).mean()

    found = torch.softmax(minimise(loss), 0)
    np.testing.assert_allclose(found, tilted(beta), atol=1e-6)


def test_conservative_dpo_stops_at_the_smoothed_label():
    beta, eps = 0.5, 0.1
    h = minimise(lambda x: terms.dpo(x, torch.full((1,), 1 - eps, dtype=torch.float64), beta).mean(), size=1)
    np.testing.assert_allclose(torch.sigmoid(beta * h), 1 - eps, atol=1e-6)


def test_ipo_reaches_the_reference_tilted_by_the_mean_preference_over_it():
    tau = 0.4
    ref = REF.exp()
    weight = ref[PAIRS[:, 0]] * ref[PAIRS[:, 1]]

    def loss(x):
        gain = torch.log_softmax(x, 0) - REF
        return (weight * terms.ipo(terms.margins(gain, PAIRS), P, tau)).sum()

    preferred = (torch.sigmoid(REWARD[:, None] - REWARD[None, :]) * ref).sum(1)  # p(y > y'), y' from the reference
    found = torch.softmax(minimise(loss), 0)
    np.testing.assert_allclose(found, torch.softmax(REF + preferred / tau, 0), atol=1e-6)


def test_robust_dpo_sees_through_flipped_labels_and_plain_dpo_does_not():
    beta, flips = 0.7, 0.2
    noisy = P * (1 - flips) + (1 - P) * flips

    def reached(of):
        return torch.softmax(minimise(lambda x: of(terms.margins(torch.log_softmax(x, 0) - REF, PAIRS)).mean()), 0)

    np.testing.assert_allclose(reached(lambda h: terms.robust_dpo(h, noisy, beta, flips)), tilted(beta), atol=1e-6)
    assert (reached(lambda h: terms.dpo(h, noisy, beta)) - tilted(beta)).abs().max() > 0.05


def test_kto_pushes_each_response_by_how_often_it_is_desired():
    beta, desired = 0.3, torch.tensor([0.9, 0.5, 0.2, 0.7, 0.0], dtype=torch.float64)
    gain = torch.zeros(M, dtype=torch.float64, requires_grad=True)
    one = torch.ones(M, dtype=torch.float64)
    both = desired * terms.kto(gain, one, 0.0, beta) + (1 - desired) * terms.kto(gain, 0 * one, 0.0, beta)
    (slope,) = torch.autograd.grad((REF.exp() * both).sum(), gain)
    np.testing.assert_allclose(slope, REF.exp() * (1 - 2 * desired) * beta / 4, atol=1e-12)
    np.testing.assert_allclose(both.detach(), 0.5)


def test_simpo_without_a_margin_is_dpo_without_a_reference():
    found = minimise(lambda x: terms.simpo(terms.margins(torch.log_softmax(x, 0), PAIRS), P, 2.0, 0.0).mean())
    np.testing.assert_allclose(torch.softmax(found, 0), torch.softmax(REWARD / 2.0, 0), atol=1e-6)


def test_best_of_k_recovers_scores_from_the_choices_that_they_make():
    share = torch.softmax(REWARD, 0)

    def loss(r):
        return sum(s * terms.best_of_k(r, torch.eye(M)[k]) for k, s in enumerate(share))

    found = minimise(loss)
    np.testing.assert_allclose(found - found.mean(), REWARD - REWARD.mean(), atol=1e-6)


def test_advantage_weighted_likelihood_reaches_the_tilted_reference():
    beta = 0.8
    found = minimise(lambda x: -(REF.exp() * terms.advantage_weight(REWARD, beta) * torch.log_softmax(x, 0)).sum())
    np.testing.assert_allclose(torch.softmax(found, 0), tilted(beta), atol=1e-6)


def test_soft_bradley_terry_recovers_the_reward_up_to_a_shift():
    found = minimise(lambda r: terms.bradley_terry(terms.margins(r, PAIRS), P).mean())
    np.testing.assert_allclose(found - found.mean(), REWARD - REWARD.mean(), atol=1e-6)


def test_centering_fixes_the_shift_at_zero_sum():
    def loss(r):
        return terms.bradley_terry(terms.margins(r, PAIRS), P).mean() + 1e-3 * terms.centering(r[PAIRS]).mean()

    assert abs(minimise(loss).mean()) < 0.05


def test_kl_regularised_policy_gradient_reaches_the_tilted_reference():
    """Full enumeration of the exact objective's gradient through PPO's surrogate at ratio one."""
    beta = 0.6

    def loss(x):
        logp = torch.log_softmax(x, 0)
        advantage = (REWARD - beta * (logp - REF)).detach()
        surrogate = terms.ppo_policy(logp, logp.detach(), advantage - (logp.exp() * advantage).sum().detach(), 0.2)
        return (logp.exp().detach() * surrogate).sum()

    x = torch.zeros(M, dtype=torch.float64, requires_grad=True)
    for _ in range(4000):
        (gradient,) = torch.autograd.grad(loss(x), x)
        with torch.no_grad():
            x -= 0.5 * gradient
    np.testing.assert_allclose(torch.softmax(x.detach(), 0), tilted(beta), atol=1e-6)


def test_ppo_with_many_small_clipped_steps_nears_the_tilted_reference():
    """The whole of PPO's arithmetic (KL reward, GAE of one token, whitening off, clip) on exact expectations."""
    beta = 0.6
    x = torch.zeros(M, dtype=torch.float64)
    for _ in range(3000):
        old = torch.log_softmax(x, 0)
        values = np.zeros(1)
        rewards = [shapes.kl_rewards(old[[i]].numpy(), REF[[i]].numpy(), float(REWARD[i]), beta) for i in range(M)]
        advantage = torch.tensor([shapes.gae(r, values, 1.0, 0.95)[0][0] for r in rewards])
        advantage = advantage - (old.exp() * advantage).sum()
        y = x.clone().requires_grad_(True)
        for _ in range(2):
            logp = torch.log_softmax(y, 0)
            loss = (old.exp() * terms.ppo_policy(logp, old, advantage, 0.2)).sum()
            (gradient,) = torch.autograd.grad(loss, y)
            y = (y - 0.1 * gradient).detach().requires_grad_(True)
        x = y.detach()
    np.testing.assert_allclose(torch.softmax(x, 0), tilted(beta), atol=2e-3)


def test_values_at_the_start():
    zero, one = torch.zeros(3), torch.ones(3)
    np.testing.assert_allclose(terms.dpo(zero, one, 0.1), np.log(2), atol=1e-6)
    np.testing.assert_allclose(terms.bradley_terry(zero, one), np.log(2), atol=1e-6)
    h = torch.zeros(1, requires_grad=True)
    (g,) = torch.autograd.grad(terms.dpo(h, torch.ones(1), 0.3).sum(), h)
    np.testing.assert_allclose(g, -0.15, atol=1e-7)


def test_gae_against_brute_force_and_its_two_limits():
    rng = np.random.default_rng(0)
    for length in (1, 2, 7):
        r, v = rng.normal(size=length), rng.normal(size=length)
        following = np.append(v[1:], 0.0)
        for gamma, lam in ((1.0, 0.95), (0.9, 0.7), (1.0, 0.0), (1.0, 1.0)):
            delta = r + gamma * following - v
            brute = [sum((gamma * lam) ** (s - k) * delta[s] for s in range(k, length)) for k in range(length)]
            advantages, returns = shapes.gae(r, v, gamma, lam)
            np.testing.assert_allclose(advantages, brute, atol=1e-12)
            np.testing.assert_allclose(returns, advantages + v)
        np.testing.assert_allclose(shapes.gae(r, v, 1.0, 1.0)[0], np.cumsum(r[::-1])[::-1] - v)


def test_rewards_sum_to_score_less_kl():
    rng = np.random.default_rng(1)
    old, ref = rng.normal(size=6), rng.normal(size=6)
    np.testing.assert_allclose(shapes.kl_rewards(old, ref, 2.0, 0.3).sum(), 2.0 - 0.3 * (old - ref).sum())
    assert (shapes.kl_rewards(old, old, 0.0, 0.3) == 0).all()


def test_value_loss_clips_only_beyond_the_range():
    v_old, returns = torch.zeros(3), torch.tensor([1.0, 1.0, -1.0])
    v = torch.tensor([0.1, 0.9, 0.9])
    expected = [0.5 * 0.9**2, 0.5 * 0.8**2, 0.5 * 1.9**2]
    np.testing.assert_allclose(terms.ppo_value(v, v_old, returns, 0.2), expected, atol=1e-6)
    assert terms.ppo_value(returns, returns, returns, 0.2).abs().sum() == 0


def test_whitening_uses_tokens_of_all_rows():
    rows = [np.array([1.0, 2.0]), np.array([3.0])]
    white = np.concatenate(shapes.whiten(rows))
    np.testing.assert_allclose(white, (np.array([1, 2, 3]) - 2) / 1.0, atol=1e-6)
    kept = np.concatenate(shapes.whiten(rows, shift=False, bessel=False))
    np.testing.assert_allclose(kept.mean(), 2.0, atol=1e-6)
    np.testing.assert_allclose(kept.std(), 1.0, atol=1e-6)
