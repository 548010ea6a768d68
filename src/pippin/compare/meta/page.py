"""The pages of a meta-evaluation: one HTML file to be read, the same in Markdown, a table of numbers, and every pair.

The answer comes first, then the benchmark's own warnings, then the evidence set by set. What the results do not have is
left out. Equal results give equal bytes.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.compare import wording as w
from pippin.compare.meta import evidence, instances, rendering, sections
from pippin.compare.meta.answer import Result, answer
from pippin.compare.meta.blocks import Judges, Section
from pippin.compare.meta.calibration import calibration
from pippin.compare.meta.run import Found
from pippin.core.run import replacing, write_json

if TYPE_CHECKING:
    from pippin.core.store import Store

SHARES = ("accuracy", "agreement", "swap_averaged", "first_shown", "own", "best_of")
PARTS: Mapping[str, tuple[str, ...]] = {
    "consistency": ("right", "split", "wrong", "missing"),
    "length": ("prefers_longer", "gold_longer", "accuracy_gold_longer", "accuracy_gold_shorter", "gap"),
    "with_gold": ("kappa", "fleiss_kappa", "alpha", "three_way"),
    "calibration": ("brier", "brier_one_order", "expected_calibration_error"),
}
SPENT = ("calls", "prompt_tokens", "completion_tokens", "thinking_tokens", "price", "seconds")


def write(found: Found, folder: str | Path, *, command: str = "", store: Store | None = None) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``cells.csv``, ``results.json`` and ``instances/SET.html`` into ``folder``.

    Args:
        found: a meta-evaluation.
        folder: is made where it is not there; each file is written whole or not at all.
        command: what gave the results, shown for whoever wants to have them again.
        store: where the raw texts of judges asked now are looked up.

    Returns:
        The files written, the page first.
    """
    folder = Path(folder)
    names = instances.file_names(found.parts)
    pages = {name: f"instances/{file}" for name, file in names.items()}
    written = {
        "report.html": page(found.result, command, pages),
        "report.md": markdown(found.result, command, pages),
        "cells.csv": cells(found.result),
    }
    for name, content in written.items():
        with replacing(folder / name) as file:
            file.write(content.encode())
    write_json(folder / "results.json", found.result)
    made = [folder / name for name in (*written, "results.json")]
    for name, target in pages.items():
        with replacing(folder / target) as file:
            file.write(instances.page(found, name, store))
        made.append(folder / target)
    return made


def page(result: Result, command: str = "", pages: Mapping[str, str] | None = None) -> str:
    """The report as one HTML file. Text from outside is escaped; style and script are allowed by their hashes."""
    shell = rendering.allowed(("report.css", "meta.css"), ("report.js", "meta.js"))
    template = rendering.environment(html=True).get_template("meta.html.j2")
    return template.render(**_content(result, command, pages or {}), **shell)


def markdown(result: Result, command: str = "", pages: Mapping[str, str] | None = None) -> str:
    """The report as Markdown: the answer and every table. Text from outside cannot become a link, image or tag."""
    text = rendering.environment(html=False).get_template("meta.md.j2").render(**_content(result, command, pages or {}))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def cells(result: Result) -> str:
    """One row per judge and set as CSV: counts, and each estimate with its ends, n and p; empty where there is none."""
    rows = [_row(cell) for cell in (*result["cells"], *result["baselines"])]
    heads = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: _harmless(cell[name]) for name in ("set", "judge", "llm", "strategy", "kind", "n")}
    row |= {name: _empty(cell[name]) for name in ("accuracy_pct", "agreement_pct", "correct_original_order",
                                                  "correct_swapped_order", "correct_both_orders", "equal")}  # fmt: skip
    low, high = cell["accuracy_bounds"] or ("", "")
    held: dict[str, Any] = {name: cell.get(name) for name in SHARES}
    for part, names in PARTS.items():
        held |= {f"{part}_{name}": (cell[part] or {}).get(name) for name in names}
    odds = cell["biases"].get("log_odds") or {}
    held |= {f"log_odds_{name.replace(' ', '_')}": value for name, value in odds.items()}
    for name, found in held.items():
        found = found or {}
        row |= {f"{name}{end}": _empty(found.get(key)) for end, key in
                (("", "value"), ("_low", "low"), ("_high", "high"), ("_n", "n"), ("_p", "p"))}  # fmt: skip
    row |= {"accuracy_worst_case": low, "accuracy_best_case": high}
    row |= {name: cell["outcomes"].get(name, 0) for name in ("first", "second", "tie", "both_bad", *sections.MISSING)}
    row |= {"conflicts": cell["conflicts"], **{name: _empty(cell["spent"].get(name)) for name in SPENT}}
    return row


def _empty(value: Any) -> Any:
    return "" if value is None else value


def _harmless(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    value = " ".join(w.visible(value).split())
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value


def _content(result: Result, command: str, pages: Mapping[str, str]) -> dict[str, Any]:
    """What both templates show."""
    judges = Judges(result)
    headline, sentences = answer(result, judges)
    sets = list(result["sets"])
    shown = [
        sections.by_set(result, judges),
        *(sections.one_set(result, judges, i, name, pages.get(name, "")) for i, name in enumerate(sets)),
        evidence.biases(result, judges),
        evidence.pooled(result, judges),
        calibration(result, judges),
        evidence.within(result),
        evidence.differences(result, judges),
        evidence.claims(result),
        evidence.noise(result),
        evidence.told_apart(result),
        evidence.people(result),
        evidence.peers(result),
        evidence.policies(result),
        evidence.parser_changes(result),
        Section("data", "Data", "What was read, and what was left out.", tuple(sections.read_notes(result))),
        Section("reproduce", "How to reproduce", "The command and the settings that these figures come from.",
                tuple(evidence.method(result, command))),
    ]  # fmt: skip
    own = sum(not judge.rule for judge in judges.order)
    return {
        "benchmark": result["benchmark"],
        "headline": headline,
        "sentences": sentences,
        "warnings": sections.warnings(result),
        "key": sections.bar_key(),
        "facts": [("benchmark", result["benchmark"]), ("judges", str(own)), ("sets", str(len(sets))),
                  ("pairs", w.count(sum(about["n"] for about in result["sets"].values()))),
                  ("parser", result["parser"]), ("policy", result["policy"])],
        "sections": [section for section in shown if section.blocks],
    }  # fmt: skip
