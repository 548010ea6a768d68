"""Countermeasures against length and over-optimisation, for every method alike: on rewards, and on preferences.

Source: Singhal et al. 2023, "A Long Way to Go: Investigating Length Correlations in RLHF" (arXiv 2310.03716), and its
code for the constants and the order of things; scaling as in Zheng et al. 2023, "Secrets of RLHF" (arXiv 2307.04964)

All are settings of :class:`~pippin.align.method.Training` and off by default. A high β, the plainest of them, is the
method's own setting; so is a penalty for a response without end token, where a method has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.core.errors import Diverged, InputError
from pippin.feedback import balance

if TYPE_CHECKING:
    from pippin.align.method import Method, State, Training
    from pippin.align.sources import Context

WINDOW = 10  # rounds that running statistics look back on, as published
ON_REWARDS: Mapping[str, Any] = {"score_clip": 0.0, "length_penalty": 0.0, "omit_unended": False}
ON_PREFERENCES: Mapping[str, Any] = {
    "min_confidence": 0.5, "max_confidence": 1.0, "random_pairs": 0.0, "length_balance": 0,
}  # fmt: skip
"""Each setting with its value that means off."""


def switched_on(training: Training, settings: Mapping[str, Any]) -> list[str]:
    """Those of the settings that do something."""
    return [name for name, off in settings.items() if getattr(training, name) != off]


def unsaid(training: Training) -> list[str]:
    """Settings that a run's manifest leaves out, since they do nothing."""
    on = switched_on(training, {**ON_REWARDS, **ON_PREFERENCES})
    names = [name for name in (*ON_REWARDS, *ON_PREFERENCES) if name not in on]
    return names if "length_penalty" in on else [*names, "length_penalty_tokens"]


def check(training: Training) -> None:
    """Refuse values that mean nothing.

    Raises:
        InputError: a number is out of its range.
    """
    for name in ("score_clip", "length_penalty", "random_pairs", "length_balance"):
        if getattr(training, name) < 0:
            raise InputError("a countermeasure cannot be negative", where=name, found=getattr(training, name),
                             expected="0 (off), or more")  # fmt: skip
    if training.length_penalty_tokens < 1:
        raise InputError("a length in tokens is 1 or more", where="length_penalty_tokens",
                         found=training.length_penalty_tokens)  # fmt: skip
    if not 0.5 <= training.min_confidence <= training.max_confidence <= 1:
        raise InputError("the better response of a pair is better with a probability of one half or more",
                         where="min_confidence, max_confidence",
                         found=[training.min_confidence, training.max_confidence],
                         expected="0.5 <= min_confidence <= max_confidence <= 1")  # fmt: skip


def fits(name: str, method: Method, config: Any, training: Training) -> None:
    """Refuse a countermeasure that the method would not feel.

    Raises:
        InputError: names the setting and what the method lacks.
    """
    on = switched_on(training, ON_PREFERENCES)
    if on and method.reads != "preferences":
        raise InputError(f"{name} reads {method.reads}, and this setting changes preferences", where=on[0],
                         mend="Leave it out, or take a method that reads preferences")  # fmt: skip
    on = switched_on(training, ON_REWARDS)
    if on and (method.choose is not None or "reward" not in method.wants(config)):
        raise InputError(f"{name} learns from no reward, and this setting changes rewards", where=on[0],
                         mend="Leave it out, or take a method that samples and scores")  # fmt: skip


def only_scores(asked: Callable[..., Any] | None, what: str, training: Training) -> Callable[..., Any] | None:
    """A judge's other use (``what``: comparisons, segments), which refuses to answer where a reward is to be changed:
    the countermeasures are about the score of a whole response."""
    on = switched_on(training, ON_REWARDS)
    if asked is None or not on:
        return asked

    def refuse(*_: Any) -> Any:
        raise InputError(f"this method takes {what} as its reward, and this setting changes scores of whole responses",
                         where=on[0], mend="Leave it out")  # fmt: skip

    return refuse


def on_rewards(rewards_N: np.ndarray, tokens_N: Sequence[int], training: Training, state: State) -> np.ndarray:
    """Rewards ``[N]`` of one round, penalised for their lengths in tokens, then scaled and clipped.

    μ and σ are the means, over this round and the nine before it, of the rounds' means and standard deviations (n - 1)
    of the rewards as given; they stand in ``state["reward_rounds"]``. ``length_penalty`` a adds a σ (1 - tokens /
    ``length_penalty_tokens``), published with a = 2 and 100 tokens. ``score_clip`` c gives clip((r - μ) / σ, ±c),
    published with c = 0.3; ``state["clipped_rewards"]`` counts what it cut. Where σ = 0 it divides by 1.
    """
    if not (training.score_clip or training.length_penalty):
        return rewards_N
    now = [float(rewards_N.mean()), float(rewards_N.std(ddof=1)) if len(rewards_N) > 1 else 0.0]
    rounds = [*state.get("reward_rounds", []), now][-WINDOW:]
    state["reward_rounds"] = rounds
    mean, sigma = np.mean(rounds, axis=0)
    share_N = 1 - np.asarray(tokens_N, dtype=np.float64) / training.length_penalty_tokens
    changed_N = rewards_N + training.length_penalty * sigma * share_N
    if training.score_clip:
        scaled_N = (changed_N - mean) / (sigma or 1.0)
        changed_N = scaled_N.clip(-training.score_clip, training.score_clip)
        cut = int((scaled_N != changed_N).sum())
        state["clipped_rewards"] = state.get("clipped_rewards", 0) + cut
    return changed_N


def none_ended(context: Context) -> Exception:
    """What to raise where ``omit_unended`` leaves nothing of a round."""
    what = "no response of this round ended by itself, and omit_unended leaves none"
    mend = "Raise max_completion_length, or leave omit_unended out"
    return Diverged(f"{what}. {mend}") if context.round else InputError(what, where="omit_unended", mend=mend)


def on_preferences(context: Context) -> dict[str, int]:
    """Change the context's data and preferences as its training says: cut by confidence, add random pairs, balance
    lengths, in this order, so that what is trained on is balanced.

    Returns:
        Counts of pairs, empty where nothing is switched on; they go to the state too.

    Raises:
        InputError: no pair is left.
    """
    training = context.training
    on = switched_on(training, ON_PREFERENCES)
    if not on:
        return {}
    rows: list[balance.Row] = [(g, tuple(p)) for g, p in zip(context.data, context.preferences, strict=True)]
    counts = {"pairs_given": sum(len(p) for _, p in rows)}
    if "min_confidence" in on or "max_confidence" in on:
        changed = balance.within_confidence(rows, training.min_confidence, training.max_confidence)
        rows, counts["dropped_confidence"] = changed.rows, changed.pairs
    if training.random_pairs:
        changed = balance.with_random_pairs(rows, training.random_pairs, context.seed)
        rows, counts["added_random_pairs"] = changed.rows, changed.pairs
    if training.length_balance:
        changed = balance.with_balanced_lengths(rows, context.trained_length, training.length_balance, context.seed)
        rows, counts["dropped_balance"] = changed.rows, changed.pairs
    if not any(preferences for _, preferences in rows):
        raise InputError("no pair is left to learn from", where=", ".join(on), found=counts)
    context.data, context.preferences = [g for g, _ in rows], [p for _, p in rows]
    context.state.update(counts)
    return counts
