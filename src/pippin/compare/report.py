"""The page of a comparison: one HTML file that needs no network and no script to be read, and the same in Markdown.

The decision comes first, with a line on what confounds it; then the figure, the table and what follows from them; then
the books (confounds, ledger, examples, manifest, command); then further evidence. Everything shown comes from the
results; what the results do not have is left out, not shown empty. Equal results give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pippin.compare import exports, figures, sections
from pippin.compare import wording as w
from pippin.compare.headline import headline
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
from pippin.core.types import digest, plain

_TEMPLATES = Path(__file__).with_name("templates")
_TEXT_LIMIT = 4000  # characters shown of one prompt or response
_TEXT_ALL = 600_000  # characters of all examples together; with many arms each is shown shorter
_EXAMPLES_OPEN = 4  # examples shown before the rest folds away


def write_report(results: Results, folder: str | Path, *, blind: bool = False) -> Path:
    """Write ``report.html``, ``report.md``, ``figures/*.svg`` and ``tables/*`` into ``folder``, each whole or not at
    all; returns the HTML's path.

    Args:
        blind: examples stand without arms and scores until they are revealed.
    """
    folder, results = Path(folder), json.loads(json.dumps(results, default=plain))  # as results.json has them
    for name, content in (("report.md", markdown(results)), ("report.html", page(results, blind=blind))):
        with replacing(folder / name) as file:
            file.write(content.encode())
    exports.write(results, folder)
    return folder / "report.html"


def page(results: Results, *, blind: bool = False) -> str:
    """The whole page as HTML. Text from outside is escaped; the style and the script are allowed by their hashes."""
    style, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("report.css", "report.js"))
    content = _content(results, blind=blind)
    return _environment(html=True).get_template("report.html.j2").render(
        **content, contents=_contents(content), style=style, script=script, policy=content_policy(style, script)
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
        "visible": w.visible, "clip": _clip, "few": w.few, "number": w.number,
        "count": w.count, "setting": w.setting, "by_value": w.by_value, "shared": w.shared_values,
        "md": escape_markdown, "named": named, "plain": w.plain, "fence": fence,
    }  # fmt: skip
    return environment


def _clip(text: Any, limit: int = _TEXT_LIMIT) -> str:
    return w.visible(w.clip(text, limit))


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


def _content(results: Results, *, blind: bool = False) -> dict[str, Any]:
    """What both templates show: the results with everything chosen, ordered and formatted."""
    names, arms = Names.of(results), arm_rows(results)
    order = arm_order(arms)
    many = len(order) > w.MANY
    table = main_table(results)
    columns, books = ledger_table(results)
    points, trials = trials_table(results)
    confounds = [{"why": "", "mend": "", **c} for c in w.per_field(results, "confounds")]
    examples = [_example(e, order, blind) for e in w.items(results, "examples")]
    opened = _EXAMPLES_OPEN if not many else 1
    return {
        "names": names,
        "many": many,
        "blind": blind,
        "question": results.get("question") or "",
        "decision": headline(results),
        "whole": str(results.get("decision") or ""),
        "confound_line": w.confound_line(results),
        "confound_fields": w.confound_fields(results),
        "confounds": confounds,
        "cautions": [str(note) for note in results.get("notes") or ()],
        "mends": any(c["mend"] for c in confounds),
        "scope": w.scope_sentence(results),
        "detectable": (results.get("detectable") or {}).get("sentence") or "",
        "facts": _facts(arms, names),
        "table": table if table.rows and table.columns else None,
        "decodings": decodings(arms),
        "kl_kinds": kl_kinds(results),
        "notes": _notes(results),
        "forest": figures.forest_figure(results),
        **figures.scatters(results),
        "inference": sections.inference(results),
        "curves": figures.curve_figures(results),
        "learning": figures.learning_figures(results),
        "checks": [_check(c) for c in w.items(results, "checks")],
        "matrices": [] if many else matrices(results),
        "standing": sections.standing(results) if many else [],
        "settings": w.per_field(results, "settings"),
        "tuning": {str(r["name"]): r["tuning"] for r in w.items(results, "arms") if r.get("tuning")},
        "trial_columns": points,
        "trials": trials,
        "not_declared": w.items(results, "not_declared"),
        "ledger_columns": columns,
        "ledger": books,
        "books": sections.books(results),
        "manifest": sections.manifests(results),
        "text_limit": max(300, min(_TEXT_LIMIT, _TEXT_ALL // max(1, sum(1 + len(e["answers"]) for e in examples)))),
        "examples": examples[:opened],
        "more_examples": examples[opened:],
        "reproduce": {"command": "", "study": "", "versions": {}, **(results.get("reproduce") or {})},
        "seconds": _seconds(results),
    }


def _contents(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has, in their order."""
    names = content["names"]
    reproduce = content["reproduce"]
    blocks = {key: [(b.id, b.heading) for b in content[key]] for key in ("inference", "books")}
    manifest = content["manifest"]
    told: list[tuple[Any, list[tuple[str, str]]]] = [
        (content["forest"], [("differences", "Differences")]),
        (content["table"], [("arms", "All arms")]),
        (True, blocks["inference"]),
        (content["confounds"] or content["cautions"], [("confounds", "Confounds")]),
        (content["not_declared"], [("not-declared", "Not declared")]),
        (content["settings"] or content["tuning"], [("settings", "Settings")]),
        (content["ledger"], [("ledger", "Ledger")]),
        (True, blocks["books"]),
        (content["examples"], [("examples", "Examples")]),
        (manifest, [("manifest", "Manifest")]),
        (any(reproduce[key] for key in ("command", "study", "versions")), [("reproduce", "How to reproduce")]),
        (content["matrices"] or content["standing"], [("pairs", "Arms against each other")]),
        (content["gold_kl"], [("kl", f"{names.metric} against KL")]),
        (content["gold_length"], [("length", f"{names.metric} against length")]),
        (content["curves"], [("overoptimisation", "Over-optimisation")]),
        (content["learning"], [("learning", "Learning curves")]),
        (content["checks"], [("checks", "Checks")]),
        (content["trials"], [("tuning", "Tuning")]),
        (content["seconds"]["total"] or content["seconds"]["cells"], [("seconds", "Time")]),
    ]
    return [entry for there, entries in told if there for entry in entries]


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


def _example(example: Mapping[str, Any], order: Sequence[str], blind: bool) -> dict[str, Any]:
    """A prompt with its responses, arms in the order of the tables; blind, in the mixed order of this prompt."""
    held = {name: said for name, said in (example.get("arms") or {}).items() if said}
    prompt = str(example.get("prompt") or "")
    mixed = sorted(held, key=lambda name: digest(["blind", prompt, name]))
    answers = [
        {"name": name, "text": str(held[name].get("text") or ""), "score": w.number(held[name].get("score")),
         "mixed": mixed.index(name), "letter": _letter(mixed.index(name))}
        for name in sorted(held, key=lambda n: (order.index(n) if n in order else len(order), n))
    ]  # fmt: skip
    answers = [{**answer, "place": place} for place, answer in enumerate(answers)]
    return {"prompt": prompt, "answers": sorted(answers, key=lambda a: a["mixed"]) if blind else answers}


def _letter(place: int) -> str:
    """``A`` to ``Z``, then ``A2`` ..."""
    return chr(ord("A") + place % 26) + (str(place // 26 + 1) if place >= 26 else "")


def _seconds(results: Results) -> dict[str, Any]:
    """The total and the cells, the longest first."""
    seconds = results.get("seconds") or {}
    cells = [(str(k), v) for k, v in (seconds.get("cells") or {}).items() if w.finite(v) is not None]
    ranked = sorted(cells, key=lambda pair: (-pair[1], pair[0]))
    total = w.finite(seconds.get("total"))
    return {"total": "" if total is None else w.number(total, 1), "cells": [(k, w.number(v, 1)) for k, v in ranked]}
