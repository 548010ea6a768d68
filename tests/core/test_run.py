import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pippin.core.errors import InputError, UnknownName
from pippin.core.run import (
    Ledger,
    _versions,
    data_digest,
    environment,
    file_digest,
    home,
    replacing,
    write_json,
)
from pippin.core.types import Prompt, from_row, user


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("PIPPIN_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    for empty in (lambda: monkeypatch.setenv("PIPPIN_HOME", ""), lambda: monkeypatch.delenv("PIPPIN_HOME")):
        empty()
        assert home() == Path.home() / ".cache" / "pippin"


def test_a_ledger_counts_by_each_columns_rule():
    ledger = Ledger()
    ledger.add(steps=2, wall_clock=1.5, peak_memory=10, kl=0.5, inference_multiplier=16)
    ledger.add(steps=np.int64(3), wall_clock=0.5, peak_memory=7, kl=None, inference_multiplier=1)
    ledger.add(kl=-0.1)  # an estimate of a divergence may be below zero
    assert (ledger.steps, ledger.wall_clock, ledger.peak_memory, ledger.kl) == (5, 2.0, 10, -0.1)
    assert ledger.inference_multiplier == 16
    assert type(ledger.steps) is int


def test_ledgers_of_two_stages_come_together():
    first, second = Ledger(steps=2, labels=100, peak_memory=9, mean_length=50.0, kl=1.0), Ledger(steps=3, kl=2.0)
    both = first.merge(second)
    assert (both.steps, both.labels, both.peak_memory, both.mean_length, both.kl) == (5, 100, 9, 50.0, 2.0)
    assert (first.steps, second.steps) == (2, 3)


@pytest.mark.parametrize("count", [-1, float("nan"), float("inf"), None])
def test_a_ledger_only_grows(count):
    with pytest.raises(InputError, match="the ledger's steps only grows"):
        Ledger().add(steps=count)


def test_unknown_columns_are_named():
    with pytest.raises(UnknownName, match=r"no ledger column named 'judge_call'\. Did you mean 'judge_calls'"):
        Ledger().add(judge_call=1)


def test_every_column_has_a_unit_and_survives_json():
    ledger = Ledger(steps=3, kl=0.25)
    row = ledger.to_row()
    assert list(row) == list(Ledger.columns())
    assert all(unit and help for unit, help in Ledger.columns().values())
    assert from_row(Ledger, json.loads(json.dumps(row))) == ledger


def test_environment_is_cheap_and_imports_nothing():
    import pippin

    _versions.cache_clear()
    start = time.process_time()
    found = environment()
    assert time.process_time() - start < 0.05
    assert found["python"] == sys.version.split()[0]
    assert found["numpy"] == np.__version__
    assert found.get("pippin", pippin.__version__) == pippin.__version__
    code = "import sys; from pippin.core.run import environment; environment(); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_peak_memory_is_in_bytes():
    code = "from pippin.core.run import peak_memory as p; a = p(); x = b'x' * 200_000_000; del x; print(a, p())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 10_000_000 < before < 200_000_000
    assert 190_000_000 < after - before < 250_000_000


def test_json_is_written_whole_sorted_and_readable(tmp_path):
    path = tmp_path / "deep" / "r.json"
    value = {"b": (1, 2.0), "a": {"é": None, "hostile": "\ud83d"}, "n": np.float32(0.5), "p": Prompt(user("Hi"))}
    write_json(path, value)
    first = path.read_bytes()
    assert json.loads(first)["a"] == {"é": None, "hostile": "\ud83d"}
    assert json.loads(first)["b"] == [1, 2.0]
    assert first.index(b'"a"') < first.index(b'"b"')
    assert first.endswith(b"}\n")
    write_json(path, dict(reversed(value.items())))
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]


def test_text_stays_readable(tmp_path):
    write_json(tmp_path / "r.json", {"a": "é"})
    assert "é" in (tmp_path / "r.json").read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.glob("*r.json*")] == ["r.json"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "r.json"
    write_json(path, "old")
    with path.open() as reader:
        write_json(path, "new")
        assert reader.read() == '"old"\n'
    assert path.read_text() == '"new"\n'


def test_file_digest(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_digest(path, 64) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(path) == "ba7816bf8f01cfea"
    with pytest.raises(InputError, match="gone: cannot be read"):
        file_digest(tmp_path / "gone")


def test_the_digest_of_a_folder_knows_names_and_contents(tmp_path):
    def folder(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return file_digest(tmp_path / name)

    one = folder("one", {"a": "x", "sub/b": "y"})
    assert one == folder("two", {"sub/b": "y", "a": "x"})
    assert len({one, folder("three", {"a": "x", "b": "y"}), folder("four", {"a": "x", "sub/b": "z"})}) == 3


def test_data_digest_is_of_rows_in_order():
    rows = [{"a": 1, "b": "x"}, {"a": 2}]
    assert data_digest(rows) == data_digest(iter([{"b": "x", "a": 1.0}, {"a": 2}]))
    assert data_digest(rows) != data_digest(reversed(rows))
    assert data_digest([{"a": [1]}, {"a": [2]}]) != data_digest([{"a": [1, 2]}])
    assert data_digest(rows, 64) == hashlib.sha256(b'{"a":1,"b":"x"}\n{"a":2}\n').hexdigest()
    assert data_digest([Prompt(user("Hi"))]) == data_digest([Prompt(user("Hi"))])
