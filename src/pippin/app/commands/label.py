"""``pippin label``: pairs for people to judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pippin.app.commands.options import Json, Seed, With, use_files
from pippin.core.errors import InputError

if TYPE_CHECKING:
    from pippin.core.types import Group


def label(
    pairs: Annotated[list[str], typer.Argument(help="One file of pairs or groups; or two files of responses.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Pairs to draw.")] = 200,
    out: Annotated[Path, typer.Option(help="CSV for people to fill in; what they filled in already stays.")] = Path(
        "labels.csv"
    ),
    judgements: Annotated[
        Path | None,
        typer.Option(help="What a judge said: pairs of which it is unsure are drawn oftener.", show_default=False),
    ] = None,
    annotator: Annotated[str, typer.Option(help="Who labels.", show_default=False)] = "",
    page: Annotated[
        Path | None, typer.Option(help="Also a page to label on, for a browser.", show_default=False)
    ] = None,
    floor: Annotated[
        float, typer.Option(help="How often a pair is drawn of which the judge is sure, where 1 is the most unsure.")
    ] = 0.4,
    seed: Seed = 0,
    with_: With = None,
    json: Json = "",
) -> None:
    """Draw pairs for people to judge: blind, in random order, with the probability of each. A larger --n adds to it."""
    from pippin.app.console import Console, writable
    from pippin.compare import label_page, labels
    from pippin.data.files import read_judgements

    console = Console(json)
    targets = [writable(out, "--out")] + ([writable(page, "--page")] if page else [])
    use_files(with_)
    if any(Path(name).absolute() == target.absolute() for name in pairs for target in targets):
        raise InputError("the pairs would be overwritten", where=f"--out {out}", mend="Give another name")
    kept = labels.kept(targets[0])
    stated = read_judgements(judgements) if judgements else []
    found, said = labels.candidates(_groups(pairs), stated)
    drawing = labels.draw(found, said, n, seed=seed, floor=floor, annotator=annotator)
    if judgements and not drawing.judged:
        raise InputError("no judgement in this file is of these pairs", where=str(judgements))
    rows = labels.rows(drawing, kept)
    labels.write_labels(targets[0], rows)
    if page:
        label_page.write_page(targets[1], rows, annotator=annotator, file=targets[0].name)
    told = drawing.to_row()
    console.say(f"{targets[0]}: {told['drawn']} of {told['of']} pairs to label, {_drawn_by(told)}")
    if page:
        console.say(f"{targets[1].absolute()}: open it in a browser, label with the keys 1 2 0 b, download {out.name}")
    if kept:
        console.note(f"{len(kept)} labels that were there already are kept")
    if told["drawn"] < n:
        console.note(f"there are only {told['of']} pairs of different texts")
    console.result({**told, "kept": len(kept), "out": str(targets[0]), "page": str(targets[1]) if page else None})


def _groups(names: list[str]) -> list[Group]:
    """The pairs of files, or of a study's report: every arm against its baseline."""
    from pippin.compare import papers, studied_people
    from pippin.compare.pairs import read_pairs
    from pippin.core.store import Store

    if len(names) > 1 or not (Path(names[0]) / papers.FILE).is_file():
        return read_pairs(names)
    with Store() as store:
        return studied_people.groups(Path(names[0]), store)


def _drawn_by(told: dict[str, object]) -> str:
    if told["drawn"] == told["of"]:
        return "all there are"
    if not told["judged"]:
        return "drawn alike"
    return (
        f"oftener where the judge is unsure; worth {told['effective_sample_size']:.0f} drawn alike if its doubts tell "
        "nothing"
    )
