"""What was said of a group's responses, as arrays by row: numbers, strengths of preferences, demonstrations. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pippin.core.types import Choice, Group, Preference, Ranking, Score

LABEL = "label"  # criterion of scores that are 1 (desirable) or 0 (undesirable)
OVERALL = "overall"


def stated(group: Group) -> dict[str, np.ndarray]:
    """For each criterion ``[K]``: the mean of the numbers that its authors gave; NaN where nobody gave one."""
    return {criterion: _mean(list(rows.values())) for criterion, rows in _rows(group).items()}


def scores(group: Group) -> np.ndarray | None:
    """``[K]``, by the authors who scored every response, None where there is none; the mean where there are several.

    The criterion is ``overall``; without it, the only one beside labels.
    """
    rows = _rows(group)
    rows.pop(LABEL, None)
    if OVERALL not in rows and len(rows) != 1:
        return None
    by_author = rows[OVERALL] if OVERALL in rows else next(iter(rows.values()))
    whole = [row for row in by_author.values() if not np.isnan(row).any()]
    return _mean(whole) if whole else None


def strengths(group: Group, preferences: Sequence[Preference]) -> tuple[float, ...]:
    """How strong each preference is: the mean size of the strengths stated by choices that agree with it; else 0."""
    place = {response.id: k for k, response in enumerate(group.responses)}
    found: dict[tuple[int | None, int | None], list[float]] = defaultdict(list)
    for choice in group.judgements:
        if isinstance(choice, Choice) and choice.outcome.decided and choice.strength is not None:
            i, j = place.get(choice.first), place.get(choice.second)
            better = (i, j) if choice.credit(choice.first) == 1 else (j, i)
            found[better].append(abs(choice.strength))
    return tuple(float(np.mean(found[p.i, p.j])) if (p.i, p.j) in found else 0.0 for p in preferences)


def demonstrations(group: Group) -> frozenset[int]:
    """Rows that no judgement speaks of and no policy drew: they were given as they should be."""
    judged: set[str] = set()
    for judgement in group.judgements:
        match judgement:
            case Choice():
                judged |= {judgement.first, judgement.second}
            case Ranking():
                judged |= set(judgement.responses)
            case Score():
                judged.add(judgement.response)
            case _:
                continue
    return frozenset(k for k, r in enumerate(group.responses) if r.id not in judged and r.sampling is None)


def _rows(group: Group) -> dict[str, dict[str, np.ndarray]]:
    """Criterion to author to ``[K]``; an author's repeated scores of a response count by their mean."""
    place = {response.id: k for k, response in enumerate(group.responses)}
    values: dict[str, dict[str, list[list[float]]]] = {}
    for score in group.judgements:
        if isinstance(score, Score) and score.value is not None and score.response in place:
            by_author = values.setdefault(score.criterion, {})
            rows = by_author.setdefault(score.by, [[] for _ in group.responses])
            rows[place[score.response]].append(score.value)
    return {
        criterion: {by: np.array([np.mean(v) if v else np.nan for v in rows]) for by, rows in by_author.items()}
        for criterion, by_author in values.items()
    }


def _mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """``[K]``: the mean over rows, without NaN; NaN where every row has it."""
    table = np.stack(rows)
    count = (~np.isnan(table)).sum(0)
    return np.where(count > 0, np.nansum(table, axis=0) / np.maximum(count, 1), np.nan)
