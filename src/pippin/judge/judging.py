"""What every judge can do, and the one way in which numbers become comparisons.

A judge compares pairs; one that gives numbers also scores single responses, and its comparisons follow from its
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Judge, Outcome, Prompt, Response, Score
from pippin.judge.ask import ORDERS, Order, Pair

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.lm.protocols import Answers

J = TypeVar("J", Choice, Score)
Rows = Sequence[tuple[Prompt, Response]]


class Judging(Protocol):
    """A judge at work."""

    @property
    def info(self) -> Judge: ...

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        """One Choice per pair and order: all orders of the first pair, then of the second ...

        ``Choice.first`` is the response shown first. What could not be judged is a Choice that says why. With a store
        the choices are appended to it, and what it already holds is not paid for again.
        """
        ...

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        """One Score per row. With a store they are appended to it, and what it holds is not paid for again.

        Raises:
            InputError: this judge gives no numbers.
        """
        ...


@dataclass(frozen=True)
class Options:
    """What a judge's factory may be told beside the rest of its name.

    Attributes:
        strategy: wins over a strategy in the name.
        parser: reads verdicts; empty is the strategy's own.
        seed: for judges that draw.
        models: models that are at hand already, by name; others are looked up.
        groups: labelled groups, for ``gold``.
        settings: the judge's own settings, from ``?key=value`` in its name or from the caller.
        budget: US dollars that a run of requests may cost.
        progress: told after every call (``lm.engine.Progress``).
    """

    strategy: str = ""
    parser: str = ""
    seed: int = 0
    models: Mapping[str, Answers] = field(default_factory=dict)
    groups: Iterable[Group] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: float | None = None
    progress: Callable[[Any], None] | None = None

    def none_left(self, judge: str) -> None:
        """Raise an InputError where settings were given to a judge that has none."""
        if self.settings:
            raise InputError(f"{judge} takes no settings", found=sorted(self.settings))


@dataclass(frozen=True)
class ScoreJudge:
    """A judge that is a function from responses to numbers, higher is better; None where it has no number."""

    info: Judge
    scorer: Callable[[Rows], Sequence[float | None]]
    scale: tuple[float, float] | None = None

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        values = self.scorer(rows) if rows else []
        if len(values) != len(rows):
            raise InputError(f"{self.info.name} gave a wrong number of scores", found=len(values), expected=len(rows))
        scores = [
            Score(prompt.id, response.id, value, self.info.name, scale=self.scale,
                  outcome=Outcome.ABSTAINED if value is None else None)
            for (prompt, response), value in zip(rows, values, strict=True)
        ]  # fmt: skip
        return keep(scores, store)

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        rows = {(pair.prompt.id, r.id): (pair.prompt, r) for pair in pairs for r in (pair.first, pair.second)}
        values = {key: score.value for key, score in zip(rows, self.score(list(rows.values())), strict=True)}
        choices = [by_scores(pair, order, self.info.name, values) for pair in pairs for order in orders]
        return keep(choices, store)


def by_scores(pair: Pair, order: Order, by: str, values: Mapping[tuple[str, str], float | None]) -> Choice:
    """The higher score wins, equal scores tie; ``strength`` is the difference, first minus second shown."""
    first, second = pair.shown(order)
    one, two = (values[pair.prompt.id, r.id] for r in (first, second))
    if one is None or two is None:
        return Choice(pair.prompt.id, first.id, second.id, Outcome.ABSTAINED, by)
    outcome = Outcome.TIE if one == two else Outcome.FIRST if one > two else Outcome.SECOND
    return Choice(pair.prompt.id, first.id, second.id, outcome, by, strength=one - two)


def keep(said: list[J], store: Store | None) -> list[J]:
    """What was said, appended to the store where there is one."""
    if store is not None:
        store.add_judgements(said)
    return said


def spent_by(judge: Judging) -> float:
    """US dollars that this judge, or the members of this panel, have cost so far."""
    return getattr(judge, "spent", 0.0) + sum(spent_by(member) for member in getattr(judge, "judges", ()))


def said_beforehand(judge: Judging, pairs: Sequence[Pair], store: Store | None) -> str:
    """What judging these pairs would ask and cost, in words."""
    forecast = getattr(judge, "forecast", None)
    if forecast is not None:
        return str(forecast(pairs, store))
    members = getattr(judge, "judges", ())
    told = [f"{member.info.name}: {said_beforehand(member, pairs, store)}" for member in members]
    return "; ".join(told) or "no requests: it runs here"


def no_scores(judge: str) -> InputError:
    """For judges that only compare."""
    return InputError(f"{judge} compares two responses and gives no numbers", mend="Use it on pairs")
