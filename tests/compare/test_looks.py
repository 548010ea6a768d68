"""Studies that are looked at early: what is run, when it stops, what its intervals are, what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pippin.compare import inputs, looks, staged
from pippin.compare.analyse import analyse
from pippin.compare.cells import Cell, Plan
from pippin.compare.plan import plan
from pippin.compare.work import run_cell
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store

from .made_cells import fill
from .planted import World, study

SEEDS = {"seeds": list(range(12)), "looks": {"over": "seeds", "at": [5, 8, 12]}}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "home" / "store.db") as opened:
        yield opened


def staged_run(made, store, world):
    """(plan reached, what the looks came to, number of cells that each look ran)."""
    ran: list[int] = []

    def do(cells):
        ran.append(sum(store.cell(key) is None for key in cells))
        fill(Plan(made, cells, ()), store, world.plant)

    planned, looked = staged.run(made, store, do)
    return planned, looked, ran


def test_a_clear_answer_stops_at_the_first_look_and_the_rest_is_not_run(tmp_path, store):
    made = study(tmp_path, **SEEDS)
    planned, looked, ran = staged_run(made, store, World({"dpo": 2.0, "kto": -2.0}))
    assert looked["stopped_at"] == 5 and looked["why"] == "every comparison is decided"
    assert {run.seed for run in planned.runs} == set(range(5)) and len(ran) == 1
    assert [row["decided"] for row in looked["taken"][0]["rows"]] == ["better", "worse"]
    assert sum(store.cell(key) is not None for key in plan(made).cells) == ran[0] < len(plan(made).cells) / 2


def test_an_open_question_takes_all_looks(tmp_path, store):
    planned, looked, ran = staged_run(study(tmp_path, **SEEDS), store, World({}))
    assert [look["at"] for look in looked["taken"]] == [5, 8, 12] and looked["why"] == "the looks are used up"
    assert all(row["decided"] is None for look in looked["taken"] for row in look["rows"])
    assert len(ran) == 3 and {run.seed for run in planned.runs} == set(range(12))
    assert looked["alpha_spent"] == sorted(looked["alpha_spent"])
    assert looked["alpha_spent"][-1] == pytest.approx(0.05)
    assert json.loads(json.dumps(looked, allow_nan=False)) == looked


def test_intervals_are_those_of_repeated_looks_and_the_sentence_says_so(tmp_path, store):
    made = study(tmp_path, **SEEDS)
    planned, looked, _ = staged_run(made, store, World({"dpo": 2.0, "kto": 0.9}))
    results = analyse(planned, store, "", looked)
    plain = analyse(planned, store, "")
    last = {row["name"]: row for row in looked["taken"][-1]["rows"]}
    for row, once in zip(results["pooled"], plain["pooled"], strict=True):
        if row["name"] in last:
            assert (row["delta_low"], row["delta_high"]) == (last[row["name"]]["low"], last[row["name"]]["high"])
            assert row["delta_low"] < once["delta_low"] and row["delta_high"] > once["delta_high"]
            assert row["p_holm"] >= once["p_holm"]
    assert results["looks"] == looked and f"Stopped at look {len(looked['taken'])} of 3" in results["decision"]
    assert "Intervals are those of repeated looks." in results["decision"]
    sides = [row for row in results["claims"] if row["scope"] == "these runs"]
    assert sides == [row for row in plain["claims"] if row["scope"] == "these runs"]


def test_a_p_value_over_looks_agrees_with_what_was_decided():
    rng, wanted, decided = np.random.default_rng(1), looks.Looks("seeds", (5, 8, 12)), 0
    for _ in range(20):
        taken = [
            [{"name": str(m), "baseline": "", "delta": float(rng.normal(1.5, 1)), "error": 0.6, "freedom": n - 1.0}
             for m in range(2)]
            for n in wanted.at
        ]  # fmt: skip
        rows = [looks.judged(wanted, taken[: n + 1]) for n in range(3)]
        adjusted = looks._adjusted(looks.report(wanted, rows, "the method", "greedy"))
        for row in rows[-1]:
            assert (adjusted[row["name"]] <= looks.ALPHA) == (row["decided"] is not None), row
            decided += row["decided"] is not None
    assert 5 < decided < 35


def test_within_the_margin_a_comparison_is_decided_too(tmp_path, store):
    made = study(tmp_path, **SEEDS, margin=0.5)
    _, looked, _ = staged_run(made, store, World({}, seed=0.02, rest=0.02))
    assert looked["stopped_at"] < 12 and {r["decided"] for r in looked["taken"][-1]["rows"]} == {"equivalent"}
    assert "Equivalent within the margin: dpo, kto." in looks.told(looked)


def test_a_single_checkpoint_made_elsewhere_keeps_no_look_over_seeds_open(tmp_path, store):
    made = study(tmp_path, **SEEDS, external=[{"path": "world/base", "name": "theirs"}])
    _, looked, _ = staged_run(made, store, World({"dpo": 2.0, "kto": 2.0}))
    assert [row["name"] for row in looked["taken"][0]["rows"]] == ["dpo", "kto"] and looked["stopped_at"] == 5


def test_an_arm_that_diverged_stays_open(tmp_path, store):
    made, world = study(tmp_path, **SEEDS), World({"dpo": 2.0, "kto": 2.0})

    def plant(cell, result):
        world.plant(cell, result)
        if cell.kind == "train" and cell.label.startswith("kto"):
            result["diverged"] = "loss is not finite"

    planned, looked = staged.run(made, store, lambda cells: fill(Plan(made, cells, ()), store, plant))
    assert [row["decided"] for row in looked["taken"][-1]["rows"]] == ["better", None]
    assert looked["stopped_at"] == 12 and "Diverged" in analyse(planned, store, "", looked)["decision"]


def test_looks_over_prompts_take_the_first_ones_and_each_look_has_those_before(tmp_path, store):
    test = "world/heldout?n=60&seed=3"
    found = [{p.id for p in inputs.read_prompts(f"{test}#first={n}", 0)} for n in (20, 40, 60)]
    assert [len(ids) for ids in found] == [20, 40, 60] and found[0] < found[1] < found[2]
    assert found[2] == {p.id for p in inputs.read_prompts(test, 0)}
    in_file = [p.id for p in inputs.read_prompts(test, 0)][:20]
    assert set(in_file) != found[0]
    made = study(tmp_path, prompts={"train": "world/train?n=12", "test": test}, seeds=[0],
                 looks={"over": "prompts", "at": [20, 40, 60]})  # fmt: skip
    planned, looked, ran = staged_run(made, store, World({"dpo": 2.0, "kto": 2.0}))
    assert looked["stopped_at"] == 20 and looked["scope"] == "these runs" and len(ran) == 1
    results = analyse(planned, store, "", looked)
    assert {row["n"] for row in results["pooled"]} == {20} and results["confounds"] == []


def test_a_later_look_answers_only_the_prompts_that_are_new(tmp_path, store, monkeypatch):
    """And its answers are, to the byte, those of all prompts answered at once."""
    from pippin.lm.policy import Policy

    asked: list[int] = []
    whole = Policy.respond
    monkeypatch.setattr(
        Policy, "respond", lambda self, prompts, **kw: asked.append(len(prompts)) or whole(self, prompts, **kw)
    )
    axes = {"method": {"base": {"use": "base"}, "again": {"use": "base"}}}
    made = study(tmp_path, axes=axes, settings={}, stages={}, baseline="base", seeds=[0],
                 looks={"over": "prompts", "at": [4, 9, 16]})  # fmt: skip
    planned = plan(looks.study_at(made, looks.read(made), 2))
    answers = [cell for cell in planned.cells.values() if cell.kind == "respond"]
    assert [inputs._part(cell.spec["prompts"])[1] for cell in answers] == [4, 9, 16]
    for cell in answers:
        run_cell(cell, store)
    alone = Cell("0" * 16, "respond", {k: v for k, v in answers[-1].spec.items() if k != "before"}, "alone")
    run_cell(alone, store)
    assert asked == [4, 5, 7, 16]
    rows = [(store.artifact(key) / "responses.jsonl").read_bytes() for key in (answers[-1].key, alone.key)]
    assert rows[0] == rows[1]
    results = [store.cell(key)["result"] for key in (answers[-1].key, alone.key)]
    assert results[0] == results[1]


def test_an_early_look_with_nothing_to_spend_shows_no_interval(tmp_path):
    wanted = looks.Looks("prompts", (3, 1000))
    rows = [{"name": "a", "baseline": "b", "delta": 1.0, "error": 0.1, "freedom": 10.0}]
    found = looks.judged(wanted, [rows])
    assert (found[0]["low"], found[0]["high"], found[0]["decided"], found[0]["bound"]) == (None, None, None, 0.0)


def test_an_arm_without_a_value_stays_open_and_keeps_its_share():
    wanted = looks.Looks("seeds", (5, 10))
    lost = {"name": "b", "baseline": "c", "delta": None, "error": None, "freedom": None}
    rows = [{"name": "a", "baseline": "c", "delta": 1.0, "error": 0.1, "freedom": 8.0}, lost]
    alone, both = looks.judged(wanted, [rows[:1]]), looks.judged(wanted, [rows])
    assert both[1] == {"name": "b", "baseline": "c", "delta": None, "low": None, "high": None, "p": 1.0,
                       "bound": both[1]["bound"], "decided": None}  # fmt: skip
    assert both[0]["bound"] < alone[0]["bound"]


def test_several_arms_over_several_looks_err_no_oftener_together():
    """Four arms without a difference, three looks, normal values: any false claim in at most 5 % (Holm over looks)."""
    rng, wanted, hits, runs = np.random.default_rng(0), looks.Looks("seeds", (5, 8, 12)), 0, 300
    for _ in range(runs):
        y = rng.normal(size=(12, 4))
        taken = []
        for n in wanted.at:
            taken.append([
                {"name": str(m), "baseline": "", "delta": float(y[:n, m].mean()), "freedom": n - 1.0,
                 "error": float(y[:n, m].std(ddof=1) / n**0.5)} for m in range(4)
            ])  # fmt: skip
        hits += any(row["decided"] for row in looks.judged(wanted, taken))
    assert 0.01 <= hits / runs <= 0.085


@pytest.mark.parametrize(
    ("told", "error", "part"),
    [
        ({"over": "seeds", "at": [5, 8]}, InputError, "to all seeds"),
        ({"over": "seeds", "at": [3, 12]}, InputError, "to all seeds"),
        ({"over": "prompts", "at": [40, 20]}, InputError, "looks go up"),
        ({"over": "prompts", "at": 40}, InputError, "looks go up"),
        ({"over": "arms", "at": [1]}, UnknownName, "arms"),
        ({"over": "seed", "at": [1]}, UnknownName, "Did you mean 'seeds'"),
        ({"ovr": "seeds", "at": [12]}, UnknownName, "Did you mean 'over'"),
        ({"over": "seeds", "at": [12], "spending": "pocok"}, UnknownName, "Did you mean 'pocock'"),
    ],
)
def test_looks_without_sense_are_refused(tmp_path, told, error, part):
    with pytest.raises(error, match=part):
        looks.read(study(tmp_path, seeds=list(range(12)), looks=told))


def test_more_prompts_than_there_are_cannot_be_looked_at(tmp_path, store):
    made = study(tmp_path, looks={"over": "prompts", "at": [8, 99]})
    with pytest.raises(InputError, match="beyond the test prompts"):
        staged.run(made, store, lambda cells: None)
