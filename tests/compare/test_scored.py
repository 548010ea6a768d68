"""Scores that other programs recorded: means, paired differences and power against closed forms and hand counts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pippin.compare.scored import Contrast, Key, Part, Sample, Scored, compare_scored
from pippin.core.errors import InputError
from pippin.stats import holm, minimum_detectable_effect, sample_size

NAN = math.nan


def scored(name: str, values, task: str = "t", **told) -> Scored:
    """A model with these scores: a number a sample, or a tuple of its epochs."""
    rows = {
        Key(task, str(k)): Sample(value if isinstance(value, tuple) else (float(value),), str(k))
        for k, value in enumerate(values)
    }
    return Scored(name, "acc", rows, **told)


def together(name: str, *models: Scored, **told) -> Scored:
    return Scored(name, "acc", {key: s for model in models for key, s in model.samples.items()}, **told)


def only(contrasts: tuple[Contrast, ...]) -> Contrast:
    [found] = contrasts
    return found


def test_paired_difference_is_that_of_the_samples_not_of_the_rows():
    """Three epochs a sample: value and width are those of the samples' means (Miller 2024, sections 2.2 and 4.2)."""
    rng = np.random.default_rng(0)
    skill_N = rng.normal(size=200)
    one, two = ((skill_N[:, None] + shift + rng.normal(size=(200, 3))) for shift in (0.0, 0.3))
    told = compare_scored([scored("a", map(tuple, one)), scored("b", map(tuple, two))])
    contrast = only(told.contrasts)
    difference_N = two.mean(axis=1) - one.mean(axis=1)
    half = scipy_stats.t.ppf(0.975, 199) * difference_N.std(ddof=1) / math.sqrt(200)
    assert contrast.delta is not None and contrast.delta.value == pytest.approx(difference_N.mean())
    assert contrast.delta.high - contrast.delta.low == pytest.approx(2 * half, rel=0.05)
    assert contrast.delta.clusters == 200 and contrast.verdict == "better"
    unpaired = math.hypot(*(side.mean(axis=1).std(ddof=1) for side in (one, two))) / math.sqrt(200)
    assert half < 1.96 * unpaired


def test_right_and_wrong_get_the_exact_test():
    one, two = [1] * 10 + [0] * 30, [1] * 8 + [0] * 2 + [1] * 14 + [0] * 16
    contrast = only(compare_scored([scored("a", one), scored("b", two)]).contrasts)
    test = contrast.mcnemar
    assert test is not None and (test.both, test.only_a, test.only_b, test.neither) == (8, 14, 2, 16)
    exact = scipy_stats.binomtest(2, 16).pvalue
    assert contrast.delta is not None and contrast.delta.p == pytest.approx(exact) == test.p
    assert contrast.delta.value == pytest.approx(12 / 40)


def test_epochs_and_clusters_have_no_test_of_single_outcomes():
    one, two = scored("a", [(1.0, 0.0)] * 20), scored("b", [(1.0, 1.0)] * 20)
    assert only(compare_scored([one, two]).contrasts).mcnemar is None
    pairs = {key: Sample(s.scores, str(int(key.id) // 2)) for key, s in scored("c", [0, 1] * 20).samples.items()}
    found = only(compare_scored([Scored("c", "acc", pairs), scored("d", [1, 1] * 20)]).contrasts)
    assert found.mcnemar is None and found.delta is not None and found.delta.clusters == 20


def test_clusters_widen_what_they_should():
    """Each question asked ten times over, as ten samples of one cluster: no more certain than asked once."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, 60)
    many = {Key("t", f"{k}.{n}"): Sample((float(v),), str(k)) for k, v in enumerate(values) for n in range(10)}
    [once], [often] = (compare_scored([m]).levels for m in (scored("a", values), Scored("b", "acc", many)))
    assert once.mean and often.mean
    assert often.mean.value == pytest.approx(once.mean.value)
    assert (often.mean.low, often.mean.high) == pytest.approx((once.mean.low, once.mean.high), abs=1e-9)


def test_all_that_are_compared_are_corrected_together():
    rng = np.random.default_rng(2)
    base = rng.integers(0, 2, 80)
    others = [np.where(rng.uniform(size=80) < share, 1, base) for share in (0.05, 0.1, 0.2)]
    told = compare_scored([scored("base", base), *(scored(f"m{k}", v) for k, v in enumerate(others))])
    raw = [c.delta.p for c in told.contrasts if c.delta]
    assert [c.p_holm for c in told.contrasts] == pytest.approx(holm(raw))
    assert all(a < b for a, b in pairwise(sorted(raw)))


def test_a_comparison_that_failed_still_counts_in_the_family():
    good, bad = scored("good", [1] * 9 + [0]), scored("bad", [NAN] * 10)
    told = compare_scored([scored("base", [0] * 10), good, bad])
    first, second = told.contrasts
    assert first.delta and first.p_holm == pytest.approx(2 * (first.delta.p or 0))
    assert second.delta is None and second.verdict == "cannot tell"
    assert told.levels[2].mean is None and told.levels[2].missing == 10


def test_parts_are_a_family_of_their_own():
    base, better = (
        together(name, *(scored("", values, task) for task in ("x", "y", "z")))
        for name, values in (("base", [0] * 8 + [1] * 8), ("better", [1] * 14 + [0] * 2))
    )
    told = compare_scored([base, better])
    whole, *rest = told.contrasts
    assert (whole.part, whole.inner) == ("all tasks", False)
    assert whole.delta and whole.p_holm == whole.delta.p
    assert [c.p_holm for c in rest] == pytest.approx(holm([c.delta.p for c in rest if c.delta]))


def test_tasks_weigh_by_their_samples_or_each_the_same():
    small, large = [1.0, 0.0, 1.0, 1.0], [0.0, 1.0] * 20 + [0.0] * 8
    tasks = ("s", "l")
    for by_samples, expected in ((True, 23 / 52), (False, (3 / 4 + 20 / 48) / 2)):
        model = together("m", scored("", small, "s"), scored("", large, "l"), parts=(Part("g", tasks, by_samples),))
        [level] = compare_scored([model]).levels
        assert level.mean is not None and level.mean.value == pytest.approx(expected)


def test_the_error_of_several_tasks_is_that_of_a_stratified_mean():
    """Cochran (1977), equation 5.7: tasks are fixed, so that differences between them are no error."""
    rng = np.random.default_rng(3)
    easy, hard = rng.uniform(0.8, 1.0, 150), rng.uniform(0.0, 0.2, 50)
    model = together("m", scored("", easy, "e"), scored("", hard, "h"), parts=(Part("g", ("e", "h")),))
    [level] = compare_scored([model]).levels
    error = math.sqrt(sum((len(v) / 200) ** 2 * v.var(ddof=1) / len(v) for v in (easy, hard)))
    assert level.mean is not None and level.mean.value == pytest.approx(np.concatenate([easy, hard]).mean())
    assert (level.mean.high - level.mean.low) / 2 == pytest.approx(1.97 * error, rel=0.06)
    assert error < 0.2 * np.concatenate([easy, hard]).std(ddof=1) / math.sqrt(200)


def test_missing_scores_are_counted_and_bounded():
    told = compare_scored([scored("a", [1] * 20 + [0] * 15 + [NAN] * 5), scored("b", [1] * 40)])
    level = told.levels[0]
    assert level.mean and level.bounds and (level.samples, level.missing, level.lost) == (40, 5, 5)
    assert level.mean.value == pytest.approx(20 / 35)
    assert (level.bounds.worst.value, level.bounds.best.value) == pytest.approx((20 / 40, 25 / 40))
    contrast = only(told.contrasts)
    assert contrast.delta and contrast.bounds and contrast.delta.missing == 5
    assert (contrast.bounds.worst.value, contrast.bounds.best.value) == pytest.approx(((15 - 5) / 40, (15 + 5) / 40))


def test_a_sample_with_some_epochs_lost_is_there_and_says_so():
    [level] = compare_scored([scored("a", [(1.0, NAN), (0.0, 1.0), (1.0, 1.0)])]).levels
    assert (level.missing, level.lost) == (0, 1)
    assert level.mean and level.mean.value == pytest.approx(2.5 / 3)


def test_what_is_not_the_same_question_is_not_joined():
    one, two = ({Key("t", str(k)): Sample((1.0,), str(k), c) for k, c in enumerate(text)} for text in ("abcd", "abxy"))
    two |= {Key("t", "9"): Sample((0.0,), "9")}
    contrast = only(compare_scored([Scored("a", "acc", one), Scored("b", "acc", two)]).contrasts)
    assert (contrast.changed, contrast.alone) == (2, (1, 0))
    assert contrast.delta and contrast.delta.n == 2


def test_less_is_better_where_the_log_says_so():
    low, high = [0.1 * (k % 3) for k in range(60)], [0.1 * (k % 3) + 1 + 0.01 * (k % 5) for k in range(60)]
    loss = [scored(name, values, higher_is_better=False) for name, values in (("a", low), ("b", high))]
    assert only(compare_scored(loss).contrasts).verdict == "worse"


def test_power_is_of_the_corrected_level():
    rng = np.random.default_rng(4)
    base, one, two = (rng.normal(size=300) for _ in range(3))
    told = compare_scored([scored("base", base), scored("one", one), scored("two", two)])
    for contrast, values in zip(told.contrasts, (one, two), strict=True):
        sd = (values - base).std(ddof=1)
        assert contrast.detectable == pytest.approx(minimum_detectable_effect(sd, 300, alpha=0.025), rel=0.05)
        assert contrast.delta
        assert contrast.needed == pytest.approx(sample_size(contrast.delta.value, sd, alpha=0.025), rel=0.1)


def test_a_mean_that_the_log_states_is_checked():
    right, wrong = (scored("m", [1, 0, 1, 1], parts=(Part("t", ("t",), stated=stated),)) for stated in (0.75, 0.8))
    assert compare_scored([right]).notes == ()
    assert compare_scored([wrong]).notes == ("m: the log states 0.8 on t, its samples average 0.75",)


def test_a_task_that_one_side_lacks_is_named():
    both = together("a", scored("", [1, 0], "x"), scored("", [1, 0], "y"))
    one = together("b", scored("", [1, 0], "x"))
    assert compare_scored([both, one]).notes == ("b: all tasks without y",)


def test_the_same_input_in_any_order_gives_the_same_numbers():
    values = list(np.random.default_rng(5).uniform(size=50))
    one, two = scored("a", values), scored("b", values[::-1])
    back = Scored("a", "acc", dict(reversed(list(one.samples.items()))))
    assert compare_scored([one, two]).contrasts == compare_scored([back, two]).contrasts


@pytest.mark.parametrize(
    ("models", "baseline", "says"),
    [
        ([], "", "name of its own"),
        ([scored("a", [1]), scored("a", [1])], "", "name of its own"),
        ([scored("a", [1])], "b", "baseline's name"),
        ([scored("a", [1, 0]), scored("b", [1, 0], "other")], "", "no sample in common"),
    ],
)
def test_what_it_refuses(models, baseline, says):
    with pytest.raises(InputError, match=says):
        compare_scored(models, baseline)
