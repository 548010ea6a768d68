"""What training runs saw of themselves reaches the results: curves for those that were trained, and warnings."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for studies.py

from studies import BATCH, run_here, varied, write

from pippin.compare.report import page
from pippin.core.store import Store


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    rloo = {
        **BATCH, "model": "world/sft", "reward": "rule/length?target=20", "num_rollouts": 20, "prompts_per_rollout": 12,
        "num_generations": 4, "max_completion_length": 32, "beta": 0.0, "learning_rate": 3e-4,
    }  # fmt: skip
    study = varied(
        axes={"method": {"sft": {"use": "$sft"}, "rloo": {"method": "rloo"}, "dpo": {"method": "dpo"}}},
        settings={"rloo": rloo},
        prompts={"dev": "world/dev?n=3&seed=0"},
    )
    del study["settings"]["ipo_like"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPPIN_HOME", str(folder / "home"))
        with Store() as store:
            yield run_here(write(folder, study), store)


def test_an_arm_that_was_trained_on_a_reward_has_its_curve(results):
    (curve,) = [c for c in results["curves"] if c["title"].startswith("rloo")]
    assert curve["points"][0]["kl"] == 0 and len(curve["points"]) >= 4
    last = curve["points"][-1]
    assert last["kl"] > 0 and {"gold", "gold_low", "gold_high", "proxy"} <= set(last)
    assert last["proxy"] > curve["points"][0]["proxy"]
    assert not [c for c in results["curves"] if c["title"].startswith("dpo")], "without a reward there is no proxy"
    assert "rloo, as it was trained" in page(results)


def test_its_warnings_stand_with_the_arm(results):
    notes = {row["name"]: row["note"] for row in results["arms"]}
    assert "length explains" in notes["rloo"]
    assert notes["sft"] == ""
