"""Logs in the formats of Inspect and lm-evaluation-harness, small and written here."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa

TIME = "2026-01-02T03-04-05.678901"


def inspect_log(samples: list[dict[str, Any]], *, model: str = "mockllm/a", task: str = "t", status: str = "success",
                stated: dict[str, float] | None = None, ids: list[Any] | None = None) -> dict[str, Any]:  # fmt: skip
    """An Inspect log; each sample is ``id, epoch, scores`` and perhaps input and metadata."""
    scores = [
        {"name": name, "scorer": name, "reducer": "mean", "metrics": {"accuracy": {"name": "accuracy", "value": value}}}
        for name, value in (stated or {}).items()
    ]
    rows = [
        {"input": f"question {s['id']}", "target": "yes", "metadata": {}, **s,
         "scores": {name: {"value": value} for name, value in s.get("scores", {}).items()}}
        for s in samples
    ]  # fmt: skip
    known = ids if ids is not None else list(dict.fromkeys(s["id"] for s in samples))
    return {
        "version": 2, "status": status,
        "eval": {"task": task, "model": model, "dataset": {"sample_ids": known}},
        "results": {"scores": scores, "headline": {"score": next(iter(stated), None)} if stated else None},
        "samples": rows,
    }  # fmt: skip


def write_inspect(path: Path, log: dict[str, Any], *, cut: bool = False) -> Path:
    """``.json``, or ``.eval`` packed by Zstandard; ``cut`` leaves what there is before the end."""
    if path.suffix == ".json":
        path.write_text(json.dumps(log, indent=2))
        return path
    head = {key: value for key, value in log.items() if key not in ("samples", "results", "status")}
    members: dict[str, Any] = {"_journal/start.json": head}
    members |= {f"samples/{s['id']}_epoch_{s['epoch']}.json": {**s, "events": []} for s in log["samples"]}
    members["_journal/summaries/1.json"] = log["samples"]
    if not cut:
        members |= {"summaries.json": log["samples"], "header.json": {**head, "status": log["status"],
                                                                      "results": log["results"]}}  # fmt: skip
    path.write_bytes(_zip({name: json.dumps(value).encode() for name, value in members.items()}))
    return path


def _zip(members: dict[str, bytes]) -> bytes:
    """A zip archive with method 93 (PKWARE's APPNOTE, 4.3 and 4.4), which zipfile cannot write before Python 3.14."""
    body, directory = b"", b""
    for name, content in members.items():
        packed = pa.Codec("zstd").compress(content, asbytes=True)
        fields = (63, 0, 93, 0, 0, zlib.crc32(content), len(packed), len(content), len(name), 0)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 63, *fields, 0, 0, 0, 0, len(body)) + name.encode()
        body += struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name.encode() + packed
    count = len(members)
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)


def write_harness(folder: Path, tasks: dict[str, list[dict[str, Any]]], *, model: str = "m", metric: str = "acc",
                  groups: dict[str, list[str]] | None = None, stated: dict[str, float] | None = None,
                  higher: bool = True, aggregation: str = "mean", results: bool = True) -> Path:  # fmt: skip
    """A folder as ``--log_samples`` writes it; each row is ``score`` (a number or a mapping) and perhaps a doc."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, rows in tasks.items():
        lines = []
        for at, row in enumerate(rows):
            doc = row.get("doc", {"question": f"{task} {at}"})
            digest = hashlib.sha256(json.dumps(doc).encode()).hexdigest()
            scores = row["score"] if isinstance(row["score"], dict) else {metric: row["score"]}
            lines.append({"doc_id": at, "doc": doc, "target": "0", "filter": row.get("filter", "none"),
                          "metrics": list(scores), "doc_hash": digest, **scores})  # fmt: skip
        Path(folder, f"samples_{task}_{TIME}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if results:
        told = {
            "results": {name: {f"{metric},none": value} for name, value in (stated or {}).items()},
            "group_subtasks": groups or {}, "model_name": model, "config": {"limit": None},
            "configs": {t: {"metric_list": [{"metric": metric, "aggregation": aggregation}]} for t in tasks},
            "higher_is_better": {t: {metric: higher} for t in tasks},
        }  # fmt: skip
        Path(folder, f"results_{TIME}.json").write_text(json.dumps(told, indent=2))
    return folder
