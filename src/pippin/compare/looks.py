"""Looking at a study before all of it is run, and stopping when the answer is clear, with the error rate kept.

``looks: {over: seeds, at: [5, 8, 12]}`` runs the first 5 seeds of every arm, looks, and goes on only while a comparison
is open; ``over: prompts`` does the same with the first test prompts in a random order. Each look has the bound of its
spending function (:mod:`pippin.stats.sequential`), shared among the arms by Holm's procedure, so that the probability
of any false claim, over all arms and all looks, stays below 0.05. The intervals are repeated confidence intervals.

Only the comparisons with the baseline at the study's own way of answering are looked at; other rows of the results are
taken as they stand when the study stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from scipy import stats as distributions

from pippin import stats
from pippin.core.errors import InputError, UnknownName
from pippin.stats.intervals import t_test
from pippin.stats.resampling import SEEDS_FOR_THE_METHOD, Spread
from pippin.stats.sequential import Spending

if TYPE_CHECKING:
    from pippin.compare.study import Study

Json = dict[str, Any]
ALPHA = 0.05
OVER = ("seeds", "prompts")
KEYS = ("over", "at", "spending")


@dataclass(frozen=True)
class Looks:
    """When a study is looked at: after so many seeds or prompts, the last of which are all."""

    over: str
    at: tuple[int, ...]
    spending: Spending = "obrien_fleming"

    @property
    def times(self) -> tuple[float, ...]:
        """Share of the information at each look. The prompts' part of the error does not shrink with seeds (nor the
        seeds' part with prompts): then looks are more alike than this says, and the error rate is kept with room."""
        return tuple(n / self.at[-1] for n in self.at)


def read(study: Study, where: str = "looks") -> Looks | None:
    """The looks that a study takes; None where it takes none.

    Raises:
        InputError, UnknownName: what it says is not a plan of looks.
    """
    told = study.looks
    if not told:
        return None
    for key in told:
        if key not in KEYS:
            raise UnknownName("key of looks", str(key), KEYS, where=where)
    over, at, spending = told.get("over"), told.get("at"), told.get("spending", "obrien_fleming")
    if over not in OVER:
        raise UnknownName("what looks go over", str(over), OVER, where=f"{where}.over")
    if spending not in get_args(Spending):
        raise UnknownName("spending function", str(spending), get_args(Spending), where=f"{where}.spending")
    whole = isinstance(at, (list, tuple)) and all(isinstance(n, int) and not isinstance(n, bool) for n in at)
    if not whole or not at or any(b <= a for a, b in zip((0, *at), at, strict=False)):
        raise InputError("looks go up", where=f"{where}.at", found=at, expected="whole numbers, each above the last")
    if over == "seeds" and (at[0] < SEEDS_FOR_THE_METHOD or at[-1] != len(study.seeds)):
        raise InputError("looks over seeds go from five or more to all seeds", where=f"{where}.at", found=list(at),
                         expected=f"{SEEDS_FOR_THE_METHOD} or more first, {len(study.seeds)} last")  # fmt: skip
    if over == "prompts" and at[0] < 2:
        raise InputError("one prompt has no spread", where=f"{where}.at", found=at[0], expected="2 or more")
    return Looks(over, tuple(at), spending)


def study_at(study: Study, looks: Looks, look: int) -> Study:
    """The part of a study that a look needs."""
    n = looks.at[look]
    if looks.over == "seeds":
        return replace(study, seeds=study.seeds[:n])
    return replace(study, prompts=replace(study.prompts, test=f"{study.prompts.test}#first={n}"))


def earlier(prompts: str, told: Json) -> str | None:
    """The prompts of the look before the one that ``prompts`` belongs to; None where it is the first, or of no look."""
    whole, _, count = prompts.rpartition("#first=")
    at = list(told.get("at", ())) if told.get("over") == "prompts" else []
    place = at.index(int(count)) if whole and count.isdecimal() and int(count) in at else 0
    return f"{whole}#first={at[place - 1]}" if place else None


def judged(looks: Looks, taken: Sequence[Sequence[Json]], margin: float | None = None) -> list[Json]:
    """The rows of the last look with what all looks came to: ``p``, ``bound``, ``low``, ``high``, ``decided``.

    Args:
        taken: for each look the same arms in the same order: ``name``, ``baseline``, ``delta``, ``error`` and
            ``freedom``, these None where there is nothing to compare.
        margin: where given, an interval within it decides too, at the level of the first step of Holm's procedure.

    Raises:
        InputError: no arm, or more looks than planned.
    """
    p_K_M = np.array([[_p(row) for row in rows] for rows in taken])
    k, arms = len(taken) - 1, len(taken[-1])
    found = stats.stepwise(p_K_M, looks.times, ALPHA, looks.spending)
    least = float(stats.nominal_levels(looks.times, ALPHA / arms, looks.spending)[k])
    out = []
    for m, row in enumerate(taken[-1]):
        bound = float(stats.nominal_levels(looks.times, found.alpha_M[m], looks.spending)[k])
        low, high = _ends(row, bound)
        inner = _ends(row, least)
        decided = None
        if found.decided_M[m] >= 0:
            decided = "better" if taken[found.decided_M[m]][m]["delta"] > 0 else "worse"
        elif margin is not None and row["error"] and inner[0] is not None and inner[1] is not None:
            decided = "equivalent" if -margin < inner[0] and inner[1] < margin else None
        out.append({
            "name": row["name"], "baseline": row["baseline"], "delta": row["delta"], "low": low, "high": high,
            "p": _p(row), "bound": bound, "decided": decided,
        })  # fmt: skip
    return out


def report(looks: Looks, taken: Sequence[Sequence[Json]], scope: str, decoding: str) -> Json:
    """What the looks came to, as ``results.json`` says it. ``taken``: the rows of each look from :func:`judged`."""
    reached = len(taken) - 1
    done = all(row["decided"] for row in taken[-1])
    spent = [float(s) for s in np.cumsum(stats.crossing(
        stats.nominal_levels(looks.times, ALPHA, looks.spending), looks.times))]  # fmt: skip
    return {
        "over": looks.over, "at": list(looks.at), "spending": looks.spending, "alpha_spent": spent, "scope": scope,
        "decoding": decoding, "taken": [{"at": looks.at[n], "rows": list(rows)} for n, rows in enumerate(taken)],
        "stopped_at": looks.at[reached], "why": "every comparison is decided" if done else "the looks are used up",
    }  # fmt: skip


def apply(looked: Json, claims: Sequence[Json], pooled: Sequence[Json]) -> None:
    """Put the repeated intervals of the last look, and p-values over all looks, in the place of those of one look."""
    last = {row["name"]: row for row in looked["taken"][-1]["rows"]}
    adjusted = _adjusted(looked)
    for row in (*claims, *pooled):
        mine = last.get(row["name"])
        if mine is None or (row["decoding"], row["scope"]) != (looked["decoding"], looked["scope"]):
            continue
        prefix = "delta_" if "delta_low" in row else ""
        row |= {f"{prefix}low": mine["low"], f"{prefix}high": mine["high"]}
        row |= {"p": mine["p"], "p_holm": adjusted[row["name"]]}
        if "verdict" in row:
            row["verdict"] = mine["decided"] if mine["decided"] in ("better", "worse") else "cannot tell"


def _adjusted(looked: Json) -> dict[str, float]:
    """For each arm the smallest error rate at which the looks would have decided it, rounded up to a grid.

    Source: Jennison & Turnbull (2000), section 9.5, repeated p-values.
    """
    names = [row["name"] for row in looked["taken"][-1]["rows"]]
    p_K_M = np.array([[row["p"] for row in look["rows"]] for look in looked["taken"]])
    times = [n / looked["at"][-1] for n in looked["at"]]
    rates = [*np.geomspace(1e-6, ALPHA, 48), *np.geomspace(ALPHA, 0.99, 25)[1:]]
    out = dict.fromkeys(names, 1.0)
    for rate in reversed(rates):
        found = stats.stepwise(p_K_M, times, float(rate), looked["spending"]).decided_M
        out |= {name: float(rate) for name, look in zip(names, found, strict=True) if look >= 0}
    return out


def told(looked: Json | None) -> str:
    """At which look a study stopped, and what its intervals are."""
    if looked is None:
        return ""
    at, stopped, over = looked["at"], looked["stopped_at"], looked["over"]
    reached = at.index(stopped) + 1
    spared = f"; {at[-1] - stopped} {over} an arm were not needed" if stopped < at[-1] and over == "seeds" else ""
    alike = [row["name"] for row in looked["taken"][-1]["rows"] if row["decided"] == "equivalent"]
    equivalent = f" Equivalent within the margin: {', '.join(alike)}." if alike else ""
    return (
        f" Stopped at look {reached} of {len(at)} ({stopped} of {at[-1]} {over}): {looked['why']}{spared}. Intervals "
        f"are those of repeated looks.{equivalent}"
    )


def _p(row: Json) -> float:
    return 1.0 if row["error"] is None else t_test(row["delta"], Spread(row["error"], row["freedom"]))


def _ends(row: Json, level: float) -> tuple[float | None, float | None]:
    """The interval of a nominal level; none where nothing is spent at this look, or there is nothing to compare."""
    if row["error"] is None or level <= 0:
        return None, None
    half = float(distributions.t.isf(level / 2, row["freedom"])) * row["error"]
    return row["delta"] - half, row["delta"] + half
