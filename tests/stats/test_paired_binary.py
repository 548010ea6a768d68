"""McNemar's test against statsmodels, the closed form and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.stats import mcnemar, sign_flip


def table(only_a: int, only_b: int, both: int = 7, neither: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Paired outcomes with these counts, in mixed order."""
    rows = [(1, 1)] * both + [(1, 0)] * only_a + [(0, 1)] * only_b + [(0, 0)] * neither
    mixed = np.random.default_rng(0).permutation(np.array(rows, dtype=float))
    return mixed[:, 0], mixed[:, 1]


@pytest.mark.parametrize("apart", [(0, 0), (0, 1), (4, 4), (1, 9), (12, 3), (40, 61), (300, 350)])
def test_counts_and_exact_p_match_statsmodels(apart: tuple[int, int]) -> None:
    peer = pytest.importorskip("statsmodels.stats.contingency_tables").mcnemar
    made = mcnemar(*table(*apart))
    assert (made.both, made.only_a, made.only_b, made.neither, made.missing) == (7, *apart, 3, 0)
    assert made.p == pytest.approx(peer([[7, apart[0]], [apart[1], 3]], exact=True).pvalue)


def test_published_example() -> None:
    """Fagerland et al. (2013), table 1: 1 and 7 discordant pairs give exact p 0.0703 and mid-p 0.0391."""
    made = mcnemar(*table(1, 7, both=1, neither=12))
    assert (round(made.p, 4), round(made.mid_p, 4)) == (0.0703, 0.0391)


@pytest.mark.parametrize("apart", [(1, 4), (3, 3), (0, 6), (10, 17)])
def test_mid_p_is_exact_less_half_of_what_was_seen(apart: tuple[int, int]) -> None:
    made, n = mcnemar(*table(*apart)), sum(apart)
    seen = math.comb(n, min(apart)) / 2**n
    assert made.mid_p == pytest.approx(1 - seen / 2 if apart[0] == apart[1] else made.p - seen)


def test_it_is_the_sign_flip_test_of_the_differences() -> None:
    a, b = table(2, 9)
    assert mcnemar(a, b).p == pytest.approx(sign_flip(a - b))


def test_the_level_holds_and_mid_p_is_nearer() -> None:
    """Equal sides, 30 prompts: the exact test rejects at most 5 %, mid-p more often and still at most 5.5 %."""
    drawn = np.random.default_rng(0).integers(0, 2, size=(4000, 2, 30)).astype(float)
    found = [mcnemar(a, b) for a, b in drawn]
    exact, middle = (np.mean([getattr(m, name) <= 0.05 for m in found]) for name in ("p", "mid_p"))
    assert exact < middle <= 0.055
    assert exact <= 0.05


def test_missing_values_are_counted_and_change_no_count() -> None:
    a, b = table(2, 5)
    more = mcnemar([*a, np.nan, 1.0], [*b, 1.0, np.nan])
    assert more.missing == 2
    assert more.p == mcnemar(a, b).p and more.both == 7


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [([0.5, 1], [0, 1], "0, 1 or NaN"), ([1], [1, 0], "length"), ([np.nan], [1], "no prompt"), ([], [], "no prompt")],
)
def test_what_it_refuses(a: list[float], b: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        mcnemar(a, b)
