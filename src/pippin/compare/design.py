"""Which points of the axes are run: all, one change at a time, or a fraction; and what a fraction cannot tell apart.

* ``full``: every combination.
* ``one_factor``: the baseline point and each single change of it.
* ``{fraction: N, seed: K}``: N combinations, the baseline point among them. Where all axes have two values and N is a
  power of two it is the regular fraction of the highest resolution, and of least aberration among those; else N points
  chosen by exchange so that the main effects are estimated best (D-optimal), from several seeded starts.

Source: Box, Hunter, Hunter, "Statistics for experimenters" (2005), chapter 6 (regular fractions, resolution); Fries and
Hunter 1980 (least aberration); Fedorov, "Theory of optimal experiments" (1972), chapter 3 (exchange).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import digest

Json = dict[str, Any]
Point = dict[str, str]
Axes = Mapping[str, Sequence[str]]

STARTS = 20  # of the exchange
SEARCHED = 20_000  # sets of generators that are tried one by one; of more, so many are drawn
LARGEST = 5_000  # combinations that an exchange chooses from
SEEN = 0.05  # of an effect: a smaller share of another in it is not told


def points(axes: Axes, design: Any = "full", baseline: Mapping[str, str] | None = None) -> list[Point]:
    """The points that a design runs, each ``axis -> label``, in the order of the full product.

    Args:
        axes: axis -> its labels, two or more or one.
        design: as in the study file.
        baseline: a label of any of the axes; an axis that is not named stands at its first.

    Raises:
        InputError, UnknownName: the design says nothing, or has too few or too many points.
    """
    whole = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    size, seed = _read(axes, design, len(whole))
    if size == len(whole):
        return whole
    base = _base(axes, baseline)
    if size is None:
        return [p for p in whole if sum(p[axis] != base[axis] for axis in axes) <= 1]
    generators = _regular(axes, size, seed)
    if generators is not None:
        return [p for p in whole if _lies_in(generators, [p[axis] != base[axis] for axis in _varied(axes)])]
    return [whole[k] for k in _exchanged(axes, whole, whole.index(base), size, seed)]


def aliases(axes: Axes, design: Any = "full", baseline: Mapping[str, str] | None = None) -> Json:
    """What a design cannot tell apart.

    Returns:
        ``design``: full, one_factor, regular or optimal; ``points``, ``of``; ``resolution``: of a regular fraction,
        else None; ``mixed``: for each main effect the interactions of two axes that stand in it and the share of each
        that does (1: all of it), with other pairs of interactions that are one in a regular fraction; ``sentence``.

    Raises:
        InputError, UnknownName: as :func:`points`.
    """
    whole = math.prod(map(len, axes.values()))
    size, seed = _read(axes, design, whole)
    varied = _varied(axes)
    made: Json = {"design": "full", "points": whole, "of": whole, "resolution": None, "mixed": [], "sentence": ""}
    if size == whole:
        return made
    chosen = points(axes, design, baseline)
    made["points"] = len(chosen)
    share = f"{len(chosen)} of {whole} combinations"
    if size is None:
        base = _base(axes, baseline)
        at = ", ".join(f"{axis} {base[axis]}" for axis in varied)
        made["design"] = "one_factor"
        made["sentence"] = (
            f"{share}, one change at a time: what a change does is known where the others stand at {at}, and whether "
            "changes add up is not known."
        )
        return made
    generators = _regular(axes, size, seed)
    if generators is not None:
        resolution = min(word.bit_count() for word in _relation(generators))
        made |= {"design": "regular", "resolution": resolution, "mixed": _regular_mixed(generators, varied)}
        made["sentence"] = f"{share}, a regular fraction of resolution {_ROMAN[resolution]}. " + _say(made)
        return made
    made |= {"design": "optimal", "mixed": _optimal_mixed(axes, chosen)}
    made["sentence"] = f"{share}, chosen so that each axis is told best by itself. " + _say(made)
    return made


def told(axes: Axes, design: Any, baseline: str) -> Json | None:
    """:func:`aliases` of a study's design and baseline by name; None where every point is run."""
    return None if design == "full" else aliases(axes, design, point_of(axes, baseline))


def point_of(axes: Axes, name: str) -> Point:
    """The point that a name stands for: that of an arm, whose name is its labels with ``/`` between, or the one value
    of an axis; empty for any other name (a stage, the base)."""
    for point in itertools.product(*axes.values()):
        if "/".join(point) == name:
            return dict(zip(axes, point, strict=True))
    return next(({axis: name} for axis, labels in axes.items() if name in labels), {})


def check(design: Any, axes: Axes, where: str = "design") -> None:
    """Refuse a design that these axes cannot have.

    Raises:
        InputError, UnknownName: with ``where``.
    """
    _read(axes, design, math.prod(map(len, axes.values())), where)


_ROMAN = ["0", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI"]


def _read(axes: Axes, design: Any, whole: int, where: str = "design") -> tuple[int | None, int]:
    """(points, None for one change at a time; seed) of a design."""
    if design == "full":
        return whole, 0
    if design == "one_factor":
        return None, 0
    if not isinstance(design, Mapping):
        raise InputError("no such design", where=where, found=design, expected="full, one_factor or {fraction: N}")
    for key in design:
        if key not in ("fraction", "seed"):
            raise UnknownName("key of a design", str(key), ("fraction", "seed"), where=where)
    size, seed = design.get("fraction"), design.get("seed", 0)
    least = 1 + sum(len(labels) - 1 for labels in axes.values())
    if not isinstance(size, int) or isinstance(size, bool) or not least <= size <= whole:
        raise InputError("a fraction that cannot tell the axes apart", where=f"{where}.fraction", found=size,
                         expected=f"{least} to {whole} points")  # fmt: skip
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError("a seed is a whole number", where=f"{where}.seed", found=seed)
    if whole > LARGEST and not _is_regular(axes, size):
        raise InputError("too many combinations to choose from", where=where, found=whole, expected=f"{LARGEST}",
                         mend="Give fewer axes or values, or two values an axis and a power of two points")  # fmt: skip
    return size, seed


def _varied(axes: Axes) -> list[str]:
    return [axis for axis, labels in axes.items() if len(labels) > 1]


def _base(axes: Axes, baseline: Mapping[str, str] | None) -> Point:
    """The baseline point, whole."""
    told = baseline or {}
    for axis, label in told.items():
        if axis not in axes or label not in axes[axis]:
            raise UnknownName(f"value of {axis}", label, axes.get(axis, ()), where="baseline")
    return {axis: told.get(axis, labels[0]) for axis, labels in axes.items()}


# Regular fractions of two-level axes. A word is a set of axes, one bit each, whose product is constant over the points.


def _is_regular(axes: Axes, size: int) -> bool:
    levels = [len(labels) for labels in axes.values() if len(labels) > 1]
    return max(levels, default=0) == 2 and size.bit_count() == 1 and size < 2 ** len(levels)


def _regular(axes: Axes, size: int, seed: int) -> tuple[int, ...] | None:
    """The generating words of the best regular fraction, or None where there is none: each axis beyond the first
    log2(size) is the product of some of those."""
    if not _is_regular(axes, size):
        return None
    k, free = len(_varied(axes)), size.bit_length() - 1
    return min(_generators(free, k - free, seed), key=lambda words: _pattern(words, k))


def _generators(free: int, count: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Sets of ``count`` generating words over ``free`` axes: all of them, or :data:`SEARCHED` drawn ones."""
    products = [word for word in range(2**free) if word.bit_count() > 1]
    if math.comb(len(products), count) <= SEARCHED:
        chosen: Iterator[Sequence[int]] = itertools.combinations(products, count)
    else:
        rng = np.random.default_rng(int(digest(["design", free, count, seed]), 16))
        chosen = (rng.choice(products, count, replace=False).tolist() for _ in range(SEARCHED))
    return (tuple(word | 1 << (free + n) for n, word in enumerate(words)) for words in chosen)


def _relation(generators: Sequence[int]) -> list[int]:
    """Every word that is constant: the products of all sets of generators."""
    words = [0]
    for generator in generators:
        words += [word ^ generator for word in words]
    return words[1:]


def _pattern(generators: Sequence[int], k: int) -> tuple[int, ...]:
    """How many words there are of each length, shortest first: the fewer the better (least aberration)."""
    lengths = [word.bit_count() for word in _relation(generators)]
    return tuple(lengths.count(n) for n in range(1, k + 1))


def _lies_in(generators: Sequence[int], changed: Sequence[bool]) -> bool:
    """Whether a point, as what it changes of the baseline, is in the fraction that holds the baseline."""
    point = sum(1 << n for n, is_changed in enumerate(changed) if is_changed)
    return all((point & word).bit_count() % 2 == 0 for word in generators)


def _regular_mixed(generators: Sequence[int], varied: Sequence[str]) -> list[Json]:
    """Effects of one or two axes that are the same contrast as interactions of two."""
    singles = [1 << n for n in range(len(varied))]
    pairs = [a | b for a, b in itertools.combinations(singles, 2)]
    words, told, out = _relation(generators), set[int](), []
    for effect in (*singles, *pairs):
        same = [other for other in pairs if other != effect and other ^ effect in words and other not in told]
        told |= {effect, *(same if effect in pairs else ())}
        if same:
            mixed = [{"effect": _named(other, varied), "share": 1.0} for other in same]
            out.append({"effect": _named(effect, varied), "with": mixed})
    return out


def _named(word: int, varied: Sequence[str]) -> str:
    return " x ".join(axis for n, axis in enumerate(varied) if word >> n & 1)


# Fractions of axes of any number of values: exchange.


def _main(axes: Axes, chosen: Sequence[Point]) -> tuple[np.ndarray, list[str]]:
    """Model matrix ``[N, 1 + sum(levels - 1)]`` of main effects, each value less the axis's mean (orthogonal contrasts
    over all combinations, of unit variance), and the axis of each column; the first is the mean."""
    columns, of = [np.ones(len(chosen))], [""]
    for axis in _varied(axes):
        labels = list(axes[axis])
        place = np.array([labels.index(p[axis]) for p in chosen])
        for column in _contrasts(len(labels)).T:
            columns.append(column[place])
            of.append(axis)
    return np.stack(columns, 1), of


def _contrasts(levels: int) -> np.ndarray:
    """Helmert's contrasts ``[levels, levels - 1]``, each of mean 0 and variance 1."""
    out = np.zeros((levels, levels - 1))
    for n in range(1, levels):
        out[:n, n - 1], out[n, n - 1] = -1.0, n
    return out / np.sqrt((out**2).mean(0))


def _exchanged(axes: Axes, whole: Sequence[Point], base: int, size: int, seed: int) -> list[int]:
    """Places of the points, the baseline among them, with the largest determinant that any start came to."""
    model_M_P, _ = _main(axes, whole)
    rng = np.random.default_rng(int(digest(["exchange", {a: list(v) for a, v in axes.items()}, size, seed]), 16))
    others = [k for k in range(len(whole)) if k != base]
    best: tuple[float, list[int]] = (-math.inf, [])
    for _ in range(STARTS):
        chosen = [base, *rng.choice(others, size - 1, replace=False).tolist()]
        value, chosen = _climbed(model_M_P, chosen)
        if value > best[0] + 1e-9:
            best = value, chosen
    return sorted(best[1])


def _climbed(model_M_P: np.ndarray, chosen: list[int]) -> tuple[float, list[int]]:
    """Exchange the pair of points that gains most until none gains; the first point stays. (log determinant, places)"""
    ridge = 1e-6 * np.eye(model_M_P.shape[1])  # a start may be singular
    while True:
        design = model_M_P[chosen]
        info = design.T @ design + ridge
        d_M_M = model_M_P @ np.linalg.solve(info, model_M_P.T)
        own = np.diag(d_M_M)
        out, free = np.array(chosen[1:]), np.setdiff1d(np.arange(len(model_M_P)), chosen)
        gain = (
            own[free][None] - (own[out][:, None] * own[free][None] - d_M_M[np.ix_(out, free)] ** 2) - own[out][:, None]
        )
        if not gain.size or gain.max() < 1e-9:
            return float(np.linalg.slogdet(info)[1]), chosen
        leaves, enters = np.unravel_index(int(gain.argmax()), gain.shape)
        chosen[1 + int(leaves)] = int(free[enters])


def _optimal_mixed(axes: Axes, chosen: Sequence[Point]) -> list[Json]:
    """How much of each interaction of two axes stands in each main effect: the alias matrix (X'X)^-1 X'Z, its
    entries of one axis and one interaction together as a root mean square over contrasts."""
    main_N_P, of = _main(axes, chosen)
    out: list[Json] = []
    for axis in _varied(axes):
        rows = [k for k, name in enumerate(of) if name == axis]
        mixed = []
        for a, b in itertools.combinations(_varied(axes), 2):
            columns = [
                main_N_P[:, i] * main_N_P[:, j] for i, x in enumerate(of) if x == a for j, y in enumerate(of) if y == b
            ]
            alias = np.linalg.lstsq(main_N_P, np.stack(columns, 1), rcond=None)[0][rows]
            share = float(np.sqrt((alias**2).sum(0).mean()))
            if share >= SEEN:
                mixed.append({"effect": f"{a} x {b}", "share": round(share, 3)})
        if mixed:
            out.append({"effect": axis, "with": sorted(mixed, key=lambda m: -m["share"])})
    return out


def _say(made: Json) -> str:
    """What is mixed with what, in a sentence."""
    mains = [m for m in made["mixed"] if " x " not in m["effect"]]
    if not made["mixed"]:
        return "No effect of one axis is mixed with an interaction of two."
    if not mains:
        pairs = "; ".join(" = ".join([m["effect"], *(w["effect"] for w in m["with"])]) for m in made["mixed"])
        return f"No effect of one axis is mixed with an interaction of two; these interactions are one: {pairs}."
    parts = []
    for m in mains:
        share = "" if made["resolution"] else f" (up to {100 * m['with'][0]['share']:.0f} % of it)"
        parts.append(f"{m['effect']} with {', '.join(w['effect'] for w in m['with'])}{share}")
    return f"If axes do not simply add up, effects are mixed: {'; '.join(parts)}."
