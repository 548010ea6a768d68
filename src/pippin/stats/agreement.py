"""How far two judges agree: raw, with and without ties, and beyond chance; each with an interval over prompts.

Verdicts are numbers: 1 for the left response, -1 for the right, 0 for a tie, NaN for a missing one.
Source: L. Zheng et al., "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena" (2023), section 4.2 (setups S1 and
S2); J. Cohen, "A coefficient of agreement for nominal scales" (1960).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.estimate import Ids, kept_rows, mean
from pippin.stats.intervals import estimate
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats, Resampled, Statistic, collect, numbers

Label = Any  # a number or a string


@dataclass(frozen=True)
class Agreement:
    """Agreement of two judges on the same pairs, beside what each says how often.

    ``with_ties``: share of equal verdicts, a tie being a verdict. ``decided``: the same where both decided; None where
    there is no such pair. ``kappa``: Cohen's, over all verdicts; None where it is undefined (both always say one
    thing).
    """

    with_ties: Estimate
    decided: Estimate | None
    kappa: Estimate | None
    base_a: dict[Label, Estimate]
    base_b: dict[Label, Estimate]


def combine_orders(first: ArrayLike, swapped: ArrayLike) -> Floats:
    """One verdict per pair from its two orders: inconsistent counts as a tie, a missing order as missing.

    Args:
        first: verdicts (N,) in the first order, 1 for the left response *of the pair* whichever place it was shown in.
        swapped: verdicts (N,) in the swapped order, about the same response.

    Returns:
        Verdicts, shape (N,).

    Raises:
        InputError: other numbers than 1, 0, -1 and NaN.

    Source: Zheng et al. (2023), section 4.2, setup S1.
    """
    first_N, swapped_N = verdicts(first, "first"), verdicts(swapped, "swapped", len(np.asarray(first)))
    combined_N = np.where(first_N == swapped_N, first_N, 0.0)
    combined_N[np.isnan(first_N) | np.isnan(swapped_N)] = np.nan
    return combined_N


def raw_agreement(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Ids | None = None,
    *,
    ties: Literal["count", "drop"] = "count",
    unit: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Share of pairs on which two judges say the same.

    Args:
        a: verdicts (N,), NaN where missing.
        b: verdicts (N,) on the same pairs.
        clusters: prompt id of each pair, shape (N,).
        ties: ``count`` a tie as a verdict (setup S1), or ``drop`` pairs on which either says tie (S2, not counted
            missing).
        unit: goes into the Estimate.
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no pair on which both gave a verdict (or decided), or lengths differ.

    Source: Zheng et al. (2023), section 4.2.
    """
    a_N = verdicts(a, "a")
    b_N = verdicts(b, "b", len(a_N))
    same_N = np.where(np.isnan(a_N) | np.isnan(b_N), np.nan, a_N == b_N)
    if ties == "count":
        return mean(same_N, clusters, support=(0, 1), unit=unit, bootstrap=bootstrap)
    keep_N = (a_N != 0) & (b_N != 0)
    return mean(same_N[keep_N], kept_rows(clusters, "clusters", keep_N), support=(0, 1), unit=unit, bootstrap=bootstrap)


def cohen_kappa(
    a: Sequence[Label] | ArrayLike,
    b: Sequence[Label] | ArrayLike,
    clusters: Ids | None = None,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Cohen's kappa: agreement beyond what the two judges' base rates give by chance, over that chance's room.

    Labels are nominal: any numbers or any strings. A pair counts where both have a label.

    Args:
        a: labels (N,); NaN or None is missing.
        b: labels (N,) of the same pairs.
        clusters: prompt id of each pair, shape (N,).
        bootstrap: resamples, level, kind of interval, seed. Resamples in which kappa is undefined are left out and
            counted in ``Estimate.method``.

    Raises:
        InputError: no pair with both labels, lengths differ, or kappa is undefined since both always give the same
            label.

    Source: Cohen (1960), equation 1.
    """
    (code_a_N, code_b_N), labels = _encode(a, b)
    keep_N = (code_a_N >= 0) & (code_b_N >= 0)
    cell_N = (code_a_N * len(labels) + code_b_N)[keep_N]
    columns = [(cell_N == cell).astype(np.float64) for cell in range(len(labels) ** 2)]
    if not columns:
        raise InputError("no label", where="a, b", expected="at least one pair with both labels")
    sample = collect(columns, kept_rows(clusters, "clusters", keep_N), missing=int((~keep_N).sum()))
    return estimate(Resampled(sample, bootstrap), _kappa(len(labels)), support=(-1.0, 1.0), unit="kappa")


def base_rates(
    labels: Sequence[Label] | ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT
) -> dict[Label, Estimate]:
    """How often a judge gives each label, among the labels given.

    Args:
        labels: shape (N,); NaN or None is missing.
        clusters: prompt id of each, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Returns:
        For each label that occurs, its share, in the order of the labels.

    Raises:
        InputError: no label, or lengths differ.

    Source: A. Feinstein, D. Cicchetti, "High agreement but low kappa" (1990): kappa is unreadable without base rates.
    """
    (code_N,), distinct = _encode(labels)
    if not distinct:
        raise InputError("no label", where="labels", expected="at least one")
    return {
        label: mean(np.where(code_N < 0, np.nan, code_N == code), clusters, support=(0, 1), bootstrap=bootstrap)
        for code, label in enumerate(distinct)
    }


def agree(a: ArrayLike, b: ArrayLike, clusters: Ids | None = None, *, bootstrap: Bootstrap = DEFAULT) -> Agreement:
    """Raw agreement by both conventions, kappa, and both judges' base rates on the pairs that both judged.

    Args:
        a: verdicts (N,), NaN where missing.
        b: verdicts (N,) on the same pairs.
        clusters: prompt id of each pair, shape (N,).
        bootstrap: resamples, level, kind of interval, seed.

    Raises:
        InputError: no pair on which both gave a verdict, or lengths differ.

    Source: Zheng et al. (2023), section 4.2; Cohen (1960).
    """
    a_N = verdicts(a, "a")
    b_N = verdicts(b, "b", len(a_N))
    both_N = ~(np.isnan(a_N) | np.isnan(b_N))
    decided_N = both_N & (a_N != 0) & (b_N != 0)
    one_label = len(np.unique(np.concatenate([a_N[both_N], b_N[both_N]]))) == 1
    return Agreement(
        with_ties=raw_agreement(a_N, b_N, clusters, bootstrap=bootstrap),
        decided=raw_agreement(a_N, b_N, clusters, ties="drop", bootstrap=bootstrap) if decided_N.any() else None,
        kappa=None if one_label else cohen_kappa(a_N, b_N, clusters, bootstrap=bootstrap),
        base_a=base_rates(np.where(both_N, a_N, np.nan), clusters, bootstrap=bootstrap),
        base_b=base_rates(np.where(both_N, b_N, np.nan), clusters, bootstrap=bootstrap),
    )


def verdicts(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    """``values`` as verdicts of shape (N,): 1, 0, -1 or NaN.

    Raises:
        InputError: any other number, or not of the stated length.

    Source: the convention of this package.
    """
    array = numbers(values, name, length)
    odd = array[~(np.isnan(array) | np.isin(array, (-1.0, 0.0, 1.0)))]
    if len(odd):
        raise InputError("not a verdict", where=name, found=float(odd[0]), expected="1, 0, -1 or NaN")
    return array


def _kappa(labels: int) -> Statistic:
    def kappa(sums_H_K: Floats) -> Floats:
        table = sums_H_K[..., 0, :].reshape(*sums_H_K.shape[:-2], labels, labels)
        table = table / table.sum(axis=(-2, -1), keepdims=True)
        observed = np.trace(table, axis1=-2, axis2=-1)
        chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1)
        room = 1.0 - chance
        return np.where(room > 1e-12, (observed - chance) / np.where(room > 1e-12, room, 1.0), np.nan)

    return kappa


def _encode(*columns: Sequence[Label] | ArrayLike) -> tuple[list[NDArray[np.intp]], list[Label]]:
    """Each column as positions in the sorted list of all labels, -1 where missing; and that list."""
    lists = [np.asarray(c).tolist() for c in columns]
    if len({len(rows) for rows in lists}) > 1:
        raise InputError("arrays differ in length", where="labels", found=[len(rows) for rows in lists])
    present = {label for rows in lists for label in rows if not _absent(label)}
    try:
        labels = sorted(present)
    except TypeError:
        raise InputError("labels of several types", where="labels", expected="all strings or all numbers") from None
    place = {label: i for i, label in enumerate(labels)}
    encoded = [np.array([-1 if _absent(x) else place[x] for x in rows], dtype=np.intp) for rows in lists]
    return encoded, labels


def _absent(label: Label) -> bool:
    return label is None or label != label
