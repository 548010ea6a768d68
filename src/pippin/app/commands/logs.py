"""``pippin logs``: models compared by the logs of Inspect or of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pippin.app.commands.options import Json, Seed

if TYPE_CHECKING:
    from pippin.app.console import Console
    from pippin.compare.scored import Contrast, Recordings

Metric = Annotated[str, typer.Option(help="Which score, by its name in the logs.", show_default="the logs' first")]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="FIELD", help="A field of the samples that names what belongs together.", show_default="each sample"
    ),
]

Gate = Annotated[
    str,
    typer.Option(
        help="Exit 4 unless it holds of each comparison but those on parts of groups: 'delta_low > -0.01'.",
        show_default=False,
    ),
]


def logs(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG...", help="LOG.eval, LOG.json or a folder of them; a folder written with --log_samples."
        ),
    ],
    metric: Metric = "",
    baseline: Annotated[
        str, typer.Option(help="The model or path that the others are held against.", show_default="the first")
    ] = "",
    cluster: Cluster = "",
    gate: Gate = "",
    seed: Seed = 0,
    json: Json = "",
) -> None:
    """Means with intervals, paired differences, McNemar's test and power, from logs that record scores by sample."""
    from pippin.app.console import Console
    from pippin.compare.scored import compare_scored
    from pippin.compare.scored_logs import Choice, read_scored

    console = Console(json)
    check(gate, len(paths))
    found = read_scored(paths, Choice(metric, cluster))
    known = dict(zip(paths, found, strict=True))
    told = compare_scored(found, known[baseline].name if baseline in known else baseline, seed=seed)
    show(console, told)
    console.result(told.to_row())
    hold(told, gate)


FIGURES = ("delta", "delta_low", "delta_high", "p", "p_holm", "n", "verdict")
"""The names that a gate may use."""


def check(gate: str, models: int) -> None:
    """Nothing where there is no gate, or one that can be evaluated once ``models`` are compared; before any work.

    Raises:
        InputError, UnknownName: it is no expression, names another figure, or nothing will be compared.
    """
    if not gate:
        return
    from pippin.compare import gate as gates
    from pippin.core.errors import InputError

    gates.check(gate, FIGURES)
    if models < 2:
        raise InputError("a gate is of comparisons", where=f"--gate {gate}", found="one model", mend="Name a second")


def hold(told: Recordings, gate: str) -> None:
    """Nothing where there is no gate, or it holds of every comparison but those on parts of groups.

    Raises:
        GateNotMet: it does not hold of one.
        InputError: a figure that it compares is not known.
    """
    if not gate:
        return
    from pippin.compare import gate as gates
    from pippin.core.errors import GateNotMet

    for contrast in told.contrasts:
        if not contrast.inner and not gates.holds(gate, figures(contrast)):
            raise GateNotMet(f"the gate {gate!r} does not hold of {contrast.name} on {contrast.part}")


def figures(contrast: Contrast) -> dict[str, Any]:
    """The values that a gate compares."""
    delta = contrast.delta
    ends = (delta.value, delta.low, delta.high, delta.p) if delta else (None,) * 4
    told = (*ends, contrast.p_holm, delta.clusters if delta else 0, contrast.verdict)
    return dict(zip(FIGURES, told, strict=True))


def show(console: Console, told: Recordings) -> None:
    """The decisions, then the tables."""
    from pippin.app.console import one_line

    outer = [contrast for contrast in told.contrasts if not contrast.inner]
    several = len({contrast.part for contrast in outer}) > 1
    for contrast in outer:
        console.say(one_line(f"{contrast.part}: " * several + decision(contrast, len(outer))))
    levels = [
        (level.part, level.name, level.mean, level.samples, level.missing, level.lost, *_ends(level.bounds))
        for level in told.levels
    ]
    heads = ("task", "model", told.metric, "samples", "without score", "scores lost", "if all wrong", "if all right")
    _table(console, heads, levels, "means, with the interval over samples")
    if told.contrasts:
        _show_contrasts(console, told)
    for note in told.notes:
        console.note(one_line(f"note: {note}"))


def decision(contrast: Contrast, comparisons: int) -> str:
    """``B less A: +0.034 [0.010, 0.058] on 500 samples, p = 0.006 (Holm over 2): better``."""
    from pippin.app.console import interval

    head = f"{contrast.name} less {contrast.baseline}"
    if contrast.delta is None:
        return f"{head}: cannot tell, no sample has two scores"
    p = "" if contrast.p_holm is None else f", p = {contrast.p_holm:.3g}"
    over = f" (Holm over {comparisons})" if comparisons > 1 else ""
    said = f"{interval(contrast.delta, sign=True)} on {contrast.delta.n} samples{p}{over}"
    return f"{head}: {said}: {contrast.verdict}"


def _show_contrasts(console: Console, told: Recordings) -> None:
    rows = [
        (
            c.part, c.name, c.delta, c.delta and c.delta.p, c.p_holm, c.verdict, c.detectable, c.needed,
            sum(c.alone), c.changed, *_ends(c.bounds),
        )
        for c in told.contrasts
    ]  # fmt: skip
    heads = (
        "task", "model", "difference", "p", "p, Holm", "verdict", "found 4 times in 5", "samples to find it",
        "not joined", "other text", "if all wrong", "if all right",
    )  # fmt: skip
    _table(console, heads, rows, f"difference from {told.baseline}, paired by sample")
    tests = [(c.part, c.name, c.mcnemar) for c in told.contrasts if c.mcnemar]
    if tests:
        _table(
            console,
            ("task", "model", "both right", "only this model", "only the baseline", "neither", "exact p", "mid-p"),
            [(part, name, m.both, m.only_a, m.only_b, m.neither, m.p, m.mid_p) for part, name, m in tests],
            "McNemar's test of right and wrong",
        )


def _table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    """A table without the columns after the fifth that say nothing in any row."""
    from pippin.app.console import one_line

    kept = [at for at in range(len(heads)) if at < 5 or any(row[at] for row in rows)]
    console.table([one_line(heads[at]) for at in kept], [[row[at] for at in kept] for row in rows], one_line(title))


def _ends(bounds: Any) -> tuple[float | None, float | None]:
    """The values if all that is missing were the worst, and the best."""
    return (bounds.worst.value, bounds.best.value) if bounds else (None, None)
