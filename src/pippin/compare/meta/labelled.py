"""Pairs whose better response people have named: the yardstick of judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Group, Outcome, Ranking
from pippin.data.columns import TRUSTED
from pippin.data.features import features
from pippin.data.reader import Benchmark, Notes
from pippin.judge.ask import Pair

PERSON = "human/"
"""What the name of a person begins with, as the author of a single vote."""

STYLE = ("list_items", "headers", "bold", "tone")
"""Features of style beside the length that a judge may be biased by."""


@dataclass(frozen=True)
class LabelledSet:
    """The pairs of one set. Numbers are in the pairs' own numbering: 1 the first response is better, -1 the second.

    Attributes:
        gold_N: shape (N,), 0 where people call the pair a tie.
        votes_N_R: single votes of people, NaN where a person said nothing; None where there are no single votes.
        people: their names.
        judged: what judges within the data said: name to one outcome per pair and order, None where there is none.
        best_of: the pairs come from prompts with one best response of several.
    """

    name: str
    pairs: tuple[Pair, ...]
    gold_N: np.ndarray
    votes_N_R: np.ndarray | None = None
    people: tuple[str, ...] = ()
    judged: Mapping[str, tuple[tuple[Outcome | None, Outcome | None], ...]] = field(default_factory=dict)
    best_of: bool = False

    @cached_property
    def clusters_N(self) -> np.ndarray:
        return np.array([pair.prompt.id for pair in self.pairs])

    @cached_property
    def longer_N(self) -> np.ndarray:
        """Words of the first response less those of the second."""
        return np.array([len(p.first.text.split()) - len(p.second.text.split()) for p in self.pairs], dtype=float)

    @cached_property
    def style_N(self) -> Mapping[str, np.ndarray]:
        """Features of style, first less second, each over its standard deviation; what never differs is left out."""
        columns: dict[str, np.ndarray] = {"length": self.longer_N}
        found = [(features(p.first.text), features(p.second.text)) for p in self.pairs]
        for name in STYLE:
            columns[name] = np.array([one[name] - two[name] for one, two in found], dtype=float)
        return {name: values / values.std() for name, values in columns.items() if values.std() > 0}

    @property
    def authors(self) -> set[str]:
        return {r.by for pair in self.pairs for r in (pair.first, pair.second) if r.by}


def benchmark_data(
    benchmark: str, data: str | Path | None, recordings: str | Path | None, *, seed: int = 0, limit: int | None = None
) -> tuple[Benchmark, list[Group], Notes]:
    """A benchmark, its groups, and what its reader noted.

    ``data`` is where they lie, by default the folder ``datasets`` beside the recordings. Without either, a benchmark
    that can be generated is, and one that has a name on the Hugging Face hub is fetched from there.

    Raises:
        InputError: no such folder, or nothing could be fetched. UnknownName: neither a benchmark nor a file.
    """
    known, notes = catalog.names("benchmarks"), Notes()
    if benchmark not in known:
        if not Path(benchmark).exists():
            raise UnknownName("benchmark", benchmark, known, mend="A file of preferences will do as well.")
        return Benchmark(), list(catalog.load("readers", "messages").read(benchmark, notes)), notes
    description: Benchmark = catalog.load("benchmarks", benchmark)
    where = Path(data) if data else Path(recordings).resolve().parent / "datasets" if recordings else None
    if where is None and description.generate is not None:
        return description, list(description.generate(limit or 100, seed)), notes
    if where is None and description.hub:
        from pippin.data.hub import fetch

        where = fetch(description.hub)
    if where is None or not where.exists():
        raise InputError(f"where the data of {benchmark} lie is not known", found=str(where) if where else None,
                         mend="Name the folder with --data")  # fmt: skip
    return description, list(catalog.load("readers", benchmark).read(where, notes)), notes


def labelled_sets(
    groups: Sequence[Group], description: Benchmark, wanted: Sequence[str], limit: int | None
) -> dict[str, LabelledSet]:
    """The labelled pairs by set, in the order wanted, else in the benchmark's.

    Raises:
        InputError: no labelled pair. UnknownName: a set that the data do not have.
    """
    by_set: dict[str, list[Group]] = {}
    for group in groups:
        by_set.setdefault(group.prompt.tags[0] if group.prompt.tags else group.prompt.source or "all", []).append(group)
    for name in wanted:
        if name not in by_set:
            raise UnknownName("set", name, by_set)
    names = wanted or description.default_sets(by_set)
    made = {name: _set(name, by_set[name], limit) for name in names}
    full = {name: part for name, part in made.items() if part.pairs}
    if not full:
        raise InputError("no labelled pair", expected=f"two responses and one label; sets {', '.join(names) or 'any'}")
    return full


def pool(title: str, parts: Sequence[LabelledSet]) -> LabelledSet:
    """The pairs of several sets as one, under a title that says so."""
    pairs = tuple(pair for part in parts for pair in part.pairs)
    return LabelledSet(title, pairs, np.concatenate([part.gold_N for part in parts]))


def about(part: LabelledSet) -> dict[str, Any]:
    """What a set is like: sizes, and how often the better response stands first or is the longer one."""
    longer_N = part.longer_N * part.gold_N
    row = {
        "n": len(part.pairs),
        "prompts": len(set(part.clusters_N.tolist())),
        "gold_first": int((part.gold_N == 1).sum()),
        "gold_longer": int((longer_N > 0).sum()),
        "equal_length": int(((part.longer_N == 0) & (part.gold_N != 0)).sum()),
    }
    more = {"gold_ties": int((part.gold_N == 0).sum()), "people": len(part.people), "authors": sorted(part.authors)}
    return row | {name: value for name, value in more.items() if value}


def _set(name: str, groups: Iterable[Group], limit: int | None) -> LabelledSet:
    rows: list[tuple[Pair, float, dict[str, float], dict[str, list[Outcome | None]]]] = []
    best_of = False
    for group in groups:
        if limit is not None and len(rows) >= limit:
            break
        best_of = best_of or any(isinstance(j, Ranking) and j.by in TRUSTED for j in group.judgements)
        rows += _pairs(group)
    rows = rows[:limit] if not best_of else rows
    people = sorted({person for *_, votes, _ in rows for person in votes}, key=_numbered)
    judges = sorted({judge for *_, said in rows for judge in said})
    votes_N_R = np.array([[votes.get(person, np.nan) for person in people] for *_, votes, _ in rows], float)
    silent: list[Outcome | None] = [None, None]
    judged = {judge: tuple(tuple(said.get(judge, silent)) for *_, said in rows) for judge in judges}
    return LabelledSet(
        name, tuple(pair for pair, *_ in rows), np.array([gold for _, gold, *_ in rows], float),
        votes_N_R if people else None, tuple(people), judged, best_of,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def _pairs(group: Group) -> Iterator[tuple[Pair, float, dict[str, float], dict[str, list[Outcome | None]]]]:
    """Each pair of responses that somebody trusted has compared: gold, people's votes, and what judges said."""
    said: dict[frozenset[str], list[Choice]] = {}
    for judgement in group.judgements:
        if isinstance(judgement, Choice):
            said.setdefault(frozenset((judgement.first, judgement.second)), []).append(judgement)
    ranks = next((dict(zip(j.responses, j.ranks, strict=True)) for j in group.judgements
                  if isinstance(j, Ranking) and j.by in TRUSTED and j.ranks), {})  # fmt: skip
    for one, two in combinations(group.responses, 2):
        found = _pair(Pair(group.prompt, one, two), said.get(frozenset((one.id, two.id)), ()), ranks)
        if found is not None:
            yield found


def _pair(pair: Pair, stated: Iterable[Choice], ranks: Mapping[str, int]) -> Any:
    gold: list[float] = []
    votes: dict[str, float] = {}
    judged: dict[str, list[Outcome | None]] = {}
    for choice in stated:
        as_pair = choice.first == pair.first.id
        value = _value(choice.outcome if as_pair else choice.outcome.swap())
        if choice.by in TRUSTED:
            gold += [] if value is None else [value]
        elif choice.by.startswith(PERSON):
            if value is not None:
                votes[choice.by] = value
        else:
            judged.setdefault(choice.by, [None, None])[0 if as_pair else 1] = choice.outcome
    if {pair.first.id, pair.second.id} <= ranks.keys() and ranks[pair.first.id] != ranks[pair.second.id]:
        gold.append(1.0 if ranks[pair.first.id] < ranks[pair.second.id] else -1.0)
    if len(set(gold)) > 1 or not (gold or votes):
        return None  # labels that contradict each other are no yardstick
    return pair, gold[0] if gold else float(np.sign(sum(votes.values()))), votes, judged


def _value(outcome: Outcome) -> float | None:
    if outcome.missing:
        return None
    return {Outcome.FIRST: 1.0, Outcome.SECOND: -1.0}.get(outcome, 0.0)


def _numbered(person: str) -> tuple[int, str]:
    number = person.removeprefix(PERSON)
    return (int(number) if number.isdigit() else 0, number)
