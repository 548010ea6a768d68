"""Judging the judges: what a judge says on pairs whose better response is known.

Per set, never pooled unasked: accuracy and agreement of the two orders, what accuracy hides (right in both orders,
split, wrong in both), position and length bias, what is missing and what it could change, and the trivial rules
beside it all.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4
    (accuracy averaged over both orders, agreement); the rest is named in ``stats.bias`` and ``stats.agreement``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pippin import stats
from pippin.compare.recordings import LABEL, read_recordings
from pippin.compare.verdicts import Verdicts, about, ask, benchmark_data, labelled_sets, recorded
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Estimate, Outcome
from pippin.data.reader import Benchmark
from pippin.judge.judging import Judging
from pippin.judge.resolve import resolve

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.lm.protocols import Answers

Policy = Literal["counted", "published"]
POLICIES: Mapping[Policy, str] = {
    "counted": "a missing verdict is left out, counted, and bounded by its best and worst case; a tie is half right",
    "published": "as in the paper's code: a missing verdict is wrong, and two missing ones agree",
}
DEFAULT = stats.Bootstrap(resamples=2000)
BASELINES = ("rule/first", "rule/longer", "rule/shorter")


def meta(
    benchmark: str,
    judges: Sequence[str | Judging] = (),
    *,
    data: str | Path | None = None,
    recordings: str | Path | None = None,
    parser: str = "",
    policy: Policy | None = None,
    seed: int = 0,
    limit: int | None = None,
    sets: Sequence[str] = (),
    against: str = "",
    resamples: int = 2000,
    store: Store | None = None,
    models: Mapping[str, Answers] | None = None,
) -> dict[str, Any]:
    """Meta-evaluate judges and recordings of judges on a benchmark.

    Args:
        benchmark: a reader with ``BENCHMARK``, or a file of preferences.
        judges: names as ``judge.resolve`` takes them, or judges.
        data: where the benchmark's data lie; with recordings, by default the folder ``datasets`` beside them.
        recordings: a folder of recorded evaluators, read with ``parser``.
        parser: ``llmbar`` is the published one; empty is each strategy's own, and ``pippin-2`` for recordings.
        policy: what becomes of missing verdicts; by default ``published`` with the published parser, else ``counted``.
        limit: at most so many pairs of each set.
        sets: which sets; by default those that make up the benchmark.
        against: the name of a judge here; all others are compared with it, paired, corrected by Holm within each set.

    Returns:
        Plain values for JSON: ``cells`` (one per judge and set), ``baselines`` (the same for the trivial rules that
        were not asked for), ``means`` over sets where the benchmark defines any, ``differences``, ``sets``,
        ``skipped``, and what was asked for.

    Raises:
        InputError: no data, no judge, or data whose labels do not fit the recordings.
    """
    read_with = parser or "pippin-2"
    policy = policy or ("published" if read_with == LABEL else "counted")
    if policy not in POLICIES:
        raise UnknownName("policy", policy, POLICIES)
    description, groups = benchmark_data(benchmark, data, recordings)
    wanted = tuple(sets) or description.sets
    parts = labelled_sets(groups, wanted, limit)
    recordings_of, skipped = read_recordings(recordings, read_with) if recordings else ([], [])
    here = [r for r in recordings_of if r.set in parts]
    skipped += [{"file": f"{r.llm}__{r.strategy}", "why": f"no data of the set {r.set} are read"}
                for r in recordings_of if r.set not in parts]  # fmt: skip
    everything = [recorded(r, parts[r.set], limit) for r in here]
    given = {"parser": parser, "seed": seed, "models": models, "groups": groups}
    for judge in judges:
        working = resolve(judge, **given) if isinstance(judge, str) else judge
        everything += [ask(working, part, store) for part in parts.values()]
    if not everything:
        raise InputError("nothing to evaluate", mend="Name a judge, or a folder with --recordings")
    beside = [name for name in BASELINES if name not in {v.name for v in everything}]
    rules = [ask(resolve(name), part, None) for name in beside for part in parts.values()]
    bootstrap = stats.Bootstrap(resamples=resamples, seed=seed)
    return {
        "benchmark": benchmark,
        "parser": parser or "each strategy's own",
        "policy": policy,
        "policy_says": POLICIES[policy],
        "seed": seed,
        "resamples": resamples,
        "human_agreement": description.human,
        "note": description.note,
        "sets": {name: about(part) for name, part in parts.items()},
        "cells": [cell(v, policy, bootstrap) for v in everything],
        "baselines": [cell(v, policy, bootstrap) for v in rules],
        "means": _means([*everything, *rules], description, policy, bootstrap),
        "differences": _differences([*everything, *rules], against, policy, bootstrap) if against else [],
        "skipped": skipped,
    }


def cell(v: Verdicts, policy: Policy, bootstrap: stats.Bootstrap = DEFAULT) -> dict[str, Any]:
    """All that is said of one judge on one set. Counts are of pairs; a tie is half a correct verdict."""
    n = len(v.gold_N)
    original_N, swapped_N = (_credit(said_N, v.gold_N, policy) for said_N in (v.original_N, v.swapped_N))
    same_N = _same(v, policy)
    both_N = np.concatenate([original_N, swapped_N])
    pairs_N = np.tile(v.clusters_N, 2)
    right = (np.nansum(original_N), np.nansum(swapped_N))
    given = 2 * n - int(np.isnan(both_N).sum())
    correct, equal = float(sum(right)), float(np.nansum(same_N))
    compared = n - int(np.isnan(same_N).sum())
    row: dict[str, Any] = {
        "set": v.set, "llm": v.llm, "strategy": v.strategy, "n": n,
        "correct_original_order": _whole(right[0]), "correct_swapped_order": _whole(right[1]),
        "correct_both_orders": int(((original_N == 1) & (swapped_N == 1)).sum()), "equal": _whole(equal),
        "accuracy_pct": correct / 2 / (given / 2) * 100 if given else None,
        "agreement_pct": equal / compared * 100 if compared else None,
        "outcomes": dict(sorted(v.outcomes.items())),
    }  # fmt: skip
    row["accuracy"] = _mean(both_N, pairs_N, bootstrap, "accuracy")
    row["agreement"] = _mean(same_N, v.clusters_N, bootstrap, "share of pairs")
    row["swap_averaged"] = _mean(_averaged(v, policy), v.clusters_N, bootstrap, "accuracy")
    row["accuracy_bounds"] = _bounds(both_N)
    heard = [_credit(said_N, v.gold_N, "counted") for said_N in (v.original_N, v.swapped_N)]  # silence is no error here
    triple = stats.consistency(heard[0], heard[1], v.clusters_N, bootstrap=bootstrap)
    row["consistency"] = {name: to_json(value) for name, value in vars(triple).items()}
    row["first_shown"] = _position(v, bootstrap)
    row["length"] = None if v.longer_N is None else _length(v, bootstrap)
    return row


def table(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The rows that a person reads: judges of each set, best first, and the trivial rules among them."""
    rows = []
    ranked = [*result["cells"], *result["baselines"]]
    for name in result["sets"]:
        here = [row for row in ranked if row["set"] == name]
        rows += [_line(row) for row in sorted(here, key=lambda r: -(r["accuracy_pct"] or 0.0))]
    for row in result["means"]:
        line = dict.fromkeys(rows[0], "") if rows else {}
        line |= {"set": f"mean: {row['name']}", "judge": row["judge"], "n": str(row["n"])}
        rows.append(line | {"accuracy %": _percent(row["accuracy"])})
    return rows


def to_json(value: Estimate | None) -> dict[str, Any] | None:
    """An Estimate as plain values."""
    return None if value is None else asdict(value)


def _line(row: Mapping[str, Any]) -> dict[str, str]:
    shares = row["consistency"]
    return {
        "set": row["set"], "judge": _title(row), "n": str(row["n"]),
        "accuracy %": _percent(row["accuracy"]), "agreement %": _percent(row["agreement"]),
        "right/split/wrong %": "/".join(f"{100 * shares[key]['value']:.0f}" for key in ("right", "split", "wrong")),
        "first shown %": _percent(row["first_shown"]),
        "gold longer/shorter %": "/".join(_point((row["length"] or {}).get(f"accuracy_gold_{key}"))
                                          for key in ("longer", "shorter")),
        "missing": str(sum(count for name, count in row["outcomes"].items() if Outcome(name).missing)),
    }  # fmt: skip


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['llm']}:{row['strategy']}" if row["strategy"] else row["llm"]


def _percent(value: Mapping[str, float] | None) -> str:
    return "-" if value is None else f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _point(value: Mapping[str, float] | None) -> str:
    return "-" if value is None else f"{100 * value['value']:.0f}"


def _credit(said_N: np.ndarray, gold_N: np.ndarray, policy: Policy) -> np.ndarray:
    credit_N = (said_N * gold_N + 1) / 2
    return np.nan_to_num(credit_N, nan=0.0) if policy == "published" else credit_N


def _same(v: Verdicts, policy: Policy) -> np.ndarray:
    same_N = (v.original_N == v.swapped_N).astype(float)
    none_N, any_N = np.isnan([v.original_N, v.swapped_N]).all(0), np.isnan([v.original_N, v.swapped_N]).any(0)
    if policy == "published":
        return np.where(none_N, 1.0, same_N)
    return np.where(any_N, np.nan, same_N)


def _averaged(v: Verdicts, policy: Policy) -> np.ndarray:
    """Credit of one verdict from both orders: of the mean log-odds where both are known, else of the mean verdict."""
    with np.errstate(divide="ignore", invalid="ignore"):
        odds_N = sum(np.log(p) - np.log1p(-p) for p in (v.p_original_N, v.p_swapped_N)) / 2
    verdict_N = np.where(np.isnan(odds_N), (v.original_N + v.swapped_N) / 2, odds_N)
    return _credit(np.sign(verdict_N), v.gold_N, policy)


def _mean(values_N: np.ndarray, clusters_N: np.ndarray, bootstrap: stats.Bootstrap, unit: str) -> dict[str, Any] | None:
    if np.isnan(values_N).all():
        return None
    return to_json(stats.mean(values_N, clusters_N, support=(0, 1), unit=unit, bootstrap=bootstrap))


def _bounds(values_N: np.ndarray) -> list[float]:
    """Accuracy if every missing verdict were wrong, and if every one were right."""
    return [float(np.nan_to_num(values_N, nan=fill).mean()) for fill in (0.0, 1.0)]


def _position(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any] | None:
    shown_N = np.concatenate([v.original_N, -v.swapped_N])
    if not (np.abs(shown_N) == 1).any():
        return None
    return to_json(stats.position_bias(shown_N, np.tile(v.clusters_N, 2), bootstrap=bootstrap))


def _length(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any]:
    assert v.longer_N is not None
    twice = [np.tile(values, 2) for values in (v.longer_N, v.clusters_N, v.gold_N)]
    said_N = np.concatenate([v.original_N, v.swapped_N])
    found = stats.length_bias(said_N, twice[0], twice[1], gold=twice[2], bootstrap=bootstrap)
    return {name: to_json(value) for name, value in vars(found).items()}


def _means(
    all_verdicts: Sequence[Verdicts], description: Benchmark, policy: Policy, bootstrap: stats.Bootstrap
) -> list[dict[str, Any]]:
    """Unweighted means over the sets that the field averages, resampled within each set."""
    by_judge: dict[str, dict[str, Verdicts]] = {}
    for v in all_verdicts:
        by_judge.setdefault(v.name, {})[v.set] = v
    rows = []
    for title, names in description.means:
        for judge, held in by_judge.items():
            if not set(names) <= set(held):
                continue
            values_N, clusters_N, strata_N = _stacked([held[name] for name in names], policy)
            if np.isnan(values_N).all():
                continue
            made = stats.mean(
                values_N, clusters_N, strata=strata_N, support=(0, 1), unit="accuracy", bootstrap=bootstrap
            )
            rows.append({"name": title, "sets": list(names), "judge": judge, "n": len(values_N) // 2,
                         "accuracy": to_json(made)})  # fmt: skip
    return rows


def _stacked(several: Sequence[Verdicts], policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Credits of both orders, with clusters that are told apart by set, and the sets."""
    values, clusters, strata = [], [], []
    for v in several:
        values += [_credit(v.original_N, v.gold_N, policy), _credit(v.swapped_N, v.gold_N, policy)]
        clusters += [f"{v.set}/{prompt}" for prompt in np.tile(v.clusters_N, 2)]
        strata += [v.set] * (2 * len(v.gold_N))
    return np.concatenate(values), np.array(clusters), np.array(strata)


def _differences(
    all_verdicts: Sequence[Verdicts], against: str, policy: Policy, bootstrap: stats.Bootstrap
) -> list[dict[str, Any]]:
    """Accuracy of every judge less that of ``against`` on the same pairs; p corrected within each set."""
    names = {v.name for v in all_verdicts}
    if against not in names:
        raise UnknownName("judge in this comparison", against, names)
    rows = []
    for other in [v for v in all_verdicts if v.name == against]:
        rivals = [v for v in all_verdicts if v.set == other.set and v.name != against]
        found = []
        for v in rivals:
            ours, theirs = (_stacked([one], policy) for one in (v, other))
            if len(ours[0]) == len(theirs[0]) and not np.isnan(ours[0] - theirs[0]).all():
                made = stats.paired(ours[0], theirs[0], ours[1], support=(-1, 1), unit="accuracy", bootstrap=bootstrap)
                found.append((v, made))
        corrected = stats.holm([made.p if made.p is not None else math.nan for _, made in found]) if found else []
        rows += [{"set": v.set, "judge": v.name, "against": against, "difference": to_json(replace(made, p=float(p)))}
                 for (v, made), p in zip(found, corrected, strict=True)]  # fmt: skip
    return rows


def _whole(count: float) -> int | float:
    return int(count) if count == int(count) else float(count)
