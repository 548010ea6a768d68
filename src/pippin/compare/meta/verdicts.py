"""What judges say of labelled pairs in both orders: asked now, recorded in texts, or part of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.compare.meta.labelled import LabelledSet
from pippin.compare.meta.recordings import Recording
from pippin.core.errors import InputError
from pippin.core.types import Choice, Outcome
from pippin.judge.judging import Judging

if TYPE_CHECKING:
    from pippin.core.store import Store

VALUE = {Outcome.FIRST: 1.0, Outcome.SECOND: -1.0}


@dataclass(frozen=True)
class Said:
    """One verdict, about the pair as it was shown.

    ``texts`` are (role, raw text) of the calls that led to it, where they are at hand; ``conflict`` says that the
    deciding text contradicts itself.
    """

    outcome: Outcome
    p_first: float | None = None
    strength: float | None = None
    calls: tuple[str, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    conflict: bool = False
    parser: str = ""

    @property
    def value(self) -> float:
        """1 for the first shown, -1 for the second, 0 a tie, NaN missing."""
        return np.nan if self.outcome.missing else VALUE.get(self.outcome, 0.0)


@dataclass(frozen=True)
class Verdicts:
    """One judge on one set. Arrays are in the data's numbering: 1 for the first response of the pair, -1, 0 a tie, NaN.

    Attributes:
        rows_M: which pairs of the set were judged.
        original: what was said of each as it stands; ``swapped`` of each the other way round.
        kind: ``llm``, ``recorded``, or what else the judge is.
        spent: calls, tokens, US dollars and seconds, where known.
    """

    part: LabelledSet
    rows_M: np.ndarray
    llm: str
    strategy: str
    original: tuple[Said, ...]
    swapped: tuple[Said, ...]
    kind: str = ""
    spent: dict[str, Any] = field(default_factory=dict)

    @property
    def set(self) -> str:
        return self.part.name

    @property
    def name(self) -> str:
        return f"{self.llm}:{self.strategy}" if self.strategy else self.llm

    @cached_property
    def gold_N(self) -> np.ndarray:
        return self.part.gold_N[self.rows_M]

    @cached_property
    def clusters_N(self) -> np.ndarray:
        return self.part.clusters_N[self.rows_M]

    @cached_property
    def original_N(self) -> np.ndarray:
        return np.array([said.value for said in self.original])

    @cached_property
    def swapped_N(self) -> np.ndarray:
        return -np.array([said.value for said in self.swapped])

    @cached_property
    def p_N_2(self) -> np.ndarray:
        """P(the first response of the pair is better), by order; NaN where the judge gave none."""
        return np.stack([_column(self.original, "p_first"), 1 - _column(self.swapped, "p_first")], axis=1)

    @cached_property
    def strength_N_2(self) -> np.ndarray:
        """How much better the first response of the pair is, by order; NaN where the judge gave no number."""
        return np.stack([_column(self.original, "strength"), -_column(self.swapped, "strength")], axis=1)

    @cached_property
    def outcomes(self) -> Counter[str]:
        return Counter(str(said.outcome) for said in (*self.original, *self.swapped))

    @property
    def conflicts(self) -> int:
        return sum(said.conflict for said in (*self.original, *self.swapped))


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
    said = [tuple(Said(v.outcome, texts=v.texts, conflict=v.conflict, parser=v.parser) for v in
                  (by_row[i] for i in rows)) for by_row in (r.original, r.swapped)]  # fmt: skip
    return Verdicts(part, np.array(rows, dtype=int), r.llm, r.strategy, *said, kind="recorded")


def in_data(name: str, part: LabelledSet) -> Verdicts:
    """A judge whose verdicts are part of the data. An order that it was not asked in is ABSTAINED."""
    rows = [n for n, orders in enumerate(part.judged[name]) if any(orders)]
    said = [tuple(Said(part.judged[name][n][k] or Outcome.ABSTAINED) for n in rows) for k in (0, 1)]
    return Verdicts(part, np.array(rows, dtype=int), name, "", *said, kind="recorded")


def ask(judge: Judging, part: LabelledSet, store: Store | None, *, kind: str = "") -> Verdicts:
    """A judge on a set, asked in both orders."""
    said = judge.compare(part.pairs, store=store)
    model = judge.info.models.get("judge", "")
    strategy = judge.info.name.removeprefix(f"{model}:") if model and judge.info.name.startswith(f"{model}:") else ""
    columns = [tuple(_said(choice) for choice in said[k::2]) for k in (0, 1)]
    spent = spending(store, said) if strategy else {}
    return Verdicts(
        part, np.arange(len(part.pairs)), model if strategy else judge.info.name, strategy, *columns,
        kind=kind or ("llm" if strategy else judge.info.name.partition("/")[0]), spent=spent,
    )  # fmt: skip


def spending(store: Store | None, said: Sequence[Choice]) -> dict[str, Any]:
    """What the calls behind some choices cost, each call once; a sum is None where a part of it is not known."""
    ids = list(dict.fromkeys(call for choice in said for call in choice.calls))
    calls = list(store.calls(ids).values()) if store is not None else []
    if not calls:
        return {"calls": len(ids)}
    sums = {name: _total([getattr(call, name) for call in calls])
            for name in ("prompt_tokens", "completion_tokens", "thinking_tokens", "price", "seconds")}  # fmt: skip
    return {"calls": len(ids), **sums, "logprobs": sum(bool(call.logprobs) for call in calls)}


def _total(values: Sequence[float | None]) -> float | None:
    return None if any(value is None for value in values) else sum(value for value in values if value is not None)


def _said(choice: Choice) -> Said:
    return Said(choice.outcome, choice.p_first, choice.strength, choice.calls, parser=choice.parser)


def _column(said: Sequence[Said], name: str) -> np.ndarray:
    values = [getattr(one, name) for one in said]
    return np.array([np.nan if value is None else value for value in values], dtype=float)
