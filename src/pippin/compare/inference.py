"""What may be said of the arms: claims about these runs and about the method, apart; whether they are equivalent; the
effects of axes; where the variance comes from; what could have been found.

Of *these runs* only the prompts are random: the claim is about the policies trained here. Of *the method* training
seeds are random too: the claim is about what training again would give, and needs five runs an arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare.cells import Plan
from pippin.compare.values import METHOD, RUNS, SCOPES, Pooled, Values, comparable, contrast, correct, support
from pippin.core.types import Estimate, Scope
from pippin.stats.components import FACTORS

Json = dict[str, Any]
LEVEL = 0.05
WORDS = {
    "prompt": "prompts", "seed": "seeds", "prompt x seed": "prompts and seeds together", "sample": "sampling",
    "judge": "the judge",
}  # fmt: skip


def claims(plan: Plan, pool: Pooled) -> list[Json]:
    """Every arm against its baseline in both scopes where the runs allow them; Holm over the claims of a scope."""
    rows = [
        {
            "name": arm,
            "baseline": base,
            "decoding": decoding,
            "scope": scope,
            **_figures(found),
            **_sizes(pool, arm, decoding),
        }
        for arm, base, decoding in compared(plan, pool)
        for scope in SCOPES
        if (found := contrast((pool[arm, decoding], pool[base, decoding]), (1.0, -1.0), scope)) is not None
    ]
    return _judged(rows)


def compared(plan: Plan, pool: Pooled) -> list[tuple[str, str, str]]:
    """(arm, its baseline, decoding) of all that is compared."""
    held = ((arm, plan.baselines.get(arm), decoding) for arm, decoding in pool)
    return [(arm, base, d) for arm, base, d in held if base is not None and base != arm and (base, d) in pool]


def equivalence(plan: Plan, pool: Pooled, margin: float | None) -> Json | None:
    """Two one-sided tests of every arm against its baseline: does it differ by less than the study's margin?

    Of the two hypotheses about an arm at most one is true, so that multiplying by the number of arms bounds the error
    of all claims of a scope together.
    """
    if margin is None:
        return None
    rows: list[Json] = []
    for arm, base, decoding in compared(plan, pool):
        for scope in SCOPES:
            found = comparable((pool[arm, decoding], pool[base, decoding]), scope)
            if found is not None:
                (a, b), together = found
                reach = (-1.0, 1.0) if support(plan.judge) else None
                made = stats.equivalence(a, b, margin, together=together, support=reach)
                rows.append({
                    "name": arm, "baseline": base, "decoding": decoding, "scope": scope, "delta": made.estimate.value,
                    "low90": made.estimate.low, "high90": made.estimate.high, "p": made.p,
                    "p_below": made.p_below, "p_above": made.p_above,
                })  # fmt: skip
    for row in rows:
        tests = sum(other["scope"] == row["scope"] for other in rows)
        below, above = (row.pop(key) * tests < LEVEL for key in ("p_below", "p_above"))
        row["p_corrected"] = min(1.0, row["p"] * tests)
        row["verdict"] = _EQUIVALENCE[below, above]
    return {"margin": margin, "rows": rows}


_EQUIVALENCE = {
    (True, True): "equivalent", (True, False): "no worse", (False, True): "no better", (False, False): "cannot tell",
}  # fmt: skip


def effects(plan: Plan, pool: Pooled) -> list[Json]:
    """Main effects where several axes vary: one value of an axis against another, the other axes held equal in pairs.

    An effect is the mean difference over the combinations of the other axes that have both values. ``interaction_p``
    tests whether each combination differs from the mean of the others, times the number of such tests.
    """
    axes = list(plan.study.axes)
    points = {
        tuple(run.arm.labels.items()): run.arm.name for run in plan.runs if all(axis in run.arm.labels for axis in axes)
    }
    labels = {axis: list(dict.fromkeys(dict(point)[axis] for point in points)) for axis in axes}
    varied = {axis: values for axis, values in labels.items() if len(values) > 1}
    if len(varied) < 2:
        return []
    rows: list[Json] = []
    for axis, values in varied.items():
        reference = _reference(plan, axis, values)
        for value in (v for v in values if v != reference):
            for decoding in dict.fromkeys(d for _, d in pool):
                pairs = _partners(points, axis, value, reference, decoding, pool)
                rows += [
                    {"axis": axis, "a": value, "b": reference, "decoding": decoding, "scope": scope, **row}
                    for scope in SCOPES
                    if (row := _effect(pairs, scope)) is not None
                ]
    return _judged(rows)


def _reference(plan: Plan, axis: str, values: Sequence[str]) -> str:
    """The value that others are held against: the baseline's, else the first."""
    if plan.study.baseline in values:
        return plan.study.baseline
    base = next((run.arm for run in plan.runs if run.arm.name == plan.study.baseline), None)
    return base.labels.get(axis, values[0]) if base is not None else values[0]


def _partners(
    points: Mapping[tuple[tuple[str, str], ...], str], axis: str, a: str, b: str, decoding: str, pool: Pooled
) -> list[tuple[Values, Values]]:
    """The arms with value ``a`` and with value ``b`` that are equal in all other axes."""
    out = []
    for point, name in points.items():
        other = points.get(tuple({**dict(point), axis: b}.items()))
        if dict(point).get(axis) == a and other is not None and {(name, decoding), (other, decoding)} <= set(pool):
            out.append((pool[name, decoding], pool[other, decoding]))
    return out


def _effect(pairs: Sequence[tuple[Values, Values]], scope: Scope) -> Json | None:
    sides = [side for pair in pairs for side in pair]
    n = len(pairs)
    found = contrast(sides, [1 / n, -1 / n] * n, scope) if n else None
    if found is None:
        return None
    return {**_figures(found), "combinations": n, "interaction_p": _interaction(sides, n, scope)}


def _interaction(sides: Sequence[Values], n: int, scope: Scope) -> float | None:
    if n < 2:
        return None
    tests = range(1 if n == 2 else n)  # of two combinations each differs from the other by the same
    weights = [[w for k in range(n) for w in ((1, -1) if k == test else (-1 / (n - 1), 1 / (n - 1)))] for test in tests]
    found = [contrast(sides, w, scope) for w in weights]
    p = [made.p for made in found if made is not None and made.p is not None]
    return min(1.0, min(p) * len(tests)) if p else None


def variance(pool: Pooled) -> list[Json]:
    """Where the variance of each arm's mean comes from, and how far another training seed moves it."""
    rows = []
    for (name, decoding), side in pool.items():
        if len(np.unique(side.prompts[~np.isnan(side.values)])) < 2:
            continue
        found = stats.variance_components(side.values, side.prompts, side.seeds, side.samples)
        seeds = None
        if side.trained and side.speaks_of_method:
            e = stats.seed_deviation(side.arm(METHOD))
            seeds = {"value": e.value, "low": e.low, "high": e.high}
        rows.append({
            "name": name, "decoding": decoding, "n": found.prompts, "seeds": found.seeds,
            "components": {f: found.variance.get(f) for f in FACTORS},
            "shares": {f: found.shares.get(f) for f in FACTORS},
            "shares_of_mean": {f: found.shares_of_mean.get(f) for f in FACTORS}, "sd_of_mean": found.sd_of_mean,
            "seed_deviation": seeds, "sentence": _told(name, found, seeds),
        })  # fmt: skip
    return rows


def _told(name: str, found: stats.Components, seeds: Json | None) -> str:
    shares = ", ".join(f"{share:.0%} {WORDS[f]}" for f, share in found.shares_of_mean.items() if share >= 0.005)
    if not shares:
        return f"The mean of {name} does not vary."
    told = f"Of the variance of {name}'s mean: {shares}"
    if seeds is None:
        return f"{told}; how far another training seed would move it is not known from {found.seeds}" + (
            " run." if found.seeds == 1 else " runs."
        )
    return (
        f"{told}; another training seed moves it by {seeds['value']:.3f} [{seeds['low']:.3f}, {seeds['high']:.3f}] "
        "(one standard deviation)."
    )


def detectable(plan: Plan, pool: Pooled, decoding: str) -> Json:
    """The smallest true difference that such a study finds four times in five, for its least certain comparison.

    In the scope of the claims, at the level of the first step of Holm's correction over the arms compared.
    """
    pairs = [(pool[arm, decoding], pool[base, decoding]) for arm, base, d in compared(plan, pool) if d == decoding]
    for scope in reversed(SCOPES):
        found = [made for made in (comparable(pair, scope) for pair in pairs) if made is not None]
        sized = [(size, arms, together) for arms, together in found
                 if (size := _size(arms, together, LEVEL / len(found))) is not None]  # fmt: skip
        if sized:
            effect, arms, together = max(sized, key=lambda row: row[0])
            return _planned(effect, arms, together, scope, len(found))
    first = next(iter(pool.values()))
    return {"effect": None, "n": len(np.unique(first.prompts)), "scope": RUNS, "sentence": ""}


def _size(arms: Sequence[stats.Arm], together: bool, alpha: float) -> float | None:
    varies = stats.contrast(arms, (1.0, -1.0), together=together, bootstrap=stats.Bootstrap(interval="t"))
    if varies.high <= varies.low or varies.clusters < 2:
        return None
    return stats.detectable_difference(arms, together=together, alpha=alpha)


def _planned(effect: float, arms: Sequence[stats.Arm], together: bool, scope: Scope, comparisons: int) -> Json:
    alpha = LEVEL / comparisons
    n = len(reduce(np.intersect1d, (np.asarray(arm.clusters)[~np.isnan(np.asarray(arm.values))] for arm in arms)))
    corrected = f", corrected for {comparisons} comparisons," if comparisons > 1 else ""
    if scope == RUNS:
        more = math.ceil(_prompts_needed(effect / 2, arms, together, alpha))
        said = (
            f"With {n} prompts a difference of {effect:.3f} between these runs{corrected} is found four times in five; "
            f"half of that needs {more:,} prompts."
        )
        return {"effect": effect, "n": n, "scope": scope, "sentence": said}
    seeds = min(len(np.unique(np.asarray(arm.seeds))) for arm in arms if not arm.fixed)
    more_seeds = stats.seeds_needed(effect / 2, arms, together=together, alpha=alpha)
    needs = f"needs {more_seeds} seeds" if more_seeds else "needs more prompts, whatever the number of seeds"
    said = (
        f"With {n} prompts and {seeds} seeds an arm a difference of {effect:.3f} between methods{corrected} is found "
        f"four times in five; half of that {needs}."
    )
    return {"effect": effect, "n": n, "seeds": seeds, "scope": scope, "sentence": said}


def _prompts_needed(effect: float, arms: Sequence[stats.Arm], together: bool, alpha: float) -> int:
    sd = stats.detectable_difference(arms, together=together, prompts=1_000_000, alpha=alpha)
    unit = stats.minimum_detectable_effect(1.0, 1_000_000, alpha=alpha)
    return stats.sample_size(effect, sd / unit, alpha=alpha)


def _judged(rows: list[Json]) -> list[Json]:
    """Rows with ``p_holm``, corrected within their scope, and the verdict that follows."""
    for scope in SCOPES:
        correct(row for row in rows if row["scope"] == scope)
    for row in rows:
        sure = row["p_holm"] is not None and row["p_holm"] < LEVEL
        row["verdict"] = "better" if sure and row["low"] > 0 else "worse" if sure and row["high"] < 0 else "cannot tell"
    return rows


def _figures(found: Estimate) -> Json:
    return {"delta": found.value, "low": found.low, "high": found.high, "p": found.p, "n": found.clusters}


def _sizes(pool: Pooled, arm: str, decoding: str) -> Json:
    return {"seeds": len(np.unique(pool[arm, decoding].seeds))}
