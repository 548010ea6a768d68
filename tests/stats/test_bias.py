"""Diagnostics recover planted biases, and match hand counts and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import (
    Bootstrap,
    Lengths,
    consistency,
    length_bias,
    length_correlation,
    length_decomposition,
    position_bias,
)

NAN = float("nan")
FAST = Bootstrap(resamples=500)


def test_consistency_counts_each_pair_once() -> None:
    first = [1, 1, 0, 0, 0.5, 0.5, NAN, 1]
    swapped = [1, 0, 0, 1, 0.5, 1, 1, NAN]
    made = consistency(first, swapped, bootstrap=FAST)
    shares = [made.right.value, made.split.value, made.wrong.value, made.missing.value]
    assert shares == pytest.approx([1 / 8, 4 / 8, 1 / 8, 2 / 8])
    assert made.right.n == made.missing.n == 8


def test_the_judge_that_always_says_first_is_split_throughout() -> None:
    gold_is_left = np.random.default_rng(0).random(60) < 0.4
    made = consistency(gold_is_left * 1.0, 1.0 - gold_is_left, bootstrap=FAST)
    assert made.split.value == 1.0
    assert (made.right.value, made.wrong.value) == (0.0, 0.0)
    assert made.right.high > 0.0


def test_position_bias_finds_what_was_planted_and_clusters_by_prompt() -> None:
    rng = np.random.default_rng(1)
    shown = np.where(rng.random(2000) < 0.7, 1.0, -1.0)
    shown[:100], shown[100:150] = 0, NAN
    made = position_bias(shown, np.repeat(np.arange(1000), 2), bootstrap=FAST)
    assert made.low < 0.7 < made.high
    assert made.p is not None and made.p < 0.01
    assert (made.n, made.missing) == (1850, 50)
    assert made.clusters == 925


def test_order_shared_by_the_rows_of_a_prompt_is_no_row_level_evidence() -> None:
    """29 models judged on each prompt in one order: rows must not count as independent."""
    rng = np.random.default_rng(2)
    ids = np.repeat(np.arange(40), 29)
    shown = np.where(rng.random(40) < 0.5, 1.0, -1.0)[ids]
    clustered, naive = position_bias(shown, ids, bootstrap=FAST), position_bias(shown, bootstrap=FAST)
    assert clustered.high - clustered.low > 4 * (naive.high - naive.low)


def test_position_p_is_the_binomial_test() -> None:
    shown = np.repeat([1.0, -1.0], [9, 3])
    assert position_bias(shown).p == pytest.approx(distributions.binomtest(9, 12).pvalue)


def test_length_bias_by_hand() -> None:
    verdicts = np.array([1, 1, -1, -1, 0, NAN, 1, 1])
    lengths = np.array([5, -3, 2, -7, 4, 4, 0, 9])
    gold = np.array([1, 1, 1, 1, 1, 1, -1, NAN])
    made = length_bias(verdicts, lengths, gold=gold, bootstrap=FAST)
    assert made.prefers_longer is not None and made.prefers_longer.value == pytest.approx(3 / 5)
    assert (made.prefers_longer.n, made.prefers_longer.missing) == (5, 1)
    assert made.gold_longer is not None and made.gold_longer.value == pytest.approx(4 / 6)
    assert made.accuracy_gold_longer is not None and made.accuracy_gold_shorter is not None and made.gap is not None
    assert made.accuracy_gold_longer.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert made.accuracy_gold_longer.missing == 1
    assert made.accuracy_gold_shorter.value == pytest.approx(0.5)
    assert made.gap.value == pytest.approx(0.0)


def test_planted_length_bias_shows_as_a_gap_and_none_as_none() -> None:
    rng = np.random.default_rng(3)
    gold, longer = rng.choice([-1.0, 1.0], size=(2, 3000))
    right = np.where(rng.random(3000) < 0.8, gold, -gold)
    fair = length_bias(right, longer, gold=gold, bootstrap=FAST)
    biased = length_bias(np.where(rng.random(3000) < 0.3, longer, right), longer, gold=gold, bootstrap=FAST)
    assert fair.gap is not None and fair.gap.low < 0 < fair.gap.high
    assert biased.gap is not None and biased.gap.low < 0.3 < biased.gap.high


def test_length_bias_without_evidence_is_none() -> None:
    made = length_bias([0, 1], [3, 0], bootstrap=FAST)
    assert made.prefers_longer is None
    assert made.gold_longer is None
    only_long = length_bias([1, 1], [3, 2], gold=[1, 1], bootstrap=FAST)
    assert only_long.accuracy_gold_shorter is None and only_long.gap is None


def test_length_correlation_is_the_mean_of_pearsons() -> None:
    rng = np.random.default_rng(4)
    ids = np.repeat(np.arange(25), 8)
    lengths = rng.normal(size=200) + 100 * ids  # between prompts it says nothing
    scores = 0.5 * (lengths - 100 * ids) + rng.normal(size=200) - 30 * ids
    expected = [distributions.pearsonr(scores[ids == i], lengths[ids == i]).statistic for i in range(25)]
    order = rng.permutation(200)
    made = length_correlation(scores[order], lengths[order], ids[order], bootstrap=FAST)
    assert made.value == pytest.approx(np.mean(expected))
    assert (made.n, made.missing) == (25, 0)
    assert made == length_correlation(scores, lengths, ids, bootstrap=FAST)


def test_prompts_without_variation_have_no_correlation() -> None:
    made = length_correlation([1, 2, 3, 3, 1, NAN, 2, 4], [1, 2, 5, 9, 1, 7, 9, 3], list("aabbccdd"), bootstrap=FAST)
    assert made.value == pytest.approx(0.0)
    assert (made.n, made.missing) == (2, 2)
    with pytest.raises(InputError, match="no value"):
        length_correlation([1.0, 1.0], [1.0, 2.0], ["a", "a"])


def _policy(rng: np.random.Generator, mean_length: float, bonus: float, per_token: float) -> Lengths:
    lengths = np.maximum(1, rng.normal(mean_length, 30, size=2000)).round()
    rewards = per_token * np.floor(lengths / 20) + bonus + 0.1 * rng.normal(size=2000)
    return Lengths(rewards, lengths, np.repeat(np.arange(500), 4))


def test_reward_of_the_bucket_alone_gives_no_non_length_gain() -> None:
    rng = np.random.default_rng(5)
    made = length_decomposition(_policy(rng, 100, 0, 0.2), _policy(rng, 150, 0, 0.2), bootstrap=FAST)
    assert made.gain.low > 0.3
    assert made.nrg.low < 0 < made.nrg.high
    assert made.share is not None and abs(made.share.value) < 0.05
    assert made.coverage.value > 0.9


def test_equal_histograms_give_the_whole_gain() -> None:
    rng = np.random.default_rng(6)
    lengths, rewards = rng.integers(0, 90, size=400), rng.normal(size=400)
    ids = np.repeat(np.arange(100), 4)
    made = length_decomposition(Lengths(rewards, lengths, ids), Lengths(rewards + 0.7, lengths, ids), bootstrap=FAST)
    assert made.gain.value == pytest.approx(0.7)
    assert made.nrg.value == pytest.approx(0.7)
    assert made.share is not None and made.share.value == pytest.approx(1.0)
    assert made.coverage.value == 1.0


def test_non_length_gain_by_hand() -> None:
    before = Lengths([1.0, 2.0, 4.0, NAN], [5, 6, 25, 7], list("abab"))
    after = Lengths([3.0, 5.0, 9.0], [8, 30, 70], list("abb"))
    made = length_decomposition(before, after, bootstrap=FAST)
    assert made.nrg.value == pytest.approx((3 * (3 - 1.5) + 2 * (5 - 4)) / 5)
    assert made.gain.value == pytest.approx(17 / 3 - 7 / 3)
    assert made.coverage.value == pytest.approx(5 / 6)
    assert made.nrg.missing == 1


def test_lengths_that_never_meet_are_an_error() -> None:
    ids = ["a", "b"]
    with pytest.raises(InputError, match="undefined"):
        length_decomposition(Lengths([1, 2], [1, 2], ids), Lengths([1, 2], [500, 600], ids), bootstrap=FAST)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: consistency([0.7], [1]), "not a credit"),
        (lambda: consistency([1, 0], [1]), "length"),
        (lambda: position_bias([3.0]), "not a verdict"),
        (lambda: position_bias([0.0, 0.0]), "no value"),
        (lambda: length_bias([1, 1], [1, NAN]), "length is missing"),
        (lambda: length_bias([1, 1], [1, 2], gold=[1]), "differ in length"),
        (lambda: length_decomposition(Lengths([1], [1], ["a"]), Lengths([1], [1], ["a"]), width=0), "width"),
        (lambda: length_decomposition(Lengths([NAN], [1], ["a"]), Lengths([NAN], [1], ["a"])), "no reward"),
    ],
)
def test_bad_input(call, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()
