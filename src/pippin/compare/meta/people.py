"""Judges beside people: the human ceiling, and whether a judge could stand in for one of them.

Source: named in ``stats.raters``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare.meta.cell import to_json, tried
from pippin.compare.meta.labelled import LabelledSet
from pippin.compare.meta.verdicts import Verdicts


def people(
    parts: Mapping[str, LabelledSet], all_verdicts: Sequence[Verdicts], bootstrap: stats.Bootstrap
) -> list[dict[str, Any]]:
    """For each set with several votes: how far people agree, and every judge by the same yardstick."""
    rows = []
    for name, part in parts.items():
        if part.votes_N_R is None or len(part.people) < 2:
            continue
        votes_N_R = part.votes_N_R
        full_N = (~np.isnan(votes_N_R)).sum(axis=1) > 1
        if not full_N.any():
            continue
        votes, clusters = votes_N_R[full_N], part.clusters_N[full_N]
        rows.append({
            "set": name, "people": list(part.people), "pairs": int(full_N.sum()),
            "ceiling": tried(lambda v=votes, c=clusters: stats.human_ceiling(v, c, bootstrap=bootstrap)),
            "fleiss_kappa": tried(lambda v=votes, c=clusters: stats.fleiss_kappa(v, c, bootstrap=bootstrap)),
            "alpha": tried(lambda v=votes, c=clusters: stats.krippendorff_alpha(v, c, bootstrap=bootstrap)),
            "judges": [_judge(v, bootstrap) for v in all_verdicts if v.part is part],
        })  # fmt: skip
    return rows


def _judge(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any]:
    """One verdict per pair from both orders (a contradiction is a tie), against the people's votes."""
    assert v.part.votes_N_R is not None
    said_N = stats.combine_orders(v.original_N, v.swapped_N)
    one_N = np.where(np.isnan(said_N), np.where(np.isnan(v.original_N), v.swapped_N, v.original_N), said_N)
    votes_N_R, clusters_N = v.part.votes_N_R[v.rows_M], v.clusters_N
    known_N = ~np.isnan(one_N)
    row: dict[str, Any] = {"judge": v.name, "against_people": None, "alternative_annotator": None}
    if not known_N.any():
        return row
    votes, clusters, said = votes_N_R[known_N], clusters_N[known_N], one_N[known_N]
    row["against_people"] = tried(lambda: stats.against_others(said, votes, clusters, bootstrap=bootstrap))
    test = stats.alternative_annotator(said, votes, clusters, bootstrap=bootstrap)
    row["alternative_annotator"] = {
        "omega": test.omega, "rho": to_json(test.rho), "passed": test.passed, "epsilon": test.epsilon,
        "usable": test.usable, "why": test.why,
    }  # fmt: skip
    return row
