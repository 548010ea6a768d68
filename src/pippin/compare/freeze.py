"""A plan that is frozen before the data are seen: what a study asks, under a hash and a time, and what changed since.

``pippin compare STUDY.yaml --plan --freeze`` stores everything that the study file says, the hashes of its prompts and
files, and whether verdicts on its test prompts were in the store by then. Nothing that was frozen is ever replaced: a
plan that is frozen again is a further one. A study is held against the last plan that was frozen before its data were
seen; where there is none, against the first. A plan is found by its question or by the path of its file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from pippin.compare import appended, inputs
from pippin.compare.cells import Plan
from pippin.compare.study import INNER
from pippin.core.store import Store
from pippin.core.types import digest, plain

Json = dict[str, Any]


def stated(plan: Plan) -> Json:
    """All that a study says, as ``field -> value`` with dots between levels, and the hashes of its prompts and files.

    What stands at its default is left out, so that a default which is added later changes no plan.
    """
    found = dict(_flat(plan.study))
    sources = {getattr(plan.study.prompts, name): name for name in ("train", "dev", "test")}
    found |= {f"prompts.{name}.hash": inputs.fingerprint(source) for source, name in sources.items() if source}
    for cell in plan.cells.values():
        for key, told in cell.spec.get("fingerprints", {}).items():
            if cell.spec[key] not in sources and told != cell.spec[key]:
                found[f"hash of {cell.spec[key]}"] = told
    return json.loads(json.dumps(found, default=plain))


def freeze(plan: Plan, store: Store) -> Json:
    """Store a plan, unless the last one that was frozen for this study is the same.

    Returns:
        ``hash``, ``when`` (UTC), ``data_seen_before``, ``fields`` of the frozen plan.
    """
    before = _frozen(plan, store)
    what = stated(plan)
    if before and before[-1]["fields"] == what:
        return before[-1]
    mine = sorted({key for run in plan.runs for key in run.verdicts.values()})
    asked = {key for row in before for key in row["verdicts"]} | set(mine)
    row = {
        "hash": digest(["frozen", what]),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "order": time.time_ns(),
        "data_seen_before": any(store.cell(key) is not None for key in asked),
        "fields": what,
        "verdicts": mine,
    }
    for chain in _chains(plan):
        appended.append(store, row, *chain)
    return row


def frozen(plan: Plan, store: Store) -> Json | None:
    """What a study's frozen plan says against the study as it is; None where none was frozen.

    Returns:
        ``hash``, ``when``, ``data_seen_before`` of the plan that counts; ``changed``: ``{field, then, now}`` of every
        field that is not as it was, None for what is not stated; ``again``: the plans frozen after it, each with
        ``hash``, ``when`` and ``data_seen_before``.
    """
    found = _frozen(plan, store)
    if not found:
        return None
    blind = [k for k, row in enumerate(found) if not row["data_seen_before"]]
    counts = blind[-1] if blind else 0
    row, now = found[counts], stated(plan)
    then = row["fields"]
    changed = [
        {"field": name, "then": then.get(name), "now": now.get(name)}
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    told = ("hash", "when", "data_seen_before")
    again = [{name: later[name] for name in told} for later in found[counts + 1 :]]
    return {**{name: row[name] for name in told}, "changed": changed, "again": again}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves below a dataclass or a mapping. Lists are leaves: their order says something."""
    if is_dataclass(value):
        items = [(f.name, getattr(value, f.name), f.default if f.default_factory is MISSING else f.default_factory())
                 for f in fields(value) if name or f.name not in INNER]  # fmt: skip
        told = {key: inner for key, inner, usual in items if inner != usual}
    elif isinstance(value, Mapping) and value:
        told = value
    else:
        yield name, value
        return
    for key, inner in told.items():
        yield from _flat(inner, f"{name}.{key}" if name else str(key))


def _chains(plan: Plan) -> list[list[str]]:
    """The lists that a study's frozen plans are found in."""
    chains = [["frozen", "question", " ".join(plan.study.question.split())]]
    if plan.study.where:
        chains.append(["frozen", "path", str(Path(plan.study.where).expanduser().absolute())])
    return chains


def _frozen(plan: Plan, store: Store) -> list[Json]:
    """Every plan frozen for this study, the first one first."""
    found = {row["order"]: row for chain in _chains(plan) for row in appended.rows(store, *chain)}
    return [found[order] for order in sorted(found)]
