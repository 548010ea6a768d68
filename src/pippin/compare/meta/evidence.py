"""The further sections of a meta-evaluation: biases, paired differences, claims, noise, what the sets can
tell apart, and policies and parsers. A section without content has no blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pippin.compare import wording as w
from pippin.compare.meta.answer import Result
from pippin.compare.meta.blocks import (
    Column,
    Folded,
    Found,
    Heading,
    Judges,
    Notes,
    Raw,
    Section,
    Table,
    Text,
    counts,
    estimates,
    plural,
    size,
    words,
)
from pippin.compare.meta.sections import leans

EXAMPLES = 30  # texts that two parsers read differently
MOST = 20  # rows of policies
LEAST = 0.1  # points between policies, below which a row is left out
VERDICTS = ("holds", "not shown", "reversed")

SECTIONS: Mapping[str, tuple[str, str]] = {
    "biases": (
        "Biases",
        "Log-odds that a verdict names the response shown first, from one logistic regression per judge and set: for "
        "the place itself, for being the better one (gold), and for a standard deviation more length, lists, headers, "
        "bold or tone. p is not corrected for the number of judges. Longer less shorter is accuracy where the better "
        "response is the longer one less accuracy where it is the shorter one.",
    ),
    "pooled": (
        "Position and length, sets pooled",
        "Position and length bias over several sets as one, where the field reports them so. Accuracy is never pooled.",
    ),
    "within": (
        "Strategies of one model",
        "Points of accuracy of each strategy less the plain one of the same model, on the same pairs; p is corrected "
        "by Holm within a model and mean.",
    ),
    "differences": (
        "Differences from {0}",
        "Points of accuracy of the judge in the row less {0}, on the same pairs; p is corrected by Holm within each "
        "set.",
    ),
    "claims": (
        "Claims put to the test",
        "What the benchmark's authors concluded. A claim holds for a model where the whole 95 % interval lies on the "
        "claimed side of zero, and is reversed where it lies on the other.",
    ),
    "noise": (
        "Noise floor",
        "The same request asked several times: how often the verdicts are not all the same. Differences below this are "
        "noise of the judge, not of the data.",
    ),
    "apart": (
        "Which judges each set can tell apart",
        "Every pair of judges, the trivial rules among them, by a paired t-test over prompts, corrected by Holm over "
        "all pairs. Detectable is the difference that a single such test finds with a power of 80 %.",
    ),
    "people": (
        "People",
        "The ceiling is how often one person agrees with the majority of the others; judges are measured by the same "
        "yardstick, a contradiction of their two orders being a tie. The alternative-annotator test asks whether a "
        "judge could stand in for a person.",
    ),
    "peers": (
        "Peers",
        "Judges whose own answers are among those judged. Win rates in percent over all comparisons in both orders, a "
        "tie being half a win; a column is a contestant.",
    ),
    "policies": (
        "What becomes of ties and missing verdicts",
        "Accuracy in percent under every policy; this page uses {0}: {1}. The data are the same in each row: intervals "
        "as in the tables above.",
    ),
    "parsers": (
        "Where the parser reads otherwise",
        "{0} that the published rules read otherwise, from the published reading to the one here.",
    ),
}


def _section(name: str, blocks: tuple[Any, ...], *named: str) -> Section:
    title, intro = SECTIONS[name]
    return Section(name, title.format(*named), intro.format(*named), blocks)


def biases(result: Result, judges: Judges) -> Section:
    """What moves the verdict beside the better response: log-odds, all at once, by set."""
    blocks: list[Any] = []
    for name in result["sets"]:
        here = judges.of(name)
        cells = [judges.cells[j.name, name] for j in here]
        odds: list[Mapping[str, Any]] = [cell["biases"].get("log_odds") or {} for cell in cells]
        features = list(dict.fromkeys(feature for row in odds for feature in row))
        columns = [
            estimates(feature.replace("_", " "), [row.get(feature) for row in odds], scale=1, digits=2, signed=True,
                      tested=True) for feature in features
        ]  # fmt: skip
        length = [cell["length"] or {} for cell in cells]
        columns.append(estimates("prefers the longer %", [row.get("prefers_longer") for row in length]))
        columns.append(estimates("longer less shorter, points", [row.get("gap") for row in length], signed=True))
        columns.append(estimates("own answer, points over people", [c["own"] for c in cells], signed=True, tested=True))
        table = judges.table(f"Biases on {name}", here, columns)
        if not table.columns:
            continue
        blocks += [Heading(name), table]
        gold = next((row["gold_longer"] for row in length if row.get("gold_longer")), None)
        if gold:
            blocks.append(Text(f"The better response is the longer one in {words(gold)} ({size(gold)})."))
        said = [(j.name, "; ".join(cell["biases"]["said"])) for j, cell in zip(here, cells, strict=True)
                if cell["biases"].get("said")]  # fmt: skip
        if said:
            blocks.append(
                Folded(f"What could not be estimated, for {plural(len(said), 'judge')}", (Notes(tuple(said)),))
            )
    return _section("biases", tuple(blocks))


def pooled(result: Result, judges: Judges) -> Section:
    """Position and length over several sets as one."""
    blocks: list[Any] = []
    for name in dict.fromkeys(row["name"] for row in result.get("pooled", ())):
        held = {row["judge"]: row for row in result["pooled"] if row["name"] == name}
        here = [judge for judge in judges.order if judge.name in held]
        first = [held[judge.name]["first_shown"] for judge in here]
        length = [held[judge.name]["length"] or {} for judge in here]
        columns = [
            estimates("first shown %", first, extra=[leans(e) for e in first]),
            estimates("accuracy, better is longer %", [row.get("accuracy_gold_longer") for row in length]),
            estimates("accuracy, better is shorter %", [row.get("accuracy_gold_shorter") for row in length]),
            estimates("longer less shorter, points", [row.get("gap") for row in length], signed=True),
            estimates("prefers the longer %", [row.get("prefers_longer") for row in length]),
        ]
        blocks += [Heading(name), judges.table(f"Position and length, {name}", here, columns)]
    return _section("pooled", tuple(blocks))


def differences(result: Result, judges: Judges) -> Section:
    """Each judge less a chosen one, paired on the same pairs."""
    rows = result["differences"]
    found = {(row["judge"], row["set"]): row["difference"] for row in rows}
    here = [judge for judge in judges.order if any(judge.name == name for name, _ in found)]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    columns = [_points(name, [found.get((j.name, name)) for j in here]) for name in sets]
    against = rows[0]["against"] if rows else ""
    blocks = (judges.table(f"Differences from {against}", here, columns),) if rows else ()
    return _section("differences", blocks, against)


def within(result: Result) -> Section:
    """Each strategy less the plain one, by model."""
    rows = result["within_model"]
    found = {(row["llm"], row["strategy"], row["mean"]): row["difference"] for row in rows}
    keys = list(dict.fromkeys((row["llm"], row["strategy"]) for row in rows))
    means = list(dict.fromkeys(row["mean"] for row in rows))
    starts: dict[int, str] = {}
    last = ""
    for i, (llm, _) in enumerate(keys):
        if llm != last:
            base = next(row["against"] for row in rows if row["llm"] == llm)
            starts[i] = f"{llm}, less {base}"
        last = llm
    columns = tuple(_points(mean, [found.get((*key, mean)) for key in keys]) for mean in means)
    blocks = (Table("Strategies of one model", "strategy", tuple(s for _, s in keys), columns, starts, judges=True,
                    keys=tuple(f"{llm}:{strategy}" for llm, strategy in keys)),)  # fmt: skip
    return _section("within", blocks if rows else ())


def _points(title: str, found: Sequence[Found | None]) -> Column:
    return estimates(title, found, signed=True, tested=True)


def claims(result: Result) -> Section:
    """What the benchmark's authors concluded, by model."""
    heads: list[str] = []
    starts: dict[int, str] = {}
    verdicts: list[str] = []
    cells: list[Found] = []
    said = []
    for claim in result["claims"]:
        held = Counter(row["verdict"] for row in claim["rows"])
        of = len(claim["rows"])
        counted = "; ".join(
            f"{verdict} for {held[verdict]} of {plural(of, 'model')}" for verdict in VERDICTS if held[verdict]
        )
        said.append((claim["claim"], f"{counted} ({claim['over']}; {claim['what']})"))
        starts[len(heads)] = f"{claim['claim']} ({claim['over']})"
        heads += [row["llm"] for row in claim["rows"]]
        verdicts += [row["verdict"] for row in claim["rows"]]
        cells += [row["estimate"] for row in claim["rows"]]
    columns = (Column("verdict", tuple(verdicts)), estimates("points", cells, signed=True))
    blocks = (Notes(tuple(said)), Table("Claims by model", "model", tuple(heads), columns, starts))
    return _section("claims", blocks if said else ())


def noise(result: Result) -> Section:
    """How much a judge that is asked the same again contradicts itself."""
    rows = result["noise"]
    columns = [
        estimates("not unanimous %", [row["not_unanimous"] for row in rows]),
        estimates("same text %", [row["same_text"] for row in rows]),
        counts("repeats", [row["repeats"] for row in rows]),
        counts("requests", [row["calls"] for row in rows]),
    ]  # fmt: skip
    if any("accuracy_sd" in row for row in rows):
        runs = [", ".join(w.number(100 * a, 1) for a in row.get("accuracies", ())) for row in rows]
        deviations = [100 * row["accuracy_sd"] if "accuracy_sd" in row else None for row in rows]
        columns.append(counts("accuracy, sd over runs, points", deviations, runs, 2))
    kept = tuple(c for c in columns if not c.empty)
    blocks = (Table("Noise floor", "judge", tuple(row["judge"] for row in rows), kept),) if rows else ()
    return _section("noise", blocks)


def told_apart(result: Result) -> Section:
    """Which judges each set can tell apart."""
    rows = result["told_apart"]
    columns = (
        counts("pairs of judges", [row["pairs"] for row in rows]),
        counts("told apart", [row["told"] for row in rows],
               [f"{w.number(100 * row['told'] / row['pairs'], 0)} %" for row in rows]),
        counts("detectable, points", [None if r["detectable"] is None else 100 * r["detectable"] for r in rows], (), 1),
        Column("best", tuple(str(row["best"]) for row in rows)),
        counts("not told from the best", [len(row["not_told_from_best"]) for row in rows]),
    )  # fmt: skip
    like = tuple((f"{r['set']}: {r['best']}", ", ".join(r["not_told_from_best"]) or "nobody") for r in rows)
    blocks = (
        Table("Which judges each set can tell apart", "set", tuple(row["set"] for row in rows), columns),
        Folded("Who cannot be told from the best, by set", (Notes(like),)),
    )
    return _section("apart", blocks if rows else ())


def people(result: Result) -> Section:
    """How far people agree, and judges by the same yardstick."""
    blocks: list[Any] = []
    for row in result["people"]:
        held = [("ceiling, %", row["ceiling"], 100.0), ("Fleiss κ", row["fleiss_kappa"], 1.0), ("α", row["alpha"], 1.0)]
        said = tuple(
            (name, f"{words(e, '', scale, 1 if scale > 1 else 2)} ({size(e)})") for name, e, scale in held if e
        )
        judges = row["judges"]
        tests = [judge["alternative_annotator"] or {} for judge in judges]
        columns = (
            estimates("agrees with people %", [judge["against_people"] for judge in judges]),
            counts("people it could replace, ω", [test.get("omega") for test in tests],
                   [_epsilon(test) for test in tests], 2),
            estimates("average advantage, ρ", [test.get("rho") for test in tests], scale=1, digits=2),
            Column("alternative annotator", tuple(_passed(test) for test in tests)),
        )  # fmt: skip
        kept = tuple(c for c in columns if not c.empty)
        blocks += [Heading(f"{row['set']}, {plural(row['pairs'], 'pair')} with several votes"), Notes(said),
                   Table(f"Judges beside people on {row['set']}", "judge", tuple(j["judge"] for j in judges), kept,
                         judges=True)]  # fmt: skip
    return _section("people", tuple(blocks))


def _epsilon(test: Mapping[str, Any]) -> str:
    return f"ε {w.number(test['epsilon'], 2)}" if test else ""


def _passed(test: Mapping[str, Any]) -> str:
    if not test:
        return "no verdict"
    said = "may stand in" if test["passed"] else "may not stand in"
    return (said if test["usable"] else "not usable") + (f": {test['why']}" if test["why"] else "")


def peers(result: Result) -> Section:
    """Judges that are contestants too."""
    blocks: list[Any] = []
    for row in result["peers"]:
        raters = {**row["win_rates"], "people": row["people"]}
        authors = list(row["people"]) or list(next(iter(row["win_rates"].values())))
        columns = tuple(estimates(a, [held.get(a) or None for held in raters.values()]) for a in authors)
        blocks += [
            Heading(row["set"]),
            Table(f"Win rates on {row['set']}, %", "in the eyes of", tuple(raters), columns),
        ]
        ranked = row.get("peer_rank")
        if ranked:
            order = sorted(ranked["scores"], key=lambda name: -ranked["scores"][name])
            columns = (counts("peer rank score", [ranked["scores"][name] for name in order], (), 3),
                       counts("weight as a judge", [ranked["weights"][name] for name in order], (), 3))  # fmt: skip
            blocks.append(Table(f"Peer rank on {row['set']}", "contestant", tuple(order), columns))
            jury = row.get("jury") or {}
            kinds = (
                ("three_way", "same verdict as people", (" %", 100.0, 1)),
                ("fleiss_kappa", "Fleiss κ", ("", 1.0, 2)),
            )
            said = [
                f"{name} {words(jury[key], *form)} ({size(jury[key])})" for key, name, form in kinds if jury.get(key)
            ]
            if said:
                blocks.append(Text(f"All of them as one jury, weighted by peer rank: {'; '.join(said)}."))
    return _section("peers", tuple(blocks))


def policies(result: Result) -> Section:
    """What becomes of ties and missing verdicts, where it matters."""
    rows = [(max(held) - min(held), row) for row in result["policies"]
            if (held := [v for v in row["accuracy_pct"].values() if v is not None])]  # fmt: skip
    rows = sorted((r for r in rows if r[0] >= LEAST), key=lambda r: (-r[0], r[1]["set"], r[1]["judge"]))
    shown = [row for _, row in rows[:MOST]]
    names = list(result["policies"][0]["accuracy_pct"]) if result["policies"] else []
    columns = (
        Column("set", tuple(str(row["set"]) for row in shown)),
        counts("ties and missing", [row["tied_or_missing"] for row in shown]),
        *(counts(name, [row["accuracy_pct"][name] for row in shown], (), 2) for name in names),
        counts("spread, points", [spread for spread, _ in rows[:MOST]], (), 2),
    )
    blocks: list[Any] = []
    if shown:
        blocks.append(
            Table("Policies for ties and missing verdicts", "judge", tuple(r["judge"] for r in shown), columns)
        )
        left = len(result["policies"]) - len(shown)
        if left:
            blocks.append(Text(f"{plural(left, 'more row')} in results.json, with smaller differences."))
    return _section("policies", tuple(blocks), result["policy"], result["policy_says"])


def parser_changes(result: Result) -> Section:
    """Where the parser reads recorded texts otherwise than the published rules do."""
    rows = result["parser_changes"]
    kinds = Counter(f"{row['published']} → {row['here']}" for row in rows)
    order = [kind for kind, _ in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))]
    by_judge: dict[str, Counter[str]] = {}
    for row in rows:
        held = by_judge.setdefault(row["judge"], Counter())
        held.update([f"{row['published']} → {row['here']}", "all"] + ["conflict"] * bool(row["conflict"]))
    heads = sorted(by_judge, key=lambda judge: (-by_judge[judge]["all"], judge))
    columns = tuple(counts(kind, [by_judge[judge][kind] for judge in heads]) for kind in ("all", "conflict", *order))
    examples = _examples(rows)
    raw = tuple(
        Raw(f"{r['judge']}, {r['set']} {r['pair']}, {r['order']} order: {r['published']} → {r['here']}"
            + (", contradicts itself" if r["conflict"] else ""), r["text"]) for r in examples
    )  # fmt: skip
    blocks = (
        Table("Verdicts read otherwise", "judge", tuple(heads), columns, judges=True),
        Folded(f"{plural(len(raw), 'example')} of {w.count(len(rows))}", raw),
    )
    return _section("parsers", blocks if rows else (), plural(len(rows), "verdict"))


def _examples(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of every kind and judge in turn, until there are enough."""
    piles: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        piles.setdefault((row["published"], row["here"], row["judge"]), []).append(row)
    found: list[Mapping[str, Any]] = []
    depth = 0
    while len(found) < min(EXAMPLES, len(rows)):
        found += [pile[depth] for pile in piles.values() if depth < len(pile)][: EXAMPLES - len(found)]
        depth += 1
    return found


def method(result: Result, command: str) -> list[Any]:
    """What the figures come from."""
    rows = [("benchmark", result["benchmark"]), ("parser", result["parser"]),
            ("policy", f"{result['policy']}: {result['policy_says']}"), ("seed", str(result["seed"])),
            ("resamples", w.count(result["resamples"]))]  # fmt: skip
    blocks: list[Any] = [Raw("", command)] if command else []
    return [*blocks, Notes(tuple(rows))]
