"""Means, differences, bounds and p-values against closed forms, scipy, statsmodels and brute force."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import Arm, Bootstrap, bounds, difference, mean, paired, ratio, sign_flip, wilson
from pippin.stats.intervals import ratio_of_sums
from pippin.stats.resampling import collect, draw_counts, resample, spread, stream

FAST = Bootstrap(resamples=500)


def test_mean_is_the_mean_and_missing_is_counted() -> None:
    made = mean([1.0, np.nan, 0.0, 1.0], ["a", "a", "b", "c"], bootstrap=FAST)
    assert made.value == pytest.approx(2 / 3)
    assert (made.n, made.clusters, made.missing, made.scope, made.level) == (3, 3, 1, "these runs", 0.95)
    assert made.low < made.value < made.high


def test_t_interval_is_student_and_cluster_robust() -> None:
    values = np.random.default_rng(0).normal(size=12)
    made = mean(values, bootstrap=Bootstrap(interval="t"))
    low, high = distributions.t.interval(0.95, 11, values.mean(), distributions.sem(values))
    assert (made.low, made.high) == pytest.approx((low, high))


def test_jackknife_error_of_equal_clusters_is_the_error_of_their_means() -> None:
    values = np.random.default_rng(1).normal(size=(30, 4))
    sample = collect([values.ravel(), np.ones(120)], np.repeat(np.arange(30), 4))
    found = spread(sample, ratio_of_sums)
    assert found.error == pytest.approx(distributions.sem(values.mean(axis=1)))
    assert found.freedom == 29


def test_cluster_error_agrees_with_statsmodels() -> None:
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(2)
    ids = np.repeat(np.arange(200), rng.integers(1, 6, size=200))
    values = rng.normal(size=200)[ids] + rng.normal(size=len(ids))
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": ids})
    found = spread(collect([values, np.ones(len(values))], ids), ratio_of_sums)
    assert found.error == pytest.approx(float(fit.bse[0]), rel=0.02)  # sandwich and jackknife differ in order 1/C


def test_bootstrap_moments_match_the_closed_form() -> None:
    """Of a plain mean: the replicates have the mean of the sample and its variance (ddof 0) over C."""
    values = np.random.default_rng(3).exponential(size=50)
    sums = resample(collect([values, np.ones(50)], None), Bootstrap(resamples=40_000))
    replicates = ratio_of_sums(sums)
    error = values.std() / np.sqrt(50)
    assert replicates.mean() == pytest.approx(values.mean(), abs=5 * error / 200)
    assert replicates.std() == pytest.approx(error, rel=0.02)


def test_percentile_interval_matches_scipy() -> None:
    values = np.random.default_rng(4).exponential(size=60)
    made = mean(values, bootstrap=Bootstrap(resamples=20_000, interval="percentile"))
    peer = distributions.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=5)
    width = made.high - made.low
    assert made.low == pytest.approx(peer.confidence_interval.low, abs=0.03 * width)
    assert made.high == pytest.approx(peer.confidence_interval.high, abs=0.03 * width)


def test_widened_interval_is_as_wide_as_t_and_as_skew_as_the_replicates() -> None:
    values = np.random.default_rng(16).normal(size=18)
    plain, wide, t = (
        mean(values, bootstrap=Bootstrap(resamples=20_000, interval=k)) for k in ("percentile", "widened", "t")
    )
    assert wide.high - wide.low == pytest.approx(t.high - t.low, rel=0.05)
    assert plain.high - plain.low < 0.93 * (wide.high - wide.low)
    skew = mean(np.exp(2 * values), bootstrap=Bootstrap(interval="widened"))
    assert skew.high - skew.value > 1.2 * (skew.value - skew.low)


def test_drawn_counts_are_multinomial_within_groups() -> None:
    counts = draw_counts((4, 1, 6), 20_000, np.random.default_rng(6))
    assert (counts[:, :4].sum(axis=1) == 4).all()
    assert (counts[:, 4] == 1).all()
    assert (counts[:, 5:].sum(axis=1) == 6).all()
    assert counts[:, 0].var() == pytest.approx(4 * 0.25 * 0.75, rel=0.05)
    assert np.cov(counts[:, 5], counts[:, 6])[0, 1] == pytest.approx(-6 / 36, abs=0.03)


@pytest.mark.parametrize("interval", ["auto", "percentile", "t"])
@pytest.mark.parametrize("with_clusters", [True, False])
def test_row_order_changes_no_bit(interval: str, with_clusters: bool) -> None:
    rng = np.random.default_rng(7)
    values = np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300))
    ids = np.array([f"prompt {i}" for i in rng.integers(0, 60, size=300)])
    how = Bootstrap(resamples=300, interval=interval)
    order = rng.permutation(300)
    one = mean(values, ids if with_clusters else None, bootstrap=how)
    assert one == mean(values[order], ids[order] if with_clusters else None, bootstrap=how)
    other = rng.normal(size=300)
    assert paired(values, other, ids, bootstrap=how) == paired(values[order], other[order], ids[order], bootstrap=how)


def test_seed_decides_the_resamples() -> None:
    values = np.random.default_rng(8).normal(size=80)
    runs = [mean(values, bootstrap=Bootstrap(resamples=300, seed=s)) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0].value == runs[2].value


def test_chunking_is_exact() -> None:
    """A bootstrap in many chunks sums to the same counts: every resample has as many clusters as the sample."""
    values = np.ones(5000)
    sums = resample(collect([values, np.ones(5000)], None), Bootstrap(resamples=1001))
    assert sums.shape == (1001, 1, 2)
    assert (sums == 5000).all()


def test_the_number_of_threads_changes_no_bit() -> None:
    code = (
        "import hashlib, numpy as np; from pippin.stats.resampling import Bootstrap, collect, resample;"
        "sample = collect(list(np.random.default_rng(0).normal(size=(30, 3000))), None);"
        "print(hashlib.sha256(resample(sample, Bootstrap(resamples=2000)).tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"OPENBLAS_NUM_THREADS": n, "OMP_NUM_THREADS": n},
            capture_output=True, text=True, check=True,
        ).stdout
        for n in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_rounding_to_the_grid_is_harmless() -> None:
    values = np.random.default_rng(0).normal(size=200) * np.exp2(np.arange(200) % 40)
    how = Bootstrap(resamples=200)
    counts = draw_counts((200,), 200, stream(how.seed, "prompts"))
    sums = resample(collect([values, np.ones(200)], np.arange(200)), how)
    assert sums[:, 0, 0] == pytest.approx(counts @ values, rel=1e-9, abs=1e-3)
    assert (sums[:, 0, 1] == 200).all()


def test_paired_is_the_mean_of_differences_and_narrower() -> None:
    rng = np.random.default_rng(9)
    common = rng.normal(size=200)
    a, b = common + 0.1 * rng.normal(size=200), common + 0.1 * rng.normal(size=200)
    made = paired(a, b, bootstrap=FAST)
    assert made.value == pytest.approx((a - b).mean())
    apart = mean(a, bootstrap=FAST)
    assert made.high - made.low < 0.3 * (apart.high - apart.low)
    swapped = paired(b, a, bootstrap=FAST)
    assert swapped.value == pytest.approx(-made.value)
    assert swapped.p == pytest.approx(made.p, abs=0.05)


def test_paired_leaves_out_units_that_miss_a_side() -> None:
    made = paired([1, np.nan, 3, 4, 5], [0, 1, np.nan, 4, 4], bootstrap=FAST)
    assert made.value == pytest.approx((1 + 0 + 1) / 3)
    assert (made.n, made.missing) == (3, 2)


def test_strata_are_weighed_alike() -> None:
    values = np.concatenate([np.zeros(90), np.ones(10), np.tile([0.0, 1.0], 10)])
    strata = np.repeat(["large", "small"], [100, 20])
    made = mean(values, strata=strata, support=(0, 1), bootstrap=FAST)
    assert made.value == pytest.approx((0.1 + 0.5) / 2)
    error = 0.5 * np.sqrt(0.1 * 0.9 / 99 + 0.25 / 19)
    found = spread(collect([values, np.ones(120)], np.arange(120), strata_N=strata), ratio_of_sums)
    assert found.error == pytest.approx(error)


def test_weights() -> None:
    assert mean([1.0, 0.0, 0.0], weights=[2, 1, 1], bootstrap=FAST).value == pytest.approx(0.5)
    doubled = mean([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 2], bootstrap=FAST)
    assert mean([1.0, 0.0, 0.0], [0, 1, 2], weights=[2, 1, 1], bootstrap=FAST).high == pytest.approx(doubled.high)


def test_ratio() -> None:
    made = ratio([2.0, 4.0, np.nan], [1.0, 5.0, 1.0], ["a", "b", "c"], bootstrap=FAST)
    assert made.value == pytest.approx(1.0)
    assert made.missing == 1


def test_no_spread_gives_the_exact_interval() -> None:
    made = mean(np.ones(20), support=(0, 1))
    exact = distributions.binomtest(20, 20).proportion_ci(method="exact")
    assert (made.low, made.high) == pytest.approx((exact.low, exact.high))
    single = mean([1.0, 1.0], ["a", "a"], support=(0, 1))
    assert single.clusters == 1
    assert single.low < 0.03


def test_wilson_matches_statsmodels_and_the_clustered_form_reduces_to_it() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for successes, n in [(0, 10), (3, 10), (10, 10), (480, 1000)]:
        made = wilson(successes, n, level=0.9)
        assert (made.low, made.high) == pytest.approx(proportion.proportion_confint(successes, n, 0.1, "wilson"))
    values = np.repeat([1.0, 0.0], [130, 270])
    clustered = mean(values, support=(0, 1), bootstrap=Bootstrap(interval="wilson"))
    plain = wilson(130, 400)
    assert (clustered.low, clustered.high) == pytest.approx((plain.low, plain.high), abs=1e-3)
    repeated = mean(np.repeat(values, 5), np.repeat(np.arange(400), 5), support=(0, 1),
                    bootstrap=Bootstrap(interval="wilson"))  # fmt: skip
    assert repeated.low == pytest.approx(clustered.low)  # saying it five times is no news


def test_bounds_enclose_every_completion() -> None:
    values = np.array([1.0, 0.0, np.nan, 1.0, np.nan, 0.0])
    made = bounds(values, 0, 1, bootstrap=FAST)
    assert (made.worst.value, made.best.value) == pytest.approx((2 / 6, 4 / 6))
    assert made.worst.missing == made.best.missing == 2
    for filled in itertools.product([0.0, 1.0], repeat=2):
        completed = values.copy()
        completed[np.isnan(completed)] = filled
        assert made.worst.value - 1e-12 <= completed.mean() <= made.best.value + 1e-12
    assert bounds([np.nan] * 5, 0, 1, bootstrap=FAST).best.value == 1.0


def test_sign_flip_is_mcnemar_on_binary_differences() -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [9, 2, 300])
    assert sign_flip(differences) == pytest.approx(distributions.binomtest(9, 11).pvalue)


def test_sign_flip_matches_scipy_and_flips_whole_clusters() -> None:
    x = np.random.default_rng(10).normal(0.5, size=11)
    peer = distributions.permutation_test((x, np.zeros(11)), lambda a, b: np.mean(a - b), permutation_type="samples",
                                          n_resamples=np.inf, vectorized=False)  # fmt: skip
    assert sign_flip(x) == pytest.approx(peer.pvalue)
    assert sign_flip(np.repeat(x, 7), np.repeat(np.arange(11), 7)) == pytest.approx(peer.pvalue)
    long = np.random.default_rng(11).normal(0.2, size=60)
    drawn = sign_flip(long, bootstrap=Bootstrap(resamples=20_000))
    assert drawn == pytest.approx(distributions.ttest_1samp(long, 0).pvalue, rel=0.15)


def test_sign_flip_is_never_zero_and_uniform_under_the_hypothesis() -> None:
    assert sign_flip(np.ones(200), bootstrap=FAST) == pytest.approx(1 / 501)
    assert sign_flip(np.zeros(9)) == 1.0
    rng = np.random.default_rng(12)
    found = [sign_flip(rng.normal(size=25), bootstrap=Bootstrap(resamples=200, seed=i)) for i in range(300)]
    assert distributions.kstest(found, "uniform").pvalue > 1e-3


def test_difference_of_aligned_arms_is_the_paired_difference() -> None:
    rng = np.random.default_rng(13)
    ids = np.repeat([f"p{i}" for i in range(40)], 3)
    a, b = rng.normal(size=120), rng.normal(size=120)
    left, right = difference(Arm(a, ids), Arm(b, ids), bootstrap=FAST), paired(a, b, ids, bootstrap=FAST)
    assert (left.value, left.low, left.high, left.p) == pytest.approx((right.value, right.low, right.high, right.p))


def test_difference_keeps_common_prompts_and_counts_each_once() -> None:
    a = Arm([1.0, 3.0, 5.0, 9.0], ["x", "x", "y", "only a"])
    b = Arm([1.0, 2.0, np.nan, 7.0], ["x", "y", "y", "only b"])
    made = difference(a, b, bootstrap=FAST)
    assert made.value == pytest.approx(((2 - 1) + (5 - 2)) / 2)
    assert (made.clusters, made.n, made.missing) == (2, 5, 3)


def _runs(seeds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(14)
    prompt, seed = np.divmod(np.arange(50 * seeds), seeds)
    return 0.5 * rng.normal(size=seeds)[seed] + rng.normal(size=50 * seeds), prompt, seed


def test_scope_needs_five_seeds_in_each_trained_arm() -> None:
    values, prompt, seed = _runs(5)
    few = seed < 4
    assert mean(values, prompt, seeds=seed, bootstrap=FAST).scope == "the method"
    assert mean(values[few], prompt[few], seeds=seed[few], bootstrap=FAST).scope == "these runs"
    five, four = Arm(values, prompt, seed), Arm(values[few], prompt[few], seed[few])
    one = Arm(values[seed == 0], prompt[seed == 0])
    fixed = Arm(one.values, one.clusters, fixed=True)
    assert difference(five, five, bootstrap=FAST).scope == "the method"
    assert difference(five, four, bootstrap=FAST).scope == "these runs"
    assert difference(five, one, bootstrap=FAST).scope == "these runs"
    assert difference(five, fixed, bootstrap=FAST).scope == "the method"


def test_seed_error_of_a_balanced_design_is_the_anova_one() -> None:
    """(MS prompts + MS seeds - MS interaction) / cells, Satterthwaite's freedom; never below prompts or seeds alone."""
    values, prompt, seed = _runs(6)
    values = values + np.random.default_rng(0).normal(size=50)[prompt]
    table = values.reshape(50, 6)
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    squares = [6 * table.mean(axis=1).var(ddof=1), 50 * table.mean(axis=0).var(ddof=1), (rest**2).sum() / (49 * 5)]
    found = spread(collect([values, np.ones(300)], prompt, seeds_N=seed), ratio_of_sums)
    variance = squares[0] + squares[1] - squares[2]
    assert found.error == pytest.approx(np.sqrt(variance / 300))
    below = sum(square**2 / freedom for square, freedom in zip(squares, (49, 5, 245), strict=True))
    assert found.freedom == pytest.approx(variance**2 / below)
    by_seed_only = np.repeat(np.arange(6.0)[None], 50, axis=0).ravel()
    found = spread(collect([by_seed_only, np.ones(300)], prompt, seeds_N=seed), ratio_of_sums)
    assert found.error == pytest.approx(distributions.sem(np.arange(6.0)))


def test_what_prompts_differ_by_takes_nothing_off_the_error_of_a_difference() -> None:
    """Both arms share hard and easy prompts; a difference's error is the same however much these differ."""
    rng, cells = np.random.default_rng(3), 40 * 5
    prompt, seed = np.divmod(np.arange(cells), 5)
    hard, gain = 3 * rng.normal(size=40)[prompt], 0.5 * rng.normal(size=40)[prompt]
    noise = rng.normal(size=(2, cells))
    made = [
        difference(Arm(level + gain + noise[0], prompt, seed), Arm(level + noise[1], prompt, seed), bootstrap=FAST)
        for level in (0 * hard, hard)
    ]
    assert made[0].high - made[0].low == pytest.approx(made[1].high - made[1].low)


def test_seeds_widen_the_interval_and_the_p_value() -> None:
    values, prompt, seed = _runs(5)
    shifted = values + 0.3
    both, prompts_only = (paired(shifted, 0 * values, prompt, seeds=s, bootstrap=FAST) for s in (seed, None))
    assert both.high - both.low > 1.5 * (prompts_only.high - prompts_only.low)
    assert both.p is not None and prompts_only.p is not None and both.p > prompts_only.p


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: mean([]), "no value"),
        (lambda: mean([np.nan, np.nan]), "2 missing"),
        (lambda: mean([1.0, 2.0], ["a", "a"]), "one cluster"),
        (lambda: mean([1.0, np.inf]), "infinite"),
        (lambda: mean(["x", "y"]), "not numbers"),
        (lambda: mean([[1.0, 2.0]]), "one-dimensional"),
        (lambda: mean([1.0, 2.0], ["a"]), "length"),
        (lambda: mean([1.0, 2.0], ["a", None]), "id is missing"),
        (lambda: mean([0.5, 2.0], support=(0, 1)), "outside their range"),
        (lambda: mean([0.0, 1.0], weights=[1, 0]), "positive"),
        (lambda: mean([0.0, 1.0], seeds=[1, 2]), "seeds without clusters"),
        (lambda: mean([0.0, 1.0, 1.0], ["a", "a", "b"], strata=[1, 2, 2]), "two strata"),
        (lambda: mean([0.0, 1.0, 1.0], ["a", "b", "c"], strata=[1, 2, 2]), "one cluster"),
        (lambda: mean([0.0, 1.0], bootstrap=Bootstrap(interval="wilson")), "known range"),
        (lambda: paired([1.0], [1.0, 2.0]), "length"),
        (lambda: ratio([1.0, 2.0], [0.0, 0.0]), "undefined"),
        (lambda: bounds([1.0], 1, 0), "range is empty"),
        (lambda: wilson(3, 2), "proportion"),
        (lambda: difference(Arm([1.0], ["a"]), Arm([1.0], ["b"])), "no value"),
        (lambda: Bootstrap(resamples=3), "too few"),
        (lambda: Bootstrap(level=95), "probability"),
        (lambda: Bootstrap(interval="bca"), "no such interval"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_bad_input_says_what_is_wrong(call, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0, float("nan")])), min_size=1, max_size=40),
    st.sampled_from(["auto", "percentile", "t", "widened"]),
)
def test_any_credits_give_an_honest_estimate(rows: list[tuple[int, float]], interval: str) -> None:
    ids, values = [r[0] for r in rows], np.array([r[1] for r in rows])
    if np.isnan(values).all():
        return
    made = mean(values, ids, support=(0, 1), bootstrap=Bootstrap(resamples=100, interval=interval))
    assert 0 <= made.low <= made.value <= made.high <= 1
    assert made.n + made.missing == len(rows)
    assert made.value == pytest.approx(np.nanmean(values))


def test_ten_thousand_resamples_of_a_thousand_clusters_are_fast_and_small() -> None:
    rng = np.random.default_rng(15)
    values, ids = rng.normal(size=5000), np.repeat(np.arange(1000), 5)
    mean(values, ids)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(5):
        start = time.process_time()
        mean(values, ids)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3
    mean(rng.normal(size=20_000), bootstrap=Bootstrap(resamples=1000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kilobytes
