"""Judges against one another: paired differences, which of them a benchmark can tell apart, and the noise floor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats as distributions

from pippin import stats
from pippin.compare.meta.cell import Policy, credit, length, position, to_json
from pippin.compare.meta.labelled import pool
from pippin.compare.meta.recordings import Recording
from pippin.compare.meta.verdicts import VALUE, Verdicts
from pippin.core.errors import UnknownName
from pippin.core.types import Estimate
from pippin.data.reader import Benchmark

ByJudge = Mapping[str, Mapping[str, Verdicts]]


def by_judge(all_verdicts: Iterable[Verdicts]) -> dict[str, dict[str, Verdicts]]:
    """Verdicts by judge and set, in the order of first appearance."""
    held: dict[str, dict[str, Verdicts]] = {}
    for v in all_verdicts:
        held.setdefault(v.name, {})[v.set] = v
    return held


def stacked(several: Sequence[Verdicts], policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Credits of both orders, with clusters that are told apart by set, and the sets."""
    values, clusters, strata = [], [], []
    for v in several:
        decided_N = v.gold_N != 0
        values += [credit(v, k, policy)[decided_N] for k in (0, 1)]
        clusters += [f"{v.set}/{prompt}" for prompt in np.tile(v.clusters_N[decided_N], 2)]
        strata += [v.set] * (2 * int(decided_N.sum()))
    return np.concatenate(values), np.array(clusters), np.array(strata)


def means(held: ByJudge, description: Benchmark, policy: Policy, bootstrap: stats.Bootstrap) -> list[dict[str, Any]]:
    """Unweighted means over the sets that the field averages, resampled within each set."""
    rows = []
    for title, names in description.means:
        for judge, by_set in held.items():
            if not set(names) <= set(by_set):
                continue
            values_N, clusters_N, strata_N = stacked([by_set[name] for name in names], policy)
            if np.isnan(values_N).all():
                continue
            made = stats.mean(
                values_N, clusters_N, strata=strata_N, support=(0, 1), unit="accuracy", bootstrap=bootstrap
            )
            rows.append({"name": title, "sets": list(names), "judge": judge, "n": len(values_N) // 2,
                         "accuracy": to_json(made)})  # fmt: skip
    return rows


def pooled(held: ByJudge, description: Benchmark, bootstrap: stats.Bootstrap) -> list[dict[str, Any]]:
    """Position and length bias over several sets as one, where the field reports them so: never for accuracy."""
    rows = []
    for title, names in description.pools:
        for judge, by_set in held.items():
            if not set(names) <= set(by_set):
                continue
            several = [by_set[name] for name in names]
            part = pool(title, [v.part for v in several])
            starts = np.cumsum([0, *(len(v.part.pairs) for v in several)])
            rows_M = np.concatenate([v.rows_M + start for v, start in zip(several, starts, strict=False)])
            original = tuple(said for v in several for said in v.original)
            swapped = tuple(said for v in several for said in v.swapped)
            v = Verdicts(part, rows_M, several[0].llm, several[0].strategy, original, swapped)
            rows.append({"name": title, "sets": list(names), "judge": judge, "n": len(rows_M),
                         "first_shown": position(v, bootstrap), "length": length(v, bootstrap)})  # fmt: skip
    return rows


def difference(
    ours: Sequence[Verdicts], theirs: Sequence[Verdicts], policy: Policy, bootstrap: stats.Bootstrap
) -> Estimate | None:
    """Accuracy of one judge less another's on the same pairs: the unweighted mean over the sets given. None where they
    did not judge the same pairs."""
    if any(len(a.rows_M) != len(b.rows_M) or (a.rows_M != b.rows_M).any() for a, b in zip(ours, theirs, strict=True)):
        return None
    (a_N, clusters_N, strata_N), (b_N, _, _) = stacked(ours, policy), stacked(theirs, policy)
    if np.isnan(a_N - b_N).all():
        return None
    strata = strata_N if len(ours) > 1 else None
    return stats.paired(a_N, b_N, clusters_N, strata=strata, support=(-1, 1), unit="accuracy", bootstrap=bootstrap)


def differences(held: ByJudge, against: str, policy: Policy, bootstrap: stats.Bootstrap) -> list[dict[str, Any]]:
    """Accuracy of every judge less that of ``against``; p corrected by Holm within each set.

    Raises:
        UnknownName: no judge here has that name.
    """
    if against not in held:
        raise UnknownName("judge in this comparison", against, held)
    rows = []
    for name, theirs in held[against].items():
        rivals = {judge: by_set[name] for judge, by_set in held.items() if judge != against and name in by_set}
        made = {judge: difference([v], [theirs], policy, bootstrap) for judge, v in rivals.items()}
        rows += [{"set": name, "judge": judge, "against": against, "difference": to_json(d)}
                 for judge, d in corrected(made).items()]  # fmt: skip
    return rows


def within(
    held: ByJudge, description: Benchmark, policy: Policy, bootstrap: stats.Bootstrap, beside: str = "vanilla"
) -> list[dict[str, Any]]:
    """For each model judged under several strategies: every strategy less plain ``vanilla``, on each mean of the
    benchmark (on each set where it has none); p corrected by Holm within a model and mean."""
    rows = []
    models: dict[str, dict[str, Mapping[str, Verdicts]]] = {}
    for by_set in held.values():
        v = next(iter(by_set.values()))
        models.setdefault(v.llm, {})[v.strategy] = by_set
    sets = list(dict.fromkeys(name for by_set in held.values() for name in by_set))
    over = description.means or tuple((name, (name,)) for name in sets)
    for llm, strategies in models.items():
        base = next((s for s in strategies if s.lower() == beside), None)
        if base is None or len(strategies) == 1:
            continue
        for title, names in over:
            if not set(names) <= set(strategies[base]):
                continue
            theirs = [strategies[base][name] for name in names]
            made = {s: difference([by_set[name] for name in names], theirs, policy, bootstrap)
                    for s, by_set in strategies.items() if s != base and set(names) <= set(by_set)}  # fmt: skip
            rows += [{"mean": title, "llm": llm, "strategy": s, "against": base, "difference": to_json(d)}
                     for s, d in corrected(made).items()]  # fmt: skip
    return rows


def corrected(made: Mapping[str, Estimate | None]) -> dict[str, Estimate]:
    """Those that are, with p corrected by Holm."""
    known = {name: d for name, d in made.items() if d is not None}
    if not known:
        return {}
    p_K = stats.holm([math.nan if d.p is None else d.p for d in known.values()])
    return {name: replace(d, p=float(p)) for (name, d), p in zip(known.items(), p_K, strict=True)}


def told_apart(held: ByJudge, sets: Iterable[str], policy: Policy, level: float = 0.95) -> list[dict[str, Any]]:
    """For each set: how many of all pairs of judges it tells apart (paired t over prompts, Holm over all pairs), which
    judges cannot be told from the best, and the difference that it could detect with power 80 %."""
    rows = []
    for name in sets:
        judges = [judge for judge, by_set in held.items() if name in by_set]
        rows_M = held[judges[0]][name].rows_M if judges else np.array([])
        credits = {
            j: _per_prompt(held[j][name], policy) for j in judges if np.array_equal(held[j][name].rows_M, rows_M)
        }
        judges = [judge for judge, credit_C in credits.items() if not np.isnan(credit_C).all()]
        if len(judges) < 2:
            continue
        credit_J_C = np.stack([credits[judge] for judge in judges])
        compared = {(i, j): _paired_t(credit_J_C[i], credit_J_C[j]) for i, j in combinations(range(len(judges)), 2)}
        pairs = [pair for pair, (_, _, p) in compared.items() if math.isfinite(p)]
        found = [compared[pair] for pair in pairs]
        if not pairs:
            continue
        p_K = stats.holm([p for _, _, p in found])
        told = {pair: bool(p < 1 - level) for pair, p in zip(pairs, p_K, strict=True)}
        best = int(np.nanargmax(np.nanmean(credit_J_C, axis=1)))
        like = [judges[k] for k in range(len(judges))
                if k != best and not told.get((min(k, best), max(k, best)), False)]  # fmt: skip
        errors = [error for _, error, _ in found if math.isfinite(error) and error > 0]
        rows.append({
            "set": name, "judges": judges, "pairs": len(pairs), "told": sum(told.values()), "best": judges[best],
            "not_told_from_best": like,
            "detectable": 2.8 * float(np.median(errors)) if errors else None,  # (z of 97.5 % + z of 80 %) errors
        })  # fmt: skip
    return rows


def noise(recordings: Sequence[Recording], repeated: Sequence[Sequence[Verdicts]]) -> list[dict[str, Any]]:
    """How much the same judge, asked the same again, contradicts itself.

    Recordings repeat themselves where several strategies begin with the same request; judges asked now repeat
    themselves where they are run several times.
    """
    rows = []
    for llm in dict.fromkeys(r.llm for r in recordings if r.explained):
        mine = [r for r in recordings if r.llm == llm and r.explained]
        if len({r.strategy for r in mine}) < 2:
            continue
        runs: dict[tuple[str, int, int], list[tuple[str, float]]] = {}
        for r in mine:
            for i, orders in r.explained.items():
                for order, one in enumerate(orders):
                    value = math.nan if one.outcome.missing else VALUE.get(one.outcome, 0.0)
                    runs.setdefault((r.set, i, order), []).append((one.texts[0][1], value))
        what = f"{llm}, first stage of {', '.join(dict.fromkeys(r.strategy for r in mine))}"
        rows.append(_noise(what, {(f"{s}/{i}", order): said for (s, i, order), said in runs.items()}))
    for several in repeated:
        runs = {}
        for v in several:
            for at, (prompt, pair) in enumerate(zip(v.clusters_N, v.rows_M, strict=True)):
                for order, said in enumerate((v.original[at], v.swapped[at])):
                    runs.setdefault((f"{prompt}/{pair}", 0, order), []).append(("", said.value))
        row = _noise(f"{several[0].name} on {several[0].set}", {(p, o): said for (p, _, o), said in runs.items()})
        accuracies = [float(np.nanmean(np.concatenate([credit(v, k, "counted") for k in (0, 1)]))) for v in several]
        rows.append(
            row | {"same_text": None, "accuracies": accuracies, "accuracy_sd": float(np.std(accuracies, ddof=1))}
        )
    return rows


def _noise(what: str, runs: Mapping[tuple[str, int], Sequence[tuple[str, float]]]) -> dict[str, Any]:
    full = {key: said for key, said in runs.items() if len(said) > 1}
    unlike = [float(len({"none" if math.isnan(v) else v for _, v in said}) > 1) for said in full.values()]
    same_text = [float(len({text for text, _ in said}) == 1) for said in full.values()]
    clusters = [pair for pair, _ in full]
    return {
        "judge": what, "repeats": max(map(len, full.values())), "calls": len(full),
        "same_text": to_json(stats.mean(same_text, clusters, support=(0, 1), unit="share of calls")),
        "not_unanimous": to_json(stats.mean(unlike, clusters, support=(0, 1), unit="share of calls")),
    }  # fmt: skip


def _per_prompt(v: Verdicts, policy: Policy) -> np.ndarray:
    """Mean credit of both orders for each prompt, in the order of the prompts' ids."""
    both_N = np.concatenate([credit(v, 0, policy), credit(v, 1, policy)])
    prompts, at_N = np.unique(np.tile(v.clusters_N, 2), return_inverse=True)
    count_C = np.bincount(at_N, ~np.isnan(both_N), len(prompts))
    total_C = np.bincount(at_N, np.nan_to_num(both_N), len(prompts))
    with np.errstate(invalid="ignore"):
        return total_C / count_C


def _paired_t(a_C: np.ndarray, b_C: np.ndarray) -> tuple[float, float, float]:
    """(difference, its standard error, p) over the prompts that both have."""
    gap_C = (a_C - b_C)[~np.isnan(a_C - b_C)]
    if len(gap_C) < 2:
        return math.nan, math.nan, math.nan
    value, error = float(gap_C.mean()), float(gap_C.std(ddof=1) / math.sqrt(len(gap_C)))
    if error == 0:
        return value, 0.0, 1.0 if value == 0 else 0.0
    return value, error, float(2 * distributions.t.sf(abs(value / error), len(gap_C) - 1))


__all__ = [
    "by_judge",
    "corrected",
    "difference",
    "differences",
    "means",
    "noise",
    "pooled",
    "stacked",
    "told_apart",
    "within",
]
