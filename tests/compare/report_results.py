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


def inferred_results() -> dict[str, Any]:
    """What may stand in results beside :func:`full_results`: claims, looks, a frozen plan ... names hostile too."""
    claims = [
        {"name": arm, "baseline": "sft", "decoding": "greedy", "scope": scope, "delta": GOLD[i] - 0.52,
         "low": GOLD[i] - 0.52 - wide, "high": GOLD[i] - 0.52 + wide, "p": 0.001, "p_holm": 0.004, "n": 640, "seeds": 5,
         "verdict": "better" if GOLD[i] - 0.52 > wide else "worse" if GOLD[i] - 0.52 < -wide else "cannot tell"}
        for i, arm in enumerate(ARMS) if arm != "sft" for scope, wide in (("these runs", 0.03), ("the method", 0.06))
    ]  # fmt: skip
    components = {"prompt": 0.11, "seed": 0.002, "prompt x seed": 0.01, "sample": 0.08, "judge": 0.0}
    shares = {k: v / sum(components.values()) for k, v in components.items()}
    return {
        "notes": ["Answers that did not end within 32 tokens: 12% of ppo<b> (seed 0, greedy)."],
        "claims": claims,
        "variance": [
            {"name": HOSTILE_ARM, "decoding": "greedy", "components": components, "shares": shares,
             "sd_of_mean": 0.0181, "sentence": "Most of the noise is that of the prompts."}
        ],
        "equivalence": {"margin": 0.02, "rows": [
            {"name": HOSTILE_ARM, "decoding": "greedy", "scope": "these runs", "low90": -0.01, "high90": 0.015,
             "p": 0.012, "verdict": "equivalent"}
        ]},
        "effects": [
            {"axis": "data", "a": "mine<b>", "b": "hh", "decoding": "greedy", "delta": 0.04, "low": 0.01, "high": 0.07,
             "p": 0.01, "p_holm": 0.02, "scope": "the method", "combinations": 3, "interaction_p": 0.4}
        ],
        "looks": {"over": "seeds", "at": [5, 8, 12], "alpha_spent": [0.004, 0.02, 0.05], "stopped_at": 8,
                  "why": "every arm is decided", "taken": [
            {"at": at, "rows": [{"name": HOSTILE_ARM, "delta": 0.04, "low": 0.04 - 0.2 / at, "high": 0.04 + 0.2 / at,
                                 "p": 0.01, "bound": 0.004, "decided": at == 8}]} for at in (5, 8)
        ]},
        "frozen": {"hash": "0123456789abcdef", "when": "2026-01-02T03:04:05Z", "data_seen_before": False, "again": [],
                   "changed": [{"field": "seeds", "then": [0, 1], "now": [0, 1, 2]},
                               {"field": "settings.<i>", "then": None, "now": 0.1}]},
        "estimate": {"cpu_seconds": {"planned": 900.0, "low": 640.0, "high": 1300.0, "used": 871.5}, "cells": 61,
                     "tokens": 1_250_000, "labels": 3000, "money": "not known"},
        "manifests": {arm: {"base": "world/base", "template": "6a07", "data (preferences)": f"{i % 3:04x}",
                            "note <script>": HOSTILE_TEXTS[0]} for i, arm in enumerate(ARMS)},
    }  # fmt: skip


def large_results(arms: int = 50, seeds: int = 5) -> dict[str, Any]:
    """Fifty arms on ten thousand prompts, every section filled as a long study fills it."""
    rng = Random(11)
    names = [f"method_{i:02d}/data_{'abcde'[i % 5]}" for i in range(arms)]
    gold = [0.5 + 0.2 * math.sin(i) for i in range(arms)]
    base = names[0]

    def row(i: int, decoding: str, seed: int | None) -> dict[str, Any]:
        value, delta = gold[i] + rng.gauss(0, 0.004), gold[i] - gold[0]
        told = {
            "name": names[i],
            "decoding": decoding,
            "gold_mean": value,
            "gold_low": value - 0.008,
            "gold_high": value + 0.008,
            f"delta_vs_{base}": delta,
            "delta_low": delta - 0.009,
            "delta_high": delta + 0.009,
            "p": 0.01,
            "p_holm": None if not i else 0.3 if abs(delta) < 0.02 else 0.0002,
            "n": 10_000,
        }
        if seed is None:
            return {**told, "seeds": seeds, "scope": "the method"}
        spent = {
            "prompts_seen": 4096,
            "gradient_tokens": 1_250_000 + i,
            "steps": 128,
            "wall_clock": 61.2 + i,
            "labels": 3000,
            "policy_tokens_sampled": 10_000 * i,
        }
        return {
            **told,
            "seed": seed,
            "method": "dpo",
            "missing": 0,
            "kl": 0.3 * i,
            "kl_low": 0.29 * i,
            "kl_high": 0.31 * i,
            "kl_kind": "exact",
            "mean_length": 30 + i,
            "share_without_end": 0.01,
            "ledger": spent,
            "settings": {"learning_rate": 1e-4},
            "tuning": "published",
            "note": "",
        }

    places = [(d, i) for d in DECODINGS for i in range(arms)]
    text = "The quick brown fox jumps over the lazy dog; a pear, a fig and a plum lie on the table. " * 20
    return {
        **full_results(confounded=False), **inferred_results(),
        "baseline": base, "scope": "the method",
        "decision": f"better than {base}: " + ", ".join(f"{name} +0.100 [+0.090, +0.110]" for name in names[1:]),
        "arms": [row(i, d, seed) for d, i in places for seed in range(seeds)],
        "pooled": [row(i, d, None) for d, i in places],
        "pairs": [
            {"a": names[a], "b": names[b], "decoding": d, "delta": gold[a] - gold[b], "low": gold[a] - gold[b] - 0.01,
             "high": gold[a] - gold[b] + 0.01, "p_holm": 0.0001 if abs(gold[a] - gold[b]) > 0.02 else 0.5}
            for d in DECODINGS for a in range(arms) for b in range(a + 1, arms)
        ],
        "claims": [
            {"name": names[i], "baseline": base, "decoding": d, "scope": scope, "delta": gold[i] - gold[0],
             "low": gold[i] - gold[0] - 0.01, "high": gold[i] - gold[0] + 0.01, "p": 0.01, "p_holm": 0.02, "n": 10_000,
             "seeds": seeds, "verdict": "better" if gold[i] > gold[0] else "worse"}
            for d, i in places[1:] for scope in ("these runs", "the method")
        ],
        "learning": [
            {"arm": name, "seed": seed, "metric": metric,
             "points": [[s, 1 + math.exp(-s / 300) + rng.gauss(0, 0.02)] for s in range(0, 1000, 2)]}
            for name in names for seed in range(seeds) for metric in ("loss", "rewards/accuracies", "eval/score")
        ],
        "examples": [
            {"prompt": f"Tell of a pear. ({k})", "arms": {name: {"text": text, "score": 0.5} for name in names}}
            for k in range(8)
        ],
        "settings": [{"field": f"method.dpo.setting_{k}", "arms": {n: k * i for i, n in enumerate(names)}}
                     for k in range(20)],
        "manifests": {name: {f"field {k:02d}": f"value {i % (k % 7 + 1)}" for k in range(80)}
                      for i, name in enumerate(names)},
    }  # fmt: skip
