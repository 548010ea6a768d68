"""Right or wrong on the same prompts, twice: McNemar's test by the exact distribution of the disagreements.

Prompts on which both sides agree say nothing about which is better; of the others, half would favour each side if the
two were equally good.

Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages" (1947);
M. Fagerland, S. Lydersen, P. Laake, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better
than exact conditional" (2013), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats.resampling import numbers


@dataclass(frozen=True)
class McNemar:
    """Counts of prompts by who was right, and two-sided p-values that both sides are right equally often.

    Attributes:
        both, only_a, only_b, neither: prompts.
        missing: prompts where a side has no value; in none of the counts.
        p: exact: never rejects too often, and is cautious where few disagree.
        mid_p: the observed table counts half: close to the stated level, rarely above it.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    missing: int
    p: float
    mid_p: float


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """McNemar's exact test of paired outcomes.

    Args:
        a: shape (N,), 1 right, 0 wrong, NaN missing; one value for each prompt (rows must be independent).
        b: shape (N,), the same prompts in the same order.

    Raises:
        InputError: lengths differ, a value is neither 0 nor 1, or no prompt has both values.

    Source: McNemar (1947); Fagerland, Lydersen, Laake (2013), section 2.
    """
    a_N = numbers(a, "a")
    b_N = numbers(b, "b", len(a_N))
    for name, values_N in (("a", a_N), ("b", b_N)):
        odd_N = values_N[~np.isnan(values_N) & ~np.isin(values_N, (0.0, 1.0))]
        if len(odd_N):
            raise InputError("McNemar's test is for right and wrong", where=name, found=float(odd_N[0]),
                             expected="0, 1 or NaN", mend="Use a paired difference")  # fmt: skip
    known_N = ~(np.isnan(a_N) | np.isnan(b_N))
    if not known_N.any():
        raise InputError("no prompt has both values", where="a, b", found=f"{len(a_N)} prompts")
    right_a_N, right_b_N = a_N[known_N] == 1, b_N[known_N] == 1
    only_a, only_b = int((right_a_N & ~right_b_N).sum()), int((~right_a_N & right_b_N).sum())
    apart, fewer = only_a + only_b, min(only_a, only_b)
    tail = float(distributions.binom.cdf(fewer, apart, 0.5))
    observed = float(distributions.binom.pmf(fewer, apart, 0.5))
    even = only_a == only_b
    return McNemar(
        int((right_a_N & right_b_N).sum()), only_a, only_b, int((~right_a_N & ~right_b_N).sum()),
        int((~known_N).sum()), 1.0 if even else min(1.0, 2 * tail),
        1.0 - observed / 2 if even and apart else 1.0 if even else 2 * tail - observed,
    )  # fmt: skip
