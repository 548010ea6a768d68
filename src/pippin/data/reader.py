"""What a reader leaf is made of: ``READER``, and ``BENCHMARK`` where the data can judge judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Group
from pippin.data.rows import SUFFIXES


class Notes(Counter[str]):
    """What a reader saw and did that its user should know, counted."""

    def saw(self, what: str, here: bool = True) -> None:
        """Count ``what`` once where it is ``here``."""
        if here:
            self[what] += 1


@dataclass(frozen=True)
class Reader:
    """Reads one format. ``groups(path, notes)`` yields one Group per row, in the order of the file.

    ``detect(path)`` says in a few words which form was found, for formats that have several.
    """

    groups: Callable[[Path, Notes], Iterator[Group]]
    detect: Callable[[Path], str] | None = None

    def read(self, path: str | Path, notes: Notes | None = None) -> Iterator[Group]:
        """The groups of a file or folder.

        Raises:
            InputError: naming the file, the row, what was found and what was expected.
        """
        return self.groups(Path(path), Notes() if notes is None else notes)


@dataclass(frozen=True)
class Claim:
    """What a benchmark's authors concluded: judges under ``strategy`` do better than under ``against`` (or than one
    half, where ``against`` is empty), ``sign`` 1, or worse, -1; on the mean or set ``over``.

    ``models`` are the ones it is about, all where empty.
    """

    text: str
    what: str
    strategy: str
    against: str = ""
    over: str = ""
    sign: int = 1
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """Data with labels by people, which can measure judges.

    A Group is one prompt with its responses; the prompt's first tag names its set. A trusted single label is a Choice
    ``by`` gold, or a Ranking ``by`` gold where one response of several is the best. Single votes of people are Choices
    ``by`` human/1, human/2 ... (or the person's name), recorded judges are Choices ``by`` their names.

    ``sets`` are the parts in the order of a report; ``means`` are the averages that the field reports, unweighted over
    the named sets; ``pools`` are sets that it throws together for position and length. ``human`` is the agreement of
    people, where published. ``warnings`` are what a reader of the numbers must know, ``claims`` what its authors
    concluded. ``hub`` names the data on the Hugging Face hub. ``generate(n, seed)`` makes ``n`` pairs of each
    generated set without any data.
    """

    sets: tuple[str, ...] = ()
    means: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pools: tuple[tuple[str, tuple[str, ...]], ...] = ()
    human: float | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    hub: str = ""
    generate: Callable[[int, int], Iterator[Group]] | None = None

    def default_sets(self, found: Iterable[str]) -> tuple[str, ...]:
        """Which sets to report where none is asked for: those of ``sets`` that are there, else all that are there."""
        there = dict.fromkeys(found)
        return tuple(name for name in self.sets if name in there) or tuple(there)


def files_below(path: Path, expected: str) -> list[Path]:
    """``path`` itself where it is no folder, else all files of rows below it, sorted.

    Raises:
        InputError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.name.lower().removesuffix(".gz").endswith(SUFFIXES))
    if not found:
        raise InputError("no file of rows in this folder or below", where=str(path), expected=expected)
    return found


def file_in(path: Path, stem: str) -> Path:
    """``path`` itself where it is no folder, else the file in it that is called ``stem``, whatever its suffix.

    Raises:
        InputError: the folder has none, or several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"{stem}.*"))
    if len(found) != 1:
        raise InputError(f"not one file {stem}.* in this folder", where=str(path), found=[file.name for file in found])
    return found[0]
