"""The drawings of a meta-evaluation: accuracy as a forest with marked lines, shares as a bar, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pippin.compare import wording as w
from pippin.compare.plots import Series, curve
from pippin.compare.svg import Axis, Span, figure, line, marker, points, shorten, tag, text

STEP = 18.0  # height of a row of the forest


@dataclass(frozen=True)
class Mark:
    """One judge of a forest, in percent; ``rule`` draws it as a trivial rule."""

    label: str
    at: Span
    rule: bool = False


def forest(
    groups: Sequence[tuple[str, Sequence[Mark]]],
    levels: Sequence[tuple[float, str]],
    *,
    name: str,
    title: str,
    axis: str = "accuracy, %",
) -> tuple[Markup, Markup]:
    """Accuracy with intervals, a row per judge, in a wide form and one for telephones.

    Rules have square marks. ``levels`` are lines through all rows with words at the foot.
    """
    return _forest(groups, levels, name, title, axis, False), _forest(groups, levels, name, title, axis, True)


def _forest(
    groups: Sequence[tuple[str, Sequence[Mark]]],
    levels: Sequence[tuple[float, str]],
    name: str,
    title: str,
    axis: str,
    narrow: bool,
) -> Markup:
    width = 360.0 if narrow else 920.0
    left, right = (8.0, 352.0) if narrow else (250.0, 770.0)
    lead = 17.0 if narrow else 0.0
    reach = [v for _, marks in groups for m in marks for v in m.at.reach] + [value for value, _ in levels]
    x = Axis(max(0.0, min(reach) - 3), min(100.0, max(reach) + 3), left, right)
    rows: list[Markup] = []
    y = 6.0
    for heading, marks in groups:
        if heading:
            rows += [text(0, y + 14, shorten(heading, 60), "heading"), line(0, y + 20, width, y + 20, "rule")]
            y += 26
        for mark in marks:
            middle = y + lead + STEP / 2
            words = w.estimate(mark.at.value, mark.at.low, mark.at.high, 1)
            if narrow:
                rows += [text(0, y + 13, shorten(mark.label, 30), "label halo")]
                rows += [text(width, y + 13, words, "tick halo", "end")]
            else:
                rows += [text(left - 14, middle + 4, shorten(mark.label, 34), "label", "end")]
                rows += [text(width, middle + 4, words, "label", "end")]
            ink = "ink-6" if mark.rule else "ink-0"
            if mark.at.low is not None and mark.at.high is not None:
                rows.append(line(x.at(mark.at.low), middle, x.at(mark.at.high), middle, f"{ink} whisker"))
            rows.append(marker(int(mark.rule), x.at(mark.at.value), middle, 4.0, f"{ink} dot"))
            y += lead + STEP
        y += 6
    lines = []
    for i, (value, words) in enumerate(sorted(levels)):
        lines.append(line(x.at(value), 4, x.at(value), y, "level"))
        at, anchor = x.at(value), "end" if x.at(value) > (left + right) / 2 else "start"
        foot = y + 54 + 15 * i
        lines.append(line(at, y, at, foot - 4, "level"))
        lines.append(text(at + (-5 if anchor == "end" else 5), foot, words, "tick halo", anchor))
    ticks = x.ticks(4 if narrow else 8)
    grid = [line(x.at(v), 4, x.at(v), y, "grid") for v, _ in ticks]
    feet = [text(x.at(v), y + 16, words, "tick halo", "middle") for v, words in ticks]
    feet.append(text((left + right) / 2, y + 33, axis, "axis halo", "middle"))
    form = "narrow" if narrow else "wide"
    spoken = "; ".join(
        f"{m.label}: {w.estimate(m.at.value, m.at.low, m.at.high, 1)}" for _, marks in groups for m in marks
    )
    return figure(
        [*grid, *lines, *rows, *feet], name=f"{name}-{form}", title=title, desc=spoken if not narrow else title,
        width=width, height=y + 44 + 15 * len(levels), class_=form,
    )  # fmt: skip


def bar(shares: Sequence[tuple[str, float]]) -> Markup:
    """Shares of a whole, side by side: class of the colour and share of each."""
    at, rects = 0.0, []
    for tone, share in shares:
        if share > 0:
            rects.append(tag("rect", x=100 * at, y=0, width=100 * share, height=8, class_=tone))
        at += share
    return tag("svg", *rects, class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true")


def reliability(bins: Sequence[Mapping[str, Any]], *, name: str, title: str) -> Markup:
    """How often the first response is better, by the probability that the judge gives it; on the diagonal is exact."""
    width, height = 420.0, 380.0
    x, y = Axis(0, 1, 46, width - 14), Axis(0, 1, height - 48, 50)
    parts = [text(0, 14, shorten(title, 44), "heading")]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            line(x.start, y.at(value), x.end, y.at(value), "grid"),
            line(x.at(value), y.start, x.at(value), y.end, "grid"),
            text(x.start - 6, y.at(value) + 4, f"{value:g}", "tick", "end"),
            text(x.at(value), y.start + 17, f"{value:g}", "tick", "middle"),
        ]  # fmt: skip
    parts.append(line(x.at(0), y.at(0), x.at(1), y.at(1), "level"))
    parts.append(
        text((x.start + x.end) / 2, y.start + 36, "probability of the first that the judge gives", "axis", "middle")
    )
    parts.append(text(0, 34, "share in which the first is better", "axis"))
    held = [b for b in bins if b["share"]]
    along = [(x.at(b["mean_p"]), y.at(b["share"]["value"])) for b in held]
    parts.append(tag("polyline", points=points(along), class_="ink-0 stroke"))
    for b, (at_x, at_y) in zip(held, along, strict=True):
        parts.append(line(at_x, y.at(b["share"]["low"]), at_x, y.at(b["share"]["high"]), "ink-0 whisker"))
        parts.append(marker(0, at_x, at_y, 4.0, "ink-0 dot"))
    spoken = "; ".join(
        f"{b['mean_p']:.2f}: {w.estimate(b['share']['value'], b['share']['low'], b['share']['high'], 2)}" for b in held
    )
    return figure(parts, name=name, title=title, desc=spoken or title, width=width, height=height, class_="half")


def abstention(steps: Sequence[Mapping[str, Any]], *, name: str, title: str) -> Markup | None:
    """Accuracy of the pairs that are kept as the judge leaves out those that it is least sure of."""
    held = [step for step in steps if step["accuracy"]]
    if not held:
        return None
    spans = tuple(Span(*(100 * s["accuracy"][k] for k in ("value", "low", "high"))) for s in held)
    series = Series(tuple(100 * s["coverage"] for s in held), spans, 2)
    return curve([(f"{shorten(title, 30)}: accuracy of pairs kept, %", series)], name=name, title=title, desc=title,
                 axis_x="share of pairs kept, %", warp="linear")  # fmt: skip
