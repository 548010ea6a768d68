"""From characters of a text to the tokens that wrote them: where a reward for a part of a response belongs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pippin.core.errors import InputError

Span = tuple[int, int, float]  # characters from, to, reward


def token_ends(decode: Callable[[Sequence[int]], str], ids: Sequence[int], text: str) -> list[int]:
    """For each token how many characters of ``text`` are whole once it is there ``[T]``; never falling.

    ``text`` is what the ids decode to, perhaps stripped. Found by decoding ever longer beginnings, so that tokens that
    join words, or that hold only part of a character's bytes, are placed by what can be read: a character counts with
    the token that completes it.
    """
    whole = decode(ids)
    lead = len(whole) - len(whole.lstrip()) if whole.lstrip().startswith(text) else 0
    ends, so_far = [], 0
    for t in range(1, len(ids) + 1):
        so_far = max(so_far, _common(decode(ids[:t])[lead:], text))
        ends.append(so_far)
    return ends


def token_rewards(spans: Sequence[Span], ends: Sequence[int], text: str) -> np.ndarray:
    """Rewards ``[T]``: each span's on the token that completes it, several on one token added.

    A span that ends where the text ends is placed on the last token: that the response is over is known only there.
    Source: Wu et al. 2023 (arXiv 2306.01693), section 3 and their code.

    Raises:
        InputError: a span lies outside the text.
    """
    rewards = np.zeros(len(ends))
    for start, stop, value in spans:
        if not 0 <= start <= stop <= len(text) or not np.isfinite(value):
            raise InputError("a segment must lie within its response, and its reward must be a number",
                             found=(start, stop, value), expected=f"0 <= from <= to <= {len(text)}")  # fmt: skip
        done = next((t for t, e in enumerate(ends) if e >= stop), len(ends) - 1)
        rewards[len(ends) - 1 if stop == len(text) else done] += value
    return rewards


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
