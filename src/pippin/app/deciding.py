"""``pippin compare --sequential``: looks until it is settled, in words and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from pippin.core.errors import GateNotMet

if TYPE_CHECKING:
    from pathlib import Path

    from pippin.app.console import Console
    from pippin.compare.decide import Decided


def settle(console: Console, first: str, second: str, *, people: Path, gate: str = "", **given: Any) -> None:
    """Decide as ``compare.decide`` does with what is given; say where it stands, and what to label next.

    Raises:
        GateNotMet: the gate does not hold, or nothing has been looked at.
        InputError: as :func:`pippin.compare.decide.decide`.
    """
    from pippin.app.console import writable
    from pippin.compare import gate as gates
    from pippin.compare.decide import decide
    from pippin.core.store import Store

    file = writable(people, "--people")
    with Store() as store, console.progress("comparing") as advance:
        made = decide(
            first, second, people=file, gate=gate, store=store, **given,
            report=lambda what, done, total: advance(done, total, what=what),
        )  # fmt: skip
    _say(console, made)
    figures = made.figures()
    met = (figures["delta"] is not None and gates.holds(gate, figures)) if gate else None
    console.result({**made.to_row(), "gate": gate or None, "gate_met": met})
    if met is False:
        raise GateNotMet(f"the gate does not hold: {gate} ({made.decision})")
    failed = made.v1.failed + made.v2.failed + made.outcomes.get("failed", 0)
    if failed:
        console.note(f"{failed} requests failed; the same command asks them again")
        raise typer.Exit(3)


def _say(console: Console, made: Decided) -> None:
    """The decision first, then what to do, then every look that was taken."""
    from pippin.app.console import interval, one_line
    from pippin.compare.decide import ALPHA, VERDICTS

    console.say(one_line(made.decision))
    console.say(one_line(made.more))
    rows = [
        (number, look.labels, look.pairs, interval(look.delta, sign=True) if look.delta else look.why_not,
         f"{look.level:.2%}", VERDICTS[look.verdict])
        for number, look in enumerate(made.looks, 1)
    ]  # fmt: skip
    if rows:
        console.table(("look", "labels", "pairs judged", "V2 minus V1, win share", "level", ""), rows)
        console.say(f"the intervals of all looks hold the truth together with {1 - ALPHA:.0%} probability")
    console.say(f"V1: {one_line(made.v1.name)}   V2: {one_line(made.v2.name)}   judge: {one_line(made.judge.name)}, "
                f"{made.calls} calls on {made.judged} of {made.pairs} pairs")  # fmt: skip
    for caution in made.cautions:
        console.note(f"caution: {one_line(caution)}")
