"""Rows in and out of files. Oracles: the json, csv, gzip and pyarrow libraries."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pippin.core.errors import InputError
from pippin.data.rows import read_rows, write_rows

# U+2028, U+0085, U+000B ... break str.splitlines; only \n ends a JSON line.
SEPARATORS = "a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg"
text = st.text(st.characters(exclude_categories=["Cs"]))


def values(path: Path) -> list[dict[str, Any]]:
    return [row.values for row in read_rows(path)]


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps({"a": SEPARATORS}, ensure_ascii=False) + "\r\n\n").encode() * 2)
    assert values(path) == [{"a": SEPARATORS}] * 2


@pytest.mark.parametrize("suffix", ["jsonl", "json", "jsonl.gz", "json.gz", "parquet"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.fixed_dictionaries({"a": text, "b": st.lists(text)}), min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / f"rows.{suffix}"
    assert write_rows(path, rows) == len(rows)
    assert values(path) == rows


def test_other_libraries_read_what_is_written(tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = [{"a": SEPARATORS, "b": 1}, {"a": "x", "b": 2}]
    for name in ("r.jsonl.gz", "r.csv", "r.parquet"):
        write_rows(tmp_path / name, rows)
    with gzip.open(tmp_path / "r.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        assert [json.loads(line) for line in lines] == rows
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"a": r["a"], "b": str(r["b"])} for r in rows]
    assert parquet.read_table(tmp_path / "r.parquet").to_pylist() == rows


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_half_a_character_survives(tmp_path: Path, suffix: str) -> None:
    rows = [{"a": "cut \ud83d"}]
    write_rows(tmp_path / f"r.{suffix}", rows)
    assert values(tmp_path / f"r.{suffix}") == rows
    assert json.loads((tmp_path / f"r.{suffix}").read_text()) in (rows, rows[0])


def test_parquet_has_the_columns_of_all_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.parquet", [{"a": 1}, {"b": "x"}])
    assert values(tmp_path / "r.parquet") == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        write_rows(tmp_path / name, [{"a": "x"}])
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"a": 1}])
    with pytest.raises(ZeroDivisionError):
        write_rows(path, ({"a": 1 // n} for n in (1, 0)))
    assert values(path) == [{"a": 1}]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_json_lines_and_one_object_are_read_from_json_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert values(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{\n  "a": 1\n}\n')
    assert values(path) == [{"a": 1}]


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert values(tmp_path / "r.jsonl") == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.jsonl", b'{"a": 1}\n{"a": "hal', ("cut.jsonl:2", "not whole JSON")),
        ("empty.jsonl", b"\n\n", ("empty.jsonl", "without rows")),
        ("list.jsonl", b'{"a": 1}\n[1]\n', ("list.jsonl:2", "not an object")),
        ("cut.json", b'[{"a": 1},', ("cut.json", "not whole JSON")),
        ("item.json", b'[{"a": 1}, 7]', ("item.json:row 2", "not an object")),
        ("latin.jsonl", '{"a": "é"}\n'.encode("latin-1"), ("latin.jsonl:1",)),
        (
            "pointer.jsonl.gz",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            ("Git LFS", "git lfs pull"),
        ),
        ("cut.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], ("cut.jsonl.gz", "damaged")),
        ("rows.txt", b"x", ("unknown kind", ".jsonl")),
        ("short.csv", b"a,b\n1\n", ("short.csv:2", "cells")),
        ("no.parquet", b"PAR", ("no.parquet", "not a Parquet file")),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, said: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        values(tmp_path / name)
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
        values(tmp_path / "gone.jsonl")
