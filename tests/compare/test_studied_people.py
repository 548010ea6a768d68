"""People's labels in a study of a judge of pairs."""

import csv

import pytest

from pippin.compare import papers, studied_people
from pippin.compare.cells import CELL
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.core.types import canonical
from pippin.data import files

from .studies import SMALL, run_here, write

EVALUATION = {"n": 2, "max_tokens": 12, "greedy": False}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("home") / "store.db") as opened:
        yield opened


def prefer_the_longer(one, two):
    return "first" if len(one.text) > len(two.text) else "second"


def judged_pairs(planned, store, arm):
    """(prompt, baseline's response, the arm's response) of every judged pair with different texts."""
    run = next(r for r in planned.runs if r.arm.name == arm)
    keys = CELL.findall(canonical(planned.cells[next(iter(run.verdicts.values()))].spec))
    rows = {k: files.read_responses(store.artifact(k) / "responses.jsonl") for k in keys}
    base = planned.baseline_of(run).responses["temperature 1"]
    theirs = {(p.id, r.sample): r for p, r in rows[base]}
    mine = [(p, r) for k, found in rows.items() if k != base for p, r in found]
    return [(p, theirs[p.id, r.sample], r) for p, r in mine if r.text != theirs[p.id, r.sample].text]


def labels_file(path, pairs, choose):
    rows = [
        {"prompt_id": p.id, "first": one.id, "second": two.id, "choice": choose(one, two), "annotator": "a"}
        for p, one, two in pairs
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_labels_of_all_pairs_are_what_people_say_whatever_the_judge_says(store, tmp_path):
    study = {**SMALL, "judge": "rule/first", "evaluation": EVALUATION}
    file = write(tmp_path, study)
    run_here(file, store)
    pairs = judged_pairs(plan(read_study(file)), store, "dpo")
    people = labels_file(tmp_path / "labels.csv", pairs, prefer_the_longer)
    results = run_here(write(tmp_path, {**study, "people": people}), store)
    row = next(r for r in results["people"]["rows"] if r["name"] == "dpo")
    won = sum(len(two.text) >= len(one.text) for _, one, two in pairs)
    run = next(r for r in plan(read_study(file)).runs if r.arm.name == "dpo")
    total = len(files.read_responses(store.artifact(run.responses["temperature 1"]) / "responses.jsonl"))
    assert row["labels"] == len(pairs) and row["why_not"] is None
    assert row["delta"]["value"] == pytest.approx((2 * won - len(pairs)) / total, abs=1e-6)
    assert next(r for r in results["pooled"] if r["name"] == "dpo")["win_rate_mean"] == pytest.approx(0.5)


def test_the_pairs_of_a_report_are_those_that_were_judged(store, tmp_path):
    file = write(tmp_path, {**SMALL, "judge": "rule/first", "evaluation": EVALUATION})
    run_here(file, store)
    planned = plan(read_study(file))
    papers.write(planned, tmp_path)
    found = {(g.prompt.id, frozenset(r.id for r in g.responses)) for g in studied_people.groups(tmp_path, store)}
    judged = {
        (p.id, frozenset((a.id, b.id))) for arm in ("dpo", "ipo_like") for p, a, b in judged_pairs(planned, store, arm)
    }
    assert judged <= found and len(judged) > 10


def test_labels_about_other_responses_are_refused_with_a_mend(store, tmp_path):
    study = {**SMALL, "judge": "rule/first", "evaluation": EVALUATION}
    file = write(tmp_path, study)
    run_here(file, store)
    pairs = judged_pairs(plan(read_study(file)), store, "dpo")
    people = labels_file(tmp_path / "labels.csv", pairs, prefer_the_longer)
    foreign = (tmp_path / "labels.csv").read_text().replace(pairs[0][0].id, "0" * 16)
    (tmp_path / "labels.csv").write_text("\n".join(foreign.splitlines()[:2]))
    with pytest.raises(InputError, match="no label is about the responses of this study"):
        run_here(write(tmp_path, {**study, "people": people}), store)


def test_numbers_have_no_people_to_correct_them(store, tmp_path):
    with pytest.raises(InputError, match="people's choices correct a judge of pairs"):
        run_here(write(tmp_path, {**SMALL, "people": "labels.csv"}), store)
