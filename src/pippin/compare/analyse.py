"""Finished cells into results: every arm's estimate, every paired difference, and the sentence that answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare import confounds, diverged, watched
from pippin.compare.plan import ArmRun, Plan, judge_scores
from pippin.core.run import Ledger, environment
from pippin.core.store import Store
from pippin.core.types import Estimate
from pippin.data import files

Json = dict[str, Any]
LEARNING = ("loss", "rewards/accuracies", "objective/scores", "objective/kl", "eval/score")


@dataclass(frozen=True)
class Values:
    """One arm, one decoding: a value per response, its prompt, its training seed."""

    values: np.ndarray
    prompts: np.ndarray
    seeds: np.ndarray

    @property
    def arm(self) -> stats.Arm:
        return stats.Arm(self.values, self.prompts, self.seeds)


Said = dict[tuple[str, int, str], Values]  # by arm, seed, decoding


def metric_of(judge: str) -> Json:
    """Name and unit of what the study's judge gives."""
    if not judge_scores(judge):
        return {"name": "win_rate", "higher_is_better": True, "unit": "share of comparisons with the baseline"}
    name = "gold" if judge == "gold" else "score"
    return {"name": name, "higher_is_better": True, "unit": "share of 1" if judge == "gold" else f"score of {judge}"}


def analyse(plan: Plan, store: Store, command: str) -> Json:
    """The results of a study whose cells are all done (see :mod:`report` for how they are shown)."""
    plan, lost = diverged.without(plan, store)
    study, metric = plan.study, metric_of(plan.study.judge)
    name, base = metric["name"], study.baseline
    said = {(r.arm.name, r.seed, d): _values(r, key, store) for r in plan.runs for d, key in r.verdicts.items()}
    rows = [_row(r, d, plan, store, said, name) for r in plan.runs for d in r.verdicts]
    for seed in study.seeds:
        _correct([row for row in rows if row["seed"] == seed], base)
    pooled = _pooled(plan, said, name)
    sampled = next(iter(plan.runs[0].verdicts))
    found, settings, undeclared = confounds.of_plan(plan, store)
    return {
        "question": study.question,
        "decision": _decision(pooled, base, sampled, name) + diverged.told(lost, study),
        "diverged": lost,
        "baseline": base,
        "scope": pooled[0]["scope"],
        "metric": metric,
        "arms": rows,
        "pooled": pooled,
        "pairs": _pairs(plan, said),
        "confounds": found,
        "settings": settings,
        "not_declared": undeclared,
        "curves": [_curve(n, s, store.cell(key), study.curves[n]) for (n, s), key in plan.curves.items()]
        + watched.curves(plan, store, name),
        "learning": _learning(plan, store),
        "checks": [_check(n, s, store.cell(key), study) for (n, s), key in plan.checks.items()],
        "examples": _examples(plan, store, said, sampled),
        "detectable": _detectable(pooled, base, sampled),
        "reproduce": {"command": command, "study": study.text, "versions": environment()},
    }


def _values(run: ArmRun, key: str, store: Store) -> Values:
    cell = store.cell(key)
    assert cell is not None
    by_prompt: dict[str, list[float | None]] = cell["result"]["values"]
    flat = [(p, np.nan if v is None else float(v)) for p, vs in sorted(by_prompt.items()) for v in vs]
    return Values(
        np.array([v for _, v in flat]), np.array([p for p, _ in flat]), np.full(len(flat), run.seed, dtype=np.int64)
    )


def _row(run: ArmRun, decoding: str, plan: Plan, store: Store, said: Said, name: str) -> Json:
    """One arm, seed and decoding, against the baseline of the same seed and decoding."""
    study = plan.study
    mine = said[run.arm.name, run.seed, decoding]
    mean = stats.mean(mine.values, mine.prompts, support=_support(study.judge))
    answered = store.cell(run.responses[decoding])
    assert answered is not None
    result = answered["result"]
    row: Json = {
        "name": run.arm.name,
        "method": (run.external or {}).get("method") or run.arm.spec.get("method") or run.arm.name,
        "seed": run.seed,
        "decoding": decoding,
        f"{name}_mean": mean.value,
        f"{name}_low": mean.low,
        f"{name}_high": mean.high,
        "n": mean.clusters,
        "missing": mean.missing,
    }
    if run.external is None and run.train is None:
        row["method"] = run.arm.name
    against = _difference(mine, said.get((study.baseline, run.seed, decoding)))
    row |= _named(f"delta_vs_{study.baseline}", "delta", against)
    for other in study.beside:
        theirs = next((v for (a, s, _), v in said.items() if a == other and s == run.seed), None)
        beside = _difference(mine, theirs)
        row |= _named(f"delta_vs_{other}", f"delta_vs_{other}", beside)
    row |= _kl(run, decoding, store)
    return row | {
        "mean_length": result["mean_length"],
        "share_without_end": result["share_without_end"],
        "ledger": _ledger(run, plan, store, result),
        "settings": dict(run.arm.spec),
        "tuning": confounds.manifest(run, plan, store).get("tuning", confounds.NOT_DECLARED),
        "note": _note(run, store),
    }


def _difference(mine: Values, theirs: Values | None) -> Estimate | None:
    """None where there is nothing to pair: no such arm, or no prompt that both have."""
    if theirs is None or not set(mine.prompts) & set(theirs.prompts):
        return None
    return stats.difference(mine.arm, theirs.arm)


def _named(value: str, interval: str, estimate: Estimate | None) -> Json:
    """A difference under the names of results.json; nulls where there is nothing to compare with."""
    keys = {value: "value", f"{interval}_low": "low", f"{interval}_high": "high"}
    row = {k: None if estimate is None else getattr(estimate, field) for k, field in keys.items()}
    return row | {"p": None if estimate is None else estimate.p} if interval == "delta" else row


def _correct(rows: Sequence[Json], base: str = "") -> None:
    """Holm over comparisons, written into the rows as ``p_holm``; the baseline's own rows are no comparison."""
    tested = [row for row in rows if row["p"] is not None and row.get("name") != base]
    adjusted = stats.holm(np.array([row["p"] for row in tested])) if tested else []
    for row in rows:
        row["p_holm"] = None
    for row, p in zip(tested, adjusted, strict=True):
        row["p_holm"] = float(p)


def _pool(plan: Plan, said: Said) -> dict[tuple[str, str], Values]:
    """All seeds of an arm together, by (arm, decoding)."""
    out: dict[tuple[str, str], Values] = {}
    for run in plan.runs:
        for decoding in run.verdicts:
            v = said[run.arm.name, run.seed, decoding]
            before = out.get((run.arm.name, decoding))
            fields = ("values", "prompts", "seeds")
            out[run.arm.name, decoding] = (
                v if before is None else Values(*(np.concatenate([getattr(before, f), getattr(v, f)]) for f in fields))
            )
    return out


def _pooled(plan: Plan, said: Said, name: str) -> list[Json]:
    base = plan.study.baseline
    pool = _pool(plan, said)
    rows: list[Json] = []
    for (arm, decoding), v in pool.items():
        mean = stats.mean(v.values, v.prompts, seeds=v.seeds, support=_support(plan.study.judge))
        theirs = pool.get((base, decoding))
        against = None if theirs is None or arm == base else _difference(v, theirs)
        row = {
            "name": arm,
            "decoding": decoding,
            f"{name}_mean": mean.value,
            f"{name}_low": mean.low,
            f"{name}_high": mean.high,
        }
        row |= _named(f"delta_vs_{base}", "delta", against)
        for other in plan.study.beside:
            theirs = next((value for (a, _), value in pool.items() if a == other), None)
            row |= _named(f"delta_vs_{other}", f"delta_vs_{other}", None if theirs is None else _difference(v, theirs))
        row |= {"n": mean.clusters, "seeds": len(plan.study.seeds), "scope": (against or mean).scope}
        rows.append(row)
    _correct(rows, base)
    return rows


def _pairs(plan: Plan, said: Said) -> list[Json]:
    """Every pair of arms with the same decoding, pooled over seeds; Holm over all of them."""
    pool = _pool(plan, said)
    rows: list[Json] = []
    keys = list(pool)
    for k, (a, decoding) in enumerate(keys):
        for b, other in keys[k + 1 :]:
            if decoding == other and not plan_equal(pool[a, decoding], pool[b, decoding]):
                e = _difference(pool[a, decoding], pool[b, decoding])
                if e is not None:
                    rows.append(
                        {"a": a, "b": b, "decoding": decoding, "delta": e.value, "low": e.low, "high": e.high, "p": e.p}
                    )
    _correct(rows)
    return [{k: v for k, v in row.items() if k != "p"} for row in rows]


def plan_equal(a: Values, b: Values) -> bool:
    """Whether two arms are the same responses (an arm that takes another's model as it is)."""
    return a.values.shape == b.values.shape and bool(np.array_equal(a.values, b.values, equal_nan=True))


def _support(judge: str) -> tuple[float, float] | None:
    return (0.0, 1.0) if judge == "gold" or not judge_scores(judge) else None


def _kl(run: ArmRun, decoding: str, store: Store) -> Json:
    empty = {"kl": None, "kl_low": None, "kl_high": None, "kl_kind": None}
    cell = store.cell(run.kl) if run.kl and decoding != "greedy" else None
    if cell is None:
        return empty
    result = cell["result"]
    values = np.array([v for vs in result["values"].values() for v in vs])
    if result["kind"] != "exact":
        return {"kl": float(values[0]), "kl_low": None, "kl_high": None, "kl_kind": result["kind"]}
    ids = np.array([p for p, vs in result["values"].items() for _ in vs])
    if not values.any():  # the reference itself
        return {"kl": 0.0, "kl_low": 0.0, "kl_high": 0.0, "kl_kind": "exact"}
    e = stats.mean(values, ids)
    return {"kl": e.value, "kl_low": e.low, "kl_high": e.high, "kl_kind": "exact"}


def _ledger(run: ArmRun, plan: Plan, store: Store, answered: Json) -> Json:
    """What the arm cost in all: its stages, each once, and its own run. Memory is the machine's, not the arm's."""
    total = Ledger()
    for key in plan.lineage(run.train):
        done = store.cell(key)
        assert done is not None
        total = total.merge(Ledger(**done["result"]["ledger"]))
    total.add(mean_length=answered["mean_length"], share_without_end=answered["share_without_end"])
    sampled = next((d for d in run.responses if d != "greedy"), None)
    if sampled is not None:  # a property of the policy, whatever the decoding of this row
        total.add(kl=_kl(run, sampled, store)["kl"])
    return {k: v for k, v in total.to_row().items() if k != "peak_memory"}


def _note(run: ArmRun, store: Store) -> str:
    if run.train is None:
        return "made elsewhere" if run.external else ""
    done = store.cell(run.train)
    state = done["result"]["state"] if done else {}
    metrics = done["result"]["metrics"] if done else {}
    told = []
    if "n" in state:
        told.append(f"n = {state['n']}" + (", chosen on development prompts" if "development" in state else ""))
    if "best_round" in metrics:
        told.append(f"round {metrics['best_round']}, chosen on development prompts")
    return "; ".join([*told, *watched.warnings(run.train, store)])


def _decision(pooled: Sequence[Json], base: str, decoding: str, name: str) -> str:
    """The answer in one sentence, at the study's own temperature, corrected for all comparisons made."""
    rows = [r for r in pooled if r["decoding"] == decoding and r["name"] != base and r["p_holm"] is not None]
    better = [r for r in rows if r["delta_low"] > 0 and r["p_holm"] < 0.05]
    worse = [r for r in rows if r["delta_high"] < 0 and r["p_holm"] < 0.05]
    open_ = [r for r in rows if r not in better and r not in worse]
    better.sort(key=lambda r: -r[f"delta_vs_{base}"])

    def told(r: Json) -> str:
        return f"{r['name']} {r[f'delta_vs_{base}']:+.3f} [{r['delta_low']:+.3f}, {r['delta_high']:+.3f}]"

    parts = []
    if better:
        parts.append(f"better than {base}: " + ", ".join(map(told, better)))
    if worse:
        parts.append("worse: " + ", ".join(map(told, worse)))
    if open_:
        parts.append("cannot be told from it: " + ", ".join(map(told, open_)))
    n = f"{pooled[0]['n']} prompts, {pooled[0]['seeds']} seed" + ("s" if pooled[0]["seeds"] > 1 else "")
    what = {"gold": "gold", "score": "the judge's score", "win_rate": "win rate"}[name]
    if not parts:
        return f"In {what} at {decoding} ({n}) there is nothing to compare with {base}."
    return f"In {what} at {decoding} ({n}), {'; '.join(parts)}."


def _detectable(pooled: Sequence[Json], base: str, decoding: str) -> Json:
    """The smallest difference that this many prompts can show with 80 % power, from the widest interval seen."""
    rows = [r for r in pooled if r["decoding"] == decoding and r["p"] is not None]
    rows = [r for r in rows if r["delta_high"] > r["delta_low"]]
    if not rows:
        return {"effect": None, "n": pooled[0]["n"], "sentence": ""}
    widest = max(rows, key=lambda r: r["delta_high"] - r["delta_low"])
    n = widest["n"]
    sd = (widest["delta_high"] - widest["delta_low"]) / (2 * 1.96) * n**0.5
    effect = stats.minimum_detectable_effect(sd, n)
    sentence = (
        f"With {n} prompts a difference of {effect:.3f} is found four times in five; "
        f"half of that needs {stats.sample_size(effect / 2, sd):,} prompts."
    )
    return {"effect": effect, "n": n, "sentence": sentence}


def _curve(name: str, seed: int, cell: Json | None, spec: Json) -> Json:
    assert cell is not None
    result = cell["result"]
    proxy, gold = np.array(result["proxy"]), np.array(result["gold"])
    rng = np.random.default_rng(seed)
    shift, scale = proxy.mean(), proxy.std() or 1.0
    points = []
    n = 1
    while n <= proxy.shape[1]:
        g = stats.mean(stats.best_of_n(proxy, gold, n, rng), np.array(result["prompts"]))
        p = stats.mean((stats.best_of_n(proxy, proxy, n, rng) - shift) / scale, np.array(result["prompts"]))
        points.append(
            {"n": n, "kl": stats.best_of_n_kl(n), "proxy": p.value, "proxy_low": p.low, "proxy_high": p.high,
             "gold": g.value, "gold_low": g.low, "gold_high": g.high}
        )  # fmt: skip
        n *= 2
    peak = max(points, key=lambda p: p["gold"])["n"]
    if peak == points[-1]["n"]:
        note = f"gold still rises at n = {peak}"
        return {"name": name, "title": spec.get("title", name), "x": "kl", "points": points, "seed": seed, "note": note}
    last, best = (stats.best_of_n(proxy, gold, k, rng) for k in (points[-1]["n"], peak))
    fall = stats.paired(last, best, np.array(result["prompts"]))
    note = (
        f"gold peaks at n = {peak}; from there to n = {points[-1]['n']} it changes by "
        f"{fall.value:+.3f} [{fall.low:+.3f}, {fall.high:+.3f}] while the proxy rises"
    )
    return {"name": name, "title": spec.get("title", name), "x": "kl", "points": points, "seed": seed, "note": note}


def _check(name: str, seed: int, cell: Json | None, study: Any) -> Json:
    assert cell is not None
    right, untied = cell["result"]["right"], cell["result"]["untied"]
    ids = [p for p in right if untied[p]]
    e = stats.ratio(np.array([right[p] for p in ids]), np.array([untied[p] for p in ids], dtype=float), np.array(ids))
    what = f"agrees with {study.judge} on untied pairs of test prompts"
    return {
        "name": name,
        "what": what,
        "seed": seed,
        "value": e.value,
        "low": e.low,
        "high": e.high,
        "n": sum(untied.values()),
    }


def _learning(plan: Plan, store: Store) -> list[Json]:
    out = []
    names = {r.train: r.arm.name for r in reversed(plan.runs) if r.train}  # the first arm that has it names it
    for key, cell in plan.cells.items():
        folder = store.artifact(key)
        if cell.kind != "train" or folder is None or not (folder / "metrics.jsonl").is_file():
            continue
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        arm = names.get(key, cell.label.partition(" (")[0])
        for metric in LEARNING:
            points = [[line["step"], line[metric]] for line in lines if metric in line]
            if len(points) > 1:
                out.append({"arm": arm, "seed": cell.spec["seed"], "metric": metric, "points": points})
    return out


def _examples(plan: Plan, store: Store, said: Said, decoding: str, count: int = 8) -> list[Json]:
    """The first draw of every arm for the first prompts, first seed; not chosen by score."""
    first = [r for r in plan.runs if r.seed == plan.study.seeds[0] and decoding in r.responses]
    shown: dict[str, Json] = {}
    for run in first:
        folder = store.artifact(run.responses[decoding])
        if folder is None:
            continue
        mine = said[run.arm.name, run.seed, decoding]
        for prompt, response in files.read_responses(folder / "responses.jsonl"):
            if response.sample != 0 or (prompt.id not in shown and len(shown) >= count):
                continue
            value = mine.values[mine.prompts == prompt.id]
            entry = shown.setdefault(prompt.id, {"prompt": prompt.text, "arms": {}})
            score = float(value[0]) if len(value) and not np.isnan(value[0]) else None
            entry["arms"][run.arm.name] = {"text": response.text, "score": score}
    return list(shown.values())
