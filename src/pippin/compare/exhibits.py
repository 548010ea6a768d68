"""What stands beside a study's comparisons: over-optimisation, checks of judges, learning curves, examples."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from pippin import stats
from pippin.compare.cells import Plan
from pippin.compare.study import Study
from pippin.compare.values import Said
from pippin.core.store import Store
from pippin.data import files

Json = dict[str, Any]
LEARNING = ("loss", "rewards/accuracies", "objective/scores", "objective/kl", "eval/score")


def curve(name: str, seed: int, cell: Json | None, spec: Json) -> Json:
    """Proxy and gold of best-of-n over n, with what gold does where the proxy still rises."""
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


def check(name: str, seed: int, cell: Json | None, study: Study) -> Json:
    """How often a judge agrees with the study's judge, with an interval over prompts."""
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


def learning(plan: Plan, store: Store) -> list[Json]:
    """What every training run logged over its steps, for the metrics of :data:`LEARNING`."""
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


def examples(plan: Plan, store: Store, said: Said, decoding: str, count: int = 8) -> list[Json]:
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
