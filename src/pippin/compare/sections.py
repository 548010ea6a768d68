"""Parts of a comparison's page that are a few sentences and a table, from its results: what the figures mean, and what
stands behind them. A part whose keys the results do not have is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pippin.compare import wording as w
from pippin.compare.tables import Cell, Names, Tone, verdict
from pippin.compare.wording import Results

Rows = tuple[tuple[Cell, ...], ...]
_VERDICTS: Mapping[str, Tone] = {"better": "better", "worse": "worse"}
_PARTS = ("prompt", "seed", "prompt x seed", "sample", "judge")
_FOLDED = 24  # rows of a table before it folds away


@dataclass(frozen=True)
class Block:
    """A heading, sentences, and a table; ``fold`` is what is written on a table that is folded away.

    ``columns``: title, and whether numbers stand under it. The first column names the row.
    """

    id: str
    heading: str
    sentences: tuple[str, ...]
    columns: tuple[tuple[str, bool], ...] = ()
    rows: Rows = ()
    fold: str = ""


def inference(results: Results) -> list[Block]:
    """What follows from the figures: claims, equivalence, effects of axes, looks, where the noise comes from."""
    return _there(results, claims, equivalence, effects, looks, variance)


def books(results: Results) -> list[Block]:
    """What was planned: the frozen plan and what changed since, the cost that was told beforehand and what it was."""
    return _there(results, frozen, estimate)


def _there(results: Results, *makers: Callable[[Results], Block | None]) -> list[Block]:
    return [block for make in makers if (block := make(results)) is not None]


def claims(results: Results) -> Block | None:
    """Both scopes of every comparison beside each other."""
    held: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in w.items(results, "claims"):
        key = (str(row.get("name")), str(row.get("baseline") or ""), str(row.get("decoding") or ""))
        held.setdefault(key, {})[str(row.get("scope"))] = row
    if not held:
        return None
    rows = []
    for (arm, base, decoding), scopes in held.items():
        runs, method = scopes.get("these runs", {}), scopes.get("the method", {})
        seeds = method.get("seeds") or runs.get("seeds")
        n = runs.get("n") or method.get("n")
        rows.append((Cell(arm), Cell(base), Cell(decoding), *_claim(runs), *_claim(method), _count(seeds), _count(n)))
    said = [
        "Of these runs: how far the difference would move on other prompts of the same kind, for the policies trained "
        "here.",
        "Of the method: on other prompts and after training again with other seeds, which needs five seeds or more. "
        "The two are different claims, and the second is the stronger one.",
        "p is corrected for the number of comparisons (Holm).",
    ]
    if not any("the method" in scopes for scopes in held.values()):
        told = "Every difference above is between these runs; a claim of a method needs five training seeds or more."
        return Block("claims", "What can be claimed", (told,))
    columns = (
        ("arm", False), ("against", False), ("decoding", False), ("these runs", True), ("p", True), ("says", False),
        ("the method", True), ("p", True), ("says", False), ("seeds", True), ("prompts", True),
    )  # fmt: skip
    return Block("claims", "What can be claimed", tuple(said), columns, tuple(rows), _fold(rows, "comparisons"))


def _claim(row: Mapping[str, Any]) -> tuple[Cell, Cell, Cell]:
    value, low, high = (row.get(k) for k in ("delta", "low", "high"))
    told = str(row.get("verdict") or "")
    tone = _VERDICTS.get(told)
    cell = Cell(w.number(value, 3, True), w.interval(low, high, 3, True), w.finite(value), tone)
    return cell, _p(row, "p_holm"), Cell(told or w.DASH)


def _p(row: Mapping[str, Any], corrected: str) -> Cell:
    """The corrected p where there is one."""
    p = row.get(corrected) if row.get(corrected) is not None else row.get("p")
    return Cell(w.p_value(p), order=w.finite(p))


def equivalence(results: Results) -> Block | None:
    """Whether arms are as good as their baseline, up to a margin."""
    said = results.get("equivalence") or {}
    rows = [
        (
            Cell(str(row.get("name"))), Cell(str(row.get("decoding") or "")), Cell(str(row.get("scope") or "")),
            Cell(w.interval(row.get("low90"), row.get("high90"), 3, True) or w.DASH),
            _p(row, "p_corrected"), Cell(str(row.get("verdict") or w.DASH)),
        )
        for row in w.items(said, "rows")
    ]  # fmt: skip
    if not rows:
        return None
    margin = w.number(said.get("margin"))
    told = (
        f"The study says that a difference smaller than {margin} does not matter. Equivalent: the whole 90 % interval "
        f"lies within {margin} of no difference. No worse: it lies above {w.MINUS}{margin}. p is that of the two "
        "one-sided tests, corrected for the number of comparisons.",
    )
    columns = (("arm", False), ("decoding", False), ("scope", False), ("90 % interval", True), ("p", True),
               ("says", False))  # fmt: skip
    return Block("equivalence", "No difference that matters", told, columns, tuple(rows), _fold(rows, "comparisons"))


def effects(results: Results) -> Block | None:
    """Main effects of the axes, over all other axes."""
    names, rows = Names.of(results), []
    for row in w.items(results, "effects"):
        value, low, high, holm = (w.finite(row.get(k)) for k in ("delta", "low", "high", "p_holm"))
        tone = verdict(low, high, holm, names.higher_is_better)
        rows.append((
            Cell(f"{row.get('axis')}: {row.get('a')} less {row.get('b')}"), Cell(str(row.get("decoding") or "")),
            Cell(w.number(value, 3, True), w.interval(low, high, 3, True), value, tone),
            Cell(w.p_value(row.get("p_holm")), order=holm), Cell(str(row.get("scope") or "")),
            _count(row.get("combinations")),
            Cell(w.p_value(row.get("interaction_p")), order=w.finite(row.get("interaction_p"))),
        ))  # fmt: skip
    if not rows:
        return None
    told = (
        f"What one value of an axis changes in {names.metric} against another, averaged over the combinations of the "
        "other axes that both have. A small p of the interaction says that the change is not the same everywhere, and "
        "that its average must be read with care.",
    )
    columns = (("axis", False), ("decoding", False), ("effect", True), ("p (Holm)", True), ("scope", False),
               ("combinations", True), ("p of interaction", True))  # fmt: skip
    return Block("effects", "Effects of the axes", told, columns, tuple(rows), _fold(rows, "effects"))


def looks(results: Results) -> Block | None:
    """The looks that were taken, and why the study stopped where it did."""
    said = results.get("looks") or {}
    taken = w.items(said, "taken")
    if not taken:
        return None
    over = str(said.get("over") or "prompts")
    rows = [
        (
            Cell(f"{w.count(look.get('at'))} {over}"), Cell(str(row.get("name"))),
            Cell(w.number(row.get("delta"), 3, True), w.interval(row.get("low"), row.get("high"), 3, True)),
            Cell(w.p_value(row.get("p"))), Cell(_bound(row.get("bound"))),
            Cell(str(row.get("decided") or "not yet")),
        )
        for look in taken for row in w.items(look, "rows")
    ]  # fmt: skip
    planned = ", ".join(w.count(at) for at in said.get("at") or ())
    stopped = said.get("stopped_at")
    told = [
        f"The study was to be looked at after {planned} {over}, and to stop when the answer is clear.",
        f"It stopped at {w.count(stopped)} {over}" + (f": {said['why']}." if said.get("why") else ".")
        if stopped is not None else str(said.get("why") or ""),
        "The intervals are wide enough to hold at every look at once, so that looking early costs no error rate.",
    ]  # fmt: skip
    columns = (("look", False), ("arm", False), ("difference", True), ("p", True), ("bound", True), ("decided", False))
    return Block("looks", "Looks", tuple(filter(None, told)), columns, tuple(rows), _fold(rows, "rows"))


def _bound(value: Any) -> str:
    number = w.finite(value)
    return w.DASH if number is None else f"{number:.3g}"


def variance(results: Results) -> Block | None:
    """Where the noise of each difference comes from."""
    held = w.items(results, "variance")
    if not held:
        return None
    named = dict.fromkeys(part for row in held for part in (*(row.get("components") or {}), *(row.get("shares") or {})))
    parts = [
        part for part in (*(p for p in _PARTS if p in named), *(p for p in named if p not in _PARTS))
        if any(w.finite((row.get(key) or {}).get(part)) is not None for row in held for key in ("components", "shares"))
    ]  # fmt: skip
    rows = []
    for row in held:
        shares, sizes = row.get("shares") or {}, row.get("components") or {}
        cells = [
            Cell(_share(shares.get(part)), _variance(sizes.get(part)), w.finite(shares.get(part))) for part in parts
        ]
        sd = Cell(_bound(row.get("sd_of_mean")), order=w.finite(row.get("sd_of_mean")))
        told = Cell(str(row.get("sentence") or ""))
        rows.append((Cell(str(row.get("name"))), Cell(str(row.get("decoding") or "")), *cells, sd, told))
    columns = (
        ("arm", False), ("decoding", False), *((part, True) for part in parts), ("sd of the mean", True), ("", False)
    )  # fmt: skip
    told = (
        "How much of the variance of a single score comes from the prompt, from the training seed, from chance in "
        "sampling and from the judge; the variance itself stands under each share. More prompts help against the "
        "first, only more seeds against the second; a part that cannot be told from these runs is left out.",
    )
    return Block("variance", "Where the noise comes from", told, columns, tuple(rows), _fold(rows, "rows"))


def _share(value: Any) -> str:
    number = w.finite(value)
    return w.DASH if number is None else f"{100 * number:.0f} %"


def _variance(value: Any) -> str:
    number = w.finite(value)
    return "" if number is None else f"{number:.3g}"


def frozen(results: Results) -> Block | None:
    """What the frozen plan said, and what is not as it said."""
    said = results.get("frozen") or {}
    if not said:
        return None
    rows = [
        (Cell(str(row.get("field"))), Cell(w.setting(row.get("then"))), Cell(w.setting(row.get("now"))))
        for row in w.items(said, "changed")
    ]
    seen = {
        True: "Results on its test prompts were in the store by then, so it was not frozen before the data were seen.",
        False: "No result on its test prompts was in the store by then.",
    }.get(said.get("data_seen_before"), "")  # type: ignore[arg-type] - an absent key is none of both
    again = len(w.items(said, "again"))
    told = [
        f"The plan was frozen as {said.get('hash')} on {said.get('when')}.", seen,
        f"{len(rows)} of its fields changed since." if rows else "Nothing of it changed since.",
        f"It was frozen {again} more {'time' if again == 1 else 'times'} after that." if again else "",
    ]  # fmt: skip
    columns = (("field", False), ("frozen as", False), ("now", False))
    return Block("frozen", "The plan as it was frozen", tuple(filter(None, told)), columns if rows else (), tuple(rows))


def estimate(results: Results) -> Block | None:
    """What the plan said that the study would cost, and what it cost."""
    said = results.get("estimate") or {}
    rows = []
    for key, told in said.items():
        if isinstance(told, Mapping) and w.finite(told.get("planned")) is not None:
            reach = w.interval(told.get("low"), told.get("high"), 0)
            cells = (Cell(w.number(told["planned"], 0), reach), Cell(w.number(told.get("used"), 0)))
        elif w.finite(told) is not None:
            cells = (Cell(w.number(told, 0)), Cell(w.DASH))
        else:
            cells = (Cell(w.setting(told)), Cell(w.DASH))
        rows.append((Cell(str(key).replace("_", " ")), *cells))
    if not rows:
        return None
    columns = (("", False), ("planned", True), ("used", True))
    return Block("estimate", "What it was to cost", ("As told before the first cell was run.",), columns, tuple(rows))


def manifests(results: Results) -> Block | None:
    """Every arm's manifest: what differs by value, and below it what is the same for all."""
    held: Mapping[str, Mapping[str, Any]] = results.get("manifests") or {}
    order = list(dict.fromkeys(str(row["name"]) for row in w.items(results, "arms")))
    arms = sorted(held, key=lambda a: (order.index(a) if a in order else len(order), a))
    if not arms:
        return None
    rows: list[tuple[int, tuple[Cell, ...]]] = []
    for field in sorted({field for arm in arms for field in held[arm]}):
        values = {arm: held[arm][field] for arm in arms if field in held[arm]}
        groups = w.by_value(values)
        alike = len(groups) == 1 and len(values) == len(arms)
        said = groups[0][0] if alike else "; ".join(f"{value}: {w.few(names)}" for value, names in groups)
        kind = "all arms" if alike else "some arms" if len(groups) == 1 else f"{len(groups)} values"
        rows.append((0 if len(groups) > 1 else 1 if alike else 2, (Cell(field), Cell(said), Cell(kind))))
    cells = tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))
    told = (
        "What every arm was trained, answered and judged under. Fields with several values come first; those that only "
        "some arms have, such as the settings of their method, come last.",
    )
    columns = (("field", False), ("value: arms", False), ("", False))
    return Block("manifest", "Manifest", told, columns, cells, f"{len(cells)} fields of {len(arms)} arms")


def standing(results: Results) -> list[Block]:
    """Of many arms, per decoding: how each stands against all others, counted; the pairs stand in the table's file."""
    names, found = Names.of(results), []
    pairs = w.items(results, "pairs")
    for i, decoding in enumerate(dict.fromkeys(str(p.get("decoding") or "") for p in pairs)):
        tally: dict[str, dict[str, list[str]]] = {}
        for p in (p for p in pairs if str(p.get("decoding") or "") == decoding):
            a, b = str(p["a"]), str(p["b"])
            tone = verdict(*(w.finite(p.get(k)) for k in ("low", "high", "p_holm")), names.higher_is_better)  # type: ignore[arg-type]
            back: Tone = {"better": "worse", "worse": "better"}.get(tone, "unclear")  # type: ignore[assignment]
            for one, other, said in ((a, b, tone), (b, a, back)):
                tally.setdefault(one, {"better": [], "worse": [], "unclear": []})[said].append(other)
        ranked = sorted(tally, key=lambda a: (len(tally[a]["worse"]) - len(tally[a]["better"]), a))
        rows = [
            (Cell(a), *(Cell(w.count(len(tally[a][k])), order=float(len(tally[a][k]))) for k in
                        ("better", "unclear", "worse")), Cell(w.few(sorted(tally[a]["unclear"])) or "none"))
            for a in ranked
        ]  # fmt: skip
        columns = (("arm", False), ("clearly better than", True), ("no clear difference", True),
                   ("clearly worse than", True), ("cannot be told from", False))  # fmt: skip
        found.append(Block(f"pairs-{i}", decoding, (), columns, tuple(rows), _fold(rows, "arms") if i else ""))
    return found


def _count(value: Any) -> Cell:
    return Cell(w.count(value), order=w.finite(value))


def _fold(rows: Sequence[Any], what: str) -> str:
    return f"{len(rows)} {what}" if len(rows) > _FOLDED else ""
