"""What other programs leave behind, written by themselves in environments of their own, read here."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import modelcard

from pippin.compare import folders
from pippin.compare.outside import read_external
from pippin.compare.two import compare_two
from pippin.core.errors import InputError
from pippin.world import BASE, SFT

pytestmark = pytest.mark.oracle

TRL = ["torch==2.13.0", "transformers==5.24.0", "trl==1.16.0"]
HARNESS = ["torch==2.13.0", "transformers==5.24.0", "lm_eval[hf]==0.4.13"]
ANSWERS = ["hello there", "goodbye", "no", "bye, hello"]
TASK = """
task: tiny_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: {kind}
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{target}"
{more}
metadata: {{version: 1.0}}
"""


# ---------------------------------------------------------------------- inspect_ai


@pytest.fixture(scope="module")
def logs(environment, ask, tmp_path_factory):
    """What inspect_ai says of two runs of one task, the first saved as .eval, the second as .json."""
    python = environment("inspect-ai-0.3.285", "inspect_ai==0.3.285")
    home = tmp_path_factory.mktemp("inspect")
    jobs = [
        {"folder": str(home / "one"), "format": "eval", "answers": ANSWERS},
        {"folder": str(home / "two"), "format": "json", "answers": ["hello bye"] * 4},
    ]
    return ask(python, "external_inspect.py", jobs)


@pytest.mark.parametrize("which", [0, 1])
def test_a_log_says_here_what_it_says_to_inspect(logs, which):
    told = logs[which]
    made = read_external(told["file"])
    asked = {"a": "Say hello.", "2": "Say bye."}
    theirs = {(asked[str(r["id"])], r["epoch"] - 1): r for r in told["rows"]}
    assert {(a.prompt.text, a.response.sample) for a in made.answers} == set(theirs)
    for answer in made.answers:
        row = theirs[answer.prompt.text, answer.response.sample]
        assert answer.response.text == row["text"]
        assert answer.scores == {"includes": row["includes"], "several/length": row["length"], "several/grade": 0.5}
        assert row["grade"] == 0.5
    mean = sum(a.scores["includes"] or 0.0 for a in made.answers) / len(made.answers)
    assert mean == pytest.approx(told["stated"]["includes"]["accuracy"])
    assert made.manifest["library.inspect_ai"] == "0.3.285" and made.manifest["decoding.temperature"] == 0.5
    assert made.notes == ()


def test_two_logs_of_inspect_are_compared_by_what_it_recorded(logs):
    made = compare_two(logs[0]["file"], logs[1]["file"], judge="recorded/includes")
    means = [log["stated"]["includes"]["accuracy"] for log in logs]
    assert made.delta.value == pytest.approx(means[1] - means[0]) and made.pairs == 4


# ---------------------------------------------------------------------- lm-evaluation-harness


@pytest.fixture(scope="module")
def harness(environment, tmp_path_factory):
    """Folders of logs of the base model and of the tuned one, the second with examples in its prompts."""
    python = environment("lm-eval-0.4.13", *HARNESS)
    home = tmp_path_factory.mktemp("harness")
    rows = home / "rows.jsonl"
    data = [{"question": f"is {k} even?", "answer": "yes" if k % 2 == 0 else "no", "label": k % 2} for k in range(6)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in data))
    more = {
        "generate_until": 'generation_kwargs: {until: ["\\n"], max_gen_toks: 6, temperature: 0.0}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]",
        "multiple_choice": 'doc_to_choice: ["yes", "no", "an apple"]\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]",
        "loglikelihood": "metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]",
    }
    for kind, text in more.items():
        target = "{{label}}" if kind == "multiple_choice" else "{{answer}}"
        (home / f"{kind}.yaml").write_text(TASK.format(kind=kind, rows=rows, target=target, more=text))
    found = []
    for model, shots in ((BASE, 0), (SFT, 2)):
        command = [
            str(python.parent / "lm_eval"), "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
            "--tasks", ",".join(f"tiny_{kind}" for kind in more), "--include_path", str(home), "--device", "cpu",
            "--num_fewshot", str(shots), "--output_path", str(home / f"out{shots}"), "--log_samples",
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=home, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(next((home / f"out{shots}").iterdir()))
    return found


def stated(folder: Path) -> dict:
    return json.loads(next(folder.glob("results_*.json")).read_text())


def test_a_harness_log_says_here_what_it_says_there(harness):
    for folder, shots in zip(harness, (0, 2), strict=True):
        made, told = read_external(str(folder)), stated(folder)
        for task, metric in (("tiny_multiple_choice", "acc"), ("tiny_generate_until", "exact_match")):
            numbers = [a.scores[f"{task}/{metric}"] for a in made.answers if f"{task}/{metric}" in a.scores]
            assert len(numbers) == 6 and None not in numbers
            assert sum(n or 0.0 for n in numbers) / 6 == pytest.approx(told["results"][task][f"{metric},none"])
        said = {a.response.text for a in made.answers if a.key.startswith("tiny_multiple_choice")}
        assert said <= {"yes", "no", "an apple"}
        assert made.manifest["answers.few-shot"].endswith(f"tiny_multiple_choice {shots}")
        assert made.manifest["library.lm_eval"] == "0.4.13"


def test_two_harness_logs_meet_though_their_prompts_differ(harness):
    made = compare_two(*map(str, harness), judge="recorded/tiny_multiple_choice/acc")
    one, two = (stated(folder)["results"]["tiny_multiple_choice"]["acc,none"] for folder in harness)
    assert made.delta.value == pytest.approx(two - one) and made.pairs == 6
    assert any("6 of 18" in c or "asked in other words" in c for c in made.cautions)


# ---------------------------------------------------------------------- TRL


def test_a_whole_folder_of_trl_is_read(environment, tmp_path):
    python = environment("trl-1.16.0", *TRL)
    script = Path(__file__).with_name("external_trl.py")
    subprocess.run([str(python), str(script), str(BASE), str(tmp_path / "out")], check=True, cwd=tmp_path)
    made = read_external(str(tmp_path / "out"))
    assert (made.kind, made.policy) == ("trl", str(tmp_path / "out")) and folders.NOT_OPENED in made.notes
    assert made.manifest["method"] == "sft" and made.manifest["library.trl"] == "1.16.0"
    assert made.manifest["data (demonstrations)"] == "org/rows"
    assert made.manifest["method.sft.steps"] == 2 and made.manifest["method.sft.per_device_train_batch_size"] == 2
    assert made.manifest["method.sft.highest logged learning_rate"] == pytest.approx(1e-3)
    first = read_external(str(tmp_path / "out" / "checkpoint-1"))
    assert first.kind == "trl" and first.manifest["method.sft.steps"] == 1
    (tmp_path / "out" / "config.json").unlink()
    assert read_external(str(tmp_path / "out")).policy == str(tmp_path / "out" / "checkpoint-2")
    compared = compare_two("world/base", str(tmp_path / "out"), judge="gold", prompts="world/dev?n=4&seed=1")
    assert compared.pairs == 4 and any("last of 2 checkpoints" in c for c in compared.cautions)


# ---------------------------------------------------------------------- verl


def test_a_checkpoint_of_verl_is_read_and_its_shards_are_merged_as_told(environment, tmp_path):
    python = environment("verl-0.9.1", "torch==2.13.0", "verl==0.9.1")
    script = Path(__file__).with_name("external_verl.py")
    for out, contents in (("whole", "model,hf_model"), ("shards", "model")):
        command = [str(python), str(script), str(BASE), str(tmp_path / out), contents]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    made = read_external(str(tmp_path / "whole"))
    policy = tmp_path / "whole" / "global_step_7" / "actor" / "huggingface"
    assert (made.kind, made.policy, made.manifest["method.verl.steps"]) == ("verl", str(policy), 7)
    with pytest.raises(InputError) as caught:
        read_external(str(tmp_path / "shards"))
    told = re.search(r"python (-m verl\.model_merger .*?--target_dir )MERGED", str(caught.value))
    assert told
    command = [str(python), *told[1].split(), str(tmp_path / "merged")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    merged = read_external(str(tmp_path / "merged"))
    assert merged.kind == "transformers" and merged.policy is not None
    saved, again, first = (
        {name: weight.float() for name, weight in load_file(f"{folder}/model.safetensors").items()}
        for folder in (policy, merged.policy, BASE)
    )
    assert saved.keys() == again.keys()
    assert all(torch.allclose(saved[name], again[name], atol=1e-2) for name in saved)
    embedding = "model.embed_tokens.weight"
    assert torch.allclose(saved[embedding], first[embedding] + 0.25, atol=1e-2)


# ---------------------------------------------------------------------- axolotl


def test_the_configuration_in_a_card_of_axolotl_is_read(environment, tmp_path, monkeypatch):
    python = environment("axolotl-0.19.0", "--no-deps", "axolotl==0.19.0")
    told = tmp_path / "config.yml"
    told.write_text("base_model: org/base\nrl: dpo\ndatasets:\n  - path: org/pairs\n    type: chat_template.default\n"
                    "sequence_len: 512\nmicro_batch_size: 2\nlearning_rate: 5e-6\nbf16: true\n")  # fmt: skip
    script = Path(__file__).with_name("external_axolotl.py")
    done = subprocess.run([str(python), str(script), str(told)], check=True, capture_output=True, text=True)
    monkeypatch.setattr(
        modelcard, "AUTOGENERATED_TRAINER_COMMENT", modelcard.AUTOGENERATED_TRAINER_COMMENT + done.stdout
    )
    shutil.copytree(BASE, tmp_path / "out")
    (tmp_path / "out" / "README.md").write_text(modelcard.TrainingSummary("out", source="trainer").to_model_card())
    made = read_external(str(tmp_path / "out"))
    assert made.kind == "axolotl" and made.manifest["library.axolotl"] == "0.19.0"
    assert made.manifest["method"] == "dpo" and made.manifest["data (preferences)"] == "org/pairs"
    assert made.manifest["method.dpo.learning_rate"] == 5e-6 and made.manifest["precision"] == "bfloat16"
