"""Looking at a comparison before all of it is there, and keeping the error rate all the same.

A statistic that is looked at several times crosses a fixed bound more often than it should. A spending function says
how much of the error rate may be used up to each look; the bound of a look follows from it and from the looks before.
Each look so has a *nominal level*: a p-value at or below it decides, and the interval of that level is the one to show
(a repeated confidence interval: all looks' intervals hold the truth with the stated probability).

Levels are derived for normal statistics whose increments are independent. For few seeds the p-value of a look comes
from Student's t with that look's freedom and is compared with the same level. Where a part of the error does not shrink
with the looks (that of the prompts, when seeds are added), looks resemble each other more than is assumed here, and the
error rate is kept a little below the stated one.

Source: K. Lan, D. DeMets, "Discrete sequential boundaries for clinical trials" (1983); C. Jennison, B. Turnbull, "Group
sequential methods" (2000), chapters 2, 7, 9 (repeated intervals), 19 (integration) and section 3.8 (levels for t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.stats.resampling import Floats, numbers

Spending = Literal["obrien_fleming", "pocock"]
FARTHEST = 9.0  # standard deviations; a bound beyond is never crossed
NEGLIGIBLE = 1e-14  # of the error rate: not spent


@dataclass(frozen=True)
class Stepwise:
    """What several comparisons came to over several looks.

    ``decided_M``: number of the look (from 0) at which each was rejected, -1 where it was not. ``alpha_M``: its share
    of the error rate when it was, or now; :func:`nominal_levels` of it gives the level of its repeated intervals.
    """

    decided_M: tuple[int, ...]
    alpha_M: tuple[float, ...]


def nominal_levels(times: Sequence[float], alpha: float = 0.05, spending: Spending = "obrien_fleming") -> Floats:
    """Two-sided nominal level of each look, shape (K,), so that looking at all of them errs with ``alpha`` in all.

    Args:
        times: share of the information at each look, shape (K,), increasing, the last one 1.
        alpha: two-sided error rate over all looks, a scalar.
        spending: ``obrien_fleming`` is strict early and keeps almost all of ``alpha`` for the last look; ``pocock``
            has nearly the same level at each look.

    Raises:
        InputError: times that do not increase to 1, no such spending function, or a level out of range.

    Source: Lan & DeMets (1983), section 2, each side spending alpha / 2; Jennison & Turnbull (2000), section 7.2.
    """
    times_K = _increasing(times)
    if not 0 < alpha < 1:
        raise InputError("not an error rate", where="alpha", found=alpha, expected="0 < alpha < 1")
    if spending not in get_args(Spending):
        raise InputError("no such spending function", where="spending", found=spending, expected=get_args(Spending))
    return np.array(_levels(times_K, float(alpha), spending))


def crossing(levels: ArrayLike, times: Sequence[float]) -> Floats:
    """How probable it is, without a true difference, that the bound is first crossed at each look: shape (K,).

    Args:
        levels: nominal two-sided level of each look, shape (K,).
        times: share of the information at each look, shape (K,), increasing, the last one 1.

    Raises:
        InputError: times that do not increase to 1, or lengths differ.

    Source: P. Armitage, C. McPherson, B. Rowe, "Repeated significance tests on accumulating data" (1969); Jennison &
    Turnbull (2000), chapter 19.
    """
    times_K = _increasing(times)
    bounds_K = np.minimum(distributions.norm.isf(numbers(levels, "levels", len(times_K)) / 2), FARTHEST)
    paths, out = _START, []
    for time, bound in zip(times_K, bounds_K, strict=True):
        out.append(paths.beyond(time, float(bound)))
        paths = paths.until(time, float(bound))
    return np.array(out)


def stepwise(
    p_values: ArrayLike, times: Sequence[float], alpha: float = 0.05, spending: Spending = "obrien_fleming"
) -> Stepwise:
    """Several comparisons, each looked at several times: Holm's procedure with the bounds of repeated looks.

    While m comparisons are open each has alpha / m to spend; one that is decided leaves its share to the others, at
    once and at later looks. The family's error rate is kept whatever the dependence of comparisons: it is the closed
    procedure over Bonferroni tests, each of them sequential at its level.

    Args:
        p_values: shape (looks taken, M); a comparison without a value has p-value 1, since it still is one.
        times: share of the information at each planned look, shape (K,), K at least the looks taken.
        alpha: two-sided error rate of the family over all looks, a scalar.
        spending: as in :func:`nominal_levels`.

    Raises:
        InputError: a p-value missing or out of range, more looks than planned, or as :func:`nominal_levels`.

    Source: Y. Ye, A. Li, L. Liu, B. Yao, "A group sequential Holm procedure with multiple primary endpoints" (2013);
    W. Maurer, F. Bretz, "Multiple testing in group sequential trials using graphical approaches" (2013).
    """
    p_K_M = np.asarray(p_values, dtype=np.float64)
    if p_K_M.ndim != 2 or not 0 < p_K_M.shape[0] <= len(times):
        raise InputError(
            "not a table of looks", where="p_values", found=p_K_M.shape, expected=f"1 to {len(times)} rows"
        )
    if not ((p_K_M >= 0) & (p_K_M <= 1)).all():
        raise InputError("not a p-value", where="p_values", found=p_K_M.tolist(), expected="0 <= p <= 1")
    decided_M = np.full(p_K_M.shape[1], -1)
    share_M = np.zeros(p_K_M.shape[1])
    for look, p_M in enumerate(p_K_M):
        while (open_M := decided_M < 0).any():
            share = alpha / int(open_M.sum())
            share_M[open_M] = share
            now_M = open_M & (p_M <= nominal_levels(times, share, spending)[look])
            if not now_M.any():
                break
            decided_M[now_M] = look
    return Stepwise(tuple(int(k) for k in decided_M), tuple(float(v) for v in share_M))


@dataclass(frozen=True)
class _Paths:
    """Paths of the score that crossed no bound so far: where they are (G,), and how many are there."""

    time: float
    place_G: Floats
    mass_G: Floats

    def beyond(self, time: float, bound: float) -> float:
        """Share of paths that cross ``bound`` (in standard deviations, either side) at ``time``."""
        step, edge = np.sqrt(time - self.time), bound * np.sqrt(time)
        upper_G = distributions.norm.sf((edge - self.place_G) / step)
        lower_G = distributions.norm.sf((edge + self.place_G) / step)
        return float(self.mass_G @ (upper_G + lower_G))

    def until(self, time: float, bound: float) -> _Paths:
        """The paths that do not cross it, by Gauss-Legendre quadrature."""
        step, edge = np.sqrt(time - self.time), bound * np.sqrt(time)
        node_H, weight_H = np.polynomial.legendre.leggauss(int(min(1000, 60 + 16 * edge / step)))
        place_H = edge * node_H
        density_H = distributions.norm.pdf((place_H[:, None] - self.place_G) / step) / step @ self.mass_G
        return _Paths(time, place_H, edge * weight_H * density_H)


_START = _Paths(0.0, np.zeros(1), np.ones(1))


@lru_cache(maxsize=512)
def _levels(times_K: tuple[float, ...], alpha: float, spending: Spending) -> tuple[float, ...]:
    paths, before, out = _START, 0.0, []
    for time in times_K:
        spent = _spent(time, alpha, spending)
        share, before = spent - before, spent
        bound = _bound(paths, time, share) if share > NEGLIGIBLE else FARTHEST
        out.append(float(2 * distributions.norm.sf(bound)) if bound < FARTHEST else 0.0)
        paths = paths.until(time, bound)
    return tuple(out)


def _bound(paths: _Paths, time: float, share: float) -> float:
    """The bound that ``share`` of the paths cross at ``time``; ``FARTHEST`` where the share is too small for any."""
    if paths.beyond(time, FARTHEST) >= share:
        return FARTHEST
    found = optimize.root_scalar(lambda bound: paths.beyond(time, bound) - share, bracket=(0.0, FARTHEST), xtol=1e-12)
    return float(found.root)


def _spent(time: float, alpha: float, spending: Spending) -> float:
    """Error rate spent up to ``time``, both sides together; all of it at 1."""
    if spending == "pocock":
        return alpha * float(np.log1p((np.e - 1) * time))
    return 4 * float(distributions.norm.sf(distributions.norm.isf(alpha / 4) / np.sqrt(time)))


def _increasing(times: Sequence[float]) -> tuple[float, ...]:
    times_K = tuple(float(t) for t in numbers(times, "times"))
    steps = np.diff((0.0, *times_K))
    if not len(times_K) or (steps <= 0).any() or not np.isclose(times_K[-1], 1.0):
        raise InputError("looks that do not go up to the end", where="times", found=times_K,
                         expected="shares of the information that increase to 1")  # fmt: skip
    return times_K
