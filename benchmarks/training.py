"""Training a real model (smollm2, 135M) on the CPU, against TRL, on the same tokens with the same losses.

python benchmarks/training.py [--what sft dpo] [--rounds 3] [--rows 16] [--bf16] [--threads 2] [--without padding ...]

Both sides take the same pairs of HH-RLHF in one optimiser step, AdamW, micro-batches of 4. They run alternately, each
in a process of its own that has loaded model and data before; TRL's precomputing of the reference counts, as does
Pippin's. TRL has its fastest documented settings on a CPU: no gradient checkpointing, rows sorted by length, the
reference precomputed. ``--without`` also runs Pippin with one saving turned off at a time: ``packing`` (rows end to
end; they are padded, the prompt shared by a mask), ``padding`` (that, and rows cut as they come), ``head`` (only at
responses), ``prompt`` (read once for both responses). TRL is in the environment that `make oracle` makes; HH-RLHF is
found by PIPPIN_SHARED.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PIPPIN_SHARED", ROOT.parent / "shared"))
PAIRS = SHARED / "data" / "preference" / "hh_rlhf" / "harmless-base" / "test.jsonl.gz"
PEER = ROOT / ".oracle" / "trl-1.16.0" / "bin" / "python"
SIZE, RATE, LENGTH = 4, 1e-5, 512
SAID = ("loss", "logps/chosen", "logps/rejected")  # the first loss of dpo is log 2 whatever the policy says
SAVINGS = ("padding", "packing", "head", "prompt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="*", choices=("sft", "dpo"), default=("sft", "dpo"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=16, help="pairs (dpo) or dialogues (sft) of the step")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without", nargs="*", choices=SAVINGS, default=())
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)  # side, folder
    args = parser.parse_args()
    if args.child:
        serve(args, *args.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        for what in args.what:
            compare(args, what, Path(folder))


def serve(args: argparse.Namespace, side: str, folder: str) -> None:
    """A step for each line of standard input, told in a line of standard output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    step = trl(args, Path(folder)) if side == "trl" else pippin(args, Path(folder), side)
    for _ in sys.stdin:
        made = step() | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        print(json.dumps(made), file=out, flush=True)


def compare(args: argparse.Namespace, what: str, folder: Path) -> None:
    tokens = prepare(what, args.rows, folder)
    children = {side: child(args, what, side, folder) for side in ("pippin", "trl", *args.without)}
    results: dict[str, list[dict]] = {side: [] for side in children}
    for round_ in range(args.rounds):
        for side in list(children)[:: 1 if round_ % 2 == 0 else -1]:
            results[side].append(ask(children[side]))
            print(what, side, json.dumps(results[side][-1]), flush=True)
    for process in children.values():
        process.communicate()
    theirs = results["trl"]
    for side, mine in results.items():
        wall, busy = median(mine, "seconds"), median(mine, "cpu")
        print(
            f"{what} {side}: {wall:.1f} s, {tokens / wall:.0f} tokens/s, {args.rows / wall:.3f} rows/s, "
            f"{median(theirs, 'seconds') / wall:.2f} of TRL's speed; {busy:.1f} s of CPU, "
            f"{median(theirs, 'cpu') / busy:.2f}; reference {median(mine, 'reference'):.1f} s; "
            f"{max(r['memory'] for r in mine) / 1e9:.2f} GB; "
            + ", ".join(f"{name} {mine[0][name]:.6f} ({abs(mine[0][name] - theirs[0][name]):.1e} off)" for name in SAID)
        )


def median(results: list[dict], key: str) -> float:
    return statistics.median(r[key] for r in results)


def child(args: argparse.Namespace, what: str, side: str, folder: Path) -> subprocess.Popen[str]:
    python = str(PEER) if side == "trl" else sys.executable
    own = ["--what", what, "--rows", str(args.rows), *["--bf16"] * args.bf16, "--child", side, str(folder)]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    alike = {"OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [python, __file__, *own], env={**os.environ, **quiet, **alike}, cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / f"{side}.txt").open("w"),
    )  # fmt: skip


def ask(process: subprocess.Popen[str]) -> dict:
    assert process.stdin is not None and process.stdout is not None
    print(file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{process.args} stopped")
    return json.loads(line)


def groups_of(what: str, rows: int, chat: Any) -> list:
    """The first pairs of the file whose replies fit; for sft the chosen replies."""
    from pippin.compare.inputs import read_groups

    kept = []
    for group in read_groups(f"hh_rlhf:{PAIRS}", 0):
        if what == "sft":
            group = replace(group, responses=(better(group),), judgements=())
        told = [chat.example(group.prompt.messages, r.text)[0] for r in group.responses if r.text]
        if len(told) == len(group.responses) and max(map(len, told)) <= LENGTH:
            kept.append(group)
        if len(kept) == rows:
            break
    return kept


def better(group):
    from pippin.feedback.collapse import Rule, collapse

    [preference] = collapse(group.judgements, group.responses, Rule()).preferences
    return group.responses[preference.i if preference.probability > 0.5 else preference.j]


def prepare(what: str, rows: int, folder: Path) -> int:
    """The rows as TRL takes them, as tokens, the longest first; the number of tokens."""
    from pippin.lm.hf import load_policy

    policy, out = load_policy("smollm2"), []
    for group in groups_of(what, rows, policy.chat):
        prompt = policy.chat.prompt_ids(group.prompt.messages)
        first = better(group) if what == "dpo" else group.responses[0]
        replies = [first, *(r for r in group.responses if r is not first)]
        told = [policy.chat.example(group.prompt.messages, r.text)[0] for r in replies]
        assert all(ids[: len(prompt)] == prompt for ids in told)
        longest, total = max(map(len, told)), sum(map(len, told))
        if what == "sft":
            mask = [0] * len(prompt) + [1] * (len(told[0]) - len(prompt))
            out.append((longest, total, {"input_ids": told[0], "completion_mask": mask}))
        else:
            chosen, rejected = (ids[len(prompt) :] for ids in told)
            out.append((longest, total, {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}))
    out.sort(key=lambda entry: -entry[0])
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for _, _, row in out))
    policy.save(folder / "model")
    print(f"{what}: {len(out)} rows of {[longest for longest, _, _ in out]} tokens", flush=True)
    return sum(total for _, total, _ in out)


def pippin(args: argparse.Namespace, folder: Path, side: str) -> Callable[[], dict]:
    [what] = args.what
    from pippin.align import loop, networks, sources
    from pippin.align.settings import Settings
    from pippin.core import catalog
    from pippin.feedback.collapse import Rule, collapse
    from pippin.lm import flat, forward, shared
    from pippin.lm.hf import load_policy

    if side in ("packing", "padding"):
        flat.takes = lambda model, longest: False
    if side == "padding":  # in the order of the rows, as they come
        loop.cut = lambda sizes, most, _: [list(range(len(sizes)))[i : i + most] for i in range(0, len(sizes), most)]
    if side == "prompt":
        shared.response_logps = forward.response_logps
        shared.shared_sizes = lambda rows: [len(ids) for ids, _ in rows]
    if side == "head":
        forward._output_head = lambda model: None
    method = catalog.load("methods", what)
    chosen = Settings.of(what, method, {
        "learning_rate": RATE, "lr_scheduler_type": "constant", "per_device_train_batch_size": SIZE,
        "gradient_accumulation_steps": args.rows // SIZE, "max_length": LENGTH, "logging_steps": 1, "save_steps": 0,
        "bf16": args.bf16,
    })  # fmt: skip
    policy = load_policy(str(folder / "model"))
    groups = groups_of(what, args.rows, policy.chat)

    def step() -> dict:
        context = sources.Context(policy, chosen.own, chosen.training, 0, data=groups)
        if what == "dpo":
            context.preferences = [collapse(g.judgements, g.responses, Rule()).preferences for g in groups]
        nets = networks.build(policy, method.parts(chosen.own), reward=None, kind="last", seed=0)
        context.reference = nets.reference
        note = nets.note = Clock(nets.note)
        lines: list[Any] = []
        whole = Clock(loop.train)
        whole(method, context, nets, log=lines.append)
        told = {"seconds": whole.wall, "cpu": whole.cpu, "reference": note.wall}
        return told | {name: lines[0].get(name, 0.0) for name in SAID}

    return step


class Clock:
    """A function, and the seconds it takes: of the clock, and of the CPU in all threads."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.wall, self.cpu = work, 0.0, 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        made = self.work(*given, **named)
        self.wall, self.cpu = self.wall + time.monotonic() - wall, self.cpu + time.process_time() - cpu
        return made


def trl(args: argparse.Namespace, folder: Path) -> Callable[[], dict]:
    [what] = args.what
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32")
    shared: dict[str, Any] = {
        "output_dir": str(folder / "trl"), "num_train_epochs": 1, "learning_rate": RATE,
        "lr_scheduler_type": "constant", "per_device_train_batch_size": SIZE,
        "gradient_accumulation_steps": args.rows // SIZE, "gradient_checkpointing": False, "max_length": LENGTH,
        "logging_steps": 1, "report_to": [], "bf16": args.bf16, "use_cpu": True, "save_strategy": "no",
        "disable_tqdm": True, "train_sampling_strategy": "sequential",
    }  # fmt: skip

    class Tokenised(DPOTrainer):
        """Takes the tokens as they are."""

        def _prepare_dataset(self, dataset, *rest, **named):
            return dataset

    def made() -> Any:
        data = {"model": model, "train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
        if what == "sft":
            return SFTTrainer(args=SFTConfig(**shared, completion_only_loss=True), **data)
        return Tokenised(args=DPOConfig(**shared, beta=0.1, precompute_ref_log_probs=True), **data)

    precompute = Tokenised._precompute_ref_logps

    def step() -> dict:
        reference = Clock(precompute)
        Tokenised._precompute_ref_logps = lambda *given: reference(*given)
        trainer = made()
        whole = Clock(trainer.train)
        whole()
        said = next(line for line in trainer.state.log_history if "loss" in line)
        told = {"seconds": reference.wall + whole.wall, "cpu": reference.cpu + whole.cpu, "reference": reference.wall}
        return told | {name: said.get(name, 0.0) for name in SAID}

    return step


if __name__ == "__main__":
    main()
