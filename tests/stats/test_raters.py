"""Several raters: published worked examples, definitions by loops, scipy's t-test and adjustment."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import (
    Bootstrap,
    against_others,
    alternative_annotator,
    fleiss_kappa,
    gwet_ac1,
    human_ceiling,
    krippendorff_alpha,
    peer_rank,
)

NAN = math.nan
FAST = Bootstrap(resamples=200)
# Krippendorff (2011), data C: four observers, twelve units.
DATA_C = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
# Ten units, fourteen raters, five categories: the worked example that texts on Fleiss' kappa share; kappa is 0.210.
FOURTEEN = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def votes(units: int, raters: int, accuracy: float, rng: np.random.Generator, missing: float = 0.0) -> np.ndarray:
    truth = rng.integers(0, 3, size=units)
    said = np.where(rng.random((units, raters)) < accuracy, truth[:, None], rng.integers(0, 3, size=(units, raters)))
    return np.where(rng.random((units, raters)) < missing, NAN, said.astype(float))


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_krippendorffs(level: str, published: float) -> None:
    made = krippendorff_alpha(DATA_C, level=level, bootstrap=FAST)  # pyright: ignore[reportArgumentType]
    assert made.value == pytest.approx(published, abs=5e-4)
    assert (made.n, made.missing) == (11, 1), "the unit with one vote pairs with none"


def alpha_by_loops(table: np.ndarray, distance: np.ndarray | None) -> float:
    """The definition: weighted pairs within units over all pairs; ``distance`` between category numbers 0, 1, 2."""
    units = [[v for v in row if v == v] for row in table]
    units = [row for row in units if len(row) > 1]
    pooled = [v for row in units for v in row]

    def apart(a: float, b: float) -> float:
        return (a - b) ** 2 if distance is None else distance[int(a), int(b)]

    within = sum(sum(apart(a, b) for a, b in permutations(row, 2)) / (len(row) - 1) for row in units) / len(pooled)
    among = sum(apart(a, b) for a, b in permutations(pooled, 2)) / (len(pooled) * (len(pooled) - 1))
    return 1 - within / among


def test_alpha_by_definition() -> None:
    table = votes(40, 5, 0.6, np.random.default_rng(0), missing=0.4)
    counts = np.array([(table[(~np.isnan(table)).sum(axis=1) > 1] == k).sum() for k in range(3)])
    ordinal = np.array(
        [
            [(counts[min(c, k) : max(c, k) + 1].sum() - (counts[c] + counts[k]) / 2) ** 2 for k in range(3)]
            for c in range(3)
        ]
    )
    for level, distance in (("nominal", 1.0 - np.eye(3)), ("ordinal", ordinal), ("interval", None)):
        made = krippendorff_alpha(table, level=level, bootstrap=FAST)  # pyright: ignore[reportArgumentType]
        assert made.value == pytest.approx(alpha_by_loops(table, distance), abs=1e-12)


def test_fleiss_example_and_equal_votes_only_need_counts() -> None:
    table = np.array([np.repeat(np.arange(5.0), row) for row in FOURTEEN])
    assert fleiss_kappa(table, bootstrap=FAST).value == pytest.approx(0.210, abs=5e-4)


def test_unequal_numbers_as_gwet_has_them() -> None:
    """The values that R's and Python's irrCAC print for data C."""
    kappa, ac1 = fleiss_kappa(DATA_C, bootstrap=FAST), gwet_ac1(DATA_C, bootstrap=FAST)
    assert kappa.value == pytest.approx(0.76117, abs=5e-6)
    assert ac1.value == pytest.approx(0.77544, abs=5e-6)
    assert (kappa.n, kappa.missing, kappa.clusters) == (11, 1, 12)


def test_ac1_stays_up_where_kappa_falls() -> None:
    """Feinstein and Cicchetti's paradox: 95 % agreement, nearly all of one category."""
    table = np.array([[1.0, 1]] * 95 + [[1, 0]] * 3 + [[0, 1]] * 2)
    kappa, ac1 = fleiss_kappa(table, bootstrap=FAST), gwet_ac1(table, bootstrap=FAST)
    share = 2.5 / 100
    chance = 2 * share * (1 - share)
    assert kappa.value == pytest.approx((0.95 - 1 + chance) / chance)
    assert ac1.value == pytest.approx((0.95 - chance) / (1 - chance))
    assert kappa.value < 0 < 0.9 < ac1.value
    wider = gwet_ac1(table, categories=[0, 1, 2], bootstrap=FAST)
    assert wider.value == pytest.approx((0.95 - chance / 2) / (1 - chance / 2)), "a category nobody used counts"


def test_random_votes_have_no_agreement() -> None:
    table = np.random.default_rng(1).integers(0, 3, size=(800, 4)).astype(float)
    for made in (
        fleiss_kappa(table),
        gwet_ac1(table),
        krippendorff_alpha(table),
        krippendorff_alpha(table, level="ordinal"),
    ):
        assert made.low < 0 < made.high
        assert abs(made.value) < 0.05


def test_clusters_widen_and_rows_may_come_in_any_order() -> None:
    rng = np.random.default_rng(2)
    table = np.repeat(votes(60, 3, 0.7, rng), 4, axis=0)
    ids = np.repeat(np.arange(60), 4)
    shuffle = rng.permutation(len(ids))
    for statistic in (fleiss_kappa, gwet_ac1, krippendorff_alpha, human_ceiling):
        together, apart = statistic(table, ids, bootstrap=FAST), statistic(table, bootstrap=FAST)
        assert together.high - together.low > 1.5 * (apart.high - apart.low)
        assert statistic(table[shuffle], ids[shuffle], bootstrap=FAST) == together


def test_ceiling_is_alpaca_evals_worked_example() -> None:
    """Four annotators, one against the majority of three: 0.875."""
    assert human_ceiling([[1, 1, 1, 1], [2, 2, 2, 1]], bootstrap=FAST).value == pytest.approx(0.875)


def test_ceiling_with_three_votes_is_pairwise_agreement() -> None:
    table = votes(80, 3, 0.6, np.random.default_rng(3))
    pairwise = np.mean([table[:, a] == table[:, b] for a, b in ((0, 1), (0, 2), (1, 2))])
    assert human_ceiling(table, bootstrap=FAST).value == pytest.approx(pairwise)


def test_judge_and_ceiling_share_a_yardstick() -> None:
    """Each of six raters in turn as the judge of the other five: on average that is the ceiling of five, exactly."""
    table = votes(200, 6, 0.6, np.random.default_rng(4))
    others = [np.delete(table, j, axis=1) for j in range(6)]
    as_judges = [against_others(table[:, j], others[j], bootstrap=FAST).value for j in range(6)]
    assert np.mean(as_judges) == pytest.approx(np.mean([human_ceiling(rest, bootstrap=FAST).value for rest in others]))
    assert np.ptp(as_judges) > 0.01


def test_against_others_by_loops() -> None:
    rng = np.random.default_rng(5)
    table, one_more = votes(300, 5, 0.6, rng, missing=0.3), votes(300, 1, 0.6, rng)[:, 0]
    by_hand = []
    for row, said in zip(table, one_more, strict=True):
        given = row[~np.isnan(row)]
        if len(given) < 2:
            continue
        credit = 0.0
        for out in range(len(given)):
            kinds, size = np.unique(np.delete(given, out), return_counts=True)
            leaders = kinds[size == size.max()]
            credit += (said in leaders) / len(leaders)
        by_hand.append(credit / len(given))
    made = against_others(one_more, table, bootstrap=FAST)
    assert made.value == pytest.approx(np.mean(by_hand))
    assert (made.n, made.missing) == (len(by_hand), 300 - len(by_hand))
    assert against_others(np.full(300, 9.0), table, bootstrap=FAST).value == 0, "a category that nobody else uses"


def wins_by_loops(judge: np.ndarray, table: np.ndarray, rater: int) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    for f, row in zip(judge, table, strict=True):
        others = [v for k, v in enumerate(row) if k != rater and v == v]
        if f == f and row[rater] == row[rater] and others:
            mine, his = np.mean([f == v for v in others]), np.mean([row[rater] == v for v in others])
            ours.append(float(mine >= his))
            theirs.append(float(his >= mine))
    return ours, theirs


def test_alternative_annotator_by_loops_and_scipy() -> None:
    rng = np.random.default_rng(6)
    table = votes(90, 4, 0.7, rng, missing=0.15)
    judge = np.where(rng.random(90) < 0.05, NAN, votes(90, 1, 0.8, np.random.default_rng(6))[:, 0])
    made = alternative_annotator(judge, table, epsilon=0.1, bootstrap=FAST)
    p_values, shares = [], []
    for contest in made.contests:
        ours, theirs = wins_by_loops(judge, table, contest.rater)
        _, p_value = distributions.ttest_1samp(np.subtract(theirs, ours), 0.1, alternative="less")
        p_values.append(p_value)
        shares.append(np.mean(ours))
        assert contest.judge.value == pytest.approx(shares[-1])
        assert contest.annotator.value == pytest.approx(np.mean(theirs))
        assert contest.advantage.p == pytest.approx(p_values[-1], rel=1e-9)
        assert contest.judge.n == len(ours)
        assert contest.judge.missing == 90 - len(ours)
    # Benjamini-Yekutieli, step up: the largest k with p_(k) <= k q / (m sum 1/i).
    order, limit = np.argsort(p_values), 0.05 / sum(1 / i for i in range(1, 5))
    below = [k for k in range(1, 5) if p_values[order[k - 1]] <= k / 4 * limit]
    won = {int(i) for i in order[: max(below, default=0)]}
    assert {i for i, contest in enumerate(made.contests) if contest.won} == won
    assert made.omega == len(won) / 4
    assert made.passed == (len(won) >= 2)
    assert made.rho is not None
    assert made.rho.value == pytest.approx(np.mean(shares))
    assert made.rho.low < made.rho.value < made.rho.high


def test_alternative_annotator_tells_a_good_judge_from_a_guess() -> None:
    rng = np.random.default_rng(7)
    table = votes(100, 4, 0.7, rng)
    majority = np.array([np.bincount(row.astype(int), minlength=3).argmax() for row in table], dtype=float)
    good = alternative_annotator(majority, table, bootstrap=FAST)
    guess = alternative_annotator(rng.integers(0, 3, size=100), table, bootstrap=FAST)
    assert good.passed
    assert good.omega == 1
    assert not guess.passed
    assert guess.omega == 0
    assert good.rho is not None and guess.rho is not None and good.rho.low > guess.rho.high


def test_repeated_rows_of_a_prompt_are_no_new_evidence() -> None:
    rng = np.random.default_rng(8)
    table, judge = votes(40, 3, 0.7, rng), votes(40, 1, 0.7, np.random.default_rng(8))[:, 0]
    once = alternative_annotator(judge, table, bootstrap=FAST)
    ids = np.repeat(np.arange(40), 10)
    ten = alternative_annotator(np.repeat(judge, 10), np.repeat(table, 10, axis=0), ids, bootstrap=FAST)
    for a, b in zip(once.contests, ten.contests, strict=True):
        assert a.advantage.p == pytest.approx(b.advantage.p)


def test_too_few_is_a_value_and_says_why() -> None:
    rng = np.random.default_rng(9)
    table = votes(60, 4, 0.7, rng)
    two = alternative_annotator(table[:, 0], table[:, 1:3])
    assert (two.usable, two.passed, two.omega, two.rho, two.contests) == (False, False, None, None, ())
    assert two.why == "2 annotators to test, 3 or more are needed"
    short = alternative_annotator(table[:29, 0], table[:29, 1:])
    assert not short.usable
    assert "annotator 2 has 29 units; 30 or more are needed" in short.why
    table[10:, 3] = NAN
    left_out = alternative_annotator(table[:, 0], table, bootstrap=FAST)
    assert left_out.usable
    assert [c.rater for c in left_out.contests] == [0, 1, 2]
    assert left_out.why == "annotator 3 has 10 units; 30 or more are needed"


def test_peer_rank_by_hand() -> None:
    """Two contestants: the weaker weighs nothing after a round. Three alike: all weigh the same."""
    two = peer_rank([[0.8, 0.2], [0.6, 0.4]], iterations=1)
    assert two.scores == pytest.approx((0.7, 0.3))
    assert two.weights == (1.0, 0.0)
    assert peer_rank([[0.8, 0.2], [0.6, 0.4]], iterations=2).scores == pytest.approx((0.8, 0.2))
    three = peer_rank([[0.9, 0.5, 0.1], [0.6, 0.6, 0.3], [0.6, 0.4, 0.5]], iterations=1)
    assert three.scores == pytest.approx((0.7, 0.5, 0.3))
    assert three.weights == pytest.approx((2 / 3, 1 / 3, 0)), "from least to greatest, and adding up to one"
    assert peer_rank(np.full((3, 3), 0.5)).weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    for wins in ([[0.5, 0.5]], [[0.5]], [[NAN, 0.5], [0.5, 0.5]], [[1.5, 0.5], [0.5, 0.5]]):
        with pytest.raises(InputError):
            peer_rank(wins)
    with pytest.raises(InputError, match="no round"):
        peer_rank([[0.5, 0.5], [0.5, 0.5]], iterations=0)


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="no unit with two votes"):
        fleiss_kappa([[1, NAN], [NAN, 2]])
    with pytest.raises(InputError, match="undefined"):
        krippendorff_alpha([[1, 1], [1, 1]])
    with pytest.raises(InputError, match="one category"):
        gwet_ac1([[1, 1], [1, 1]])
    with pytest.raises(InputError, match="outside the categories"):
        gwet_ac1([[1, 3]], categories=[1, 2])
    with pytest.raises(InputError, match="table of units"):
        human_ceiling([1, 2, 3])
    with pytest.raises(InputError, match="interval level"):
        krippendorff_alpha(np.random.default_rng(0).normal(size=(40, 2)))
    with pytest.raises(InputError, match="no such level"):
        krippendorff_alpha(DATA_C, level="ratio")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="differ in length"):
        against_others([1, 2], [[1, 1]])
    with pytest.raises(InputError, match="no value"):
        against_others([NAN], [[1, 1]])
    with pytest.raises(InputError, match="out of range"):
        alternative_annotator([1], [[1, 1]], epsilon=1.5)
