"""One contestant of ``judge_client.py``: inspect_ai, a task that generates one answer to every judgement's prompt.

No scorer, no display, no sample is written to the log as it runs: the fastest of its documented settings. Runs in an
environment of its own: ``pip install inspect_ai openai``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path


def main(rows_file: str, url: str, connections: str) -> None:
    os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url}
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.solver import generate

    rows = json.loads(Path(rows_file).read_text())
    texts = [
        f"Which output is better?\n\n{r['instruction']}\n\n(a)\n{r[one]}\n\n(b)\n{r[two]}\n\n(a) or (b)?" + " " * 900
        for one, two in (("output_1", "output_2"), ("output_2", "output_1"))
        for r in rows
    ]
    task = Task(MemoryDataset([Sample(input=text) for text in texts]), solver=generate())
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        [log] = eval(
            task, model="openai/gpt-4-1106-preview", model_base_url=url, display="none",
            max_connections=int(connections), max_samples=int(connections), adaptive_connections=False,
            log_dir=folder, log_samples=False, log_realtime=False, log_model_api=False,
            max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=5,
        )  # fmt: skip
        seconds = time.perf_counter() - began
    done = log.eval.dataset.samples if log.status == "success" else 0
    print(json.dumps({"seconds": seconds, "judgements": done}))


if __name__ == "__main__":
    main(*sys.argv[1:])
