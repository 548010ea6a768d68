"""The section on calibration: whether a judge's probabilities mean what they say, in figures and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pippin.compare import wording as w
from pippin.compare.meta import charts
from pippin.compare.meta.answer import Result
from pippin.compare.meta.blocks import (
    Drawings,
    Folded,
    Heading,
    Judges,
    Section,
    Table,
    Text,
    counts,
    estimates,
    plural,
)


def calibration(result: Result, judges: Judges) -> Section:
    """Whether probabilities mean what they say."""
    blocks: list[Any] = []
    for index, name in enumerate(result["sets"]):
        here = [j for j in judges.of(name) if judges.cells[j.name, name]["calibration"]]
        found = [judges.cells[j.name, name]["calibration"] for j in here]
        if not here:
            continue
        columns = [
            estimates("Brier", [c["brier"] for c in found], scale=1, digits=3),
            estimates("Brier, one order", [c["brier_one_order"] for c in found], scale=1, digits=3),
            estimates("calibration error", [c["expected_calibration_error"] for c in found], scale=1, digits=3),
            counts("probabilities", [c["given"] for c in found]),
        ]
        blocks += [Heading(name), judges.table(f"Calibration on {name}", here, columns)]
        drawn = []
        for at, (judge, one) in enumerate(zip(here, found, strict=True)):
            key = f"calibration-{index}-{at}"
            drawn.append(charts.reliability(one["reliability"], name=key, title=judge.name))
            kept = charts.abstention(one["abstention"], name=f"{key}-kept", title=judge.name)
            drawn += [kept] if kept is not None else []
        figure = Drawings("Reliability, and accuracy as the least sure pairs are left out", tuple(drawn), grid=True)
        blocks.append(figure if len(here) <= 4 else Folded(f"Figures of {plural(len(here), 'judge')}", (figure,)))
        behind = [block for judge, one in zip(here, found, strict=True) for block in _behind(judge.name, one)]
        blocks.append(Folded("The numbers behind the figures", tuple(behind)))
    if not blocks:
        one = sum(not judge.rule for judge in judges.order) == 1
        blocks.append(Text(f"no probabilities: the {'judge gives' if one else 'judges give'} no log-probabilities"))
    return Section(
        "calibration", "Calibration",
        "Whether probabilities mean what they say; those of both orders are averaged in log-odds first.", tuple(blocks),
    )  # fmt: skip


def _behind(name: str, found: Mapping[str, Any]) -> list[Any]:
    """The numbers that the figures of one judge are drawn from."""
    bins = [b for b in found["reliability"] if b["share"]]
    steps = [step for step in found["abstention"] if step["accuracy"]]
    reliable = (counts("mean probability", [b["mean_p"] for b in bins], (), 2),
                estimates("first is better %", [b["share"] for b in bins]))  # fmt: skip
    kept = (estimates("accuracy %", [step["accuracy"] for step in steps]),)
    ranges = tuple(f"{w.number(b['low'], 2)} to {w.number(b['high'], 2)}" for b in bins)
    shares = tuple(f"{w.number(100 * step['coverage'], 0)} %" for step in steps)
    return [Heading(name), Table(f"Reliability of {name}", "probability of the first", ranges, reliable),
            Table(f"Abstention of {name}", "pairs kept", shares, kept)]  # fmt: skip
