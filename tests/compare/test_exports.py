"""Figures and tables as files: read by the readers of their formats, escaped, and equal for equal results."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for report_results.py

from report_results import ARMS, HOSTILE_ARM, full_results, inferred_results

from pippin.compare import exports
from pippin.compare.sections import Block
from pippin.compare.tables import Cell

UNSTYLED = {"plot", "wide", "half", "small", "dash-0"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results():
    return {**full_results(confounded=True), **inferred_results()}


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    place = tmp_path_factory.mktemp("exports")
    exports.write(results, place)
    return place


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_figure_is_a_document_of_its_own(folder):
    files = sorted((folder / "figures").glob("*.svg"))
    assert {"forest.svg", "kl-0.svg", "length-1.svg", "curve-2.svg", "learning-0-0.svg"} <= {f.name for f in files}
    for file in files:
        root = ET.fromstring(file.read_bytes())
        assert root.tag == f"{SVG}svg" and root.find(f"{SVG}title") is not None
        ground = root.find(f"{SVG}rect")
        assert ground is not None and ground.get("fill") == "#ffffff", "readable on any page"
        left, top, wide, tall = map(float, root.get("viewBox").split())
        assert (float(ground.get("x")), float(ground.get("width"))) == (left, wide)
        assert float(root.get("width")) == wide and float(root.get("height")) == tall and top < 0
        style = root.findtext(f"{SVG}style")
        assert "var(" not in style and "url(" not in style and "@" not in style
        used = {name for e in root.iter() for name in (e.get("class") or "").split()} - UNSTYLED
        assert used <= {*re.findall(r"\.([a-z][\w-]*)", style), "label"}, "every class has a style"
        assert "<script" not in file.read_text() and "href" not in file.read_text()


def test_tables_hold_the_numbers_as_they_are(folder, results):
    arms = table(folder, "arms")
    assert len(arms) == len(results["arms"]) and arms[0]["name"] == "base"
    for row, said in zip(arms, results["arms"], strict=True):
        assert float(row["gold_mean"]) == said["gold_mean"] and row["kl"] == (
            "" if said["kl"] is None else repr(said["kl"])
        )
    pairs = table(folder, "pairs")
    assert [float(p["delta"]) for p in pairs] == [p["delta"] for p in results["pairs"]]
    assert {r["value"] for r in table(folder, "confounds") if r["field"] == "max_length"} == {"256", "512"}
    assert {float(r["components.prompt"]) for r in table(folder, "variance")} == {0.11}
    assert {r["margin"] for r in table(folder, "equivalence")} == {"0.02"}
    assert {r["at"] for r in table(folder, "looks")} == {"5", "8"}
    assert {r["name"] for r in table(folder, "ledger")} == set(ARMS)
    assert len(table(folder, "manifest")) == sum(len(flat) for flat in results["manifests"].values())


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", '=HYPERLINK("http://x")'])
def test_a_spreadsheet_runs_no_cell(text):
    line = exports.csv_text([{"name": text, "value": -0.5}])
    row = next(csv.DictReader(io.StringIO(line, newline="")))
    assert row["name"].startswith("'") and row["name"].endswith(text.strip("\t").strip()[-3:])
    assert row["value"] == "-0.5", "numbers stay numbers"


def test_csv_keeps_commas_quotes_lines_and_missing_numbers():
    rows = [{"name": 'a,"b"\nc', "value": None, "other": float("nan"), "yes": True}, {"name": "d", "extra": 1}]
    held = list(csv.DictReader(io.StringIO(exports.csv_text(rows), newline="")))
    assert held[0]["name"] == 'a,"b"\nc' and held[0]["value"] == "" == held[0]["other"] and held[0]["yes"] == "true"
    assert held[1] == {"name": "d", "extra": "1", "value": "", "other": "", "yes": ""}


def test_latex_tables_are_whole_and_escaped(folder):
    files = {f.stem: f.read_text() for f in (folder / "tables").glob("*.tex")}
    assert {"arms", "pairs", "claims", "ledger", "confounds", "equivalence", "effects", "looks", "variance"} <= set(
        files
    )
    for text in files.values():
        spec = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1 and all(len(re.findall(r"(?<!\\)&", row)) == len(spec) - 1 for row in rows)
        assert text.count("rule") == 3 and text.rstrip().endswith(r"\end{tabular}")
        assert not re.search(r"(?<!\\)[#%_](?!.*booktabs)", "\n".join(rows)), "signs of LaTeX are escaped"
    assert r"dpo\textless{}img src=x onerror=alert(1)\textgreater{}\textbar{}*b*" in files["arms"]
    assert HOSTILE_ARM not in files["arms"]


def test_latex_escapes_what_would_be_a_command():
    text = exports.escape_latex("\\input{/etc/passwd} $x^2$ 50% a_b #1 ~ \u22120.1 \u202e مرحبا é")
    assert text == (
        r"\textbackslash{}input\{/etc/passwd\} \$x\textasciicircum{}2\$ 50\% a\_b \#1 \textasciitilde{} $-$0.1 "
        r"\textless{}U+202E\textgreater{} {[}U+0645{]}{[}U+0631{]}{[}U+062D{]}{[}U+0628{]}{[}U+0627{]} é"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_takes_every_table(folder, tmp_path):
    tables = sorted((folder / "tables").glob("*.tex"))
    inputs = "\n\n".join(f"\\input{{{file}}}" for file in tables)
    text = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{textcomp,booktabs}\\begin{document}\\tiny\n"
        f"{inputs}\n\\end{{document}}\n"
    )
    (tmp_path / "all.tex").write_text(text)
    done = subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout[-800:]


def test_equal_results_give_equal_files_and_what_is_gone_goes(results, folder, tmp_path):
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = json.loads(json.dumps(results, sort_keys=True))
    exports.write(again, tmp_path)
    assert {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    (tmp_path / "figures/mine.svg").write_text("mine")
    exports.write({k: v for k, v in results.items() if k not in ("curves", "claims")}, tmp_path)
    left = {p.name for p in tmp_path.rglob("*")}
    assert "curve-0.svg" not in left and "claims.csv" not in left and "claims.tex" not in left
    assert {"forest.svg", "mine.svg"} <= left


def test_a_table_without_rows_is_not_written(tmp_path):
    exports.write({"arms": []}, tmp_path)
    assert not list(tmp_path.rglob("*.csv")) and not list(tmp_path.rglob("*.tex"))
    assert exports.latex(Block("a", "a", (), (("x", True),), ((Cell("1"),),))).count("\n") == 8
