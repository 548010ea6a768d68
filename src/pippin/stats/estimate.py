"""Means, paired differences and ratios over prompts, each with an interval; what missing values could do; p-values.

A missing value (NaN) is left out of the value and counted in ``Estimate.missing``; :func:`bounds` tells what it could
have changed. Nothing here depends on the order of the rows.

Source: A. Miller, "Adding error bars to evals" (2024) for clustered and paired errors of evaluations; B. Efron,
R. Tibshirani (1993) for the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.intervals import Support, estimate, flip, ratio_of_sums, t_test, wilson_limits
from pippin.stats.resampling import (
    DEFAULT,
    Bootstrap,
    Floats,
    Resampled,
    Sample,
    codes,
    collect,
    numbers,
    spread,
)

Ids = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """The mean if every missing value were the worst, and if every one were the best."""

    worst: Estimate
    best: Estimate


def mean(
    values: ArrayLike,
    clusters: Ids | None = None,
    *,
    seeds: Ids | None = None,
    strata: Ids | None = None,
    weights: ArrayLike | None = None,
    support: Support | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Mean over rows with an interval over clusters.

    Args:
        values: shape (N,), NaN where missing.
        clusters: prompt id of each row, shape (N,); None: each row is its own cluster.
        seeds: training seed of each row, shape (N,). With five or more, prompts and seeds are both drawn and the
            scope is ``the method``; with fewer, or None, it is ``these runs``.
        strata: shape (N,); the value is the unweighted mean of the strata's means, resampled within each stratum.
        weights: shape (N,), positive: the weighted mean.
        support: lowest and highest possible value; makes small samples and extreme shares honest.
        unit: goes into the Estimate.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no value, lengths differ, infinite values, values outside ``support``, or one cluster without
            ``support``.

    Source: Efron & Tibshirani (1993), chapters 6 and 13; Owen (2007) with seeds; see :mod:`pippin.stats.intervals`.
    """
    values_N = _in_range(numbers(values, "values"), support)
    sample = _mean_sample(values_N, clusters, seeds, strata, weights)
    return estimate(Resampled(sample, bootstrap), ratio_of_sums, support=support, unit=unit)


def paired(
    values_a: ArrayLike,
    values_b: ArrayLike,
    clusters: Ids | None = None,
    *,
    seeds: Ids | None = None,
    strata: Ids | None = None,
    weights: ArrayLike | None = None,
    support: Support | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Mean of ``values_a - values_b`` over the same rows, with an interval and a p-value against zero.

    A row is used where both sides have a value; the others are counted in ``missing``. With five seeds or more, row i
    of both sides has the seed ``seeds[i]``. The p-value flips signs of clusters (:func:`sign_flip`); for the scope
    ``the method`` it is Student's, from the error over prompts and seeds.

    Args:
        values_a: shape (N,), NaN where missing.
        values_b: shape (N,), the same units in the same order.
        clusters: prompt id of each row, shape (N,).
        seeds: as in :func:`mean`.
        strata: as in :func:`mean`.
        weights: as in :func:`mean`.
        support: range of the *difference*, such as (-1, 1) for win credits.
        unit: goes into the Estimate.
        bootstrap: as in :func:`mean`.

    Raises:
        InputError: as :func:`mean`.

    Source: Miller (2024), section 4.2; Good, "Permutation, parametric and bootstrap tests" (2005), section 3.2.
    """
    a_N = numbers(values_a, "values_a")
    b_N = numbers(values_b, "values_b", len(a_N))
    difference_N = _in_range(a_N - b_N, support)
    sample = _mean_sample(difference_N, clusters, seeds, strata, weights)
    made = estimate(Resampled(sample, bootstrap), ratio_of_sums, support=support, unit=unit)
    return replace(made, p=_p_of(sample, made.value, bootstrap))


def ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Ids | None = None,
    *,
    seeds: Ids | None = None,
    strata: Ids | None = None,
    support: Support | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Sum of the numerators over sum of the denominators, such as a cost per right verdict.

    Args:
        numerator: shape (N,), NaN where missing.
        denominator: shape (N,); a row counts where both have a value.
        clusters: prompt id of each row, shape (N,).
        seeds: as in :func:`mean`.
        strata: as in :func:`mean`.
        support: range of the ratio, where known.
        unit: goes into the Estimate.
        bootstrap: as in :func:`mean`.

    Raises:
        InputError: as :func:`mean`; the denominators sum to zero.

    Source: Cochran, "Sampling techniques" (1977), chapter 6; the interval as in :func:`mean`.
    """
    top_N = numbers(numerator, "numerator")
    bottom_N = numbers(denominator, "denominator", len(top_N))
    keep_N = ~(np.isnan(top_N) | np.isnan(bottom_N))
    sample = collect(
        [top_N[keep_N], bottom_N[keep_N]], kept_rows(clusters, "clusters", keep_N),
        seeds_N=kept_rows(seeds, "seeds", keep_N), strata_N=kept_rows(strata, "strata", keep_N),
        missing=int((~keep_N).sum()),
    )  # fmt: skip
    return estimate(Resampled(sample, bootstrap), ratio_of_sums, support=support, unit=unit)


def bounds(
    values: ArrayLike,
    low: float,
    high: float,
    clusters: Ids | None = None,
    *,
    seeds: Ids | None = None,
    strata: Ids | None = None,
    weights: ArrayLike | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Bounds:
    """The mean with every missing value at ``low`` (worst) and at ``high`` (best): what the missing ones could change.

    Args:
        values: shape (N,), NaN where missing; all may be missing.
        low: the lowest possible value.
        high: the highest possible value.
        clusters: as in :func:`mean`, likewise the rest.
        seeds: training seed of each row, shape (N,).
        strata: shape (N,).
        weights: shape (N,).
        unit: goes into the Estimates.
        bootstrap: as in :func:`mean`.

    Raises:
        InputError: as :func:`mean`; ``low`` is not below ``high``.

    Source: C. Manski, "Partial identification of probability distributions" (2003), chapter 1: bounds without
    assumptions.
    """
    if not low < high:
        raise InputError("the range is empty", where="low, high", found=(low, high), expected="low < high")
    values_N = numbers(values, "values")
    gaps_N = np.isnan(values_N)
    ends = []
    for name, end in (("worst", low), ("best", high)):
        made = mean(
            np.where(gaps_N, end, values_N), clusters, seeds=seeds, strata=strata, weights=weights,
            support=(low, high), unit=unit, bootstrap=bootstrap,
        )  # fmt: skip
        ends.append(replace(made, missing=int(gaps_N.sum()), method=f"{name} case, missing at {end:g}; {made.method}"))
    return Bounds(*ends)


def wilson(successes: int, n: int, *, level: float = 0.95, unit: str = "") -> Estimate:
    """Proportion of independent trials with Wilson's score interval (scalars in). With clusters use :func:`mean`.

    Raises:
        InputError: not ``0 <= successes <= n`` with ``n >= 1``.

    Source: E. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError("not a proportion", where="successes, n", found=(successes, n), expected="0 <= successes <= n")
    low, high = wilson_limits(successes / n, n, float(distributions.norm.ppf(0.5 + level / 2)))
    return Estimate(successes / n, max(0.0, low), min(1.0, high), n, n, "Wilson score", unit, level=level)


def sign_flip(differences: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT) -> float:
    """Two-sided p-value that the mean difference is zero: signs of whole clusters are flipped. Never exactly zero.

    Assumes that under the hypothesis a cluster's differences are as likely as their negatives. All flips are counted
    where there are no more than ``bootstrap.resamples``; then, with a difference of -1, 0 or 1 on each prompt, it is
    the exact McNemar test.

    Args:
        differences: shape (N,), NaN where missing.
        clusters: prompt id of each row, shape (N,).
        bootstrap: number of random flips, and the seed.

    Raises:
        InputError: no value, or lengths differ.

    Source: Good (2005), section 3.2; B. Phipson, G. Smyth, "Permutation p-values should never be zero" (2010).
    """
    sample = _mean_sample(numbers(differences, "differences"), clusters, None, None, None)
    return flip(sample.sums_C_H_K[:, 0, 0], bootstrap)


def _p_of(sample: Sample, value: float, bootstrap: Bootstrap) -> float:
    if sample.by_seed:
        return t_test(value, spread(sample, ratio_of_sums))
    sums_H = sample.sums_H_K[:, 1]
    return flip((sample.sums_C_H_K[..., 0] / sums_H).sum(axis=1), bootstrap)


def _mean_sample(
    values_N: Floats, clusters: Ids | None, seeds: Ids | None, strata: Ids | None, weights: ArrayLike | None
) -> Sample:
    keep_N = ~np.isnan(values_N)
    weight_N = np.ones(len(values_N)) if weights is None else numbers(weights, "weights", len(values_N))
    if not (weight_N > 0).all():
        raise InputError("weights are positive", where="weights", found=float(np.nanmin(weight_N)), expected="> 0")
    return collect(
        [(values_N * weight_N)[keep_N], weight_N[keep_N]], kept_rows(clusters, "clusters", keep_N),
        seeds_N=kept_rows(seeds, "seeds", keep_N), strata_N=kept_rows(strata, "strata", keep_N),
        missing=int((~keep_N).sum()),
    )  # fmt: skip


def kept_rows(ids: Ids | None, name: str, keep_N: NDArray[np.bool_]) -> NDArray[Any] | None:
    """The ids of the rows to keep, None where there are none.

    Raises:
        InputError: as many ids as rows are expected, none of them missing.
    """
    if ids is None:
        return None
    codes(ids, name, len(keep_N))
    return np.asarray(ids)[keep_N]


def _in_range(values_N: Floats, support: Support | None) -> Floats:
    if support is not None and len(values_N) and not np.isnan(values_N).all():
        low, high = float(np.nanmin(values_N)), float(np.nanmax(values_N))
        if low < support[0] - 1e-9 or high > support[1] + 1e-9:
            raise InputError("values outside their range", where="support", found=(low, high), expected=support)
    return values_N
