"""What a study will cost, before it is run: CPU seconds, tokens, labels, calls, money; and what it did cost.

Seconds are counts (:mod:`counts`) times rates of this machine (:mod:`calibration`), corrected by what cells of the same
kind, method and model took here before: a run of a study that was planned records their CPU seconds over what the
counts alone said. ``--plan`` stores its estimate too, so that the results can set it against what was used.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pippin.compare import appended, calibration
from pippin.compare.calibration import Rates
from pippin.compare.cells import Cell, Plan
from pippin.compare.counts import Asked, Counts, Scene
from pippin.compare.study import INNER, Study
from pippin.core.errors import PippinError
from pippin.core.store import Store
from pippin.core.types import Message, Prompt, Response, assistant, digest

Json = dict[str, Any]
SPREAD = 1.5  # by which an estimate without a record of its like may be off
EXTRAPOLATED = 2.5  # and for a model that is larger than what was measured
LEAST = 1.15  # and whatever the record
RECORDS = 20  # of runs with a kind of cell that are looked at, the latest
ANALYSIS = "analysis"
STARTING = "starting"


def estimate(
    study: Study,
    plan: Plan,
    before: Sequence[Mapping[str, Cell]],
    store: Store,
    *,
    workers: int = 2,
    reused: Collection[str] = (),
) -> Json:
    """What the cells that are not in the store will take.

    Args:
        study: as its file says it.
        plan: of all of it; of its last look, where it takes several.
        before: cells that are run before the plan's own, set by set: trials of a tuning, earlier looks.
        workers: processes that work at once, started anew for each set.
        reused: cells of the plan that one of those before will stand for.

    Returns:
        ``cells``: how many are ``to_run`` and ``stored``; ``cpu_seconds``: ``planned``, ``low``, ``high``; ``minutes``
        at this number of workers, likewise; ``tokens``: ``sampled``, ``gradient``; ``labels``; ``calls`` of judging
        models; ``money`` in US dollars: ``low``, ``high``, or None where the price of a judge is not known, which
        ``unpriced`` names; ``unknown``: labels of cells whose model is not at hand, so that their time is not known;
        ``by_kind``: CPU seconds.

    Raises:
        PippinError: this machine's speed could not be measured, or a file cannot be read.
    """
    waves = [*before, plan.cells]
    cells = {key: cell for wave in waves for key, cell in wave.items()}
    missing = {key: cell for key, cell in cells.items() if key not in reused and store.cell(key) is None}
    parts, scene, counted = _parts(cells, missing, store)
    if missing:
        starts = sum(min(workers, sum(key in missing for key in wave)) for wave in waves)
        small, _ = calibration.calibrated(store)
        parts[STARTING] = _part(STARTING, starts * small.start, store)
        parts[ANALYSIS] = _part(ANALYSIS, _analysis(plan, scene, small), store)
    for key, part in parts.items():
        part["label"] = cells[key].label if key in cells else key
    made = _summed(parts.values())
    asked = [one for c in counted.values() for one in c.asked]
    judges = sorted({one.judge for one in asked})
    judged = {judge: _forecast(judge, [one for one in asked if one.judge == judge]) for judge in judges}
    unpriced = sorted(judge for judge, told in judged.items() if told["price"] is None)
    money = [sum(told["price"][end] for told in judged.values() if told["price"]) for end in (0, 1)]
    here = [f"verdicts of {judge}" for judge, told in sorted(judged.items()) if told["here"]]
    row = {
        "cells": {"to_run": len(missing), "stored": sum(store.cell(key) is not None for key in cells)},
        "cpu_seconds": made,
        "minutes": _minutes(parts, cells, workers, made),
        "tokens": {name: round(sum(getattr(c, key) for c in counted.values()))
                   for name, key in (("sampled", "drawn"), ("gradient", "gradient_tokens"))},
        "labels": round(sum(c.labels for c in counted.values())),
        "calls": round(sum(told["calls"] for told in judged.values())),
        "money": None if unpriced else {"low": round(money[0], 2), "high": round(money[1], 2)},
        "unpriced": unpriced,
        "unknown": [cells[key].label for key, part in parts.items() if part.get("unknown")] + here,
        "by_kind": _by_kind(parts, cells),
    }  # fmt: skip
    appended.append(store, {"parts": parts, "row": row}, "estimate", _study(study))
    return row


def latest(study: Study, store: Store) -> Json | None:
    """The last estimate that ``--plan`` made of a study: ``parts`` (cell key, or what else takes time -> seconds) and
    ``row`` as :func:`estimate` gave it; None where there is none."""
    return next(reversed(list(appended.rows(store, "estimate", _study(study)))), None)


def learn(estimated: Json | None, spent: Mapping[str, float], cells: Mapping[str, Cell], store: Store) -> None:
    """Record what a run took (part -> CPU seconds) beside what the counts alone said, a kind of part at a time, for the
    next estimate. Starting workers is left out: a run may have more of them than its plan."""
    by_kind: dict[tuple[Any, ...], list[float]] = {}
    for key, part in _told(estimated, spent, cells).items():
        if part["of"] and key != STARTING:
            total = by_kind.setdefault(tuple(part["of"]), [0.0, 0.0])
            total[0] += spent[key]
            total[1] += part["counted"]
    for of, (used, counted) in by_kind.items():
        if used > 0 and counted > 0:
            appended.append(store, {"ratio": used / counted}, "cost", *of)


def compare(estimated: Json | None, spent: Mapping[str, float], study: Study, plan: Plan, store: Store) -> Json | None:
    """What a finished run was to take and what it took, as ``estimate`` of its results; of the first run that was
    whole, so that a later one, which finds its cells stored, tells the same. None where nothing was planned.

    Args:
        spent: part -> CPU seconds of this run; empty where it ran no cell.
        study: as its file says it.
        plan: what was run of it.
    """
    name = ("spent", _study(study), sorted(plan.cells))
    done = next(appended.rows(store, *name), None)
    if done is not None or not spent or estimated is None:
        return done
    told = _summed(_told(estimated, spent, plan.cells).values())
    row = {
        "cpu_seconds": {**told, "used": round(sum(spent.values()), 2)},
        **{name: estimated["row"][name] for name in ("cells", "tokens", "labels", "calls", "money")},
    }
    appended.append(store, row, *name)
    return next(appended.rows(store, *name))


def _told(estimated: Json | None, spent: Mapping[str, float], cells: Mapping[str, Cell]) -> dict[str, Json]:
    """What was estimated of each part that was spent on. A cell under settings that trials chose has another key than
    it was planned under, and the same label."""
    parts = estimated["parts"] if estimated else {}
    by_label = {part["label"]: part for part in parts.values()}
    found = {key: parts.get(key) or by_label.get(cells[key].label if key in cells else key) for key in spent}
    return {key: part for key, part in found.items() if part}


def _study(study: Study) -> str:
    return digest({key: value for key, value in asdict(study).items() if key not in INNER})


def _parts(
    cells: Mapping[str, Cell], missing: Mapping[str, Cell], store: Store
) -> tuple[dict[str, Json], Scene, dict[str, Counts]]:
    """Seconds of every missing cell by key; the scene; their counts."""
    parts, counted = dict[str, Json](), dict[str, Counts]()
    if not missing:
        return parts, Scene(cells, 0.0), counted
    small, _ = calibration.calibrated(store)
    scene = Scene(cells, small.length)
    for key, cell in missing.items():
        counted[key] = scene.count(cell)
        policy = cell.spec.get("policy") or cell.spec.get("model")
        parameters = scene.model(policy).parameters if policy else 0
        if parameters is None:
            parts[key] = {"of": [], "counted": 0.0, "planned": 0.0, "low": 0.0, "high": 0.0, "unknown": True}
            continue
        grows = parameters > 1.5 * small.parameters
        rates = small.at(parameters, calibration.calibrated(store, larger=True)[1] if grows else None)
        of = [cell.kind, cell.spec.get("method", ""), parameters, calibration.machine()]
        parts[key] = _part(cell.kind, seconds(counted[key], rates), store, of, EXTRAPOLATED if grows else SPREAD)
    return parts, scene, counted


def seconds(counts: Counts, rates: Rates) -> float:
    """CPU seconds of counts at the rates of a model of the right size."""
    per = {"loads": rates.load, "rows": rates.row, "runs": rates.run, "passes": rates.pass_, "steps": rates.step}
    same = ("trained", "forward", "drawn", "scored", "compared")
    n = counts.numbers()
    return sum(n[name] * rate for name, rate in per.items()) + sum(n[name] * getattr(rates, name) for name in same)


def _part(kind: str, counted: float, store: Store, of: list[Any] | None = None, spread: float = SPREAD) -> Json:
    """One part of an estimate: what counts say, corrected by the record, and between what."""
    of = of or [kind, calibration.machine()]
    ratios = [row["ratio"] for row in appended.rows(store, "cost", *of)][-RECORDS:]
    middle = float(np.median(ratios)) if ratios else 1.0
    if len(ratios) > 1:
        spread = max(LEAST, max(ratios) / middle, middle / min(ratios))
    planned = counted * middle
    return {"of": of, "counted": counted, "planned": planned, "low": planned / spread, "high": planned * spread}


def _summed(parts: Iterable[Json]) -> Json:
    """CPU seconds of parts together; their errors go together too, so ends add up."""
    told = list(parts)
    return {name: round(sum(part[name] for part in told), 2) for name in ("planned", "low", "high")}


def _minutes(parts: Mapping[str, Json], cells: Mapping[str, Cell], workers: int, total: Json) -> Json:
    """Minutes on a quiet machine: the longest chain of cells that need each other, or the work shared out."""
    ends: dict[str, float] = {}

    def end(key: str) -> float:
        if key not in ends:
            ends[key] = parts.get(key, {"planned": 0.0})["planned"] + max(map(end, cells[key].needs), default=0.0)
        return ends[key]

    alone = parts.get(ANALYSIS, {"planned": 0.0})["planned"]
    at_once = total["planned"] - alone
    planned = alone + max(at_once / workers, max(map(end, cells), default=0.0))
    scale = planned / total["planned"] / 60 if total["planned"] else 0.0
    return {name: round(value * scale, 2) for name, value in total.items()}


def _by_kind(parts: Mapping[str, Json], cells: Mapping[str, Cell]) -> Json:
    out: dict[str, float] = {}
    for key, part in parts.items():
        kind = cells[key].kind if key in cells else key
        out[kind] = out.get(kind, 0.0) + part["planned"]
    return {kind: round(value, 2) for kind, value in out.items()}


def _analysis(plan: Plan, scene: Scene, rates: Rates) -> float:
    """CPU seconds of estimates and differences, which take longer with more prompts."""
    runs = [(run, decoding) for run in plan.runs for decoding in run.verdicts]
    by_way: dict[str, set[str]] = {}
    for run, decoding in runs:
        by_way.setdefault(decoding, set()).add(run.arm.name)
    arms = sum(map(len, by_way.values()))
    number = (2 + len(plan.study.beside)) * (len(runs) + arms) + 6 * arms + len(plan.checks) + 14 * len(plan.curves)
    number += sum(math.comb(len(names), 2) for names in by_way.values())
    first = plan.runs[0]
    prompts = scene.prompts(first.evaluation["prompts"], first.policy).prompts
    return number * rates.interval * (0.2 + 0.8 * prompts / calibration.INTERVAL)


def _forecast(judge: str, asked: Sequence[Asked]) -> Json:
    """Calls, price and whether it runs ``here``, of a model's verdicts: on a stand-in as long as what it will read, for
    each set of questions. The price is None where that of a model is not known, or the judge cannot be asked."""
    from pippin.judge.ask import Pair
    from pippin.judge.resolve import resolve

    calls, price, known, here = 0.0, [0.0, 0.0], True, False
    for _, kind, number, read, length in asked:
        try:
            judging = resolve(judge)
            prompt = Prompt((Message("user", "word " * max(1, round(read - 2 * length))),))
            sides = [Response(prompt.id, assistant(f"{k} " + "word " * max(1, round(length)))) for k in "ab"]
            voters = [one for one in getattr(judging, "judges", [judging]) if hasattr(one, "forecast")]
            told = [one.forecast([Pair(prompt, *sides)]) for one in voters]
        except PippinError:  # its model, key or file is not at hand
            told = []
        share = number if kind == "compare" else number / 2  # a score is asked once, a pair in both orders
        calls += share * (sum(one.requests for one in told) if told else 2)
        known &= bool(told) and all(one.price is not None for one in told)
        here |= any(one.price == (0.0, 0.0) for one in told)
        price = [total + share * sum(one.price[end] for one in told if one.price) for end, total in enumerate(price)]
    return {"calls": calls, "price": price if known else None, "here": here}
