"""The answer of a meta-evaluation in plain sentences: who is best, against the trivial rules, and who cannot be told
from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pippin.compare import wording as w
from pippin.compare.meta.blocks import Found, Judges, listed, main_mean, plural, size, words

Result = Mapping[str, Any]


def answer(result: Result, judges: Judges) -> tuple[str, list[str]]:
    """The headline, and the sentences that follow it. Sets are never pooled, but for the benchmark's own means."""
    main = main_mean(result)
    names = [main, *(n for n in dict.fromkeys(row["name"] for row in result["means"]) if n != main)] if main else []
    sentences = [said for name in names if (said := _mean(name, result, judges))]
    by_set = [said for name in result["sets"] if (said := _set(name, result, judges))]
    if not sentences and len(judged := [name for name in result["sets"] if _in_set(name, judges)[0]]) == 1:
        rest = [said for name in result["sets"] if name not in judged and (said := _set(name, result, judges))]
        sentences, by_set = [_leads(judged[0], judges)], [*filter(None, [_tested(judged[0], result)]), *rest]
    if not sentences:
        sentences = [_over_sets(result, judges)]
    human = result.get("human_agreement")
    if human:
        by_set.append(f"People agree with the labels in {w.number(100 * human, 0)} %, as published.")
    return sentences[0], [*sentences[1:], *by_set]


def _ranked(rows: Sequence[tuple[str, Found | None]]) -> list[tuple[str, Found]]:
    return sorted(((name, e) for name, e in rows if e), key=lambda row: (-row[1]["value"], row[0]))


def _split(rows: Sequence[tuple[str, Found]], judges: Judges) -> tuple[list[Any], list[Any]]:
    """Judges, and trivial rules."""
    rules = {judge.name for judge in judges.order if judge.rule}
    return [r for r in rows if r[0] not in rules], [r for r in rows if r[0] in rules]


def _gets(best: tuple[str, Found], rules: Sequence[tuple[str, Found]], where: str, n: str) -> str:
    name, found = best
    said = f"{name} is right in {words(found)} of the verdicts {where} ({n})"
    if not rules:
        return said + "."
    rule, theirs = rules[0]
    return f"{said}; {rule}, which reads nothing, gets {words(theirs)}."


def _mean(name: str, result: Result, judges: Judges) -> str:
    rows = [row for row in result["means"] if row["name"] == name]
    made = _ranked([(row["judge"], row["accuracy"]) for row in rows])
    own, rules = _split(made, judges)
    if not (own or rules):
        return ""
    best = (own or rules)[0]
    sets = rows[0]["sets"]
    pairs = next(row["n"] for row in rows if row["judge"] == best[0])
    where = f"on the mean of {plural(len(sets), 'set')}"
    return _gets(best, rules if own else [], where, f"{name}: {plural(pairs, 'pair')}, each in both orders")


def _in_set(name: str, judges: Judges) -> tuple[list[tuple[str, Found]], list[tuple[str, Found]]]:
    return _split(_ranked([(j.name, judges.cells[j.name, name]["accuracy"]) for j in judges.of(name)]), judges)


def _leads(name: str, judges: Judges) -> str:
    own, rules = _in_set(name, judges)
    if not (own or rules):
        return ""
    said = _gets((own or rules)[0], rules if own else [], f"on {name}", size((own or rules)[0][1]))
    return said if own or not _judged(judges) else f"No judge has a verdict on {name}. {said}"


def _judged(judges: Judges) -> bool:
    """Whether there is any judge beside the rules."""
    return any(not judge.rule for judge in judges.order)


def _over_sets(result: Result, judges: Judges) -> str:
    """For several sets without a mean: who leads how often."""
    leads: dict[str, list[str]] = {}
    for name in result["sets"]:
        own, rules = _in_set(name, judges)
        if own or (rules and not _judged(judges)):
            judge, found = (own or rules)[0]
            leads.setdefault(judge, []).append(f"{name} ({words(found)}, n {w.count(found['n'])})")
    if not leads:
        return "No judge has a verdict on a pair that people decided: there is no accuracy."
    of = sum(map(len, leads.values()))
    if len(leads) == 1:
        [(judge, sets)] = leads.items()
        every = "both" if of == 2 else f"all {of}"
        return f"{judge} is the most accurate judge on {every} sets: {listed(sets, 4)}. The sets are not pooled."
    ranked = sorted(leads.items(), key=lambda item: -len(item[1]))
    parts = [f"{judge} on {listed(sets, 2)}" for judge, sets in ranked[:4]]
    more = "" if len(ranked) <= 4 else f", {plural(len(ranked) - 4, 'other')} elsewhere"
    return f"The most accurate judge depends on the set: {'; '.join(parts)}{more}. The sets are not pooled."


def _set(name: str, result: Result, judges: Judges) -> str:
    """One set: the best judge, the best rule, and whether the data tell them apart."""
    lead = _leads(name, judges)
    return f"{lead} {_tested(name, result)}".strip() if lead else ""


def _tested(name: str, result: Result) -> str:
    row = next((row for row in result["told_apart"] if row["set"] == name), None)
    if row is None:
        return ""
    best, like = row["best"], row["not_told_from_best"]
    rules = [r for r in like if _is_rule(r, result)]
    heard = {c["judge"] for c in result["cells"] if c["set"] == name and c["accuracy"]}
    others = [j for j in like if j not in rules and j in heard]
    compared = [c for c in result["cells"] if c["set"] == name and not _is_rule(c["judge"], result)]
    if _is_rule(best, result):
        if not compared:
            return ""
        said = f"{best} does best of all: no judge is shown to beat the trivial rules."
    elif rules:
        said = f"{best} cannot be told from {listed(rules)}, so no judge is shown to beat the trivial rules."
    else:
        said = f"{best} beats every trivial rule."
    if others:
        few = listed(others, 4 if len(others) > 5 else 5)
        said += f" {plural(len(others), 'judge')} cannot be told from {best}: {few}."
    elif len(compared) > 1:
        said += f" Every other judge is told from {best}."
    return said


def _is_rule(name: str, result: Result) -> bool:
    return any(row["judge"] == name and row["kind"] == "rule" for row in (*result["baselines"], *result["cells"]))
