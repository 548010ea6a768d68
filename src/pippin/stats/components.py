"""Where the variance comes from: prompts, training seeds, the two together, sampling, the judge; and what it takes.

The model of one arm: value = mean + prompt + seed + prompt x seed + response (sample) + verdict of the judge, all
random and independent. Of a difference of arms only what differs between them is left.

Source: C. Henderson, "Estimation of variance and covariance components" (1953), method 1; S. Searle, G. Casella, C.
McCulloch, "Variance components" (1992), sections 4.3 and 5.3; J. Tukey (1951) and J. Williams (1962) for the interval
(Searle et al., section 4.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.contrast import Arm, error_parts
from pippin.stats.estimate import Ids
from pippin.stats.intervals import found_shift
from pippin.stats.resampling import Floats, Part, Parts, codes, numbers

FACTORS = ("prompt", "seed", "prompt x seed", "sample", "judge")
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Components:
    """Variance components of an arm's values, by factor; a factor that the data cannot tell apart is absent.

    What is absent is part of the factor before it: with one response to a prompt and seed, ``prompt x seed`` holds the
    sampling. ``variance``: by factor, at least 0. ``of_mean``: what each adds to the variance of the arm's mean.
    """

    variance: dict[str, float]
    of_mean: dict[str, float]
    n: int
    prompts: int
    seeds: int
    missing: int

    @property
    def sd_of_mean(self) -> float:
        """Standard deviation of the arm's mean over new prompts, seeds, responses and verdicts."""
        return math.sqrt(sum(self.of_mean.values()))

    @property
    def shares(self) -> dict[str, float]:
        """Share of each factor in the variance of a single value; all 0 where nothing varies."""
        return _shares(self.variance)

    @property
    def shares_of_mean(self) -> dict[str, float]:
        """Share of each factor in the variance of the arm's mean; all 0 where nothing varies."""
        return _shares(self.of_mean)


def variance_components(
    values: ArrayLike, prompts: Ids, seeds: Ids | None = None, samples: Ids | None = None
) -> Components:
    """Variance components of one arm by Henderson's method 1: exact for balanced data, unbiased for unbalanced ones.

    Args:
        values: shape (N,), NaN where missing.
        prompts: prompt id of each value, shape (N,).
        seeds: training seed of each, shape (N,); None: one run.
        samples: number of the response within its prompt and seed, shape (N,): several values of one response are
            several verdicts of the judge (orders, repeats). None: each value is a response of its own.

    Raises:
        InputError: no value, lengths differ, or fewer than two prompts.

    Source: Henderson (1953), method 1; Searle, Casella & McCulloch (1992), section 5.3.
    """
    values_N = numbers(values, "values")
    keep_N = ~np.isnan(values_N)
    y_N = values_N[keep_N]
    if not len(y_N):
        raise InputError("no value", where="values", found=f"{len(values_N)} missing", expected="at least one value")
    P_N, S_N, K_N = (_kept(ids, name, keep_N) for ids, name in
                     ((prompts, "prompts"), (seeds, "seeds"), (samples, "samples")))  # fmt: skip
    if P_N.max() == 0:
        raise InputError("one prompt has no spread", where="prompts", found=1, expected="two or more")
    each_N = np.arange(len(y_N))
    response_N = each_N if samples is None else _crossed(P_N, S_N, K_N)
    groups: dict[str, NDArray[np.intp]] = dict(
        zip(FACTORS, (P_N, S_N, _crossed(P_N, S_N), response_N, each_N), strict=True)
    )
    factors = _told_apart(groups)
    whole_N = np.zeros(len(y_N), dtype=np.intp)
    levels = [whole_N, *(groups[f] for f in factors)]
    square_G = np.array([_between(y_N - y_N.mean(), level_N) for level_N in levels])
    share_G_F = np.array([[_overlap(level_N, factor_N) for factor_N in levels] for level_N in levels])
    found_F = np.linalg.solve(share_G_F, square_G)[1:]
    variance = {f: max(0.0, float(v)) for f, v in zip(factors, found_F, strict=True)}
    of_mean = {f: v * _overlap(whole_N, groups[f]) / len(y_N) for f, v in variance.items()}
    return Components(
        variance, of_mean, len(y_N), int(P_N.max()) + 1, int(S_N.max()) + 1, int((~keep_N).sum())
    )  # fmt: skip


def seed_deviation(arm: Arm, *, level: float = 0.95, unit: str = "") -> Estimate:
    """How much training seeds move an arm's mean: the standard deviation of their effects, apart from prompts' chance.

    Args:
        arm: values, clusters and seeds of shape (N,); five seeds or more.
        level: of the interval.
        unit: goes into the Estimate.

    Raises:
        InputError: fewer than five seeds, or as :func:`pippin.stats.mean`.

    Source: Searle, Casella & McCulloch (1992), section 4.4, the interval of Tukey and Williams.
    """
    found, clusters, n, missing = error_parts((arm,), (1.0,))
    if not found.seeds:
        raise InputError("too few seeds", where="seeds", expected="five or more")
    (by_seed, freedom), (by_cell, cells) = found.seeds[0], found.cells[0]
    seeds = freedom + 1
    ends = []
    for tail in ((1 + level) / 2, (1 - level) / 2):
        f, chi = distributions.f.ppf(tail, freedom, cells), distributions.chi2.ppf(tail, freedom)
        ends.append(math.sqrt(max(0.0, seeds * freedom * (by_seed - by_cell * float(f)) / float(chi))))
    value = math.sqrt(max(0.0, seeds * (by_seed - by_cell)))
    return Estimate(
        value, min(ends[0], value), max(ends[1], value), n, clusters, "variance components, Tukey-Williams over seeds",
        unit, missing, level, "the method",
    )  # fmt: skip


def detectable_difference(
    arms: Sequence[Arm],
    weights: Sequence[float] = (1.0, -1.0),
    *,
    together: bool = False,
    prompts: int | None = None,
    seeds: int | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """The smallest true contrast that as many prompts and seeds find with this power, a scalar; of the arms' own scope.

    Args:
        arms: values, clusters and seeds of shape (N_a,) each, from which the components are read.
        weights: one number an arm, scalars.
        together: as in :func:`pippin.stats.contrast`.
        prompts: number of prompts planned; None: those of the arms.
        seeds: seeds planned for each arm that is trained; None: those of the arms.
        power: probability of a significant result.
        alpha: two-sided level of the test; divide it by the number of comparisons before you plan for several.

    Raises:
        InputError: nothing varies, or an argument is out of range.

    Source: Searle, Casella & McCulloch (1992), section 4.3, for the error; Cohen (1988), chapter 2, for the power of
    Student's t with Satterthwaite's freedom.
    """
    found, clusters, *_ = error_parts(arms, weights, together)
    return _detectable(found, clusters, prompts or clusters, seeds, power, alpha)


def seeds_needed(
    effect: float,
    arms: Sequence[Arm],
    weights: Sequence[float] = (1.0, -1.0),
    *,
    together: bool = False,
    prompts: int | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int | None:
    """Seeds an arm with which a contrast of ``effect`` is found with this power; None if no number of seeds will do.

    Args:
        effect: a scalar in the unit of the values.
        arms: values, clusters and seeds of shape (N_a,) each; their scope must be ``the method``.
        weights: one number an arm, scalars.
        together: as in :func:`pippin.stats.contrast`.
        prompts: as in :func:`detectable_difference`; the prompts' own part does not shrink with seeds.
        power: probability of a significant result.
        alpha: two-sided level of the test.

    Raises:
        InputError: the arms have too few seeds to tell, or an argument is out of range.

    Source: as :func:`detectable_difference`.
    """
    found, clusters, *_ = error_parts(arms, weights, together)
    if not found.seeds:
        raise InputError("too few seeds", where="seeds", expected="five or more an arm")

    def enough(seeds: int) -> bool:
        return _detectable(found, clusters, prompts or clusters, seeds, power, alpha) <= abs(effect)

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _shares(parts: dict[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {name: part / total if total else 0.0 for name, part in parts.items()}


def _detectable(found: Parts, clusters: int, prompts: int, seeds: int | None, power: float, alpha: float) -> float:
    if prompts < 2 or (seeds is not None and seeds < 2):
        raise InputError("too small a plan", where="prompts, seeds", found=(prompts, seeds), expected="2 or more")
    planned = _planned(found, clusters, prompts, seeds).spread
    if planned.error == 0:
        raise InputError("nothing varies", where="arms", mend="There is nothing to plan with")
    return planned.error * found_shift(planned.freedom, power, alpha)


def _planned(found: Parts, clusters: int, prompts: int, seeds: int | None) -> Parts:
    """The parts of the error as they would be with other numbers of prompts and seeds."""
    more = prompts / clusters
    if not found.seeds:
        return replace(found, prompts=((sum(v for v, _ in found.prompts) / more, prompts - 1.0),))
    cells = [_cells_at(cell, seed, more, seeds) for cell, seed in zip(found.cells, found.seeds, strict=True)]
    by_cell, now = sum(v for v, _ in cells), sum(v for v, _ in found.cells)
    of_prompts = max(0.0, sum(v for v, _ in found.prompts) - now) / more
    by_seed: list[Part] = []
    for (v, f), (cell, _), (planned, _) in zip(found.seeds, found.cells, cells, strict=True):
        count = seeds if seeds and f else f + 1
        by_seed.append((max(0.0, v - cell) * (f + 1) / count + planned, count - 1.0))
    freedom = prompts - 1.0
    return Parts(
        ((of_prompts + by_cell, freedom),),
        tuple(by_seed),
        tuple((v, freedom * f) for (v, _), (_, f) in zip(cells, by_seed, strict=True)),
    )


def _cells_at(cell: Part, seed: Part, more: float, seeds: int | None) -> Part:
    count = seed[1] + 1
    return cell[0] / more / ((seeds if seeds and seed[1] else count) / count), cell[1]


def _told_apart(groups: dict[str, NDArray[np.intp]]) -> list[str]:
    """The factors that group the values in ways of their own, from coarse to fine."""
    found: list[str] = []
    for name, level_N in groups.items():
        levels = int(level_N.max()) + 1
        if levels > 1 and all(levels != int(groups[other].max()) + 1 or name == "seed" for other in found):
            found.append(name)
    return found


def _between(y_N: Floats, level_N: NDArray[np.intp]) -> float:
    """Sum over the groups of (their sum) ** 2 / (their size)."""
    return float((np.bincount(level_N, y_N) ** 2 / np.bincount(level_N)).sum())


def _overlap(level_N: NDArray[np.intp], factor_N: NDArray[np.intp]) -> float:
    """How often a unit of variance of the factor comes into the sum of squares between the groups."""
    width = int(factor_N.max()) + 1
    pairs, count = np.unique(level_N * width + factor_N, return_counts=True)
    return float((count**2 / np.bincount(level_N)[pairs // width]).sum())


def _crossed(*codes_N: NDArray[np.intp]) -> NDArray[np.intp]:
    whole_N = codes_N[0]
    for code_N in codes_N[1:]:
        whole_N = np.unique(whole_N * (int(code_N.max()) + 1) + code_N, return_inverse=True)[1]
    return whole_N


def _kept(ids: Ids | None, name: str, keep_N: NDArray[np.bool_]) -> NDArray[Any]:
    if ids is None:
        return np.zeros(int(keep_N.sum()), dtype=np.intp)
    codes(ids, name, len(keep_N))
    return np.unique(np.asarray(ids)[keep_N], return_inverse=True)[1].reshape(-1)
