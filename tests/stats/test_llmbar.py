"""The statistics on LLMBar's recorded verdicts give the figures computed elsewhere from the same recordings."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pippin.stats import Bootstrap, consistency, length_bias, mean, paired, position_bias

ROOT = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data" / "llmbar"
ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="the LLMBar recordings are not here (PIPPIN_SHARED)")
HOW = Bootstrap(resamples=4000)


@cache
def recorded(judge: str, strategy: str) -> dict[str, np.ndarray]:
    """Sets (N,), and per order: credits (N,), verdicts for output 1 (N,)."""
    with gzip.open(ROOT / "recordings" / f"{judge}__{strategy}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    label = np.array([str(r["label"]) for r in rows])
    made = {"set": np.array([r["set"] for r in rows]), "label": np.where(label == "1", 1.0, -1.0)}
    for place, order in enumerate(("first", "swapped")):
        winner = np.array([r["final"][place] or "" for r in rows])
        made[f"right {order}"] = np.where(winner == "", np.nan, winner == label)
        made[f"verdict {order}"] = np.select([winner == "1", winner == "2"], [1.0, -1.0], np.nan)
    return made


@cache
def length_differences() -> np.ndarray:
    rows = [
        row
        for name in ("Natural", *ADVERSARIAL)
        for row in json.loads(next((ROOT / "datasets").glob(f"**/{name}/dataset.json")).read_text(encoding="utf-8"))
    ]
    return np.array([len(r["output_1"]) - len(r["output_2"]) for r in rows])


def accuracy(judge: str, strategy: str) -> tuple[np.ndarray, np.ndarray]:
    """Credit averaged over the orders, a missing verdict being wrong as in the published tables; and the sets."""
    data = recorded(judge, strategy)
    credit = (np.nan_to_num(data["right first"]) + np.nan_to_num(data["right swapped"])) / 2
    keep = data["set"] != "Natural"
    return credit[keep], data["set"][keep]


@pytest.mark.parametrize(
    ("strategy", "value", "low", "high"),
    [("Vanilla_NoRules", 73.1, 68.3, 77.8), ("Vanilla", 80.8, 76.4, 85.1), ("Metrics_Reference", 82.8, 78.6, 86.7)],
)
def test_adversarial_mean_and_interval(strategy: str, value: float, low: float, high: float) -> None:
    credit, sets = accuracy("GPT-4", strategy)
    made = mean(100 * credit, strata=sets, support=(0, 100), bootstrap=HOW)
    assert made.value == pytest.approx(value, abs=0.05)
    assert (made.low, made.high) == pytest.approx((low, high), abs=0.4)


@pytest.mark.parametrize(
    ("judge", "strategy", "value", "low", "high"),
    [
        ("GPT-4", "CoT", -4.2, -7.1, -1.4),
        ("GPT-4", "Metrics_Reference", 2.0, -0.5, 4.6),
        ("ChatGPT", "Rating", 14.2, 9.5, 18.8),
        ("LLaMA2", "Reference", 4.4, 1.2, 7.7),
    ],
)
def test_paired_differences(judge: str, strategy: str, value: float, low: float, high: float) -> None:
    (other, sets), (plain, _) = accuracy(judge, strategy), accuracy(judge, "Vanilla")
    made = paired(100 * other, 100 * plain, strata=sets, support=(-100, 100), bootstrap=HOW)
    assert made.value == pytest.approx(value, abs=0.06)
    assert (made.low, made.high) == pytest.approx((low, high), abs=0.4)
    assert made.p is not None
    assert (made.p < 0.05) == (made.low > 0 or made.high < 0)


@pytest.mark.parametrize(
    ("judge", "strategy", "expected"),
    [
        ("GPT-4", "Vanilla_NoRules", (67.6, 11.0, 21.4)),
        ("GPT-4", "Swap", (78.1, 4.0, 17.9)),
        ("LLaMA2", "Metrics_Reference", (25.6, 35.7, 38.7)),
    ],
)
def test_consistency_triples(judge: str, strategy: str, expected: tuple[float, float, float]) -> None:
    data = recorded(judge, strategy)
    shares = np.zeros(3)
    for name in ADVERSARIAL:
        rows = data["set"] == name
        made = consistency(data["right first"][rows], data["right swapped"][rows], bootstrap=Bootstrap(resamples=100))
        assert made.missing.value == 0
        shares += np.array([made.right.value, made.split.value, made.wrong.value]) / len(ADVERSARIAL)
    assert 100 * shares == pytest.approx(expected, abs=0.06)


def test_position_shares_of_falcon_and_gpt_4() -> None:
    for judge, low, high in [("Falcon", 0.72, 0.93), ("GPT-4", 0.47, 0.53)]:
        data = recorded(judge, "Vanilla")
        shown = np.concatenate([data["verdict first"], -data["verdict swapped"]])
        made = position_bias(shown, np.tile(np.arange(419), 2), bootstrap=HOW)
        assert low - 0.005 <= made.value <= high + 0.005
        assert made.p is not None and (made.p < 1e-3) == (judge == "Falcon")


@pytest.mark.parametrize(
    ("strategy", "when_longer", "when_shorter"),
    [("Vanilla_NoRules", 88, 71), ("Vanilla", 88, 83), ("Metrics_Reference", 85, 87)],
)
def test_accuracy_by_the_length_of_the_better(strategy: str, when_longer: float, when_shorter: float) -> None:
    data = recorded("GPT-4", strategy)
    verdicts = np.concatenate([data["verdict first"], data["verdict swapped"]])
    made = length_bias(
        verdicts, np.tile(length_differences(), 2), np.tile(np.arange(419), 2), gold=np.tile(data["label"], 2),
        bootstrap=HOW,
    )  # fmt: skip
    assert made.accuracy_gold_longer is not None and made.accuracy_gold_shorter is not None
    assert 100 * made.accuracy_gold_longer.value == pytest.approx(when_longer, abs=1.5)
    assert 100 * made.accuracy_gold_shorter.value == pytest.approx(when_shorter, abs=1.5)
