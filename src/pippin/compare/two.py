"""Which of two is better: response files, models, checkpoints or runs, judged on the same prompts in both orders.

Pairs are made by prompt id. A pair's credit for V2 is the mean over both orders of 1 (won), 1/2 (tie) and 0 (lost);
delta is V2's win share less V1's, so that it lies between -1 and 1 whatever the judge; or, on request, the mean
difference of a scoring judge's numbers. Intervals resample prompts. Where people labelled some of the pairs, delta is
the judge's corrected by them (``compare.people``).

Source: Dubois et al., "AlpacaFarm", 2023, section 2 (win rate, ties half); Miller, "Adding error bars to evals", 2024
(paired differences, clusters); Wang et al., "Large language models are not fair evaluators", 2023 (both orders).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from pippin import stats
from pippin.compare import gate as gates
from pippin.compare.both import opened
from pippin.compare.pairs import Report, credits, judged, nothing_in_common, pairs
from pippin.compare.people import FIGURES as PEOPLE
from pippin.compare.people import People, correct, match, rounded, row
from pippin.compare.sides import Draw, Side, cautions
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Estimate, Judge, Outcome, Response
from pippin.data.labels import read_labels
from pippin.judge.ask import Pair
from pippin.judge.resolve import resolve

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.judge.judging import Judging

Metric = Literal["win", "score"]
VERDICTS = {1: "V2 is better", -1: "V2 is worse", 0: "cannot tell"}
FIGURES = (
    "verdict", "delta", "delta_low", "delta_high", "p", "n", "pairs", "missing", "same_in_both_orders", "first_shown",
    "v1_length", "v2_length",
)  # fmt: skip
"""The names that a gate may use, beside those of ``people.FIGURES`` where people labelled pairs."""


@dataclass(frozen=True)
class Comparison:
    """What came out. ``delta`` is V2 minus V1, corrected where people's labels allow it; ``judge_alone`` never is.

    ``missing`` counts pairs without a verdict in both orders.
    """

    v1: Side
    v2: Side
    judge: Judge
    metric: Metric
    delta: Estimate
    judge_alone: Estimate
    people: People | None
    worst: Estimate | None  # judge_alone if every missing pair went against V2, and for it; None where none is missing
    best: Estimate | None
    scores: Estimate | None  # mean difference of the judge's numbers, where it gives any
    pairs: int
    identical: int  # pairs of equal texts: ties, not asked about
    missing: int
    outcomes: Counter[str]
    same_in_both_orders: Estimate | None
    first_shown: Estimate | None
    lengths: tuple[Estimate | None, Estimate | None, Estimate | None]  # characters: V1, V2, difference
    longer_wins: Estimate  # what the rule "longer wins" would say
    left_out: tuple[int, int]  # prompts of the files V1 and V2 that are in no pair
    cautions: tuple[str, ...]

    @property
    def sign(self) -> int:
        return (self.delta.low > 0) - (self.delta.high < 0)

    @property
    def unit(self) -> str:
        return self.delta.unit

    @property
    def why_not(self) -> str:
        """Why people's labels could not correct the judge; empty where they did, or where there are none."""
        return self.people.why_not if self.people else ""

    @property
    def verdict(self) -> str:
        return "cannot correct" if self.why_not else VERDICTS[self.sign]

    @property
    def decision(self) -> str:
        """One sentence with its interval."""
        missing = f", {self.missing} of {self.pairs} pairs missing" if self.missing else ""
        if self.why_not:
            return f"{self.why_not}; {self.alone}{missing}"
        d = self.delta
        text = (
            f"{self.verdict}: {_number_of(d)} {d.unit} (V2 minus V1), n={d.clusters} prompts, judge {self.judge.name}"
        )
        return text + (f" corrected by {self.people.labels} labels" if self.people else "") + missing

    @property
    def alone(self) -> str:
        """What the judge says without people, and people without the judge."""
        d = self.judge_alone
        text = f"the judge alone: {_number_of(d)} {d.unit}, n={d.clusters} prompts, judge {self.judge.name}"
        if self.people is None or self.people.alone is None or self.people.bias is None:
            return text
        return (
            f"{text}; people alone: {_number_of(self.people.alone)}; people less judge: {_number_of(self.people.bias)}"
        )

    @property
    def more(self) -> str:
        """What more labels would buy where people correct, else what more prompts would."""
        if self.people:
            return self.people.settle or "Label more pairs, drawn by `pippin label`."
        d = self.delta
        if d.clusters < 2 or d.high <= d.low:
            return "More prompts: their number cannot be estimated from these, which all say the same."
        sd = stats.cluster_sd(d)
        seen, size = stats.minimum_detectable_effect(sd, d.clusters), abs(d.value)
        if self.metric == "win" and seen > 2:
            text = f"With {d.clusters} prompts, no true difference is found reliably"
        else:
            text = f"With {d.clusters} prompts, a true difference of {seen:.{_digits(d)}f} is found four times in five"
        if self.sign:
            return f"{text}; {4 * d.clusters} prompts would halve the interval."
        if size < seen / 100:
            return f"{text}; {4 * d.clusters} prompts would find one of half that size."
        return f"{text}; to find one as large as seen here takes about {rounded(stats.sample_size(size, sd))} prompts."

    def figures(self) -> dict[str, Any]:
        """The names and values that a gate may use. Without a correction that was asked for there is no delta."""
        d = self.delta
        ends = (None,) * 4 if self.why_not else (d.value, d.low, d.high, d.p)
        return {
            "verdict": self.verdict, **dict(zip(("delta", "delta_low", "delta_high", "p"), ends, strict=True)),
            "n": d.clusters, "pairs": self.pairs, "missing": self.missing,
            "same_in_both_orders": _value(self.same_in_both_orders), "first_shown": _value(self.first_shown),
            "v1_length": _value(self.lengths[0]), "v2_length": _value(self.lengths[1]),
            **(self.people.figures(self.judge_alone) if self.people else {}),
        }  # fmt: skip

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON: the figures, and all that stands behind them."""
        return {
            "decision": self.decision, "more": self.more, **self.figures(), "metric": self.metric, "unit": self.unit,
            "scope": self.delta.scope, "level": self.delta.level, "method": self.delta.method,
            "judge": asdict(self.judge), "v1": _side_row(self.v1), "v2": _side_row(self.v2),
            "delta_if_missing": [self.worst.value, self.best.value] if self.worst and self.best else None,
            "score_difference": row(self.scores), "identical": self.identical,
            "outcomes": dict(sorted(self.outcomes.items())),
            "position_bias": row(self.first_shown), "consistency": row(self.same_in_both_orders),
            "length": dict(zip(("v1", "v2", "difference"), map(row, self.lengths), strict=True)),
            "baselines": {"rule/longer": row(self.longer_wins)},
            "prompts_left_out": {"v1": self.left_out[0], "v2": self.left_out[1]},
            "cautions": list(self.cautions), **({"people": self.people.to_row()} if self.people else {}),
        }  # fmt: skip


def compare_two(
    first: str,
    second: str,
    *,
    judge: str,
    prompts: str = "",
    draw: Draw = Draw(),  # noqa: B008 - frozen
    limit: int | None = None,
    strategy: str = "",
    parser: str = "",
    metric: Metric = "win",
    gate: str = "",
    people: str | Path = "",
    rogan_gladen: bool = False,
    store: Store | None = None,
    report: Report | None = None,
) -> Comparison:
    """Compare V1 (``first``) and V2 (``second``).

    Args:
        first: a response file, a log of inspect_ai or lm-eval, a model's name, a checkpoint or a run's folder. So is
            ``second``.
        judge: as ``judge.resolve`` takes it; or ``recorded/METRIC`` for the scores that two logs recorded.
        prompts: a file or source of prompts; by default those of the response files.
        draw: how models are asked.
        limit: at most so many prompts.
        metric: ``win``, or ``score`` for the mean difference of a judge's numbers.
        gate: checked for its names before any work; evaluate it with ``gate.holds(gate, result.figures())``.
        people: a file of people's labels of some of the pairs; delta is then the judge's corrected by them.
        rogan_gladen: with ``people``, also the correction by the judge's error rates.
        store: keeps what models and judges said, so that nothing is paid for twice.
        report: receives what is being done, how much of it is done, and how much there is.

    Raises:
        InputError: nothing to compare: no prompts, no response, no prompt in common, no verdict at all; or a bad name.
    """
    if metric not in get_args(Metric):
        raise UnknownName("metric", metric, get_args(Metric))
    labels = read_labels(Path(people).expanduser()) if people else None
    if labels and metric != "win":
        raise InputError(
            "people's choices correct shares of wins only", where=f"--metric {metric}", mend="Give --metric win"
        )
    if rogan_gladen and not labels:
        raise InputError("Rogan-Gladen needs people's labels", mend="Give --people FILE")
    if gate:
        gates.check(gate, (*FIGURES, *PEOPLE) if labels else FIGURES)
    both = opened(first, second, judge, prompts, limit, draw)
    working = both.recorded or resolve(judge, strategy=strategy, parser=parser, seed=draw.seed)
    metric = "score" if both.recorded else metric
    scoring = _scores(working, metric)
    v1, v2 = both.answers(draw, store, report)
    made = pairs(v1, v2)
    if not made:
        raise nothing_in_common((first, second))
    said = match(labels, made) if labels else {}
    different = [pair for pair in made if pair.first.text != pair.second.text]
    choices = judged(working, different, store, report)
    unused = [len(side.by_prompt) - len({p.prompt.id for p in made}) if side else 0 for side in both.files]
    difference = _score_difference(working, made, store) if scoring else None
    found = _summary(v1, v2, working, judge, metric, made, different, choices, difference, (unused[0], unused[1]))
    if labels is None:
        return found
    told = correct(labels, said, made, credits(made, choices).mean(axis=1), rogan_gladen=rogan_gladen)
    return replace(found, people=told, delta=told.delta or found.delta, cautions=(*found.cautions, *told.cautions))


def _scores(judge: Judging, metric: Metric) -> bool:
    """Whether the judge gives numbers; an InputError where they are asked for and it gives none."""
    try:
        judge.score([])
    except InputError:
        if metric == "score":
            raise
        return False
    return True


def _summary(
    v1: Side, v2: Side, judge: Judging, spec: str, metric: Metric, made: list[Pair], different: list[Pair],
    choices: list[Choice], difference: Estimate | None, left_out: tuple[int, int],
) -> Comparison:  # fmt: skip
    ids_P = np.array([pair.prompt.id for pair in made])
    orders_P_2 = credits(made, choices)
    credit_P = orders_P_2.mean(axis=1)
    missing = int(np.isnan(credit_P).sum())
    if missing == len(made):
        raise InputError("the judge decided no pair", where=spec, found=dict(Counter(str(c.outcome) for c in choices)))
    win = stats.paired(credit_P, 1 - credit_P, ids_P, support=(-1, 1), unit="win share")
    bounds = stats.bounds(2 * credit_P - 1, -1, 1, ids_P, unit="win share") if missing else None
    if metric == "score" and difference is None:
        raise InputError("the judge's numbers tell no difference with an interval", where=spec,
                         mend="Compare on more prompts, or by --metric win")  # fmt: skip
    length_1_P, length_2_P = (np.array([len(r.text) for r in side], float) for side in _columns(made))
    shown_C = np.array([_shown(choice) for choice in choices])
    decided = bool((np.abs(shown_C) == 1).any())
    asked_P = np.array([pair.first.text != pair.second.text for pair in made])
    heard = bool(asked_P.any()) and not np.isnan(credit_P[asked_P]).all()
    same_P = np.where(np.isnan(credit_P), np.nan, orders_P_2[:, 0] == orders_P_2[:, 1])[asked_P]
    delta = difference if metric == "score" and difference is not None else win
    return Comparison(
        v1, v2, judge.info, metric, delta, delta, None,
        worst=bounds.worst if bounds and metric == "win" else None,
        best=bounds.best if bounds and metric == "win" else None,
        scores=difference, pairs=len(made), identical=len(made) - len(different), missing=missing,
        outcomes=Counter(str(c.outcome) for c in choices),
        same_in_both_orders=stats.mean(same_P, ids_P[asked_P], support=(0, 1), unit="pairs") if heard else None,
        first_shown=stats.position_bias(shown_C, [c.prompt_id for c in choices]) if decided else None,
        lengths=(_mean(length_1_P, ids_P), _mean(length_2_P, ids_P), _paired(length_2_P, length_1_P, ids_P)),
        longer_wins=stats.mean(np.sign(length_2_P - length_1_P), ids_P, support=(-1, 1), unit="win share"),
        left_out=left_out, cautions=tuple(cautions((v1, v2), judge, spec)),
    )  # fmt: skip


def _score_difference(judge: Judging, made: list[Pair], store: Store | None) -> Estimate | None:
    """Mean difference of the judge's numbers; None where it gave none, or one prompt's only on a scale without ends."""
    rows = {(p.prompt.id, r.id): (p.prompt, r) for p in made for r in (p.first, p.second)}
    scores = dict(zip(rows, judge.score(list(rows.values()), store=store), strict=True))
    ids_P = np.array([pair.prompt.id for pair in made])
    one_P, two_P = (
        np.array([_number(scores[p.prompt.id, r.id].value) for p, r in zip(made, side, strict=True)])
        for side in _columns(made)
    )
    scale = next((score.scale for score in scores.values() if score.scale), None)
    known = ~np.isnan(two_P - one_P)
    if not known.any() or (scale is None and len(set(ids_P[known])) < 2):
        return None
    support = (scale[0] - scale[1], scale[1] - scale[0]) if scale else None
    return stats.paired(two_P, one_P, ids_P, support=support, unit="mean score")


def _columns(made: list[Pair]) -> tuple[list[Response], list[Response]]:
    """The responses of V1 and those of V2."""
    return [pair.first for pair in made], [pair.second for pair in made]


def _mean(values_P: np.ndarray, ids_P: np.ndarray) -> Estimate | None:
    return stats.mean(values_P, ids_P, unit="characters") if len(set(ids_P)) > 1 else None


def _paired(two_P: np.ndarray, one_P: np.ndarray, ids_P: np.ndarray) -> Estimate | None:
    return stats.paired(two_P, one_P, ids_P, unit="characters") if len(set(ids_P)) > 1 else None


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _shown(choice: Choice) -> float:
    """1 the response shown first, -1 the second, 0 neither, NaN missing."""
    if choice.outcome.missing:
        return np.nan
    return {Outcome.FIRST: 1.0, Outcome.SECOND: -1.0}.get(choice.outcome, 0.0)


def _number_of(estimate: Estimate) -> str:
    digits = _digits(estimate)
    return f"{estimate.value:+.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _digits(estimate: Estimate) -> int:
    """Decimals with which a number reads well: three below ten, fewer above."""
    size = max(abs(estimate.low), abs(estimate.high), abs(estimate.value))
    return 3 if size < 10 else 1 if size < 1000 else 0


def _side_row(side: Side) -> dict[str, Any]:
    return {
        "name": side.name, "responses": len(side.rows), "prompts": len(side.by_prompt), "failed": side.failed,
        "sampling": None if side.sampling is None else asdict(side.sampling),
    }  # fmt: skip


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value
