"""Studies: what the file may say, which cells it becomes, what is shared, and what is called a confound."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pippin.compare import confounds
from pippin.compare.plan import plan
from pippin.compare.study import arms, read_study
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store
from pippin.world import BASE

from .studies import SMALL, run_here, varied, write


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("home") / "store.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def clean(store, tmp_path_factory):
    return run_here(write(tmp_path_factory.mktemp("study"), SMALL), store)


def planned(tmp_path, **changes):
    return plan(read_study(write(tmp_path, varied(**changes))))


def test_a_stage_is_one_cell_however_many_arms_use_it(tmp_path):
    p = planned(tmp_path)
    kinds = [c.kind for c in p.cells.values()]
    assert kinds.count("feedback") == 1 and kinds.count("train") == 3  # sft, and two arms of dpo
    assert [r.arm.name for r in p.runs] == ["sft", "dpo", "ipo_like"]


def test_seeds_repeat_every_cell_and_equal_studies_have_equal_keys(tmp_path):
    one, again = planned(tmp_path), planned(tmp_path)
    two = planned(tmp_path, seeds=[0, 1])
    assert set(one.cells) == set(again.cells) < set(two.cells)
    assert len(two.cells) == 2 * len(one.cells)


def test_a_setting_changes_only_the_cells_that_stand_on_it(tmp_path):
    before = planned(tmp_path)
    after = planned(tmp_path, settings={**SMALL["settings"], "ipo_like": {"beta": 0.7}})
    labels = {before.cells[k].label for k in set(before.cells) - set(after.cells)}
    assert labels and all(label.startswith("ipo_like") for label in labels)


def test_an_axis_of_data_derives_its_stages_once_a_value(tmp_path):
    study = {
        **SMALL,
        "axes": {"data": {"few": "world/demonstrations?n=32", "many": "world/demonstrations?n=48"}, "method": ["sft"]},
        "stages": {"first": {"method": "sft", "data": "$data"}},
        "settings": {"sft": {"model": "$first", "data": "$data"}},
        "baseline": "few/sft",
    }
    p = plan(read_study(write(tmp_path, study)))
    assert [r.arm.name for r in p.runs] == ["few/sft", "many/sft"]
    assert sorted(c.spec["data"] for c in p.cells.values() if c.kind == "train") == [
        "world/demonstrations?n=32",
        "world/demonstrations?n=32",
        "world/demonstrations?n=48",
        "world/demonstrations?n=48",
    ]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"jugde": "gold"}, UnknownName, ["study.yaml:", "jugde", "Did you mean 'judge'?"]),
        ({"axes": {"method": ["dop"]}, "baseline": "dop"}, UnknownName, ["study.yaml:", "Did you mean 'dpo'?"]),
        ({"baseline": "sftt"}, UnknownName, ["study.yaml:", "Did you mean 'sft'?"]),
        (
            {"settings": {**SMALL["settings"], "dpo": {"beat": 1}}},
            UnknownName,
            ["settings.dpo", "Did you mean 'beta'?"],
        ),
        ({"settings": {**SMALL["settings"], "dpoo": {}}}, UnknownName, ["Did you mean 'dpo'?"]),
        ({"settings": {**SMALL["settings"], "dpo": {"model": "$stf"}}}, UnknownName, ["Did you mean 'sft'?"]),
        ({"seeds": [1, 1]}, InputError, ["seeds"]),
        ({"seeds": ["x"]}, InputError, ["study.yaml:", "seeds"]),
    ],
)
def test_what_a_study_cannot_mean_is_one_clear_line(tmp_path, change, error, words):
    study = {**SMALL, **change}
    with pytest.raises(error) as caught:
        read_study(write(tmp_path, study))
    text = str(caught.value)
    assert "\n" not in text and all(w in text for w in words), text


def test_stages_that_need_each_other_are_refused(tmp_path):
    stages = {"sft": {"method": "sft", "model": "$b", "data": "x"}, "b": {"use": "$sft"}}
    with pytest.raises(InputError, match=r"need each other \(found sft -> b -> sft\)"):
        plan(
            read_study(
                write(tmp_path, {**SMALL, "stages": stages, "settings": {"dpo": {"model": "$sft", "data": "y"}}})
            )
        )


def test_arms_take_the_settings_of_their_method_and_their_own(tmp_path):
    made = {a.name: a for a in arms(read_study(write(tmp_path, SMALL)))}
    assert made["ipo_like"].spec["beta"] == 0.5 and made["ipo_like"].spec["data"] == "$feedback"
    assert made["sft"].spec == {"use": "$sft"}


def test_a_clean_study_has_no_confound_and_lists_settings(clean):
    assert clean["confounds"] == []
    betas = next(s for s in clean["settings"] if s["field"] == "method.dpo.beta")
    assert betas["arms"] == {"dpo": 0.1, "ipo_like": 0.5}
    assert clean["not_declared"] == []


def test_rows_have_what_scripts_rely_on(clean):
    assert {(r["name"], r["decoding"]) for r in clean["arms"]} == {
        (a, d) for a in ("sft", "dpo", "ipo_like") for d in ("temperature 1", "greedy")
    }
    for row in clean["arms"]:
        assert row["gold_low"] <= row["gold_mean"] <= row["gold_high"] and row["n"] == 16
        assert row["ledger"]["labels"] > 0
    assert json.loads(json.dumps(clean, allow_nan=False)) == clean
    assert clean["decision"].startswith("In gold at temperature 1 (16 prompts, 1 seed)")


def test_deltas_are_the_paired_means(clean):
    rows = {(r["name"], r["decoding"]): r for r in clean["arms"]}
    for decoding in ("temperature 1", "greedy"):
        a, b = rows["dpo", decoding], rows["sft", decoding]
        assert a["delta_vs_sft"] == pytest.approx(a["gold_mean"] - b["gold_mean"], abs=1e-9)


PLANTED = [
    ("truncation", {"max_length": 40}),
    ("template", {"template": "TEMPLATE"}),
    ("prompts.test", {"prompts_test": "world/heldout?n=16&seed=4"}),
    ("decoding.max_tokens", {"max_tokens": 12}),
    ("precision", {"bf16": True}),
    ("data (preferences)", {"data": "$other"}),
    ("start (preferences)", {"model": "base"}),
]


@pytest.mark.parametrize(("field", "setting"), PLANTED, ids=[f for f, _ in PLANTED])
def test_a_planted_confound_is_named_exactly(field, setting, store, tmp_path):
    template = tmp_path / "other.jinja"
    own = json.loads((BASE / "tokenizer_config.json").read_text()).get("chat_template")
    own = own or (BASE / "chat_template.jinja").read_text()
    template.write_text(own + "{# the same words, another file #}")
    setting = {k: str(template) if v == "TEMPLATE" else v for k, v in setting.items()}
    stages = {**SMALL["stages"], "other": {**SMALL["stages"]["feedback"], "n": 2}}
    settings = {**SMALL["settings"], "ipo_like": {"beta": 0.5, **setting}}
    found = run_here(write(tmp_path, varied(settings=settings, stages=stages)), store)["confounds"]
    assert [c["field"] for c in found] == [field]
    assert len(set(found[0]["arms"].values())) == 2 and found[0]["why"]


def test_what_an_axis_declares_is_no_confound(store, tmp_path):
    axes = {"method": {**SMALL["axes"]["method"], "ipo_like": {"method": "dpo", "max_length": 40}}}
    assert run_here(write(tmp_path, {**SMALL, "axes": axes}), store)["confounds"] == []


def test_test_prompts_that_were_trained_on_are_named(store, tmp_path):
    prompts = {**SMALL["prompts"], "test": "world/train?n=12&seed=0"}
    found = run_here(write(tmp_path, varied(prompts=prompts)), store)["confounds"]
    assert [c["field"] for c in found] == ["leaked prompts"] and "12 of 12" in str(found[0]["arms"])


def test_unequal_fields_of_manifests_are_compared_where_both_have_them():
    manifests = {
        "a": {"x": 1, "method.dpo.beta": 1, "reward": "r"},
        "b": {"x": 2, "method.dpo.beta": 2},
        "c": {"x": confounds.NOT_DECLARED},
    }
    found, settings, silent = confounds.differences(manifests)
    assert [c["field"] for c in found] == ["x"] and found[0]["arms"] == {"a": "1", "b": "2"}
    assert [s["field"] for s in settings] == ["method.dpo.beta"]
    assert silent == [{"arm": "c", "fields": ["x"]}]


def test_a_checkpoint_of_plain_transformers_is_an_arm(store, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    ids = tokenizer("apple pear plum", return_tensors="pt")["input_ids"]
    for _ in range(2):
        model(ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(tmp_path / "foreign")
    tokenizer.save_pretrained(tmp_path / "foreign")
    external = [
        {"path": str(tmp_path / "foreign"), "name": "foreign", "method": "sft", "truncation": "keep start, 1024 tokens"}
    ]
    results = run_here(write(tmp_path, varied(external=external)), store)
    row = next(r for r in results["arms"] if r["name"] == "foreign")
    assert row["method"] == "sft" and row["delta_vs_sft"] is not None and row["tuning"] == "not declared"
    silent = next(s for s in results["not_declared"] if s["arm"] == "foreign")
    assert "precision" in silent["fields"] and "truncation" not in silent["fields"]
    assert results["confounds"] == []


def test_a_pairwise_judge_gives_win_rates_against_the_baseline(store, tmp_path):
    results = run_here(write(tmp_path, varied(judge="rule/first")), store)
    assert results["metric"]["name"] == "win_rate"
    for row in results["arms"]:
        if row["name"] != "sft":  # both orders of a judge that always says first: exactly one half
            assert row["win_rate_mean"] == pytest.approx(0.5)
    assert np.isclose(next(r for r in results["arms"] if r["name"] == "sft")["win_rate_mean"], 0.5)


def test_arms_are_matched_on_labels_and_what_is_not_matched_is_said(store, tmp_path):
    planned_ = write(tmp_path, varied(match={"labels": 10}))
    results = run_here(planned_, store)
    assert results["confounds"] == []
    own = [store.cell(k) for k, c in plan(read_study(planned_)).cells.items() if c.kind == "train" and "dpo" in c.label]
    assert [cell["result"]["ledger"]["labels"] for cell in own if cell] == [10]
    missed = run_here(write(tmp_path, varied(match={"steps": 50})), store)["confounds"]
    assert [c["field"] for c in missed] == ["match: steps"] and set(missed[0]["arms"]) == {"dpo", "ipo_like"}


def test_training_ends_where_arms_have_the_same_of_any_counted_column(store, tmp_path):
    longer = {**SMALL["settings"], "dpo": {**SMALL["settings"]["dpo"], "max_steps": -1, "num_train_epochs": 4}}
    free = plan(read_study(write(tmp_path, varied(settings=longer)))).runs[1].train
    file = write(tmp_path, varied(settings=longer, match={"gradient_tokens": 2000}))
    results = run_here(file, store)
    own = {r.arm.name: store.cell(r.train)["result"]["ledger"] for r in plan(read_study(file)).runs if r.train}
    steps = {name: ledger["steps"] for name, ledger in own.items() if name != "sft"}
    assert set(steps) == {"dpo", "ipo_like"} and max(steps.values()) < 4 and free not in steps
    assert all(ledger["gradient_tokens"] >= 2000 for name, ledger in own.items() if name != "sft")
    assert all(
        c["field"] == "match: gradient_tokens" for c in results["confounds"]
    )  # whole steps: named where over 5 %


def test_a_match_on_steps_ends_the_schedule_where_training_ends(store, tmp_path):
    longer = {**SMALL["settings"], "dpo": {**SMALL["settings"]["dpo"], "max_steps": -1, "num_train_epochs": 4}}
    file = write(tmp_path, varied(settings=longer, match={"steps": 2}))
    assert run_here(file, store)["confounds"] == []
    folder = store.artifact(next(r.train for r in plan(read_study(file)).runs if r.arm.name == "dpo"))
    rates = [json.loads(line)["learning_rate"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rates) == 2 and rates[1] < rates[0] and store.cell(folder.name)["result"]["ledger"]["steps"] == 2


@pytest.mark.parametrize(
    ("match", "words"), [({"lables": 5}, ["match.lables", "'labels'"]), ({"steps": 0}, ["match.steps", "above 0"])]
)
def test_what_arms_cannot_be_matched_on_is_one_clear_line(tmp_path, match, words):
    with pytest.raises(InputError) as caught:
        read_study(write(tmp_path, {**SMALL, "match": match}))
    assert all(w in str(caught.value) for w in ["study.yaml:", *words])


def test_both_orders_of_a_pair_are_one_label(store, tmp_path):
    both = {**SMALL["stages"]["feedback"], "orders": "both"}
    file = write(tmp_path, varied(stages={"feedback": both}, match={"labels": 10}))
    assert run_here(file, store)["confounds"] == []
    own = [
        store.cell(r.train)["result"]["ledger"]["labels"] for r in plan(read_study(file)).runs if r.arm.name == "dpo"
    ]
    assert own == [10]


def test_the_base_model_may_be_what_kl_is_measured_from(tmp_path):
    cells = planned(tmp_path, reference="base").cells.values()
    assert {c.spec["reference"] for c in cells if c.kind == "kl"} == {"world/base"}
