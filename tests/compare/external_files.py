"""Small folders and logs in the formats of other programs, as those programs write them (see tests/oracle)."""

import json
import struct
import zipfile
from pathlib import Path

import pyarrow as pa

TRL_CARD = """---
{front}library_name: transformers
tags:
- generated_from_trainer
- dpo
- trl
licence: license
---

# Model Card for out

It has been trained using [TRL](https://github.com/huggingface/trl).

### Framework versions

- TRL: 1.16.0
- Transformers: 5.24.0
- Pytorch: 2.13.0+cpu
- Datasets: 5.2.0
- Tokenizers: 0.23.3

## Citations
"""

AXOLOTL = """base_model: Qwen/Qwen2.5-0.5B
datasets:
  - path: data/one.jsonl
    type: chat_template
  - path: org/two
    type: chat_template
sequence_len: 2048
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
learning_rate: 2e-5
lr_scheduler: cosine
optimizer: adamw_torch
adapter: lora
lora_r: 8
bf16: true
seed: 42
"""

STATE = {
    "global_step": 30, "epoch": 2.0, "train_batch_size": 4, "max_steps": 30, "num_train_epochs": 2,
    "log_history": [{"step": 10, "learning_rate": 5e-6}, {"step": 20, "learning_rate": 1e-5}, {"train_loss": 0.4}],
}  # fmt: skip


def quoted(text: str, version: str = "0.11.0") -> str:
    """What axolotl adds to transformers' model card."""
    return (
        f"\n<details><summary>See axolotl config</summary>\n\naxolotl version: `{version}`\n```yaml\n{text}\n```\n\n"
        "</details><br>\n"
    )


# ---------------------------------------------------------------------- lm-eval


def generation(n: int, text: str, score: float, *, task: str = "gen", context: str = "", **more) -> dict:
    """One row of a task that generates."""
    asked = f"{context}Q: is {n} even?\nA:"
    return {
        "doc_id": n, "doc": {"question": f"is {n} even?"}, "target": "yes",
        "arguments": {"gen_args_0": {"arg_0": asked, "arg_1": {"until": ["\n"], "max_gen_toks": 8}}},
        "resps": [[text]], "filtered_resps": [text], "filter": "none", "metrics": ["exact_match"],
        "doc_hash": f"hash of {n}", "prompt_hash": "p", "target_hash": "t", "exact_match": score, **more,
    }  # fmt: skip


def choices(n: int, likelihoods: list[float], acc: float) -> dict:
    """One row of a task of several choices."""
    asked = f"Q: is {n} even?\nA:"
    given = {f"gen_args_{k}": {"arg_0": asked, "arg_1": f" {'abc'[k]}"} for k in range(len(likelihoods))}
    told = [[str(x), "False"] for x in likelihoods]
    return {
        "doc_id": n, "doc": {"question": f"is {n} even?"}, "target": "0", "arguments": given,
        "resps": [[t] for t in told], "filtered_resps": told, "filter": "none", "metrics": ["acc"],
        "doc_hash": f"hash of {n}", "acc": acc,
    }  # fmt: skip


def likelihood(n: int, value: float) -> dict:
    """One row of a task that scores one given continuation."""
    return {
        "doc_id": n, "doc": {}, "target": " yes", "arguments": {"gen_args_0": {"arg_0": f"Q{n}", "arg_1": " yes"}},
        "resps": [[[str(value), "False"]]], "filtered_resps": [[str(value), "False"]], "filter": "none",
        "metrics": ["perplexity", "ter", "word_perplexity"], "doc_hash": f"hash of {n}", "perplexity": value,
        "ter": -value, "word_perplexity": [value, 3],
    }  # fmt: skip


def lm_eval(folder: Path, tasks: dict[str, list[dict]], date: str = "2026-11-28T09-15-24.976313", **more) -> Path:
    """A folder of logs as ``--output_path`` with ``--log_samples`` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    higher = {task: {m: m not in ("perplexity", "ter") for m in rows[0]["metrics"]} for task, rows in tasks.items()}
    results = {
        "results": {task: {} for task in tasks}, "higher_is_better": higher, "n-shot": dict.fromkeys(tasks, 0),
        "config": {"model": "hf", "random_seed": 0, "limit": None}, "model_name": "org/model", "chat_template": None,
        "lm_eval_version": "0.4.13", **more,
    }  # fmt: skip
    (folder / f"results_{date}.json").write_text(json.dumps(results, indent=2))
    for task, rows in tasks.items():
        (folder / f"samples_{task}_{date}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


# ---------------------------------------------------------------------- inspect_ai


def sample(key: str, text: str, scores: dict, *, epoch: int = 1, asked=None, **more) -> dict:
    """One sample of a log."""
    asked = f"Say {key}." if asked is None else asked
    said = {"id": "m3", "content": text, "source": "generate", "role": "assistant", "model": "mock/model"}
    turns = [{"content": asked, "source": "input", "role": "user"}] if isinstance(asked, str) else asked
    return {
        "id": key, "epoch": epoch, "input": asked, "target": key,
        "messages": [{"id": "m1", "content": "You help.", "role": "system"}, *turns, said],
        "output": {"model": "mock/model", "choices": [{"message": said, "stop_reason": "stop"}], "completion": text},
        "scores": {name: {"value": value, "answer": text} for name, value in scores.items()}, "error": None, **more,
    }  # fmt: skip


def failed(key: str, why: str) -> dict:
    """A sample that no model answered."""
    return {
        "id": key, "epoch": 1, "input": f"Say {key}.", "target": key, "messages": [],
        "output": {"model": "mock/model", "choices": [], "completion": ""}, "scores": {}, "error": {"message": why},
    }  # fmt: skip


def inspect_log(samples: list[dict], status: str = "success") -> dict:
    """A whole log, as its ``.json`` form has it."""
    return {
        "version": 2, "status": status,
        "eval": {
            "task": "greet", "model": "mock/model", "model_generate_config": {"max_tokens": 33, "temperature": 0.5},
            "packages": {"inspect_ai": "0.3.285"}, "config": {"epochs": 1},
        },
        "samples": samples,
    }  # fmt: skip


def inspect_eval(path: Path, log: dict, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The same log as an ``.eval`` file; ``method`` 93 packs it by Zstandard, as inspect_ai does today."""
    header = {k: v for k, v in log.items() if k != "samples"}
    entries = {"_journal/start.json": {"version": 2, "eval": log["eval"]}, "header.json": header}
    entries |= {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in log["samples"]}
    sizes = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            data = json.dumps(content).encode()
            sizes.append(len(data))
            if method == 93:
                data = pa.Codec("zstd").compress(data, asbytes=True)
            archive.writestr(name, data, zipfile.ZIP_STORED if method == 93 else method)
        infos = archive.infolist()
    if method == 93:  # zipfile cannot write it: the method's number and the sizes are put in afterwards
        data = bytearray(path.read_bytes())
        place = struct.unpack_from("<I", data, len(data) - 6)[0]
        for info, size in zip(infos, sizes, strict=True):
            struct.pack_into("<H", data, info.header_offset + 8, method)
            struct.pack_into("<I", data, info.header_offset + 22, size)
            struct.pack_into("<H", data, place + 10, method)
            struct.pack_into("<I", data, place + 24, size)
            name, extra, comment = struct.unpack_from("<3H", data, place + 28)
            place += 46 + name + extra + comment
        path.write_bytes(data)
    return path


GREETINGS = [
    sample("hello", "hello there", {"includes": "C", "judge": {"tone": 3, "wit": "P"}}),
    sample("bye", "hello there", {"includes": "I", "judge": {"tone": float("nan"), "wit": "N"}}),
    failed("late", "timed out"),
    sample("hello", "no", {"includes": "I", "judge": {"tone": 1, "wit": True}}, epoch=2),
]
