"""Agreement against hand counts and statsmodels' kappa."""

from __future__ import annotations

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.stats import Bootstrap, agree, base_rates, cohen_kappa, combine_orders, raw_agreement

NAN = float("nan")
FAST = Bootstrap(resamples=500)
A = np.array([1, 1, -1, 0, 0, 1, NAN, -1])
B = np.array([1, -1, -1, 0, 1, 0, 1, NAN])


def test_orders_that_differ_are_a_tie_and_missing_stays_missing() -> None:
    combined = combine_orders([1, -1, 0, 1, 1, NAN, NAN], [1, -1, 0, -1, 0, 1, NAN])
    assert combined.tolist()[:5] == [1, -1, 0, 0, 0]
    assert np.isnan(combined[5:]).all()


def test_both_conventions() -> None:
    with_ties = raw_agreement(A, B, bootstrap=FAST)
    assert (with_ties.value, with_ties.n, with_ties.missing) == (pytest.approx(3 / 6), 6, 2)
    decided = raw_agreement(A, B, ties="drop", bootstrap=FAST)
    assert (decided.value, decided.n, decided.missing) == (pytest.approx(2 / 3), 3, 2)


def test_two_missing_verdicts_do_not_agree() -> None:
    with pytest.raises(InputError, match="2 missing"):
        raw_agreement([NAN, NAN], [NAN, NAN])


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_kappa_and_its_interval_match_statsmodels(labels: int) -> None:
    rater = pytest.importorskip("statsmodels.stats.inter_rater")
    rng = np.random.default_rng(labels)
    a = rng.integers(0, labels, size=400)
    b = np.where(rng.random(400) < 0.5, a, rng.integers(0, labels, size=400))
    table = np.zeros((labels, labels))
    np.add.at(table, (a, b), 1)
    peer = rater.cohens_kappa(table)
    made = cohen_kappa(a, b)
    assert made.value == pytest.approx(peer.kappa)
    assert made.high - made.low == pytest.approx(peer.kappa_upp - peer.kappa_low, rel=0.06)


def test_kappa_takes_strings_and_ignores_missing() -> None:
    made = cohen_kappa(["x", "y", "y", None, "x"], ["x", "y", "x", "y", None], bootstrap=FAST)
    assert (made.n, made.missing) == (3, 2)
    assert made.value == pytest.approx((2 / 3 - (1 / 3 * 2 / 3 + 2 / 3 * 1 / 3)) / (1 - 4 / 9))


def test_kappa_of_independent_raters_is_zero_and_clusters_widen_it() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, size=(2, 300))
    single = cohen_kappa(a, b)
    assert single.low < 0 < single.high
    ids = np.repeat(np.arange(300), 6)
    repeated = cohen_kappa(np.repeat(a, 6), np.repeat(b, 6), ids)
    naive = cohen_kappa(np.repeat(a, 6), np.repeat(b, 6))
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.05)
    assert naive.high - naive.low < 0.6 * (repeated.high - repeated.low)


def test_kappa_that_is_undefined_is_not_a_number_made_up() -> None:
    with pytest.raises(InputError, match="undefined"):
        cohen_kappa([1, 1, 1], [1, 1, 1])
    made = agree([1, 1, 1], [1, 1, 1], bootstrap=FAST)
    assert made.kappa is None
    assert made.with_ties.value == 1.0
    assert made.with_ties.low < 0.4  # three pairs prove little


def test_perfect_kappa_of_few_pairs_is_not_certain() -> None:
    made = cohen_kappa([1, -1, 1, -1, 1], [1, -1, 1, -1, 1], bootstrap=FAST)
    assert made.value == made.high == 1.0
    assert made.low < 0.5


def test_base_rates_add_up() -> None:
    made = base_rates(A, bootstrap=FAST)
    assert list(made) == [-1, 0, 1]
    assert sum(e.value for e in made.values()) == pytest.approx(1)
    assert all(e.missing == 1 for e in made.values())


def test_agree_holds_the_parts() -> None:
    made = agree(A, B, np.array(list("aabbccdd")), bootstrap=FAST)
    assert made.decided is not None and made.kappa is not None
    assert made.with_ties.clusters == 3
    assert made.base_a[1.0].value == pytest.approx(3 / 6)
    assert made.base_b[0.0].value == pytest.approx(2 / 6)
    only_ties = agree([0, 0, 1], [0, 1, 0], bootstrap=FAST)
    assert only_ties.decided is None


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: raw_agreement([2.0], [1.0]), "not a verdict"),
        (lambda: raw_agreement([1.0], [1.0, 0.0]), "length"),
        (lambda: cohen_kappa([1], [1, 2]), "length"),
        (lambda: cohen_kappa([None, "a"], [None, None]), "no value"),
        (lambda: cohen_kappa([None], [None]), "no label"),
        (lambda: base_rates([None]), "no label"),
        (lambda: combine_orders([1], [1, 0]), "length"),
    ],
)
def test_bad_input(call, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()
