"""Finished cells into results: every arm's estimate, every paired difference, and the sentence that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare import (
    confounds,
    diverged,
    exhibits,
    imported,
    inference,
    kept,
    looks,
    studied_people,
    values,
    watched,
)
from pippin.compare.cells import ArmRun, Plan
from pippin.compare.spec import judge_scores
from pippin.compare.values import METHOD, Pooled, Said, correct, difference, support
from pippin.core.run import Ledger, environment
from pippin.core.store import Store
from pippin.core.types import Estimate

Json = dict[str, Any]


def metric_of(judge: str) -> Json:
    """Name and unit of what the study's judge gives."""
    if not judge_scores(judge.partition(", ")[0]):  # the judges of an axis are of one kind
        return {"name": "win_rate", "higher_is_better": True, "unit": "share of comparisons with the baseline"}
    name = "gold" if judge == "gold" else "score"
    return {"name": name, "higher_is_better": True, "unit": "share of 1" if judge == "gold" else f"score of {judge}"}


def analyse(plan: Plan, store: Store, command: str, looked: Json | None = None) -> Json:
    """The results of a study whose cells are all done (see :mod:`report` for how they are shown).

    Args:
        looked: what repeated looks came to (:mod:`looks`), where the study took any.
    """
    plan, lost = diverged.without(plan, store)
    study, metric = plan.study, metric_of(plan.judge)
    name, base = metric["name"], study.baseline
    said = values.read(plan, store)
    pool = values.pooled(plan, said)
    rows = [_row(r, d, plan, store, said, name) for r in plan.runs for d in r.verdicts]
    for seed in study.seeds:
        correct(row for row in rows if row["seed"] == seed and not plan.is_baseline(row["name"]))
    claimed = inference.claims(plan, pool)
    pooled = _pooled(plan, pool, claimed, name)
    sampled = next(iter(plan.runs[0].verdicts))
    if looked is not None:
        looks.apply(looked, claimed, pooled)
    found, settings, undeclared = confounds.of_plan(plan, store)
    return {
        "question": study.question,
        "decision": _decision(pooled, claimed, base, sampled, name) + looks.told(looked) + diverged.told(lost, study),
        "diverged": lost,
        "baseline": base,
        "scope": next((row["scope"] for row in pooled if row["p"] is not None), pooled[0]["scope"]),
        "metric": metric,
        "arms": rows,
        "pooled": pooled,
        "pairs": _pairs(pool),
        "claims": claimed,
        "variance": inference.variance(pool),
        "equivalence": inference.equivalence(plan, pool, study.margin),
        "effects": inference.effects(plan, pool),
        "people": kept.fact("people", lambda: studied_people.corrected(plan, store)),
        "looks": looked,
        "confounds": found,
        "settings": settings,
        "not_declared": undeclared,
        "notes": confounds.notes(plan, store),
        "manifests": {r.arm.name: confounds.manifest(r, plan, store) for r in reversed(plan.runs)},
        "curves": [exhibits.curve(n, s, store.cell(key), study.curves[n]) for (n, s), key in plan.curves.items()]
        + watched.curves(plan, store, name),
        "learning": exhibits.learning(plan, store),
        "checks": [exhibits.check(n, s, store.cell(key), study) for (n, s), key in plan.checks.items()],
        "examples": exhibits.examples(plan, store, said, sampled),
        "detectable": inference.detectable(plan, pool, sampled),
        "reproduce": {"command": command, "study": study.text, "versions": environment()},
    }


def _row(run: ArmRun, decoding: str, plan: Plan, store: Store, said: Said, name: str) -> Json:
    """One arm, seed and decoding, against the baseline of the same seed and decoding."""
    study = plan.study
    mine = said[run.arm.name, run.seed, decoding]
    mean = stats.mean(mine.values, mine.prompts, support=support(plan.judge))
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
    held = plan.baselines.get(run.arm.name)
    row["baseline"] = held
    against = difference(mine, said.get((held, run.seed, decoding)) if held else None)
    row |= _named(f"delta_vs_{study.baseline}", "delta", against)
    for other in study.beside:
        theirs = next((v for (a, s, _), v in said.items() if a == other and s == run.seed), None)
        row |= _named(f"delta_vs_{other}", f"delta_vs_{other}", difference(mine, theirs))
    row |= _kl(run, decoding, store)
    return row | {
        "mean_length": result["mean_length"],
        "share_without_end": result["share_without_end"],
        "ledger": _ledger(run, plan, store, result),
        "settings": dict(run.arm.spec),
        "tuning": confounds.manifest(run, plan, store).get("tuning", confounds.NOT_DECLARED),
        "note": _note(run, store),
    }


def _named(value: str, interval: str, estimate: Estimate | None) -> Json:
    """A difference under the names of results.json; nulls where there is nothing to compare with."""
    keys = {value: "value", f"{interval}_low": "low", f"{interval}_high": "high"}
    row = {k: None if estimate is None else getattr(estimate, field) for k, field in keys.items()}
    return row | {"p": None if estimate is None else estimate.p} if interval == "delta" else row


def _pooled(plan: Plan, pool: Pooled, claimed: Sequence[Json], name: str) -> list[Json]:
    """Every arm over all its seeds, with its claim against the baseline in the widest scope."""
    base = plan.study.baseline
    judges = {run.arm.name: run.evaluation["judge"] for run in plan.runs}
    claims = {(row["name"], row["decoding"]): row for row in claimed}  # the method follows these runs
    rows: list[Json] = []
    for (arm, decoding), v in pool.items():
        seeds = v.seeds if v.trained and v.speaks_of_method else None
        mean = stats.mean(v.values, v.prompts, seeds=seeds, support=support(judges[arm]))
        claim: Mapping[str, Any] = claims.get((arm, decoding), {})
        row: Json = {
            "name": arm,
            "baseline": plan.baselines.get(arm),
            "decoding": decoding,
            f"{name}_mean": mean.value,
            f"{name}_low": mean.low,
            f"{name}_high": mean.high,
            f"delta_vs_{base}": claim.get("delta"),
            "delta_low": claim.get("low"),
            "delta_high": claim.get("high"),
            "p": claim.get("p"),
        }
        for other in plan.study.beside:
            theirs = next((value for (a, _), value in pool.items() if a == other), None)
            row |= _named(f"delta_vs_{other}", f"delta_vs_{other}", difference(v, theirs))
        rows.append(
            row | {"n": mean.clusters, "seeds": len(np.unique(v.seeds)), "scope": claim.get("scope", mean.scope)}
        )
    correct(rows)
    return rows


def _pairs(pool: Pooled) -> list[Json]:
    """Every pair of arms with the same decoding, pooled over seeds; Holm over all of them."""
    rows: list[Json] = []
    keys = list(pool)
    for k, (a, decoding) in enumerate(keys):
        for b, other in keys[k + 1 :]:
            if decoding == other and not pool[a, decoding].same(pool[b, decoding]):
                e = difference(pool[a, decoding], pool[b, decoding])
                if e is not None:
                    rows.append(
                        {"a": a, "b": b, "decoding": decoding, "delta": e.value, "low": e.low, "high": e.high, "p": e.p}
                    )
    correct(rows)
    return [{k: v for k, v in row.items() if k != "p"} for row in rows]


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
        return "; ".join(["made elsewhere", *_notes_of_papers(run, store)]) if run.external else ""
    done = store.cell(run.train)
    state = done["result"]["state"] if done else {}
    metrics = done["result"]["metrics"] if done else {}
    told = []
    if "n" in state:
        told.append(f"n = {state['n']}" + (", chosen on development prompts" if "development" in state else ""))
    if "best_round" in metrics:
        told.append(f"round {metrics['best_round']}, chosen on development prompts")
    return "; ".join([*told, *watched.warnings(run.train, store)])


def _notes_of_papers(run: ArmRun, store: Store) -> list[str]:
    """What was noticed while an arm made elsewhere was read: answers that met no prompt, files that are not opened."""
    answered = [store.cell(key) for key in run.responses.values()]
    notes = [note for cell in answered if cell for note in cell["result"].get("notes", ())]
    path = (run.external or {}).get("path")
    if path and not notes:
        notes = kept.fact(f"notes of {path}", lambda: list(imported.read_arm(str(path)).notes))
    return list(dict.fromkeys(notes))


def _decision(pooled: Sequence[Json], claimed: Sequence[Json], base: str, decoding: str, name: str) -> str:
    """The answer in one sentence, at the study's own temperature, corrected for all comparisons made."""
    rows = [r for r in pooled if r["decoding"] == decoding and r["p_holm"] is not None]
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
    return f"In {what} at {decoding} ({n}), {'; '.join(parts)}." + _of_these_runs(open_, claimed, decoding)


def _of_these_runs(open_: Sequence[Json], claimed: Sequence[Json], decoding: str) -> str:
    """What holds of the policies trained here, where it is not known of the method."""
    unsure = {row["name"] for row in open_ if row["scope"] == METHOD}
    sure = [
        f"{row['name']} is {row['verdict']} ({row['delta']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}])"
        for row in claimed
        if row["name"] in unsure and row["decoding"] == decoding and row["scope"] != METHOD
        and row["verdict"] != "cannot tell"
    ]  # fmt: skip
    return f" Of these runs alone {', '.join(sure)}; training again may undo it." if sure else ""
