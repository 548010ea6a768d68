"""What the judge gave every arm: one value per response (or verdict), with its prompt, training seed and sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare.cells import ArmRun, Plan
from pippin.compare.spec import judge_scores
from pippin.core.store import Store
from pippin.core.types import Estimate, Scope
from pippin.stats.resampling import DEFAULT, SEEDS_FOR_THE_METHOD, Bootstrap

Json = dict[str, Any]
RUNS: Scope = "these runs"
METHOD: Scope = "the method"
SCOPES: tuple[Scope, ...] = (RUNS, METHOD)
MANY = 5000  # prompts


@dataclass(frozen=True)
class Values:
    """One arm, one decoding, arrays of shape (N,). Several values of one sample are several verdicts on one response.

    ``policies``: what answered, one for each run that was trained; ``behind``: the training and feedback cells of these
    runs; ``trained``: whether the arm has training to repeat (a model taken as it is has none).
    """

    values: np.ndarray
    prompts: np.ndarray
    seeds: np.ndarray
    samples: np.ndarray
    policies: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    trained: bool = True

    def arm(self, scope: Scope = RUNS) -> stats.Arm:
        """As statistics take it: without seeds where the runs are taken as they are."""
        return stats.Arm(self.values, self.prompts, self.seeds if scope == METHOD else None, fixed=not self.trained)

    @property
    def speaks_of_method(self) -> bool:
        """Whether there are runs enough to say what training again would give."""
        return not self.trained or len(self.policies) >= SEEDS_FOR_THE_METHOD

    def only(self, keep_N: np.ndarray) -> Values:
        """The rows that are kept."""
        return replace(self, **{f: getattr(self, f)[keep_N] for f in ("values", "prompts", "seeds", "samples")})

    def same(self, other: Values) -> bool:
        """Whether two arms are the same responses (an arm that takes another's model as it is)."""
        return self.values.shape == other.values.shape and bool(
            np.array_equal(self.values, other.values, equal_nan=True)
        )


Said = Mapping[tuple[str, int, str], Values]  # by arm, seed, decoding
Pooled = Mapping[tuple[str, str], Values]  # by arm, decoding


def support(judge: str) -> tuple[float, float] | None:
    """The range of what a judge gives, where it is known; of several judges in one name, of their kind."""
    return (0.0, 1.0) if judge == "gold" or not judge_scores(judge.partition(", ")[0]) else None


def read(plan: Plan, store: Store) -> Said:
    """The values of every run of a study whose cells are done."""
    return {(r.arm.name, r.seed, d): _values(r, d, plan, store) for r in plan.runs for d in r.verdicts}


def pooled(plan: Plan, said: Said) -> Pooled:
    """All seeds of an arm together."""
    parts: dict[tuple[str, str], list[Values]] = {}
    for run in plan.runs:
        for decoding in run.verdicts:
            parts.setdefault((run.arm.name, decoding), []).append(said[run.arm.name, run.seed, decoding])
    return {key: joined(found) for key, found in parts.items()}


def contrast(
    sides: Sequence[Values], weights: Sequence[float], scope: Scope, bootstrap: Bootstrap | None = None
) -> Estimate | None:
    """A weighted sum of arms' means in one scope; None where there is nothing to pair or too few runs for the scope.

    Seeds are drawn together where arms stand on the same runs (a stage that they share), else each arm's apart. From
    :data:`MANY` prompts on, the interval and p are Student's unless ``bootstrap`` says otherwise.
    """
    found = comparable(sides, scope)
    if found is None:
        return None
    arms, together = found
    if bootstrap is None:  # at so many prompts both say the same, and resampling fifty arms' pairs takes hours
        many = min(len(np.unique(side.prompts)) for side in sides) >= MANY
        bootstrap = Bootstrap(interval="t") if many else DEFAULT
    return stats.contrast(arms, weights, together=together, bootstrap=bootstrap)


def comparable(sides: Sequence[Values], scope: Scope) -> tuple[list[stats.Arm], bool] | None:
    """The arms as statistics take them in one scope, and whether their seeds are drawn together; None as above."""
    if not len(reduce(np.intersect1d, [side.prompts[~np.isnan(side.values)] for side in sides])):
        return None
    if scope == RUNS:
        return [side.arm() for side in sides], False
    if not all(side.speaks_of_method for side in sides) or not any(side.trained for side in sides):
        return None
    trained = [side for side in sides if side.trained]
    together = any(a.behind & b.behind for n, a in enumerate(trained) for b in trained[n + 1 :])
    if together:
        common = reduce(np.intersect1d, [side.seeds for side in trained])
        if len(common) < SEEDS_FOR_THE_METHOD:
            return None
        sides = [side.only(np.isin(side.seeds, common)) if side.trained else side for side in sides]
    return [side.arm(METHOD) for side in sides], together


def difference(mine: Values, theirs: Values | None) -> Estimate | None:
    """Mine less theirs, in the widest scope that the runs allow; None where there is nothing to pair."""
    if theirs is None:
        return None
    return contrast((mine, theirs), (1.0, -1.0), METHOD) or contrast((mine, theirs), (1.0, -1.0), RUNS)


def correct(rows: Iterable[Json], key: str = "p") -> None:
    """Holm over the rows that have a p-value, written into all of them as ``p_holm``."""
    rows = list(rows)
    tested = [row for row in rows if row[key] is not None]
    adjusted = stats.holm(np.array([row[key] for row in tested])) if tested else []
    for row in rows:
        row["p_holm"] = None
    for row, p in zip(tested, adjusted, strict=True):
        row["p_holm"] = float(p)


def _values(run: ArmRun, decoding: str, plan: Plan, store: Store) -> Values:
    judged, answered = store.cell(run.verdicts[decoding]), store.cell(run.responses[decoding])
    assert judged is not None
    by_prompt: dict[str, list[float | None]] = judged["result"]["values"]
    told: dict[str, list[Any]] = (answered["result"].get("lengths") if answered else None) or {}
    flat = [
        (np.nan if v is None else float(v), p, n // max(1, len(vs) // max(1, len(told.get(p, vs)))))
        for p, vs in sorted(by_prompt.items())
        for n, v in enumerate(vs)
    ]
    return Values(
        np.array([v for v, _, _ in flat], dtype=np.float64),
        np.array([p for _, p, _ in flat]),
        np.full(len(flat), run.seed, dtype=np.int64),
        np.array([n for _, _, n in flat], dtype=np.int64),
        frozenset([run.policy]),
        frozenset(plan.lineage(run.train)),
        trained=run.train is not None or run.external is not None,
    )


def joined(parts: Sequence[Values]) -> Values:
    """Several runs as one arm."""
    values, prompts, seeds, samples = (
        np.concatenate([getattr(v, f) for v in parts]) for f in ("values", "prompts", "seeds", "samples")
    )
    return Values(
        values, prompts, seeds, samples,
        frozenset().union(*(v.policies for v in parts)),
        frozenset().union(*(v.behind for v in parts)),
        any(v.trained for v in parts),
    )  # fmt: skip
