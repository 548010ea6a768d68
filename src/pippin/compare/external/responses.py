"""A file of answers and nothing else: JSON lines, CSV or Parquet in any of the ecosystem's columns.

Source: the columns of TRL, AlpacaEval and ShareGPT (``pippin.data.columns``)
"""

from __future__ import annotations

from pathlib import Path

from pippin.compare.outside import Answer, External, Kind
from pippin.data import files
from pippin.data.rows import SUFFIXES


def detect(path: Path) -> bool:
    return path.is_file() and path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read(path: Path) -> External:
    return External("responses", answers=tuple(Answer(p, r) for p, r in files.read_responses(path)))


EXTERNAL = Kind(detect, read, "answers")
