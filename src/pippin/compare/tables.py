"""The tables of a comparison, from its results: what stands in which cell, before anything is drawn or escaped.

The keys of the metric follow its name (``gold_mean``), those of the difference the baseline's (``delta_vs_sft``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pippin.compare import wording as w
from pippin.compare.wording import Results
from pippin.core.run import Ledger

Tone = Literal["better", "worse", "unclear"]
BOUND = "upper bound"  # how a kl_kind starts that is no measurement
CLEAR = 0.05  # Holm-corrected p below which a difference is called clear
_OF_ANSWERS = ("kl", "mean_length", "share_without_end")
_COST = {
    "seconds of training": "wall_clock",
    "tokens trained on": "gradient_tokens",
    "tokens drawn": "policy_tokens_sampled",
}
_WORDS = {"better": "clearly better", "worse": "clearly worse", "unclear": "no clear difference"}


@dataclass(frozen=True)
class Names:
    """What the results call their metric and baseline, and the keys that follow from it."""

    metric: str
    unit: str
    baseline: str
    higher_is_better: bool

    @classmethod
    def of(cls, results: Results) -> Names:
        metric = results.get("metric") or {}
        return cls(
            metric=str(metric.get("name") or "gold"),
            unit=str(metric.get("unit") or ""),
            baseline=str(results.get("baseline") or "baseline"),
            higher_is_better=bool(metric.get("higher_is_better", True)),
        )

    @property
    def value(self) -> tuple[str, str, str]:
        return f"{self.metric}_mean", f"{self.metric}_low", f"{self.metric}_high"

    @property
    def delta(self) -> tuple[str, str, str]:
        return f"delta_vs_{self.baseline}", "delta_low", "delta_high"

    def beside(self, results: Results) -> list[str]:
        """Arms other than the baseline that every row is also compared with, such as ``sft_greedy``."""
        keys = dict.fromkeys(k for row in (*w.items(results, "arms"), *w.items(results, "pooled")) for k in row)
        found = [k.removeprefix("delta_vs_") for k in keys if k.startswith("delta_vs_") and f"{k}_low" in keys]
        return sorted(name for name in found if name != self.baseline)


@dataclass(frozen=True)
class Cell:
    """``text`` with what belongs under it in smaller type, the number it sorts by, and whether it is clearly better."""

    text: str
    under: str = ""
    order: float | None = None
    tone: Tone | None = None

    @property
    def words(self) -> str:
        """The tone in words, for those who do not see colours."""
        return _WORDS.get(self.tone or "", "")

    @property
    def line(self) -> str:
        """The cell on one line."""
        return " ".join(f"{self.text} {self.under}".split())


@dataclass(frozen=True)
class ArmRows:
    """An arm under one decoding: its pooled row (None without one) and the rows of its seeds."""

    name: str
    decoding: str
    head: Mapping[str, Any] | None
    seeds: tuple[Mapping[str, Any], ...]

    @property
    def shown(self) -> Mapping[str, Any]:
        """The row that speaks for the arm."""
        return self.head or self.seeds[0]


@dataclass(frozen=True)
class Table:
    """Column titles, and per arm its own cells and those of its seeds, each under the seed's words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[ArmRows, tuple[Cell, ...], tuple[tuple[str, tuple[Cell, ...]], ...]], ...]


def trials_table(results: Results) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """(titles, arm -> cells) of the trials on development prompts: every point, the best of k trials, the cost."""
    rows = w.items(results, "trials")
    if not rows:
        return [], []
    points = [", ".join(f"{k} {w.setting(v)}" for k, v in t["settings"].items()) for t in rows[0]["trials"]]
    most = len(rows[0]["expected_best"])
    titles = [*points, "expected best of " + ", ".join(map(str, range(1, most + 1))), "diverged", *_COST]
    told = []
    for row in rows:
        cells = []
        for trial in row["trials"]:
            if trial.get("diverged"):
                cells.append(Cell("diverged"))
                continue
            best = " (chosen)" if trial["settings"] == row["chosen"] else ""
            cells.append(Cell(w.number(trial["value"]) + best, w.interval(trial["low"], trial["high"]), trial["value"]))
        cells.append(Cell(", ".join(w.number(v) for v in row["expected_best"])))
        cells.append(Cell(f"{row['diverged']} of {len(row['trials'])}", order=row["diverged"]))
        cells += [
            Cell(w.number(row["ledger"].get(key) or 0, 0), order=row["ledger"].get(key)) for key in _COST.values()
        ]
        told.append((str(row["arm"]), cells))
    return titles, told


def arm_rows(results: Results) -> list[ArmRows]:
    """The arms in the order in which they are listed, with their pooled rows. An arm of one seed is its own pool."""
    seeds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in w.items(results, "arms"):
        seeds.setdefault((str(row["name"]), str(row.get("decoding") or "")), []).append(row)
    pooled = {(str(r["name"]), str(r.get("decoding") or "")): r for r in w.items(results, "pooled")}
    found = []
    for name, decoding in dict.fromkeys([*seeds, *pooled]):
        held, head = seeds.get((name, decoding), []), pooled.get((name, decoding))
        if len(held) == 1:
            head, held = {**(head or {}), **held[0]}, []
        found.append(ArmRows(name, decoding, head, tuple(held)))
    return found


def is_baseline(row: Mapping[str, Any], names: Names) -> bool:
    """Whether others are held against this arm; a study may have a baseline for every value of an axis."""
    return str(row.get("baseline") or names.baseline) == str(row.get("name"))


def decodings(arms: Sequence[ArmRows]) -> list[str]:
    return list(dict.fromkeys(a.decoding for a in arms))


def arm_order(arms: Sequence[ArmRows]) -> list[str]:
    """Every arm's name once, as first listed; the place in this list is the arm's colour in all figures."""
    return list(dict.fromkeys(a.name for a in arms))


def tone(row: Mapping[str, Any], names: Names) -> Tone:
    """Better or worse where the interval leaves out zero and the corrected p, if there is one, is under 0.05."""
    low, high, p = (w.finite(row.get(k)) for k in ("delta_low", "delta_high", "p_holm"))
    return verdict(low, high, p, names.higher_is_better)


def verdict(low: float | None, high: float | None, p_holm: float | None, higher_is_better: bool) -> Tone:
    if low is None or high is None or low <= 0 <= high or (p_holm is not None and p_holm >= CLEAR):
        return "unclear"
    return "better" if (low > 0) == higher_is_better else "worse"


def _triple(row: Mapping[str, Any], keys: tuple[str, str, str], signed: bool, tone: Tone | None = None) -> Cell:
    value, low, high = (row.get(k) for k in keys)
    return Cell(w.number(value, 3, signed), w.interval(low, high, 3, signed), w.finite(value), tone)


def _many(
    row: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]], key: str, digits: int, scale: float = 1.0
) -> Cell:
    """The row's own number, or the span of its seeds' numbers where only these are known."""
    own = w.finite(row.get(key))
    held = [
        v * scale for v in ([own] if own is not None else map(w.finite, (s.get(key) for s in seeds))) if v is not None
    ]
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    under = w.interval(low, high, digits) if own is not None else ""
    return Cell(w.span(held, digits), under, sum(held) / len(held) if held else None)


def _kl(row: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> Cell:
    """KL with its interval, or with ``upper bound`` where the kind says so; :func:`kl_kinds` gives the kinds whole."""
    cell = _many(row, seeds, "kl", 2)
    bound = any(str(r.get("kl_kind") or "").startswith(BOUND) for r in (row, *seeds))
    return Cell(cell.text, cell.under or BOUND, cell.order) if bound else cell


def kl_kinds(results: Results) -> list[tuple[str, list[str]]]:
    """How the KL of the arms was measured: ``[(kind, [arm, ...]), ...]``."""
    kinds = {str(r["name"]): r["kl_kind"] for r in w.items(results, "arms") if r.get("kl_kind")}
    return w.by_value(kinds)


def _prompts(row: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> Cell:
    held = w.finite(row.get("n"))
    trained = (
        w.finite(row.get("seeds")) if not isinstance(row.get("seeds"), (list, tuple)) else float(len(row["seeds"]))
    )
    missing = sum(w.finite(r.get("missing")) or 0 for r in (seeds or [row]))
    seen = [
        f"{w.count(trained)} seeds" if trained and trained > 1 else "",
        f"{w.count(missing)} missing" if missing else "",
    ]
    return Cell(w.count(held), "\n".join(filter(None, seen)), held)


def main_table(results: Results) -> Table:
    """Every arm under every decoding, pooled, with its seeds; columns without any value are left out."""
    names, arms = Names.of(results), arm_rows(results)
    others = names.beside(results)

    def cells(arm: ArmRows, row: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> list[Cell]:
        delta = _triple(row, names.delta, True, tone(row, names))
        return [
            _triple(row, names.value, False),
            Cell("baseline", "", 0.0) if is_baseline(arm.shown, names) else delta,
            Cell(w.p_value(row.get("p_holm")), "", w.finite(row.get("p_holm"))),
            *(_triple(row, (f"delta_vs_{o}", f"delta_vs_{o}_low", f"delta_vs_{o}_high"), True) for o in others),
            _kl(row, seeds),
            _many(row, seeds, "mean_length", 1),
            _many(row, seeds, "share_without_end", 1, 100.0),
            _prompts(row, seeds),
        ]

    titles = (
        names.metric, f"difference from {names.baseline}", "p (Holm)", *(f"difference from {o}" for o in others),
        "KL (nats)", "length (tokens)", "no end (%)", "n",
    )  # fmt: skip
    whole = [
        (a, cells(a, a.shown, a.seeds), [(f"seed {s.get('seed')}", cells(a, s, ())) for s in a.seeds]) for a in arms
    ]
    kept = [
        i for i in range(len(titles))
        if any(c[i].order is not None for _, head, seeds in whole for c in [head, *(s for _, s in seeds)])
    ]  # fmt: skip
    return Table(
        tuple(w.visible(titles[i]) for i in kept),
        tuple(
            (a, tuple(head[i] for i in kept), tuple((label, tuple(row[i] for i in kept)) for label, row in seeds))
            for a, head, seeds in whole
        ),
    )


def ledger_table(results: Results) -> tuple[list[tuple[str, str]], list[tuple[str, str, list[str]]]]:
    """Columns ``(name, unit)`` that hold anything, and rows ``(arm, seed, cells)``, decodings with equal books once.

    Columns that describe answers (KL, length) differ between decodings and stand in the main table.
    """
    books: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
    for row in w.items(results, "arms"):
        ledger = {k: v for k, v in (row.get("ledger") or {}).items() if k not in _OF_ANSWERS}
        if ledger:
            name, seed = str(row["name"]), str(row.get("seed", ""))
            books.setdefault(repr((name, seed, sorted(ledger.items()))), (name, seed, ledger))
    known = list(Ledger.columns())
    held_columns = sorted({k for _, _, held in books.values() for k in held} - set(known))
    columns = [c for c in (*known, *held_columns) if _spent(c, books)]
    rows = [(name, seed, [w.ledger_cell(c, held.get(c)) for c in columns]) for name, seed, held in books.values()]
    return [(c, w.ledger_unit(c)) for c in columns], rows


def _spent(column: str, books: Mapping[str, tuple[str, str, Mapping[str, Any]]]) -> bool:
    return any(w.finite(held.get(column)) not in (None, 0.0) for _, _, held in books.values())


def matrices(results: Results) -> list[tuple[str, list[str], list[tuple[str, list[Cell | None]]]]]:
    """Per decoding: the arms, and a row per arm with its difference from each other arm (row minus column)."""
    names, found = Names.of(results), []
    pairs = w.items(results, "pairs")
    for decoding in dict.fromkeys(str(p.get("decoding") or "") for p in pairs):
        cells: dict[tuple[str, str], Cell] = {}
        for p in (p for p in pairs if str(p.get("decoding") or "") == decoding):
            value, low, high, holm = (w.finite(p.get(k)) for k in ("delta", "low", "high", "p_holm"))
            if value is None:
                continue
            a, b = str(p["a"]), str(p["b"])
            back_low, back_high = (None, None) if low is None or high is None else (-high, -low)
            for key, v, lo, hi in (((a, b), value, low, high), ((b, a), -value, back_low, back_high)):
                colour = verdict(lo, hi, holm, names.higher_is_better)
                cells[key] = Cell(w.number(v, 3, True), w.interval(lo, hi, 3, True), v, colour)
        arms = list(dict.fromkeys(name for key in cells for name in key))
        found.append((decoding, arms, [(a, [cells.get((a, b)) for b in arms]) for a in arms]))
    return found
