"""Arms made elsewhere: what is read from folders and logs of other programs, and that it can be compared."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import modelcard

from pippin.compare import folders, imported, inputs, outside
from pippin.compare.imported import import_answers, join
from pippin.compare.outside import Answer, read_external
from pippin.compare.two import compare_two
from pippin.compare.work import RESULT, judge
from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.run import write_json
from pippin.core.store import Store
from pippin.core.types import Message, Prompt, Response, assistant, user
from pippin.data import files
from pippin.lm.hf import load_policy
from pippin.world import BASE

from .external_files import (
    AXOLOTL,
    GREETINGS,
    STATE,
    TRL_CARD,
    generation,
    inspect_eval,
    inspect_log,
    lm_eval,
    quoted,
    sample,
)
from .studies import run_here, write

KINDS = ("axolotl", "inspect_ai", "lm_eval", "peft", "pippin", "responses", "transformers", "trl", "verl")


def model(folder: Path, **papers: str) -> Path:
    """A whole model folder, and papers beside it: file name (with __ for a dot) -> text."""
    shutil.copytree(BASE, folder)
    for name, text in papers.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def adapter(folder: Path, base: str, seed: int = 0) -> Path:
    """A real adapter of the world's base model with weights that change it, which names ``base`` as its base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), LoraConfig(r=2, target_modules=["v_proj"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    wrapped.save_pretrained(folder)
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | {"base_model_name_or_path": base}))
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def card(**told) -> str:
    """A model card as transformers' own trainer writes it."""
    return modelcard.TrainingSummary(model_name="out", source="trainer", **told).to_model_card()


# ---------------------------------------------------------------------- which kind


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """One path of every kind."""
    home = tmp_path_factory.mktemp("kinds")
    made = {
        "transformers": model(home / "plain", trainer_state__json=json.dumps(STATE)),
        "trl": model(home / "trl", README__md=TRL_CARD.format(front="base_model: org/base\ndatasets: org/pairs\n")),
        "axolotl": model(home / "axolotl", README__md=card() + quoted(AXOLOTL)),
        "pippin": model(home / "run", pippin_run__json=json.dumps({"manifest": {"model": "world/base"}})),
        "peft": adapter(home / "peft", "world/base"),
        "verl": home / "verl",
        "lm_eval": lm_eval(home / "lm", {"gen": [generation(0, "yes", 1.0)]}),
        "inspect_ai": inspect_eval(home / "log.eval", inspect_log([sample("hello", "hello", {"includes": "C"})])),
        "responses": home / "answers.jsonl",
    }
    model(home / "verl" / "global_step_10" / "actor" / "huggingface")
    made["responses"].write_text(json.dumps({"prompt": "Say hello.", "completion": "hello"}) + "\n")
    return made


def test_the_kinds_are_leaves():
    assert tuple(catalog.names("external")) == KINDS
    assert all(entry.summary and entry.source for entry in catalog.entries("external"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_told_from_the_others(places, kind):
    assert outside.find(str(places[kind])) == (kind, places[kind])
    made = read_external(str(places[kind]))
    assert made.kind == kind and (made.policy is None) == (outside.gives(str(places[kind])) == "answers")
    assert (made.policy is None) == bool(made.answers)
    assert read_external(f"{kind}:{places[kind]}") == made


def test_what_is_nothing_is_refused_with_the_mend(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for spec, words in ((tmp_path, "neither a model nor answers"), (tmp_path / "none", "no such file or folder")):
        with pytest.raises(InputError, match=words) as caught:
            read_external(str(spec))
        assert "\n" not in str(caught.value) and "pippin list external" in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        read_external(f"trl:{tmp_path / 'none'}")
    assert outside.find("x" * 5000) is None and outside.find("hf/org/model") is None


# ---------------------------------------------------------------------- folders


def test_a_card_of_trl_declares_method_base_data_and_versions(places, tmp_path):
    made = read_external(str(places["trl"]))
    assert made.manifest == {
        "method": "dpo", "base": "hf/org/base", "data (preferences)": "org/pairs", "library.trl": "1.16.0",
        "library.transformers": "5.24.0", "library.torch": "2.13.0+cpu", "library.datasets": "5.2.0",
        "library.tokenizers": "0.23.3",
    }  # fmt: skip
    model(tmp_path / "out" / "checkpoint-9", trainer_state__json=json.dumps(STATE))
    (tmp_path / "out" / "README.md").write_text(TRL_CARD.format(front=""))
    (tmp_path / "out" / "training_args.bin").write_bytes(b"\x80\x04never read")
    for path in (tmp_path / "out", tmp_path / "out" / "checkpoint-9"):
        made = read_external(str(path))
        assert (made.kind, made.policy) == ("trl", str(tmp_path / "out" / "checkpoint-9"))
        assert made.manifest["method.dpo.steps"] == 30 and "base" not in made.manifest
    assert folders.NOT_OPENED in read_external(str(tmp_path / "out")).notes


def test_the_last_checkpoint_is_taken_by_its_number_and_it_is_said(tmp_path):
    for step in (9, 100, 20):
        model(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-100" / "trainer_state.json").write_text(json.dumps(STATE))
    made = read_external(str(tmp_path))
    assert made.policy == str(tmp_path / "checkpoint-100")
    assert made.notes == ("the last of 3 checkpoints was taken: checkpoint-100",)
    assert made.manifest["method.transformers.highest logged learning_rate"] == 1e-5
    assert made.manifest["method.transformers.per_device_train_batch_size"] == 4


def test_the_trainers_own_card_is_read(tmp_path):
    text = card(
        finetuned_from="org/base", dataset="org/rows",
        hyperparameters={"learning_rate": 5e-05, "train_batch_size": 8, "seed": 42, "lr_scheduler_type": "linear"},
    )  # fmt: skip
    made = read_external(str(model(tmp_path / "m", README__md=text)))
    assert made.manifest["base"] == "hf/org/base" and made.manifest["method.transformers.seed"] == 42
    assert made.manifest["method.transformers.learning_rate"] == 5e-5
    assert made.manifest["method.transformers.per_device_train_batch_size"] == 8
    assert made.manifest["method.transformers.lr_scheduler_type"] == "linear"


def test_a_configuration_of_axolotl_declares_how_was_trained(places):
    made = read_external(str(places["axolotl"])).manifest
    assert made["method"] == "sft" and made["base"] == "hf/Qwen/Qwen2.5-0.5B" and made["library.axolotl"] == "0.11.0"
    assert made["data (demonstrations)"] == "data/one.jsonl, org/two" and made["precision"] == "bfloat16"
    assert made["masking"] == "every assistant turn" and made["packing"] == "none"
    assert made["truncation"] == "rows of more than 2048 tokens left out"
    assert made["method.sft.learning_rate"] == 2e-5 and made["method.sft.lora_r"] == 8
    assert made["method.sft.use_peft"] is True and made["method.sft.num_train_epochs"] == 3


@pytest.mark.parametrize(
    ("changed", "field", "value"),
    [
        ({"rl": "dpo"}, "data (preferences)", "d.jsonl"),
        ({"rl": "dpo"}, "masking", "response only"),
        ({"rl": "grpo"}, "prompts.train", "d.jsonl"),
        ({"train_on_inputs": True}, "masking", "prompt and response"),
        ({"excess_length_strategy": "truncate"}, "truncation", "keep start, 64 tokens"),
        ({"bf16": "auto"}, "precision", None),
        ({"sample_packing": True}, "packing", "packed rows"),
        ({"fp16": True}, "precision", "float16"),
        ({"datasets": [{"path": "d.jsonl", "type": {"field": "x"}}]}, "masking", None),
    ],
)
def test_what_a_configuration_of_axolotl_says_is_not_stretched(tmp_path, changed, field, value):
    told = {"base_model": "org/b", "sequence_len": 64, "datasets": [{"path": "d.jsonl", "type": "alpaca"}]} | changed
    folder = model(tmp_path / "m", axolotl_config__yaml=json.dumps(told))
    assert read_external(str(folder)).manifest.get(field) == value


def test_a_checkpoint_of_verl_lies_deep(places, tmp_path):
    root = shutil.copytree(places["verl"], tmp_path / "run")
    model(root / "global_step_9" / "actor" / "huggingface")
    made = read_external(str(root))
    assert made.policy == str(root / "global_step_10" / "actor" / "huggingface")
    assert made.manifest["method.verl.steps"] == 10
    (root / "latest_checkpointed_iteration.txt").write_text("9")
    assert read_external(str(root)).policy == str(root / "global_step_9" / "actor" / "huggingface")
    assert read_external(str(root / "global_step_10")).manifest["method.verl.steps"] == 10
    actor = root / "global_step_10" / "actor"
    adapter(actor / "lora_adapter", "world/base")
    assert read_external(str(actor)).policy == str(actor / "lora_adapter")


def test_pickled_shards_of_verl_are_refused_with_the_command_that_merges_them(places, tmp_path):
    root = shutil.copytree(places["verl"], tmp_path / "run")
    (root / "global_step_10" / "actor" / "huggingface" / "model.safetensors").unlink()
    (root / "global_step_10" / "actor" / "model_world_size_1_rank_0.pt").write_bytes(b"\x80")
    with pytest.raises(InputError, match=r"verl\.model_merger merge") as caught:
        read_external(str(root))
    assert "\n" not in str(caught.value)


def test_a_run_of_this_project_declares_everything(tmp_path):
    told = {"model": "world/base", "method": "dpo", "truncation": "keep start, 64 tokens", "reward": None, "data": "d",
            "seed": 3, "method.dpo.beta": 0.1, "library.torch": "2"}  # fmt: skip
    made = read_external(str(model(tmp_path / "m", pippin_run__json=json.dumps({"manifest": told}))))
    assert made.manifest == {
        "base": "world/base", "method": "dpo", "truncation": "keep start, 64 tokens", "method.dpo.beta": 0.1,
        "library.torch": "2", "seeds": "3",
    }  # fmt: skip
    (tmp_path / "m" / "pippin_run.json").write_text("{}")
    with pytest.raises(InputError, match="no manifest"):
        read_external(str(tmp_path / "m"))


def test_hostile_papers_declare_nothing(tmp_path):
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ntags: *c\ndatasets: [*c, {path: *c}]\nbase_model: [1, 2]\n"
    folder = model(tmp_path / "m", README__md=f"---\n{bomb}---\n- TRL: 1.0\n")
    assert read_external(str(folder)).manifest == {"library.trl": "1.0", "library.transformers": "5.24.0"}
    for front in ("!!python/object/apply:os.system ['true']", "[" * 3000, "tags: {a: b}"):
        (folder / "README.md").write_text(f"---\n{front}\n---\n")
        assert read_external(str(folder)).kind == "transformers"
    (folder / "trainer_state.json").write_text('{"global_step": ')
    with pytest.raises(InputError, match="not a JSON file"):
        read_external(str(folder))


# ---------------------------------------------------------------------- adapters


def test_an_adapter_names_its_base_by_a_path_from_its_own_folder(tmp_path, monkeypatch):
    model(tmp_path / "base")
    folder = adapter(tmp_path / "adapters" / "one", "../../base")
    monkeypatch.chdir(tmp_path / "adapters")
    made = read_external("one")
    assert made.manifest["base"] == str(tmp_path / "base") and made.manifest["method.peft.lora_r"] == 2
    asked, said = [user("apple pear")], ["plum"]
    bare = load_policy(str(tmp_path / "base")).logprobs(asked, said)[0].total
    named = load_policy(str(adapter(tmp_path / "two", "world/base"))).logprobs(asked, said)[0].total
    assert load_policy(str(folder)).logprobs(asked, said)[0].total == pytest.approx(named)
    assert abs(named - bare) > 1e-3


def test_an_adapter_without_its_base_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = adapter(tmp_path / "one", "../no/such/base")
    with pytest.raises(InputError, match=r"adapter's base model is not here.*base_model_name_or_path") as caught:
        load_policy(str(folder))
    assert "\n" not in str(caught.value)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError, match="does not name its base"):
        read_external(str(folder))


def study(tmp_path, *external: dict, **changes) -> dict:
    """The results of a study of the base model as it is, with arms made elsewhere beside it."""
    told = {
        "question": "Is it better than the base?", "base": "world/base", "judge": "gold", "baseline": "base",
        "prompts": {"test": "world/dev?n=8&seed=1"}, "axes": {"method": {"base": {"use": "base"}}},
        "evaluation": {"n": 1, "max_tokens": 8}, "external": list(external),
    }  # fmt: skip
    with Store(tmp_path / "store.db") as store:
        return run_here(write(tmp_path, {**told, **changes}), store)


def test_an_adapter_is_a_side_and_an_arm(tmp_path):
    folder = adapter(tmp_path / "one", "world/base")
    made = compare_two("world/base", str(folder), judge="gold", prompts="world/dev?n=4&seed=1")
    assert made.pairs == 4
    results = study(tmp_path, {"path": str(folder), "name": "theirs", "method": "sft"})
    assert {r["name"] for r in results["arms"]} == {"base", "theirs"}


def test_the_fingerprint_of_an_adapter_holds_its_base(tmp_path):
    model(tmp_path / "base")
    folder = adapter(tmp_path / "one", "../base")
    before = imported.fingerprint(str(folder))
    assert before == imported.fingerprint(str(folder)) != imported.fingerprint(str(tmp_path / "base"))
    (folder / "optimizer.pt").write_bytes(b"not loaded")
    (folder / "checkpoint-1").mkdir()
    assert imported.fingerprint(str(folder)) == before
    (tmp_path / "base" / "generation_config.json").write_text("{}")
    assert imported.fingerprint(str(folder)) != before


# ---------------------------------------------------------------------- answers as an arm


def test_answers_meet_prompts_by_id_and_else_by_text():
    prompts = [Prompt(user(text)) for text in ("Say A.", "Say  b.", "Say C.", "say c.", "Say D.")]

    def answer(messages, text="x"):
        prompt = Prompt(messages)
        return Answer(prompt, Response(prompt.id, assistant(text) if text is not None else ()))

    told = [
        answer(user("Say A."), "1"),
        answer((Message("system", "Be brief."), *user("say B. ")), "2"),
        answer(user("SAY C."), "3"),  # the text of two prompts
        answer(user("Say Z."), "4"),
        answer(user("Say D."), None),
        answer(user("Say A."), "5"),
    ]
    made = join(told, prompts)
    assert [(a.prompt.text, a.response.text, a.response.sample) for a in made.answers] == [
        ("Say A.", "1", 0), ("Say A.", "5", 1), ("Say  b.", "2", 0),
    ]  # fmt: skip
    assert made.answers[2].response.prompt_id == prompts[1].id
    assert made.answers[2].response.context == told[1].prompt.messages
    assert (made.by_text, len(made.missing), made.unused) == (1, 3, 3)
    assert made.notes == [
        "1 of 5 prompts were found by their text, not by their id",
        "3 of 5 prompts have no answer",
        "3 answers are to other prompts",
    ]


def test_an_imported_cell_is_judged_like_one_that_answered(tmp_path):
    log = inspect_eval(tmp_path / "log.eval", inspect_log(GREETINGS))
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Say {k}."}) + "\n" for k in ("hello", "x")))
    spec = {"path": str(log), "prompts": str(tmp_path / "prompts.jsonl")}
    with Store(tmp_path / "store.db") as store:
        told = import_answers(spec, store, tmp_path, None)
        write_json(tmp_path / RESULT, told)
        rows = files.read_responses(tmp_path / "responses.jsonl")
        assert [r.text for _, r in rows] == ["hello there", "no"] and told["missing"] == [Prompt(user("Say x.")).id]
        assert told["manifest"]["tokenizer"] == "not declared" and told["declared"]["answers.task"] == "greet"
        assert told["mean_length"] is None and told["share_without_end"] == 0.0
        verdicts = judge({"responses": str(tmp_path), "judge": "rule/longer"}, store, None, None)["values"]
    assert verdicts == {rows[0][0].id: [11, 2], told["missing"][0]: [None]}


def test_an_arm_of_answers_to_other_prompts_is_refused(tmp_path):
    log = inspect_eval(tmp_path / "log.eval", inspect_log(GREETINGS))
    with pytest.raises(InputError, match="answers none of the test prompts"):
        import_answers({"path": str(log), "prompts": "world/dev?n=3&seed=0"}, None, tmp_path, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a model, not recorded answers"):
        import_answers({"path": str(BASE), "prompts": "world/dev?n=3&seed=0"}, None, tmp_path, None)  # type: ignore[arg-type]


def test_an_arm_may_also_be_a_models_name():
    assert imported.read_arm("hf/org/name").policy == "hf/org/name"
    assert imported.read_arm("world/base").policy == "world/base"
    for path in ("./none", "answers.jsonl", "log.eval"):
        with pytest.raises(InputError, match="no such file"):
            imported.read_arm(path)


def test_a_policy_that_lies_deep_is_an_arm(places, tmp_path):
    results = study(tmp_path, {"path": str(places["verl"]), "name": "theirs"})
    rows = [r for r in results["arms"] if r["name"] == "theirs"]
    assert rows and all(r["delta_vs_base"] == 0 for r in rows)  # the same weights, the same draws


@pytest.mark.parametrize("judge", ["gold", "rule/longer", "rule/first"])
def test_answers_are_an_arm(tmp_path, judge):
    prompts = inputs.read_prompts("world/dev?n=8&seed=1", 0)
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"prompt": p.text.upper(), "completion": "no"}) + "\n" for p in prompts[:7]))
    results = study(tmp_path, {"path": str(answers), "name": "theirs", "decoding": "greedy"}, judge=judge)
    (row,) = [r for r in results["arms"] if r["name"] == "theirs"]
    assert row["decoding"] == "greedy" and row["delta_vs_base"] is not None
