"""The page of a comparison: one HTML file that needs no network and no script to be read, and the same in Markdown.

The decision comes first, then whatever confounds it, then the evidence. Everything shown comes from the results; what
the results do not have is left out, not shown empty. Equal results give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pippin.compare import figures
from pippin.compare import wording as w
from pippin.compare.tables import (
    ArmRows,
    Cell,
    Names,
    arm_order,
    arm_rows,
    decodings,
    kl_kinds,
    ledger_table,
    main_table,
    matrices,
    trials_table,
)
from pippin.compare.wording import Results
from pippin.core.run import replacing

_TEMPLATES = Path(__file__).with_name("templates")
_TEXT_LIMIT = 4000  # characters shown of one prompt or response
_EXAMPLES_OPEN = 4  # examples shown before the rest folds away


def write_report(results: Results, folder: str | Path) -> Path:
    """Write ``report.html`` and ``report.md`` into ``folder``, each whole or not at all; returns the HTML's path."""
    folder = Path(folder)
    for name, content in (("report.md", markdown(results)), ("report.html", page(results))):
        with replacing(folder / name) as file:
            file.write(content.encode())
    return folder / "report.html"


def page(results: Results) -> str:
    """The whole page as HTML. Text from outside is escaped; the style and the script are allowed by their hashes."""
    style, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("report.css", "report.js"))
    return _environment(html=True).get_template("report.html.j2").render(
        **_content(results), style=style, script=script, policy=content_policy(style, script)
    )  # fmt: skip


def markdown(results: Results) -> str:
    """The comparison as Markdown: decision, confounds, tables. Text from outside cannot become a link, image or tag."""
    text = _environment(html=False).get_template("report.md.j2").render(**_content(results))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def summary_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table for the terminal: the main table, one row per arm and decoding, pooled over seeds.

    Cells are plain text without control characters; a printer with a markup language of its own has to escape them.
    """
    table = main_table(results)
    headers = ["arm", "decoding", *table.columns]
    rows = [
        [w.plain(c) for c in (w.visible(arm.name), w.visible(arm.decoding), *(cell.line for cell in cells))]
        for arm, cells, _ in table.rows
    ]
    return headers, rows


def content_policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: its own style and script by their hashes, and nothing else."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    ours = "; ".join(f"{what}-src 'sha256-{h}'" for what, h in zip(("style", "script"), hashes, strict=True))
    return f"default-src 'none'; {ours}; img-src data:; base-uri 'none'; form-action 'none'"


def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=html, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "visible": w.visible, "clip": lambda text: w.visible(w.clip(text, _TEXT_LIMIT)), "number": w.number,
        "count": w.count, "setting": w.setting, "by_value": w.by_value, "shared": w.shared_values,
        "md": escape_markdown, "named": named, "plain": w.plain, "fence": fence,
    }  # fmt: skip
    return environment


def escape_markdown(text: Any) -> str:
    """``text`` on one line in which nothing is Markdown or HTML: no emphasis, link, image, code, table bar or tag.

    Signs stay as they are where they can mean nothing, so that intervals, names and ``< 0.001`` read well in the file.
    """
    line = " ".join(w.visible(text).split())
    line = re.sub(r"[\\`*~$]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:]|!(?=\[)|^(?:[#>]|[+-](?=\s))", r"\\\g<0>", line)
    line = re.sub(r"&(?=[#\w])", "&amp;", line)
    return re.sub(r"<(?=\S)", "&lt;", line).replace("|", "&#124;")


def named(name: Any) -> Markup:
    """A name, escaped, that may break after underscores, slashes and dots where a column is narrow."""
    return Markup(re.sub(r"[_/.](?=\w)", r"\g<0><wbr>", str(escape(w.visible(name)))))


def fence(text: Any, language: str = "") -> str:
    """``text`` as a fenced block whose fence is longer than any run of backticks within."""
    text = w.visible(text).rstrip("\n")
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def _content(results: Results) -> dict[str, Any]:
    """What both templates show: the results with everything chosen, ordered and formatted."""
    names, arms = Names.of(results), arm_rows(results)
    table = main_table(results)
    columns, books = ledger_table(results)
    points, trials = trials_table(results)
    examples = [_example(e, arm_order(arms)) for e in w.items(results, "examples")]
    return {
        "names": names,
        "question": results.get("question") or "",
        "decision": str(results.get("decision") or "No decision was stated."),
        "confound_line": w.confound_line(results),
        "confounds": w.per_field(results, "confounds"),
        "scope": w.scope_sentence(results),
        "detectable": (results.get("detectable") or {}).get("sentence") or "",
        "facts": _facts(arms, names),
        "table": table if table.rows and table.columns else None,
        "decodings": decodings(arms),
        "kl_kinds": kl_kinds(results),
        "notes": _notes(results),
        "forest": figures.forest_figure(results),
        "gold_kl": figures.scatter_figure(
            results, "kl", name="kl", title=f"{names.metric} against KL", warp="sqrt",
            axis="KL from the reference, nats per response (square-root scale)",
        ),
        "gold_length": figures.scatter_figure(
            results, "mean_length", name="length", title=f"{names.metric} against length",
            axis="mean length of a response, tokens",
        ),
        "curves": figures.curve_figures(results),
        "learning": figures.learning_figures(results),
        "checks": [_check(c) for c in w.items(results, "checks")],
        "matrices": matrices(results),
        "settings": w.per_field(results, "settings"),
        "tuning": {str(r["name"]): r["tuning"] for r in w.items(results, "arms") if r.get("tuning")},
        "trial_columns": points,
        "trials": trials,
        "not_declared": w.items(results, "not_declared"),
        "ledger_columns": columns,
        "ledger": books,
        "examples": examples[:_EXAMPLES_OPEN],
        "more_examples": examples[_EXAMPLES_OPEN:],
        "reproduce": {"command": "", "study": "", "versions": {}, **(results.get("reproduce") or {})},
        "seconds": _seconds(results),
    }  # fmt: skip


def _facts(arms: Sequence[ArmRows], names: Names) -> list[tuple[str, str]]:
    """The size of the comparison at a glance."""
    rows = [r for a in arms for r in (a.seeds or (a.shown,))]
    seeds = {str(r["seed"]) for r in rows if r.get("seed") is not None}
    prompts = [n for r in rows if (n := w.finite(r.get("n"))) is not None]
    return [
        (label, value)
        for label, value in (
            ("arms", w.count(len(arm_order(arms))) if arms else ""),
            ("training seeds", w.count(len(seeds)) if seeds else ""),
            ("prompts", w.span(prompts, 0) if prompts else ""),
            ("metric", names.metric + (f", {names.unit}" if names.unit else "")),
            ("baseline", names.baseline),
        )
        if value
    ]


def _notes(results: Results) -> list[tuple[str, str]]:
    """Each arm's notes once."""
    return list(dict.fromkeys((str(r["name"]), str(r["note"])) for r in w.items(results, "arms") if r.get("note")))


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    value = Cell(w.number(check.get("value")), w.interval(check.get("low"), check.get("high")))
    seed = "" if check.get("seed") is None else str(check["seed"])
    return {"name": check.get("name") or "", "what": check.get("what") or "", "seed": seed, "value": value,
            "n": w.count(check.get("n"))}  # fmt: skip


def _example(example: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """A prompt with its responses, arms in the order of the tables."""
    held = example.get("arms") or {}
    answers = [
        (name, str((held[name] or {}).get("text") or ""), w.number(held[name].get("score")))
        for name in sorted(held, key=lambda n: (order.index(n) if n in order else len(order), n))
        if held[name]
    ]
    return {"prompt": str(example.get("prompt") or ""), "answers": answers}


def _seconds(results: Results) -> dict[str, Any]:
    """The total and the cells, the longest first."""
    seconds = results.get("seconds") or {}
    cells = [(str(k), v) for k, v in (seconds.get("cells") or {}).items() if w.finite(v) is not None]
    ranked = sorted(cells, key=lambda pair: (-pair[1], pair[0]))
    total = w.finite(seconds.get("total"))
    return {"total": "" if total is None else w.number(total, 1), "cells": [(k, w.number(v, 1)) for k, v in ranked]}
