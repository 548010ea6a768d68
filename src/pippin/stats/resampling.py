"""Cluster sums, resampling weights and the two uses made of them: bootstrap and jackknife.

Every statistic of this package is a function of sums over clusters (prompts): a mean is a ratio of two sums, Cohen's
kappa a function of the sums that make a confusion table. So a resample needs no row to be gathered: drawing ``C``
clusters with replacement is a vector of ``C`` counts, and one matrix product of counts and cluster sums gives the
sums of the resample. Training seeds are a second axis that is drawn in the same way, independently of the prompts.

Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 11; C. Field, A. Welsh,
"Bootstrapping clustered data" (2007); A. Owen, "The pigeonhole bootstrap" (2007) for two crossed axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pippin.core.errors import InputError
from pippin.core.types import digest

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]  # sums of shape (..., H, K) -> values of shape (...)
Interval = Literal["auto", "widened", "percentile", "t", "wilson"]

SEEDS_FOR_THE_METHOD = 5  # fewer seeds than this in an arm say nothing about the method: the scope stays "these runs"
CELLS_PER_CHUNK = 1_000_000  # weights held at once: some 30 MB with their making, whatever the number of clusters


@dataclass(frozen=True)
class Bootstrap:
    """How an interval is made.

    Attributes:
        resamples: number of resamples (also of random sign flips in a permutation test).
        level: confidence level of the interval, two-sided.
        interval: ``auto``, ``widened``, ``percentile``, ``t`` or ``wilson``; see :mod:`pippin.stats.intervals`.
        seed: with the same seed, two estimates over the same clusters use the same resamples.

    Raises:
        InputError: a value is out of range.
    """

    resamples: int = 10_000
    level: float = 0.95
    interval: Interval = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise InputError("too few resamples", where="resamples", found=self.resamples, expected="100 or more")
        if not 0 < self.level < 1:
            raise InputError("a level is a probability", where="level", found=self.level, expected="0 < level < 1")
        known = get_args(Interval)
        if self.interval not in known:
            raise InputError("no such interval", where="interval", found=self.interval, expected=known)


DEFAULT = Bootstrap()


@dataclass(frozen=True)
class Sample:
    """Sums per cluster and seed, sorted by (stratum, cluster) and (arm, seed): the row order is forgotten.

    Attributes:
        cells_C_S_H_K: sum of column ``k`` over the rows of cluster ``c`` and seed ``s``, zero outside stratum ``h``.
        strata_H: number of clusters in each stratum; clusters are drawn within their stratum.
        arms_A: number of seeds of each arm on the seed axis; seeds are drawn within their arm; all 1: not drawn.
        n: rows summed.
        missing: rows left out because they had no value.
    """

    cells_C_S_H_K: Floats
    strata_H: tuple[int, ...]
    arms_A: tuple[int, ...]
    n: int
    missing: int

    @property
    def clusters(self) -> int:
        return self.cells_C_S_H_K.shape[0]

    @property
    def sums_C_H_K(self) -> Floats:
        return self.cells_C_S_H_K.sum(axis=1)

    @property
    def sums_H_K(self) -> Floats:
        return self.cells_C_S_H_K.sum(axis=(0, 1))

    @property
    def by_seed(self) -> bool:
        return max(self.arms_A) > 1


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The random numbers of one purpose under one seed."""
    return np.random.default_rng(int(digest([seed, "stats", purpose]), 16))


def numbers(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    """``values`` as float64 of shape (N,); NaN stays.

    Raises:
        InputError: not one-dimensional, not numbers, infinite, or not of the stated length.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("not numbers", where=name, mend="Use NaN for a missing value") from None
    if array.ndim != 1:
        raise InputError("not one-dimensional", where=name, found=array.shape, expected="(N,)")
    if length is not None and len(array) != length:
        raise InputError("arrays differ in length", where=name, found=len(array), expected=length)
    if np.isinf(array).any():
        raise InputError("infinite value", where=name, found=float(array[np.isinf(array)][0]), expected="finite or NaN")
    return array


def codes(ids: Sequence[Any] | NDArray[Any] | None, name: str, length: int) -> tuple[NDArray[Any], Ints]:
    """The sorted distinct ids (U,) and, for each row, its position among them (N,). None: one id for all.

    Raises:
        InputError: not of the stated length, or an id is missing or NaN.
    """
    if ids is None:
        return np.zeros(1), np.zeros(length, dtype=np.intp)
    array = np.asarray(ids)
    if array.shape != (length,):
        raise InputError("arrays differ in length", where=name, found=array.shape, expected=(length,))
    if array.dtype == object and any(i is None for i in array):
        raise InputError("an id is missing", where=name, found=None, expected="an id in each row")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InputError("an id is missing", where=name, found="NaN", expected="an id in each row")
    try:
        distinct, inverse = np.unique(array, return_inverse=True)
    except TypeError:
        raise InputError("ids of several types", where=name, expected="all strings or all integers") from None
    return distinct, inverse.reshape(-1)


def collect(
    columns_K_N: Sequence[Floats],
    clusters_N: Sequence[Any] | NDArray[Any] | None,
    *,
    seeds_N: Sequence[Any] | NDArray[Any] | None = None,
    strata_N: Sequence[Any] | NDArray[Any] | None = None,
    arms_N: Ints | None = None,
    fixed: Sequence[bool] = (False,),
    missing: int = 0,
) -> Sample:
    """Sum each column over the rows of each cluster (and seed).

    Rows are sorted by cluster, seed and value before they are summed, so that the sums are the same to the last bit
    whatever the order of the rows. Seeds are kept apart only if each arm has ``SEEDS_FOR_THE_METHOD`` or more, or is
    ``fixed``: a policy that was not trained, so that there is no seed to vary.

    Raises:
        InputError: no row; lengths differ; a cluster lies in two strata; a stratum has one cluster; seeds without
            clusters.
    """
    n = len(columns_K_N[0])
    if n == 0:
        raise InputError("no value", where="values", found=f"{missing} missing", expected="at least one value",
                         mend="Judge the missing ones again, or report them as missing")  # fmt: skip
    if clusters_N is None and seeds_N is not None:
        raise InputError("seeds without clusters", where="clusters", mend="Give the prompt id of each row")
    strata, stratum_N = codes(strata_N, "strata", n)
    seed_ids, seed_N = codes(seeds_N, "seeds", n)
    _, cluster_N = codes(clusters_N, "clusters", n)
    arm_N = np.zeros(n, dtype=np.intp) if arms_N is None else arms_N
    seed_N = arm_N * len(seed_ids) + seed_N
    order = np.lexsort((*columns_K_N, seed_N, cluster_N, stratum_N))
    if clusters_N is None:
        cluster_N = np.empty(n, dtype=np.intp)
        cluster_N[order] = np.arange(n)
    cluster_N, strata_H = _nest(stratum_N, cluster_N, strata)
    slot_N, arms_A = _seed_slots(seed_N, arm_N, fixed)
    seeds, clusters, levels = sum(arms_A), int(cluster_N.max()) + 1, len(strata_H)
    flat_N = ((cluster_N * seeds + slot_N) * levels + stratum_N)[order]
    size = clusters * seeds * levels
    cells = np.stack([np.bincount(flat_N, weights=c[order], minlength=size) for c in columns_K_N], axis=-1)
    cells = cells.astype(np.float64)
    return Sample(cells.reshape(clusters, seeds, levels, len(columns_K_N)), strata_H, arms_A, n, missing)


def _nest(stratum_N: Ints, cluster_N: Ints, strata: NDArray[Any]) -> tuple[Ints, tuple[int, ...]]:
    """Clusters renumbered in the order of their strata, and how many each stratum has."""
    pairs, inverse = np.unique(np.stack([stratum_N, cluster_N]), axis=1, return_inverse=True)
    if len(np.unique(pairs[1])) < pairs.shape[1]:
        raise InputError("a cluster lies in two strata", where="strata", mend="Give each prompt one stratum")
    sizes = np.bincount(pairs[0], minlength=len(strata))
    if len(strata) > 1 and sizes.min() < 2:
        raise InputError("a stratum has one cluster", where="strata", found=str(strata[sizes.argmin()]),
                         expected="two or more prompts in each", mend="Pool it with another stratum")  # fmt: skip
    return inverse.reshape(-1), tuple(int(s) for s in sizes)


def _seed_slots(seed_N: Ints, arm_N: Ints, fixed: Sequence[bool]) -> tuple[Ints, tuple[int, ...]]:
    """Each row's place on the seed axis, and the number of places of each arm."""
    seeds, slot_N = np.unique(seed_N, return_inverse=True)
    arms = int(arm_N.max()) + 1
    arm_of_seed = np.zeros(len(seeds), dtype=np.intp)
    arm_of_seed[slot_N] = arm_N
    sizes = tuple(int(s) for s in np.bincount(arm_of_seed, minlength=arms))
    trained = [s for s, is_fixed in zip(sizes, fixed, strict=True) if not is_fixed]
    if trained and min(trained) >= SEEDS_FOR_THE_METHOD:
        return slot_N.reshape(-1), sizes
    return arm_N, (1,) * arms


def draw_counts(groups: Sequence[int], rows: int, rng: np.random.Generator) -> Floats:
    """How often each of ``sum(groups)`` units is drawn, with replacement within its group: shape (rows, units)."""
    parts = []
    for size in groups:
        if size == 1:
            parts.append(np.ones((rows, 1)))
            continue
        kind = np.uint16 if size < 2**16 else np.uint32
        drawn = rng.integers(0, size, size=(rows, size), dtype=kind).astype(np.intp)
        drawn += np.arange(rows)[:, None] * size
        parts.append(np.bincount(drawn.reshape(-1), minlength=rows * size).reshape(rows, size))
    return np.concatenate(parts, axis=1, dtype=np.float64)


@lru_cache(maxsize=6)
def _whole_draw(groups: tuple[int, ...], rows: int, seed: int) -> Floats:
    """The draw of prompts that all statistics of one seed on as many prompts share."""
    counts = draw_counts(groups, rows, stream(seed, "prompts"))
    counts.setflags(write=False)
    return counts


def chunks(rows: int, width: int) -> Iterator[int]:
    """Numbers of rows that add up to ``rows``; each times ``width`` fits into ``CELLS_PER_CHUNK``."""
    step = max(1, CELLS_PER_CHUNK // max(1, width))
    for start in range(0, rows, step):
        yield min(step, rows - start)


def resample(sample: Sample, bootstrap: Bootstrap) -> Floats:
    """The sums of each resample, shape (R, H, K)."""
    C, S, H, K = sample.cells_C_S_H_K.shape
    flat_C_M = _on_a_grid(sample.cells_C_S_H_K.reshape(C, S * H * K), C * S)
    prompts, seeds = stream(bootstrap.seed, "prompts"), stream(bootstrap.seed, "training seeds")
    found = []
    for rows in chunks(bootstrap.resamples, max(C, S * H * K)):
        whole = rows == bootstrap.resamples
        counts = (
            _whole_draw(sample.strata_H, rows, bootstrap.seed) if whole else draw_counts(sample.strata_H, rows, prompts)
        )
        sums = (counts @ flat_C_M).reshape(rows, S, H, K)
        if sample.by_seed:
            sums = np.einsum("rs,rshk->rhk", draw_counts(sample.arms_A, rows, seeds), sums)
        else:
            sums = sums.sum(axis=1)
        found.append(sums)
    return np.concatenate(found)


def _on_a_grid(sums_C_M: Floats, draws: int) -> Floats:
    """The sums rounded to multiples of a power of two so coarse that any ``draws`` of a column add up without rounding.

    Then a matrix product gives the same bits however many threads it adds with. Counts are not changed; other sums by
    less than ``draws`` / 2**52 of the largest of their column.
    """
    largest_M = np.abs(sums_C_M).max(axis=0) * draws
    step_M = np.exp2(np.ceil(np.log2(np.where(largest_M > 0, largest_M, 1.0))) - 52)
    return np.round(sums_C_M / step_M) * step_M


@dataclass(frozen=True)
class Resampled:
    """A sample with its resampled sums: drawn once for all statistics that are asked of it, and only if asked."""

    sample: Sample
    bootstrap: Bootstrap

    @cached_property
    def sums_R_H_K(self) -> Floats:
        return resample(self.sample, self.bootstrap)


@dataclass(frozen=True)
class Spread:
    """Standard error by the jackknife, and the degrees of freedom of its estimate."""

    error: float
    freedom: float


Part = tuple[float, float]  # a variance of the statistic, and the degrees of freedom of its estimate


@dataclass(frozen=True)
class Parts:
    """The variance of a statistic by what is drawn: prompts (per stratum), seeds (per arm), and, in both, their cells.

    ``prompts`` and ``seeds`` each hold the variance of prompt and seed together (with the sampling of responses), which
    ``cells`` tells; seeds and cells are empty where seeds are not drawn.
    """

    prompts: tuple[Part, ...]
    seeds: tuple[Part, ...] = ()
    cells: tuple[Part, ...] = ()

    @property
    def spread(self) -> Spread:
        """Prompts plus seeds less cells, never below either; Satterthwaite's freedom."""
        by_prompt, by_seed, by_cell = (sum(v for v, _ in part) for part in (self.prompts, self.seeds, self.cells))
        if not self.seeds:
            return Spread(float(np.sqrt(by_prompt)), sum(f for _, f in self.prompts))
        variance = max(by_prompt + by_seed - by_cell, by_prompt, by_seed)
        found = [(v, f) for v, f in [*self.prompts, *self.seeds, *self.cells] if f > 0]
        below = sum(v**2 / f for v, f in found)
        least = min((f for v, f in found if v > 0), default=1.0)
        return Spread(float(np.sqrt(variance)), max(variance**2 / below, least) if below > 0 else 1.0)


def parts(sample: Sample, statistic: Statistic) -> Parts:
    """Jackknife variances of a statistic, one cluster (one seed) left out at a time.

    With crossed prompts and seeds the errors over prompts and over seeds each hold the interaction (and the sampling of
    responses) once, so that one of the two is taken off: unbiased for a balanced sample, where the cells' deviations
    from their prompt and their seed give it. (Taking off the error over cells, as Cameron, Gelbach and Miller (2011)
    do, would also take off 1/S of what prompts differ by, a fifth with five seeds.) The variance is never below either
    part, and its degrees of freedom are Satterthwaite's for the three, so that a test holds its level whichever of
    prompts and seeds varies more; where seeds make no difference it is conservative.

    Source: Efron & Tibshirani (1993), equation 11.5; S. Searle, G. Casella, C. McCulloch, "Variance components" (1992),
    section 4.3; F. Satterthwaite (1946).
    """
    total_H_K = sample.sums_H_K
    prompts = _deleted(sample.sums_C_H_K, total_H_K, sample.strata_H, statistic)
    if not sample.by_seed:
        return Parts(prompts)
    seeds = _deleted(sample.cells_C_S_H_K.sum(axis=0), total_H_K, sample.arms_A, statistic)
    return Parts(prompts, seeds, _interaction(sample, statistic))


def spread(sample: Sample, statistic: Statistic) -> Spread:
    """Standard error of a statistic and its freedom; see :func:`parts`."""
    return parts(sample, statistic).spread


def _interaction(sample: Sample, statistic: Statistic) -> tuple[Part, ...]:
    """For each arm whose seeds are drawn: the variance that its prompts and seeds have together, and its freedom."""
    C = sample.clusters
    with np.errstate(divide="ignore", invalid="ignore"):
        left_C_S = statistic(sample.sums_H_K - sample.cells_C_S_H_K)
        left_C_S = np.where(np.isfinite(left_C_S), left_C_S, statistic(sample.sums_H_K))
    found: list[Part] = []
    start = 0
    for size in sample.arms_A:
        left = left_C_S[:, start : start + size]
        start += size
        if size > 1 and C > 1:
            left = left - left.mean(axis=0) - left.mean(axis=1, keepdims=True) + left.mean()
            cells, freedom = C * size, (C - 1) * (size - 1)
            found.append(((cells - 1) ** 2 / cells / freedom * float((left**2).sum()), float(freedom)))
        else:
            found.append((0.0, 0.0))
    return tuple(found)


def _deleted(sums_C_H_K: Floats, total_H_K: Floats, groups: Sequence[int], statistic: Statistic) -> tuple[Part, ...]:
    """For each group of clusters: the jackknife variance from deleting one at a time, and its degrees of freedom."""
    with np.errstate(divide="ignore", invalid="ignore"):
        left_C = statistic(total_H_K - sums_C_H_K)
    found: list[Part] = []
    start = 0
    for size in groups:
        left = left_C[start : start + size]
        left = left[np.isfinite(left)]
        variance = (size - 1) / size * float(((left - left.mean()) ** 2).sum()) if len(left) else 0.0
        found.append((variance, float(size - 1)))
        start += size
    return tuple(found)
