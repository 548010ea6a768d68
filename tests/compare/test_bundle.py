"""Bundles: opened anywhere they give the same page; no weights, no keys, and nothing in them is trusted."""

from __future__ import annotations

import io
import json
import stat
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from studies import BATCH, SMALL, varied, write

from pippin.app.cli import run
from pippin.compare import archive, bundle, extend, inputs, papers
from pippin.compare.analyse import analyse
from pippin.compare.cells import in_order
from pippin.compare.plan import plan
from pippin.compare.report import write_report
from pippin.compare.study import read_study
from pippin.compare.work import run_cell
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import write_json
from pippin.core.store import Store
from pippin.data import files


def reported(study: dict, folder: Path, store: Store) -> Path:
    """The folder of a study's report, its cells run in this process."""
    planned = plan(read_study(write(folder, study)))
    for key in in_order(planned.cells):
        run_cell(planned.cells[key], store)
    results = analyse(planned, store, "pippin compare study.yaml")
    out = folder / "out"
    results |= {"trials": [], "seconds": {"total": 1.5, "cells": {}}}
    write_json(out / "results.json", results)
    papers.write(planned, out)
    write_report(results, out)
    return out


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A store with a finished study, its report, and its bundle."""
    folder = tmp_path_factory.mktemp("theirs")
    study = varied(prompts={"test": "world/heldout?n=16&seed=3"}, axes={"method": {"sft": {"use": "$sft"}, "dpo": {}}})
    study["axes"]["method"]["dpo"] = {"method": "dpo"}
    del study["settings"]["ipo_like"]
    study["reference"] = "$sft"
    with Store(folder / "store.db") as store:
        out = reported(study, folder, store)
        bundle.make(out, folder / "their.zip", store)
        yield folder, store, out


@pytest.fixture
def packed(theirs):
    return theirs[0] / "their.zip"


def rewritten(source: Path, target: Path, change) -> Path:
    """A bundle with members changed by ``change(name, bytes)`` (None drops one), its hashes made right again."""
    with archive.opened(source) as held:
        members = {name: change(name, held.bytes(name)) for name in held.names}
        about = {key: value for key, value in held.about.items() if key != "sha256"}
    archive.write(target, ((name, [text]) for name, text in members.items() if text is not None), about)
    return target


def test_a_plan_comes_back_from_its_file_as_it_was(theirs):
    _, _, out = theirs
    planned = papers.read(out)
    assert papers.from_row(papers.to_row(planned)) == planned
    assert list(planned.runs[0].verdicts) == ["temperature 1", "greedy"], "order is kept"


def test_opened_where_nothing_else_is_a_bundle_gives_the_same_page(theirs, packed, tmp_path, monkeypatch):
    _, _, out = theirs
    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    made = bundle.analysed_again(packed)
    assert made.differs == ()
    page = write_report(made.results, tmp_path / "again")
    for name in ("report.html", "report.md", "tables/arms.csv", "figures/forest.svg"):
        assert (out / name).read_bytes() == (page.parent / name).read_bytes(), name
    assert not (tmp_path / "empty").exists(), "nothing is left behind"


def test_the_files_that_the_study_named_are_not_looked_for(packed, monkeypatch):
    def gone(*_):
        raise AssertionError("a file of the machine that ran the study")

    for name in ("read_prompts", "read_groups", "fingerprint"):
        monkeypatch.setattr(inputs, name, gone)
    assert bundle.analysed_again(packed).differs == ()


def test_figures_are_computed_and_not_copied(packed, tmp_path):
    def change(name: str, text: bytes) -> bytes:
        if name != "cells.jsonl":
            return text
        rows = [json.loads(line) for line in text.splitlines()]
        for row in rows:
            if row["manifest"]["kind"] == "judge" and row["manifest"]["label"].startswith("dpo"):
                row["result"]["values"] = {k: [1.0 for _ in v] for k, v in row["result"]["values"].items()}
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    made = bundle.analysed_again(rewritten(packed, tmp_path / "changed.zip", change))
    assert {"arms", "pooled", "pairs"} <= set(made.differs)
    assert {r["gold_mean"] for r in made.results["pooled"] if r["name"] == "dpo"} == {1.0}


def test_equal_reports_give_equal_archives(theirs, packed, tmp_path):
    _, store, out = theirs
    bundle.make(out, tmp_path / "again.zip", store)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_neither_weights_nor_the_place_of_the_store_go_into_it(theirs, packed):
    folder, store, _ = theirs
    assert any(store.artifacts.root.rglob("*.safetensors")), "there are weights that could"
    with archive.opened(packed) as held:
        assert not [n for n in held.names if not n.endswith((".json", ".jsonl", ".yaml"))]
        assert all(str(folder).encode() not in held.bytes(name) for name in held.names)
        assert {"responses.jsonl", "groups.jsonl", "metrics.jsonl"} <= {n.rpartition("/")[2] for n in held.names}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind regards, s3cret-value-9", "SERVICE_API_KEY"),
        ("Authorization: Bearer abcdefghijklmnop0123", "looks like a key"),
        ("here is sk-abcdefghijklmnopqrstuvwx", "looks like a key"),
        ("http://me:hunter22@host/v1", "looks like a key"),
    ],
)
def test_a_key_in_a_text_is_refused_and_never_shown(theirs, tmp_path, monkeypatch, text, told):
    _, store, out = theirs
    monkeypatch.setenv("SERVICE_API_KEY", "s3cret-value-9")
    planned, results = papers.read(out), bundle.read_results(out)
    results["reproduce"]["study"] += f"\n# {text}\n"
    write_json(tmp_path / "run/results.json", results)
    papers.write(planned, tmp_path / "run")
    with pytest.raises(InputError, match=told) as refused:
        bundle.make(tmp_path / "run", tmp_path / "b.zip", store)
    assert "s3cret" not in str(refused.value) and "hunter22" not in str(refused.value)
    assert "results.json, line 1" in str(refused.value)
    assert not (tmp_path / "b.zip").exists()


def test_the_name_of_a_key_is_no_key(theirs, tmp_path, monkeypatch):
    _, store, out = theirs
    monkeypatch.setenv("SERVICE_API_KEY", "s3cret-value-9")
    results = bundle.read_results(out)
    results["reproduce"]["study"] += "\n# judge: openai/v2@http://host/v1#SERVICE_API_KEY\n"
    write_json(tmp_path / "run/results.json", results)
    papers.write(papers.read(out), tmp_path / "run")
    assert bundle.make(tmp_path / "run", tmp_path / "b.zip", store)


def test_a_store_without_the_cells_is_named(theirs, tmp_path):
    _, _, out = theirs
    with Store(tmp_path / "other.db") as empty, pytest.raises(InputError, match=r"are missing.*PIPPIN_HOME"):
        bundle.make(out, tmp_path / "b.zip", empty)


def test_the_commands_pack_open_and_write_again(theirs, tmp_path, monkeypatch, capsys):
    folder, _, out = theirs
    monkeypatch.setenv("PIPPIN_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    assert run(["bundle", str(out), "--out", "sent.zip", "--json", "sent.json"]) == 0
    assert "no weights, no keys" in capsys.readouterr().out
    sent = json.loads((tmp_path / "sent.json").read_text())
    assert sent["bytes"] == (tmp_path / "sent.zip").stat().st_size and "cells.jsonl" in sent["sha256"]
    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path / "empty"))
    assert run(["report", "sent.zip"]) == 0
    assert "every figure is as the bundle states it" in capsys.readouterr().out
    opened = tmp_path / "sent"
    assert (opened / "report.html").read_bytes() == (out / "report.html").read_bytes()
    assert {"study.yaml", "test.jsonl", "results.json"} <= {p.name for p in opened.iterdir()}
    assert len(files.read_prompts(opened / "test.jsonl")) == 16
    assert run(["report", "sent", "--out", "blind", "--blind", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "sft"
    assert 'id="examples" class="blind"' in (tmp_path / "blind/report.html").read_text()
    assert run(["report", "nowhere"]) == 2 and "no results of a report" in capsys.readouterr().err
    assert run(["bundle", "sent"]) == 2 and "no plan beside the report" in capsys.readouterr().err
    assert not (tmp_path / "sent.zip.zip").exists()


# ---------------------------------------------------------------------- what is not trusted


def zipped(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in entries:
            made.writestr(name, text)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([("../../evil.json", b"{}")], "name"),
        ([("/etc/passwd", b"{}")], "name"),
        ([("a/../../b.json", b"{}")], "name"),
        ([("a\\..\\b.json", b"{}")], "name"),
        ([("artifacts/x/.hidden", b"{}")], "name"),
        ([(link("results.json"), b"/etc/passwd")], "plain file"),
        ([("bundle.json", b'{"sha256": {"results.json": "00"}}'), ("results.json", b"{}")], "hash"),
        ([("bundle.json", b'{"sha256": {}}'), ("results.json", b"{}")], "list of members"),
        ([("bundle.json", b"[" * 100_000)], "JSON"),
        ([("results.json", b"{}")], "no such member"),
        ([("bundle.json", b'{"sha256": {}}')], "not a bundle of this version"),
    ],
)
def test_archives_that_no_bundle_is_are_refused(tmp_path, entries, told):
    with pytest.raises(InputError, match=told):
        bundle.analysed_again(zipped(tmp_path / "b.zip", *entries))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip"]


def test_two_members_of_one_name_too_many_bytes_and_no_archive_are_refused(tmp_path, monkeypatch):
    with pytest.warns(UserWarning):
        zipped(tmp_path / "twice.zip", ("a.json", b"1"), ("a.json", b"2"))
    zipped(tmp_path / "bomb.zip", ("a.json", b"0" * 1_000_000))
    monkeypatch.setattr(archive, "BYTES", 1000)
    (tmp_path / "text.zip").write_text("no archive")
    for name, told in (
        ("twice.zip", "two of one name"),
        ("bomb.zip", "unpack to more"),
        ("text.zip", "not an archive"),
    ):
        with pytest.raises(InputError, match=told):
            bundle.analysed_again(tmp_path / name)


def test_a_truncated_bundle_is_refused(packed, tmp_path):
    whole = packed.read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not an archive"):
        bundle.analysed_again(tmp_path / "half.zip")
    spoiled = bytearray(whole)
    with zipfile.ZipFile(io.BytesIO(whole)) as made:
        entry = made.getinfo("cells.jsonl")
    place = entry.header_offset + 200
    spoiled[place : place + 8] = b"\0" * 8
    (tmp_path / "spoiled.zip").write_bytes(bytes(spoiled))
    with pytest.raises(InputError, match=r"cells.jsonl"):
        bundle.analysed_again(tmp_path / "spoiled.zip")


@pytest.mark.parametrize("name", ["results.json", "plan.json", "facts.json", "cells.jsonl"])
def test_a_bundle_whose_parts_are_something_else_is_refused(packed, tmp_path, name):
    made = rewritten(packed, tmp_path / "b.zip", lambda n, text: b"[3]\n" if n == name else text)
    with pytest.raises(InputError):
        bundle.analysed_again(made)


def test_a_plan_that_names_cells_which_are_not_there_is_refused(packed, tmp_path):
    def change(name: str, text: bytes) -> bytes:
        return text.replace(b'"greedy": "', b'"greedy": "0') if name == "plan.json" else text

    with pytest.raises(InputError, match="not a plan"):
        bundle.analysed_again(rewritten(packed, tmp_path / "b.zip", change))


def test_cells_that_need_each_other_are_refused(theirs):
    row = papers.to_row(papers.read(theirs[2]))
    row["cells"][0]["spec"]["also"] = f"cell:{row['cells'][-1]['key']}"
    with pytest.raises(InputError, match="needs itself"):
        papers.from_row(row)


def test_results_of_cells_that_are_something_else_are_refused(packed, tmp_path):
    def change(name: str, text: bytes) -> bytes:
        rows = [json.loads(line) for line in text.splitlines()] if name == "cells.jsonl" else []
        return b"".join(json.dumps({**row, "result": 3}).encode() + b"\n" for row in rows) or text

    with pytest.raises(InputError, match="cells that this version does not read"):
        bundle.analysed_again(rewritten(packed, tmp_path / "b.zip", change))


# ---------------------------------------------------------------------- arms of one's own beside theirs


def test_no_cell_of_theirs_is_ever_run_here(packed, tmp_path):
    def change(name: str, text: bytes) -> bytes:
        return b"".join(text.splitlines(keepends=True)[1:]) if name == "cells.jsonl" else text

    made = rewritten(packed, tmp_path / "b.zip", change)
    with Store(tmp_path / "mine.db") as mine, pytest.raises(InputError, match="without all of its cells"):
        extend.bring(str(made), mine)


def test_their_arms_come_in_under_keys_of_their_own(theirs, packed, tmp_path):
    _, store, _ = theirs
    made = extend.read({"bundle": str(packed), "arms": ["dpo"]}, frozenset({"dpo"}))
    assert made.arms == ["their/dpo"]
    assert not set(made.cells) & set(papers.read(packed.parent / "out").cells)
    with Store(tmp_path / "mine.db") as mine:
        extend.bring(str(packed), mine)
        assert all(mine.cell(key) is not None for key in made.cells)
        run = made.runs[0]
        assert mine.artifact(run.responses["greedy"]) is not None
        assert all(mine.cell(key) is None for key in papers.read(packed.parent / "out").cells), "none under its own key"
        assert not mine.judgements() and store.cell(next(iter(made.cells))) is None


def test_what_a_study_extends_is_read_with_its_mistakes(packed):
    with pytest.raises(UnknownName, match=r"dpp.*dpo"):
        extend.read({"bundle": str(packed), "arms": ["dpp"]})
    with pytest.raises(InputError, match=r"extend: FILE.zip"):
        extend.read({"zip": str(packed)})


def test_a_judge_of_pairs_is_asked_anew_only_where_it_compared_something_else(packed):
    runs = {run.arm.name: run for run in extend.read(str(packed)).runs}
    sft, dpo = runs["sft"], runs["dpo"]
    asked = []

    def add(kind, spec, label):
        asked.append((kind, spec["against"], label))
        return f"{len(asked):016x}"

    assert extend.judged(dpo, sft, "gold", add) is dpo, "scores are compared with nobody"
    judged = {d: ["openai/judge", f"cell:{key}"] for d, key in sft.responses.items()}
    paired = replace(dpo, external={**dpo.external, "judged": judged})
    assert extend.judged(paired, sft, "openai/judge", add).verdicts == dpo.verdicts and not asked
    assert (
        set(extend.judged(paired, sft, "openai/other", add).verdicts) == {"temperature 1", "greedy"} and len(asked) == 2
    )
    other = replace(sft, responses={"greedy": "f" * 16})
    anew = extend.judged(paired, other, "openai/judge", add)
    assert list(anew.verdicts) == ["greedy"] and asked[-1] == (
        "judge",
        f"cell:{'f' * 16}",
        "dpo judged, greedy (seed 0)",
    )


def test_an_arm_of_ones_own_beside_theirs_runs_nothing_of_theirs(theirs, packed, tmp_path):
    study = varied(extend=str(packed), axes={}, settings={})
    study["stages"] = {"start": SMALL["stages"]["sft"], "labels": {**SMALL["stages"]["feedback"], "respond": "$start"}}
    study["axes"] = {"method": {"simpo": {"method": "simpo"}}}
    study["settings"] = {"sft": BATCH, "simpo": {**BATCH, "model": "$start", "data": "$labels", "max_steps": 2}}
    with Store(tmp_path / "mine.db") as mine:
        extend.bring(str(packed), mine)
        planned = plan(read_study(write(tmp_path, study)))
        before = {key for key in planned.cells if mine.cell(key) is not None}
        out = reported(study, tmp_path, mine)
        results = bundle.read_results(out)
        assert {row["name"] for row in results["arms"]} == {"sft", "dpo", "simpo"}
        ran = [planned.cells[key].label for key in planned.cells if key not in before]
        assert ran and not [label for label in ran if label.startswith("dpo")]
        stated = json.loads((theirs[2] / "results.json").read_text())
        mine_dpo, their_dpo = (
            next(r for r in found["pooled"] if r["name"] == "dpo" and r["decoding"] == "greedy")
            for found in (results, stated)
        )
        assert mine_dpo["gold_mean"] == their_dpo["gold_mean"] and mine_dpo["delta_vs_sft"] == their_dpo["delta_vs_sft"]
        assert results["confounds"] == [] and results["not_declared"] == []
        bundle.make(out, tmp_path / "both.zip", mine)
    again = bundle.analysed_again(tmp_path / "both.zip")
    assert again.differs == ()
