"""Several processes, and processes that die."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from core_records import call

from pippin.core.store import Store

HERE = Path(__file__).parent
PRELUDE = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from core_records import call, choice
from pippin.core.store import Store
store = Store(sys.argv[1])
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), [error for _, error in outputs]
    return [out for out, _ in outputs]


def sound(path: Path) -> bool:
    with sqlite3.connect(path) as connection:
        return connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]


def test_four_writers(tmp_path):
    """All start at once on a store that is not there yet; half of what they write is the same; one gets the lease."""
    path = tmp_path / "s.db"
    code = """
me = int(sys.argv[2])
for batch in range(10):
    rows = range(batch * 25, batch * 25 + 25)
    store.add_calls([call(f"shared {i}") for i in rows] + [call(f"{me} {i}") for i in rows])
    store.add_judgements([choice(f"shared {i}") for i in rows], run=f"run {me}")
print(int(store.lease("k", str(me), 60)))
"""
    outputs = finish(*[start(code, path, me) for me in range(4)])
    assert sorted(map(int, outputs)) == [0, 0, 0, 1]
    with Store(path) as store:
        size = store.size()
        assert (size["calls"], size["judgements"]) == (250 + 4 * 250, 250)
        assert [len(store.judgements(run=f"run {me}")) for me in range(4)] == [250] * 4
        assert store.call(call("3 249").id) == call("3 249")
    assert sound(path)


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "s.db"
    code = """
start = int(sys.argv[2])
for batch in range(start, start + 100_000):
    store.add_calls([call(f"{batch} {i}", text="x" * 500) for i in range(20)])
    print(batch, flush=True)
"""
    acknowledged: list[int] = []
    for life, batches in enumerate([3, 17, 40]):
        writer = start(code, path, life * 100_000)
        assert writer.stdout is not None
        for _ in range(batches):
            acknowledged.append(int(writer.stdout.readline()))
        os.kill(writer.pid, signal.SIGKILL)  # somewhere in a later batch
        acknowledged += [int(line) for line in writer.communicate()[0].split()]
        assert writer.returncode == -signal.SIGKILL
        assert sound(path)
    with Store(path) as store:
        wanted = [call(f"{batch} {i}", text="x" * 500) for batch in acknowledged for i in range(20)]
        assert store.calls(c.id for c in wanted) == {c.id: c for c in wanted}
        assert store.size()["calls"] % 20 == 0  # no half batch


def test_a_dead_holders_lease_runs_out(tmp_path):
    path = tmp_path / "s.db"
    holder = start("print(store.lease('k', 'dead', 1.0), flush=True); time.sleep(60)", path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with Store(path) as store:
        assert not store.lease("k", "me", 60)
        holder.kill()
        holder.communicate()
        taken = False
        for _ in range(100):
            if taken := store.lease("k", "me", 60):
                break
            signal.sigtimedwait([], 0.05)
        assert taken


@pytest.mark.parametrize("finished", [False, True])
def test_an_artifact_is_whole_or_absent_when_its_writer_is_killed(tmp_path, finished):
    path = tmp_path / "s.db"
    code = """
with store.writing("k") as folder:
    (folder / "half").write_text("x" * 1000)
    if sys.argv[2] == "False":
        print("half", flush=True)
        time.sleep(60)
    (folder / "rest").write_text("y")
print("done", flush=True)
time.sleep(60)
"""
    writer = start(code, path, finished)
    assert writer.stdout is not None
    writer.stdout.readline()
    with Store(path) as store:
        left = list((tmp_path / "artifacts" / ".tmp").iterdir())
        assert store.clean()["unfinished"] == 0  # its owner lives
        assert list((tmp_path / "artifacts" / ".tmp").iterdir()) == left
        writer.kill()
        writer.communicate()
        found = store.artifact("k")
        if finished:
            assert found is not None
            assert sorted(file.name for file in found.iterdir()) == ["half", "rest"]
            assert left == []
        else:
            assert found is None
            assert store.clean()["unfinished"] == len(left) == 1
        assert list((tmp_path / "artifacts" / ".tmp").iterdir()) == []
        with store.writing("k") as folder:
            (folder / "new").touch()
        assert store.artifact("k") == tmp_path / "artifacts" / "k"
