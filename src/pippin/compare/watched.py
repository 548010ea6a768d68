"""What the training runs of a study saw when they looked at themselves: curves of proxy and gold, and warnings.

:mod:`pippin.align.looking` takes the looks, on development prompts where the study has them; they change no weight.
"""

from __future__ import annotations

from typing import Any

from pippin.compare.cells import Plan
from pippin.core.store import Store

Json = dict[str, Any]
FEWEST = 4  # looks that make a curve


def curves(plan: Plan, store: Store, metric: str) -> list[Json]:
    """Proxy and gold over KL of every arm that was trained and has both at enough looks, in its first seed's run."""
    out = []
    for run in plan.runs:
        looks = [
            row for row in _watch(run.train, store).get("looks", []) if {"step", "kl", "proxy", "gold"} <= set(row)
        ]
        if run.seed != plan.study.seeds[0] or len(looks) < FEWEST:
            continue
        points = [
            {"kl": max(0.0, row["kl"]["value"]), **_span("proxy", row["proxy"]), **_span(metric, row["gold"])}
            for row in looks
        ]
        name = f"{run.arm.name}, as it was trained"
        out.append({"name": name, "title": name, "x": "kl", "points": points, "seed": run.seed,
                    "note": " ".join(f"{told.capitalize()}." for told in warnings(run.train, store))})  # fmt: skip
    return out


def warnings(train: str | None, store: Store) -> list[str]:
    """What a training run has to be told of."""
    return list(_watch(train, store).get("warnings", []))


def _watch(train: str | None, store: Store) -> Json:
    cell = store.cell(train) if train else None
    return (cell["result"].get("watch") if cell else None) or {}


def _span(name: str, estimate: Json) -> Json:
    return {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
