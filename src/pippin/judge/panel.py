"""Several judges as one: each is asked, and the mean of what they say decides.

A member without an opinion on a pair is left out; where no member has one, the panel's outcome is the first member's.
The members' choices are the parents of the panel's. Judges that share a bias do not cancel it: a panel of them is
only surer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pippin.core.types import Choice, Judge, Outcome, Score, digest
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Rows, keep, no_scores

if TYPE_CHECKING:
    from pippin.core.store import Store


class Panel:
    """A panel of judges with one vote each."""

    def __init__(self, judges: tuple[Judging, ...]) -> None:
        self.judges = judges
        infos = [judge.info for judge in judges]
        models = {f"{n}:{role}": model for n, info in enumerate(infos) for role, model in info.models.items()}
        self.info = Judge("+".join(info.name for info in infos), digest([info.config for info in infos]), models)

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        votes = zip(*(judge.compare(pairs, store=store, orders=orders) for judge in self.judges), strict=True)
        return keep([self._together(ballot) for ballot in votes], store)

    def score(self, rows: Rows) -> list[Score]:
        raise no_scores(self.info.name)

    def _together(self, ballot: tuple[Choice, ...]) -> Choice:
        shown = ballot[0]
        credits = [credit for vote in ballot if (credit := vote.credit(shown.first)) is not None]
        said = [c if v.p_first is None else v.p_first for v in ballot if (c := v.credit(shown.first)) is not None]
        mean = sum(credits) / len(credits) if credits else None
        if mean is None:
            outcome = shown.outcome
        else:
            outcome = Outcome.TIE if mean == 0.5 else Outcome.FIRST if mean > 0.5 else Outcome.SECOND
        return Choice(
            shown.prompt_id, shown.first, shown.second, outcome, self.info.name,
            p_first=sum(said) / len(said) if said else None, parents=tuple(vote.id for vote in ballot),
            parser=shown.parser,
        )  # fmt: skip
