"""Cells in worker processes: killed at any moment and started again, a study ends with the same results."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pippin.compare.cells import Cell
from pippin.compare.plan import plan
from pippin.compare.pool import CellsFailed, _Ready, run_cells
from pippin.compare.study import read_study
from pippin.core.errors import StoreError
from pippin.core.store import Store

from .studies import SMALL, varied, write

RUN = """
import sys
from pathlib import Path
from pippin.compare.run import run_study
from pippin.compare.study import read_study
def report(what, done, total): print(what, flush=True)
r = run_study(read_study(sys.argv[1]), Path(sys.argv[2]), command="test", workers=int(sys.argv[3]), report=report)
print("ran", r["seconds"]["ran"], flush=True)
"""


def start(study, out, home, workers=2):
    env = {**os.environ, "PIPPIN_HOME": str(home)}
    command = [sys.executable, "-c", RUN, str(study), str(out), str(workers)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def results(out):
    found = json.loads((out / "results.json").read_text())
    found.pop("seconds")
    for row in found["arms"]:
        row["ledger"].pop("wall_clock")
    return found


def test_killed_and_started_again_it_ends_the_same_and_repeats_nothing(tmp_path):
    study = write(tmp_path, SMALL)
    whole = start(study, tmp_path / "a", tmp_path / "home_a")
    said, _ = whole.communicate(timeout=240)
    assert whole.returncode == 0, said
    total = len(plan(read_study(study)).cells)
    assert f"ran {total}" in said

    done: set[str] = set()
    for finished_before_kill in (3,):
        running = start(study, tmp_path / "b", tmp_path / "home_b")
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("done: "):
                assert line not in done, "a finished cell was run again"
                done.add(line)
            if len(done) >= finished_before_kill:
                os.kill(running.pid, signal.SIGKILL)
                break
        running.wait()
        assert not (tmp_path / "b" / "results.json").exists()
    last = start(study, tmp_path / "b", tmp_path / "home_b")
    said, _ = last.communicate(timeout=240)
    assert last.returncode == 0, said
    again = {line + "\n" for line in said.splitlines() if line.startswith("done: ")}
    assert not again & done
    assert results(tmp_path / "b") == results(tmp_path / "a")

    other = start(study, tmp_path / "c", tmp_path / "home_b")
    said, _ = other.communicate(timeout=240)
    assert "ran 0" in said and results(tmp_path / "c") == results(tmp_path / "a")


def test_two_processes_on_one_store_share_the_cells_and_run_none_twice(tmp_path):
    study, home = write(tmp_path, SMALL), tmp_path / "home"
    both = [start(study, tmp_path / name, home, workers=1) for name in "ab"]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    ran = [{line for line in text.splitlines() if line.startswith("done: ")} for text in said]
    assert len(ran[0] | ran[1]) == len(plan(read_study(study)).cells) and not ran[0] & ran[1]
    assert all(f"ran {len(mine)}" in text for mine, text in zip(ran, said, strict=True))
    assert results(tmp_path / "a") == results(tmp_path / "b")
    assert not list((home / "artifacts" / ".claims").iterdir())


def test_a_cell_that_another_runs_is_waited_for_and_a_dead_ones_is_taken(tmp_path):
    store = Store(tmp_path / "store.db")
    cells = {letter * 16: Cell(letter * 16, "train", {}, letter) for letter in "ab"}
    code = f"""
import sys
from pathlib import Path
from pippin.compare.claims import Claims
from pippin.core.errors import StoreError
from pippin.core.store import Store
print(Claims(Store(Path({str(tmp_path / "store.db")!r}))).take("{"a" * 16}"), flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    heard = []
    ready = _Ready(cells, set(), store, lambda cell, event, figures: heard.append((cell.label, event)))
    assert ready.take().key == "b" * 16  # a is the other's
    ready.done("b" * 16, None)
    other.kill()
    other.wait()
    assert ready.take().key == "a" * 16
    store.add_cell("a" * 16, {}, {})
    ready.done("a" * 16, None)
    again = _Ready(cells, {"b" * 16}, store, lambda cell, event, figures: heard.append((cell.label, event)))
    assert again.take() is None and heard == [("a", "found")]


def test_a_store_that_cannot_be_written_ends_the_work_with_one_line(tmp_path):
    cells = {"a" * 16: Cell("a" * 16, "judge", {}, "a")}
    store = Store(tmp_path / "store.db")
    assert store.cell("a" * 16) is None
    store.artifacts.root.mkdir()
    (store.artifacts.root / ".claims").write_text("not a folder")
    with pytest.raises(StoreError, match=r"\.claims: cannot be written"):
        run_cells(cells, tmp_path / "store.db", workers=1)


def test_a_failed_cell_is_reported_and_the_others_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path / "home"))
    bad = {**SMALL["settings"], "ipo_like": {"beta": 0.5, "max_length": 2}}
    planned = plan(read_study(write(tmp_path, varied(settings=bad))))
    with pytest.raises(CellsFailed, match=r"ipo_like .*: nothing to train on") as caught:
        run_cells(planned.cells, None, workers=2)
    assert caught.value.exit_code == 3
    kept = [c.label for k, c in planned.cells.items() if Store().cell(k) is not None]
    assert any(label.startswith("dpo judged") for label in kept)
    assert not any(label.startswith("ipo_like") for label in kept)


def test_cells_with_most_work_behind_them_come_first():
    def cell(key, needs=()):
        return Cell(key, "train", {"needs": [f"cell:{n}" for n in needs]}, key)

    a, b, c, d = (letter * 16 for letter in "abcd")
    ready = _Ready({d: cell(d), a: cell(a), b: cell(b, [a]), c: cell(c, [b])}, set())
    assert ready.take().key == a
    assert ready.take().key == d  # b waits for a
    ready.done(a, None)
    assert ready.take().key == b
    started = time.monotonic()
    ready.done(b, "it broke")
    ready.done(d, None)
    assert ready.take() is None and time.monotonic() - started < 5
    assert ready.left == 1 and list(ready.failures.values()) == ["it broke"]
