"""Several judges as one: each is asked, and the weighted mean of what they say decides.

Source: Verga et al., "Replacing Judges with Juries", 2024, arXiv 2404.18796 (panels); Li et al., "PRD", 2023,
    arXiv 2307.02762 (weights by a reviewer's own standing).

A member without an opinion on a pair is left out; where no member has one, the panel's outcome is the first member's.
The members' choices are the parents of the panel's. Judges that share a bias do not cancel it: a panel of them is
only surer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pippin.core.errors import InputError
from pippin.core.types import Choice, Judge, Outcome, Score, digest
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Rows, keep, no_scores

if TYPE_CHECKING:
    from pippin.core.store import Store


class Panel:
    """A jury.

    Args:
        weights: of the members' votes, above zero; by default one each.

    Raises:
        InputError: weights that are not above zero, or not one per judge.
    """

    def __init__(self, judges: Sequence[Judging], weights: Sequence[float] = ()) -> None:
        self.judges, self.weights = tuple(judges), tuple(weights) or (1.0,) * len(judges)
        if len(self.weights) != len(self.judges) or min(self.weights) <= 0:
            raise InputError("the weights of a panel", found=list(self.weights), expected="one above 0 for each judge")
        infos = [judge.info for judge in judges]
        models = {f"{n}:{role}": model for n, info in enumerate(infos) for role, model in info.models.items()}
        name = "+".join(info.name for info in infos)
        if len(set(self.weights)) > 1:
            name += f" (weights {', '.join(f'{weight:g}' for weight in self.weights)})"
        self.info = Judge(name, digest([[info.config for info in infos], self.weights]), models)

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        votes = zip(*(judge.compare(pairs, store=store, orders=orders) for judge in self.judges), strict=True)
        return keep([self._together(ballot) for ballot in votes], store)

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        raise no_scores(self.info.name)

    def _together(self, ballot: tuple[Choice, ...]) -> Choice:
        shown = ballot[0]
        cast = [(weight, vote, credit) for weight, vote in zip(self.weights, ballot, strict=True)
                if (credit := vote.credit(shown.first)) is not None]  # fmt: skip
        total = sum(weight for weight, _, _ in cast)
        p_first = None
        if not cast:
            outcome = shown.outcome
        else:
            for_first = sum(weight * credit for weight, _, credit in cast)
            against = sum(weight * (1 - credit) for weight, _, credit in cast)
            outcome = Outcome.TIE if for_first == against else Outcome.FIRST if for_first > against else Outcome.SECOND
            p_first = sum(w * (credit if v.p_first is None else v.p_first) for w, v, credit in cast) / total
        return Choice(
            shown.prompt_id, shown.first, shown.second, outcome, self.info.name,
            p_first=p_first, parents=tuple(vote.id for vote in ballot), parser=shown.parser,
        )  # fmt: skip
