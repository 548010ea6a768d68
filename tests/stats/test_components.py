"""Variance components and what they plan: closed forms, unbiasedness on unbalanced data, and power by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.stats import (
    Arm,
    Bootstrap,
    detectable_difference,
    difference,
    minimum_detectable_effect,
    seed_deviation,
    seeds_needed,
    variance_components,
)

SD = {"prompt": 1.0, "seed": 0.5, "prompt x seed": 0.7, "sample": 0.9, "judge": 0.6}
FAST = Bootstrap(resamples=100, interval="t")


def _draw(rng: np.random.Generator, prompts: int, seeds: int, samples: int = 1, verdicts: int = 1, sd=SD):
    """Values of shape (prompts, seeds, samples, verdicts) with these deviations, and the ids of each, flat."""
    shape = (prompts, seeds, samples, verdicts)
    y = np.zeros(shape)
    for name, axes in (("prompt", (0,)), ("seed", (1,)), ("prompt x seed", (0, 1)), ("sample", (0, 1, 2)),
                       ("judge", (0, 1, 2, 3))):  # fmt: skip
        y = y + sd[name] * rng.normal(size=[n if k in axes else 1 for k, n in enumerate(shape)])
    ids = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return y.ravel(), *(i.ravel() for i in ids[:3])


def test_balanced_components_are_the_mean_squares() -> None:
    y, prompt, seed, sample = _draw(np.random.default_rng(0), 12, 6, 3)
    found = variance_components(y, prompt, seed, sample)
    table = y.reshape(12, 6, 3)
    cell = table.mean(axis=2)
    rest = cell - cell.mean(axis=0) - cell.mean(axis=1, keepdims=True) + cell.mean()
    within = table.var(axis=2, ddof=1).mean()
    both = 3 * (rest**2).sum() / (11 * 5)
    squares = {"prompt": 18 * cell.mean(axis=1).var(ddof=1), "seed": 36 * cell.mean(axis=0).var(ddof=1)}
    expected = {"prompt": (squares["prompt"] - both) / 18, "seed": (squares["seed"] - both) / 36,
                "prompt x seed": (both - within) / 3, "sample": within}  # fmt: skip
    assert found.variance == pytest.approx(expected)
    assert "judge" not in found.variance  # one verdict a response: part of the sampling
    mean = sum(expected[f] / n for f, n in (("prompt", 12), ("seed", 6), ("prompt x seed", 72), ("sample", 216)))
    assert found.sd_of_mean == pytest.approx(np.sqrt(mean))
    assert found.shares_of_mean["seed"] == pytest.approx(expected["seed"] / 6 / mean)
    assert found.shares["seed"] == pytest.approx(expected["seed"] / sum(expected.values()))


def test_unbalanced_components_are_unbiased() -> None:
    """A third of the rows is gone at random; over 60 draws the components come out on average."""
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        y, prompt, seed, sample = _draw(rng, 30, 8, 2, 2)
        y[rng.random(len(y)) < 1 / 3] = np.nan
        found.append(variance_components(y, prompt, seed, sample))
    for name, sd in SD.items():
        values = [f.variance[name] for f in found]
        assert np.mean(values) == pytest.approx(sd**2, abs=4 * np.std(values) / np.sqrt(60)), name
    assert 250 < found[0].missing < 400 and found[0].n + found[0].missing == len(y)


def test_what_cannot_be_told_apart_is_absent() -> None:
    y, prompt, seed, _ = _draw(np.random.default_rng(2), 10, 5)
    assert list(variance_components(y, prompt, seed).variance) == ["prompt", "seed", "prompt x seed"]
    one = seed == 0
    assert list(variance_components(y[one], prompt[one], seed[one]).variance) == ["prompt"]
    assert variance_components(0 * y, prompt, seed).shares == {"prompt": 0.0, "seed": 0.0, "prompt x seed": 0.0}


def test_rows_may_come_in_any_order() -> None:
    y, prompt, seed, sample = _draw(np.random.default_rng(3), 10, 5, 2)
    order = np.random.default_rng(0).permutation(len(y))
    a, b = (variance_components(y[o], prompt[o], seed[o], sample[o]) for o in (np.arange(len(y)), order))
    assert a.variance == pytest.approx(b.variance)


def test_the_deviation_of_seeds_is_covered() -> None:
    rng, held = np.random.default_rng(4), 0
    for _ in range(200):
        y, prompt, seed, _ = _draw(rng, 30, 6)
        found = seed_deviation(Arm(y, prompt, seed))
        held += found.low <= SD["seed"] <= found.high
    assert 0.90 <= held / 200 <= 0.99
    assert found.scope == "the method" and found.low <= found.value <= found.high
    nothing, prompt, seed, _ = _draw(rng, 30, 6, sd={**SD, "seed": 0.0})
    assert seed_deviation(Arm(nothing, prompt, seed)).low == 0.0


def test_of_these_runs_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 50))
    expected = minimum_detectable_effect(float((a - b).std(ddof=1)), 50)
    arms = (Arm(a, np.arange(50)), Arm(b, np.arange(50)))
    assert detectable_difference(arms) == pytest.approx(expected)
    assert detectable_difference(arms, prompts=200) == pytest.approx(
        minimum_detectable_effect(float((a - b).std(ddof=1)), 200)
    )


@pytest.mark.parametrize("together", [False, True])
def test_more_of_what_matters_finds_smaller_differences(together: bool) -> None:
    rng = np.random.default_rng(6)
    arms = [Arm(*_draw(rng, 40, 6)[:3]) for _ in range(2)]
    now = detectable_difference(arms, together=together)
    more_seeds = detectable_difference(arms, together=together, seeds=12)
    assert now > more_seeds > detectable_difference(arms, together=together, seeds=12, prompts=400)
    needed = seeds_needed(more_seeds, arms, together=together)
    assert needed == 12
    assert seeds_needed(now / 100, arms, together=together) is None  # the prompts' part stays


def power(runs: int, by_seed: float, gain: float, together: bool, seed: int = 0) -> tuple[float, float]:
    """(share found without a difference, share found at the detectable size planned from a large pilot).

    Arms share hard and easy prompts; each prompt gains otherwise from the method; drawn together, both arms of a seed
    share half of the variance between seeds.
    """
    rng = np.random.default_rng(seed)
    sd = {**SD, "sample": 0.0, "judge": 0.0, "seed": by_seed}

    def arms(prompts: int, seeds: int, effect: float) -> list[Arm]:
        hard, own = 2 * rng.normal(size=(prompts, 1)), gain * rng.normal(size=(prompts, 1))
        shared = by_seed * rng.normal(size=(1, seeds)) * together
        out = []
        for plus in (effect + own, 0 * own):
            y, prompt, seed_ids, _ = _draw(rng, prompts, seeds, sd=sd)
            out.append(Arm((y.reshape(prompts, seeds) + hard + plus + shared).ravel(), prompt, seed_ids))
        return out

    sizes = [detectable_difference(arms(60, 60, 0.0), together=together, prompts=60, seeds=5) for _ in range(5)]
    shares = [
        np.mean([difference(*arms(60, 5, effect), together=together, bootstrap=FAST).p < 0.05 for _ in range(runs)])
        for effect in (0.0, float(np.mean(sizes)))
    ]
    return float(shares[0]), float(shares[1])


@pytest.mark.parametrize("together", [False, True])
def test_the_null_and_a_planted_effect_fast(together: bool) -> None:
    null, found = power(150, 0.3, 0.3, together)
    assert null <= 0.10 and 0.68 <= found <= 0.90


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("by_seed", "gain"), [(0.0, 0.0), (0.1, 0.3), (0.3, 0.0), (0.3, 0.7), (1.0, 0.3)])
def test_the_null_and_a_planted_effect(by_seed: float, gain: float, together: bool) -> None:
    null, found = power(2000, by_seed, gain, together)
    print(f"\nseeds {by_seed} prompts {gain} together {together}: null {null:.4f} found {found:.4f}")
    assert 0.02 <= null <= 0.08
    assert 0.74 <= found <= 0.86


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: variance_components([np.nan], ["a"]), "no value"),
        (lambda: variance_components([1.0, 2.0], ["a", "a"]), "one prompt"),
        (lambda: seed_deviation(Arm([1.0, 2.0], ["a", "b"], [0, 0])), "too few seeds"),
        (lambda: detectable_difference((Arm([1.0, 1.0], ["a", "b"]), Arm([0.0, 0.0], ["a", "b"]))), "nothing varies"),
        (lambda: detectable_difference((Arm([1.0, 2.0], ["a", "b"]), Arm([0.0, 0.0], ["a", "b"])), prompts=1), "small"),
        (lambda: seeds_needed(0.1, (Arm([1.0, 2.0], ["a", "b"]), Arm([0.0, 0.0], ["a", "b"]))), "too few seeds"),
    ],
)
def test_what_cannot_be_told_is_refused(call, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()
