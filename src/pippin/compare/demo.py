"""The demonstration: the study of ``demo.yaml``, from nothing to a page, in the embedded world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.compare.run import run_study
from pippin.compare.study import read_study

STUDY = Path(__file__).with_name("demo.yaml")


def run(
    out: Path, seed: int = 0, *, workers: int = 2, report: Callable[[str, int, int], None] | None = None
) -> dict[str, Any]:
    """Run (or read from the store) the demonstration with the training seeds ``seed`` and ``seed + 1``.

    Returns:
        The results as written to ``out/results.json``.
    """
    study = replace(read_study(STUDY), seeds=(seed, seed + 1))
    command = f"pippin demo --seed {seed}" if seed else "pippin demo"
    return run_study(study, out, command=command, workers=workers, report=report)
