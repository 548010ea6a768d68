"""A full set of results made of nothing but a seed, for the tests of the page: every section filled, names hostile."""

from __future__ import annotations

import math
from random import Random
from typing import Any

HOSTILE_ARM = "dpo<img src=x onerror=alert(1)>|*b*"
HOSTILE_PROMPT = "</pre></script><script>alert('p')</script> Sort: b\u202egnp.exe a\x07 ![x](http://evil.example/x.png)"
HOSTILE_TEXTS = (
    '"><svg onload=alert(2)>',
    "javascript:alert(3) {{ 7 * 7 }} {% raw %}",
    "]]></style><style>*{display:none}</style>",
    "half a surrogate \ud83d and a NUL \x00 ``` fence\n# heading\n| a | b |",
    "<iframe srcdoc='<script>parent.alert(4)</script>'></iframe>&lt;b&gt;",
    "مرحبا by the way ﷽ 👩‍👩‍👧 " + "w" * 200,
    "<a href='http://evil.example'>click</a><!-- comment",
    "line one\n\n\tline two\n" * 30,
)
ARMS = ("base", "sft", "sft_filtered", "best_of_n", "expert_iteration", HOSTILE_ARM, "ppo", "ppo_weak_reward_model")
GOLD = (0.21, 0.52, 0.56, 0.66, 0.61, 0.645, 0.63, 0.47)
KL = (None, 0.0, 0.4, math.log(16) - 15 / 16, 2.6, 6.2, 9.8, 31.0)
LENGTH = (22.4, 17.1, 17.4, 18.0, 17.7, 21.9, 19.2, 30.3)
METHODS = ("none", "sft", "sft", "best_of_n", "expert_iteration", "dpo", "ppo", "ppo")
DECODINGS = ("temperature 1", "greedy")


def _row(i: int, seed: int, decoding: str, rng: Random) -> dict[str, Any]:
    greedy = decoding == "greedy"
    gold = GOLD[i] + (0.04 if greedy and i < 7 else 0.0) + rng.uniform(-0.012, 0.012)
    base = 0.56 if greedy else 0.52
    baseline = ARMS[i] == "sft"
    delta, beside = (0.0 if baseline else gold - base), gold - 0.56
    kl = None if greedy or KL[i] is None else KL[i] * (1 if METHODS[i] == "best_of_n" else 1 + 0.1 * seed)
    bound = "upper bound: log n - (n-1)/n" if METHODS[i] == "best_of_n" else "exact"
    return {
        "name": ARMS[i], "method": METHODS[i], "seed": seed, "decoding": decoding,
        "gold_mean": gold, "gold_low": gold - 0.031, "gold_high": gold + 0.03, "n": 640, "missing": 3 if i == 7 else 0,
        "delta_vs_sft": delta, "delta_low": delta - (0.0 if baseline else 0.027),
        "delta_high": delta + (0.0 if baseline else 0.026),
        "p": None if baseline else 0.004, "p_holm": None if baseline else (0.0001 if abs(delta) > 0.05 else 0.21),
        "delta_vs_sft_greedy": beside, "delta_vs_sft_greedy_low": beside - 0.03,
        "delta_vs_sft_greedy_high": beside + 0.03,
        "kl": kl, "kl_low": kl and kl * 0.93, "kl_high": kl and kl * 1.06, "kl_kind": bound if kl is not None else None,
        "mean_length": LENGTH[i] - greedy, "share_without_end": 0.021 if i == 7 else 0.0,
        "ledger": {
            "prompts_seen": 4096 * i, "policy_tokens_sampled": 183_500 * max(0, i - 2),
            "scorer_calls": 12_288 * max(0, i - 2),
            "judge_calls": 0, "labels": 3000, "gradient_tokens": 1_250_000 + 98_765 * i, "steps": 128 * i,
            "wall_clock": 11.25 * i + seed, "peak_memory": 412_000_000 + i * 9_000_000,
            "inference_multiplier": 16.0 if METHODS[i] == "best_of_n" else 1.0, "kl": kl, "mean_length": LENGTH[i],
        },
        "settings": {"method.dpo.beta": 0.1}, "tuning": "published",
        "note": "Optimised against a reward model of 200 noisy pairs <b>on purpose</b>." if i == 7 else "",
    }  # fmt: skip


def _pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    row: dict[str, Any] = {"name": first["name"], "decoding": first["decoding"], "n": first["n"], "seeds": len(rows)}
    for key in ("gold_mean", "gold_low", "gold_high", "delta_vs_sft", "delta_low", "delta_high"):
        row[key] = sum(r[key] for r in rows) / len(rows)
    return {**row, "p_holm": first["p_holm"]}


def _curve(seed: int, weak: bool) -> dict[str, Any]:
    points = []
    for power in range(9):
        n, kl = 2**power, math.log(2**power) - (2**power - 1) / 2**power
        d = math.sqrt(kl)
        gold = 0.52 + (0.16 * d - 0.072 * d * d * (1.4 if weak else 0.5))
        proxy = 0.1 + 1.1 * d
        points.append({"n": n, "kl": kl, "gold": gold, "gold_low": gold - 0.03, "gold_high": gold + 0.03,
                       "proxy": proxy, "proxy_low": proxy - 0.07, "proxy_high": proxy + 0.07})  # fmt: skip
    kind = "weak" if weak else "full"
    return {"name": f"bon_{kind}_{seed}", "title": f"best of n against the {kind} reward model, seed {seed}", "x": "kl",
            "points": points, "seed": seed, "note": "Same 640 held-out prompts at every n."}  # fmt: skip


def full_results(confounded: bool = False) -> dict[str, Any]:
    """Eight arms in two seeds and two decodings, with every section of the page filled."""
    rng = Random(7)
    arms = [_row(i, seed, d, rng) for i in range(len(ARMS)) for d in DECODINGS for seed in (0, 1)]
    if not confounded:
        confounds = []
    else:
        test = {name: "held.jsonl 4f1c" if i != 5 else "other<b>.jsonl 99aa" for i, name in enumerate(ARMS)}
        confounds = [
            {"field": "prompts.test", "arms": test, "why": "Arms that answer other prompts cannot be paired."},
            {"field": "max_length", "arms": {"sft": 256, "ppo": 512}, "why": "Longer examples are seen whole."},
        ]
    steps = range(0, 129, 16)
    learning = [
        {"arm": arm, "seed": seed, "metric": metric,
         "points": [[s, (start + gain * (1 - math.exp(-s / 50)) + rng.uniform(-0.01, 0.01))] for s in steps]}
        for metric, runs in (
            ("dev gold", [("sft", 0.25, 0.28), (HOSTILE_ARM, 0.52, 0.13), ("ppo", 0.52, 0.11),
                          ("ppo_weak_reward_model", 0.52, -0.06)]),
            ("loss", [("sft", 2.1, -1.6), (HOSTILE_ARM, 0.69, -0.3)]),
        )
        for arm, start, gain in runs
        for seed in (0, 1)
    ]  # fmt: skip
    pairs = [
        {"a": ARMS[a], "b": ARMS[b], "decoding": d, "delta": GOLD[a] - GOLD[b], "low": GOLD[a] - GOLD[b] - 0.027,
         "high": GOLD[a] - GOLD[b] + 0.027, "p_holm": 0.0002 if abs(GOLD[a] - GOLD[b]) > 0.04 else 0.4}
        for d in DECODINGS for a in range(len(ARMS)) for b in range(a + 1, len(ARMS))
    ]  # fmt: skip
    examples = [
        {"prompt": HOSTILE_PROMPT if i == 0 else f"Write pear, fig and plum in reverse order, in capitals. ({i})",
         "arms": {arm: {"text": HOSTILE_TEXTS[j] if i == 0 else "PLUM FIG PEAR" if j > 2 else "Sure! plum fig pear",
                        "score": float(j > 2)} for j, arm in enumerate(ARMS)}}
        for i in range(6)
    ]  # fmt: skip
    return {
        "question": "Which way of aligning the small model answers more instructions right, at equal labels?",
        "decision": "best_of_n answers +0.140 [+0.113, +0.166] more of the held-out instructions right than sft does.",
        "baseline": "sft", "scope": "these runs",
        "metric": {"name": "gold", "higher_is_better": True, "unit": "share of 1"},
        "arms": arms,
        "pooled": [
            _pooled([r for r in arms if r["name"] == a and r["decoding"] == d]) for a in ARMS for d in DECODINGS
        ],
        "pairs": pairs, "confounds": confounds,
        "settings": [
            {"field": "method.dpo.beta", "arms": {HOSTILE_ARM: 0.1}},
            {"field": "learning_rate",
             "arms": {"sft": 0.001, HOSTILE_ARM: 5e-05, "ppo": 5e-05, "ppo_weak_reward_model": 5e-05}},
        ],
        "not_declared": [{"arm": "trl_dpo", "fields": ["data hash", "truncation", "precision <i>"]}],
        "curves": [_curve(0, True), _curve(1, True), _curve(0, False)],
        "learning": learning,
        "checks": [
            {"name": "reward model", "what": "agrees with gold on untied pairs", "seed": s, "value": 0.781 - s / 100,
             "low": 0.752, "high": 0.803, "n": 1204} for s in (0, 1)
        ],
        "examples": examples,
        "detectable": {
            "effect": 0.034, "n": 640, "sentence": "With 640 prompts a difference of 0.034 is found four times in five."
        },
        "reproduce": {
            "command": "pippin demo --out demo --seed 0 && echo '</pre><script>alert(5)</script>'",
            "study": "question: Which way is best?\naxes:\n  method: [sft, dpo, ppo]\nseeds: [0, 1]\nbaseline: sft\n",
            "versions": {"python": "3.11.2", "pippin": "0.1.0", "torch": "2.13.0"},
        },
        "seconds": {"total": 241.35, "cells": {"sft seed 0": 22.1, "ppo seed 1": 61.45, "held-out answers": 17.9}},
    }  # fmt: skip
