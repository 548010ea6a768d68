"""How many prompts are needed, what a given number can show, and several comparisons at once.

Source: J. Cohen, "Statistical power analysis for the behavioral sciences" (1988), chapter 2; S. Holm, "A simple
sequentially rejective multiple test procedure" (1979).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.intervals import found_shift, t_power
from pippin.stats.resampling import Floats, numbers


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values: comparing each with alpha bounds the family-wise error, whatever the dependence.

    Args:
        p_values: shape (M,), each in [0, 1]; none may be missing, since a comparison that failed still was one.

    Returns:
        Adjusted p-values, shape (M,), in the order given.

    Raises:
        InputError: a p-value is missing or out of range.

    Source: Holm (1979).
    """
    p_M = numbers(p_values, "p_values")
    if not ((p_M >= 0) & (p_M <= 1)).all():
        raise InputError("not a p-value", where="p_values", found=p_M.tolist(), expected="0 <= p <= 1")
    order = np.argsort(p_M, kind="stable")
    steps = (len(p_M) - np.arange(len(p_M))) * p_M[order]
    adjusted_M = np.empty(len(p_M))
    adjusted_M[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted_M


def minimum_detectable_effect(sd: float, n: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest mean difference that a two-sided paired t-test on ``n`` prompts finds with this power.

    Args:
        sd: standard deviation of a prompt's difference (a scalar; :func:`cluster_sd` reads it from an Estimate).
        n: number of prompts (clusters), not of rows.
        power: probability of a significant result.
        alpha: two-sided level of the test; divide it by the number of comparisons before you plan for several.

    Raises:
        InputError: fewer than two prompts, or an argument out of range.

    Source: Cohen (1988), chapter 2, with the noncentral t distribution instead of his tables.
    """
    _check(sd, power, alpha)
    if n < 2:
        raise InputError("too few prompts", where="n", found=n, expected="2 or more")
    return sd * found_shift(n - 1, power, alpha) / math.sqrt(n)


def sample_size(effect: float, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """The number of prompts (clusters) with which a two-sided paired t-test finds ``effect`` with this power.

    Args:
        effect: mean difference to be found (a scalar), in the unit of ``sd``.
        sd: standard deviation of a prompt's difference.
        power: probability of a significant result.
        alpha: two-sided level of the test.

    Raises:
        InputError: the effect is zero, or an argument is out of range.

    Source: Cohen (1988), chapter 2, with the noncentral t distribution.
    """
    _check(sd, power, alpha)
    if not math.isfinite(effect) or effect == 0:
        raise InputError("no effect to find", where="effect", found=effect, expected="a number other than 0")

    def found(n: int) -> float:
        return t_power(abs(effect) / sd * math.sqrt(n), n - 1, alpha)

    low, high = 1, 2
    while found(high) < power:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high


def expected_best(values_N: np.ndarray) -> np.ndarray:
    """Mean, over all sets of k of N trials (values of shape (N,)), of the best among them: shape (N,), k = 1 ... N.

    Source: Dodge et al. 2019 (arXiv 1909.03004), section 3.1; here without replacement, since the trials of a search
    are all different: the i-th smallest value is the best of C(i-1, k-1) of the C(N, k) sets.

    Raises:
        InputError: a value is missing, or there is none.
    """
    values = np.sort(np.asarray(values_N, dtype=np.float64))
    if not len(values) or not np.isfinite(values).all():
        raise InputError("trials without a value", where="values", found=values_N.tolist(), expected="numbers")
    n = len(values)
    sets_N_N = np.array([[math.comb(i, k) / math.comb(n, k + 1) for i in range(n)] for k in range(n)])
    return sets_N_N @ values


def cluster_sd(estimate: Estimate) -> float:
    """The deviation per cluster that an interval implies (a scalar): half-width / z times the root of clusters.

    Source: the width of a normal interval; good to a few percent with 30 clusters or more, too large with fewer.

    Raises:
        InputError: the interval has no width, so that it tells no deviation.
    """
    half = (estimate.high - estimate.low) / 2
    if half <= 0:
        raise InputError("the interval has no width", where="estimate", found=str(estimate))
    return half / float(distributions.norm.ppf(0.5 + estimate.level / 2)) * math.sqrt(estimate.clusters)


def _check(sd: float, power: float, alpha: float) -> None:
    if not (math.isfinite(sd) and sd > 0):
        raise InputError("not a deviation", where="sd", found=sd, expected="> 0")
    if not 0 < alpha < power < 1:
        raise InputError("not a power and a level", where="power, alpha", found=(power, alpha),
                         expected="0 < alpha < power < 1")  # fmt: skip
