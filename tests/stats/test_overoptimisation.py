"""Fits recover planted curves; least squares agrees with scipy; bands cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from pippin.core.errors import InputError
from pippin.stats import Bootstrap, best_of_n_kl, fit_overoptimisation, in_first_units

KL = np.array([best_of_n_kl(n) for n in (1, 2, 4, 16, 64, 256, 1000)])
D = np.sqrt(KL)
FAST = Bootstrap(resamples=500)


def curve(d: np.ndarray, form: str, alpha: float, beta: float) -> np.ndarray:
    return d * (alpha - beta * (d if form == "best_of_n" else np.log(np.maximum(d, 1e-300))))


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_exact_curves_are_recovered_with_their_peaks(form: str) -> None:
    kl = KL * (1 if form == "best_of_n" else 9)
    alpha, beta = 1.0, 0.3 if form == "best_of_n" else 0.6
    clean = np.tile(curve(np.sqrt(kl), form, alpha, beta), (30, 1))
    ramp = np.linspace(-0.01, 0.01, 30)[:, None]  # some spread between prompts that averages to nothing
    made = fit_overoptimisation(clean * (1 + ramp), kl, form, bootstrap=FAST)
    assert (made.alpha.value, made.beta.value) == pytest.approx((alpha, beta))
    grid = np.linspace(1e-6, 30, 2_000_000)
    top = grid[curve(grid, form, alpha, beta).argmax()]
    assert made.peak_distance is not None and made.peak_distance.value == pytest.approx(top, abs=1e-4)
    assert made.peak_gold is not None
    assert made.peak_gold.value == pytest.approx(float(curve(np.array([top]), form, alpha, beta)[0]))
    assert [p.gold.value for p in made.band] == pytest.approx(
        curve(np.array([p.distance for p in made.band]), form, alpha, beta)
    )


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_least_squares_agrees_with_scipy(form: str) -> None:
    rng = np.random.default_rng(0)
    gold = curve(D, form, 0.8, 0.2) + rng.normal(size=(60, 1)) * D + 0.3 * rng.normal(size=(60, len(D)))
    made = fit_overoptimisation(gold, KL, form, bootstrap=FAST)
    peer, _ = optimize.curve_fit(lambda d, a, b: curve(d, form, a, b), D, gold.mean(axis=0))
    assert (made.alpha.value, made.beta.value) == pytest.approx(tuple(peer), abs=1e-5)


def test_intervals_cover_the_planted_coefficients() -> None:
    rng, trials, held = np.random.default_rng(1), 200, 0
    for _ in range(trials):
        gold = curve(D, "best_of_n", 0.8, 0.2) + (rng.normal(size=(80, 1)) + 0.5 * rng.normal(size=(80, len(D)))) * D
        made = fit_overoptimisation(gold, KL, "best_of_n", points=1, bootstrap=Bootstrap(resamples=300))
        held += made.beta.low <= 0.2 <= made.beta.high
    assert 0.90 <= held / trials <= 0.99


def test_no_peak_is_claimed_where_no_fall_is_shown() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(40, 1)) * D**2
    rising = curve(D, "best_of_n", 1.0, 0.02) + noise - noise.mean(axis=0)  # beta above zero, far within its error
    made = fit_overoptimisation(rising, KL, "best_of_n", bootstrap=FAST)
    assert made.beta.low <= 0 < made.beta.value
    assert made.peak_distance is None and made.peak_gold is None


@pytest.mark.parametrize(("nearest", "farthest", "seen"), [(0.1, 1.0, False), (3.0, 9.0, False), (0.1, 9.0, True)])
def test_a_peak_outside_the_distances_was_not_seen(nearest: float, farthest: float, seen: bool) -> None:
    d = np.linspace(nearest, farthest, 8)
    clean = np.tile(curve(d, "best_of_n", 1.0, 0.25), (30, 1)) * (1 + np.linspace(-0.01, 0.01, 30)[:, None])
    made = fit_overoptimisation(clean, d**2, "best_of_n", bootstrap=FAST)
    assert (made.nearest, made.farthest) == pytest.approx((nearest, farthest))
    assert made.peak_distance is not None and made.peak_distance.value == pytest.approx(2.0)
    assert made.peak_seen == seen


def test_the_first_policy_has_mean_0_and_deviation_1_on_its_own_scale() -> None:
    rng = np.random.default_rng(4)
    first = 7 + 3 * rng.normal(size=(40, 4))
    own = in_first_units(first, first)
    assert (own.mean(), own.std()) == pytest.approx((0, 1))
    assert in_first_units(first + 6, first).mean() == pytest.approx(6 / first.std())
    assert in_first_units(-5 * first + 2, -5 * first + 2) == pytest.approx(-own)  # shift and scale do not matter
    for bad in (np.ones(5), np.array([1.0, np.nan]), np.array([])):
        with pytest.raises(InputError):
            in_first_units([1.0], bad)


def test_baseline_centres_each_prompt() -> None:
    rng = np.random.default_rng(3)
    level = 5 + 3 * rng.normal(size=50)
    gold = curve(D, "best_of_n", 1.0, 0.25) * (1 + 0.1 * rng.normal(size=(50, 1)))
    centred = fit_overoptimisation(gold, KL, "best_of_n", bootstrap=FAST)
    made = fit_overoptimisation(gold + level[:, None], KL, "best_of_n", baseline=level, bootstrap=FAST)
    assert made.beta.value == pytest.approx(centred.beta.value)
    assert made.beta.high == pytest.approx(centred.beta.high)


@pytest.mark.parametrize(
    ("gold", "kl", "form"),
    [
        ([[1.0, 2.0]], [1.0], "rl"),
        ([[1.0, np.nan]] * 3, [1.0, 2.0], "rl"),
        ([[1.0, 2.0]] * 3, [-1.0, 2.0], "rl"),
        ([[1.0, 2.0]] * 3, [0.0, 2.0], "rl"),
        ([[1.0, 2.0]] * 3, [1.0, 2.0], "ppo"),
    ],
)
def test_bad_input(gold, kl, form) -> None:
    with pytest.raises(InputError):
        fit_overoptimisation(gold, kl, form)
