"""Bounds of repeated looks against published tables; by simulation, that they keep their error rate with few seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import Arm, Bootstrap, crossing, difference, holm, nominal_levels, stepwise


def equal(looks: int) -> list[float]:
    return [(k + 1) / looks for k in range(looks)]


def constant(looks: int, shape: float) -> float:
    """C of the bounds C * (k / K) ** (shape - 1/2) with two-sided error 0.05 over all looks."""
    times = equal(looks)

    def beyond(c: float) -> float:
        return float(crossing(2 * distributions.norm.sf(c * np.array(times) ** (shape - 0.5)), times).sum()) - 0.05

    return float(optimize.brentq(beyond, 1.5, 4.0))


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming"),
    [(2, 2.178, 1.977), (3, 2.289, 2.004), (4, 2.361, 2.024), (5, 2.413, 2.040)],
)
def test_constants_of_jennison_and_turnbull(looks: int, pocock: float, obrien_fleming: float) -> None:
    """Jennison & Turnbull (2000), tables 2.1 and 2.3, alpha = 0.05."""
    assert constant(looks, 0.5) == pytest.approx(pocock, abs=6e-4)
    assert constant(looks, 0.0) == pytest.approx(obrien_fleming, abs=6e-4)


@pytest.mark.parametrize(
    ("spending", "bounds"),
    [
        ("obrien_fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_spending_bounds_of_ldbounds(spending, bounds) -> None:
    """Five equal looks, alpha = 0.05 two-sided, as the R package ldbounds prints them (Reboussin et al. 2000)."""
    found = distributions.norm.isf(nominal_levels(equal(5), 0.05, spending) / 2)
    assert found == pytest.approx(bounds, abs=2e-4)


@pytest.mark.parametrize("times", [[1.0], [0.2, 1.0], [0.1, 0.15, 0.8, 1.0], [5 / 12, 8 / 12, 1.0]])
@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_all_that_may_be_spent_is_spent(times, spending) -> None:
    levels = nominal_levels(times, 0.05, spending)
    assert crossing(levels, times).sum() == pytest.approx(0.05, abs=1e-9)
    if len(times) == 1:
        assert levels == pytest.approx([0.05])


def test_too_early_a_look_has_nothing_to_spend() -> None:
    assert nominal_levels([0.005, 1.0], 0.05)[0] == 0.0


def test_normal_paths_cross_as_often_as_integration_says() -> None:
    times, rng = np.array([0.3, 0.5, 1.0]), np.random.default_rng(4)
    score = np.cumsum(rng.normal(size=(200_000, 3)) * np.sqrt(np.diff([0.0, *times])), axis=1)
    p = 2 * distributions.norm.sf(np.abs(score) / np.sqrt(times))
    crossed = (p <= nominal_levels(times.tolist(), 0.05, "pocock")).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.002)
    assert (p <= 0.05).any(axis=1).mean() > 0.09  # without bounds the looks err twice as often


def test_one_look_is_holm() -> None:
    p = [0.01, 0.04, 0.03, 0.2, 0.012]
    decided = [adjusted < 0.05 for adjusted in holm(p)]
    assert [look == 0 for look in stepwise([p], [1.0]).decided_M] == decided


def test_a_decided_comparison_leaves_its_share_to_the_others() -> None:
    times = [0.5, 1.0]
    strict, open_ = nominal_levels(times, 0.025), nominal_levels(times, 0.05)
    between = float((strict[1] + open_[1]) / 2)
    assert stepwise([[0.9, 0.9], [0.9, between]], times).decided_M == (-1, -1)
    found = stepwise([[1e-9, 0.9], [0.5, between]], times)
    assert found.decided_M == (0, 1)
    assert found.alpha_M == (0.025, 0.05)


def _rates(rng: np.random.Generator, at: tuple[int, ...], by_seed: float, gain: float, runs: int) -> float:
    """How often two arms of one method are told apart at any look over seeds (40 prompts, crossed random effects)."""
    how, hits, most = Bootstrap(resamples=100, interval="t"), 0, at[-1]
    prompt, seed = (g.ravel() for g in np.meshgrid(range(40), range(most), indexing="ij"))
    for _ in range(runs):
        shift = gain * rng.normal(size=(40, 1))
        arms = [by_seed * rng.normal(size=(1, most)) + rng.normal(size=(40, most)) + shift * way for way in (0, 1)]
        p = []
        for n in at:
            a, b = (Arm(v.ravel()[seed < n], prompt[seed < n], seed[seed < n]) for v in arms)
            p.append([difference(a, b, bootstrap=how).p])
        hits += stepwise(p, [n / most for n in at]).decided_M[0] >= 0
    return hits / runs


def test_looks_over_few_seeds_keep_the_error_rate() -> None:
    assert 0.01 <= _rates(np.random.default_rng(0), (5, 8, 12), 0.5, 0.0, 120) <= 0.11


@pytest.mark.slow
@pytest.mark.parametrize(("by_seed", "gain"), [(0.3, 0.0), (0.3, 0.7), (1.0, 0.0)])
def test_looks_over_few_seeds_keep_the_error_rate_long(by_seed: float, gain: float) -> None:
    rate = _rates(np.random.default_rng(1), (5, 8, 12), by_seed, gain, 2000)
    print(f"\nseeds {by_seed} prompts {gain}: {rate:.4f}")
    assert 0.03 <= rate <= 0.07


@pytest.mark.parametrize(
    "call",
    [
        lambda: nominal_levels([0.5, 0.4, 1.0]),
        lambda: nominal_levels([0.5, 0.9]),
        lambda: nominal_levels([]),
        lambda: nominal_levels([1.0], 1.5),
        lambda: nominal_levels([1.0], 0.05, "haybittle"),  # type: ignore[arg-type]
        lambda: crossing([0.05], [0.5, 1.0]),
        lambda: stepwise([[0.1], [0.1]], [1.0]),
        lambda: stepwise([[np.nan]], [1.0]),
    ],
)
def test_looks_without_sense_are_refused(call) -> None:
    with pytest.raises(InputError):
        call()
