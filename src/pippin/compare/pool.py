"""Many cells, several processes. A worker is this module run as a program: cells in on its standard input, results out.

Workers are fresh interpreters with one thread each and an allocator that keeps its pages, which is fastest for small
models. When the parent dies, however it dies, its workers see their input end and stop at once. Several parents may run
studies on one store at once: each cell is run by one of them (:mod:`claims`), and the others wait for it.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from pippin.compare.cells import Cell, in_order
from pippin.compare.claims import Claims
from pippin.core.errors import PippinError
from pippin.core.run import peak_memory
from pippin.core.store import Store

Json = dict[str, Any]
Watch = Callable[[Cell, str, Json], None]  # cell, "started" | "progress" | "done" | "failed" | "found", figures
POLL = 0.3  # seconds between looks for cells that another process runs


class CellsFailed(PippinError):
    """Some cells failed; the others are stored, and the same command resumes them."""

    exit_code = 3


def run_cells(
    cells: Mapping[str, Cell], store_path: Path | None, *, workers: int = 2, watch: Watch | None = None
) -> Json:
    """Run all cells that the store does not have, respecting what each needs.

    Returns:
        ``ran``: keys that were run now; ``seconds``: key -> seconds; ``cpu``: key -> CPU seconds of its worker, and
        under ``""`` those of starting the workers; ``peak_memory``: bytes of the largest worker.

    Raises:
        CellsFailed: at least one failed; the message names the first.
        StoreError: the store cannot be read or written.
    """
    store = Store(store_path)
    finished = {key for key in cells if store.cell(key) is not None}
    ready = _Ready(cells, finished, store, watch)
    report: Json = {"ran": [], "seconds": {}, "cpu": {}, "peak_memory": 0}
    if ready.left == 0:
        return report
    threads = [
        threading.Thread(target=_attend, args=(ready, store_path, watch, report), daemon=True)
        for _ in range(max(1, min(workers, ready.left)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    except BaseException:
        ready.stop()
        raise
    if ready.broken is not None:
        raise ready.broken
    if ready.failures:
        first, error = next(iter(ready.failures.items()))
        skipped = f"; {ready.left} cells that need it were not run" if ready.left else ""
        raise CellsFailed(f"{len(ready.failures)} of {len(cells)} cells failed, first {first}: {error}{skipped}")
    return report


class _Ready:
    """Which cell is next: those with most work behind them first, and none that another process runs."""

    def __init__(
        self, cells: Mapping[str, Cell], finished: set[str], store: Store | None = None, watch: Watch | None = None
    ) -> None:
        self.cells, self.finished, self.store, self.watch = cells, set(finished), store, watch
        self.claims = Claims(store) if store else None
        self.waiting = [key for key in cells if key not in finished]
        self.running: set[str] = set()
        self.failures: dict[str, str] = {}
        self.broken: Exception | None = None  # what ended all work: the store cannot be read, the disk is full
        self.stopped = False
        self.changed = threading.Condition()
        behind: dict[str, set[str]] = {key: set() for key in cells}
        for key in reversed(in_order(cells)):
            for need in cells[key].needs:
                behind[need] |= {key} | behind[key]
        self.waiting.sort(key=lambda key: -len(behind[key]))

    @property
    def left(self) -> int:
        return len(self.waiting)

    def take(self) -> Cell | None:
        """The next cell; waits while others must finish first, here or elsewhere; None when nothing is left that can
        run."""
        with self.changed:
            while not self.stopped:
                able = [k for k in self.waiting if all(need in self.finished for need in self.cells[k].needs)]
                found = False
                for key in able:
                    claimed = self.claims is None or self.claims.take(key)
                    if not self._stored(key):
                        if claimed:
                            self.waiting.remove(key)
                            self.running.add(key)
                            return self.cells[key]
                        continue
                    found = True
                    if claimed:
                        self._release(key)
                if not found:
                    if not self.running and not able:
                        return None
                    self.changed.wait(POLL)
            return None

    def done(self, key: str, error: str | None) -> None:
        with self.changed:
            self.running.discard(key)
            self._release(key)
            if error is None:
                self.finished.add(key)
            else:
                self.failures[self.cells[key].label] = error
            self.changed.notify_all()

    def _stored(self, key: str) -> bool:
        """Whether a cell that this process has not run is there by now, from another one; it is finished then."""
        if self.store is None or self.store.cell(key) is None:
            return False
        self.waiting.remove(key)
        self.finished.add(key)
        if self.watch:
            self.watch(self.cells[key], "found", {})
        return True

    def _release(self, key: str) -> None:
        if self.claims is not None:
            self.claims.release(key)

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


def _attend(ready: _Ready, store_path: Path | None, watch: Watch | None, report: Json) -> None:
    """One worker process and the cells it is given."""
    command = [sys.executable, "-m", "pippin.compare.pool", str(store_path or "")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker_environment(), text=True
    )
    assert process.stdin and process.stdout
    try:
        while (cell := ready.take()) is not None:
            if watch:
                watch(cell, "started", {})
            error = _one(cell, process.stdin, process.stdout, watch, report)
            ready.done(cell.key, error)
            if watch:
                watch(cell, "failed" if error else "done", {"error": error} if error else {})
            if error and process.poll() is not None:
                return
    except Exception as error:  # noqa: BLE001 - a thread has nobody above it; the one that waits raises it
        ready.broken = error
        ready.stop()
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


def _one(cell: Cell, requests: IO[str], answers: IO[str], watch: Watch | None, report: Json) -> str | None:
    """Send a cell and read until it is done; the error, if it failed."""
    started = time.monotonic()
    try:
        requests.write(json.dumps({"key": cell.key, "kind": cell.kind, "spec": cell.spec, "label": cell.label}) + "\n")
        requests.flush()
    except BrokenPipeError:
        return "the worker process died"
    for line in answers:
        said = json.loads(line)
        if "progress" in said:
            if watch:
                watch(cell, "progress", said["progress"])
            continue
        report["ran"].append(cell.key)
        report["seconds"][cell.key] = time.monotonic() - started
        report["cpu"][cell.key] = said["cpu"]
        report["cpu"][""] = report["cpu"].get("", 0.0) + said["started"]
        report["peak_memory"] = max(report["peak_memory"], said.get("peak_memory", 0))
        return said.get("error")
    return "the worker process died"


def cpu_seconds() -> float:
    """CPU seconds that this process has used, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def worker_environment() -> dict[str, str]:
    """The environment variables of a worker."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        # keep freed pages: a training step of a small model is otherwise a third page faults
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
    }


def _serve(store_path: Path | None) -> None:
    """The worker's side: cells from standard input, one line of result each on standard output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with results
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # the parent is gone, or has no more work

    threading.Thread(target=listen, daemon=True).start()
    from pippin.compare.work import run_cell

    store = Store(store_path)
    spent = 0.0
    while True:
        cell = Cell(**json.loads(lines.get()))
        before = cpu_seconds()
        answer: Json = {"key": cell.key, "started": before - spent}

        def report(line: Mapping[str, float]) -> None:
            print(json.dumps({"progress": dict(line)}), file=out, flush=True)

        try:
            run_cell(cell, store, report)
        except PippinError as error:
            answer["error"] = str(error)
        except Exception as error:  # noqa: BLE001 - a cell must not take the others with it; the parent reports it
            import traceback

            traceback.print_exc()
            answer["error"] = f"{type(error).__name__}: {error}"
        spent = cpu_seconds()
        answer |= {"cpu": spent - before, "peak_memory": peak_memory()}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]) if sys.argv[1:] and sys.argv[1] else None)
