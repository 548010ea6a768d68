"""Rows in and out of files: JSON lines, JSON arrays, CSV and Parquet, plain or gzipped.

A JSON line ends at ``\\n`` and nowhere else: ``str.splitlines`` would also break at U+2028, U+0085 and others, which
are ordinary characters inside a JSON string.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from pippin.core.errors import InputError
from pippin.core.run import replacing

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
"""What a file of rows may end in; each but Parquet also with ``.gz``."""


class Row(NamedTuple):
    """One row, and where it stands (``file:line`` or ``file:row N``), for messages about it."""

    where: str
    values: dict[str, Any]


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one at a time.

    Raises:
        InputError: no such file, a suffix that is not known, no rows at all, a line that is not a whole JSON object.
    """
    path = Path(path)
    kind = _kind(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else None
        raise InputError("no such file", where=str(path), found=found)
    read = {".parquet": _parquet, ".csv": _csv, ".json": _json}.get(kind, _json_lines)
    empty = True
    for row in read(path):
        empty = False
        yield row
    if empty:
        raise InputError("a file without rows", where=str(path))


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write ``rows`` in the format that the suffix names, whole or not at all; return how many.

    The same rows give the same bytes. Parquet columns are the union of the rows' keys.
    """
    path = Path(path)
    kind = _kind(path)
    with replacing(path) as file:
        return _write_parquet(file, rows) if kind == ".parquet" else _write_text(file, path, kind, rows)


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    kind = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if kind is None:
        raise InputError("a file of unknown kind", where=str(path), found=path.suffix, expected=SUFFIXES)
    return kind


def _open(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked by what they are and not by what the name says."""
    with path.open("rb") as file:
        start = file.read(40)
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            "a Git LFS pointer instead of the data", where=str(path), mend="Run: git lfs pull, or download the file"
        )
    return gzip.open(path, "rb") if start.startswith(b"\x1f\x8b") else path.open("rb")  # type: ignore[return-value]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with _open(path) as file:
        try:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, text
        except (EOFError, OSError) as error:
            raise InputError("the file ends too early or is damaged", where=str(path), found=str(error)) from None


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        yield Row(where := f"{path}:{number}", _object(_parse(line, where, "a line"), where))


def _json(path: Path) -> Iterator[Row]:
    """A JSON array or one object; ``.json`` files that hold JSON lines are common, and are read too."""
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        return
    if not first[1].lstrip().startswith(b"["):
        try:
            orjson.loads(first[1])
        except orjson.JSONDecodeError:  # one object over several lines
            values = _parse(first[1] + b"".join(line for _, line in lines), str(path), "a file")
            yield Row(f"{path}:row 1", _object(values, str(path)))
            return
        yield from _json_lines(path)
        return
    values = _parse(first[1] + b"".join(line for _, line in lines), str(path), "a file")
    for number, value in enumerate(values, 1):
        yield Row(where := f"{path}:row {number}", _object(value, where))


def _parse(data: bytes, where: str, what: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\ud" in data.lower():  # perhaps half a character, cut by some program: Python's own parser takes it
            with contextlib.suppress(ValueError):
                return json.loads(data)
        raise InputError(f"{what} that is not whole JSON ({error.msg})", where=where, found=_end(data),
                         mend="Was the writing cut off?") from None  # fmt: skip


def _dump(row: Any, option: int = 0) -> bytes:
    try:
        return orjson.dumps(row, option=option)
    except TypeError:  # half a character, which only an escape can hold; anything else is refused here too
        return json.dumps(row, allow_nan=False).encode()


def _end(data: bytes) -> str:
    text = data.strip().decode("utf-8", "replace")
    return text if len(text) <= 60 else f"…{text[-60:]}"


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError("a row that is not an object", where=where, found=value, expected="{...}")
    return value


def _csv(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
        try:
            for values in reader:
                where = f"{path}:{reader.line_num}"
                if None in values or None in values.values():
                    raise InputError("a row with more or fewer cells than the header", where=where,
                                     expected=reader.fieldnames)  # fmt: skip
                yield Row(where, dict(values))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError("not CSV in UTF-8", where=f"{path}:{reader.line_num}", found=str(error)) from None


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError("not a Parquet file", where=str(path), found=str(error)) from None
    number = 0
    for batch in table.iter_batches():
        for values in batch.to_pylist():
            number += 1
            yield Row(f"{path}:row {number}", values)


def _write_text(file: BinaryIO, path: Path, kind: str, rows: Iterable[Mapping[str, Any]]) -> int:
    packed = path.name.lower().endswith(".gz")
    out: Any = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) if packed else file
    count = 0
    if kind == ".csv":
        listed = list(rows)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in listed for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)
        out.write(text.getvalue().encode())
        count = len(listed)
    elif kind == ".json":
        listed = list(rows)
        out.write(_dump(listed, orjson.OPT_INDENT_2) + b"\n")
        count = len(listed)
    else:
        for count, row in enumerate(rows, 1):  # noqa: B007
            out.write(_dump(row) + b"\n")
    if packed:
        out.close()
    return count


def _write_parquet(file: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    listed = list(rows)
    names = dict.fromkeys(key for row in listed for key in row)
    table = pa.table({name: [row.get(name) for row in listed] for name in names})
    parquet.write_table(table, file)
    return len(listed)
