"""Annotators of the embedded world, with planted noise and biases: ``simulated/world?sharpness=8&length=0.1``.

Source: Dubois et al., "AlpacaFarm", NeurIPS 2023, arXiv 2305.14387, section 3 (simulated annotators with noise).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pippin.core.config import build, setting
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Judge, Outcome, Score, digest
from pippin.judge.ask import ORDERS, Order, Pair
from pippin.judge.judging import Judging, Options, Rows, keep, no_scores

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.world.people import Annotator


@dataclass(frozen=True)
class Config:
    """Settings of a simulated annotator; the weights are in nats."""

    sharpness: float = setting(8.0, "Weight of the difference in gold")
    length: float = setting(0.0, "Weight of one word more")
    fluff: float = setting(0.0, "Weight of one word of chat more")
    position: float = setting(0.0, "Weight of being shown first")
    lapse: float = setting(0.0, "Share of blind guesses")
    seed: int | None = setting(None, "Seed of the draws; by default the run's")


class Simulated:
    """Draws one choice per pair and order; the same seed and texts give the same choice in any batch."""

    def __init__(self, annotator: Annotator, name: str, seed: int) -> None:
        self.annotator, self.seed = annotator, seed
        self.info = Judge(name, digest([asdict(annotator), seed]))

    def compare(
        self, pairs: Sequence[Pair], *, store: Store | None = None, orders: Sequence[Order] = ORDERS
    ) -> list[Choice]:
        return keep([self._choice(pair, order) for pair in pairs for order in orders], store)

    def score(self, rows: Rows, *, store: Store | None = None) -> list[Score]:
        raise no_scores(self.info.name)

    def _choice(self, pair: Pair, order: Order) -> Choice:
        from pippin.world.people import prefer

        if pair.prompt.source != "world":
            raise InputError("a simulated annotator knows only prompts of the world", found=pair.prompt.source)
        first, second = pair.shown(order)
        p_first, chosen = prefer(self.annotator, pair.prompt, first.text, second.text, self.seed)
        outcome = Outcome.SECOND if chosen else Outcome.FIRST
        return Choice(pair.prompt.id, first.id, second.id, outcome, self.info.name, p_first)


def make(rest: str, options: Options) -> Judging:
    if rest != "world":
        raise UnknownName("simulated annotator", rest, ["world"])
    config = build(Config, options.settings, where=f"simulated/{rest}")
    from pippin.world.people import Annotator

    weights = {key: value for key, value in asdict(config).items() if key != "seed"}
    stated = "&".join(f"{key}={value}" for key, value in options.settings.items())
    name = f"simulated/{rest}" + (f"?{stated}" if stated else "")
    return Simulated(Annotator(**weights), name, options.seed if config.seed is None else config.seed)


JUDGE = make
