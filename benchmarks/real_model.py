"""Eight methods on a real model (smollm2, 135M) and real pairs (HH-RLHF), on the CPU: speed, memory, accuracy.

python benchmarks/real_model.py [--methods sft dpo] [--steps 20] [--bf16] [--held-out 150] [--out DIR]

Each method runs in a process of its own through `pippin.align.run.align`, from the same weights, on pairs whose prompt
and replies fit 128 tokens, four groups a step. RSO and GRPO draw from the policy and are rewarded by the reward model
trained before them. The held-out pairs have other opening questions. A line of JSON is printed as soon as a method is
done, the table at the end. The peak is the run's own (what evaluates afterwards is not counted) and is asserted.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PIPPIN_SHARED", ROOT.parent / "shared"))
PAIRS = SHARED / "data" / "preference" / "hh_rlhf" / "harmless-base" / "test.jsonl.gz"
MODEL, LENGTH, SIZE, REPLY = "smollm2", 128, 4, 32
BOUND = 6.0  # GB, of any of these runs
SHARED_SETTINGS = {
    "learning_rate": 1e-5, "max_length": LENGTH, "per_device_train_batch_size": SIZE, "gradient_accumulation_steps": 1,
    "num_train_epochs": 1, "logging_steps": 1, "save_steps": 0, "watch_prompts": 0,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "sft": {},
    "reward_model": {},
    "dpo": {},
    "slic": {},
    "rrhf": {},
    "kto": {},
    "rso": {"num_candidates": 4, "num_samples": 4, "max_completion_length": REPLY},
    "grpo": {"prompts_per_rollout": SIZE, "num_generations": 4, "max_completion_length": REPLY},
}
SAMPLES = ("rso", "grpo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=OWN, default=list(OWN))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--held-out", type=int, default=150, help="pairs")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--out", type=Path, help="keeps the runs; what is done there is not done again")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        before(args) if args.child == "before" else train(args, args.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.out = args.out or Path(folder)
        args.out.mkdir(parents=True, exist_ok=True)
        if not (args.out / "before.npz").exists():
            child(args, "before")
        if set(args.methods) & set(SAMPLES) and "reward_model" not in args.methods:
            assert (args.out / "reward_model").is_dir(), "rso and grpo need the reward model: name it too"
        told = [child(args, name) for name in args.methods]
    print(table(told))
    for line in told:
        assert line["steps"] == args.steps, f"{line['method']} took {line['steps']} steps"
        assert line["memory_gb"] < BOUND, f"{line['method']} held {line['memory_gb']} GB"


def child(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What one process of its own says at its end."""
    own = ["--child", name, "--steps", str(args.steps), "--held-out", str(args.held_out), "--out", str(args.out)]
    own += [f"--{flag}" for flag in ("bf16", "lora") if getattr(args, flag)]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, __file__, *own], env={**os.environ, **quiet}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    last = done.stdout.splitlines()[-1]
    print(last, flush=True)
    return json.loads(last)


def groups(args: argparse.Namespace) -> tuple[list, list]:
    """Pairs to train on and pairs held out; no opening question stands on both sides."""
    from pippin.compare.inputs import read_groups
    from pippin.lm.hf import load_policy

    chat = load_policy(MODEL).chat

    def fits(group) -> bool:
        rows = [chat.example(group.prompt.messages, r.text)[0] for r in group.responses]
        return all(r.text for r in group.responses) and max(map(len, rows)) <= LENGTH

    def place(group) -> str:
        return hashlib.sha256(group.prompt.messages[0].content.encode()).hexdigest()

    found = sorted((g for g in read_groups(f"hh_rlhf:{PAIRS}", 0) if fits(g)), key=place)
    wanted = args.steps * SIZE
    held_out = [g for g in found[wanted:] if place(g) != place(found[wanted - 1])][: args.held_out]
    assert len(held_out) == args.held_out, f"{len(found)} pairs fit"
    return found[:wanted], held_out


def before(args: argparse.Namespace) -> None:
    """What the untrained model says of the held-out pairs, and a reward model's head before its first step."""
    from pippin.align.evaluate import pair_logps
    from pippin.lm.hf import load_policy
    from pippin.lm.reward import RewardModel, ScoreHead

    policy, held_out = load_policy(MODEL), groups(args)[1]
    logps = pair_logps(policy, held_out)
    scores = scores_of(RewardModel("last", policy, head=ScoreHead(policy.model, seed=0)), held_out)
    np.savez(args.out / "before.npz", sums=logps.sums_P_2, tokens=logps.tokens_P_2, scores=scores)
    print(json.dumps({"method": "before", "pairs": len(held_out), "tokens": float(np.nanmean(logps.tokens_P_2))}))


def scores_of(reward, held_out: list) -> np.ndarray:
    """``[P, 2]``, the preferred reply first."""
    sides = [[better(g).text for g in held_out], [worse(g).text for g in held_out]]
    return np.array([reward.score([g.prompt.messages for g in held_out], texts) for texts in sides]).T


def better(group):
    [preference] = preferences(group)
    return group.responses[preference.i]


def worse(group):
    [preference] = preferences(group)
    return group.responses[preference.j]


def preferences(group):
    from pippin.feedback.collapse import collapse

    return collapse(group.judgements, group.responses).preferences


def train(args: argparse.Namespace, name: str) -> None:
    """Run one method, unless that was done, test what it made, print one line."""
    import torch

    from pippin.align import run

    data, held_out = groups(args)
    prompts = [g.prompt for g in data] if name in SAMPLES else []
    if name == "sft":
        data = [replace(g, responses=(better(g),), judgements=()) for g in data]
    rounds = {"num_rollouts": args.steps} if name == "grpo" else {}
    if not (args.out / name / run.FILE).exists():
        run.align(
            name,
            {**SHARED_SETTINGS, **OWN[name], **rounds, "max_steps": args.steps, "bf16": args.bf16}
            | {"use_peft": args.lora},
            model=MODEL, data=[] if prompts else data, prompts=prompts, out=args.out / name,
            reward=f"rm/{args.out / 'reward_model'}" if prompts else None,
        )  # fmt: skip
    papers = run.load_run(args.out / name)
    ledger, seconds = papers["ledger"], papers["ledger"]["wall_clock"]
    tokens = ledger["gradient_tokens"] + ledger["policy_tokens_sampled"]
    told = {
        "method": name, "steps": ledger["steps"], "seconds": round(seconds, 1),
        "trained_tokens": ledger["gradient_tokens"], "sampled_tokens": ledger["policy_tokens_sampled"],
        "tokens_per_second": round(tokens / seconds, 1), "memory_gb": round(ledger["peak_memory"] / 1e9, 2),
        "bf16": args.bf16, "lora": args.lora, "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1), "state": papers["state"],
        "accuracy": accuracies(args, name, held_out),
        **{when: {k: v for k, v in papers["metrics"][when].items() if k in SHOWN} for when in ("first", "last")},
    }  # fmt: skip
    print(json.dumps(told))


SHOWN = ("loss", "rewards/accuracies", "rewards/margins", "objective/scores", "grad_norm")


def accuracies(args: argparse.Namespace, name: str, held_out: list) -> dict[str, Any]:
    """Before, after and the paired difference of each reading, as estimates."""
    from pippin import stats
    from pippin.align.evaluate import PairLogps, pair_logps, right
    from pippin.lm.hf import load_policy
    from pippin.lm.reward import load_reward

    then = np.load(args.out / "before.npz")
    ids = np.array([g.prompt.id for g in held_out])
    if name == "reward_model":
        now = scores_of(load_reward(args.out / name), held_out)
        sides = {"after": right(now), "before": right(then["scores"])}
        told = {when: stats.mean(values, ids, support=(0, 1)) for when, values in sides.items()}
        change = stats.paired(sides["after"], sides["before"], ids, support=(-1, 1))
        return {"score": {**{when: asdict(e) for when, e in told.items()}, "change": asdict(change)}}
    start = PairLogps(then["sums"], then["tokens"], ids)
    logps = pair_logps(load_policy(str(args.out / name)), held_out)
    first, last, change = start.accuracies(), logps.accuracies(start), logps.change(start)
    return {
        key: {"after": asdict(e)}
        | ({"before": asdict(first[key]), "change": asdict(change[key])} if key in first else {})
        for key, e in last.items()
    }


def table(told: list[dict[str, Any]]) -> str:
    lines = [
        "| method | steps | seconds | tokens/s | peak | reading | before | after | after less before |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in told:
        cells = [line["method"], line["steps"], f"{line['seconds']:.0f}", f"{line['tokens_per_second']:.0f}"]
        cells.append(f"{line['memory_gb']:.2f} GB")
        for reading, values in line["accuracy"].items():
            shown = [estimate(values.get(when)) for when in ("before", "after", "change")]
            lines.append("| " + " | ".join(map(str, [*cells, reading, *shown])) + " |")
            cells = [""] * len(cells)
    return "\n".join(lines)


def estimate(row: dict[str, Any] | None) -> str:
    from pippin.core.types import Estimate

    return "" if row is None else str(Estimate(**row))


if __name__ == "__main__":
    main()
