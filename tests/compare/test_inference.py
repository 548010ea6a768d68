"""Claims of a study: these runs and the method apart, equivalence, effects of axes, variance, what could be found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pippin import stats
from pippin.compare import inference, values
from pippin.compare.plan import plan
from pippin.core.store import Store

from .made_cells import fill
from .planted import SETTINGS, World, analysed, study


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "home" / "store.db") as opened:
        yield opened


def rows(found, **wanted):
    return [row for row in found if all(row[k] == v for k, v in wanted.items())]


def test_both_scopes_stand_apart_and_each_is_corrected(tmp_path, store):
    results = analysed(study(tmp_path), store, World({"dpo": 0.5, "kto": 0.0}))
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert [(r["name"], r["scope"]) for r in results["claims"]] == [
        (arm, scope) for arm in ("dpo", "kto") for scope in ("these runs", "the method")
    ]
    runs, method = (rows(results["claims"], name="dpo", scope=s)[0] for s in ("these runs", "the method"))
    assert runs["delta"] == pytest.approx(method["delta"]) and runs["seeds"] == method["seeds"] == 6
    assert method["high"] - method["low"] > runs["high"] - runs["low"]
    assert runs["verdict"] == method["verdict"] == "better"
    assert rows(results["claims"], name="kto", scope="the method")[0]["verdict"] == "cannot tell"
    assert results["scope"] == "the method"
    pooled = rows(results["pooled"], name="dpo")[0]
    assert (pooled["delta_low"], pooled["p"], pooled["scope"]) == (method["low"], method["p"], "the method")
    assert rows(results["pooled"], name="sft")[0]["p"] is None


def test_few_seeds_speak_of_these_runs_alone(tmp_path, store):
    results = analysed(study(tmp_path, seeds=[0, 1, 2, 3]), store, World({"dpo": 0.5}))
    assert {r["scope"] for r in results["claims"]} == {"these runs"} == {results["scope"]}
    assert "four times in five" in results["detectable"]["sentence"] and results["detectable"]["scope"] == "these runs"
    assert results["variance"][0]["seed_deviation"] is None and "not known" in results["variance"][0]["sentence"]


def test_what_only_holds_of_these_runs_is_said(tmp_path, store):
    """Seeds move an arm by far more than prompts make its mean uncertain."""
    results = analysed(study(tmp_path), store, World({"dpo": 0.35, "kto": 0.0}, seed=0.6, rest=0.05))
    assert rows(results["claims"], name="dpo", scope="these runs")[0]["verdict"] != "cannot tell"
    assert rows(results["claims"], name="dpo", scope="the method")[0]["verdict"] == "cannot tell"
    assert "Of these runs alone" in results["decision"] and "training again may undo it" in results["decision"]


def test_a_stage_that_arms_share_cancels(tmp_path, store):
    """Arms on one SFT run a seed move together: their difference is as sure as if seeds did nothing."""
    results = analysed(study(tmp_path), store, World({"dpo": 0.2}, seed=0.0, shared=1.0, rest=0.1))
    found = rows(results["claims"], name="dpo", scope="the method")[0]
    assert found["verdict"] == "better" and found["high"] - found["low"] < 0.2


def test_arms_that_share_nothing_are_drawn_apart(tmp_path, store):
    settings = {"dpo": {"data": "world/demonstrations?n=8&seed=0"}, "kto": {"data": "world/demonstrations?n=8&seed=0"}}
    axes = {"method": {"dpo": {"method": "dpo"}, "kto": {"method": "kto"}}}
    made = study(tmp_path, axes=axes, settings=settings, baseline="kto", stages={})
    planned = plan(made)
    fill(planned, store, World({}, shared=1.0).plant)
    pool = values.pooled(planned, values.read(planned, store))
    found = values.comparable([pool[a, "temperature 1"] for a in ("dpo", "kto")], "the method")
    assert found is not None and found[1] is False


def test_a_checkpoint_made_elsewhere_is_one_run_whatever_the_seeds(tmp_path, store):
    (tmp_path / "made").mkdir()
    external = [{"path": "world/base", "name": "theirs"}]
    results = analysed(study(tmp_path, external=external), store, World({}))
    assert {r["scope"] for r in rows(results["claims"], name="theirs")} == {"these runs"}
    assert {r["scope"] for r in rows(results["claims"], name="dpo")} == {"these runs", "the method"}


def test_a_model_taken_as_it_is_has_no_seeds_to_vary(tmp_path, store):
    axes = {"method": {"base": {"use": "base"}, "dpo": {"method": "dpo"}}}
    results = analysed(study(tmp_path, axes=axes, settings={"dpo": SETTINGS["dpo"]}, baseline="base"), store,
                       World({"dpo": 0.5}))  # fmt: skip
    assert rows(results["claims"], name="dpo", scope="the method")[0]["verdict"] == "better"


def test_equivalence_is_claimed_within_the_margin_and_not_beyond(tmp_path, store):
    world = World({"dpo": 0.0, "kto": 0.4}, seed=0.01, rest=0.05)
    found = analysed(study(tmp_path, margin=0.15), store, world)["equivalence"]
    assert found["margin"] == 0.15
    verdicts = {(r["name"], r["scope"]): r["verdict"] for r in found["rows"]}
    assert verdicts["dpo", "the method"] == "equivalent" and verdicts["kto", "the method"] == "no worse"
    for row in found["rows"]:
        assert row["low90"] <= row["delta"] <= row["high90"] and row["p_corrected"] == min(1.0, 2 * row["p"])


def test_without_a_margin_nothing_is_called_equivalent(tmp_path, store):
    results = analysed(study(tmp_path), store, World({}))
    assert results["equivalence"] is None and results["effects"] == []


AXES = {"data": {"few": "world/demonstrations?n=32", "many": "world/demonstrations?n=48"}, "method": ["sft", "dpo"]}


def crossed(tmp_path, **changes):
    settings = {"sft": {"data": "$data"}, "dpo": {"model": "base", "data": "$data"}}
    told = {"axes": AXES, "settings": settings, "stages": {}, "baseline": "few/sft", **changes}
    return study(tmp_path, **told)


def test_main_effects_are_means_over_the_other_axes(tmp_path, store):
    gain = {"few/sft": 0.0, "few/dpo": 0.3, "many/sft": 0.2, "many/dpo": 0.5}
    results = analysed(crossed(tmp_path), store, World(gain, seed=0.02, rest=0.05))
    means = {r["name"]: r["score_mean"] for r in results["pooled"]}
    effect = {r["axis"]: r for r in rows(results["effects"], scope="the method")}
    assert (effect["data"]["a"], effect["data"]["b"], effect["data"]["combinations"]) == ("many", "few", 2)
    expected = (means["many/sft"] + means["many/dpo"] - means["few/sft"] - means["few/dpo"]) / 2
    assert effect["data"]["delta"] == pytest.approx(expected) and effect["method"]["verdict"] == "better"
    assert min(effect[axis]["interaction_p"] for axis in effect) > 0.01
    assert len(results["effects"]) == 4


def test_an_interaction_is_found(tmp_path, store):
    gain = {"few/dpo": 0.4, "many/sft": 0.4}
    results = analysed(crossed(tmp_path), store, World(gain, seed=0.02, rest=0.05))
    assert max(r["interaction_p"] for r in results["effects"]) < 0.001


def test_variance_is_split_as_it_was_planted(tmp_path, store):
    world = World({}, prompt=0.0, seed=0.5, rest=0.05)
    row = next(r for r in analysed(study(tmp_path), store, world)["variance"] if r["name"] == "dpo")
    assert row["shares"]["seed"] > 0.95 and row["components"]["judge"] is None
    assert row["seed_deviation"]["low"] < 0.5 < row["seed_deviation"]["high"]
    assert row["components"]["sample"] == pytest.approx(0.05**2, rel=0.4)
    assert "seeds" in row["sentence"] and "another training seed moves it by" in row["sentence"]


def test_orders_of_a_judge_are_verdicts_on_one_response(tmp_path, store):
    made = study(tmp_path, judge="rule/first")
    planned = plan(made)
    rng = np.random.default_rng(0)

    def plant(cell, result):
        if cell.kind == "judge":  # two responses, each in both orders: the order decides all
            result["values"] = {p: [1.0, 0.0, 1.0, 0.0] for p in result["values"]}
            result["values"][next(iter(result["values"]))] = rng.integers(0, 2, 4).astype(float).tolist()

    fill(planned, store, plant)
    pool = values.pooled(planned, values.read(planned, store))
    assert pool["dpo", "temperature 1"].samples[:4].tolist() == [0, 0, 1, 1]
    shares = inference.variance(pool)[0]["components"]
    assert shares["judge"] > 0.2 > shares["sample"]


def test_what_could_be_found_is_of_the_method_and_its_seeds(tmp_path, store):
    results = analysed(study(tmp_path), store, World({}, seed=0.3, rest=0.05))
    found = results["detectable"]
    assert found["scope"] == "the method" and found["seeds"] == 6 and "6 seeds an arm" in found["sentence"]
    widest = max(r["high"] - r["low"] for r in results["claims"] if r["scope"] == "the method")
    assert found["effect"] > widest / 2  # power 0.8 at a corrected level needs more than the half-width
    assert "seeds" in found["sentence"].split(";")[1]


def test_planned_effects_of_these_runs_are_the_t_test_s(tmp_path, store):
    made = study(tmp_path, seeds=[0], axes={"method": {k: {"method": k} for k in ("dpo", "kto")}},
                 baseline="kto")  # fmt: skip
    planned = plan(made)
    fill(planned, store, World({}).plant)
    pool = values.pooled(planned, values.read(planned, store))
    found = inference.detectable(planned, pool, "temperature 1")
    per_prompt = [
        np.array([side.values[side.prompts == p].mean() for p in np.unique(side.prompts)])
        for side in (pool["dpo", "temperature 1"], pool["kto", "temperature 1"])
    ]
    sd = float((per_prompt[0] - per_prompt[1]).std(ddof=1))
    assert found["effect"] == pytest.approx(stats.minimum_detectable_effect(sd, 16))
    assert f"{stats.sample_size(found['effect'] / 2, sd):,} prompts" in found["sentence"]


def test_at_many_prompts_students_interval_is_that_of_resampling() -> None:
    rng = np.random.default_rng(5)
    n = values.MANY
    ids, zeros = np.array([f"{k:016x}" for k in range(n)]), np.zeros(n, dtype=np.int64)
    one, two = (values.Values((rng.random(n) < share).astype(float), ids, zeros, zeros) for share in (0.31, 0.30))
    fast = values.contrast((one, two), (1.0, -1.0), values.RUNS)
    slow = values.contrast((one, two), (1.0, -1.0), values.RUNS, stats.Bootstrap(resamples=4000))
    assert fast is not None and slow is not None and "t" in fast.method and fast.method != slow.method
    width = slow.high - slow.low
    assert abs(fast.low - slow.low) < 0.03 * width and abs(fast.high - slow.high) < 0.03 * width
    assert fast.p == pytest.approx(slow.p, abs=0.02)
