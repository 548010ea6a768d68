"""One contestant of ``judge_client.py``: AlpacaEval's annotator, with a thread for every request under way.

Runs in an environment of its own: ``pip install alpaca_eval==0.6.6``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path


def main(rows_file: str, url: str, connections: str) -> None:
    os.environ |= {
        "OPENAI_API_KEY": "none", "OPENAI_API_BASE": url, "OPENAI_MAX_CONCURRENCY": connections,
        "OPENAI_CLIENT_CONFIG_PATH": "/nowhere", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    from alpaca_eval.annotators import PairwiseAnnotator

    logging.disable(logging.WARNING)
    rows = json.loads(Path(rows_file).read_text())
    first = [{"instruction": r["instruction"], "output": r["output_1"], "generator": "one"} for r in rows]
    second = [{"instruction": r["instruction"], "output": r["output_2"], "generator": "two"} for r in rows]
    again = [[{**row, "instruction": row["instruction"] + " "} for row in side] for side in (second, first)]
    with tempfile.TemporaryDirectory() as folder:
        annotator = PairwiseAnnotator(
            annotators_config="weighted_alpaca_eval_gpt4_turbo", caching_path=Path(folder) / "cache.json"
        )
        began = time.perf_counter()
        said = annotator.annotate_head2head(first + again[0], second + again[1])
        seconds = time.perf_counter() - began
    good = sum(row.get("preference") is not None and row["preference"] == row["preference"] for row in said)
    print(json.dumps({"seconds": seconds, "judgements": good}))


if __name__ == "__main__":
    main(*sys.argv[1:])
