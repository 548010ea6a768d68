"""TRL as an oracle, in an environment of its own: the same data, weights and settings give the same training.

`make oracle` makes the environment in ``.oracle``; TRL is never a dependency.
"""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from pippin.align.run import align
from pippin.compare.analyse import analyse
from pippin.compare.cells import in_order
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.compare.work import run_cell
from pippin.core.store import Store
from pippin.data import files
from pippin.world import BASE
from pippin.world.people import adversarial_pairs

PACKAGES = ["torch==2.13.0", "transformers==5.24.0", "trl==1.16.0"]
STEPS, RATE, BETA = 4, 1e-3, 0.2

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def python(environment):
    """The interpreter of an environment with TRL."""
    return environment("trl-1.16.0", *PACKAGES)


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory):
    """Folder with ``pairs.jsonl`` and TRL's checkpoint and losses in ``trl``."""
    folder = tmp_path_factory.mktemp("trl")
    rows = []
    for pair in adversarial_pairs(12, 0, "train"):
        answers = (pair.first, pair.second)
        rows.append(
            {
                "prompt": [{"role": "user", "content": pair.prompt.text}],
                "chosen": [{"role": "assistant", "content": answers[pair.better]}],
                "rejected": [{"role": "assistant", "content": answers[1 - pair.better]}],
            }
        )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = Path(__file__).with_name("trl_dpo.py")
    arguments = [str(BASE), str(folder / "pairs.jsonl"), str(folder / "trl"), str(STEPS), str(RATE), str(BETA)]
    subprocess.run([str(python), str(script), *arguments], check=True, cwd=folder)
    return folder


def test_dpo_trains_as_trl_trains(trained, tmp_path):
    data = files.read_preferences(trained / "pairs.jsonl")
    lines = []
    settings = {
        "beta": BETA,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": len(data),
        "num_train_epochs": STEPS,
        "max_length": 128,
        "logging_steps": 1,
    }
    align("dpo", settings, model="world/base", data=data, out=tmp_path / "ours", report=lines.append)
    theirs = json.loads((trained / "trl" / "losses.json").read_text())["losses"]
    ours = [line["loss"] for line in lines]
    print("TRL", theirs, "ours", ours)
    assert ours == pytest.approx(theirs, abs=2e-4)
    assert ours[0] == pytest.approx(0.693147, abs=1e-5) and ours[-1] < 0.65
    a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "ours", trained / "trl"))
    assert a.keys() & b.keys()
    for key in a.keys() & b.keys():
        assert (a[key].float() - b[key].float()).abs().max() < 1e-4, key


def test_a_checkpoint_of_trl_is_an_arm(trained, tmp_path):
    study = {
        "question": "Is TRL's checkpoint better than the base?",
        "base": "world/base",
        "prompts": {"test": "world/dev?n=20&seed=1"},
        "axes": {"method": {"base": {"use": "base"}}},
        "judge": "gold",
        "baseline": "base",
        "evaluation": {"n": 1, "max_tokens": 16},
        "external": [{"path": str(trained / "trl"), "name": "trl", "method": "dpo"}],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    planned = plan(read_study(tmp_path / "study.yaml"))
    with Store(tmp_path / "store.db") as store:
        for key in in_order(planned.cells):
            run_cell(planned.cells[key], store)
        results = analyse(planned, store, "pippin compare study.yaml")
    assert {r["name"] for r in results["arms"]} == {"base", "trl"}
    assert results["confounds"] == [] and "truncation" in results["not_declared"][0]["fields"]
