"""Which sampled responses are kept, and which are set against which: pure functions of scores and a generator.

Pairs are row numbers ``[P, 2]``, the better one first. Two rows of equal score make no pair. What is drawn depends on
the generator alone; scores stand in the order in which the responses were drawn, never sorted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pippin.core.errors import InputError


def gumbel_top_k(rewards_N: np.ndarray, k: int, beta: float, rng: np.random.Generator) -> np.ndarray:
    """``k`` of the rows: those with the largest r/β + G, G ~ Gumbel(0, 1), largest first.

    For k = 1 an exact draw from softmax(r/β); for more, draws without replacement (Plackett-Luce). β = 0 takes the best
    ones, β = ∞ any. Source: Kool et al. 2019 (arXiv 1903.06059), section 2.

    Raises:
        InputError: there are fewer than ``k`` rows, or β is negative.
    """
    _check(len(rewards_N), k, beta)
    noise_N = rng.gumbel(size=len(rewards_N))
    keys = rewards_N if beta == 0 else rewards_N / beta + noise_N
    return np.argsort(-keys, kind="stable")[:k]


def statistical_rejection(rewards_N: np.ndarray, k: int, beta: float, rng: np.random.Generator) -> np.ndarray:
    """``k`` of the rows by rejection sampling as published, in order of acceptance.

    Passes over the rows not yet accepted, in shuffled order; each is accepted with probability exp((r - r_max)/β),
    r_max the largest of those left when the pass began. Exact only where k is small beside N and rewards are dense: for
    three rows and k = 1 it favours the best. Source: Liu et al. 2023 (arXiv 2309.06657), algorithm 1, on row numbers,
    so that equal texts stay apart.

    Raises:
        InputError: there are fewer than ``k`` rows, or β is negative.
    """
    _check(len(rewards_N), k, beta)
    accepted: list[int] = []
    left = list(range(len(rewards_N)))
    while len(accepted) < k:
        most = max(rewards_N[i] for i in left)
        for i in rng.permutation(left).tolist():
            chance = float(rewards_N[i] == most) if beta == 0 else np.exp((rewards_N[i] - most) / beta)
            if rng.random() < chance:
                accepted.append(i)
                if len(accepted) == k:
                    break
        left = [i for i in left if i not in set(accepted)]
    return np.array(accepted, dtype=np.int64)


SAMPLERS = {"gumbel": gumbel_top_k, "paper": statistical_rejection}


def first_round(scores_K: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random disjoint pairs, K/2 at most (Liu et al. 2023, section 3.3, first-round-rank)."""
    order = rng.permutation(len(scores_K)).tolist()
    return _decided(list(zip(order[0::2], order[1::2], strict=False)), scores_K)


def tournament(scores_K: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Winner and loser of each of the K-1 matches of a knock-out: neighbours meet, then the winners.

    The first round is drawn; who has no opponent goes on, and so does either of two equals. Source: Zhao et al. 2023
    (arXiv 2305.10425), section 3.2.
    """
    playing, matches = rng.permutation(len(scores_K)).tolist(), []
    while len(playing) > 1:
        met = list(zip(playing[0::2], playing[1::2], strict=False))
        matches += met
        winners = [i if scores_K[i] >= scores_K[j] else j for i, j in met]
        playing = winners + playing[2 * len(met) :]
    return _decided(matches, scores_K)


def random_pairs(scores_K: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` different pairs with r(w) > r(l), uniform over all such pairs; all of them where there are fewer."""
    better = [(i, j) for i in range(len(scores_K)) for j in range(len(scores_K)) if scores_K[i] > scores_K[j]]
    chosen = rng.permutation(len(better))[:count].tolist()
    return _pairs([better[n] for n in chosen])


def best_and_worst(scores_K: np.ndarray) -> np.ndarray:
    """The one pair of the highest and the lowest score, the first of equals; none where all are equal."""
    if len(scores_K) < 2:
        return _pairs([])
    return _decided([(int(np.argmax(scores_K)), int(np.argmin(scores_K)))], scores_K)


def _decided(pairs: Sequence[tuple[int, int]], scores_K: np.ndarray) -> np.ndarray:
    """Each pair with the better row first, without those of equal score."""
    return _pairs([(i, j) if scores_K[i] > scores_K[j] else (j, i) for i, j in pairs if scores_K[i] != scores_K[j]])


def _pairs(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _check(rows: int, k: int, beta: float) -> None:
    if not 0 < k <= rows:
        raise InputError("more responses are to be kept than were drawn", found=f"{k} of {rows}")
    if beta < 0:
        raise InputError("the temperature of the reward is not negative", found=beta)
