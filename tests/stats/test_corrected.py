"""The corrected difference: closed forms, an optimiser, and a judge that favours one model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats import Bootstrap, Corrected, corrected, rogan_gladen

NAN = math.nan
FAST = Bootstrap(resamples=300)
TRUTH = 0.05  # what people would find: the second model is right in 0.65, the first in 0.6 of prompts


def drawn(
    rng: np.random.Generator,
    prompts: int = 400,
    labels: float = 100,
    errors: tuple[float, float, float, float] = (0.1, 0.1, 0.35, 0.05),
    ratio: float = 2.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Judge's and people's paired differences, and the probability of a label.

    ``errors``: how often the judge calls the first model's wrong answers right, its right ones wrong, and the same for
    the second model; on the three in ten prompts where it is unsure; elsewhere 0.6 times as often. Unsure prompts are
    drawn ``ratio`` times as often as the others.
    """
    unsure = rng.random(prompts) < 0.3
    scale = np.where(unsure, 1.0, 0.6)
    credits = []
    for share, passed, failed in ((0.6, errors[0], errors[1]), (0.6 + TRUTH, errors[2], errors[3])):
        right = rng.random(prompts) < share
        wrong_verdict = rng.random(prompts) < np.where(right, failed, passed) * scale
        credits.append((right * 1.0, (right ^ wrong_verdict) * 1.0))
    people, judge = (credits[1][side] - credits[0][side] for side in (0, 1))
    probability = np.where(unsure, ratio, 1.0)
    probability = np.minimum(1.0, probability * labels / probability.sum())
    return judge, np.where(rng.random(prompts) < probability, people, NAN), probability


def coverage(replicates: int, seed: int, *, tune: bool = True, **options: object) -> dict[str, float]:
    """Shares of intervals that hold the truth; and the mean width of the corrected one."""
    rng = np.random.default_rng(seed)
    found = {"corrected": 0.0, "judge_alone": 0.0, "people_alone": 0.0, "width": 0.0}
    for _ in range(replicates):
        judge, people, probability = drawn(rng, **options)  # pyright: ignore[reportArgumentType]
        made = corrected(judge, people, probability_N=probability, tune=tune, support=(-1, 1))
        for name in ("corrected", "judge_alone", "people_alone"):
            one = getattr(made, name)
            found[name] += (one.low <= TRUTH <= one.high) / replicates
        found["width"] += (made.corrected.high - made.corrected.low) / replicates
    return found


def test_untuned_and_unweighted_is_the_plain_formula() -> None:
    judge, people, _ = drawn(np.random.default_rng(0), ratio=1.0)
    seen = ~np.isnan(people)
    made = corrected(judge, people, tune=False)
    rest = (people - judge)[seen]
    assert made.corrected.value == pytest.approx(judge.mean() + rest.mean())
    assert made.judge_alone.value == pytest.approx(judge.mean())
    assert made.people_alone.value == pytest.approx(people[seen].mean())
    assert made.bias.value == pytest.approx(rest.mean())
    assert (made.lambda_, made.n_labels) == (1.0, int(seen.sum()))
    alone = distributions.ttest_1samp(people[seen], 0).confidence_interval()
    assert (made.people_alone.low, made.people_alone.high) == pytest.approx(alone)
    assert (made.corrected.n, made.corrected.clusters, made.people_alone.n) == (400, 400, int(seen.sum()))
    variance = judge.var(ddof=1) / 400 + rest.var(ddof=1) / seen.sum() + 2 * np.cov(judge[seen], rest)[0, 1] / 400
    implied = (made.corrected.high - made.corrected.low) / 2 / distributions.t.ppf(0.975, made.freedom)
    assert implied == pytest.approx(math.sqrt(variance), rel=0.02), "the labelled prompts are part of the pool"


def test_weights_are_hajeks() -> None:
    judge, people, probability = drawn(np.random.default_rng(1))
    seen = ~np.isnan(people)
    made = corrected(judge, people, probability_N=probability, tune=False)
    weight = 1 / probability[seen]
    assert made.people_alone.value == pytest.approx(np.average(people[seen], weights=weight))
    assert made.bias.value == pytest.approx(np.average((people - judge)[seen], weights=weight))
    assert made.corrected.value == pytest.approx(judge.mean() + made.bias.value)
    assert corrected(judge, people, probability_N=probability * 0.3, tune=False).bias.value == pytest.approx(
        made.bias.value
    )


def test_lambda_has_the_least_variance() -> None:
    judge, people, probability = drawn(np.random.default_rng(2))
    made = corrected(judge, people, probability_N=probability)
    weight = np.where(np.isnan(people), 0.0, 1 / probability)
    said = np.nan_to_num(people)

    def variance(power: float) -> float:
        rest = said - power * judge
        centre = (weight * rest).sum() / weight.sum()
        parts = power * (judge - judge.mean()) / 400 + weight * (rest - centre) / weight.sum()
        return float((parts**2).sum())

    best = optimize.minimize(lambda x: 1e4 * variance(float(x[0])), [0.5], tol=1e-12).x
    assert made.lambda_ == pytest.approx(float(best[0]), abs=1e-6)
    assert 0 < made.lambda_ < 1
    plain = corrected(judge, people, probability_N=probability, tune=False)
    assert made.gain >= plain.gain * 0.98
    assert made.gain > 1.5


def test_a_judge_worth_nothing_leaves_the_people() -> None:
    rng = np.random.default_rng(3)
    judge, people, probability = drawn(rng)
    for useless in (-judge, np.full(400, 0.3)):
        made = corrected(useless, people, probability_N=probability, support=(-1, 1))
        assert made.lambda_ == pytest.approx(0, abs=0.01)
        assert made.corrected.value == pytest.approx(made.people_alone.value, abs=0.01)
        assert made.gain == pytest.approx(1, abs=0.05)


def test_labels_on_everything_are_the_people_themselves() -> None:
    judge, people, _ = drawn(np.random.default_rng(4), labels=400, ratio=1.0)
    assert not np.isnan(people).any()
    for tune in (True, False):
        made = corrected(judge, people, tune=tune)
        assert made.corrected.value == pytest.approx(people.mean())
        assert made.label_error == pytest.approx(0, abs=1e-6)
        assert made.floor_error == pytest.approx(people.std(ddof=1) / 20, rel=1e-6)


def test_rows_of_a_prompt_are_one_draw_in_any_order() -> None:
    judge, people, probability = drawn(np.random.default_rng(5))
    once = corrected(judge, people, np.arange(400), probability_N=probability)
    ids = np.tile(np.arange(400), 3)
    three = corrected(np.tile(judge, 3), np.tile(people, 3), ids, probability_N=np.tile(probability, 3))
    assert three.corrected.value == pytest.approx(once.corrected.value)
    assert three.corrected.low == pytest.approx(once.corrected.low)
    assert (three.corrected.n, three.corrected.clusters, three.n_labels) == (1200, 400, 3 * once.n_labels)
    shuffle = np.random.default_rng(6).permutation(400)
    moved = corrected(judge[shuffle], people[shuffle], shuffle, probability_N=probability[shuffle])
    assert moved == once


def test_rows_without_a_judge_are_counted() -> None:
    judge, people, probability = drawn(np.random.default_rng(7))
    judge[:9] = NAN
    made = corrected(judge, people, probability_N=probability)
    assert (made.corrected.n, made.corrected.missing, made.people_alone.missing) == (391, 9, 9)
    assert made.n_labels == int((~np.isnan(people))[9:].sum())


def test_no_departure_is_no_certainty() -> None:
    judge = np.resize([1.0, 0.0, -1.0, 1.0], 400)
    people = np.where(np.arange(400) < 40, judge, NAN)
    made = corrected(judge, people, support=(-1, 1))
    could = 1 - 0.025 ** (1 / 40)
    assert made.bias.value == 0
    assert made.bias.high == pytest.approx(2 * could), "the exact limit on the share that departs, by the whole range"
    assert made.corrected.high - made.corrected.value > 2 * could
    assert made.corrected.method.endswith("no label departs from the judge")


def test_labels_for_says_how_many_more() -> None:
    rng = np.random.default_rng(8)
    judge, people, _ = drawn(rng, prompts=2000, labels=150, ratio=1.0)
    made = corrected(judge, people, support=(-1, 1))
    half = (made.corrected.high - made.corrected.low) / 2
    assert made.labels_for(half * 1.001) == 0
    needs = [made.labels_for(half * share) for share in (0.9, 0.7, 0.5)]
    assert needs == sorted(needs, key=lambda n: n or 0)
    assert made.labels_for(0.001) is None, "not even a label on every prompt"
    more = needs[1]
    assert more is not None
    _, again, _ = drawn(np.random.default_rng(8), prompts=2000, labels=150 + more, ratio=1.0)
    after = corrected(judge, again, support=(-1, 1)).corrected
    assert (after.high - after.low) / 2 == pytest.approx(0.7 * half, rel=0.1), "drawing them does it"
    settle = made.labels_for()
    if made.corrected.low > 0 or made.corrected.high < 0:
        assert settle == 0
    else:
        assert settle is None or settle > 0
    with pytest.raises(InputError, match="half-width"):
        made.labels_for(0)


def test_labels_until_the_sign_is_settled() -> None:
    rng = np.random.default_rng(9)
    people_say = rng.choice([-1.0, 0.0, 1.0], p=[0.25, 0.4, 0.35], size=3000)
    judge = np.where(rng.random(3000) < 0.7, people_say, 1.0)
    made = corrected(judge, np.where(rng.random(3000) < 0.02, people_say, NAN))
    assert made.corrected.low < 0 < made.corrected.high
    more = made.labels_for()
    assert more is not None
    assert 0 < more < 3000
    assert more == made.labels_for(abs(made.corrected.value)), "until the half-width is the estimate"


def test_it_covers_where_the_judge_alone_does_not() -> None:
    found = coverage(300, 10)
    assert 0.91 <= found["corrected"] <= 0.985
    assert 0.91 <= found["people_alone"] <= 0.985
    assert found["judge_alone"] < 0.4, "a judge that favours one model is surely wrong"
    few = coverage(300, 11, labels=40)
    assert 0.91 <= few["corrected"] <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("tune", [True, False])
@pytest.mark.parametrize("labels", [30, 50, 100, 200])
def test_coverage_table(labels: int, tune: bool) -> None:
    found = coverage(2000, 12, tune=tune, labels=labels)
    print(f"\n{labels} labels, tune {tune}: " + ", ".join(f"{name} {share:.3f}" for name, share in found.items()))
    assert 0.93 <= found["corrected"] <= 0.97
    assert found["judge_alone"] < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("errors", [(0.5, 0.5, 0.5, 0.5), (0.03, 0.03, 0.1, 0.03)])
def test_coverage_with_a_useless_and_with_a_good_judge(errors: tuple[float, float, float, float]) -> None:
    found = coverage(2000, 13, labels=50, errors=errors)
    print(f"\nerrors {errors}: " + ", ".join(f"{name} {share:.3f}" for name, share in found.items()))
    assert 0.93 <= found["corrected"] <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("labels", [30, 100])
def test_coverage_with_very_unequal_weights(labels: int) -> None:
    found = coverage(2000, 14, labels=labels, ratio=10.0)
    print(f"\n{labels} labels, 10 : 1: " + ", ".join(f"{name} {share:.3f}" for name, share in found.items()))
    assert 0.88 <= found["corrected"] <= 0.985


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="too few labelled"):
        corrected([0, 1, 0], [1, NAN, NAN])
    with pytest.raises(InputError, match="too few labelled"):
        corrected([0, 1, 0], [1, 1, NAN], ["a", "a", "b"])
    with pytest.raises(InputError, match="without its probability"):
        corrected([0, 1, 0], [1, 0, NAN], probability_N=[0.5, NAN, 0.5])
    with pytest.raises(InputError, match="without its probability"):
        corrected([0, 1, 0], [1, 0, NAN], probability_N=[0.5, 1.5, 0.5])
    with pytest.raises(InputError, match="outside their range"):
        corrected([0, 2, 0], [1, 0, NAN], support=(-1, 1))
    with pytest.raises(InputError, match="differ in length"):
        corrected([0, 2, 0], [1, 0])
    assert isinstance(corrected([0, 1, 0], [1, 0, NAN], probability_N=[0.5, 0.5, NAN]), Corrected)


def labelled(
    rng: np.random.Generator, rows: int, share: float, hits: float, passes: float
) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random(rows) < share
    said = np.where(truth, rng.random(rows) < hits, rng.random(rows) > passes)
    return said * 1.0, truth * 1.0


def test_rogan_gladen_by_hand() -> None:
    judged = np.repeat([1.0, 0.0], [62, 38])
    truth = np.repeat([1.0, 0.0], [50, 40])
    said = np.concatenate([np.repeat([1.0, 0.0], [45, 5]), np.repeat([1.0, 0.0], [10, 30])])
    made = rogan_gladen(judged, said, truth, bootstrap=FAST)
    assert made.value == pytest.approx((0.62 + 0.75 - 1) / (0.9 + 0.75 - 1))
    assert made.low < made.value < made.high
    assert (made.n, made.missing) == (190, 0)
    known = 0.62 * 0.38 / 100 / 0.65**2  # variance if the error rates were known
    assert made.high - made.low > 2 * 1.96 * math.sqrt(known), "the error rates are estimated too"


def test_rogan_gladen_covers_and_misleads_a_favourite() -> None:
    rng, held, fooled = np.random.default_rng(14), 0, 0
    for _ in range(100):
        said, truth = labelled(rng, 200, 0.5, 0.85, 0.8)
        same, _ = labelled(rng, 400, 0.6, 0.85, 0.8)
        favoured, _ = labelled(rng, 400, 0.6, 0.95, 0.6)
        one, other = (rogan_gladen(judged, said, truth, bootstrap=FAST) for judged in (same, favoured))
        held += one.low <= 0.6 <= one.high
        fooled += not other.low <= 0.6 <= other.high
    assert held >= 88
    assert fooled > 50, "its assumption: the same error rates for all"


def test_rogan_gladen_clusters_and_refusals() -> None:
    rng = np.random.default_rng(15)
    said, truth = labelled(rng, 100, 0.5, 0.9, 0.8)
    judged, _ = labelled(rng, 200, 0.6, 0.9, 0.8)
    ids, label_ids = np.arange(200), np.arange(100)
    once = rogan_gladen(judged, said, truth, ids, label_ids, bootstrap=FAST)
    twice = rogan_gladen(*(np.tile(a, 2) for a in (judged, said, truth, ids, label_ids)), bootstrap=FAST)
    assert once.clusters == twice.clusters == 200
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))
    assert rogan_gladen(np.append(judged, NAN), said, truth, bootstrap=FAST).missing == 1
    with pytest.raises(InputError, match="undefined"):
        rogan_gladen(judged, 1 - truth, truth)
    with pytest.raises(InputError, match="too few verdicts"):
        rogan_gladen(judged, said, np.ones(100))
    with pytest.raises(InputError, match="one side only"):
        rogan_gladen(judged, said, truth, ids)
    with pytest.raises(InputError, match="not a verdict"):
        rogan_gladen([0.5], said, truth)
