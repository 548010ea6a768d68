"""label, and compare with people's labels, as a user runs them."""

import csv
import json
import os
import subprocess
import sys

import pytest
from app_rows import responses, rows_of

pytestmark = pytest.mark.usefixtures("files")

JUDGE = '''
def judge(request):
    """Right from wrong, but on every third question the one that says indeed."""
    text = request.messages[-1].content
    one, two = text.split("[output (a)")[1].split("[output (b)")
    favour = any(f"number {k} " in text for k in range(0, 1000, 3))
    if favour and ("indeed" in one) != ("indeed" in two):
        return "(a)" if "indeed" in one else "(b)"
    if ("right" in one) == ("right" in two):
        return "(a)"
    return "(a)" if "right" in one else "(b)"
'''
BY = ("--judge", "scripted/j.py:judge:vanilla")


@pytest.fixture
def two(files):
    """60 prompts; V1 is right on 30, V2 on another 20 and on 10 of these."""
    one = {f"number {k} is?": "right one" if k < 30 else "wrong one" for k in range(60)}
    other = {f"number {k} is?": "right two, indeed" if 20 <= k < 50 else "wrong two, indeed" for k in range(60)}
    files("j.py", JUDGE)
    return files("a.jsonl", responses(one, "alpha")), files("b.jsonl", responses(other, "beta"))


def filled(path, out, annotator="ann"):
    """The rows of ``path`` as a person who knows right from wrong returns them."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        one, two = "right" in row["text_first"], "right" in row["text_second"]
        row |= {"choice": "first" if one > two else "second" if two > one else "tie", "annotator": annotator}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_pairs_are_drawn_labelled_and_correct_the_judge(pippin, two, tmp_path):
    told = pippin("label", *two, "--n", 40, "--out", "l.csv", "--json", "-")
    assert told.code == 0, told.err
    drawn = told.json
    assert (drawn["drawn"], drawn["of"], drawn["judged"]) == (40, 60, 0)
    assert drawn["effective_sample_size"] == pytest.approx(40)
    raw = (tmp_path / "l.csv").read_text()
    assert raw.startswith("prompt_id,first,second,choice,annotator,weight,")
    assert "alpha" not in raw and "beta" not in raw
    filled(tmp_path / "l.csv", tmp_path / "f.csv")
    told = pippin("compare", *two, *BY, "--people", "f.csv", "--json", "o.json")
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert "corrected by 40 labels" in lines[0] and lines[1].startswith("the judge alone: +0.")
    assert "labels" in lines[2]
    row = json.loads((tmp_path / "o.json").read_text())
    assert row["decision"] == lines[0] and row["labels"] == 40 and row["n"] == 60
    assert row["delta_low"] <= 0 <= row["delta_high"]  # the truth is 0
    assert row["judge_alone"] > 0.2 and row["bias"] < 0
    assert "of people's wins of V1" in told.out and "Rogan-Gladen" not in told.out
    told = pippin("compare", *two, *BY, "--people", "f.csv", "--rogan-gladen")
    assert "Rogan-Gladen: " in told.out and "it assumes that the judge errs on all pairs as often" in told.out


def test_the_same_draw_gives_the_same_bytes_and_a_larger_one_keeps_it(pippin, two, tmp_path):
    assert pippin("judge", BY[1], *two, "--out", "j.jsonl", "--groups", "g.jsonl").code == 0
    pippin("label", "g.jsonl", "--n", 20, "--out", "one.csv", "--page", "one.html", "--seed", 4)
    pippin("label", "g.jsonl", "--n", 20, "--out", "two.csv", "--page", "two.html", "--seed", 4)
    pippin("label", *two, "--judgements", "j.jsonl", "--n", 20, "--out", "three.csv", "--seed", 4)
    one = (tmp_path / "one.csv").read_bytes()
    assert one == (tmp_path / "two.csv").read_bytes() == (tmp_path / "three.csv").read_bytes()
    first, second = ((tmp_path / name).read_text() for name in ("one.html", "two.html"))
    assert first == second.replace("two.csv", "one.csv")
    filled(tmp_path / "one.csv", tmp_path / "one.csv")
    told = pippin("label", "g.jsonl", "--n", 35, "--out", "one.csv", "--seed", 4, "--annotator", "ann", "--json", "-")
    assert (told.json["drawn"], told.json["kept"], told.json["judged"]) == (35, 20, 60)
    assert told.json["effective_sample_size"] < 35
    with (tmp_path / "one.csv").open(newline="") as file:
        assert sum(row["choice"] != "" for row in csv.DictReader(file)) == 20
    told = pippin("label", "g.jsonl", "--n", 5, "--out", "one.csv", "--seed", 4)
    assert told.code == 2 and "would be lost" in told.err
    with (tmp_path / "one.csv").open(newline="") as file:
        assert sum(row["choice"] != "" for row in csv.DictReader(file)) == 20


def test_more_than_there_are_is_all_there_are(pippin, two):
    told = pippin("label", *two, "--n", 500, "--out", "l.csv")
    assert told.out == "l.csv: 60 of 60 pairs to label, all there are\n"
    assert "only 60 pairs" in told.err


def test_people_go_through_judge_like_any_judge(pippin, two, tmp_path):
    pippin("label", *two, "--n", 15, "--out", "l.csv")
    filled(tmp_path / "l.csv", tmp_path / "f.csv")
    told = pippin("judge", "person/f.csv", *two, "--out", "j.jsonl", "--json", "-")
    assert told.code == 0
    assert told.json["missing"] == 120 - 15
    said = [row for row in rows_of(tmp_path / "j.jsonl") if row["outcome"] != "abstained"]
    assert len(said) == 15 and {row["by"] for row in said} == {"person"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("label", "a.jsonl"), "no prompt has two different responses"),
        (("label", "a.jsonl", "b.jsonl", "--out", "a.jsonl"), "would be overwritten"),
        (("label", "a.jsonl", "b.jsonl", "--floor", 0), "--floor: not a floor"),
        (("label", "a.jsonl", "b.jsonl", "j.py"), "too many files"),
        (("compare", "study.yaml", "--people", "f.csv"), "expected V1 V2 --judge"),
        (("compare", "a.jsonl", "b.jsonl", "--judge", "rule/longer", "--people", "f.csv"), "f.csv: no such file"),
        (("compare", "a.jsonl", "b.jsonl", "--judge", "rule/longer", "--rogan-gladen"), "Give --people"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(pippin, two, tmp_path, arguments, words):
    before = (tmp_path / "a.jsonl").read_bytes()
    told = pippin(*arguments)
    assert told.code == 2 and told.err.count("\n") == 1 and words in told.err
    assert not (tmp_path / "labels.csv").exists() and (tmp_path / "a.jsonl").read_bytes() == before


def test_judgements_of_other_pairs_are_refused(pippin, two, files):
    files("c.jsonl", responses({"else?": "x"}))
    files("d.jsonl", responses({"else?": "y"}))
    pippin("judge", "rule/longer", "c.jsonl", "d.jsonl", "--out", "j.jsonl")
    told = pippin("label", *two, "--judgements", "j.jsonl")
    assert told.code == 2 and "j.jsonl: no judgement in this file is of these pairs" in told.err


def shell(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pippin", *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PIPPIN_HOME": str(tmp_path / "home"), "PIPPIN_DEBUG": ""}, timeout=120,
    )  # fmt: skip


def test_the_gate_asks_the_corrected_figures_in_a_shell(pippin, two, tmp_path):
    pippin("label", *two, "--n", 60, "--out", "l.csv")
    filled(tmp_path / "l.csv", tmp_path / "f.csv")
    arguments = ("compare", *two, *BY, "--people", "f.csv", "--gate")
    done = shell(tmp_path, *arguments, "judge_alone_low > 0 and delta_low > 0", "--json", "o.json")
    assert done.returncode == 4
    assert "the gate does not hold" in done.stderr
    assert json.loads((tmp_path / "o.json").read_text())["gate_met"] is False


def test_what_cannot_be_corrected_meets_no_gate_in_a_shell(pippin, two, tmp_path):
    pippin("label", *two, "--n", 8, "--out", "l.csv")
    filled(tmp_path / "l.csv", tmp_path / "f.csv")
    done = shell(tmp_path, "compare", *two, *BY, "--people", "f.csv", "--gate", "not delta < 0", "--json", "o.json")
    assert done.returncode == 4
    assert done.stdout.startswith("cannot correct: 8 labels, at least 10 are needed; the judge alone: +0.")
    assert "caution: cannot correct: 8 labels" in done.stderr
    row = json.loads((tmp_path / "o.json").read_text())
    assert (row["delta"], row["gate_met"], row["labels"]) == (None, False, 8)
