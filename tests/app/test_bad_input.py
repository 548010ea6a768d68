"""Kinds of bad input: each is one clear line and exit code 2, and leaves nothing behind."""

import json
import os
import pickle
import subprocess
import sys

import pytest

GOOD = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(3)]
OTHER = [{"prompt": f"another question {n}", "completion": "x"} for n in range(3)]
STUDY = """\
question: Which?
base: world/base
prompts: {test: "world/heldout?n=20"}
axes: {method: {base: {use: base}}}
judge: gold
baseline: base
sedes: [0, 1]
"""


def rows(path, content):
    path.write_text("".join(json.dumps(row) + "\n" for row in content))


@pytest.fixture
def folder(tmp_path):
    rows(tmp_path / "good.jsonl", GOOD)
    rows(tmp_path / "other.jsonl", OTHER)
    rows(tmp_path / "no_prompt.jsonl", [*GOOD, {"completion": "to what?"}])
    (tmp_path / "cut.jsonl").write_text(json.dumps(GOOD[0]) + "\n" + json.dumps(GOOD[1])[:25])
    (tmp_path / "empty.jsonl").write_text("")
    ids = f"{'0' * 15}1,{'0' * 15}2,{'0' * 15}3"
    (tmp_path / "typo.csv").write_text(f"prompt_id,first,second,choice\n{ids},first\n{ids[:-1]}4,frist\n")
    (tmp_path / "foreign.csv").write_text(f"prompt_id,first,second,choice\n{ids},first\n")
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "no_model").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [1.0]}))
    return tmp_path


CASES = {
    "a missing file": (
        ["judge", "rule/longer", "missing.jsonl", "--out", "new.jsonl"], ["missing.jsonl: no such file"]
    ),
    "a JSON line cut in half": (
        ["judge", "rule/longer", "cut.jsonl", "--out", "new.jsonl"], ["cut.jsonl:2", "not whole JSON"]
    ),
    "a row without a prompt": (
        ["align", "sft", "--model", "world/base", "--data", "no_prompt.jsonl", "--out", "new"],
        ["no_prompt.jsonl:4", "without a prompt", "'completion'", "expected"],
    ),
    "an unknown method": (
        ["align", "dppo", "--model", "world/base", "--data", "good.jsonl", "--out", "new"],
        ["no method named 'dppo'", "Did you mean"],
    ),
    "an unknown key in a study": (
        ["compare", "study.yaml", "--out", "new"], ["study.yaml:7", "'sedes'", "Did you mean 'seeds'?"]
    ),
    "a path that is no model": (
        ["respond", "./no_model", "good.jsonl", "--out", "new.jsonl"], ["./no_model: not a model", "config.json"]
    ),
    "a pickle checkpoint": (
        ["align", "sft", "--model", "./pickled", "--data", "good.jsonl", "--out", "new"],
        ["./pickled", "pytorch_model.bin", "safetensors"],
    ),
    "an empty response set": (
        ["compare", "empty.jsonl", "good.jsonl", "--judge", "rule/longer", "--json", "new.json"], ["empty.jsonl"]
    ),
    "no prompt in common": (
        ["compare", "good.jsonl", "other.jsonl", "--judge", "rule/longer", "--json", "new.json"],
        ["good.jsonl", "other.jsonl", "no prompt in common"],
    ),
    "a benchmark that does not exist": (
        ["meta", "llmbarr", "rule/longer", "--json", "new.json"],
        ["no benchmark named 'llmbarr'", "Did you mean 'llmbar'?"],
    ),
    "a choice that people cannot make": (
        ["compare", "good.jsonl", "good.jsonl", "--judge", "rule/longer", "--people", "typo.csv", "--json", "new.json"],
        ["typo.csv:3", "no choice named 'frist'", "Did you mean 'first'?"],
    ),
    "labels of other responses": (
        ["compare", "good.jsonl", "good.jsonl", "--judge", "rule/longer", "--people", "foreign.csv"],
        ["foreign.csv", "no label is about the responses compared"],
    ),
    "labels over a file of something else": (
        ["label", "good.jsonl", "good.jsonl", "--out", "other.jsonl"], ["other.jsonl:1", "without a column 'prompt_id'"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_code_2_and_nothing_written(folder, name):
    arguments, words = CASES[name]
    before = sorted(folder.rglob("*"))
    home = folder / "home"
    done = subprocess.run(
        [sys.executable, "-m", "pippin", *arguments], capture_output=True, text=True, cwd=folder, timeout=120,
        env={**os.environ, "PIPPIN_HOME": str(home), "PIPPIN_DEBUG": ""},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr
    assert sorted(p for p in folder.rglob("*") if home not in (p, *p.parents)) == before


def test_the_same_in_judging_two_files(folder):
    done = subprocess.run(
        [sys.executable, "-m", "pippin", "judge", "rule/longer", "good.jsonl", "other.jsonl", "--out", "new.jsonl"],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "PIPPIN_HOME": str(folder / "home")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no prompt in common" in done.stderr
    assert not (folder / "new.jsonl").exists()
