"""The tables of a meta-evaluation that every run has: accuracy by set, and all that is said of each judge on a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pippin.compare import wording as w
from pippin.compare.meta import charts
from pippin.compare.meta.answer import Result
from pippin.compare.meta.blocks import (
    MANY,
    Column,
    Drawings,
    Drawn,
    Folded,
    Found,
    Heading,
    Judge,
    Judges,
    Link,
    Notes,
    Section,
    Text,
    counts,
    estimates,
    listed,
    plural,
    span,
)
from pippin.compare.tables import Cell
from pippin.core.types import Outcome

MISSING = [str(outcome) for outcome in Outcome if outcome.missing]


def by_set(result: Result, judges: Judges) -> Section:
    """Judges as rows, sets as columns, and the means that the benchmark defines."""
    columns = [
        estimates(name, [_accuracy(judges.cells.get((j.name, name))) for j in judges.order]) for name in result["sets"]
    ]
    means: dict[str, Sequence[str]] = {row["name"]: row["sets"] for row in result["means"]}
    columns += [
        estimates(f"mean: {name}", [_accuracy(judges.means.get((j.name, name))) for j in judges.order])
        for name in means
    ]
    table = judges.table("Accuracy by set", judges.order, columns, keep=len(columns))
    blocks: list[Any] = [table]
    for name, sets in means.items():
        blocks.append(Text(f"mean: {name} is the unweighted mean over {listed(list(sets), 12)}."))
        blocks += _figures(result, judges, judges.order, f"mean-{len(blocks)}", f"mean: {name}", name)
    return Section(
        "by-set", "Accuracy by set",
        "Share of right verdicts in percent, over both orders of each pair; a tie is half right. Brackets are 95 % "
        "intervals that resample prompts. Sets are never pooled"
        + (", but for the means that the benchmark defines." if means else "."),
        tuple(blocks),
    )  # fmt: skip


def one_set(result: Result, judges: Judges, index: int, name: str, page: str) -> Section:
    """All that is said of the judges on one set."""
    here = judges.of(name)
    cells = [judges.cells[j.name, name] for j in here]
    about = result["sets"][name]
    blocks = _figures(result, judges, here, f"set-{index}", name, "")
    blocks.append(judges.table(f"Judges on {name}", here, _columns(cells), keep=4))
    blocks.append(Text(_foot(cells)))
    if page:
        blocks.append(Link(page, f"Every pair of {name}, with what each judge said"))
    return Section(f"set-{index}", name, _sizes(about), tuple(blocks))


def _sizes(about: Mapping[str, Any]) -> str:
    said = [
        f"{plural(about['n'], 'pair')} of {plural(about['prompts'], 'prompt')}",
        f"the better response stands first in {w.count(about['gold_first'])} and is the longer one in "
        f"{w.count(about['gold_longer'])}",
    ]
    if about.get("equal_length"):
        said.append(f"{w.count(about['equal_length'])} of equal length")
    if about.get("gold_ties"):
        said.append(f"people call {w.count(about['gold_ties'])} a tie: those have no right answer")
    if about.get("people"):
        said.append(f"single votes of {plural(about['people'], 'person', 'people')}")
    return "; ".join(said) + "."


def _accuracy(row: Mapping[str, Any] | None) -> Found | None:
    return row["accuracy"] if row else None


def _best_of_each(here: Sequence[Judge]) -> list[Judge]:
    """The first, hence best, judge of each model, and all rules."""
    seen: set[str] = set()
    few = []
    for judge in here:
        if judge.rule or judge.llm not in seen:
            few.append(judge)
        seen.add(judge.llm)
    return few


def _figures(result: Result, judges: Judges, here: Sequence[Judge], key: str, title: str, mean: str) -> list[Any]:
    """A forest of all; where those are many, of the best judge of each model, and of all to be opened."""
    few = _best_of_each(here)
    every = _figure(result, judges, here, key, title, mean)
    if every is None or len(here) <= MANY or len(few) == len(here):
        return [] if every is None else [every]
    short = _figure(result, judges, few, f"{key}-few", title, mean, ", the best judge of each model")
    return [short, Folded(f"All {len(here)} judges and rules in one figure", (every,))]


def _figure(
    result: Result, judges: Judges, shown: Sequence[Judge], key: str, title: str, mean: str, more: str = ""
) -> Drawings | None:
    """A forest of one mean, or of one set, with the best rule and what people reach as lines."""
    rows: list[tuple[Judge, Found]] = []
    for judge in shown:
        found = _accuracy(judges.means.get((judge.name, mean)) if mean else judges.cells.get((judge.name, title)))
        if found:
            rows.append((judge, found))
    if not rows:
        return None
    starts = {} if more else judges.starts([judge for judge, _ in rows])
    groups: list[tuple[str, list[charts.Mark]]] = []
    for i, (judge, found) in enumerate(rows):
        if i in starts or not groups:
            groups.append((starts.get(i, ""), []))
        at = span(found)
        assert at is not None
        short = judge.strategy and judges.several and not judge.rule and not more
        groups[-1][1].append(charts.Mark(judge.strategy if short else judge.name, at, judge.rule))
    rules = [(100 * e["value"], f"{j.name} {w.number(100 * e['value'], 1)}") for j, e in rows if j.rule]
    levels = [max(rules)] if rules else []
    if result.get("human_agreement"):
        levels.append((100 * result["human_agreement"], f"people {w.number(100 * result['human_agreement'], 0)}"))
    ceiling = next((row["ceiling"] for row in result["people"] if row["set"] == title and not mean), None)
    if ceiling:
        levels.append((100 * ceiling["value"], f"people among themselves {w.number(100 * ceiling['value'], 1)}"))
    said = "Squares are the trivial rules; the lines mark the best of them"
    said += " and how far people agree." if len(levels) > 1 else "."
    caption = f"Accuracy on {title}{more}"
    return Drawings(caption, charts.forest(groups, levels, name=key, title=caption), said)


def _columns(cells: Sequence[Mapping[str, Any]]) -> list[Column]:
    """What is said of each judge on one set; the first four columns stand even where they say nothing."""
    length = [cell["length"] or {} for cell in cells]
    columns = [
        estimates("accuracy %", [cell["accuracy"] for cell in cells]),
        estimates("orders agree %", [cell["agreement"] for cell in cells]),
        Column("right / split / wrong %", tuple(_triple(cell["consistency"]) for cell in cells),
               _common(cell["consistency"].get("right") for cell in cells)),
        estimates("first shown %", [c["first_shown"] for c in cells], extra=[leans(c["first_shown"]) for c in cells]),
        estimates("accuracy, better is longer %", [row.get("accuracy_gold_longer") for row in length]),
        estimates("accuracy, better is shorter %", [row.get("accuracy_gold_shorter") for row in length]),
        estimates("both orders as one %", [cell["swap_averaged"] for cell in cells]),
    ]  # fmt: skip
    if any("three_way" in cell["with_gold"] for cell in cells):
        columns.append(
            estimates("same verdict as people, ties too %", [c["with_gold"].get("three_way") for c in cells])
        )
    if any("best_of" in cell for cell in cells):
        columns.append(estimates("best of several %", [cell.get("best_of") for cell in cells]))
    columns.append(_kappa(cells))
    if any(cell["with_gold"]["gold_ties"] for cell in cells):
        columns.append(estimates("Fleiss κ", [c["with_gold"]["fleiss_kappa"] for c in cells], scale=1, digits=2))
    silent = [missing(cell) for cell in cells]
    if any(silent):
        columns.append(counts("missing", [sum(found.values()) for found in silent],
                              [_silence(cell) for cell in cells]))  # fmt: skip
    for title, found in (("ties", [c["with_gold"]["judge_ties"] for c in cells]),
                         ("conflicts", [c["conflicts"] for c in cells])):  # fmt: skip
        if any(found):
            columns.append(counts(title, found))
    if any(cell["spent"].get("calls") for cell in cells):
        columns.append(Column("price", tuple(_price(cell["spent"]) for cell in cells)))
    return columns


def _common(found: Any) -> str:
    sizes = {e["n"] for e in found if e}
    return f"n {w.count(sizes.pop())} pairs" if len(sizes) == 1 else ""


def _triple(found: Mapping[str, Any]) -> Cell:
    """Right in both orders, split, wrong in both, as a bar and in numbers."""
    if not found.get("right"):
        return Cell(w.DASH)
    names = ("right", "split", "wrong")
    text = " / ".join(w.number(100 * found[name]["value"], 1) for name in names)
    under = " / ".join(w.interval(100 * found[name]["low"], 100 * found[name]["high"], 1) for name in names)
    parts = [(f"bar-{name}", found[name]["value"]) for name in (*names, "missing") if found.get(name)]
    return Drawn(text, under, 100 * found["right"]["value"], None, charts.bar(parts))


def leans(found: Found | None) -> str:
    """Which place the judge favours, as far as the interval shows."""
    if not found:
        return ""
    return "first" if found["low"] > 0.5 else "second" if found["high"] < 0.5 else "none"


def _kappa(cells: Sequence[Mapping[str, Any]]) -> Column:
    column = estimates("κ with people", [c["with_gold"]["kappa"] for c in cells], scale=1, digits=2)
    rows = []
    for cell, held in zip(cells, column.cells, strict=True):
        rates = [cell["with_gold"][f"{who}_says_first"] for who in ("gold", "judge")]
        if not isinstance(held, Cell) or held.text == w.DASH or None in rates:
            rows.append(held)
            continue
        say = "first: people {} %\nfirst: judge {} %".format(*(w.number(100 * rate, 0) for rate in rates))
        rows.append(Cell(held.text, f"{held.under}\n{say}", held.order))
    return Column(column.title, tuple(rows), column.under)


def missing(cell: Mapping[str, Any]) -> dict[str, int]:
    """Counts of verdicts that are missing, by why."""
    return {name: cell["outcomes"][name] for name in MISSING if cell["outcomes"].get(name)}


def _silence(cell: Mapping[str, Any]) -> str:
    held = missing(cell)
    if not held:
        return ""
    said = [f"{name} {w.count(count)}" for name, count in held.items()]
    if cell["accuracy_bounds"]:
        low, high = (w.number(100 * bound, 1) for bound in cell["accuracy_bounds"])
        said.append(f"accuracy {low} to {high}")
    return "\n".join(said)


def _price(spent: Mapping[str, Any]) -> Cell:
    if not spent.get("calls"):
        return Cell(w.DASH)
    under = [f"{w.count(spent['calls'])} calls"]
    tokens = [spent.get(name) for name in ("prompt_tokens", "completion_tokens", "thinking_tokens")]
    if any(count is not None for count in tokens):
        under.append(f"{w.count(sum(count or 0 for count in tokens))} tokens")
    if spent.get("seconds") is not None:
        under.append(f"{w.number(spent['seconds'], 1)} s")
    price = spent.get("price")
    return Cell("unknown" if price is None else f"${price:,.4f}", "\n".join(under), w.finite(price))


def _foot(cells: Sequence[Mapping[str, Any]]) -> str:
    """What the columns mean, and what is not there."""
    said = [
        "Right, split and wrong are shares of pairs: right in both orders, in one, in none"
        + (" (the pale rest of the bar: a verdict is missing)." if any(missing(cell) for cell in cells) else "."),
        "First shown is the share of decided verdicts for the response shown first, and the place favoured as far as "
        "the interval shows.",
        "κ is Cohen's, beside how often people and judge name the response shown first.",
    ]
    silent = sum(sum(missing(cell).values()) for cell in cells)
    said.append(
        "Under the missing verdicts: accuracy if all of them were wrong, and if all were right."
        if silent else "No verdict is missing."
    )  # fmt: skip
    if not any(cell["conflicts"] for cell in cells):
        said.append("No deciding text contradicts itself.")
    return " ".join(said)


def warnings(result: Result) -> list[str]:
    """The benchmark's own warnings and note, each once."""
    return list(dict.fromkeys([*result["warnings"], *([result["note"]] if result["note"] else [])]))


def read_notes(result: Result) -> list[Any]:
    """What the reader noted, and files that were left out or read by what they hold."""
    blocks: list[Any] = []
    if result["read"]:
        blocks.append(
            Notes(tuple((w.count(v) if w.finite(v) is not None else str(v), k) for k, v in result["read"].items()))
        )
    if result["skipped"]:
        blocks.append(Heading("Files to be said something of"))
        blocks.append(Notes(tuple((str(s.get("file", "")), str(s.get("why", s))) for s in result["skipped"])))
    return blocks


def bar_key() -> Markup:
    return Markup(
        '<i class="swatch bar-right"></i>right in both orders <i class="swatch bar-split"></i>split '
        '<i class="swatch bar-wrong"></i>wrong in both'
    )
