"""What a plan says beforehand, against what was counted and used."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from pippin import stats
from pippin.compare import calibration, costs, detect
from pippin.compare.calibration import Rates
from pippin.compare.cells import Cell
from pippin.compare.counts import Counts, Scene
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.compare.work import run_cell
from pippin.core import catalog
from pippin.core.store import Store

from .studies import SMALL, varied, write

RATES = Rates(parameters=378_432, start=3.0, load=0.02, row=1e-4, run=0.05, step=0.01, trained=1e-4, forward=2e-5,
              pass_=2e-3, drawn=3e-5, scored=4e-5, compared=1e-4, interval=0.05, length=15.0)  # fmt: skip


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store, on a machine whose speed is known."""
    monkeypatch.setattr(calibration, "calibrated", lambda store, larger=False: (RATES, None))
    with Store(tmp_path / "home" / "store.db") as made:
        yield made


def planned(folder, **changes):
    return plan(read_study(write(folder, varied(**changes))))


def estimated(made, store, **more):
    return costs.estimate(made.study, made, [], store, **more)


def finish(made, store, *kinds):
    """Results for every cell of these kinds, without work."""
    for key, cell in made.cells.items():
        if not kinds or cell.kind in kinds:
            store.add_cell(key, {}, {"values": {}, "ledger": {}, "mean_length": 5.0})


def test_counts_are_what_the_runs_then_book(tmp_path, store):
    quiet = {name: {**own, "watch_prompts": 0} for name, own in SMALL["settings"].items()}
    made = planned(tmp_path, settings=quiet)
    scene = Scene(made.cells, RATES.length)
    for cell in list(made.cells.values()):
        if cell.kind not in ("train", "feedback"):
            continue
        said, booked = scene.count(cell), run_cell(cell, store)["ledger"]
        assert said.steps == booked["steps"], cell.label
        assert said.gradient_tokens == pytest.approx(booked["gradient_tokens"], rel=0.25), cell.label
        assert said.labels == pytest.approx(booked["labels"], rel=0.15), cell.label
        if cell.kind == "feedback":
            assert said.drawn == pytest.approx(booked["policy_tokens_sampled"], rel=0.35)


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_every_method_can_be_counted(name, tmp_path):
    method = catalog.load("methods", name)
    reads = {"demonstrations": "world/demonstrations?n=40", "preferences": "cell:" + "f" * 16}
    feedback = {"policy": "world/base", "prompts": "world/train?n=40", "n": 4, "judge": "simulated/world",
                "orders": "one", "temperature": 1.0, "max_tokens": 16, "seed": 0}  # fmt: skip
    spec = {
        "method": name, "model": "world/base", "data": reads.get(method.reads), "prompts": "world/train?n=40",
        "reward": "gold", "template": None, "dev": "world/dev?n=8&seed=0", "judge": "gold", "settings": {}, "match": {},
        "seed": 0,
    }  # fmt: skip
    train = Cell("a" * 16, "train", spec, name)
    cells = {"f" * 16: Cell("f" * 16, "feedback", feedback, "feedback"), train.key: train}
    scene = Scene(cells, RATES.length)
    whole = scene.count(train)
    assert costs.seconds(whole, RATES) > RATES.run
    if method.terms:
        assert whole.steps > 0 and whole.gradient_tokens > 0
        spec["settings"] = {"max_steps": 1}
        assert scene.count(train).gradient_tokens < whole.gradient_tokens or whole.steps <= 2
    assert (whole.drawn > 0) == (method.reads == "prompts" or method.artefact == "policy")


def test_what_is_stored_costs_nothing(tmp_path, store):
    made = planned(tmp_path)
    first = estimated(made, store, workers=2)
    assert first["cells"] == {"to_run": len(made.cells), "stored": 0}
    told = first["cpu_seconds"]
    assert 0 < told["low"] < told["planned"] < told["high"]
    assert told["planned"] == pytest.approx(sum(first["by_kind"].values()), abs=0.1)
    finish(made, store, "train", "feedback")
    second = estimated(made, store, workers=2)
    assert second["cpu_seconds"]["planned"] < told["planned"] and "train" not in second["by_kind"]
    assert second["tokens"]["gradient"] == 0 and second["labels"] == 0
    finish(made, store)
    last = estimated(made, store)
    assert last["cells"] == {"to_run": 0, "stored": len(made.cells)} and last["cpu_seconds"]["high"] == 0


def test_more_of_everything_costs_more(tmp_path, store):
    def seconds(**changes):
        return estimated(planned(tmp_path, **changes), store)["by_kind"]

    usual = seconds()
    assert seconds(seeds=[0, 1])["train"] == pytest.approx(2 * usual["train"], rel=0.1)
    assert seconds(evaluation={"n": 20})["respond"] > 1.5 * usual["respond"]
    assert seconds(settings={"sft": {**SMALL["settings"]["sft"], "num_train_epochs": 4}})["train"] > usual["train"]


def test_minutes_are_shared_out_but_for_the_longest_chain(tmp_path, store):
    made = planned(tmp_path, seeds=list(range(8)))
    one, two, many = (estimated(made, store, workers=w) for w in (1, 2, 64))
    assert one["minutes"]["planned"] == pytest.approx(one["cpu_seconds"]["planned"] / 60, abs=0.02)
    assert many["minutes"]["planned"] < two["minutes"]["planned"] < one["minutes"]["planned"]
    assert many["minutes"]["planned"] * 60 * 64 > many["cpu_seconds"]["planned"]


def test_a_run_teaches_the_next_estimate(tmp_path, store):
    made = planned(tmp_path)
    estimated(made, store)
    before = costs.latest(made.study, store)
    assert before is not None
    train = {
        key: part for key, part in before["parts"].items() if key in made.cells and made.cells[key].kind == "train"
    }
    for _ in range(2):
        costs.learn(before, {key: 3 * part["counted"] for key, part in train.items()}, made.cells, store)
    after = estimated(made, store)
    assert after["by_kind"]["train"] == pytest.approx(3 * sum(p["planned"] for p in train.values()), rel=0.01)
    assert after["by_kind"]["feedback"] == pytest.approx(before["row"]["by_kind"]["feedback"], rel=0.01)
    again = costs.latest(made.study, store)
    assert again is not None
    dpo = next(key for key, cell in made.cells.items() if cell.label == "dpo (seed 0)")
    assert again["parts"][dpo]["high"] / again["parts"][dpo]["planned"] == pytest.approx(costs.LEAST)


def test_what_a_run_used_is_set_against_its_plan_once_for_all(tmp_path, store):
    made = planned(tmp_path)
    assert costs.compare(None, {"x": 1.0}, made.study, made, store) is None  # nothing was planned
    estimated(made, store)
    latest = costs.latest(made.study, store)
    assert latest is not None
    spent = dict.fromkeys(latest["parts"], 1.0)
    told = costs.compare(latest, spent, made.study, made, store)
    assert told is not None and told["cpu_seconds"]["used"] == len(spent)
    assert told["cpu_seconds"]["planned"] == pytest.approx(latest["row"]["cpu_seconds"]["planned"], abs=0.05)
    assert costs.compare(latest, {}, made.study, made, store) == told  # all stored by now: the same is told
    assert costs.compare(latest, dict.fromkeys(spent, 9.0), made.study, made, store) == told


def test_a_cell_whose_settings_were_chosen_is_found_by_its_label(tmp_path, store):
    made = planned(tmp_path)
    estimated(made, store)
    key = next(key for key, cell in made.cells.items() if cell.label == "dpo (seed 0)")
    chosen = {**made.cells, "c" * 16: Cell("c" * 16, "train", {}, "dpo (seed 0)")}
    latest = costs.latest(made.study, store)
    told = costs._told(latest, {"c" * 16: 1.0}, chosen)
    assert latest is not None and told == {"c" * 16: latest["parts"][key]}


def test_calls_and_money_of_a_judging_model(tmp_path, store, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    told = estimated(planned(tmp_path, judge="openai/gpt-4o-mini"), store)
    # three arms against the baseline, 16 prompts, greedy and two draws, both orders
    assert told["calls"] == 3 * 16 * (1 + 2) * 2
    assert 0 < told["money"]["low"] < told["money"]["high"] < 1 and told["unpriced"] == []
    dear = estimated(planned(tmp_path, judge="openai/gpt-4"), store)
    assert dear["money"]["low"] > 100 * told["money"]["low"] > 0
    unknown = estimated(planned(tmp_path, judge="openai/nobody-knows"), store)
    assert unknown["money"] is None and unknown["unpriced"] == ["openai/nobody-knows"] and unknown["calls"] == 288


def test_a_model_that_is_not_at_hand_has_no_known_time(tmp_path, store):
    told = estimated(planned(tmp_path, base="hf/nobody/nothing"), store)
    assert "sft (seed 0)" in told["unknown"] and "train" in told["by_kind"] and told["by_kind"]["train"] == 0
    assert told["tokens"]["gradient"] > 0  # four characters a token


def test_answers_that_were_recorded_and_those_of_an_earlier_look_are_not_drawn(tmp_path, store):
    rows = tmp_path / "answers.jsonl"
    rows.write_text('{"prompt": "one", "completion": "a b c"}\n')
    external = [{"path": str(rows), "name": "theirs", "method": "dpo"}]
    with_theirs, without = planned(tmp_path, external=external), planned(tmp_path)
    scene = Scene(with_theirs.cells, RATES.length)
    more = {key: scene.count(cell) for key, cell in with_theirs.cells.items() if key not in without.cells}
    assert more and all(counts.drawn == 0 for counts in more.values())
    answered = next(cell for cell in without.cells.values() if cell.kind == "respond")
    few = {**answered.spec, "prompts": "world/heldout?n=12&seed=3"}
    later = Cell("b" * 16, "respond", {**answered.spec, "before": "cell:" + "a" * 16}, "later")
    scene = Scene({**without.cells, "a" * 16: Cell("a" * 16, "respond", few, "few"), later.key: later}, RATES.length)
    assert scene.count(later).drawn == pytest.approx(scene.count(answered).drawn * 4 / 16)


def test_rates_of_a_size_lie_on_the_line():
    larger = Rates(**{**vars(RATES), "parameters": 10 * RATES.parameters, "trained": 1e-3, "drawn": 1e-5})
    middle = RATES.at(round(5.5 * RATES.parameters), larger)
    assert middle.trained == pytest.approx((1e-4 + 1e-3) / 2) and middle.step == RATES.step
    assert middle.drawn == RATES.drawn  # never below the small model's
    assert RATES.at(1000, larger).trained == RATES.trained


def test_seconds_are_counts_times_rates():
    counts = Counts(loads=1, rows=10, runs=2, steps=3, trained=4, forward=5, passes=6, drawn=7, scored=8, compared=9)
    expected = 0.02 + 10e-4 + 2 * 0.05 + 3 * 0.01 + 4e-4 + 5 * 2e-5 + 6 * 2e-3 + 7 * 3e-5 + 8 * 4e-5 + 9e-4
    assert costs.seconds(counts, RATES) == pytest.approx(expected)


def test_without_data_the_detectable_effect_is_an_assumption_that_is_stated(tmp_path, store):
    seen = detect.detectable(planned(tmp_path, prompts={"test": "world/heldout?n=100&seed=3"}), store)
    assert seen["basis"] == "assumed" and seen["n"] == 100 and seen["comparisons"] == 2
    assert seen["effect"] == pytest.approx(stats.minimum_detectable_effect(0.5**0.5, 100, alpha=0.025))
    assert "100 prompts and one seed" in seen["sentence"] and "assumed" in seen["sentence"]
    wins = detect.detectable(planned(tmp_path, judge="openai/gpt-4o-mini"), store)
    assert wins["effect"] == pytest.approx(stats.minimum_detectable_effect(0.5, 16, alpha=0.025))


def test_with_stored_verdicts_the_detectable_effect_is_theirs(tmp_path, store):
    made = planned(tmp_path)
    for k, run in enumerate(made.runs):
        for key in run.verdicts.values():
            values = {f"p{n}": [((n * 7 + k * n) % 5) / 40] for n in range(16)}
            store.add_cell(key, {}, {"values": values})
    seen = detect.detectable(made, store)
    assumed = stats.minimum_detectable_effect(0.5**0.5, 16, alpha=0.025)
    assert seen["basis"] == "stored cells" and 0 < seen["effect"] < 0.2 * assumed
    assert "stored" in seen["sentence"]


THREE = {
    "question": "Which of three methods?",
    "base": "world/base",
    "prompts": {"train": "world/train?n=300", "dev": "world/dev?n=40&seed=0", "test": "world/heldout?n=100&seed=5"},
    "stages": {
        "sft": {"method": "sft", "data": "world/demonstrations?n=800"},
        "feedback": {"respond": "$sft", "n": 4, "judge": "simulated/world"},
        "reward": {"method": "reward_model", "model": "$sft", "data": "$feedback"},
    },
    "axes": {"method": {"sft": {"use": "$sft"}, "dpo": {"method": "dpo"}, "ppo": {"method": "ppo"},
                        "kto": {"method": "kto"}}},
    "settings": {
        "sft": {"learning_rate": 1e-3, "num_train_epochs": 2, "per_device_train_batch_size": 32},
        "dpo": {"model": "$sft", "data": "$feedback", "learning_rate": 1e-4},
        "kto": {"model": "$sft", "data": "$feedback", "learning_rate": 1e-4},
        "ppo": {"model": "$sft", "reward": "rm/$reward", "num_rollouts": 6, "prompts_per_rollout": 32,
                "max_completion_length": 32, "learning_rate": 1e-4, "num_train_epochs": 2},
    },
    "judge": "gold",
    "seeds": [0],
    "baseline": "sft",
    "reference": "$sft",
    "evaluation": {"n": 2, "max_tokens": 32},
}  # fmt: skip


@pytest.mark.slow
def test_from_an_empty_store_a_plan_is_within_a_factor_of_one_and_a_half(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(THREE, sort_keys=False))
    env = {**os.environ, "PIPPIN_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def pippin(*words):
        made = subprocess.run([sys.executable, "-m", "pippin", "compare", str(study), *words, "--json", "-"], env=env,
                              cwd=tmp_path, capture_output=True, text=True, check=True)  # fmt: skip
        return json.loads(made.stdout)

    said = pippin("--plan")["estimate"]["cpu_seconds"]
    told = pippin("--out", str(tmp_path / "out"))["estimate"]["cpu_seconds"]
    print(told)
    assert told["planned"] == pytest.approx(said["planned"], rel=0.02)
    assert 1 / 1.5 < told["planned"] / told["used"] < 1.5
    assert told["low"] <= told["used"] <= told["high"]
