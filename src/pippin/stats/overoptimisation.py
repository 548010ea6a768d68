"""Over-optimisation: how the gold score rises and falls with the distance from the initial policy.

With ``d`` the root of the KL divergence, best-of-n follows ``d (alpha - beta d)`` and reinforcement learning
``d (alpha - beta log d)``; both are linear in alpha and beta, so least squares has one solution, and a resample of
prompts costs one matrix product. The points at different distances share their prompts, so they are resampled
together.

Source: L. Gao, J. Schulman, J. Hilton, "Scaling laws for reward model overoptimization" (2022), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.estimate import Ids
from pippin.stats.intervals import ZERO, estimate
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats, Resampled, Statistic, collect

Form = Literal["best_of_n", "rl"]


@dataclass(frozen=True)
class BandPoint:
    """The fitted gold score at one distance."""

    distance: float
    gold: Estimate


@dataclass(frozen=True)
class Overoptimisation:
    """The fitted curve. The peak is None unless the interval of beta lies above zero: else no fall was shown.

    ``nearest`` and ``farthest`` are the smallest distance above zero and the largest that were seen, in root nats; a
    peak outside them is read off the form of the curve alone.
    """

    form: Form
    alpha: Estimate
    beta: Estimate
    peak_distance: Estimate | None
    peak_gold: Estimate | None
    band: tuple[BandPoint, ...]
    nearest: float
    farthest: float

    @property
    def peak_seen(self) -> bool:
        """Whether there is a peak, and it lies among the distances that were seen."""
        return self.peak_distance is not None and self.nearest <= self.peak_distance.value <= self.farthest


def in_first_units(scores: ArrayLike, first: ArrayLike) -> NDArray[np.float64]:
    """Scores less the first policy's mean, over its standard deviation: a proxy and the gold on one scale.

    Gao et al. bring a proxy to the gold's scale by its calibration on labels; without labels the first policy's own
    spread takes its place, for both.

    Args:
        scores: any shape (..., N): scores of any policy.
        first: shape (M,) or any other: the same scorer's scores of the initial policy.

    Raises:
        InputError: a score is not finite, or those of the initial policy do not vary.

    Source: Gao et al. (2022), section 2 (proxies recentred to the initial policy's mean, gold of unit variance).
    """
    values, start = np.asarray(scores, dtype=np.float64), np.asarray(first, dtype=np.float64)
    if not (np.isfinite(values).all() and np.isfinite(start).all() and start.size):
        raise InputError("a score is not finite", where="scores, first", mend="Leave out the prompts that miss one")
    spread = float(start.std())
    if spread <= ZERO * max(1.0, float(np.abs(start).max())):
        raise InputError("the first policy's scores do not vary", where="first", found=float(start.flat[0]))
    return (values - start.mean()) / spread


def fit_overoptimisation(
    gold: ArrayLike,
    kl: ArrayLike,
    form: Form,
    *,
    baseline: ArrayLike | None = None,
    clusters: Ids | None = None,
    points: int = 50,
    bootstrap: Bootstrap = DEFAULT,
) -> Overoptimisation:
    """Fit ``R(d)`` to the mean gold score at each distance; bands and intervals over prompts.

    The curve is zero at d = 0, so scores are taken relative to the initial policy: give its scores as ``baseline``, or
    scores that are centred already.

    Args:
        gold: shape (P, K): gold score of prompt p under the policy at distance k (best of n, or a checkpoint). No
            NaN: a prompt that is missing anywhere is left out everywhere by the caller.
        kl: shape (K,): KL divergence from the initial policy in nats; ``best_of_n_kl`` for best-of-n.
        form: ``best_of_n`` or ``rl``.
        baseline: shape (P,): gold score of the initial policy on each prompt, subtracted from its row.
        clusters: prompt id of each row of gold, shape (P,); None: each row is a prompt.
        points: number of points of the band, from near 0 to the largest distance.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: shapes differ, a score is missing, a KL is negative, or fewer than two distances above zero.

    Source: Gao et al. (2022), equations 1 and 2; the peaks are at d = alpha / (2 beta) and d = exp(alpha / beta - 1).
    """
    gold_P_K, distance_K = _checked(gold, kl, baseline)
    if form not in ("best_of_n", "rl"):
        raise InputError("no such form", where="form", found=form, expected=("best_of_n", "rl"))
    solve_2_K = np.linalg.pinv(_design(distance_K, form))
    resampled = Resampled(collect([*gold_P_K.T, np.ones(len(gold_P_K))], clusters), bootstrap)

    def coefficients(sums_H_K: Floats) -> Floats:
        sums = sums_H_K[..., 0, :]
        return np.einsum("...k,ck->...c", sums[..., :-1] / sums[..., -1:], solve_2_K)

    def made(statistic: Statistic, unit: str) -> Estimate:
        return estimate(resampled, statistic, unit=unit)

    alpha = made(lambda sums: coefficients(sums)[..., 0], "gold per root nat")
    beta = made(lambda sums: coefficients(sums)[..., 1], "gold per nat" if form == "best_of_n" else "gold per root nat")
    peak_distance = peak_gold = None
    if beta.low > 0:
        peak_distance = made(lambda sums: _peak(coefficients(sums), form)[0], "root nats")
        peak_gold = made(lambda sums: _peak(coefficients(sums), form)[1], "gold")
    grid = np.linspace(0, distance_K.max(), points + 1)[1:]
    rows_G_2 = _design(grid, form)

    def point(row_2: Floats) -> Statistic:
        return lambda sums: (coefficients(sums) * row_2).sum(axis=-1)

    band = tuple(BandPoint(float(d), made(point(row), "gold")) for d, row in zip(grid, rows_G_2, strict=True))
    ends = (float(distance_K[distance_K > 0].min()), float(distance_K.max()))
    return Overoptimisation(form, alpha, beta, peak_distance, peak_gold, band, *ends)


def _design(distance_K: Floats, form: Form) -> Floats:
    """Columns that alpha and beta multiply, shape (K, 2); d log d is 0 at d = 0."""
    if form == "best_of_n":
        return np.stack([distance_K, -(distance_K**2)], axis=1)
    return np.stack([distance_K, -distance_K * np.log(np.where(distance_K > 0, distance_K, 1.0))], axis=1)


def _peak(coefficients: Floats, form: Form) -> tuple[Floats, Floats]:
    """Distance and height of the peak; NaN where beta is not positive."""
    alpha, beta = coefficients[..., 0], np.where(coefficients[..., 1] > 0, coefficients[..., 1], np.nan)
    if form == "best_of_n":
        return alpha / (2 * beta), alpha**2 / (4 * beta)
    with np.errstate(over="ignore"):
        distance = np.exp(alpha / beta - 1)
    return distance, beta * distance


def _checked(gold: ArrayLike, kl: ArrayLike, baseline: ArrayLike | None) -> tuple[Floats, Floats]:
    gold_P_K, kl_K = np.asarray(gold, dtype=np.float64), np.asarray(kl, dtype=np.float64)
    if gold_P_K.ndim != 2 or kl_K.shape != gold_P_K.shape[1:]:
        shapes = (gold_P_K.shape, kl_K.shape)
        raise InputError("shapes differ", where="gold, kl", found=shapes, expected="(P, K) and (K,)")
    if baseline is not None:
        base_P = np.asarray(baseline, dtype=np.float64)
        if base_P.shape != gold_P_K.shape[:1]:
            raise InputError("shapes differ", where="baseline", found=base_P.shape, expected=gold_P_K.shape[:1])
        gold_P_K = gold_P_K - base_P[:, None]
    if not np.isfinite(gold_P_K).all():
        raise InputError("a score is missing", where="gold", mend="Leave out the prompts that miss one anywhere")
    if not (np.isfinite(kl_K).all() and (kl_K >= 0).all()):
        raise InputError("not a divergence", where="kl", found=kl_K.tolist(), expected="finite, 0 or more")
    distance_K = np.sqrt(kl_K)
    if len(np.unique(distance_K[distance_K > 0])) < 2:
        raise InputError("too few distances", where="kl", found=kl_K.tolist(), expected="two or more above zero")
    return gold_P_K, distance_K
