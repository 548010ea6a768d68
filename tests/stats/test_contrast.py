"""Contrasts over prompts and seeds, drawn together or apart; equivalence against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import Arm, Bootstrap, contrast, difference, equivalence

FAST = Bootstrap(resamples=300)


def crossed(values_P_S: np.ndarray) -> Arm:
    prompt, seed = (g.ravel() for g in np.meshgrid(*map(range, values_P_S.shape), indexing="ij"))
    return Arm(values_P_S.ravel(), prompt, seed)


def test_a_contrast_of_four_is_the_difference_of_differences() -> None:
    a, b, c, d = np.random.default_rng(0).normal(size=(4, 30))
    ids = np.arange(30)
    made = contrast([Arm(x, ids) for x in (a, b, c, d)], (1, -1, -1, 1), bootstrap=FAST)
    same = difference(Arm(a - b, ids), Arm(c - d, ids), bootstrap=FAST)
    assert made.value == pytest.approx(same.value)
    assert (made.low, made.high, made.p) == pytest.approx((same.low, same.high, same.p))


def test_what_seeds_share_cancels_where_they_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    shared = 3 * rng.normal(size=(1, 6))
    a, b = (crossed(shared + 0.1 * rng.normal(size=(40, 6))) for _ in range(2))
    apart, together = (difference(a, b, together=t, bootstrap=FAST) for t in (False, True))
    assert apart.value == pytest.approx(together.value)
    assert together.high - together.low < 0.1 * (apart.high - apart.low)
    assert together.scope == apart.scope == "the method"


def test_together_is_the_one_sample_t_test_where_seeds_alone_vary() -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 1, 7))
    made = difference(*(crossed(np.repeat(x, 20, axis=0)) for x in (a, b)), together=True, bootstrap=FAST)
    assert made.p == pytest.approx(distributions.ttest_rel(a.ravel(), b.ravel()).pvalue)
    low, high = distributions.ttest_rel(a.ravel(), b.ravel()).confidence_interval()
    assert (made.low, made.high) == pytest.approx((low, high))


def test_apart_is_welch_where_seeds_alone_vary() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 1, 7)) * np.array([[[1.0]], [[3.0]]])
    made = difference(*(crossed(np.repeat(x, 20, axis=0)) for x in (a, b)), bootstrap=FAST)
    assert made.p == pytest.approx(distributions.ttest_ind(a.ravel(), b.ravel(), equal_var=False).pvalue)


def test_an_arm_that_was_not_trained_adds_prompts_and_no_seeds() -> None:
    rng = np.random.default_rng(4)
    trained = crossed(rng.normal(size=(50, 1)) + 0.5 * rng.normal(size=(1, 6)) + rng.normal(size=(50, 6)))
    base = Arm(rng.normal(size=50), np.arange(50), fixed=True)
    widths = [difference(trained, base, together=t, bootstrap=FAST) for t in (False, True)]
    assert widths[0].scope == "the method"
    assert (widths[0].low, widths[0].high) == pytest.approx((widths[1].low, widths[1].high))


def test_these_runs_leave_the_seeds_out() -> None:
    rng = np.random.default_rng(5)
    a, b = (crossed(0.5 * rng.normal(size=(1, 6)) + rng.normal(size=(60, 6))) for _ in range(2))
    runs = difference(Arm(a.values, a.clusters), Arm(b.values, b.clusters), bootstrap=FAST)
    method = difference(a, b, bootstrap=FAST)
    assert runs.scope == "these runs" and runs.value == pytest.approx(method.value)
    assert runs.high - runs.low < 0.7 * (method.high - method.low)


def test_a_t_interval_and_its_p_value_agree() -> None:
    rng = np.random.default_rng(6)
    for shift in np.linspace(0.1, 0.5, 9):
        a, b = Arm(rng.normal(size=40) + shift, np.arange(40)), Arm(np.zeros(40), np.arange(40))
        made = difference(a, b, bootstrap=Bootstrap(interval="t"))
        assert made.p is not None and (made.low > 0 or made.high < 0) == (made.p < 0.05)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    d = np.random.default_rng(7).normal(0.1, 1.0, size=80)
    made = equivalence(Arm(d, np.arange(80)), Arm(0 * d, np.arange(80)), 0.4)
    assert made.p_below == pytest.approx(distributions.ttest_1samp(d, -0.4, alternative="greater").pvalue)
    assert made.p_above == pytest.approx(distributions.ttest_1samp(d, 0.4, alternative="less").pvalue)
    assert made.p == max(made.p_below, made.p_above)
    low, high = distributions.ttest_1samp(d, 0.0).confidence_interval(0.90)
    assert (made.estimate.low, made.estimate.high) == pytest.approx((low, high))
    assert (made.p < 0.05) == (max(-low, high) < 0.4)


def test_where_nothing_differs_the_number_of_prompts_decides() -> None:
    """A margin of 0.2 means that a fifth of the prompts differ by 1 at least: 0.8 ** n is the chance of seeing none."""
    for n in (5, 20):
        arm = Arm(np.zeros(n), np.arange(n))
        made = equivalence(arm, arm, 0.2, support=(-1, 1))
        assert made.p_below == made.p_above == pytest.approx(0.8**n)
        assert equivalence(arm, arm, 0.2).p == 1.0
    shifted = equivalence(Arm(np.full(20, 0.5), np.arange(20)), Arm(np.zeros(20), np.arange(20)), 0.2, support=(-1, 1))
    assert shifted.p_above == 1.0 and shifted.p_below == pytest.approx((1 - 0.7 / 1.5) ** 20)


def test_at_the_margin_equivalence_is_claimed_in_one_case_of_twenty() -> None:
    rng, claimed = np.random.default_rng(8), 0
    for _ in range(300):
        a, b = (crossed(0.5 * rng.normal(size=(1, 5)) + rng.normal(size=(40, 5)) + s) for s in (1.5, 0.0))
        claimed += equivalence(a, b, 1.5).p < 0.05
    assert 0.015 <= claimed / 300 <= 0.085


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: contrast([Arm([1.0, 2.0], ["a", "b"])] * 2, (1.0,)), "weight for each"),
        (lambda: difference(Arm([1.0, 2.0], ["a", "b"]), Arm([1.0, 2.0], ["c", "d"])), "no value"),
        (lambda: equivalence(Arm([1.0, 2.0], ["a", "b"]), Arm([1.0, 2.0], ["a", "b"]), 0.0), "margin"),
        (
            lambda: difference(crossed(np.zeros((4, 5))), crossed(np.zeros((4, 6))), together=True),
            "drawn together are the same",
        ),
    ],
)
def test_contrasts_without_sense_are_refused(call, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()
