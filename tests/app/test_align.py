"""``pippin align``: flags, files, what is announced, what is measured, what is left behind."""

import json
import math

import pytest
import yaml
from app_rows import rows_of

from pippin.app import job
from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName

WORDS = ["apple", "pear", "kiwi", "lemon", "cherry", "grape", "plum", "peach", "melon", "fig"]
PAIRS = [
    {"prompt": f"list the fruits : {one} {two}", "chosen": f"{one} | {two} .", "rejected": f"{two} {one} {one}"}
    for one in WORDS
    for two in WORDS
    if one != two
]
SFT = ("align", "sft", "--model", "world/base", "--data", "world/demonstrations?n=40", "--out", "run")
FEW = ("--max_steps", "2", "--per-device-train-batch-size", "4", "--logging_steps=1")


@pytest.fixture
def pairs(files):
    return files("pairs.jsonl", PAIRS)


def test_sft_announces_trains_and_saves(pippin, tmp_path):
    told = pippin(*SFT, *FEW, "--learning_rate", "1e-3", "--json", "o.json")
    assert told.code == 0, told.err
    assert "world/demonstrations?n=40" in told.out and "40 rows" in told.out
    assert "global batch: 4 prompts a step (4 a micro-batch, 1 accumulated)" in told.out
    example = next(line for line in told.out.splitlines() if line.startswith("example (trained tokens in brackets)"))
    assert example.endswith("<eos>⟧") and "<user>" in example.partition("⟦")[0]
    assert [line["step"] for line in rows_of(tmp_path / "run" / "metrics.jsonl")] == [1, 2]
    made = json.loads((tmp_path / "o.json").read_text())
    assert made["ledger"]["steps"] == 2
    assert made["manifest"]["method.sft.learning_rate"] == 1e-3
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run").num_parameters() > 0
    # the saved configuration is a file that says the same again
    told = pippin("align", "run/align.yaml", "--print-config", "--json", "-")
    assert told.json["learning_rate"] == 1e-3 and told.json["max_steps"] == 2


def test_another_run_is_not_mixed_into_the_folder(pippin):
    assert pippin(*SFT, *FEW).code == 0
    told = pippin(*SFT, *FEW, "--beta2", "1")
    assert told.code == 2 and "Did you mean" in told.err
    told = pippin(*SFT, "--max_steps", "3", *FEW[2:])
    assert told.code == 2
    assert "max_steps differs" in told.err and "--overwrite" in told.err
    assert pippin(*SFT, *FEW).code == 0  # the same run goes on
    assert pippin(*SFT, "--max_steps", "1", "--overwrite").code == 0


def test_dpo_measures_held_out_pairs_before_and_after(pippin, pairs, tmp_path):
    told = pippin(
        "align", "dpo", "--model", "world/base", "--data", f"{pairs}[:60]", "--eval-data", f"{pairs}[50:]",
        "--eval-limit", "20", "--out", "run", "--learning_rate", "1e-3", "--num_train_epochs", "2", "--logging_steps=1",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert "preference (prompt, chosen, rejected; texts), rows 0 to 60 of 90" in told.out
    assert "preferred (trained tokens in brackets)" in told.out and "rejected (trained tokens in brackets)" in told.out
    first = rows_of(tmp_path / "run" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    measured = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert measured["prompts_shared_with_training_left_out"] == 10
    assert set(measured["before"]) == {"sum", "mean"}
    assert set(measured["after"]) == {"sum", "mean", "implicit"}
    assert measured["after"]["implicit"]["n"] == 20
    assert measured["after"]["implicit"]["value"] > 0.8  # the pairs differ in one plain habit, which is easily learnt
    after, before = measured["after"]["sum"]["value"], measured["before"]["sum"]["value"]
    assert measured["change"]["sum"]["value"] == pytest.approx(after - before)


def test_a_reward_model_is_measured_by_its_scores(pippin, pairs, tmp_path):
    told = pippin(
        "align", "reward_model", "--model", "world/base", "--data", f"{pairs}[:60]", "--eval-data", f"{pairs}[60:]",
        "--out", "rm", "--learning_rate", "1e-3", "--num_train_epochs", "2",
    )  # fmt: skip
    assert told.code == 0, told.err
    measured = json.loads((tmp_path / "rm" / "eval.json").read_text())
    assert set(measured["after"]) == {"score"}
    assert measured["after"]["score"]["n"] == 30
    assert pippin("judge", "rm/rm", pairs, "--limit", "3", "--out", "j.jsonl").code == 0


def test_best_of_n_is_a_recipe_that_respond_and_compare_obey(pippin, pairs, tmp_path):
    told = pippin(
        "align", "best_of_n", "--model", "world/base", "--reward", "rule/longer", "--candidates", "4", "--out", "bon"
    )
    assert told.code == 0, told.err
    arguments = ("world/heldout?n=6", "--max-tokens", "12")
    assert pippin("respond", "bon", *arguments, "--out", "b.jsonl").code == 0
    assert pippin("respond", "world/base", *arguments, "--out", "a.jsonl").code == 0
    told = pippin("compare", "a.jsonl", "b.jsonl", "--judge", "rule/longer", "--json", "-")
    assert told.json["delta"] > 0
    again = pippin("compare", "a.jsonl", "bon", "--judge", "rule/longer", "--max-tokens", "12", "--json", "-")
    assert again.json["delta"] == told.json["delta"]


def test_config_file_flags_and_defaults_in_that_order(pippin, files):
    files("job.yaml", "method: dpo\nmodel: world/base\ndata: p.jsonl\nout: d\nbeta: 0.3\nlearning_rate: 1e-5\n"
                      "collapse: {ties: half}\n")  # fmt: skip
    told = pippin("align", "job.yaml", "--beta", "0.5", "--collapse.orders", "agree", "--print-config", "--json", "-")
    row = told.json
    assert (row["beta"], row["learning_rate"], row["max_length"], row["data"]) == (0.5, 1e-5, 1024, "p.jsonl")
    assert (row["collapse"]["ties"], row["collapse"]["orders"]) == ("half", "agree")
    assert yaml.safe_load(told.err)["beta"] == 0.5
    assert pippin("align", "--config", "job.yaml", "--print-config", "--json", "-").json["beta"] == 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["align"], "'method' is missing"),
        (["align", "sft", "--out", "run"], "'model' is missing"),
        ([*SFT, "--max_stps", "3"], "Did you mean '--max_steps'?"),
        ([*SFT, "--warmup_steps", "0.1"], "Give their share of all steps as warmup_ratio"),
        ([*SFT, "--report_to", "tensorbord"], "no tracker named 'tensorbord'. Did you mean 'tensorboard'?"),
        ([*SFT[:2], *SFT[4:]], "'model' is missing"),
        ([*SFT, "--modle", "x"], "Did you mean '--model'?"),
        ([*SFT, "--max_steps", "many"], "whole number"),
        ([*SFT[:4], "--out", "run"], "sft reads demonstrations, and there are none. Give --data FILE"),
        (["align", "dpo", *SFT[2:]], "dpo reads preferences, and no row states one"),
        (["align", "ppo", "--model", "world/base", "--out", "run"], "no prompts. Give --prompts FILE"),
        (["align", "ppo", "--model", "world/base", "--prompts", "world/train?n=2", "--out", "run"], "needs a reward"),
        ([*SFT, "--max_length", "1"], "Raise --max_length"),
        (["align", "job.yaml"], "job.yaml:2: no setting of sft named 'learning_rat'"),
        (["align", "none.yaml"], "none.yaml"),
        ([*SFT, "--eval-data", "pairs.jsonl[900:]"], "no row in this part"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(pippin, files, tmp_path, arguments, words):
    files("job.yaml", "method: sft\nlearning_rat: 1\nmodel: world/base\nout: run\n")
    files("pairs.jsonl", PAIRS[:3])
    told = pippin(*arguments)
    assert told.code == 2
    assert told.err.count("\n") == 1
    assert words in told.err
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_trained_again_unless_its_data_changed(pippin, files, tmp_path, monkeypatch):
    files("pairs.jsonl", PAIRS[:8])
    command = ("align", "dpo", "--model", "world/base", "--data", "pairs.jsonl", "--out", "run", "--watch_prompts", "0")
    assert pippin(*command).code == 0
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    from pippin.align import loop, publish

    train = loop.train
    monkeypatch.setattr(loop, "train", None)
    pushed = []
    monkeypatch.setattr(publish, "ready", lambda name: "me")
    monkeypatch.setattr(
        publish, "push", lambda folder, name, private: pushed.append((name, private)) or "https://hub/me/run"
    )
    told = pippin(*command, "--push_to_hub", "--hub_private_repo", "true", "--json", "-")
    assert told.code == 0, told.err
    assert "is finished, and is not trained again" in told.err
    assert pushed == [("run", True)] and told.json["hub"] == "https://hub/me/run"
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    assert "| data | `pairs.jsonl`, digest" in (tmp_path / "run" / "README.md").read_text()
    monkeypatch.setattr(loop, "train", train)
    files("pairs.jsonl", PAIRS[8:16])
    told = pippin(*command)
    assert told.code == 0 and "not trained again" not in told.err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != weights


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_what_print_config_prints_is_the_same_run_as_a_file(pippin, files, name):
    first = pippin("align", name, "--print-config")
    assert first.code == 0, first.err
    files("again.yaml", first.out)
    again = pippin("align", "again.yaml", "--print-config")
    assert again.out == first.out
    assert pippin("align", "again.yaml").err.startswith("error: again.yaml: the setting 'model' is empty. Give --model")
    filled = pippin("align", "again.yaml", "--model", "world/base", "--out", "o", "--print-config", "--json", "-").json
    direct = pippin("align", name, "--model", "world/base", "--out", "o", "--print-config", "--json", "-").json
    assert filled == direct


def test_help_has_the_methods_own_settings_and_the_shared_ones(pippin):
    told = pippin("align", "ppo", "--help")
    own, _, shared = told.out.partition("Settings of ppo:")[2].partition("Settings of every method")
    assert "--kl_coef" in own and "--learning_rate" not in own
    assert "--learning_rate" in shared and "[3e-06]" in shared  # as the method has it
    assert "--kl_coef" not in pippin("align", "--help").out


def test_an_interrupt_says_what_is_kept(pippin, files, tmp_path, monkeypatch):
    files("pairs.jsonl", PAIRS[:8])
    from pippin.align import run

    def stopped(*rest, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "align", stopped)
    told = pippin("align", "dpo", "--model", "world/base", "--data", "pairs.jsonl", "--out", "run")
    assert told.code == 130
    assert "no checkpoint yet (save_steps says how often)" in told.err and "run the same command" in told.err


def test_flags():
    assert job.flags(["--learning_rate", "1e-4", "--max-length=8", "--bf16", "--max_steps", "-1"]) == {
        "learning_rate": "1e-4", "max_length": "8", "bf16": "true", "max_steps": "-1",
    }  # fmt: skip
    for wrong in (["1e-4"], ["--"], ["--beta", "1", "--beta", "2"], ["--max_steps", "1", "2"]):
        with pytest.raises(InputError):
            job.flags(wrong)


def test_a_part_of_the_rows(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files("pairs.jsonl", PAIRS)
    whole, _ = job.read_data("pairs.jsonl", 0)
    part, found = job.read_data("pairs.jsonl[10:12]", 0)
    assert part == whole[10:12]
    assert found.endswith("rows 10 to 12 of 90")
    with pytest.raises(UnknownName):
        job.read_data("world/demonstration?n=3", 0)
