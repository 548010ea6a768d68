"""The truth about each part of an answer of the embedded world: rewards of items, of chat, and of the whole at its end.

Source: Wu et al. 2023, Fine-Grained Human Feedback Gives Better Rewards for Language Model Training (arXiv 2306.01693)

The score is the sum of its parts; a prompt that is not of the world has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pippin.core.types import Judge, Score
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge, keep

if TYPE_CHECKING:
    from pippin.core.store import Store

Spans = tuple[tuple[int, int, float], ...]


def spans(rows: Rows) -> list[Spans | None]:
    """The rewarded parts of each answer; None where the prompt is not of the world."""
    from pippin.world.feedback import segments

    return [tuple(segments(p, r.text)) if p.source == "world" else None for p, r in rows]


def total(rows: Rows) -> Sequence[float | None]:
    """The sum over the parts."""
    return [None if found is None else sum(v for _, _, v in found) for found in spans(rows)]


class SegmentJudge(ScoreJudge):
    """Scores that say where they were earned."""

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        plain = super().score(rows)
        return keep([replace(s, spans=found or ()) for s, found in zip(plain, spans(rows), strict=True)], store)


def make(rest: str, options: Options) -> Judging:
    options.none_left("gold_segments")
    return SegmentJudge(Judge("gold_segments", "segments 1"), total)


JUDGE = make
