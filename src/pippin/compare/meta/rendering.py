"""How a meta-evaluation's blocks become HTML and Markdown: templates, and what keeps text from outside harmless."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pippin.compare import report
from pippin.compare import wording as w

TEMPLATES = (Path(__file__).with_name("templates"), Path(report.__file__).with_name("templates"))


@cache
def environment(html: bool) -> Environment:
    """Templates of this package, then those of comparisons; everything is escaped in HTML."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=html, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {"visible": visible, "md": report.escape_markdown, "named": report.named, "plain": w.plain,
                     "fence": report.fence}  # fmt: skip
    return made


def visible(text: Any) -> str:
    """As :func:`wording.visible`, fast where nothing has to be made visible."""
    text = str(text)
    return text if text.replace("\n", "").replace("\t", "").isprintable() else w.visible(text)


def allowed(styles: Sequence[str], scripts: Sequence[str]) -> dict[str, str]:
    """The style and script of a page, and the policy that allows those two by their hashes, and nothing else."""
    style, script = ("\n".join(_read(name) for name in names) for names in (styles, scripts))
    return {"style": style, "script": script, "policy": report.content_policy(style, script)}


def _read(name: str) -> str:
    return next(folder / name for folder in TEMPLATES if (folder / name).exists()).read_text("utf-8")
