"""The page on which people judge pairs: one HTML file that works from the disk, and asks the network for nothing.

The pairs stand in it as data; texts reach the page as text alone. Nobody is named: neither models nor the judge.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pippin.compare.report import content_policy
from pippin.core.run import replacing
from pippin.core.types import digest

_TEMPLATES = Path(__file__).with_name("templates")


def write_page(
    path: str | Path, rows: Sequence[dict[str, Any]], *, annotator: str = "", file: str = "labels.csv"
) -> None:
    """Write the page, whole or not at all. The same rows give the same bytes.

    Args:
        rows: as ``compare.labels.rows`` makes them.
        annotator: the name that stands in the page's field at first.
        file: the name of the file that people download from the page.
    """
    with replacing(path) as out:
        out.write(page(rows, annotator=annotator, file=file).encode())


def page(rows: Sequence[dict[str, Any]], *, annotator: str = "", file: str = "labels.csv") -> str:
    """The page as HTML; style and script are allowed by their hashes, and nothing else is."""
    style, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("label.css", "label.js"))
    known = digest([[row["prompt_id"], row["first"], row["second"]] for row in rows])
    data = json.dumps({"id": known, "annotator": annotator, "file": file, "rows": list(rows)}, ensure_ascii=True)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("label.html.j2").render(
        style=style,
        script=script,
        policy=content_policy(style, script),
        count=len(rows),
        data=data.replace("<", "\\u003c"),
    )
