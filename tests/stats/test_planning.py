"""Power and Holm's correction against statsmodels; planning closes the loop with the estimates it plans."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.stats import cluster_sd, holm, mean, minimum_detectable_effect, sample_size


def test_holm_matches_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for size in (1, 2, 9):
        p = np.random.default_rng(size).uniform(size=size) ** 3
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert len(holm([])) == 0


@pytest.mark.parametrize("bad", [[0.1, np.nan], [1.2], [-0.1]])
def test_holm_takes_no_missing_comparison(bad: list[float]) -> None:
    with pytest.raises(InputError, match="p-value"):
        holm(bad)


@pytest.mark.parametrize("n", [5, 20, 100, 805])
@pytest.mark.parametrize(("power", "alpha"), [(0.8, 0.05), (0.95, 0.01)])
def test_detectable_effect_matches_statsmodels(n: int, power: float, alpha: float) -> None:
    peer = pytest.importorskip("statsmodels.stats.power").TTestPower()
    expected = 0.4 * float(peer.solve_power(nobs=n, power=power, alpha=alpha))
    assert minimum_detectable_effect(0.4, n, power=power, alpha=alpha) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("effect", [0.02, 0.1, 0.5, -0.3, 3.0])
def test_sample_size_is_the_smallest_that_detects(effect: float) -> None:
    n = sample_size(effect, 0.5)
    assert minimum_detectable_effect(0.5, n) <= abs(effect)
    assert n == 2 or minimum_detectable_effect(0.5, n - 1) > abs(effect)


def test_large_samples_reach_the_normal_formula() -> None:
    assert minimum_detectable_effect(1.0, 100_000) == pytest.approx(2.801585 / math.sqrt(100_000), rel=1e-3)
    assert sample_size(0.01, 1.0) == pytest.approx((2.801585 / 0.01) ** 2, rel=1e-3)


def test_cluster_sd_reads_the_deviation_back() -> None:
    values = np.random.default_rng(0).normal(scale=3.0, size=400)
    assert cluster_sd(mean(values)) == pytest.approx(values.std(ddof=1), rel=0.03)


@pytest.mark.parametrize(
    "call",
    [
        lambda: minimum_detectable_effect(0.0, 10),
        lambda: minimum_detectable_effect(1.0, 1),
        lambda: minimum_detectable_effect(1.0, 10, power=0.01),
        lambda: sample_size(0.0, 1.0),
        lambda: cluster_sd(mean(np.ones(5))),
    ],
)
def test_plans_without_sense_are_refused(call) -> None:
    with pytest.raises(InputError):
        call()
