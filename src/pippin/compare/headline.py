"""The answer of a comparison in one sentence: as it was stated where arms are few, counted where they are many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pippin.compare import wording as w
from pippin.compare.tables import Names, arm_rows, decodings, is_baseline, tone
from pippin.compare.wording import Results

ARMS = 3  # beside the baseline; with more the sentence counts them


def headline(results: Results) -> str:
    """The decision in one sentence with its interval: the highest arm, and how many are better, worse, or neither.

    With few arms it is the sentence of the results, which names each.
    """
    stated = str(results.get("decision") or "No decision was stated.")
    names, arms = Names.of(results), arm_rows(results)
    first = next(iter(decodings(arms)), "")
    rows = [a.shown for a in arms if a.decoding == first and not is_baseline(a.shown, names)]
    rows = [row for row in rows if w.finite(row.get(names.delta[0])) is not None]
    if len(rows) <= ARMS:
        return stated
    best = (max if names.higher_is_better else min)(rows, key=lambda row: row[names.delta[0]])
    tones = [tone(row, names) for row in rows]
    where = f" at {first}" if first else ""
    extreme = "Highest" if names.higher_is_better else "Lowest"
    parts = [
        f"{extreme} is {best['name']}, {_estimate(best, names)} against {names.baseline} in {names.metric}{where}.",
        f"{tones.count('better')} of {len(rows)} arms are better than {names.baseline}, "
        f"{tones.count('worse')} worse, {tones.count('unclear')} cannot be told from it ({_size(best)}).",
    ]
    lost = len({str(row["arm"]) for row in w.items(results, "diverged")})
    if lost:
        parts.append(f"{lost} {'arm' if lost == 1 else 'arms'} diverged in some seeds, which these figures leave out.")
    return " ".join(parts)


def _estimate(row: Mapping[str, Any], names: Names) -> str:
    value, low, high = (row.get(key) for key in names.delta)
    return w.plain(w.estimate(value, low, high, signed=True))


def _size(row: Mapping[str, Any]) -> str:
    seeds = w.finite(row.get("seeds"))
    told = f", {w.count(seeds)} seed{'' if seeds == 1 else 's'}" if seeds else ""
    return f"{w.count(row.get('n'))} prompts{told}"
