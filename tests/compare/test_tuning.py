"""Equal trials on development prompts, and runs that diverge: what is chosen, what is said, what is left out."""

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for studies.py

from studies import SMALL, varied, write

from pippin import stats
from pippin.compare import report, tuning
from pippin.compare.cells import in_order
from pippin.compare.plan import plan, plan_trials
from pippin.compare.run import run_study
from pippin.compare.study import read_study
from pippin.compare.trials import read_trials
from pippin.compare.work import run_cell
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store

SEARCH = {"search": {"learning_rate": [1e-9, 1e-3]}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def store(home, monkeypatch):
    monkeypatch.setenv("PIPPIN_HOME", str(home))
    with Store() as store:
        yield store


def tried(path, store):
    cells, trials = plan_trials(read_study(path))
    for key in in_order(cells):
        run_cell(cells[key], store)
    return read_trials(trials, store)


def test_every_trained_arm_is_tried_under_the_same_points(tmp_path):
    study = read_study(write(tmp_path, varied(tuning=SEARCH, seeds=[3, 4])))
    cells, trials = plan_trials(study)
    assert [(t.arm, t.settings) for t in trials] == [
        ("sft", {}),
        *((arm, {"learning_rate": rate}) for arm in ("dpo", "ipo_like") for rate in (1e-9, 1e-3)),
    ]
    assert {cell.spec["seed"] for cell in cells.values() if "seed" in cell.spec} == {3}
    answers = [cell.spec for cell in cells.values() if cell.kind == "respond"]
    assert {spec["prompts"] for spec in answers} == {"world/dev?n=6&seed=0"} and len(answers) == 5
    assert not any(cell.kind == "kl" for cell in cells.values())


def test_the_best_trial_is_chosen_and_all_are_told(store, tmp_path):
    chosen, rows = tried(write(tmp_path, varied(tuning=SEARCH)), store)
    assert [row["arm"] for row in rows] == ["dpo", "ipo_like"]
    for row in rows:
        values = [t["value"] for t in row["trials"]]
        assert row["chosen"] == chosen[row["arm"]] == row["trials"][int(np.argmax(values))]["settings"]
        assert row["expected_best"] == pytest.approx([np.mean(values), max(values)])
        assert values[0] == pytest.approx(row["baseline"], abs=0.1), "a rate of 1e-9 changes nothing"
        assert row["trials"][0]["differs"]["low"] <= row["trials"][0]["differs"]["delta"]
        assert row["ledger"]["steps"] == 2 and row["ledger"]["gradient_tokens"] > 0


def test_a_study_is_run_under_what_its_trials_chose(store, tmp_path):
    path = write(tmp_path, varied(tuning=SEARCH))
    results = run_study(read_study(path), tmp_path / "out", command="pippin compare study.yaml", workers=1)
    chosen = {row["arm"]: row["chosen"]["learning_rate"] for row in results["trials"]}
    settings = {row["name"]: row["settings"].get("learning_rate") for row in results["arms"]}
    assert set(chosen) == {"dpo", "ipo_like"} and all(settings[arm] == rate for arm, rate in chosen.items())
    assert "2 trials" in next(row["tuning"] for row in results["arms"] if row["name"] == "dpo")
    page, text = report.page(results), report.markdown(results)
    assert 'id="tuning"' in page and "(chosen)" in page and "## Tuning" in text and "expected best of 1, 2" in text


def test_a_run_that_diverged_is_an_outcome_and_no_number(store, tmp_path):
    broken = {"ipo_like": {"beta": 0.5, "max_loss": 1e-9}}
    study = read_study(write(tmp_path, varied(settings=broken)))
    results = run_study(study, tmp_path / "out", command="pippin compare study.yaml", workers=1)
    assert [(row["arm"], row["seed"]) for row in results["diverged"]] == [("ipo_like", 0)]
    assert "max_loss" in results["diverged"][0]["why"]
    assert "Diverged, and left out of these figures: ipo_like in 1 of 1 seeds." in results["decision"]
    assert {row["name"] for row in results["arms"]} == {"sft", "dpo"}
    planned = plan(study)
    lost = [cell for key, cell in planned.cells.items() if "diverged" in store.cell(key)["result"]]
    assert len(lost) == 5 and all(store.artifact(cell.key) is None for cell in lost)


def test_a_trial_that_diverged_counts_as_where_it_began(store, tmp_path):
    search = {"search": {"max_loss": [1e-9, 1e4]}}
    chosen, rows = tried(write(tmp_path, varied(tuning=search, axes={"method": SMALL["axes"]["method"]})), store)
    row = rows[0]
    assert chosen["dpo"] == {"max_loss": 1e4} and row["diverged"] == 1 and row["trials"][0]["diverged"]
    alive = row["trials"][1]["value"]
    assert row["expected_best"] == pytest.approx([(row["baseline"] + alive) / 2, max(row["baseline"], alive)])


def test_a_baseline_that_diverged_leaves_nothing_to_compare_with(store, tmp_path):
    study = read_study(write(tmp_path, varied(baseline="ipo_like", settings={"ipo_like": {"max_loss": 1e-9}})))
    with pytest.raises(InputError, match="baseline diverged"):
        run_study(study, tmp_path / "out", command="pippin compare study.yaml", workers=1)


@pytest.mark.parametrize(
    ("entry", "error", "words"),
    [
        ("thorough", InputError, "tuning says nothing"),
        ({"trails": 3}, UnknownName, "trials"),
        ({"on": "test"}, InputError, "development"),
        ({"search": {"learning_rate": 1e-4}}, InputError, "lists"),
        ({"search": {"learning_rate": []}}, InputError, "lists"),
        ({"trials": 3, **SEARCH}, InputError, "1 to 2"),
    ],
)
def test_what_tuning_cannot_mean_is_one_clear_line(tmp_path, entry, error, words):
    with pytest.raises(error, match=words) as caught:
        read_study(write(tmp_path, varied(tuning=entry)))
    assert "study.yaml" in str(caught.value)


def test_fewer_trials_than_points_are_drawn_once_and_equal_for_all():
    entry = {"trials": 5, "search": {"learning_rate": [1, 2, 3], "beta": [4, 5, 6]}}
    drawn = tuning.points(entry)
    assert drawn == tuning.points(entry) and len({tuple(p.values()) for p in drawn}) == 5
    assert tuning.points("published") == tuning.points({"trials": 6, "on": "dev"}) == []


def test_tuning_needs_development_prompts(tmp_path):
    study = read_study(write(tmp_path, varied(tuning=SEARCH)))
    with pytest.raises(InputError, match="development"):
        plan_trials(replace(study, prompts=replace(study.prompts, dev="")))


def test_expected_best_is_the_mean_over_all_sets():
    values = np.random.default_rng(0).normal(size=6)
    for k, expected in enumerate(stats.expected_best(values), start=1):
        assert expected == pytest.approx(np.mean([max(chosen) for chosen in combinations(values, k)]))
    with pytest.raises(InputError):
        stats.expected_best(np.array([1.0, np.nan]))
