"""The truth: a benchmark's own label where the pair has one, the verifier for prompts of the embedded world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pippin.core.types import Choice, Judge, Outcome
from pippin.data.columns import TRUSTED
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge, by_scores, keep

if TYPE_CHECKING:
    from pippin.core.store import Store


def verify(rows: Rows) -> list[float | None]:
    """Gold in [0, 1]; None where the prompt is not of the world."""
    from pippin.world.verifier import verify as checked

    return [checked(p, r.text).gold if p.source == "world" else None for p, r in rows]


class GoldJudge(ScoreJudge):
    """Labels first, the verifier for the rest. A pair with neither is ABSTAINED."""

    def __init__(self, labels: Sequence[Choice]) -> None:
        super().__init__(Judge("gold", "verifier 1"), verify, (0.0, 1.0))
        both = [(c.prompt_id, c.first, c.second, c.outcome) for c in labels]
        both += [(c.prompt_id, c.second, c.first, c.outcome.swap()) for c in labels]
        object.__setattr__(self, "labels", {(prompt, one, two): outcome for prompt, one, two, outcome in both})

    labels: dict[tuple[str, str, str], Outcome]

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        unknown = [p for p in pairs if (p.prompt.id, p.first.id, p.second.id) not in self.labels]
        rows = {(p.prompt.id, r.id): (p.prompt, r) for p in unknown for r in (p.first, p.second)}
        values = {key: score.value for key, score in zip(rows, self.score(list(rows.values())), strict=True)}
        return keep([self._choice(pair, order, values) for pair in pairs for order in orders], store)

    def _choice(self, pair: Pair, order: Order, values: dict[tuple[str, str], float | None]) -> Choice:
        first, second = pair.shown(order)
        outcome = self.labels.get((pair.prompt.id, first.id, second.id))
        if outcome is None:
            return by_scores(pair, order, self.info.name, values)
        return Choice(pair.prompt.id, first.id, second.id, outcome, self.info.name)


def make(rest: str, options: Options) -> Judging:
    options.none_left("gold")
    stated = (j for group in options.groups for j in group.judgements)
    return GoldJudge([j for j in stated if isinstance(j, Choice) and j.by in TRUSTED])


JUDGE = make
