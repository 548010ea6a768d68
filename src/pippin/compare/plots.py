"""The kinds of figures in a comparison's page, drawn from plain numbers; what the numbers mean is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from markupsafe import Markup

from pippin.compare.svg import Axis, Span, Warp, figure, line, marker, padded, points, shorten, tag, text


@dataclass(frozen=True)
class ForestRow:
    """One arm: its pooled difference, the seeds behind it, whether it is better, and the words at its right."""

    label: str
    pooled: Span
    seeds: tuple[Span, ...]
    tone: Literal["better", "worse", "unclear"]
    words: str


def forest(
    groups: Sequence[tuple[str, Sequence[ForestRow]]],
    *,
    name: str,
    title: str,
    desc: str,
    axis: str,
    hints: tuple[str, str],
    narrow: bool = False,
    dense: bool = False,
) -> Markup:
    """The forest plot: a row per arm, a diamond as wide as its pooled interval, seeds as small marks, a line at zero.

    ``hints`` are the words at the left and right end of the axis. ``narrow`` puts the words above each row, for
    telephones. ``dense`` leaves out seeds, and on telephones words, so that many arms fit on a screen.
    """  # fmt: skip
    width = 360.0 if narrow else 920.0
    left, right = (8.0, 352.0) if narrow else (164.0, 700.0)
    lead = (18.0 if dense else 36.0) if narrow else 0.0  # height of the words above a row
    if dense:
        groups = [(heading, [replace(row, seeds=()) for row in rows]) for heading, rows in groups]
    low, high = padded([0.0, *(v for _, rows in groups for r in rows for s in (r.pooled, *r.seeds) for v in s.reach)])
    x = Axis(low, high, left, right)
    marks: list[Markup] = []
    y = 8.0
    for heading, rows in groups:
        marks += [text(0, y + 15, heading, "heading"), line(0, y + 23, width, y + 23, "rule")]
        y += 32
        for row in rows:
            middle = y + lead + (8 if dense else 12)
            listed = len(row.seeds) <= 4  # more seeds than that share one line, as marks without intervals
            deep = 8.0 * (len(row.seeds) if listed else 1)
            label = text(0, y + 15 if narrow else middle + 4, shorten(row.label), "label strong halo")
            marks.append(label)
            if not narrow:
                marks.append(text(width, middle + 4, row.words, anchor="end"))
            elif not dense:
                marks.append(text(0, y + 32, row.words, "label halo"))
            marks.append(_diamond(x, middle, row.pooled, row.tone, 5 if dense else 7))
            for i, seed in enumerate(row.seeds):
                below = middle + 12 + (8 * i if listed else 0)
                if listed and seed.low is not None and seed.high is not None:
                    marks.append(line(x.at(seed.low), below, x.at(seed.high), below, "whisker faint"))
                marks.append(marker(0, x.at(seed.value), below, 2.4, "seed"))
            y += lead + (16 if dense else 24 + (deep + 4 if row.seeds else 4))
        y += 10
    bottom = y
    ticks = x.ticks(4 if narrow else 7)
    grid = [line(x.at(v), 30, x.at(v), bottom, "zero" if abs(v) < 1e-12 else "grid") for v, _ in ticks]
    feet = [text(x.at(v), bottom + 16, words, "tick", "middle") for v, words in ticks]
    zero = x.at(0.0)
    feet.append(text((left + right) / 2, bottom + 35, axis, "axis", "middle"))
    if not narrow and zero - left > 90:
        feet.append(text(left, bottom + 35, f"← {hints[0]}", "axis", "start"))
    if not narrow and right - zero > 90:
        feet.append(text(right, bottom + 35, f"{hints[1]} →", "axis", "end"))
    form = "narrow" if narrow else "wide"
    return figure(
        [*grid, *marks, *feet],
        name=f"{name}-{form}",
        title=title,
        desc=desc,
        width=width,
        height=bottom + 42,
        class_=form,
    )


def _diamond(x: Axis, middle: float, span: Span, tone: str, tall: float) -> Markup:
    """A diamond from the low to the high end, its tips above and below at the value; never too narrow to be seen."""
    at = x.at(span.value)
    low = min(at - 3, x.at(span.value if span.low is None else span.low))
    high = max(at + 3, x.at(span.value if span.high is None else span.high))
    corners = [(low, middle), (at, middle - tall), (high, middle), (at, middle + tall)]
    return tag("polygon", points=points(corners), class_=f"tone-{tone}")


@dataclass(frozen=True)
class Point:
    """One mark of a scatter plot. ``bound`` means that x is an upper bound; equal labels share one caption."""

    x: Span
    y: Span
    ink: int
    label: str
    bound: bool = False


def scatter(
    panels: Sequence[tuple[str, Sequence[Point]]],
    *,
    name: str,
    title: str,
    desc: str,
    axis_x: str,
    axis_y: str,
    warp: Warp = "linear",
    levels: Sequence[tuple[float, str] | None] = (),
    captions: int = 12,
) -> list[Markup]:
    """One figure per panel, all on the same axes, with intervals as bars; ``levels``: a dashed line with words each.

    Of more labels than ``captions`` only the outermost are written; every mark has its label as a tool tip.
    """
    every = [p for _, held in panels for p in held]
    low_x, high_x = padded((v for p in every for v in p.x.reach), 0.08)
    low_y, high_y = padded([v for p in every for v in p.y.reach] + [v[0] for v in levels if v], 0.08)
    if warp == "sqrt":
        low_x = 0.0
    width, height = 420.0, 350.0
    x, y = Axis(low_x, high_x, 52, width - 12, warp), Axis(low_y, high_y, height - 48, 44)
    figures = []
    for i, (heading, held) in enumerate(panels):
        level = levels[i] if i < len(levels) else None
        parts = [text(0, 14, heading, "heading"), *_frame(x, y, axis_x, axis_y)]
        if level:
            parts += [line(x.start, y.at(level[0]), x.end, y.at(level[0]), "level")]
        for p in held:
            parts += _bars(x, y, p)
        parts += [marker(p.ink, x.at(p.x.value), y.at(p.y.value), 4.6, f"ink-{p.ink % 8} dot", p.label) for p in held]
        parts += _captions(x, y, held, _outermost(held, captions), level)
        figures.append(
            figure(
                parts,
                name=f"{name}-{i}",
                title=f"{title}: {heading}",
                desc=desc,
                width=width,
                height=height,
                class_="half",
            )
        )
    return figures


def _bars(x: Axis, y: Axis, p: Point) -> list[Markup]:
    """The interval bars of a point; an upper bound has a dashed tail to the left, where the true value may be."""
    at_x, at_y, class_ = x.at(p.x.value), y.at(p.y.value), f"ink-{p.ink % 8} whisker"
    bars = []
    if p.y.low is not None and p.y.high is not None:
        bars.append(line(at_x, y.at(p.y.low), at_x, y.at(p.y.high), class_))
    if p.x.low is not None and p.x.high is not None and p.x.high > p.x.low:
        bars.append(line(x.at(p.x.low), at_y, x.at(p.x.high), at_y, class_))
    if p.bound:
        bars.append(line(max(x.start, at_x - 34), at_y, at_x, at_y, f"{class_} tail"))
    return bars


def _outermost(held: Sequence[Point], most: int) -> list[str]:
    """Labels to write: all of a few; of many those furthest up, down, left and right, by turns."""
    labels = list(dict.fromkeys(p.label for p in held))
    if len(labels) <= most:
        return labels
    orders = [sorted(held, key=key) for key in (lambda p: -p.y.value, lambda p: p.y.value,
                                                lambda p: -p.x.value, lambda p: p.x.value)]  # fmt: skip
    ranked = dict.fromkeys(p.label for turn in zip(*orders, strict=True) for p in turn)
    return list(ranked)[:most]


def _captions(
    x: Axis, y: Axis, held: Sequence[Point], labels: Sequence[str], level: tuple[float, str] | None
) -> list[Markup]:
    """One caption per label near the middle of its points, where it covers neither points nor other captions."""
    size, taken = (
        7.0,
        [(x.at(p.x.value) - 6, y.at(p.y.value) - 6, x.at(p.x.value) + 6, y.at(p.y.value) + 6) for p in held],
    )
    parts = []
    if level:
        words = shorten(level[1], 28)
        taken.append((x.end - size * len(words), y.at(level[0]) - 15, x.end, y.at(level[0])))
        parts.append(text(x.end, y.at(level[0]) - 4, words, "tick", "end"))
    middles = {
        n: (fmean(x.at(p.x.value) for p in held if p.label == n), fmean(y.at(p.y.value) for p in held if p.label == n))
        for n in labels
    }
    for label in sorted(labels, key=lambda n: middles[n]):
        at_x, at_y = middles[label]
        words = shorten(label, 20)
        wide = size * len(words)
        box = min(_places(at_x, at_y, wide), key=lambda b: _cost(b, taken, x, y, (at_x, at_y)))
        taken.append(box)
        near_x, near_y = min(max(at_x, box[0]), box[2]), min(max(at_y, box[1]), box[3])
        if abs(near_x - at_x) + abs(near_y - at_y) > 22:
            parts.append(line(at_x, at_y, near_x, near_y, "leader"))
        side = (box[0] + box[2]) / 2 - at_x  # text grows away from its point, however wide the reader's font is
        anchor, foot = ("start", box[0]) if side > 1 else ("end", box[2]) if side < -1 else ("middle", at_x)
        parts.append(text(foot, box[3] - 3, words, "label halo", anchor))
    return parts


Box = tuple[float, float, float, float]


def _places(x: float, y: float, wide: float) -> list[Box]:
    """Where a caption of a point may stand, the best places first: beside, above and below, then further away."""
    corners = [(10.0, -7.0), (-wide - 10, -7.0), (-wide / 2, -24.0), (-wide / 2, 10.0)]
    for far in (16.0, 30.0, 46.0, 64.0):
        corners += [(12.0, -7 - far), (12.0, -7 + far), (-wide - 12, -7 - far), (-wide - 12, -7 + far)]
    return [(x + dx, y + dy, x + dx + wide, y + dy + 14) for dx, dy in corners]


def _cost(box: Box, taken: Sequence[Box], x: Axis, y: Axis, at: tuple[float, float]) -> float:
    overlap = sum(
        max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1])) for b in taken
    )
    outside = (
        max(0.0, x.start - box[0]) + max(0.0, box[2] - x.end) + max(0.0, y.end - box[1]) + max(0.0, box[3] - y.start)
    )
    return overlap * 10 + outside * 100 + abs((box[0] + box[2]) / 2 - at[0]) + 2 * abs((box[1] + box[3]) / 2 - at[1])


def _frame(x: Axis, y: Axis, axis_x: str, axis_y: str, ticks: tuple[int, int] = (6, 5)) -> list[Markup]:
    """Grid, tick labels and the names of both axes; that of the vertical one stands above it and reads level."""
    parts = []
    for value, words in y.ticks(ticks[1]):
        parts += [
            line(x.start, y.at(value), x.end, y.at(value), "grid"),
            text(x.start - 6, y.at(value) + 4, words, "tick", "end"),
        ]
    parts.append(line(x.start, y.start, x.end, y.start, "rule"))
    for value, words in x.ticks(ticks[0]):
        parts += [
            line(x.at(value), y.start, x.at(value), y.start + 4, "rule"),
            text(x.at(value), y.start + 17, words, "tick", "middle"),
        ]
    if axis_x:
        parts.append(text((x.start + x.end) / 2, y.start + 36, axis_x, "axis", "middle"))
    if axis_y:
        parts.append(text(0, y.end - 10, axis_y, "axis"))
    return parts


@dataclass(frozen=True)
class Series:
    """A line: x values with a Span each (drawn with a band where intervals are known), and its colour."""

    xs: tuple[float, ...]
    ys: tuple[Span, ...]
    ink: int
    dash: int = 0  # which of three dash patterns


def curve(
    panels: Sequence[tuple[str, Series]],
    *,
    name: str,
    title: str,
    desc: str,
    axis_x: str,
    warp: Warp,
    below: Sequence[tuple[float, str]] = (),
    peak: float | None = None,
) -> Markup:
    """Panels above each other over one x axis, each with its own y axis.

    ``below`` are words under the axis at given x; ``peak`` draws a line through all panels, behind which the ground
    is tinted.
    """  # fmt: skip
    width, tall = 420.0, 138.0
    xs = [v for _, s in panels for v in s.xs]
    low, high = min(xs), max(xs)
    x = Axis(low, high if high > low else low + 1, 56, width - 16, warp)
    bottom = 12 + len(panels) * (tall + 34) - 8
    parts: list[Markup] = []
    for i, (heading, series) in enumerate(panels):
        top = 12 + i * (tall + 34)
        y = Axis(*padded([v for s in series.ys for v in s.reach], 0.1), top + 14 + tall, top + 14)
        parts.append(text(0, top + 6, heading, "heading"))
        if peak is not None:
            at, wide = x.at(peak), x.end + 6 - x.at(peak)
            parts.append(tag("rect", x=at, y=y.end, width=wide, height=tall, class_="past"))
            parts.append(line(at, y.start, at, y.end, "peak"))
        for value, words in y.ticks(4):
            parts += [
                line(x.start, y.at(value), x.end, y.at(value), "grid"),
                text(x.start - 6, y.at(value) + 4, words, "tick", "end"),
            ]
        parts += [
            *_stroke(x, y, series),
            *(
                marker(series.ink, x.at(v), y.at(s.value), 3.4, f"ink-{series.ink} dot")
                for v, s in zip(series.xs, series.ys, strict=True)
            ),
        ]
    parts.append(line(x.start, bottom, x.end, bottom, "rule"))
    parts += [text(x.at(v), bottom + 17, words, "tick", "middle") for v, words in x.ticks(7)]
    parts += [text(x.at(v), bottom + 32, words, "tick faint", "middle") for v, words in below]
    height = bottom + (58 if below else 42)
    parts.append(text(width / 2, height - 6, axis_x, "axis", "middle"))
    return figure(parts, name=name, title=title, desc=desc, width=width, height=height, class_="half")


def small_multiples(
    panels: Sequence[tuple[str, Sequence[Series]]],
    *,
    name: str,
    title: str,
    axis_x: str,
    shared: bool,
) -> list[Markup]:
    """Many small line charts, one figure each; with ``shared`` all have the same y axis, otherwise each its own."""
    width, height = 184.0, 150.0
    whole = padded(v for _, held in panels for s in held for span in s.ys for v in span.reach)
    figures = []
    for i, (heading, held) in enumerate(panels):
        xs = [v for s in held for v in s.xs]
        low, high = min(xs), max(xs)
        x = Axis(low, high if high > low else low + 1, 44, width - 8)
        y = Axis(*(whole if shared else padded(v for s in held for span in s.ys for v in span.reach)), height - 36, 26)
        parts = [text(0, 12, shorten(heading, 22), "label strong"), *_frame(x, y, axis_x, "", ticks=(3, 3))]
        parts += [part for s in held for part in _stroke(x, y, s)]
        figures.append(
            figure(
                parts,
                name=f"{name}-{i}",
                title=f"{title}: {shorten(heading, 60)}",
                desc=f"{heading}: ends at {held[-1].ys[-1].value:.3g}",
                width=width,
                height=height + 4,
                class_="small",
            )
        )
    return figures


def _stroke(x: Axis, y: Axis, series: Series) -> list[Markup]:
    """The band of a line and the line; a line of one point is a mark."""
    along = list(zip(series.xs, series.ys, strict=True))
    parts = []
    known = [(v, s.low, s.high) for v, s in along if s.low is not None and s.high is not None]
    if len(known) > 1:
        edge = [(x.at(v), y.at(low)) for v, low, _ in known] + [(x.at(v), y.at(high)) for v, _, high in reversed(known)]
        parts.append(tag("polygon", points=points(edge), class_=f"ink-{series.ink % 8} band"))
    if len(along) == 1:
        return [marker(0, x.at(along[0][0]), y.at(along[0][1].value), 2.6, f"ink-{series.ink % 8} dot")]
    parts.append(
        tag(
            "polyline",
            points=points((x.at(v), y.at(s.value)) for v, s in along),
            class_=f"ink-{series.ink % 8} stroke dash-{series.dash % 3}",
        )
    )
    return parts
