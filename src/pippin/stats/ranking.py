"""Win rates, best-of-n without drawing n again and again, and contestants that review each other.

Source: R. Nakano et al., "WebGPT" (2021), appendix I; L. Gao, J. Schulman, J. Hilton, "Scaling laws for reward model
overoptimization" (2022), section 2; N. Stiennon et al., "Learning to summarize from human feedback" (2020), appendix
G.3; R. Li, T. Patel, X. Du, "PRD: peer rank and discussion improve large language model based evaluations" (2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.agreement import verdicts
from pippin.stats.estimate import Ids, kept_rows, mean
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats


@dataclass(frozen=True)
class PeerRank:
    """Each contestant's win rate under weighted reviewers, and its weight as a reviewer; both shape (M,), in order."""

    scores: tuple[float, ...]
    weights: tuple[float, ...]


def best_of_n(proxy: ArrayLike, gold: ArrayLike, n: int, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
    """Unbiased estimate of the gold score of the best of ``n`` by proxy, from N >= n samples of each prompt.

    The mean over all subsets of size ``n`` of the gold score of the subset's proxy maximum: with samples in ascending
    order of proxy, ``sum_i C(i-1, n-1) / C(N, n) gold_i``. n = 1 gives the mean, n = N the gold score of the maximum.

    Args:
        proxy: shape (..., N): scores to select by.
        gold: shape (..., N): scores to report, of the same samples.
        n: how many samples the policy would choose among.
        rng: breaks ties of the proxy at random. None: the exact mean over all ways to break them, with no randomness.

    Returns:
        Shape (...): one value per prompt; ``mean(best_of_n(...), clusters)`` gives it an interval.

    Raises:
        InputError: shapes differ, n is not within 1 and N, or a score is not finite.

    Source: Nakano et al. (2021), appendix I.
    """
    proxy_P_N, gold_P_N = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if proxy_P_N.shape != gold_P_N.shape or proxy_P_N.ndim == 0:
        raise InputError("proxy and gold differ in shape", where="gold", found=gold_P_N.shape, expected=proxy_P_N.shape)
    samples = proxy_P_N.shape[-1]
    if not 1 <= n <= samples:
        raise InputError("n is not within the samples", where="n", found=n, expected=f"1 to {samples}")
    if not (np.isfinite(proxy_P_N).all() and np.isfinite(gold_P_N).all()):
        raise InputError("a score is not finite", where="proxy, gold", mend="Leave out that sample, or that prompt")
    weight_N = np.zeros(samples)
    weight_N[-1] = n / samples
    for i in range(samples - 1, n - 1, -1):  # i counts from 1: the weight of the i-th smallest from that of the next
        weight_N[i - 1] = weight_N[i] * (i - n + 1) / i
    if rng is not None:
        shuffle = rng.permuted(np.broadcast_to(np.arange(samples), proxy_P_N.shape), axis=-1)
        proxy_P_N = np.take_along_axis(proxy_P_N, shuffle, -1)
        gold_P_N = np.take_along_axis(gold_P_N, shuffle, -1)
    order = np.argsort(proxy_P_N, axis=-1, kind="stable")
    gold_P_N = np.take_along_axis(gold_P_N, order, -1)
    if rng is None:
        gold_P_N = _average_ties(np.take_along_axis(proxy_P_N, order, -1), gold_P_N)
    return (gold_P_N * weight_N).sum(axis=-1)


def best_of_n_kl(n: int) -> float:
    """KL divergence of best-of-n from its policy, ``log n - (n - 1) / n`` nats (scalars); an upper bound with ties.

    Raises:
        InputError: n is below 1.

    Source: Stiennon et al. (2020), appendix G.3.
    """
    if n < 1:
        raise InputError("n is a number of samples", where="n", found=n, expected="1 or more")
    return math.log(n) - (n - 1) / n


def best_of_n_win_rate(n: int, m: int = 1) -> float:
    """Probability that best of ``n`` beats best of ``m`` by the scorer that selected both: ``n / (n + m)`` (scalars).

    Exact for independent samples without ties, whatever the distribution: the best of all n + m is equally likely any
    one.

    Raises:
        InputError: n or m is below 1.

    Source: Gao et al. (2022), section 2: the proxy sees only ranks; the identity follows by exchangeability.
    """
    if n < 1 or m < 1:
        raise InputError("n is a number of samples", where="n, m", found=(n, m), expected="1 or more")
    return n / (n + m)


def win_rate(
    verdicts_of_pairs: ArrayLike,
    clusters: Ids | None = None,
    *,
    ties: Literal["half", "drop"] = "half",
    seeds: Ids | None = None,
    strata: Ids | None = None,
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Share of comparisons that the left side wins; ``p`` is not set, see :func:`pippin.stats.paired` for differences.

    The rate of the right side is one minus it, interval included. Missing verdicts are counted, not scored.

    Args:
        verdicts_of_pairs: shape (N,): 1 left, -1 right, 0 tie, NaN missing.
        clusters: prompt id of each, shape (N,).
        ties: count ``half``, or ``drop`` them (then neither in n nor missing).
        seeds: training seed of each, shape (N,); see :func:`pippin.stats.mean`.
        strata: shape (N,); see :func:`pippin.stats.mean`.
        unit: goes into the Estimate.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: not verdicts, none given (or decided), or lengths differ.

    Source: Y. Dubois et al., "AlpacaFarm" (2023), section 2: win rate with half credit for ties.
    """
    verdict_N = verdicts(verdicts_of_pairs, "verdicts")
    keep_N = verdict_N != 0 if ties == "drop" else np.ones(len(verdict_N), dtype=bool)
    return mean(
        (verdict_N[keep_N] + 1) / 2, kept_rows(clusters, "clusters", keep_N), seeds=kept_rows(seeds, "seeds", keep_N),
        strata=kept_rows(strata, "strata", keep_N), support=(0, 1), unit=unit, bootstrap=bootstrap,
    )  # fmt: skip


def peer_rank(wins_M_M: ArrayLike, *, iterations: int = 5) -> PeerRank:
    """Contestants that are also the reviewers: who wins more, by weighted reviews, weighs more as a reviewer.

    A round takes the scores as the weighted mean of the reviewers' win rates, then the weights as the scores brought to
    0 to 1 (least to greatest) and divided by their sum. Reviewers weigh the same at first; the weakest one then weighs
    nothing. Where all scores are equal, so are the weights.

    Args:
        wins_M_M: shape (M, M): the win rate (ties half) that reviewer i, a row, gives to contestant j, a column, in the
            same order; none may be missing.
        iterations: number of rounds; the weights of the fifth hardly differ from those of the fourth.

    Raises:
        InputError: not a square table of shares, fewer than two contestants, or no round.

    Source: Li et al. (2023), section 2.1 (win rates, normalised from least to greatest).
    """
    wins = np.asarray(wins_M_M, dtype=np.float64)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or len(wins) < 2:
        raise InputError("not a table of reviewers and contestants", where="wins_M_M", found=wins.shape,
                         expected="(M, M), M two or more")  # fmt: skip
    if not ((wins >= 0) & (wins <= 1)).all():
        raise InputError("not win rates", where="wins_M_M", expected="shares from 0 to 1, none missing")
    if iterations < 1:
        raise InputError("no round", where="iterations", found=iterations, expected="1 or more")
    scores_M, weights_M = np.zeros(len(wins)), np.full(len(wins), 1 / len(wins))
    for _ in range(iterations):
        scores_M = weights_M @ wins
        above_M = scores_M - scores_M.min()
        weights_M = above_M / above_M.sum() if above_M.max() > 1e-12 else np.full(len(wins), 1 / len(wins))
    return PeerRank(tuple(scores_M.tolist()), tuple(weights_M.tolist()))


def _average_ties(proxy_P_N: Floats, gold_P_N: Floats) -> Floats:
    """Gold scores, sorted by proxy, with each replaced by the mean over the samples of equal proxy."""
    samples = proxy_P_N.shape[-1]
    rows_P_N, gold_rows = proxy_P_N.reshape(-1, samples), gold_P_N.reshape(-1, samples)
    new_P_N = np.ones(rows_P_N.shape, dtype=bool)
    new_P_N[:, 1:] = rows_P_N[:, 1:] != rows_P_N[:, :-1]
    tie = new_P_N.reshape(-1).cumsum() - 1
    average = np.bincount(tie, weights=gold_rows.reshape(-1)) / np.bincount(tie)
    return average[tie].reshape(gold_P_N.shape)
