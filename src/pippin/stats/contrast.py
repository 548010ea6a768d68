"""Contrasts of arms over the prompts that all of them have: a difference of two, or any weighted sum of their means.

Three things are random: prompts, training seeds, the sampling of responses. For the scope ``these runs`` prompts are
drawn and the trained policies stay; for ``the method`` seeds are drawn too. Seeds are drawn *apart* where each arm's
runs stand alone, or *together* where the runs of one seed share something (a stage that both arms stand on), so that
what is shared cancels as it does for prompts.

Source: A. Miller, "Adding error bars to evals" (2024), section 4.2; A. Owen, "The pigeonhole bootstrap" (2007) for two
crossed axes; S. Searle, G. Casella, C. McCulloch, "Variance components" (1992), section 4.3 for the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.estimate import Ids
from pippin.stats.intervals import ZERO, MeanContrast, Support, estimate, flip, t_test
from pippin.stats.resampling import (
    DEFAULT,
    Bootstrap,
    Floats,
    Parts,
    Resampled,
    Sample,
    codes,
    collect,
    numbers,
    parts,
    spread,
)


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: values (N,), the prompt id of each (N,), and the training seed of each (N,) or None.

    ``fixed`` says that the policy was not trained, so that it has no seed to vary and does not limit the scope.
    """

    values: ArrayLike
    clusters: Ids
    seeds: Ids | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference against a margin, with the difference and the interval that they invert.

    ``estimate`` has the level 1 - 2 alpha (0.90 for tests at 0.05). ``p_below``: p-value of "it is at most -margin";
    ``p_above``: of "it is at least +margin".
    """

    estimate: Estimate
    margin: float
    p_below: float
    p_above: float

    @property
    def p(self) -> float:
        """p-value of "the difference is no smaller than the margin", the larger of the two."""
        return max(self.p_below, self.p_above)


def difference(
    a: Arm,
    b: Arm,
    *,
    together: bool = False,
    support: Support | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Mean over prompts of (mean of ``a`` on the prompt - mean of ``b`` on the prompt), with interval and p-value.

    For arms whose rows do not align: several samples, other seeds. Prompts that only one arm has a value for are left
    out of both; their values, and the missing ones, are counted in ``missing``. Each prompt counts once. The scope is
    ``the method`` if each arm has five seeds or more, or is ``fixed``.

    Args:
        a: values, clusters and seeds of shape (N_a,).
        b: values, clusters and seeds of shape (N_b,).
        together: as in :func:`contrast`.
        support: range of the difference.
        unit: goes into the Estimate.
        bootstrap: as in :func:`pippin.stats.mean`.

    Raises:
        InputError: as :func:`contrast`.

    Source: Miller (2024), section 4.2; Owen (2007).
    """
    return contrast((a, b), (1.0, -1.0), together=together, support=support, unit=unit, bootstrap=bootstrap)


def contrast(
    arms: Sequence[Arm],
    weights: Sequence[float],
    *,
    together: bool = False,
    support: Support | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Weighted sum of the arms' means over the prompts that all arms have, with interval and p-value against zero.

    The p-value flips signs of prompts (:func:`pippin.stats.sign_flip`); for the scope ``the method``, and where a ``t``
    interval is asked for, it is Student's, from the error of that scope.

    Args:
        arms: values, clusters and seeds of shape (N_a,) each.
        weights: one number an arm, scalars: (1, -1) for a difference.
        together: seeds of equal name are drawn together, in all arms that are not ``fixed``; else each arm's apart.
        support: range of the contrast.
        unit: goes into the Estimate.
        bootstrap: as in :func:`pippin.stats.mean`.

    Raises:
        InputError: as :func:`pippin.stats.mean`; no prompt in common; ``together`` with other seeds in one arm than in
            another.

    Source: Miller (2024), section 4.2; Owen (2007).
    """
    sample, statistic = _sample(arms, weights, together)
    made = estimate(Resampled(sample, bootstrap), statistic, support=support, unit=unit)
    if sample.by_seed or bootstrap.interval == "t":
        return replace(made, p=t_test(made.value, spread(sample, statistic)))
    return replace(made, p=flip(statistic(sample.sums_C_H_K), bootstrap))


def equivalence(
    a: Arm,
    b: Arm,
    margin: float,
    *,
    together: bool = False,
    alpha: float = 0.05,
    support: Support | None = None,
    unit: str = "",
) -> Equivalence:
    """Is the difference smaller than ``margin``, one way or both: two one-sided t-tests on the error of its scope.

    Args:
        a: values, clusters and seeds of shape (N_a,).
        b: values, clusters and seeds of shape (N_b,).
        margin: a positive scalar in the unit of the values: what is too small to matter.
        together: as in :func:`contrast`.
        alpha: level of each test; the interval has 1 - 2 alpha.
        support: range of the difference, such as (-1, 1). Where every prompt has the same difference a t-test has
            nothing to go by: then p is the chance that a margin's worth of differing prompts was not drawn, or 1
            where the range is not known.
        unit: goes into the Estimate.

    Raises:
        InputError: the margin is not positive, or as :func:`contrast`.

    Source: D. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach" (1987).
    """
    if not margin > 0:
        raise InputError("not a margin", where="margin", found=margin, expected="> 0")
    sample, statistic = _sample(arms=(a, b), weights=(1.0, -1.0), together=together)
    how = Bootstrap(level=1 - 2 * alpha, interval="t")
    made = estimate(Resampled(sample, how), statistic, unit=unit)
    error = spread(sample, statistic)
    if error.error <= ZERO * max(1.0, abs(made.value)):
        low, high = (None, None) if support is None else support
        below, above = (_unseen(margin + way * made.value, made.value, end, made.clusters)
                        for way, end in ((1, low), (-1, high)))  # fmt: skip
    else:
        below, above = (_one_sided(margin + way * made.value, error.error, error.freedom) for way in (1, -1))
    return Equivalence(made, float(margin), below, above)


def error_parts(arms: Sequence[Arm], weights: Sequence[float], together: bool = False) -> tuple[Parts, int, int, int]:
    """The variance of a contrast by what is drawn; and the prompts, the rows used and those missing.

    Raises:
        InputError: as :func:`contrast`.
    """
    sample, statistic = _sample(arms, weights, together)
    return parts(sample, statistic), sample.clusters, sample.n, sample.missing


def _one_sided(distance: float, error: float, freedom: float) -> float:
    """p-value of "the true distance is at most 0" by Student's t."""
    return max(1e-16, float(distributions.t.sf(distance / error, freedom)))


def _unseen(distance: float, value: float, end: float | None, prompts: int) -> float:
    """The largest chance of drawing only prompts of one value where the true mean is ``distance`` nearer to ``end``."""
    if end is None or distance <= 0:
        return 1.0
    share = distance / max(abs(value - end), ZERO)
    return max(1e-16, (1 - share) ** prompts) if share < 1 else 1e-16


def _sample(arms: Sequence[Arm], weights: Sequence[float], together: bool) -> tuple[Sample, MeanContrast]:
    """Per arm a column of values and one of counts, each prompt of an arm weighing one; and the statistic on them."""
    if len(arms) != len(weights) or not arms:
        raise InputError("a contrast needs a weight for each arm", where="weights",
                         found=f"{len(weights)} weights, {len(arms)} arms")  # fmt: skip
    sides = [(numbers(arm.values, f"arms[{k}].values"), arm) for k, arm in enumerate(arms)]
    for k, (values_N, arm) in enumerate(sides):
        codes(arm.clusters, f"arms[{k}].clusters", len(values_N))
    common = reduce(np.intersect1d, [np.asarray(arm.clusters)[~np.isnan(values_N)] for values_N, arm in sides])
    rows = [_part(values_N, arm, common) for values_N, arm in sides]
    if together:
        _check_seeds([part[3] for part, arm in zip(rows, arms, strict=True) if not arm.fixed])
    group_A = [int(arm.fixed) if together else k for k, arm in enumerate(arms)]
    fixed = [arm.fixed for arm in arms]
    used = sorted(set(group_A))
    lengths = [len(part[0]) for part in rows]
    sample = collect(
        _side_by_side([p[0] for p in rows], [p[1] for p in rows]), np.concatenate([p[2] for p in rows]),
        seeds_N=np.concatenate([np.unique(p[3], return_inverse=True)[1] for p in rows]),
        arms_N=np.repeat([used.index(g) for g in group_A], lengths),
        fixed=[all(f for f, g in zip(fixed, group_A, strict=True) if g == group) for group in used],
        missing=sum(len(values_N) for values_N, _ in sides) - sum(lengths),
    )  # fmt: skip
    return sample, MeanContrast(tuple(float(w) for w in weights))


def _part(values_N: Floats, arm: Arm, common: np.ndarray) -> tuple[Floats, Floats, np.ndarray, np.ndarray]:
    """(weighted values, weights, prompt codes, seed ids) of an arm's rows that have a value on a common prompt."""
    seeds_N = np.zeros(len(values_N), dtype=int) if arm.seeds is None or arm.fixed else np.asarray(arm.seeds)
    codes(seeds_N, "seeds", len(values_N))
    ids_N = np.asarray(arm.clusters)
    keep_N = ~np.isnan(values_N) & np.isin(ids_N, common)
    _, cluster_N = np.unique(ids_N[keep_N], return_inverse=True)
    weight_N = 1.0 / np.bincount(cluster_N)[cluster_N] if len(cluster_N) else np.zeros(0)
    return values_N[keep_N] * weight_N, weight_N, cluster_N, seeds_N[keep_N]


def _check_seeds(seeds_A: Sequence[np.ndarray]) -> None:
    names = {tuple(np.unique(seeds_N).tolist()) for seeds_N in seeds_A}
    if len(names) > 1:
        raise InputError("seeds drawn together are the same in each arm", where="seeds",
                         found=" and ".join(sorted(map(str, names))), expected="equal sets of seeds")  # fmt: skip


def _side_by_side(tops: Sequence[Floats], bottoms: Sequence[Floats]) -> list[Floats]:
    """Columns (top, bottom) of each arm, zero on the rows of the other."""
    lengths = [len(t) for t in tops]
    columns = []
    for arm, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        before, after = np.zeros(sum(lengths[:arm])), np.zeros(sum(lengths[arm + 1 :]))
        columns += [np.concatenate([before, top, after]), np.concatenate([before, bottom, after])]
    return columns
