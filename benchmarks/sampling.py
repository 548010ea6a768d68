"""Sampling speed of the world's base model against ``transformers``' ``generate``, on the same prompts and weights.

    python benchmarks/sampling.py [--repeats 5] [--prompts 512] [--draws 1]

Both sample at temperature 1 with a KV cache, one thread, at the same batch size; runs alternate; the ratio is of
medians. ``generate`` one prompt at a time reads every eighth prompt only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

import torch

from pippin.lm.hf import load_policy
from pippin.lm.sampling import sample
from pippin.world import tasks


def ours(policy, rows, batch_size: int, max_tokens: int) -> int:
    draws = sample(
        policy.model, rows, max_tokens=max_tokens, temperature=1.0, end_ids=policy.chat.end_ids,
        seeds=range(len(rows)), batch_size=batch_size, pad_id=policy.chat.pad_id,
    )  # fmt: skip
    return sum(len(d.ids) for d in draws)


def theirs(policy, rows, batch_size: int, max_tokens: int) -> int:
    """``generate`` at its fastest documented setting here: sorted by length, left padded, sampled, cache on."""
    order = sorted(rows, key=len)
    total, pad, end = 0, policy.chat.pad_id, list(policy.chat.end_ids)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = max(map(len, part))
        ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in part])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in part])
        with torch.inference_mode():
            out = policy.model.generate(
                ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=max_tokens, pad_token_id=pad, eos_token_id=end,
            )  # fmt: skip
        new = out[:, width:]
        total += int((new != pad).sum())
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--model", default="world/base")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_policy(arguments.model)
    rows = [
        policy.chat.prompt_ids(p.messages)
        for p in tasks.prompts("train", arguments.prompts, 0)
        for _ in range(arguments.draws)
    ]
    alone, speeds = rows[::8], defaultdict[str, list[float]](list)
    for _ in range(arguments.repeats):
        for name, run, asked, batch_size in (
            ("ours 64", ours, rows, 64), ("generate 64", theirs, rows, 64),
            ("ours 256", ours, rows, 256), ("generate 256", theirs, rows, 256), ("generate 1", theirs, alone, 1),
        ):  # fmt: skip
            started = time.perf_counter()
            tokens = run(policy, asked, batch_size, 32)
            speeds[name].append(tokens / (time.perf_counter() - started))
    median = {name: statistics.median(several) for name, several in speeds.items()}
    for batch_size in (64, 256):
        a, b, one = median[f"ours {batch_size}"], median[f"generate {batch_size}"], median["generate 1"]
        print(
            f"batch {batch_size}: ours {a:,.0f} tokens/s, generate {b:,.0f} tokens/s, ratio {a / b:.2f}; "
            f"generate one by one {one:,.0f} tokens/s, ratio {a / one:.1f}"
        )


if __name__ == "__main__":
    main()
