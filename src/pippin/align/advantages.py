"""From the rewards of groups to advantages: pure functions of arrays, no model and no file.

A group is the K responses drawn for one prompt, so that the others of a group say what was to be expected of it. Where
all rewards of a group are equal its advantages are exactly zero: such a group has no gradient, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pippin.align.shapes import Batch, Example

EPSILON = 1e-4  # TRL's, added to the deviation


def leave_one_out(rewards_K: np.ndarray) -> np.ndarray:
    """r_i - mean of the others, ``[K]``: RLOO (Kool et al. 2019; Ahmadian et al. 2024, eq. 8).

    Equal to K/(K-1) (r_i - mean). A response alone has nothing to be compared with: 0.
    """
    k = len(rewards_K)
    if k < 2:
        return np.zeros(k)
    return _centred(rewards_K) * k / (k - 1)


def group_relative(
    groups: Sequence[np.ndarray], scale: Literal["group", "batch", "none"] = "group"
) -> list[np.ndarray]:
    """(r_i - mean of the group) / (std + 1e-4), one ``[K]`` per group: GRPO (Shao et al. 2024, section 4.1.2).

    ``scale``: std of the group (Bessel), of all rewards of the batch, or no division (Liu et al. 2025).
    """
    if scale == "none":
        return [_centred(r) for r in groups]
    whole = _deviation(np.concatenate(groups))
    return [_centred(r) / ((whole if scale == "batch" else _deviation(r)) + EPSILON) for r in groups]


def share_without_spread(groups: Sequence[np.ndarray]) -> float:
    """The share of groups whose rewards are all equal: they give no gradient."""
    return float(np.mean([np.ptp(r) <= 1e-8 * max(1.0, float(np.abs(r).max())) for r in groups]))


def by_group(examples: Sequence[Example]) -> list[list[int]]:
    """Row numbers of each group, in order of appearance."""
    rows: dict[int, list[int]] = {}
    for i, example in enumerate(examples):
        rows.setdefault(example.group, []).append(i)
    return list(rows.values())


def rollout_figures(batch: Batch, scores: np.ndarray) -> dict[str, float]:
    """What every method that samples logs of a rollout, by TRL's names. Lengths are in tokens."""
    lengths = np.array([e.length for e in batch.examples])
    ended = np.array([e.value["ended"] for e in batch.examples])
    spread = [_deviation(scores[rows]) for rows in by_group(batch.examples)]
    return {
        "reward": float(scores.mean()),
        "reward_std": float(np.mean(spread)),
        "objective/scores": float(scores.mean()),
        "completions/mean_length": float(lengths.mean()),
        "completions/clipped_ratio": float(1 - ended.mean()),
    }


def _centred(rewards_K: np.ndarray) -> np.ndarray:
    """Less the mean; exactly zero where all are equal, whatever rounding makes of their mean."""
    return np.zeros(len(rewards_K)) if np.ptp(rewards_K) == 0 else rewards_K - rewards_K.mean()


def _deviation(rewards_K: np.ndarray) -> float:
    return float(rewards_K.std(ddof=1)) if len(rewards_K) > 1 else 0.0
