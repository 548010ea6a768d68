"""Judges that are contestants too: whom each of them prefers, itself included, and peer rank.

Source: Li et al., "PRD: Peer Rank and Discussion Improve Large Language Model based Evaluations", 2023,
    arXiv 2307.02762.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare.meta.cell import own, to_json, tried
from pippin.compare.meta.labelled import LabelledSet
from pippin.compare.meta.verdicts import Verdicts


def peers(
    parts: Mapping[str, LabelledSet], all_verdicts: Sequence[Verdicts], bootstrap: stats.Bootstrap
) -> list[dict[str, Any]]:
    """For each set whose responses were written by judges of it: win rates by judge and by people, and peer rank."""
    rows = []
    for name, part in parts.items():
        reviewers = [v for v in all_verdicts if v.part is part and own(v).any()]
        authors = sorted(part.authors)
        if len(reviewers) < 2 or len(authors) < 2:
            continue
        wins = {
            v.name: _wins(v.part, v.rows_M, np.stack([v.original_N, v.swapped_N], axis=1), bootstrap) for v in reviewers
        }
        everyone = np.arange(len(part.pairs))
        gold = _wins(part, everyone, np.stack([part.gold_N, part.gold_N], axis=1), bootstrap)
        shares = {judge: {author: won["value"] for author, won in found.items()} for judge, found in wins.items()}
        row: dict[str, Any] = {"set": name, "win_rates": wins, "people": gold}
        if sorted(shares) == authors:
            ranked = stats.peer_rank(np.array([[shares[judge][a] for a in authors] for judge in authors]))
            row["peer_rank"] = {"scores": dict(zip(authors, map(float, ranked.scores), strict=True)),
                                "weights": dict(zip(authors, map(float, ranked.weights), strict=True))}  # fmt: skip
            weights = dict(zip(authors, ranked.weights, strict=True))
            row["jury"] = _jury(part, [v for v in reviewers if len(v.rows_M) == len(part.pairs)], weights, bootstrap)
        rows.append(row)
    return rows


def _jury(
    part: LabelledSet, reviewers: Sequence[Verdicts], weights: Mapping[str, float], bootstrap: stats.Bootstrap
) -> dict[str, Any]:
    """All reviewers as one, weighted by peer rank, in each order: agreement with people, ties being a verdict."""
    said_N_2 = sum(weights[v.name] * np.stack([v.original_N, v.swapped_N], axis=1) for v in reviewers)
    said_N, gold_N = (
        values_N_2.T.reshape(-1)
        for values_N_2 in (np.sign(said_N_2) * [1, -1], np.stack([part.gold_N, -part.gold_N], axis=1))
    )  # as shown
    clusters_N = np.tile(part.clusters_N, 2)
    return {
        "three_way": tried(lambda: stats.raw_agreement(said_N, gold_N, clusters_N, bootstrap=bootstrap)),
        "fleiss_kappa": tried(
            lambda: stats.fleiss_kappa(np.stack([gold_N, said_N], axis=1), clusters_N, bootstrap=bootstrap)
        ),
    }


def _wins(
    part: LabelledSet, rows_M: np.ndarray, said_M_2: np.ndarray, bootstrap: stats.Bootstrap
) -> dict[str, dict[str, Any]]:
    """The win rate of each author over all comparisons that it is in, both orders, a tie being half a win."""
    won: dict[str, list[float]] = {}
    at: dict[str, list[str]] = {}
    for n, orders in zip(rows_M, said_M_2, strict=True):
        pair = part.pairs[n]
        for value in orders:
            for author, sign in ((pair.first.by, 1), (pair.second.by, -1)):
                won.setdefault(author, []).append((sign * value + 1) / 2)
                at.setdefault(author, []).append(pair.prompt.id)
    made = {author: stats.mean(values, at[author], support=(0, 1), unit="win rate", bootstrap=bootstrap)
            for author, values in won.items() if not np.isnan(values).all()}  # fmt: skip
    return {author: to_json(e) or {} for author, e in sorted(made.items(), key=lambda item: -item[1].value)}
