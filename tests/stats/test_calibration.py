"""Calibration and abstention: hand counts, closed forms, and a judge that is calibrated by construction."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.stats import Bootstrap, abstention_curve, brier, expected_calibration_error, log_loss, reliability

NAN = math.nan
FAST = Bootstrap(resamples=300)


def calibrated(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.random(rows)
    return p, (rng.random(rows) < p) * 1.0


def test_scores_by_hand_and_gold_ties_are_counted_not_scored() -> None:
    p, right = [0.9, 0.2, 0.5, 0.7, NAN, 0.6], [1, 0, 1, 0.5, 1, NAN]
    made = brier(p, right, bootstrap=FAST)
    assert made.value == pytest.approx((0.01 + 0.04 + 0.25) / 3)
    assert (made.n, made.missing) == (3, 3)
    loss = log_loss(p, right, bootstrap=FAST)
    assert loss.value == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3)
    assert (loss.n, loss.missing) == (3, 3)


def test_one_half_earns_what_it_must() -> None:
    right = np.repeat([0.0, 1.0], 20)
    assert brier(np.full(40, 0.5), right, bootstrap=FAST).value == pytest.approx(0.25)
    assert log_loss(np.full(40, 0.5), right, bootstrap=FAST).value == pytest.approx(math.log(2))


def test_a_calibrated_judge_earns_its_expected_scores() -> None:
    """For p uniform: E p(1-p) = 1/6; E of the entropy is 1/2 nat."""
    p, right = calibrated(4000, 0)
    for made, truth in ((brier(p, right, bootstrap=FAST), 1 / 6), (log_loss(p, right, bootstrap=FAST), 0.5)):
        assert made.low < truth < made.high
        assert made.high - made.low < 0.05


def test_a_sure_mistake_is_finite_and_said() -> None:
    made = log_loss([1.0, 0.0, 0.8], [0, 0, 1], bootstrap=FAST)
    assert made.value == pytest.approx((-math.log(1e-6) - math.log(0.8)) / 3)
    assert made.method.endswith("1 sure mistakes read as 1e-06")


def test_bins_have_equal_mass_and_never_split_equal_probabilities() -> None:
    p, right = calibrated(1000, 1)
    bins = reliability(p, right, bins=10, bootstrap=FAST)
    assert [b.share.n for b in bins] == [100] * 10
    assert all(a.high <= b.low for a, b in pairwise(bins))
    ordered = np.sort(p)
    assert bins[3].mean_p == pytest.approx(ordered[300:400].mean())
    assert bins[3].share.value == pytest.approx(right[np.argsort(p)][300:400].mean())
    assert sum(b.share.low <= b.mean_p <= b.share.high for b in bins) >= 8
    crowded = reliability([0.0] * 70 + [0.5] * 10 + [1.0] * 20, [0.0] * 70 + [1.0] * 30, bins=10, bootstrap=FAST)
    assert [(b.low, b.high, b.share.n) for b in crowded] == [(0, 0, 70), (0.5, 0.5, 10), (1, 1, 20)]


def test_expected_calibration_error_by_hand() -> None:
    p = np.repeat([0.1, 0.6, 0.9], [10, 10, 20])
    right = np.concatenate(
        [np.repeat([1.0, 0.0], [3, 7]), np.repeat([1.0, 0.0], [6, 4]), np.repeat([1.0, 0.0], [14, 6])]
    )
    made = expected_calibration_error(p, right, bins=3, bootstrap=FAST)
    assert made.value == pytest.approx((10 * 0.2 + 10 * 0.0 + 20 * 0.2) / 40)
    assert made.low <= made.value <= made.high


def test_noise_alone_makes_an_error_and_an_overconfident_judge_makes_a_larger_one() -> None:
    floor = [expected_calibration_error(*calibrated(300, s), bins=10, bootstrap=FAST).value for s in range(30)]
    assert np.mean(floor) == pytest.approx(0.06, abs=0.01), "30 verdicts a bin: what the docstring says"
    p, right = calibrated(4000, 2)
    overconfident = expected_calibration_error(np.where(p > 0.5, 0.99, 0.01), right, bootstrap=FAST)
    assert overconfident.value == pytest.approx(0.24, abs=0.02)
    assert overconfident.low > expected_calibration_error(p, right, bootstrap=FAST).high


def curve_by_loops(p: np.ndarray, right: np.ndarray) -> list[float]:
    order = np.argsort(-np.abs(p - 0.5))
    credit = ((p > 0.5) == (right == 1))[order]
    return [float(credit[:k].mean()) for k in range(1, len(p) + 1)]


def test_abstention_keeps_the_surest() -> None:
    p, right = calibrated(200, 3)
    curve = curve_by_loops(p, right)
    points = abstention_curve(p, right, points=(1.0, 0.5, 0.1), bootstrap=FAST)
    for point, kept in zip(points, (200, 100, 20), strict=True):
        assert point.accuracy.value == pytest.approx(curve[kept - 1])
        assert point.area.value == pytest.approx(np.mean(curve[:kept]))
        assert point.accuracy.n == kept
        assert np.sum(np.abs(p - 0.5) >= point.least - 1e-9) == kept
    assert points[0].accuracy.value < points[1].accuracy.value < points[2].accuracy.value
    default = abstention_curve(p, right, bootstrap=FAST)
    assert [q.coverage for q in default] == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_equally_sure_verdicts_are_kept_in_part_in_any_order() -> None:
    p, right = np.array([0.9, 0.8, 0.2, 0.8, 0.5]), np.array([1.0, 1, 1, 0, 1])
    two = abstention_curve(p, right, points=(0.4,), bootstrap=FAST)[0]
    assert two.accuracy.value == pytest.approx((1 + 1 / 3) / 2), "one sure and a third each of three, one of them right"
    assert two.area.value == pytest.approx((1 + (1 + 1 / 3) / 2) / 2)
    shuffle = [3, 4, 0, 2, 1]
    assert abstention_curve(p[shuffle], right[shuffle], points=(0.4,), bootstrap=FAST)[0] == two
    everything = abstention_curve(p, right, points=(1.0,), bootstrap=FAST)[0]
    assert everything.accuracy.value == pytest.approx((1 + 1 + 0 + 0 + 0.5) / 5), "one half earns half"


def test_missing_and_clusters_reach_every_estimate() -> None:
    p, right = calibrated(240, 4)
    p[:10], right[10:30] = NAN, 0.5
    ids = np.repeat(np.arange(80), 3)
    bins = reliability(p, right, ids, bootstrap=FAST)
    assert sum(b.share.n for b in bins) == 210
    made = [
        expected_calibration_error(p, right, ids, bootstrap=FAST),
        abstention_curve(p, right, ids, bootstrap=FAST)[0].accuracy,
    ]
    for estimate in made:
        assert (estimate.n, estimate.missing, estimate.clusters) == (210, 30, 70)


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="not a probability"):
        brier([1.2], [1])
    with pytest.raises(InputError, match="not a gold verdict"):
        log_loss([0.2], [-1])
    with pytest.raises(InputError, match="no value"):
        reliability([0.2], [0.5])
    with pytest.raises(InputError, match="no value"):
        abstention_curve([NAN], [1])
    with pytest.raises(InputError, match="not a coverage"):
        abstention_curve([0.2], [1], points=(0.0,))
    with pytest.raises(InputError, match="no bin"):
        expected_calibration_error([0.2], [1], bins=0)
    with pytest.raises(InputError, match="differ in length"):
        brier([0.2, 0.3], [1])
