"""Votes of five LLM judges and of people on 80 questions give the figures published with them.

"Human" is the sign of the mean of a pair's human votes (1 the first wins, -1 the second, 0 a tie); people saw each pair
in one order, so it is doubled: the vote for the other order is its negative.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pippin.stats import Bootstrap, base_rates, fleiss_kappa, human_ceiling, peer_rank, raw_agreement, win_rate

ROOT = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data" / "prd"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="the PRD votes are not here (PIPPIN_SHARED)")
FAST = Bootstrap(resamples=200)
MODELS = ("gpt-4", "claude", "vicuna", "gpt-3.5", "bard")
PAIRS = [(q, a, b) for q in range(1, 81) for a in MODELS for b in MODELS if a != b]
QUESTIONS = np.array([q for q, _, _ in PAIRS])
VERDICT = {"A": 1.0, "B": -1.0, "tie": 0.0}


@cache
def expected() -> dict[str, Any]:
    return json.loads((ROOT / "expected.json").read_text(encoding="utf-8"))


@cache
def votes() -> dict[tuple[str, int, str, str], list[float]]:
    found = defaultdict(list)
    with gzip.open(ROOT / "votes.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["judge"], int(row["question_id"]), row["model_a"], row["model_b"])
            found[key].append(VERDICT[row["vote"]])
    return dict(found)


def judge(name: str) -> np.ndarray:
    """One verdict for each ordered pair, shape (1600,)."""
    return np.array([votes()[name, *pair][0] for pair in PAIRS])


def human(pair: tuple[int, str, str]) -> float:
    question, a, b = pair
    said = votes().get(("human", question, a, b))
    return float(np.sign(np.mean(said))) if said else -human((question, b, a))


def people() -> np.ndarray:
    return np.array([human(pair) for pair in PAIRS])


def wins(verdicts: np.ndarray, model: str) -> float:
    """Win rate over the pairs that show the model in either place."""
    first, second = (np.array([pair[place] == model for pair in PAIRS]) for place in (1, 2))
    return win_rate(np.concatenate([verdicts[first], -verdicts[second]]), bootstrap=FAST).value


@cache
def table() -> np.ndarray:
    """Win rate that each judge, a row, gives each model, a column."""
    return np.array([[wins(judge(name), model) for model in MODELS] for name in MODELS])


def test_win_rates() -> None:
    published = expected()["published_notebook"]["winrate"]
    for name in ("gpt-4", "gpt-3.5", "human"):
        said = people() if name == "human" else judge(name)
        assert [wins(said, m) for m in MODELS] == pytest.approx([published[name][m] for m in MODELS], abs=1e-12)
    assert table().mean(axis=0).tolist() == pytest.approx([published["all"][m] for m in MODELS], abs=1e-12)


def test_peer_rank() -> None:
    published = expected()["published_notebook"]["peer_rank_5_iterations_minmax"]
    made = peer_rank(table(), iterations=5)
    assert made.scores == pytest.approx([published["scores"][m] for m in MODELS], abs=1e-9)
    assert made.weights == pytest.approx([published["weights"][m] for m in MODELS], abs=1e-9)


def test_kappa_and_accuracy_against_people() -> None:
    name = "fleiss_kappa_and_accuracy_vs_doubled_human"
    published = {**expected()["published_notebook"][name], **expected()["ours"][name]}
    said = {model: judge(model) for model in MODELS}
    weights = peer_rank(table(), iterations=5).weights
    said["peer_rank_winrate_5"] = np.sign(sum(w * judge(m) for w, m in zip(weights, MODELS, strict=True)))
    assert set(said) == set(published)
    for label, verdicts in said.items():
        kappa, accuracy = published[label]
        made = fleiss_kappa(np.stack([verdicts, people()], axis=1), QUESTIONS, bootstrap=FAST)
        assert made.value == pytest.approx(kappa, abs=1e-12)
        assert (made.n, made.clusters) == (1600, 80)
        share = raw_agreement(verdicts, people(), QUESTIONS, bootstrap=FAST)
        assert share.value == pytest.approx(accuracy, abs=1e-12)


def test_swap_consistency_and_rates_of_first_second_and_tie() -> None:
    published = expected()["ours"]["swap_consistent_and_first_second_tie_rates"]
    place = {pair: i for i, pair in enumerate(PAIRS)}
    swapped = np.array([place[q, b, a] for q, a, b in PAIRS])
    for model in MODELS:
        said = judge(model)
        consistent = raw_agreement(said, -said[swapped], QUESTIONS, bootstrap=FAST).value
        rates = base_rates(said, QUESTIONS, bootstrap=FAST)
        made = [consistent, rates[1.0].value, rates[-1.0].value, rates[0.0].value]
        assert made == pytest.approx(published[model], abs=1e-12)


def test_people_among_themselves() -> None:
    published = expected()["ours"]["human_items_with_3_votes"]
    items = [(key[1], said) for key, said in votes().items() if key[0] == "human" and len(said) == 3]
    table_U_R, ids = np.array([said for _, said in items]), [question for question, _ in items]
    kappa = fleiss_kappa(table_U_R, ids, bootstrap=FAST)
    assert kappa.n == published["n"]
    assert kappa.value == pytest.approx(published["fleiss_kappa"], abs=1e-12)
    # With three votes, each against the two others, the ceiling is the mean pairwise agreement.
    assert human_ceiling(table_U_R, ids, bootstrap=FAST).value == pytest.approx(published["mean_pairwise_agreement"])
