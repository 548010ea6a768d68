"""One contestant of ``judge_client.py``: Pippin's judge and client, every call and judgement in a durable store."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from pippin.core.store import Store
from pippin.core.types import Prompt, Response, assistant, user
from pippin.judge.ask import Pair
from pippin.judge.resolve import resolve


def main(rows_file: str, url: str, connections: str) -> None:
    pairs = []
    for row in json.loads(Path(rows_file).read_text()):
        prompt = Prompt(user(row["instruction"]))
        first, second = (Response(prompt.id, assistant(row[k]), k) for k in ("output_1", "output_2"))
        pairs.append(Pair(prompt, first, second))
    judge = resolve(f"openai/mock@{url}?max_connections={connections}:vanilla")
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.db") as store:
        began = time.perf_counter()
        choices = judge.compare(pairs, store=store)
        seconds = time.perf_counter() - began
        stored = store.size()
    good = sum(not choice.outcome.missing for choice in choices)
    print(json.dumps({"seconds": seconds, "judgements": good, "stored": stored["calls"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
