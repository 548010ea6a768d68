"""Fractions of a study's points, against published designs and what theory says of them."""

import itertools

import numpy as np
import pytest

from pippin.compare.design import aliases, check, point_of, points
from pippin.core.errors import InputError, UnknownName


def two_level(k):
    return {f"x{n}": ["low", "high"] for n in range(k)}


def contrast(chosen, axes, names):
    """The product of the axes' -1/1 columns over the points, [N]."""
    return np.prod([[1 if p[a] == axes[a][1] else -1 for p in chosen] for a in names], axis=0)


def test_full_is_every_combination_in_the_order_of_the_file():
    axes = {"method": ["dpo", "ppo"], "data": ["mine", "hh", "both"]}
    whole = points(axes, "full")
    assert [tuple(p.values()) for p in whole] == list(itertools.product(["dpo", "ppo"], ["mine", "hh", "both"]))
    assert aliases(axes, "full")["mixed"] == []


def test_one_factor_is_the_baseline_and_each_single_change():
    axes = {"method": ["dpo", "ppo"], "data": ["mine", "hh", "both"], "lr": ["1e-4", "1e-3"]}
    base = {"method": "ppo", "data": "hh"}
    found = points(axes, "one_factor", base)
    assert len(found) == 1 + 1 + 2 + 1
    whole = {"method": "ppo", "data": "hh", "lr": "1e-4"}
    assert whole in found and all(sum(p[a] != whole[a] for a in axes) <= 1 for p in found)
    said = aliases(axes, "one_factor", base)["sentence"]
    assert "5 of 12" in said and "method ppo, data hh, lr 1e-4" in said


# Resolution and word-length pattern A3, A4 ... of the least aberration: Fries and Hunter 1980, and table 8A.2 of Box,
# Hunter, Hunter
@pytest.mark.parametrize(
    ("k", "size", "resolution"),
    [
        (3, 4, 3),
        (4, 8, 4),
        (5, 16, 5),
        (5, 8, 3),
        (6, 32, 6),
        (6, 16, 4),
        (7, 32, 4),
        (7, 16, 4),
        (7, 8, 3),
        (8, 16, 4),
    ],
)
def test_a_regular_fraction_has_the_published_resolution_and_is_orthogonal(k, size, resolution):
    axes = two_level(k)
    base = {"x0": "high", "x2": "high"}
    found = points(axes, {"fraction": size}, base)
    assert len(found) == size and aliases(axes, {"fraction": size}, base)["resolution"] == resolution
    assert {a: base.get(a, "low") for a in axes} in found
    for n in range(1, resolution):  # any resolution - 1 axes run through all their combinations equally often
        for names in itertools.combinations(axes, n):
            assert contrast(found, axes, names).sum() == 0


def test_of_equal_resolutions_the_one_with_fewest_short_words():
    # 2^(7-2): I = ABCDF = ABDEG = CEFG has one word of four letters (Fries and Hunter 1980), others two or three
    mixed = aliases(two_level(7), {"fraction": 32})["mixed"]
    assert all(" x " in m["effect"] for m in mixed)
    assert sum(1 + len(m["with"]) for m in mixed) == 6  # one word of four: three pairs of interactions


def test_what_is_mixed_is_what_the_columns_say():
    axes = two_level(5)
    said = aliases(axes, {"fraction": 8})
    found = points(axes, {"fraction": 8})
    assert said["resolution"] == 3 and said["design"] == "regular" and "resolution III" in said["sentence"]
    for m in said["mixed"]:
        mine = contrast(found, axes, m["effect"].split(" x "))
        for other in m["with"]:
            assert abs(contrast(found, axes, other["effect"].split(" x ")) @ mine) == 8
    told = {m["effect"]: {w["effect"] for w in m["with"]} for m in said["mixed"]}
    for a in axes:
        for pair in itertools.combinations([b for b in axes if b != a], 2):
            same = abs(contrast(found, axes, pair) @ contrast(found, axes, [a])) == 8
            assert same == (" x ".join(pair) in told.get(a, set()))


def test_a_latin_square_is_found_where_it_is_best():
    # three axes of three values in nine points: the D-optimal design for main effects is orthogonal
    axes = {"a": list("123"), "b": list("123"), "c": list("123")}
    found = points(axes, {"fraction": 9, "seed": 1}, {"b": "2"})
    for x, y in itertools.combinations(axes, 2):
        assert len({(p[x], p[y]) for p in found}) == 9
    assert {"a": "1", "b": "2", "c": "1"} in found
    said = aliases(axes, {"fraction": 9, "seed": 1}, {"b": "2"})
    assert said["design"] == "optimal" and said["resolution"] is None
    shares = {(m["effect"], w["effect"]): w["share"] for m in said["mixed"] for w in m["with"]}
    assert shares["a", "b x c"] > 0.5 and ("a", "a x b") not in shares


def test_a_fraction_of_unequal_axes_is_balanced_and_told_by_its_seed():
    axes = {"method": ["dpo", "ppo", "kto", "rloo"], "data": ["mine", "hh"], "size": ["s", "m", "l"]}
    design = {"fraction": 12, "seed": 3}
    found = points(axes, design)
    assert found == points(axes, design) and len({tuple(p.values()) for p in found}) == 12
    for axis, labels in axes.items():
        counts = [sum(p[axis] == label for p in found) for label in labels]
        assert max(counts) - min(counts) <= 1, (axis, counts)


def test_a_baseline_is_an_arm_or_a_value_or_no_point():
    axes = {"method": ["dpo", "ppo"], "data": ["mine", "hh"]}
    assert point_of(axes, "ppo/hh") == {"method": "ppo", "data": "hh"}
    assert point_of(axes, "hh") == {"data": "hh"} and point_of(axes, "sft") == {}


def test_designs_that_cannot_be_are_refused():
    axes = {"method": ["dpo", "ppo", "kto"], "data": ["mine", "hh"]}
    with pytest.raises(InputError, match=r"fraction: .*found 3.*4 to 6"):
        points(axes, {"fraction": 3})
    with pytest.raises(UnknownName, match="fractoin"):
        check({"fractoin": 4}, axes)
    with pytest.raises(InputError, match="no such design"):
        check("half", axes)
    with pytest.raises(UnknownName, match="dop"):
        points(axes, "one_factor", {"method": "dop"})
