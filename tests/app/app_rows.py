"""Rows for the tests of the command line."""

import json
from pathlib import Path


def responses(texts: dict[str, str], model: str = "") -> list[dict]:
    """Rows of prompt and completion."""
    return [{"prompt": p, "completion": c, "model": model} for p, c in texts.items()]


def rows_of(path) -> list[dict]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
