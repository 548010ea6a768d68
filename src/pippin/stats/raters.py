"""Several raters on the same units: agreement beyond chance, the human ceiling, whether a judge may replace one.

Votes are numbers, a row a unit and a column a rater; NaN is a vote that was not given. Equal numbers are one category;
only the ordinal and interval levels of alpha read more into them.

Source: J. Fleiss, "Measuring nominal scale agreement among many raters" (1971); K. Krippendorff, "Computing
Krippendorff's alpha-reliability" (2011); K. Gwet, "Computing inter-rater reliability and its variance in the presence
of high agreement" (2008); N. Calderon et al., "The alternative annotator test for LLM-as-a-judge" (2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.estimate import Ids, kept_rows, mean
from pippin.stats.intervals import estimate, ratio_of_sums
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats, Resampled, Statistic, codes, collect, numbers, spread

Level = Literal["nominal", "ordinal", "interval"]

CATEGORIES_AT_MOST = 50  # distinct votes; more are measurements, which have the interval level
FEWEST_ANNOTATORS, FEWEST_UNITS = 3, 30  # Calderon et al. (2025), section 3: fewer give their t-test no ground


@dataclass(frozen=True)
class Contest:
    """The judge against one annotator, both measured by the votes of the other annotators on the annotator's units.

    ``judge``: share of units on which the judge agrees with the others at least as well as the annotator does;
    ``annotator``: the reverse (equal agreement counts for both); ``advantage``: the first less the second, its ``p``
    one-sided against ``-epsilon``. ``adjusted``: p after Benjamini-Yekutieli; ``won``: that is at most q.
    """

    rater: int
    judge: Estimate
    annotator: Estimate
    advantage: Estimate
    adjusted: float
    won: bool


@dataclass(frozen=True)
class AlternativeAnnotator:
    """The alternative annotator test.

    ``omega``: share of the tested annotators that the judge won against; ``passed``: that is one half or more; ``rho``:
    the judge's share averaged over them, to compare judges by. Where the data are too few, ``usable`` is False,
    ``passed`` is False, and ``contests``, ``omega`` and ``rho`` are empty. ``why`` says what is too few, also for
    annotators that were left out of a test that is usable.
    """

    contests: tuple[Contest, ...]
    omega: float | None
    rho: Estimate | None
    passed: bool
    epsilon: float
    q: float
    usable: bool = True
    why: str = ""


def fleiss_kappa(votes_U_R: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT) -> Estimate:
    """Fleiss' kappa: agreement of pairs of votes on a unit, beyond what the pooled base rates give by chance.

    Units may have different numbers of votes: agreement is averaged over the units with two votes or more, base rates
    over all units with a vote, each unit counting once. With equal numbers it is Fleiss' (1971) formula.

    Args:
        votes_U_R: shape (U, R), NaN where missing.
        clusters: prompt id of each unit, shape (U,).
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        ``n`` counts units with two votes or more, ``missing`` the others.

    Raises:
        InputError: no unit with two votes, all votes equal, lengths differ, or more than 50 distinct votes.

    Source: Fleiss (1971); Gwet, "Handbook of inter-rater reliability" (2014), chapter 2, for unequal
    numbers.
    """
    counts_U_K, _ = _counts(_matrix(votes_U_R))
    return _beyond_chance(counts_U_K, clusters, lambda share_K: (share_K**2).sum(axis=-1), "Fleiss kappa", bootstrap)


def gwet_ac1(
    votes_U_R: ArrayLike,
    clusters: Ids | None = None,
    *,
    categories: Sequence[float] | None = None,
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Gwet's AC1: agreement beyond chance that does not collapse where nearly all votes are of one category.

    Args:
        votes_U_R: shape (U, R), NaN where missing; unequal numbers, n and missing as in :func:`fleiss_kappa`.
        clusters: prompt id of each unit, shape (U,).
        categories: all votes that were possible; None: those that occur. Their number enters the chance term.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no unit with two votes, fewer than two categories, a vote outside them, or lengths differ.

    Source: Gwet (2008).
    """
    counts_U_K, kinds = _counts(_matrix(votes_U_R), categories)
    if len(kinds) < 2:
        raise InputError("one category is no choice", where="categories", found=kinds, expected="two or more",
                         mend="Name the categories that were possible")  # fmt: skip

    def chance(share_K: Floats) -> Floats:
        return (share_K * (1 - share_K)).sum(axis=-1) / (len(kinds) - 1)

    return _beyond_chance(counts_U_K, clusters, chance, "AC1", bootstrap)


def krippendorff_alpha(
    votes_U_R: ArrayLike, clusters: Ids | None = None, *, level: Level = "nominal", bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Krippendorff's alpha: one less observed over expected disagreement; votes may be missing.

    Args:
        votes_U_R: shape (U, R), NaN where missing.
        clusters: prompt id of each unit, shape (U,).
        level: disagreement is 0 or 1 (``nominal``), the squared distance of mean ranks (``ordinal``) or of the numbers
            themselves (``interval``).
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        ``n`` counts units with two votes or more, ``missing`` the others: a lone vote cannot disagree.

    Raises:
        InputError: no unit with two votes, all votes equal, lengths differ, no such level, or more than 50 distinct
            votes below the interval level.

    Source: Krippendorff (2011), sections C and D.
    """
    if level not in get_args(Level):
        raise InputError("no such level", where="level", found=level, expected=get_args(Level))
    votes = _matrix(votes_U_R)
    size_U = (~np.isnan(votes)).sum(axis=1).astype(np.float64)
    keep_U = size_U >= 2
    size_U = size_U[keep_U]
    if level == "interval":
        kept = votes[keep_U] - (np.nanmean(votes[keep_U]) if keep_U.any() else 0.0)
        sum_U, square_U = np.nansum(kept, axis=1), np.nansum(kept**2, axis=1)
        columns = [size_U, sum_U, square_U, (size_U * square_U - sum_U**2) / (size_U - 1)]
        statistic = _alpha_interval
    else:
        counts_U_K = _counts(votes)[0][keep_U]
        first, second = np.triu_indices(counts_U_K.shape[1], 1)
        together_U_P = counts_U_K[:, first] * counts_U_K[:, second] / (size_U - 1)[:, None]
        columns = [*counts_U_K.T, *together_U_P.T]
        statistic = _alpha(counts_U_K.shape[1], level)
    sample = collect(columns, kept_rows(clusters, "clusters", keep_U), missing=int((~keep_U).sum()))
    return estimate(Resampled(sample, bootstrap), statistic, support=(-1.0, 1.0), unit=f"alpha, {level}")


def human_ceiling(votes_U_R: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT) -> Estimate:
    """How well people do by their own yardstick: each vote against the majority of the unit's other votes.

    Where the others tie, a vote for one of the ``m`` leading categories earns ``1 / m``, which is what breaking the tie
    at random gives on average. Votes are averaged within the unit; each unit counts once.

    Args:
        votes_U_R: shape (U, R), NaN where missing.
        clusters: prompt id of each unit, shape (U,).
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        Share, over units with two votes or more; the others are counted in ``missing``.

    Raises:
        InputError: no unit with two votes, lengths differ, or more than 50 distinct votes.

    Source: X. Li et al., "AlpacaEval" (2023), agreement with one annotator left out; fractions for ties are ours.
    """
    counts_U_K, _ = _counts(_matrix(votes_U_R))
    credit_U_C_K = _against_the_rest(counts_U_K)
    own_U = (counts_U_K * np.diagonal(credit_U_C_K, axis1=1, axis2=2)).sum(axis=1)
    return _per_unit(own_U, counts_U_K, clusters, bootstrap)


def against_others(
    judge_U: ArrayLike, votes_U_R: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """A judge by the yardstick of :func:`human_ceiling`: against the majority of all votes but one.

    Averaged over which vote is left out, so that judge and people are measured against equally many votes. To set the
    two numbers side by side, give both the same units.

    Args:
        judge_U: the judge's vote, shape (U,), NaN where missing.
        votes_U_R: people's votes, shape (U, R), NaN where missing.
        clusters: prompt id of each unit, shape (U,).
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        Share, over units with a vote of the judge and two of people; the others are counted in ``missing``.

    Raises:
        InputError: no such unit, lengths differ, or more than 50 distinct votes.

    Source: X. Li et al., "AlpacaEval" (2023), agreement with one annotator left out; fractions for ties are ours.
    """
    votes = _matrix(votes_U_R)
    judge = numbers(judge_U, "judge_U", len(votes))
    counts_U_K, kinds = _counts(votes, others=judge)
    credit_U_K = (counts_U_K[:, :, None] * _against_the_rest(counts_U_K)).sum(axis=1)
    seen_U = ~np.isnan(judge)
    place_U = np.searchsorted(kinds, np.where(seen_U, judge, kinds[0] if kinds else 0.0))
    credit_U = np.take_along_axis(credit_U_K, place_U[:, None], axis=1)[:, 0] if kinds else np.zeros(len(votes))
    return _per_unit(np.where(seen_U, credit_U, np.nan), counts_U_K, clusters, bootstrap)


def alternative_annotator(
    judge_U: ArrayLike,
    votes_U_R: ArrayLike,
    clusters: Ids | None = None,
    *,
    epsilon: float = 0.2,
    q: float = 0.05,
    bootstrap: Bootstrap = DEFAULT,
) -> AlternativeAnnotator:
    """May the judge stand in for a human annotator? Each annotator in turn is set against the judge.

    On each unit the two are scored by the share of the other annotators' votes they agree with; the judge wins against
    an annotator where ``rho_judge - rho_annotator > -epsilon`` is shown by a one-sided t-test over clusters, the
    annotators' p-values adjusted by Benjamini and Yekutieli. An annotator with fewer than 30 units (with a vote of the
    judge and of another annotator) is not tested, and is named in ``why``; with fewer than three to test the result is
    not usable.

    Args:
        judge_U: the judge's vote, shape (U,), NaN where missing.
        votes_U_R: the annotators' votes, shape (U, R), a column an annotator, NaN where missing.
        clusters: prompt id of each unit, shape (U,).
        epsilon: how much better an annotator may be and still be replaced, for the judge is cheaper: the paper takes
            0.2 for experts, 0.15 for skilled annotators, 0.1 for crowd workers.
        q: false discovery rate over the annotators.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: lengths differ, epsilon is not within 0 and 1, or q is not a probability.

    Source: Calderon, Reichart, Dror (2025), section 3, with accuracy as the alignment; clusters are ours.
    """
    if not 0 <= epsilon < 1 or not 0 < q < 1:
        raise InputError("out of range", where="epsilon, q", found=(epsilon, q), expected="0 <= epsilon < 1, 0 < q < 1")
    votes = _matrix(votes_U_R)
    judge = numbers(judge_U, "judge_U", len(votes))
    codes(clusters, "clusters", len(votes))
    judge_wins_U_R, rater_wins_U_R = _contests(judge, votes)
    units_R = (~np.isnan(judge_wins_U_R)).sum(axis=0)
    tested = [rater for rater, units in enumerate(units_R) if units >= FEWEST_UNITS]
    few = [f"annotator {rater} has {units} units" for rater, units in enumerate(units_R) if units < FEWEST_UNITS]
    why = "; ".join([*few, f"{FEWEST_UNITS} or more are needed"]) if few else ""
    if len(tested) < FEWEST_ANNOTATORS:
        count = f"{len(tested)} annotators to test, {FEWEST_ANNOTATORS} or more are needed"
        return AlternativeAnnotator((), None, None, False, epsilon, q, False, "; ".join(filter(None, [count, why])))
    made = [_contest(judge_wins_U_R[:, r], rater_wins_U_R[:, r], clusters, epsilon, bootstrap) for r in tested]
    adjusted = distributions.false_discovery_control([advantage.p for *_, advantage in made], method="by")
    contests = tuple(
        Contest(r, *parts, float(p), bool(p <= q)) for r, parts, p in zip(tested, made, adjusted, strict=True)
    )
    omega = sum(c.won for c in contests) / len(contests)
    rho = _average_share(judge_wins_U_R[:, tested], clusters, bootstrap)
    return AlternativeAnnotator(contests, omega, rho, omega >= 0.5, epsilon, q, True, why)


def _matrix(votes_U_R: ArrayLike) -> Floats:
    try:
        votes = np.asarray(votes_U_R, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("not numbers", where="votes_U_R", mend="Code categories as numbers, NaN if missing") from None
    if votes.ndim != 2:
        raise InputError("not a table of units and raters", where="votes_U_R", found=votes.shape, expected="(U, R)")
    if np.isinf(votes).any():
        raise InputError("infinite value", where="votes_U_R", expected="finite or NaN")
    return votes


def _counts(
    votes: Floats, categories: Sequence[float] | None = None, others: Floats | None = None
) -> tuple[Floats, list[float]]:
    """How many votes each unit has for each category (U, K), and the categories in ascending order."""
    present = np.unique(np.concatenate([votes[~np.isnan(votes)], [] if others is None else others[~np.isnan(others)]]))
    kinds = present if categories is None else np.unique(numbers(categories, "categories"))
    strange = present[~np.isin(present, kinds)]
    if len(strange):
        raise InputError("a vote outside the categories", where="votes_U_R", found=strange[0], expected=kinds.tolist())
    if len(kinds) > CATEGORIES_AT_MOST:
        most = f"{CATEGORIES_AT_MOST} or fewer"
        raise InputError("too many distinct votes", where="votes_U_R", found=len(kinds), expected=most,
                         mend="Round them, or use the interval level")  # fmt: skip
    return (votes[:, :, None] == kinds).sum(axis=1).astype(np.float64), kinds.tolist()


def _beyond_chance(
    counts_U_K: Floats, clusters: Ids | None, chance: Statistic, unit: str, bootstrap: Bootstrap
) -> Estimate:
    """(agreement - chance) / (1 - chance), ``chance`` being a function of the categories' shares (..., K)."""
    size_U = counts_U_K.sum(axis=1)
    seen_U, two_U = size_U >= 1, size_U >= 2
    if not two_U.any():
        raise InputError("no unit with two votes", where="votes_U_R", expected="at least one")
    pairs_U = np.where(two_U, size_U * (size_U - 1), 1.0)
    agree_U = (counts_U_K * (counts_U_K - 1)).sum(axis=1) / pairs_U
    share_U_K = counts_U_K / np.where(seen_U, size_U, 1.0)[:, None]
    columns = [c[seen_U] for c in (agree_U * two_U, two_U * 1.0, seen_U * 1.0, *share_U_K.T)]
    sample = collect(columns, kept_rows(clusters, "clusters", seen_U))
    sample = replace(sample, n=int(two_U.sum()), missing=int((~two_U).sum()))

    def statistic(sums_H_K: Floats) -> Floats:
        sums_K = sums_H_K[..., 0, :]
        expected = chance(sums_K[..., 3:] / sums_K[..., 2:3])
        room = np.where(1 - expected > 1e-12, 1 - expected, np.nan)
        return (sums_K[..., 0] / sums_K[..., 1] - expected) / room

    return estimate(Resampled(sample, bootstrap), statistic, support=(-1.0, 1.0), unit=unit)


def _alpha(kinds: int, level: Level) -> Statistic:
    """Alpha from the sums of votes of each category and of coincidences of each two."""
    first, second = np.triu_indices(kinds, 1)

    def statistic(sums_H_K: Floats) -> Floats:
        votes_K, together_P = sums_H_K[..., 0, :kinds], sums_H_K[..., 0, kinds:]
        rank_K = votes_K.cumsum(axis=-1) - votes_K / 2
        apart_P = (rank_K[..., second] - rank_K[..., first]) ** 2 if level == "ordinal" else 1.0
        expected = (votes_K[..., first] * votes_K[..., second] * apart_P).sum(axis=-1)
        observed = (together_P * apart_P).sum(axis=-1)
        return 1 - (votes_K.sum(axis=-1) - 1) * observed / np.where(expected > 0, expected, np.nan)

    return statistic


def _alpha_interval(sums_H_K: Floats) -> Floats:
    votes, total, square, within = np.moveaxis(sums_H_K[..., 0, :], -1, 0)
    expected = votes * square - total**2
    return 1 - (votes - 1) * within / np.where(expected > 1e-12 * votes * square, expected, np.nan)


def _against_the_rest(counts_U_K: Floats) -> Floats:
    """Credit of a vote for category k where one vote for c is left out: shape (U, C, K); zero where none is left."""
    rest_U_C_K = counts_U_K[:, None, :] - np.eye(counts_U_K.shape[1])
    leads_U_C_K = (rest_U_C_K == rest_U_C_K.max(axis=2, keepdims=True, initial=0)) & (rest_U_C_K > 0)
    return leads_U_C_K / np.maximum(leads_U_C_K.sum(axis=2, keepdims=True), 1)


def _per_unit(credit_U: Floats, counts_U_K: Floats, clusters: Ids | None, bootstrap: Bootstrap) -> Estimate:
    size_U = counts_U_K.sum(axis=1)
    share_U = np.where(size_U >= 2, credit_U / np.maximum(size_U, 1), np.nan)
    return mean(share_U, clusters, support=(0, 1), unit="share", bootstrap=bootstrap)


def _contests(judge_U: Floats, votes_U_R: Floats) -> tuple[Floats, Floats]:
    """Where the judge, and where the annotator, agrees with the rest at least as well: 1, 0 or NaN, shape (U, R)."""
    same_U_R_R = (votes_U_R[:, :, None] == votes_U_R[:, None, :]) & ~np.eye(votes_U_R.shape[1], dtype=bool)
    agree_U_R = (votes_U_R == judge_U[:, None]).astype(np.int64)
    by_judge_U_R = agree_U_R.sum(axis=1, keepdims=True) - agree_U_R
    by_rater_U_R = same_U_R_R.sum(axis=2)
    given_U_R = ~np.isnan(votes_U_R)
    ok_U_R = given_U_R & (given_U_R.sum(axis=1) >= 2)[:, None] & ~np.isnan(judge_U)[:, None]
    better, worse = by_judge_U_R >= by_rater_U_R, by_rater_U_R >= by_judge_U_R
    return np.where(ok_U_R, better, np.nan), np.where(ok_U_R, worse, np.nan)


def _contest(
    judge_U: Floats, rater_U: Floats, clusters: Ids | None, epsilon: float, bootstrap: Bootstrap
) -> tuple[Estimate, Estimate, Estimate]:
    judge, rater = (mean(w, clusters, support=(0, 1), unit="share", bootstrap=bootstrap) for w in (judge_U, rater_U))
    ahead_U, keep_U = judge_U - rater_U, ~np.isnan(judge_U)
    advantage = mean(ahead_U, clusters, support=(-1, 1), unit="difference of shares", bootstrap=bootstrap)
    kept = kept_rows(clusters, "clusters", keep_U)
    error = spread(collect([ahead_U[keep_U], np.ones(advantage.n)], kept), ratio_of_sums)
    beyond = advantage.value + epsilon
    exact = 0.0 if beyond > 0 else 1.0  # without any spread
    p = float(distributions.t.sf(beyond / error.error, error.freedom)) if error.error > 0 else exact
    return judge, rater, replace(advantage, p=max(p, 1e-16))


def _average_share(wins_U_R: Floats, clusters: Ids | None, bootstrap: Bootstrap) -> Estimate:
    """Mean over annotators of the judge's share against each."""
    keep_U = np.isfinite(wins_U_R).sum(axis=1) > 0
    wins_U_R = wins_U_R[keep_U]
    columns = [c for wins_U in wins_U_R.T for c in (np.nan_to_num(wins_U), ~np.isnan(wins_U) * 1.0)]
    sample = collect(columns, kept_rows(clusters, "clusters", keep_U), missing=int((~keep_U).sum()))

    def statistic(sums_H_K: Floats) -> Floats:
        return (sums_H_K[..., 0, 0::2] / sums_H_K[..., 0, 1::2]).mean(axis=-1)

    return estimate(Resampled(sample, bootstrap), statistic, support=(0.0, 1.0), unit="share")
