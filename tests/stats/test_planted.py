"""A benchmark whose judge has planted habits: do the intervals hold what was planted?

300 pairs in 100 prompts. The judge's log-odds for the response shown first are a sum of the effect of the place, of
gold and of length; verdicts on the pairs of a prompt are correlated (by a Gaussian copula, which leaves the log-odds of
each as planted). Gold, length and order are drawn from few values, so every true share is a finite sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import special
from scipy import stats as distributions

from pippin.core.types import Estimate
from pippin.stats import (
    Bootstrap,
    consistency,
    length_bias,
    mean,
    position_bias,
    raw_agreement,
    verdict_model,
    win_rate,
)

HOW = Bootstrap(resamples=300)
LENGTHS = np.array([0.25, 0.5, 1.0, 2.0])  # how much longer the longer response is
LONGER_IS_BETTER = 0.6
PROMPTS, PAIRS = 100, 3
ALIKE = 0.5  # correlation of the latent normals within a prompt


@dataclass(frozen=True)
class Planted:
    """A judge's effects in log-odds: place, gold, length."""

    place: float
    gold: float
    length: float

    def first_wins(self, gold: np.ndarray, length: np.ndarray) -> np.ndarray:
        return special.expit(self.place + self.gold * gold + self.length * length)

    def truths(self) -> dict[str, float]:
        """Expected shares over gold's place, which response is longer, and by how much."""
        right, first, weight, longer = [], [], [], []
        for gold in (-1.0, 1.0):
            for better_is_longer in (True, False):
                for step in LENGTHS:
                    sign = gold if better_is_longer else -gold
                    p = float(self.first_wins(np.array(gold), np.array(sign * step)))
                    first.append(p)
                    right.append(p if gold == 1 else 1 - p)
                    weight.append(LONGER_IS_BETTER if better_is_longer else 1 - LONGER_IS_BETTER)
                    longer.append(better_is_longer)
        right, first, weight, longer = np.array(right), np.array(first), np.array(weight), np.array(longer)
        gap = np.average(right[longer], weights=weight[longer]) - np.average(right[~longer], weights=weight[~longer])
        return {
            "accuracy": float(np.average(right, weights=weight)),
            "position bias": float(np.average(first, weights=weight)),
            "length gap": float(gap),
            "shown first": self.place,
            "gold": self.gold,
            "length": self.length,
        }


JUDGES = {
    "biased by place and length": Planted(0.6, 1.0, 0.5),
    "second place, shorter": Planted(-0.4, 1.5, -0.4),
    "fair": Planted(0.0, 1.2, 0.0),
}


def estimates(judge: Planted, rng: np.random.Generator) -> dict[str, Estimate]:
    """One benchmark, judged once."""
    rows = PROMPTS * PAIRS
    ids = np.repeat(np.arange(PROMPTS), PAIRS)
    gold = rng.choice([-1.0, 1.0], size=rows)
    longer = np.where(rng.random(rows) < LONGER_IS_BETTER, gold, -gold)
    length = longer * rng.choice(LENGTHS, size=rows)
    latent = np.sqrt(ALIKE) * rng.normal(size=PROMPTS)[ids] + np.sqrt(1 - ALIKE) * rng.normal(size=rows)
    first = distributions.norm.cdf(latent) < judge.first_wins(gold, length)
    verdict = np.where(first, 1.0, -1.0)
    bias = length_bias(verdict, length, ids, gold=gold, bootstrap=HOW)
    model = verdict_model(first * 1.0, {"gold": gold, "length": length}, ids)
    assert bias.gap is not None
    found = {
        "accuracy": mean((verdict == gold) * 1.0, ids, support=(0, 1), bootstrap=HOW),
        "position bias": position_bias(verdict, ids, bootstrap=HOW),
        "length gap": bias.gap,
    }
    for name, made in model.coefficients.items():
        assert made is not None
        found[name] = made
    return found


def coverage(judge: Planted, simulations: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Share of intervals that hold what was planted; and, of the three effects, that hold zero."""
    rng, truths = np.random.default_rng(seed), judge.truths()
    held, zero = dict.fromkeys(truths, 0.0), dict.fromkeys(truths, 0.0)
    for _ in range(simulations):
        for name, made in estimates(judge, rng).items():
            held[name] += (made.low <= truths[name] <= made.high) / simulations
            zero[name] += (made.low <= 0 <= made.high) / simulations
    return held, zero


def test_intervals_hold_what_was_planted() -> None:
    held, zero = coverage(JUDGES["biased by place and length"], 60, 0)
    assert all(share >= 0.85 for share in held.values()), held
    assert zero["shown first"] < 0.15, "and are narrow enough to see it"
    assert zero["length"] < 0.15
    assert zero["gold"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", list(JUDGES))
def test_coverage_of_the_diagnostics(name: str) -> None:
    held, zero = coverage(JUDGES[name], 200, 1)
    print(f"\n{name}: " + ", ".join(f"{key} {share:.3f} (zero {zero[key]:.2f})" for key, share in held.items()))
    assert all(0.91 <= share <= 0.985 for share in held.values()), held


def test_the_check_can_fail() -> None:
    """Without clusters, verdicts that resemble each other pass for independent ones, and intervals are too narrow."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(100):
        prompt = np.repeat(np.arange(60), 5)
        latent = np.sqrt(0.8) * rng.normal(size=60)[prompt] + np.sqrt(0.2) * rng.normal(size=300)
        made = verdict_model((latent < 0) * 1.0, {}).coefficients["shown first"]
        assert made is not None
        held += made.low <= 0 <= made.high
    assert held < 85


def test_always_first_is_right_half_the_time_and_never_agrees_with_itself() -> None:
    """Both orders of 40 pairs: accuracy 0.5 exactly, no agreement between orders, all split."""
    gold_is_left = np.resize([1.0, 0.0, 0.0], 40)
    right_if_left_first, right_if_left_second = gold_is_left, 1 - gold_is_left
    accuracy = mean(
        np.concatenate([right_if_left_first, right_if_left_second]), np.tile(np.arange(40), 2), support=(0, 1)
    )
    assert accuracy.value == 0.5
    assert raw_agreement(np.ones(40), -np.ones(40)).value == 0
    assert consistency(right_if_left_first, right_if_left_second).split.value == 1
    assert position_bias(np.ones(80)).value == 1
    assert win_rate(np.concatenate([np.ones(40), -np.ones(40)])).value == 0.5
    assert verdict_model(np.ones(80), {"gold": np.tile(2 * gold_is_left - 1, 2)}).coefficients["shown first"] is None
