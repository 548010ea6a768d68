"""Training a real model (smollm2, 135M) on the CPU, against TRL, on the same tokens with the same losses.

python benchmarks/training.py [--what sft dpo] [--rounds 2] [--rows 16] [--steps 1]

Both sides take the same pairs of HH-RLHF in the same steps, float32, AdamW, micro-batches of 4. They run alternately,
each in a process of its own; loading of model and data does not count, TRL's precomputing of the reference does, as
does Pippin's. ``--ladder`` runs Pippin with its savings off and adds them one by one. TRL is in the environment that
`make oracle` makes; HH-RLHF is found by PIPPIN_SHARED.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PIPPIN_SHARED", ROOT.parent / "shared"))
PAIRS = SHARED / "data" / "preference" / "hh_rlhf" / "harmless-base" / "test.jsonl.gz"
PEER = ROOT / ".oracle" / "trl-1.16.0" / "bin" / "python"
SIZE, RATE, LENGTH, LONGEST = 4, 1e-5, 512, 1000  # the longest in characters
LADDER = ("nothing", "head", "cut", "all")  # each has what stands before it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="*", choices=("sft", "dpo"), default=("sft", "dpo"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=16, help="pairs (dpo) or dialogues (sft) of one optimiser step")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--ladder", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)  # side, folder
    args = parser.parse_args()
    if args.child:
        side, folder = args.child
        made = trl(args, Path(folder)) if side.startswith("trl") else pippin(args, Path(folder), side)
        made["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        (Path(folder) / "result.json").write_text(json.dumps(made))
        return
    with tempfile.TemporaryDirectory() as folder:
        for what in args.what:
            compare(args, what, Path(folder))


def compare(args: argparse.Namespace, what: str, folder: Path) -> None:
    tokens = prepare(what, args.rows, folder)
    sides = ["all", "trl", *(LADDER[:-1] if args.ladder else ())]
    results: dict[str, list[dict]] = {side: [] for side in sides}
    for round_ in range(args.rounds):
        for side in sides if round_ % 2 == 0 else sides[::-1]:
            results[side].append(child(args, what, side, folder))
            print(what, side, json.dumps(results[side][-1]), flush=True)
    theirs = results["trl"]
    for side in sides:
        mine = results[side]
        gaps = [abs(a - b) for a, b in zip(mine[0]["losses"], theirs[0]["losses"], strict=True)]
        wall, busy = median(mine, "seconds"), median(mine, "cpu")
        print(
            f"{what} {side}: {wall:.1f} s, {args.steps * tokens / wall:.0f} tokens/s, "
            f"{args.steps * args.rows / wall:.3f} rows/s, {median(theirs, 'seconds') / wall:.2f} of TRL's speed; "
            f"{busy:.1f} s of CPU, {median(theirs, 'cpu') / busy:.2f}; "
            f"{max(r['memory'] for r in mine) / 1e9:.2f} GB; losses within {max(gaps):.1e}"
        )


def median(results: list[dict], key: str) -> float:
    return statistics.median(r[key] for r in results)


def child(args: argparse.Namespace, what: str, side: str, folder: Path) -> dict:
    python = str(PEER) if side.startswith("trl") else sys.executable
    own = ["--what", what, "--steps", str(args.steps), "--rows", str(args.rows), "--child", side, str(folder)]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [python, __file__, *own], env={**os.environ, **quiet}, cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads((folder / "result.json").read_text())


def groups_of(what: str, rows: int) -> list:
    """The first pairs of the file whose two replies fit; for sft the chosen replies."""
    from dataclasses import replace

    from pippin.compare.inputs import read_groups

    found = read_groups(f"hh_rlhf:{PAIRS}", 0)
    kept = [g for g in found if all(len(r.text) > 0 for r in g.responses)]
    kept = [
        g for g in kept
        if sum(len(m.content) for m in g.prompt.messages) + max(len(r.text) for r in g.responses) < LONGEST
    ]  # fmt: skip
    if what == "sft":
        return [replace(g, responses=(better(g),), judgements=()) for g in kept[:rows]]
    return kept[:rows]


def better(group):
    from pippin.feedback.collapse import Rule, collapse

    [preference] = collapse(group.judgements, group.responses, Rule()).preferences
    return group.responses[preference.i if preference.probability > 0.5 else preference.j]


def prepare(what: str, rows: int, folder: Path) -> int:
    """The rows as TRL takes them, as tokens; the number of tokens of one step."""
    from pippin.lm.hf import load_policy

    policy, out = load_policy("smollm2"), []
    for group in groups_of(what, rows):
        prompt = policy.chat.prompt_ids(group.prompt.messages)
        first = better(group) if what == "dpo" else group.responses[0]
        replies = [first, *(r for r in group.responses if r is not first)]
        told = [policy.chat.truncate(*policy.chat.example(group.prompt.messages, r.text), LENGTH)[0] for r in replies]
        assert all(ids[: len(prompt)] == prompt for ids in told)
        if what == "sft":
            mask = [0] * len(prompt) + [1] * (len(told[0]) - len(prompt))
            out.append({"input_ids": told[0], "completion_mask": mask})
        else:
            chosen, rejected = (ids[len(prompt) :] for ids in told)
            out.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in out))
    policy.save(folder / "model")
    return sum(
        len(r["input_ids"])
        if what == "sft"
        else 2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"])
        for r in out
    )


def pippin(args: argparse.Namespace, folder: Path, side: str) -> dict:
    [what] = args.what
    from pippin.align import loop
    from pippin.align.run import align
    from pippin.lm import forward, shared

    if side in ("nothing", "head", "cut"):
        shared.response_logps = forward.response_logps
        shared.shares_prompts = lambda model: False
    if side in ("nothing", "head"):
        loop.cut = lambda sizes, most: [list(range(i, min(i + most, len(sizes)))) for i in range(0, len(sizes), most)]
    if side == "nothing":
        forward._output_head = lambda model: None
    losses: list[float] = []
    settings = {
        "learning_rate": RATE, "lr_scheduler_type": "constant", "per_device_train_batch_size": SIZE,
        "gradient_accumulation_steps": args.rows // SIZE, "num_train_epochs": args.steps, "max_length": LENGTH,
        "logging_steps": 1, "save_steps": 0,
    }  # fmt: skip
    cpu = CpuClock()
    real = loop.train
    loop.train = lambda *given, **named: cpu(lambda: real(*given, **named))
    run = align(
        what, settings, model=str(folder / "model"), data=groups_of(what, args.rows), out=folder / f"out-{side}",
        report=lambda line: losses.append(line["loss"]),
    )  # fmt: skip
    return {"seconds": run.ledger.wall_clock, "cpu": cpu.seconds, "losses": losses}


class CpuClock:
    """CPU seconds of all threads spent in what it calls."""

    seconds = 0.0

    def __call__(self, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        made = work()
        self.seconds += time.process_time() - before
        return made


def trl(args: argparse.Namespace, folder: Path) -> dict:
    [what] = args.what
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32")
    shared: dict[str, Any] = {
        "output_dir": str(folder / "trl"), "num_train_epochs": args.steps, "learning_rate": RATE,
        "lr_scheduler_type": "constant", "per_device_train_batch_size": SIZE,
        "gradient_accumulation_steps": args.rows // SIZE, "gradient_checkpointing": False, "max_length": LENGTH,
        "logging_steps": 1, "report_to": [], "bf16": False, "use_cpu": True, "save_strategy": "no",
        "disable_tqdm": True, "train_sampling_strategy": "group_by_length" if what == "sft" else "sequential",
    }  # fmt: skip

    class Tokenised(DPOTrainer):
        """Takes the tokens as they are."""

        def _prepare_dataset(self, dataset, *rest, **named):
            return dataset

    began, before = time.monotonic(), time.process_time()
    if what == "sft":
        config = SFTConfig(**shared, completion_only_loss=True)
        trainer = SFTTrainer(
            model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
    else:
        config = DPOConfig(**shared, beta=0.1, precompute_ref_log_probs=True)
        trainer = Tokenised(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    prepared = time.monotonic() - began
    trainer.train()
    losses = [h["loss"] for h in trainer.state.log_history if "loss" in h]
    spent = {"seconds": time.monotonic() - began, "cpu": time.process_time() - before}
    return spent | {"prepared": prepared, "losses": losses}


if __name__ == "__main__":
    main()
