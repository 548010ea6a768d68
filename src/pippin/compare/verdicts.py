"""Pairs whose better response is known, and what judges say of them: live, or recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.compare.recordings import Recording
from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Group, Outcome
from pippin.data.columns import TRUSTED
from pippin.data.reader import Benchmark
from pippin.judge.ask import Pair
from pippin.judge.judging import Judging

if TYPE_CHECKING:
    from pippin.core.store import Store


@dataclass(frozen=True)
class Verdicts:
    """One judge on one set, in the data's numbering: 1 for the first response of the pair, -1, 0 a tie, NaN missing.

    ``p_original`` and ``p_swapped`` are probabilities of the first response of the pair, NaN where the judge gave none.
    """

    set: str
    llm: str
    strategy: str
    gold_N: np.ndarray
    clusters_N: np.ndarray
    original_N: np.ndarray
    swapped_N: np.ndarray
    p_original_N: np.ndarray
    p_swapped_N: np.ndarray
    longer_N: np.ndarray | None  # characters of the first response less those of the second
    outcomes: Counter[str]

    @property
    def name(self) -> str:
        return f"{self.llm}:{self.strategy}" if self.strategy else self.llm


@dataclass(frozen=True)
class LabelledSet:
    """The pairs of one set with their gold: 1 where the first response is better, -1 where the second is."""

    name: str
    pairs: tuple[Pair, ...]
    gold_N: np.ndarray

    @property
    def clusters_N(self) -> np.ndarray:
        return np.array([pair.prompt.id for pair in self.pairs])

    @property
    def longer_N(self) -> np.ndarray:
        return np.array([len(pair.first.text) - len(pair.second.text) for pair in self.pairs], dtype=float)


def benchmark_data(
    benchmark: str, data: str | Path | None, recordings: str | Path | None
) -> tuple[Benchmark, list[Group]]:
    """A benchmark and its groups; ``data`` is where they lie, by default the folder ``datasets`` beside the recordings.

    Raises:
        InputError: no such folder. UnknownName: neither a benchmark nor a file.
    """
    known = catalog.names("benchmarks")
    if benchmark in known:
        where = Path(data) if data else Path(recordings).resolve().parent / "datasets" if recordings else None
        if where is None or not where.exists():
            raise InputError(f"where the data of {benchmark} lie is not known", found=str(where) if where else None,
                             mend="Name the folder with --data")  # fmt: skip
        return catalog.load("benchmarks", benchmark), list(catalog.load("readers", benchmark).read(where))
    if not Path(benchmark).exists():
        raise UnknownName("benchmark", benchmark, known, mend="A file of preferences will do as well.")
    return Benchmark(), list(catalog.load("readers", "messages").read(benchmark))


def labelled_sets(groups: Sequence[Group], wanted: Sequence[str], limit: int | None) -> dict[str, LabelledSet]:
    """The labelled pairs by set, in the order wanted, else of first appearance."""
    found: dict[str, list[tuple[Pair, int]]] = {name: [] for name in wanted}
    for group in groups:
        name = group.prompt.tags[0] if group.prompt.tags else group.prompt.source or "all"
        if wanted and name not in found:
            continue
        pair = _labelled(group)
        if pair is not None and (limit is None or len(found.get(name, ())) < limit):
            found.setdefault(name, []).append(pair)
    full = {name: rows for name, rows in found.items() if rows}
    if not full:
        raise InputError("no labelled pair", expected=f"two responses and one label; sets {', '.join(wanted) or 'any'}")
    return {name: LabelledSet(name, tuple(p for p, _ in rows), np.array([g for _, g in rows], float))
            for name, rows in full.items()}  # fmt: skip


def _labelled(group: Group) -> tuple[Pair, int] | None:
    stated = [j for j in group.judgements if isinstance(j, Choice) and j.by in TRUSTED and j.outcome.decided]
    if len(group.responses) != 2 or len(stated) != 1:
        return None
    first, second = group.responses
    better = stated[0].first if stated[0].outcome is Outcome.FIRST else stated[0].second
    return Pair(group.prompt, first, second), 1 if better == first.id else -1


def about(part: LabelledSet) -> dict[str, Any]:
    """What a set is like: sizes, and how often the better response stands first or is the longer one."""
    longer_N = part.longer_N * part.gold_N
    return {
        "n": len(part.pairs),
        "prompts": len(set(part.clusters_N.tolist())),
        "gold_first": int((part.gold_N == 1).sum()),
        "gold_longer": int((longer_N > 0).sum()),
        "equal_length": int((longer_N == 0).sum()),
    }


def recorded(r: Recording, part: LabelledSet, limit: int | None) -> Verdicts:
    """A recording joined with its set by position.

    Raises:
        InputError: it has a pair that the data lack, or another label than they have.
    """
    rows = [i for i in sorted(r.original) if limit is None or i < limit]
    for i in rows:
        if i >= len(part.pairs):
            raise InputError("a recording of a pair that is not in the data", where=f"{r.llm}__{r.strategy}",
                             found=f"{r.set} {i}", expected=f"fewer than {len(part.pairs)} pairs")  # fmt: skip
        if r.labels[i] not in (None, 1 if part.gold_N[i] == 1 else 2):
            raise InputError("the recording's label is not the data's", where=f"{r.llm}__{r.strategy}",
                             found=f"{r.set} {i}: {r.labels[i]}")  # fmt: skip
    unknown_N = np.full(len(rows), np.nan)
    original, swapped = [r.original[i] for i in rows], [r.swapped[i] for i in rows]
    return Verdicts(
        r.set, r.llm, r.strategy, part.gold_N[rows], part.clusters_N[rows], _numbers(original), _numbers(swapped),
        unknown_N, unknown_N, part.longer_N[rows], Counter(map(str, (*original, *swapped))),
    )  # fmt: skip


def ask(judge: Judging, part: LabelledSet, store: Store | None) -> Verdicts:
    """A judge on a set, asked in both orders."""
    said = judge.compare(part.pairs, store=store)
    original, swapped = said[0::2], [choice.swap() for choice in said[1::2]]
    model = judge.info.models.get("judge", "")
    strategy = judge.info.name.removeprefix(f"{model}:") if model and judge.info.name.startswith(f"{model}:") else ""
    p_original_N, p_swapped_N = (
        np.array([np.nan if c.p_first is None else c.p_first for c in choices], float)
        for choices in (original, swapped)
    )
    return Verdicts(
        part.name, model if strategy else judge.info.name, strategy, part.gold_N, part.clusters_N,
        _numbers([c.outcome for c in original]), _numbers([c.outcome for c in swapped]), p_original_N, p_swapped_N,
        part.longer_N, Counter(str(c.outcome) for c in said),
    )  # fmt: skip


def _numbers(outcomes: Sequence[Outcome]) -> np.ndarray:
    value = {Outcome.FIRST: 1.0, Outcome.SECOND: -1.0}
    return np.array([np.nan if o.missing else value.get(o, 0.0) for o in outcomes])
