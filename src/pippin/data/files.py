"""Files of prompts, responses and preferences, in any of the ecosystem's columns (see ``columns``), in and out.

These are what a command's file argument goes through: the columns are detected row by row, and an error names file
and row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.types import Group, Judgement, Preference, Prompt, Response, to_row
from pippin.data import columns
from pippin.data.rows import read_rows, write_rows


def read_groups(path: str | Path) -> Iterator[Group]:
    """One Group per row, whatever its form."""
    for where, row in read_rows(path):
        yield columns.group(row, where)


def read_prompts(path: str | Path) -> list[Prompt]:
    """The different prompts of a file, in order of first appearance; responses in it are left aside."""
    return list({item.prompt.id: item.prompt for item in read_groups(path)}.values())


def read_responses(path: str | Path) -> list[tuple[Prompt, Response]]:
    """Prompt and response of each row; a row of several responses gives several.

    Raises:
        InputError: also where a row has no response.
    """
    result = []
    for where, row in read_rows(path):
        item = columns.group(row, where)
        if not item.responses:
            raise InputError("a row without a response", where=where, found=sorted(row),
                             expected="completion, output, or messages that end with the assistant")  # fmt: skip
        result += [(item.prompt, response) for response in item.responses]
    return result


def read_preferences(path: str | Path) -> list[Group]:
    """One Group per row, each with two or more responses and at least one judgement of them.

    Raises:
        InputError: also where a row states no preference.
    """
    result = []
    for where, row in read_rows(path):
        item = columns.group(row, where)
        if len(item.responses) < 2 or not item.judgements:
            raise InputError("a row without a preference", where=where, found=sorted(row),
                             expected="prompt, chosen and rejected; or responses with scores or ranks")  # fmt: skip
        result.append(item)
    return result


def read_judgements(path: str | Path) -> list[Judgement]:
    """The judgements of a file, one a row, or inside Pippin's own Group rows."""
    result: list[Judgement] = []
    for where, row in read_rows(path):
        if "judgements" in row:
            result += columns.group(row, where).judgements
        else:
            result.append(columns.judgement(row, where))
    return result


def write_prompts(path: str | Path, prompts: Iterable[Prompt]) -> int:
    """Rows ``prompt``, ``prompt_id``; return how many."""
    return write_rows(path, map(columns.prompt_row, prompts))


def write_responses(path: str | Path, rows: Iterable[tuple[Prompt, Response]]) -> int:
    """Rows ``prompt``, ``completion``, ``model``; return how many."""
    return write_rows(path, (columns.response_row(*row) for row in rows))


def write_preferences(path: str | Path, rows: Iterable[tuple[Group, Sequence[Preference]]]) -> int:
    """Rows ``prompt``, ``chosen``, ``rejected``, one per preference; return how many.

    A tie has no chosen side: it is written with ``probability`` 0.5, and TRL would read it as a preference. Drop ties
    in the collapse rule where the file is for others.
    """
    return write_rows(path, (columns.preference_row(item, p) for item, stated in rows for p in stated))


def write_groups(path: str | Path, groups: Iterable[Group]) -> int:
    """Pippin's own rows, which lose nothing; return how many."""
    return write_rows(path, map(columns.group_row, groups))


def write_judgements(path: str | Path, judgements: Iterable[Judgement]) -> int:
    """One judgement a row; return how many."""
    return write_rows(path, map(to_row, judgements))
