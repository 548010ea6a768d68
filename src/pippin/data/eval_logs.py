"""Logs of other evaluation programs, as they lie in files: Inspect's and lm-evaluation-harness's.

An Inspect log is ``.json``, or ``.eval``: a zip archive whose members are packed by Zstandard, which Python's own
``zipfile`` cannot unpack before 3.14. lm-evaluation-harness writes with ``--log_samples`` a folder with
``results_TIME.json`` and one ``samples_TASK_TIME.jsonl`` for each task.

Source: inspect_ai 0.3.285, ``log/_recorders/eval.py``; lm_eval 0.4.13, ``loggers/evaluation_tracker.py``.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pippin.core.errors import InputError

Json = dict[str, Any]
Kind = Literal["inspect", "lm_eval"]

ZSTANDARD = 93  # the compression method's number in a zip archive
_LOCAL = 30  # bytes of a member's local header before its name
_TIME = r"(?:_(?P<time>\d{4}-\d\d-\d\dT[\d.-]+?))?"  # older releases name no time
_SAMPLES = re.compile(rf"samples_(?P<task>.+?){_TIME}\.jsonl")
_RESULTS = re.compile(rf"results{_TIME}\.json")


@dataclass(frozen=True)
class InspectLog:
    """One Inspect log: its header (status, task, model, results), and a row for each sample and epoch."""

    path: Path
    header: Json
    samples: tuple[Json, ...]


@dataclass(frozen=True)
class HarnessLog:
    """One run of lm-evaluation-harness: its results (empty where only samples are there), and the rows of each task."""

    path: Path
    results: Json
    samples: dict[str, tuple[Json, ...]]


def kind_of(path: Path) -> Kind | None:
    """Whose log lies at ``path``; None where it is no log, or there is nothing."""
    if path.is_dir():
        found = any(_RESULTS.fullmatch(file.name) or _SAMPLES.fullmatch(file.name) for file in path.rglob("*.json*"))
        return "lm_eval" if found else "inspect" if _inspect_files(path) else None
    if not path.is_file():
        return None
    if _SAMPLES.fullmatch(path.name) or _RESULTS.fullmatch(path.name):
        return "lm_eval"
    if path.suffix == ".eval":
        return "inspect"
    return "inspect" if path.suffix == ".json" and _is_inspect_json(path) else None


def inspect_logs(path: Path, *, whole: bool = False) -> list[InspectLog]:
    """The Inspect logs at ``path``: one, or all of a folder, by their names.

    Args:
        whole: samples with their messages and events, and not their summaries alone, where the log tells them apart.

    Raises:
        InputError: a file is damaged, is no log, or has no samples.
    """
    files = _inspect_files(path) if path.is_dir() else [path]
    return [_eval(file, whole) if file.suffix == ".eval" else _inspect_json(file) for file in files]


def harness_log(path: Path) -> HarnessLog:
    """The run of lm-evaluation-harness at ``path``: its folder or one above it, or one of its files.

    Raises:
        InputError: no samples are there, or those of several runs; a file is damaged.
    """
    files = sorted(path.rglob("*.json*")) if path.is_dir() else sorted(path.parent.glob("*.json*"))
    results = {(file.parent, found["time"]): file for file in files if (found := _RESULTS.fullmatch(file.name))}
    rows = [((f.parent, found["time"]), found["task"], f) for f in files if (found := _SAMPLES.fullmatch(f.name))]
    if path.is_file():  # the run whose results these are, or this one task
        rows = [row for row in rows if path == row[2] or path == results.get(row[0])]
    if not rows:
        raise InputError("results without samples" if results else "no log of lm-evaluation-harness", where=str(path),
                         expected="samples_TASK_TIME.jsonl", mend="Run it again with --log_samples")  # fmt: skip
    runs = list(dict.fromkeys(run for run, _, _ in rows))
    if len(runs) > 1:
        raise InputError("several runs in one folder", where=str(path), found=[f"{p.name} {time}" for p, time in runs],
                         mend="Name the folder of one, or its results file")  # fmt: skip
    stated = results.get(runs[0])
    return HarnessLog(
        path, _object(_text(stated), str(stated)) if stated else {},
        {task: tuple(_json_lines(file)) for _, task, file in rows},
    )  # fmt: skip


def _inspect_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return [f for f in files if f.suffix == ".eval" or (f.suffix == ".json" and _is_inspect_json(f))]


def _is_inspect_json(path: Path) -> bool:
    """Whether the file begins as an Inspect log does: with a version, a status and an evaluation."""
    with path.open("rb") as file:
        start = file.read(400)
    return all(key in start for key in (b'"version"', b'"status"', b'"eval"'))


def _inspect_json(path: Path) -> InspectLog:
    log = _object(_text(path), str(path))
    samples = log.pop("samples", None)
    return InspectLog(path, log, _some(samples, path))


def _eval(path: Path, whole: bool) -> InspectLog:
    """An archive; of an evaluation that was cut off, what its journal has."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            head = "header.json" if "header.json" in names else "_journal/start.json"
            told = sorted(n for n in names if n == "summaries.json") or sorted(
                n for n in names if n.startswith("_journal/summaries/")
            )
            chosen = sorted(n for n in names if n.startswith("samples/")) if whole or not told else told
            header = _object(_member(archive, head), f"{path}: {head}")
            parts = [_parsed(_member(archive, name), f"{path}: {name}") for name in chosen]
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (zipfile.BadZipFile, struct.error, EOFError, OSError, KeyError) as error:
        raise InputError("this log is damaged", where=str(path), found=str(error)) from None
    return InspectLog(path, header, _some([s for part in parts for s in (part if isinstance(part, list) else [part])],
                                          path))  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member, unpacked."""
    info = archive.getinfo(name)
    if info.compress_type != ZSTANDARD:
        return archive.read(name)
    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    head = archive.fp.read(_LOCAL)
    lengths: Sequence[int] = struct.unpack("<HH", head[-4:])
    archive.fp.seek(sum(lengths), 1)
    packed = archive.fp.read(info.compress_size)
    import pyarrow as pa  # only where a log is packed by it

    return pa.Codec("zstd").decompress(packed, info.file_size, asbytes=True) if info.file_size else b""


def _some(samples: Any, path: Path) -> tuple[Json, ...]:
    if not samples:
        raise InputError("a log without samples", where=str(path), mend="Run it with samples logged")
    return tuple(samples)


def _json_lines(path: Path) -> Iterator[Json]:
    for number, line in enumerate(_text(path).split(b"\n"), 1):
        if line.strip():
            yield _object(line, f"{path}:{number}")


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None


def _object(text: bytes, where: str) -> Json:
    made = _parsed(text, where)
    if not isinstance(made, dict):
        raise InputError("not an object", where=where, found=type(made).__name__, expected="{...}")
    return made


def _parsed(text: bytes, where: str) -> Any:
    """JSON with NaN and Infinity, which both programs write."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError("not JSON", where=where, found=str(error)) from None
