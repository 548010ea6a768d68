"""Best-of-n against all subsets, recorded values and simulation; win rates against their identities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.stats import Bootstrap, best_of_n, best_of_n_kl, best_of_n_win_rate, win_rate

PROXY, GOLD = [0.3, -1.0, 2.0, 0.7, 1.1], [0.1, 0.4, 0.5, -0.2, 0.9]
FAST = Bootstrap(resamples=500)


@pytest.mark.parametrize(("n", "expected"), [(1, 0.34), (2, 0.44), (3, 0.55), (5, 0.5)])
def test_recorded_values(n: int, expected: float) -> None:
    assert float(best_of_n(PROXY, GOLD, n)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, 0.0), (2, 0.193147), (4, 0.636294), (16, 1.835089), (64, 3.174508), (256, 4.549084), (1000, 5.908755)],
)
def test_recorded_divergences(n: int, expected: float) -> None:
    assert best_of_n_kl(n) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("n", range(1, 8))
def test_equals_the_mean_over_all_subsets(n: int) -> None:
    rng = np.random.default_rng(n)
    proxy, gold = rng.normal(size=(2, 7))
    subsets = [gold[max(s, key=lambda i: proxy[i])] for s in itertools.combinations(range(7), n)]
    assert float(best_of_n(proxy, gold, n)) == pytest.approx(np.mean(subsets))


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_ties_are_averaged_over_every_way_to_break_them(n: int) -> None:
    proxy, gold = np.array([1, 1, 0, 2, 2, 2.0]), np.random.default_rng(0).normal(size=6)
    broken = [float(best_of_n(proxy + 1e-6 * np.array(order), gold, n)) for order in itertools.permutations(range(6))]
    assert float(best_of_n(proxy, gold, n)) == pytest.approx(np.mean(broken))
    rng = np.random.default_rng(1)
    drawn = best_of_n(np.tile(proxy, (4000, 1)), np.tile(gold, (4000, 1)), n, rng)
    assert drawn.mean() == pytest.approx(np.mean(broken), abs=5 * np.std(broken) / np.sqrt(4000) + 1e-9)


def test_a_constant_proxy_selects_nothing() -> None:
    gold = np.arange(8.0)
    for n in (1, 4, 8):
        assert float(best_of_n(np.zeros(8), gold, n)) == pytest.approx(gold.mean())


def test_shapes_and_large_n() -> None:
    rng = np.random.default_rng(2)
    proxy = rng.normal(size=(3, 4, 1000))
    made = best_of_n(proxy, proxy, 500)
    assert made.shape == (3, 4)
    assert np.isfinite(made).all()
    assert (made <= proxy.max(axis=-1)).all()
    one = best_of_n(proxy[1, 2], proxy[1, 2], 500)
    assert float(one) == pytest.approx(made[1, 2])


def test_win_rate_identity_by_simulation() -> None:
    rng = np.random.default_rng(3)
    for n, m in [(4, 1), (16, 1), (8, 4)]:
        best, other = rng.normal(size=(20_000, n)).max(axis=1), rng.normal(size=(20_000, m)).max(axis=1)
        made = win_rate(np.sign(best - other), bootstrap=FAST)
        assert abs(made.value - best_of_n_win_rate(n, m)) < 5 * 0.5 / np.sqrt(20_000)


def test_win_rates_of_the_two_sides_add_up_to_one() -> None:
    verdicts = np.array([1, 1, -1, 0, np.nan, 1, 0, -1, 1, 1])
    left, right = win_rate(verdicts, bootstrap=FAST), win_rate(-verdicts, bootstrap=FAST)
    assert left.value == pytest.approx((5 + 1) / 9)
    assert left.value + right.value == pytest.approx(1)
    assert left.low + right.high == pytest.approx(1)
    assert left.missing == 1
    dropped = win_rate(verdicts, ties="drop", bootstrap=FAST)
    assert (dropped.value, dropped.n, dropped.missing) == (pytest.approx(5 / 7), 7, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: best_of_n(PROXY, GOLD, 0),
        lambda: best_of_n(PROXY, GOLD, 6),
        lambda: best_of_n(PROXY, GOLD[:4], 2),
        lambda: best_of_n([1, np.nan], [1, 2], 1),
        lambda: best_of_n_kl(0),
        lambda: best_of_n_win_rate(1, 0),
        lambda: win_rate([0.5]),
        lambda: win_rate([0.0], ties="drop"),
    ],
)
def test_bad_input(call) -> None:
    with pytest.raises(InputError):
        call()
