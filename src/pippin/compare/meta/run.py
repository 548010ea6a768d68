"""Judging the judges: what a judge says on pairs whose better response is known.

Per set, never pooled unasked: accuracy and agreement of the two orders, what accuracy hides (right in both orders,
split, wrong in both), position, length and style bias, agreement beyond chance, calibration, what is missing and what
it could change, what it cost, and the trivial rules beside it all.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4; the
    rest is named where it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin import stats
from pippin.compare.meta import between
from pippin.compare.meta.cell import POLICIES, Policy, cell, credit
from pippin.compare.meta.claims import claims
from pippin.compare.meta.labelled import LabelledSet, about, benchmark_data, labelled_sets
from pippin.compare.meta.peers import peers
from pippin.compare.meta.people import people
from pippin.compare.meta.recordings import LABEL, Recording, read_recordings
from pippin.compare.meta.verdicts import Verdicts, ask, in_data, recorded
from pippin.core.errors import InputError, UnknownName
from pippin.judge.judging import Judging, said_beforehand, spent_by
from pippin.judge.parse import DEFAULT as PARSER
from pippin.judge.resolve import resolve

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.lm.protocols import Answers

BASELINES = ("rule/first", "rule/longer", "rule/shorter")


@dataclass(frozen=True)
class Found:
    """A meta-evaluation: ``result`` as plain values for JSON, and the verdicts that it is made of."""

    result: dict[str, Any]
    parts: Mapping[str, LabelledSet] = field(default_factory=dict)
    verdicts: tuple[Verdicts, ...] = ()


def meta(benchmark: str, judges: Sequence[str | Judging] = (), **options: Any) -> dict[str, Any]:
    """The result of :func:`evaluate` alone."""
    return evaluate(benchmark, judges, **options).result


def evaluate(
    benchmark: str,
    judges: Sequence[str | Judging] = (),
    *,
    data: str | Path | None = None,
    recordings: str | Path | None = None,
    parser: str = "",
    parser_for: Mapping[str, str] | None = None,
    policy: Policy | None = None,
    seed: int = 0,
    limit: int | None = None,
    sets: Sequence[str] = (),
    against: str = "",
    repeats: int = 1,
    strategy: str = "",
    resamples: int = 2000,
    store: Store | None = None,
    models: Mapping[str, Answers] | None = None,
    budget: float | None = None,
    progress: Callable[[Any], None] | None = None,
) -> Found:
    """Meta-evaluate judges and recordings of judges on a benchmark.

    Args:
        benchmark: a reader with ``BENCHMARK``, or a file of preferences.
        judges: names as ``judge.resolve`` takes them, or judges.
        data: where the benchmark's data lie; with recordings, by default the folder ``datasets`` beside them.
        recordings: a folder of recorded evaluators, read with ``parser``.
        parser: ``llmbar`` is the published one; empty is each strategy's own, and the default one for recordings.
        parser_for: a published rule (``verdict``, ``phrase``, ``rating``) for a recording ``LLM__STRATEGY``.
        policy: what becomes of missing verdicts; by default ``published`` with the published parser, else ``counted``.
        limit: at most so many pairs of each set (prompts, where several are compared).
        sets: which sets; by default those that make up the benchmark.
        against: the name of a judge here; all others are compared with it, paired, corrected by Holm within each set.
        repeats: how often each judge is run, for the noise floor; the first run is what is reported.
        strategy: wins over the judges' own.
        budget: US dollars that all judges together may cost; what is not asked then is FAILED.

    Returns:
        The result (see the page ``docs/meta.md``) and the verdicts behind it.

    Raises:
        InputError: no data, no judge, or data whose labels do not fit the recordings.
    """
    read_with = parser or PARSER
    policy = policy or ("published" if read_with == LABEL else "counted")
    if policy not in POLICIES:
        raise UnknownName("policy", policy, POLICIES)
    description, groups, notes = benchmark_data(benchmark, data, recordings, seed=seed, limit=limit)
    parts = labelled_sets(groups, description, sets, limit)
    recordings_of, skipped = read_recordings(recordings, read_with, parser_for) if recordings else ([], [])
    skipped += [{"file": f"{r.llm}__{r.strategy}", "why": f"no data of the set {r.set} are read"}
                for r in recordings_of if r.set not in parts]  # fmt: skip
    here = [r for r in recordings_of if r.set in parts]
    everything = [recorded(r, parts[r.set], limit) for r in here]
    everything += [in_data(name, part) for part in parts.values() for name in part.judged]
    given = {"parser": parser, "seed": seed, "models": models, "groups": groups, "strategy": strategy,
             "progress": progress}  # fmt: skip
    repeated: list[list[Verdicts]] = []
    left = budget
    for judge in judges:
        runs: list[list[Verdicts]] = []
        for run in range(max(1, repeats)):
            working = _resolved(judge, run, left, given)
            runs.append([ask(working, part, store) for part in parts.values()])
            left = None if left is None else max(0.0, left - spent_by(working))
        everything += runs[0]
        repeated += [list(several) for several in zip(*runs, strict=True) if len(several) > 1]
    if not everything:
        raise InputError("nothing to evaluate", mend="Name a judge, or a folder with --recordings")
    beside = [name for name in BASELINES if name not in {v.name for v in everything}]
    rules = [ask(resolve(name), part, None) for name in beside for part in parts.values()]
    bootstrap = stats.Bootstrap(resamples=resamples, seed=seed)
    held = between.by_judge([*everything, *rules])
    result = {
        "benchmark": benchmark,
        "parser": parser or "each strategy's own",
        "policy": policy,
        "policy_says": POLICIES[policy],
        "seed": seed,
        "resamples": resamples,
        "human_agreement": description.human,
        "note": description.note,
        "warnings": list(description.warnings),
        "read": dict(notes),
        "sets": {name: about(part) for name, part in parts.items()},
        "cells": [cell(v, policy, bootstrap) for v in everything],
        "baselines": [cell(v, policy, bootstrap) for v in rules],
        "means": between.means(held, description, policy, bootstrap),
        "pooled": between.pooled(held, description, bootstrap),
        "differences": between.differences(held, against, policy, bootstrap) if against else [],
        "within_model": between.within(held, description, policy, bootstrap),
        "told_apart": between.told_apart(held, parts, policy),
        "noise": between.noise(here, repeated),
        "people": people(parts, [*everything, *rules], bootstrap),
        "peers": peers(parts, everything, bootstrap),
        "claims": claims(held, description, policy, bootstrap),
        "parser_changes": _changes(recordings, recordings_of, read_with, parser_for, parts),
        "policies": _policies(everything),
        "skipped": skipped,
    }
    return Found(result, parts, (*everything, *rules))


def forecast(
    benchmark: str,
    judges: Sequence[str],
    *,
    data: str | Path | None = None,
    recordings: str | Path | None = None,
    sets: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    store: Store | None = None,
    **given: Any,
) -> dict[str, str]:
    """What :func:`evaluate` would ask of each judge and what that would cost; nothing is asked."""
    description, groups, _ = benchmark_data(benchmark, data, recordings, seed=seed, limit=limit)
    parts = labelled_sets(groups, description, sets, limit)
    pairs = [pair for part in parts.values() for pair in part.pairs]
    return {judge: said_beforehand(resolve(judge, seed=seed, groups=groups, **given), pairs, store) for judge in judges}


def _resolved(judge: str | Judging, run: int, budget: float | None, given: Mapping[str, Any]) -> Judging:
    if not isinstance(judge, str):
        return judge
    more: dict[str, Any] = {"run": run} if run else {}
    return resolve(judge, budget=budget, **given, **more)


def _policies(everything: Sequence[Verdicts]) -> list[dict[str, Any]]:
    """Accuracy in percent under every policy for ties and missing verdicts, for judges whom it concerns."""
    rows = []
    for v in everything:
        kept_N = v.gold_N != 0
        silent = sum(not said.outcome.decided for said in (*v.original, *v.swapped))
        if silent:
            shares = {policy: _percent(v, policy, kept_N) for policy in POLICIES}
            rows.append({"judge": v.name, "set": v.set, "tied_or_missing": silent, "accuracy_pct": shares})
    return rows


def _percent(v: Verdicts, policy: Policy, kept_N: np.ndarray) -> float | None:
    both_N = np.concatenate([credit(v, k, policy)[kept_N] for k in (0, 1)])
    return None if np.isnan(both_N).all() else float(100 * np.nanmean(both_N))


def _changes(
    folder: str | Path | None,
    here: Sequence[Recording],
    read_with: str,
    overrides: Mapping[str, str] | None,
    parts: Mapping[str, LabelledSet],
) -> list[dict[str, Any]]:
    """Where the parser reads recorded texts otherwise than the published rules do."""
    if folder is None or read_with == LABEL:
        return []
    published = {(r.llm, r.strategy, r.set): r for r in read_recordings(folder, LABEL, overrides)[0]}
    rows = []
    for r in here:
        theirs = published[r.llm, r.strategy, r.set]
        for order, (ours_by, theirs_by) in (("original", (r.original, theirs.original)),
                                            ("swapped", (r.swapped, theirs.swapped))):  # fmt: skip
            rows += [
                {"judge": f"{r.llm}:{r.strategy}", "set": r.set, "pair": i, "order": order,
                 "published": str(theirs_by[i].outcome), "here": str(ours.outcome), "conflict": ours.conflict,
                 "text": ours.texts[-1][1][:400]}
                for i, ours in ours_by.items()
                if ours.outcome is not theirs_by[i].outcome and r.set in parts
            ]  # fmt: skip
    return rows


__all__ = ["BASELINES", "POLICIES", "Found", "Policy", "evaluate", "forecast", "meta"]
