"""The strokes that figures are made of, as SVG: elements, axes, markers. Pure functions: numbers in, markup out.

Colours are classes (``tone-better``, ``ink-3``), so that the page's style sheet sets them for light, dark and print.
Every figure has a title and a description for those who do not see it. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from pippin.compare.wording import MINUS, visible

INKS = 8  # colours and marker shapes before they repeat
Warp = Literal["linear", "sqrt", "log"]
Child = str | Markup


def tag(element: str, *children: Child, **attributes: object) -> Markup:
    """One element. ``class_`` gives ``class``, underscores become hyphens, None is left out, floats get one decimal."""
    held = []
    for name, value in attributes.items():
        if value is None:
            continue
        text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else visible(value)
        held.append(f' {name.rstrip("_").replace("_", "-")}="{escape(text)}"')
    inner = "".join(str(c) if isinstance(c, Markup) else str(escape(visible(c))) for c in children)
    return Markup(f"<{element}{''.join(held)}>{inner}</{element}>")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def text(x: float, y: float, content: str, class_: str = "label", anchor: str | None = None) -> Markup:
    return tag("text", content, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def shorten(content: str, limit: int = 24) -> str:
    """``content`` on one line of at most ``limit`` characters."""
    content = " ".join(visible(content).split())
    return content if len(content) <= limit else content[: limit - 1] + "…"


def figure(
    parts: Iterable[Markup], *, name: str, title: str, desc: str, width: float, height: float, class_: str
) -> Markup:
    """A whole figure; ``name`` makes the ids of its title and description unique in the page."""
    return tag(
        "svg", tag("title", title, id=f"{name}-title"), tag("desc", desc, id=f"{name}-desc"), *parts,
        class_=f"plot {class_}", viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}",
        role="img", aria_labelledby=f"{name}-title {name}-desc",
    )  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` onto pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    warp: Warp = "linear"

    def at(self, value: float) -> float:
        low, high, value = (self._warped(v) for v in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def _warped(self, value: float) -> float:
        if self.warp == "log":
            return math.log(max(value, 1e-12))
        return math.sqrt(max(value, 0.0)) if self.warp == "sqrt" else value

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round values inside the axis with their labels, about ``count`` of them."""
        if self.warp == "linear":
            return _linear_ticks(self.low, self.high, count)
        if self.warp == "log":
            powers = range(math.ceil(math.log2(self.low) - 1e-9), math.floor(math.log2(self.high) + 1e-9) + 1)
            held = [2.0**p for p in powers][:: max(1, math.ceil(len(powers) / (count + 2)))]
        else:
            rounds = [0.0, *(m * 10.0**e for e in range(-2, 5) for m in (1, 2, 5))]
            held = []
            for value in (v for v in rounds if self.low <= v <= self.high):
                if not held or abs(self.at(value) - self.at(held[-1])) >= 34:
                    held.append(value)
        return [(v, f"{v:,.10g}".replace("-", MINUS)) for v in held]


def _linear_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    width = high - low
    if width <= 0:
        return [(low, f"{low:g}".replace("-", MINUS))]
    power = 10 ** math.floor(math.log10(width / count))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(width / s - count))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step + 0.0:,.{digits}f}".replace("-", MINUS)) for i in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """The range of ``values`` with some room at both ends; one value gets room around it."""
    held = list(values)
    low, high = min(held), max(held)
    room = (high - low) * share or abs(high) * 0.1 or 0.5
    return low - room, high + room


def marker(shape: int, x: float, y: float, size: float, class_: str, tip: str = "") -> Markup:
    """One of eight shapes around (x, y), with ``tip`` under the pointer; colour alone never tells two arms apart."""
    shape %= INKS
    inner = [tag("title", tip)] if tip else []
    if shape == 0:
        return tag("circle", *inner, cx=float(x), cy=float(y), r=float(size), class_=class_)
    s = size * (1.0, 0.95, 1.25, 1.25, 1.25, 1.3, 1.35, 1.15)[shape]
    third = s * 0.42
    corners = {
        1: [(-s, -s), (s, -s), (s, s), (-s, s)],
        2: [(0, -s), (s, s * 0.8), (-s, s * 0.8)],
        3: [(0, -s), (s, 0), (0, s), (-s, 0)],
        4: [(0, s), (s, -s * 0.8), (-s, -s * 0.8)],
        5: [(-third, -s), (third, -s), (third, -third), (s, -third), (s, third), (third, third), (third, s),
            (-third, s), (-third, third), (-s, third), (-s, -third), (-third, -third)],
        6: [(-s, -s), (0, -third), (s, -s), (third, 0), (s, s), (0, third), (-s, s), (-third, 0)],
        7: [(-s, 0), (-s / 2, -s * 0.9), (s / 2, -s * 0.9), (s, 0), (s / 2, s * 0.9), (-s / 2, s * 0.9)],
    }[shape]  # fmt: skip
    return tag("polygon", *inner, points=points((x + dx, y + dy) for dx, dy in corners), class_=class_)


def points(corners: Iterable[tuple[float, float]]) -> str:
    """The ``points`` attribute of a polygon or polyline."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


@dataclass(frozen=True)
class Span:
    """A value with its interval; the ends are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def reach(self) -> tuple[float, ...]:
        """The numbers that an axis must hold."""
        return tuple(v for v in (self.value, self.low, self.high) if v is not None)
