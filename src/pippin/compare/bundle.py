"""A study's report as an archive that others analyse again, offline: answers, verdicts and books, no weights, no keys.

Into it goes what the analysis reads, whatever that is: it is run once over a store that notes what is asked of it. Out
of it the same analysis is run over a store that holds nothing else, so the figures are computed and not copied.

| member | holds |
| --- | --- |
| ``bundle.json`` | the SHA-256 of every other member |
| ``study.yaml``, ``results.json``, ``plan.json`` | the study as it was written, its results, its cells by key |
| ``cells.jsonl`` | every cell: what it was made of, and what came of it |
| ``artifacts/KEY/*.jsonl`` | answers, feedback and metrics of the cells that have them |
| ``facts.json`` | what the analysis saw in files: the arms' manifests, and what in them differs |
| ``test.jsonl`` | the test prompts, for arms of one's own |
| ``judgements.jsonl``, ``calls.jsonl`` | what judges said of the answers, and the requests that the analysis read |
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pippin import __version__
from pippin.compare import archive, confounds, kept, papers
from pippin.compare.cells import Plan
from pippin.core.errors import InputError
from pippin.core.run import replacing
from pippin.core.store import Store, judgement_from_row
from pippin.core.types import Call, Judgement, Prompt, from_row, to_row
from pippin.data import columns, files

Json = dict[str, Any]
FORMAT = 1
FACTS = "facts.json"
TEST = "test.jsonl"
TEXTS = ("cell.json", "groups.jsonl", "metrics.jsonl", "responses.jsonl", "watch.jsonl")
"""The files of an artifact that a bundle takes; all others, weights among them, stay where they are."""
STATED = ("reproduce",)
"""What a new analysis takes over as it was stated: where and how the figures were first made."""

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # characters of a value that is taken for a secret
_LOOKS_SECRET = re.compile(
    rb"authorization\W{1,6}(?:bearer|basic|token)\s+[\w.~+/=-]{16,}"
    rb"|\b(?:sk-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{20,})"
    rb"|https?://[^/\s:@\"]+:[^/\s:@\"]+@",
    re.IGNORECASE,
)


@dataclass
class _Seen:
    """A store that notes what is read of it."""

    store: Store
    cells: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    said: dict[str, Judgement] = field(default_factory=dict)
    asked: dict[str, Call] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def cell(self, key: str) -> Json | None:
        self.cells.add(key)
        return self.store.cell(key)

    def artifact(self, key: str) -> Path | None:
        self.folders.add(key)
        return self.store.artifact(key)

    def judgements(self, *args: Any, **filters: Any) -> list[Judgement]:
        found = self.store.judgements(*args, **filters)
        self.said |= {judgement.id: judgement for judgement in found}
        return found

    def call(self, call_id: str) -> Call | None:
        return self.calls([call_id]).get(call_id)

    def calls(self, ids: Iterable[str]) -> dict[str, Call]:
        found = self.store.calls(ids)
        self.asked |= found
        return found


@dataclass(frozen=True)
class Reopened:
    """A bundle analysed again: its results, and the parts in which they are not what the bundle states."""

    results: Json
    differs: tuple[str, ...]


def make(folder: Path, out: Path, store: Store) -> dict[str, str]:
    """Write the bundle of the report in ``folder`` to ``out``; the SHA-256 of every member.

    Raises:
        InputError: ``folder`` has no report, the store lacks its cells, or a text in it looks like a key.
    """
    results, plan = read_results(folder), papers.read(folder)
    lost = [cell.label for key, cell in plan.cells.items() if store.cell(key) is None]
    if lost:
        raise InputError("the store does not have the cells of this report", where=str(folder),
                         found=f"{len(lost)} of {len(plan.cells)} are missing, first {lost[0]}",
                         mend="Set PIPPIN_HOME to the store that the study ran in")  # fmt: skip
    seen, facts = _Seen(store), kept.Facts()
    with kept.keeping(facts):
        _analysed(plan, cast(Store, seen), results)
        for run in plan.runs:
            name = manifest_of(run.arm.name, run.seed)
            facts.found[name] = confounds.manifest(run, plan, cast(Store, seen))
    members = _members(results, plan, seen, facts)
    public = _Public(store.artifacts.root)
    cleaned = ((name, public.lines(name, lines)) for name, lines in sorted(members.items()))
    return archive.write(out, cleaned, {"format": FORMAT, "pippin": __version__, "question": plan.study.question})


def read_results(folder: Path) -> Json:
    """The results in a report's folder.

    Raises:
        InputError: there are none.
    """
    file = folder / "results.json"
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            "no results of a report", where=str(file), found=getattr(error, "strerror", None) or str(error),
            expected="a folder that `pippin compare STUDY.yaml` wrote, or a bundle",
        ) from None  # fmt: skip
    if not isinstance(found, dict) or "arms" not in found:
        raise InputError("no results of a report", where=str(file), expected="the results of a study")
    return found


def analysed_again(path: str | Path) -> Reopened:
    """The results of a bundle, computed anew from what it holds; nothing else is read and nothing is kept.

    What the analysis does not make (what tuning tried, the time it took) is taken over as the bundle states it.

    Raises:
        InputError: the archive is not whole, or not a bundle.
    """
    with archive.opened(path) as held, tempfile.TemporaryDirectory(prefix="pippin-") as place:
        stated, plan = contents(held)
        with Store(Path(place) / "store.db") as store:
            unpack(held, store)
            with kept.keeping(kept.Facts(facts_of(held), complete=True)):
                fresh = _of_theirs(plan, store, stated, held.where)
        results = json.loads(json.dumps({**stated, **fresh, **{key: stated[key] for key in STATED}}))
    return Reopened(results, tuple(key for key in sorted(results) if results[key] != stated.get(key)))


def lay_out(path: str | Path, folder: Path) -> None:
    """Write the study and the test prompts of a bundle into ``folder``, for arms of one's own.

    Raises:
        InputError: the archive is not whole, or not a bundle.
    """
    with archive.opened(path) as held:
        for name in ("study.yaml", TEST):
            with replacing(folder / name) as file:
                file.write(held.bytes(name))


def contents(held: archive.Archive) -> tuple[Json, Plan]:
    """(results, plan) of a bundle as they are stated.

    Raises:
        InputError: the archive is no bundle of this version.
    """
    if not isinstance(held.about, dict) or held.about.get("format") != FORMAT:
        raise InputError("not a bundle of this version", where=held.where, expected=f"format {FORMAT}",
                         mend="Open it with the Pippin that made it")  # fmt: skip
    stated = held.json("results.json")
    if not isinstance(stated, dict) or not isinstance(stated.get("reproduce"), dict):
        raise InputError("not a bundle of a study", where=held.where, found="results.json")
    return stated, papers.from_row(held.json(papers.FILE), f"{held.where}: {papers.FILE}")


def unpack(held: archive.Archive, store: Store, renamed: Mapping[str, str] | None = None) -> None:
    """Put what a bundle holds into a store; with ``renamed`` only those cells, under the keys that it gives them.

    What someone else states must not be taken for what this machine ran or was answered: into a store that is used for
    other things cells go under other keys, and judgements and calls do not go at all.

    Raises:
        InputError: a row is not what a bundle has.
    """
    for row in held.rows("cells.jsonl"):
        if not isinstance(row, dict) or set(row) != {"key", "manifest", "result"} or not isinstance(row["key"], str):
            raise InputError("not a row of cells", where=held.where, found="cells.jsonl")
        mine = row["key"] if renamed is None else renamed.get(row["key"])
        if mine is not None and store.cell(mine) is None:
            row = renaming(row, renamed or {})
            store.add_cell(mine, row["manifest"], row["result"])
    for name in held.names:
        kind, _, rest = name.partition("/")
        key, _, _ = rest.partition("/")
        mine = key if renamed is None else renamed.get(key)
        if kind == "artifacts" and mine is not None and store.artifact(mine) is None:
            with store.writing(mine) as folder:
                for text in (t for t in TEXTS if f"artifacts/{key}/{t}" in held):
                    held.copy(f"artifacts/{key}/{text}", folder / text)
    if renamed is None:
        store.add_judgements(judgement_from_row(row, where=held.where) for row in held.rows("judgements.jsonl"))
        store.add_calls(from_row(Call, row, where=held.where) for row in held.rows("calls.jsonl"))


def facts_of(held: archive.Archive) -> Json:
    """What the analysis saw in files when the bundle was made, by name.

    Raises:
        InputError: the bundle does not say.
    """
    found = held.json(FACTS)
    if not isinstance(found, dict):
        raise InputError("not a bundle of a study", where=held.where, found=FACTS)
    return found


def manifest_of(arm: str, seed: int) -> str:
    """The name of the fact that is an arm's manifest."""
    return f"manifest of {arm}, seed {seed}"


def renaming(value: Any, renamed: Mapping[str, str]) -> Any:
    """``value`` with the keys of cells in it, alone or as ``cell:KEY``, replaced; at any depth."""
    if not renamed:
        return value
    if isinstance(value, str):
        if value in renamed:
            return renamed[value]
        return re.sub(r"cell:([0-9a-f]{16})", lambda found: f"cell:{renamed.get(found[1], found[1])}", value)
    if isinstance(value, Mapping):
        return {k: renaming(v, renamed) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [renaming(v, renamed) for v in value]
    return value


def _analysed(plan: Plan, store: Store, stated: Json) -> Json:
    """The results of a plan's cells. What its looks came to is taken over: it says which cells there are at all."""
    from pippin.compare.analyse import analyse

    return analyse(plan, store, str(stated["reproduce"]["command"]), stated.get("looks"))


def _of_theirs(plan: Plan, store: Store, stated: Json, where: str) -> Json:
    """As :func:`_analysed`, of cells that someone else made.

    Raises:
        InputError: they are not what the analysis reads.
    """
    try:
        return _analysed(plan, store, stated)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, AssertionError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError("cells that this version does not read", where=where, found=found,
                         mend="Open the bundle with the Pippin that made it") from error  # fmt: skip


def _members(results: Json, plan: Plan, seen: _Seen, facts: kept.Facts) -> dict[str, Iterable[bytes]]:
    """Every member but the list; contents are read when they are written."""
    store = seen.store
    keys = sorted(key for key in seen.cells | set(plan.cells) if store.cell(key) is not None)
    said = {**seen.said, **_of_answers(plan, store)}
    members: dict[str, Iterable[bytes]] = {
        "study.yaml": plan.study.text.encode("utf-8", "surrogatepass").splitlines(keepends=True),
        "results.json": [_line(results)],
        papers.FILE: [papers.text(replace(plan, study=replace(plan.study, where=Path(plan.study.where).name)))],
        "cells.jsonl": (_line({"key": key, **(store.cell(key) or {})}) for key in keys),
        FACTS: [_line(facts.found)],
        TEST: (_line(columns.prompt_row(prompt)) for prompt in _asked(plan, store)),
        "judgements.jsonl": (_line(to_row(said[key])) for key in sorted(said)),
        "calls.jsonl": (_line(to_row(seen.asked[key])) for key in sorted(seen.asked)),
    }
    for key in sorted(seen.folders | set(plan.cells)):
        folder = store.artifact(key)
        there = [] if folder is None else [folder / text for text in TEXTS]
        members |= {f"artifacts/{key}/{file.name}": _lines_of(file) for file in there if file.is_file()}
    return members


def _of_answers(plan: Plan, store: Store) -> dict[str, Judgement]:
    """What judges of pairs said of the plan's answers, as far as the store has it; scores stand in the cells."""
    cells = [c for c in plan.cells.values() if c.kind == "judge" and "against" in c.spec]
    names = {str((store.cell(c.key) or {"result": {}})["result"].get("judge")) for c in cells}
    folders = filter(None, (store.artifact(key) for c in cells for key in c.needs))
    rows = [row for folder in dict.fromkeys(folders) for row in files.read_responses(folder / "responses.jsonl")]
    answers, ids = {response.id for _, response in rows}, {prompt.id for prompt, _ in rows}
    found = [j for name in sorted(names) for j in store.judgements(by=name, prompt_ids=ids)]
    return {j.id: j for j in found if answers >= {getattr(j, "first", None), getattr(j, "second", None)}}


def _asked(plan: Plan, store: Store) -> list[Prompt]:
    """The test prompts, in the order in which the first arm answered them."""
    folder = next(filter(None, (store.artifact(key) for key in plan.runs[0].responses.values())), None)
    rows = files.read_responses(folder / "responses.jsonl") if folder is not None else []
    return list({prompt.id: prompt for prompt, _ in rows}.values())


def _lines_of(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from opened


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"


class _Public:
    """Lines as others may see them: without the place of the store, and refused where they hold a key."""

    def __init__(self, root: Path) -> None:
        places = {str(root), str(root.resolve())}
        self._places = [f"{text}/".encode() for place in places for text in (place, json.dumps(place)[1:-1])]
        self._secrets = {
            name: value.encode() for name, value in os.environ.items()
            if _SECRET.search(name) and len(value) >= _SHORTEST and not value.startswith(("/", "~", "."))
        }  # fmt: skip

    def lines(self, member: str, lines: Iterable[bytes]) -> Iterator[bytes]:
        """``lines``, checked.

        Raises:
            InputError: a line holds the value of a secret variable, or what looks like a key; it is not shown.
        """
        for number, line in enumerate(lines, 1):
            for place in self._places:
                line = line.replace(place, b"cell:")
            name = next((name for name, value in self._secrets.items() if value in line), "")
            if name or _LOOKS_SECRET.search(line):
                what = f"the value of {name} stands in a text" if name else "a text looks like a key"
                mend = "Take it out; a bundle never holds keys"
                raise InputError(what, where=f"{member}, line {number}", mend=mend)
            yield line
