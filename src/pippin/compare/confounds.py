"""What differs between arms that the study does not declare: confounds, named; a method's own settings, listed.

Each arm resolves to a flat manifest (:mod:`manifests`). Fields are compared between the arms that have them: an arm
that reads no preferences has no preference data to differ in. What a method owns (``method.NAME.*``) may differ and is
listed as a setting. What an external arm does not say is *not declared*, which is neither equal nor different. All
fields, with why each matters and how to mend it, stand in :mod:`fields`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

from pippin.compare import fields, foreseen, kept, leaks, manifests, stakes
from pippin.compare.cells import CELL, ArmRun, Plan
from pippin.compare.manifests import NOT_DECLARED, Manifest, Read, Said
from pippin.compare.spec import judge_scores, references
from pippin.core import catalog
from pippin.core.store import Store

Json = dict[str, Any]
LEVEL = 0.01
"""How improbable, over all pairs of arms, counts of missing verdicts must be to be told apart from chance."""
NEAR = 0.05
"""How far, as a share, an arm may miss the amount that arms are matched on."""
CUT = 0.1
"""The share of answers cut at the limit from which a reader is told."""


def manifest(run: ArmRun, plan: Plan, store: Store) -> Json:
    """The flat manifest of one arm as plain values: what it was trained, asked and judged under."""
    return {name: said.value for name, said in manifests.resolve(run, plan, manifests.reader(store)).items()}


def differences(
    found: Mapping[str, Mapping[str, Any]], declared: Mapping[str, Sequence[str]] | None = None
) -> tuple[list[Json], list[Json], list[Json]]:
    """(confounds, settings, not declared) of the arms' manifests.

    Args:
        found: arm -> flat manifest, of plain values or :class:`manifests.Said`.
        declared: arm -> fields that the study says vary for it; they are no confound.
    """
    arms = {arm: {k: v if isinstance(v, Said) else Said(v) for k, v in flat.items()} for arm, flat in found.items()}
    declared = declared or {}
    confounds, settings, undeclared = [], [], []
    for field in sorted(set().union(*arms.values())):
        have = {arm: flat[field] for arm, flat in arms.items() if field in flat}
        if field.startswith("method."):
            if any(said.value != _default(field) for said in have.values()):
                settings.append({"field": field, "arms": {arm: said.value for arm, said in have.items()}})
            continue
        known = {a: s for a, s in have.items() if s.value != NOT_DECLARED and field not in declared.get(a, ())}
        for group in _within(field, known, arms):
            if len(_alike(group)) > 1:
                confounds.append(_confound(field, {a: str(s) for a, s in group.items()}))
    for arm, flat in arms.items():
        silent = sorted(f for f, s in flat.items() if s.value == NOT_DECLARED)
        if silent:
            undeclared.append({"arm": arm, "fields": silent})
    return confounds, settings, undeclared


def ahead(plan: Plan, store: Store) -> list[Json]:
    """The confounds that a study will have, as far as its plan tells; nothing is run. Rows and prompts are read.

    Raises:
        InputError: a file of rows or prompts cannot be read.
    """
    return of_plan(plan, store, foreseen.reader(plan))[0]


def of_plan(plan: Plan, store: Store, read: Read | None = None) -> tuple[list[Json], list[Json], list[Json]]:
    """Confounds, settings and undeclared fields of a study whose cells are done; seeds are compared with themselves,
    and so are ways of answering. ``read`` gives results of cells in the store's place."""
    read = read or manifests.reader(store)
    found: dict[str, Json] = {}
    settings: dict[str, Json] = {}
    undeclared: list[Json] = []
    for seed in plan.study.seeds:
        runs = [r for r in plan.runs if r.seed == seed]
        for decoding in dict.fromkeys(d for r in runs for d in r.responses):
            answering = [r for r in runs if decoding in r.responses]
            flat = {r.arm.name: manifests.resolve(r, plan, read, decoding) for r in answering}
            declared = {r.arm.name: _declared(r, plan) for r in answering}
            confounds, own, silent = differences(flat, declared)
            confounds += _starts(flat, declared, {c["field"] for c in confounds})
            for confound in confounds:
                found.setdefault(confound["field"], confound)
            for setting in own:
                settings.setdefault(setting["field"], {**setting, "arms": {}})["arms"].update(setting["arms"])
            undeclared += [row for row in silent if row not in undeclared]
    leaked = kept.fact("leaked prompts", lambda: leaks.shared_prompts(plan))
    others = [
        *kept.fact("judge in training", lambda: _judge_in_training(plan, store, read)),
        *kept.fact("judge's family", lambda: _kin(plan, store)),
        *_snapshots(plan, read),
        *_missing(plan, read),
        *_unmatched(plan, read),
        *([_confound("leaked prompts", leaked)] if leaked else []),
    ]
    return [*found.values(), *others], list(settings.values()), undeclared


def notes(plan: Plan, store: Store) -> list[str]:
    """What is no confound and yet has to be known: answers that were cut, one checkpoint under several seeds."""
    read = manifests.reader(store)
    cut: dict[int, list[str]] = {}
    for run in plan.runs:
        for decoding, key in run.responses.items():
            share, limit = read(key).get("share_without_end") or 0.0, plan.cells[key].spec.get("max_tokens")
            if share >= CUT and limit:
                cut.setdefault(limit, []).append(f"{share:.0%} of {run.arm.name} (seed {run.seed}, {decoding})")
    found = [f"Answers that did not end within {limit} tokens: {'; '.join(arms)}." for limit, arms in cut.items()]
    once = [run.arm.name for run in plan.runs if run.external and "path" in run.external]
    if once and len(plan.study.seeds) > 1:
        arms = ", ".join(dict.fromkeys(once))
        found.append(f"Made elsewhere and trained once, whatever the seed of the arms beside it: {arms}.")
    return found


def _confound(field: str, arms: Mapping[str, str]) -> Json:
    known = fields.field_of(field)
    why = known.why if known else "differs between arms and is not declared"
    return {"field": field, "arms": dict(arms), "why": why, **({"mend": known.mend} if known else {})}


def _declared(run: ArmRun, plan: Plan) -> list[str]:
    """Manifest fields that the arm's own entry in the method axis declares. What other axes make, directly or through
    stages, is told apart by how it is written (:class:`manifests.Said`)."""
    method = plan.study.axes.get("method")
    label = run.arm.labels.get("method", "")
    entry = method.get(label) if isinstance(method, Mapping) else None
    said = {k: v for k, v in entry.items() if k != "method"} if isinstance(entry, Mapping) else {}
    out: set[str] = set()
    for key, value in said.items():
        staged = value == "base" or bool(references(value))
        if key == "model" and staged:  # of the study's own models, and so of their base
            out |= {f"start ({reads})" for reads in fields.READS}
        elif key != "use" or not staged:
            out |= fields.set_by({key})
    return sorted(out)


# ---------------------------------------------------------------------- fields of manifests


def _within(field: str, known: Mapping[str, Said], arms: Mapping[str, Manifest]) -> Iterator[dict[str, Said]]:
    """The arms among which a field is compared: those that agree in the field that it lies within."""
    told = fields.field_of(field)
    if told is None or not told.within:
        yield dict(known)
        return
    outer = {arm: arms[arm].get(told.within, Said("")) for arm in known}
    for alike in _alike(outer):
        yield {arm: known[arm] for arm in alike}


def _alike(said: Mapping[str, Said]) -> list[list[str]]:
    """The arms in groups; two arms are in one where a chain of equal ones joins them."""
    groups: list[list[str]] = []
    for arm, value in said.items():
        joined = [g for g in groups if any(value.same(said[other]) for other in g)]
        groups = [g for g in groups if g not in joined] + [[*(a for g in joined for a in g), arm]]
    return groups


# ---------------------------------------------------------------------- what no single field of a manifest says


def _starts(flat: Mapping[str, Manifest], declared: Mapping[str, Sequence[str]], found: set[str]) -> list[Json]:
    """Methods that read preferences and methods that sample, which start from one policy where a study is fair. What
    learns from demonstrations may make that policy, and so starts earlier."""
    names = ("start (preferences)", "start (prompts)")
    if found & set(names):
        return []
    known = {
        arm: said
        for arm, own in flat.items()
        for name in names
        if (said := own.get(name)) and name not in declared[arm] and said.value != NOT_DECLARED
    }
    return [_confound(names[1], {a: str(s) for a, s in known.items()})] if len(_alike(known)) > 1 else []


def _place(store: Store) -> Callable[[str], str]:
    """``cell:KEY`` in the name of a judge or model, as the folder where that cell's work lies."""
    return lambda name: CELL.sub(lambda found: str(store.artifact(found[1]) or found[0]), name)


def _judge_in_training(plan: Plan, store: Store, read: Read) -> list[Json]:
    """A judge that labelled, rewarded or selected in training and evaluates. Gold, the truth, may select."""
    used: dict[str, str] = {}
    place = _place(store)
    meet = cache(lambda one, other: stakes.shared(one, other, place))
    for run in plan.runs:
        judge = run.evaluation.get("judge", plan.study.judge)
        parts = [("rewarded", str((run.external or {}).get("reward", "")))]
        for key in plan.lineage(run.train):
            cell, noted = plan.cells[key], read(key).get("manifest", {})
            if cell.kind == "feedback":
                parts.append(("labelled", cell.spec["judge"]))
                continue
            parts += [("labelled", by) for by in noted.get("labelled by", ()) if by != "person"]
            parts.append(("rewarded", cell.spec.get("reward") or ""))
            if manifests.selected(key, read) and cell.spec.get("judge") not in stakes.TRUTH:
                parts.append(("selected", cell.spec.get("judge") or ""))
        did = {f"{part} by {name}": None for part, other in parts if other and (name := meet(judge, other))}
        if did:
            used[run.arm.name] = ", ".join(did)
    return [_confound("judge in training", used)] if used else []


def _kin(plan: Plan, store: Store) -> list[Json]:
    """Judges that are a candidate, or of the family of one."""
    found: dict[str, str] = {}
    place = _place(store)
    kin = cache(lambda judge, *candidates: stakes.kin(judge, list(candidates), place))
    for run in plan.runs:
        root = manifests.root_cell(run, plan)
        told = run.external or {}
        base = plan.cells[root].spec["model"] if root else str(told.get("base") or told.get("model") or run.policy)
        judges = kin(run.evaluation.get("judge", plan.study.judge), base, run.policy)
        if judges:
            found[run.arm.name] = f"{base}, judged by {', '.join(judges)}"
    return [_confound("judge's family", found)] if found else []


def _snapshots(plan: Plan, read: Read) -> list[Json]:
    """One model asked for and two served. Fingerprints may vary from call to call (a server has several backends): they
    tell where a model's name does not, and where two arms have none in common."""
    served: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for run in plan.runs:
        for key in run.verdicts.values():
            for asked, name, print_ in read(key).get("manifest", {}).get("judge.served", ()):
                served.setdefault(asked, {}).setdefault(run.arm.name, set()).add((name, print_))
    arms: dict[str, list[str]] = {}
    for asked, by_arm in served.items():
        names = {name for seen in by_arm.values() for name, _ in seen}
        unnamed = {pair for seen in by_arm.values() for pair in seen if not pair[0]}
        apart = any(not a & b for a, b in combinations(by_arm.values(), 2))
        if len(names) > 1 or len(unnamed) > 1 or apart:
            for arm, seen in by_arm.items():
                told = ", ".join(" ".join(filter(None, pair)) for pair in sorted(seen))
                arms.setdefault(arm, []).append(f"{asked} as {told}")
    return [_confound("judge.served", {arm: "; ".join(told) for arm, told in arms.items()})] if arms else []


def _missing(plan: Plan, read: Read) -> list[Json]:
    """Arms of which more prompts have no verdict than chance explains (Fisher's exact test, Bonferroni over pairs)."""
    from scipy.stats import fisher_exact

    asked: dict[str, dict[str, bool]] = {}
    for run in plan.runs:
        if plan.is_baseline(run.arm.name) and not judge_scores(run.evaluation.get("judge", plan.study.judge)):
            continue  # held against itself, which asks nobody
        arm = asked.setdefault(run.arm.name, {})
        for key in run.responses.values():  # recorded elsewhere, and not for every prompt
            arm |= dict.fromkeys(read(key).get("missing", ()), True)
        for key in run.verdicts.values():
            for prompt, values in read(key).get("values", {}).items():
                arm[prompt] = arm.get(prompt, False) or None in values
    counts = {arm: (sum(lost.values()), len(lost)) for arm, lost in asked.items() if lost}
    if len({lost for lost, _ in counts.values()}) < 2:
        return []
    most = max(counts, key=lambda arm: counts[arm][0] / counts[arm][1])
    least = min(counts, key=lambda arm: counts[arm][0] / counts[arm][1])
    table = [[lost, all_ - lost] for lost, all_ in (counts[most], counts[least])]
    pairs = len(counts) * (len(counts) - 1) / 2
    exact: Any = fisher_exact(table)
    if exact.pvalue * pairs >= LEVEL:
        return []
    return [_confound("missing answers", {arm: f"{lost} of {all_} prompts" for arm, (lost, all_) in counts.items()})]


def _unmatched(plan: Plan, read: Read) -> list[Json]:
    """Arms whose ledger misses the stated match, in the seed in which it misses it most."""
    out = []
    for column, amount in plan.study.match.items():
        spent: Json = {}
        for run in plan.runs:
            if run.train is None or "use" in run.arm.spec:
                continue  # nothing was spent on this arm itself
            value = read(run.train).get("ledger", {}).get(column)
            miss = abs(value - float(amount)) if value else 0.0
            if miss > NEAR * float(amount) and miss > abs(spent.get(run.arm.name, float(amount)) - float(amount)):
                spent[run.arm.name] = value
        if spent:
            told = {arm: f"{value:,.6g} in place of {float(amount):,.6g}" for arm, value in spent.items()}
            out.append(_confound(f"match: {column}", told))
    return out


# ---------------------------------------------------------------------- settings


@cache
def _defaults(method: str) -> Json:
    """What a method's settings are where nobody sets them."""
    from dataclasses import asdict

    from pippin.align.settings import Settings

    chosen = Settings.of(method, catalog.load("methods", method), {})
    return {**asdict(chosen.training), **asdict(chosen.own)}


def _default(field: str) -> Any:
    """The default of ``method.NAME.SETTING``; a method that is not known here has none."""
    _, name, setting = field.split(".", 2)
    return _defaults(name).get(setting) if name in catalog.names("methods") else None
