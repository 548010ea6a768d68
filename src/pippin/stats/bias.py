"""What a judge's verdicts depend on beside quality: the order shown and the length; and how length enters scores.

Verdicts are numbers: 1, -1, 0 for a tie, NaN for a missing one; credits are 1 right, 0 wrong, 0.5 tie, NaN missing.
Source: P. Wang et al., "Large language models are not fair evaluators" (2023); L. Zheng et al. (2023), section 3.3;
Z. Zeng et al., "Evaluating large language models at evaluating instruction following" (2023);
P. Singhal et al., "A long way to go: investigating length correlations in RLHF" (2023), sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.agreement import verdicts
from pippin.stats.estimate import Ids, kept_rows, mean, sign_flip
from pippin.stats.intervals import difference_of_ratios, estimate
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats, Resampled, Statistic, codes, collect, numbers


@dataclass(frozen=True)
class Consistency:
    """Shares of all pairs, adding up to one: right in both orders, split, wrong in both, or missing in either."""

    right: Estimate
    split: Estimate
    wrong: Estimate
    missing: Estimate


@dataclass(frozen=True)
class LengthBias:
    """Length in a judge's choices; a field is None where no pair speaks of it.

    ``prefers_longer``: share for the longer response among decided pairs of unequal length. With a gold verdict:
    ``gold_longer``: share of unequal pairs whose better response is the longer, the accuracy of the rule "longer wins";
    the judge's accuracy (ties half) where it is and where it is not; ``gap``: the first less the second.
    """

    prefers_longer: Estimate | None
    gold_longer: Estimate | None = None
    accuracy_gold_longer: Estimate | None = None
    accuracy_gold_shorter: Estimate | None = None
    gap: Estimate | None = None


@dataclass(frozen=True)
class Lengths:
    """Outputs of one policy: rewards (N,), lengths in tokens (N,), prompt ids (N,)."""

    rewards: ArrayLike
    lengths: ArrayLike
    clusters: Ids


@dataclass(frozen=True)
class LengthDecomposition:
    """A gain in reward and how much of it is left at equal length.

    ``gain``: mean reward after less before. ``nrg``: the gain within length buckets. ``share``: nrg / gain, the part
        that
    length does not explain; None where the gain is not clearly away from zero. ``coverage``: share of outputs in
    buckets that both policies fill; below 1, nrg says nothing about the rest.
    """

    gain: Estimate
    nrg: Estimate
    share: Estimate | None
    coverage: Estimate


def consistency(
    first: ArrayLike, swapped: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT
) -> Consistency:
    """Right in both orders, split, wrong in both, missing: what accuracy averaged over the orders hides.

    A judge that always says "first" is split throughout, and its average accuracy is 0.5. A tie in either order is a
    split.

    Args:
        first: credit (N,) in the first order: 1 right, 0 wrong, 0.5 tie, NaN missing.
        swapped: credit (N,) of the same pairs in the swapped order.
        clusters: prompt id of each pair, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no pair, other credits, or lengths differ.

    Source: Zeng et al. (2023), section 4 report accuracy and agreement apart; this is their joint table.
    """
    first_N = _credits(first, "first")
    swapped_N = _credits(swapped, "swapped", len(first_N))
    missing_N = np.isnan(first_N) | np.isnan(swapped_N)
    right_N, wrong_N = (first_N == 1) & (swapped_N == 1), (first_N == 0) & (swapped_N == 0)
    right, split, wrong, missing = (
        mean(share_N, clusters, support=(0, 1), unit="share of pairs", bootstrap=bootstrap)
        for share_N in (right_N, ~(right_N | wrong_N | missing_N), wrong_N, missing_N)
    )
    return Consistency(right, split, wrong, missing)


def position_bias(
    verdicts_shown: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Share of decided verdicts that name the response shown first; ``p`` tests it against one half.

    It measures position alone where each pair was shown in both orders, or the order was drawn at random *for each
    pair*; an order that is shared by the pairs of a prompt is accounted for by the clusters.

    Args:
        verdicts_shown: shape (N,): 1 the response shown first, -1 the second, 0 tie (left out), NaN missing.
        clusters: prompt id of each verdict, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no decided verdict, other numbers, or lengths differ.

    Source: Wang et al. (2023), section 2; Zheng et al. (2023), section 3.3.
    """
    shown_N = verdicts(verdicts_shown, "verdicts")
    keep_N = shown_N != 0
    kept = kept_rows(clusters, "clusters", keep_N)
    made = mean((shown_N[keep_N] + 1) / 2, kept, support=(0, 1), unit="share", bootstrap=bootstrap)
    return replace(made, p=sign_flip(shown_N[keep_N], kept, bootstrap=bootstrap))


def length_bias(
    verdicts_of_pairs: ArrayLike,
    length_difference: ArrayLike,
    clusters: Ids | None = None,
    *,
    gold: ArrayLike | None = None,
    bootstrap: Bootstrap = DEFAULT,
) -> LengthBias:
    """How often the longer response is preferred, and whether that costs accuracy.

    ``prefers_longer`` alone is no bias: the longer response may be better. The accuracies by which one gold prefers
    are.

    Args:
        verdicts_of_pairs: shape (N,): 1 the left response, -1 the right, 0 tie, NaN missing.
        length_difference: shape (N,): length of the left response less that of the right.
        clusters: prompt id of each pair, shape (N,).
        gold: shape (N,): the right verdicts, 1 or -1 (pairs with 0 or NaN are left out of the accuracies); or None.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: not verdicts, lengths differ, or a length is missing.

    Source: Zheng et al. (2023), section 3.3; Singhal et al. (2023), section 3.
    """
    verdict_N = verdicts(verdicts_of_pairs, "verdicts")
    longer_N = np.sign(numbers(length_difference, "length_difference", len(verdict_N)))
    if np.isnan(longer_N).any():
        raise InputError("a length is missing", where="length_difference", found="NaN", expected="a number in each row")

    def share(values_N: Floats, keep_N: np.ndarray) -> Estimate | None:
        if not (keep_N & ~np.isnan(values_N)).any():
            return None
        kept = kept_rows(clusters, "clusters", keep_N)
        return mean(values_N[keep_N], kept, support=(0, 1), unit="share", bootstrap=bootstrap)

    prefers_N = np.where(np.isnan(verdict_N), np.nan, verdict_N == longer_N)
    prefers = share(prefers_N, (verdict_N != 0) & (longer_N != 0))
    if gold is None:
        return LengthBias(prefers)
    gold_N = verdicts(gold, "gold", len(verdict_N))
    known_N = (longer_N != 0) & (gold_N != 0) & ~np.isnan(gold_N)
    credit_N = (verdict_N * gold_N + 1) / 2
    gold_is_longer_N = gold_N == longer_N
    long_N, short_N = known_N & gold_is_longer_N, known_N & ~gold_is_longer_N
    right_if_longer, right_if_shorter = share(credit_N, long_N), share(credit_N, short_N)
    gap = None
    if right_if_longer and right_if_shorter:
        seen_N = known_N & ~np.isnan(credit_N)
        columns = [c[seen_N] for c in (credit_N * long_N, long_N * 1.0, credit_N * short_N, short_N * 1.0)]
        sample = collect(columns, kept_rows(clusters, "clusters", seen_N), missing=int((known_N & ~seen_N).sum()))
        gap = estimate(Resampled(sample, bootstrap), difference_of_ratios, support=(-1, 1), unit="accuracy")
    return LengthBias(prefers, share(gold_is_longer_N * 1.0, known_N), right_if_longer, right_if_shorter, gap)


def length_correlation(
    scores: ArrayLike, lengths: ArrayLike, clusters: Ids, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Pearson's correlation of score and length within each prompt, averaged over prompts.

    A prompt whose scores or lengths do not vary (or with fewer than two scores) has no correlation and counts in
    ``missing``, which here counts prompts, as does ``n``.

    Args:
        scores: shape (N,), NaN where missing.
        lengths: shape (N,), NaN where missing.
        clusters: prompt id of each, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no prompt has a correlation, or lengths differ.

    Source: Singhal et al. (2023), section 3.1 (within-batch length correlation).
    """
    score_N = numbers(scores, "scores")
    length_N = numbers(lengths, "lengths", len(score_N))
    ids, cluster_N = codes(clusters, "clusters", len(score_N))
    keep_N = ~(np.isnan(score_N) | np.isnan(length_N))
    cluster_N, score_N, length_N = cluster_N[keep_N], score_N[keep_N], length_N[keep_N]
    order = np.lexsort((length_N, score_N, cluster_N))  # sums that do not depend on the order of rows
    cluster_N, score_N, length_N = cluster_N[order], score_N[order], length_N[order]

    def sums(values_N: Floats) -> Floats:
        return np.bincount(cluster_N, weights=values_N, minlength=len(ids)).astype(np.float64)

    count_C = np.maximum(sums(np.ones(len(score_N))), 1)
    score_N = score_N - (sums(score_N) / count_C)[cluster_N]
    length_N = length_N - (sums(length_N) / count_C)[cluster_N]
    spread_C = np.sqrt(sums(score_N**2) * sums(length_N**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation_C = np.where(spread_C > 1e-12, np.clip(sums(score_N * length_N) / spread_C, -1, 1), np.nan)
    return mean(correlation_C, ids, support=(-1, 1), unit="Pearson r", bootstrap=bootstrap)


def length_decomposition(
    before: Lengths, after: Lengths, *, width: float = 20.0, bootstrap: Bootstrap = DEFAULT
) -> LengthDecomposition:
    """Non-length reward gain: the gain within buckets of equal length, ``sum_b n_b / n (after_b - before_b)``.

    Over the buckets that both policies fill, ``n_b`` counting the outputs of both and ``n`` their sum over these
    buckets. Equal length histograms give nrg = gain; a reward that depends on the bucket alone gives 0. Outputs with
    no reward are left out and counted.

    Args:
        before: the policy at the start: rewards (N,), lengths (N,), prompt ids (N,).
        after: the trained policy, on the same prompts.
        width: of a bucket, in the unit of the lengths.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no bucket is filled by both, a length is missing, or arrays differ in length.

    Source: Singhal et al. (2023), section 3.2 (NRG, buckets of 20 tokens); pooled weights and coverage are ours.
    """
    if not width > 0:
        raise InputError("a bucket has a width", where="width", found=width, expected="> 0")
    reward_N, length_N, ids_N, after_N = _stack(before, after)
    seen_N = ~np.isnan(reward_N)
    missing = int((~seen_N).sum())
    _, bucket_N = np.unique(np.floor(length_N / width), return_inverse=True)
    reward_N, bucket_N, after_N, ids_N = reward_N[seen_N], bucket_N[seen_N], after_N[seen_N], ids_N[seen_N]
    buckets = int(bucket_N.max()) + 1 if len(bucket_N) else 0
    columns = [
        weight_N * ((bucket_N == bucket) & (after_N == side))
        for bucket in range(buckets)
        for side in (0, 1)
        for weight_N in (np.ones(len(reward_N)), reward_N)
    ]
    if not columns:
        raise InputError("no reward", where="before, after", expected="at least one reward of each")
    resampled = Resampled(collect(columns, ids_N, missing=missing), bootstrap)

    def made(statistic: Statistic, unit: str, support: tuple[float, float] | None = None) -> Estimate:
        return estimate(resampled, statistic, support=support, unit=unit)

    gain = made(_gain, "reward")
    nrg = made(_nrg, "reward")
    clear = gain.low > 0 or gain.high < 0
    share = made(lambda sums: _nrg(sums) / _gain(sums), "share of the gain") if clear else None
    return LengthDecomposition(gain, nrg, share, made(_coverage, "share of outputs", (0.0, 1.0)))


def _stack(before: Lengths, after: Lengths) -> tuple[Floats, Floats, np.ndarray, np.ndarray]:
    """Rewards, lengths, prompt ids and side (0 before, 1 after) of both, one after the other."""
    parts = []
    for side, name in ((before, "before"), (after, "after")):
        reward_N = numbers(side.rewards, f"{name}.rewards")
        length_N = numbers(side.lengths, f"{name}.lengths", len(reward_N))
        if np.isnan(length_N).any():
            raise InputError("a length is missing", where=f"{name}.lengths", found="NaN", expected="a number")
        codes(side.clusters, f"{name}.clusters", len(reward_N))
        parts.append((reward_N, length_N, np.asarray(side.clusters)))
    sides = np.repeat([0, 1], [len(p[0]) for p in parts])
    reward_N, length_N, ids_N = (np.concatenate([p[i] for p in parts]) for i in range(3))
    return reward_N, length_N, ids_N, sides


def _by_bucket(sums_H_K: Floats) -> tuple[Floats, Floats]:
    """Counts and reward sums, each of shape (..., buckets, side)."""
    table = sums_H_K[..., 0, :].reshape(*sums_H_K.shape[:-2], -1, 2, 2)
    return table[..., 0], table[..., 1]


def _gain(sums_H_K: Floats) -> Floats:
    count, reward = _by_bucket(sums_H_K)
    side = reward.sum(axis=-2) / count.sum(axis=-2)
    return side[..., 1] - side[..., 0]


def _nrg(sums_H_K: Floats) -> Floats:
    count, reward = _by_bucket(sums_H_K)
    both = (count > 0).all(axis=-1)
    average = reward / np.where(count > 0, count, 1.0)
    pooled = np.where(both, count.sum(axis=-1), 0.0)
    return (pooled * (average[..., 1] - average[..., 0])).sum(axis=-1) / pooled.sum(axis=-1)


def _coverage(sums_H_K: Floats) -> Floats:
    count, _ = _by_bucket(sums_H_K)
    both = (count > 0).all(axis=-1)
    return np.where(both, count.sum(axis=-1), 0.0).sum(axis=-1) / count.sum(axis=(-2, -1))


def _credits(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    array = numbers(values, name, length)
    odd = array[~(np.isnan(array) | np.isin(array, (0.0, 0.5, 1.0)))]
    if len(odd):
        raise InputError("not a credit", where=name, found=float(odd[0]), expected="1, 0.5, 0 or NaN")
    return array
