"""A study from file to page: plan, run what is missing, analyse, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pippin import stats
from pippin.compare import axes, costs, design, extend, freeze, papers, staged, tuning
from pippin.compare.cells import Cell, Plan
from pippin.compare.plan import plan_trials
from pippin.compare.pool import run_cells
from pippin.compare.study import Study
from pippin.compare.trials import read_trials
from pippin.core.run import file_digest, write_json
from pippin.core.store import Store
from pippin.core.types import digest

Json = dict[str, Any]


def run_study(
    study: Study,
    out: Path,
    *,
    command: str,
    workers: int = 2,
    report: Callable[[str, int, int], None] | None = None,
) -> Json:
    """Run a study and write ``results.json``, ``report.html`` and ``report.md`` into ``out``.

    Args:
        report: receives (what happened, cells done, cells in all), for a progress bar.

    Raises:
        CellsFailed: some cells failed; those that finished are kept, and nothing is written to ``out``.
    """
    from pippin.compare.report import write_report

    started = time.monotonic()
    with Store() as store:
        if study.extend:
            extend.bring(study.extend, store)
        stated, estimated, cpu = study, costs.latest(study, store), dict[str, float]()
        study, tried = _tuned(study, workers, report, store, cpu)
        spent: list[Json] = []
        planned, looked = staged.run(study, store, lambda cells: spent.append(_run(cells, workers, report, store, cpu)))
        before = time.process_time()
        results = _analysis(planned, store, command, looked)
        if cpu:
            cpu[costs.ANALYSIS] = time.process_time() - before
        costs.learn(estimated, cpu, planned.cells, store)
        results["trials"] = tried
        labels = {axis: list(values) for axis, values in axes.spread(stated).items()}
        told = {
            "design": design.told(labels, stated.design, stated.baseline),
            "estimate": costs.compare(estimated, cpu, stated, planned, store),
            "frozen": freeze.frozen(replace(planned, study=stated), store),
        }
        results |= {name: value for name, value in told.items() if value is not None}
        used = {"cpu": round(sum(cpu.values()), 1)}
        results["seconds"] = {"total": round(time.monotonic() - started, 1), **_summed(spent), **used}
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "results.json", results)
        papers.write(planned, out)
        write_report(results, out)
    return results


def _analysis(planned: Plan, store: Store, command: str, looked: Json | None) -> Json:
    """The results, from the store where the same cells were analysed by the same code before."""
    folders = [Path(__file__).parent, Path(stats.__file__).parent]
    code = [file_digest(file) for folder in folders for file in sorted(folder.glob("*.py"))]
    people = Path(planned.study.people).expanduser()
    labels = file_digest(people) if planned.study.people and people.is_file() else ""
    key = digest(["analysis", sorted(planned.cells), asdict(planned.study), looked, command, labels, code])
    done = store.cell(key)
    if done is not None:
        return done["result"]
    from pippin.compare.analyse import analyse

    results = analyse(planned, store, command, looked)
    store.add_cell(key, {"kind": "analysis", "question": planned.study.question}, results)
    return results


def _summed(spent: Sequence[Json]) -> Json:
    """What the waves of a study took in all."""
    return {
        "cells": {label: seconds for wave in spent for label, seconds in wave["cells"].items()},
        "ran": sum(wave["ran"] for wave in spent),
        "peak_memory_bytes": max(wave["peak_memory_bytes"] for wave in spent),
    }


def _tuned(
    study: Study, workers: int, report: Callable[[str, int, int], None] | None, store: Store, cpu: dict[str, float]
) -> tuple[Study, list[Json]]:
    """The study under the settings that its trials chose, and what the trials said."""
    if not tuning.points(study.tuning):
        return study, []
    cells, trials = plan_trials(study)
    _run(cells, workers, report, store, cpu)
    chosen, tried = read_trials(trials, store)
    return replace(study, chosen=chosen), tried


def _run(
    cells: Mapping[str, Cell],
    workers: int,
    report: Callable[[str, int, int], None] | None,
    store: Store,
    cpu: dict[str, float],
) -> Json:
    """Run what is missing of some cells; what they took of CPU time is added to ``cpu``, by key."""
    total = len(cells)
    done = sum(store.cell(key) is not None for key in cells)
    count = {"done": done}

    def watch(cell: Cell, event: str, figures: Json) -> None:
        if event in ("done", "failed", "found"):
            count["done"] += 1
        if report is not None and event != "progress":
            report(f"{event}: {cell.label}", count["done"], total)

    if report is not None:
        report(f"{done} of {total} cells are in the store", done, total)
    spent = run_cells(cells, None, workers=workers, watch=watch)
    for key, used in spent["cpu"].items():
        name = key or costs.STARTING
        cpu[name] = cpu.get(name, 0.0) + used
    seconds = {cells[key].label: round(value, 1) for key, value in spent["seconds"].items()}
    return {"cells": seconds, "ran": len(spent["ran"]), "peak_memory_bytes": spent["peak_memory"]}
