"""Axes over any field: which arms they make, what each is held against, and what they declare."""

import pytest

from pippin.compare import axes
from pippin.compare.plan import plan
from pippin.compare.study import arms, read_study
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store

from .studies import BATCH, SMALL, run_here, write

DATA = {"few": "world/demonstrations?n=32", "many": "world/demonstrations?n=48"}
TWO = {  # two sources of preferences by two methods: the question of the study file's example
    **SMALL,
    "axes": {"data": {"crowd": "simulated/world", "truth": "gold"}, "method": ["dpo", "kto"]},
    "stages": {
        "sft": {"method": "sft", "data": DATA["few"]},
        "feedback": {"respond": "$sft", "n": 3, "judge": "$data", "max_tokens": 16},
    },
    "settings": {
        "sft": BATCH,
        "dpo": {**BATCH, "model": "$sft", "data": "$feedback", "max_steps": 1},
        "kto": {**BATCH, "model": "$sft", "data": "$feedback", "max_steps": 1},
    },
}


def read(tmp_path, study, **changes):
    return read_study(write(tmp_path, {**study, **changes}))


def held(study):
    return axes.baselines(study, arms(study))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("home") / "store.db") as opened:
        yield opened


def test_the_base_model_stands_beside_the_arms_where_it_is_the_baseline(tmp_path):
    study = read(tmp_path, TWO, baseline="base")
    assert [a.name for a in arms(study)] == ["crowd/dpo", "crowd/kto", "truth/dpo", "truth/kto", "base"]
    assert set(held(study).values()) == {"base"}
    run = next(r for r in plan(study).runs if r.arm.name == "base")
    assert run.policy == "world/base" and run.train is None


def test_a_value_of_an_axis_as_baseline_holds_each_arm_against_its_own_partner(tmp_path):
    study = read(tmp_path, TWO, baseline="crowd")
    assert held(study) == {
        "crowd/dpo": "crowd/dpo", "truth/dpo": "crowd/dpo", "crowd/kto": "crowd/kto", "truth/kto": "crowd/kto"
    }  # fmt: skip
    planned = plan(study)
    run = next(r for r in planned.runs if r.arm.name == "truth/kto")
    other = planned.baseline_of(run)
    assert other is not None and other.arm.name == "crowd/kto" and planned.is_baseline("crowd/kto")


def test_a_stage_as_baseline_is_made_for_every_value_that_it_depends_on(tmp_path):
    stages = {**TWO["stages"], "sft": {"method": "sft", "data": "$source"}}
    both = {"source": DATA, **TWO["axes"]}
    study = read(tmp_path, TWO, stages=stages, axes=both, baseline="sft")
    assert [a.name for a in arms(study)][-2:] == ["sft/few", "sft/many"]
    assert held(study)["many/truth/dpo"] == "sft/many" and held(study)["sft/few"] == "sft/few"
    one = read(tmp_path, TWO, baseline="sft")  # its stage depends on no axis: one baseline for all
    assert set(held(one).values()) == {"sft"}


def test_a_baseline_beside_the_axes_is_asked_and_judged_as_the_arms_are(tmp_path, store):
    ways = {"cold": {"temperature": 0.2}, "hot": {"temperature": 1.0}}
    study = {**SMALL, "axes": {"decoding": ways, "method": {"dpo": {"method": "dpo"}}}, "baseline": "base"}
    study["settings"] = {"sft": BATCH, "dpo": SMALL["settings"]["dpo"]}
    file = write(tmp_path, study)
    assert held(read_study(file)) == {
        "cold/dpo": "base/cold", "hot/dpo": "base/hot", "base/cold": "base/cold", "base/hot": "base/hot"
    }  # fmt: skip
    assert run_here(file, store)["confounds"] == []


def test_what_reaches_an_arm_through_its_stages_is_declared(tmp_path, store):
    study = read(tmp_path, TWO, baseline="crowd", judge="rule/longer")
    arm = next(a for a in arms(study) if a.name == "truth/dpo")
    assert axes.axes_behind(study, arm.spec["data"]) == {"data"}
    assert axes.axes_behind(study, arm.spec["model"]) == set()
    results = run_here(write(tmp_path, {**TWO, "baseline": "crowd", "judge": "rule/longer"}), store)
    assert results["confounds"] == []
    planted = {**TWO["settings"], "truth/kto": {"max_length": 40}}
    found = run_here(write(tmp_path, {**TWO, "baseline": "crowd", "judge": "rule/longer", "settings": planted}), store)[
        "confounds"
    ]
    assert [c["field"] for c in found] == ["truncation"] and set(found[0]["arms"]) >= {"truth/kto"}


def test_an_axis_of_base_models_changes_where_everything_starts(tmp_path):
    study = read(tmp_path, SMALL, axes={"base": {"a": "world/base", "b": "world/sft"}, **SMALL["axes"]})
    planned = plan(study)
    assert [a.name for a in arms(study)][:2] == ["a/sft", "a/dpo"] and held(study)["b/dpo"] == "b/sft"
    starts = {c.label: c.spec["model"] for c in planned.cells.values() if c.spec.get("method") == "sft"}
    assert starts == {"sft/a (seed 0)": "world/base", "sft/b (seed 0)": "world/sft"}
    arm = next(a for a in arms(study) if a.name == "b/dpo")
    assert axes.axes_behind(study, arm.spec["model"]) == {"base"}


def test_an_axis_of_judges_evaluates_the_same_answers_twice(tmp_path, store):
    study = {**SMALL, "axes": {"judge": ["rule/longer", "rule/shorter"], **SMALL["axes"]}}
    planned = plan(read_study(write(tmp_path, study)))
    kinds = [c.kind for c in planned.cells.values()]
    assert kinds.count("respond") == 6 and kinds.count("judge") == 12
    results = run_here(write(tmp_path, study), store)
    rows = {r["name"]: r for r in results["pooled"] if r["decoding"] == "greedy"}
    assert rows["rule/longer/dpo"]["score_mean"] == pytest.approx(-rows["rule/shorter/dpo"]["score_mean"])
    assert results["confounds"] == []


def test_an_axis_of_decodings_answers_once_and_pairs_all_arms(tmp_path, store):
    ways = {"cold": {"temperature": 0.2, "top_p": 0.9}, "greedy": "greedy", "hot": {"temperature": 1.0, "n": 3}}
    axes_of = {"decoding": ways, "method": {"sft": {"use": "$sft"}}}
    study = {**SMALL, "axes": axes_of, "settings": {"sft": BATCH}, "baseline": "greedy/sft"}
    planned = plan(read_study(write(tmp_path, study)))
    asked = {r.arm.name: planned.cells[r.responses["as declared"]].spec for r in planned.runs}
    assert [(s["temperature"], s.get("top_p"), s["n"]) for s in asked.values()] == [
        (0.2, 0.9, 2), (0.0, None, 1), (1.0, None, 3)
    ]  # fmt: skip
    results = run_here(write(tmp_path, study), store)
    assert results["confounds"] == [] and len(results["pooled"]) == 3
    assert all(r["delta_vs_greedy/sft"] is not None for r in results["arms"])


def test_an_axis_of_a_setting_reaches_every_trained_arm_and_no_other(tmp_path):
    study = read(tmp_path, SMALL, axes={"max_length": [40, 64], **SMALL["axes"]}, baseline="sft")
    specs = {a.name: a.spec for a in arms(study)}
    assert specs["40/dpo"]["max_length"] == 40 and specs["64/ipo_like"]["max_length"] == 64
    assert specs["40/sft"] == {"use": "$sft"} and held(study)["64/dpo"] == "64/sft"


def test_an_axis_may_set_several_keys_and_an_arm_may_have_settings_of_its_own(tmp_path):
    recipes = {"short": {"max_length": 40, "beta": 0.3}, "long": {"max_length": 64}}
    study = read(
        tmp_path, SMALL, axes={"recipe": recipes, "method": {"dpo": {"method": "dpo"}}}, baseline="short/dpo",
        settings={**{k: v for k, v in SMALL["settings"].items() if k != "ipo_like"}, "long/dpo": {"beta": 0.7}},
    )  # fmt: skip
    specs = {a.name: a.spec for a in arms(study)}
    assert (specs["short/dpo"]["max_length"], specs["short/dpo"]["beta"]) == (40, 0.3)
    assert (specs["long/dpo"]["max_length"], specs["long/dpo"]["beta"]) == (64, 0.7)


def test_a_design_runs_some_of_the_points_and_keeps_each_ones_partner(tmp_path):
    three = {"source": DATA, **TWO["axes"]}
    stages = {**TWO["stages"], "sft": {"method": "sft", "data": "$source"}}
    one = read(tmp_path, TWO, axes=three, stages=stages, baseline="few/crowd/dpo", design="one_factor")
    assert [a.name for a in arms(one)] == ["few/crowd/dpo", "few/crowd/kto", "few/truth/dpo", "many/crowd/dpo"]
    half = read(tmp_path, TWO, axes=three, stages=stages, baseline="few/crowd/dpo", design={"fraction": 4})
    names = [a.name for a in arms(half)]
    assert len(names) == 4 and "few/crowd/dpo" in names
    for axis in three:  # balanced: every value of every axis twice
        labels = [a.labels[axis] for a in arms(half)]
        assert sorted(map(labels.count, set(labels))) == [2, 2]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"axes": {"max_lenght": [1, 2], **SMALL["axes"]}}, UnknownName, ["axes", "'max_length'"]),
        ({"axes": {"judge": ["gold", "rule/first"], **SMALL["axes"]}}, InputError, ["numbers", "pairs"]),
        ({"axes": {"data": [], **SMALL["axes"]}}, InputError, ["axis has no values"]),
        ({"axes": {"data": {"a": {"data": "x"}}, **SMALL["axes"]}, "reference": "$data"}, InputError, ["one value"]),
        ({"axes": {"decoding": {"a": {"temprature": 1}}, **SMALL["axes"]}}, UnknownName, ["'temperature'"]),
        ({"baseline": "crowds"}, UnknownName, ["study.yaml:", "baseline"]),
        ({"design": {"fraction": 9}}, InputError, ["study.yaml:", "design.fraction"]),
        ({"looks": {"over": "seeds", "at": [1]}}, InputError, ["study.yaml:", "looks"]),
        ({"settings": {**SMALL["settings"], "ipo_like": {"seed": 3}}}, InputError, ["study.yaml:", "seeds"]),
        ({"margin": -1}, InputError, ["study.yaml:", "margin"]),
        ({"where": "x"}, UnknownName, ["study.yaml:", "where"]),
        ({"external": [{"path": "x", "name": "sft"}]}, InputError, ["external", "one name"]),
    ],
)
def test_an_axis_that_no_arm_can_take_is_one_clear_line(tmp_path, change, error, words):
    with pytest.raises(error) as caught:
        read_study(write(tmp_path, {**SMALL, **change}))
    text = str(caught.value)
    assert "\n" not in text and all(w in text for w in words), text


def test_an_external_arm_says_whose_partner_it_is(tmp_path):
    entry = {"path": "world/sft", "name": "theirs"}
    with pytest.raises(InputError, match="which baseline an external arm is held against"):
        read_study(write(tmp_path, {**TWO, "baseline": "crowd", "external": [entry]}))
    study = read(tmp_path, TWO, baseline="crowd", external=[{**entry, "data": "truth", "method": "kto"}])
    assert plan(study).baselines["theirs"] == "crowd/kto"


def test_an_edited_judge_or_template_makes_the_cells_that_stand_on_it_anew(tmp_path):
    judge = tmp_path / "judge.py"
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages[-1].content }}")
    judge.write_text("def score(prompts, completions, **kw):\n    return [0.0 for _ in prompts]\n")
    dpo = {**SMALL["settings"]["dpo"], "template": str(template)}
    unwatched = {k: v for k, v in SMALL["prompts"].items() if k != "dev"}
    study = {
        **SMALL,
        "judge": f"python/{judge}:score",
        "settings": {**SMALL["settings"], "dpo": dpo},
        "prompts": unwatched,
    }
    before = plan(read_study(write(tmp_path, study)))
    judge.write_text("def score(prompts, completions, **kw):\n    return [1.0 for _ in prompts]\n")
    after = plan(read_study(write(tmp_path, study)))
    changed = {after.cells[k].label for k in set(after.cells) - set(before.cells)}
    assert "sft judged, greedy (seed 0)" in changed and "sft answers, greedy (seed 0)" not in changed
    template.write_text("{{ messages[-1].content }} ")
    again = plan(read_study(write(tmp_path, study)))
    assert {again.cells[k].kind for k in set(again.cells) - set(after.cells)} >= {"train", "respond"}
