"""Deciding between two with few labels: waves of labels, looks that keep their error rate, draws where the judge errs.

The estimate at every look is the judge's difference corrected by the labels so far (``stats.corrected``). Estimates of
nested samples have independent increments in the amount of information, so that bounds for repeated looks are those of
any group-sequential test; the intervals of all looks together hold the truth with the stated probability, and a
decision read off them errs no oftener, whichever look it is read at.

Measured (``tests/stats/test_decisions.py``, ``benchmarks/decision.py``): where there is no difference, the intervals of
all looks hold the truth in 0.93 to 0.99 of runs; of the stated error of 0.05 Student's t on verdicts of a dozen labels
makes 0.055.

A wave draws each pair with a probability of its own, larger where the judge has been wrong on pairs of the same word;
a label weighs one over the probability with which its pair was drawn in any wave up to now.

Source: K. Lan, D. DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70 (1983); C. Jennison, B.
Turnbull, "Group sequential methods" (2000), chapters 7, 9 and 19; T. Zrnic, E. Candès, "Active statistical inference"
(2024), section 4 for the probabilities; W. Madow, "On the theory of systematic sampling, II" (1949).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from pippin.core.errors import InputError
from pippin.stats.resampling import Floats, Ints, numbers
from pippin.stats.sequential import nominal_levels

Decision = Literal["better", "not better", "cannot tell"]

FIRST = 12
"""Labels of the first wave: fewer leave Student's t little to go by."""

GROWTH = 1.4
"""Each look has so many times the labels of the one before: a decision comes at most that much too late."""

JUDGED = 8
"""Pairs that the judge is asked about for each label: the variance left by their being few is an eighth of the judge's
part, and a label costs far more than the calls on eight pairs."""

EVEN = 0.3
"""Share of every draw that is even, whatever the judge's errors seem to be: no weight is above 3.3 times the mean."""

_CLASSES = (0.2, 0.4, 0.6, 0.8)  # quantiles of the judge's word between which its errors are averaged
_PRIOR = 10.0  # labels that a class's error is shrunk with towards that of all


def waves(budget: int, first: int = FIRST, growth: float = GROWTH) -> tuple[int, ...]:
    """Labels at each look, the last of which is the budget.

    Raises:
        InputError: a budget below two, or waves that do not grow.
    """
    if budget < 2:
        raise InputError("too few labels to decide by", where="budget", found=budget, expected="2 or more")
    if first < 2 or not growth > 1:
        raise InputError("waves that do not grow", where="first, growth", found=(first, growth), expected="2, above 1")
    counts = [first if first * math.sqrt(growth) <= budget else budget]
    while counts[-1] < budget:
        following = math.ceil(counts[-1] * growth)
        counts.append(budget if following * math.sqrt(growth) > budget else following)  # no last wave of a few labels
    return tuple(counts)


def levels(labels: Sequence[int], alpha: float = 0.05) -> tuple[float, ...]:
    """The confidence level of the interval at each look, so that all of them hold the truth with 1 - ``alpha``.

    Args:
        labels: labels at each look, of which the last is the budget.
        alpha: two-sided error rate over all looks.

    Raises:
        InputError: labels that do not grow from look to look, or a rate outside 0 to 1.

    Source: Lan, DeMets (1983), the spending function like Pocock's, alpha log(1 + (e - 1) t); a function like
    O'Brien-Fleming's waits for the budget: in a simulation of normal means it took 1.5 to 3.6 times the labels where
    the budget was 4 to 20 times what the difference needed.
    """
    shares = [count / labels[-1] for count in labels]
    return tuple(1 - float(level) for level in nominal_levels(shares, alpha, "pocock"))


def verdict(low: float, high: float, worth: float) -> Decision:
    """What an interval of V2's difference decides: better (all above 0), not better (all below ``worth``), or neither.

    Raises:
        InputError: a difference worth having that is negative.
    """
    if worth < 0:
        raise InputError("a difference worth having is not negative", where="worth", found=worth, expected="0 or more")
    return "better" if low > 0 else "not better" if high < worth else "cannot tell"


def wave(
    judge_N: ArrayLike, people_N: ArrayLike, had_N: ArrayLike, n: int, number_N: ArrayLike, start: float
) -> tuple[Ints, Floats]:
    """The pairs of the next wave, and the probability with which each pair was drawn in any wave up to this one.

    Args:
        judge_N: the judge's differences, shape (N,), none missing.
        people_N: people's, NaN where not labelled.
        had_N: the probabilities up to the wave before; 0 where the judge has only now spoken.
        n: labels of the wave; at most as many as there are pairs left.
        number_N: a random number for each pair.
        start: a random number between 0 and 1.

    Raises:
        InputError: no label or more labels than pairs left, a judge's value missing, or lengths differ.
    """
    labelled_N, had = ~np.isnan(numbers(people_N, "people_N")), numbers(had_N, "had_N")
    chance_N = chances(error_sizes(judge_N, people_N, had), had, labelled_N, n)
    return draw(chance_N, labelled_N, number_N, start), had + (1 - had) * chance_N


def error_sizes(judge_N: ArrayLike, people_N: ArrayLike, probability_N: ArrayLike) -> Floats:
    """How large a label's error is expected to be on each pair: the sizes in proportion to which labels are drawn.

    The root of the mean square of people's word less lambda times the judge's, among labelled pairs of a like word of
    the judge (fifths of its distribution), shrunk towards the mean of all. Without labels all are alike: on recorded
    votes of people, a judge's own doubt says little about where it is wrong.

    Args:
        judge_N: the judge's differences, shape (N,), none missing.
        people_N: people's, NaN where not labelled.
        probability_N: of a label, where there is one.

    Returns:
        Sizes with mean 1, at least ``EVEN``; shape (N,).

    Source: Zrnic, Candès (2024), section 4.1: the optimal probability is proportional to the root of the expected
    squared error, mixed with an even draw against a bad estimate of it.
    """
    judge, people = numbers(judge_N, "judge_N"), numbers(people_N, "people_N")
    label_N = ~np.isnan(people)
    if label_N.sum() < 2:
        return np.ones(len(judge))
    weight_L = 1 / numbers(probability_N, "probability_N", len(judge))[label_N]
    judge_L, people_L = judge[label_N], people[label_N]
    apart_L = judge_L - np.average(judge_L, weights=weight_L)
    spread = float(np.average(apart_L**2, weights=weight_L))
    slope = float(np.average(apart_L * people_L, weights=weight_L)) / spread if spread > 0 else 0.0
    rest_L = people_L - min(1.0, max(0.0, slope)) * judge_L
    square_L = (rest_L - np.average(rest_L, weights=weight_L)) ** 2
    edges = np.unique(np.quantile(judge, _CLASSES))
    class_N = np.digitize(judge, edges)
    sums_K = np.bincount(class_N[label_N], square_L, len(edges) + 1)
    counts_K = np.bincount(class_N[label_N], minlength=len(edges) + 1)
    size_N = np.sqrt((sums_K + _PRIOR * square_L.mean()) / (counts_K + _PRIOR))[class_N]
    return EVEN + (1 - EVEN) * size_N / size_N.mean() if size_N.mean() > 0 else np.ones(len(judge))


def chances(size_N: ArrayLike, had_N: ArrayLike, labelled_N: ArrayLike, n: int) -> Floats:
    """The chance of each pair in a wave of ``n``: what brings all chances of having been drawn nearest to the sizes.

    A pair that had its chance before gets what is lacking to a common multiple of its size, one of whom the judge has
    just spoken gets all of it. For a labelled pair it is the chance it would have had.

    Args:
        size_N: positive sizes, shape (N,).
        had_N: the probability with which each pair was drawn in any wave before, shape (N,).
        labelled_N: which pairs are drawn already, shape (N,).
        n: labels of the wave; at most as many as there are pairs left.

    Returns:
        Probabilities, shape (N,), which add up to ``n`` over the pairs that are left.
    """
    size, had, left_N = numbers(size_N, "size_N"), numbers(had_N, "had_N"), ~np.asarray(labelled_N, dtype=bool)
    if not 0 < n <= left_N.sum():
        raise InputError("no wave of this size", where="n", found=n, expected=f"1 to {int(left_N.sum())}")
    if n == left_N.sum():
        return np.ones(len(size))

    def wanted(multiple: float) -> Floats:
        return np.clip((np.minimum(1.0, multiple * size) - had) / np.maximum(1 - had, 1e-12), 0.0, 1.0)

    made = optimize.root_scalar(
        lambda multiple: wanted(multiple)[left_N].sum() - n, bracket=(0.0, 1 / size.min()), xtol=1e-14
    )
    return wanted(made.root)


def draw(chance_N: ArrayLike, labelled_N: ArrayLike, number_N: ArrayLike, start: float) -> Ints:
    """The pairs of a wave: each with its chance, as many as the chances of those left add up to.

    Args:
        chance_N: as :func:`chances` gives them.
        labelled_N: which pairs are drawn already.
        number_N: a random number for each pair, by which they are put in order.
        start: a random number between 0 and 1.

    Source: Madow (1949), systematic sampling with unequal probabilities, in random order.
    """
    left_L = np.flatnonzero(~np.asarray(labelled_N, dtype=bool))
    order_L = left_L[np.argsort(np.asarray(number_N)[left_L], kind="stable")]
    ends_L = np.cumsum(np.asarray(chance_N, dtype=np.float64)[order_L])
    ends_L *= round(ends_L[-1]) / ends_L[-1]
    marks = np.floor(np.concatenate([[0.0], ends_L]) + 1 - start)
    marks[-1] = round(float(ends_L[-1]))
    return np.sort(order_L[np.diff(marks) > 0])
