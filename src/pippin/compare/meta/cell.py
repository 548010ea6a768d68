"""All that is said of one judge on one set.

Source: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024, section 4
    (accuracy averaged over both orders, agreement); the rest is named in ``stats``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from pippin import stats
from pippin.compare.meta.verdicts import Verdicts
from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.verdicts import SHOWN_FIRST

Policy = Literal["counted", "published", "half", "wrong", "first"]
POLICIES: Mapping[Policy, str] = {
    "counted": "a missing verdict is left out, counted, and bounded by its best and worst case; a tie is half right",
    "published": "as in the paper's code: a missing verdict is wrong, and two missing ones agree",
    "half": "a missing verdict is half right, as a tie is",
    "wrong": "a missing verdict is wrong, and so is a tie",
    "first": "a missing verdict and a tie count for the response shown first: a hidden bias of some published code",
}
DEFAULT = stats.Bootstrap(resamples=2000)
LEAST = 10  # verdicts with a probability, below which calibration is not looked at


def cell(v: Verdicts, policy: Policy, bootstrap: stats.Bootstrap = DEFAULT) -> dict[str, Any]:
    """All that is said of one judge on one set. Counts are of pairs that people decided; a tie is half right."""
    decided_N = v.gold_N != 0
    n = int(decided_N.sum())
    original_N, swapped_N = (credit(v, k, policy) for k in (0, 1))
    same_N = same(v, policy)
    both_N, twice_N = np.concatenate([original_N, swapped_N]), np.tile(v.clusters_N, 2)
    right = (np.nansum(original_N), np.nansum(swapped_N))
    given = 2 * n - int(np.isnan(both_N[np.tile(decided_N, 2)]).sum())
    correct, equal = float(sum(right)), float(np.nansum(same_N))
    compared = len(same_N) - int(np.isnan(same_N).sum())
    row: dict[str, Any] = {
        "set": v.set, "llm": v.llm, "strategy": v.strategy, "judge": v.name, "kind": v.kind, "n": n,
        "correct_original_order": _whole(right[0]), "correct_swapped_order": _whole(right[1]),
        "correct_both_orders": int(((original_N == 1) & (swapped_N == 1)).sum()), "equal": _whole(equal),
        "accuracy_pct": correct / 2 / (given / 2) * 100 if given else None,
        "agreement_pct": equal / compared * 100 if compared else None,
        "outcomes": dict(sorted(v.outcomes.items())),
        "conflicts": v.conflicts,
    }  # fmt: skip
    kept = np.tile(decided_N, 2)
    row["accuracy"] = share(both_N[kept], twice_N[kept], bootstrap, "accuracy")
    row["agreement"] = share(same_N, v.clusters_N, bootstrap, "share of pairs")
    row["swap_averaged"] = share(averaged(v, policy)[decided_N], v.clusters_N[decided_N], bootstrap, "accuracy")
    row["accuracy_bounds"] = _bounds(both_N[kept])
    row["consistency"] = _triple(v, decided_N, bootstrap)
    row["first_shown"] = position(v, bootstrap)
    row["length"] = length(v, bootstrap)
    row["with_gold"] = _with_gold(v, bootstrap)
    row["biases"] = _biases(v, bootstrap)
    row["own"] = _own(v, bootstrap)
    row["calibration"] = _calibration(v, bootstrap)
    if v.part.best_of:
        row["best_of"] = _best_of(v, policy, bootstrap)
    return row | {"spent": v.spent}


def credit(v: Verdicts, order: int, policy: Policy) -> np.ndarray:
    """Credit of each verdict of one order: 1 right, 0 wrong, a tie and a missing one by the policy; NaN left out.

    Pairs that people call a tie have no right answer, and no credit.
    """
    said_N = v.swapped_N if order else v.original_N
    first = -1.0 if order else 1.0  # the response shown first, in the data's numbering
    silent_N, tied_N = np.isnan(said_N), said_N == 0
    if policy == "first":
        said_N = np.where(silent_N | tied_N, first, said_N)
    credit_N = (said_N * v.gold_N + 1) / 2
    if policy in ("published", "wrong"):
        credit_N = np.where(silent_N, 0.0, credit_N)
    if policy == "wrong":
        credit_N = np.where(tied_N, 0.0, credit_N)
    if policy == "half":
        credit_N = np.where(silent_N, 0.5, credit_N)
    return np.where(v.gold_N == 0, np.nan, credit_N)


def same(v: Verdicts, policy: Policy) -> np.ndarray:
    """Whether both orders named the same response, 1 or 0; NaN where a verdict is missing."""
    same_N = (v.original_N == v.swapped_N).astype(float)
    silent_2_N = np.isnan([v.original_N, v.swapped_N])
    if policy == "published":
        return np.where(silent_2_N.all(0), 1.0, same_N)
    return np.where(silent_2_N.any(0), np.nan, same_N)


def probability(v: Verdicts) -> np.ndarray:
    """P(the first response of the pair is better) from both orders: the mean of their log-odds; NaN without both."""
    with np.errstate(divide="ignore", invalid="ignore"):
        odds_N = (np.log(v.p_N_2) - np.log1p(-v.p_N_2)).mean(axis=1)
        return np.asarray(1 / (1 + np.exp(-odds_N)))


def averaged(v: Verdicts, policy: Policy) -> np.ndarray:
    """Credit of one verdict from both orders: by the mean of what both have, log-odds, else strength, else verdict."""
    strength_N = v.strength_N_2.mean(axis=1)
    with np.errstate(invalid="ignore"):
        verdict_N = np.where(np.isnan(strength_N), (v.original_N + v.swapped_N) / 2, strength_N)
        p_N = probability(v)
        verdict_N = np.sign(np.where(np.isnan(p_N), verdict_N, p_N - 0.5))
    credit_N = (verdict_N * v.gold_N + 1) / 2
    fill = {"published": 0.0, "wrong": 0.0, "half": 0.5}.get(policy, np.nan)
    return np.where(v.gold_N == 0, np.nan, np.where(np.isnan(verdict_N), fill, credit_N))


def share(values_N: np.ndarray, clusters_N: np.ndarray, bootstrap: stats.Bootstrap, unit: str) -> dict[str, Any] | None:
    if np.isnan(values_N).all():
        return None
    return to_json(stats.mean(values_N, clusters_N, support=(0, 1), unit=unit, bootstrap=bootstrap))


def to_json(value: Estimate | None) -> dict[str, Any] | None:
    """An Estimate as plain values."""
    return None if value is None else asdict(value)


def tried(make: Callable[[], Estimate]) -> dict[str, Any] | None:
    """An Estimate that these data may not have: None where the statistic is not defined on them."""
    try:
        return to_json(make())
    except InputError:
        return None


def _bounds(values_N: np.ndarray) -> list[float] | None:
    """Accuracy if every missing verdict were wrong, and if every one were right."""
    return [float(np.nan_to_num(values_N, nan=fill).mean()) for fill in (0.0, 1.0)] if len(values_N) else None


def _triple(v: Verdicts, decided_N: np.ndarray, bootstrap: stats.Bootstrap) -> dict[str, Any]:
    heard = [credit(v, k, "counted")[decided_N] for k in (0, 1)]  # silence is no error here
    if not len(heard[0]):
        return {}
    triple = stats.consistency(heard[0], heard[1], v.clusters_N[decided_N], bootstrap=bootstrap)
    return {name: to_json(value) for name, value in vars(triple).items()}


def position(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any] | None:
    """Share of verdicts for the response shown first."""
    shown_N = np.concatenate([v.original_N, -v.swapped_N])
    if not (np.abs(shown_N) == 1).any():
        return None
    return to_json(stats.position_bias(shown_N, np.tile(v.clusters_N, 2), bootstrap=bootstrap))


def length(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any] | None:
    """Accuracy where the better response is the longer one, and the shorter one, in words."""
    decided_N = v.gold_N != 0
    if not decided_N.any():
        return None
    longer_N = v.part.longer_N[v.rows_M][decided_N]
    twice = [np.tile(values, 2) for values in (longer_N, v.clusters_N[decided_N], v.gold_N[decided_N])]
    said_N = np.concatenate([v.original_N[decided_N], v.swapped_N[decided_N]])
    found = stats.length_bias(said_N, twice[0], twice[1], gold=twice[2], bootstrap=bootstrap)
    return {name: to_json(value) for name, value in vars(found).items()}


def _with_gold(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any]:
    """Agreement with people beyond chance, ties being a verdict, beside how often each names the one shown first."""
    said_N, gold_N = np.concatenate([v.original_N, -v.swapped_N]), np.concatenate([v.gold_N, -v.gold_N])
    clusters_N = np.tile(v.clusters_N, 2)
    known_N, both_N_2 = ~np.isnan(said_N), np.stack([gold_N, said_N], axis=1)
    row: dict[str, Any] = {
        "fleiss_kappa": tried(lambda: stats.fleiss_kappa(both_N_2, clusters_N, bootstrap=bootstrap)),
        "kappa": tried(lambda: stats.cohen_kappa(gold_N, said_N, clusters_N, bootstrap=bootstrap)),
        "alpha": tried(lambda: stats.krippendorff_alpha(both_N_2, clusters_N, bootstrap=bootstrap)),
        "gold_says_first": float((gold_N == 1).mean()),
        "judge_says_first": float((said_N[known_N] == 1).mean()) if known_N.any() else None,
        "gold_ties": int((v.gold_N == 0).sum()),
        "judge_ties": int((said_N == 0).sum()),
    }  # fmt: skip
    if row["gold_ties"]:
        row["three_way"] = tried(lambda: stats.raw_agreement(said_N, gold_N, clusters_N, bootstrap=bootstrap))
    return row


def _biases(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any]:
    """What moves the verdict beside gold, all at once: a logistic regression on what was shown."""
    shown_N = np.concatenate([v.original_N, -v.swapped_N])
    columns = {"gold": v.gold_N, **{name: values_N[v.rows_M] for name, values_N in v.part.style_N.items()}}
    own_N = own(v)
    if own_N.any():
        columns["own answer"] = own_N
    features = {name: np.concatenate([values_N, -values_N]) for name, values_N in columns.items()}
    try:
        found = stats.verdict_model((shown_N + 1) / 2, features, np.tile(v.clusters_N, 2), bootstrap=bootstrap)
    except InputError as error:
        return {"said": [str(error)]}
    made = {name.replace(SHOWN_FIRST, "shown_first"): to_json(value) for name, value in found.coefficients.items()}
    return {"log_odds": made, "said": list(found.said)}


def own(v: Verdicts) -> np.ndarray:
    """1 where the first response of the pair is the judge's own answer, -1 where the second is, 0 neither or both."""
    mine = [[_model(r.by) == _model(v.llm) for r in (v.part.pairs[n].first, v.part.pairs[n].second)] for n in v.rows_M]
    return np.array([float(one) - float(two) for one, two in mine])


def _model(name: str) -> str:
    """A model's name without provider and server."""
    return name.partition("@")[0].rpartition("/")[2].lower()


def _own(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any] | None:
    """Where one of the two is the judge's own answer: how much oftener the judge prefers it than people do."""
    own_N = own(v)
    if not own_N.any():
        return None
    held_N = own_N != 0
    judge_N = ((v.original_N + v.swapped_N) / 2 * own_N + 1)[held_N] / 2
    people_N = (v.gold_N * own_N + 1)[held_N] / 2
    asked = {"support": (-1, 1), "unit": "preference for the own answer, judge less people", "bootstrap": bootstrap}
    return tried(lambda: stats.paired(judge_N, people_N, v.clusters_N[held_N], **asked))


def _calibration(v: Verdicts, bootstrap: stats.Bootstrap) -> dict[str, Any] | None:
    """Of probabilities from both orders, averaged in log-odds; None where the judge gives none."""
    p_N = probability(v)
    if (~np.isnan(p_N)).sum() < LEAST:
        return None
    right_N, clusters_N = (v.gold_N + 1) / 2, v.clusters_N
    one_N, twice_N = v.p_N_2.T.reshape(-1), np.tile(clusters_N, 2)
    bins = stats.reliability(p_N, right_N, clusters_N, bootstrap=bootstrap)
    curve = stats.abstention_curve(p_N, right_N, clusters_N, bootstrap=bootstrap)
    return {
        "brier": tried(lambda: stats.brier(p_N, right_N, clusters_N, bootstrap=bootstrap)),
        "brier_one_order": tried(lambda: stats.brier(one_N, np.tile(right_N, 2), twice_N, bootstrap=bootstrap)),
        "expected_calibration_error": tried(
            lambda: stats.expected_calibration_error(p_N, right_N, clusters_N, bootstrap=bootstrap)
        ),
        "reliability": [{"low": b.low, "high": b.high, "mean_p": b.mean_p, "share": to_json(b.share)} for b in bins],
        "abstention": [{"coverage": a.coverage, "accuracy": to_json(a.accuracy)} for a in curve],
        "given": int((~np.isnan(v.p_N_2)).sum()),
    }


def _best_of(v: Verdicts, policy: Policy, bootstrap: stats.Bootstrap) -> dict[str, Any] | None:
    """Whether the best response beats all others of its prompt; ties with k others count 1 / (1 + k)."""
    credit_N = averaged(v, policy)
    prompts, item_N = np.unique(v.clusters_N, return_inverse=True)
    won = np.full(len(prompts), np.nan)
    for k in range(len(prompts)):
        here = credit_N[item_N == k]
        if not np.isnan(here).any():
            won[k] = 0.0 if (here == 0).any() else 1 / (1 + (here == 0.5).sum())
    return share(won, prompts, bootstrap, "share of prompts")


def _whole(count: float) -> int | float:
    return int(count) if count == int(count) else float(count)
