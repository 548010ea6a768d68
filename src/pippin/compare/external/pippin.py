"""A run of this project, made in another place: its papers declare everything.

Source: ``pippin_run.json`` in the run's folder
"""

from __future__ import annotations

from pathlib import Path

from pippin.compare import folders
from pippin.compare.outside import External, Kind
from pippin.core.errors import InputError

_PAPERS = "pippin_run.json"
_SAME = ("method", "truncation", "precision", "masking", "collapse", "reward", "base.weights")


def detect(path: Path) -> bool:
    return path.is_dir() and (path / _PAPERS).is_file()


def read(path: Path) -> External:
    told = folders.read_json(path / _PAPERS).get("manifest")
    if not isinstance(told, dict) or not isinstance(told.get("model"), str):
        raise InputError("these papers have no manifest", where=str(path / _PAPERS))
    manifest = {k: v for k, v in told.items() if k in _SAME or k.startswith(("method.", "library."))}
    manifest["base"] = told["model"]
    manifest["seeds"] = None if told.get("seed") is None else str(told["seed"])
    return External("pippin", str(path), manifest={k: v for k, v in manifest.items() if v is not None})


EXTERNAL = Kind(detect, read, "policy", over=("trl", "peft", "transformers"))
