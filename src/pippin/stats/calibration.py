"""Do a judge's probabilities mean what they say, and does it know when it does not know?

``p_N`` is the judge's probability that the first response is the better one; ``right_N`` is what gold says of that: 1
the first is better, 0 the second, 0.5 a tie. Gold ties have no right side: like missing values (NaN) they are left out
and counted in ``missing``.

Source: G. Brier, "Verification of forecasts expressed in terms of probability" (1950); C. Guo et al., "On calibration
of modern neural networks" (2017); Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.estimate import Ids, codes, kept_rows, mean
from pippin.stats.intervals import estimate
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats, Ints, Resampled, collect, numbers

FLOOR = 1e-6  # the least probability that the log loss reads: a sure mistake would cost infinitely much
POINTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Bin:
    """Verdicts whose probability lies from ``low`` to ``high``: their mean probability and the share that gold backs.

    A calibrated judge has ``mean_p`` within the interval of ``share``.
    """

    low: float
    high: float
    mean_p: float
    share: Estimate


@dataclass(frozen=True)
class AbstentionPoint:
    """The judge speaks on the share ``coverage`` of pairs that it is surest of.

    ``least``: the least distance of its probability from one half among them; ``accuracy`` on them (a probability of
    exactly one half earns half); ``area``: that accuracy averaged over all coverages up to this one, the area under the
    curve so far, so that the point at coverage 1 has the area of the whole curve.
    """

    coverage: float
    least: float
    accuracy: Estimate
    area: Estimate


def brier(
    p_N: ArrayLike, right_N: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Brier score: mean squared distance of the probability from what gold says; 0.25 is what "one half" always earns.

    Args:
        p_N: shape (N,), probability that the first is better, NaN where missing.
        right_N: shape (N,): 1 the first is better, 0 the second; 0.5 (a gold tie) and NaN are left out and counted.
        clusters: prompt id of each, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no row with both, other numbers, or lengths differ.

    Source: Brier (1950), for two outcomes with one of them counted.
    """
    p, right = _pair(p_N, right_N)
    return mean((p - right) ** 2, clusters, support=(0, 1), unit="Brier score", bootstrap=bootstrap)


def log_loss(
    p_N: ArrayLike, right_N: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Mean negative log of the probability given to what gold says, in nats; 0.693 is what "one half" always earns.

    A probability within 1e-6 of 0 or 1 is read as if it were that far: a sure mistake would cost infinitely much. How
    many mistakes were cut so is told in ``method``.

    Args:
        p_N: shape (N,), probability that the first is better, NaN where missing.
        right_N: shape (N,): 1 the first is better, 0 the second; 0.5 (a gold tie) and NaN are left out and counted.
        clusters: prompt id of each, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no row with both, other numbers, or lengths differ.

    Source: I. Good, "Rational decisions" (1952).
    """
    p, right = _pair(p_N, right_N)
    given = np.where(right == 1, p, 1 - p)
    cut = int((given < FLOOR).sum())
    made = mean(-np.log(np.maximum(given, FLOOR)), clusters, unit="nats", bootstrap=bootstrap)
    return replace(made, method=f"{made.method}; {cut} sure mistakes read as {FLOOR:g}") if cut else made


def reliability(
    p_N: ArrayLike, right_N: ArrayLike, clusters: Ids | None = None, bins: int = 10, *, bootstrap: Bootstrap = DEFAULT
) -> tuple[Bin, ...]:
    """The reliability diagram: in bins of equal mass, the mean probability beside the share that gold backs.

    Equal mass: each bin holds about the same number of verdicts, for a judge's probabilities crowd at 0 and 1. Equal
    probabilities are never split, so there may be fewer bins than asked for. The bins are held fixed in resampling.

    Args:
        p_N: shape (N,), probability that the first is better, NaN where missing.
        right_N: shape (N,): 1 the first is better, 0 the second; 0.5 (a gold tie) and NaN are left out and counted.
        clusters: prompt id of each, shape (N,).
        bins: number of bins at most.
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        Bins in ascending order of probability.

    Raises:
        InputError: no row with both, other numbers, lengths differ, or no bin.

    Source: Guo et al. (2017), section 2; equal mass after K. Nguyen, B. O'Connor (2015).
    """
    p, right, kept, place, _ = _binned(p_N, right_N, clusters, bins)
    made = []
    for b in range(int(place.max()) + 1):
        inside = place == b
        share = mean(
            right[inside], kept_rows(kept, "clusters", inside), support=(0, 1), unit="share", bootstrap=bootstrap
        )
        made.append(Bin(float(p[inside].min()), float(p[inside].max()), _exact_mean(p[inside]), share))
    return tuple(made)


def expected_calibration_error(
    p_N: ArrayLike, right_N: ArrayLike, clusters: Ids | None = None, bins: int = 10, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Expected calibration error over the bins of :func:`reliability` (equal mass), weighted by their verdicts.

    It is an average of absolute values, so noise alone makes it positive: a calibrated judge with 30 verdicts a bin
    shows about 0.06, and resampling adds as much again. Compare judges on equally many verdicts, or by their Brier
    scores, which have no such floor; the interval is no test of calibration (the bins' intervals are).

    Args:
        p_N: shape (N,), probability that the first is better, NaN where missing.
        right_N: shape (N,): 1 the first is better, 0 the second; 0.5 (a gold tie) and NaN are left out and counted.
        clusters: prompt id of each, shape (N,).
        bins: number of bins at most.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no row with both, other numbers, lengths differ, or no bin.

    Source: Guo et al. (2017), section 2.
    """
    p, right, kept, place, missing = _binned(p_N, right_N, clusters, bins)
    columns = [np.ones(len(p)), *((right - p) * (place == b) for b in range(int(place.max()) + 1))]
    sample = collect(columns, kept, missing=missing)

    def error(sums_H_K: Floats) -> Floats:
        return np.abs(sums_H_K[..., 0, 1:]).sum(axis=-1) / sums_H_K[..., 0, 0]

    return estimate(Resampled(sample, bootstrap), error, support=(0.0, 1.0), unit="probability")


def abstention_curve(
    p_N: ArrayLike,
    right_N: ArrayLike,
    clusters: Ids | None = None,
    points: Sequence[float] = POINTS,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> tuple[AbstentionPoint, ...]:
    """Accuracy where the judge keeps only the verdicts it is surest of, by the distance of ``p`` from one half.

    Verdicts that are equally sure at the edge of a coverage are kept in part, each with the same weight, so the order
    of rows never decides. The ranking is held fixed in resampling.

    Args:
        p_N: shape (N,), probability that the first is better, NaN where missing.
        right_N: shape (N,): 1 the first is better, 0 the second; 0.5 (a gold tie) and NaN are left out and counted.
        clusters: prompt id of each, shape (N,).
        points: coverages, each above 0 and at most 1, as shares of the rows that have both.
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        A point for each coverage, in the order given.

    Raises:
        InputError: no row with both, other numbers, lengths differ, or a coverage is out of range.

    Source: Geifman, El-Yaniv (2017), section 2; the area is one less the AURC of Geifman, Uziel, El-Yaniv (2019).
    """
    if not all(0 < c <= 1 for c in points):
        raise InputError("not a coverage", where="points", found=list(points), expected="0 < coverage <= 1")
    p, right = _pair(p_N, right_N)
    seen = ~np.isnan(p)
    if not seen.any():
        raise InputError("no value", where="p_N, right_N", found=f"{len(p)} missing", expected="at least one value")
    credit = np.where(p == 0.5, 0.5, (p > 0.5) == (right == 1))
    sure = np.round(np.abs(p[seen] - 0.5), 12)
    levels, level, size = np.unique(-sure, return_inverse=True, return_counts=True)
    last = size.cumsum()
    made = []
    for coverage in points:
        kept = coverage * len(sure)
        within = np.clip(kept - (last - size), 0, size)  # of each level of sureness, how many of its rows are kept
        least = -levels[np.flatnonzero(within > 0)[-1]]
        shares = (_spread_out(seen, (within / size)[level]), _spread_out(seen, _area(last, size, within)[level]))
        accuracy, area = (_weighted(credit, clusters, w, seen, bootstrap) for w in shares)
        made.append(AbstentionPoint(float(coverage), float(least), accuracy, area))
    return tuple(made)


def _pair(p_N: ArrayLike, right_N: ArrayLike) -> tuple[Floats, Floats]:
    """Both as floats, NaN in both where either is missing or gold is a tie."""
    p = numbers(p_N, "p_N")
    right = numbers(right_N, "right_N", len(p))
    if ((p < 0) | (p > 1)).any():
        raise InputError("not a probability", where="p_N", found=float(p[(p < 0) | (p > 1)][0]), expected="0 <= p <= 1")
    odd = right[~(np.isnan(right) | np.isin(right, (0.0, 0.5, 1.0)))]
    if len(odd):
        raise InputError("not a gold verdict", where="right_N", found=float(odd[0]), expected="1, 0.5, 0 or NaN")
    lost = np.isnan(p) | np.isnan(right) | (right == 0.5)
    return np.where(lost, np.nan, p), np.where(lost, np.nan, right)


def _binned(
    p_N: ArrayLike, right_N: ArrayLike, clusters: Ids | None, bins: int
) -> tuple[Floats, Floats, Ids | None, Ints, int]:
    """The rows that have both: probability, gold, cluster, bin; and how many were left out."""
    if bins < 1:
        raise InputError("no bin", where="bins", found=bins, expected="1 or more")
    p, right = _pair(p_N, right_N)
    seen = ~np.isnan(p)
    kept = kept_rows(clusters, "clusters", seen)
    if not seen.any():
        raise InputError("no value", where="p_N, right_N", found=f"{len(p)} missing", expected="at least one value")
    p, right = p[seen], right[seen]
    _, level, size = np.unique(p, return_inverse=True, return_counts=True)
    middle = size.cumsum() - size / 2  # equal probabilities go where the middle one of them goes
    _, place = np.unique(np.floor(middle / len(p) * bins)[level], return_inverse=True)
    return p, right, kept, place.reshape(-1), int((~seen).sum())


def _exact_mean(values: Floats) -> float:
    """The same to the last bit whatever the order of the rows."""
    return float(np.sort(values).mean())


def _area(last: Ints, size: Ints, within: NDArray[np.floating]) -> Floats:
    """Weight of a row of each level in the mean, over 1, 2, ... kept rows, of the accuracy among the kept ones."""
    whole = int(np.ceil(within.sum() - 1e-9))
    tail = np.concatenate([np.cumsum((1.0 / np.arange(1, whole + 1))[::-1])[::-1], np.zeros(int(last[-1]) - whole)])
    return np.add.reduceat(tail, last - size) / size / whole


def _spread_out(seen: np.ndarray, weight: Floats) -> Floats:
    """Weights of all rows, zero where there is no value."""
    full = np.zeros(len(seen))
    full[seen] = weight
    return full


def _weighted(credit: Floats, clusters: Ids | None, weight: Floats, seen: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    codes(clusters, "clusters", len(credit))
    keep = weight > 0
    kept = kept_rows(clusters, "clusters", keep)
    made = mean(credit[keep], kept, weights=weight[keep], support=(0, 1), unit="accuracy", bootstrap=bootstrap)
    return replace(made, missing=int((~seen).sum()))
