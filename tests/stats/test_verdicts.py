"""The verdict model: scipy's optimiser on the likelihood, closed forms, and data that cannot tell a coefficient."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats import VerdictModel, verdict_model

NAN = math.nan


def drawn(rows: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    gold = rng.choice([-1.0, 1.0], size=rows)
    length = rng.normal(size=rows) + 0.4 * gold
    lists = rng.integers(-2, 3, size=rows).astype(float)
    first = (rng.random(rows) < special.expit(0.5 + gold + 0.4 * length - 0.2 * lists)) * 1.0
    first[rng.random(rows) < 0.1] = 0.5
    return first, {"gold": gold, "length": length, "lists": lists}


def found(model: VerdictModel, name: str) -> Estimate:
    made = model.coefficients[name]
    assert made is not None
    return made


def error(made: Estimate) -> float:
    """Standard error that a wide-sample interval implies."""
    return (made.high - made.low) / 2 / 1.96


def test_the_coefficients_maximise_the_likelihood_ties_as_halves() -> None:
    first, features = drawn(500, 0)
    X = np.stack([np.ones(500), *features.values()], axis=1)

    def loss(beta: np.ndarray) -> float:
        return float(np.logaddexp(0, X @ beta).sum() - first @ (X @ beta))

    def slope(beta: np.ndarray) -> np.ndarray:
        return X.T @ (special.expit(X @ beta) - first)

    best = optimize.minimize(loss, np.zeros(4), jac=slope, method="BFGS", options={"gtol": 1e-9}).x
    model = verdict_model(first, features)
    assert list(model.coefficients) == ["shown first", "gold", "length", "lists"]
    assert [found(model, name).value for name in model.coefficients] == pytest.approx(best.tolist(), abs=1e-6)
    assert model.said == ()
    assert (model.n, model.clusters, model.missing, model.ties) == (500, 500, 0, int((first == 0.5).sum()))


def test_one_binary_feature_has_a_closed_form_and_so_has_its_error() -> None:
    """Two shares: coefficients are log-odds and their difference; errors 1/(n p q) of each, times N / (N - 2)."""
    x = np.repeat([0.0, 1.0], [400, 300])
    first = np.concatenate([np.repeat([1.0, 0.0], [160, 240]), np.repeat([1.0, 0.0], [210, 90])])
    model = verdict_model(first, {"own answer": x})
    low, high = special.logit(0.4), special.logit(0.7)
    intercept, slope = found(model, "shown first"), found(model, "own answer")
    assert intercept.value == pytest.approx(low)
    assert slope.value == pytest.approx(high - low)
    small = 700 / 698
    assert error(intercept) == pytest.approx(math.sqrt(small / (400 * 0.24)), rel=2e-3)
    assert error(slope) == pytest.approx(math.sqrt(small * (1 / (400 * 0.24) + 1 / (300 * 0.21))), rel=2e-3)


def test_a_row_said_three_times_is_one_cluster() -> None:
    first, features = drawn(400, 1)
    once = found(verdict_model(first, features), "gold")
    ids = np.tile(np.arange(400), 3)
    thrice = found(verdict_model(np.tile(first, 3), {k: np.tile(v, 3) for k, v in features.items()}, ids), "gold")
    naive = found(verdict_model(np.tile(first, 3), {k: np.tile(v, 3) for k, v in features.items()}), "gold")
    assert thrice.value == pytest.approx(once.value)
    assert error(thrice) == pytest.approx(error(once), rel=0.01)
    assert error(naive) == pytest.approx(error(once) / math.sqrt(3), rel=0.01)
    assert (thrice.n, thrice.clusters) == (1200, 400)


def test_scale_and_order_of_rows_do_not_matter() -> None:
    first, features = drawn(300, 2)
    model = verdict_model(first, features, np.arange(300) // 2)
    shuffle = np.random.default_rng(0).permutation(300)
    moved = verdict_model(first[shuffle], {k: v[shuffle] for k, v in features.items()}, shuffle // 2)
    assert moved == model
    characters = verdict_model(first, {**features, "length": features["length"] * 1e4}, np.arange(300) // 2)
    assert found(characters, "length").value * 1e4 == pytest.approx(found(model, "length").value)
    assert found(characters, "length").p == pytest.approx(found(model, "length").p)


def test_incomplete_rows_are_counted() -> None:
    first, features = drawn(300, 3)
    first[:7], features["length"][5:20] = NAN, NAN
    made = found(verdict_model(first, features), "gold")
    assert (made.n, made.missing) == (280, 20)


def test_constant_and_collinear_columns_are_said() -> None:
    first, features = drawn(300, 4)
    plain = verdict_model(first, features)
    more = {
        **features,
        "bold": np.zeros(300),
        "tone": np.full(300, 2.0),
        "words": 3 * features["length"] - features["gold"] + 1,
    }
    model = verdict_model(first, more)
    assert [name for name, made in model.coefficients.items() if made is None] == ["bold", "tone", "words"]
    assert model.said == (
        "bold: the same in every row, so it has no coefficient",
        "tone: the same in every row, so it has no coefficient",
        "words: follows from shown first, gold, length, whose coefficients speak for it too",
    )
    assert found(model, "length").value == pytest.approx(found(plain, "length").value)


def test_a_judge_that_always_prefers_itself_is_said_and_the_rest_still_told() -> None:
    first, features = drawn(400, 5)
    own = np.where(np.arange(400) % 4 == 0, np.where(np.arange(400) % 8 == 0, 1.0, -1.0), 0.0)
    first = np.where(own != 0, (own + 1) / 2, first)
    model = verdict_model(first, {**features, "own answer": own})
    rest = own == 0
    alone = verdict_model(first[rest], {k: v[rest] for k, v in features.items()})
    assert model.coefficients["own answer"] is None
    assert model.said == ("own answer: no finite estimate (separation), 100 of 400 verdicts follow without error",)
    for name in ("shown first", "gold", "length", "lists"):
        assert found(model, name).value == pytest.approx(found(alone, name).value, abs=1e-6)
    assert found(model, "gold").n == 300


@pytest.mark.parametrize("follows", ["shown first", "gold"])
def test_complete_separation_tells_nothing(follows: str) -> None:
    first, features = drawn(200, 6)
    first = np.ones(200) if follows == "shown first" else (features["gold"] + 1) / 2
    model = verdict_model(first, features)
    assert set(model.coefficients.values()) == {None}
    assert all("200 of 200 verdicts follow" in line for line in model.said)


def test_large_but_finite_is_no_separation() -> None:
    rng = np.random.default_rng(7)
    gold = rng.choice([-1.0, 1.0], size=3000)
    length = rng.normal(size=3000)
    first = (rng.random(3000) < special.expit(4 * gold + 5 * length)) * 1.0
    model = verdict_model(first, {"gold": gold, "length": length})
    assert model.said == ()
    assert found(model, "length").low < 5 < found(model, "length").high


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="not a verdict"):
        verdict_model([-1, 1], {})
    with pytest.raises(InputError, match="name of the intercept"):
        verdict_model([0, 1], {"shown first": [1, 1]})
    with pytest.raises(InputError, match="one cluster"):
        verdict_model([0, 1], {}, ["a", "a"])
    with pytest.raises(InputError, match="no complete row"):
        verdict_model([NAN], {})
    with pytest.raises(InputError, match="differ in length"):
        verdict_model([0, 1], {"gold": [1]})
    few = verdict_model([0, 1, 1, 0, 1, 0], {"a": [1, 2, 3, 4, 6, 5]}, [1, 1, 1, 2, 2, 2])
    assert few.said == ("2 prompts for 2 coefficients: the intervals are too narrow",)
