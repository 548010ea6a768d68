"""What a reader leaf is made of: ``READER``, and ``BENCHMARK`` where the data can judge judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pippin.core.types import Group


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
class Benchmark:
    """Data whose labels are trusted enough to measure judges: each Group has two responses and one Choice ``by`` gold.

    ``sets`` are the parts in the order of a report; a prompt's first tag names its part. ``means`` are the averages
    that the field reports: the unweighted mean over the named sets. ``human`` is the agreement of people, where
    published.
    """

    sets: tuple[str, ...] = ()
    means: tuple[tuple[str, tuple[str, ...]], ...] = ()
    human: float | None = None
    note: str = ""
