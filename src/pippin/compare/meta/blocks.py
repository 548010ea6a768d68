"""What a meta-evaluation's page is made of: sections of paragraphs, tables and drawings, and how their numbers read.

The same blocks give the HTML page and the Markdown. A number that has an interval comes with it; n stands in the head
of a column where all its rows share it, else in each cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from pippin.compare import wording as w
from pippin.compare.svg import Span
from pippin.compare.tables import CLEAR, Cell, Tone

Found = Mapping[str, Any]
"""An Estimate as plain values."""

RULES = "trivial rules"
MANY = 20  # rows above which a table scrolls by itself


@dataclass(frozen=True)
class Judge:
    """One row's judge."""

    name: str
    llm: str
    strategy: str
    kind: str

    @property
    def rule(self) -> bool:
        return self.kind == "rule"


@dataclass(frozen=True)
class Drawn(Cell):
    """A cell with a drawing above its text."""

    drawing: Markup = field(default=Markup(""), compare=False)


@dataclass(frozen=True)
class Column:
    """A head, what stands under it in smaller type, and a cell (or words) for each row."""

    title: str
    cells: tuple[Cell | str, ...]
    under: str = ""

    @property
    def empty(self) -> bool:
        return all(cell == "" or (isinstance(cell, Cell) and cell.text == w.DASH) for cell in self.cells)

    @property
    def numeric(self) -> bool:
        return not any(isinstance(cell, str) for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """Heads of the rows under the title ``corner``, and the columns; ``starts`` are headings by the row they precede.

    ``judges`` says that the rows are judges, so that the reader may filter them: by their heads, or by ``keys``.
    """

    label: str
    corner: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    starts: Mapping[int, str] = field(default_factory=dict)
    judges: bool = False
    keys: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "table"

    @property
    def tall(self) -> bool:
        return len(self.heads) > MANY


@dataclass(frozen=True)
class Text:
    content: str
    kind: str = "text"


@dataclass(frozen=True)
class Heading:
    content: str
    kind: str = "heading"


@dataclass(frozen=True)
class Drawings:
    """Figures with a caption. The Markdown leaves them out, for their numbers stand in tables too."""

    caption: str
    drawings: tuple[Markup, ...]
    key: str = ""
    grid: bool = False
    kind: str = "drawings"


@dataclass(frozen=True)
class Notes:
    """Names with a sentence each."""

    rows: tuple[tuple[str, str], ...]
    kind: str = "notes"

    @property
    def long(self) -> bool:
        return any(len(name) > 24 for name, _ in self.rows)


@dataclass(frozen=True)
class Link:
    """A page beside this one."""

    target: str
    words: str
    kind: str = "link"


@dataclass(frozen=True)
class Raw:
    """A text from outside as it is."""

    title: str
    content: str
    kind: str = "raw"


@dataclass(frozen=True)
class Folded:
    """Blocks that the reader opens."""

    summary: str
    blocks: tuple[Any, ...]
    kind: str = "folded"


@dataclass(frozen=True)
class Section:
    """``id`` is the anchor; sections without blocks are left out."""

    id: str
    title: str
    intro: str
    blocks: tuple[Any, ...]


# ---------------------------------------------------------------- judges


class Judges:
    """The judges of a result in the order of the tables: by model, the best model first, its best judge first; rules
    last."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        rows = [*result["cells"], *result["baselines"]]
        self.cells: dict[tuple[str, str], Found] = {(row["judge"], row["set"]): row for row in rows}
        self.means: dict[tuple[str, str], Found] = {(row["judge"], row["name"]): row for row in result["means"]}
        known = {row["judge"]: Judge(row["judge"], row["llm"], row["strategy"], row["kind"]) for row in rows}
        main = main_mean(result)
        score: dict[str, float] = {}
        for name in known:
            mean = self.means.get((name, main)) if main else None
            held = [row["accuracy"]["value"] for row in rows if row["judge"] == name and row["accuracy"]]
            score[name] = mean["accuracy"]["value"] if mean else sum(held) / len(held) if held else -1.0
        best: dict[str, float] = {}
        for judge in known.values():
            best[judge.llm] = max(best.get(judge.llm, -1.0), score[judge.name])
        self.order = sorted(
            known.values(), key=lambda j: (j.rule, 0 if j.rule else -best[j.llm], j.llm if not j.rule else "",
                                           -score[j.name], j.name)
        )  # fmt: skip
        self.several = len({j.llm for j in self.order if not j.rule}) < sum(not j.rule for j in self.order)

    def of(self, name: str) -> list[Judge]:
        """Those that judged a set."""
        return [judge for judge in self.order if (judge.name, name) in self.cells]

    def starts(self, judges: Sequence[Judge]) -> dict[int, str]:
        """Headings: the model before its first judge where some model has several, and the rules."""
        found: dict[int, str] = {}
        last = None
        for i, judge in enumerate(judges):
            here = RULES if judge.rule else judge.llm if self.several else ""
            if here != last and (here or i):
                found[i] = here
            last = here
        return found

    def table(self, label: str, judges: Sequence[Judge], columns: Iterable[Column], keep: int = 0) -> Table:
        """Judges as rows; columns that are empty in all rows are left out, but for the first ``keep``."""
        held = tuple(c for i, c in enumerate(columns) if i < keep or not c.empty)
        return Table(label, "judge", tuple(j.name for j in judges), held, self.starts(judges), judges=True)


def main_mean(result: Mapping[str, Any]) -> str:
    """The mean over the most sets, if the benchmark defines one."""
    sizes = {row["name"]: len(row["sets"]) for row in result["means"]}
    return max(sizes, key=lambda name: sizes[name], default="")


# ---------------------------------------------------------------- numbers


def span(found: Found | None, scale: float = 100.0) -> Span | None:
    return None if found is None else Span(*(scale * found[key] for key in ("value", "low", "high")))


def words(found: Found | None, unit: str = " %", scale: float = 100.0, digits: int = 1, signed: bool = False) -> str:
    """``85.4 % [82.0, 88.5]``."""
    if not found:
        return w.DASH
    value, low, high = (scale * found[key] for key in ("value", "low", "high"))
    return f"{w.number(value, digits, signed)}{unit} {w.interval(low, high, digits, signed)}"


def size(found: Found) -> str:
    """``n 200 of 100 prompts``."""
    n, clusters = found["n"], found.get("clusters")
    return f"n {w.count(n)}" + (f" of {w.count(clusters)} prompts" if clusters and clusters != n else "")


def estimates(
    title: str,
    found: Sequence[Found | None],
    *,
    scale: float = 100.0,
    digits: int = 1,
    signed: bool = False,
    tested: bool = False,
    extra: Sequence[str] = (),
) -> Column:
    """A column of estimates with their intervals; ``tested`` adds p and says which differ clearly from zero.

    n stands in the head where all rows share it. ``extra`` are words after each value.
    """
    held = [e for e in found if e]
    sizes = {size(e) for e in held}
    cells: list[Cell | str] = []
    for i, e in enumerate(found):
        if not e:
            cells.append(Cell(w.DASH))
            continue
        value, low, high = (scale * e[key] for key in ("value", "low", "high"))
        under = [w.interval(low, high, digits, signed)]
        tone: Tone | None = None
        if tested and e.get("p") is not None:
            under.append(f"p {w.p_value(e['p'])}")
            tone = "unclear" if e["p"] >= CLEAR else "better" if value > 0 else "worse"
        if len(sizes) > 1:
            under.append(size(e).partition(" of ")[0])
        more = f" {extra[i]}" if extra and extra[i] else ""
        cells.append(
            Cell(w.number(value, digits, signed) + more, "\n".join(part for part in under if part), value, tone)
        )
    return Column(title, tuple(cells), sizes.pop().replace(" of ", ",\n") if len(sizes) == 1 else "")


def counts(title: str, found: Sequence[Any], under: Sequence[str] = (), digits: int = 0) -> Column:
    """A column of counts, or of other numbers without an interval."""
    cells = [Cell(w.number(value, digits), under[i] if under else "", w.finite(value)) for i, value in enumerate(found)]
    return Column(title, tuple(cells))


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b and 3 more``."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + (names[-1] if names else "")


def plural(count: int, one: str, many: str = "") -> str:
    """``1 set``, ``5 sets``."""
    return f"{w.count(count)} {one if count == 1 else many or one + 's'}"
