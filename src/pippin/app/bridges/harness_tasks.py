"""A benchmark's labelled pairs as tasks that lm-evaluation-harness runs as they are: which output is better?

Each pair is two questions, one for each order, with the wording of Pippin's own judges. There is a task of labels by
log-likelihood and one of written replies (``_chat``) for each set, and a group of each kind. What the harness cannot
say: it counts a reply that states no verdict as wrong, where ``pippin meta`` counts it as missing.

Source: lm_eval 0.4.13, ``docs/new_task_guide.md``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pippin.compare.meta.labelled import LabelledSet, benchmark_data, labelled_sets
from pippin.core.errors import InputError
from pippin.core.run import replacing
from pippin.data.rows import write_rows
from pippin.judge.ask import LABELS, ORDERS, SYSTEM, comparison

VERSION = 1.0
VERDICT = r"^\s*(\([ab]\))\s*$"
CHAT = "_chat"


def write_tasks(benchmark: str, data: Path, out: Path) -> dict[str, Any]:
    """Write the rows and tasks of ``benchmark`` into the folder ``out``; what was written.

    Ties are left out, and counted: the harness has no right answer for them.

    Raises:
        InputError: no data, or no pair of which one is better. UnknownName: no such benchmark.
    """
    description, groups, _ = benchmark_data(benchmark, data, None)
    stem = f"pippin_{_slug(Path(benchmark).stem)}"
    parts = labelled_sets(groups, description, (), None)
    decided = {name: part for name, part in parts.items() if (part.gold_N != 0).any()}
    if not decided:
        raise InputError("people call every pair a tie", where=str(data))
    out.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, int] = {}
    for name, part in decided.items():
        task = f"{stem}_{_slug(name)}"
        if task in tasks:
            raise InputError("two sets of one name", where=str(data), found=name)
        rows = _rows(part)
        file = out.absolute() / f"{task}.jsonl"
        write_rows(file, rows)
        _write(out / f"{task}.yaml", _by_likelihood(task, file))
        _write(out / f"{task}{CHAT}.yaml", _by_reply(task, file))
        tasks[task] = len(rows) // len(ORDERS)
    for ending, metric in (("", "acc"), (CHAT, "exact_match")):
        _write(out / f"{stem}{ending}.group.yaml", _group(stem + ending, [t + ending for t in tasks], metric))
    ties = sum(int((part.gold_N == 0).sum()) for part in parts.values())
    return {"group": stem, "chat": stem + CHAT, "tasks": tasks, "pairs": sum(tasks.values()), "ties": ties}


def _rows(part: LabelledSet) -> list[dict[str, Any]]:
    """One row a pair and order; ``label`` is the place of the better output as shown."""
    rows = []
    for pair, gold in zip(part.pairs, part.gold_N.tolist(), strict=True):
        for order in ORDERS if gold else ():
            shown = comparison(pair, order)[-1].content
            first = (gold > 0) == (order == ORDERS[0])
            rows.append({"text": shown, "label": 0 if first else 1, "pair": pair.id, "order": order})
    return rows


def _by_likelihood(task: str, file: Path) -> dict[str, Any]:
    return {
        **_common(task, file), "output_type": "multiple_choice", "doc_to_target": "label",
        "doc_to_choice": list(LABELS), "metric_list": [_metric("acc")],
    }  # fmt: skip


def _by_reply(task: str, file: Path) -> dict[str, Any]:
    kept = [{"function": "regex", "regex_pattern": VERDICT}, {"function": "take_first"}]
    return {
        **_common(task + CHAT, file), "output_type": "generate_until",
        "doc_to_target": f"{{{{ {list(LABELS)}[label] }}}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": False, "temperature": 0.0},
        "filter_list": [{"name": "verdict", "filter": kept}], "metric_list": [_metric("exact_match")],
    }  # fmt: skip


def _common(task: str, file: Path) -> dict[str, Any]:
    return {
        "task": task, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test", "description": f"{SYSTEM}\n\n", "doc_to_text": "text", "target_delimiter": "\n\n",
        "metadata": {"version": VERSION},
    }  # fmt: skip


def _metric(name: str) -> dict[str, Any]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": True}


def _group(name: str, tasks: list[str], metric: str) -> dict[str, Any]:
    found = [{"metric": metric, "aggregation": "mean", "weight_by_size": True}]
    if metric == "exact_match":
        found[0]["filter_list"] = ["verdict"]
    return {"group": name, "task": tasks, "aggregate_metric_list": found, "metadata": {"version": VERSION}}


def _write(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000).encode())


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
