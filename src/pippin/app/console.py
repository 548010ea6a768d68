"""What a person sees: words and tables, progress bars, and the machine-readable result.

Standard output has the answer; standard error has progress and notes. With ``--json -`` standard output is JSON and
nothing else, and all words go to standard error. Text from models and data is shown with its control characters
escaped: it cannot move the cursor, change colours or the window's title.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pippin.core.errors import InputError

if TYPE_CHECKING:
    from pippin.core.types import Estimate

Advance = Callable[..., None]
_WIDE = 200  # columns of a table where no person is watching


class Console:
    """Where the words of one command go.

    Args:
        result: the value of ``--json``: a file, ``-`` for standard output, or empty.

    Raises:
        InputError: the file's folder does not exist, or the name is that of a folder. Before any work is done.
    """

    def __init__(self, result: str = "") -> None:
        self.result_to = result
        if result and result != "-":
            writable(result, "--json")

    @property
    def out(self) -> TextIO:
        """Where the answer in words goes."""
        return sys.stderr if self.result_to == "-" else sys.stdout

    def say(self, text: str = "") -> None:
        """A line of the answer."""
        print(text, file=self.out, flush=True)

    def note(self, text: str) -> None:
        """A line beside the answer."""
        print(text, file=sys.stderr, flush=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
        """A table; numbers stand on the right. Estimates show their interval, None is a dash."""
        from rich import box
        from rich.console import Console as Rich
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(headers))
        for column, header in enumerate(headers):
            number = any(_is_number(row[column]) for row in rows)
            drawn.add_column(Text(header), justify="right" if number else "left", no_wrap=number, overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(shown(cell)) for cell in row))
        rich = Rich(file=self.out, highlight=False, width=None if self.out.isatty() else _WIDE)
        if title:
            self.say(f"\n{title}")
        rich.print(drawn)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Advance]:
        """A bar on standard error while a person is watching; nothing otherwise.

        Yields ``advance(done, total=None, note="", what="")``: how much is done by now, of how much.
        """
        if not sys.stderr.isatty():
            yield _unwatched
            return
        from rich.console import Console as Rich
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )  # fmt: skip
        with Progress(*columns, console=Rich(file=sys.stderr), transient=True) as bar:
            task = bar.add_task(what, total=total, note="")

            def advance(done: float, total: float | None = None, note: str = "", what: str = "") -> None:
                bar.update(task, completed=done, total=total, description=what or None, note=note)

            yield advance

    @contextmanager
    def watching(self, what: str) -> Iterator[Callable[[Any], None]]:
        """As :meth:`progress`, for a run of requests: yields a function that takes ``lm.progress.Progress``.

        Several runs after one another show as one bar each.
        """
        import time

        from pippin.lm.progress import progress_line

        with self.progress(what) as advance:
            began = [time.monotonic(), 0.0]

            def tell(progress: Any) -> None:
                now = time.monotonic()
                if progress.done == 0 and progress.asked == 0:
                    began[0] = now
                if now - began[1] > 0.1 or progress.done == progress.tasks:
                    began[1] = now
                    advance(progress.done, progress.tasks, note=progress_line(progress, now - began[0]))

            yield tell

    def result(self, value: Any) -> None:
        """Write the machine-readable result to where ``--json`` says."""
        from pippin.core.run import write_json
        from pippin.core.types import plain

        if self.result_to == "-":
            text = json.dumps(value, ensure_ascii=False, indent=2, default=plain, allow_nan=False)
            print(text.encode("utf-8", "backslashreplace").decode(), flush=True)
        elif self.result_to:
            write_json(self.result_to, value)


def _unwatched(done: float, total: float | None = None, note: str = "", what: str = "") -> None:
    """Progress that nobody sees."""


def shown(cell: Any) -> str:
    """A cell as text: an Estimate with its interval, a float with three decimals, text without control characters."""
    if cell is None:
        return "–"
    if hasattr(cell, "low") and hasattr(cell, "high"):
        return interval(cell)
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return one_line(cell) if isinstance(cell, str) else str(cell)


def interval(estimate: Estimate, *, sign: bool = False, digits: int = 3) -> str:
    """``0.612 [0.580, 0.644]``; with ``sign``, ``+0.12 [...]``."""
    plus = "+" if sign else ""
    return f"{estimate.value:{plus}.{digits}f} [{estimate.low:{plus}.{digits}f}, {estimate.high:{plus}.{digits}f}]"


def printable(text: str) -> str:
    """``text`` with every control character but line breaks and tabs made visible; direction overrides too."""
    from pippin.compare.wording import visible

    return visible(text)


def one_line(text: str) -> str:
    """``text`` on one line."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def writable(path: str | Path, option: str) -> Path:
    """``path`` as a file that can be written later.

    Raises:
        InputError: it is a folder, a part of its path is a file, or its folder cannot be written.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError("this is a folder", where=f"{option} {path}", expected="the name of a file")
    _folder_possible(file.parent, path, option)
    return file


def folder(path: str | Path, option: str) -> Path:
    """``path`` as a folder that can be made later.

    Raises:
        InputError: a part of its path is a file, or cannot be written.
    """
    place = Path(path).expanduser()
    _folder_possible(place, path, option)
    return place


def _folder_possible(place: Path, path: str | Path, option: str) -> None:
    existing = next((p for p in (place, *place.parents) if p.exists()), None)
    if existing is not None and not existing.is_dir():
        raise InputError("this is a file", where=f"{option} {path}", found=str(existing), expected="a folder")
    if existing is not None and not os.access(existing, os.W_OK):
        raise InputError("this folder cannot be written", where=f"{option} {path}", found=str(existing))


def _is_number(cell: Any) -> bool:
    return (isinstance(cell, (int, float)) and not isinstance(cell, bool)) or hasattr(cell, "low")
