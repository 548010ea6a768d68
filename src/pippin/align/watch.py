"""What a run's looks at itself say: how far the policy went, what proxy and gold made of it, and how long it got.

A look (:class:`Look`) holds the draws of the same prompts at one step; :mod:`pippin.align.looking` takes them. Here is
the arithmetic: pure functions from looks to a summary, which stands in ``pippin_run.json`` under ``watch``, and from a
summary to the lines that a person reads.

Source: Gao, Schulman, Hilton 2022 (arXiv 2210.10760), sections 2 and 3.1; Singhal et al. 2023 (arXiv 2310.03716),
section 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pippin import stats
from pippin.core.errors import InputError
from pippin.core.types import Estimate, Group, Preference
from pippin.stats.overoptimisation import Form

Json = dict[str, Any]

BUCKET = 20.0  # tokens; where responses are short, a tenth of their mean length
_T = stats.Bootstrap(interval="t")  # means over prompts: no resampling, so that looking costs little
_FEWER = stats.Bootstrap(resamples=2000)
_SCORES = ("proxy", "gold")


@dataclass(frozen=True)
class Look:
    """The policy at one step: K draws for each of P prompts.

    Attributes:
        step: optimiser steps done.
        tokens: what the look drew and read, in tokens.
        length: of each response in tokens, its end token included, ``[P, K]``.
        ended: whether each ended by itself, ``[P, K]``.
        kl: from the first policy, nats per response, ``[P]``; None where it cannot be known.
        proxy: what the run's reward gives, ``[P, K]``; None where there is none, or it was not asked.
        gold: what the development judge gives, ``[P, K]``; None likewise.
        kept: why this is not the policy of its step: ``best round`` where earlier weights were put back.
        absent: what is None, and why.
    """

    step: int
    tokens: int
    length: np.ndarray
    ended: np.ndarray
    kl: np.ndarray | None = None
    proxy: np.ndarray | None = None
    gold: np.ndarray | None = None
    kept: str = ""
    absent: dict[str, str] = field(default_factory=dict)

    def to_row(self) -> Json:
        """As plain values, rounded; :meth:`from_row` gives an equal look whenever a look came from a row."""
        arrays = {n: np.round(v, 6).tolist() for n in ("length", "kl", *_SCORES) if (v := getattr(self, n)) is not None}
        row = {"step": self.step, "tokens": self.tokens, **arrays, "ended": self.ended.astype(int).tolist()}
        return row | ({"kept": self.kept} if self.kept else {}) | ({"absent": self.absent} if self.absent else {})

    @classmethod
    def from_row(cls, row: Json) -> Look:
        """The look that a line of ``watch.jsonl`` holds."""
        arrays = {n: np.array(row[n], dtype=float) for n in ("length", "kl", *_SCORES) if n in row}
        ended = np.array(row["ended"], dtype=bool)
        return cls(row["step"], row["tokens"], ended=ended, kept=row.get("kept", ""), absent=row.get("absent", {}),
                   **arrays)  # fmt: skip


def summary(
    looks: Sequence[Look], prompts: Sequence[str], *, on: str, kl: str, form: Form = "rl", steps: str = "step"
) -> Json:
    """What the looks of one run say, the first against the last.

    Args:
        looks: in the order taken, the first policy's first; all of the same prompts.
        prompts: ids of the P prompts, which are what intervals are over.
        on: which prompts these are, in words.
        kl: how the KL was measured, in words.
        form: of the curve of gold over KL.
        steps: what ``Look.step`` counts.

    Returns:
        ``looks`` (a row of means for each), ``change`` from first to last, ``correlation`` of length and score,
        ``best_gold``, ``gap`` (the proxy's gain less the gold's, in standard deviations of the first policy), ``fit``,
        ``length_share`` (non-length gain), ``absent`` (what could not be said, and why), ``warnings``.
    """
    first, last = looks[0], looks[-1]
    absent = dict(first.absent) | dict(last.absent)
    rows = [_row(look, prompts, steps) for look in looks]
    made: Json = {
        "on": on, "prompts": len(prompts), "draws": int(first.length.shape[1]), "kl": kl, "looks": rows,
        "change": _changes(first, last) if len(looks) > 1 else {},
    }  # fmt: skip
    scored = next((name for name in _SCORES if getattr(first, name) is not None), "")
    if scored:
        made["correlation"] = {"of": f"length and {scored}", "first": rows[0].get("correlation"),
                               "last": rows[-1].get("correlation")}  # fmt: skip
    seen = [look for look in looks if look.gold is not None]
    if seen:
        best = max(seen, key=lambda look: float(np.mean(_of(look, "gold"))))
        made["best_gold"] = rows[[look is best for look in looks].index(True)]
    if len(looks) > 1:
        attempts = {
            "gap": lambda: _told(_gap(first, last)),
            "fit": lambda: _fit(looks, form),
            "length_share": lambda: _length_share(first, last, prompts, scored),
        }
        for name, attempt in attempts.items():
            try:
                made[name] = attempt()
            except InputError as error:
                absent[name] = str(error)
    made["absent"] = absent
    made["warnings"] = _warnings(made, looks, steps) if len(looks) > 1 else []
    return made


def reward_summary(
    scores: Sequence[float],
    lengths: Sequence[int],
    groups: Sequence[Group],
    preferences: Sequence[Sequence[Preference]],
) -> Json:
    """How much of a trained reward model's scores is length, on the pairs it was trained on.

    Args:
        scores: of every response of the groups, in their order.
        lengths: of the same in tokens.
        groups: training prompts with responses.
        preferences: beside them, what was stated of their responses.
    """
    ids = [g.prompt.id for g in groups for _ in g.responses]
    score_N, length_N = np.asarray(scores, dtype=float), np.asarray(lengths, dtype=float)
    starts = np.cumsum([0, *(len(g.responses) for g in groups)])
    pairs = [(start + p.i, start + p.j, p.probability, g.prompt.id)
             for start, g, stated in zip(starts, groups, preferences, strict=False) for p in stated]  # fmt: skip
    made: Json = {"on": "training pairs", "responses": len(score_N), "pairs": len(pairs), "absent": {}, "warnings": []}
    try:
        made["correlation"] = {
            "of": "length and score",
            "last": _told(stats.length_correlation(score_N, length_N, ids)),
        }
    except InputError as error:
        made["absent"]["correlation"] = str(error)
    if not pairs:
        return made
    i_P, j_P = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    label_P = np.sign(np.array([pair[2] for pair in pairs]) - 0.5)
    verdict_P = np.sign(score_N[i_P] - score_N[j_P])
    bias = stats.length_bias(verdict_P, length_N[i_P] - length_N[j_P], [pair[3] for pair in pairs], gold=label_P)
    made["longer_wins"] = {"labels": _told(bias.gold_longer), "scores": _told(bias.prefers_longer)}
    made["accuracy"] = {"where the longer is preferred": _told(bias.accuracy_gold_longer),
                        "where the shorter is": _told(bias.accuracy_gold_shorter), "gap": _told(bias.gap)}  # fmt: skip
    if bias.prefers_longer and bias.gold_longer and bias.prefers_longer.low > bias.gold_longer.high:
        made["warnings"].append("the scores prefer the longer response more often than the labels do")
    return made


def lines(summary: Json) -> list[str]:
    """The summary in a few short lines for a person, warnings last."""
    if "looks" not in summary:
        return (
            _reward_lines(summary) if "pairs" in summary else [f"watch: none: {w}" for w in summary["absent"].values()]
        )
    rows, change, absent = summary["looks"], summary["change"], summary["absent"]
    looks = f"{len(rows)} looks" if len(rows) > 1 else "one look"
    told = [f"watch: {summary['prompts']} {summary['on']}, {summary['draws']} draws each, {looks}"]
    if "kl" in rows[-1]:
        told.append(
            f"KL from the first policy: {_said(rows[-1]['kl'])} nats per response ({summary['kl'].partition(':')[0]})"
        )
    else:
        told.append(f"no KL: {absent.get('kl', 'not measured')}")
    gains = [f"{name} {rows[0][name]['value']:.2f} to {rows[-1][name]['value']:.2f}, change {_said(change[name])}"
             for name in _SCORES if name in change]  # fmt: skip
    if gains:
        told.append("; ".join(gains))
    if change:
        ends = [f"{100 * row['without_end']['value']:.0f} %" for row in (rows[0], rows[-1])]
        told.append(f"length {rows[0]['length']['value']:.1f} to {rows[-1]['length']['value']:.1f} tokens, change "
                    f"{_said(change['length'])}; without an end {ends[0]} to {ends[1]}")  # fmt: skip
    correlation = summary.get("correlation", {})
    shown = [f"{when} {_said(correlation[when])}" for when in ("first", "last") if correlation.get(when)]
    if shown:
        told.append(f"correlation of {correlation['of']} within a prompt: {', '.join(shown)}")
    if "fit" in summary:
        told.append(_peak_said(summary))
    return told + [f"warning: {warning}" for warning in summary["warnings"]]


def _reward_lines(summary: Json) -> list[str]:
    told = [f"watch: {summary['pairs']} training pairs"]
    if "correlation" in summary:
        told.append(f"correlation of length and score within a prompt: {_said(summary['correlation']['last'])}")
    longer = summary.get("longer_wins", {})
    shares = [f"{name} {_said(longer[name])}" for name in ("labels", "scores") if longer.get(name)]
    if shares:
        told.append(f"the longer response wins, share of the pairs: {', '.join(shares)}")
    return told + [f"warning: {warning}" for warning in summary["warnings"]]


def _peak_said(summary: Json) -> str:
    fit, best = summary["fit"], summary["best_gold"]
    place = f"KL {best['kl']['value']:.2f}"
    if fit["peak"] is None or not fit["peak"]["seen"]:
        return f"gold is best at {place}; no peak inside what was seen"
    return f"gold is best at {place}; the fitted curve peaks at KL {_said(fit['peak']['kl'])}"


def _of(look: Look, name: str) -> np.ndarray:
    """Mean over the draws of each prompt ``[P]``."""
    value = getattr(look, name)
    assert value is not None
    return value.mean(axis=-1) if value.ndim == 2 else value


def _row(look: Look, prompts: Sequence[str], steps: str) -> Json:
    """Means over prompts at one look."""
    row: Json = {steps: look.step, **({"kept": look.kept} if look.kept else {})}
    for name in ("kl", *_SCORES, "length"):
        if getattr(look, name) is not None:
            row[name] = _told(stats.mean(_of(look, name), bootstrap=_T))
    row["without_end"] = _told(stats.mean(1.0 - _of(look, "ended"), support=(0, 1), bootstrap=_T))
    score = look.proxy if look.proxy is not None else look.gold
    if score is not None:
        ids = np.repeat(np.asarray(prompts), score.shape[1])
        try:
            row["correlation"] = _told(stats.length_correlation(score.ravel(), look.length.ravel(), ids, bootstrap=_T))
        except InputError:  # nothing varies within any prompt
            row["correlation"] = None
    return row


def _changes(first: Look, last: Look) -> Json:
    """Paired differences, last less first."""
    names = [n for n in ("length", *_SCORES) if getattr(first, n) is not None and getattr(last, n) is not None]
    made = {name: _told(stats.paired(_of(last, name), _of(first, name), bootstrap=_FEWER)) for name in names}
    ended = [1.0 - _of(look, "ended") for look in (last, first)]
    return made | {"without_end": _told(stats.paired(*ended, support=(-1, 1), bootstrap=_FEWER))}


def _gap(first: Look, last: Look) -> Estimate:
    """How much more the proxy has gained than the gold, both in standard deviations of the first policy."""
    gains = []
    for name in _SCORES:
        start, end = getattr(first, name), getattr(last, name)
        if start is None or end is None:
            raise InputError(f"no {name} at the first look and the last")
        units = [stats.in_first_units(values, start).mean(axis=-1) for values in (end, start)]
        gains.append(units[0] - units[1])
    return stats.paired(*gains, unit="standard deviations of the first policy", bootstrap=_FEWER)


def _fit(looks: Sequence[Look], form: Form) -> Json:
    """The curve of gold over KL through all looks, gold in standard deviations of the first policy."""
    start = looks[0].gold
    if start is None:
        raise InputError("no gold: no judge of development scores was given")
    seen = [look for look in looks[1:] if look.gold is not None and look.kl is not None]
    if len(seen) < 3:
        raise InputError("too few looks with gold and KL for a curve of two coefficients", found=len(seen), expected=3)
    gold_P_K = np.stack(
        [stats.in_first_units(look.gold, start).mean(axis=-1) for look in seen if look.gold is not None], 1
    )
    kl_K = np.maximum([float(np.mean(_of(look, "kl"))) for look in seen], 0.0)
    base_P = stats.in_first_units(start, start).mean(axis=-1)
    curve = stats.fit_overoptimisation(gold_P_K, kl_K, form, baseline=base_P, points=1, bootstrap=_FEWER)
    peak = None
    if curve.peak_distance is not None and curve.peak_gold is not None:
        distance = curve.peak_distance
        squared = replace(distance, value=distance.value**2, low=max(distance.low, 0.0) ** 2, high=distance.high**2)
        peak = {"kl": _told(squared), "gold": _told(curve.peak_gold), "seen": curve.peak_seen}
    return {"form": form, "alpha": _told(curve.alpha), "beta": _told(curve.beta), "peak": peak, "points": len(seen)}


def _length_share(first: Look, last: Look, prompts: Sequence[str], scored: str) -> Json:
    """How much of the gain is left at equal length."""
    start, end = (getattr(look, scored or "proxy") for look in (first, last))
    if start is None or end is None:
        raise InputError("no score at the first look and the last")
    width = max(1.0, min(BUCKET, round(float(first.length.mean()) / 10)))
    sides = [stats.Lengths(score.ravel(), look.length.ravel(), np.repeat(np.asarray(prompts), score.shape[1]))
             for score, look in ((start, first), (end, last))]  # fmt: skip
    made = stats.length_decomposition(*sides, width=width, bootstrap=_FEWER)
    return {"of": scored, "bucket": width, "gain": _told(made.gain), "non_length_gain": _told(made.nrg),
            "share": _told(made.share), "coverage": _told(made.coverage)}  # fmt: skip


def _warnings(made: Json, looks: Sequence[Look], steps: str) -> list[str]:
    found = []
    fall = _fall(looks)
    if fall is not None:
        best, change = fall
        place = f"KL {float(np.mean(_of(best, 'kl'))):.2f}" if best.kl is not None else f"{steps} {best.step}"
        found.append(f"proxy rose and gold fell after {place}: gold changed by {_said(_told(change))} from there on")
    share = made.get("length_share", {}).get("share")
    if share and made["length_share"]["gain"]["value"] > 0 and share["value"] <= 0.5:
        low, value, high = (100 * min(1.0, max(0.0, 1 - share[end])) for end in ("high", "value", "low"))
        found.append(
            f"length explains {value:.0f} % [{low:.0f}, {high:.0f}] of the gain in {made['length_share']['of']}"
        )
    ends = made["change"]["without_end"]
    if ends["low"] > 0:
        found.append(f"{100 * ends['value']:.0f} % [{100 * ends['low']:.0f}, {100 * ends['high']:.0f}] more of the "
                     "responses do not end by themselves")  # fmt: skip
    return found


def _fall(looks: Sequence[Look]) -> tuple[Look, Estimate] | None:
    """The look with the best gold, and gold's change from it to the last, where gold clearly fell and proxy clearly
    rose. The best of many looks is partly best by luck, so the level is corrected for their number (Bonferroni)."""
    seen = [look for look in looks if look.gold is not None and look.proxy is not None]
    if len(seen) < 2 or seen[-1] is not looks[-1]:
        return None
    best, last = max(seen, key=lambda look: float(np.mean(_of(look, "gold")))), seen[-1]
    if best is last:
        return None
    strict = stats.Bootstrap(level=1 - 0.05 / (len(seen) - 1), interval="t")
    gold, proxy = (stats.paired(_of(last, n), _of(best, n), bootstrap=strict) for n in ("gold", "proxy"))
    return (best, gold) if gold.high < 0 < proxy.low else None


def _told(estimate: Estimate | None) -> Json:
    """An estimate as plain values; empty where there is none."""
    if estimate is None:
        return {}
    ends = {name: round(getattr(estimate, name), 6) for name in ("value", "low", "high")}
    return ends | {"n": estimate.clusters, "missing": estimate.missing}


def _said(told: Json) -> str:
    return f"{told['value']:.2f} [{told['low']:.2f}, {told['high']:.2f}]"
