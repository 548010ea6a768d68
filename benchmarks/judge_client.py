"""Speed of judging through an OpenAI-compatible server: Pippin against AlpacaEval and inspect_ai, on the same texts.

    python benchmarks/judge_client.py [--rounds 3] [--connections 64] [--only speed,latency,limit,overload]

The server is ``mock_openai.py`` in a process of its own: what is measured is the client. Every contestant judges 805
pairs in both orders (1,610 requests of about 4.6 KB: the instructions of AlpacaEval, outputs of their real lengths)
in a process of its own; imports do not count, storing the answers does. Contestants take turns; figures are medians.
The others are looked for in ``.oracle/alpaca_eval-0.6.6`` and ``.oracle/inspect_ai``, and left out where absent.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mock_openai import stats

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("PIPPIN_SHARED", HERE.parents[1] / "shared"))
ORACLE = HERE.parent / ".oracle"
CONTESTANTS = {  # name: (python, script, what the server answers)
    "pippin": (Path(sys.executable), "client_pippin.py", "(a)"),
    "alpaca_eval": (ORACLE / "alpaca_eval-0.6.6" / "bin" / "python", "client_alpaca_eval.py", "m"),
    "inspect_ai": (ORACLE / "inspect_ai" / "bin" / "python", "client_inspect_ai.py", "(a)"),
}


def rows() -> list[dict[str, str]]:
    """805 instructions with two outputs each. The outputs are filler of the lengths that the real ones have."""
    folder = SHARED / "data" / "alpaca_eval"
    with gzip.open(folder / "instructions.csv.gz", "rt", encoding="utf-8") as file:
        texts = [row["instruction"] for row in csv.DictReader(file)]
    with gzip.open(folder / "judgments.csv.gz", "rt", encoding="utf-8") as file:
        judged = [row for row in csv.DictReader(file) if row["model"] == "claude-2.1"]
    lengths = {int(row["index"]): (int(row["len_1"]), int(row["len_2"])) for row in judged}

    def filler(start: int, length: int) -> str:
        text, k = "", start
        while len(text) < length:
            k = (31 * k + 7) % len(texts)
            text += texts[k] + " "
        return text[:length]

    made = []
    for n, text in enumerate(texts):
        unique = text if text not in texts[:n] else f"{text} ({n})"
        one, two = lengths[n]
        made.append({"instruction": unique, "output_1": filler(n + 1, one), "output_2": filler(n + 400, two)})
    return made


@contextmanager
def server(text: str, *options: str) -> Iterator[int]:
    """The port of a fresh mock server."""
    command = [sys.executable, str(HERE / "mock_openai.py"), "--text", text, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def contest(name: str, file: Path, connections: int, *options: str) -> dict[str, Any]:
    """One run of one contestant: its judgements per second, and what the server saw."""
    python, script, text = CONTESTANTS[name]
    with server(text, *options) as port, tempfile.TemporaryDirectory() as home:
        command = [str(python), str(HERE / script), str(file), f"http://127.0.0.1:{port}/v1", str(connections)]
        environment = {**os.environ, "PIPPIN_HOME": home, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        result = json.loads(done.stdout.strip().splitlines()[-1])
        return {**stats(port), **result, "rate": result["judgements"] / result["seconds"]}


def compare(title: str, names: list[str], file: Path, connections: int, rounds: int, *options: str) -> None:
    """A table row per contestant: the median rate of all rounds, and how many times as fast Pippin is."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    refused = dict.fromkeys(names, 0.0)
    for _ in range(rounds):
        for name in names:
            run = contest(name, file, connections, *options)
            rates[name].append(run["rate"])
            refused[name] = run["refused"] / run["judgements"]
    ours = statistics.median(rates["pippin"])
    for name in names:
        middle = statistics.median(rates[name])
        spread = f"{min(rates[name]):,.1f} to {max(rates[name]):,.1f}"
        print(
            f"{title} | {name} | {middle:,.1f}/s ({spread}) | {ours / middle:.1f} | refused {refused[name]:.1%}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="speed,latency,limit,overload")
    arguments = parser.parse_args()
    only, connections, rounds = arguments.only.split(","), arguments.connections, arguments.rounds
    names = [name for name, (python, _, _) in CONTESTANTS.items() if python.exists()]
    with tempfile.TemporaryDirectory() as folder:
        every, part = Path(folder) / "all.json", Path(folder) / "part.json"
        made = rows()
        every.write_text(json.dumps(made))
        part.write_text(json.dumps(made[:400]))
        if "speed" in only:
            compare("0 ms", names, every, connections, rounds)
        if "latency" in only:
            compare("200 ms", names, every, connections, rounds, "--latency", "0.2")
        if "limit" in only:  # 800 judgements, Retry-After in whole seconds
            limit = ("--limit", "20", "--latency", "0.05")
            compare("20/s in a bucket", names, part, connections, 1, *limit)
            compare("20/s in a window", ["pippin"], part, connections, 1, *limit, "--window")
        if "overload" in only:
            run = contest("pippin", every, connections, "--latency", "0.2", "--overload", "2,5")
            print(f"503 from 2 s to 5 s | pippin | {run['rate']:.1f}/s | answers in each second: {run['by_second']}")


if __name__ == "__main__":
    main()
