"""Every alignment method in the embedded world, at its published defaults and after the same small sweep.

    python benchmarks/methods.py --out OUT [--page docs/methods.md]

Runs `studies/methods.yaml` twice, as published (learning rates scaled) and tuned (four trials for each method on
development prompts), measures whether control tokens steer, and writes the page that sets both beside what the papers
would lead one to expect. Cells are stored: a second run reads them."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pippin import stats
from pippin.align.run import load_run
from pippin.compare import inputs
from pippin.compare.plan import plan
from pippin.compare.run import run_study
from pippin.compare.study import Study, read_study
from pippin.core import catalog
from pippin.core.store import Store
from pippin.core.types import Sampling
from pippin.lm.hf import load_policy
from pippin.world.verifier import verify

HERE = Path(__file__).resolve().parent
SAMPLED, GREEDY = "temperature 1", "greedy"
ABOVE_FEEDME = ("dpo", "ppo", "rso", "best_of_n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two reports")
    parser.add_argument("--page", type=Path, help="where the page goes; none: standard output")
    parser.add_argument("--workers", type=int, default=2)
    told = parser.parse_args()
    study = read_study(HERE.parent / "studies" / "methods.yaml")
    results = {}
    for name, varied in (("published", replace(study, tuning="published")), ("tuned", study)):
        results[name] = run_study(
            varied,
            told.out / name,
            command="python benchmarks/methods.py --out OUT",
            workers=told.workers,
            report=_say(),
        )
    page = written(study, results["published"], results["tuned"], steering(replace(study, tuning="published")))
    (told.page.write_text if told.page else sys.stdout.write)(page)


def _say():
    started = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        if not what.startswith("started"):
            print(f"{time.monotonic() - started:7.0f} s  {done}/{total}  {what}", file=sys.stderr, flush=True)

    return report


def steering(study: Study) -> dict[str, stats.Arm | object]:
    """Gold after the best control token less gold after the worst, on the test prompts, paired, over all seeds."""
    prompts = inputs.read_prompts(study.prompts.test, 0)
    out = {}
    with Store() as store:
        for arm in ("conditional", "quark"):
            sides = {"best": ([], [], []), "worst": ([], [], [])}
            for run in (r for r in plan(study).runs if r.arm.name == arm):
                folder = store.artifact(run.train)
                policy = load_policy(str(folder))
                best = policy.decoding.prefix
                for side, prefix in (("best", best), ("worst", _opposite(arm, folder, best))):
                    policy.decoding = replace(policy.decoding, prefix=prefix)
                    said = policy.respond(prompts, n=2, sampling=Sampling(1.0, 1.0, 32, run.seed))
                    by_id = {p.id: p for p in prompts}
                    values, ids, seeds = sides[side]
                    values += [verify(by_id[r.prompt_id], r.text).gold for r in said]
                    ids += [r.prompt_id for r in said]
                    seeds += [run.seed] * len(said)
            arms = {k: stats.Arm(np.array(v), np.array(i), np.array(s)) for k, (v, i, s) in sides.items()}
            out[arm] = stats.difference(arms["best"], arms["worst"])
    return out


def _opposite(arm: str, folder: Path, best: str) -> str:
    """The control token that asks for the worst that the method has learnt."""
    settings = load_run(folder)["manifest"]
    if arm == "conditional":
        return settings["method.conditional.bad_token"]
    tokens = catalog.load("methods", "quark").tokens(catalog.load("methods", "quark").config())
    return next(t for t in (tokens[0], tokens[-1]) if t != best)


def written(study: Study, published: dict, tuned: dict, steered: dict) -> str:
    """The page, in Markdown."""
    both = {"published": published, "tuned": tuned}
    rows = {name: {(r["name"], r["decoding"]): r for r in results["pooled"]} for name, results in both.items()}
    arms = list(dict.fromkeys(name for name, _ in rows["published"]))
    points = len(tuned["trials"][0]["trials"])
    lines = [
        "# Every method, one budget",
        "",
        *_filled(
            f"""{study.question} `python benchmarks/methods.py --out OUT --page docs/methods.md` runs
            [`studies/methods.yaml`](../studies/methods.yaml), which states the budget: the embedded world,
            {len(study.seeds)} training seeds, {published["pooled"][0]["n"]} held-out prompts, two answers each at
            temperature 1 and one greedily, scored by the verifier (gold, a share of 1). Differences are from the SFT
            policy that every method starts from, paired by prompt and seed, with 95 % intervals. *Published*: the
            defaults of the paper or its code, learning rates times 100. *Tuned*: the best of the same {points}
            learning rates, chosen on {_dev(study)} development prompts with one seed."""
        ),
        *_filled(tuned["decision"]),
        "| method | published, T = 1 | greedy | tuned, T = 1 | greedy | KL | length | no end |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm in arms:
        cells = [_delta(rows[kind].get((arm, d)), study.baseline, arm) for kind in both for d in (SAMPLED, GREEDY)]
        lines.append(f"| {arm} | {' | '.join(cells)} | {' | '.join(_shape(tuned, arm))} |")
    lines += [
        "",
        *_filled(
            f"""`{study.baseline}` stands with its own gold; bold: better with p < 0.05 after Holm. KL (nats per
            response, exact, from SFT), length (tokens) and the share of responses cut at 32 tokens are those of the
            tuned runs at temperature 1, means over seeds. Best-of-n's KL is the bound log n - (n-1)/n."""
        ),
    ]
    lines += _what_it_cost(tuned, arms) + _sweep(tuned) + _expected(published, tuned, steered)
    return "\n".join(lines).rstrip() + "\n"


def _filled(text: str) -> list[str]:
    """A paragraph of Markdown."""
    return [*textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False), ""]


def _dev(study: Study) -> int:
    return len(inputs.read_prompts(study.prompts.dev, 0))


def _delta(row: dict | None, base: str, arm: str) -> str:
    if row is None:
        return "none"
    if arm == base:
        return f"{row['gold_mean']:.3f} [{row['gold_low']:.3f}, {row['gold_high']:.3f}]"
    mark = "**" if row["p_holm"] is not None and row["p_holm"] < 0.05 and row["delta_low"] > 0 else ""
    return f"{mark}{row[f'delta_vs_{base}']:+.3f}{mark} [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"


def _rows(results: dict, arm: str, decoding: str = SAMPLED) -> list[dict]:
    return [r for r in results["arms"] if r["name"] == arm and r["decoding"] == decoding]


def _shape(results: dict, arm: str) -> tuple[str, str, str]:
    rows = _rows(results, arm)
    kl = [r["kl"] for r in rows if r["kl"] is not None]
    return (
        f"{np.mean(kl):.2f}" if kl else "none",
        f"{np.mean([r['mean_length'] for r in rows]):.1f}",
        f"{100 * np.mean([r['share_without_end'] for r in rows]):.1f} %",
    )


def _what_it_cost(tuned: dict, arms: list[str]) -> list[str]:
    columns = {
        "labels": "labels",
        "drawn": "policy_tokens_sampled",
        "scored": "scorer_calls",
        "trained on": "gradient_tokens",
        "seconds": "wall_clock",
    }
    lines = [
        "## What it cost",
        "",
        *_filled(
            """From the base on, SFT, feedback and reward model included; tokens in thousands; medians over seeds of the
            tuned runs, without the sweep. Seconds are of a busy machine and compare roughly."""
        ),
        "| method | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for arm in arms:
        held = []
        for name, key in columns.items():
            value = float(np.median([r["ledger"][key] for r in _rows(tuned, arm)]))
            held.append(f"{value / 1000:,.0f} k" if name in ("drawn", "trained on") else f"{value:,.0f}")
        lines.append(f"| {arm} | " + " | ".join(held) + " |")
    return [*lines, ""]


def _sweep(tuned: dict) -> list[str]:
    rows = tuned["trials"]
    points = [t["settings"]["learning_rate"] for t in rows[0]["trials"]]
    titles = [f"{p:g}" for p in points] + ["stopped as diverged", "below SFT"]
    titles += ["best of " + ", ".join(map(str, range(1, len(points) + 1))), "cost"]
    lines = [
        "## The sweep: how lucky must one be?",
        "",
        *_filled(
            f"""Gold on development prompts, one seed, temperature 1; SFT has {rows[0]["baseline"]:.3f}. *Below SFT*:
            trials whose paired interval lies below zero. *Best of k*: expected best of k of these trials. *Cost*:
            seconds of training that the sweep took, and as a multiple of the whole run that was kept."""
        ),
        f"| method | {' | '.join(titles)} |",
        "| --- |" + " ---: |" * len(titles),
    ]
    for row in rows:
        cells = [_trial(t, row["chosen"]) for t in row["trials"]]
        own = np.median([r["ledger"]["wall_clock"] for r in _rows(tuned, row["arm"])])
        cost, n = row["ledger"]["wall_clock"], len(row["trials"])
        cells += [f"{row['diverged']} of {n}", f"{_below([row])} of {n}"]
        cells += [", ".join(f"{v:.3f}" for v in row["expected_best"]), f"{cost:,.0f} s, {cost / own:.1f}"]
        lines.append(f"| {row['arm']} | {' | '.join(cells)} |")
    whole, stopped = sum(len(row["trials"]) for row in rows), sum(row["diverged"] for row in rows)
    return [
        *lines,
        "",
        f"Of {whole} trials {stopped} stopped as diverged and {_below(rows)} ended clearly below SFT.",
        "",
    ]


def _trial(trial: dict, chosen: dict) -> str:
    if trial.get("diverged"):
        return "diverged"
    return f"**{trial['value']:.3f}**" if trial["settings"] == chosen else f"{trial['value']:.3f}"


def _below(rows: list[dict]) -> int:
    return sum(t["differs"] is not None and t["differs"]["high"] < 0 for row in rows for t in row["trials"])


def _expected(published: dict, tuned: dict, steered: dict) -> list[str]:
    """What the papers lead one to expect, held against both tables."""
    lines = ["## What one would expect", "", "| claim | published | tuned |", "| --- | --- | --- |"]
    claims = [(f"{arm} above feedme", arm, "feedme") for arm in ABOVE_FEEDME]
    claims += [("ppo with ten times the pull (ppo_kl) above feedme", "ppo_kl", "feedme")]
    claims += [("fine-grained above holistic", "fine_grained", "holistic")]
    for claim, a, b in claims:
        lines.append(f"| {claim} | {_pair(published, a, b)} | {_pair(tuned, a, b)} |")
    for arm, e in steered.items():
        lines.append(f"| the best control token of {arm} above its worst | {_verdict(e.value, e.low, e.high)} | |")
    if _rows(published, "length_only"):
        told = [_longer(results) for results in (published, tuned)]
        lines.append(f"| length alone as reward makes longer, not better | {' | '.join(told)} |")
    return [*lines, ""]


def _longer(results: dict) -> str:
    base, own = (
        np.mean([r["mean_length"] for r in _rows(results, arm)]) for arm in (results["baseline"], "length_only")
    )
    row = next(r for r in results["pooled"] if r["name"] == "length_only" and r["decoding"] == SAMPLED)
    holds = "holds" if own > base and row["delta_high"] <= 0 else "cannot be told"
    return f"{holds}: length {base:.1f} to {own:.1f}, gold {_delta(row, results['baseline'], 'length_only')}"


def _pair(results: dict, a: str, b: str) -> str:
    for row in results["pairs"]:
        if row["decoding"] == SAMPLED and {row["a"], row["b"]} == {a, b}:
            sign = 1 if row["a"] == a else -1
            low, high = sorted((sign * row["low"], sign * row["high"]))
            return _verdict(sign * row["delta"], low, high)
    return "not run"


def _verdict(value: float, low: float, high: float) -> str:
    word = "holds" if low > 0 else "the contrary" if high < 0 else "cannot be told"
    return f"{word}: {value:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
