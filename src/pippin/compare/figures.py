"""The figures of a comparison's page, from its results. Each comes with the sentences that stand beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from pippin.compare import wording as w
from pippin.compare.plots import ForestRow, Point, Series, curve, forest, scatter, small_multiples
from pippin.compare.svg import Span
from pippin.compare.tables import BOUND, ArmRows, Names, arm_order, arm_rows, decodings, is_baseline, tone
from pippin.compare.wording import Results

_STEPS = 120  # points of a learning curve at most; half as many where there are many arms


@dataclass(frozen=True)
class Figure:
    """Drawings that belong together, a heading where there are several such groups, and what to say beside them."""

    drawings: tuple[Markup, ...]
    heading: str = ""
    sentences: tuple[str, ...] = ()


def span(row: Mapping[str, Any], keys: tuple[str, str, str]) -> Span | None:
    """A value of ``row`` with its interval, or None where it has none."""
    value, low, high = (w.finite(row.get(k)) for k in keys)
    return None if value is None else Span(value, low, high)


def forest_figure(results: Results) -> list[Figure]:
    """Every arm's difference from the baseline, the best first; every decoding keeps the first one's order.

    One figure with a group for each decoding; of many arms a denser one for each decoding.
    """
    names = Names.of(results)
    arms = [a for a in arm_rows(results) if not is_baseline(a.shown, names)]
    sizes: dict[str, float] = {}
    for a in arms:
        if found := span(a.shown, names.delta):
            sizes.setdefault(a.name, found.value)
    ranked = sorted(sizes, key=lambda n: -sizes[n] if names.higher_is_better else sizes[n])
    groups = [(d or "all responses", _forest_rows(arms, d, ranked, names)) for d in decodings(arms)]
    groups = [(heading, rows) for heading, rows in groups if rows]
    if not groups:
        return []
    dense = len(ranked) > w.MANY
    hints = ("arm worse", "arm better") if names.higher_is_better else ("arm better", "arm worse")
    title = f"Difference of every arm from {names.baseline} in {names.metric}, with 95 % intervals"
    axis = f"difference from {names.baseline} in {names.metric}" + (f" ({names.unit})" if names.unit else "")
    found = []
    for i, held in enumerate([[group] for group in groups] if dense else [groups]):
        spoken = "; ".join(f"{row.label}, {heading}: {row.words}" for heading, rows in held for row in rows)
        drawings = tuple(
            forest(held, name=f"forest-{i}" if i else "forest", title=title, desc=spoken, axis=axis, hints=hints,
                   narrow=narrow, dense=dense)
            for narrow in (False, True)
        )  # fmt: skip
        found.append(Figure(drawings, held[0][0] if dense else ""))
    return found


def _forest_rows(arms: Sequence[ArmRows], decoding: str, ranked: Sequence[str], names: Names) -> list[ForestRow]:
    rows = []
    held = {a.name: a for a in arms if a.decoding == decoding}
    for a in (held[name] for name in ranked if name in held):
        pooled = span(a.shown, names.delta)
        if pooled is not None:
            words = w.estimate(pooled.value, pooled.low, pooled.high, signed=True)
            seeds = tuple(s for s in (span(r, names.delta) for r in a.seeds) if s)
            told = f"{words}, n {w.count(a.shown.get('n'))}"
            rows.append(ForestRow(a.name, pooled, seeds, tone(a.shown, names), told))
    return rows


def scatters(results: Results) -> dict[str, Figure | None]:
    """The metric against KL (``gold_kl``) and against length (``gold_length``)."""
    metric = Names.of(results).metric
    return {
        "gold_kl": scatter_figure(
            results, "kl", name="kl", title=f"{metric} against KL", warp="sqrt",
            axis="KL from the reference, nats per response (square-root scale)",
        ),
        "gold_length": scatter_figure(
            results, "mean_length", name="length", title=f"{metric} against length",
            axis="mean length of a response, tokens",
        ),
    }  # fmt: skip


def scatter_figure(
    results: Results, key: str, *, name: str, title: str, axis: str, warp: Any = "linear"
) -> Figure | None:
    """The metric against the number under ``key``, a panel per decoding: one point per arm and seed, of many arms one
    per arm."""
    names, arms = Names.of(results), arm_rows(results)
    inks = {arm: i for i, arm in enumerate(arm_order(arms))}
    if len(inks) > w.MANY:
        arms = [_pooled(a, key) for a in arms]
    panels, levels, drawn, left = [], [], 0, 0
    for decoding in decodings(arms):
        held = [a for a in arms if a.decoding == decoding]
        found = [p for a in held for r in (a.seeds or (a.shown,)) if (p := _point(r, a, key, names, inks[a.name]))]
        left += sum(len(a.seeds or (a.shown,)) for a in held) - len(found)
        if len({p.label for p in found}) > 1:
            panels.append((decoding or "all responses", found))
            levels.append(_level(held, names))
            drawn += len(found)
    if not panels:
        return None
    desc = "; ".join(f"{p.label}: {p.x.value:.2f}, {names.metric} {p.y.value:.3f}" for _, held in panels for p in held)
    drawings = scatter(
        panels,
        name=name,
        title=title,
        desc=desc,
        axis_x=axis,
        axis_y=names.metric,
        warp=warp,
        levels=levels,
        captions=8 if len(inks) > w.MANY else w.MANY,
    )
    each = "" if len(inks) > w.MANY else " and seed"
    bounds = any(p.bound for _, held in panels for p in held)
    sentences = [
        f"{drawn} points, each one arm{each}; bars are 95 % intervals over prompts.",
        "Names stand at the outermost; the others show theirs under the pointer." if len(inks) > w.MANY else "",
        "A dashed tail marks an upper bound: the true value lies at the mark or left of it." if bounds else "",
        f"{left} rows without this number are not drawn." if left else "",
    ]
    return Figure(tuple(drawings), sentences=tuple(filter(None, sentences)))


def _pooled(arm: ArmRows, key: str) -> ArmRows:
    """The arm without its seeds; its ``key`` is the mean of theirs, without an interval."""
    held = [v for row in arm.seeds if (v := w.finite(row.get(key))) is not None]
    kind = next((row["kl_kind"] for row in arm.seeds if row.get("kl_kind")), arm.shown.get("kl_kind"))
    middle = {key: sum(held) / len(held), f"{key}_low": None, f"{key}_high": None} if held else {}
    return replace(arm, head={**arm.shown, **middle, "kl_kind": kind}, seeds=())


def _point(row: Mapping[str, Any], arm: ArmRows, key: str, names: Names, ink: int) -> Point | None:
    x, y = span(row, (key, f"{key}_low", f"{key}_high")), span(row, names.value)
    bound = key == "kl" and str(row.get("kl_kind") or "").startswith(BOUND)
    return Point(x, y, ink, arm.name, bound) if x and y else None


def _level(arms: Sequence[ArmRows], names: Names) -> tuple[float, str] | None:
    """The baseline's metric under this decoding, with the words for its line."""
    held = next((span(a.shown, names.value) for a in arms if is_baseline(a.shown, names)), None)
    return (held.value, f"{names.baseline} {w.number(held.value)}") if held else None


def curve_figures(results: Results) -> list[Figure]:
    """The over-optimisation curves: metric above, proxy below, over n (log scale) where known, else over KL."""
    names = Names.of(results)
    found = []
    for i, held in enumerate(w.items(results, "curves")):
        key = "n" if _has_n(held) else "kl"
        rows = [p for p in w.items(held, "points") if w.finite(p.get(key)) is not None]
        gold = _series(rows, names.metric, 0, _has_n(held))
        proxy = _series(rows, "proxy", 1, _has_n(held))
        if gold is None:
            continue
        heights = [y.value for y in gold.ys]
        best = heights.index(max(heights) if names.higher_is_better else min(heights))
        peak = gold.xs[best] if best < len(gold.xs) - 1 else None
        axis = "KL from the reference, nats per response (square-root scale)"
        below: list[tuple[float, str]] = []
        if _has_n(held):
            kls = {w.finite(p["n"]): w.finite(p.get("kl")) for p in rows}
            below = [(n, f"{kl:.1f}") for n in gold.xs if (kl := kls.get(n)) is not None]
            axis = "n of best-of-n (log scale)" + (", below it KL in nats" if below else "")
        title = w.visible(held.get("title") or held.get("name") or "over-optimisation")
        drawing = curve(
            [(names.metric, gold), *([("proxy: what was optimised", proxy)] if proxy else [])],
            name=f"curve-{i}", title=title, desc=_told(rows, names), axis_x=axis,
            warp="log" if _has_n(held) else "sqrt", below=_spaced(below), peak=peak,
        )  # fmt: skip
        seed = f"Seed {held['seed']}." if held.get("seed") is not None else ""
        sentences = [_peak(gold, best, names, _has_n(held)), seed, str(held.get("note") or "")]
        found.append(Figure((drawing,), title, tuple(filter(None, sentences))))
    return found


def _has_n(held: Mapping[str, Any]) -> bool:
    """Whether a curve's points are numbers of responses: then n is the axis that says most."""
    sizes = [w.finite(p.get("n")) for p in w.items(held, "points")]
    return bool(sizes) and all(n is not None and n >= 1 for n in sizes)


def _series(rows: Sequence[Mapping[str, Any]], name: str, ink: int, by_n: bool) -> Series | None:
    along = sorted(
        ((float(r["n" if by_n else "kl"]), s) for r in rows if (s := _of(r, name))), key=lambda pair: pair[0]
    )
    return Series(tuple(x for x, _ in along), tuple(s for _, s in along), ink) if along else None


def _of(row: Mapping[str, Any], name: str) -> Span | None:
    return span(row, (name, f"{name}_low", f"{name}_high"))


def _spaced(below: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Every second word, every third ..., so that at most seven stand side by side."""
    return list(below)[:: max(1, -(-len(below) // 7))]


def _peak(gold: Series, best: int, names: Names, by_n: bool) -> str:
    def at(k: int) -> str:
        value = gold.ys[k]
        where = f"n = {w.count(gold.xs[k])}" if by_n else f"KL {gold.xs[k]:.2f}"
        return f"{w.estimate(value.value, value.low, value.high)} at {where}"

    extreme = "Highest" if names.higher_is_better else "Lowest"
    last = len(gold.xs) - 1
    if best == last:
        return f"{extreme} {names.metric}: {at(last)}, the last point; no fall is seen up to there."
    return f"{extreme} {names.metric}: {at(best)}. At the end: {at(last)}."


def _told(rows: Sequence[Mapping[str, Any]], names: Names) -> str:
    return "; ".join(
        f"n {w.count(r.get('n'))}, KL {w.number(r.get('kl'), 2)}: {names.metric} {w.number(r.get(names.metric))}, "
        f"proxy {w.number(r.get('proxy'))}"
        for r in rows
    )


def learning_figures(results: Results) -> list[Figure]:
    """Learning curves: a group per metric, a small chart per arm, a line per seed."""
    names, found = Names.of(results), []
    runs = [r for r in w.items(results, "learning") if _steps(r, _STEPS)]
    most = _STEPS // 2 if len(arm_order(arm_rows(results))) > w.MANY else _STEPS
    arms = list(dict.fromkeys([*arm_order(arm_rows(results)), *(str(r["arm"]) for r in runs)]))
    for i, metric in enumerate(dict.fromkeys(str(r["metric"]) for r in runs)):
        panels: dict[str, list[Series]] = {}
        for run in (r for r in runs if str(r["metric"]) == metric):
            held = panels.setdefault(str(run["arm"]), [])
            along = _steps(run, most)
            ink = arms.index(str(run["arm"]))
            held.append(Series(tuple(s for s, _ in along), tuple(Span(v) for _, v in along), ink, len(held)))
        shared = metric.endswith(names.metric)
        drawings = small_multiples(
            list(panels.items()), name=f"learning-{i}", title=f"{metric} while training", axis_x="step", shared=shared
        )  # fmt: skip
        scale = ("These charts share one vertical scale.",) if shared else ()
        found.append(Figure(tuple(drawings), w.visible(metric), scale))
    return found


def _steps(run: Mapping[str, Any], most: int) -> list[tuple[float, float]]:
    """The points of a learning curve; of many every second, third ..., the last one among them."""
    points = list(run.get("points") or ())
    points = points[:: -max(1, -(-len(points) // most))]
    pairs = [(w.finite(p[0]), w.finite(p[1])) for p in points]
    return sorted((x, y) for x, y in pairs if x is not None and y is not None)
