"""A judge's difference corrected by people's labels of a few pairs: the difference that people would find.

The pool is all pairs of different texts; a pair without a verdict counts there as one on which the judge tells nothing
(0), so that the question stays about all of them and people's word on such pairs is not lost. Equal texts are ties for
everybody: the corrected difference is that of the pool times its share.

Source: named in ``stats.corrected``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from pippin import stats
from pippin.core.errors import InputError
from pippin.core.types import Choice, Estimate
from pippin.data.labels import Key, Labels, credit, key
from pippin.judge.ask import Pair

FEWEST = 10  # labels without which nothing is corrected
ROUGH = 30  # labels below which the interval's coverage has not been measured
UNEVEN = 4.0  # ratio of weights above which a few labels decide
CHANCE = 0.01  # labels that leave one side out by a chance smaller than this were not drawn from all pairs
ASSUMED = (
    "it assumes that the judge errs on all pairs as often as on the labelled ones; pairs on which the judge or people "
    "are undecided are left out"
)
"""What Rogan-Gladen stands on."""

FIGURES = (
    "judge_alone", "judge_alone_low", "judge_alone_high", "people_alone", "people_alone_low", "people_alone_high",
    "bias", "bias_low", "bias_high", "labels", "labels_to_settle", "gain",
)  # fmt: skip
"""The names that a gate may use beside those of a comparison."""


@dataclass(frozen=True)
class People:
    """What people's labels make of a judge's difference.

    ``why_not``: why nothing could be corrected; then ``delta`` and what belongs to it are None. ``bias``: people less
    judge on the labelled pairs. ``wrong``: of people's wins of V1, the share that the judge gave to V2; and of their
    wins of V2, the share that it gave to V1. ``rogan_gladen``: an estimate, or why there is none; None: not asked for.
    """

    labels: int  # pairs
    opinions: int
    annotators: tuple[str, ...]
    empty: int
    foreign: int
    agreement: Estimate | None
    wrong: tuple[Estimate | None, Estimate | None]
    why_not: str = ""
    delta: Estimate | None = None
    alone: Estimate | None = None
    bias: Estimate | None = None
    gain: float | None = None
    labels_to_settle: int | None = None
    settle: str = ""
    rogan_gladen: Estimate | str | None = None
    cautions: tuple[str, ...] = ()

    def figures(self, judge_alone: Estimate) -> dict[str, Any]:
        """The values behind ``FIGURES``."""
        ends: dict[str, Any] = {}
        for name, one in (("judge_alone", judge_alone), ("people_alone", self.alone), ("bias", self.bias)):
            values = (None, None, None) if one is None else (one.value, one.low, one.high)
            ends |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
        return {**ends, "labels": self.labels, "labels_to_settle": self.labels_to_settle, "gain": self.gain}

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON beside the figures."""
        given = {"v1": self.wrong[0], "v2": self.wrong[1]}
        told = self.rogan_gladen
        return {
            "opinions": self.opinions, "annotators": list(self.annotators), "not_yet_labelled": self.empty,
            "about_other_responses": self.foreign, "agreement": row(self.agreement), "cannot": self.why_not or None,
            "judge_wrong_on_wins_of": {side: row(one) for side, one in given.items()},
            "people_alone": row(self.alone), "bias": row(self.bias),
            "rogan_gladen": {"estimate": row(told), "assumes": ASSUMED} if isinstance(told, Estimate) else told,
        }  # fmt: skip


def match(labels: Labels, made: Sequence[Pair]) -> dict[Key, list[Choice]]:
    """People's opinions on the pairs that are compared; those about other responses are left out.

    Raises:
        InputError: all are about other responses.
    """
    compared = {_key(pair) for pair in made}
    found = {pair: said for pair, said in labels.by_pair.items() if pair in compared}
    if labels.choices and not found:
        raise InputError("no label is about the responses compared", where=labels.path,
                         found=f"{len(labels.choices)} labels about others",
                         mend="Labels are for the very responses that were drawn: pippin label V1 V2")  # fmt: skip
    return found


def correct(
    labels: Labels,
    said: Mapping[Key, Sequence[Choice]],
    made: Sequence[Pair],
    credit_P: np.ndarray,
    *,
    rogan_gladen: bool = False,
    level: float = 0.95,
) -> People:
    """People's word put beside a judge's.

    Args:
        said: the labels that are about these pairs, as :func:`match` finds them.
        made: all pairs, V1's response first.
        credit_P: the judge's credit of V2 over both orders, shape (P,), NaN where it has no verdict.
        rogan_gladen: also correct by the judge's error rates.
        level: of the corrected interval, and of those of people alone and of the bias.
    """
    pool_P = np.array([pair.first.text != pair.second.text for pair in made])
    pool = [pair for pair in made if pair.first.text != pair.second.text]
    ids_N, judge_N = np.array([pair.prompt.id for pair in pool]), credit_P[pool_P]
    people_N = np.array([_credit(said.get(_key(pair), ()), pair.second.id) for pair in pool])
    weight_N = np.array([labels.weights.get(_key(pair), 1.0) for pair in pool])
    used = [opinions for one in dict.fromkeys(map(_key, pool)) if (opinions := said.get(one))]
    told = People(
        labels=len(used), opinions=sum(map(len, used)), annotators=tuple(sorted({c.by for o in used for c in o})),
        empty=labels.empty, foreign=len(labels.choices) - sum(map(len, said.values())), agreement=_agreement(used),
        wrong=(_wrong(judge_N, people_N, ids_N, weight_N), _wrong(1 - judge_N, 1 - people_N, ids_N, weight_N)),
        cautions=tuple(_cautions(labels, said, used, judge_N, people_N, weight_N)),
    )  # fmt: skip
    why = _why_not(told.labels, judge_N, people_N, ids_N)
    if why:
        return replace(told, why_not=why, cautions=(*told.cautions, why))
    label_N = ~np.isnan(people_N)
    found = stats.corrected(
        np.nan_to_num(2 * judge_N - 1), 2 * people_N - 1, ids_N, support=(-1, 1), level=level,
        probability_N=weight_N[label_N].min() / np.where(label_N, weight_N, np.inf),
    )  # fmt: skip
    share = different_share(made, level)
    delta = replace(over_all(found.corrected, share), unit="win share")
    settle, count = _settle(found, delta)
    given = _rogan_gladen(judge_N, people_N, ids_N, weight_N) if rogan_gladen else None
    return replace(
        told, delta=delta, alone=over_all(found.people_alone, share), bias=over_all(found.bias, share),
        gain=found.gain, labels_to_settle=count, settle=settle, rogan_gladen=given,
    )  # fmt: skip


def _why_not(labels: int, judge_N: np.ndarray, people_N: np.ndarray, ids_N: np.ndarray) -> str:
    """Why these labels correct nothing; empty where they do."""
    label_N = ~np.isnan(people_N)
    if labels < FEWEST:
        return f"cannot correct: {labels} labels, at least {FEWEST} are needed"
    if len(set(ids_N[label_N])) < 2:
        return f"cannot correct: all {labels} labels are about one prompt"
    for side, given_N in (("V1", judge_N < 0.5), ("V2", judge_N > 0.5)):
        rare = (1 - given_N.mean()) ** labels < CHANCE
        if given_N.any() and not given_N[label_N].any() and rare:
            return (f"cannot correct: none of {labels} labels is on the {given_N.sum()} pairs that the judge gave to "
                    f"{side}, so they were not drawn from all pairs")  # fmt: skip
    return ""


def _cautions(
    labels: Labels, said: Mapping[Key, Sequence[Choice]], used: Sequence[Sequence[Choice]], judge_N: np.ndarray,
    people_N: np.ndarray, weight_N: np.ndarray,
) -> list[str]:  # fmt: skip
    """What a reader must know before believing the correction."""
    label_N, total = ~np.isnan(people_N), len(labels.choices)
    foreign = total - sum(map(len, said.values()))
    found = []
    if foreign:
        found.append(f"{foreign} of {total} labels are about other responses: left out")
    if len(said) > len(used):
        found.append(f"{len(said) - len(used)} labelled pairs are of equal texts, which need no label: left out")
    if labels.empty:
        found.append(f"{labels.empty} rows are not yet labelled: what is labelled counts as a fair part of the draw, "
                     "as it is if people labelled from the top")  # fmt: skip
    if np.isnan(judge_N).any():
        found.append(f"{np.isnan(judge_N).sum()} pairs have no verdict of the judge: in the corrected difference they "
                     "count as pairs on which it tells nothing")  # fmt: skip
    if FEWEST <= len(used) < ROUGH:
        found.append(f"{len(used)} labels are few: the corrected interval is rough below {ROUGH}")
    if label_N.any() and weight_N[label_N].max() > UNEVEN * weight_N[label_N].min():
        found.append(f"the labels' weights differ by more than {UNEVEN:g} to 1: a few heavy ones decide, and the "
                     "corrected interval is somewhat too narrow")  # fmt: skip
    return found


def _settle(found: stats.Corrected, delta: Estimate) -> tuple[str, int | None]:
    """What more labels would buy, in words and as a number; None: no number of labels would settle it."""
    if delta.low > 0 or delta.high < 0:
        return "No more labels are needed to settle it.", 0
    count = found.labels_for()
    if count is not None:
        count = max(count, 1)
        return f"About {rounded(count)} more labels, drawn as these were, would settle it if it stays there.", count
    left = 1.96 * found.floor_error
    text = f"No number of labels would settle it: one on every prompt would still leave ±{left:.3f}"
    if abs(delta.value) > left / 10:
        needed = found.corrected.clusters * (left / abs(found.corrected.value)) ** 2
        return f"{text}; that takes about {rounded(math.ceil(needed))} prompts, all labelled.", None
    return f"{text}, and the difference seen is far smaller.", None


def different_share(made: Sequence[Pair], level: float = 0.95) -> Estimate | None:
    """The share of pairs whose texts differ, over prompts; None where all do."""
    differ_P = np.array([pair.first.text != pair.second.text for pair in made])
    if differ_P.all():
        return None
    ids = [pair.prompt.id for pair in made]
    return stats.mean(differ_P * 1.0, ids, support=(0, 1), bootstrap=stats.Bootstrap(level=level))


def over_all(estimate: Estimate, share: Estimate | None) -> Estimate:
    """An estimate about pairs of different texts as one about all pairs: times their share, with the error of both."""
    if share is None:
        return estimate
    half = [estimate.value - estimate.low, estimate.high - estimate.value]
    spread = abs(estimate.value) * max(share.value - share.low, share.high - share.value)
    value = estimate.value * share.value
    low, high = (math.hypot(one * share.value, spread) for one in half)
    return replace(estimate, value=value, low=value - low, high=value + high)


def _agreement(used: Sequence[Sequence[Choice]]) -> Estimate | None:
    """Share of pairs of opinions on one pair that agree; ties and both bad are one. None where nobody was doubled."""
    shared, ids = [], []
    for opinions in used:
        credits = [choice.credit(opinions[0].first) for choice in opinions]
        if len(credits) > 1:
            shared.append(np.mean([one == two for one, two in combinations(credits, 2)]))
            ids.append(opinions[0].prompt_id)
    return stats.mean(shared, ids, support=(0, 1), unit="share of pairs of opinions") if shared else None


def _wrong(judge_N: np.ndarray, people_N: np.ndarray, ids_N: np.ndarray, weight_N: np.ndarray) -> Estimate | None:
    """Of the pairs that people gave to one side, the share that the judge gave to the other, whose credits these are.

    Pairs without a verdict are counted as missing. None where people gave the side nothing that the judge judged.
    """
    lost_N = people_N < 0.5
    values = np.where(np.isnan(judge_N), np.nan, judge_N > 0.5)[lost_N]
    if np.isnan(values).all():
        return None
    unit = "share of people's wins"
    return stats.mean(values, ids_N[lost_N], weights=weight_N[lost_N], support=(0, 1), unit=unit)


def _rogan_gladen(judge_N: np.ndarray, people_N: np.ndarray, ids_N: np.ndarray, weight_N: np.ndarray) -> Estimate | str:
    """V2's win share less V1's, from the judge's error rates on either side; or why it cannot be had."""
    label_N = ~np.isnan(people_N)
    if not np.allclose(weight_N[label_N], weight_N[label_N][0]):
        return "cannot: the labels were drawn with unequal probabilities, which it does not take"
    judged_N, truth_N = (
        np.where(v == 0.5, np.nan, np.where(np.isnan(v), np.nan, v > 0.5)) for v in (judge_N, people_N)
    )
    try:
        share = stats.rogan_gladen(judged_N, judged_N[label_N], truth_N[label_N], ids_N, ids_N[label_N])
    except InputError as error:
        return f"cannot: {error.what}"
    value, low, high = (2 * end - 1 for end in (share.value, share.low, share.high))
    return replace(share, value=value, low=low, high=high, unit="win share among decided pairs")


def _key(pair: Pair) -> Key:
    return key(pair.prompt.id, pair.first.id, pair.second.id)


def _credit(opinions: Sequence[Choice], response: str) -> float:
    return credit(opinions, response) if opinions else np.nan


def rounded(count: int) -> int:
    """Two significant digits: more would promise too much."""
    return int(float(f"{count:.2g}"))


def row(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate as plain values."""
    return None if estimate is None else asdict(estimate)
