"""Which of two is better, with as few labels and judge calls as settle it.

A judge is asked about some pairs, people label some of these, and the judge's difference corrected by them is looked
at; as long as that settles nothing both go on, in waves that grow. The intervals of all looks hold the truth together
(``stats.decisions``), so that stopping at the first one that decides errs no oftener.

People's labels are a file that this appends to: rows without a choice are the ones to fill in next. What was drawn and
what each look saw stand beside it in ``LABELS.looks.json`` (``compare.waves``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.compare import both, waves
from pippin.compare import gate as gates
from pippin.compare.labels import number
from pippin.compare.pairs import Report, credits, judged, nothing_in_common, pairs
from pippin.compare.people import FEWEST, People, correct, different_share, over_all
from pippin.compare.sides import Draw, Side, cautions, is_file
from pippin.compare.waves import Look, Waves
from pippin.core.errors import InputError
from pippin.core.types import Choice, Judge, digest
from pippin.data.labels import Labels, read_labels
from pippin.data.rows import SUFFIXES
from pippin.judge.ask import ORDERS, Pair
from pippin.judge.resolve import resolve
from pippin.stats import decisions

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.judge.judging import Judging

ALPHA = 0.05
"""Error rate over all looks, both sides together."""

FIGURES = ("verdict", "delta", "delta_low", "delta_high", "n", "labels", "calls", "looks")
"""The names that a gate may use."""

VERDICTS: Mapping[decisions.Decision, str] = {
    "better": "V2 is better", "not better": "V2 is not better", "cannot tell": "cannot tell",
}  # fmt: skip

_ENDED = {
    "label budget": ("the label budget is used up", "To go on, begin anew with a larger --label-budget and another "
                     "--people FILE; the judge's calls are stored."),
    "call budget": ("the call budget is used up", "To go on, begin anew with a larger --call-budget and another "
                    "--people FILE; the judge's calls are stored."),
    "every pair": ("every pair is labelled", "Compare on more prompts, with another --people FILE."),
}  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """What is agreed before the first look. ``labels`` and ``calls`` are budgets; None: as many as there are pairs for.

    Raises:
        InputError: a difference that is none, or a budget too small to correct a judge with.
    """

    worth: float = 0.05
    labels: int | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.worth < 1:
            raise InputError("not a difference worth having", where="--worth", found=self.worth, expected="0 to 1")
        if self.labels is not None and self.labels < FEWEST:
            raise InputError("too few labels to correct a judge", where="--label-budget", found=self.labels,
                             expected=f"{FEWEST} or more")  # fmt: skip


@dataclass(frozen=True)
class Decided:
    """Where a decision stands.

    ``stopped``: ``decided``, ``labels wanted``, or what is used up: ``label budget``, ``call budget``, ``every pair``.
    ``planned``: labels at each look, up to the budget. ``calls``: what judging ``looks[-1].pairs`` or more pairs takes,
    those that were stored included. ``people``: None while labels are wanted.
    """

    v1: Side
    v2: Side
    judge: Judge
    worth: float
    looks: tuple[Look, ...]
    planned: tuple[int, ...]
    stopped: str
    labels: int  # pairs that people labelled
    wanted: int  # pairs drawn that nobody has labelled
    calls: int
    judged: int  # pairs
    pairs: int  # of different texts
    identical: int
    outcomes: Counter[str]
    people: People | None
    path: str
    cautions: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return VERDICTS[self.looks[-1].verdict if self.looks else "cannot tell"]

    @property
    def decision(self) -> str:
        """One sentence with its interval."""
        if not self.looks:
            return (
                "cannot tell yet: too few pairs are labelled" if self.labels else "cannot tell yet: no pair is labelled"
            )
        seen = self._seen()
        if self.stopped == "decided":
            below = f", below the {self.worth:g} worth having" if self.looks[-1].verdict == "not better" else ""
            return f"{self.verdict}: {seen}{below}"
        if self.wanted:
            return f"cannot tell yet: {seen}"
        return f"cannot tell with this budget: {seen}; {_ENDED[self.stopped][0]}"

    @property
    def more(self) -> str:
        """What to do next."""
        if self.wanted:
            return (f"Fill in `choice` in the {self.wanted} rows of {self.path} that have none, then run the same "
                    f"command again: look {len(self.looks) + 1} of at most {len(self.planned)}.")  # fmt: skip
        if self.stopped == "decided":
            saved = self.planned[-1] - self.labels
            return f"No more labels are needed: {saved} fewer than the most that were allowed."
        return _ENDED[self.stopped][1]

    def figures(self) -> dict[str, Any]:
        """The names and values that a gate may use: those of the last look; None where it has no difference."""
        last = self.looks[-1].delta if self.looks else None
        ends = (None,) * 4 if last is None else (last.value, last.low, last.high, last.clusters)
        return {
            "verdict": self.verdict, **dict(zip(("delta", "delta_low", "delta_high", "n"), ends, strict=True)),
            "labels": self.labels, "calls": self.calls, "looks": len(self.looks),
        }  # fmt: skip

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "decision": self.decision, "more": self.more, **self.figures(), "stopped": self.stopped,
            "labels_used": self.labels, "labels_wanted": self.wanted, "labels_planned": list(self.planned),
            "calls_used": self.calls, "looks": [asdict(look) for look in self.looks], "worth": self.worth,
            "error_rate": ALPHA, "judge": asdict(self.judge), "v1": self.v1.name, "v2": self.v2.name,
            "pairs": self.pairs, "judged": self.judged, "identical": self.identical,
            "outcomes": dict(sorted(self.outcomes.items())), "labels_file": self.path,
            "people": self.people.to_row() if self.people else None, "cautions": list(self.cautions),
        }  # fmt: skip

    def _seen(self) -> str:
        last = self.looks[-1]
        if last.delta is None:
            return last.why_not
        d = last.delta
        return (f"{d.value:+.3f} [{d.low:.3f}, {d.high:.3f}] win share (V2 minus V1), {last.labels} labels, "
                f"{last.pairs} pairs judged by {self.judge.name}, look {len(self.looks)} of at most "
                f"{len(self.planned)}")  # fmt: skip


def decide(
    first: str,
    second: str,
    *,
    judge: str,
    people: str | Path,
    terms: Terms = Terms(),
    prompts: str = "",
    draw: Draw = Draw(),  # noqa: B008 - frozen
    limit: int | None = None,
    strategy: str = "",
    parser: str = "",
    gate: str = "",
    store: Store | None = None,
    report: Report | None = None,
) -> Decided:
    """Go as far as the labels in ``people`` allow: look, and draw what is to be labelled next.

    Args:
        people: the file of labels, made and appended to; what people filled in stays. The rest is as
            ``two.compare_two`` takes it.
        terms: the difference worth having, and budgets. They stay what they were at the first wave.

    Raises:
        InputError: nothing to compare; other terms, responses, judge or labels than those of the looks that were taken;
            labels of pairs that were not drawn; fewer pairs than a judge can be corrected with; a bad name.
    """
    if gate:
        gates.check(gate, FIGURES)
    file = Path(people).expanduser()
    if not is_file(file.name):
        raise InputError("not a file of labels by its name", where="--people", found=str(people), expected=SUFFIXES)
    labels = read_labels(file) if file.is_file() else Labels(str(file), (), {})
    sides = both.opened(first, second, judge, prompts, limit, draw)
    if sides.recorded is not None:
        raise InputError("people's choices correct shares of wins only", where=f"--judge {judge}",
                         mend="Name a judge that compares pairs")  # fmt: skip
    working = resolve(judge, strategy=strategy, parser=parser, seed=draw.seed)
    v1, v2 = sides.answers(draw, store, report)
    made = pairs(v1, v2)
    if not made:
        raise nothing_in_common((first, second))
    pool = _pool(made, draw.seed)
    each = _calls(working, pool)
    most = len(pool) if terms.calls is None else min(len(pool), terms.calls // each)
    budget = most if terms.labels is None else min(most, terms.labels)
    if budget < FEWEST:
        raise InputError("too few pairs of different texts to decide by", found=budget, expected=f"{FEWEST} or more",
                         where="--call-budget" if most < len(pool) else f"{first} and {second}")  # fmt: skip
    state = waves.opened(file.with_suffix(".looks.json"), pool, {
        "worth": terms.worth, "labels": budget, "pairs": most, "judge": [working.info.name, working.info.config],
        "seed": draw.seed, "question": digest([[p.prompt.id, p.first.id, p.second.id] for p in pool]),
    })  # fmt: skip
    planned = decisions.waves(state.terms["labels"])
    levels = decisions.levels(planned, ALPHA)
    choices: list[Choice] = []

    def credited(size: int) -> np.ndarray:
        """The judge's credit of V2 on the first ``size`` pairs of the pool; it is asked about those that are new."""
        choices.extend(judged(working, pool[len(choices) // len(ORDERS) : size], store, report))
        return credits(pool[:size], choices).mean(axis=1)

    def corrected(size: int, level: float) -> People:
        told = correct(replace(labels, weights=state.weights), labels.by_pair, pool[:size], credited(size), level=level)
        share = different_share(made, level)  # of equal texts nobody was asked
        ends = {name: over_all(one, share) for name in ("delta", "alone", "bias") if (one := getattr(told, name))}
        return replace(told, **ends)

    found, wanted = None, 0
    while (look := len(state.looks)) < len(planned) and planned[look] <= budget and not _is_over(state.looks):
        state.unlabelled(labels)
        size = min(most, decisions.JUDGED * planned[look])
        if look == len(state.sizes):
            state.draw(np.nan_to_num(2 * credited(size) - 1), labels, planned[look], draw.seed)
        wanted = state.unlabelled(labels)
        if wanted:
            break
        found = corrected(size, levels[look])
        state.looks.append(_look(state, labels, found, levels[look], terms.worth))
        state.save()
    left = state.unlabelled(labels)
    state.only_drawn(labels)
    if wanted:
        found = None
        credited(state.sizes[-1])  # stored by now; what failed is asked again
        state.write(labels, draw.seed, len(made) - len(pool))
    elif found is None and state.looks and not left:  # all looks were taken before
        found = corrected(state.sizes[-1], levels[len(state.looks) - 1])
    stopped = (
        "labels wanted" if wanted else "decided" if _is_over(state.looks)
        else "label budget" if budget == terms.labels else "call budget" if most < len(pool) else "every pair"
    )  # fmt: skip
    return Decided(
        v1, v2, working.info, terms.worth, tuple(state.looks), planned, stopped, len(state.drawn) - left, wanted,
        each * state.sizes[-1], state.sizes[-1], len(pool), sum(p.first.text == p.second.text for p in made),
        Counter(str(c.outcome) for c in choices), found, str(file),
        (*cautions((v1, v2), working, judge), *(found.cautions if found else ())),
    )  # fmt: skip


def _pool(made: Sequence[Pair], seed: int) -> list[Pair]:
    """The pairs of different texts, each once, in the random order in which they are judged."""
    different = {waves.pair_key(pair): pair for pair in made if pair.first.text != pair.second.text}
    return sorted(different.values(), key=lambda pair: number(seed, "judged", pair))


def _look(state: Waves, labels: Labels, found: People, level: float, worth: float) -> Look:
    used, delta = waves.heard(state.keys, labels.by_pair), found.delta
    verdict: decisions.Decision = "cannot tell" if delta is None else decisions.verdict(delta.low, delta.high, worth)
    return Look(len(state.drawn), state.sizes[-1], level, verdict, used, delta, found.why_not)


def _is_over(looks: Sequence[Look]) -> bool:
    return bool(looks) and looks[-1].verdict != "cannot tell"


def _calls(judge: Judging, pool: Sequence[Pair]) -> int:
    """Requests that judging one pair in both orders takes; for a judge that asks nobody, its two verdicts."""
    forecast = getattr(judge, "forecast", None)
    if forecast is not None:
        return max(1, forecast(pool[:1]).requests)
    return sum(_calls(member, pool) for member in getattr(judge, "judges", ())) or len(ORDERS)
