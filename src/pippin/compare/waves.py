"""The pairs drawn for people in waves, and what was seen at each look, kept in a file beside the labels.

The file is what makes a decision one test and not many: a look that was taken is never taken again, and labels that it
used may not change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pippin.compare import labels as drawing
from pippin.compare.labels import Drawing, Drawn
from pippin.core.errors import InputError
from pippin.core.run import write_json
from pippin.core.types import Choice, Estimate, digest
from pippin.data.labels import Key, Labels, credit, key
from pippin.judge.ask import Pair
from pippin.stats import decisions

_AGREED = {
    "worth": "--worth", "pairs": "--call-budget or the prompts", "judge": "--judge", "seed": "--seed",
    "question": "the responses",
}  # fmt: skip
"""What may not change between looks, and what a person calls it."""


@dataclass(frozen=True)
class Look:
    """What one look saw. ``delta`` is None, with ``why_not``, where the labels could correct nothing.

    ``said`` is the digest of the labels that it used.
    """

    labels: int
    pairs: int
    level: float
    verdict: decisions.Decision
    said: str
    delta: Estimate | None
    why_not: str = ""


@dataclass
class Waves:
    """What was drawn of a pool of pairs, whose order is fixed, and the looks taken.

    ``terms``: what was agreed before the first wave. ``had``: of each pair judged so far, the probability with which it
    was drawn in any wave. ``drawn``: places in the pool, wave by wave. ``sizes``: pairs judged at each wave.
    """

    path: Path
    pool: Sequence[Pair]
    terms: Mapping[str, Any]
    had: list[float] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        write_json(self.path, {
            "terms": dict(self.terms), "sizes": self.sizes, "drawn": self.drawn, "had": self.had,
            "looks": [asdict(look) for look in self.looks],
        })  # fmt: skip

    @property
    def keys(self) -> list[Key]:
        """The pairs drawn, in the order in which they were."""
        return [pair_key(self.pool[place]) for place in self.drawn]

    @property
    def weights(self) -> dict[Key, float]:
        """One over the probability with which each drawn pair was drawn."""
        return {pair_key(self.pool[place]): 1 / self.had[place] for place in self.drawn}

    def draw(self, judge_N: np.ndarray, labels: Labels, count: int, seed: int) -> None:
        """Draw the next wave, so that ``count`` pairs are drawn in all, and save it.

        Args:
            judge_N: the judge's differences on the first N pairs of the pool, shape (N,), none missing.
            labels: people's word on all pairs drawn before.
        """
        size, said = len(judge_N), labels.by_pair
        people_N = np.full(size, np.nan)
        for place in self.drawn:
            people_N[place] = 2 * credit(said[pair_key(self.pool[place])], self.pool[place].second.id) - 1
        purpose = f"wave {len(self.sizes)}"
        number_N = np.array([drawing.number(seed, purpose, pair) for pair in self.pool[:size]])
        start = (int(digest(["label", seed, purpose], 13), 16) + 0.5) / 16**13
        had_N = np.array([*self.had, *[0.0] * (size - len(self.had))])
        chosen, had_N = decisions.wave(judge_N, people_N, had_N, count - len(self.drawn), number_N, start)
        placed = sorted((int(k) for k in chosen), key=lambda k: drawing.number(seed, "place", self.pool[k]))
        self.had, self.drawn = [float(p) for p in had_N], [*self.drawn, *placed]
        self.sizes.append(size)
        self.save()

    def unlabelled(self, labels: Labels) -> int:
        """Pairs drawn of which nobody has said anything.

        Raises:
            InputError: labels that a look has used are gone or changed.
        """
        keys, said = self.keys, labels.by_pair
        for number, look in enumerate(self.looks, 1):
            if heard(keys[: look.labels], said) != look.said:
                raise InputError("labels that a look has used are changed", where=labels.path, found=f"look {number}",
                                 mend="Restore them, or begin anew with another --people FILE")  # fmt: skip
        return sum(one not in said for one in keys)

    def only_drawn(self, labels: Labels) -> None:
        """Raise an InputError where there are labels of pairs that were not drawn."""
        foreign = len(set(labels.by_pair) - set(self.keys))
        if foreign:
            raise InputError("labels of pairs that were not drawn for this decision", where=labels.path,
                             found=f"{foreign} pairs", mend="Give another --people FILE")  # fmt: skip

    def write(self, labels: Labels, seed: int, identical: int) -> None:
        """Add the pairs drawn to the file of labels, unless they stand there; what people filled in stays."""
        if all(one in labels.weights for one in self.keys):
            return
        drawn = tuple(Drawn(drawing.shown(self.pool[k], seed, ""), self.had[k]) for k in self.drawn)
        made = Drawing(drawn, len(self.pool), self.sizes[-1], identical, seed, decisions.EVEN)
        drawing.write_labels(labels.path, drawing.rows(made, labels.choices))


def opened(path: Path, pool: Sequence[Pair], terms: Mapping[str, Any]) -> Waves:
    """The waves of a file, or none yet where there is no such file.

    Raises:
        InputError: the file is none of these, or other terms were agreed; fewer labels than agreed are allowed.
    """
    if not path.is_file():
        return Waves(path, pool, terms)
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        agreed = row["terms"]
        found = Waves(path, pool, agreed, row["had"], row["drawn"], row["sizes"], [_look(one) for one in row["looks"]])
    except (ValueError, KeyError, TypeError):
        raise InputError("not a file of looks", where=str(path), mend="Give another --people FILE") from None
    for name, called in _AGREED.items():
        if agreed.get(name) != terms[name]:
            raise InputError(f"this decision began with other terms: {called}", where=str(path), found=terms[name],
                             expected=agreed.get(name), mend="Or begin anew with another --people FILE")  # fmt: skip
    if terms["labels"] > agreed["labels"]:
        raise InputError("this decision began with a smaller --label-budget", where=str(path), found=terms["labels"],
                         expected=f"{agreed['labels']} or fewer",
                         mend="Or begin anew with another --people FILE")  # fmt: skip
    return found


def _look(row: dict[str, Any]) -> Look:
    return Look(**{**row, "delta": Estimate(**row["delta"]) if row["delta"] else None})


def heard(keys: Sequence[Key], said: Mapping[Key, Sequence[Choice]]) -> str:
    """What people said of these pairs, as a digest; who said it and in which order does not matter."""
    told = []
    for one in sorted(keys, key=lambda pair: (pair[0], sorted(pair[1]))):
        ids = sorted(one[1])
        told.append([one[0], *ids, sorted(str(choice.credit(ids[0])) for choice in said.get(one, ()))])
    return digest(told)


def pair_key(pair: Pair) -> Key:
    """The pair as people's labels name it."""
    return key(pair.prompt.id, pair.first.id, pair.second.id)
