"""The figures and tables of a report as files: SVG for slides and papers, CSV for machines, LaTeX for print.

CSV holds the numbers as they are, LaTeX (booktabs) as the page shows them. Equal results give equal bytes.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pippin.compare import figures, sections
from pippin.compare import wording as w
from pippin.compare.sections import Block
from pippin.compare.tables import Cell, ledger_table, main_table
from pippin.compare.wording import Results
from pippin.core.run import replacing

FIGURES, TABLES = "figures", "tables"
Row = dict[str, Any]
_STYLE = Path(__file__).with_name("templates") / "figure.css"
_NESTED = ("ledger", "settings")  # of an arm's row: tables of their own
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def write(results: Results, folder: Path) -> list[Path]:
    """Write ``figures/*.svg``, ``tables/*.csv`` and ``tables/*.tex`` below ``folder``; the paths, sorted.

    Figures and tables of earlier results that these do not have are removed.
    """
    made = {f"{FIGURES}/{name}.svg": text for name, text in svg_figures(results)}
    made |= {f"{TABLES}/{name}.csv": csv_text(rows) for name, rows in csv_tables(results).items() if rows}
    made |= {f"{TABLES}/{block.id}.tex": latex(block) for block in latex_tables(results) if block.rows}
    for name in sorted(made):
        with replacing(folder / name) as file:
            file.write(made[name].encode())
    known = re.compile(r"(forest|kl|length|curve|learning)(-[0-9]+)*[.]svg|[a-z_]+[.](csv|tex)")
    for place in (FIGURES, TABLES):
        for file in (folder / place).glob("*"):
            if f"{place}/{file.name}" not in made and known.fullmatch(file.name):
                file.unlink()
    return [folder / name for name in sorted(made)]


def svg_figures(results: Results) -> Iterator[tuple[str, str]]:
    """(name, SVG) of every figure of the page, each a document that needs nothing beside it; learning curves only of
    few arms."""
    style = _STYLE.read_text("utf-8")
    for i, found in enumerate(figures.forest_figure(results)):
        yield f"forest-{i}" if i else "forest", standalone(str(found.drawings[0]), style)
    for key, found in figures.scatters(results).items():
        for i, drawing in enumerate(found.drawings if found else ()):
            yield f"{key.removeprefix('gold_')}-{i}", standalone(str(drawing), style)
    for i, found in enumerate(figures.curve_figures(results)):
        yield f"curve-{i}", standalone(str(found.drawings[0]), style)
    for i, found in enumerate(figures.learning_figures(results)):
        for k, drawing in enumerate(found.drawings if len(found.drawings) <= w.MANY else ()):
            yield f"learning-{i}-{k}", standalone(str(drawing), style)


def standalone(drawing: str, style: str) -> str:
    """A drawing of the page as a file: its own style, and a white ground with some room around it."""
    found = re.match(
        r'<svg class="([^"]*)" viewBox="0 0 ([0-9.]+) ([0-9.]+)" width="[0-9.]+" height="[0-9.]+"', drawing
    )
    assert found is not None, drawing[:80]
    room, width, height = 12, float(found[2]), float(found[3])
    wide, tall = width + 2 * room, height + 2 * room
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{found[1]}" viewBox="{-room} {-room} {wide:g} {tall:g}" '
        f'width="{wide:g}" height="{tall:g}"'
    )
    ground = f'<rect x="{-room}" y="{-room}" width="{wide:g}" height="{tall:g}" fill="#ffffff"/>'
    start = drawing.index("</desc>") + len("</desc>")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"{head}{drawing[found.end() : start]}<style>{style}</style>{ground}{drawing[start:]}\n"
    )


def csv_tables(results: Results) -> dict[str, list[Row]]:
    """The tables for machines by name; rows of one table need not have all its columns."""
    equal = results.get("equivalence") or {}
    looks = results.get("looks") or {}
    manifests: Mapping[str, Mapping[str, Any]] = results.get("manifests") or {}
    return {
        "arms": [{k: v for k, v in row.items() if k not in _NESTED} for row in w.items(results, "arms")],
        "pooled": list(map(dict, w.items(results, "pooled"))),
        "pairs": list(map(dict, w.items(results, "pairs"))),
        "claims": list(map(dict, w.items(results, "claims"))),
        "equivalence": [{**row, "margin": equal.get("margin")} for row in w.items(equal, "rows")],
        "effects": list(map(dict, w.items(results, "effects"))),
        "looks": [
            {"at": look.get("at"), "over": looks.get("over"), **row}
            for look in w.items(looks, "taken") for row in w.items(look, "rows")
        ],
        "variance": list(map(dict, w.items(results, "variance"))),
        "ledger": [
            {"name": row["name"], "seed": row.get("seed"), "decoding": row.get("decoding"), **(row.get("ledger") or {})}
            for row in w.items(results, "arms")
        ],
        "confounds": [
            {"field": c["field"], "arm": arm, "value": value, "why": c.get("why")}
            for c in w.per_field(results, "confounds") for arm, value in c["arms"].items()
        ],
        "settings": [
            {"field": c["field"], "arm": arm, "value": value}
            for c in w.per_field(results, "settings") for arm, value in c["arms"].items()
        ],
        "checks": list(map(dict, w.items(results, "checks"))),
        "manifest": [
            {"arm": arm, "field": field, "value": manifests[arm][field]}
            for arm in sorted(manifests) for field in sorted(manifests[arm])
        ],
    }  # fmt: skip


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV (RFC 4180) with a header. Nested mappings become columns ``outer.inner``; None is an empty cell.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    flat = [dict(_flat(row)) for row in rows]
    columns = sorted({key for row in flat for key in row}, key=_place)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(row.get(column)) for column in columns] for row in flat)
    return out.getvalue()


_LEADING = ("name", "arm", "a", "b", "axis", "field", "method", "baseline", "decoding", "seed", "at", "over", "scope")


def _place(column: str) -> tuple[int, str]:
    """Names before figures, and figures by name: the order does not depend on that of the keys."""
    return (_LEADING.index(column) if column in _LEADING else len(_LEADING), column)


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value) if w.finite(value) is not None else ""
    text = w.visible(value if isinstance(value, str) else w.setting(value))
    return f"'{text}" if text.startswith(_FORMULA) else text


def latex_tables(results: Results) -> list[Block]:
    """The tables for print: arms, pairs, the claims and what else follows from the figures, ledger, confounds."""
    table = main_table(results)
    columns, books = ledger_table(results)
    arms = [[a.name, a.decoding, *(c.line for c in cells)] for a, cells, _ in table.rows]
    pairs = [
        [str(p["a"]), str(p["b"]), str(p.get("decoding") or ""),
         w.estimate(p.get("delta"), p.get("low"), p.get("high"), signed=True), w.p_value(p.get("p_holm"))]
        for p in w.items(results, "pairs")
    ]  # fmt: skip
    confounds = [
        [c["field"], value, w.few(held), str(c.get("why") or "")]
        for c in w.per_field(results, "confounds") for value, held in w.by_value(c["arms"])
    ]  # fmt: skip
    return [
        _block("arms", ["arm", "decoding"], table.columns, arms),
        _block("pairs", ["a", "b", "decoding"], ["a minus b", "p (Holm)"], pairs),
        *sections.inference(results),
        _block("ledger", ["arm", "seed"], [f"{n} ({u})" if u else n for n, u in columns],
               [[name, seed, *held] for name, seed, held in books]),
        _block("confounds", ["field", "value", "arms", "why"], [], confounds),
    ]  # fmt: skip


def _block(id: str, words: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> Block:
    columns = (*((title, False) for title in words), *((title, True) for title in numbers))
    return Block(id, id, (), columns, tuple(tuple(map(Cell, row)) for row in rows))


def latex(block: Block) -> str:
    """A block's table as a ``tabular`` with the rules of the package booktabs; all text is escaped."""
    spec = "".join("r" if number else "l" for _, number in block.columns)
    lines = [
        "% \\usepackage{booktabs}", f"\\begin{{tabular}}{{{spec}}}", "\\toprule",
        " & ".join(escape_latex(title) for title, _ in block.columns) + r" \\", "\\midrule",
        *(" & ".join(escape_latex(c.line) for c in row) + r" \\" for row in block.rows),
        "\\bottomrule", "\\end{tabular}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "`": r"\textasciigrave{}",
    w.MINUS: "$-$", w.DASH: "--", "…": r"\ldots{}",
}  # fmt: skip


def escape_latex(text: Any) -> str:
    """``text`` on one line in which nothing is a command of LaTeX; letters that pdfTeX has not are named by number."""
    line = " ".join(w.visible(text).split())
    return "".join(_LATEX.get(c, c if ord(c) < 0x180 else f"{{[}}U+{ord(c):04X}{{]}}") for c in line)
