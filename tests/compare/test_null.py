"""The null, on stored runs: many trainings of one cheap method, split at random into two "methods" that are the same.

A claim about the method must then be wrong in one case of twenty; a claim about these runs is wrong of the method far
oftener, which is why the two stand apart. The runs are trained once and kept under the home folder.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pippin import stats
from pippin.compare import looks, values
from pippin.compare.plan import plan
from pippin.compare.pool import run_cells
from pippin.compare.study import read_study
from pippin.compare.values import METHOD, RUNS, Values
from pippin.core.run import home
from pippin.core.store import Store
from pippin.stats.contrast import error_parts

from .studies import write

pytestmark = pytest.mark.slow

SEEDS = 48
SPLITS = 400
ONE = {
    "question": "Does a method differ from itself?",
    "base": "world/base",
    "prompts": {"train": "world/train?n=12", "test": "world/heldout?n=100&seed=11"},
    "axes": {"method": {"sft": {"method": "sft"}}},
    "settings": {
        "sft": {"data": "world/demonstrations?n=320", "learning_rate": 0.002, "per_device_train_batch_size": 16,
                "num_train_epochs": 1},
    },
    "judge": "gold",
    "seeds": list(range(SEEDS)),
    "baseline": "sft",
    "evaluation": {"n": 2, "max_tokens": 24, "greedy": False},
}  # fmt: skip
WAY = stats.Bootstrap(resamples=1000)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Values]:
    """One run a seed, two minutes on two idle cores; then they are read from the store."""
    place = home() / "null" / "store.db"
    place.parent.mkdir(parents=True, exist_ok=True)
    planned = plan(read_study(write(tmp_path_factory.mktemp("null"), ONE)))
    run_cells(planned.cells, place, workers=2)
    with Store(place) as store:
        said = values.read(planned, store)
    return [said["sft", seed, "temperature 1"] for seed in range(SEEDS)]


def arm(runs: list[Values], chosen) -> Values:
    return values.joined([runs[k] for k in chosen])


def planted(side: Values, share: float, rng: np.random.Generator) -> Values:
    """The arm with a true effect: each response is replaced by a right one with chance ``share``."""
    return replace(side, values=np.where(rng.random(len(side.values)) < share, 1.0, side.values))


def splits(size: int, count: int, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        order = rng.permutation(SEEDS)
        yield order[:size], order[size : 2 * size], rng


def detectable(runs: list[Values], seeds: int) -> tuple[float, float]:
    """(true difference found four times in five with as many seeds an arm, share of right answers that plants it)."""
    everything, share = arm(runs, range(SEEDS)), 0.05
    for _ in range(6):  # what is planted also varies
        sides = (planted(everything, share, np.random.default_rng(1)), everything)
        size = stats.detectable_difference([side.arm(METHOD) for side in sides], seeds=seeds)
        share = size / (1 - float(everything.values.mean()))
    return size, share


def test_claims_about_the_method_are_wrong_in_one_case_of_twenty(runs):
    wrong = {RUNS: 0, METHOD: 0}
    for a, b, _ in splits(5, SPLITS, 0):
        for scope in wrong:
            found = values.contrast((arm(runs, a), arm(runs, b)), (1.0, -1.0), scope, WAY)
            assert found is not None and found.scope == scope and found.p is not None
            wrong[scope] += found.p < 0.05
    rates = {scope: count / SPLITS for scope, count in wrong.items()}
    print(f"\n{SPLITS} splits of 5 against 5 of {SEEDS} runs: {rates}")
    assert 0.02 <= rates[METHOD] <= 0.08
    assert rates[RUNS] > 0.15


def test_a_planted_effect_of_the_detectable_size_is_found_four_times_in_five(runs):
    size, share = detectable(runs, 5)
    hits = 0
    for a, b, rng in splits(5, SPLITS, 1):
        found = values.contrast((planted(arm(runs, a), share, rng), arm(runs, b)), (1.0, -1.0), METHOD, WAY)
        hits += found is not None and found.p is not None and found.p < 0.05
    print(f"\neffect {size:.4f} ({share:.3f} of answers made right): found in {hits / SPLITS:.3f}")
    assert 0.74 <= hits / SPLITS <= 0.86


def _look(a: Values, b: Values) -> dict:
    arms = [side.arm(METHOD) for side in (a, b)]
    spread = error_parts(arms, (1.0, -1.0))[0].spread
    delta = stats.difference(*arms, bootstrap=stats.Bootstrap(resamples=100, interval="t")).value
    return {"name": "a", "baseline": "b", "delta": delta, "error": spread.error, "freedom": spread.freedom}


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_stopping_early_keeps_the_error_rate(runs, spending):
    wanted, count = looks.Looks("seeds", (5, 8, 12), spending), 800
    wrong = naive = 0
    for a, b, _ in splits(12, count, 2):
        taken = [[_look(arm(runs, a[:n]), arm(runs, b[:n]))] for n in wanted.at]
        found = [looks.judged(wanted, taken[: n + 1])[0] for n in range(len(taken))]
        wrong += any(row["decided"] for row in found)
        naive += any(row["p"] < 0.05 for row in found)
    print(f"\n{spending}: wrong in {wrong / count:.4f}; without bounds {naive / count:.4f}")
    assert 0.03 <= wrong / count <= 0.07
    assert naive > wrong


def test_stopping_early_saves_runs_where_the_answer_is_clear(runs):
    wanted, count = looks.Looks("seeds", (5, 8, 12)), 200
    size, share = detectable(runs, 5)  # a difference that five seeds find four times in five
    used, hits = [], 0
    for a, b, rng in splits(12, count, 3):
        side, taken = planted(arm(runs, a), share, rng), []
        for n in wanted.at:
            taken.append([_look(side.only(np.isin(side.seeds, a[:n])), arm(runs, b[:n]))])
            decided = looks.judged(wanted, taken)[0]["decided"]
            if decided:
                break
        used.append(n)
        hits += decided == "better"
    print(f"\neffect {size:.4f}: found in {hits / count:.3f} after {np.mean(used):.1f} of 12 seeds on average")
    assert hits / count > 0.9 and np.mean(used) < 10
