"""What trials on development prompts said: the settings chosen for each arm, what choosing cost, how lucky one must be.

An arm whose expected best of k trials (:func:`pippin.stats.expected_best`) is steep in k needs its one good setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare.cells import Trial
from pippin.core.errors import InputError
from pippin.core.run import Ledger
from pippin.core.store import Store
from pippin.core.types import Estimate

Json = dict[str, Any]


def read_trials(trials: Sequence[Trial], store: Store) -> tuple[Json, list[Json]]:
    """(arm -> chosen settings, one row per arm), each trial held against its arm's baseline.

    A trial that diverged leaves one where one began: for the expected best it counts as the baseline. An arm of which
    every trial diverged keeps its own settings.
    """
    by_arm: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.baseline is not None:
            by_arm.setdefault(trial.arm, []).append(trial)
    chosen: Json = {}
    rows: list[Json] = []
    for arm, tried in by_arm.items():
        against = tried[0].baseline
        base = None if against is None else _scored(against, store)
        if against is None or base is None:
            raise InputError("the baseline diverged", where=f"tuning of {arm}")
        scores = [_scored(trial, store) for trial in tried]
        means = np.array([base.value if s is None else s.value for s in scores])
        best = max((k for k, s in enumerate(scores) if s is not None), key=lambda k: means[k], default=None)
        if best is not None:
            chosen[arm] = tried[best].settings
        told = [
            {"settings": t.settings}
            | ({"diverged": True} if s is None else {"value": s.value, "low": s.low, "high": s.high})
            | {"differs": None if s is None else _differs(t, against, store)}
            for t, s in zip(tried, scores, strict=True)
        ]
        rows.append(
            {
                "arm": arm,
                "baseline": base.value,
                "trials": told,
                "chosen": None if best is None else tried[best].settings,
                "expected_best": stats.expected_best(means).tolist(),
                "diverged": sum(s is None for s in scores),
                "ledger": _cost(tried, store),
            }
        )
    return chosen, rows


def _values(trial: Trial, store: Store) -> tuple[np.ndarray, np.ndarray] | None:
    cell = store.cell(trial.verdicts)
    assert cell is not None
    if "diverged" in cell["result"]:
        return None
    flat = [(p, np.nan if v is None else v) for p, vs in sorted(cell["result"]["values"].items()) for v in vs]
    return np.array([v for _, v in flat], dtype=float), np.array([p for p, _ in flat])


def _scored(trial: Trial, store: Store) -> Estimate | None:
    values = _values(trial, store)
    return None if values is None else stats.mean(*values)


def _differs(trial: Trial, base: Trial, store: Store) -> Json | None:
    """The paired difference from the baseline on the same prompts."""
    mine, theirs = _values(trial, store), _values(base, store)
    if mine is None or theirs is None:
        return None
    e = stats.difference(*(stats.Arm(v, p, np.zeros(len(v), dtype=np.int64)) for v, p in (mine, theirs)))
    return {"delta": e.value, "low": e.low, "high": e.high}


def _cost(trials: Sequence[Trial], store: Store) -> Json:
    """What the trials' own training spent; the stages that they stand on are the study's."""
    total = Ledger()
    for key in dict.fromkeys(t.train for t in trials if t.train):
        done = store.cell(key)
        if done is not None and "ledger" in done["result"]:
            total = total.merge(Ledger(**done["result"]["ledger"]))
    return {k: v for k, v in total.to_row().items() if k != "peak_memory"}
