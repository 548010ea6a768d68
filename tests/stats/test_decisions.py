"""Deciding in waves: published bounds, exact chances of being drawn, and error rates by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import corrected, decisions
from pippin.stats.decisions import FIRST, chances, draw, error_sizes, levels, verdict, wave, waves


def test_waves_grow_to_the_budget() -> None:
    assert waves(100) == (12, 17, 24, 34, 48, 68, 100)
    assert waves(FIRST) == (FIRST,) and waves(5) == (5,)
    for budget in range(2, 400):
        counts = waves(budget)
        steps = np.diff(counts)
        assert counts[-1] == budget and (steps > 0).all()
        assert len(counts) < 2 or counts[-1] / counts[-2] > 1.18, "no last look for a few labels"
    for wrong in ({"budget": 1}, {"budget": 9, "growth": 1.0}, {"budget": 9, "first": 1}):
        with pytest.raises(InputError):
            waves(**wrong)  # type: ignore[arg-type]


def test_levels_are_those_of_lan_and_demets() -> None:
    published = (2.438, 2.427, 2.410, 2.397, 2.386)  # five equal looks, two-sided 0.05, Pocock-type spending
    bounds = [distributions.norm.ppf(0.5 + level / 2) for level in levels((1, 2, 3, 4, 5))]
    assert bounds == pytest.approx(published, abs=1e-3)
    assert levels((50,)) == pytest.approx((0.95,))


def test_an_interval_decides_by_what_it_leaves_out() -> None:
    assert verdict(0.01, 0.3, 0.05) == "better"
    assert verdict(0.01, 0.03, 0.05) == "better", "however little it is"
    assert verdict(-0.3, 0.049, 0.05) == "not better"
    assert verdict(-0.3, 0.05, 0.05) == verdict(0.0, 0.2, 0.0) == "cannot tell"
    with pytest.raises(InputError, match="worth having"):
        verdict(0, 1, -0.1)


def test_chances_are_in_proportion_and_make_up_for_what_was_had() -> None:
    size = np.array([1.0, 2.0, 3.0, 4.0])
    none = np.zeros(4)
    assert chances(size, none, none, 1) == pytest.approx(size / 10)
    assert chances(size, none, none, 3).sum() == pytest.approx(3)
    assert chances(size, none, none, 3)[3] == pytest.approx(1), "none is drawn with more than certainty"
    had = np.array([0.5, 0.5, 0.0, 0.0])
    after = had + (1 - had) * chances(np.ones(4), had, none, 1)
    assert after == pytest.approx([0.5] * 4), "the new ones catch up first"
    more = chances(np.ones(4), had, none, 2)
    assert had + (1 - had) * more == pytest.approx(np.full(4, 2 / 3)), "then all go on together"
    left = chances(np.ones(4), none, [True, False, False, False], 3)
    assert left[1:] == pytest.approx([1, 1, 1]) and more.sum() == pytest.approx(2)
    for n in (0, 5):
        with pytest.raises(InputError, match="no wave"):
            chances(np.ones(4), none, none, n)


def test_two_waves_draw_with_the_stated_probabilities() -> None:
    rng, runs = np.random.default_rng(0), 800
    size = np.linspace(0.4, 2, 20)
    other = size[::-1]  # the second wave has other sizes and five more pairs
    drawn_N = np.zeros(25)
    total = []
    value_N = rng.normal(size=25)
    for _ in range(runs):
        first = chances(size, np.zeros(20), np.zeros(20), 5)
        taken = draw(first, np.zeros(20), rng.random(20), rng.random())
        had, labelled = np.append(first, np.zeros(5)), np.zeros(25, dtype=bool)
        labelled[taken] = True
        second = chances(np.append(other, np.ones(5)), had, labelled, 6)
        taken = draw(second, labelled, rng.random(25), rng.random())
        assert len(taken) == 6 and not labelled[taken].any()
        labelled[taken] = True
        probability = had + (1 - had) * second
        drawn_N += labelled / probability / runs
        total.append((value_N[labelled] / probability[labelled]).sum())
    assert drawn_N == pytest.approx(np.ones(25), abs=0.25)
    assert np.mean(total) == pytest.approx(value_N.sum(), abs=4 * np.std(total) / np.sqrt(runs))


def test_the_same_numbers_draw_the_same_pairs_in_any_order() -> None:
    rng = np.random.default_rng(1)
    size, number = rng.uniform(0.5, 2, 30), rng.random(30)
    chance = chances(size, np.zeros(30), np.zeros(30), 8)
    once = draw(chance, np.zeros(30), number, 0.3)
    shuffle = rng.permutation(30)
    again = draw(chance[shuffle], np.zeros(30), number[shuffle], 0.3)
    assert sorted(shuffle[again]) == list(once)


def test_labels_are_drawn_where_the_judge_has_been_wrong() -> None:
    judge = np.repeat([-1.0, 1.0], 100)
    people = np.full(200, np.nan)
    people[:60] = -1.0  # all agree where the judge prefers the first
    people[100:160] = np.tile([1.0, -1.0], 30)  # and half of them do where it prefers the second
    size = error_sizes(judge, people, np.full(200, 0.6))
    assert size[0] < 0.65 < 1.2 < size[199] and size.mean() == pytest.approx(1)
    assert size.min() >= decisions.EVEN
    assert (error_sizes(judge, np.full(200, np.nan), np.zeros(200)) == 1).all(), "nothing is known before the labels"
    agreed = np.where(np.isnan(people), np.nan, judge)
    assert (error_sizes(judge, agreed, np.full(200, 0.6)) == 1).all(), "nor where the judge was never wrong"


def settled(truth: float, agree: float, favour: float, runs: int, seed: int, budget: int = 100) -> dict[str, float]:
    """Shares of decisions, mean labels, and how often the intervals of all looks hold the truth.

    ``agree``: how often the judge says what people say; else it prefers the second one with ``favour``.
    """
    rng, found = (
        np.random.default_rng(seed),
        dict.fromkeys(("better", "not better", "cannot tell", "labels", "held"), 0.0),
    )
    counts = waves(budget)
    for _ in range(runs):
        people = rng.choice([1.0, -1.0, 0.0], 250, p=[0.4 + truth / 2, 0.4 - truth / 2, 0.2])
        judge = np.where(rng.random(250) < agree, people, np.where(rng.random(250) < favour, 1.0, -1.0))
        said, had, held = np.full(250, np.nan), np.zeros(250), True
        for count, level in zip(counts, levels(counts), strict=True):
            n = min(250, 8 * count)
            new = count - int((~np.isnan(said)).sum())
            taken, had[:n] = wave(judge[:n], said[:n], had[:n], new, rng.random(n), rng.random())
            said[taken] = people[taken]
            made = corrected(judge[:n], said[:n], probability_N=had[:n], support=(-1, 1), level=level).corrected
            held &= made.low <= truth <= made.high
            decision = verdict(made.low, made.high, 0.05)
            if decision != "cannot tell":
                break
        found[decision] += 1 / runs
        found["labels"] += count / runs
        found["held"] += held / runs
    return found


def test_looking_often_keeps_the_error_rate() -> None:
    counts = np.array(waves(200))
    steps = np.random.default_rng(2).normal(size=(20_000, len(counts))) * np.sqrt(np.diff(counts, prepend=0))
    z = np.abs(np.cumsum(steps, axis=1)) / np.sqrt(counts)
    bound = distributions.norm.ppf(0.5 + np.array(levels(tuple(counts))) / 2)
    assert (z > bound).any(axis=1).mean() == pytest.approx(0.05, abs=0.006)
    assert (z > 1.96).any(axis=1).mean() > 0.15, "as a fixed bound does not"


def test_a_large_difference_is_found_early() -> None:
    found = settled(0.6, 0.8, 0.5, 10, 3)
    assert found["better"] == pytest.approx(1) and found["labels"] < 40


@pytest.mark.slow
@pytest.mark.parametrize("agree, favour", [(0.3, 0.5), (0.5, 0.9), (0.8, 0.5)])
def test_the_error_rate_over_all_looks(agree: float, favour: float) -> None:
    found = settled(0.0, agree, favour, 800, 4)
    print(f"\njudge agrees {agree}, favours {favour}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    assert 0.925 <= found["held"] <= 0.98
    assert found["better"] <= 0.04, "stated: 0.025"


@pytest.mark.slow
def test_a_good_judge_saves_labels() -> None:
    useless, good = (settled(0.25, agree, 0.5, 300, 5, budget=250) for agree in (0.0, 0.8))
    print(f"\nlabels with a useless judge {useless['labels']:.0f}, with a good one {good['labels']:.0f}")
    assert good["labels"] < 0.7 * useless["labels"]
    assert min(useless["better"], good["better"]) > 0.85
