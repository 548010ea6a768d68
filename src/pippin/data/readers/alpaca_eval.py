"""Model outputs of AlpacaEval and AlpacaFarm: a JSON array of instruction, output and generator.

Source: Dubois et al., "AlpacaFarm", 2023, arXiv 2305.14387; AlpacaEval, "model outputs".

``output`` may be a list of samples. ``input`` (AlpacaFarm) is appended to the instruction after a blank line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Group
from pippin.data import columns
from pippin.data.reader import Notes, Reader
from pippin.data.rows import read_rows


def groups(path: Path, notes: Notes) -> Iterator[Group]:
    for where, row in read_rows(path):
        said = row.get("output")
        samples = said if isinstance(said, list) else [said]
        texts = [text for text in samples if isinstance(text, str)]
        if not texts or len(texts) < len(samples):
            raise InputError("a row without a response", where=where, found=said, expected="output: text or texts")
        several = [columns.group({**row, "output": text}, where) for text in texts]
        prompt = several[0].prompt
        notes.saw("rows whose output is empty", not all(text.strip() for text in texts))
        author = str(row.get("generator") or "")
        yield Group(prompt, columns.responses(prompt, [item.responses[0].messages for item in several], author))


READER = Reader(groups)
